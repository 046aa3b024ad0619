#include "quantcore/calib/calib_percentile.h"

void qc_calib_percentile(const struct qc_tensor_statistics *t, double min_percentile,
                         double max_percentile, float *scratch, double *ret_lo, double *ret_hi,
                         bool *ret_exact)
{
    uint64_t k_lo = qc_tail_length(t->count, min_percentile);
    uint64_t k_hi = qc_tail_length(t->count, max_percentile);
    bool exact_lo = k_lo == 1 || k_lo <= t->smallest.n;
    bool exact_hi = k_hi == 1 || k_hi <= t->largest.n;
    double lo = t->min;
    double hi = t->max;
    if (k_lo > 1) {
        lo = exact_lo ? (double)qc_tail_at(&t->smallest, (size_t)k_lo, scratch)
                      : qc_histogram_kth_smallest(&t->fine, k_lo);
    }
    if (k_hi > 1) {
        hi = exact_hi ? (double)qc_tail_at(&t->largest, (size_t)k_hi, scratch)
                      : qc_histogram_kth_largest(&t->fine, k_hi);
    }
    /* Only a histogram can make them cross, and then by its bin. */
    *ret_lo = lo < hi ? lo : hi;
    *ret_hi = hi > lo ? hi : lo;
    *ret_exact = exact_lo && exact_hi;
}
