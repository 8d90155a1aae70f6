/* limits.h - every fixed number of the file format, once.  SPEC.md quotes them (a test compares), `ckpt limits` prints
 * them, and every count, size and offset of a file is held against them before it is used. */
#ifndef QUARTET_LIMITS_H
#define QUARTET_LIMITS_H

#include <stdint.h>

#define CKPT_SIGNATURE "\x89QCK\r\n\x1a\n"          /* 8 bytes; 7-bit channels and newline translation show */
#define CKPT_BYTE_ORDER UINT32_C(0x01020304)

#define CKPT_MAJOR 1
#define CKPT_MINOR 0
#define CKPT_PAGE UINT64_C(4096)                    /* header size; sections, table and default tensor alignment */
#define CKPT_HEADER_USED 256
#define CKPT_SECTION_ENTRY 64
#define CKPT_SECTION_ENTRY_MAX 256
#define CKPT_INDEX_HEAD 64
#define CKPT_INDEX_ENTRY 128
#define CKPT_STAT_ENTRY 64
#define CKPT_TABLE_HEAD 16                          /* of KV, CCRC and STAT */
#define CKPT_CHUNK (UINT64_C(4) << 20)              /* bytes under one CRC in CCRC */

#define CKPT_MAX_SECTIONS 1024
#define CKPT_MAX_METADATA (UINT64_C(64) << 20)      /* a section, stored and raw; not TDAT */
#define CKPT_MAX_TOKENIZER (UINT64_C(256) << 20)
#define CKPT_MAX_INFLATE 1032                       /* zlib cannot expand by more, so raw <= 1032 * stored + 64 */
#define CKPT_MAX_KEYS 65536
#define CKPT_MAX_KEY 127
#define CKPT_MAX_VALUE (UINT64_C(16) << 20)
#define CKPT_MAX_TENSORS 524288                     /* so that their index fits a metadata section */
#define CKPT_MAX_NAME 255
#define CKPT_MAX_DIMS 8
#define CKPT_MAX_DIM (UINT64_C(1) << 48)
#define CKPT_MAX_ELEMENTS (UINT64_C(1) << 56)
#define CKPT_MAX_TENSOR (UINT64_C(1) << 58)
#define CKPT_MAX_FILE (UINT64_C(1) << 60)
#define CKPT_MIN_ALIGN 64
#define CKPT_MAX_ALIGN (UINT64_C(2) << 20)

#endif
