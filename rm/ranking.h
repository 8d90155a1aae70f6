/* ranking.h - the loss of one prompt's ranked answers.
 *
 * Over the n pairs (i,j) in which answer i is better than answer j, with x = r_i - r_j - margin:
 *     loss = 1/n * sum [ (1 - smoothing) softplus(-x) + smoothing softplus(x) + center (r_i + r_j)^2 ]
 * Each answer is scored once and shares in up to K - 1 pairs.  Ties are no pairs and do not count in n. */
#ifndef QUARTET_RANKING_H
#define QUARTET_RANKING_H

#include <stdint.h>

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

#endif
