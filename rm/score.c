/* score.c - the end token of an answer has seen all of it, and is always there. */
#include "rm/score.h"

#include <stdlib.h>

/* Row of the last token of each sequence; to free(). */
static int *last_rows(const struct batch *b)
{
    int *rows = host_alloc((size_t)b->S, sizeof *rows);
    for (int s = 0; s < b->S; s++) rows[s] = b->offsets[s + 1] - 1;
    return rows;
}

void score_read(float *scores, struct model *m, const struct batch *b)
{
    int *rows = last_rows(b);
    model_values(m, scores, rows, b->S);
    free(rows);
}

void score_raw(float *scores, struct model *m, const struct batch *b)
{
    model_forward(m, b, false);
    score_read(scores, m, b);
}

void score_rewards(float *rewards, struct model *m, const struct batch *b)
{
    score_raw(rewards, m, b);
    for (int s = 0; s < b->S; s++)
        rewards[s] = (float)(((double)rewards[s] - m->config.score_mean) / m->config.score_std);
}

void score_backward(struct model *m, const struct batch *b, const float *dscores)
{
    int *rows = last_rows(b);
    model_values_backward(m, dscores, rows, b->S);
    free(rows);
}
