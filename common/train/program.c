/* program.c - the order of starting matters: options first, because everything else is told by them; threads and
 * signals before the run folder, so that a folder is only touched by a process that can be stopped cleanly. */
#define _GNU_SOURCE
#include "common/train/program.h"
#include "common/base/signals.h"
#include "common/base/threads.h"
#include "common/base/trace.h"
#include "common/interop/interop.h"
#include "common/model/device.h"
#include "format/reader.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <sched.h>
#include <math.h>
#include <unistd.h>

/* The first line of every run: reading may take minutes. */
static void log_start(struct run *run, const struct option *table)
{
    const struct option_list *read = NULL;
    for (const struct option *o = table; o->name; o++)
        if (strcmp(o->name, "data") == 0 || strcmp(o->name, "prompts") == 0) read = o->value;
    run_log(run, "%s %s, %s: reading %s%s", program_name(), QUARTET_VERSION, device_name(),
            read && read->count ? read->item[0] : "", read && read->count > 1 ? " and more" : "");
}

/* Without --threads the ranks of a host share its cores.  A launcher may bind one of them, or several, to some. */
static int threads_of(int64_t given, int locals)
{
    cpu_set_t mine;
    if (given > 0 || locals == 1 || sched_getaffinity(0, sizeof mine, &mine) != 0) return (int)given;
    return int_max(1, int_min(CPU_COUNT(&mine), (int)sysconf(_SC_NPROCESSORS_ONLN) / locals));
}

static void log_ranks(struct run *run, const struct place *p)
{
    scoped_bytes struct bytes text = {0};
    if (p->world == 1) return;
    bytes_text(&text, "%d ranks", p->world);
    if (p->t * p->p > 1) bytes_text(&text, ": %d with %s data", p->d, p->d == 1 ? "the" : "different");
    if (p->t > 1) bytes_text(&text, ", each layer split by %d", p->t);
    if (p->p > 1) bytes_text(&text, ", the row of layers by %d", p->p);
    run_log(run, "%s, %d of them on this host, by %s", text.data, p->locals, comm_engine());
}

static int open_trace(const struct train_options *o, int rank, struct error *error)
{
    double origin = trace_now();
    if (rank == 0 && trace_open(o->trace, 0, origin, error) != 0) return -1;
    if (comm_place(o->comm).world > 1) comm_share_host(o->comm, GROUP_WORLD, &origin, sizeof origin, 0);
    return rank == 0 ? 0 : trace_open(o->trace, rank, origin, error);
}

struct run *program_start(const char *name, const struct option *table, struct train_options *o,
                          int argc, char **argv, const char *usage, const char *about)
{
    struct error error;
    struct run *run;
    int64_t first, last;
    program_begin(name);
    program_set_build(*comm_engine() ? host_text("%s, %s", device_build(), comm_engine()) : device_build());
    if (options_parse(table, argc, argv, usage, about, NULL, &error) != 0) quit_error(&error);
    if (o->no_stages && o->parallel.pipeline > 1 && !o->parallel.cluster)
        quit(EXIT_USAGE, "--pipeline-parallel %lld: the ranks of %s split layers, but not the row of them "
             "(--tensor-parallel)", (long long)o->parallel.pipeline, name);
    if (profile_steps(&first, &last, o, &error) != 0 ||
        (o->devices && devices_start(o->devices, &o->device, argv, &error) != 0) ||
        comm_open(&o->comm, o->out, o->parallel.cluster ? 1 : int_max((int)o->parallel.tensor, 1),
                  o->parallel.cluster ? 1 : int_max((int)o->parallel.pipeline, 1), &error) != 0)
        quit_error(&error);
    program_at_quit(comm_leave, o->comm);
    struct place place = comm_place(o->comm);
    bool take = place.world > 1 && !o->devices && o->device == 0 && device_count() > 1;     /* each its own */
    if (parallel_check(table, o, &error) != 0 || device_open(take ? place.local : (int)o->device, &error) != 0 ||
        comm_connect(o->comm, &error) != 0)
        quit_error(&error);
    place = comm_place(o->comm);
    threads_start(threads_of(o->threads, place.locals));
    signals_install(o->time_limit);
    if (place.rank > 0 && !freopen("/dev/null", "w", stdout)) die("/dev/null cannot be opened");
    run = NULL;
    if (o->out && !o->plan && !o->dry_run) {
        if (place.rank > 0) run = run_follow(o->out, name);
        else if (run_open(&run, o->out, name, &error) != 0) quit_error(&error);
    }
    comm_watch(o->comm, o->stall_limit, run ? run_failed : NULL, run);
    if (run) log_start(run, table);
    if (run) log_ranks(run, &place);
    if (run && o->trace && open_trace(o, place.rank, &error) != 0) quit_error(&error);  /* it may lie in the folder */
    return run;
}

void program_end(struct run *run, struct train_options *o)
{
    run_close(run);
    trace_close();
    program_at_quit(NULL, NULL);
    comm_close(o->comm);
}

struct ckpt *program_resumed(const struct run *run, const char *resume)
{
    struct error none;
    struct ckpt *c = NULL;
    if (!run) return NULL;
    if (strcmp(resume, "auto") == 0) run_newest(&c, run_folder(run), true, &none);
    else if (strcmp(resume, "never") != 0) ckpt_open(&c, resume, &none);
    return c;
}

void program_say(void *run, const char *line)
{
    run_log(run, "%s", line);
}

/* ---- parents ---- */

static void list_stages(struct bytes *out, unsigned stages)
{
    int left = __builtin_popcount(stages);
    for (int s = 0; left > 0; s++) {
        if (!(stages >> s & 1)) continue;
        bytes_text(out, "%s%s", stage_name((enum stage)s), --left > 1 ? ", " : left == 1 ? " or " : "");
    }
}

static int check_parent(struct parent *p, const char *path, unsigned stages, struct error *error)
{
    const struct ckpt_meta *meta = p->meta;
    if (config_read(&p->config, &meta->conf, error) != 0) return fail_in(error, "%s", path);
    bool reward = meta->stage == STAGE_IMPORTED && p->config.head == HEAD_SCALAR;       /* what rm would have made */
    uint32_t stage = reward ? STAGE_RM : meta->stage;
    if (stage >= 32 || !(stages >> stage & 1)) {
        scoped_bytes struct bytes expected = {0};
        list_stages(&expected, stages);
        fail(error, EXIT_MISMATCH, "%s is a checkpoint of stage %s, expected %s", path,
             stage_name((enum stage)stage), expected.data);
        return -1;
    }
    if (meta->tokn.size == 0) return fail(error, EXIT_DATA, "%s: the checkpoint holds no tokenizer", path);
    if (tokenizer_read(&p->tokenizer, meta->tokn.data, meta->tokn.size, error) != 0) return fail_in(error, "%s", path);
    if (tokenizer_vocab(p->tokenizer) > p->config.vocab)
        return fail(error, EXIT_DATA, "%s: the tokenizer has %d ids, the model only %d", path,
                    tokenizer_vocab(p->tokenizer), p->config.vocab);
    return 0;
}

int model_file_open(struct ckpt **out, const char *path, struct run *run, struct error *error)
{
    scoped_bytes struct bytes said = {0};
    if (text_ends(path, ".safetensors") && !folder_is(path))
        return fail(error, EXIT_USAGE, "%s: tensors without their config.json; give the folder that holds both", path);
    if (!interop_is(path)) return ckpt_open(out, path, error);
    int status = interop_open(out, path, &said, error);
    for (char *line = said.data, *end; status == 0 && line && (end = strchr(line, '\n')); line = end + 1)
        run_log(run, "%s: %.*s", path, (int)(end - line), line);
    return status;
}

/* A model of another system is known by its weights: they are read once for that, before they are read to be used. */
static int identify(struct parent *p, const char *path, struct run *run, struct error *error)
{
    char id[33];
    if (!p->ckpt->outside.read) return 0;
    if (reader_identify(p->ckpt, error) != 0) return fail_in(error, "%s", path);
    run_log(run, "%s: %s, imported as it is read; its weights are %s", path, p->ckpt->outside.kind,
            hex_text(id, p->meta->weights_id, 16));
    return 0;
}

int parent_open(struct parent *p, const char *path, struct run *run, unsigned stages, const char *role,
                struct error *error)
{
    *p = (struct parent){0};
    if (model_file_open(&p->ckpt, path, run, error) != 0) return -1;
    p->meta = ckpt_meta_of(p->ckpt);
    if (check_parent(p, ckpt_path(p->ckpt), stages, error) != 0 || identify(p, path, run, error) != 0) {
        parent_close(p);
        return -1;
    }
    char name[128];
    lineage_add(&p->line, p->meta, role, path_name(name, path));
    return 0;
}

void parent_close(struct parent *p)
{
    if (p->tokenizer) tokenizer_free(p->tokenizer);
    if (p->ckpt) ckpt_close(p->ckpt);
    kv_free(&p->line);
    *p = (struct parent){0};
}

int parent_same_tokenizer(const struct parent *a, const struct parent *b, struct error *error)
{
    size_t length_a, length_b;
    uint32_t crc_a = tokenizer_crc(a->tokenizer, &length_a), crc_b = tokenizer_crc(b->tokenizer, &length_b);
    if (crc_a == crc_b && length_a == length_b) return 0;
    return fail(error, EXIT_MISMATCH, "%s and %s have different tokenizers (CRC %08x of %zu bytes, and %08x of %zu): "
                "both must descend from the same pretraining, with the same --template", ckpt_path(a->ckpt),
                ckpt_path(b->ckpt), crc_a, length_a, crc_b, length_b);
}

/* table (rows,C): rows known.. become the mean of those before, summed in double in row order.  Tensor ranks have parts
 * of it, and one after the other adds its own. */
static void fill_rows(const struct model *m, float *table, int known, int rows, int C)
{
    int own = m->local.vocab, first = m->place.tensor * own;
    size_t width = (size_t)C, n = (size_t)int_max(int_min(known - first, own), 0),
           end = (size_t)int_max(int_min(rows - first, own), (int)n);
    scoped float *values = host_alloc(end * width, sizeof *values);
    scoped double *sum = host_alloc(width, sizeof *sum);
    device_get(values, table, n * width * sizeof *values);
    device_wait();
    for (int r = 0; r < m->place.t; r++) {
        for (size_t i = 0; i < n * width && r == m->place.tensor; i++) sum[i % width] += (double)values[i];
        comm_share_host(m->use.comm, GROUP_TENSOR, sum, width * sizeof *sum, r);
    }
    for (size_t i = n * width; i < end * width; i++) values[i] = (float)(sum[i % width] / known);
    device_put(table + n * width, values + n * width, (end - n) * width * sizeof *values);
    device_wait();
}

/* New rows lie behind the old ones: the parent is loaded through a view of the model that has the parent's vocabulary,
 * and the rows behind are filled. */
int parent_load(struct model *m, struct parent *p, int known_ids, uint64_t seed, struct error *error)
{
    struct model view = *m;
    int V = m->config.vocab, C = config_embed_width(&m->config), ids = tokenizer_vocab(p->tokenizer);
    assert(known_ids > 0 && known_ids <= ids && p->config.vocab <= V && ids <= V);
    view.config.vocab = p->config.vocab;
    if (model_load(&view, p->ckpt, "", ROLE_WEIGHT, true, seed, error) != 0) return -1;
    int rows = p->config.vocab < V ? V : ids;
    if (known_ids < rows) {
        if (m->params.embed) fill_rows(m, m->params.embed, known_ids, rows, C);
        if (m->params.head.weight && !m->config.tied) fill_rows(m, m->params.head.weight, known_ids, rows, C);
        if (m->params.head.bias) fill_rows(m, m->params.head.bias, known_ids, rows, 1);
    }
    weights_keep_ends(m);
    weights_gather(m);
    return 0;
}

int parents_unchanged(const struct kv *then, const struct kv *now, const char *const *option, int n,
                      struct error *error)
{
    for (int i = 0; i < n; i++) {
        char key[64];
        const void *a = NULL, *b = NULL;
        size_t size_a = 0, size_b = 0;
        snprintf(key, sizeof key, "parent.%d.weights_id", i);
        kv_get_array(then, key, KV_BYTES, &a, &size_a);
        kv_get_array(now, key, KV_BYTES, &b, &size_b);
        if (size_a != size_b || (size_a && memcmp(a, b, size_a) != 0))
            return fail(error, EXIT_MISMATCH, "%s holds other weights than those this run began with: give the same "
                        "checkpoint (a file rather than the folder of a run that continues), or another --out",
                        option[i]);
    }
    return 0;
}

void program_describe(struct ckpt_meta *meta, const struct config *c, const struct tokenizer *t,
                      const struct chat *chat, const struct kv *line, const struct ckpt_meta *parent)
{
    const int64_t *stop;
    size_t n;
    config_write(c, &meta->conf);
    meta->tokn.size = 0;
    tokenizer_write(&meta->tokn, t);
    if (chat) chat_write(chat, &meta->chat);
    if (line) kv_copy(&meta->line, line);
    if (parent && kv_get_array(&parent->meta, "stop", KV_I64S, &stop, &n) == 1)
        kv_set_i64s(&meta->meta, "stop", stop, n);
}

/* ---- memory ---- */

void program_take(struct memory *m, void (*build)(void *self, struct memory *m), void *self)
{
    struct error error;
    malloc_trim(0);                 /* what reading and tokenising needed is no part of the plan */
    if (memory_open(m, &error) != 0) quit_error(&error);
    build(self, m);
    memory_seal(m);
}

/* Processes of this host, counted as if each took as much memory as this one, which of stages is not so. */
static int sharers_of(const struct memory *m, struct comm *comm)
{
    struct place place = comm_place(comm);
    double own = (double)memory_total(m, SIDE_DEVICE), all = own;
    comm_add(comm, GROUP_PIPE, &all, 1, 0);
    return (int)ceil(place.locals * all / (place.p * own));
}

int program_run(struct task *task, struct run *run, const struct train_options *o, const struct option *table,
                struct memory *memory)
{
    struct error error;
    task->build(task->self, memory);
    memory->sharers = sharers_of(memory, o->comm);
    if (o->plan) return train_print_plan(task, memory, o, table);
    if (task->say) task->say(task->self);
    train_log_plan(run, task, memory, o, table);
    program_take(memory, task->build, task->self);
    if (task->fill(task->self, &error) != 0) quit_error(&error);
    return train(task, run, o, table);
}

/* ---- after it ---- */

void program_next(struct run *run, const char *label, const char *program, const char *parents, const char *data)
{
    const char *self = program_invocation_name, *folder = run_folder(run);
    size_t path = strlen(self), own = strlen(program_name()), above = strlen(folder);
    scoped_bytes struct bytes line = {0};
    while (above > 0 && folder[above - 1] == '/') above--;
    while (above > 0 && folder[above - 1] != '/') above--;
    path = path > own && strcmp(self + path - own, program_name()) == 0 ? path - own : 0;
    scoped char *command = host_text("%.*s%s", (int)path, self, program);
    scoped char *out = host_text("%.*s%s", (int)above, folder, program);
    bytes_text(&line, "%s: ", label);
    bytes_quoted(&line, command);
    bytes_text(&line, " %s ", parents);
    bytes_quoted(&line, folder);
    if (data) {
        bytes_text(&line, " %s --out ", data);
        bytes_quoted(&line, out);
    }
    run_log(run, "%s", line.data);
}

/* ---- data ---- */

double program_skip_rows(const char *text)
{
    int64_t rows;
    struct error none;
    struct option count = {NULL, "skip-bad-rows", OPTION_INT, &rows, NULL, 0, 1e15};
    char *end;
    double share = strtod(text, &end);
    bool percent = end > text && strcmp(end, "%") == 0;
    if (option_set(&count, text, &none) == 0) return (double)rows;
    if (percent) share /= 100;
    if (end > text && (percent || !*end) && share >= 0 && share < 1) return share;
    quit(EXIT_USAGE, "--skip-bad-rows %s: expected a number of rows, or a share such as 0.01 or 1%%", text);
}

/* ---- steps ---- */

int64_t program_steps(const struct train_options *o, double tokens_per_step, double steps_per_epoch)
{
    if (o->steps > 0) return o->steps;
    double steps = o->tokens > 0 ? (double)o->tokens / tokens_per_step : o->epochs * steps_per_epoch;
    return steps < 1 ? 1 : (int64_t)ceil(steps - 1e-9);      /* 3 epochs of 1/3 step are 1, whatever the rounding */
}

struct schedule_options program_schedule(const struct train_options *o, int64_t steps, double warmup_share)
{
    struct schedule_options s = {.kind = (enum schedule)o->schedule, .lr = o->lr, .total = steps, .decay_share = 0.2};
    s.min_lr = o->min_lr < 0 ? o->lr / 10 : o->min_lr;
    s.warmup = o->warmup < 0 ? (int64_t)ceil(warmup_share * (double)steps) : o->warmup;
    return s;
}
