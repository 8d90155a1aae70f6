/* tile_amx.c (CPU) - see tile_amx.h.  32 rows by a panel: four tiles of sums, two of rows, two of the panel, so each
 * tile that is loaded is multiplied twice.
 *
 * The panels are those of vdpbf16ps: 32 steps of one are two tiles side by side.  Of 32 steps the even and the odd ones
 * have a sum each, from zero; both are added together, and that to the element.  Tails are filled up with 0: narrower
 * tiles would give the same, but shaping tiles clears them and takes as long as a dozen products. */
#include "common/cpu/tile_amx.h"

#if defined(ACT_BF16) && defined(__x86_64__)
#include "common/cpu/amx.h"

bool tile_amx_usable(void) { return amx_granted(); }

/* Of a tile's row: 32 steps of a, two steps of 16 columns of b, or 16 sums. */
enum { STEPS = STRIP_STEPS, TILE_BYTES = 64 };

/* The rows that this thread's tiles are shaped for, 0: not shaped.  Signal handlers see none of it: the system saves
 * the tiles for them and brings them back. */
static _Thread_local int shaped;

/* Tiles 0 1 / 2 3: sums, 4 / 5: rows of a, 6 7: the panel. */
static WITH_AMX void shape(int rows)
{
    struct amx_shapes shapes = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        int lower = tile == 2 || tile == 3 || tile == 5, n = tile >= 6 ? AMX_ROWS : lower ? rows - AMX_ROWS : rows;
        if (n <= 0) continue;
        shapes.rows[tile] = (uint8_t)(n < AMX_ROWS ? n : AMX_ROWS);
        shapes.row_bytes[tile] = TILE_BYTES;
    }
    amx_configure(&shapes);
    shaped = rows;
}

void tile_amx_end(void)
{
    if (shaped) amx_release();
    shaped = 0;
}

/* STEPS steps of the sums.   lower: there are more than AMX_ROWS rows */
INLINE WITH_AMX void advance(bool lower, const act_t *a, size_t lda, const act_t *b)
{
    const char *rows = (const char *)a;
    amx_load(6, b, 2 * TILE_BYTES);
    amx_load(4, rows, lda);
    amx_load(7, b + PANEL, 2 * TILE_BYTES);
    amx_dot(0, 4, 6);
    amx_dot(1, 4, 7);
    if (!lower) return;
    amx_load(5, rows + AMX_ROWS * lda, lda);
    amx_dot(2, 5, 6);
    amx_dot(3, 5, 7);
}

INLINE WITH_AMX void store(float *out, size_t ldo, bool lower)
{
    amx_store(0, out, ldo * sizeof *out);
    amx_store(1, out + PANEL / 2, ldo * sizeof *out);
    if (!lower) return;
    amx_store(2, out + AMX_ROWS * ldo, ldo * sizeof *out);
    amx_store(3, out + AMX_ROWS * ldo + PANEL / 2, ldo * sizeof *out);
}

WITH_AMX void tile_amx(float *out, size_t ldo, const float *before, size_t ldb, const act_t *a, size_t lda, bool packed,
                       const act_t *b, int rows, int n)
{
    int height = packed ? (int)tile_round((size_t)rows, AMX_ROWS) : rows, k = 0;
    bool lower = height > AMX_ROWS;
    size_t bytes = packed ? TILE_BYTES : lda * sizeof *a, piece = packed ? (size_t)height * STEPS : STEPS;
    if (shaped != (packed ? STRIP : rows)) shape(packed ? STRIP : rows);
    amx_zero(0);
    amx_zero(1);
    if (lower) {
        amx_zero(2);
        amx_zero(3);
    }
    for (; k + STEPS <= n; k += STEPS, a += piece, b += STEPS * PANEL) advance(lower, a, bytes, b);
    if (k < n) {
        act_t rest[STRIP * STEPS], panel[STEPS * PANEL] = {0};
        memcpy(panel, b, whole_steps(n - k) * PANEL * sizeof *b);
        if (!packed) tile_amx_pack_strip(rest, a, lda, rows, n - k);
        advance(lower, packed ? a : rest, TILE_BYTES, panel);
    }
    if (!before && height == rows) {
        store(out, ldo, lower);
        return;
    }
    float sums[STRIP * PANEL];
    store(sums, PANEL, lower);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < PANEL; c += VW) {
            vf x = v_load(sums + r * PANEL + c);
            if (before) x = v_load(before + (size_t)r * ldb + c) + x;
            v_store(out + (size_t)r * ldo + c, x);
        }
}

void tile_amx_pack_strip(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    size_t piece = tile_round((size_t)rows, AMX_ROWS) * STEPS;
    for (int r = 0; r < rows; r++, from += ld) {            /* along each row: memory is read in order */
        act_t *row = to + r * STEPS;
        int k = 0;
        for (; k + STEPS <= n; k += STEPS, row += piece) memcpy(row, from + k, STEPS * sizeof *row);
        if (k == n) continue;
        memcpy(row, from + k, (size_t)(n - k) * sizeof *row);
        memset(row + n - k, 0, (size_t)(STEPS - (n - k)) * sizeof *row);
    }
    size_t missing = piece - (size_t)rows * STEPS;
    for (int k = 0; k < n && missing; k += STEPS, to += piece) memset(to + rows * STEPS, 0, missing * sizeof *to);
}

/* Words of two steps, a row of them for two rows of the matrix, and these transposed as floats are. */
void tile_amx_pack_columns(act_t *to, const act_t *from, size_t ld, int rows, int n)
{
    act_t words[STEPS * STRIP] __attribute__((aligned(64)));
    float *to_words = (float *)(void *)to;
    int height = (int)tile_round((size_t)rows, AMX_ROWS);
    if (n < STEPS || rows < height) memset(words, 0, sizeof words);
    for (int k = 0; k < n; k += STEP) steps_copy(words + k * height, from + (size_t)k * ld, ld, rows, n - k);
    tile_turn(to_words, STEPS / STEP, (const float *)(const void *)words, (size_t)height, STEPS / STEP, height);
}

/* From zeros in eight tiles, as advance() multiplies them. */
WITH_AMX int tile_amx_chains(volatile float *sink, int steps)
{
    enum { STEPS_A_ROUND = 16 };                            /* else a try would take 16 times as long as vdpbf16ps */
    float sum[AMX_ROWS * TILE_BYTES / sizeof(float)];
    shape(STRIP);
    for (int s = 0; s < steps; s += STEPS_A_ROUND) {
        amx_dot(0, 4, 6);
        amx_dot(1, 4, 7);
        amx_dot(2, 5, 6);
        amx_dot(3, 5, 7);
    }
    amx_store(0, sum, TILE_BYTES);
    tile_amx_end();
    if (sum[0] == 0.5f) *sink = 1;
    return STRIP * PANEL * STEPS / STEPS_A_ROUND;
}
#else
typedef int tile_amx_is_empty;
#endif
