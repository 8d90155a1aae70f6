/* llama2c.h - models of llama2.c (model.bin and tokenizer.bin), told in the names and facts of a GGUF file. */
#ifndef QUARTET_LLAMA2C_H
#define QUARTET_LLAMA2C_H

#include "common/interop/safetensors.h"

#include <jansson.h>

/* As gguf_open: versions 0 and 1, which hold float32.  Returns 0, or -1 (EXIT_NOINPUT, EXIT_IO, EXIT_DATA). */
int llama2c_open(struct safetensors *tensors, json_t **facts, const char *model, const char *tokenizer,
                 struct error *error);

#endif
