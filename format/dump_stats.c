/* dump_stats.c - `ckpt stats` and `ckpt print`: the numbers themselves. */
#include "format/dump.h"

#include "common/base/threads.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { EXPONENTS = 2200, BIAS = 1100,        /* frexp exponents of doubles: -1073 .. 1024 */
       STEP = 1 << 18 };                     /* bytes read at a time */

/* What a pass over one tensor gives. */
struct scan { const struct ckpt *c; size_t tensor; struct stats stats; uint64_t *exponent; int status;
              struct error error; };
struct scans { struct scan *scan; bool hist; };

static void count_exponents(uint64_t *exponent, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int e;
        if (x[i] == 0 || !isfinite(x[i])) continue;
        frexp(x[i], &e);
        exponent[e + BIAS]++;
    }
}

static int scan_tensor(struct scan *s, bool hist)
{
    const struct ckpt_tensor *t = &s->c->index.tensor[s->tensor].public;
    const struct dtype_facts *facts = dtype_facts(t->dtype);
    struct moments all = {0};
    uint8_t *buffer = host_alloc(STEP, 1);
    double *x = host_alloc(STEP, sizeof *x);
    int status = 0;
    for (uint64_t at = 0; at < t->bytes && status == 0; at += STEP) {
        size_t n = t->bytes - at < STEP ? (size_t)(t->bytes - at) : STEP;
        struct moments m;
        status = tensor_read(s->c, s->tensor, buffer, at, n, &s->error);
        if (status != 0) break;
        moments_of(&m, buffer, n, t->dtype);
        moments_add(&all, &m);
        if (!hist || facts->block != 1) continue;
        dtype_to_f64(x, buffer, n / facts->block_bytes, t->dtype);
        count_exponents(s->exponent, x, n / facts->block_bytes);
    }
    s->stats = moments_stats(&all);
    free(buffer);
    free(x);
    return status;
}

static void scan_task(void *context, int i, int thread)
{
    struct scans *scans = context;
    (void)thread;
    scans->scan[i].status = scan_tensor(&scans->scan[i], scans->hist);
}

static double root_sum_square(const struct stats *s, uint64_t elements)
{
    double n = (double)(elements - s->nan - s->inf);
    return sqrt(n * (s->std * s->std + s->mean * s->mean));
}

/* Counts from the lowest to the highest exponent met, on a scale of logarithms. */
static void print_hist(const uint64_t *exponent)
{
    int low = 0, high = EXPONENTS - 1;
    uint64_t most = 1;
    while (low < EXPONENTS && !exponent[low]) low++;
    if (low == EXPONENTS) return;
    while (!exponent[high]) high--;
    if (high - low > 79) low = high - 79;
    for (int e = low; e <= high; e++) most = exponent[e] > most ? exponent[e] : most;
    printf("    2^%-5d ", low - BIAS - 1);
    for (int e = low; e <= high; e++) {
        double share = log1p((double)exponent[e]) / log1p((double)most);
        putchar(" .:-=+*#%@"[exponent[e] ? 1 + (int)(share * 8) : 0]);
    }
    printf(" 2^%d\n", high - BIAS - 1);
}

static void scan_json(struct json *j, const struct scan *s, bool hist)
{
    const struct ckpt_tensor *t = &s->c->index.tensor[s->tensor].public;
    json_open(j, NULL, '{');
    json_text(j, "name", t->name);
    json_text(j, "role", role_name(t->role));
    json_f64(j, "min", s->stats.min);
    json_f64(j, "max", s->stats.max);
    json_f64(j, "mean", s->stats.mean);
    json_f64(j, "std", s->stats.std);
    json_f64(j, "absmax", s->stats.absmax);
    json_f64(j, "l2", root_sum_square(&s->stats, tensor_elements(t)));
    json_u64(j, "nan", s->stats.nan);
    json_u64(j, "inf", s->stats.inf);
    json_u64(j, "zero", s->stats.zero);
    if (hist) {
        json_open(j, "exponents", '{');                       /* exponent e counts values in [2^e, 2^(e+1)) */
        for (int e = 0; e < EXPONENTS; e++) {
            char key[16];
            snprintf(key, sizeof key, "%d", e - BIAS - 1);
            if (s->exponent[e]) json_u64(j, key, s->exponent[e]);
        }
        json_close(j, '}');
    }
    json_close(j, '}');
}

static void scan_text(const struct scan *s, bool hist)
{
    const struct ckpt_tensor *t = &s->c->index.tensor[s->tensor].public;
    const struct stats *st = &s->stats;
    printf("%-36s %-6s %11.4g %11.4g %11.4g %11.4g %11.4g %8" PRIu64 " %8" PRIu64 " %10" PRIu64 "\n", t->name,
           role_name(t->role), st->min, st->max,
           st->mean, st->std, root_sum_square(st, tensor_elements(t)), st->nan, st->inf, st->zero);
    if (hist) print_hist(s->exponent);
}

static int show_scans(struct dump *d, const struct ckpt *c, struct scans *scans, size_t n)
{
    struct json j;
    int code = 0;
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", c->path);
        json_open(&j, "tensors", '[');
    } else
        printf("%-36s %-6s %11s %11s %11s %11s %11s %8s %8s %10s\n", "tensor", "role", "min", "max", "mean", "std",
               "l2", "nan", "inf", "zero");
    for (size_t i = 0; i < n; i++) {
        struct scan *s = &scans->scan[i];
        if (s->status != 0) code = dump_error(&s->error);
        else if (d->json) scan_json(&j, s, scans->hist);
        else scan_text(s, scans->hist);
    }
    if (d->json) {
        json_close(&j, ']');
        json_end(&j);
    }
    return code;
}

int dump_stats(struct dump *d)
{
    const char *pattern = d->arguments == 2 ? d->argument[1] : "*";
    struct ckpt *c;
    size_t n = 0;
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    struct scans scans = {host_alloc(c->index.count, sizeof *scans.scan), d->hist};
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[i].public;
        if (!glob_match(pattern, t->name) || (d->role && strcmp(d->role, role_name(t->role)) != 0)) continue;
        struct scan *s = &scans.scan[n++];
        *s = (struct scan){.c = c, .tensor = i};
        if (c->stats) s->stats = c->stats[i];
        if (d->hist) s->exponent = host_alloc(EXPONENTS, sizeof *s->exponent);
    }
    if (d->hist || d->recompute || !c->stats) threads_for((int)n, scan_task, &scans);
    code = show_scans(d, c, &scans, n);
    for (size_t i = 0; i < n; i++) free(scans.scan[i].exponent);
    free(scans.scan);
    ckpt_close(c);
    return code;
}

/* ---- print ---- */

/* numpy's habit: over 1000 values, three from either end of each dimension */
enum { EDGE = 3, ALL = 1000 };

struct range { uint64_t from, to; bool cut; };
struct slice { struct range range[CKPT_MAX_DIMS]; int ndim; };

/* "2:5,:,7" against the shape; absent dimensions are whole. */
static int parse_slice(struct slice *s, const char *text, const struct ckpt_tensor *t, struct error *error)
{
    s->ndim = t->ndim;
    for (int d = 0; d < t->ndim; d++) s->range[d] = (struct range){0, t->shape[d], false};
    for (int d = 0; text && *text; d++) {
        char *end;
        if (d == t->ndim)
            return fail(error, EXIT_USAGE, "the slice has more than the %d dimensions of tensor %s", t->ndim, t->name);
        struct range *r = &s->range[d];
        bool from = *text >= '0' && *text <= '9';
        if (from) r->from = strtoull(text, &end, 10);
        else end = (char *)text;
        if (*end == ':') {
            text = end + 1;
            if (*text >= '0' && *text <= '9') r->to = strtoull(text, &end, 10);
            else end = (char *)text;
        } else if (from) r->to = r->from + 1;
        if (*end != ',' && *end != 0)
            return fail(error, EXIT_USAGE, "'%s' is no slice (expected items like 3, 0:4 or : with commas between)",
                        text);
        if (r->from >= r->to || r->to > t->shape[d])
            return fail(error, EXIT_USAGE,
                        "%" PRIu64 ":%" PRIu64 " is outside dimension %d of tensor %s, which has %" PRIu64, r->from,
                        r->to, d, t->name, t->shape[d]);
        text = *end ? end + 1 : end;
    }
    return 0;
}

static void print_value(struct json *j, const char *key, const uint8_t *p, const struct dump *d,
                        const struct ckpt_tensor *t)
{
    const struct dtype_facts *facts = dtype_facts(t->dtype);
    double value;
    if (d->hex) {
        char hex[17];
        for (uint32_t b = 0; b < facts->block_bytes; b++)
            snprintf(hex + 2 * b, 3, "%02x", p[facts->block_bytes - 1 - b]);
        if (j) json_text(j, key, hex);
        else printf(" %s", hex);
        return;
    }
    dtype_to_f64(&value, p, 1, t->dtype);
    if (j) json_f64(j, key, value);
    else printf(" %12.7g", value);
}

/* Dimension `dim` from element number `base` on, brackets and all. */
static int print_dimension(struct json *j, const struct dump *d, const struct ckpt *c, size_t tensor,
                           const struct slice *s, int dim,
                           uint64_t base, struct error *error)
{
    const struct ckpt_tensor *t = &c->index.tensor[tensor].public;
    const uint32_t size = dtype_facts(t->dtype)->block_bytes;
    const char *key = dim == 0 ? "values" : NULL;
    uint8_t value[8];
    if (dim == s->ndim) {
        if (tensor_read(c, tensor, value, base * size, size, error) != 0) return -1;
        print_value(j, key, value, d, t);
        return 0;
    }
    const struct range *r = &s->range[dim];
    if (j) json_open(j, key, '[');
    else printf(dim + 1 == s->ndim ? "[" : "[\n");
    for (uint64_t i = r->from; i < r->to; i++) {
        if (r->cut && i == r->from + EDGE) {
            i = r->to - EDGE;
            if (j) json_text(j, NULL, "...");
            else printf(dim + 1 == s->ndim ? " ..." : " ...\n");
        }
        if (print_dimension(j, d, c, tensor, s, dim + 1, base * t->shape[dim] + i, error) != 0) return -1;
    }
    if (j) json_close(j, ']');
    else printf(dim + 1 == s->ndim ? "]\n" : "]\n");
    return 0;
}

static int64_t find_named(const struct ckpt *c, const struct dump *d)
{
    for (uint32_t r = 0; role_name(r); r++) {
        if (d->role && strcmp(d->role, role_name(r)) != 0) continue;
        int64_t found = index_find(&c->index, d->argument[1], r);
        if (found >= 0) return found;
    }
    return -1;
}

static int print_tensor(struct dump *d, const struct ckpt *c, struct error *error)
{
    int64_t found = find_named(c, d);
    struct slice slice;
    char shape[200], name[300];
    if (found < 0)
        return fail(error, EXIT_NOINPUT, "%s: there is no tensor '%s'", c->path,
                    text_escape(name, sizeof name, d->argument[1], strlen(d->argument[1])));
    const struct ckpt_tensor *t = &c->index.tensor[found].public;
    if (dtype_facts(t->dtype)->block != 1)
        return fail(error, EXIT_DATA, "%s: tensor %s is of blocks (%s), which are not printed", c->path, t->name,
                    dtype_name(t->dtype));
    if (parse_slice(&slice, d->arguments == 3 ? d->argument[2] : NULL, t, error) != 0) return -1;
    double total = 1;
    for (int k = 0; k < t->ndim; k++) total *= (double)(slice.range[k].to - slice.range[k].from);
    for (int k = 0; k < t->ndim && total > ALL; k++)
        slice.range[k].cut = slice.range[k].to - slice.range[k].from > 2 * EDGE;
    if (!d->json) {
        printf("%s %s %s %s\n", t->name, role_name(t->role), dtype_name(t->dtype), shape_text(shape, t));
        int status = print_dimension(NULL, d, c, (size_t)found, &slice, 0, 0, error);
        if (t->ndim == 0) printf("\n");
        return status;
    }
    struct json j;
    json_start(&j, d);
    json_text(&j, "name", t->name);
    json_text(&j, "role", role_name(t->role));
    json_text(&j, "dtype", dtype_name(t->dtype));
    int status = print_dimension(&j, d, c, (size_t)found, &slice, 0, 0, error);
    if (status != 0) {
        bytes_free(&j.out);
        return -1;
    }
    json_end(&j);
    return 0;
}

int dump_print(struct dump *d)
{
    struct error error;
    struct ckpt *c;
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    if (print_tensor(d, c, &error) != 0) code = dump_error(&error);
    ckpt_close(c);
    return code;
}
