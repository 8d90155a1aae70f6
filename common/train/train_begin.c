/* train_begin.c - a run begins at the newest checkpoint of its folder, at another one, or afresh. */
#include "common/train/train_state.h"
#include "common/model/device.h"

/* Opens the checkpoint to start from, NULL for a fresh start, and notes the step of the folder's newest. */
static int choose_start(struct ckpt **out, struct train_state *s, struct error *error)
{
    const char *resume = s->o->resume ? s->o->resume : "auto", *folder = run_folder(s->run);
    bool automatic = strcmp(resume, "auto") == 0, never = strcmp(resume, "never") == 0;
    struct ckpt *newest;
    int status = 0;
    *out = NULL;
    if (run_newest(&newest, folder, true, error) < 0)
        status = fail_in(error, "%s holds checkpoints, but none that can be read; move them away to start anew",
                         folder);
    if (newest) s->saved_step = (int64_t)ckpt_meta_of(newest)->step;
    if (automatic) {
        *out = newest;
        return status;
    }
    if (never && newest)
        status = fail(error, EXIT_MISMATCH, "--resume never: %s already holds %s: give another --out, move the "
                      "checkpoints away, or leave the option out to resume", folder, ckpt_path(newest));
    ckpt_close(newest);
    return never ? status : ckpt_open(out, resume, error);
}

/* Rank 0 looks through the folder; the others open what it has chosen. */
static int open_start(struct ckpt **out, struct train_state *s, struct error *error)
{
    struct comm *comm = s->o->comm;
    struct { char path[4096]; int64_t saved_step; uint8_t uuid[16]; } chosen = {{0}, 0, {0}};
    bool first = comm_place(comm).rank == 0;
    *out = NULL;
    if (comm_agree(comm, first ? choose_start(out, s, error) : 0, error)) return -1;
    if (*out) snprintf(chosen.path, sizeof chosen.path, "%s", ckpt_path(*out));
    if (*out) memcpy(chosen.uuid, ckpt_meta_of(*out)->uuid, sizeof chosen.uuid);
    chosen.saved_step = s->saved_step;
    comm_share_host(comm, GROUP_WORLD, &chosen, sizeof chosen, 0);
    s->saved_step = chosen.saved_step;
    int status = first || !*chosen.path ? 0 : ckpt_open(out, chosen.path, error);
    if (status == 0 && *out && memcmp(ckpt_meta_of(*out)->uuid, chosen.uuid, sizeof chosen.uuid) != 0)
        status = fail(error, EXIT_MISMATCH, "%s is another file than the one of that name that rank 0 reads: all ranks "
                      "must see the same run folder", chosen.path);
    return comm_agree(comm, status, error);
}

static int resume(struct train_state *s, struct ckpt *c, struct error *error)
{
    if (train_load(s, c, error)) return -1;
    if (s->saved_step > s->step)
        return fail(error, EXIT_MISMATCH, "--resume: %s is at step %lld, but %s already holds step %lld: give another "
                    "--out, or move the later checkpoints away", ckpt_path(c), (long long)s->step,
                    run_folder(s->run), (long long)s->saved_step);
    run_log(s->run, "resumes from step %lld (%s)", (long long)s->step, ckpt_path(c));
    return 0;
}

static void start_fresh(struct train_state *s)
{
    random_bytes(s->run_uuid, sizeof s->run_uuid);
    s->weights_changed = true;
    for (int i = 0; i < s->task->n_learners; i++) {
        struct model *m = s->task->learner[i].model;
        if (m->use.ema) device_copy(m->ema, m->own, (m->to - m->from) * sizeof(float));
    }
}

int train_begin(struct train_state *s, struct error *error)
{
    struct ckpt *c = NULL;
    struct error warning;
    if (ranks_alike(s, error) != 0) return -1;
    int status = open_start(&c, s, error);
    if (status == 0 && c) status = resume(s, c, error);
    else if (status == 0) start_fresh(s);
    ckpt_close(c);
    if (status == 0) status = run_begin(s->run, error);
    bool again = s->record.count > 0;                   /* a record that waited for its evaluation */
    if (status == 0) status = run_rewind_metrics(s->run, s->resumed ? s->step : -1, again, error);
    if (status == 0 && s->o->tensorboard) run_events(s->run, s->resumed ? s->step + !again : 0);
    if (status == 0 && run_write_conf(s->run, s->table, &warning)) run_log(s->run, "warning: %s", warning.text);
    return comm_agree(s->o->comm, status, error);
}
