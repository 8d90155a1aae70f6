/* ranking.h - the loss of one prompt's ranked answers, and how far the scores can be believed.
 *
 * Over the n pairs (i,j) in which answer i is better than answer j, with x = r_i - r_j - margin:
 *     loss = 1/n * sum [ (1 - smoothing) softplus(-x) + smoothing softplus(x) + center (r_i + r_j)^2 ]
 * Each answer is scored once and shares in up to K - 1 pairs.  Ties are no pairs and do not count in n. */
#ifndef QUARTET_RANKING_H
#define QUARTET_RANKING_H

#include "common/base/base.h"

struct ranking_options { double margin, smoothing, center; };

/* Sums over pairs. */
struct ranking_stats { double correct /* ties of scores count 1/2 */, margin /* r_i - r_j */, pairs; };

/* scores, quality (K): quality says which answer is better, the higher; equal ones are tied.
 *   dscores (K), overwritten, may be NULL: d(loss)/d(scores); sums to 0 when center is 0.
 *   stats (may be NULL): added to.
 * Returns the loss; 0, with dscores 0, when all are tied.  All in double.
 * Source: Ouyang et al. 2022, eq. 1; margin: Touvron et al. 2023, eq. 2; centring: Eisenstein et al. 2023. */
double ranking_loss(double *dscores, const double *scores, const double *quality, int K,
                    const struct ranking_options *o, struct ranking_stats *stats);

/* Pairs with a better and a worse answer. */
int64_t ranking_pairs(const double *quality, int K);

/* log(1 + e^x) and 1 / (1 + e^-x) without overflow. */
double softplus(double x);
double sigmoid(double x);

/* ---- calibration, from the score differences of held-out pairs ---- */

struct calibration_bin { int64_t n; double correct, confidence; };     /* sums */
enum { CALIBRATION_BINS = 5, MARGIN_BINS = 5 };

struct calibration {
    int64_t pairs;
    double accuracy;                 /* ties of scores count 1/2 */
    double log_loss, brier;          /* means of softplus(-d) and (1 - sigmoid(d))^2 */
    double ece;                      /* sum over bins n/pairs |accuracy - confidence|, confidence = sigmoid(|d|) */
    double margin;                   /* mean d */
    double longer_wins;              /* accuracy of "the longer answer is better" */
    struct calibration_bin bin[CALIBRATION_BINS];        /* confidence .5-.6, .6-.7, ... .9-1 */
    struct calibration_bin by_margin[MARGIN_BINS];       /* |d| below 0.25, 0.5, 1, 2, and above */
};

/* From {0}: each pair, d = score of the better answer - score of the worse, longer by how many tokens; then the end,
 * which makes means of the sums.  At least one pair. */
void calibration_add(struct calibration *c, double d, int longer);
void calibration_end(struct calibration *c);

/* Pearson's correlation of x and y (n): sum (x - mean x)(y - mean y) / sqrt(sum (x - mean x)^2 sum (y - mean y)^2); NaN
 * when one of them is constant up to rounding. */
double correlation(const double *x, const double *y, size_t n);

/* The two tables, appended to out. */
void calibration_print(struct bytes *out, const struct calibration *c);

#endif
