/* sampling.cu (CUDA) - a block a row.  The filters strike tokens out by setting their z to minus infinity.  The border
 * of top_k and top_p is found without sorting: tokens are ordered by the bits of their distance to the maximum, and the
 * border is the smallest key below which the weights reach the target, found bit by bit.  Every sum has one order, and
 * a sum over more tokens is never smaller, so that the search cannot go astray. */
#include "common/cuda/softmax.h"

struct row {
    float *z, max;                      /* the n tokens that may be drawn, and the largest z among them */
    int n;
    double *part;                       /* shared: (WARPS) */

    __device__ float weight(int i) const { return expf(z[i] - max); }
    /* Rises as the probability falls; struck-out tokens come last. */
    __device__ unsigned key(int i) const { return __float_as_uint(max - z[i]); }
    /* The weights, or the number, of tokens up to a key. */
    __device__ double up_to(unsigned border, bool mass) const
    {
        double sum = 0;
        for (int i = (int)threadIdx.x; i < n; i += BLOCK)
            if (key(i) <= border) sum += mass ? (double)weight(i) : 1.0;
        return block_sum<double>(sum, part);
    }
};

/* Tokens are cut into a range a thread, so that those before a thread have the lower ids. */
__device__ static inline int range_start(int n, int thread) { return (int)((long long)n * thread / BLOCK); }

/* Strikes out all tokens beyond the border, and of those on it all but the first `kept`. */
__device__ static void strike(const struct row &r, unsigned border, double kept, int *count)
{
    int first = range_start(r.n, (int)threadIdx.x), end = range_start(r.n, (int)threadIdx.x + 1), mine = 0;
    for (int i = first; i < end; i++) mine += r.key(i) == border;
    count[threadIdx.x] = mine;
    __syncthreads();
    double before = 0;
#pragma unroll 4
    for (int t = 0; t < (int)threadIdx.x; t++) before += count[t];
    for (int i = first; i < end; i++) {
        unsigned key = r.key(i);
        if (key > border || (key == border && before++ >= kept)) r.z[i] = -INFINITY;
    }
    __syncthreads();
}

/* Keeps the most likely tokens whose weights (their mass, or 1 each) first reach `target`; among equals the lowest
 * ids.  One token always stays. */
__device__ static void keep_most_likely(const struct row &r, bool mass, double target, int *count)
{
    unsigned border = 0;
#pragma unroll 1
    for (int bit = 30; bit >= 0; bit--)                         /* the largest key that does not suffice, plus 1 */
        if (r.up_to(border + (1u << bit) - 1, mass) < target) border += 1u << bit;
    double above = border > 0 ? r.up_to(border - 1, mass) : 0;
    double one = mass ? (double)expf(-__uint_as_float(border)) : 1.0;
    double kept = one > 0 ? ceil((target - above) / one) : 1;
    strike(r, border, kept < 1 ? 1 : kept, count);
}

__device__ static double all_weights(const struct row &r) { return r.up_to(__float_as_uint(INFINITY), true); }

__device__ static void filter(const struct row &r, const struct sampling &s, int *count)
{
    if (s.top_k > 0 && s.top_k < r.n) keep_most_likely(r, false, s.top_k, count);
    if (s.top_p < 1) {
        double target = (double)s.top_p * all_weights(r);
        keep_most_likely(r, true, target, count);
    }
    if (s.min_p > 0)
        for (int i = (int)threadIdx.x; i < r.n; i += BLOCK)
            if (r.weight(i) < s.min_p) r.z[i] = -INFINITY;      /* the largest weight is 1 */
    __syncthreads();
}

/* The first token at which the running sum passes uniform times the whole: the ranges' sums, then inside one range.
 * Should rounding leave a rest at the end, the last token with a weight serves. */
__device__ static int draw(const struct row &r, double uniform, double *sums, int *chosen)
{
    int thread = (int)threadIdx.x, first = range_start(r.n, thread), end = range_start(r.n, thread + 1);
    double mine = 0;
    for (int i = first; i < end; i++) mine += (double)r.weight(i);
    sums[thread] = mine;
    __syncthreads();
    if (thread == 0) {
        double total = 0, before = 0, running = 0;
        int range = 0, token = 0;
#pragma unroll 4
        for (int t = 0; t < BLOCK; t++) total += sums[t];
#pragma unroll 4
        for (int t = 0; t < BLOCK; t++) {
            if (!(sums[t] > 0)) continue;
            range = t;
            before = running;
            running += sums[t];
            if (running > uniform * total) break;
        }
        for (int i = range_start(r.n, range); i < range_start(r.n, range + 1); i++) {
            float w = r.weight(i);
            if (!(w > 0)) continue;
            token = i;
            before += (double)w;
            if (before > uniform * total) break;
        }
        *chosen = token;
    }
    __syncthreads();
    return *chosen;
}

/* The lowest id among the most likely tokens; 0 when there is none, as among NaNs. */
__device__ static int most_likely(const struct row &r, int *count)
{
    int best = r.n;
    for (int i = (int)threadIdx.x; i < r.n && best == r.n; i += BLOCK)
        if (r.z[i] == r.max) best = i;
    count[threadIdx.x] = best;
    __syncthreads();
    best = r.n;
#pragma unroll 4
    for (int t = 0; t < BLOCK; t++) best = count[t] < best ? count[t] : best;
    return best == r.n ? 0 : best;
}

static __global__ void __launch_bounds__(BLOCK) sample(int *tokens, float *logprobs, float *logits,
                                                       const double *uniform, const struct sampling *all, int V,
                                                       int width)
{
    __shared__ struct softmax_parts part;
    __shared__ double sums[BLOCK];
    __shared__ int count[BLOCK];
    __shared__ int chosen;
    __shared__ struct softmax kept;                             /* thread 0's, or registers would not do */
    int i = (int)blockIdx.x;
    struct sampling s = all[i];
    float *z = logits + (size_t)i * (size_t)V;
    float temperature = s.temperature > 0 ? s.temperature : 1;
    struct softmax whole = softmax_row(z, width < V ? width : V, temperature, &part);
    for (int k = width; k < V; k += width)
        whole = softmax_join(whole, softmax_row(z + k, width < V - k ? width : V - k, temperature, &part));
    if (threadIdx.x == 0) kept = whole;
    struct row r = {z, whole.max, s.allowed > 0 && s.allowed < V ? s.allowed : V, part.sum};
    if (r.n < V) {
        r.max = -INFINITY;
        for (int k = (int)threadIdx.x; k < r.n; k += BLOCK) r.max = fmaxf(r.max, z[k]);
        r.max = block_max(r.max, part.max);
    }
    int token;
    if (s.temperature > 0) {
        filter(r, s, count);
        token = draw(r, uniform[i], sums, &chosen);
    } else {
        token = most_likely(r, count);
    }
    if (threadIdx.x > 0) return;
    tokens[i] = token;
    logprobs[i] = softmax_logprob(&kept, z[token]);
}

void sample_rows(int *tokens, float *logprobs, float *logits, const double *uniform, const struct sampling *s, int n,
                 int V, int part)
{
    if (n == 0) return;
    sample<<<(unsigned)n, BLOCK, 0, cuda_stream()>>>(tokens, logprobs, logits, uniform, s, V, part);
    cuda_launched("sample");
}

static __global__ void join_logits(float *logits, const float *parts, int n, int V, int part)
{
    for (size_t i = thread_of_grid(); i < (size_t)n * (size_t)V; i += threads_of_grid()) {
        size_t row = i / (size_t)V, token = i % (size_t)V, width = (size_t)part;
        logits[i] = parts[(token / width * (size_t)n + row) * width + token % width];
    }
}

void logits_join(float *logits, const float *parts, int n, int V, int part)
{
    if (n == 0) return;
    join_logits<<<cuda_blocks((size_t)n * (size_t)V), BLOCK, 0, cuda_stream()>>>(logits, parts, n, V, part);
    cuda_launched("join_logits");
}

/* cuBLASLt may choose another algorithm for another number of rows: matmul_settle, in exact.cu. */
bool sampling_is_exact(void) { return false; }
