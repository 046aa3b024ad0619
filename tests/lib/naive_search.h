/* The search as its formulas say it: every value quantized once for every candidate. What the
 * calibrators derive from one fine histogram is compared with this. Slow, and written without the
 * code that it judges: of quantcore it uses the definition of a code (qc_quantize_value). */
#ifndef TEST_NAIVE_SEARCH_H
#define TEST_NAIVE_SEARCH_H

#include "quantcore/calib/calibrator.h"

struct naive {
    const float *x;
    size_t n;
    bool symmetric;
    double lo, hi; /* base range: the extremes, widened to 0; symmetric: lo = -hi */
    double grid; /* edges of coarse bins are whole multiples of it: a power of two, the smallest
                    in whose units x spans at most 16,384 steps and reaches at most 2^23 */
    double start, step;
    int n_candidates;
    int bins;
};

/* x's extremes, and the candidates and bins of `search`. */
void naive_init(struct naive *s, const float *x, size_t n, const struct qc_search *search);

/* Candidate i of the divergences. */
double naive_ratio(const struct naive *s, int i);
/* KL, symmetric KL and JS of all candidates: ret[3][n_candidates]. */
void naive_divergences(const struct naive *s, double *const ret[3]);
/* The candidate with the least, ties to the one nearest 1, then the larger. */
int naive_best(const struct naive *s, const double *divergence);

/* Mean squared error of the range [lo, hi]. */
double naive_error(const struct naive *s, double lo, double hi);
/* The range with the least error: multiples of 1/64 of both ends, then steps down to 1/1024. */
void naive_mse(const struct naive *s, double *ret_lo, double *ret_hi, double *ret_error);

/* Threshold search over bins of |x| of the smallest power-of-two width that gives at most 4096:
 * divergences of candidates in ret[i] (4097 places), i times the width is the threshold. Gives
 * the best i. */
int naive_entropy(const struct naive *s, double *ret, double *ret_width);

#endif
