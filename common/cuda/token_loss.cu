/* token_loss.cu (CUDA) - the vocabulary head by chunks of rows: product, softmax and loss, gradient of the logits, two
 * products back.  Rows of logits lie at a distance that is a multiple of 16 bytes. */
#include "common/cuda/columns.h"
#include "common/cuda/products.h"
#include "common/cuda/softmax.h"

#include <assert.h>

enum { CHUNK_STEP = 128, CHUNK_BYTES = 256 << 20, ROUND = 8 };

int cuda_logits_distance(int V) { return (V + ROUND - 1) / ROUND * ROUND; }

int cuda_logits_rows(int V)
{
    size_t rows = CHUNK_BYTES / ((size_t)cuda_logits_distance(V) * sizeof(float)) / CHUNK_STEP * CHUNK_STEP;
    return rows < CHUNK_STEP ? CHUNK_STEP : rows > 65536 ? 65536 : (int)rows;
}

size_t token_loss_work(int max_n, int C, int V)
{
    (void)C;
    size_t logits = (size_t)int_min(max_n, cuda_logits_rows(V)) * (size_t)cuda_logits_distance(V);
    return sizeof(act_t) == sizeof(float) ? logits : logits + logits / 2;
}

struct chunk {
    float *logprobs, *entropy, *losses, *logits;        /* of the chunk's rows */
    act_t *dlogits;                                     /* NULL: no gradient; where float32, in place of the logits */
    const int *targets;
    const float *old_logprobs, *advantages;
    enum token_loss_kind kind;
    float temperature, scale, clip_low, clip_high, dual_clip, entropy_coef;
    struct token_part *parts;                           /* (ranks, rows), or NULL: this rank has the whole head */
    int rank, ranks, rows, V, ld, own;                  /* own: those of the V logits of a row that are tokens */
};

/* The clipped policy loss of one row; *slope = d loss / d logprob. */
__device__ static double policy_loss(double *slope, double logprob, double old_logprob, double advantage,
                                     const struct chunk &l)
{
    double difference = logprob - old_logprob, ratio = exp(fmin(fmax(difference, -20.0), 20.0));
    double clipped = fmin(fmax(ratio, 1 - (double)l.clip_low), 1 + (double)l.clip_high);
    double plain = -advantage * ratio, loss = fmax(plain, -advantage * clipped);
    *slope = plain >= loss && fabs(difference) <= 20 ? plain : 0;           /* d ratio / d logprob = ratio */
    double most = -(double)l.dual_clip * advantage;
    if (l.dual_clip > 0 && advantage < 0 && loss > most) {
        loss = most;
        *slope = 0;
    }
    return loss;
}

/* dz = scale * gradient of (slope * logprob - entropy_coef * entropy), in place of z or beside it:
 *   slope * ([j = token] - p[j]) + entropy_coef * p[j] * (log p[j] + entropy) */
__device__ static void write_gradient(act_t *dz, const float *z, const struct softmax &s, int token, double slope,
                                      double entropy_coef, int own, int V)
{
    double log_sum = log(s.sum), entropy = log_sum - s.weighted / s.sum;
    float inverse = (float)(1 / s.sum), constant = (float)(entropy_coef * (entropy - log_sum) - slope);
    float coef = (float)entropy_coef, extra = (float)slope;
    for (int j = own + (int)threadIdx.x; j < V; j += BLOCK) set(dz + j, 0);
    for (int j = (int)threadIdx.x; j < own; j += BLOCK) {
        float d = z[j] - s.max, p = expf(d) * inverse;
        float x = coef == 0 || p == 0 ? p * constant : p * (constant + coef * d);
        set(dz + j, j == token ? x + extra : x);
    }
}

/* The sums of this rank's logits of a row. */
static __global__ void part_rows(struct chunk c)
{
    __shared__ struct softmax_parts part;
    int row = (int)blockIdx.x, target = c.targets[row];
    float *z = c.logits + (size_t)row * (size_t)c.ld;
    struct softmax s = softmax_row(z, c.own, c.temperature, &part);
    if (threadIdx.x == 0) c.parts[(size_t)c.rank * (size_t)c.rows + (size_t)row] = {s, target >= 0 ? z[target] : 0};
}

/* Those of all ranks' logits, and the logit of the target. */
__device__ static struct softmax join_parts(const struct chunk &c, int row, float *target)
{
    const struct token_part *part = c.parts + row;
    struct softmax s = part->row;
    *target = part->target;
    for (int r = 1; r < c.ranks; r++) {
        part += c.rows;
        s = softmax_join(s, part->row);
        *target += part->target;
    }
    return s;
}

static __global__ void loss_rows(struct chunk c)
{
    __shared__ struct softmax_parts part;
    int row = (int)blockIdx.x, target = c.targets[row];
    float *z = c.logits + (size_t)row * (size_t)c.ld, z_target;
    struct softmax s;
    if (c.parts) {
        s = join_parts(c, row, &z_target);
    } else {
        s = softmax_row(z, c.V, c.temperature, &part);
        z_target = z[target];
    }
    float logprob = softmax_logprob(&s, z_target), entropy = softmax_entropy(&s);
    double loss = 0, slope = 0, entropy_coef = 0;
    if (c.kind == LOSS_CROSS_ENTROPY) {
        loss = -(double)logprob;
        slope = -1;
    } else if (c.kind == LOSS_POLICY) {
        entropy_coef = (double)c.entropy_coef;
        loss = policy_loss(&slope, (double)logprob, (double)c.old_logprobs[row], (double)c.advantages[row], c) -
               entropy_coef * (double)entropy;
    }
    if (threadIdx.x == 0) {
        c.logprobs[row] = logprob;
        if (c.entropy) c.entropy[row] = entropy;
        if (c.losses) c.losses[row] = (float)loss;
    }
    __syncthreads();                                    /* the target's logit was read by all */
    double scale = (double)c.scale / (double)c.temperature;
    if (c.dlogits)
        write_gradient(c.dlogits + (size_t)row * (size_t)c.ld, z, s, target, slope * scale, entropy_coef * scale,
                       c.own, c.V);
}

struct head_bias_term {
    typedef float sum;
    const act_t *dlogits;
    size_t ld;
    __device__ float operator()(int row, int c) const { return to_float(dlogits[(size_t)row * ld + (size_t)c]); }
};

static struct product product_of(void *to, cudaDataType type, size_t ld, struct operand x, struct operand y, int rows,
                                 int columns, int inner, const void *from)
{
    return {to, type, ld, x, y, rows, columns, inner, NULL, from, NULL, false};
}

void token_loss(float *logprobs, float *entropy, float *losses, act_t *dh, float *dweight, const act_t *h,
                const int *targets, const act_t *packed, const struct token_loss *loss, float *work, int n, int C,
                int V)
{
    assert(loss->temperature > 0 && !dh == !dweight && (loss->kind != LOSS_LOGPROBS || !dh));
    bool policy = loss->kind == LOSS_POLICY;
    const struct token_parts *parts = loss->parts;
    int rows = cuda_logits_rows(V), ld = cuda_logits_distance(V);
    size_t width = (size_t)C, wide = (size_t)ld;
    act_t *dlogits = (act_t *)(sizeof(act_t) == sizeof(float) ? work : work + (size_t)int_min(n, rows) * wide);
    for (int i = 0; i < n; i += rows) {
        int m = int_min(rows, n - i);
        const act_t *hidden = h + (size_t)i * width;
        struct product forward = product_of(work, CUDA_R_32F, wide, {hidden, width, false}, {packed, width, true}, m, V,
                                            C, NULL);
        forward.settled = true;
        cuda_product(&forward);
        cuda_add_bias(work, loss->bias, m, V, wide);
        struct chunk c = {logprobs + i, entropy ? entropy + i : NULL, losses ? losses + i : NULL, work,
                          dh ? dlogits : NULL, targets + i, policy ? loss->old_logprobs + i : NULL,
                          policy ? loss->advantages + i : NULL, loss->kind, loss->temperature, loss->scale,
                          loss->clip_low, loss->clip_high, loss->dual_clip, loss->entropy_coef, parts ? parts->all : NULL,
                          parts ? parts->rank : 0, parts ? parts->ranks : 1, m, V, ld, parts ? parts->own : V};
        if (parts) {
            part_rows<<<(unsigned)m, BLOCK, 0, cuda_stream()>>>(c);
            cuda_launched("part_rows");
            parts->gather(parts->self, (size_t)m * sizeof *parts->all);
        }
        loss_rows<<<(unsigned)m, BLOCK, 0, cuda_stream()>>>(c);
        cuda_launched("loss_rows");
        if (!dh) continue;
        struct product input = product_of(dh + (size_t)i * width, ACT_TYPE, width, {dlogits, wide, false},
                                          {packed, width, false}, m, C, V, NULL);
        struct product weight = product_of(dweight, CUDA_R_32F, width, {dlogits, wide, true}, {hidden, width, false}, V,
                                           C, m, dweight);
        cuda_product(&input);
        cuda_product(&weight);
        if (loss->bias) add_columns<head_bias_term>(loss->dbias, head_bias_term{dlogits, wide}, m, V);
    }
}
