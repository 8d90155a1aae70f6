/* ppo.h - reinforcement learning from a reward on whole answers: proximal policy optimisation with a learned critic and
 * a penalty on the divergence from a frozen reference.  No files, no options: a program or a test gives it models,
 * prompts and a reward, and drives it through common/train/train.h's task.
 *
 * One iteration (a step of the loop): sample answers; old_logprobs, ref_logprobs, values, rewards, advantages, returns,
 * all constant from then on; epochs x minibatches updates of policy and critic.
 *     rewards[t] = -beta (old_logprobs[t] - ref_logprobs[t]) + [last] reward
 *     policy loss: ops.h POLICY on whitened advantages      critic loss: value_loss
 *     both are means over the minibatch's answer tokens
 * Source: Schulman et al. 2017; Ziegler et al. 2019; Ouyang et al. 2022, section 3.5. */
#ifndef QUARTET_PPO_H
#define QUARTET_PPO_H

#include "common/train/train.h"
#include "rlhf/estimates.h"
#include "rlhf/ptx.h"
#include "rlhf/rollout.h"

struct ppo_options {
    int64_t episodes, minibatches, epochs, max_new, micro_tokens;
    double gamma, lambda, clip, dual_clip, value_clip, entropy_coef, temperature;
    double target_kl;               /* > 0: skip an iteration's other updates once a minibatch's mean k3 is above */
    int64_t critic_warmup;          /* first iterations in which the policy is frozen */
    struct reward_shaping shaping;
    uint64_t seed;
    const int *stop;                /* tokens that end an answer */
    int n_stop, allowed;            /* only tokens below `allowed` are drawn */
    int slices;                     /* train.h */
    struct comm *comm;
};

/* What the heads add up in an iteration's updates; ratio_max is a largest value (struct task). */
struct ppo_sums {
    double policy_tokens, value_tokens, clipped, value_clipped, policy_loss, value_loss, k1, k3, ratio;
    double minibatch_k3, minibatch_tokens;          /* of the update now running */
    double ratio_max;
};
enum { PPO_SUMS = sizeof(struct ppo_sums) / sizeof(double) - 1 };

/* What is known once for a whole update, added up over an iteration. */
struct ppo_updates { int64_t begun, mixed, early_stops; double ppo_norm, ptx_norm, ptx_loss; };

struct ppo {
    struct ppo_options o;
    struct model *policy, *reference, *critic;
    struct prompts *prompts;
    struct ptx *ptx;                                /* or NULL */
    /* Fills reward (episodes) for this rank's share of r's answers; 0, or -1 with *error. */
    int (*reward)(void *self, struct rollouts *r, float *reward, struct error *error);
    void *reward_self;
    struct learner learner[2];                      /* policy, critic: schedules and ema_decay are the caller's */

    struct kl_controller kl;                        /* beta is set by the caller */
    struct running seen, seen_next;                 /* of all rewards before this iteration; and with its own */
    uint64_t cursor;                                /* global index of the iteration's first episode */
    bool exact;                                     /* sampled log-probabilities are to be the trained ones: ppo_open
                                                       sets sampling_is_exact(), the caller perhaps model_settle's */
    struct error inexact;                           /* why that turned out to be wrong */
    bool on_policy;                                 /* the checks of the first batch have passed */

    struct rollouts rollouts;
    struct ppo_sums sums;                           /* the caller sets them to 0 before ppo_begin */
    struct ppo_updates updates;
    double advantage_mean;                          /* before whitening */
    int rewards_clipped;
    double seconds_sample, seconds_score, seconds_reward;
    uint32_t *order;                                /* (episodes) of the running epoch */
    int *cut;                                       /* (episodes + slices + 1): micro-batch i is order[cut[i] .. cut[i+1]-1] */
    int n_micro;
    /* (micro-batch tokens) */
    float *old, *logprobs, *advantages, *losses, *old_values, *values, *returns, *dvalues;
};

/* Takes the memory of everything but the models, after p->o, models, prompts and ptx are set; measuring and for real.
 * length: of the longest episode. */
void ppo_open(struct ppo *p, int length, struct memory *memory);

/* The callbacks of struct task; self is the struct ppo.  old_logprobs are those of the training forward.  Where
 * sampling is exact, the first iteration of a process checks that sampled, scored and trained log-probabilities are the
 * same bits (ratio 1); that of a run, that the reference agrees (KL 0): else -1, EXIT_INTERNAL.  Where it is exact by
 * model_settle, every iteration checks what was sampled, and p->exact becomes false when bits differ. */
int ppo_begin(void *self, int64_t step, struct error *error);
int ppo_prepare(void *self, int64_t step, int update, double *count, struct error *error);
const struct batch *ppo_batch(void *self, int i, int learner);
double ppo_head(void *self, int i, int learner, double scale);
void ppo_mix(void *self);                           /* the pretraining mix */
/* Adds the iteration's metrics (docs/rlhf.md) and moves beta, seen and cursor: before that it may be given up. */
void ppo_end(void *self, int64_t step, struct record *r);

/* Samples answers to the prompts from number first_index on, with their log-probabilities under policy and reference,
 * and their raw rewards: all that needs no critic.  Returns 0, or -1 with *error from the reward. */
int ppo_answer(struct ppo *p, struct prompts *prompts, enum rng_stream stream, int64_t iteration, uint64_t first_index,
               struct error *error);

/* What must survive a restart, as keys of sections TRNS and DCUR.  ppo_load returns 0, or -1 (EXIT_DATA). */
void ppo_save(const struct ppo *p, struct ckpt_meta *meta);
int ppo_load(struct ppo *p, const struct ckpt_meta *meta, struct error *error);

/* KL(policy | reference) of an answer as sampled: the sum over its tokens of old_logprobs - ref_logprobs, in nats; the
 * mean over all episodes, and of episode e. */
double ppo_kl(const struct rollouts *r);
double ppo_episode_kl(const struct rollouts *r, int e);

#endif
