/* matmul.c (CPU) - one packed product for forward, input gradients and weight gradients.
 *
 * Every element is the sum, in ascending order, of chains over blocks of MATMUL_BLOCK along k (tile.h), whatever the
 * shape, the cut into tasks or the number of threads.  Accuracy is that of short chains; a row's bits are its own.
 *
 * Many rows:  a task is a rectangle of c.  For some blocks along k, and as many of its rows as fit the second-level
 *             cache, it packs these rows of a and takes one panel of b at a time, block by block, across all of them.
 *             Where b does not come packed, the first rows pack its panels for those below.
 * Few rows:   a task is a range of panels, read once from memory in order: decoding runs at memory bandwidth.
 * Input gradients read the panels that forward reads, the other way: rows of dy, packed, lie in the lanes, the weights
 *             are broadcast from where they lie, and finished tiles are turned.  Few weights are turned instead.
 * Sums between blocks wait in scratch, tile after tile, so that a residual may be y itself. */
#include "common/cpu/product.h"
#include "common/cpu/scratch.h"
#include "common/cpu/tile.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <assert.h>
#include <math.h>

enum {
    LINE = 64 / sizeof(act_t),                      /* of a cache */
    FEW = STEP == 1 ? 4 * STRIP : STRIP,            /* up to here rows are not packed */
    TASK_WORK = 512 << 10,                          /* multiply-adds: some 10 microseconds */
    ROWS_MOST = SCRATCH_STRIPS / MATMUL_BLOCK,      /* that a task packs of a block */
    TURN = 2 * STRIP,                               /* columns of c that are turned at a time */
};

/* c (M,N) = a (M,K) b (K,N).  b is stored PLAIN (K,N), as PANELS of K rows each, which are used where they lie, or
 * TURNED: the panels of its transpose, as matmul_pack makes them. */
struct product {
    int M, N, K;
    const act_t *a; size_t lda; bool a_columns;     /* a_columns: a is stored (K,M) */
    const act_t *b; enum { PLAIN, PANELS, TURNED } form;
    float *c; act_t *y;                             /* the result: floats, or (c NULL) activations */
    const float *bias; const act_t *residual;
    bool add;                                       /* c += */
    bool lanes;                                     /* see rows_in_lanes */
    bool in_place, b_in_place;                      /* a, or b though it is PLAIN, is read where it lies */
    int rows, columns, row_tasks;                   /* of a task; tasks that lie below one another */
    int steps;                                      /* of the contraction, packed at a time */
};

/* Whether rows of c are to lie in the lanes and columns of b to be broadcast from where they lie.  Not with bfloat16:
 * the two steps that its tile reads as one word lie apart there.  Nor where a task turns b in less time than its rows of
 * a and c. */
static bool rows_in_lanes(const struct product *p)
{
    return p->form == TURNED && STEP == 1 && 2.0 * p->N * p->K >= (double)int_min(p->M, ROWS_MOST) * (p->N + p->K);
}

/* Whether b must be packed before the tile can read it. */
static bool unpacked(const struct product *p) { return p->form != PANELS && !p->lanes && !p->b_in_place; }

/* Whether the rows are too few to be packed. */
static bool few_enough(const struct product *p) { return p->M <= FEW && p->form == PANELS; }

/* Whether c itself takes the sums block by block. */
static bool sums_in_c(const struct product *p) { return p->c && p->add && !p->lanes; }

/* Rows and columns of c that are computed together. */
static int tile_height(const struct product *p) { return p->lanes ? PANEL : product_height(); }
static int tile_width(const struct product *p) { return p->lanes ? TURN : PANEL; }

/* How many parts of at most `most` n has. */
static int parts_of(int n, int most) { return (n + most - 1) / most; }

/* A part of a task: rows i0 .. i1 - 1 and columns j0 .. j1 - 1 of c, for `steps` steps of the contraction from k on. */
struct part { int i0, i1, j0, j1, k, steps; };

/* Adds a tile of sums to what the blocks before gave; after the last block, bias and residual.  Every element by
 * itself. */
static void merge(const struct product *p, const float *sums, float *between, int i, int j, int rows, bool first,
                  bool last)
{
    int n = int_min(PANEL, p->N - j);
    for (int r = 0; r < rows; r++, sums += PANEL, between += PANEL) {
        size_t at = (size_t)(i + r) * p->N + j;
        const float *before = !first ? between : p->add ? p->c + at : NULL;
        const float *bias = last && p->bias ? p->bias + j : NULL;
        const act_t *residual = last && p->residual ? p->residual + at : NULL;
        for (int c = 0; c < n; c += VW) {
            int left = n - c;
            vf x = v_load(sums + c);
            if (first && p->add && !p->c) x = act_load(p->y + at + c, left) + x;
            else if (before) x = v_load_upto(before + c, left) + x;
            if (bias) x += v_load_upto(bias + c, left);
            if (residual) x += act_load(residual + c, left);
            if (!last) v_store(between + c, x);
            else if (p->c) v_store_upto(p->c + at + c, x, left);
            else act_store(p->y + at + c, x, left);
        }
    }
}

/* Where a block's tile may go straight from the registers: whole panels of floats, no bias or residual left to add. */
static bool direct(const struct product *p, int j, bool first, bool last)
{
    if (j + PANEL > p->N || (last && (p->bias || p->residual))) return false;
    return p->c || (!last && !(first && p->add));
}

/* A block's tile: a strip of a, in place or packed as in product_tile.h, with a panel of b, on top of what the blocks
 * before gave. */
static void add_tile(const struct product *p, const act_t *a, const act_t *b, int n, float *tile, float *between,
                     int i, int j, int rows, bool first, bool last)
{
    bool straight = direct(p, j, first, last);
    float *c = p->c ? p->c + (size_t)i * p->N + j : NULL, *to = !straight ? tile : last ? c : between;
    size_t ldc = (size_t)p->N, ldt = straight && last ? ldc : PANEL;
    const float *before = !straight ? NULL : !first ? between : p->add ? c : NULL;
    if (p->b_in_place)
        tile_plain(to, ldt, before, first ? ldc : PANEL, act_floats(a), p->lda, act_floats(b), ldc, rows, n);
    else product_tile(to, ldt, before, first ? ldc : PANEL, a, p->in_place ? p->lda : (size_t)rows,
                      p->a_columns || !p->in_place, b, rows, n);
    if (!straight) merge(p, tile, between, i, j, rows, first, last);
}

/* Packs the panels of columns j0 .. j1 - 1: of rows, row by row as they lie in memory; of turned panels, square by
 * square (k is a multiple of MATMUL_BLOCK, hence of PANEL). */
static void pack_panels(act_t *to, const struct product *p, int j0, int j1, int k, int n)
{
    if (p->form == TURNED) {
        for (int j = j0; j < j1; j += PANEL)
            for (int z = 0, rows; z < n; z += PANEL, to += whole_steps(rows) * PANEL) {
                rows = int_min(PANEL, n - z);
                product_pack_turned(to, p->b + (size_t)(k + z) * whole_steps(p->N) + (size_t)j * PANEL,
                                    int_min(PANEL, j1 - j), rows);
            }
        return;
    }
    for (int z = 0; z < n; z += STEP, to += STEP * PANEL) {
        const act_t *from = p->b + (size_t)(k + z) * p->N;
        act_t *row = to;
        int j = j0;
        for (; j + PANEL <= j1; j += PANEL, row += whole_steps(n) * PANEL)
            steps_copy(row, from + j, (size_t)p->N, PANEL, n - z);
        if (j == j1) continue;
        steps_copy(row, from + j, (size_t)p->N, j1 - j, n - z);
        memset(row + (j1 - j) * STEP, 0, (size_t)(PANEL - (j1 - j)) * STEP * sizeof *row);
    }
}

/* Packs rows i0 .. i1 - 1, tile after tile, for n steps from k. */
static void pack_rows(act_t *to, const struct product *p, int i0, int i1, int k, int n)
{
    enum { ROWS_AHEAD = 64 };
    int height = tile_height(p);
    if (!p->a_columns) {
        for (int i = i0; i < i1; i += height) {
            const act_t *from = p->a + (size_t)i * p->lda + k;
            int rows = int_min(height, i1 - i);
            if (p->lanes) tile_pack_transposed(act_floats(to), act_floats(from), p->lda, rows, n, ROWS_AHEAD);
            else product_pack_strip(to, from, p->lda, rows, n);
            to += (size_t)height * strip_steps(n);
        }
        return;
    }
    for (int step = 0; step < n; step += STRIP_STEPS)       /* so many lines of a stay in the first-level cache */
        for (int i = i0; i < i1; i += height) {
            int rows = int_min(height, i1 - i);
            const act_t *from = p->a + (size_t)(k + step) * p->lda + i;
            act_t *strip = to + (size_t)(i - i0) * strip_steps(n) + step * product_strip_rows(rows);
            product_pack_columns(strip, from, p->lda, rows, int_min(STRIP_STEPS, n - step));
        }
}

/* Few rows against one panel, all used where they lie. */
static void few_rows(const struct product *p, int j, struct scratch *s)
{
    for (int k = 0; k < p->K; k += MATMUL_BLOCK) {
        int n = int_min(MATMUL_BLOCK, p->K - k);
        const act_t *b = p->b + (size_t)j * whole_steps(p->K) + (size_t)k * PANEL;
        for (int i = 0, height = tile_height(p); i < p->M; i += height)
            add_tile(p, p->a + (size_t)i * p->lda + k, b, n, s->tile, s->between + i * PANEL, i, j,
                     int_min(height, p->M - i), k == 0, k + n == p->K);
    }
}

/* INLINE, here and below: gcc takes a function that only fetches for one without effects, and drops calls of it.
 * Fetches the part of c that add_tile will read or write, while the chains run. */
INLINE void fetch_result(const struct product *p, int i, int j, int rows, bool first, bool last)
{
    if (!p->c || (!last && !(first && p->add))) return;
    const float *at = p->c + (size_t)i * p->N + j;
    for (int r = 0, width = tile_width(p); r < rows; r++, at += p->N)
        for (int line = 0; line < width; line += 16) __builtin_prefetch(at + line, 1);
}

/* Fetches part number i of many of n rows of b, each at distance ld, width elements wide. */
INLINE void fetch_rows(const act_t *b, size_t ld, int width, int n, int i, int many)
{
    for (int k = n * i / many, end = n * (i + 1) / many; k < end; k++)
        for (int c = 0; c < width; c += LINE) __builtin_prefetch(b + k * ld + c, 0, 2);
}

/* The same of what pack_panels will read for the columns j..  Of turned panels, n steps are squares that lie one behind
 * the other, and what is read soon goes to the first-level cache. */
INLINE void fetch_unpacked(const struct product *p, int j, int width, int k, int n, int i, int many)
{
    const act_t *b = p->b + (size_t)k * whole_steps(p->N);
    if (p->form == PLAIN) {
        fetch_rows(p->b + (size_t)k * p->N + j, (size_t)p->N, width, n, i, many);
        return;
    }
    for (int z = n * i / many, end = n * (i + 1) / many; z < end; z++) {
        int within = z % PANEL;
        const act_t *row = b + (size_t)(z - within) * whole_steps(p->N) + (size_t)j * PANEL + within * width;
        for (int c = 0; c < width; c += LINE) __builtin_prefetch(row + c);
    }
}

/* Where block k of the columns j.. of b lies. */
static const act_t *operand(const struct product *p, const struct part *q, int j, int k, const struct scratch *s)
{
    size_t within = (size_t)((j - q->j0) % PRODUCT_COLUMNS);
    if (unpacked(p)) return s->panels + within * whole_steps(q->steps) + (size_t)(k - q->k) * PANEL;
    if (p->b_in_place) return p->b + (size_t)k * (size_t)p->N + (size_t)j;
    if (p->lanes) return p->b + (size_t)k * (size_t)p->N + (size_t)j * PANEL;
    return p->b + (size_t)j * whole_steps(p->K) + (size_t)k * PANEL;
}

/* The same of the rows i.. of a. */
static const act_t *strip(const struct product *p, const struct part *q, int i, int rows, int k,
                          const struct scratch *s)
{
    if (p->in_place) return p->a + (p->a_columns ? (size_t)k * p->lda + (size_t)i : (size_t)i * p->lda + (size_t)k);
    size_t width = (size_t)(p->lanes ? PANEL : product_strip_rows(rows));
    return s->strips + (size_t)(i - q->i0) * strip_steps(q->steps) + (size_t)(k - q->k) * width;
}

/* A block's tiles where rows lie in the lanes: strips of columns j.. against a panel of rows.   between: TURN rows of
 * PANEL */
static void add_turned(const struct product *p, const struct part *q, const act_t *a, const act_t *b, int n,
                       float *between, int i, int j, bool first, bool last, const struct scratch *s)
{
    int rows = int_min(PANEL, q->i1 - i), columns = int_min(TURN, q->j1 - j);
    float *c = p->c + (size_t)i * p->N + j, *to = last ? s->tile : between;
    if (first && p->add) tile_pack_transposed(between, c, (size_t)p->N, rows, columns, 0);
    for (int z = 0; z < columns; z += STRIP)
        tile_turned(to + z * PANEL, first && !p->add ? NULL : between + z * PANEL, act_floats(b) + z * PANEL,
                    PANEL * (size_t)p->N, act_floats(a), int_min(STRIP, columns - z), rows, n);
    if (last) tile_turn(c, (size_t)p->N, s->tile, PANEL, columns, rows);
}

/* Fetches, part i of many, what is packed or read after block k of columns j.  Where rows lie in the lanes the tile
 * itself does. */
INLINE void fetch_next(const struct product *p, const struct part *q, int j, int k, int i, int many,
                       const struct scratch *s)
{
    if (p->lanes || p->b_in_place) return;
    if (unpacked(p)) {
        int within = (j - q->j0) % PRODUCT_COLUMNS, beyond = j - within + PRODUCT_COLUMNS;
        if (beyond < q->j1)
            fetch_unpacked(p, beyond, int_min(PRODUCT_COLUMNS, q->j1 - beyond), k, q->steps,
                           within / PANEL * many + i, PRODUCT_COLUMNS / PANEL * many);
        return;
    }
    k += MATMUL_BLOCK;
    if (k >= q->k + q->steps) k = q->k, j += PANEL;
    if (j < q->j1) fetch_rows(operand(p, q, j, k, s), PANEL, PANEL, int_min(MATMUL_BLOCK, p->K - k), i, many);
}

/* Block k of the columns j.., against all rows of the part.   between: tile after tile */
static void column_block(const struct product *p, const struct part *q, int j, int k, float *between,
                         const struct scratch *s)
{
    int height = tile_height(p), many = parts_of(q->i1 - q->i0, height), n = int_min(MATMUL_BLOCK, p->K - k);
    bool first = k == 0 || sums_in_c(p), last = k + n == p->K || sums_in_c(p);
    for (int z = 0, i = q->i0; z < many; z++, i += height, between += height * tile_width(p)) {
        int rows = int_min(height, q->i1 - i);
        const act_t *b = operand(p, q, j, k, s), *a = strip(p, q, i, rows, k, s);
        fetch_next(p, q, j, k, z, many, s);
        fetch_result(p, i, j, rows, first, last);
        if (p->lanes) add_turned(p, q, a, b, n, between, i, j, first, last, s);
        else add_tile(p, a, b, n, s->tile, between, i, j, rows, first, last);
    }
}

static void rectangle(const struct product *p, int i0, int i1, int j0, int j1, const struct scratch *s)
{
    int width = tile_width(p), rows = (int)tile_round((size_t)(i1 - i0), (size_t)tile_height(p));
    for (int k = 0; k < p->K; k += p->steps) {
        struct part q = {i0, i1, j0, j1, k, int_min(p->steps, p->K - k)};
        float *between = s->between;
        if (!p->in_place) pack_rows(s->strips, p, i0, i1, k, q.steps);
        for (int j = j0; j < j1; j += width) {
            if (unpacked(p) && (j - j0) % PRODUCT_COLUMNS == 0)
                pack_panels(s->panels, p, j, int_min(j + PRODUCT_COLUMNS, j1), k, q.steps);
            for (int block = k; block < k + q.steps; block += MATMUL_BLOCK)
                column_block(p, &q, j, block, between, s);
            if (p->steps < p->K && !sums_in_c(p)) between += rows * width;
        }
    }
}

static void product_task(void *context, int number, int thread)
{
    const struct product *p = context;
    int i = number % p->row_tasks * p->rows, j = number / p->row_tasks * p->columns;
    int i1 = int_min(i + p->rows, p->M), j1 = int_min(j + p->columns, p->N);
    struct scratch s = scratch_of(thread);
    if (!few_enough(p)) rectangle(p, i, i1, j, j1, &s);
    else
        for (; j < j1; j += PANEL) few_rows(p, j, &s);
    product_end();
}

/* Whether a is read where it lies: columns of it not for narrow panels, which read it too often, nor where their rows
 * are a multiple of 64 KB apart, which all lie in a few lines of the second-level cache. */
static bool a_in_place(const struct product *p)
{
    enum { COLUMNS = VW == 16 ? 768 : 192, APART = 64 << 10 };
    if (STEP > 1 || p->lanes || few_enough(p)) return few_enough(p);
    return p->a_columns ? VW == 16 && p->lda * sizeof *p->a % APART != 0 : p->columns <= COLUMNS;
}

/* Cuts the product into tasks: enough for the threads to even out, large enough that packing costs little and that
 * waking a thread is worth it.  A task packs its rows once for all its columns: up to BLOCKS blocks of as many rows as
 * fit, or one block where b is packed for these rows. */
static void product(struct product *p)
{
    enum { BLOCKS = 3, ROWS_LEAST = 64, B_IN_PLACE = 512 };
    if (p->M == 0 || p->N == 0) return;
    assert(p->K > 0);
    p->lanes = rows_in_lanes(p);
    double work = (double)p->N * p->K * int_max(p->M, 8);       /* with few rows reading b is what takes time */
    int threads = threads_count(), wanted = (int)fmin(1 + work / TASK_WORK, 4 * threads);
    int blocks = parts_of(p->K, MATMUL_BLOCK), parts = parts_of(blocks, unpacked(p) ? 1 : BLOCKS);
    p->steps = parts_of(blocks, parts) * MATMUL_BLOCK;
    int height = tile_height(p), width = tile_width(p), most = SCRATCH_STRIPS / p->steps / height * height;
    int columns_least = unpacked(p) ? 384 : few_enough(p) ? PANEL : 192, row_tasks = parts_of(p->M, most);
    if (!unpacked(p)) row_tasks = int_max(row_tasks, int_min(int_min(wanted, 2 * threads), parts_of(p->M, ROWS_LEAST)));
    int column_tasks = int_max(int_min(parts_of(wanted, row_tasks), p->N / columns_least),
                               parts_of(int_min(wanted, threads), row_tasks));
    column_tasks = int_max(column_tasks, parts_of(p->N, SCRATCH_BETWEEN / most / width * width));
    for (int tasks; (tasks = row_tasks * column_tasks) % threads && row_tasks > 1 && tasks < 2 * wanted; ) row_tasks++;
    p->rows = (int)tile_round((size_t)parts_of(p->M, row_tasks), (size_t)height);
    p->row_tasks = parts_of(p->M, p->rows);
    p->columns = (int)tile_round((size_t)parts_of(p->N, column_tasks), (size_t)width);
    p->in_place = a_in_place(p);
    p->b_in_place = p->form == PLAIN && p->in_place && p->N <= B_IN_PLACE && p->N % PANEL == 0;
    threads_for(p->row_tasks * parts_of(p->N, p->columns), product_task, p);
}

void matmul_forward(act_t *y, const act_t *x, const act_t *packed, const float *bias, const act_t *residual, int N,
                    int out, int in)
{
    product(&(struct product){.M = N, .N = out, .K = in, .a = x, .lda = (size_t)in, .b = packed, .form = PANELS,
                              .c = act_floats(y), .y = y, .bias = bias, .residual = residual});
}

void logits_forward(float *logits, const act_t *h, const act_t *packed, const float *bias, int n, int V, int C)
{
    product(&(struct product){.M = n, .N = V, .K = C, .a = h, .lda = (size_t)C, .b = packed, .form = PANELS,
                              .c = logits, .bias = bias});
}

void product_backward_input(act_t *dx, const act_t *dy, size_t ldy, const act_t *packed, bool add, int N, int out,
                            int in)
{
    product(&(struct product){.M = N, .N = in, .K = out, .a = dy, .lda = ldy, .b = packed, .form = TURNED,
                              .c = act_floats(dx), .y = dx, .add = add});
}

void matmul_backward_input(act_t *dx, const act_t *dy, const act_t *packed, bool add, int N, int out, int in)
{
    product_backward_input(dx, dy, (size_t)out, packed, add, N, out, in);
}

void product_backward_weight(float *dweight, const act_t *dy, size_t ldy, const act_t *x, int N, int out, int in)
{
    if (N == 0) return;
    product(&(struct product){.M = out, .N = in, .K = N, .a = dy, .lda = ldy, .a_columns = true, .b = x, .c = dweight,
                              .add = true});
}

void matmul_backward_weight(float *dweight, float *dbias, const act_t *dy, const act_t *x, int N, int out, int in)
{
    product_backward_weight(dweight, dy, (size_t)out, x, N, out, in);
    if (N > 0 && dbias) product_backward_bias(dbias, dy, (size_t)out, N, out);
}
