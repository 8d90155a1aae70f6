/* calibration.h - how far a reward model can be believed, from the score differences of held-out pairs. */
#ifndef QUARTET_CALIBRATION_H
#define QUARTET_CALIBRATION_H

#include "common/base/base.h"

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
