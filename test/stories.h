/* stories.h - the 260-thousand-parameter story model of llama2.c and its tokenizer, read from their two files.
 * The model: seven int32 (channels, ffn, layers, heads, kv heads, vocabulary, context), then float32 arrays, each for all
 * layers.  The tokenizer: the longest length, then for each of 512 tokens a float score, its length and its bytes. */
#ifndef QUARTET_STORIES_H
#define QUARTET_STORIES_H

#include "test/on_device.h"
#include "common/model/model.h"

#include <stdlib.h>
#include <string.h>

enum { STORY_TOKENS = 512 };
struct story_token { float score; int length; char bytes[32]; };

__attribute__((unused))
static struct config stories_config(FILE *f)
{
    int n[7];
    struct config c;
    if (fread(n, sizeof *n, 7, f) != 7 || config_preset(&c, "llama", NULL)) die("the story model has no header");
    c.channels = n[0]; c.ffn = n[1]; c.layers = n[2]; c.heads = n[3]; c.kv_heads = n[4]; c.vocab = n[5]; c.context = n[6];
    c.head_dim = c.channels / c.heads;
    c.rope_layout = ROPE_PAIRS;
    return c;
}

static void stories_floats(FILE *f, float *to, size_t n)
{
    float *x = host_alloc(n, sizeof *x);
    if (fread(x, sizeof *x, n, f) != n) die("the story model is cut short");
    to_device(to, x, n * sizeof *x);
    free(x);
}

/* Fills the weights from behind the header. */
__attribute__((unused))
static void stories_weights(FILE *f, struct params *p, const struct config *c)
{
    struct layer_params *y = p->layer;
    int L = c->layers;
    size_t C = (size_t)c->channels, F = (size_t)c->ffn, D = (size_t)c->head_dim;
    size_t query = (size_t)c->heads * D, key = (size_t)c->kv_heads * D;
    stories_floats(f, p->embed, (size_t)c->vocab * C);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].norm1.weight, C);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].qkv.weight, query * C);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].qkv.weight + query * C, key * C);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].qkv.weight + (query + key) * C, key * C);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].out.weight, C * query);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].norm2.weight, C);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].up.weight, F * C);               /* gate */
    for (int l = 0; l < L; l++) stories_floats(f, y[l].down.weight, C * F);
    for (int l = 0; l < L; l++) stories_floats(f, y[l].up.weight + F * C, F * C);
    stories_floats(f, p->final_norm.weight, C);
}

static struct story_token *stories_tokens(const char *path)
{
    struct story_token *t = host_alloc(STORY_TOKENS, sizeof *t);
    FILE *f = fopen(path, "rb");
    int longest;
    if (!f || fread(&longest, 4, 1, f) != 1) die("%s cannot be read", path);
    for (int i = 0; i < STORY_TOKENS; i++)
        if (fread(&t[i].score, 4, 1, f) != 1 || fread(&t[i].length, 4, 1, f) != 1 || t[i].length < 0 || t[i].length > 31 ||
            fread(t[i].bytes, 1, (size_t)t[i].length, f) != (size_t)t[i].length) die("%s is cut short", path);
    fclose(f);
    return t;
}

#endif
