/* score.c - the end token of an answer has seen all of it, and is always there. */
#include "rm/score.h"

/* Row of the last token of each sequence. */
static const int *last_rows(struct model *m, const struct batch *b)
{
    for (int s = 0; s < b->S; s++) m->head.counted[s] = b->offsets[s + 1] - 1;
    return m->head.counted;
}

void score_read(float *scores, struct model *m, const struct batch *b)
{
    model_values(m, scores, last_rows(m, b), b->S);
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
    model_values_backward(m, dscores, last_rows(m, b), b->S);
}
