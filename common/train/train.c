/* train.c - the one loop.  A step is: updates, record, evaluation, samples, checkpoint.  What a record says does not
 * depend on where the run was interrupted: all counters are saved, and evaluation belongs to the step it follows.
 *
 * A wish to stop is heard where everything is whole: between steps, within a step that has not changed the weights yet
 * (it is given up), and within an evaluation (the step's record then waits in the checkpoint for the next start). */
#include "common/train/train_state.h"
#include "common/model/device.h"
#include "common/base/signals.h"

#include <math.h>
#include <sys/resource.h>

enum { SAVES_TRIED = 3, TERMINAL_WIDTH = 79 };

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

/* ---- records ---- */

static void fill_record(struct record *r, const struct train_state *s, const struct step_result *result)
{
    char key[64];
    record_count(r, "step", s->step);
    record_real(r, "loss", result->losses ? result->loss / result->losses : NAN);
    for (int i = 0; i < s->task->n_learners; i++) {
        const struct learner *l = &s->task->learner[i];
        record_real(r, learner_key(key, l, "lr"), l->frozen ? NAN : schedule_lr(&l->schedule, s->step - 1));
        record_real(r, learner_key(key, l, "grad_norm"), result->norms[i] ? result->norm[i] / result->norms[i] : NAN);
    }
    record_count(r, "updates", s->t[0]);
    record_count(r, "skipped", s->skipped);
    record_count(r, "tokens", s->tokens);
}

static void fill_times(struct record *r, const struct train_state *s, double seconds, double tokens)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    record_real(r, "seconds", round(1e6 * seconds) / 1e6);
    record_real(r, "tokens_per_second", round(10 * tokens / seconds) / 10);
    if (s->task->flops_per_token > 0)
        record_real(r, "peak_share",
                    round(1e4 * tokens / seconds * s->task->flops_per_token / device_peak_flops()) / 1e4);
    record_count(r, "host_bytes", 1024 * (int64_t)usage.ru_maxrss);
    record_count(r, "device_bytes", (int64_t)device_memory_peak());
}

static bool is_evaluation(const char *key) { return strncmp(key, "val_", 4) == 0; }

/* Section EVAL follows the newest record that says something. */
static void keep_results(struct train_state *s, const struct record *r)
{
    for (int i = 0; i < r->count; i++) {
        const struct record_field *f = &r->field[i];
        bool main = s->task->main_metric && strcmp(f->key, s->task->main_metric) == 0;
        if ((main || is_evaluation(f->key)) && isfinite(f->number)) kv_set_f64(&s->eval, f->key, f->number);
    }
}

int evaluation_next(const struct model *m, int64_t i, struct error *error)
{
    int apart = m->place.p > 1 ? 4 * m->place.p : 1;           /* stages go on side by side in between */
    if (model_alone(m)) return signals_check(error, "evaluating");
    if (i % (m->place.d * apart)) return 0;
    return comm_agree(m->use.comm, signals_check(error, "evaluating"), error);
}

bool evaluation_mine(const struct model *m, int64_t i)
{
    return i % m->place.d == m->place.data;
}

int evaluation_gather(struct model *m, int status, int64_t n_micro, double *x, size_t n, struct error *error)
{
    if (status == 0 && n_micro % m->place.d && m->place.data >= n_micro % m->place.d) model_idle(m, false);
    if (comm_agree(m->use.comm, status, error) != 0) return -1;
    comm_share_host(m->use.comm, GROUP_PIPE, x, n * sizeof *x, m->place.p - 1);
    comm_add(m->use.comm, GROUP_DATA, x, (int)n, 0);
    return 0;
}

static int evaluate(struct train_state *s, struct record *r, struct error *error)
{
    double start = seconds_now();
    scoped_bytes struct bytes line = {0};
    struct record before = *r;
    device_range("evaluate");
    int status = comm_agree(s->o->comm, s->task->evaluate(s->task->self, r, error), error);
    device_range_end();
    if (status) {
        *r = before;                     /* on all ranks alike */
        return fail_in(error, "the evaluation after step %lld", (long long)s->step);
    }
    size_t begun = 0;                    /* where the last line on a terminal begins */
    bytes_text(&line, "step %lld:", (long long)s->step);
    for (int i = 0; i < r->count; i++) {
        char field[96];
        if (!is_evaluation(r->field[i].key)) continue;
        int n = snprintf(field, sizeof field, "  %s %.5g", r->field[i].key, r->field[i].number);
        if (line.size + (size_t)n > begun + TERMINAL_WIDTH) {
            begun = line.size + 1;
            bytes_text(&line, "\n       ");
        }
        bytes_add(&line, field, (size_t)n);
    }
    run_log(s->run, "%s", line.data);
    s->clock.evaluation = seconds_now() - start;
    return 0;
}

/* ---- what people see ---- */

/* A frozen model has nothing to report: then the line is about the one beside it. */
static void show_progress(struct train_state *s, const struct record *r)
{
    const struct train_options *o = s->o;
    const struct learner *l = s->task->learner;
    scoped_bytes struct bytes line = {0};
    char a[16], b[16], c[16], lr[64], key[64];
    for (int i = 1; i < s->task->n_learners && l->frozen; i++) l++;
    double share = record_get(r, "peak_share"), norm = record_get(r, learner_key(key, l, "grad_norm")),
           left = (seconds_now() - s->clock.begun) / s->clock.steps * (double)(o->steps - s->step);
    bytes_text(&line, "step %lld/%lld  ETA %s", (long long)s->step, (long long)o->steps, text_duration(c, left));
    for (const char *const *shown = s->task->shown; *shown; shown++)
        bytes_text(&line, "  %s %.4g", *shown, record_get(r, *shown));
    learner_key(lr, l, "lr");
    bytes_text(&line, "  loss %.4f  %s %.2e  %snorm %.3g  %s tok/s  %s", record_get(r, "loss"), lr, record_get(r, lr),
               l->name, norm, text_count(a, record_get(r, "tokens_per_second")),
               text_bytes(b, fmax(record_get(r, "host_bytes"), record_get(r, "device_bytes"))));
    if (!isnan(share)) bytes_text(&line, "  %.0f %% of peak", 100 * share);
    snprintf(s->clock.line, sizeof s->clock.line, "%s", line.data);
    if (s->step == o->steps || due(s->step, o->log_every)) run_log(s->run, "%s", line.data);
    else if (o->log_every == 0) run_progress(s->run, line.data);
}

static void show_status(struct train_state *s, const char *state, const char *text)
{
    s->clock.status = seconds_now();
    run_status(s->run, state, s->step, s->o->steps, text);
}

/* ---- checkpoints ---- */

/* Seconds to set aside for a save: twice the last one, or, before the first, weights and moments at 100 MB/s. */
static double save_reserve(const struct train_state *s)
{
    double bytes = 0;
    for (int i = 0; i < s->task->n_learners; i++) bytes += 12.0 * (double)s->task->learner[i].model->params.count;
    return 0.2 + (s->clock.save > 0 ? 2 * s->clock.save : bytes / 1e8);
}

static int save(struct train_state *s, uint32_t flags, struct error *error)
{
    char name[64];
    double start = seconds_now();
    snprintf(name, sizeof name, flags & CKPT_FINAL ? "final.ckpt" : "step-%08lld.ckpt", (long long)s->step);
    device_range("save");
    int status = comm_agree(s->o->comm, train_save(s, name, flags, error), error);
    device_range_end();
    if (status) return -1;
    s->clock.save = seconds_now() - start;
    signals_reserve(save_reserve(s));
    s->saved_step = s->step;
    s->failed_saves = 0;
    if (comm_place(s->o->comm).rank == 0)
        run_retain(run_folder(s->run), (int)s->o->keep, (uint64_t)s->o->keep_every);
    return 0;
}

/* A save between steps may fail a few times: the disk may become free, and training is worth more. */
static int save_or_warn(struct train_state *s, struct error *error)
{
    if (save(s, 0, error) == 0) return 0;
    s->failed_saves++;
    if (s->failed_saves == SAVES_TRIED)
        return fail_in(error, "%d checkpoints in a row could not be saved", SAVES_TRIED);
    run_log(s->run, "warning: step %lld: the checkpoint could not be saved: %s (training continues; older checkpoints "
            "are as they were)", (long long)s->step, error->text);
    return 0;
}

/* ---- steps ---- */

static bool evaluation_due(const struct train_state *s, int64_t step)
{
    return s->task->evaluate && (step == 0 || due(step, s->o->eval_every) || step == s->o->steps);
}

static const char elsewhere[] = "a signal to another rank";

/* Why to stop now: asked to, or the next step would not end within the time limit. */
static const char *stop_reason(const struct train_state *s)
{
    const char *why = signals_stop();
    double need = save_reserve(s), slowest = 0, wish;
    for (int i = 0; i < RECENT && i < s->clock.steps; i++) slowest = fmax(slowest, s->clock.step[i]);
    need += slowest + (evaluation_due(s, s->step + 1) ? s->clock.evaluation : 0);
    if (!why && comm_place(s->o->comm).rank == 0 && run_asked_to_stop(s->run))
        why = "the file stop in the run folder, which must be removed first";
    if (!why && s->clock.steps > 0 && signals_time_left() < need)
        why = "the time limit, which the next step would pass";
    wish = why != NULL;
    comm_add(s->o->comm, GROUP_WORLD, &wish, 0, 1);
    return wish > 0 && !why ? elsewhere : why;
}

/* All updates of one step, its record begun.  Until the first is made the step may be given up: -1, EXIT_STOPPED. */
static int make_updates(struct train_state *s, struct error *error)
{
    struct step_result result = {0};
    struct record *r = &s->record;
    int64_t tokens = s->tokens;
    double begun = seconds_now();
    for (int i = 0; i < s->task->n_sums + s->task->n_maxima; i++) s->task->sums[i] = 0;
    int updates = s->task->begin ? s->task->begin(s->task->self, s->step, error) : 1;
    if (comm_agree(s->o->comm, updates < 0 ? -1 : 0, error)) return -1;
    s->may_give_up = true;
    for (int u = 0; u < updates; u++) {
        int more = train_update(s, &result, u, error);
        if (more < 0) {
            s->tokens = tokens;
            return -1;
        }
        s->may_give_up = false;
        if (more == 0) break;
    }
    s->step++;
    fill_record(r, s, &result);
    fill_times(r, s, fmax(seconds_now() - begun, 1e-9), (double)(s->tokens - tokens));
    s->task->end(s->task->self, s->step - 1, r);
    if (s->clock.steps == 0) s->clock.begun = begun;
    s->clock.step[s->clock.steps++ % RECENT] = seconds_now() - begun;
    return 0;
}

/* What follows the updates: evaluation, the record, samples.  Until the evaluation is whole the record is kept. */
static int report_step(struct train_state *s, struct error *error)
{
    const struct train_options *o = s->o;
    struct task *task = s->task;
    struct record *r = &s->record;
    bool last = s->step == o->steps;
    if (evaluation_due(s, s->step) && evaluate(s, r, error)) return -1;
    if (last && task->finish) task->finish(task->self, s->run, r);
    keep_results(s, r);
    run_metrics(s->run, r);
    r->count = 0;
    if (task->sample && s->step > 0 && (due(s->step, o->sample_every) || (last && o->sample_every > 0))) {
        device_range("sample");
        task->sample(task->self, s->run, s->step);
        device_range_end();
    }
    if (seconds_now() - s->clock.status > 10) show_status(s, "running", s->clock.line);
    return 0;
}

static int step_and_report(struct train_state *s, struct error *error)
{
    if (make_updates(s, error)) return -1;
    show_progress(s, &s->record);
    return report_step(s, error);
}

static int one_step(struct train_state *s, struct error *error)
{
    char name[32];
    if (s->step + 1 == s->profile_first) device_record(true);
    snprintf(name, sizeof name, "step %lld", (long long)s->step + 1);
    device_range(name);
    int status = step_and_report(s, error);
    device_range_end();
    if (status) return -1;
    if (s->step == s->profile_last) device_record(false);
    return s->step < s->o->steps && due(s->step, s->o->save_every) ? save_or_warn(s, error) : 0;
}

/* The checkpoint stands at the last step already: only final.ckpt may be missing. */
static int already_done(struct train_state *s, struct error *error)
{
    struct error none;
    struct ckpt *c = NULL;
    scoped char *path = host_text("%s/final.ckpt", run_folder(s->run));
    bool there = ckpt_open(&c, path, &none) == 0 && (int64_t)ckpt_meta_of(c)->step >= s->step;
    ckpt_close(c);
    run_log(s->run, "step %lld was reached already%s; a larger --steps continues", (long long)s->o->steps,
            there ? "" : ", final.ckpt is written");
    if (there) return 0;
    struct record r = {0};
    record_count(&r, "step", s->step);
    if (s->task->finish) s->task->finish(s->task->self, s->run, &r);
    keep_results(s, &r);
    return save(s, CKPT_FINAL, error);
}

static int stop(struct train_state *s, const char *why, struct error *error)
{
    run_ending(s->run);
    if (s->saved_step != s->step && save(s, 0, error))
        return fail_in(error, "stopping by %s: the checkpoint could not be saved", why);
    const char *note = s->clock.steps > 0 || s->record.count ? ""
        : strstr(why, "time limit") ? " (no step was finished: with this --time-limit no start may get any further)"
        : " (no step was finished)";
    run_log(s->run, "stopped at step %lld by %s: the same command resumes from here%s", (long long)s->step, why, note);
    show_status(s, "stopped", why);
    return EXIT_STOPPED;
}

/* The code of a run whose step or evaluation ended with *error: EXIT_STOPPED when that was a wish to stop, or -1. */
static int ended(struct train_state *s, struct error *error)
{
    const char *why = signals_stop();
    if (!why && comm_place(s->o->comm).world > 1) why = elsewhere;
    return error->exit_code == EXIT_STOPPED && why ? stop(s, why, error) : -1;
}

/* From where the state stands to the end.  Returns EXIT_DONE, EXIT_STOPPED, or -1 with *error. */
static int run_steps(struct train_state *s, struct error *error)
{
    show_status(s, "running", "");
    signals_reserve(save_reserve(s));
    if (!s->resumed && s->task->evaluate) record_count(&s->record, "step", 0);     /* before the first update */
    if (s->resumed && s->step >= s->o->steps && s->record.count == 0) {
        if (already_done(s, error)) return -1;
    } else {
        if (s->record.count > 0 && report_step(s, error)) return ended(s, error);
        while (s->step < s->o->steps) {
            const char *why = stop_reason(s);
            if (why) return stop(s, why, error);
            if (one_step(s, error)) return ended(s, error);
        }
        if (save(s, CKPT_FINAL, error)) return fail_in(error, "the last checkpoint could not be saved");
        char text[16];
        run_log(s->run, "done: %lld step%s, %s tokens, %s/final.ckpt", (long long)s->step, plural(s->step),
                text_count(text, (double)s->tokens), run_folder(s->run));
    }
    show_status(s, "done", s->clock.line);
    return EXIT_DONE;
}

int train(struct task *task, struct run *run, const struct train_options *o, const struct option *table)
{
    struct train_state s = {.task = task, .run = run, .o = o, .table = table, .saved_step = -1};
    struct error error;
    if (task->n_learners < 1 || task->n_learners > LEARNERS_MAX)
        die("%d learners, expected 1 to %d", task->n_learners, LEARNERS_MAX);
    if (task->n_sums + task->n_maxima > SUMS_MAX) die("%d sums, expected at most %d", task->n_sums, SUMS_MAX);
    s.slice = host_alloc((size_t)comm_place(o->comm).d, sizeof *s.slice);
    int code = profile_steps(&s.profile_first, &s.profile_last, o, &error);
    if (code == 0) code = train_begin(&s, &error);
    if (code == 0) code = run_steps(&s, &error);
    if (code < 0) {
        run_log(run, "%s: %s", task->program, error.text);
        show_status(&s, "failed", error.text);
        code = error.exit_code;
    }
    kv_free(&s.eval);
    free(s.slice);
    return code;
}
