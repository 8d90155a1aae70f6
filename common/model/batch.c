/* batch.c - sequences are appended one after another; nothing is padded. */
#include "common/model/batch.h"

void batch_open(struct batch *b, struct memory *m, int max_tokens, int max_sequences)
{
    size_t N = (size_t)max_tokens, S = (size_t)max_sequences;
    b->N = b->S = 0;
    b->tokens = memory_take(m, MEMORY_DATA, N, sizeof *b->tokens);
    b->targets = memory_take(m, MEMORY_DATA, N, sizeof *b->targets);
    b->mask = memory_take(m, MEMORY_DATA, N, sizeof *b->mask);
    b->offsets = memory_take(m, MEMORY_DATA, S + 1, sizeof *b->offsets);
}

void batch_clear(struct batch *b)
{
    b->N = b->S = 0;
    b->offsets[0] = 0;
}

int batch_add(struct batch *b, const int *ids, const uint8_t *trained, int n)
{
    int counted = 0, *tokens = b->tokens + b->N, *targets = b->targets + b->N;
    uint8_t *mask = b->mask + b->N;
    for (int t = 0; t < n; t++) {
        bool last = t == n - 1;
        tokens[t] = ids[t];
        targets[t] = last ? ids[t] : ids[t + 1];
        mask[t] = !last && (!trained || trained[t + 1]);
        counted += mask[t];
    }
    b->N += n;
    b->offsets[++b->S] = b->N;
    return counted;
}
