/* defaults.c - one rule for the learning rate and one for the batch, for every program.
 *
 * A resumed run keeps what it began with, even when a longer --tokens would now give another batch: its values are read
 * from the checkpoint before anything is computed. */
#include "common/train/defaults.h"
#include "common/train/options_saved.h"
#include "common/train/program.h"

#include <math.h>
#include <stdlib.h>

enum { BATCH_LEAST = 512, MICRO_MOST = 4096, UPDATES_FEW = 100 };

double default_lr(enum stage stage, int channels)
{
    static const double share[] = {[STAGE_PRETRAIN] = 1, [STAGE_SFT] = 0.25, [STAGE_RM] = 0.125, [STAGE_RLHF] = 0.05};
    char text[16];
    snprintf(text, sizeof text, "%.1e", share[stage] * fmin(0.45 / channels, 0.004));
    return strtod(text, NULL);
}

int64_t default_batch_tokens(double tokens)
{
    double batch = 0.58 * pow(fmax(tokens, 1), 0.571);
    return (int64_t)fmax(BATCH_LEAST, exp2(floor(log2(batch))));
}

void defaults_fill(struct train_options *o, const struct option *table, struct run *run, enum stage stage, int channels,
                   double epoch_tokens, double least)
{
    struct ckpt *c = run ? program_resumed(run, o->resume) : NULL;
    if (c) options_adopt(table, &ckpt_meta_of(c)->trns);
    ckpt_close(c);
    if (o->lr < 0) o->lr = default_lr(stage, channels);
    if (o->batch_tokens < 0) {
        o->batch_tokens = default_batch_tokens(o->tokens > 0 ? (double)o->tokens : o->epochs * epoch_tokens);
        while ((double)o->batch_tokens < least) o->batch_tokens *= 2;
    }
    if (o->micro_tokens < 0) o->micro_tokens = o->batch_tokens < MICRO_MOST ? o->batch_tokens : MICRO_MOST;
}

void defaults_warn(struct run *run, const struct train_options *o, const struct option *table)
{
    if (o->steps >= UPDATES_FEW || option_changed(table, "steps")) return;
    run_log(run, "warning: only %lld updates: the model cannot learn much from so few; give more data, more --epochs, "
            "or a smaller --batch-tokens (now %lld)", (long long)o->steps, (long long)o->batch_tokens);
}
