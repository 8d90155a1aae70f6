/* vector.h - one width of float vectors for the CPU kernels, from GCC's vector extensions: 16 with AVX-512, 8 with AVX,
 * 4 else.  Unaligned loads and stores; arithmetic is elementwise, so an element's bits do not depend on its lane. */
#ifndef QUARTET_VECTOR_H
#define QUARTET_VECTOR_H

#include "common/cpu/act.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>      /* for the one thing the extensions cannot say: a maximum in one instruction */
#endif

#if defined(__AVX512F__)
#define VW 16
#elif defined(__AVX__)
#define VW 8
#else
#define VW 4
#endif

#if defined(__AVX512F__) || defined(__aarch64__)
#define VECTOR_REGISTERS 32
#else
#define VECTOR_REGISTERS 16
#endif

typedef float vf __attribute__((vector_size(4 * VW), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * VW), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))

INLINE vf v_load(const float *p) { return *(const vf *)p; }
INLINE void v_store(float *p, vf x) { *(vf *)p = x; }
/* The same, past the caches where the machine can: p aligned to a vector; for what is not read again soon.
 * v_stream_end makes what was streamed visible to other threads before whatever the caller stores next. */
#if defined(__x86_64__)
INLINE void v_stream(float *p, vf x)
{
#if defined(__AVX512F__)
    _mm512_stream_ps(p, (__m512)x);
#elif defined(__AVX__)
    _mm256_stream_ps(p, (__m256)x);
#else
    _mm_stream_ps(p, (__m128)x);
#endif
}
INLINE void v_stream_end(void) { _mm_sfence(); }
#else
INLINE void v_stream(float *p, vf x) { v_store(p, x); }
INLINE void v_stream_end(void) {}
#endif
/* The same value, and for the compiler a new one: it must stay in a register, not be loaded again at every use. */
INLINE vf v_pin(vf x)
{
#if defined(__x86_64__)
    __asm__("" : "+x"(x));
#elif defined(__aarch64__)
    __asm__("" : "+w"(x));
#endif
    return x;
}
/* The same, and the compiler keeps the order of these calls: values are loaded one by one, each when it is needed. */
INLINE vf v_in_turn(vf x)
{
#if defined(__x86_64__)
    __asm__ volatile("" : "+x"(x));
#elif defined(__aarch64__)
    __asm__ volatile("" : "+w"(x));
#endif
    return x;
}
INLINE vf v_set(float x) { return x - (vf){0}; }
INLINE vf v_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
/* a > b ? a : b and a < b ? a : b: where one is not a number, b. */
#if defined(__AVX512F__)
INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX__)
INLINE vf v_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__x86_64__)
INLINE vf v_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
#endif
/* The first n < VW elements; the rest read as 0 and stay unwritten. */
INLINE vf v_load_part(const float *p, int n) { vf x = {0}; memcpy(&x, p, (size_t)n * sizeof(float)); return x; }
INLINE void v_store_part(float *p, vf x, int n) { memcpy(p, &x, (size_t)n * sizeof(float)); }
/* The same of what is left: whole vectors where n reaches, else a part. */
INLINE vf v_load_upto(const float *p, int n) { return n >= VW ? v_load(p) : v_load_part(p, n); }
INLINE void v_store_upto(float *p, vf x, int n)
{
    if (n >= VW) v_store(p, x);
    else v_store_part(p, x, n);
}
/* To the nearest bfloat16, ties to even; of numbers that are finite. */
INLINE vf v_to_bf16(vf x) { vi u = (vi)x; return (vf)((u + 0x7fff + (u >> 16 & 1)) & ~0xffff); }
/* Activations as floats: up to a vector, and one alone.  Only these know how act_t is stored.  bfloat16 is rounded to
 * nearest, ties to even; a NaN stays one. */
#ifdef ACT_BF16
typedef uint16_t vh __attribute__((vector_size(2 * VW), aligned(2), may_alias));
typedef uint32_t vu __attribute__((vector_size(4 * VW), aligned(4), may_alias));
INLINE vu v_round_act(vf x)                /* as bfloat16, in the lower halves */
{
    vu u = (vu)x, rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
    return (vu)v_select(x == x, (vf)rounded, (vf)(u >> 16 | 0x40));
}
INLINE vf act_load(const act_t *p, int n)
{
    vh h = {0};
    if (n >= VW) h = *(const vh *)p;
    else memcpy(&h, p, (size_t)n * sizeof *p);
    return (vf)(__builtin_convertvector(h, vu) << 16);
}
INLINE void act_store(act_t *p, vf x, int n)
{
    vh h = __builtin_convertvector(v_round_act(x), vh);
    if (n >= VW) *(vh *)p = h;
    else memcpy(p, &h, (size_t)n * sizeof *p);
}
INLINE float act_get(act_t x)
{
    uint32_t u = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
INLINE act_t act_put(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (act_t){(uint16_t)(x == x ? (u + 0x7fff + (u >> 16 & 1)) >> 16 : u >> 16 | 0x40)};
}
#else
INLINE vf act_load(const act_t *p, int n) { return v_load_upto(p, n); }
INLINE void act_store(act_t *p, vf x, int n) { v_store_upto(p, x, n); }
INLINE float act_get(act_t x) { return x; }
INLINE act_t act_put(float x) { return x; }
#endif
/* 0, 1, 2, ...: a lane's own number. */
INLINE vi v_lanes(void)
{
    vi n;
    for (int i = 0; i < VW; i++) n[i] = i;
    return n;
}
/* Sum and maximum of the lanes, in a fixed order: halves folded onto each other.  Written out, because loops over so
 * few lanes are compiled as loops. */
typedef float v_quarter __attribute__((vector_size(16)));
INLINE float v_sum(vf x)
{
    v_quarter q[4];
    memcpy(q, &x, sizeof x);
    if (VW == 16) { q[0] += q[2]; q[1] += q[3]; }
    if (VW >= 8) q[0] += q[1];
    return (q[0][0] + q[0][2]) + (q[0][1] + q[0][3]);
}
INLINE float v_max_lane(vf x)
{
    vf y = x;
    if (VW == 16) { memcpy(&y, (char *)&x + 2 * VW, 2 * VW); x = v_max(x, y); }
    if (VW >= 8) { memcpy(&y, (char *)&x + 16, 16); x = v_max(x, y); }
    float a = x[0] > x[2] ? x[0] : x[2], b = x[1] > x[3] ? x[1] : x[3];
    return a > b ? a : b;
}

/* e^(x - n ln 2) for |x - n ln 2| <= ln 2 / 2: ln 2 in two parts, then a polynomial of degree 7 (Taylor coefficients
 * tuned for the interval). */
INLINE vf v_exp_rest(vf x, vf n)
{
    vf r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vf p = v_set(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return p;
}

/* e^x = 2^n e^(x - n ln 2) to about 1 ulp: 0 below -87.3, infinite above 88.72, NaN for NaN. */
INLINE vf v_exp(vf x)
{
    vf clamped = v_min(v_set(89), v_max(v_set(-87.3f), x));           /* a NaN goes through */
    vf n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;       /* rounds to the nearest integer */
    vf p = v_exp_rest(clamped, n);
    vi e = __builtin_convertvector(n, vi);
    vf half = (vf)(((e >> 1) + 127) << 23);      /* 2^n in two steps: 2^128 overflows one */
    vf rest = (vf)((e - (e >> 1) + 127) << 23);
    vf y = p * half * rest;
    return (vf)((vi)y & ~(x < -87.3f));
}

/* The same for x <= 0 (or NaN), with fewer steps: exactly 0 below -86.  A little above 0, by rounding, counts as 0. */
INLINE vf v_exp_low(vf x)
{
    vf clamped = v_min(v_set(0), v_max(v_set(-86.0f), x));
    vf n = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;
    vf p = v_exp_rest(clamped, n);
    vf y = (vf)((vi)p + (__builtin_convertvector(n, vi) << 23));      /* n is added to the exponent */
    return v_select(x < -86.0f, v_set(0), y);
}

#endif
