/* train_save.c - the state of a run as tensors and key-values, and back.  Parameters, moments and averages share one
 * layout (params.h), so all of them are one walk; data moves between device and file in the writer's and reader's own
 * blocks. */
#include "common/train/train_state.h"
#include "common/model/device.h"

#include <jansson.h>
#include <math.h>

/* ---- tensors to a file ---- */

/* A tensor of which ranks hold parts. */
struct piece {
    struct comm *comm;
    struct param param;                  /* whole; its name is not kept */
    const float *base;                   /* what this rank holds of its tensor rank's parameters; */
    size_t piece;                        /* data ranks of its stage hold `piece` each, or, whole, all of them */
    bool whole;
    int *calls;                          /* of fetch, for all tensors */
};

struct sources { struct ckpt_source *source; struct piece *piece; size_t count; const char *prefix; enum role role;
                 struct model *model; int calls; };

/* Runs of elements that a rank holds: between device and host, where they lie one after the other (packed), or each in
 * its place; sent: they have come from that rank, packed.  host NULL: they are only counted. */
struct runs { float *host; const float *base, *sent; bool packed; size_t found; };

static void move_run(void *context, size_t at, size_t from, size_t n)
{
    struct runs *r = context;
    if (r->sent) memcpy(r->host + from, r->sent + r->found, n * sizeof *r->host);
    else if (r->host) device_get(r->host + (r->packed ? r->found : from), r->base + at, n * sizeof *r->host);
    r->found += n;
}

/* Those of the n elements from `first` on that rank `rank` holds; returns their number. */
static size_t each_run(const struct piece *p, int rank, size_t first, size_t n, struct runs runs)
{
    struct place place = comm_place(p->comm);
    int in_stage = place.t * place.d, data = rank % in_stage / place.t, tensor = rank % place.t;
    size_t from = p->whole ? 0 : (size_t)data * p->piece, to = p->whole ? SIZE_MAX : from + p->piece;
    struct share share = {NULL, from, to, tensor, place.t};
    if (rank / in_stage != p->param.stage || (p->whole && data > 0) || (p->param.split == SPLIT_NONE && tensor > 0))
        return 0;
    share_each(&share, &p->param, first, n, move_run, &runs);
    if (runs.host && !runs.sent && runs.found) device_wait();
    return runs.found;
}

/* Rank 0 saves, and gets what it does not hold from the ranks that do, which make the same calls.  host: of rank 0 the
 * place to write to, of the others room for as much. */
static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    const struct piece *p = self;
    size_t first = offset / sizeof(float), n = bytes / sizeof(float), count;
    struct place place = comm_place(p->comm);
    ++*p->calls;
    if (place.rank > 0) {
        count = each_run(p, place.rank, first, n, (struct runs){.host = host, .base = p->base, .packed = true});
        if (count) comm_send_host(p->comm, host, count * sizeof(float), 0);
        return;
    }
    each_run(p, 0, first, n, (struct runs){.host = host, .base = p->base});
    scoped float *sent = place.world > 1 ? host_alloc(n, sizeof *sent) : NULL;
    for (int r = 1; r < place.world; r++) {
        count = each_run(p, r, first, n, (struct runs){0});
        if (count == 0) continue;
        comm_receive_host(p->comm, sent, count * sizeof *sent, r);
        each_run(p, r, first, n, (struct runs){.host = host, .sent = sent});
    }
}

/* Where a rank has what it holds of a role. */
static struct share share_of(struct model *m, enum role role)
{
    if (role == ROLE_WEIGHT) return weights_share(m);
    float *base = role == ROLE_EMA ? m->ema : role == ROLE_ADAM_M ? m->m : m->v;
    return (struct share){base, m->from, m->to, m->place.tensor, m->place.t};
}

static void add_source(void *context, const struct param *p)
{
    struct sources *all = context;
    struct model *m = all->model;
    all->source = host_grow(all->source, all->count + 1, sizeof *all->source);
    all->piece = host_grow(all->piece, all->count + 1, sizeof *all->piece);
    struct piece *q = &all->piece[all->count];
    struct ckpt_source *s = &all->source[all->count++];
    *q = (struct piece){.comm = m->use.comm, .param = *p, .base = share_of(m, all->role).base,
                        .piece = m->params.run[p->stage].count / (size_t)m->place.d,
                        .whole = m->use.zero == 0 || (all->role == ROLE_WEIGHT && !model_apart(m)),
                        .calls = &all->calls};
    *s = (struct ckpt_source){.role = all->role, .dtype = DTYPE_F32, .ndim = p->ndim, .trainable = p->trainable,
                              .decay = p->decay, .fetch = fetch};
    snprintf(s->name, sizeof s->name, "%s%s", all->prefix, p->name);
    for (int i = 0; i < p->ndim; i++) s->shape[i] = (uint64_t)p->shape[i];
}

/* Weights of all learners first: what a reader without interest in training needs lies together. */
static void list_sources(struct sources *all, const struct task *task)
{
    static const enum role roles[] = {ROLE_WEIGHT, ROLE_EMA, ROLE_ADAM_M, ROLE_ADAM_V};
    for (int r = 0; r < 4; r++) {
        for (int i = 0; i < task->n_learners; i++) {
            struct model *m = task->learner[i].model;
            if (roles[r] == ROLE_EMA && !m->use.ema) continue;
            all->prefix = task->learner[i].name;
            all->role = roles[r];
            all->model = m;
            params_all(&m->params, &m->config, add_source, all);
        }
    }
    for (size_t i = 0; i < all->count; i++) all->source[i].self = &all->piece[i];
}

/* ---- key-values to a file ---- */

static void save_learner(struct kv *trns, const struct train_state *s, int i)
{
    static const char *const schedules[] = {"constant", "linear", "cosine", "wsd"};
    const struct learner *l = &s->task->learner[i];
    const struct norms *n = &s->norms[i];
    double ordered[NORMS_MAX];
    char key[64];
    for (int k = 0; k < n->count; k++) ordered[k] = n->norm[(n->next - n->count + k + NORMS_MAX) % NORMS_MAX];
    kv_set_i64(trns, learner_key(key, l, "optim.t"), s->t[i]);
    kv_set_f64s(trns, learner_key(key, l, "optim.norms"), ordered, (size_t)n->count);
    kv_set_text(trns, learner_key(key, l, "lr.schedule"), schedules[l->schedule.kind]);
    kv_set_f64(trns, learner_key(key, l, "lr.base"), l->schedule.lr);
    kv_set_f64(trns, learner_key(key, l, "lr.min"), l->schedule.min_lr);
    kv_set_i64(trns, learner_key(key, l, "lr.warmup"), l->schedule.warmup);
    kv_set_i64(trns, learner_key(key, l, "lr.total"), l->schedule.total);
}

/* A record that waits for its evaluation is saved as the line it will be. */
static void save_record(struct kv *trns, const struct record *r)
{
    scoped_bytes struct bytes line = {0};
    if (r->count == 0) return;
    record_json(&line, r);
    kv_set_text(trns, "record", line.data);
}

static int load_record(struct record *r, const struct kv *trns, struct error *error)
{
    const char *text = NULL, *key;
    json_t *value;
    if (kv_get_text(trns, "record", &text) != 1) return 0;
    json_auto_t *line = json_loads(text, 0, NULL);
    if (!json_is_object(line) || json_object_size(line) > RECORD_MAX)
        return fail(error, EXIT_DATA, "the key record (section TRNS) holds no record");
    json_object_foreach(line, key, value) {
        if (json_is_integer(value)) record_count(r, key, json_integer_value(value));
        else record_real(r, key, json_is_real(value) ? json_real_value(value) : NAN);
    }
    return 0;
}

static void save_state(struct ckpt_meta *meta, const struct train_state *s)
{
    struct kv *trns = &meta->trns;
    kv_set_text(trns, "stage", stage_name(s->task->stage));
    kv_set_i64(trns, "step", s->step);
    kv_set_i64(trns, "tokens_seen", s->tokens);
    kv_set_i64(trns, "skip.total", s->skipped);
    kv_set_i64(trns, "skip.bad_row", s->bad_row);
    kv_set_i64(trns, "skip.spike_row", s->spike_row);
    kv_set_text(trns, "optim.name", "adamw");
    save_record(trns, &s->record);
    for (int i = 0; i < s->task->n_learners; i++) save_learner(trns, s, i);
    options_save(trns, s->table);
    for (size_t i = 0; i < s->eval.count; i++) {
        const struct kv_entry *e = &s->eval.entry[i];
        if (e->type == KV_F64) kv_set_f64(&meta->eval, e->key, *(const double *)e->value);
    }
    if (s->eval.count && s->task->main_metric) kv_set_text(&meta->eval, "main_metric", s->task->main_metric);
}

int train_save(struct train_state *s, const char *name, uint32_t flags, struct error *error)
{
    struct task *task = s->task;
    struct ckpt_meta meta = {.stage = task->stage, .flags = flags | CKPT_TRAINING_STATE | CKPT_RESUMABLE,
                             .step = (uint64_t)s->step, .tokens_seen = (uint64_t)s->tokens};
    struct sources all = {0};
    char shown[128];
    if (s->weights_changed) random_bytes(s->weights_id, sizeof s->weights_id);
    s->weights_changed = false;
    memcpy(meta.weights_id, s->weights_id, sizeof meta.weights_id);
    memcpy(meta.run_uuid, s->run_uuid, sizeof meta.run_uuid);
    snprintf(meta.writer, sizeof meta.writer, "%s %s", task->program, QUARTET_VERSION);
    task->save(task->self, &meta);
    save_state(&meta, s);
    kv_set_text(&meta.meta, "name", path_name(shown, run_folder(s->run)));
    kv_set_text(&meta.meta, "program", task->program);
    list_sources(&all, task);
    run_sync(s->run);
    bool saves = comm_place(s->o->comm).rank == 0;
    int status = saves ? ckpt_save(run_folder(s->run), name, &meta, all.source, all.count, error) : 0;
    if (comm_place(s->o->comm).world > 1) ckpt_walk(all.source, all.count, all.calls);    /* what is left of it */
    free(all.source);
    free(all.piece);
    ckpt_meta_free(&meta);
    return status;
}

/* ---- tensors from a file ---- */

struct load {
    struct ckpt *ckpt;
    const char *prefix;
    enum role role;
    bool head_optional;
    struct share share;          /* of this rank */
    const struct param *param;   /* the one now read, whole */
    const float *values;
    bool *used;                  /* by tensor number */
    struct error *error;
    int status;
};

static void put_run(void *context, size_t at, size_t from, size_t n)
{
    const struct load *l = context;
    device_put(l->share.base + at, l->values + from, n * sizeof(float));
}

static void put_values(void *self, const float *values, uint64_t first, size_t count)
{
    struct load *l = self;
    l->values = values;
    share_each(&l->share, l->param, first, count, put_run, l);
    device_wait();
}

static const char *shape_text(char out[64], int ndim, const uint64_t *shape)
{
    int n = snprintf(out, 64, "(");
    for (int i = 0; i < ndim && n < 60; i++)
        n += snprintf(out + n, (size_t)(64 - n), i ? ", %llu" : "%llu", (unsigned long long)shape[i]);
    if (n < 63) snprintf(out + n, (size_t)(64 - n), ")");
    return out;
}

static void load_one(void *context, const struct param *p)
{
    struct load *l = context;
    char name[256], expected[64], found[64];
    uint64_t shape[2] = {(uint64_t)p->shape[0], (uint64_t)p->shape[1]};
    if (l->status) return;
    snprintf(name, sizeof name, "%s%s", l->prefix, p->name);
    int64_t at = ckpt_find(l->ckpt, name, l->role);
    if (at < 0) {
        if (l->head_optional && strncmp(p->name, "score.", 6) == 0) return;
        l->status = fail(l->error, EXIT_MISMATCH, "%s: the tensor %s (role %d) is missing, expected with shape %s",
                         ckpt_path(l->ckpt), name, (int)l->role, shape_text(expected, p->ndim, shape));
        return;
    }
    const struct ckpt_tensor *t = ckpt_tensor_at(l->ckpt, (size_t)at);
    if (t->ndim != p->ndim || memcmp(t->shape, shape, (size_t)p->ndim * sizeof *shape) != 0)
        l->status = fail(l->error, EXIT_MISMATCH, "%s: the tensor %s has shape %s, expected %s", ckpt_path(l->ckpt),
                         name, shape_text(found, t->ndim, t->shape), shape_text(expected, p->ndim, shape));
    l->param = p;
    if (!l->status && p->held) l->status = ckpt_read_f32(l->ckpt, (size_t)at, put_values, l, l->error);
    l->used[at] = true;
}

/* Nothing of this learner and role may be left over (check C4); a critic may lie beside the main model. */
static int check_left_over(const struct load *l, bool scalar)
{
    size_t n = strlen(l->prefix);
    for (size_t i = 0; i < ckpt_tensor_count(l->ckpt); i++) {
        const struct ckpt_tensor *t = ckpt_tensor_at(l->ckpt, i);
        bool of_critic = n == 0 && strncmp(t->name, LEARNER_CRITIC, strlen(LEARNER_CRITIC)) == 0;
        if (l->used[i] || t->role != l->role || strncmp(t->name, l->prefix, n) != 0 || of_critic) continue;
        if (scalar && strncmp(t->name + n, "output.", 7) == 0) continue;           /* the vocabulary head */
        return fail(l->error, EXIT_MISMATCH, "%s: the tensor %s is not part of this model", ckpt_path(l->ckpt),
                    t->name);
    }
    return 0;
}

static int load_role(struct model *m, struct share share, struct ckpt *ckpt, const char *prefix, enum role role,
                     bool head_optional, struct error *error)
{
    struct load l = {.ckpt = ckpt, .prefix = prefix, .role = role, .head_optional = head_optional, .share = share,
                     .used = host_alloc(ckpt_tensor_count(ckpt), sizeof(bool)), .error = error};
    params_all(&m->params, &m->config, load_one, &l);
    if (l.status == 0) l.status = check_left_over(&l, m->config.head == HEAD_SCALAR);
    free(l.used);
    return l.status;
}

int model_load(struct model *m, struct ckpt *c, const char *prefix, enum role role, bool head_optional, uint64_t seed,
               struct error *error)
{
    char name[256];
    snprintf(name, sizeof name, "%sscore.weight", prefix);
    if (head_optional && m->config.head == HEAD_SCALAR && ckpt_find(c, name, role) < 0)
        weights_init(m, seed);
    if (load_role(m, weights_share(m), c, prefix, role, head_optional, error)) return -1;
    weights_gather(m);
    return 0;
}

/* ---- key-values from a file ---- */

static int load_learner(struct train_state *s, int i, const struct ckpt_meta *meta, struct ckpt *c, struct error *error)
{
    const struct learner *l = &s->task->learner[i];
    struct model *m = l->model;
    const double *norms;
    size_t count;
    char key[64];
    if (kv_get_i64(&meta->trns, learner_key(key, l, "optim.t"), &s->t[i]) != 1 || s->t[i] < 0)
        return fail(error, EXIT_DATA, "%s: %s is missing or wrong", ckpt_path(c), key);
    learner_key(key, l, "optim.norms");
    if (kv_get_array(&meta->trns, key, KV_F64S, &norms, &count) != 1 || count > NORMS_MAX)
        return fail(error, EXIT_DATA, "%s: %s is missing or wrong", ckpt_path(c), key);
    for (size_t k = 0; k < count; k++) {
        if (!isfinite(norms[k]))
            return fail(error, EXIT_DATA, "%s: %s holds a number that is not finite", ckpt_path(c), key);
        norms_add(&s->norms[i], norms[k]);
    }
    m->params.rounds.update = s->t[i];
    if (model_load(m, c, l->name, ROLE_WEIGHT, false, 0, error)) return -1;
    static const enum role roles[] = {ROLE_ADAM_M, ROLE_ADAM_V, ROLE_EMA};
    for (int r = 0; r < (m->use.ema ? 3 : 2); r++)
        if (load_role(m, share_of(m, roles[r]), c, l->name, roles[r], false, error)) return -1;
    return 0;
}

int train_load(struct train_state *s, struct ckpt *c, struct error *error)
{
    const struct ckpt_meta *meta = ckpt_meta_of(c);
    const struct kv *trns = &meta->trns;
    if (meta->stage != s->task->stage)
        return fail(error, EXIT_MISMATCH, "%s: a checkpoint of %s, from which %s cannot resume", ckpt_path(c),
                    stage_name(meta->stage), s->task->program);
    if (!(meta->flags & CKPT_RESUMABLE))
        return fail(error, EXIT_MISMATCH, "%s: it holds no training state: start a new run from its weights",
                    ckpt_path(c));
    if (options_compare(s->table, trns, error)) return fail_in(error, "%s", ckpt_path(c));
    if (kv_get_i64(trns, "step", &s->step) != 1 || kv_get_i64(trns, "tokens_seen", &s->tokens) != 1 || s->step < 0 ||
        s->tokens < 0 || kv_get_i64(trns, "skip.total", &s->skipped) != 1 ||
        kv_get_i64(trns, "skip.bad_row", &s->bad_row) != 1 || kv_get_i64(trns, "skip.spike_row", &s->spike_row) != 1)
        return fail(error, EXIT_DATA, "%s: the training state (section TRNS) lacks a counter", ckpt_path(c));
    if (load_record(&s->record, trns, error)) return fail_in(error, "%s", ckpt_path(c));
    for (int i = 0; i < s->task->n_learners; i++)
        if (load_learner(s, i, meta, c, error)) return -1;
    memcpy(s->run_uuid, meta->run_uuid, sizeof s->run_uuid);
    memcpy(s->weights_id, meta->weights_id, sizeof s->weights_id);
    kv_copy(&s->eval, &meta->eval);
    s->weights_changed = false;
    s->resumed = true;
    if (s->task->load && s->task->load(s->task->self, meta, error)) return fail_in(error, "%s", ckpt_path(c));
    return 0;
}
