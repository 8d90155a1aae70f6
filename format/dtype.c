/* dtype.c - the number formats a tensor may have, one row each, and their values widened.  Plain loops over at most a
 * few MiB: the CRC beside them costs more. */
#include "format/layout.h"

#include <math.h>

static const struct { const char *name; uint32_t size; } table[] = {
    [DTYPE_F32] = {"f32", 4}, [DTYPE_F16] = {"f16", 2}, [DTYPE_BF16] = {"bf16", 2}, [DTYPE_F64] = {"f64", 8},
    [DTYPE_I8] = {"i8", 1}, [DTYPE_U8] = {"u8", 1}, [DTYPE_I16] = {"i16", 2}, [DTYPE_U16] = {"u16", 2},
    [DTYPE_I32] = {"i32", 4}, [DTYPE_U32] = {"u32", 4}, [DTYPE_I64] = {"i64", 8}, [DTYPE_U64] = {"u64", 8},
    [DTYPE_BOOL] = {"bool", 1}, [DTYPE_F8_E4M3FN] = {"f8_e4m3fn", 1}, [DTYPE_F8_E5M2] = {"f8_e5m2", 1},
    [DTYPE_F8_E8M0] = {"f8_e8m0", 1}};

const char *dtype_name(uint32_t dtype) { return dtype < sizeof table / sizeof *table ? table[dtype].name : NULL; }
uint32_t dtype_size(uint32_t dtype) { return dtype_name(dtype) ? table[dtype].size : 0; }
bool dtype_is_float(uint32_t dtype) { return dtype >= DTYPE_F32 && dtype <= DTYPE_F64; }

const char *role_name(uint32_t role)
{
    static const char *const name[] = {"weight", "master", "m", "v", "ema", "buffer", "head", "scale"};
    return role < sizeof name / sizeof *name ? name[role] : NULL;
}

/* A small float of `exponent` and `mantissa` bits; the top exponent is an ordinary one when `finite` (e4m3fn). */
static double small_float(uint32_t bits, int exponent, int mantissa, bool finite)
{
    uint32_t sign = bits >> (exponent + mantissa), top = (1U << exponent) - 1, ones = (1U << mantissa) - 1;
    uint32_t e = bits >> mantissa & top, m = bits & ones;
    int bias = (int)(top >> 1);
    double value;
    if (e == top && finite && m == ones) value = (double)NAN;
    else if (e == top && !finite) value = m ? (double)NAN : (double)INFINITY;
    else if (e == 0) value = ldexp(m, 1 - bias - mantissa);
    else value = ldexp((double)(m | 1U << mantissa), (int)e - bias - mantissa);
    return sign ? -value : value;
}

static float bits_to_f32(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static float bf16_to_f32(uint16_t h) { return bits_to_f32((uint32_t)h << 16); }

/* The bits moved into float's places lack only the difference of the biases: a product with 2^112, exact for subnormals
 * too. */
static float f16_to_f32(uint16_t h)
{
    uint32_t magnitude = (uint32_t)(h & 0x7FFF) << 13, sign = (uint32_t)(h & 0x8000) << 16, bits;
    float f = bits_to_f32(magnitude) * 0x1p112f;
    memcpy(&bits, &f, 4);
    if (magnitude >= UINT32_C(0x7C00) << 13) bits = magnitude | 0x7F800000U;
    return bits_to_f32(bits | sign);
}

void dtype_to_f32(float *out, const void *in, size_t n, uint32_t dtype)
{
    const uint8_t *p = in;
    if (dtype == DTYPE_F32) for (size_t i = 0; i < n; i++) out[i] = bits_to_f32(load32(p + 4 * i));
    else if (dtype == DTYPE_F16) for (size_t i = 0; i < n; i++) out[i] = f16_to_f32(load16(p + 2 * i));
    else if (dtype == DTYPE_BF16) for (size_t i = 0; i < n; i++) out[i] = bf16_to_f32(load16(p + 2 * i));
    else if (dtype == DTYPE_F64) for (size_t i = 0; i < n; i++) out[i] = (float)load_f64(p + 8 * i);
    else die("dtype_to_f32 of dtype %u", dtype);
}

static double one_to_f64(const uint8_t *p, uint32_t dtype)
{
    switch (dtype) {
    case DTYPE_F64: return load_f64(p);
    case DTYPE_I8: return (int8_t)p[0];
    case DTYPE_U8: case DTYPE_BOOL: return p[0];
    case DTYPE_I16: return (int16_t)load16(p);
    case DTYPE_U16: return load16(p);
    case DTYPE_I32: return (int32_t)load32(p);
    case DTYPE_U32: return load32(p);
    case DTYPE_I64: return (double)(int64_t)load64(p);
    case DTYPE_U64: return (double)load64(p);
    case DTYPE_F8_E4M3FN: return small_float(p[0], 4, 3, true);
    case DTYPE_F8_E5M2: return small_float(p[0], 5, 2, false);
    case DTYPE_F8_E8M0: return p[0] == 255 ? (double)NAN : ldexp(1, p[0] - 127);
    default: die("dtype_to_f64 of dtype %u", dtype);
    }
}

void dtype_to_f64(double *out, const void *in, size_t n, uint32_t dtype)
{
    const uint8_t *p = in;
    if (dtype == DTYPE_F32) for (size_t i = 0; i < n; i++) out[i] = (double)bits_to_f32(load32(p + 4 * i));
    else if (dtype == DTYPE_F16) for (size_t i = 0; i < n; i++) out[i] = (double)f16_to_f32(load16(p + 2 * i));
    else if (dtype == DTYPE_BF16) for (size_t i = 0; i < n; i++) out[i] = (double)bf16_to_f32(load16(p + 2 * i));
    else for (size_t i = 0, size = dtype_size(dtype); i < n; i++) out[i] = one_to_f64(p + size * i, dtype);
}
