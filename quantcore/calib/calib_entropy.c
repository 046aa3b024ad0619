#include "quantcore/calib/calib_entropy.h"

#include <math.h>
#include <stdlib.h>

#include "quantcore/calib/calib_divergence.h"

enum { N = QC_ENTROPY_BINS };

/* Sums over the bins before k: what a candidate costs in one step a level. */
struct entropy_sums {
    double mass[N + 1];
    double term[N + 1]; /* of m ln m */
    int filled[N + 1];  /* bins that are not empty */
};

static double self_term(double m)
{
    return m > 0 ? m * log(m) : 0.0;
}

static void sum_up(struct entropy_sums *s, const double *bins)
{
    for (int k = 0; k < N; k++) {
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

enum qd_code qc_entropy_threshold(const double *bins, double beyond, int levels, int *ret_i,
                                  double *ret_divergence, struct qd_error *err)
{
    struct entropy_sums *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the sums of %d bins", N);
    }
    sum_up(s, bins);
    double total = s->mass[N] + beyond;
    int best = N;
    double least = INFINITY;
    for (int i = N; i >= levels; i--) {
        if (!(s->mass[i] > 0)) {
            break;
        }
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

struct folded {
    double width; /* of a bin */
    double *bins; /* N */
    double beyond;
};

/* Add `mass`, even over [from, to], 0 <= from; a point when that is empty. */
static void deal_out(struct folded *f, double from, double to, double mass)
{
    double end = (double)N * f->width;
    if (!(to > from)) {
        if (from <= end) {
            f->bins[(int)fmin(floor(from / f->width), (double)(N - 1))] += mass;
        } else {
            f->beyond += mass;
        }
        return;
    }
    int last = (int)fmin(ceil(to / f->width), (double)N);
    for (int k = (int)fmin(floor(from / f->width), (double)N); k < last; k++) {
        double a = fmax(from, (double)k * f->width);
        double b = fmin(to, (double)(k + 1) * f->width);
        f->bins[k] += b > a ? mass * ((b - a) / (to - from)) : 0.0;
    }
    f->beyond += to > end ? mass * ((to - fmax(from, end)) / (to - from)) : 0.0;
}

/* |x| of the fine histogram. Its bins are finer than these or about as wide, and the two sets of
 * edges need not meet: counted by centres, every few bins one would get twice its share. */
static void fold(const struct qc_tensor_statistics *t, struct folded *f)
{
    const struct qc_histogram *h = &t->fine;
    for (int k = 0; k < h->n_bins; k++) {
        if (h->counts[k] == 0) {
            continue;
        }
        /* A bin may reach beyond the extremes, its values do not. */
        double centre = qc_histogram_centre(h, k);
        double a = fmin(fmax(centre - 0.5 * h->width, t->min), t->max);
        double b = fmax(fmin(centre + 0.5 * h->width, t->max), t->min);
        double mass = (double)h->counts[k];
        if (a < 0 && b > 0) {
            double below = mass * (-a / (b - a));
            deal_out(f, 0, -a, below);
            deal_out(f, 0, b, mass - below);
        } else {
            deal_out(f, fmin(fabs(a), fabs(b)), fmax(fabs(a), fabs(b)), mass);
        }
    }
}

enum qd_code qc_calib_entropy(const struct qc_tensor_statistics *t, bool symmetric, double lo,
                              double hi, struct qc_range *ret, struct qd_error *err)
{
    double m = fmax(-lo, hi);
    int levels = !symmetric && (lo >= 0 || hi <= 0) ? 256 : 128;
    int i = N;
    struct folded f = {.width = m / N, .bins = calloc(N, sizeof(*f.bins))};
    if (f.bins == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for %d bins", N);
    }
    fold(t, &f);
    f.bins[0] = fmin(f.bins[0], f.bins[1]);
    enum qd_code code = qc_entropy_threshold(f.bins, f.beyond, levels, &i, &ret->score, err);
    free(f.bins);
    if (code != QD_OK) {
        return code;
    }
    double end = m * i / N;
    ret->lo = symmetric ? -end : fmax(lo, -end);
    ret->hi = symmetric ? end : fmin(hi, end);
    ret->ratio = (double)i / N;
    return QD_OK;
}
