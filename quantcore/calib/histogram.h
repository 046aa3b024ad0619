/* The fine histogram that every calibrator reads.
 *
 * Its edges are fixed before the first value is counted: the range observed in pass 1, split into
 * QC_FINE_BINS equal bins. Not the doubled range that the divergences compare over: candidates
 * may reach beyond the data (r up to 1.7), data never do, so the upper half of a doubled range
 * would always be empty and the bins twice as wide for nothing. The coarse histograms over
 * [lo, lo + 2 (hi - lo)] are derived from this one (calib_divergence.c).
 *
 * One increment a value; integer counts, so threads and batches never matter. */
#ifndef QC_HISTOGRAM_H
#define QC_HISTOGRAM_H

#include "quantcore/base/qd_arena.h"

#define QC_FINE_BINS 8192

struct qc_histogram {
    double lo;        /* lower edge of bin 0: the smallest value seen, exactly */
    double width;     /* of a bin, in real units; 0 when all values are alike (all in bin 0) */
    float inv_width;  /* what histogram_f32 multiplies by; 0 when width is 0 */
    int n_bins;
    uint64_t *counts; /* n_bins, in the arena */
};

/* An empty histogram over [lo, hi]. QD_INVALID when hi < lo, an end is not finite, or hi - lo
 * is no float32. */
QD_MUST_CHECK enum qd_code qc_histogram_init(struct qc_histogram *h, double lo, double hi,
                                             int n_bins, struct qd_arena *arena,
                                             struct qd_error *err);
/* The value that stands for all values of bin k: its centre. */
static inline double qc_histogram_centre(const struct qc_histogram *h, int k)
{
    return h->lo + ((double)k + 0.5) * h->width;
}
/* Upper edge of the last bin. */
static inline double qc_histogram_hi(const struct qc_histogram *h)
{
    return h->lo + h->width * (double)h->n_bins;
}
uint64_t qc_histogram_total(const struct qc_histogram *h);
/* Values in bins whose centre lies outside [lo, hi], as a share of all; 0 when empty. */
double qc_histogram_outside(const struct qc_histogram *h, double lo, double hi);
/* Inner edge of the bin that holds the k-th largest / k-th smallest value (k >= 1, capped at the
 * total): the value itself is within one width. For tails too long to be kept exactly. */
double qc_histogram_kth_largest(const struct qc_histogram *h, uint64_t k);
double qc_histogram_kth_smallest(const struct qc_histogram *h, uint64_t k);
/* Count b's values in a: bin by bin when the edges agree, else by bin centres (a value then moves
 * by at most half a bin of each). a must cover b's range. */
void qc_histogram_add(struct qc_histogram *a, const struct qc_histogram *b);

#endif
