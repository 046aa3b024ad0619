/* The divergences: the candidate whose quantized data have the histogram nearest to the
 * original's.
 *
 *   KL(P||Q) = sum P ln(P/Q)     an empty bin of Q that P fills counts as
 *                                QC_DIVERGENCE_EPSILON, and Q is normalised again, so KL >= 0
 *   symmetric = (KL(P||Q) + KL(Q||P)) / 2
 *   JS = KL(P||M)/2 + KL(Q||M)/2, M = (P+Q)/2; 0 <= JS <= ln 2, needs no smoothing
 *
 * QC_FORM_LEVELS: over `bins` coarse bins on [lo, lo + 2 (hi - lo)], symmetric: of |x| on
 * [0, 2 M]. Known artefact, kept because users know these calibrators so: half of the bins lie on
 * the data, a candidate r has 2 * 255 / (r * bins) levels a bin (3.4/r for 150 bins; symmetric
 * 1.7/r), and the divergence is smallest where that is an integer, so r = 1.70, 1.133, 0.85, 0.68
 * come out again and again.
 * The coarse bins' edges lie on those of the fine bins, at the nearest: which values a coarse bin
 * holds is then known exactly, also where many lie on an edge (pixels k/255 and edges j/75: the
 * rounding of a float would decide). Half open, [from, to), and mirrored for |x| of negative x.
 * An edge between two levels falls into a fine bin and divides its values by width, but for those
 * that are known one by one (histogram_prefix.h). What is left is chance: of the 40 values of a
 * bin some more or fewer than the width tells lie below the edge. Minima are often of nearly one
 * depth, and then another may win than for the naive form: 5 of 624 choices on four networks, each
 * within 1.4 % of the least (make bench-search names them).
 *
 * QC_FORM_SPREAD: over the fine bins, without that artefact: a code's mass is spread evenly over
 * those of its step's bins that hold data (a value that no neighbour hides is kept as it is), the
 * bin of 0 keeps its own mass (0 is a code of every candidate), and the end codes' steps reach
 * half a step beyond their levels, so that clipped values find nothing where they were. `bins` is
 * not used. */
#ifndef QC_CALIB_DIVERGENCE_H
#define QC_CALIB_DIVERGENCE_H

#include "quantcore/calib/calibrator.h"
#include "quantcore/calib/histogram_prefix.h"

#define QC_DIVERGENCE_EPSILON 1e-6

/* Of two histograms of n counts each, normalised here. measure is one of the three divergences.
 */
double qc_divergence(enum qc_calibrator measure, const uint64_t *p, const uint64_t *q, int n);

/* The same of normalised shares. */
double qc_divergence_shares(enum qc_calibrator measure, const double *p, const double *q, int n);

/* [lo, hi]: the base range, lo <= 0 <= hi, lo < hi; symmetric: lo = -hi. Fills lo, hi, ratio and
 * score. Equal divergences go to the candidate nearest r = 1, then to the larger. */
QD_MUST_CHECK enum qd_code qc_calib_divergence(const struct qc_histogram_prefix *p,
                                               enum qc_calibrator measure,
                                               const struct qc_search *search, double lo,
                                               double hi, struct qc_range *ret,
                                               struct qd_error *err);

#endif
