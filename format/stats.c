/* stats.c - what the numbers of a tensor look like.  Two passes over blocks that fit the first-level cache, in double,
 * then a pairwise update: no cancellation, and nothing that depends on the number of threads. */
#include "format/layout.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 1024 };

/* Lanes keep the loops free of a serial chain, and the sums in one fixed order. */
enum { LANES = 32 };

struct lanes { double low[LANES], high[LANES], sum[LANES]; uint32_t zero[LANES]; };

/* n: a multiple of LANES. */
static void pass_one(struct lanes *l, const double *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) {
            double v = x[i + (size_t)k];
            l->low[k] = v < l->low[k] ? v : l->low[k];
            l->high[k] = v > l->high[k] ? v : l->high[k];
            l->sum[k] += v;
            l->zero[k] += v == 0;
        }
}

static double pass_two(const double *x, size_t n, double mean)
{
    double square[LANES] = {0}, sum = 0;
    for (size_t i = 0; i < n; i += LANES)
        for (int k = 0; k < LANES; k++) square[k] += (x[i + (size_t)k] - mean) * (x[i + (size_t)k] - mean);
    for (int k = 0; k < LANES; k++) sum += square[k];
    return sum;
}

/* n values, all finite when the sum is; x is overwritten from n up to a multiple of LANES. */
static bool finite_moments(struct moments *m, double *x, size_t n)
{
    struct lanes l = {.zero = {0}};
    size_t whole = (n + LANES - 1) / LANES * LANES;
    for (int k = 0; k < LANES; k++) l.low[k] = l.high[k] = x[0];
    pass_one(&l, x, n / LANES * LANES);
    for (size_t i = n / LANES * LANES; i < n; i++) {
        l.low[0] = x[i] < l.low[0] ? x[i] : l.low[0];
        l.high[0] = x[i] > l.high[0] ? x[i] : l.high[0];
        l.sum[0] += x[i];
        l.zero[0] += x[i] == 0;
    }
    *m = (struct moments){.count = n, .min = l.low[0], .max = l.high[0]};
    for (int k = 0; k < LANES; k++) {
        m->min = l.low[k] < m->min ? l.low[k] : m->min;
        m->max = l.high[k] > m->max ? l.high[k] : m->max;
        m->mean += l.sum[k];
        m->zero += l.zero[k];
    }
    if (!isfinite(m->mean)) return false;
    m->mean /= (double)n;
    for (size_t i = n; i < whole; i++) x[i] = m->mean;             /* adds nothing to the squares */
    m->m2 = pass_two(x, whole, m->mean);
    return true;
}

/* NaN and infinities are counted and set aside; they are rare, so a block is first taken to have none. */
static void block_moments(struct moments *m, double *x, size_t n)
{
    uint64_t nan = 0, inf = 0;
    size_t kept = 0;
    if (finite_moments(m, x, n)) return;
    for (size_t i = 0; i < n; i++) {
        nan += isnan(x[i]) != 0;
        inf += isinf(x[i]) != 0;
        if (isfinite(x[i])) x[kept++] = x[i];
    }
    *m = (struct moments){0};
    /* a sum that overflows leaves mean and m2 infinite or 0 */
    if (kept) finite_moments(m, x, kept);
    m->nan = nan;
    m->inf = inf;
}

void moments_add(struct moments *to, const struct moments *m)
{
    to->nan += m->nan;
    to->inf += m->inf;
    to->zero += m->zero;
    if (m->count == 0) return;
    double n = (double)to->count, k = (double)m->count, delta = m->mean - to->mean;
    to->min = to->count ? fmin(to->min, m->min) : m->min;
    to->max = to->count ? fmax(to->max, m->max) : m->max;
    to->mean += delta * (k / (n + k));
    to->m2 += m->m2 + delta * delta * (n * (k / (n + k)));
    to->count += m->count;
}

void moments_of(struct moments *m, const void *data, uint64_t bytes, uint32_t dtype)
{
    uint32_t size = dtype_size(dtype);
    double x[BLOCK];
    *m = (struct moments){0};
    for (uint64_t at = 0, n = bytes / size; at < n; at += BLOCK) {
        size_t take = n - at < BLOCK ? (size_t)(n - at) : BLOCK;
        struct moments block;
        dtype_to_f64(x, (const char *)data + at * size, take, dtype);
        block_moments(&block, x, take);
        moments_add(m, &block);
    }
}

struct stats moments_stats(const struct moments *m)
{
    double absmax = fmax(fabs(m->min), fabs(m->max));
    double std = m->count ? sqrt(m->m2 / (double)m->count) : 0;
    /* values near the largest double can overflow a sum or square; the file keeps finite numbers only */
    return (struct stats){m->min, m->max, isfinite(m->mean) ? m->mean : 0, isfinite(std) ? std : 0, absmax, m->nan,
                          m->inf, m->zero};
}

/* ---- STAT: u32 count, u32 entry size, u64 0, then an entry per tensor ---- */

void stats_encode(struct bytes *out, const struct moments *moments, size_t count)
{
    add32(out, (uint32_t)count);
    add32(out, CKPT_STAT_ENTRY);
    add64(out, 0);
    for (size_t i = 0; i < count; i++) {
        const struct stats stats = moments_stats(&moments[i]);
        uint8_t entry[CKPT_STAT_ENTRY];
        fields_encode(entry, stat_fields, &stats);
        bytes_add(out, entry, sizeof entry);
    }
}

static bool stats_possible(const struct stats *s, uint64_t elements)
{
    const double real[] = {s->min, s->max, s->mean, s->std, s->absmax};
    for (int k = 0; k < 5; k++)
        if (!isfinite(real[k])) return false;
    return s->min <= s->max && s->std >= 0 && s->absmax >= 0 && s->nan <= elements && s->inf <= elements - s->nan &&
           s->zero <= elements - s->nan - s->inf;
}

int stats_decode(struct stats **out, const void *data, size_t size, const struct index *index, struct error *error)
{
    const uint8_t *p = data;
    if (size < CKPT_TABLE_HEAD || load32(p) != index->count || load32(p + 4) != CKPT_STAT_ENTRY ||
        !all_zero(p + 8, 8) || size - CKPT_TABLE_HEAD != index->count * CKPT_STAT_ENTRY)
        return corrupt(error, "the head of the statistics does not go with %zu tensors and %zu bytes [ST1]",
                       index->count, size);
    struct stats *stats = host_alloc(index->count, sizeof *stats);
    for (size_t i = 0; i < index->count; i++) {
        const struct ckpt_tensor *t = &index->tensor[i];
        fields_decode(&stats[i], stat_fields, p + CKPT_TABLE_HEAD + i * CKPT_STAT_ENTRY);
        if (stats_possible(&stats[i], tensor_elements(t))) continue;
        free(stats);
        return corrupt(error, "the statistics of tensor %s are impossible [ST2]", t->name);
    }
    *out = stats;
    return 0;
}
