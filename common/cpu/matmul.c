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
#include "common/cpu/scratch.h"
#include "common/cpu/tile.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <assert.h>
#include <math.h>

enum {
    FEW = 4 * TILE_ROWS,                            /* up to here rows are not packed */
    TASK_WORK = 512 << 10,                          /* multiply-adds: some 10 microseconds */
    TOGETHER = 4 * TILE_COLUMNS,                    /* columns of b packed at a time */
};

/* c (M,N) = a (M,K) b (K,N).  b is stored PLAIN (K,N), as PANELS of K rows each, which are used where they lie, or
 * TURNED: the panels of its transpose, as matmul_pack makes them. */
struct product {
    int M, N, K;
    const float *a; size_t lda; bool a_columns;     /* a_columns: a is stored (K,M) */
    const float *b; enum { PLAIN, PANELS, TURNED } form;
    float *c; const float *bias, *residual;
    bool add;                                       /* c += */
    int rows, columns, row_tasks;                   /* of a task; tasks that lie below one another */
};

/* Adds a tile of chains to what the blocks before gave; after the last block, bias and residual.  Every element by
 * itself: the two loops do the same arithmetic. */
static void merge(const struct product *p, const float *sums, float *between, int i, int j, int rows, bool first,
                  bool last)
{
    int n = int_min(TILE_COLUMNS, p->N - j);
    for (int r = 0; r < rows; r++, sums += TILE_COLUMNS, between += TILE_COLUMNS) {
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

/* A block's tile: a strip of a, rows or columns as in tile.h, with a panel of b, on top of what the blocks before
 * gave. */
static void add_tile(const struct product *p, bool columns, const float *a, size_t lda, const float *b, int n,
                     float *tile, float *between, int i, int j, int rows, bool first, bool last)
{
    bool straight = direct(p, j, last);
    float *c = p->c + (size_t)i * p->N + j, *to = !straight ? tile : last ? c : between;
    size_t ldc = (size_t)p->N, ldt = straight && last ? ldc : TILE_COLUMNS;
    const float *before = !straight ? NULL : !first ? between : p->add ? c : NULL;
    (columns ? tile_columns : tile_rows)(to, ldt, before, first ? ldc : TILE_COLUMNS, a, lda, b, rows, n);
    if (!straight) merge(p, tile, between, i, j, rows, first, last);
}

/* Packs the panels of columns j0 .. j1 - 1: of rows, row by row as they lie in memory; of turned panels, square by
 * square (k is a multiple of MATMUL_BLOCK, hence of TILE_COLUMNS). */
static void pack_panels(float *to, const struct product *p, int j0, int j1, int k, int n)
{
    if (p->form == TURNED) {
        for (int j = j0; j < j1; j += TILE_COLUMNS)
            for (int z = 0, rows; z < n; z += rows, to += rows * TILE_COLUMNS) {
                rows = int_min(TILE_COLUMNS, n - z);
                tile_pack_transposed(to, p->b + (size_t)(k + z) * p->N + (size_t)j * TILE_COLUMNS, TILE_COLUMNS,
                                     int_min(TILE_COLUMNS, j1 - j), rows, 0);
            }
        return;
    }
    for (int z = 0; z < n; z++, to += TILE_COLUMNS) {
        const float *from = p->b + (size_t)(k + z) * p->N;
        float *row = to;
        int j = j0;
        for (; j + TILE_COLUMNS <= j1; j += TILE_COLUMNS, row += n * TILE_COLUMNS) {
            v_store(row, v_load(from + j));
            v_store(row + VW, v_load(from + j + VW));
        }
        if (j < j1)
            for (int c = 0; c < TILE_COLUMNS; c++) row[c] = j + c < j1 ? from[j + c] : 0;
    }
}

/* The panel of columns j.. for steps k.. of the contraction. */
static const float *panel(const struct product *p, float *buffer, int j, int k, int n)
{
    if (p->form == PANELS) return p->b + (size_t)j * p->K + (size_t)k * TILE_COLUMNS;
    pack_panels(buffer, p, j, int_min(j + TILE_COLUMNS, p->N), k, n);
    return buffer;
}

static void few_rows(const struct product *p, int j, struct scratch *s)
{
    for (int k = 0; k < p->K; k += MATMUL_BLOCK) {
        int n = int_min(MATMUL_BLOCK, p->K - k);
        const float *b = panel(p, s->panels, j, k, n);
        for (int i = 0; i < p->M; i += TILE_ROWS) {
            int rows = int_min(TILE_ROWS, p->M - i);
            const float *a = p->a + (p->a_columns ? (size_t)k * p->lda + i : (size_t)i * p->lda + k);
            add_tile(p, p->a_columns, a, p->lda, b, n, s->tile, s->between + i * TILE_COLUMNS, i, j, rows, k == 0,
                     k + n == p->K);
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

/* Fetches the part of c that add_tile will read or write, while the chains run. */
static void fetch_result(const struct product *p, int i, int j, int rows, bool first, bool last)
{
    if (!last && !(first && p->add)) return;
    const float *at = p->c + (size_t)i * p->N + j;
    for (int r = 0; r < rows; r++, at += p->N)
        for (int line = 0; line < TILE_COLUMNS; line += 16) __builtin_prefetch(at + line, 1);
}

/* Fetches part number i of many of n rows of b, each at distance ld, width floats wide. */
static void fetch_rows(const float *b, size_t ld, int width, int n, int i, int many)
{
    for (int k = n * i / many, end = n * (i + 1) / many; k < end; k++)
        for (int c = 0; c < width; c += 16) __builtin_prefetch(b + k * ld + c, 0, 2);
}

/* The same of what pack_panels will read for the columns j..  Of turned panels, n steps are squares that lie one behind the
 * other, and what is read soon goes to the first-level cache. */
static void fetch_unpacked(const struct product *p, int j, int width, int k, int n, int i, int many)
{
    const float *b = p->b + (size_t)k * p->N;
    if (p->form == PLAIN) {
        fetch_rows(b + j, (size_t)p->N, width, n, i, many);
        return;
    }
    for (int z = n * i / many, end = n * (i + 1) / many; z < end; z++) {
        int within = z % TILE_COLUMNS;
        const float *row = b + (size_t)(z - within) * p->N + (size_t)j * TILE_COLUMNS + within * width;
        for (int c = 0; c < width; c += 16) __builtin_prefetch(row + c);
    }
}

/* Rows i0 .. i1 - 1 of a rectangle, which fit the strips, against all its columns, for n steps from k.  pack: the first
 * rows pack the panels of b on their way, others find them packed.   between: of these rows, tile after tile */
static void rows_of_rectangle(const struct product *p, int i0, int i1, int j0, int j1, int k, int n, bool pack,
                              float *between, struct scratch *s)
{
    int strips = (i1 - i0 + TILE_ROWS - 1) / TILE_ROWS;
    const float *b = p->form == PANELS ? panel(p, NULL, j0, k, n) : s->panels;
    size_t next = (size_t)TILE_COLUMNS * (size_t)(p->form == PANELS ? p->K : n);
    pack_rows(s->strips, p, i0, i1, k, n);
    for (int j = j0; j < j1; j += TILE_COLUMNS, b += next) {
        int within = (j - j0) % TOGETHER, beyond = j - within + TOGETHER;        /* where the next ones begin */
        if (pack && within == 0) pack_panels(s->panels + (size_t)(j - j0) * n, p, j, int_min(beyond, j1), k, n);
        for (int z = 0, i = i0; z < strips; z++, i += TILE_ROWS, between += TILE_ROWS * TILE_COLUMNS) {
            int rows = int_min(TILE_ROWS, i1 - i);
            if (pack && beyond < j1)
                fetch_unpacked(p, beyond, int_min(TOGETHER, j1 - beyond), k, n, within / TILE_COLUMNS * strips + z,
                               TOGETHER / TILE_COLUMNS * strips);
            else if (j + TILE_COLUMNS < j1) fetch_rows(b + next, TILE_COLUMNS, TILE_COLUMNS, n, z, strips);
            fetch_result(p, i, j, rows, k == 0, k + n == p->K);
            add_tile(p, true, s->strips + (i - i0) * n, (size_t)rows, b, n, s->tile, between, i, j, rows, k == 0,
                     k + n == p->K);
        }
    }
}

static void rectangle(const struct product *p, int i0, int i1, int j0, int j1, struct scratch *s)
{
    enum { ROWS = PRODUCT_STRIPS * TILE_ROWS };
    size_t width = tile_round((size_t)(j1 - j0), TILE_COLUMNS);
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
        for (; j < j1; j += TILE_COLUMNS) few_rows(p, j, &s);
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
    product(&(struct product){.M = N, .N = out, .K = in, .a = x, .lda = (size_t)in, .b = packed, .form = PANELS, .c = y,
                              .bias = bias, .residual = residual});
}

void matmul_backward_input(act_t *dx, const act_t *dy, const act_t *packed, bool add, int N, int out, int in)
{
    product(&(struct product){.M = N, .N = in, .K = out, .a = dy, .lda = (size_t)out, .b = packed, .form = TURNED,
                              .c = dx, .add = add});
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
