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

/* ---- calibration: a pair is a bet that the better answer wins with probability sigmoid(d) ---- */

static const double margin_edge[MARGIN_BINS] = {0.25, 0.5, 1, 2, INFINITY};

static void bet(struct calibration_bin *b, double correct, double confidence)
{
    b->n++;
    b->correct += correct;
    b->confidence += confidence;
}

void calibration_add(struct calibration *c, double d, int longer)
{
    double correct = d > 0 ? 1 : d < 0 ? 0 : 0.5, confidence = sigmoid(fabs(d)), surprise = 1 - sigmoid(d);
    int bin = (int)((confidence - 0.5) * 2 * CALIBRATION_BINS), margin = 0;
    while (fabs(d) >= margin_edge[margin] && margin < MARGIN_BINS - 1) margin++;
    bet(&c->bin[int_min(bin, CALIBRATION_BINS - 1)], correct, confidence);
    bet(&c->by_margin[margin], correct, confidence);
    c->pairs++;
    c->accuracy += correct;
    c->log_loss += softplus(-d);
    c->brier += surprise * surprise;
    c->margin += d;
    c->longer_wins += longer > 0 ? 1 : longer < 0 ? 0 : 0.5;
}

void calibration_end(struct calibration *c)
{
    double n = (double)c->pairs, *mean[] = {&c->accuracy, &c->log_loss, &c->brier, &c->margin, &c->longer_wins};
    for (int k = 0; k < 5; k++) *mean[k] /= n;
    for (int b = 0; b < CALIBRATION_BINS; b++) c->ece += fabs(c->bin[b].correct - c->bin[b].confidence) / n;
}

double correlation(const double *x, const double *y, size_t n)
{
    double mean_x = 0, mean_y = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        mean_x += x[i] / (double)n;
        mean_y += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        yy += (y[i] - mean_y) * (y[i] - mean_y);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    bool spread = standard_deviation(xx, (double)n, mean_x) > 0 && standard_deviation(yy, (double)n, mean_y) > 0;
    return spread ? xy / sqrt(xx * yy) : NAN;
}

static void print_row(struct bytes *out, const char *name, const struct calibration_bin *b)
{
    if (b->n > 0)
        bytes_text(out, "  %-10s %7lld  %10.3f  %10.3f\n", name, (long long)b->n, b->confidence / (double)b->n,
                   b->correct / (double)b->n);
}

void calibration_print(struct bytes *out, const struct calibration *c)
{
    static const char *const confidence[] = {"0.5-0.6", "0.6-0.7", "0.7-0.8", "0.8-0.9", "0.9-1"};
    static const char *const margin[] = {"< 0.25", "< 0.5", "< 1", "< 2", ">= 2"};
    bytes_text(out, "  confidence   pairs   predicted   was right\n");
    for (int b = 0; b < CALIBRATION_BINS; b++) print_row(out, confidence[b], &c->bin[b]);
    bytes_text(out, "  |margin|     pairs   predicted   was right\n");
    for (int b = 0; b < MARGIN_BINS; b++) print_row(out, margin[b], &c->by_margin[b]);
}
