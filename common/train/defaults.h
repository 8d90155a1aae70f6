/* defaults.h - the learning rate and the batch where the user gives none: they follow the model's width and the tokens
 * of the run.  docs/optimizer.md says why. */
#ifndef QUARTET_DEFAULTS_H
#define QUARTET_DEFAULTS_H

#include "common/train/train.h"

/* 0.45 / channels, at most 0.004, times a stage's share: pretrain 1, sft 1/4, rm 1/8, rlhf 1/20.  Two digits.
 * Source: Brown et al. 2020, table 2.1: rate x width is 0.31 to 0.51 from 768 to 5140 channels. */
double default_lr(enum stage stage, int channels);

/* 0.58 tokens^0.571, down to a power of two, at least 512; tokens: of the whole run.
 * Source: Li et al. 2025 (arXiv:2503.04715), eq. 1, measured on runs of a billion tokens and more. */
int64_t default_batch_tokens(double tokens);

/* Replaces every "auto" of *o: by what the run that is resumed used, else by the rules above.  run: NULL for none;
 * epoch_tokens: of one pass over the data; least: tokens that a batch has in any case. */
void defaults_fill(struct train_options *o, const struct option *table, struct run *run, enum stage stage, int channels,
                   double epoch_tokens, double least);

/* Warns where so few updates follow from the data that little can be learned. */
void defaults_warn(struct run *run, const struct train_options *o, const struct option *table);

#endif
