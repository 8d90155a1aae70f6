/* rollout.c - sampling fills the arrays, and four models read them.
 *
 * Every model reads the same packed micro-batches without padding: a row's bits depend only on its own sequence, so
 * how episodes are packed changes nothing, and the log-probabilities of sampling, scoring and training are the same
 * numbers. */
#include "rlhf/rollout.h"
#include "common/base/signals.h"
#include "common/train/program.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void rollout_open(struct rollouts *r, int episodes, int length, int max_new, int max_tokens, struct memory *memory)
{
    size_t E = (size_t)episodes, answers = E * (size_t)max_new;
    assert(episodes > 0 && length <= max_tokens && max_new < length);
    r->episodes = episodes;
    r->length = length;
    r->max_new = max_new;
    r->max_tokens = max_tokens;
    r->tokens = memory_take(memory, MEMORY_ROLLOUTS, E * (size_t)length, sizeof *r->tokens);
    r->n_prompt = memory_take(memory, MEMORY_ROLLOUTS, E, sizeof *r->n_prompt);
    r->first = memory_take(memory, MEMORY_ROLLOUTS, E + 1, sizeof *r->first);
    r->spoken = memory_take(memory, MEMORY_ROLLOUTS, E, sizeof *r->spoken);
    r->ended = memory_take(memory, MEMORY_ROLLOUTS, E, sizeof *r->ended);
    r->prompt = memory_take(memory, MEMORY_ROLLOUTS, E, sizeof *r->prompt);
    float **number[] = {&r->sampled_logprobs, &r->old_logprobs, &r->ref_logprobs, &r->entropy, &r->values, &r->rewards,
                        &r->advantages, &r->returns};
    for (size_t i = 0; i < sizeof number / sizeof *number; i++)
        *number[i] = memory_take(memory, MEMORY_ROLLOUTS, answers, sizeof(float));
    r->raw_reward = memory_take(memory, MEMORY_ROLLOUTS, E, sizeof(float));
    r->reward = memory_take(memory, MEMORY_ROLLOUTS, E, sizeof(float));
    r->scratch = memory_take(memory, MEMORY_ROLLOUTS, answers, sizeof *r->scratch);
    r->rows = memory_take(memory, MEMORY_ROLLOUTS, (size_t)max_tokens, sizeof *r->rows);
    batch_open(&r->batch, memory, max_tokens, int_min(episodes, max_tokens));
}

/* ---- shares ---- */

int rollout_from(const struct rollouts *r, int data_rank)
{
    return (int)((int64_t)r->episodes * data_rank / comm_place(r->comm).d);
}

void rollout_mine(const struct rollouts *r, int *from, int *to)
{
    int mine = comm_place(r->comm).data;
    *from = rollout_from(r, mine);
    *to = rollout_from(r, mine + 1);
}

void rollout_share(const struct rollouts *r, void *x, size_t bytes, bool flat)
{
    for (int k = 0; k < comm_place(r->comm).d; k++) {
        int from = rollout_from(r, k), to = rollout_from(r, k + 1);
        if (flat) from = r->first[from], to = r->first[to];
        comm_share_host(r->comm, GROUP_DATA, (char *)x + (size_t)from * bytes, (size_t)(to - from) * bytes, k);
    }
}

/* ---- sampling ---- */

/* Prompts for all, and what this rank samples into sample; returns how many. */
static int pose(struct rollouts *r, struct prompts *prompts, uint64_t first_index, struct sample *sample)
{
    int from, to;
    rollout_mine(r, &from, &to);
    for (int e = 0; e < r->episodes; e++) {
        uint64_t index = first_index + (uint64_t)e;
        const struct prompt *p = prompts_at(prompts, index);
        int *tokens = r->tokens + (size_t)e * (size_t)r->length;
        assert(p->count + r->max_new <= r->length);
        memcpy(tokens, prompts->ids.id + p->first, (size_t)p->count * sizeof *tokens);
        r->prompt[e] = p;
        r->n_prompt[e] = p->count;
        if (e < from || e >= to) continue;
        sample[e - from] = (struct sample){.prompt = tokens, .n_prompt = p->count, .index = index, .most = r->max_new,
                                           .tokens = tokens + p->count,
                                           .logprobs = r->sampled_logprobs + (size_t)e * (size_t)r->max_new};
    }
    return to - from;
}

int rollout_sample(struct rollouts *r, struct model *policy, struct prompts *prompts,
                   const struct sample_settings *how, uint64_t first_index, struct error *error)
{
    struct sample *sample = host_alloc((size_t)r->episodes, sizeof *sample);
    int n = pose(r, prompts, first_index, sample), from, to;
    rollout_mine(r, &from, &to);
    sample_run(policy, sample, n, how, NULL, NULL);
    for (int e = from; e < to; e++) {
        const struct sample *s = &sample[e - from];
        assert(s->n > 0 || signals_stop());
        r->first[e + 1] = s->n;
        r->spoken[e] = s->n - s->stopped;
        r->ended[e] = s->stopped && s->tokens[s->n - 1] == how->stop[0];
    }
    free(sample);
    if (comm_agree(r->comm, signals_check(error, "sampling answers"), error) != 0) return -1;
    rollout_share(r, r->first + 1, sizeof *r->first, false);
    rollout_share(r, r->spoken, sizeof *r->spoken, false);
    rollout_share(r, r->ended, sizeof *r->ended, false);
    rollout_share(r, r->tokens, (size_t)r->length * sizeof *r->tokens, false);
    for (int e = 0; e < r->episodes; e++) r->first[e + 1] += r->first[e];
    return 0;
}

/* ---- reading ---- */

int rollout_pack(struct rollouts *r, const uint32_t *order, int from, int to, int end)
{
    struct batch *b = &r->batch;
    int i = from;
    batch_clear(b);
    for (; i < to; i++) {
        int e = order ? (int)order[i] : i, P = r->n_prompt[e], start = b->N;
        int n = end < 0 ? P + rollout_answer_length(r, e) : int_min(P + r->spoken[e] + 1, r->length);
        if (start + n > r->max_tokens) break;
        batch_add(b, r->tokens + (size_t)e * (size_t)r->length, NULL, n);
        memset(b->mask + start, 0, (size_t)P - 1);
        if (end >= 0) b->tokens[b->N - 1] = end;
    }
    return i - from;
}

int rollout_counted_rows(struct rollouts *r)
{
    int n = 0;
    for (int i = 0; i < r->batch.N; i++)
        if (r->batch.mask[i]) r->rows[n++] = i;
    return n;
}

void rollout_logprobs(struct rollouts *r, struct model *m, float temperature, float *logprobs, float *entropy)
{
    struct token_loss loss = {.kind = LOSS_LOGPROBS, .temperature = temperature};
    int e, to;
    for (rollout_mine(r, &e, &to); model_any(m, e < to && !(model_alone(m) && signals_stop()));) {
        if (e == to) {
            model_idle(m, false);
            continue;
        }
        int n = rollout_pack(r, NULL, e, to, -1);
        model_forward(m, &r->batch, false);
        model_token_loss(m, &r->batch, &loss, logprobs + r->first[e], entropy ? entropy + r->first[e] : NULL, NULL,
                         false);
        e += n;
    }
}

void rollout_values(struct rollouts *r, struct model *critic)
{
    int e, to;
    for (rollout_mine(r, &e, &to); model_any(critic, e < to);) {
        if (e == to) {
            model_idle(critic, false);
            continue;
        }
        int n = rollout_pack(r, NULL, e, to, -1);
        model_forward(critic, &r->batch, false);
        model_values(critic, r->values + r->first[e], r->rows, rollout_counted_rows(r));
        e += n;
    }
}

/* ---- variety ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

double rollout_distinct_2(struct rollouts *r)
{
    size_t pairs = 0, distinct = 0;
    for (int e = 0; e < r->episodes; e++) {
        const int *answer = rollout_answer(r, e);
        for (int t = 1; t < rollout_answer_length(r, e); t++)
            r->scratch[pairs++] = (uint64_t)(uint32_t)answer[t - 1] << 32 | (uint32_t)answer[t];
    }
    qsort(r->scratch, pairs, sizeof *r->scratch, compare_u64);
    for (size_t i = 0; i < pairs; i++) distinct += i == 0 || r->scratch[i] != r->scratch[i - 1];
    return pairs > 0 ? (double)distinct / (double)pairs : NAN;
}

/* Answers are compared by CRC and length: a metric, not a proof. */
double rollout_identical(struct rollouts *r)
{
    int same = 0, E = r->episodes;
    for (int e = 0; e < E; e++) {
        size_t n = (size_t)rollout_answer_length(r, e);
        r->scratch[e] = (uint64_t)crc32_of(0, rollout_answer(r, e), n * sizeof(int)) << 32 | n;
    }
    qsort(r->scratch, (size_t)E, sizeof *r->scratch, compare_u64);
    for (int e = 0; e < E; e++)
        same += (e > 0 && r->scratch[e] == r->scratch[e - 1]) || (e + 1 < E && r->scratch[e] == r->scratch[e + 1]);
    return (double)same / E;
}
