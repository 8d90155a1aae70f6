/* matmul_pack.c (CPU) - weights as the products read them: panels of PANEL rows of the matrix (product_tile.h). */
#include "common/cpu/product_tile.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

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
        int n = int_min(PIECE, p->in - k), size = (int)whole_steps(n) * PANEL;
        if (p->rounding) round_piece(rounded, p, j, columns, k, n);
        if (p->rounding) product_pack_weights(piece, rounded, PIECE, columns, n, 0);
        else product_pack_weights(piece, from + k, (size_t)p->in, columns, n, PIECE);
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
