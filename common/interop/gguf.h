/* gguf.h - GGUF files of version 2 and 3, as llama.cpp writes them.   Source: ggml, docs/gguf.md; the block layouts are
 * those of ggml-common.h, in docs/interop.md. */
#ifndef QUARTET_GGUF_H
#define QUARTET_GGUF_H

#include "common/interop/families.h"
#include "common/interop/interop.h"
#include "common/interop/safetensors.h"

/* Types that are not plain numbers have the dtype GGUF_QUANTISED + ggml's number. */
enum { GGUF_QUANTISED = 100 };

/* Opens a file: its tensors, shapes outermost first, and its key-values (to json_decref).  Returns 0, or -1
 * (EXIT_NOINPUT, EXIT_IO, EXIT_DATA) with both empty. */
int gguf_open(struct safetensors *tensors, json_t **facts, const char *path, struct error *error);

/* llama2c.c: the same of a model of llama2.c and its tokenizer.bin, told as a GGUF file would: versions 0 and 1, which hold
 * float32. */
int llama2c_open(struct safetensors *tensors, json_t **facts, const char *model, const char *tokenizer,
                 struct error *error);

/* Are all quantised values finite?  0, or -1 (EXIT_DATA, EXIT_IO). */
int gguf_check_values(const struct safetensors *tensors, struct error *error);

/* gguf_model.c: the names of its tensors, as a row like those of families; NULL, and *error (EXIT_DATA), for an unknown
 * architecture. */
const struct family *gguf_names(const json_t *facts, const struct safetensors *tensors, struct error *error);
/* What a config.json would say of it (to json_decref), or NULL (EXIT_DATA): a key of the architecture is not known. */
json_t *gguf_config(const json_t *facts, const struct family *names, const struct safetensors *tensors,
                    struct error *error);
/* The row by which a model of a family is written; NULL, and *error (EXIT_MISMATCH) says what llama.cpp has not. */
const struct family *gguf_for(const struct family *family, const struct config *c, struct error *error);
/* gguf_rope.c: is this a key of rope scaling?  Adds to the config.json of gguf_config what those keys say, or the tensor
 * rope_freqs.weight, which is then used: 0, or -1 (EXIT_DATA, EXIT_IO). */
bool gguf_rope_key(const char *key, const char *arch);
int gguf_rope_read(json_t *config, const json_t *facts, const char *arch, const struct safetensors *tensors,
                   struct error *error);
/* What is written: for llama3 the divisor of each pair's frequency; for yarn with a factor of its own, attn_factor. */
void gguf_rope_divisors(float *out, const struct config *c);
double gguf_attention_key(const struct config *c);
/* A key of ours: the normalizer of a tokenizer of bytes (none, NFC, NFKC), for which GGUF has none, where it is not the
 * one that the tokenizer.json of the pre-tokenizer's family has. */
#define GGUF_FORM "quartet.normalizer"
const char *gguf_usual_form(const char *pre);
/* Its tokenizer as tokenizer_import_json reads it (to json_decref): byte-level BPE, or pieces with scores (model llama);
 * NULL where it is another one or none, and *why says so. */
json_t *gguf_tokenizer(const json_t *facts, struct error *why);

/* n values of blocks, to the bit as ggml's reference code gives them; n is a multiple of the block. */
void gguf_dequantise(float *out, const void *in, size_t n, uint32_t dtype);
/* n floats in the form of a type, as ggml's reference code makes them; of Q8_0, n is a multiple of 32. */
void gguf_encode(uint8_t *out, const float *x, size_t n, enum interop_type type);
/* Values of a block, and its bytes; 0 for an unknown type. */
size_t gguf_block(uint32_t dtype, size_t *bytes);

#endif
