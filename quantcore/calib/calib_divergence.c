#include "quantcore/calib/calib_divergence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* P ln(P/Q) of one bin. */
static double term(double p, double q)
{
    if (p <= 0) {
        return 0;
    }
    return p * log(p / (q > 0 ? q : QC_DIVERGENCE_EPSILON));
}

double qc_divergence(enum qc_calibrator measure, const uint64_t *p, const uint64_t *q, int n)
{
    uint64_t total_p = 0;
    uint64_t total_q = 0;
    double sum = 0;
    for (int i = 0; i < n; i++) {
        total_p += p[i];
        total_q += q[i];
    }
    if (total_p == 0 || total_q == 0) {
        return 0;
    }
    for (int i = 0; i < n; i++) {
        double x = (double)p[i] / (double)total_p;
        double y = (double)q[i] / (double)total_q;
        if (measure == QC_CALIB_KL) {
            sum += term(x, y);
        } else if (measure == QC_CALIB_SYMMETRIC_KL) {
            sum += 0.5 * (term(x, y) + term(y, x));
        } else {
            assert(measure == QC_CALIB_JS);
            double middle = 0.5 * (x + y);
            sum += 0.5 * (term(x, middle) + term(y, middle));
        }
    }
    return sum;
}

int qc_divergence_bin(double x, double lo, double width, int bins)
{
    double at = floor((x - lo) / width);
    at = at < 0 ? 0 : at > bins - 1 ? bins - 1 : at;
    return (int)at;
}

/* Coarse histogram of the data as candidate `params` leaves them. */
static void quantized_counts(const struct qc_histogram_prefix *p, const struct qc_qparams *params,
                             double lo, double width, int bins, uint64_t *ret)
{
    int cut[257];
    memset(ret, 0, (size_t)bins * sizeof(*ret));
    qc_histogram_prefix_cut(p, params, cut);
    for (int q = 0; q < 256; q++) {
        uint64_t mass = p->count[cut[q + 1]] - p->count[cut[q]];
        if (mass > 0) {
            /* In float32, as dequantization gives it: where a level falls on an edge of a bin
             * its rounding decides. */
            float x = (float)(q - params->zero_point) * params->scale;
            ret[qc_divergence_bin((double)x, lo, width, bins)] += mass;
        }
    }
}

enum qd_code qc_calib_divergence(const struct qc_histogram_prefix *p, enum qc_calibrator measure,
                                 const struct qc_search *search, double lo, double hi,
                                 struct qc_range *ret, struct qd_error *err)
{
    int bins = search->bins;
    double width = 2.0 * (hi - lo) / bins;
    uint64_t *counts = calloc(2 * (size_t)bins, sizeof(*counts));
    if (counts == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for two histograms of %d bins", bins);
    }
    uint64_t *original = counts;
    uint64_t *quantized = counts + bins;
    for (int k = 0; k < p->h->n_bins; k++) {
        original[qc_divergence_bin(qc_histogram_centre(p->h, k), lo, width, bins)] +=
            p->h->counts[k];
    }
    double best = INFINITY;
    double best_ratio = 1;
    int n = qc_search_count(search);
    for (int i = n - 1; i >= 0; i--) {
        struct qc_qparams params;
        double r = qc_search_ratio(search, i);
        qc_qparams_asymmetric_u8(lo, lo + r * (hi - lo), &params);
        quantized_counts(p, &params, lo, width, bins, quantized);
        double d = qc_divergence(measure, original, quantized, bins);
        bool nearer = fabs(r - 1) < fabs(best_ratio - 1);
        if (d < best || (d <= best && nearer)) {
            best = d;
            best_ratio = r;
        }
    }
    free(counts);
    ret->lo = lo;
    ret->hi = fmax(lo + best_ratio * (hi - lo), 0.0);
    ret->ratio = best_ratio;
    ret->score = best;
    return QD_OK;
}
