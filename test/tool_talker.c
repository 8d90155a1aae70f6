/* tool_talker.c - writes a checkpoint of a model whose every word is known, for scripts that talk to it.
 *   tool_talker FOLDER NAME STAGE quartet|none|bare CONTEXT         (bare: no template, no <|endoftext|>)
 * Each token has one successor: its layers are all zero, so the output sees the embedding of the last token alone, and the
 * output matrix has that embedding in the row of the successor.  The answer to anything is "Hi!"; "a" goes on with
 * "bc\u00E9\x1B[", and "y" with y for ever.  The averaged weights say "Ho!". */
#include "common/text/chat.h"
#include "common/model/params.h"
#include "common/base/rng.h"
#include "format/checkpoint.h"

#include <stdlib.h>
#include <string.h>

struct talker { struct config config; struct ckpt_source *source; size_t count; struct params params; struct error error; };

static bool nothing(void *self, const char **text, size_t *length)
{
    (void)self, (void)text, (void)length;
    return false;
}

static void follow(struct params *p, const struct config *c, int token, int next)
{
    for (int i = 0; i < c->channels; i++) p->head.weight[next * c->channels + i] += p->embed[token * c->channels + i];
}

/* first, then the bytes of text, then last. */
static void chain(struct params *p, const struct config *c, int first, const char *text, int last)
{
    for (; *text; first = (unsigned char)*text++) follow(p, c, first, (unsigned char)*text);
    follow(p, c, first, last);
}

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    memcpy(host, (const char *)self + offset, bytes);
}

static void add_source(void *context, const struct param *p)
{
    struct talker *t = context;
    t->source = host_grow(t->source, t->count + 1, sizeof *t->source);
    struct ckpt_source *s = &t->source[t->count++];
    *s = (struct ckpt_source){.role = ROLE_WEIGHT, .dtype = DTYPE_F32, .ndim = p->ndim, .trainable = true, .decay = p->decay,
                              .self = *p->data, .fetch = fetch};
    snprintf(s->name, sizeof s->name, "%s", p->name);
    for (int i = 0; i < p->ndim; i++) s->shape[i] = (uint64_t)p->shape[i];
}

static void zero_layer_weight(void *context, const struct param *p)
{
    (void)context;
    if (strncmp(p->name, "blk.", 4) == 0 && strstr(p->name, "norm") == NULL) memset(*p->data, 0, p->count * sizeof **p->data);
}

static void make_weights(struct talker *t, struct memory *memory, int answer, int end, const char *greeting)
{
    const struct config *c = &t->config;
    params_open(&t->params, c, memory, MEMORY_PARAMS, 1, false);
    if (memory_open(memory, &t->error)) quit_error(&t->error);
    params_open(&t->params, c, memory, MEMORY_PARAMS, 1, false);
    params_init(&t->params, c, 1);
    params_each(&t->params, c, zero_layer_weight, NULL);
    memset(t->params.head.weight, 0, (size_t)(c->vocab * c->channels) * sizeof(float));
    struct rng r = rng_at(1, RNG_TEST, 0, 0);
    for (int i = 0; i < c->vocab * c->channels; i++) t->params.embed[i] = rng_u32(&r) & 1 ? 1 : -1;
    chain(&t->params, c, answer, greeting, end);
    chain(&t->params, c, 'a', "bc\xC3\xA9\x1B[", end);
    follow(&t->params, c, 'y', 'y');
    params_each(&t->params, c, add_source, t);
}

int main(int argc, char **argv)
{
    if (argc != 6) quit(EXIT_USAGE, "usage: tool_talker FOLDER NAME STAGE quartet|none|bare CONTEXT");
    struct talker plain = {.count = 0}, average;
    struct tokenizer *tokenizer;
    bool template = strcmp(argv[4], "quartet") == 0;
    const char *special[] = {strcmp(argv[4], "bare") == 0 ? "</s>" : "<|endoftext|>"};
    struct tokenizer_training how = {.vocab = 257, .pattern = PATTERN_GPT2, .special = special, .n_special = 1};
    struct ckpt_meta meta = {.stage = (uint32_t)atoi(argv[3]), .flags = CKPT_FINAL, .step = 7};
    struct memory memory[2] = {0};
    struct chat chat = {0};
    if (tokenizer_train(&tokenizer, nothing, NULL, &how, &plain.error)) quit_error(&plain.error);
    if (template) {
        chat_open(&chat, TEMPLATE_QUARTET, tokenizer);
        chat_write(&chat, &meta.chat);
    }
    if (config_preset(&plain.config, "llama", &plain.error)) quit_error(&plain.error);
    plain.config.layers = 1;
    plain.config.heads = plain.config.kv_heads = 2;
    plain.config.head_dim = 8;
    plain.config.channels = plain.config.ffn = 128;
    plain.config.vocab = tokenizer_vocab(tokenizer);
    plain.config.context = atoi(argv[5]);
    plain.config.tied = false;
    int answer = template ? tokenizer_special(tokenizer, "<|assistant|>") : 'x', end = template ? chat.end : 256;
    average = plain;
    make_weights(&plain, &memory[0], answer, end, "Hi!");
    make_weights(&average, &memory[1], answer, end, "Ho!");
    plain.source = host_grow(plain.source, 2 * plain.count, sizeof *plain.source);
    for (size_t i = 0; i < average.count; i++) {
        plain.source[plain.count + i] = average.source[i];
        plain.source[plain.count + i].role = ROLE_EMA;
    }
    config_write(&plain.config, &meta.conf);
    tokenizer_write(&meta.tokn, tokenizer);
    snprintf(meta.writer, sizeof meta.writer, "tool_talker");
    bool ema = meta.stage == STAGE_RLHF;
    if (ckpt_save(argv[1], argv[2], &meta, plain.source, plain.count * (ema ? 2 : 1), &plain.error)) quit_error(&plain.error);
    ckpt_meta_free(&meta);
    for (int i = 0; i < 2; i++) memory_close(&memory[i]);
    params_close(&plain.params);
    params_close(&average.params);
    free(plain.source);
    free(average.source);
    tokenizer_free(tokenizer);
    return 0;
}
