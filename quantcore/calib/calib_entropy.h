/* The threshold search that other tools call KL or entropy calibration.
 *
 * n bins of |x| over [0, M], a power of two wide and so 2,049 to 4,096 of them (others: 2,048):
 * they are whole fine bins, and what is counted is what counting the values gives. A candidate
 * keeps the first i bins; what lies beyond is added to the last of them (P). The same bins
 * without those outliers are merged into as many groups as there are levels, and each group's
 * mass is spread evenly over its bins that are not empty (Q). The threshold T = i widths (at most
 * M) with the least KL(P||Q) wins; equal ones go to the larger. i starts where T is M / 16, for
 * 256 levels M / 8.
 *
 * Levels: 128 for a side of a range with two (a sign and 7 bits), 256 when the data lie on one
 * side of 0 and all codes serve that side. Bin k of i belongs to group floor(k levels / i), so no
 * bin is split. The bin at 0 counts at most what its neighbour does: an activation's spike of
 * exact zeros costs nothing, as 0 is a code of every candidate, and would drown the rest. An
 * empty bin of Q counts as QC_DIVERGENCE_EPSILON.
 *
 * A spike elsewhere is not exempt: where many values are exactly alike (flat background behind a
 * Conv) small thresholds win that cut off most of the range. Prefer mse. */
#ifndef QC_CALIB_ENTROPY_H
#define QC_CALIB_ENTROPY_H

#include "quantcore/calib/calibrator.h"

enum { QC_ENTROPY_MAX_BINS = 4096 };

/* [lo, hi]: the base range, lo <= 0 <= hi, lo < hi; M is its end farther from 0. Asymmetric:
 * gives [max(lo, -T), min(hi, T)]; symmetric: [-T, T]. Fills lo, hi, ratio (T / M) and score.
 * When all values are beyond every candidate or in the bin at 0, the base range stays. */
QD_MUST_CHECK enum qd_code qc_calib_entropy(const struct qc_histogram *h, bool symmetric,
                                            double lo, double hi, struct qc_range *ret,
                                            struct qd_error *err);
/* The search alone: n masses >= 0 (1..QC_ENTROPY_MAX_BINS), beyond: of values above them. Gives
 * i and its divergence; n and 0 when no candidate holds any value. */
QD_MUST_CHECK enum qd_code qc_entropy_threshold(const double *bins, int n, double beyond,
                                                int levels, int *ret_i, double *ret_divergence,
                                                struct qd_error *err);

#endif
