/* dump_diff.c - `ckpt diff`: what changed between two checkpoints, settings by key and tensors by value.  Identities
 * that differ in every save (uuids, times, weights_id) do not count.  Tensors with equal CRCs are not read. */
#include "format/ckpt/dump.h"

#include "common/base/threads.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { STEP = 32768 };                       /* elements compared at a time */

/* One tensor of both files. */
struct change { const struct ckpt *a, *b; size_t in_a, in_b; bool same_form; uint64_t changed, first;
                double largest, mean, relative, cosine; int status; struct error error; };

/* rows: the keys and tensors that differ, as facts. */
struct comparison { json_t *keys, *tensors; uint64_t lost, added, beyond, compared; };

/* ---- key-values ---- */

static void compare_kv(struct comparison *to, const char *section, const struct kv *a, const struct kv *b)
{
    json_t *x = fact_kv(a), *y = fact_kv(b), *all = json_object(), *value;
    const char *key;
    json_object_update(all, x);
    json_object_update(all, y);
    json_object_foreach(all, key, value) {
        json_t *in_a = json_object_get(x, key), *in_b = json_object_get(y, key);
        const struct kv_entry *p = kv_find(a, key), *q = kv_find(b, key);
        if (p && q && p->type == q->type && json_equal(in_a, in_b)) continue;
        json_t *row = json_pack("{s:s, s:s}", "section", section, "key", key);
        if (in_a) json_object_set(row, "a", in_a);
        if (in_b) json_object_set(row, "b", in_b);
        fact(to->keys, NULL, row);
    }
    json_decref(x);
    json_decref(y);
    json_decref(all);
}

/* The facts of the header that are not new in every save. */
static struct kv header_facts(const struct ckpt_meta *m)
{
    struct kv kv = {0};
    char text[64];
    kv_set_text(&kv, "stage", stage_name((enum stage)m->stage));
    kv_set_u64(&kv, "step", m->step);
    kv_set_u64(&kv, "tokens", m->tokens_seen);
    kv_set_text(&kv, "flags", flags_text(text, m->flags));
    snprintf(text, sizeof text, "%08x", crc32_of(0, m->tokn.data, m->tokn.size));
    if (m->tokn.size) kv_set_text(&kv, "tokenizer", text);
    return kv;
}

static void compare_meta(struct comparison *to, const struct ckpt_meta *a, const struct ckpt_meta *b)
{
    struct kv x = header_facts(a), y = header_facts(b);
    compare_kv(to, "header", &x, &y);
    for (const struct section_facts *f = section_table; f->type; f++)
        if (f->kv >= 0) compare_kv(to, f->type, &a->kv[f->kv], &b->kv[f->kv]);
    kv_free(&x);
    kv_free(&y);
}

/* ---- tensors ---- */

struct sums { double square, difference, norm_a, norm_b, dot; };

static void compare_block(struct change *c, struct sums *s, const double *x, const double *y, size_t n, uint64_t at)
{
    for (size_t i = 0; i < n; i++) {
        bool both_nan = isnan(x[i]) && isnan(y[i]);
        double d = x[i] == y[i] || both_nan ? 0 : fabs(x[i] - y[i]);
        if (isnan(d)) d = (double)INFINITY;
        if (x[i] != y[i] && !both_nan && c->changed++ == 0) c->first = at + i;
        c->largest = d > c->largest ? d : c->largest;
        s->difference += d;
        s->square += d * d;
        s->norm_a += x[i] * x[i];
        s->norm_b += y[i] * y[i];
        s->dot += x[i] * y[i];
    }
}

static void change_task(void *context, int number, int thread)
{
    struct change *c = (struct change *)context + number;
    const struct ckpt_tensor *x = &c->a->index.tensor[c->in_a], *y = &c->b->index.tensor[c->in_b];
    const uint32_t wide_x = dtype_size(x->dtype), wide_y = dtype_size(y->dtype);
    (void)thread;
    if (!c->same_form) return;
    struct sums s = {0};
    uint8_t *bytes = host_alloc(STEP, 8);
    double *vx = host_alloc(STEP, sizeof *vx), *vy = host_alloc(STEP, sizeof *vy);
    uint64_t n = tensor_elements(x);
    for (uint64_t at = 0; at < n && c->status == 0; at += STEP) {
        size_t count = n - at < STEP ? (size_t)(n - at) : STEP;
        c->status = tensor_read(c->a, c->in_a, bytes, at * wide_x, count * wide_x, &c->error);
        if (c->status == 0) dtype_to_f64(vx, bytes, count, x->dtype);
        if (c->status == 0) c->status = tensor_read(c->b, c->in_b, bytes, at * wide_y, count * wide_y, &c->error);
        if (c->status == 0) {
            dtype_to_f64(vy, bytes, count, y->dtype);
            compare_block(c, &s, vx, vy, count, at);
        }
    }
    c->mean = s.difference / (double)n;
    c->relative = s.square == 0 ? 0 : sqrt(s.square / (s.norm_a > 0 ? s.norm_a : 1));
    c->cosine = s.norm_a > 0 && s.norm_b > 0 ? s.dot / sqrt(s.norm_a) / sqrt(s.norm_b) : s.norm_a == s.norm_b;
    free(bytes);
    free(vx);
    free(vy);
}

static int by_relative(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    double rx = x->same_form ? x->relative : (double)INFINITY, ry = y->same_form ? y->relative : (double)INFINITY;
    if (rx != ry) return rx < ry || isnan(rx) ? 1 : -1;
    return (x->in_a > y->in_a) - (x->in_a < y->in_a);
}

static json_t *only_row(const struct ckpt_tensor *t, const char *where)
{
    return json_pack("{s:s, s:s, s:s}", "name", t->name, "role", role_name(t->role), "only_in", where);
}

/* Pairs that are not equal by CRC; their number.  Notes tensors without a partner. */
static size_t find_pairs(struct change **out, struct comparison *to, const struct ckpt *a, const struct ckpt *b)
{
    struct change *change = host_alloc(a->index.count, sizeof *change);
    size_t n = 0;
    for (size_t i = 0; i < a->index.count; i++) {
        const struct ckpt_tensor *x = &a->index.tensor[i];
        int64_t k = index_find(&b->index, x->name, x->role);
        if (k < 0) {
            to->lost++;
            fact(to->tensors, NULL, only_row(x, "a"));
            continue;
        }
        const struct ckpt_tensor *y = &b->index.tensor[k];
        bool shape = x->ndim == y->ndim && memcmp(x->shape, y->shape, sizeof x->shape) == 0;
        if (shape && x->dtype == y->dtype && x->crc == y->crc) continue;
        change[n++] = (struct change){.a = a, .b = b, .in_a = i, .in_b = (size_t)k, .same_form = shape};
    }
    for (size_t k = 0; k < b->index.count; k++) {
        const struct ckpt_tensor *y = &b->index.tensor[k];
        if (index_find(&a->index, y->name, y->role) >= 0) continue;
        to->added++;
        fact(to->tensors, NULL, only_row(y, "b"));
    }
    *out = change;
    return n;
}

static json_t *change_row(const struct change *c)
{
    const struct ckpt_tensor *x = &c->a->index.tensor[c->in_a], *y = &c->b->index.tensor[c->in_b];
    char shape_x[200], shape_y[200];
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", x->name, "role", role_name(x->role), "dtype_a",
                            dtype_name(x->dtype), "dtype_b", dtype_name(y->dtype), "shape_a", shape_text(shape_x, x),
                            "shape_b", shape_text(shape_y, y));
    if (!c->same_form) return row;
    fact_members(row, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "relative_l2", fact_f64(c->relative), "max_abs",
                                fact_f64(c->largest), "mean_abs", fact_f64(c->mean), "cosine", fact_f64(c->cosine),
                                "changed", fact_u64(c->changed), "first", fact_u64(c->first)));
    return row;
}

static void compare_tensors(struct dump *d, struct comparison *to, const struct ckpt *a, const struct ckpt *b)
{
    struct change *change;
    size_t n = find_pairs(&change, to, a, b);
    threads_for((int)n, change_task, change);
    qsort(change, n, sizeof *change, by_relative);
    for (size_t i = 0; i < n; i++) {
        struct change *c = &change[i];
        if (c->status != 0) quit_error(&c->error);
        to->beyond += !c->same_form || !(c->largest <= d->tol) || (c->changed == 0 && d->tol == 0);
        if (!d->top || i < (size_t)d->top) fact(to->tensors, NULL, change_row(c));
    }
    to->compared = n;
    free(change);
}

int dump_diff(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct comparison r = {.keys = json_array(), .tensors = json_array()};
    struct ckpt *a = dump_open(d, 0, NULL), *b = dump_open(d, 1, NULL);
    struct error error;
    if (a->outside.read && reader_identify(a, &error) != 0) quit_error(&error);      /* as tensors are told by CRCs */
    if (b->outside.read && reader_identify(b, &error) != 0) quit_error(&error);
    const struct ckpt_meta *x = &a->header.meta, *y = &b->header.meta;
    bool same_id = memcmp(x->weights_id, y->weights_id, 16) == 0;
    (void)c;
    if (!d->tensors_only) compare_meta(&r, x, y);
    compare_tensors(d, &r, a, b);
    size_t keys = json_array_size(r.keys);
    bool different = keys || r.lost || r.added || r.beyond;
    fact_members(facts, json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:s}", "a", fact_text(a->path), "b",
                                  fact_text(b->path), "same_weights_id", same_id, "keys", r.keys, "tensors", r.tensors,
                                  "keys_different", fact_u64(keys), "tensors_different", fact_u64(r.compared),
                                  "result", different ? "different" : "equal"));
    if (!d->json) {
        facts_table(r.keys, 0);
        facts_table(r.tensors, 0);
        if (d->top && r.compared > (uint64_t)d->top)
            printf("... and %" PRIu64 " more (--top 0 shows all)\n", r.compared - (uint64_t)d->top);
    }
    d->note = host_text("%s: %zu key%s, %" PRIu64 " of %zu tensors differ, %" PRIu64 " only in A, %" PRIu64
                        " only in B%s", different ? "different" : "equal", keys, plural((int64_t)keys), r.compared,
                        a->index.count, r.lost, r.added, same_id ? "; same weights_id" : "");
    ckpt_close(a);
    ckpt_close(b);
    return different ? EXIT_DIFFERENT : 0;
}
