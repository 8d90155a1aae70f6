/* dump_diff.c - `ckpt diff`: what changed between two checkpoints, settings by key and tensors by value.  Identities
 * that differ in every save (uuids, times, weights_id) are no difference.  Equal CRCs spare the reading. */
#include "format/dump.h"

#include "common/base/threads.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { STEP = 32768 };                       /* elements compared at a time */

/* One tensor of both files. */
struct change { const struct ckpt *a, *b; size_t in_a, in_b; bool same_crc, same_form; uint64_t changed, first;
                double largest, mean, relative, cosine; int status; struct error error; };

struct comparison { struct bytes text; struct json *json; uint64_t keys, lost, added, tensors, beyond; };

/* ---- key-values ---- */

static bool equal_entries(const struct kv_entry *x, const struct kv_entry *y)
{
    if (x->type != y->type || x->count != y->count) return false;
    size_t size = x->type == KV_BOOL ? sizeof(bool) : x->type == KV_TEXT || x->type == KV_BYTES ? 1 : 8;
    if (x->type != KV_TEXTS) return memcmp(x->value, y->value, (size_t)x->count * size) == 0;
    for (uint64_t i = 0; i < x->count; i++)
        if (strcmp(((char *const *)x->value)[i], ((char *const *)y->value)[i]) != 0) return false;
    return true;
}

static void note_key(struct comparison *to, const char *section, const char *key, const struct kv_entry *x,
                     const struct kv_entry *y)
{
    struct bytes old = {0}, new = {0};
    to->keys++;
    if (x) entry_text(&old, x, true);
    if (y) entry_text(&new, y, true);
    if (to->json) {
        json_open(to->json, NULL, '{');
        json_text(to->json, "section", section);
        json_text(to->json, "key", key);
        if (x) json_entry(to->json, "a", x);
        if (y) json_entry(to->json, "b", y);
        json_close(to->json, '}');
    } else if (x && y)
        bytes_text(&to->text, "%s %s: %s -> %s\n", section, key, old.data ? old.data : "", new.data ? new.data : "");
    else
        bytes_text(&to->text, "%s %s: only in %s: %s\n", section, key, x ? "A" : "B", (x ? old : new).data
                   ? (x ? old : new).data : "");
    bytes_free(&old);
    bytes_free(&new);
}

static void compare_kv(struct comparison *to, const char *section, const struct kv *a, const struct kv *b)
{
    for (size_t i = 0, k = 0; i < a->count || k < b->count;) {
        int order = i == a->count ? 1 : k == b->count ? -1 : strcmp(a->entry[i].key, b->entry[k].key);
        const struct kv_entry *x = order <= 0 ? &a->entry[i++] : NULL, *y = order >= 0 ? &b->entry[k++] : NULL;
        if (!x || !y || !equal_entries(x, y)) note_key(to, section, (x ? x : y)->key, x, y);
    }
}

static void compare_meta(struct comparison *to, const struct ckpt *a, const struct ckpt *b)
{
    const struct ckpt_meta *x = &a->meta, *y = &b->meta;
    struct kv head_a = {0}, head_b = {0};
    const struct { struct kv *to; const struct ckpt_meta *m; } head[] = {{&head_a, x}, {&head_b, y}};
    for (int i = 0; i < 2; i++) {
        kv_set_text(head[i].to, "stage", stage_name((enum stage)head[i].m->stage));
        kv_set_u64(head[i].to, "step", head[i].m->step);
        kv_set_u64(head[i].to, "tokens", head[i].m->tokens_seen);
        char flags[64];
        kv_set_text(head[i].to, "flags", flags_text(flags, head[i].m->flags));
        if (head[i].m->tokn.size) {
            char crc[16];
            snprintf(crc, sizeof crc, "%08x", crc32_of(0, head[i].m->tokn.data, head[i].m->tokn.size));
            kv_set_text(head[i].to, "tokenizer", crc);
        }
    }
    compare_kv(to, "header", &head_a, &head_b);
    compare_kv(to, "CONF", &x->conf, &y->conf);
    compare_kv(to, "CHAT", &x->chat, &y->chat);
    compare_kv(to, "TRNS", &x->trns, &y->trns);
    compare_kv(to, "RNGS", &x->rngs, &y->rngs);
    compare_kv(to, "DCUR", &x->dcur, &y->dcur);
    compare_kv(to, "LINE", &x->line, &y->line);
    compare_kv(to, "META", &x->meta, &y->meta);
    compare_kv(to, "EVAL", &x->eval, &y->eval);
    kv_free(&head_a);
    kv_free(&head_b);
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
    const struct ckpt_tensor *x = &c->a->index.tensor[c->in_a].public, *y = &c->b->index.tensor[c->in_b].public;
    const struct dtype_facts *fx = dtype_facts(x->dtype), *fy = dtype_facts(y->dtype);
    (void)thread;
    if (!c->same_form || fx->block != 1 || fy->block != 1) return;
    struct sums s = {0};
    uint8_t *bytes = host_alloc(STEP, 8);
    double *vx = host_alloc(STEP, sizeof *vx), *vy = host_alloc(STEP, sizeof *vy);
    uint64_t n = tensor_elements(x);
    for (uint64_t at = 0; at < n && c->status == 0; at += STEP) {
        size_t count = n - at < STEP ? (size_t)(n - at) : STEP;
        c->status = tensor_read(c->a, c->in_a, bytes, at * fx->block_bytes, count * fx->block_bytes, &c->error);
        if (c->status == 0) dtype_to_f64(vx, bytes, count, x->dtype);
        if (c->status == 0)
            c->status = tensor_read(c->b, c->in_b, bytes, at * fy->block_bytes, count * fy->block_bytes, &c->error);
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

static void note_only(struct comparison *to, const struct ckpt_tensor *t, const char *where)
{
    if (to->json) {
        json_open(to->json, NULL, '{');
        json_text(to->json, "name", t->name);
        json_text(to->json, "role", role_name(t->role));
        json_text(to->json, "only_in", where);
        json_close(to->json, '}');
    } else if ((where[0] == 'a' ? to->lost : to->added) <= 10)
        bytes_text(&to->text, "tensor %s (%s): only in %s\n", t->name, role_name(t->role), where[0] == 'a' ? "A" : "B");
}

/* Pairs that are not equal by CRC; their number.  Notes tensors without a partner. */
static size_t find_pairs(struct change **out, struct comparison *to, const struct ckpt *a, const struct ckpt *b)
{
    struct change *change = host_alloc(a->index.count, sizeof *change);
    size_t n = 0;
    for (size_t i = 0; i < a->index.count; i++) {
        const struct ckpt_tensor *x = &a->index.tensor[i].public;
        int64_t k = index_find(&b->index, x->name, x->role);
        if (k < 0) {
            to->lost++;
            note_only(to, x, "a");
            continue;
        }
        const struct ckpt_tensor *y = &b->index.tensor[k].public;
        bool shape = x->ndim == y->ndim && memcmp(x->shape, y->shape, sizeof x->shape) == 0;
        if (shape && x->dtype == y->dtype && x->crc == y->crc) continue;
        change[n++] = (struct change){.a = a, .b = b, .in_a = i, .in_b = (size_t)k, .same_form = shape};
    }
    for (size_t k = 0; k < b->index.count; k++) {
        const struct ckpt_tensor *y = &b->index.tensor[k].public;
        if (index_find(&a->index, y->name, y->role) >= 0) continue;
        to->added++;
        note_only(to, y, "b");
    }
    *out = change;
    return n;
}

static void change_json(struct json *j, const struct change *c)
{
    const struct ckpt_tensor *x = &c->a->index.tensor[c->in_a].public, *y = &c->b->index.tensor[c->in_b].public;
    char shape[200];
    json_open(j, NULL, '{');
    json_text(j, "name", x->name);
    json_text(j, "role", role_name(x->role));
    json_text(j, "dtype_a", dtype_name(x->dtype));
    json_text(j, "dtype_b", dtype_name(y->dtype));
    json_text(j, "shape_a", shape_text(shape, x));
    json_text(j, "shape_b", shape_text(shape, y));
    if (c->same_form) {
        json_f64(j, "max_abs", c->largest);
        json_f64(j, "mean_abs", c->mean);
        json_f64(j, "relative_l2", c->relative);
        json_f64(j, "cosine", c->cosine);
        json_u64(j, "changed", c->changed);
        json_u64(j, "first", c->first);
    }
    json_close(j, '}');
}

static void change_text(struct bytes *out, const struct change *c)
{
    const struct ckpt_tensor *x = &c->a->index.tensor[c->in_a].public, *y = &c->b->index.tensor[c->in_b].public;
    char sx[200], sy[200];
    if (!c->same_form) {
        bytes_text(out, "tensor %s (%s): shape %s -> %s\n", x->name, role_name(x->role), shape_text(sx, x),
                   shape_text(sy, y));
        return;
    }
    bytes_text(out, "tensor %-32s %-6s relative %9.3g  max %9.3g  mean %9.3g  cosine %.6f", x->name, role_name(x->role),
               c->relative, c->largest, c->mean, c->cosine);
    bytes_text(out, "  changed %" PRIu64 " of %" PRIu64 ", first %" PRIu64, c->changed, tensor_elements(x), c->first);
    if (x->dtype != y->dtype) bytes_text(out, "  %s -> %s", dtype_name(x->dtype), dtype_name(y->dtype));
    bytes_text(out, "\n");
}

static int compare_tensors(struct dump *d, struct comparison *to, const struct ckpt *a, const struct ckpt *b)
{
    struct change *change;
    size_t n = find_pairs(&change, to, a, b), shown = 0;
    int code = 0;
    threads_for((int)n, change_task, change);
    qsort(change, n, sizeof *change, by_relative);
    for (size_t i = 0; i < n; i++) {
        struct change *c = &change[i];
        if (c->status != 0) code = dump_error(&c->error);
        bool plain = dtype_facts(a->index.tensor[c->in_a].public.dtype)->block == 1;
        bool beyond = !c->same_form || !plain || !(c->largest <= d->tol) || (c->changed == 0 && d->tol == 0);
        to->tensors++;
        to->beyond += beyond;
        if (d->top && shown++ >= (size_t)d->top) continue;
        if (to->json) change_json(to->json, c);
        else change_text(&to->text, c);
    }
    if (!to->json && d->top && n > (size_t)d->top)
        bytes_text(&to->text, "... and %zu tensors more (--top 0 shows all)\n", n - (size_t)d->top);
    free(change);
    return code;
}

static void print_summary(const struct comparison *r, const struct ckpt *a, const struct ckpt *b, bool different)
{
    bool ids = memcmp(a->header.weights_id, b->header.weights_id, 16) == 0;
    if (r->text.size) printf("%s", r->text.data);
    printf("%s: %" PRIu64 " keys, %" PRIu64 " of %zu tensors differ, %" PRIu64 " only in A, %" PRIu64 " only in B%s\n",
           different ? "different" : "equal",
           r->keys, r->tensors, a->index.count, r->lost, r->added, ids ? "; same weights_id" : "");
}

int dump_diff(struct dump *d)
{
    struct comparison r = {0};
    struct ckpt *a, *b = NULL;
    struct json j;
    int code = dump_open(&a, d, 0, NULL);
    if (code) return code;
    code = dump_open(&b, d, 1, NULL);
    if (code) {
        ckpt_close(a);
        return code;
    }
    if (d->json) {
        r.json = &j;
        json_start(&j, d);
        json_text(&j, "a", a->path);
        json_text(&j, "b", b->path);
        json_bool(&j, "same_weights_id", memcmp(a->header.weights_id, b->header.weights_id, 16) == 0);
        json_open(&j, "keys", '[');
    }
    if (!d->tensors_only) compare_meta(&r, a, b);
    if (d->json) {
        json_close(&j, ']');
        json_open(&j, "tensors", '[');
    }
    code = compare_tensors(d, &r, a, b);
    bool different = r.keys || r.lost || r.added || r.beyond;
    if (d->json) {
        json_close(&j, ']');
        json_u64(&j, "keys_different", r.keys);
        json_u64(&j, "tensors_different", r.tensors);
        json_text(&j, "result", different ? "different" : "equal");
        json_end(&j);
    } else print_summary(&r, a, b, different);
    bytes_free(&r.text);
    ckpt_close(a);
    ckpt_close(b);
    return code ? code : different ? EXIT_DIFFERENT : 0;
}
