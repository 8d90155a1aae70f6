/* train_update.c - one optimizer update.  Every micro-batch adds its share of the gradient of sum of losses / count
 * over the whole update, so that a target token weighs the same wherever it was packed.  Two guards stand before the
 * optimizers.  A loss or norm that is not finite leaves the weights as they are; a few such in a row end the run,
 * because they will not heal.  A norm far above its recent median (--spike-z) is skipped too, but a few of these in
 * a row are a new level rather than spikes: then the window starts anew. */
#include "common/train/train_state.h"
#include "common/base/signals.h"
#include "common/model/device.h"

#include <math.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, ascending);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

double norms_deviation(const struct norms *n, double x)
{
    double copy[NORMS_MAX];
    if (n->count < 16) return 0;
    memcpy(copy, n->norm, sizeof copy);
    double middle = median(copy, n->count);
    for (int i = 0; i < n->count; i++) copy[i] = fabs(n->norm[i] - middle);
    return (x - middle) / fmax(fmax(1.4826 * median(copy, n->count), 1e-3 * middle), 1e-30);
}

void norms_add(struct norms *n, double x)
{
    n->norm[n->next] = x;
    n->next = (n->next + 1) % NORMS_MAX;
    if (n->count < NORMS_MAX) n->count++;
}

void data_position(struct bytes *out, const struct train_state *s)
{
    struct ckpt_meta meta = {.stage = s->task->stage, .step = (uint64_t)s->step, .tokens_seen = (uint64_t)s->tokens};
    s->task->save(s->task->self, &meta);
    int shown = 0;
    for (size_t i = 0; i < meta.dcur.count && shown < 8; i++) {
        const struct kv_entry *e = &meta.dcur.entry[i];
        if (e->type != KV_I64 && e->type != KV_U64) continue;
        bytes_text(out, "%s%s %lld", shown++ ? ", " : "", e->key, (long long)*(const int64_t *)e->value);
    }
    ckpt_meta_free(&meta);
}

static void skip(struct train_state *s, int update, const char *what, double value)
{
    scoped_bytes struct bytes text = {0};
    bytes_text(&text, "step %lld", (long long)s->step + 1);
    if (update > 0) bytes_text(&text, ", update %d", update + 1);
    bytes_text(&text, ": skipped, %s is %g; data position: ", what, value);
    data_position(&text, s);
    run_log(s->run, "%s", text.data);
    for (int i = 0; i < s->task->n_learners; i++) gradient_clear(s->task->learner[i].model);
    s->skipped++;
}

static void apply(struct train_state *s, const double *norm)
{
    const struct train_options *o = s->o;
    struct adamw_options adamw = {o->beta1, o->beta2, o->eps, o->weight_decay};
    for (int i = 0; i < s->task->n_learners; i++) {
        const struct learner *l = &s->task->learner[i];
        if (l->frozen) {
            gradient_clear(l->model);
            continue;
        }
        double scale = o->clip > 0 && norm[i] > o->clip ? o->clip / norm[i] : 1;
        adamw_step(l->model, &adamw, ++s->t[i], schedule_lr(&l->schedule, s->step), scale, l->ema_decay);
        norms_add(&s->norms[i], norm[i]);
        s->weights_changed = true;
    }
}

static bool is_spike(struct train_state *s, int update, const double *norm)
{
    if (s->o->spike_z <= 0) return false;
    for (int i = 0; i < s->task->n_learners; i++) {
        const struct learner *l = &s->task->learner[i];
        if (l->frozen || norms_deviation(&s->norms[i], norm[i]) <= s->o->spike_z) continue;
        if (++s->spike_row > s->o->skip_limit) {
            run_log(s->run, "step %lld: the %sgradient norm stays at %.3g: taken as the new level",
                    (long long)s->step + 1, l->name, norm[i]);
            for (int k = 0; k < s->task->n_learners; k++) s->norms[k] = (struct norms){0};
            break;
        }
        skip(s, update, "a spike: the gradient norm", norm[i]);
        return true;
    }
    s->spike_row = 0;
    return false;
}

static void forward(struct model *m, const struct batch *b)
{
    device_range("forward");
    model_forward(m, b, true);
    device_range_end();
}

static void backward(struct model *m)
{
    device_range("backward");
    model_backward(m);
    device_range_end();
}

double train_micro_batch(const struct task *task, int i, bool last, double scale, int *rows)
{
    double sum = 0;
    *rows = 0;
    for (int k = 0; k < task->n_learners; k++) {
        const struct learner *l = &task->learner[k];
        const struct batch *b = l->frozen ? NULL : task->batch(task->self, i, k);
        if (!b && !l->frozen) {
            model_idle(l->model, true);
            if (last) gradient_early_end(l->model);
        }
        if (!b) continue;
        *rows = b->N;
        forward(l->model, b);
        device_range("head");
        sum += task->head(task->self, i, k, scale);
        device_range_end();
        if (last) gradient_last(l->model);
        backward(l->model);
    }
    return sum;
}

struct turn pipeline_turn(int stage, int p, int m, int turn)
{
    int ahead = int_min(p - 1 - stage, m), left = turn - ahead;
    if (left < 0) return (struct turn){turn, false};
    if (left >= 2 * (m - ahead)) return (struct turn){turn - m, true};
    return (struct turn){left % 2 ? left / 2 : ahead + left / 2, left % 2};
}

/* Micro-batches from..to of a slice on the stages of a row of layers, for a task of one learner; every stage gets the
 * sums.  What a stage needs from its neighbours it waits for. */
static void run_pipeline(const struct task *task, int from, int to, double scale, struct slice *sums)
{
    struct model *model = task->learner[0].model;
    struct place place = comm_place(model->use.comm);
    for (int i = 0; i < 2 * (to - from); i++) {
        struct turn turn = pipeline_turn(place.pipe, place.p, to - from, i);
        if (turn.backward) {
            backward(model);
            continue;
        }
        const struct batch *b = task->batch(task->self, from + turn.micro, 0);
        forward(model, b);
        sums->rows += b->N;
        if (model_last(model)) sums->loss += task->head(task->self, from + turn.micro, 0, scale);
    }
    model_flush(model);
    comm_share_host(model->use.comm, GROUP_PIPE, &sums->loss, sizeof sums->loss, place.p - 1);
    if (task->sums)
        comm_share_host(model->use.comm, GROUP_PIPE, task->sums,
                        (size_t)(task->n_sums + task->n_maxima) * sizeof *task->sums, place.p - 1);
}

/* The slices of a round, one per data rank, join the total in the order of their numbers.  -1: some rank was asked to
 * stop, and all give the step up. */
static int add_round(struct train_state *s, const struct slice *mine, struct slice *total, struct error *error)
{
    const struct task *task = s->task;
    int d = comm_place(s->o->comm).d;
    double stop = 0;
    comm_gather_host(s->o->comm, GROUP_DATA, s->slice, mine, sizeof *mine);
    for (int r = 0; r < d; r++) {
        const struct slice *x = &s->slice[r];
        total->loss += x->loss;
        total->rows += x->rows;
        stop = fmax(stop, (double)x->wish);
        for (int i = 0; i < task->n_sums + task->n_maxima; i++)
            total->sums[i] = i < task->n_sums ? total->sums[i] + x->sums[i] : fmax(total->sums[i], x->sums[i]);
    }
    comm_add(s->o->comm, GROUP_TENSOR, &stop, 0, 1);
    comm_add(s->o->comm, GROUP_PIPE, &stop, 0, 1);
    if (!(stop > 0)) return 0;
    return fail(error, EXIT_STOPPED, "asked to stop while making step %lld: the same command resumes",
                (long long)s->step + 1);
}

/* Forward and backward of all n micro-batches, and the sums over all ranks: of losses to *loss, of gradients to the
 * models. */
static int make_slices(struct train_state *s, int n, double scale, double *loss, struct error *error)
{
    struct task *task = s->task;
    struct comm *comm = s->o->comm;
    struct place place = comm_place(comm);
    struct slice total = {0};
    int slices = int_max((int)s->o->parallel.slices, 1), each = (n + slices - 1) / slices, rows;
    size_t sums = (size_t)(task->n_sums + task->n_maxima) * sizeof *task->sums;
    if (sums) memcpy(total.sums, task->sums, sums);
    for (int first = 0; first < slices; first += place.d) {
        int from = (first + place.data) * each, to = int_min(from + each, n);
        struct slice mine = {0};
        for (int k = 0; k < task->n_learners; k++) gradient_begin(task->learner[k].model, first == 0, true);
        if (sums) memset(task->sums, 0, sums);
        if (place.p > 1 && from < to) run_pipeline(task, from, to, scale, &mine);
        for (int i = from; i < to && place.p == 1; i++) {
            if (s->may_give_up && place.world == 1 && signals_check(error, "making step %lld", (long long)s->step + 1))
                return -1;
            mine.loss += train_micro_batch(task, i, i + 1 == to, scale, &rows);
            mine.rows += rows;
        }
        for (int k = 0; k < task->n_learners; k++) {
            if (task->learner[k].frozen) continue;
            if (from >= to) model_idle(task->learner[k].model, true);
            gradient_early_end(task->learner[k].model);
        }
        if (sums) memcpy(mine.sums, task->sums, sums);
        mine.wish = place.world > 1 && s->may_give_up && signals_stop() != NULL;
        if (add_round(s, &mine, &total, error)) return -1;
        device_range("reduce");
        for (int k = 0; k < task->n_learners; k++)
            if (!task->learner[k].frozen) gradient_sum(task->learner[k].model, first == 0, first + place.d >= slices);
        device_range_end();
    }
    if (sums) memcpy(task->sums, total.sums, sums);
    s->tokens += (int64_t)total.rows;
    *loss = total.loss;
    return 0;
}

int train_update(struct train_state *s, struct step_result *result, int update, struct error *error)
{
    struct task *task = s->task;
    double count = 0, sum, norm[LEARNERS_MAX] = {0};
    device_range("prepare");
    int n = task->prepare(task->self, s->step, update, &count, error);
    device_range_end();
    if (n <= 0) return n;
    if (!(count > 0)) return 1;
    if (make_slices(s, n, 1 / count, &sum, error)) return -1;
    if (task->mix) task->mix(task->self);
    double loss = sum / count, bad = loss;
    const char *what = isfinite(loss) ? NULL : "the loss";
    for (int i = 0; i < task->n_learners && !what; i++) {
        if (task->learner[i].frozen) continue;
        norm[i] = bad = gradient_norm(task->learner[i].model);
        if (!isfinite(bad)) what = "the gradient norm";
    }
    if (what) {
        skip(s, update, what, bad);
        if (++s->bad_row < s->o->skip_limit) return 1;
        return fail(error, EXIT_DATA, "step %lld: %s was not finite in %lld updates in a row: the run cannot heal from "
                    "this; the last checkpoint is as it was; try a lower --lr, a longer --warmup or a smaller --clip",
                    (long long)s->step + 1, what, (long long)s->bad_row);
    }
    s->bad_row = 0;
    result->loss += loss;
    result->losses++;
    for (int i = 0; i < task->n_learners; i++) {
        result->norm[i] += norm[i];                             /* 0 of a frozen learner */
        result->norms[i] += !task->learner[i].frozen;
    }
    device_range("update");
    if (!is_spike(s, update, norm)) apply(s, norm);
    device_range_end();
    return 1;
}
