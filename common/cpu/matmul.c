/* matmul.c (CPU) - one packed product for forward, input gradients and weight gradients.
 *
 * Every element is the sum, in ascending order, of chains over blocks of MATMUL_BLOCK along k (tile.h), whatever the
 * shape, the cut into tasks or the number of threads.  Accuracy is that of short chains; a row's bits are its own.
 *
 * Many rows:  a task is a rectangle of y.  Block by block along k it packs its rows of A into strips (second-level
 *             cache), and takes one panel of B at a time (first-level cache) across all strips.
 * Few rows:   a task is a range of panels, read once from memory in order: decoding runs at memory bandwidth.
 * Sums between blocks wait in scratch, so that a residual may be y itself. */
#include "common/cpu/scratch.h"
#include "common/cpu/tile.h"
#include "common/ops.h"
#include "common/threads.h"

#include <assert.h>
#include <math.h>

enum {
    FEW = 4 * TILE_ROWS,                            /* up to here rows are not packed */
    TASK_WORK = 512 << 10,                          /* multiply-adds: some 10 microseconds */
    PRODUCT_ROWS = PRODUCT_STRIPS * TILE_ROWS,      /* largest rectangle of a task */
};

struct product {                                    /* c (M,N) = a (M,K) b (K,N) */
    int M, N, K;
    const float *a; size_t lda; bool a_columns;     /* a_columns: a is stored (K,M) */
    const float *b; bool packed;                    /* packed: panels of K rows each, else stored (K,N) */
    float *c; const float *bias, *residual;
    bool add;                                       /* c += */
    int rows, columns, row_tasks;                   /* of a task; tasks that lie below one another */
};

/* Adds a tile of chains to what the blocks before gave; after the last block, bias and residual.  Every element by
 * itself: the two loops do the same arithmetic. */
static void merge(const struct product *p, const float *sums, float *between, size_t ld, int i, int j, int rows,
                  bool first, bool last)
{
    int n = int_min(TILE_COLUMNS, p->N - j);
    for (int r = 0; r < rows; r++, sums += TILE_COLUMNS, between += ld) {
        size_t at = (size_t)(i + r) * p->N + j;
        const float *before = !first ? between : p->add ? p->c + at : NULL;
        float *to = last ? p->c + at : between;
        const float *bias = last && p->bias ? p->bias + j : NULL;
        const float *residual = last && p->residual ? p->residual + at : NULL;
        int c = 0;
        for (; c + VW <= n; c += VW) {
            vf x = v_load(sums + c);
            if (before) x = v_load(before + c) + x;
            if (bias) x += v_load(bias + c);
            if (residual) x += v_load(residual + c);
            v_store(to + c, x);
        }
        for (; c < n; c++) {
            float x = sums[c];
            if (before) x = before[c] + x;
            if (bias) x += bias[c];
            if (residual) x += residual[c];
            to[c] = x;
        }
    }
}

/* Where a block's tile may go straight from the registers: whole panels, and no bias or residual left to add. */
static bool direct(const struct product *p, int j, bool last)
{
    return j + TILE_COLUMNS <= p->N && !(last && (p->bias || p->residual));
}

/* A block's tile: a strip of A, rows or columns as in tile.h, with a panel of B, on top of what the blocks before
 * gave. */
static void add_tile(const struct product *p, bool columns, const float *a, size_t lda, const float *b, int n,
                     float *tile, float *between, size_t ld, int i, int j, int rows, bool first, bool last)
{
    bool straight = direct(p, j, last);
    float *c = p->c + (size_t)i * p->N + j, *to = !straight ? tile : last ? c : between;
    size_t ldc = (size_t)p->N, ldt = !straight ? TILE_COLUMNS : last ? ldc : ld;
    const float *before = !straight ? NULL : !first ? between : p->add ? c : NULL;
    (columns ? tile_columns : tile_rows)(to, ldt, before, first ? ldc : ld, a, lda, b, rows, n);
    if (!straight) merge(p, tile, between, ld, i, j, rows, first, last);
}

/* The panel of columns j.. for steps k.. of the contraction. */
static const float *panel(const struct product *p, float *buffer, int j, int k, int n)
{
    if (p->packed) return p->b + (size_t)j * p->K + (size_t)k * TILE_COLUMNS;
    tile_pack_panel(buffer, p->b + (size_t)k * p->N + j, (size_t)p->N, int_min(TILE_COLUMNS, p->N - j), n);
    return buffer;
}

static void few_rows(const struct product *p, int j, struct scratch *s)
{
    for (int k = 0; k < p->K; k += MATMUL_BLOCK) {
        int n = int_min(MATMUL_BLOCK, p->K - k);
        const float *b = panel(p, s->panel, j, k, n);
        for (int i = 0; i < p->M; i += TILE_ROWS) {
            int rows = int_min(TILE_ROWS, p->M - i);
            const float *a = p->a + (p->a_columns ? (size_t)k * p->lda + i : (size_t)i * p->lda + k);
            add_tile(p, p->a_columns, a, p->lda, b, n, s->tile, s->between + i * TILE_COLUMNS, TILE_COLUMNS, i, j,
                     rows, k == 0, k + n == p->K);
        }
    }
}

/* Strips of TILE_ROWS rows from row i on, for steps k.. of the contraction. */
static void pack_rows(float *to, const struct product *p, int i0, int i1, int k, int n)
{
    /* that many lines of a stay in the first-level cache across the strips */
    enum { STEPS = 8 };
    if (!p->a_columns) {
        for (int i = i0; i < i1; i += TILE_ROWS)
            tile_pack_strip(to + (i - i0) * n, p->a + (size_t)i * p->lda + k, p->lda, int_min(TILE_ROWS, i1 - i), n);
        return;
    }
    for (int step = 0; step < n; step += STEPS)
        for (int i = i0; i < i1; i += TILE_ROWS) {
            int rows = int_min(TILE_ROWS, i1 - i);
            const float *from = p->a + (size_t)(k + step) * p->lda + i;
            float *strip = to + (i - i0) * n + step * rows;
            for (int z = int_min(STEPS, n - step); z > 0; z--, from += p->lda, strip += rows) {
                if (rows == TILE_ROWS) memcpy(strip, from, TILE_ROWS * sizeof *strip);
                else memcpy(strip, from, (size_t)rows * sizeof *strip);
            }
        }
}

/* Fetches what merge will read and write while the chains run. */
static void fetch(const struct product *p, const float *between, size_t ld, int i, int j, int rows, bool first,
                  bool last)
{
    bool result = last || (first && p->add);
    const float *at = result ? p->c + (size_t)i * p->N + j : between;
    size_t distance = result ? (size_t)p->N : ld;
    for (int r = 0; r < rows; r++, at += distance)
        for (int line = 0; line < TILE_COLUMNS; line += 16) __builtin_prefetch(at + line, 1);
}

/* Fetches rows from .. to - 1 of the panel at column j. */
static void fetch_panel(const struct product *p, int j, int k, int from, int to)
{
    if (j >= p->N) return;
    size_t distance = p->packed ? TILE_COLUMNS : (size_t)p->N;
    const float *at = p->b + (p->packed ? (size_t)j * p->K : (size_t)j) + (size_t)(k + from) * distance;
    for (; from < to; from++, at += distance)
        for (int line = 0; line < TILE_COLUMNS; line += 16) __builtin_prefetch(at + line, 0, 2);
}

static void rectangle(const struct product *p, int i0, int i1, int j0, int j1, struct scratch *s)
{
    size_t ld = tile_round((size_t)(j1 - j0), TILE_COLUMNS);
    for (int k = 0; k < p->K; k += MATMUL_BLOCK) {
        int n = int_min(MATMUL_BLOCK, p->K - k);
        pack_rows(s->strips, p, i0, i1, k, n);
        for (int j = j0; j < j1; j += TILE_COLUMNS) {
            const float *b = panel(p, s->panel, j, k, n);
            for (int i = i0; i < i1; i += TILE_ROWS) {
                int rows = int_min(TILE_ROWS, i1 - i);
                float *between = s->between + (size_t)(i - i0) * ld + (j - j0);
                fetch_panel(p, j + TILE_COLUMNS, k, n * (i - i0) / (i1 - i0),
                            n * int_min(i + rows - i0, i1 - i0) / (i1 - i0));
                fetch(p, between, ld, i, j, rows, k == 0, k + n == p->K);
                add_tile(p, true, s->strips + (i - i0) * n, (size_t)rows, b, n, s->tile, between, ld, i, j, rows,
                         k == 0, k + n == p->K);
            }
        }
    }
}

static void product_task(void *context, int number, int thread)
{
    const struct product *p = context;
    int i = number % p->row_tasks * p->rows, j = number / p->row_tasks * p->columns;
    int i1 = int_min(i + p->rows, p->M), j1 = int_min(j + p->columns, p->N);
    struct scratch s = scratch_of(thread);
    if (p->M > FEW) rectangle(p, i, i1, j, j1, &s);
    else
        for (; j < j1; j += TILE_COLUMNS) few_rows(p, j, &s);
}

/* Cuts the product into tasks: enough for the threads to even out, large enough that packing a row of A costs little
 * and that waking a thread is worth it. */
static void product(struct product *p)
{
    if (p->M == 0 || p->N == 0) return;
    assert(p->K > 0);
    double work = (double)p->N * p->K * int_max(p->M, 8);       /* with few rows reading b is what takes time */
    int wanted = (int)fmin(1 + work / TASK_WORK, 4 * threads_count());
    int row_tasks = p->M > FEW ? (p->M + PRODUCT_ROWS - 1) / PRODUCT_ROWS : 1;
    p->rows = (int)tile_round((size_t)((p->M + row_tasks - 1) / row_tasks), TILE_ROWS);
    p->row_tasks = (p->M + p->rows - 1) / p->rows;
    int column_tasks = int_max((wanted + p->row_tasks - 1) / p->row_tasks,
                               (p->N + PRODUCT_COLUMNS - 1) / PRODUCT_COLUMNS);
    p->columns = (int)tile_round((size_t)((p->N + column_tasks - 1) / column_tasks), TILE_COLUMNS);
    column_tasks = (p->N + p->columns - 1) / p->columns;
    threads_for(p->row_tasks * column_tasks, product_task, p);
}

size_t matmul_packed_elements(int out, int in) { return tile_round((size_t)out, TILE_COLUMNS) * (size_t)in; }

struct packing { float *packed; const float *weight; int out, in; };

/* A panel is made piece by piece in the first-level cache and goes to memory past it, whole lines at a time: it is read
 * again only after all the others.  Each fetches the next one: its rows are too many streams for the hardware. */
static void pack_task(void *context, int i, int thread)
{
    enum { PIECE = 64 };
    const struct packing *p = context;
    int j = i * TILE_COLUMNS, columns = int_min(TILE_COLUMNS, p->out - j);
    const float *from = p->weight + (size_t)j * p->in;
    float *to = p->packed + (size_t)j * p->in;
    float piece[PIECE * TILE_COLUMNS] __attribute__((aligned(64)));
    bool aligned = (uintptr_t)to % sizeof(vf) == 0;
    (void)thread;
    for (int k = 0; k < p->in; k += PIECE, to += PIECE * TILE_COLUMNS) {
        int n = int_min(PIECE, p->in - k), next = int_min(PIECE, p->in - k - n);
        tile_pack_transposed(piece, from + k, (size_t)p->in, columns, n, next);
        if (!aligned) memcpy(to, piece, (size_t)n * TILE_COLUMNS * sizeof *to);
        else
            for (int x = 0; x < n * TILE_COLUMNS; x += VW) v_stream(to + x, v_load(piece + x));
    }
    v_stream_end();
}

void matmul_pack(act_t *packed, const float *weight, int out, int in)
{
    struct packing p = {packed, weight, out, in};
    threads_for((out + TILE_COLUMNS - 1) / TILE_COLUMNS, pack_task, &p);
}

void matmul_forward(act_t *y, const act_t *x, const act_t *packed, const float *bias, const act_t *residual, int N,
                    int out, int in)
{
    product(&(struct product){.M = N, .N = out, .K = in, .a = x, .lda = (size_t)in, .b = packed, .packed = true, .c = y,
                              .bias = bias, .residual = residual});
}

void matmul_backward_input(act_t *dx, const act_t *dy, const float *weight, bool add, int N, int out, int in)
{
    product(&(struct product){.M = N, .N = in, .K = out, .a = dy, .lda = (size_t)out, .b = weight, .c = dx,
                              .add = add});
}

struct column_sums { float *sums; const float *x; int rows, columns; };

enum { SUM_COLUMNS = 4 * VW };

static void column_sums_task(void *context, int i, int thread)
{
    const struct column_sums *s = context;
    (void)thread;
    int from = i * SUM_COLUMNS, n = int_min(SUM_COLUMNS, s->columns - from);
    for (int k = 0; k < s->rows; k += MATMUL_BLOCK) {
        float sum[SUM_COLUMNS] = {0};
        for (int r = k; r < int_min(k + MATMUL_BLOCK, s->rows); r++)
            for (int c = 0; c < n; c++) sum[c] += s->x[(size_t)r * s->columns + from + c];
        for (int c = 0; c < n; c++) s->sums[from + c] += sum[c];
    }
}

void matmul_backward_weight(float *dweight, float *dbias, const act_t *dy, const act_t *x, int N, int out, int in)
{
    if (N == 0) return;
    product(&(struct product){.M = out, .N = in, .K = N, .a = dy, .lda = (size_t)out, .a_columns = true, .b = x,
                              .c = dweight,
                              .add = true});
    if (dbias) threads_for((out + SUM_COLUMNS - 1) / SUM_COLUMNS, column_sums_task,
                           &(struct column_sums){dbias, dy, N, out});
}
