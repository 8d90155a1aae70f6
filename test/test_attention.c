/* test_attention.c - attention against its definition in double, its gradients against the analytic ones in double, and
 * bits: alone, packed, through the cache, for any number of threads. */
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "test/host_ops.h"
#include "test/test.h"

struct shape { int H, G, D; bool alibi; const int *lengths; int S, window; bool rounded; };

static const int one[] = {1}, ragged[] = {5, 1, 37, 64, 13}, longer[] = {300, 7, 129}, longest[] = {397};
static const struct shape shapes[] = {
    {1, 1, 1, false, one, 1},      {2, 1, 3, true, ragged, 5},    {4, 4, 16, false, ragged, 5},
    {6, 2, 20, true, longer, 3},   {3, 3, 64, true, longer, 3},   {8, 2, 64, false, longest, 1},
    {2, 2, 80, false, longer, 3},  {4, 1, 128, true, longest, 1},
    {2, 1, 200, false, longer, 3}, {1, 1, 1024, false, ragged, 5},
    {2, 1, 20, true, longer, 3, 5}, {1, 1, 64, false, longer, 3, 33}, {2, 1, 8, false, longest, 1, 1},
    {1, 1, 128, true, longest, 1, 300}, {4, 2, 24, false, ragged, 5, 1000}, {2, 2, 8, true, longer, 3, 0, true},
    {2, 1, 64, true, longest, 1, 100, true},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0], MOST_SEQUENCES = 8 };

struct problem {
    struct shape s;
    int N, offsets[MOST_SEQUENCES + 1], width;
    float slopes[16], *qkv, *y, *lse, *dy, *dqkv;
};

static float *array(size_t n, uint64_t index)
{
    float *p = host_alloc(n + 1, sizeof *p);
    struct rng r = rng_at(5, RNG_TEST, 0, index);
    for (size_t i = 0; i < n; i++) p[i] = act_rounded((float)(2 * rng_uniform(&r) - 1));
    return p;
}

static void problem_open(struct problem *p, const struct shape *s)
{
    memset(p, 0, sizeof *p);
    p->s = *s;
    for (int i = 0; i < s->S; i++) p->offsets[i + 1] = p->offsets[i] + s->lengths[i];
    p->N = p->offsets[s->S];
    p->width = (s->H + 2 * s->G) * s->D;
    for (int h = 0; h < s->H; h++) p->slopes[h] = 0.3f / (float)(h + 1);
    p->qkv = array((size_t)p->N * p->width, 1);
    for (size_t i = 0; i < (size_t)p->N * p->width; i++) p->qkv[i] *= 2;
    p->dy = array((size_t)p->N * s->H * s->D, 2);
    p->y = array((size_t)p->N * s->H * s->D, 3);
    p->lse = array((size_t)p->N * s->H, 3);
    p->dqkv = array((size_t)p->N * p->width, 3);
}

static void problem_close(struct problem *p)
{
    free(p->qkv); free(p->dy); free(p->y); free(p->lse); free(p->dqkv);
}

static struct sight sight_of(const struct problem *p)
{
    return (struct sight){p->s.alibi ? p->slopes : NULL, p->s.rounded, p->s.window};
}

static void forward(struct problem *p)
{
    struct sight sight = sight_of(p);
    const struct shape *s = &p->s;
    host_attention_forward(p->y, p->lse, p->qkv, p->offsets, &sight, s->S, p->N, s->H, s->G, s->D);
}

static void backward(struct problem *p)
{
    struct sight sight = sight_of(p);
    const struct shape *s = &p->s;
    host_attention_backward(p->dqkv, p->dy, p->y, p->lse, p->qkv, p->offsets, &sight, s->S, p->N, s->H, s->G, s->D);
}

/* What rounding the probabilities may change, as a share of the sum of probability * |value|: tensor cores take them as
 * bfloat16: half a unit in the last of 8 places. */
static double probability_error(void) { return ACT_IS_FLOAT || device_shares_host() ? 0 : 0x1p-8; }

/* To 8 significant bits. */
static float nearest_bf16(float x)
{
    int e;
    float part = frexpf(x, &e);
    return ldexpf(nearbyintf(ldexpf(part, 8)), e - 8);
}

/* The definition, one row and head: y, its tolerance, lse, and what the row adds to the gradients. */
static void reference_row(const struct problem *p, double *y, double *most, double *lse, double *dqkv, int start,
                          int row, int h)
{
    const struct shape *s = &p->s;
    int D = s->D, n = row - start + 1, g = h / (s->H / s->G);
    double scale = 1 / sqrt((double)D), *w = host_alloc((size_t)n, sizeof *w), max = -1e300, sum = 0;
    const float *q = p->qkv + (size_t)row * p->width + h * D, *dy = p->dy + ((size_t)row * s->H + h) * D;
    const float *k0 = p->qkv + (size_t)start * p->width + (s->H + g) * D, *v0 = k0 + s->G * D;
    double *dq = dqkv + (size_t)row * p->width + h * D, *dk0 = dqkv + (size_t)start * p->width + (s->H + g) * D;
    for (int j = 0; j < n; j++) {
        for (int d = 0; d < D; d++) w[j] += (double)q[d] * (double)k0[(size_t)j * p->width + d];
        if (s->rounded) w[j] = (w[j] + (double)nearest_bf16(p->slopes[h] * nearest_bf16((float)j))) * scale;
        else w[j] = w[j] * scale - (s->alibi ? (double)p->slopes[h] * (row - start - j) : 0);
        if (s->window && row - start - j >= s->window) w[j] = -1e300;
        max = fmax(max, w[j]);
    }
    for (int j = 0; j < n; j++) sum += w[j] = exp(w[j] - max);
    *lse = max + log(sum);
    double delta = 0;
    for (int d = 0; d < D; d++) {
        double size = 0;
        y[d] = 0;
        for (int j = 0; j < n; j++) {
            double part = w[j] / sum * (double)v0[(size_t)j * p->width + d];
            y[d] += part;
            size += fabs(part);
        }
        most[d] = stored(5e-6) + probability_error() * size;
        delta += y[d] * (double)dy[d];
    }
    for (int j = 0; j < n; j++) {
        double dp = 0, probability = w[j] / sum;
        for (int d = 0; d < D; d++) dp += (double)dy[d] * (double)v0[(size_t)j * p->width + d];
        double ds = probability * (dp - delta) * scale;
        double *dk = dk0 + (size_t)j * p->width, *dv = dk + s->G * D;
        for (int d = 0; d < D; d++) {
            dq[d] += ds * (double)k0[(size_t)j * p->width + d];
            dk[d] += ds * (double)q[d];
            dv[d] += probability * (double)dy[d];
        }
    }
    free(w);
}

static void check_reference(struct problem *p)
{
    const struct shape *s = &p->s;
    size_t ny = (size_t)p->N * s->H * s->D, nqkv = (size_t)p->N * p->width, nl = (size_t)p->N * s->H;
    double *y = host_alloc(ny, sizeof *y), *most = host_alloc(ny, sizeof *most);
    double *lse = host_alloc(nl, sizeof *lse), *dqkv = host_alloc(nqkv, sizeof *dqkv);
    for (int q = 0; q < s->S; q++)
        for (int i = p->offsets[q]; i < p->offsets[q + 1]; i++)
            for (int h = 0; h < s->H; h++) {
                size_t at = (size_t)i * s->H + h;
                reference_row(p, y + at * s->D, most + at * s->D, lse + at, dqkv, p->offsets[q], i, h);
            }
    forward(p);
    backward(p);
    double worst[3] = {0};
    for (size_t i = 0; i < ny; i++) worst[0] = fmax(worst[0], fabs((double)p->y[i] - y[i]) / most[i]);
    for (size_t i = 0; i < nl; i++) worst[1] = fmax(worst[1], fabs((double)p->lse[i] - lse[i]) / (1 + fabs(lse[i])));
    bool finite = true;
    for (size_t i = 0; i < nqkv; i++) {
        finite &= isfinite(p->dqkv[i]) != 0;
        worst[2] = fmax(worst[2], fabs((double)p->dqkv[i] - dqkv[i]) / (1 + fabs(dqkv[i])));
    }
    for (size_t i = 0; i < ny; i++) finite &= isfinite(p->y[i]) != 0;
    test_error("attention, of its tolerance", worst[0]);
    test_error("attention, gradients", worst[2]);
    test_check(finite && worst[0] < 1 && worst[1] < 2e-6 && worst[2] < 4 * stored(5e-6), __FILE__, __LINE__,
               "H %d G %d D %d N %d: y off by %g of its tolerance, lse %g, gradient %g", s->H, s->G, s->D, p->N, worst[0], worst[1],
                   worst[2]);
    free(y); free(most); free(lse); free(dqkv);
}

static bool same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* Each sequence alone, and the sequences in the opposite order, give the bits of the packed batch, forward and
 * backward. */
static void check_packing(struct problem *p)
{
    const struct shape *s = &p->s;
    size_t wide = (size_t)p->width, narrow = (size_t)s->H * s->D;
    bool ok = true;
    forward(p);
    backward(p);
    for (int q = 0; q < s->S; q++) {
        struct problem a;
        struct shape single = *s;
        single.S = 1;
        single.lengths = s->lengths + q;
        problem_open(&a, &single);
        size_t first = (size_t)p->offsets[q], n = (size_t)s->lengths[q];
        memcpy(a.qkv, p->qkv + first * wide, n * wide * sizeof(float));
        memcpy(a.dy, p->dy + first * narrow, n * narrow * sizeof(float));
        forward(&a);
        backward(&a);
        ok &= same(a.y, p->y + first * narrow, n * narrow) && same(a.dqkv, p->dqkv + first * wide, n * wide) &&
              same(a.lse, p->lse + first * s->H, n * s->H);
        problem_close(&a);
    }
    test_check(ok, __FILE__, __LINE__, "H %d G %d D %d: packed differs from separate", s->H, s->G, s->D);
}

/* What a row sees is its own past: rows changed after it leave its bits alone. */
static void check_causal(struct problem *p)
{
    const struct shape *s = &p->s;
    size_t narrow = (size_t)s->H * s->D;
    forward(p);
    float *y = host_alloc((size_t)p->N * narrow, sizeof *y);
    memcpy(y, p->y, (size_t)p->N * narrow * sizeof *y);
    int changed = p->offsets[s->S - 1] + s->lengths[s->S - 1] / 2;
    for (int i = changed; i < p->N; i++)
        for (int c = 0; c < p->width; c++) p->qkv[(size_t)i * p->width + c] *= -2;
    forward(p);
    CHECK(same(y, p->y, (size_t)changed * narrow));
    CHECK(!same(y, p->y, (size_t)p->N * narrow));
    free(y);
}

/* Through the cache: rows of all sequences interleaved, `chunk` of each at a time, slots in another order. */
static void check_cached(struct problem *p, int chunk)
{
    struct sight sight = sight_of(p);
    const struct shape *s = &p->s;
    int capacity = 0, slots[4096], positions[4096], from[4096];
    size_t narrow = (size_t)s->H * s->D, wide = (size_t)p->width;
    for (int q = 0; q < s->S; q++) capacity = int_max(capacity, s->lengths[q]);
    size_t elements = attention_cache_elements(s->S + 1, capacity, s->G, s->D);
    act_t *cache = device_alloc(elements * sizeof *cache), *nothing = host_alloc(elements, sizeof *nothing);
    for (size_t i = 0; i < elements; i++) nothing[i] = act_of(NAN);         /* nothing unwritten may be used */
    to_device(cache, nothing, elements * sizeof *cache);
    free(nothing);
    float *qkv = host_alloc((size_t)s->S * chunk * wide, sizeof *qkv),
        *y = host_alloc((size_t)s->S * chunk * narrow, sizeof *y);
    bool ok = true;
    forward(p);
    for (int start = 0; start < capacity; start += chunk) {
        int n = 0;
        for (int q = 0; q < s->S; q++)
            for (int i = start; i < int_min(start + chunk, s->lengths[q]); i++, n++) {
                slots[n] = s->S - q;
                positions[n] = i;
                from[n] = p->offsets[q] + i;
                memcpy(qkv + (size_t)n * wide, p->qkv + (size_t)from[n] * wide, wide * sizeof *qkv);
            }
        host_attention_cached(y, cache, qkv, slots, positions, &sight, n, s->H, s->G, s->D, s->S + 1,
                              capacity);
        for (int i = 0; i < n; i++) ok &= same(y + (size_t)i * narrow, p->y + (size_t)from[i] * narrow, narrow);
    }
    test_check(ok, __FILE__, __LINE__, "H %d G %d D %d: cached by %d differs", s->H, s->G, s->D, chunk);
    device_free(cache, elements * sizeof *cache);
    free(qkv); free(y);
}

static double loss(struct problem *p)
{
    forward(p);
    double sum = 0;
    for (size_t i = 0; i < (size_t)p->N * p->s.H * p->s.D; i++) sum += (double)p->y[i] * (double)p->dy[i];
    return sum;
}

static void check_differences(void)
{
    static const int lengths[] = {4, 3};
    struct shape s = {4, 2, 5, true, lengths, 2};
    struct problem p;
    problem_open(&p, &s);
    forward(&p);
    backward(&p);
    for (int i = 0; i < p.N * p.width; i += 3) {
        float keep = p.qkv[i], step = 1e-2f;
        p.qkv[i] = keep + step;
        double up = loss(&p);
        p.qkv[i] = keep - step;
        double down = loss(&p);
        p.qkv[i] = keep;
        CHECK(close_to((up - down) / (2 * (double)step), (double)p.dqkv[i], 2e-3, 5e-4));
    }
    problem_close(&p);
}

int main(void)
{
    float *y[SHAPES], *dqkv[SHAPES];
    for (int threads = 1; threads <= 3; threads++) {
        threads_start(threads);
        struct memory memory = {0};
        ops_open(&memory);
        struct error error;
        if (memory_open(&memory, &error)) quit_error(&error);
        ops_open(&memory);
        for (int i = 0; i < SHAPES; i++) {
            struct problem p;
            problem_open(&p, &shapes[i]);
            forward(&p);
            backward(&p);
            size_t ny = (size_t)p.N * p.s.H * p.s.D, nqkv = (size_t)p.N * p.width;
            if (threads == 1) {
                y[i] = p.y;
                dqkv[i] = p.dqkv;
                p.y = array(ny, 3);
                p.dqkv = array(nqkv, 3);
            } else {
                CHECK(same(y[i], p.y, ny) && same(dqkv[i], p.dqkv, nqkv));
            }
            if (threads == 2) {
                check_reference(&p);
                check_packing(&p);
                check_cached(&p, 1);
                check_cached(&p, 7);
                check_cached(&p, 40);
                check_causal(&p);
            }
            problem_close(&p);
        }
        if (threads == 2 && ACT_IS_FLOAT) check_differences();
        memory_close(&memory);
    }
    for (int i = 0; i < SHAPES; i++) { free(y[i]); free(dqkv[i]); }
    threads_stop();
    return test_end("test_attention");
}
