/* matmul.c (CPU) - one packed product for forward, input gradients and weight gradients.
 *
 * Every element is the sum, in ascending order, of chains over blocks of MATMUL_BLOCK along k (tile.h), whatever the
 * shape, the cut into tasks or the number of threads.  Accuracy is that of short chains; a row's bits are its own.
 *
 * Many rows:  a task is a rectangle of c.  Block by block along k, and for PRODUCT_STRIPS strips of its rows at a time,
 *             it packs these rows of a (second-level cache) and takes one panel of b at a time (first-level cache)
 *             across all strips.  Where b does not come packed, the first strips pack its panels for those below.
 * Few rows:   a task is a range of panels, read once from memory in order: decoding runs at memory bandwidth.
 * Sums between blocks wait in scratch, tile after tile, so that a residual may be y itself. */
#include "common/cpu/blocks.h"
#include "common/cpu/product.h"
#include "common/cpu/scratch.h"
#include "common/cpu/tile.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <assert.h>
#include <math.h>

enum {
    LINE = 64 / sizeof(act_t),                      /* of a cache */
    FEW = 4 * STRIP,                                /* up to here rows are not packed */
    TASK_WORK = 512 << 10,                          /* multiply-adds: some 10 microseconds */
    TOGETHER = 4 * PANEL,                           /* columns of b packed at a time */
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
    int rows, columns, row_tasks;                   /* of a task; tasks that lie below one another */
};

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

/* A block's tile: a strip of a, rows or packed as in product_tile.h, with a panel of b, on top of what the blocks
 * before gave. */
static void add_tile(const struct product *p, bool packed, const act_t *a, const act_t *b, int n, float *tile,
                     float *between, int i, int j, int rows, bool first, bool last)
{
    bool straight = direct(p, j, first, last);
    float *c = p->c ? p->c + (size_t)i * p->N + j : NULL, *to = !straight ? tile : last ? c : between;
    size_t ldc = (size_t)p->N, ldt = straight && last ? ldc : PANEL;
    const float *before = !straight ? NULL : !first ? between : p->add ? c : NULL;
    product_tile(to, ldt, before, first ? ldc : PANEL, a, p->lda, packed, b, rows, n);
    if (!straight) merge(p, tile, between, i, j, rows, first, last);
}

/* n steps, of which STEP lie side by side. */
static size_t whole_steps(int n) { return tile_round((size_t)n, STEP); }

/* Packs the panels of columns j0 .. j1 - 1: of rows, row by row as they lie in memory; of turned panels, square by
 * square (k is a multiple of MATMUL_BLOCK, hence of PANEL). */
static void pack_panels(act_t *to, const struct product *p, int j0, int j1, int k, int n)
{
    if (p->form == TURNED) {
        for (int j = j0; j < j1; j += PANEL)
            for (int z = 0, rows; z < n; z += rows, to += whole_steps(rows) * PANEL) {
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

/* The panel of columns j.. for steps k.. of the contraction. */
static const act_t *panel(const struct product *p, act_t *buffer, int j, int k, int n)
{
    if (p->form == PANELS) return p->b + (size_t)j * whole_steps(p->K) + (size_t)k * PANEL;
    pack_panels(buffer, p, j, int_min(j + PANEL, p->N), k, n);
    return buffer;
}

/* Strips of STRIP rows from row i on, for steps k.. of the contraction. */
static void pack_rows(act_t *to, const struct product *p, int i0, int i1, int k, int n)
{
    /* that many lines of a stay in the first-level cache across the strips */
    enum { STEPS = 8 };
    if (!p->a_columns) {
        for (int i = i0; i < i1; i += STRIP)
            product_pack_strip(to + (size_t)(i - i0) * whole_steps(n), p->a + (size_t)i * p->lda + k, p->lda,
                               int_min(STRIP, i1 - i), n);
        return;
    }
    for (int step = 0; step < n; step += STEPS)
        for (int i = i0; i < i1; i += STRIP) {
            int rows = int_min(STRIP, i1 - i);
            const act_t *from = p->a + (size_t)(k + step) * p->lda + i;
            act_t *strip = to + (size_t)(i - i0) * whole_steps(n) + step * rows;
            for (int z = 0, left = int_min(STEPS, n - step); z < left; z += STEP)
                steps_copy(strip + z * rows, from + (size_t)z * p->lda, p->lda, rows, left - z);
        }
}

static void few_rows(const struct product *p, int j, struct scratch *s)
{
    for (int k = 0; k < p->K; k += MATMUL_BLOCK) {
        int n = int_min(MATMUL_BLOCK, p->K - k);
        const act_t *b = panel(p, s->panels, j, k, n);
        for (int i = 0; i < p->M; i += STRIP) {
            int rows = int_min(STRIP, p->M - i);
            const act_t *a = p->a_columns ? s->strips : p->a + (size_t)i * p->lda + k;
            if (p->a_columns) pack_rows(s->strips, p, i, i + rows, k, n);
            add_tile(p, p->a_columns, a, b, n, s->tile, s->between + i * PANEL, i, j, rows, k == 0, k + n == p->K);
        }
    }
}

/* INLINE, here and below: gcc takes a function that only fetches for one without effects, and drops calls of it.
 * Fetches the part of c that add_tile will read or write, while the chains run. */
INLINE void fetch_result(const struct product *p, int i, int j, int rows, bool first, bool last)
{
    if (!p->c || (!last && !(first && p->add))) return;
    const float *at = p->c + (size_t)i * p->N + j;
    for (int r = 0; r < rows; r++, at += p->N)
        for (int line = 0; line < PANEL; line += 16) __builtin_prefetch(at + line, 1);
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

/* Rows i0 .. i1 - 1 of a rectangle, which fit the strips, against all its columns, for n steps from k.  pack: the first
 * rows pack the panels of b on their way, others find them packed.   between: of these rows, tile after tile */
static void rows_of_rectangle(const struct product *p, int i0, int i1, int j0, int j1, int k, int n, bool pack,
                              float *between, struct scratch *s)
{
    int strips = (i1 - i0 + STRIP - 1) / STRIP;
    const act_t *b = p->form == PANELS ? panel(p, NULL, j0, k, n) : s->panels;
    size_t next = PANEL * whole_steps(p->form == PANELS ? p->K : n);
    pack_rows(s->strips, p, i0, i1, k, n);
    for (int j = j0; j < j1; j += PANEL, b += next) {
        int within = (j - j0) % TOGETHER, beyond = j - within + TOGETHER;        /* where the next ones begin */
        if (pack && within == 0)
            pack_panels(s->panels + (size_t)(j - j0) * whole_steps(n), p, j, int_min(beyond, j1), k, n);
        for (int z = 0, i = i0; z < strips; z++, i += STRIP, between += STRIP * PANEL) {
            int rows = int_min(STRIP, i1 - i);
            if (pack && beyond < j1)
                fetch_unpacked(p, beyond, int_min(TOGETHER, j1 - beyond), k, n, within / PANEL * strips + z,
                               TOGETHER / PANEL * strips);
            else if (j + PANEL < j1) fetch_rows(b + next, PANEL, PANEL, n, z, strips);
            fetch_result(p, i, j, rows, k == 0, k + n == p->K);
            add_tile(p, true, s->strips + (size_t)(i - i0) * whole_steps(n), b, n, s->tile, between, i, j, rows, k == 0,
                     k + n == p->K);
        }
    }
}

static void rectangle(const struct product *p, int i0, int i1, int j0, int j1, struct scratch *s)
{
    enum { ROWS = PRODUCT_STRIPS * STRIP };
    size_t width = tile_round((size_t)(j1 - j0), PANEL);
    for (int k = 0; k < p->K; k += MATMUL_BLOCK)
        for (int i = i0; i < i1; i += ROWS)
            rows_of_rectangle(p, i, int_min(i + ROWS, i1), j0, j1, k, int_min(MATMUL_BLOCK, p->K - k),
                              p->form != PANELS && i == i0, s->between + (size_t)(i - i0) * width, s);
}

static void product_task(void *context, int number, int thread)
{
    const struct product *p = context;
    int i = number % p->row_tasks * p->rows, j = number / p->row_tasks * p->columns;
    int i1 = int_min(i + p->rows, p->M), j1 = int_min(j + p->columns, p->N);
    struct scratch s = scratch_of(thread);
    if (p->M > FEW) rectangle(p, i, i1, j, j1, &s);
    else
        for (; j < j1; j += PANEL) few_rows(p, j, &s);
}

/* Cuts the product into tasks: enough for the threads to even out, large enough that packing costs little and that
 * waking a thread is worth it. */
static void product(struct product *p)
{
    if (p->M == 0 || p->N == 0) return;
    assert(p->K > 0);
    double work = (double)p->N * p->K * int_max(p->M, 8);       /* with few rows reading b is what takes time */
    int wanted = (int)fmin(1 + work / TASK_WORK, 4 * threads_count());
    int row_tasks = p->M > FEW ? (p->M + PRODUCT_ROWS - 1) / PRODUCT_ROWS : 1;
    p->rows = (int)tile_round((size_t)((p->M + row_tasks - 1) / row_tasks), STRIP);
    p->row_tasks = (p->M + p->rows - 1) / p->rows;
    int column_tasks = int_max((wanted + p->row_tasks - 1) / p->row_tasks,
                               (p->N + PRODUCT_COLUMNS - 1) / PRODUCT_COLUMNS);
    p->columns = (int)tile_round((size_t)((p->N + column_tasks - 1) / column_tasks), PANEL);
    column_tasks = (p->N + p->columns - 1) / p->columns;
    threads_for(p->row_tasks * column_tasks, product_task, p);
}

size_t matmul_packed_elements(int out, int in) { return tile_round((size_t)out, PANEL) * whole_steps(in); }

struct packing { act_t *packed; const float *weight; const struct rounding *rounding; int out, in; };

enum { PIECE = 64 };

/* The next n elements of some rows from row j, column k on, rounded at random: at distance PIECE. */
static void round_piece(float *to, const struct packing *p, int j, int columns, int k, int n)
{
    for (int c = 0; c < columns; c++, to += PIECE) {
        const float *from = p->weight + (size_t)(j + c) * (size_t)p->in + k;
        uint64_t place = rounding_place(p->rounding, (size_t)(j + c), (size_t)k);
        uint32_t bits[4];
        rounding_bits(bits, p->rounding, place);
        for (int z = 0; z < n; z++, place++) {
            if (z > 0 && place % ROUNDING_RUN == 0) rounding_bits(bits, p->rounding, place);
            to[z] = rounding_of(from[z], place, bits);
        }
    }
}

/* A panel is made piece by piece in the first-level cache and goes to memory past it, whole lines at a time: it is read
 * again only after all the others.  Each fetches the next one: its rows are too many streams for the hardware. */
static void pack_task(void *context, int i, int thread)
{
    enum { WORDS = sizeof(vf) / sizeof(act_t) };
    const struct packing *p = context;
    int j = i * PANEL, columns = int_min(PANEL, p->out - j);
    const float *from = p->weight + (size_t)j * p->in;
    act_t *to = p->packed + (size_t)j * whole_steps(p->in);
    act_t piece[PIECE * PANEL] __attribute__((aligned(64)));
    float rounded[PIECE * PANEL];
    bool aligned = (uintptr_t)to % sizeof(vf) == 0;
    (void)thread;
    for (int k = 0; k < p->in; k += PIECE, to += PIECE * PANEL) {
        int n = int_min(PIECE, p->in - k), next = int_min(PIECE, p->in - k - n), size = (int)whole_steps(n) * PANEL;
        if (p->rounding) round_piece(rounded, p, j, columns, k, n);
        if (p->rounding) product_pack_weights(piece, rounded, PIECE, columns, n, 0);
        else product_pack_weights(piece, from + k, (size_t)p->in, columns, n, next);
        if (!aligned) memcpy(to, piece, (size_t)size * sizeof *to);
        else
            for (int x = 0; x < size; x += WORDS)
                v_stream((float *)(void *)(to + x), v_load((float *)(void *)(piece + x)));
    }
    v_stream_end();
}

void matmul_pack(act_t *packed, const float *weight, const struct rounding *rounding, int out, int in)
{
    struct packing p = {packed, weight, rounding, out, in};
    threads_for((out + PANEL - 1) / PANEL, pack_task, &p);
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

struct column_sums { float *sums; const act_t *x; int rows; size_t ld; };

enum { SUM_COLUMNS = 4 * VW };

static void column_sums_task(const void *context, size_t from, size_t end)
{
    const struct column_sums *s = context;
    size_t n = end - from;
    for (int k = 0; k < s->rows; k += MATMUL_BLOCK) {
        float sum[SUM_COLUMNS] = {0};
        for (int r = k; r < int_min(k + MATMUL_BLOCK, s->rows); r++)
            for (size_t c = 0; c < n; c++) sum[c] += act_get(s->x[(size_t)r * s->ld + from + c]);
        for (size_t c = 0; c < n; c++) s->sums[from + c] += sum[c];
    }
}

void product_backward_bias(float *dbias, const act_t *dy, size_t ldy, int N, int out)
{
    blocks_for((size_t)out, SUM_COLUMNS, column_sums_task, &(struct column_sums){dbias, dy, N, ldy});
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
