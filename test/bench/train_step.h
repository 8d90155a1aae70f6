/* train_step.h - a model opened for a benchmark, a batch of random tokens, and one training step by phase. */
#ifndef QUARTET_TRAIN_STEP_H
#define QUARTET_TRAIN_STEP_H

#include "common/train/optim.h"
#include "test/bench/bench.h"

enum phase_of_step { FORWARD, HEAD, BACKWARD, NORM, UPDATE, STEP, PHASES };

struct subject { struct memory memory; struct model m; };

UNUSED static void subject_open(struct subject *s, const struct config *c, const struct model_use *use)
{
    struct error error;
    *s = (struct subject){0};
    for (int pass = 0; pass < 2; pass++) {
        ops_open(&s->memory);
        model_open(&s->m, c, use, &s->memory);
        if (pass == 0 && memory_open(&s->memory, &error)) quit_error(&error);
    }
    params_init(&s->m.params, c, 1);
}

UNUSED static void subject_close(struct subject *s)
{
    model_close(&s->m);
    memory_close(&s->memory);
}

UNUSED static void batch_make(struct batch *b, int S, int T, int vocab)
{
    uint32_t state = 7;
    *b = (struct batch){.N = S * T, .S = S};
    b->tokens = host_alloc((size_t)b->N + 1, sizeof(int));
    b->mask = host_alloc((size_t)b->N, 1);
    b->offsets = host_alloc((size_t)S + 1, sizeof(int));
    for (int i = 0; i <= b->N; i++) {
        state = state * 1664525 + 1013904223;
        b->tokens[i] = (int)((uint64_t)state * (uint64_t)vocab >> 32);
    }
    b->targets = b->tokens + 1;
    memset(b->mask, 1, (size_t)b->N);
    for (int s = 0; s <= S; s++) b->offsets[s] = s * T;
}

UNUSED static void batch_close(struct batch *b)
{
    free(b->tokens);
    free(b->mask);
    free(b->offsets);
}

/* One step as the loop makes it; mark[p] .. mark[p + 1] is phase p. */
UNUSED static void train_step(struct model *m, const struct batch *b, int step, double mark[PHASES])
{
    static const struct adamw_options adamw = {0.9, 0.95, 1e-8, 0.1};
    struct token_loss loss = {.kind = LOSS_CROSS_ENTROPY, .temperature = 1, .scale = 1.0f / (float)b->N};
    mark[FORWARD] = bench_clock();
    model_forward(m, b, true);
    mark[HEAD] = bench_clock();
    model_token_loss(m, b, &loss, NULL, NULL, NULL, true);
    mark[BACKWARD] = bench_clock();
    model_backward(m);
    mark[NORM] = bench_clock();
    double norm = gradient_norm(m);
    mark[UPDATE] = bench_clock();
    adamw_step(m, &adamw, step + 1, 1e-4, norm > 1 ? 1 / norm : 1, 0);
    mark[STEP] = bench_clock();
}

#endif
