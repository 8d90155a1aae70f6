/* attention_backward.c (CPU) - gradients of attention, without atomics: a task owns one query head of one sequence.
 *
 * For each block of keys, against each block of queries from it on, probabilities are made again from the scores and
 * lse, and five products follow: scores, dy v^T, dq, dk, dv.  Where query heads share keys each writes its dk and dv
 * into work, and they are added in ascending order of the heads.   Source: Dao et al. 2022, alg. 4. */
#include "common/cpu/attention.h"
#include "common/base/threads.h"

#include <assert.h>

enum { KEYS_MOST = 128, KEYS_LEAST = 32, QUERIES_MOST = 64, QUERIES_LEAST = 16, BLOCK_FLOATS = 8192,
      LD = KEYS_MOST + 16,
      SHORT = 128 };                            /* rows of a sequence all of whose heads are one task */

struct backward {
    /* shared: (N,H,2D), dk and dv of each query head, where H > G; else NULL */
    act_t *dqkv;
    float *delta, *shared, *dq;                 /* dq: (N,H,D), where dqkv does not hold floats; else NULL */
    const act_t *dy, *y, *qkv;
    const float *lse;
    const struct sight *sight;
    const int *offsets;
    int N, H, G, D, keys, queries;
};

struct query_head {                                   /* one head of one sequence; all at its first row */
    const struct backward *b;
    const act_t *q, *k, *v, *dy, *y;
    const float *lse;
    float *dq, *delta;
    act_t *dq_act, *dk_act, *dv_act;
    float *dk_shared, *dv_shared;               /* dk and dv go here, or (NULL) to the act_t above */
    size_t ld, ldy, lddq, ldk;                  /* between rows of q, k, v; of y, dy; of dq; of dk_shared, dv_shared */
    float slope, scale;
    int T;
    act_t *k_columns, *v_columns;                                           /* scratch */
    float *k_rows, *q_rows, *dy_rows, *dk_sum, *dv_sum, *p, *ds;
    const struct query_head *soon;              /* the thread's next head, to be fetched meanwhile; T = 0: none */
};

/* Row `row` of one of the next head's arrays. */
INLINE void fetch(const struct query_head *t, const act_t *first, size_t ld, int row)
{
    if (row < t->soon->T) attention_fetch(first + (size_t)row * ld, t->b->D);
}

struct sums { float *dk, *dv; size_t ld; };

/* Lays the blocks out in scratch.  Returns their floats. */
static size_t lay_out(struct query_head *t, float *at)
{
    const struct backward *b = t->b;
    size_t width = tile_round((size_t)b->D, TILE_COLUMNS);
    size_t keys = (size_t)b->keys * width, queries = (size_t)b->queries * width;
    float *start = at;
    t->k_columns = (act_t *)(void *)at; at += keys;
    t->v_columns = (act_t *)(void *)at; at += keys;
    t->k_rows = at; at += keys;
    t->dk_sum = at; at += keys;
    t->dv_sum = at; at += keys;
    t->q_rows = at; at += queries;
    t->dy_rows = at; at += queries;
    t->p = at; at += b->queries * LD;
    t->ds = at; at += b->queries * LD;
    return (size_t)(at - start);
}

/* to[r * ld + d] = or += sums, for a tile at channel d. */
static void put(float *to, size_t ld, const float *sums, int rows, int n, bool add)
{
    for (int r = 0; r < rows; r++, to += ld, sums += TILE_COLUMNS) {
        int c = 0;
        for (; c + VW <= n; c += VW) {
            vf x = v_load(sums + c);
            if (add) x += v_load(to + c);
            v_store(to + c, x);
        }
        for (; c < n; c++) to[c] = add ? to[c] + sums[c] : sums[c];
    }
}

/* Row i of the sequence against keys j..j+width-1:  p = exp(score - lse),  ds = p (dp - delta) / sqrt(D), 0 where
 * masked. */
static void probabilities(const struct query_head *t, float *p, float *ds, int i, int j, int width)
{
    int window = t->b->sight->window, hidden = window ? i - window + 1 : 0;      /* keys before the window */
    float lse = t->lse[(size_t)i * t->b->H], delta = t->delta[(size_t)i * t->b->H];
    for (int c = 0; c < width; c += VW) {
        vf x = v_load(p + c) * t->scale - lse;
        if (t->slope != 0)
            x = attention_biased(x, t->slope, t->b->sight->rounded, t->scale, j + c, i - j - c);
        vf e = v_exp_low(x);
        if (j + c + VW > i + 1) e = v_select(v_lanes() <= i - j - c, e, v_set(0));
        if (j + c < hidden) e = v_select(v_lanes() < hidden - j - c, v_set(0), e);
        v_store(p + c, e);
        v_store(ds + c, e * (v_load(ds + c) - delta) * t->scale);
    }
}

/* Queries i0..i0+m-1 against the packed keys j0..j0+n-1: p and ds, and dq. */
static void query_rows(const struct query_head *t, int i0, int m, int j0, int n)
{
    int D = t->b->D;
    float sums[TILE_ROWS * TILE_COLUMNS];
    for (int r = 0; r < m; r += TILE_ROWS) {
        int rows = int_min(TILE_ROWS, m - r), i = i0 + r;
        int most = int_min(n, i + rows - j0), width = (int)tile_round((size_t)most, VW);
        float *p = t->p + r * LD, *ds = t->ds + r * LD;
        const struct query_head *s = t->soon;
        for (int a = 0; a < rows; a++) fetch(t, s->dy, s->ldy, i + a);
        for (int c = 0; c < width; c += PANEL) {
            size_t at = (size_t)c * whole_steps(D);
            product_rows(p + c, LD, t->q + i * t->ld, t->ld, t->k_columns + at, rows, width - c, D);
            product_rows(ds + c, LD, t->dy + i * t->ldy, t->ldy, t->v_columns + at, rows, width - c, D);
        }
        for (int a = 0; a < rows; a++) {
            probabilities(t, p + a * LD, ds + a * LD, i + a, j0, width);
            fetch(t, s->y, s->ldy, i + a);
            fetch(t, s->v, s->ld, i + a);
            for (int c = width; c < width + TILE_ROWS; c += VW) {           /* key_rows may read so far */
                v_store(p + a * LD + c, v_set(0));
                v_store(ds + a * LD + c, v_set(0));
            }
        }
        for (int a = 0; a < rows; a++) fetch(t, s->k, s->ld, i + a);
        for (int d = 0; d < D; d += TILE_COLUMNS) {
            bool whole = D - d >= TILE_COLUMNS, add = t->b->sight->window || j0 > 0;
            float *dq = t->dq + i * t->lddq + d;
            tile_rows(whole ? dq : sums, whole ? t->lddq : (size_t)TILE_COLUMNS, whole && add ? dq : NULL, t->lddq,
                      ds, LD, t->k_rows + (size_t)d * n, rows, TILE_COLUMNS, most);
            if (!whole) put(dq, t->lddq, sums, rows, D - d, add);
        }
    }
}

/* dk += ds^T q and dv += p^T dy over m queries, from 0 for those that see a key first; `late`: how many queries lie
 * before the first key.   to: where the sums go */
static void key_rows(const struct query_head *t, int m, int n, int late, const struct sums *to)
{
    static const float zeros[TILE_COLUMNS];
    int width = (int)tile_round((size_t)t->b->D, TILE_COLUMNS);
    for (int c = 0; c < n; c += TILE_ROWS) {
        /* earlier queries do not see these keys */
        int rows = int_min(TILE_ROWS, n - c), from = int_max(0, c - late);
        if (from >= m) break;
        const struct query_head *s = t->soon;
        for (int a = 0; a < rows; a++) fetch(t, s->q, s->ld, c + a), fetch(t, s->dq_act, s->ld, c + a);
        for (int d = 0; d < width; d += TILE_COLUMNS) {
            size_t at = (size_t)c * width + d, panel = (size_t)d * m + (size_t)from * TILE_COLUMNS;
            size_t out = (size_t)c * to->ld + d, ld = c >= late ? 0 : (size_t)width;
            tile_columns(to->dv + out, to->ld, c >= late ? zeros : t->dv_sum + at, ld, t->p + from * LD + c, LD,
                         t->dy_rows + panel, rows, m - from);
            for (int a = 0; a < rows && d == 0; a++)
                fetch(t, s->dk_act, s->ld, c + a), fetch(t, s->dv_act, s->ld, c + a);
            tile_columns(to->dk + out, to->ld, c >= late ? zeros : t->dk_sum + at, ld, t->ds + from * LD + c, LD,
                         t->q_rows + panel, rows, m - from);
        }
    }
}

static void key_block(const struct query_head *t, int j, int n)
{
    const struct backward *b = t->b;
    int D = b->D;
    size_t width = tile_round((size_t)D, TILE_COLUMNS), row = (size_t)j;
    struct sums between = {t->dk_sum, t->dv_sum, width}, direct = {NULL};      /* the last ones go where they belong */
    if (D % TILE_COLUMNS == 0 && t->dk_shared)
        direct = (struct sums){t->dk_shared + row * t->ldk, t->dv_shared + row * t->ldk, t->ldk};
    else if (D % TILE_COLUMNS == 0 && act_floats(t->dk_act))
        direct = (struct sums){act_floats(t->dk_act) + row * t->ld, act_floats(t->dv_act) + row * t->ld, t->ld};
    attention_pack_columns(t->v_columns, t->v + j * t->ld, t->ld, n, D);
    attention_pack_columns(t->k_columns, t->k + j * t->ld, t->ld, n, D);
    attention_pack_rows(t->k_rows, (size_t)n * TILE_COLUMNS, t->k + j * t->ld, t->ld, n, D);
    int window = b->sight->window, end = window && j + n - 1 < t->T - window ? j + n - 1 + window : t->T;
    for (int i = j; i < end; i += b->queries) {
        int m = int_min(b->queries, t->T - i);
        attention_pack_rows(t->q_rows, (size_t)m * TILE_COLUMNS, t->q + i * t->ld, t->ld, m, D);
        attention_pack_rows(t->dy_rows, (size_t)m * TILE_COLUMNS, t->dy + i * t->ldy, t->ldy, m, D);
        query_rows(t, i, m, j, n);
        key_rows(t, m, n, i - j, direct.dk && i + b->queries >= end ? &direct : &between);
    }
    if (direct.dk) return;
    for (size_t r = 0; r < (size_t)n; r++, row++) {
        const float *dk = t->dk_sum + r * width, *dv = t->dv_sum + r * width;
        if (t->dk_shared) {
            memcpy(t->dk_shared + row * t->ldk, dk, (size_t)D * sizeof *dk);
            memcpy(t->dv_shared + row * t->ldk, dv, (size_t)D * sizeof *dv);
        } else {
            attention_store(t->dk_act + row * t->ld, dk, D);
            attention_store(t->dv_act + row * t->ld, dv, D);
        }
    }
}

/* delta = dy . y, the part of the softmax's gradient that all keys of a row share. */
static void deltas(const struct query_head *t)
{
    int D = t->b->D;
    for (int i = 0; i < t->T; i++) {
        const act_t *dy = t->dy + i * t->ldy, *y = t->y + i * t->ldy;
        vf sum = v_set(0);
        for (int d = 0; d < D; d += VW) sum += act_load(dy + d, D - d) * act_load(y + d, D - d);
        t->delta[(size_t)i * t->b->H] = v_sum(sum);
    }
}

static struct query_head head_at(const struct backward *b, int number, int thread)
{
    int H = b->H, D = b->D, h = number % H, g = h / (H / b->G);
    size_t start = (size_t)b->offsets[number / H], ld = (size_t)(H + 2 * b->G) * D, ldy = (size_t)H * D;
    act_t *dk = b->dqkv + start * ld + (size_t)(H + g) * D;
    struct query_head t = {.b = b, .ld = ld, .ldy = ldy, .T = b->offsets[number / H + 1] - (int)start,
                     .scale = attention_scale(D), .slope = b->sight->slopes ? b->sight->slopes[h] : 0,
                     .q = b->qkv + start * ld + (size_t)h * D, .k = b->qkv + start * ld + (size_t)(H + g) * D,
                     .v = b->qkv + start * ld + (size_t)(H + b->G + g) * D,
                     .dq_act = b->dqkv + start * ld + (size_t)h * D, .dk_act = dk, .dv_act = dk + (size_t)b->G * D,
                     .dy = b->dy + start * ldy + (size_t)h * D, .y = b->y + start * ldy + (size_t)h * D,
                     .lse = b->lse + start * H + h, .delta = b->delta + start * H + h, .ldk = 2 * ldy};
    t.dq = b->dq ? b->dq + start * ldy + (size_t)h * D : act_floats(t.dq_act);
    t.lddq = b->dq ? ldy : ld;
    if (b->shared) {
        t.dk_shared = b->shared + start * t.ldk + (size_t)h * 2 * D;
        t.dv_shared = t.dk_shared + D;
    }
    size_t floats = lay_out(&t, scratch_of(thread).attention);
    assert(floats <= SCRATCH_FLOATS);
    return t;
}

static void head(const struct query_head *t)
{
    const struct backward *b = t->b;
    for (int i = 0; b->sight->window && i < t->T; i++)      /* it is added up from whichever keys a row sees first */
        memset(t->dq + i * t->lddq, 0, (size_t)b->D * sizeof *t->dq);
    deltas(t);
    for (int j = 0; j < t->T; j += b->keys) key_block(t, j, int_min(b->keys, t->T - j));
    for (int i = 0; i < t->T && b->dq; i++) attention_store(t->dq_act + i * t->ld, t->dq + i * t->lddq, b->D);
}

/* Task: one head, or of a short sequence all; these wait for memory longer than they compute, so each fetches the next
 * one's rows. */
static void head_task(void *context, int number, int thread)
{
    const struct backward *b = context;
    struct query_head t = head_at(b, number, thread), soon = {.T = 0};
    bool is_short = t.T <= SHORT;
    if (is_short && number % b->H) return;
    for (int n = is_short ? b->H : 1; n > 0; n--, t = soon) {
        if (n > 1) soon = head_at(b, ++number, thread);
        else soon.T = 0;
        t.soon = &soon;
        head(&t);
    }
    product_end();
}

static void share_task(void *context, int row, int thread)
{
    const struct backward *b = context;
    int H = b->H, G = b->G, D = b->D, group = H / G;
    (void)thread;
    for (int g = 0; g < G; g++)
        for (int part = 0; part < 2; part++) {              /* keys, values */
            act_t *to = b->dqkv + (size_t)row * (H + 2 * G) * D + (size_t)(H + part * G + g) * D;
            const float *from = b->shared + ((size_t)row * H + (size_t)g * group) * 2 * D + (size_t)part * D;
            for (int d = 0; d < D; d += VW) {
                vf sum = v_load_upto(from + d, D - d);
                for (int h = 1; h < group; h++) sum += v_load_upto(from + (size_t)h * 2 * D + d, D - d);
                act_store(to + d, sum, D - d);
            }
        }
}

size_t attention_backward_work(int max_N, int H, int G, int D)
{
    bool copies = sizeof(act_t) < sizeof(float);        /* of dq */
    return (size_t)max_N * H * (1 + (H > G ? 2 * (size_t)D : 0) + (copies ? (size_t)D : 0));
}

void attention_backward(act_t *dqkv, const act_t *dy, const act_t *y, const float *lse, const act_t *qkv,
                        const int *offsets, const struct sight *sight, float *work, int S, int N, int H, int G, int D)
{
    assert(D >= 1 && D <= HEAD_MOST && H % G == 0);
    float *rest = work + (size_t)N * H, *dq = act_floats(dqkv) ? NULL : rest + (H > G ? 2 * (size_t)N * H * D : 0);
    struct backward b = {dqkv, work, H > G ? rest : NULL, dq, dy, y, qkv, lse, sight, offsets, N, H, G, D,
                         attention_block(D, KEYS_MOST, KEYS_LEAST, BLOCK_FLOATS),
                         attention_block(D, QUERIES_MOST, QUERIES_LEAST, BLOCK_FLOATS)};
    threads_for(S * H, head_task, &b);
    if (b.shared) threads_for(N, share_task, &b);
}
