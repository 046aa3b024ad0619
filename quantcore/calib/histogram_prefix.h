/* Prefix sums over a fine histogram: what a candidate costs in 256 steps instead of 8192.
 *
 * The 256 codes of a candidate cut the axis into 256 intervals. With the sums of counts, of
 * positions and of squared positions up to each bin, the mass and the squared error of an
 * interval take two look-ups each. */
#ifndef QC_HISTOGRAM_PREFIX_H
#define QC_HISTOGRAM_PREFIX_H

#include "quantcore/affine/qparams.h"
#include "quantcore/calib/statistics.h"

struct qc_histogram_prefix {
    const struct qc_histogram *h;
    double *position; /* [n_bins]: what stands for a bin's values, ascending: its centre, but the
                         extremes for the end bins and 0 for the bin whose lower edge 0 is:
                         one value at least is just there, and all that pile up there (0 after
                         Relu, 6 after Relu6) */
    uint64_t *count;  /* [n_bins + 1]: values in bins before k */
    double *sum;      /* [n_bins + 1]: of count * position */
    double *squares;  /* [n_bins + 1]: of count * position^2 */
    /* Values whose own counts are known, not only their bins': all of them where the tensor has
     * few enough (values.h), else those of channels that hold one value throughout (a dead
     * channel behind its bias and a Relu). Many values at one point are what a bin tells least
     * about. Read by _upto; by _error when they are all. */
    bool all_known;
    int n_known;
    float *known;           /* [n_known], ascending */
    uint64_t *known_before; /* [n_known + 1]: counts of those before k */
    double *known_sum, *known_squares; /* [n_known + 1]: as sum and squares */
    int *known_from;        /* [n_bins + 1]: the first of bin k; NULL when none is known */
};

/* Of t's fine histogram. Heap; _done frees. t must outlive it. */
QD_MUST_CHECK enum qd_code qc_histogram_prefix_init(struct qc_histogram_prefix *p,
                                                    const struct qc_tensor_statistics *t,
                                                    struct qd_error *err);
void qc_histogram_prefix_done(struct qc_histogram_prefix *p);
/* ret[q] for q = 0..256: the first bin of code q (n_bins for 256): a bin belongs to the code that
 * its position is quantized to, saturation included. Non-decreasing. Codes below `first` (0..255)
 * are not used: what would be theirs saturates at `first`. */
void qc_histogram_prefix_cut(const struct qc_histogram_prefix *p, const struct qc_qparams *params,
                             int first, int ret[257]);
/* How many values code q or a lower one takes, unsaturated. A known value counts whole, on the
 * side that quantization puts it; the others of the bin that the edge between q and q + 1 lies in
 * by the part of its width below, or all or none where its position is not its centre: what an
 * edge cuts off without moving a whole bin to either side. */
double qc_histogram_prefix_upto(const struct qc_histogram_prefix *p,
                                const struct qc_qparams *params, int q);
/* Expected squared error a value: that of the values where all are known, else when every value is
 * its bin's position plus uniform noise over the bin: (sum over bins count (position -
 * fake_quant(position))^2) / total + width^2 / 12. */
double qc_histogram_prefix_error(const struct qc_histogram_prefix *p,
                                 const struct qc_qparams *params, int first);

#endif
