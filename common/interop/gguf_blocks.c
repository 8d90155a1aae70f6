/* gguf_blocks.c - quantised blocks as floats, and floats as the forms that are written.  A value is a small integer
 * times a scale, less a minimum in some types; the scales are float16, in the K types times integers of 4 to 8 bits.
 * Low nibbles are the first half of a block. */
#include "common/interop/gguf.h"
#include "format/layout.h"

#include <math.h>
#include <string.h>

enum type { Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
            IQ4_NL = 20 };

static const struct { enum type type; uint8_t values, bytes; } small[] = {
    {Q4_0, 32, 18}, {Q4_1, 32, 20}, {Q5_0, 32, 22}, {Q5_1, 32, 24}, {Q8_0, 32, 34}, {IQ4_NL, 32, 18},
    {Q2_K, 0, 84}, {Q3_K, 0, 110}, {Q4_K, 0, 144}, {Q5_K, 0, 176}, {Q6_K, 0, 210}};      /* values 0: 256 */

size_t gguf_block(uint32_t dtype, size_t *bytes)
{
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        if (dtype == GGUF_QUANTISED + (uint32_t)small[i].type) {
            *bytes = small[i].bytes;
            return small[i].values ? small[i].values : 256;
        }
    return 0;
}

static float half(const uint8_t *p)
{
    float x;
    dtype_to_f32(&x, p, 1, DTYPE_F16);
    return x;
}

static int nibble(const uint8_t *q, int i) { return i < 16 ? q[i] & 15 : q[i - 16] >> 4; }

static void small_block(float *y, const uint8_t *p, enum type type)
{
    static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    float d = half(p), m = half(p + 2);
    uint32_t high = type == Q5_0 ? load32(p + 2) : load32(p + 4);
    for (int i = 0; i < 32; i++) {
        int bit = (int)(high >> i & 1) << 4;
        switch (type) {
        case Q4_0: y[i] = (float)(nibble(p + 2, i) - 8) * d; break;
        case Q4_1: y[i] = (float)nibble(p + 4, i) * d + m; break;
        case Q5_0: y[i] = (float)((nibble(p + 6, i) | bit) - 16) * d; break;
        case Q5_1: y[i] = (float)(nibble(p + 8, i) | bit) * d + m; break;
        case IQ4_NL: y[i] = (float)levels[nibble(p + 2, i)] * d; break;
        default: y[i] = (float)(int8_t)p[2 + i] * d;
        }
    }
}

/* Scale and minimum of group g of Q4_K and Q5_K: six bits each, packed in twelve bytes. */
static void six_bits(int *scale, int *minimum, const uint8_t *s, int g)
{
    if (g < 4) {
        *scale = s[g] & 63;
        *minimum = s[g + 4] & 63;
    } else {
        *scale = (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
        *minimum = s[g + 4] >> 4 | s[g] >> 6 << 4;
    }
}

static void block_4_5(float *y, const uint8_t *p, bool five)
{
    float d = half(p), dmin = half(p + 2);
    const uint8_t *high = p + 16, *q = five ? p + 48 : p + 16;
    for (int i = 0; i < 256; i++) {
        int g = i / 32, l = i % 32, scale, minimum, byte = q[32 * (g / 2) + l];
        int n = (g % 2 ? byte >> 4 : byte & 15) + (five ? (high[l] >> g & 1) << 4 : 0);
        six_bits(&scale, &minimum, p + 4, g);
        y[i] = d * (float)scale * (float)n - dmin * (float)minimum;
    }
}

static void block_2(float *y, const uint8_t *p)
{
    float d = half(p + 80), dmin = half(p + 82);
    for (int i = 0; i < 256; i++) {
        int n = p[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3, s = p[i / 16];
        y[i] = d * (float)(s & 15) * (float)n - dmin * (float)(s >> 4);
    }
}

static void block_3(float *y, const uint8_t *p)
{
    float d = half(p + 108);
    const uint8_t *s = p + 96;
    for (int i = 0; i < 256; i++) {
        int k = i / 16, low = k < 8 ? s[k] & 15 : s[k - 8] >> 4,
            scale = (low | (s[8 + k % 4] >> (k / 4 * 2) & 3) << 4) - 32;
        int n = p[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3, high = p[i % 32] >> (i / 32) & 1;
        y[i] = d * (float)scale * (float)(n - (high ? 0 : 4));
    }
}

static void block_6(float *y, const uint8_t *p)
{
    float d = half(p + 208);
    for (int i = 0; i < 256; i++) {
        int h = i / 128, r = i % 128, k = r / 32, l = r % 32, byte = p[64 * h + 32 * (k & 1) + l];
        int n = (k < 2 ? byte & 15 : byte >> 4) | (p[128 + 32 * h + l] >> 2 * k & 3) << 4;
        y[i] = d * (float)(int8_t)p[192 + 8 * h + r / 16] * (float)(n - 32);
    }
}

void gguf_dequantise(float *out, const void *in, size_t n, uint32_t dtype)
{
    const uint8_t *p = in;
    enum type type = (enum type)(dtype - GGUF_QUANTISED);
    size_t bytes = 0, values = gguf_block(dtype, &bytes);
    for (; n >= values && values; n -= values, out += values, p += bytes) {
        if (type == Q2_K) block_2(out, p);
        else if (type == Q3_K) block_3(out, p);
        else if (type == Q4_K || type == Q5_K) block_4_5(out, p, type == Q5_K);
        else if (type == Q6_K) block_6(out, p);
        else small_block(out, p, type);
    }
}

/* ---- and back ---- */

/* To nearest, ties to even. */
static uint16_t half_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return (uint16_t)(sign | 0x7E00);
    if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7C00);
    if (magnitude < 0x38800000) return (uint16_t)(sign | (uint32_t)rint(ldexp(fabs((double)x), 24)));
    magnitude += 0xFFF + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

static uint16_t brain_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void gguf_encode(uint8_t *out, const float *x, size_t n, enum interop_type type)
{
    if (type == INTEROP_F32) memcpy(out, x, n * 4);
    if (type == INTEROP_F16) for (size_t i = 0; i < n; i++) store16(out + 2 * i, half_of(x[i]));
    if (type == INTEROP_BF16) for (size_t i = 0; i < n; i++) store16(out + 2 * i, brain_of(x[i]));
    for (size_t b = 0; type == INTEROP_Q8_0 && b + 32 <= n; b += 32, out += 34) {
        float most = 0;
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[b + (size_t)i]));
        float scale = most / 127, inverse = scale != 0 ? 1 / scale : 0;
        store16(out, half_of(scale));
        for (int i = 0; i < 32; i++) out[2 + i] = (uint8_t)(int8_t)roundf(x[b + (size_t)i] * inverse);
    }
}
