/* shard_layout.h - sizes of a shard's parts, for those who write it and those who read it.  docs/shards.md */
#pragma once

#include "common/base/le.h"
#include "common/data/shard_file.h"

enum { HEADER = 192, ENTRY = 24, SOURCE = 24, VERSION = 2, SPAN = 1 << 14 };    /* SPAN: of tokens with one checksum */
#define SHARD_SIGNATURE "QSHARD\r\n"

static inline uint64_t round_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

/* The nanoseconds in a shard's time of change say that nothing was written into it since: whole microseconds, which
 * every file system keeps that keeps more than seconds. */
static inline long shard_time_of(const unsigned char *header) { return load32(header + HEADER - 4) % 1000000 * 1000l; }
