/* cluster_time.c - the time of a step, summed up from matrix products, attention, what only moves bytes, and messages.
 * A product is slow where its inner size is small, where its outer sizes do not fill tiles, and where the tiles do not
 * fill the processors; that much is needed to come within a few per cent of published runs. */
#include "common/train/cluster.h"

#include <math.h>

static double round_up(double x, double unit) { return ceil(x / unit) * unit; }

/* Share of the peak beside cluster.share: half of the T x T square is skipped, in tiles that are not all full. */
static const double plain_share = 0.55, flash_share = 0.45;

/* (M,K) times (K,N) */
static double product(const struct cluster *c, double M, double N, double K)
{
    double excess = 1;
    if (c->units > 0) {
        double waves = ceil(M / 128) * ceil(N / 256) / c->units;
        excess = round_up(M, 128) / M * round_up(N, 128) / N * sqrt(fmin(2, ceil(waves) / waves));
    }
    double compute = 2 * M * N * K * excess / (c->flops * c->share * K / (K + c->half));
    return fmax(compute, c->bytes.activation * (M * K + K * N + M * N) / c->hbm) + c->launch;
}

/* Half of an all-reduce: n ranks each end with the sum of a piece of `bytes`, or with all of the pieces. */
static double scatter(const struct cluster *c, bool within_host, double n, double bytes)
{
    static const double start_host = 3e-6, start_network = 8e-6;
    return (n - 1) / n * bytes / (within_host ? c->nvlink : c->network) +
           (n - 1) * (within_host ? start_host : start_network);
}

static double attention_time(const struct cluster *c, const struct layout *l, const struct config *m)
{
    double s = l->s, b = l->b, width = (double)m->heads * m->head_dim / l->t, heads = (double)m->heads / l->t;
    if (l->plain_attention)
        return 4 * b * s * s * width / (c->flops * c->share * plain_share) +
               6 * c->bytes.activation * b * s * s * heads / c->hbm + 3 * c->launch;
    return 2 * b * s * s * width / (c->flops * c->share * flash_share) + c->launch;
}

/* One layer and micro-batch, forward and backward: products, attention and rows; and the tensor ranks' messages. */
static void layer_time(double *compute, double *tensor, const struct cluster *c, const struct layout *l,
                       const struct config *m)
{
    double T = (double)l->b * l->s, h = m->channels, t = l->t, width = (double)m->heads * m->head_dim;
    bool gated = m->activation == ACTIVATION_SWIGLU;
    double products = product(c, T, (m->heads + 2.0 * m->kv_heads) * m->head_dim / t, h) + product(c, T, h, width / t) +
                      product(c, T, (gated ? 2 : 1) * m->ffn / t, h) + product(c, T, h, m->ffn / t);
    double attention = attention_time(c, l, m);
    double wide = 10 / (l->whole_rows ? 1 : t) + (gated ? 12 : 8) * m->ffn / (4 * h * t);
    double rows = c->bytes.activation * T * h * wide / c->hbm + 6 * c->launch;
    double sums = t > 1 ? 2 * 2 * scatter(c, t <= (double)c->host, t, c->bytes.activation * T * h) : 0;
    double forwards = l->recompute == RECOMPUTE_BLOCK ? 2 : 1;
    *compute = forwards * (products + attention + rows) + 2 * products + 2.5 * attention + 2 * rows +
               (l->recompute == RECOMPUTE_ATTENTION ? attention : 0);
    *tensor = (forwards + 1) * sums * (1 - c->tensor_overlap);
}

static double head_time(const struct cluster *c, const struct layout *l, const struct config *m)
{
    double T = (double)l->b * l->s, V = (double)m->vocab / l->t;
    return 3 * (product(c, T, V, m->channels) + 6 * c->bytes.activation * T * V / c->hbm);
}

/* The ranks of d lie t apart; a message's bytes follow from the stage of ZeRO (state_sent). */
static double data_time(const struct cluster *c, const struct layout *l, double psi)
{
    bool near = (int64_t)l->t * l->d <= c->host;
    double g = c->bytes.gradient, w = c->bytes.gathered, d = l->d;
    double reduce = scatter(c, near, d, g * psi), gather = scatter(c, near, d, w * psi);
    if (l->d == 1) return 0;
    if (l->zero == 0) return 2 * reduce;
    if (l->zero == 1) return reduce + gather;
    return l->zero == 2 ? l->m * reduce + gather : l->m * (reduce + 2 * gather);
}

void cluster_step(struct step_time *out, const struct layout *l, const struct config *c, const struct cluster *cluster)
{
    double compute, tensor, psi = layout_parameters(l, c), p = l->p, v = l->chunks > 1 ? l->chunks : 1;
    double layers = layout_layers(l, c), spare = layers * p - c->layers;
    layer_time(&compute, &tensor, cluster, l, c);
    bool near = (int64_t)l->t * l->d * l->p <= cluster->host;
    double rows = cluster->bytes.activation * l->b * l->s * c->channels / (l->whole_borders ? 1 : l->t);
    double border = p > 1 ? v * (rows / (near ? cluster->nvlink : cluster->network) + 10e-6) : 0;
    double head = head_time(cluster, l, c);
    if (spare >= 2) head /= p;              /* the first and the last stage have a layer less */
    *out = (struct step_time){
        .compute = l->m * (layers * compute + head), .tensor = l->m * layers * tensor, .pipeline = l->m * border,
        .bubble = (p - 1) / v * (layers * (compute + tensor) + border),
        .data = (1 - cluster->overlap) * data_time(cluster, l, psi),
        .optimizer = 28 * psi / (l->zero > 0 ? l->d : 1) / cluster->hbm};
    out->total = out->compute + out->tensor + out->pipeline + out->bubble + out->data + out->optimizer;
}

double cluster_days(double work, double devices, double rate) { return work / (devices * rate) / 86400; }

double save_cadence(double save, double failure) { return sqrt(2 * save * failure); }

double goodput(double every, double save, double failure, double restart)
{
    return (1 - (every / 2 + restart) / failure) / (1 + save / every);
}
