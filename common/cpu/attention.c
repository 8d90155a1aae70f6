/* attention.c (CPU) - softmax(q k^T) v in blocks, for training and for decoding.
 *
 * The unit is a strip: up to TILE_ROWS query rows against one block of keys.  Blocks start at fixed positions of the
 * sequence, and a masked key adds an exact 0 to sums that are never -0; so a row's bits do not depend on the rows
 * beside it, and the strip that decodes one token from the cache repeats those of training.  Keys lie as panels across
 * lanes (scores of PANEL keys at once), values as panels across channels; the cache keeps them in this form.
 * Source: Dao et al. 2022, alg. 1 (running maximum and sum). */
#include "common/cpu/attention.h"
#include "common/base/threads.h"

#include <assert.h>

enum {
    KEYS_MOST = 256, KEYS_LEAST = 32,
    KEY_FLOATS = 16384,                         /* of a block of keys; as many of values: half a second-level cache */
    SHORT = 128, GROUP = 32,                    /* rows: of a short sequence; in which those of a task begin */
    ROWS = 256,                                 /* query rows of a task, for which a block is packed once */
    SCORES_LD = KEYS_MOST + 16,                 /* not a power of two: rows would share cache sets */
    DECODE_ROWS = TILE_ROWS,
};

static int keys_in_block(int D) { return attention_block(D, KEYS_MOST, KEYS_LEAST, KEY_FLOATS); }

static size_t padded(int D) { return tile_round((size_t)D, TILE_COLUMNS); }

struct block {                                  /* keys and values from position `start` on */
    const act_t *k;
    const float *v;
    size_t v_panel;                             /* floats from one panel of values to the next */
    int start;
};

enum { QUERIES, KEYS, VALUES, RESULTS, PARTS };
struct soon {                                   /* the next head's rows, to be fetched meanwhile */
    const act_t *first[PARTS];
    size_t ld[PARTS];
    int rows;
};

struct strip {
    const struct soon *soon;                    /* NULL: nothing to fetch */
    int rows, D;
    const act_t *q; size_t ldq;
    float *y;                                   /* the weighted sum so far (rows, padded D) */
    int position, position_step;                /* of row r: position + r * position_step */
    const struct sight *sight;
    const float *slopes; int slope_step;        /* of row r: slopes[r * slope_step]; NULL: none */
    int begin;                                  /* of the first block of keys */
    float *max, *sum;                           /* of row r, so far */
};

INLINE void fetch(const struct strip *t, int part, int r)
{
    const struct soon *s = t->soon;
    if (!s || t->position + r >= s->rows) return;
    attention_fetch(s->first[part] + (size_t)(t->position + r) * s->ld[part], t->D);
}

/* Scores of the rows become exp(score - max).  Compiled once: all callers get the same bits.
 * factor: of each row, for what earlier blocks gave; has room for whole vectors */
static __attribute__((noinline)) void softmax_rows(const struct strip *t, const struct block *b, float *scores,
                                                   int keys, int width, float *factor)
{
    float scale = attention_scale(t->D), base[TILE_ROWS];
    int window = t->sight->window;
    for (int r = 0; r < t->rows; r++) {
        float *s = scores + r * SCORES_LD, slope = t->slopes ? t->slopes[r * t->slope_step] : 0;
        int distance = t->position + r * t->position_step - b->start, valid = int_min(distance + 1, keys);
        int hidden = window ? distance - window + 1 : 0;                /* keys before the window */
        vf most = v_set(-__builtin_inff());
        for (int j = 0; j < width; j += VW) {
            vf x = v_load(s + j) * scale;
            if (slope != 0) x = attention_biased(x, slope, t->sight->rounded, scale, b->start + j, distance - j);
            if (j + VW > valid) x = v_select(v_lanes() < valid - j, x, v_set(-__builtin_inff()));
            if (j < hidden) x = v_select(v_lanes() < hidden - j, v_set(-__builtin_inff()), x);
            v_store(s + j, x);
            most = v_max(x, most);
        }
        float old = b->start == t->begin ? -__builtin_inff() : t->max[r], new = v_max_lane(most);
        new = old > new ? old : new;
        base[r] = new > -__builtin_inff() ? new : 0;                    /* no key of the block is seen */
        factor[r] = old - base[r];
        t->max[r] = new;
        fetch(t, KEYS, r);
    }
    for (int r = 0; r < t->rows; r += VW) v_store(factor + r, v_exp_low(v_load(factor + r)));
    for (int r = 0; r < t->rows; r++) {
        float *s = scores + r * SCORES_LD;
        vf total = v_set(0);
        fetch(t, VALUES, r);
        for (int j = 0; j < width; j += VW) {
            vf e = v_exp_low(v_load(s + j) - base[r]);
            v_store(s + j, e);
            total += e;
        }
        t->sum[r] = b->start == t->begin ? v_sum(total) : t->sum[r] * factor[r] + v_sum(total);
    }
}

static void attend(const struct strip *t, const struct block *b, int keys)
{
    float scores[TILE_ROWS * SCORES_LD], sums[TILE_ROWS * TILE_COLUMNS], factor[TILE_ROWS + VW] = {0};
    int last = t->position + (t->rows - 1) * t->position_step;
    size_t ld = padded(t->D);
    int most = int_min(last - b->start + 1, keys), width = (int)tile_round((size_t)most, VW);
    for (int r = 0; r < t->rows; r++) fetch(t, QUERIES, r);
    for (int j = 0; j < width; j += PANEL)
        product_rows(scores + j, SCORES_LD, t->q, t->ldq, b->k + j * whole_steps(t->D), t->rows, width - j, t->D);
    softmax_rows(t, b, scores, keys, width, factor);
    for (int r = 0; r < t->rows; r++) fetch(t, RESULTS, r);
    for (int d = 0; d < t->D; d += TILE_COLUMNS) {
        bool first = b->start == t->begin;
        float *y = t->y + d, *out = first ? y : sums;
        tile_rows(out, first ? ld : (size_t)TILE_COLUMNS, NULL, 0, scores, SCORES_LD,
                  b->v + d / TILE_COLUMNS * b->v_panel, t->rows, TILE_COLUMNS, most);
        for (int r = 0; r < t->rows && !first; r++, y += ld)
            for (int c = 0; c < TILE_COLUMNS; c += VW)
                v_store(y + c, v_load(sums + r * TILE_COLUMNS + c) + factor[r] * v_load(y + c));
    }
}

/* Divides by the softmax's denominator.   y: row r at r * ldy   lse: of row r at r * ld, or NULL */
static void finish(const struct strip *t, act_t *y, size_t ldy, float *lse, size_t ld)
{
    for (int r = 0; r < t->rows; r++) {
        float *sums = t->y + r * padded(t->D), factor = 1 / t->sum[r];
        for (int d = 0; d < t->D; d += VW)
            act_store(y + r * ldy + d, v_load(sums + d) * factor, t->D - d);
        if (lse) lse[r * ld] = (float)((double)t->max[r] + log((double)t->sum[r]));
    }
}

struct forward {
    act_t *y;
    float *lse;
    const act_t *qkv;
    const struct sight *sight;
    const int *offsets;
    int S, N, H, G, D, keys, long_tasks;
};

/* Where things lie in a thread's scratch. */
struct room { act_t *k_panels; float *v_panels, *y; };

static struct room room_of(int thread, int keys, int D)
{
    float *start = scratch_of(thread).attention;
    struct room m = {.k_panels = (act_t *)(void *)start};
    m.v_panels = start + tile_round((size_t)keys, PANEL) * whole_steps(D);
    m.y = m.v_panels + padded(D) * keys;
    assert(m.y + ROWS * padded(D) <= start + SCRATCH_FLOATS);
    return m;
}

/* Rows from .. to - 1 of a sequence that starts at row `start`, for query head h.   soon: or NULL */
static void attend_rows(const struct forward *f, int start, int from, int to, int h, const struct soon *soon,
                        const struct room *m)
{
    int D = f->D, g = h / (f->H / f->G), end = to - start;          /* positions below end are seen */
    size_t ld = (size_t)(f->H + 2 * f->G) * D, panel = (size_t)f->keys * TILE_COLUMNS;
    int window = f->sight->window;
    float max[ROWS], sum[ROWS];
    const act_t *k = f->qkv + start * ld + (size_t)(f->H + g) * D, *v = k + (size_t)f->G * D;
    for (int j = attention_begin(from - start, window, f->keys); j < end; j += f->keys) {
        int n = int_min(f->keys, end - j);
        struct block block = {m->k_panels, m->v_panels, panel, j};
        attention_pack_columns(m->k_panels, k + j * ld, ld, n, D);
        attention_pack_rows(m->v_panels, panel, v + j * ld, ld, n, D);
        for (int i = int_max(from - start, j), rows; i < end && (!window || i - window + 1 < j + n); i += rows) {
            int edge = (i / f->keys + 1) * f->keys, at = start + i - from;      /* a strip lies in one block */
            rows = int_min(int_min(TILE_ROWS, end - i), edge - i);
            size_t row = (size_t)(start + i);
            struct strip t = {.soon = soon, .rows = rows, .D = D, .q = f->qkv + row * ld + (size_t)h * D, .ldq = ld,
                              .y = m->y + at * padded(D),
                              .position = i, .position_step = 1, .sight = f->sight,
                              .begin = attention_begin(i, window, f->keys),
                              .slopes = f->sight->slopes ? f->sight->slopes + h : NULL, .max = max + at, .sum = sum + at};
            attend(&t, &block, n);
            if (edge == j + f->keys)
                finish(&t, f->y + (row * f->H + h) * D, (size_t)f->H * D, f->lse + row * f->H + h, (size_t)f->H);
        }
    }
}

/* The sequence that owns a row: the last with offsets[s] <= row. */
static int owner(const int *offsets, int S, int row)
{
    int low = 0, high = S;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (offsets[middle] <= row) low = middle;
        else high = middle;
    }
    return low;
}

/* Head h of sequence s, or with h = H the next sequence's first. */
static struct soon soon_of(const struct forward *f, int s, int h)
{
    int D = f->D;
    if (h == f->H) s++, h = 0;
    if (s == f->S) return (struct soon){.rows = 0};
    size_t row = (size_t)f->offsets[s], ld = (size_t)(f->H + 2 * f->G) * D, ldy = (size_t)f->H * D;
    const act_t *first = f->qkv + row * ld, *k = first + (size_t)(f->H + h / (f->H / f->G)) * D;
    return (struct soon){{first + (size_t)h * D, k, k + (size_t)f->G * D, f->y + row * ldy + (size_t)h * D},
                         {ld, ld, ld, ldy}, f->offsets[s + 1] - f->offsets[s]};
}

/* Task: of long sequences ROWS rows of the flat batch, one head; the last rows first: they have most keys.  After
 * these: all heads of the short sequences that begin in GROUP rows.  Their rows take longer to come from memory than
 * to compute with, so each head fetches the next one's. */
static void forward_task(void *context, int i, int thread)
{
    const struct forward *f = context;
    int group = i - f->long_tasks, chunk = f->long_tasks / f->H - 1 - i / f->H;
    int from = group >= 0 ? group * GROUP : chunk * ROWS, end = int_min(from + (group >= 0 ? GROUP : ROWS), f->N);
    struct room room = room_of(thread, f->keys, f->D);
    for (int s = owner(f->offsets, f->S, from); s < f->S && f->offsets[s] < end; s++) {
        int start = f->offsets[s], to = f->offsets[s + 1];
        bool is_short = to - start <= SHORT;
        if (group < 0 && !is_short)
            attend_rows(f, start, int_max(start, from), int_min(to, end), i % f->H, NULL, &room);
        for (int h = 0; h < f->H && group >= 0 && is_short && start >= from; h++) {
            struct soon soon = soon_of(f, s, h + 1);
            attend_rows(f, start, start, to, h, &soon, &room);
        }
    }
    product_end();
}

static bool any_long(const int *offsets, int S)
{
    for (int s = 0; s < S; s++)
        if (offsets[s + 1] - offsets[s] > SHORT) return true;
    return false;
}

void attention_forward(act_t *y, float *lse, const act_t *qkv, const int *offsets, const struct sight *sight, int S, int N,
                       int H, int G, int D)
{
    assert(D >= 1 && D <= HEAD_MOST && H % G == 0 && (N == 0 || offsets[S] == N));
    struct forward f = {y, lse, qkv, sight, offsets, S, N, H, G, D, keys_in_block(D),
                        any_long(offsets, S) ? (N + ROWS - 1) / ROWS * H : 0};
    threads_for(f.long_tasks + (N + GROUP - 1) / GROUP, forward_task, &f);
}

/* ---- the cache: slots x key heads, each (capacity / panel) panels of keys, then panels of values ---- */

struct cached {
    act_t *y, *cache;
    const act_t *qkv;
    const struct sight *sight;
    const int *slots, *positions;
    int N, H, G, D, keys, capacity;
};

static act_t *cache_at(const struct cached *c, int slot, int g)
{
    return c->cache + ((size_t)slot * c->G + g) * c->capacity * (whole_steps(c->D) + padded(c->D));
}

size_t attention_cache_elements(int slots, int capacity, int G, int D)
{
    return (size_t)slots * G * tile_round((size_t)capacity, PANEL) * (whole_steps(D) + padded(D));
}

static void write_task(void *context, int i, int thread)
{
    const struct cached *c = context;
    int D = c->D, TC = TILE_COLUMNS;
    (void)thread;
    for (int row = i * DECODE_ROWS; row < int_min((i + 1) * DECODE_ROWS, c->N); row++)
        for (int g = 0; g < c->G; g++) {
            int position = c->positions[row];
            act_t *keys = cache_at(c, c->slots[row], g), *values = keys + c->capacity * whole_steps(D);
            const act_t *k = c->qkv + (size_t)row * (c->H + 2 * c->G) * D + (size_t)(c->H + g) * D;
            const act_t *v = k + (size_t)c->G * D;
            act_t *to = keys + position / PANEL * PANEL * whole_steps(D) + position % PANEL * STEP;
            for (int d = 0; d < (int)whole_steps(D); d++)
                to[(size_t)(d / STEP) * PANEL * STEP + d % STEP] = d < D ? k[d] : (act_t){0};
            for (int d = 0; d < D; d++) values[((size_t)(d / TC) * c->capacity + position) * TC + d % TC] = v[d];
        }
}

/* n keys and values of the cache from position j on; values as floats. */
static struct block cached_block(const struct cached *c, const act_t *keys, int j, int n, const struct room *m)
{
    int TC = TILE_COLUMNS, D = c->D;
    size_t ld = (size_t)TC, from = (size_t)c->capacity * TC;
    const act_t *k = keys + j * whole_steps(D), *v = keys + c->capacity * whole_steps(D) + (size_t)j * TC;
    if (act_floats(v)) return (struct block){k, act_floats(v), from, j};
    for (size_t d = 0; d < padded(D); d += TILE_COLUMNS, v += from)
        attention_floats(m->v_panels + d * n, v, &ld, n, TC);
    return (struct block){k, m->v_panels, (size_t)n * TC, j};
}

static void attend_cached(const struct cached *c, const struct strip *t, const act_t *keys, const struct room *m)
{
    int end = t->position + (t->rows - 1) * t->position_step + 1;
    for (int j = t->begin; j < end; j += c->keys) {
        int n = int_min(c->keys, end - j);
        struct block block = cached_block(c, keys, j, n, m);
        attend(t, &block, n);
    }
}

/* Rows that follow one another in one slot and one block of keys: how many from `row` on, below end. */
static int run_length(const struct cached *c, int row, int end)
{
    int n = 1;
    while (row + n < end && c->slots[row + n] == c->slots[row] && c->positions[row + n] == c->positions[row] + n &&
           c->positions[row + n] % c->keys != 0) n++;
    return n;
}

/* Task: DECODE_ROWS rows, one key head.  A strip is made of consecutive rows, or of the query heads that share the
 * keys. */
static void cached_task(void *context, int i, int thread)
{
    const struct cached *c = context;
    int D = c->D, g = i % c->G, group = c->H / c->G;
    int row = i / c->G * DECODE_ROWS, end = int_min(row + DECODE_ROWS, c->N);
    size_t ld = (size_t)(c->H + 2 * c->G) * D, ldy = (size_t)c->H * D;
    struct room room = room_of(thread, c->keys, D);
    float max[TILE_ROWS], sum[TILE_ROWS];
    for (int n; row < end; row += n) {
        n = run_length(c, row, end);
        bool down = n >= group;
        if (!down) n = 1;
        for (int h = g * group, rows; h < (g + 1) * group; h += down ? 1 : rows) {
            rows = down ? n : int_min(TILE_ROWS, (g + 1) * group - h);
            struct strip t = {.rows = rows, .D = D, .q = c->qkv + row * ld + (size_t)h * D,
                              .ldq = down ? ld : (size_t)D, .y = room.y,
                              .position = c->positions[row], .position_step = down, .sight = c->sight,
                              .begin = attention_begin(c->positions[row], c->sight->window, c->keys),
                              .slopes = c->sight->slopes ? c->sight->slopes + h : NULL, .slope_step = !down,
                              .max = max, .sum = sum};
            attend_cached(c, &t, cache_at(c, c->slots[row], g), &room);
            finish(&t, c->y + row * ldy + (size_t)h * D, down ? ldy : (size_t)D, NULL, 0);
        }
    }
    product_end();
}

void attention_cached(act_t *y, act_t *cache, const act_t *qkv, const int *slots, const int *positions,
                      const struct sight *sight, int N, int H, int G, int D, int n_slots, int capacity)
{
    assert(D >= 1 && D <= HEAD_MOST && H % G == 0);
    for (int i = 0; i < N; i++)
        assert(slots[i] >= 0 && slots[i] < n_slots && positions[i] >= 0 && positions[i] < capacity);
    struct cached c = {y, cache, qkv, sight, slots, positions, N, H, G, D, keys_in_block(D),
                       (int)tile_round((size_t)capacity, PANEL)};
    int chunks = (N + DECODE_ROWS - 1) / DECODE_ROWS;
    threads_for(chunks, write_task, &c);
    threads_for(chunks * G, cached_task, &c);
}
