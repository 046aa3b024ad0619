#include "quantcore/calib/histogram.h"

#include <float.h>
#include <math.h>

enum qd_code qc_histogram_init(struct qc_histogram *h, double lo, double hi, int n_bins,
                               struct qd_arena *arena, struct qd_error *err)
{
    if (!isfinite(lo) || !isfinite(hi) || hi < lo || hi - lo > FLT_MAX) {
        return qd_fail(err, QD_INVALID,
                       "values from %g to %g have no float32 histogram (span above %g)", lo, hi,
                       (double)FLT_MAX);
    }
    if (n_bins < 1 || n_bins > 65536) {
        return qd_fail(err, QD_INVALID, "%d histogram bins, 1 to 65536 are possible", n_bins);
    }
    QD_TRY(qd_arena_array(arena, (size_t)n_bins, sizeof(*h->counts), &h->counts, err));
    double width = (hi - lo) / (double)n_bins;
    double inverse = width > 0 ? 1.0 / width : 0.0;
    /* A span so small that 1/width is no float32 is one point for every purpose here. */
    bool point = width <= 0 || inverse > FLT_MAX;
    h->lo = lo;
    h->width = point ? 0.0 : width;
    h->inv_width = point ? 0.0f : (float)inverse;
    h->n_bins = n_bins;
    return QD_OK;
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
        double centre = qc_histogram_centre(h, k);
        total += h->counts[k];
        outside += centre < lo || centre > hi ? h->counts[k] : 0;
    }
    return total == 0 ? 0.0 : (double)outside / (double)total;
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

void qc_histogram_add(struct qc_histogram *a, const struct qc_histogram *b)
{
    bool same = a->lo == b->lo && a->width == b->width && a->n_bins == b->n_bins;
    for (int k = 0; k < b->n_bins; k++) {
        if (b->counts[k] == 0) {
            continue;
        }
        int to = k;
        if (!same) {
            double at = a->width > 0 ? (qc_histogram_centre(b, k) - a->lo) / a->width : 0.0;
            at = fmin(fmax(at, 0.0), (double)(a->n_bins - 1));
            to = (int)at;
        }
        a->counts[to] += b->counts[k];
    }
}
