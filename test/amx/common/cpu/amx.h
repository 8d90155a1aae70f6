/* amx.h (test) - the tile instructions in plain C, in place of common/cpu/amx.h: make AMX=1.
 *
 * What the processor would refuse (#UD, #GP) ends the process with a sentence, and so do tiles of the main thread that
 * are still there when the program ends.  Rows are read and written as the processor reads and writes them, byte for
 * byte, so AddressSanitizer sees what lies outside.
 * Source: Intel SDM, volume 1, Programming with Intel Advanced Matrix Extensions; volume 2, the instructions. */
#ifndef QUARTET_AMX_H
#define QUARTET_AMX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#define WITH_AMX

enum { AMX_TILES = 8, AMX_MOST = 16, AMX_WORDS = 16 };

struct amx_shapes { uint8_t palette, start_row, reserved[14]; uint16_t row_bytes[16]; uint8_t rows[16]; };

static _Thread_local struct {
    struct amx_shapes shapes;                       /* palette 0: not configured */
    union { uint16_t half[AMX_WORDS][2]; float sum[AMX_WORDS]; } row[AMX_TILES][AMX_MOST];
} amx_state;

/* AMX_REFUSED: a system that does not grant them. */
static inline bool amx_granted(void) { return !getenv("AMX_REFUSED"); }

static inline void amx_demand(bool ok, const char *instruction, const char *what)
{
    if (ok) return;
    fprintf(stderr, "amx: %s: %s\n", instruction, what);
    abort();
}

static inline void amx_tile(const char *instruction, int tile)
{
    const struct amx_shapes *s = &amx_state.shapes;
    amx_demand(s->palette == 1, instruction, "this thread's tiles are not configured");
    amx_demand(tile >= 0 && tile < AMX_TILES && s->rows[tile] > 0, instruction, "there is no such tile");
    amx_demand(s->row_bytes[tile] % 4 == 0, instruction, "the tile's rows are no whole words");
}

static inline void amx_configure(const struct amx_shapes *shapes)
{
    static const char name[] = "ldtilecfg";
    struct amx_shapes s;
    memcpy(&s, shapes, sizeof s);
    amx_demand(s.palette == 1, name, "the palette is not 1");
    for (int i = 0; i < 14; i++) amx_demand(s.reserved[i] == 0, name, "reserved bytes are not 0");
    for (int t = 0; t < 16; t++) {
        amx_demand(t < AMX_TILES || (!s.rows[t] && !s.row_bytes[t]), name, "there are eight tiles");
        amx_demand(s.rows[t] <= AMX_MOST && s.row_bytes[t] <= 64, name, "a tile has at most 16 rows of 64 bytes");
        amx_demand(!s.rows[t] == !s.row_bytes[t], name, "a tile has rows of no bytes, or bytes of no rows");
    }
    amx_demand(s.start_row == 0, name, "a start row is for interrupted instructions");
    memset(&amx_state, 0, sizeof amx_state);
    amx_state.shapes = s;
}

static inline void amx_release(void) { memset(&amx_state, 0, sizeof amx_state); }

static inline __attribute__((destructor)) void amx_left(void)
{
    amx_demand(amx_state.shapes.palette == 0, "at the end", "tiles were not released");
}

static inline void amx_zero(int tile)
{
    amx_tile("tilezero", tile);
    memset(amx_state.row[tile], 0, sizeof amx_state.row[tile]);
}

static inline void amx_load(int tile, const void *from, size_t ld)
{
    amx_zero(tile);
    for (int r = 0; r < amx_state.shapes.rows[tile]; r++)
        memcpy(&amx_state.row[tile][r], (const char *)from + (size_t)r * ld, amx_state.shapes.row_bytes[tile]);
}

static inline void amx_store(int tile, void *to, size_t ld)
{
    amx_tile("tilestored", tile);
    for (int r = 0; r < amx_state.shapes.rows[tile]; r++)
        memcpy((char *)to + (size_t)r * ld, &amx_state.row[tile][r], amx_state.shapes.row_bytes[tile]);
}

static inline float amx_widened(uint16_t half)
{
    uint32_t word = (uint32_t)half << 16;
    float x;
    memcpy(&x, &word, sizeof x);
    return x;
}

/* One row of sums.  noinline: nothing may move to where denormals are kept. */
static __attribute__((noinline)) void amx_dot_row(float *sum, int columns, const uint16_t (*a)[2], int b, int pairs)
{
    float even[AMX_WORDS] = {0}, odd[AMX_WORDS] = {0};
    for (int k = 0; k < pairs; k++) {
        float x = amx_widened(a[k][0]), y = amx_widened(a[k][1]);
        for (int n = 0; n < AMX_WORDS; n++) {
            const uint16_t *w = amx_state.row[b][k].half[n];
            even[n] = __builtin_fmaf(x, amx_widened(w[0]), even[n]);
            odd[n] = __builtin_fmaf(y, amx_widened(w[1]), odd[n]);
        }
    }
    for (int n = 0; n < columns; n++) sum[n] += even[n] + odd[n];
}

static inline void amx_dot(int sums, int a, int b)
{
    enum { NEAREST_NO_DENORMALS = 0x9fc0 };         /* all exceptions masked, flush to zero, denormals are zeros */
    static const char name[] = "tdpbf16ps";
    const struct amx_shapes *s = &amx_state.shapes;
    amx_demand(sums != a && sums != b && a != b, name, "a tile twice");
    amx_tile(name, sums);
    amx_tile(name, a);
    amx_tile(name, b);
    amx_demand(s->rows[sums] == s->rows[a], name, "the sums have other rows than a");
    amx_demand(s->row_bytes[sums] == s->row_bytes[b], name, "the sums have other columns than b");
    amx_demand(s->row_bytes[a] == 4 * s->rows[b], name, "b has other steps than a");
    unsigned control = _mm_getcsr();
    _mm_setcsr(NEAREST_NO_DENORMALS);
    for (int m = 0; m < s->rows[a]; m++)
        amx_dot_row(amx_state.row[sums][m].sum, s->row_bytes[b] / 4, amx_state.row[a][m].half, b, s->rows[b]);
    _mm_setcsr(control);
}

#endif
