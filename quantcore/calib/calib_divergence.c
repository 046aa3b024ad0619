#include "quantcore/calib/calib_divergence.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* P ln(P/Q) of one bin; *missing counts the bins of Q that were smoothed. */
static double term(double p, double q, int *missing)
{
    if (p <= 0) {
        return 0;
    }
    if (q <= 0) {
        (*missing)++;
        q = QC_DIVERGENCE_EPSILON;
    }
    return p * log(p / q);
}

struct sums {
    enum qc_calibrator measure;
    double sum;
    int missing_q, missing_p;
};

static void add_bin(struct sums *s, double p, double q)
{
    if (s->measure == QC_CALIB_KL) {
        s->sum += term(p, q, &s->missing_q);
    } else if (s->measure == QC_CALIB_SYMMETRIC_KL) {
        s->sum += 0.5 * (term(p, q, &s->missing_q) + term(q, p, &s->missing_p));
    } else {
        assert(s->measure == QC_CALIB_JS);
        double middle = 0.5 * (p + q);
        s->sum += 0.5 * (term(p, middle, &s->missing_q) + term(q, middle, &s->missing_p));
    }
}

/* With the smoothed bins in, a histogram sums up to 1 + missing * epsilon. */
static double settle(const struct sums *s)
{
    double weight = s->measure == QC_CALIB_KL ? 1.0 : 0.5;
    double d = s->sum;
    if (s->measure != QC_CALIB_JS) {
        d += weight * log1p(s->missing_q * QC_DIVERGENCE_EPSILON);
        d += weight * log1p(s->missing_p * QC_DIVERGENCE_EPSILON);
    }
    return fmax(d, 0.0); /* rounding */
}

double qc_divergence(enum qc_calibrator measure, const uint64_t *p, const uint64_t *q, int n)
{
    uint64_t total_p = 0;
    uint64_t total_q = 0;
    struct sums s = {.measure = measure};
    for (int i = 0; i < n; i++) {
        total_p += p[i];
        total_q += q[i];
    }
    if (total_p == 0 || total_q == 0) {
        return 0;
    }
    for (int i = 0; i < n; i++) {
        add_bin(&s, (double)p[i] / (double)total_p, (double)q[i] / (double)total_q);
    }
    return settle(&s);
}

double qc_divergence_shares(enum qc_calibrator measure, const double *p, const double *q, int n)
{
    struct sums s = {.measure = measure};
    for (int i = 0; i < n; i++) {
        add_bin(&s, p[i], q[i]);
    }
    return settle(&s);
}

/* What all candidates are judged with. */
struct divergence_search {
    const struct qc_histogram_prefix *p;
    enum qc_calibrator measure;
    bool symmetric;
    /* levels: coarse histograms from `origin` on */
    double origin, width;
    int bins;
    double *edge; /* [bins + 1], counted in fine bins from 0: coarse bin k begins at edge[k] */
    double *original, *quantized; /* shares of all values */
    /* spread: shares of the fine bins */
    double *fine, *spread;
    int *filled;  /* [n_bins + 1] bins before k that hold data, without the bin of 0 */
    int zero_bin; /* -1: 0 lies outside */
};

/* ---- the levels as they are ------------------------------------------------------------------
 */

/* Of x, or |x|, by the fine bin it lies in: exact, whatever x. A negative fine bin counts as its
 * mirror image. */
static int coarse_bin(const struct divergence_search *s, float x)
{
    double width = s->p->h->width;
    double at = floor((double)x / width); /* a power of two */
    at = s->symmetric && at < 0 ? -at - 1.0 : at;
    double guess = (at * width - s->origin) / s->width;
    int k = (int)fmin(fmax(guess, 0.0), (double)(s->bins - 1));
    while (k < s->bins - 1 && at >= s->edge[k + 1]) {
        k++;
    }
    while (k > 0 && at < s->edge[k]) {
        k--;
    }
    return k;
}

/* Values in the fine bins below an edge. */
static double values_below(const struct divergence_search *s, double edge)
{
    const struct qc_histogram *h = s->p->h;
    double k = fmin(fmax(edge - (double)h->first, 0.0), (double)h->n_bins);
    return (double)s->p->count[(int)k];
}

static double levels_divergence(struct divergence_search *s, const struct qc_qparams *params)
{
    double total = (double)s->p->count[s->p->h->n_bins];
    double below = 0; /* the values of the codes before q */
    memset(s->quantized, 0, (size_t)s->bins * sizeof(*s->quantized));
    for (int q = qc_candidate_first_code(s->symmetric); q < 256; q++) {
        double to = q < 255 ? qc_histogram_prefix_upto(s->p, params, q) : total;
        if (to > below) {
            float level = (float)(q - params->zero_point) * params->scale;
            s->quantized[coarse_bin(s, level)] += (to - below) / total;
        }
        below = to;
    }
    return qc_divergence_shares(s->measure, s->original, s->quantized, s->bins);
}

static enum qd_code init_levels(struct divergence_search *s, int bins, double lo, double hi,
                                struct qd_error *err)
{
    s->bins = bins;
    s->origin = s->symmetric ? 0.0 : lo;
    s->width = 2.0 * (s->symmetric ? hi : hi - lo) / bins;
    s->original = calloc(3 * (size_t)bins + 1, sizeof(*s->original));
    if (s->original == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for histograms of %d bins", bins);
    }
    s->quantized = s->original + bins;
    s->edge = s->quantized + bins;
    for (int k = 0; k <= bins; k++) {
        s->edge[k] = rint((s->origin + s->width * (double)k) / s->p->h->width);
    }
    double total = (double)s->p->count[s->p->h->n_bins];
    double below = 0;
    for (int k = 0; k < bins; k++) {
        double to = values_below(s, s->edge[k + 1]);
        to -= s->symmetric ? values_below(s, -s->edge[k + 1]) : 0.0;
        to = k < bins - 1 ? to : total;
        s->original[k] = (to - below) / total;
        below = to;
    }
    return QD_OK;
}

/* ---- spread over the steps -------------------------------------------------------------------
 */

/* First bin whose centre is not below x, 0..n_bins. */
static int bin_from(const struct qc_histogram *h, double x)
{
    double at = ceil((x - qc_histogram_centre(h, 0)) / h->width);
    return (int)fmin(fmax(at, 0.0), (double)h->n_bins);
}

/* Spread the mass of the bins from..to-1 over those of them within half_step of the level. */
static void spread_code(struct divergence_search *s, int from, int to, double level,
                        double half_step)
{
    const struct qc_histogram *h = s->p->h;
    double total = (double)s->p->count[h->n_bins];
    uint64_t mass = s->p->count[to] - s->p->count[from];
    int z = s->zero_bin;
    if (z >= from && z < to) {
        mass -= h->counts[z];
    }
    if (mass == 0) {
        return;
    }
    int a = bin_from(h, level - half_step);
    int b = bin_from(h, level + half_step);
    a = a > from ? a : from;
    b = b < to ? b : to;
    int n = b > a ? s->filled[b] - s->filled[a] : 0;
    double share = (double)mass / total;
    if (n == 0) { /* all of it is clipped: it goes where the level is */
        int k = bin_from(h, level - 0.5 * h->width);
        s->spread[k < h->n_bins ? k : h->n_bins - 1] += share;
        return;
    }
    for (int k = a; k < b; k++) {
        if (h->counts[k] > 0 && k != z) {
            s->spread[k] += share / n;
        }
    }
}

static double spread_divergence(struct divergence_search *s, const struct qc_qparams *params)
{
    int cut[257];
    int n_bins = s->p->h->n_bins;
    int first = qc_candidate_first_code(s->symmetric);
    memset(s->spread, 0, (size_t)n_bins * sizeof(*s->spread));
    qc_histogram_prefix_cut(s->p, params, first, cut);
    for (int q = first; q < 256; q++) {
        /* The end codes' intervals are cut to their step, the others are one already. */
        bool end = q == first || q == 255;
        double level = (double)params->scale * (q - params->zero_point);
        spread_code(s, cut[q], cut[q + 1], level, end ? 0.5 * (double)params->scale : INFINITY);
    }
    if (s->zero_bin >= 0) {
        s->spread[s->zero_bin] += s->fine[s->zero_bin];
    }
    return qc_divergence_shares(s->measure, s->fine, s->spread, n_bins);
}

static enum qd_code init_spread(struct divergence_search *s, struct qd_error *err)
{
    const struct qc_histogram *h = s->p->h;
    size_t n = (size_t)h->n_bins;
    double total = (double)s->p->count[n];
    s->fine = calloc(n, sizeof(*s->fine));
    s->spread = calloc(n, sizeof(*s->spread));
    s->filled = calloc(n + 1, sizeof(*s->filled));
    if (s->fine == NULL || s->spread == NULL || s->filled == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the shares of %zu bins", n);
    }
    int z = bin_from(h, -0.5 * h->width); /* first bin that reaches 0 or lies beyond */
    bool holds_zero = z < h->n_bins && qc_histogram_centre(h, z) <= 0.5 * h->width;
    s->zero_bin = holds_zero ? z : -1;
    /* An edge at 0 exactly: zeros are counted in the bin above. */
    if (holds_zero && z + 1 < h->n_bins && qc_histogram_centre(h, z + 1) <= 0.5 * h->width) {
        s->zero_bin = z + 1;
    }
    for (int k = 0; k < h->n_bins; k++) {
        s->fine[k] = (double)h->counts[k] / total;
        s->filled[k + 1] = s->filled[k] + (h->counts[k] > 0 && k != s->zero_bin ? 1 : 0);
    }
    return QD_OK;
}

/* ---- the search ------------------------------------------------------------------------------
 */

/* In millionths, as candidates are counted: 0.9 and 1.1 are equally far. */
static int64_t distance_from_one(double r)
{
    return llround(fabs(r - 1) * 1e6);
}

static void choose(struct divergence_search *s, const struct qc_search *search, double lo,
                   double hi, struct qc_range *ret)
{
    double best = INFINITY;
    double best_ratio = 1;
    int n = qc_search_count(search);
    for (int i = n - 1; i >= 0; i--) {
        struct qc_qparams params;
        double r = qc_search_ratio(search, i);
        double from = s->symmetric ? r * lo : lo;
        double to = s->symmetric ? r * hi : lo + r * (hi - lo);
        qc_candidate_qparams(s->symmetric, from, to, &params);
        double d = search->form == QC_FORM_SPREAD ? spread_divergence(s, &params)
                                                  : levels_divergence(s, &params);
        bool nearer = distance_from_one(r) < distance_from_one(best_ratio);
        if (d < best || (d <= best && nearer)) {
            best = d;
            best_ratio = r;
        }
    }
    ret->lo = s->symmetric ? best_ratio * lo : lo;
    ret->hi = s->symmetric ? best_ratio * hi : fmax(lo + best_ratio * (hi - lo), 0.0);
    ret->ratio = best_ratio;
    ret->score = best;
}

enum qd_code qc_calib_divergence(const struct qc_histogram_prefix *p, enum qc_calibrator measure,
                                 const struct qc_search *search, double lo, double hi,
                                 struct qc_range *ret, struct qd_error *err)
{
    struct divergence_search s = {.p = p, .measure = measure, .symmetric = search->symmetric};
    enum qd_code code = search->form == QC_FORM_SPREAD
                            ? init_spread(&s, err)
                            : init_levels(&s, search->bins, lo, hi, err);
    if (code == QD_OK) {
        choose(&s, search, lo, hi, ret);
    }
    free(s.original);
    free(s.fine);
    free(s.spread);
    free(s.filled);
    return code;
}
