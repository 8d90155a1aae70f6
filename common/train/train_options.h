/* train_options.h - what the training loop does with options beyond reading them: they are saved in checkpoints, and
 * those that are "auto" follow the model's width and the tokens of the run (docs/optimizer.md says why). */
#ifndef QUARTET_TRAIN_OPTIONS_H
#define QUARTET_TRAIN_OPTIONS_H

#include "common/train/train.h"

/* Sets "option.<name>" (dashes as underscores) of kv to the text of every saved option. */
void options_save(struct kv *kv, const struct option *table);

/* The check on resume.  Returns 0, or -1 (EXIT_MISMATCH) naming the first option that differs and may not change, with
 * both values.  An option that kv does not know counts as having had its default: it was added since. */
int options_compare(const struct option *table, const struct kv *saved, struct error *error);

/* Gives every option that is still "auto" the value it has in kv. */
void options_adopt(const struct option *table, const struct kv *saved);

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
