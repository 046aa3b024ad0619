#include "quantcore/calib/statistics.h"

#include <string.h>

enum qd_code qc_tensor_statistics_finish(struct qc_tensor_statistics *t, struct qd_error *err)
{
    double n = (double)t->count;
    bool overflow = t->sum.overflow || t->squares.overflow;
    for (int c = 0; c < t->n_channels; c++) {
        const struct qc_channel_statistics *channel = &t->channels[c];
        overflow = overflow || channel->sum.overflow || channel->squares.overflow;
        double per_channel = n / (double)t->n_channels;
        t->channel_mean[c] = t->count > 0 ? qd_exact_value(&channel->sum) / per_channel : 0.0;
    }
    if (overflow) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, t->name,
                          "the values of '%s', from %g to %g, are too large: a sum of their "
                          "squares passes 2^76",
                          t->name, t->min, t->max);
    }
    t->mean = t->count > 0 ? qd_exact_value(&t->sum) / n : 0.0;
    double variance = t->count > 0 ? qd_exact_value(&t->squares) / n - t->mean * t->mean : 0.0;
    t->std = variance > 0 ? sqrt(variance) : 0.0;
    return QD_OK;
}

int qc_statistics_find(const struct qc_statistics *s, const char *name)
{
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->tensors[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static enum qd_code merge_tails(const struct qc_tail *a, const struct qc_tail *b,
                                struct qd_arena *arena, struct qc_tail *ret, struct qd_error *err)
{
    QD_TRY(qc_tail_init(ret, a->smallest, a->k < b->k ? a->k : b->k, arena, err));
    qc_tail_merge(ret, a);
    qc_tail_merge(ret, b);
    return QD_OK;
}

void qc_channel_statistics_merge(struct qc_channel_statistics *to,
                                 const struct qc_channel_statistics *from)
{
    qd_exact_merge(&to->sum, &from->sum);
    qd_exact_merge(&to->squares, &from->squares);
    to->n_nonzero += from->n_nonzero;
    to->max_abs = from->max_abs > to->max_abs ? from->max_abs : to->max_abs;
}

static enum qd_code merge_channels(const struct qc_tensor_statistics *a,
                                   const struct qc_tensor_statistics *b, struct qd_arena *arena,
                                   struct qc_tensor_statistics *ret, struct qd_error *err)
{
    size_t n = (size_t)a->n_channels;
    QD_TRY(qd_arena_array(arena, n, sizeof(*ret->channels), &ret->channels, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(double), &ret->channel_mean, err));
    for (size_t c = 0; c < n; c++) {
        qc_channel_statistics_merge(&ret->channels[c], &a->channels[c]);
        qc_channel_statistics_merge(&ret->channels[c], &b->channels[c]);
    }
    return QD_OK;
}

bool qc_statistics_have_histograms(const struct qc_statistics *s)
{
    return s->n == 0 || s->tensors[0].fine.n_bins > 0;
}

/* ret has the range and the number of both. */
static enum qd_code merge_counts(const struct qc_tensor_statistics *a,
                                 const struct qc_tensor_statistics *b, struct qd_arena *arena,
                                 struct qc_tensor_statistics *ret, struct qd_error *err)
{
    if (a->fine.n_bins == 0) { /* a range that no histogram has is refused alike */
        struct qc_histogram edges;
        return qc_histogram_edges(&edges, ret->min, ret->max, QC_FINE_BINS, err);
    }
    QD_TRY(qc_histogram_init(&ret->fine, ret->min, ret->max, QC_FINE_BINS, arena, err));
    qc_histogram_add(&ret->fine, &a->fine);
    qc_histogram_add(&ret->fine, &b->fine);
    return qc_values_merge(&a->values, &b->values, ret->count, arena, &ret->values, err);
}

static enum qd_code merge_tensor(const struct qc_tensor_statistics *a,
                                 const struct qc_tensor_statistics *b, struct qd_arena *arena,
                                 struct qc_tensor_statistics *ret, struct qd_error *err)
{
    if (strcmp(a->name, b->name) != 0 || a->n_channels != b->n_channels) {
        return qd_fail_on(err, QD_INVALID, a->name,
                          "statistics of '%s' (%d channels) and '%s' (%d channels) do not merge",
                          a->name, a->n_channels, b->name, b->n_channels);
    }
    if ((a->fine.n_bins > 0) != (b->fine.n_bins > 0)) {
        return qd_fail_on(err, QD_INVALID, a->name,
                          "statistics of '%s' with a histogram and without one do not merge: give "
                          "the parts the same calibration.histograms",
                          a->name);
    }
    *ret = *a;
    ret->min = fmin(a->min, b->min);
    ret->max = fmax(a->max, b->max);
    if (__builtin_add_overflow(a->count, b->count, &ret->count)) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, a->name,
                          "the statistics of '%s' count more than 2^64 - 1 values", a->name);
    }
    qd_exact_merge(&ret->sum, &b->sum);
    qd_exact_merge(&ret->squares, &b->squares);
    QD_TRY(merge_channels(a, b, arena, ret, err));
    QD_TRY(merge_tails(&a->smallest, &b->smallest, arena, &ret->smallest, err));
    QD_TRY(merge_tails(&a->largest, &b->largest, arena, &ret->largest, err));
    QD_TRY(merge_counts(a, b, arena, ret, err));
    return qc_tensor_statistics_finish(ret, err);
}

static enum qd_code merge_moments(const struct qc_statistics *a, const struct qc_statistics *b,
                                  struct qd_arena *arena, struct qc_statistics *ret,
                                  struct qd_error *err)
{
    if (a->n_moments != b->n_moments) {
        return qd_fail(err, QD_INVALID, "second moments of %d and of %d products do not merge",
                       a->n_moments, b->n_moments);
    }
    QD_TRY(qd_arena_array(arena, (size_t)a->n_moments, sizeof(*ret->moments), &ret->moments, err));
    ret->n_moments = a->n_moments;
    for (int i = 0; i < a->n_moments; i++) {
        const struct qc_moment *x = &a->moments[i], *y = &b->moments[i];
        size_t n = (size_t)x->n_groups * qc_moment_entries(x->n_columns);
        if (strcmp(x->node, y->node) != 0 || x->n_groups != y->n_groups ||
            x->n_columns != y->n_columns) {
            return qd_fail_on(err, QD_INVALID, x->node,
                              "second moments of '%s' (%d columns) and '%s' (%d) do not merge",
                              x->node, x->n_columns, y->node, y->n_columns);
        }
        ret->moments[i] = *x;
        QD_TRY(qd_arena_copy(arena, x->lower, n * sizeof(*x->lower), &ret->moments[i].lower, err));
        qc_moment_merge(&ret->moments[i], y);
        if (ret->moments[i].overflow) {
            return qd_fail_on(err, QD_LIMIT_EXCEEDED, x->node,
                              "the second moments of '%s' overflow", x->node);
        }
    }
    return QD_OK;
}

enum qd_code qc_statistics_merge(const struct qc_statistics *a, const struct qc_statistics *b,
                                 struct qd_arena *arena, struct qc_statistics **ret,
                                 struct qd_error *err)
{
    struct qc_statistics *s = NULL;
    if (memcmp(a->model_sha256, b->model_sha256, sizeof(a->model_sha256)) != 0) {
        return qd_fail(err, QD_INVALID, "the statistics are of two different models");
    }
    if (a->n != b->n) {
        return qd_fail(err, QD_INVALID, "statistics of %d and of %d tensors do not merge", a->n,
                       b->n);
    }
    if (a->n_samples > INT64_MAX - b->n_samples) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%lld and %lld samples are more than 2^63 - 1",
                       (long long)a->n_samples, (long long)b->n_samples);
    }
    QD_TRY(qd_arena_alloc(arena, sizeof(*s), &s, err));
    QD_TRY(qd_arena_array(arena, (size_t)a->n, sizeof(*s->tensors), &s->tensors, err));
    memcpy(s->model_sha256, a->model_sha256, sizeof(s->model_sha256));
    s->n = a->n;
    s->n_samples = a->n_samples + b->n_samples;
    for (int i = 0; i < a->n; i++) {
        QD_TRY(merge_tensor(&a->tensors[i], &b->tensors[i], arena, &s->tensors[i], err));
    }
    QD_TRY(merge_moments(a, b, arena, s, err));
    *ret = s;
    return QD_OK;
}
