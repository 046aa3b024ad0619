#include "quantcore/calib/statistics.h"

#include <math.h>
#include <string.h>

void qc_tensor_statistics_finish(struct qc_tensor_statistics *t)
{
    double n = (double)t->count;
    t->mean = t->count > 0 ? t->sum / n : 0.0;
    double variance = t->count > 0 ? t->sum_squares / n - t->mean * t->mean : 0.0;
    t->std = variance > 0 ? sqrt(variance) : 0.0;
    for (int c = 0; c < t->n_channels; c++) {
        double per_channel = n / (double)t->n_channels;
        t->channel_mean[c] = t->count > 0 ? t->channel_sum[c] / per_channel : 0.0;
    }
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
    QD_TRY(qc_tail_init(ret, a->smallest, a->k, arena, err));
    qc_tail_merge(ret, a);
    qc_tail_merge(ret, b);
    return QD_OK;
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
    *ret = *a;
    ret->min = fmin(a->min, b->min);
    ret->max = fmax(a->max, b->max);
    ret->count = a->count + b->count;
    ret->sum = a->sum + b->sum;
    ret->sum_squares = a->sum_squares + b->sum_squares;
    size_t channels = (size_t)a->n_channels;
    QD_TRY(qd_arena_array(arena, channels, sizeof(double), &ret->channel_sum, err));
    QD_TRY(qd_arena_array(arena, channels, sizeof(double), &ret->channel_mean, err));
    for (size_t c = 0; c < channels; c++) {
        ret->channel_sum[c] = a->channel_sum[c] + b->channel_sum[c];
    }
    QD_TRY(merge_tails(&a->smallest, &b->smallest, arena, &ret->smallest, err));
    QD_TRY(merge_tails(&a->largest, &b->largest, arena, &ret->largest, err));
    QD_TRY(qc_histogram_init(&ret->fine, ret->min, ret->max, a->fine.n_bins, arena, err));
    qc_histogram_add(&ret->fine, &a->fine);
    qc_histogram_add(&ret->fine, &b->fine);
    qc_tensor_statistics_finish(ret);
    return QD_OK;
}

enum qd_code qc_statistics_merge(const struct qc_statistics *a, const struct qc_statistics *b,
                                 struct qd_arena *arena, struct qc_statistics **ret,
                                 struct qd_error *err)
{
    struct qc_statistics *s = NULL;
    if (a->n != b->n) {
        return qd_fail(err, QD_INVALID, "statistics of %d and of %d tensors do not merge", a->n,
                       b->n);
    }
    QD_TRY(qd_arena_alloc(arena, sizeof(*s), &s, err));
    QD_TRY(qd_arena_array(arena, (size_t)a->n, sizeof(*s->tensors), &s->tensors, err));
    s->n = a->n;
    s->n_samples = a->n_samples + b->n_samples;
    for (int i = 0; i < a->n; i++) {
        QD_TRY(merge_tensor(&a->tensors[i], &b->tensors[i], arena, &s->tensors[i], err));
    }
    *ret = s;
    return QD_OK;
}
