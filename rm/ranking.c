/* ranking.c - on the host and in double: K is at most a few dozen, and a pair's loss is the difference of two scores
 * that may nearly cancel. */
#include "rm/ranking.h"

#include <math.h>

double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

double sigmoid(double x)
{
    if (x >= 0) return 1 / (1 + exp(-x));
    double e = exp(x);
    return e / (1 + e);
}

int64_t ranking_pairs(const double *quality, int K)
{
    int64_t pairs = 0;
    for (int i = 0; i < K; i++)
        for (int j = 0; j < i; j++) pairs += quality[i] != quality[j];
    return pairs;
}

/* One pair, its gradient times `share` added. */
static double pair_loss(double *dbetter, double *dworse, double better, double worse, const struct ranking_options *o,
                        double share)
{
    double x = better - worse - o->margin, sum = better + worse;
    double slope = share * (o->smoothing * sigmoid(x) - (1 - o->smoothing) * sigmoid(-x));
    double pull = share * 2 * o->center * sum;
    *dbetter += pull + slope;
    *dworse += pull - slope;
    return (1 - o->smoothing) * softplus(-x) + o->smoothing * softplus(x) + o->center * sum * sum;
}

double ranking_loss(double *dscores, const double *scores, const double *quality, int K,
                    const struct ranking_options *o, struct ranking_stats *stats)
{
    int64_t pairs = ranking_pairs(quality, K);
    double loss = 0, nobody;
    for (int i = 0; dscores && i < K; i++) dscores[i] = 0;
    if (pairs == 0) return 0;
    for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) {
            if (!(quality[i] > quality[j])) continue;
            double d = scores[i] - scores[j];
            nobody = 0;
            loss += pair_loss(dscores ? &dscores[i] : &nobody, dscores ? &dscores[j] : &nobody, scores[i], scores[j], o,
                              1.0 / (double)pairs);
            if (!stats) continue;
            stats->pairs++;
            stats->margin += d;
            stats->correct += d > 0 ? 1 : d < 0 ? 0 : 0.5;
        }
    }
    return loss / (double)pairs;
}
