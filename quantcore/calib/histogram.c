#include "quantcore/calib/histogram.h"

#include <assert.h>
#include <float.h>
#include <math.h>

/* A float32 above this has no bits left below the point: finer bins would be empty. */
#define INDEX_MAX 0x1p23

static int64_t bin_of(double x, int exponent)
{
    return (int64_t)floor(ldexp(x, -exponent));
}

enum qd_code qc_histogram_edges(struct qc_histogram *h, double lo, double hi, int n_bins,
                                struct qd_error *err)
{
    if (!isfinite(lo) || !isfinite(hi) || hi < lo || hi - lo > FLT_MAX) {
        return qd_fail(err, QD_INVALID,
                       "values from %g to %g have no float32 histogram (span above %g)", lo, hi,
                       (double)FLT_MAX);
    }
    if (n_bins < 2 || n_bins > 65536) {
        return qd_fail(err, QD_INVALID, "%d histogram bins, 2 to 65536 are possible", n_bins);
    }
    /* The smallest exponent is a function of the range alone that does not fall when the range
     * grows: that is what merging needs. */
    double largest = fmax(fabs(lo), fabs(hi));
    int exponent = hi > lo ? ilogb((hi - lo) / n_bins) : -126;
    exponent = exponent < -126 ? -126 : exponent;
    while (ldexp(largest, -exponent) > INDEX_MAX ||
           bin_of(hi, exponent) - bin_of(lo, exponent) >= n_bins) {
        exponent++;
    }
    h->exponent = exponent;
    h->width = ldexp(1.0, exponent);
    h->inv_width = ldexpf(1.0f, -exponent);
    h->first = (int32_t)bin_of(lo, exponent);
    h->lo = (double)h->first * h->width;
    h->n_bins = (int)(bin_of(hi, exponent) - h->first) + 1;
    return QD_OK;
}

enum qd_code qc_histogram_init(struct qc_histogram *h, double lo, double hi, int n_bins,
                               struct qd_arena *arena, struct qd_error *err)
{
    QD_TRY(qc_histogram_edges(h, lo, hi, n_bins, err));
    return qd_arena_array(arena, (size_t)h->n_bins, sizeof(*h->counts), &h->counts, err);
}

int qc_histogram_bin(const struct qc_histogram *h, float x)
{
    /* Compared before it is an integer: a value far beyond the bins, or no number, has none. */
    double k = floor(ldexp((double)x, -h->exponent)) - (double)h->first;
    return k >= (double)h->n_bins ? h->n_bins - 1 : k > 0 ? (int)k : 0;
}

void qc_histogram_count(struct qc_histogram *h, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        h->counts[qc_histogram_bin(h, x[i])]++;
    }
}

uint64_t qc_histogram_total(const struct qc_histogram *h)
{
    uint64_t total = 0;
    for (int k = 0; k < h->n_bins; k++) {
        total += h->counts[k];
    }
    return total;
}

double qc_histogram_outside(const struct qc_histogram *h, double lo, double hi)
{
    uint64_t total = 0;
    uint64_t outside = 0;
    for (int k = 0; k < h->n_bins; k++) {
        double from = h->lo + (double)k * h->width;
        total += h->counts[k];
        outside += from + h->width <= lo || from > hi ? h->counts[k] : 0;
    }
    return total == 0 ? (double)NAN : (double)outside / (double)total;
}

double qc_histogram_kth_largest(const struct qc_histogram *h, uint64_t k)
{
    uint64_t seen = 0;
    for (int i = h->n_bins - 1; i >= 0; i--) {
        seen += h->counts[i];
        if (seen >= k && seen > 0) {
            return h->lo + (double)i * h->width;
        }
    }
    return h->lo;
}

double qc_histogram_kth_smallest(const struct qc_histogram *h, uint64_t k)
{
    uint64_t seen = 0;
    for (int i = 0; i < h->n_bins; i++) {
        seen += h->counts[i];
        if (seen >= k && seen > 0) {
            return h->lo + (double)(i + 1) * h->width;
        }
    }
    return qc_histogram_hi(h);
}

int qc_histogram_moved_bin(const struct qc_histogram *a, const struct qc_histogram *b, int k)
{
    int shift = a->exponent - b->exponent;
    int64_t index = (int64_t)b->first + k;
    assert(shift >= 0);
    /* Right shift of a negative number rounds down, as floor does (gcc and clang). */
    int64_t bin = (shift < 63 ? index >> shift : b->first < 0 ? -1 : 0) - a->first;
    assert(bin >= 0 && bin < a->n_bins);
    return (int)bin;
}

void qc_histogram_add(struct qc_histogram *a, const struct qc_histogram *b)
{
    for (int k = 0; k < b->n_bins; k++) {
        if (b->counts[k] != 0) {
            a->counts[qc_histogram_moved_bin(a, b, k)] += b->counts[k];
        }
    }
}
