/* rope.h - one row's turn, for the rotation by itself (rope.c) and for that which follows a norm (norm.c). */
#pragma once
#include "common/model/ops.h"

enum { MAX_PAIRS = 2048 };      /* config_check allows heads of 4096 channels */

struct turn { const struct rope *rope; float cosine[MAX_PAIRS], sine[MAX_PAIRS]; };

/* How the heads of that row turn; sign -1: the other way. */
void turn_begin(struct turn *t, const struct rope *rope, size_t row, float sign);
/* x (D), in place */
void turn_head(act_t *x, const struct turn *t);

/* Copies rows, where y is not x, and turns their first `heads` heads. */
void turn_rows(act_t *y, const act_t *x, const struct rope *rope, float sign, int N, int heads, int D, int stride);

