#include "quantcore/calib/histogram_prefix.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum qd_code qc_histogram_prefix_init(struct qc_histogram_prefix *p,
                                      const struct qc_histogram *h, struct qd_error *err)
{
    assert(h->width > 0);
    size_t n = (size_t)h->n_bins + 1;
    p->h = h;
    p->count = calloc(n, sizeof(*p->count));
    p->sum = calloc(n, sizeof(*p->sum));
    p->squares = calloc(n, sizeof(*p->squares));
    if (p->count == NULL || p->sum == NULL || p->squares == NULL) {
        qc_histogram_prefix_done(p);
        return qd_fail(err, QD_NO_MEMORY, "no memory for the sums of %d bins", h->n_bins);
    }
    for (int k = 0; k < h->n_bins; k++) {
        double centre = qc_histogram_centre(h, k);
        double count = (double)h->counts[k];
        p->count[k + 1] = p->count[k] + h->counts[k];
        p->sum[k + 1] = p->sum[k] + count * centre;
        p->squares[k + 1] = p->squares[k] + count * centre * centre;
    }
    return QD_OK;
}

void qc_histogram_prefix_done(struct qc_histogram_prefix *p)
{
    if (p == NULL) {
        return;
    }
    free(p->count);
    free(p->sum);
    free(p->squares);
    p->count = NULL;
    p->sum = NULL;
    p->squares = NULL;
}

void qc_histogram_prefix_cut(const struct qc_histogram_prefix *p, const struct qc_qparams *params,
                             int ret[257])
{
    /* Code q starts where x / scale = q - zero_point - 1/2; the bin with that centre is at
     * (x - lo) / width - 1/2. */
    double step = (double)params->scale / p->h->width;
    double at = (-(double)params->zero_point - 0.5) * step - p->h->lo / p->h->width - 0.5;
    double n = (double)p->h->n_bins;
    ret[0] = 0;
    for (int q = 1; q < 256; q++) {
        double first = at + (double)q * step;
        first = first < 0.0 ? 0.0 : first > n ? n : first;
        int k = (int)first;
        ret[q] = k + ((double)k < first ? 1 : 0);
    }
    ret[256] = p->h->n_bins;
}

double qc_histogram_prefix_error(const struct qc_histogram_prefix *p,
                                 const struct qc_qparams *params)
{
    int cut[257];
    double error = 0;
    qc_histogram_prefix_cut(p, params, cut);
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
