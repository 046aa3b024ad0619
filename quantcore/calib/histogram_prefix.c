#include "quantcore/calib/histogram_prefix.h"

#include <math.h>
#include <stdlib.h>

enum qd_code qc_histogram_prefix_init(struct qc_histogram_prefix *p,
                                      const struct qc_tensor_statistics *t, struct qd_error *err)
{
    const struct qc_histogram *h = &t->fine;
    size_t n = (size_t)h->n_bins + 1;
    p->h = h;
    p->position = calloc(n, sizeof(*p->position));
    p->count = calloc(n, sizeof(*p->count));
    p->sum = calloc(n, sizeof(*p->sum));
    p->squares = calloc(n, sizeof(*p->squares));
    if (p->position == NULL || p->count == NULL || p->sum == NULL || p->squares == NULL) {
        qc_histogram_prefix_done(p);
        return qd_fail(err, QD_NO_MEMORY, "no memory for the sums of %d bins", h->n_bins);
    }
    for (int k = 0; k < h->n_bins; k++) {
        double lower = h->lo + (double)k * h->width;
        double at = lower >= 0 && lower <= 0 ? 0.0 : qc_histogram_centre(h, k);
        double count = (double)h->counts[k];
        at = k == 0 ? t->min : k == h->n_bins - 1 ? t->max : at;
        p->position[k] = at;
        p->count[k + 1] = p->count[k] + h->counts[k];
        p->sum[k + 1] = p->sum[k] + count * at;
        p->squares[k + 1] = p->squares[k] + count * at * at;
    }
    return QD_OK;
}

void qc_histogram_prefix_done(struct qc_histogram_prefix *p)
{
    if (p == NULL) {
        return;
    }
    free(p->position);
    free(p->count);
    free(p->sum);
    free(p->squares);
    p->position = NULL;
    p->count = NULL;
    p->sum = NULL;
    p->squares = NULL;
}

void qc_histogram_prefix_cut(const struct qc_histogram_prefix *p, const struct qc_qparams *params,
                             int first, int ret[257])
{
    double scale = (double)params->scale;
    double inv_width = 1.0 / p->h->width; /* a power of two */
    int n = p->h->n_bins;
    ret[0] = 0;
    for (int q = 1; q < 256; q++) {
        /* Where code q starts, and the bin there; its position decides. */
        double from = ((double)(q - params->zero_point) - 0.5) * scale;
        double at = q > first ? (from - p->h->lo) * inv_width : 0.0;
        int k = at < 0.0 ? 0 : at > (double)n ? n : (int)at;
        while (q > first && k < n && p->position[k] < from) {
            k++;
        }
        while (k > 0 && p->position[k - 1] >= from) {
            k--;
        }
        ret[q] = k;
    }
    ret[256] = p->h->n_bins;
}

double qc_histogram_prefix_below(const struct qc_histogram_prefix *p, double x, bool inclusive)
{
    const struct qc_histogram *h = p->h;
    double at = (x - h->lo) / h->width; /* exact but for the subtraction */
    if (at < 0.0) {
        return 0.0;
    }
    if (at >= (double)h->n_bins) {
        return (double)p->count[h->n_bins];
    }
    int k = (int)at;
    double part = at - (double)k;
    if (fabs(p->position[k] - qc_histogram_centre(h, k)) > 0.0) {
        part = p->position[k] < x || (inclusive && p->position[k] <= x) ? 1.0 : 0.0;
    }
    return (double)p->count[k] + part * (double)h->counts[k];
}

double qc_histogram_prefix_error(const struct qc_histogram_prefix *p,
                                 const struct qc_qparams *params, int first)
{
    int cut[257];
    double error = 0;
    qc_histogram_prefix_cut(p, params, first, cut);
    for (int q = 0; q < 256; q++) {
        int a = cut[q];
        int b = cut[q + 1];
        if (a == b || p->count[a] == p->count[b]) {
            continue;
        }
        double x = (double)params->scale * (double)(q - params->zero_point);
        error += (p->squares[b] - p->squares[a]) - 2.0 * x * (p->sum[b] - p->sum[a]) +
                 x * x * (double)(p->count[b] - p->count[a]);
    }
    uint64_t total = p->count[p->h->n_bins];
    double noise = p->h->width * p->h->width / 12.0;
    return total == 0 ? 0.0 : fmax(error, 0.0) / (double)total + noise;
}
