/* tensor.h - tensor cores and asynchronous copies: all the PTX of this project.  Each wrapper has a branch in plain C++
 * for the simulator.
 *
 * Fragments of one product c (16,8) += a (16,16) b (16,8), by lane, with row = lane / 4 and pair = 2 * (lane % 4):
 *     a[0], a[2]   row,      columns pair, pair + 1, and 8 more      a[1], a[3]   the same of row + 8
 *     b[0], b[1]   column row, rows pair, pair + 1, and 8 more
 *     c[0], c[1]   row,      columns pair, pair + 1                  c[2], c[3]   the same of row + 8
 * Of two bfloat16 in a register the lower half comes first.
 * Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type", "ldmatrix", "cp.async". */
#ifndef QUARTET_CUDA_TENSOR_H
#define QUARTET_CUDA_TENSOR_H

#include "common/cuda/kernel.h"

typedef __nv_bfloat16 half_t;

__device__ static inline uint32_t pair_of(float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

#ifndef CUDASIM

__device__ static inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four matrices (8,8) from shared memory: lane 8 m + r names row r of matrix m, 16 bytes, aligned.  Lane l gets, of
 * matrix m in to[m], elements (l / 4, pair) and (l / 4, pair + 1); when turned, (pair, l / 4) and (pair + 1, l / 4). */
__device__ static inline void load_matrices(uint32_t (&to)[4], const half_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

__device__ static inline void load_turned(uint32_t (&to)[4], const half_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}

/* 16, or 4, bytes to shared memory, aligned; zeros where there is nothing to copy: `from` is then any address of the
 * device.  They are there when the thread has closed the group, waited for it, and passed a barrier. */
__device__ static inline void copy_16(void *to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)),
                    "r"(there ? 16 : 0) : "memory");
}

__device__ static inline void copy_4(void *to, const void *from, bool there)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)),
                    "r"(there ? 4 : 0) : "memory");
}

/* Closes a group of copies; waits until all but the newest groups, LEFT of them, are there. */
__device__ static inline void copies_close(void) { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> __device__ static inline void copies_wait(void)
{
    asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory");
}

#else

struct lane_product { float *c; uint32_t a[4], b[2]; };
struct lane_load { uint32_t *to; half_t row[8]; bool turned; };

static inline float half_of(uint32_t pair, int which)
{
    half_t x;
    memcpy(&x, (const char *)&pair + 2 * which, sizeof x);
    return to_float(x);
}

static inline void warp_product(void *const lane[])
{
    float a[16][16], b[8][16];                          /* b turned: by its columns */
    for (int l = 0; l < WARP; l++) {
        const struct lane_product *p = (const struct lane_product *)lane[l];
        int row = l / 4, pair = 2 * (l % 4);
        for (int i = 0; i < 8; i++) a[row + i / 2 % 2 * 8][pair + i / 4 * 8 + i % 2] = half_of(p->a[i / 2], i % 2);
        for (int i = 0; i < 4; i++) b[row][pair + i / 2 * 8 + i % 2] = half_of(p->b[i / 2], i % 2);
    }
    for (int l = 0; l < WARP; l++)
        for (int i = 0; i < 4; i++) {
            const float *x = a[l / 4 + i / 2 * 8], *y = b[2 * (l % 4) + i % 2];
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += x[k] * y[k];
            ((const struct lane_product *)lane[l])->c[i] += sum;
        }
}

static inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    struct lane_product p = {c, {a[0], a[1], a[2], a[3]}, {b0, b1}};
    sim::warp_work(warp_product, &p);
}

static inline void warp_load(void *const lane[])
{
    auto found = [&](int l) { return ((const struct lane_load *)lane[l])->row; };
    for (int l = 0; l < WARP; l++) {
        const struct lane_load *p = (const struct lane_load *)lane[l];
        for (int i = 0; i < 8; i++) {
            int m = i / 2, row = l / 4, column = 2 * (l % 4) + i % 2;
            const half_t *x = p->turned ? &found(8 * m + column)[row] : &found(8 * m + row)[column];
            memcpy((char *)(p->to + m) + 2 * (i % 2), (const void *)x, sizeof *x);
        }
    }
}

static inline void load_any(uint32_t (&to)[4], const half_t *row, bool turned)
{
    struct lane_load p = {to, {}, turned};
    sim::check_aligned(row, 16);
    memcpy((void *)p.row, (const void *)row, sizeof p.row);     /* by the lane that names it: a race is its own */
    sim::warp_work(warp_load, &p);
}

static inline void load_matrices(uint32_t (&to)[4], const half_t *row) { load_any(to, row, false); }
static inline void load_turned(uint32_t (&to)[4], const half_t *row) { load_any(to, row, true); }
static inline void copy_16(void *to, const void *from, bool there) { sim::copy_later(to, from, 16, there); }
static inline void copy_4(void *to, const void *from, bool there) { sim::copy_later(to, from, 4, there); }
static inline void copies_close(void) { sim::copies_close(); }
template <int LEFT> static inline void copies_wait(void) { sim::copies_wait(LEFT); }

#endif
#endif
