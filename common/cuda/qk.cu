/* qk.cu (CUDA) - queries and keys are normed and turned in one pass: what the norm gives is rounded, as if it were stored,
 * and turns at once.  A row's cosines and sines are computed once, in double, and lie in shared memory for all its heads.
 * A warp has a head; forward a block has a row, so that the few rows of decoding are shared by many warps, and backward a
 * warp has all heads of its rows, and the sums for the norm's weights beside it. */
#include "common/cuda/columns.h"

#include <assert.h>

enum { SHARED_BYTES = 48 << 10, QK_GROUPS = 512, QK_PARTIAL = SCRATCH_FLOATS / 2 };

struct qk {
    act_t *y;                       /* backward: dx */
    const act_t *x, *dy;
    float *rstd;
    const float *weight_q, *weight_k;
    float eps, sign;                /* -1: heads turn the other way */
    struct rope rope;
    int N, H, G, D;

    __device__ size_t at(int row, int head) const { return ((size_t)row * (size_t)(H + 2 * G) + (size_t)head) * (size_t)D; }
    __device__ float *rstd_at(int row, int head) const { return rstd + (size_t)row * (size_t)(H + G) + (size_t)head; }
    __device__ const float *weight(int head) const { return head < H ? weight_q : weight_k; }
    __device__ bool halves() const { return rope.layout == ROPE_HALF; }
    /* Pair i is of channel `first` and of that which lies `apart` behind it. */
    __device__ int first(int i) const { return halves() ? i : 2 * i; }
    __device__ int apart() const { return halves() ? rope.R / 2 : 1; }
};

/* turn (R/2, 2): cosine and sine of each pair in that row. */
__device__ static inline void angles(float *turn, const struct qk &q, int row, int from, int step)
{
    for (int i = from; i < q.rope.R / 2; i += step) {
        double sine, cosine;
        sincos(q.rope.positions[row] * q.rope.frequency[i], &sine, &cosine);
        turn[2 * i] = (float)(q.rope.factor * cosine);
        turn[2 * i + 1] = (float)(q.rope.factor * sine) * q.sign;
    }
}

/* Of a pair's first channel, with -sine, or of its second one: written so that every kernel has the same bits. */
__device__ static inline float turned(float own, float other, float cosine, float sine)
{
    return fmaf(own, cosine, other * sine);
}

__device__ static inline float rounded(float x)
{
    act_t a;
    set(&a, x);
    return to_float(a);
}

__device__ static inline float normed(const act_t *x, const float *weight, float rstd, int c)
{
    return weight ? rounded(to_float(x[c]) * rstd * weight[c]) : to_float(x[c]);
}

/* When it returns, y may overwrite x. */
__device__ static inline float rstd_of(const struct qk &q, const act_t *x, int lane)
{
    float squares = 0;
    for (int c = lane; c < q.D; c += WARP) squares = fmaf(to_float(x[c]), to_float(x[c]), squares);
    squares = warp_sum<float>(squares);
    __syncwarp();
    return 1 / sqrtf(squares / (float)q.D + q.eps);
}

static __global__ void forward_heads(struct qk q)
{
    extern __shared__ float turn[];
    int row = (int)blockIdx.x, lane = (int)threadIdx.x % WARP;
    angles(turn, q, row, (int)threadIdx.x, BLOCK);
    __syncthreads();
    for (int h = (int)threadIdx.x / WARP; h < q.H + q.G; h += WARPS) {
        const act_t *x = q.x + q.at(row, h);
        const float *weight = q.weight(h);
        act_t *y = q.y + q.at(row, h);
        float rstd = weight ? rstd_of(q, x, lane) : 1;
        if (weight && lane == 0) *q.rstd_at(row, h) = rstd;
        for (int i = lane; i < q.rope.R / 2; i += WARP) {
            int a = q.first(i), b = a + q.apart();
            float u = normed(x, weight, rstd, a), v = normed(x, weight, rstd, b);
            set(y + a, turned(u, v, turn[2 * i], -turn[2 * i + 1]));
            set(y + b, turned(v, u, turn[2 * i], turn[2 * i + 1]));
        }
        for (int c = q.rope.R + lane; c < q.D && (weight || y != x); c += WARP) set(y + c, normed(x, weight, rstd, c));
    }
    size_t values = q.at(row, q.H + q.G);
    for (int c = (int)threadIdx.x; c < q.G * q.D && q.y != q.x; c += BLOCK) q.y[values + (size_t)c] = q.x[values + (size_t)c];
}

/* Channel c of dy, turned back. */
__device__ static inline float turned_back(const struct qk &q, const act_t *dy, const float *turn, int c)
{
    if (c >= q.rope.R) return to_float(dy[c]);
    int i = q.halves() ? c % (q.rope.R / 2) : c / 2, a = q.first(i), b = a + q.apart();
    float sine = turn[2 * i + 1];
    return rounded(turned(to_float(dy[c]), to_float(dy[c == a ? b : a]), turn[2 * i], c == a ? -sine : sine));
}

/* Here as in norm.cu sums are written as fmaf, so that both have the same bits. */
__device__ static inline float gradient(float g, float xhat, float product, float rstd)
{
    return fmaf(-xhat, product, g) * rstd;
}

/* dx = rstd * (g - xhat * mean(g * xhat)),  xhat = x * rstd,  g = dy * weight;   sums (D) += dy * xhat */
__device__ static inline void backward_head(const struct qk &q, float *sums, const float *turn, int row, int h, int lane)
{
    const act_t *x = q.x + q.at(row, h), *dy = q.dy + q.at(row, h);
    const float *weight = q.weight(h);
    act_t *dx = q.y + q.at(row, h);
    float rstd = *q.rstd_at(row, h), product = 0;
    for (int c = lane; c < q.D; c += WARP) {
        float d = turned_back(q, dy, turn, c), xhat = to_float(x[c]) * rstd;
        product = fmaf(d * weight[c], xhat, product);
        sums[c] += d * xhat;
    }
    product = warp_sum<float>(product) / (float)q.D;
    __syncwarp();                   /* dx may be dy; and from here on a lane reads only angles of its own making */
    for (int i = lane; i < q.rope.R / 2; i += WARP) {
        int a = q.first(i), b = a + q.apart();
        float u = turned_back(q, dy, turn, a), v = turned_back(q, dy, turn, b);
        set(dx + a, gradient(u * weight[a], to_float(x[a]) * rstd, product, rstd));
        set(dx + b, gradient(v * weight[b], to_float(x[b]) * rstd, product, rstd));
    }
    for (int c = q.rope.R + lane; c < q.D; c += WARP)
        set(dx + c, gradient(to_float(dy[c]) * weight[c], to_float(x[c]) * rstd, product, rstd));
}

/* partial (groups, 2D): the sums of a group's rows for weight_q, then for weight_k. */
static __global__ void backward_heads(struct qk q, float *partial, int group_rows)
{
    extern __shared__ float shared[];
    int lane = (int)threadIdx.x % WARP, warps = (int)blockDim.x / WARP, own = 2 * q.D + q.rope.R;
    int first = (int)blockIdx.x * group_rows, end = first + group_rows < q.N ? first + group_rows : q.N;
    float *sums = shared + (int)threadIdx.x / WARP * own, *turn = sums + 2 * q.D;
    for (int c = lane; c < 2 * q.D; c += WARP) sums[c] = 0;
    for (int row = first + (int)threadIdx.x / WARP; row < end; row += warps) {
        angles(turn, q, row, lane, WARP);
        __syncwarp();
        for (int h = 0; h < q.H + q.G; h++) backward_head(q, sums + (h < q.H ? 0 : q.D), turn, row, h, lane);
        size_t values = q.at(row, q.H + q.G);
        for (int c = lane; c < q.G * q.D && q.y != q.dy; c += WARP) q.y[values + (size_t)c] = q.dy[values + (size_t)c];
    }
    __syncthreads();
    for (int c = (int)threadIdx.x; c < 2 * q.D; c += (int)blockDim.x) {
        float sum = 0;
        for (int i = 0; i < warps; i++) sum += shared[i * own + c];
        partial[(size_t)blockIdx.x * (size_t)(2 * q.D) + (size_t)c] = sum;
    }
}

struct qk_weight_term {
    typedef float sum;
    const float *partial;
    int D;
    __device__ float operator()(int group, int c) const { return partial[(size_t)group * (size_t)(2 * D) + (size_t)c]; }
};

static void forward(const struct qk &q)
{
    assert(q.rope.R % 2 == 0 && q.rope.R <= q.D);
    if (q.N == 0 || (!q.weight_q && q.rope.R == 0 && q.y == q.x)) return;
    forward_heads<<<(unsigned)q.N, BLOCK, (size_t)q.rope.R * sizeof(float), cuda_stream()>>>(q);
    cuda_launched("forward_heads");
}

void qk_forward(act_t *y, float *rstd, const act_t *x, const float *weight_q, const float *weight_k, float eps,
                const struct rope *rope, int N, int H, int G, int D)
{
    forward(qk{y, x, NULL, rstd, weight_q, weight_k, eps, 1, *rope, N, H, G, D});
}

void qk_backward(act_t *dx, float *dweight_q, float *dweight_k, const act_t *dy, const act_t *x, const float *weight_q,
                 const float *weight_k, const float *rstd, const struct rope *rope, int N, int H, int G, int D)
{
    size_t own = (size_t)(2 * D + rope->R) * sizeof(float);
    int warps = WARPS, most = int_min(QK_GROUPS, QK_PARTIAL / (2 * D));
    assert(rope->R % 2 == 0 && rope->R <= D && own <= SHARED_BYTES);
    if (!weight_q) {
        forward(qk{dx, dy, NULL, NULL, NULL, NULL, 0, -1, *rope, N, H, G, D});
        return;
    }
    if (N == 0) return;
    float *partial = cuda_scratch() + QK_PARTIAL;
    while ((size_t)warps * own > SHARED_BYTES) warps /= 2;
    int group_rows = int_max(2 * warps, (N + most - 1) / most), groups = (N + group_rows - 1) / group_rows;
    backward_heads<<<(unsigned)groups, warps * WARP, (size_t)warps * own, cuda_stream()>>>(
        qk{dx, x, dy, (float *)rstd, weight_q, weight_k, 0, -1, *rope, N, H, G, D}, partial, group_rows);
    cuda_launched("backward_heads");
    add_columns<qk_weight_term>(dweight_q, qk_weight_term{partial, D}, groups, D);
    add_columns<qk_weight_term>(dweight_k, qk_weight_term{partial + D, D}, groups, D);
}
