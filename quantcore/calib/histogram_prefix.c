#include "quantcore/calib/histogram_prefix.h"

#include <math.h>
#include <stdlib.h>

/* ---- values known exactly --------------------------------------------------------------------
 */

/* The one value of a channel all of whose `per_channel` values are alike, 0 if they are not (and
 * if they are 0, which the bin of 0 tells). Nothing but the largest magnitude, everywhere with
 * one sign, sums up to itself; the margin is for the rounding of the sums and smaller than what
 * one float's last bit in a million values makes. */
static float constant_of(const struct qc_channel_statistics *c, uint64_t per_channel)
{
    static const double MARGIN = 1e-12;
    double sum = qd_exact_value(&c->sum);
    double all = (double)c->max_abs * (double)per_channel;
    if (c->n_nonzero != per_channel || fabs(sum) < all * (1.0 - MARGIN)) {
        return 0.0f;
    }
    return sum < 0 ? -c->max_abs : c->max_abs;
}

/* Fills value, ascending, and gives how many: at most n_channels. */
static int constant_channels(const struct qc_tensor_statistics *t, struct qc_value_count *value)
{
    int n = 0, kept = 0;
    uint64_t per_channel = t->n_channels > 0 ? t->count / (uint64_t)t->n_channels : 0;
    for (int c = 0; c < t->n_channels && per_channel > 0; c++) {
        float x = constant_of(&t->channels[c], per_channel);
        if (x < 0.0f || x > 0.0f) {
            value[n++] = (struct qc_value_count){x, per_channel};
        }
    }
    qsort(value, (size_t)n, sizeof(*value), qc_value_count_compare);
    /* The sums are pass 1's, and with `inference: quantized` the bins hold other values: what is
     * more than its bin's count is not there. */
    for (int from = 0, to = 0; from < n; from = to) {
        int bin = qc_histogram_bin(&t->fine, value[from].value);
        uint64_t sum = 0;
        for (; to < n && qc_histogram_bin(&t->fine, value[to].value) == bin; to++) {
            sum += per_channel;
        }
        for (int i = from; i < to && sum <= t->fine.counts[bin]; i++) {
            value[kept++] = value[i];
        }
    }
    return kept;
}

static enum qd_code store_known(struct qc_histogram_prefix *p, const struct qc_value_count *value,
                                int n, struct qd_error *err)
{
    size_t n_bins = (size_t)p->h->n_bins;
    p->known = calloc((size_t)n, sizeof(*p->known));
    p->known_before = calloc((size_t)n + 1, sizeof(*p->known_before));
    p->known_sum = calloc((size_t)n + 1, sizeof(*p->known_sum));
    p->known_squares = calloc((size_t)n + 1, sizeof(*p->known_squares));
    p->known_from = calloc(n_bins + 1, sizeof(*p->known_from));
    if (p->known == NULL || p->known_before == NULL || p->known_sum == NULL ||
        p->known_squares == NULL || p->known_from == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for %d known values", n);
    }
    p->n_known = n;
    for (int i = 0; i < n; i++) {
        double x = (double)value[i].value, count = (double)value[i].count;
        p->known[i] = value[i].value;
        p->known_sum[i + 1] = p->known_sum[i] + count * x;
        p->known_squares[i + 1] = p->known_squares[i] + count * x * x;
        p->known_before[i + 1] = p->known_before[i] + value[i].count;
        p->known_from[qc_histogram_bin(p->h, value[i].value) + 1]++;
    }
    for (size_t k = 0; k < n_bins; k++) {
        p->known_from[k + 1] += p->known_from[k];
    }
    return QD_OK;
}

static enum qd_code init_known(struct qc_histogram_prefix *p, const struct qc_tensor_statistics *t,
                               struct qd_error *err)
{
    if (t->values.n > 0) {
        p->all_known = true;
        return store_known(p, t->values.entries, t->values.n, err);
    }
    if (t->n_channels == 0 || qc_histogram_total(&t->fine) != t->count) {
        return QD_OK;
    }
    struct qc_value_count *value = calloc((size_t)t->n_channels, sizeof(*value));
    if (value == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for %d channels", t->n_channels);
    }
    int n = constant_channels(t, value);
    enum qd_code code = n > 0 ? store_known(p, value, n, err) : QD_OK;
    free(value);
    return code;
}

/* The first of the known from..to-1 that a code above q takes. */
static int known_upto(const struct qc_histogram_prefix *p, int from, int to,
                      const struct qc_qparams *params, int q)
{
    while (from < to) {
        int middle = from + (to - from) / 2;
        if (qc_quantize_value(p->known[middle], params->scale, params->zero_point, 0, 255) <= q) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

/* ---- sums ------------------------------------------------------------------------------------
 */

enum qd_code qc_histogram_prefix_init(struct qc_histogram_prefix *p,
                                      const struct qc_tensor_statistics *t, struct qd_error *err)
{
    const struct qc_histogram *h = &t->fine;
    size_t n = (size_t)h->n_bins + 1;
    *p = (struct qc_histogram_prefix){.h = h};
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
    enum qd_code code = init_known(p, t, err);
    if (code != QD_OK) {
        qc_histogram_prefix_done(p);
    }
    return code;
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
    free(p->known);
    free(p->known_before);
    free(p->known_sum);
    free(p->known_squares);
    free(p->known_from);
    p->position = NULL;
    p->count = NULL;
    p->sum = NULL;
    p->squares = NULL;
    p->known = NULL;
    p->known_before = NULL;
    p->known_sum = p->known_squares = NULL;
    p->known_from = NULL;
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

double qc_histogram_prefix_upto(const struct qc_histogram_prefix *p,
                                const struct qc_qparams *params, int q)
{
    const struct qc_histogram *h = p->h;
    double x = ((double)(q - params->zero_point) + 0.5) * (double)params->scale;
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
        part = p->position[k] < x ? 1.0 : 0.0;
    }
    uint64_t rest = h->counts[k], under = 0;
    if (p->known_from != NULL && p->known_from[k] < p->known_from[k + 1]) {
        int from = p->known_from[k], to = p->known_from[k + 1];
        rest -= p->known_before[to] - p->known_before[from];
        under = p->known_before[known_upto(p, from, to, params, q)] - p->known_before[from];
    }
    return (double)(p->count[k] + under) + part * (double)rest;
}

/* The first known value that is at least x: in x's bin, or it begins a later one. */
static int known_at_least(const struct qc_histogram_prefix *p, double x)
{
    double at = (x - p->h->lo) / p->h->width;
    if (at < 0.0) {
        return 0;
    }
    if (at >= (double)p->h->n_bins) {
        return p->n_known;
    }
    int from = p->known_from[(int)at], to = p->known_from[(int)at + 1];
    while (from < to) {
        int middle = from + (to - from) / 2;
        if ((double)p->known[middle] < x) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static double known_error(const struct qc_histogram_prefix *p, const struct qc_qparams *params,
                          int first)
{
    double error = 0;
    for (int q = first, from = 0; q < 256 && from < p->n_known; q++) {
        double edge = ((double)(q - params->zero_point) + 0.5) * (double)params->scale;
        double x = (double)params->scale * (double)(q - params->zero_point);
        int to = q < 255 ? known_at_least(p, edge) : p->n_known;
        error += (p->known_squares[to] - p->known_squares[from]) -
                 2.0 * x * (p->known_sum[to] - p->known_sum[from]) +
                 x * x * (double)(p->known_before[to] - p->known_before[from]);
        from = to;
    }
    return fmax(error, 0.0) / (double)p->known_before[p->n_known];
}

double qc_histogram_prefix_error(const struct qc_histogram_prefix *p,
                                 const struct qc_qparams *params, int first)
{
    if (p->all_known) {
        return known_error(p, params, first);
    }
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
