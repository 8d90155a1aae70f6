/* rlhf.h - the program rlhf: start.c opens parents, prompts, text and models, main.c has the options and what the
 * training loop calls. */
#ifndef QUARTET_RLHF_H
#define QUARTET_RLHF_H

#include "common/train/program.h"
#include "rlhf/ppo.h"
#include "rlhf/reward.h"

struct rlhf {
    struct ppo ppo;                          /* first: the loop calls ppo.h's functions with this struct, too */
    struct train_options train;
    const char *policy_path, *reward_path, *reward_command;
    struct option_list prompt_paths, ptx_paths;
    bool ptx_allow_invalid;
    const char *skip_bad_rows;
    int template, norm;
    int64_t max_prompt, slots, rollouts, ptx_tokens;
    int longest;                             /* tokens of the longest episode, with an end token after a cut answer */
    double validation, kl_coef, kl_target, kl_horizon, critic_lr, ema, ptx_coef, reward_coef, reward_timeout;

    struct parent policy_parent, reward_parent;
    struct kv line;                          /* section LINE: both parents */
    struct chat chat;
    struct stops stops;
    struct config policy_config, reward_config, critic_config;
    struct model policy, reference, reward, critic;
    struct prompts prompts, held_out;
    struct bytes report;                     /* what was read, for a person */
    struct order *order;
    struct ptx ptx;
    struct reward_source source;
    struct memory memory;
    struct run *run;
};

/* start.c.  Each quits with one sentence and its exit code when something is wrong. */
void rlhf_open_parents(struct rlhf *p, const struct option *table);
void rlhf_read_prompts(struct rlhf *p);
void rlhf_show_prompts(const struct rlhf *p);             /* --dry-run */
void rlhf_open_text(struct rlhf *p);                      /* the pretraining mix, if any */
void rlhf_start_ppo(struct rlhf *p);                      /* p->ppo, and the reward program */
void rlhf_build(void *self, struct memory *m);            /* memory.h: measuring, and for real */
int rlhf_load_models(void *self, struct error *error);
void rlhf_close(struct rlhf *p);                          /* whatever of it was opened */

#endif
