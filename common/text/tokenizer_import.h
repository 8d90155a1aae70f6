/* tokenizer_import.h - what the files that import tokenizers share; nobody else includes it. */
#ifndef QUARTET_TOKENIZER_IMPORT_H
#define QUARTET_TOKENIZER_IMPORT_H

#include "common/text/tokenizer_parts.h"

#include <jansson.h>

struct import {
    struct tokenizer *t;
    struct bytes area;
    size_t *start;                   /* of each token in area */
    json_t *vocab;                   /* spelled token -> id */
};

/* The settings of a tokenizer.json, before any token is read: pattern and flags of t.  0, or -1 naming what is not known
 * here. */
int import_settings(struct tokenizer *t, const json_t *root, struct error *error);

/* A vocabulary of pieces with scores: {"pieces": [[text, score, type], ...], "prefix": a blank is put before a text,
 * "escaped": pieces of type 4 are found in the text as it is cut}.  Types as in TOKN, and 2: unknown. */
int import_pieces(struct import *im, const json_t *root, struct error *error);

int import_place(struct import *im, int id, size_t start, unsigned char type, struct error *error);
/* The byte of "<0x41>", or -1. */
int import_byte(const char *text);

#endif
