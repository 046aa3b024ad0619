/* The fine histogram that every calibrator reads.
 *
 * Its bins are 2^exponent wide and aligned with zero: bin k holds the values x with
 * floor(x / width) = first + k. Division by a power of two is exact in float32, so a value's bin
 * does not depend on who counts it, and histograms over different ranges merge without loss: the
 * bins of the finer one go whole into those of the coarser one. The width is the smallest that
 * covers the range observed in pass 1 with at most n_bins bins (more than half of them are used).
 *
 * Not the doubled range that the divergences compare over: candidates may reach beyond the data
 * (r up to 1.7), data never do. The coarse histograms over [lo, lo + 2 (hi - lo)] are derived
 * from this one (calib_divergence.c).
 *
 * One increment a value; integer counts, so threads and batches never matter. */
#ifndef QC_HISTOGRAM_H
#define QC_HISTOGRAM_H

#include "quantcore/base/qd_arena.h"

#define QC_FINE_BINS 16384 /* at most */

struct qc_histogram {
    int exponent;     /* -126..127 */
    int32_t first;    /* of bin 0: floor(smallest value / width) */
    double width;     /* 2^exponent, in real units */
    double lo;        /* lower edge of bin 0: first * width */
    float inv_width;  /* what histogram_f32 multiplies by */
    int n_bins;       /* 1 when all values are alike */
    uint64_t *counts; /* n_bins, in the arena */
};

/* The edges for values in [lo, hi], without counts. QD_INVALID when hi < lo, an end is not
 * finite, hi - lo is no float32, or n_bins is not 2..65536. */
QD_MUST_CHECK enum qd_code qc_histogram_edges(struct qc_histogram *h, double lo, double hi,
                                              int n_bins, struct qd_error *err);
/* The same with empty counts in the arena. */
QD_MUST_CHECK enum qd_code qc_histogram_init(struct qc_histogram *h, double lo, double hi,
                                             int n_bins, struct qd_arena *arena,
                                             struct qd_error *err);
/* Count n values as the kernels do; for tests and small tools. */
void qc_histogram_count(struct qc_histogram *h, const float *x, size_t n);
/* The bin that x is counted in: an end bin when x lies outside. */
int qc_histogram_bin(const struct qc_histogram *h, float x);
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
/* Values in bins that lie outside [lo, hi] as a whole, as a share of all; NAN when empty. */
double qc_histogram_outside(const struct qc_histogram *h, double lo, double hi);
/* Inner edge of the bin that holds the k-th largest / k-th smallest value (k >= 1, capped at the
 * total): the value itself is within one width. For tails too long to be kept exactly. */
double qc_histogram_kth_largest(const struct qc_histogram *h, uint64_t k);
double qc_histogram_kth_smallest(const struct qc_histogram *h, uint64_t k);
/* Where bin k of b lies in a, whose edges must be those of a range that contains b's: as a whole in
 * one bin. */
int qc_histogram_moved_bin(const struct qc_histogram *a, const struct qc_histogram *b, int k);
/* Add b's counts to a, whose edges must be those of a range that contains b's: exact. */
void qc_histogram_add(struct qc_histogram *a, const struct qc_histogram *b);

#endif
