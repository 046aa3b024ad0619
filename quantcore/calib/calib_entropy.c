#include "quantcore/calib/calib_entropy.h"

#include <math.h>
#include <stdlib.h>

#include "quantcore/calib/calib_divergence.h"

enum { MAX_BINS = QC_ENTROPY_MAX_BINS };

/* Sums over the bins before k: what a candidate costs in one step a level. */
struct entropy_sums {
    double mass[MAX_BINS + 1];
    double term[MAX_BINS + 1]; /* of m ln m */
    int filled[MAX_BINS + 1];  /* bins that are not empty */
};

static double self_term(double m)
{
    return m > 0 ? m * log(m) : 0.0;
}

static void sum_up(struct entropy_sums *s, const double *bins, int n)
{
    for (int k = 0; k < n; k++) {
        s->mass[k + 1] = s->mass[k] + bins[k];
        s->term[k + 1] = s->term[k] + self_term(bins[k]);
        s->filled[k + 1] = s->filled[k] + (bins[k] > 0 ? 1 : 0);
    }
}

/* KL(P||Q) of the first i bins; total: the mass of all values. With P = p/total and
 * Q = q/mass[i], q the mean of a group, it is
 * (sum p ln p - sum p ln q) / total + ln(mass[i] / total). */
static double threshold_divergence(const struct entropy_sums *s, const double *bins, double total,
                                   int levels, int i)
{
    double last = bins[i - 1];
    double outliers = total - s->mass[i];
    outliers = outliers > 0 ? outliers : 0;
    double sum = s->term[i] - self_term(last) + self_term(last + outliers);
    double log_q = 0;
    for (int j = 0; j < levels; j++) {
        int from = (int)(((int64_t)j * i + levels - 1) / levels);
        int to = (int)(((int64_t)(j + 1) * i + levels - 1) / levels);
        int filled = s->filled[to] - s->filled[from];
        double mass = s->mass[to] - s->mass[from];
        if (filled > 0 && mass > 0) {
            log_q = log(mass / filled);
            sum -= mass * log_q;
        }
    }
    if (outliers > 0) {
        /* The last group's mean stands against them too, or nothing does. */
        sum -= outliers * (last > 0 ? log_q : log(QC_DIVERGENCE_EPSILON * s->mass[i]));
    }
    return sum / total + log(s->mass[i] / total);
}

enum qd_code qc_entropy_threshold(const double *bins, int n, double beyond, int levels,
                                  int *ret_i, double *ret_divergence, struct qd_error *err)
{
    struct entropy_sums *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the sums of %d bins", n);
    }
    sum_up(s, bins, n);
    double total = s->mass[n] + beyond;
    int best = n;
    double least = INFINITY;
    int first = (n * levels + 2047) / 2048;
    for (int i = n; i >= (first > levels ? first : levels) && s->mass[i] > 0; i--) {
        double d = threshold_divergence(s, bins, total, levels, i);
        if (d < least) {
            least = d;
            best = i;
        }
    }
    free(s);
    *ret_i = best;
    *ret_divergence = isfinite(least) ? fmax(least, 0.0) : 0.0;
    return QD_OK;
}

/* Counts of |x|, 2^shift fine bins each, the n first; gives what lies beyond. */
static double fold(const struct qc_histogram *h, int shift, int n, double *bins)
{
    double beyond = 0;
    for (int k = 0; k < h->n_bins; k++) {
        /* Rounds down, negative ones too (gcc and clang); [-2, -1) is the mirror of [1, 2). */
        int64_t at = ((int64_t)h->first + k) >> shift;
        at = at < 0 ? -at - 1 : at;
        if (at < n) {
            bins[at] += (double)h->counts[k];
        } else {
            beyond += (double)h->counts[k];
        }
    }
    return beyond;
}

enum qd_code qc_calib_entropy(const struct qc_histogram *h, bool symmetric, double lo, double hi,
                              struct qc_range *ret, struct qd_error *err)
{
    double m = fmax(-lo, hi);
    int levels = !symmetric && (lo >= 0 || hi <= 0) ? 256 : 128;
    int shift = 0;
    while (ldexp(m / h->width, -shift) >= MAX_BINS) {
        shift++;
    }
    int n = (int)floor(ldexp(m / h->width, -shift)) + 1; /* M's own bin is the last */
    int i = n;
    double *bins = calloc(MAX_BINS, sizeof(*bins));
    if (bins == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for %d bins", n);
    }
    double beyond = fold(h, shift, n, bins);
    bins[0] = fmin(bins[0], bins[1]);
    enum qd_code code = qc_entropy_threshold(bins, n, beyond, levels, &i, &ret->score, err);
    free(bins);
    if (code != QD_OK) {
        return code;
    }
    double end = fmin(ldexp(h->width, shift) * i, m);
    ret->lo = symmetric ? -end : fmax(lo, -end);
    ret->hi = symmetric ? end : fmin(hi, end);
    ret->ratio = end / m;
    return QD_OK;
}
