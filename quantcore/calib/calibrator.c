#include "quantcore/calib/calibrator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/calib_divergence.h"
#include "quantcore/calib/calib_entropy.h"
#include "quantcore/calib/calib_mse.h"
#include "quantcore/calib/calib_percentile.h"

static const char *const names[QC_CALIB_COUNT] = {
    [QC_CALIB_MSE] = "mse",
    [QC_CALIB_MINMAX] = "minmax",
    [QC_CALIB_PERCENTILE] = "percentile",
    [QC_CALIB_KL] = "kl",
    [QC_CALIB_SYMMETRIC_KL] = "symmetric_kl",
    [QC_CALIB_JS] = "js",
    [QC_CALIB_ENTROPY] = "entropy",
    [QC_CALIB_AUTO] = "auto",
};
static const char *const form_names[QC_FORM_COUNT] = {
    [QC_FORM_LEVELS] = "levels",
    [QC_FORM_SPREAD] = "spread",
};

const char *qc_calibrator_name(enum qc_calibrator c)
{
    return (unsigned)c < QC_CALIB_COUNT ? names[c] : "unknown";
}

bool qc_calibrator_from_name(const char *name, enum qc_calibrator *ret)
{
    for (int i = 0; i < QC_CALIB_COUNT; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum qc_calibrator)i;
            return true;
        }
    }
    return false;
}

bool qc_calibrator_needs_histogram(enum qc_calibrator c)
{
    return c != QC_CALIB_MINMAX && c != QC_CALIB_PERCENTILE;
}

const char *qc_divergence_form_name(enum qc_divergence_form f)
{
    return (unsigned)f < QC_FORM_COUNT ? form_names[f] : "unknown";
}

bool qc_divergence_form_from_name(const char *name, enum qc_divergence_form *ret)
{
    for (int i = 0; i < QC_FORM_COUNT; i++) {
        if (strcmp(name, form_names[i]) == 0) {
            *ret = (enum qc_divergence_form)i;
            return true;
        }
    }
    return false;
}

void qc_candidate_qparams(bool symmetric, double lo, double hi, struct qc_qparams *ret)
{
    if (symmetric) {
        *ret = (struct qc_qparams){.scale = qc_scale_symmetric_s8(hi), .zero_point = 128};
    } else {
        qc_qparams_asymmetric_u8(lo, hi, ret);
    }
}

static int64_t millionths(double x)
{
    return llround(x * 1e6);
}

int qc_search_count(const struct qc_search *search)
{
    int64_t step = millionths(search->step);
    int64_t span = millionths(search->end) - millionths(search->start);
    return step > 0 && span >= 0 ? (int)(span / step) + 1 : 0;
}

double qc_search_ratio(const struct qc_search *search, int i)
{
    int64_t at = millionths(search->start) + (int64_t)i * millionths(search->step);
    return (double)at / 1e6;
}

static enum qd_code check_search(const struct qc_search *s, struct qd_error *err)
{
    if (!(s->min_percentile > 0.5 && s->min_percentile <= 1 && s->max_percentile > 0.5 &&
          s->max_percentile <= 1)) {
        return qd_fail(err, QD_INVALID, "percentiles %g and %g must be above 0.5, at most 1",
                       s->min_percentile, s->max_percentile);
    }
    if (!(s->start >= 0.001 && s->start <= s->end && s->end <= 100 && s->step >= 0.0001 &&
          s->step <= 100)) {
        return qd_fail(err, QD_INVALID,
                       "search from %g to %g in steps of %g: the start is at least 0.001, the "
                       "end between start and 100, the step at least 0.0001",
                       s->start, s->end, s->step);
    }
    if (s->bins < 8 || s->bins > QC_FINE_BINS) {
        return qd_fail(err, QD_INVALID, "%d coarse bins, 8 to %d are possible", s->bins,
                       QC_FINE_BINS);
    }
    return QD_OK;
}

static enum qd_code search_range(const struct qc_tensor_statistics *t,
                                 enum qc_calibrator calibrator, const struct qc_search *search,
                                 struct qc_range *range, struct qd_error *err)
{
    struct qc_histogram_prefix prefix;
    enum qd_code code = QD_OK;
    double lo = range->lo;
    double hi = range->hi;
    QD_TRY(qc_histogram_prefix_init(&prefix, t, err));
    if (prefix.count[t->fine.n_bins] == 0) {
        code = qd_fail_on(err, QD_INVALID, t->name,
                          "calibrator '%s' needs the histogram of pass 2, '%s' has none",
                          qc_calibrator_name(calibrator), t->name);
    } else if (calibrator == QC_CALIB_MSE) {
        qc_calib_mse(&prefix, search->symmetric, lo, hi, range);
    } else if (calibrator == QC_CALIB_ENTROPY) {
        code = qc_calib_entropy(&t->fine, search->symmetric, lo, hi, range, err);
    } else {
        code = qc_calib_divergence(&prefix, calibrator, search, lo, hi, range, err);
    }
    qc_histogram_prefix_done(&prefix);
    return code;
}

static enum qd_code check_tail(const struct qc_tensor_statistics *t, double percentile,
                               const struct qc_tail *tail, const char *which, struct qd_error *err)
{
    uint64_t k = qc_tail_length(t->count, percentile);
    if (k > 1 && k > tail->n) {
        return qd_fail_on(err, QD_INVALID, t->name,
                          "percentile %g needs the %llu %s of the %llu values of '%s', %zu are kept "
                          "and there is no histogram",
                          percentile, (unsigned long long)k, which, (unsigned long long)t->count,
                          t->name, tail->n);
    }
    return QD_OK;
}

enum qd_code qc_calibrate_check(const struct qc_tensor_statistics *t,
                                enum qc_calibrator calibrator, const struct qc_search *search,
                                struct qd_error *err)
{
    if (t->fine.n_bins > 0 || calibrator == QC_CALIB_MINMAX) {
        return QD_OK;
    }
    if (qc_calibrator_needs_histogram(calibrator)) {
        return qd_fail_on(err, QD_INVALID, t->name,
                          "calibrator '%s' needs histograms, tensor '%s' has none",
                          qc_calibrator_name(calibrator), t->name);
    }
    QD_TRY(check_tail(t, search->min_percentile, &t->smallest, "smallest", err));
    return check_tail(t, search->max_percentile, &t->largest, "largest", err);
}

enum qd_code qc_calibrate(const struct qc_tensor_statistics *t, enum qc_calibrator calibrator,
                          const struct qc_search *search, struct qc_range *ret,
                          struct qd_error *err)
{
    struct qc_range range = {t->min, t->max, 1, 0, 0, true};
    if (calibrator == QC_CALIB_AUTO) {
        return qd_fail_on(
            err, QD_INVALID, t->name,
            "calibrator 'auto' is a list of recipes for the whole network, it gives "
            "no range of tensor '%s'",
            t->name);
    }
    QD_TRY(check_search(search, err));
    if (t->count == 0 || !isfinite(t->min) || !isfinite(t->max)) {
        return qd_fail_on(err, QD_INVALID, t->name, "tensor '%s' has no observed values",
                          t->name);
    }
    QD_TRY(qc_calibrate_check(t, calibrator, search, err));
    bool cut = search->min_percentile < 1 || search->max_percentile < 1;
    if (calibrator != QC_CALIB_MINMAX && cut) {
        size_t n = t->smallest.n > t->largest.n ? t->smallest.n : t->largest.n;
        float *scratch = calloc(n + 1, sizeof(*scratch));
        if (scratch == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "no memory for a tail of %zu values", n);
        }
        qc_calib_percentile(t, search->min_percentile, search->max_percentile, scratch, &range.lo,
                            &range.hi, &range.exact_tails);
        free(scratch);
    }
    range.lo = fmin(range.lo, 0.0);
    range.hi = fmax(range.hi, 0.0);
    if (search->symmetric) {
        range.hi = fmax(-range.lo, range.hi);
        range.lo = 0.0 - range.hi; /* never -0 */
    }
    bool searched = calibrator != QC_CALIB_MINMAX && calibrator != QC_CALIB_PERCENTILE;
    /* All values alike: its own end of the range is exact, there is nothing to trade. */
    if (searched && range.lo < range.hi && t->min < t->max) {
        QD_TRY(search_range(t, calibrator, search, &range, err));
    }
    /* The bin of an extreme may have its centre outside; its values are not. */
    bool inside = range.lo <= t->min && t->max <= range.hi;
    range.clipped_share = inside ? 0.0 : qc_histogram_outside(&t->fine, range.lo, range.hi);
    *ret = range;
    return QD_OK;
}
