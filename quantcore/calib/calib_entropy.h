/* The threshold search that other tools call KL or entropy calibration.
 *
 * QC_ENTROPY_BINS bins of |x| over [0, M]. A candidate keeps the first i bins; what lies beyond
 * is added to the last of them (P). The same bins without those outliers are merged into as many
 * groups as there are levels, and each group's mass is spread evenly over its bins that are not
 * empty (Q). The threshold T = i M / QC_ENTROPY_BINS with the least KL(P||Q) wins, i from the
 * number of levels to QC_ENTROPY_BINS; equal ones go to the larger.
 *
 * Levels: 128 for a side of a range with two (a sign and 7 bits), 256 when the data lie on one
 * side of 0 and all codes serve that side. Bin k of i belongs to group floor(k levels / i), so no
 * bin is split. The bin at 0 counts at most what its neighbour does: an activation's spike of
 * exact zeros costs nothing, as 0 is a code of every candidate, and would drown the rest. An
 * empty bin of Q counts as QC_DIVERGENCE_EPSILON. */
#ifndef QC_CALIB_ENTROPY_H
#define QC_CALIB_ENTROPY_H

#include "quantcore/calib/calibrator.h"

enum { QC_ENTROPY_BINS = 2048 };

/* [lo, hi]: the base range, lo <= 0 <= hi, lo < hi; M is its end farther from 0. Asymmetric:
 * gives [max(lo, -T), min(hi, T)]; symmetric: [-T, T]. Fills lo, hi, ratio (T / M) and score.
 * When all values are beyond every candidate or in the bin at 0, the base range stays. */
QD_MUST_CHECK enum qd_code qc_calib_entropy(const struct qc_tensor_statistics *t, bool symmetric,
                                            double lo, double hi, struct qc_range *ret,
                                            struct qd_error *err);
/* The search alone. bins: QC_ENTROPY_BINS masses >= 0, beyond: of values above M. Gives i and
 * its divergence. */
QD_MUST_CHECK enum qd_code qc_entropy_threshold(const double *bins, double beyond, int levels,
                                                int *ret_i, double *ret_divergence,
                                                struct qd_error *err);

#endif
