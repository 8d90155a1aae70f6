/* test_tile.c - the inner loop of the products (product_tile.h) on operands that end where memory ends, with what is
 * not a number around them: sums against double, a row's bits against those it has alone, packed or not, on top of what
 * was there or not. */
#include "common/cpu/product_tile.h"
#include "common/base/base.h"
#include "common/base/rng.h"
#include "common/model/device.h"
#include "test/act_host.h"
#include "test/test.h"

#include <sys/mman.h>

enum { PAGE = 4096, ROOM = 64 << 10, MOST = 300, BEFORE = STRIP * 2 * PANEL };

/* Memory whose last byte is followed by a page that nobody may touch.  ends() places an array of n at its end and fills
 * all of it with what is not a number. */
static char *guarded(void)
{
    char *p = mmap(NULL, ROOM + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + ROOM, PAGE, PROT_NONE)) die("no memory for a test");
    return p;
}

static void *ends(char *memory, size_t n, size_t size)
{
    memset(memory, 0xff, ROOM);
    return memory + ROOM - n * size;
}

static float a[STRIP][MOST], b[MOST][PANEL], start[BEFORE], alone[STRIP][2][PANEL];

static void numbers(float *to, size_t n, uint64_t index)
{
    struct rng r = rng_at(6, RNG_TEST, 0, index);
    for (size_t i = 0; i < n; i++) to[i] = act_rounded((float)(2 * rng_uniform(&r) - 1));
}

/* Where rows lie at a distance: the last one is not followed by another. */
static size_t rows_at(int rows, int ld, int n) { return (size_t)(rows - 1) * (size_t)ld + (size_t)n; }

enum form { ROWS, STRIP_OF_ROWS, STRIP_OF_COLUMNS };

/* Rows first .. first + rows - 1 of a as the tile reads them. */
static const act_t *operand(char *memory, char *other, enum form form, int first, int rows, int n, int lda)
{
    bool columns = form == STRIP_OF_COLUMNS;
    act_t *from = columns ? ends(other, rows_at(n, lda, rows), sizeof *from) : ends(other, rows_at(rows, lda, n), sizeof *from);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < n; k++) from[columns ? k * lda + r : r * lda + k] = act_of(a[first + r][k]);
    if (form == ROWS) return from;
    int height = product_strip_rows(rows);
    act_t *strip = ends(memory, (size_t)height * strip_steps(n), sizeof *strip);
    if (!columns) product_pack_strip(strip, from, (size_t)lda, rows, n);
    for (int k = 0; k < n && columns; k += STRIP_STEPS)
        product_pack_columns(strip + k * height, from + k * lda, (size_t)lda, rows, int_min(STRIP_STEPS, n - k));
    return strip;
}

static const act_t *panel(char *memory, int n)
{
    act_t *p = ends(memory, whole_steps(n) * PANEL, sizeof *p);
    for (int k = 0; k < (int)whole_steps(n); k++)
        for (int c = 0; c < PANEL; c++) p[(k / STEP * PANEL + c) * STEP + k % STEP] = act_of(k < n ? b[k][c] : 0);
    return p;
}

static bool near_double(int r, int n, bool before)
{
    for (int c = 0; c < PANEL; c++) {
        double sum = before ? (double)start[c] : 0;
        for (int k = 0; k < n; k++) sum += (double)a[r][k] * (double)b[k][c];
        if (!close_to((double)alone[r][before][c], sum, 1e-6, 2e-6 * sqrt(n))) return false;
    }
    return true;
}

/* Each row by itself: what all others are held against. */
static void rows_alone(char *memory, int n, const act_t *p)
{
    bool ok = true;
    for (int r = 0; r < product_height(); r++)
        for (int before = 0; before < 2; before++) {
            const act_t *row = operand(NULL, memory, ROWS, r, 1, n, n);
            product_tile(alone[r][before], PANEL, before ? start : NULL, PANEL, row, (size_t)n, false, p, 1, n);
            ok &= near_double(r, n, before);
        }
    test_check(ok, __FILE__, __LINE__, "n %d: a row by itself is not the sum", n);
}

/* rows rows, in each form, on top of nothing, of other memory and of the result itself. */
static void check_rows(char **memory, int rows, int n, const act_t *p)
{
    for (enum form form = ROWS; form <= STRIP_OF_COLUMNS; form++)
        for (int way = 0; way < 3; way++) {
            int ldo = PANEL + way * 16, lda = form == STRIP_OF_COLUMNS ? rows + way : n + 3 * way;
            const act_t *x = operand(memory[0], memory[1], form, 0, rows, n, lda);
            float *out = ends(memory[2], rows_at(rows, ldo, PANEL), sizeof *out);
            for (int r = 0; r < rows && way == 2; r++) memcpy(out + r * ldo, start, PANEL * sizeof *out);
            product_tile(out, (size_t)ldo, way == 2 ? out : way ? start : NULL, way == 2 ? (size_t)ldo : 0, x,
                         (size_t)(form == ROWS ? lda : rows), form != ROWS, p, rows, n);
            bool ok = true;
            for (int r = 0; r < rows; r++) {
                ok &= memcmp(out + r * ldo, alone[r][way > 0], PANEL * sizeof *out) == 0;
                for (int c = PANEL; c < ldo && r + 1 < rows; c++) ok &= isnan(out[r * ldo + c]);
            }
            test_check(ok, __FILE__, __LINE__, "rows %d n %d form %d way %d: not what each row gives by itself", rows, n, form, way);
        }
}

/* What a row gives that is x at step k, y two steps on, and else 0, with a panel of nothing but w: at the top or at the
 * bottom of rows of ones.  -1: not the same in each column, or the ones are disturbed. */
static float given(char **memory, float x, float y, int k, float w, int row)
{
    enum { N = 70 };
    int height = product_height();
    act_t *from = ends(memory[1], (size_t)height * N, sizeof *from), *p = ends(memory[3], N * PANEL, sizeof *p);
    act_t *strip = ends(memory[0], (size_t)product_strip_rows(height) * strip_steps(N), sizeof *strip);
    float *out = ends(memory[2], (size_t)height * PANEL, sizeof *out);
    for (int i = 0; i < N * PANEL; i++) p[i] = act_of(w);
    for (int i = 0; i < height * N; i++) from[i] = act_of(i / N != row ? 1 : i % N == k ? x : i % N == k + 2 ? y : 0);
    product_pack_strip(strip, from, N, height, N);
    product_tile(out, PANEL, NULL, 0, strip, (size_t)height, true, p, height, N);
    product_end();
    for (int i = 0; i < height * PANEL; i++)
        if (i / PANEL == row ? memcmp(&out[i], &out[row * PANEL], sizeof *out) != 0 : out[i] != N * w) return -1;
    return out[row * PANEL];
}

/* Infinity, NaN and denormals, of operands, products and sums, in whole tiles and in the tail. */
static void check_special(char **memory)
{
    bool flushed = strstr(device_build(), "AMX") || strstr(device_build(), "AVX512-BF16");
    static const int place[] = {0, 3, 37, 67};
    for (int i = 0; i < 8; i++) {
        int k = place[i % 4], row = i < 4 ? 0 : product_height() - 1;
        CHECK(given(memory, INFINITY, 1, k, 1, row) == INFINITY && given(memory, 1, INFINITY, k, -1, row) == -INFINITY);
        CHECK(isnan(given(memory, INFINITY, -INFINITY, k, 1, row)) && isnan(given(memory, 0, NAN, k, 1, row)));
        CHECK(given(memory, 0x1p-70f, 0, k, 0x1p-70f, row) == (flushed ? 0 : 0x1p-140f));
        CHECK(given(memory, 0x1p-130f, 0, k, 0x1p100f, row) == (flushed ? 0 : 0x1p-30f));
        CHECK(given(memory, 0x1p-126f, -0x1.02p-126f, k, 1, row) == (flushed ? 0 : -0x1p-133f));
        CHECK(given(memory, 0x1.02p-100f, 0x1p-126f, k, 1, row) == 0x1.02p-100f + 0x1p-126f);
    }
}

int main(void)
{
    static const int lengths[] = {1, 2, 3, 8, 31, 32, 33, 62, 64, 95, 127, 255, 256, 300};
    char *memory[] = {guarded(), guarded(), guarded(), guarded()};
    numbers(&a[0][0], sizeof a / sizeof a[0][0], 1);
    numbers(&b[0][0], sizeof b / sizeof b[0][0], 2);
    numbers(start, BEFORE, 3);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        int n = lengths[i];
        const act_t *p = panel(memory[3], n);
        rows_alone(memory[1], n, p);
        for (int rows = 1; rows <= product_height(); rows++) check_rows(memory, rows, n, p);
        product_end();
    }
    check_special(memory);
    return test_end("test_tile");
}
