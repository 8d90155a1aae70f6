/* An outside authority: the 260-thousand-parameter story model of llama2.c, read by a small helper, must tell the
 * published story.  Source: Karpathy 2023, llama2.c and its tinyllamas. */
#include "common/sample.h"
#include "test/test.h"
#include "test/tiny.h"

#include <unistd.h>

enum { TOKENS = 200 };

static const char *const story =
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red "
    "ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and "
    "didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad and didn't know what "
    "to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her mom, so she";

/* The file: seven int32 (channels, ffn, layers, heads, kv heads, vocabulary, context), then float32 arrays, each
 * for all layers. */
struct file { FILE *f; };

static void read_floats(struct file *from, float *to, size_t n)
{
    float *x = host_alloc(n, sizeof *x);
    if (fread(x, sizeof *x, n, from->f) != n) die("the story model is cut short");
    device_put(to, x, n * sizeof *x);
    free(x);
}

static struct config read_config(struct file *from)
{
    int n[7];
    struct config c;
    if (fread(n, sizeof *n, 7, from->f) != 7 || config_preset(&c, "llama", NULL)) die("the story model has no header");
    c.channels = n[0]; c.ffn = n[1]; c.layers = n[2]; c.heads = n[3]; c.kv_heads = n[4]; c.vocab = n[5]; c.context = n[6];
    c.head_dim = c.channels / c.heads;
    c.rope_layout = ROPE_PAIRS;
    return c;
}

static void read_weights(struct file *from, struct model *m)
{
    const struct config *c = &m->config;
    struct layer_params *y = m->params.layer;
    int L = c->layers;
    size_t C = (size_t)c->channels, F = (size_t)c->ffn, query = (size_t)(c->heads * c->head_dim), key = (size_t)(c->kv_heads * c->head_dim);
    read_floats(from, m->params.embed, (size_t)c->vocab * C);
    for (int l = 0; l < L; l++) read_floats(from, y[l].norm1.weight, C);
    for (int l = 0; l < L; l++) read_floats(from, y[l].qkv.weight, query * C);
    for (int l = 0; l < L; l++) read_floats(from, y[l].qkv.weight + query * C, key * C);
    for (int l = 0; l < L; l++) read_floats(from, y[l].qkv.weight + (query + key) * C, key * C);
    for (int l = 0; l < L; l++) read_floats(from, y[l].out.weight, C * query);
    for (int l = 0; l < L; l++) read_floats(from, y[l].norm2.weight, C);
    for (int l = 0; l < L; l++) read_floats(from, y[l].up.weight, F * C);               /* gate */
    for (int l = 0; l < L; l++) read_floats(from, y[l].down.weight, C * F);
    for (int l = 0; l < L; l++) read_floats(from, y[l].up.weight + F * C, F * C);
    read_floats(from, m->params.final_norm.weight, C);
    params_pack(&m->params, c);
}

/* The tokenizer file: the longest length, then for each token a float score, its length and its bytes. */
static void decode(char *text, size_t size, const char *path, const int *tokens, int n)
{
    struct { float score; int length; char bytes[32]; } *entry = host_alloc(512, sizeof *entry);
    FILE *f = fopen(path, "rb");
    int longest, at = 0;
    if (!f || fread(&longest, 4, 1, f) != 1) die("%s cannot be read", path);
    for (int i = 0; i < 512; i++)
        if (fread(&entry[i].score, 4, 1, f) != 1 || fread(&entry[i].length, 4, 1, f) != 1 || entry[i].length > 31 ||
            fread(entry[i].bytes, 1, (size_t)entry[i].length, f) != (size_t)entry[i].length) die("%s is cut short", path);
    fclose(f);
    for (int i = 0; i < n; i++) {
        const char *piece = entry[tokens[i]].bytes;
        unsigned byte;
        char single[2] = {0};
        if (i == 0 && *piece == ' ') piece++;        /* the space in front of the first word */
        if (sscanf(piece, "<0x%02X>", &byte) == 1) {
            single[0] = (char)byte;
            piece = single;
        }
        at += snprintf(text + at, size - (size_t)at, "%s", piece);
        if ((size_t)at >= size) die("the story is too long");
    }
    free(entry);
}

int main(void)
{
    char model_path[4096], tokenizer_path[4096], text[4096] = "";
    struct file file;
    struct tiny t;
    int tokens[TOKENS], begin = 1;
    float logprobs[TOKENS];
    if (!test_shared(model_path, sizeof model_path, "data/model-stories260K/stories260K.bin") ||
        !test_shared(tokenizer_path, sizeof tokenizer_path, "data/model-stories260K/tok512.bin") ||
        !(file.f = fopen(model_path, "rb"))) {
        test_skip("the story model is not here");
        return test_end("test_stories");
    }
    threads_start(2);
    struct config c = read_config(&file);
    struct model_use use = {.max_tokens = 4, .max_sequences = 1, .cache_slots = 1, .cache_capacity = c.context, .logits_rows = 1};
    tiny_open(&t, &c, &use, 1);
    read_weights(&file, &t.m);
    fclose(file.f);
    struct sample_settings s = {.sampling = {.temperature = 0, .top_p = 1}, .allowed = c.vocab, .stream = RNG_SAMPLE};
    struct sample_request request = {&begin, 1, 0, 0, TOKENS};
    struct sample_result result = {tokens, logprobs, 0, false};
    sample_run(&t.m, &s, &request, &result, 1, NULL, NULL);
    decode(text, sizeof text, tokenizer_path, tokens, result.n);
    test_check(strncmp(text, story, strlen(story)) == 0, __FILE__, __LINE__, "the story is\n%s", text);
    tiny_close(&t);
    return test_end("test_stories");
}
