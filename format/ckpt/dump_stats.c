/* dump_stats.c - `ckpt stats` and `ckpt print`: the numbers themselves. */
#include "format/ckpt/dump.h"

#include "common/base/threads.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- stats ---- */

enum { STEP = 1 << 18 };                      /* bytes read at a time */

static void scan_task(void *context, int number, int thread)
{
    struct scan *s = (struct scan *)context + number;
    const struct ckpt_tensor *t = &s->c->index.tensor[s->tensor];
    uint32_t size = dtype_size(t->dtype);
    uint8_t *buffer = host_alloc(STEP, 1);
    double *x = host_alloc(STEP, sizeof *x);
    struct moments all = {0}, part;
    (void)thread;
    for (uint64_t at = 0; at < t->bytes; at += STEP) {
        size_t n = t->bytes - at < STEP ? (size_t)(t->bytes - at) : STEP;
        s->status = tensor_read(s->c, s->tensor, buffer, at, n, &s->error);
        if (s->status != 0) break;
        moments_of(&part, buffer, n, t->dtype);
        moments_add(&all, &part);
        if (s->exponent) dtype_to_f64(x, buffer, n / size, t->dtype);
        for (size_t i = 0; s->exponent && i < n / size; i++)
            if (x[i] != 0 && isfinite(x[i])) s->exponent[ilogb(x[i]) + EXPONENT_BIAS]++;
    }
    s->stats = moments_stats(&all);
    free(buffer);
    free(x);
}

void scan_all(struct scan *scan, size_t n) { threads_for((int)n, scan_task, scan); }

static json_t *scan_row(const struct scan *s)
{
    const struct ckpt_tensor *t = &s->c->index.tensor[s->tensor];
    const struct stats *st = &s->stats;
    double finite = (double)(tensor_elements(t) - st->nan - st->inf);
    json_t *row = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", t->name, "role",
                            role_name(t->role), "min", fact_f64(st->min), "max", fact_f64(st->max), "mean",
                            fact_f64(st->mean), "std", fact_f64(st->std), "absmax", fact_f64(st->absmax), "l2",
                            fact_f64(sqrt(finite * (st->std * st->std + st->mean * st->mean))), "nan",
                            fact_u64(st->nan), "inf", fact_u64(st->inf), "zero", fact_u64(st->zero));
    if (!s->exponent) return row;
    json_t *exponents = json_object();
    for (int e = 0; e < EXPONENTS; e++) {
        char key[16];
        snprintf(key, sizeof key, "%d", e - EXPONENT_BIAS);
        if (s->exponent[e]) fact(exponents, key, fact_u64(s->exponent[e]));
    }
    fact(row, "exponents", exponents);
    return row;
}

/* Counts from the lowest to the highest exponent met, on a scale of logarithms. */
static void print_hist(const struct scan *s)
{
    const uint64_t *exponent = s->exponent;
    int low = 0, high = EXPONENTS - 1;
    uint64_t most = 1;
    while (low < EXPONENTS && !exponent[low]) low++;
    if (low == EXPONENTS) return;
    while (!exponent[high]) high--;
    if (high - low > 79) low = high - 79;
    for (int e = low; e <= high; e++) most = exponent[e] > most ? exponent[e] : most;
    printf("%s\n    2^%-5d ", s->c->index.tensor[s->tensor].name, low - EXPONENT_BIAS);
    for (int e = low; e <= high; e++) {
        double share = log1p((double)exponent[e]) / log1p((double)most);
        putchar(" .:-=+*#%@"[exponent[e] ? 1 + (int)(share * 8) : 0]);
    }
    printf(" 2^%d\n", high - EXPONENT_BIAS);
}

int dump_stats(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct scan *scan = host_alloc(c->index.count, sizeof *scan);
    json_t *rows = json_array();
    size_t n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        if (!dump_wants(d, &c->index.tensor[i], d->arguments == 2 ? d->argument[1] : NULL)) continue;
        scan[n] = (struct scan){.c = c, .tensor = i};
        if (c->stats) scan[n].stats = c->stats[i];
        if (d->hist) scan[n].exponent = host_alloc(EXPONENTS, sizeof *scan->exponent);
        n++;
    }
    if (d->hist || d->recompute || !c->stats) scan_all(scan, n);
    for (size_t i = 0; i < n; i++) {
        if (scan[i].status != 0) quit_error(&scan[i].error);
        fact(rows, NULL, scan_row(&scan[i]));
        if (d->hist && !d->json) print_hist(&scan[i]);
        free(scan[i].exponent);
    }
    fact(facts, "tensors", rows);
    if (n == 0) d->note = host_text("0 tensors");
    free(scan);
    return 0;
}

/* ---- print ---- */

/* numpy's habit: over 1000 values, three from either end of each dimension */
enum { EDGE = 3, ALL = 1000 };

struct range { uint64_t from, to; bool cut; };
struct slice { const struct ckpt *c; size_t tensor; bool hex; struct range range[CKPT_MAX_DIMS]; };

/* Moves *at past a number; false when there is none. */
static bool number(uint64_t *out, const char **at)
{
    if (**at < '0' || **at > '9') return false;
    *out = strtoull(*at, (char **)at, 10);
    return true;
}

/* "2:5,:,7" against the shape; absent dimensions are whole. */
static int parse_slice(struct range *range, const char *text, const struct ckpt_tensor *t, struct error *error)
{
    for (int d = 0; d < t->ndim; d++) range[d] = (struct range){0, t->shape[d], false};
    for (int d = 0; text && *text; d++) {
        if (d == t->ndim)
            return fail(error, EXIT_USAGE, "the slice has more than the %d dimensions of tensor %s", t->ndim, t->name);
        struct range *r = &range[d];
        const char *item = text;
        bool from = number(&r->from, &text);
        if (*text == ':') {
            text++;
            number(&r->to, &text);
        } else if (from) r->to = r->from + 1;
        if (*text != ',' && *text != 0)
            return fail(error, EXIT_USAGE, "'%s' is not a slice (expected items like 3, 0:4 or : with commas between)",
                        item);
        if (r->from >= r->to || r->to > t->shape[d])
            return fail(error, EXIT_USAGE, "%" PRIu64 ":%" PRIu64 " is outside dimension %d of tensor %s, which has %"
                        PRIu64, r->from, r->to, d, t->name, t->shape[d]);
        text += *text == ',';
    }
    double total = 1;
    for (int d = 0; d < t->ndim; d++) total *= (double)(range[d].to - range[d].from);
    for (int d = 0; d < t->ndim && total > ALL; d++) range[d].cut = range[d].to - range[d].from > 2 * EDGE;
    return 0;
}

/* Dimension `dim` from element number `base` on, as nested arrays with "..." where values are left out. */
static json_t *slice_values(const struct slice *s, int dim, uint64_t base)
{
    const struct ckpt_tensor *t = &s->c->index.tensor[s->tensor];
    const struct range *r = &s->range[dim];
    uint32_t size = dtype_size(t->dtype);
    if (dim == t->ndim) {
        uint8_t bytes[8], reversed[8];
        double value;
        struct error error;
        if (tensor_read(s->c, s->tensor, bytes, base * size, size, &error) != 0) quit_error(&error);
        for (uint32_t b = 0; b < size; b++) reversed[b] = bytes[size - 1 - b];
        if (s->hex) return fact_hex(reversed, size);
        dtype_to_f64(&value, bytes, 1, t->dtype);
        return fact_f64(value);
    }
    json_t *list = json_array();
    for (uint64_t i = r->from; i < r->to; i++) {
        if (r->cut && i == r->from + EDGE) {
            i = r->to - EDGE;
            fact(list, NULL, json_string("..."));
        }
        fact(list, NULL, slice_values(s, dim + 1, base * t->shape[dim] + i));
    }
    return list;
}

static void print_values(const json_t *value)
{
    const json_t *first = json_array_get(value, 0);
    if (json_is_real(value)) printf(" %12.7g", json_real_value(value));
    else if (!first) printf(" %s", json_string_value(value));
    else {
        printf(json_is_array(first) ? "[\n" : "[");
        for (size_t i = 0; i < json_array_size(value); i++) {
            print_values(json_array_get(value, i));
            if (json_is_array(first) && json_is_string(json_array_get(value, i))) printf("\n");
        }
        printf("]\n");
    }
}

int dump_print(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct slice slice = {.c = c, .hex = d->hex};
    struct error error;
    char shape[200];
    const char *wanted = d->argument[1];
    int64_t found = -1;
    for (uint32_t r = 0; role_name(r) && found < 0; r++)
        if (d->role == 0 || d->role - 1 == (int)r) found = index_find(&c->index, wanted, r);
    if (found < 0) quit(EXIT_NOINPUT, "%s: there is no tensor '%s'", c->path, text_shown(wanted).text);
    const struct ckpt_tensor *t = &c->index.tensor[found];
    slice.tensor = (size_t)found;
    if (parse_slice(slice.range, d->arguments == 3 ? d->argument[2] : NULL, t, &error) != 0) quit_error(&error);
    json_t *values = slice_values(&slice, 0, 0);
    fact_members(facts, json_pack("{s:s, s:s, s:s, s:o}", "name", t->name, "role", role_name(t->role), "dtype",
                                  dtype_name(t->dtype), "values", values));
    if (d->json) return 0;
    printf("%s %s %s %s\n", t->name, role_name(t->role), dtype_name(t->dtype), shape_text(shape, t));
    print_values(values);
    if (t->ndim == 0) printf("\n");
    return 0;
}
