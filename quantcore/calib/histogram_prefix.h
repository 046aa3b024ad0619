/* Prefix sums over a fine histogram: what a candidate costs in 256 steps instead of 8192.
 *
 * The 256 codes of a candidate cut the axis into 256 intervals. With the sums of counts, of
 * centres and of squared centres up to each bin, the mass and the squared error of an interval
 * take two look-ups each. */
#ifndef QC_HISTOGRAM_PREFIX_H
#define QC_HISTOGRAM_PREFIX_H

#include "quantcore/affine/qparams.h"
#include "quantcore/calib/histogram.h"

struct qc_histogram_prefix {
    const struct qc_histogram *h;
    uint64_t *count;  /* [n_bins + 1]: values in bins before k */
    double *sum;      /* [n_bins + 1]: of count * centre */
    double *squares;  /* [n_bins + 1]: of count * centre^2 */
};

/* Heap; _done frees. h must outlive it. h->width > 0. */
QD_MUST_CHECK enum qd_code qc_histogram_prefix_init(struct qc_histogram_prefix *p,
                                                    const struct qc_histogram *h,
                                                    struct qd_error *err);
void qc_histogram_prefix_done(struct qc_histogram_prefix *p);
/* ret[q] for q = 0..256: the first bin of code q (n_bins for 256): a bin belongs to the code that
 * its centre is quantized to, saturation included. Non-decreasing. */
void qc_histogram_prefix_cut(const struct qc_histogram_prefix *p, const struct qc_qparams *params,
                             int ret[257]);
/* Expected squared error a value when every value is its bin's centre plus uniform noise over the
 * bin: (sum over bins count (centre - fake_quant(centre))^2) / total + width^2 / 12. */
double qc_histogram_prefix_error(const struct qc_histogram_prefix *p,
                                 const struct qc_qparams *params);

#endif
