/* interop.h - models of other systems as checkpoints, and back.  docs/interop.md. */
#ifndef QUARTET_INTEROP_H
#define QUARTET_INTEROP_H

#include "common/base/base.h"

struct ckpt;

/* A folder with a config.json, or a GGUF file? */
bool interop_is(const char *path);

/* Opens the model in a Hugging Face folder or a GGUF file as if it were the checkpoint that interop_import makes of it.
 * Its tensors are read and put in order when they are asked for; their CRCs, and with them weights_id, are not known
 * until reader_identify.  said (may be NULL): lines about what was found are added.  Returns 0, or -1 with *out NULL
 * (EXIT_NOINPUT, EXIT_IO, EXIT_DATA). */
int interop_open(struct ckpt **out, const char *path, struct bytes *said, struct error *error);
/* The same of a safetensors file too, without its configuration: the tensors under their own names; blocks of quantised
 * values are float32. */
int interop_open_raw(struct ckpt **out, const char *path, struct error *error);

/* Writes the model in a Hugging Face folder (config.json, safetensors, tokenizer.json, chat template), a GGUF file, or
 * with `tokenizer`, which else is NULL, the two files of llama2.c to the checkpoint `to`, which is replaced.  Numbers
 * stay as they are: float32, float16 and bfloat16; quantised ones become float32.  say (may be NULL) is told what was
 * found.  weights_id follows from the weights.  Memory: a few MiB.  Returns 0, or -1 (EXIT_NOINPUT, EXIT_IO,
 * EXIT_DATA) with nothing written. */
int interop_import(const char *from, const char *tokenizer, const char *to, void (*say)(const char *line),
                   struct error *error);

/* Writes a checkpoint as a Hugging Face folder that transformers loads: config.json, safetensors in files of at most
 * `shard` bytes, tokenizer.json, chat template, model card.  The folder must not exist, or be empty.  Returns 0, or -1
 * (EXIT_USAGE, EXIT_MISMATCH: no family computes this model, EXIT_DATA, EXIT_IO) with nothing written. */
int interop_export(struct ckpt *c, const char *folder, uint64_t shard, void (*say)(const char *line),
                   struct error *error);

/* Writes a checkpoint as a GGUF file, which is replaced; matrices in the given type, everything else float32.
 * Returns as interop_export. */
enum interop_type { INTEROP_F32, INTEROP_F16, INTEROP_BF16, INTEROP_Q8_0 };
#define INTEROP_TYPES "f32|f16|bf16|q8_0"
int interop_export_gguf(struct ckpt *c, const char *path, enum interop_type type, void (*say)(const char *line),
                        struct error *error);

#endif
