#include "quantcore/calib/observer.h"

#include <assert.h>
#include <math.h>

/* One sample of one tensor, until end_batch merges it. */
struct slot {
    float min, max;
    bool finite;
    double *channel_sum, *channel_squares; /* max(n_channels, 1) */
};

struct observed {
    struct qc_shape shape;
    int channel_axis;
    uint64_t n_elements; /* of a sample */
    int n_sums;          /* max(n_channels, 1) */
    struct slot *slots;
    /* one a thread; tails NULL when one value an end is enough (then min and max tell) */
    struct qc_tail *smallest, *largest;
    uint64_t **counts;
};

struct qc_observer {
    struct qc_observer_options options;
    struct qd_arena *arena;
    struct qd_arena counts; /* inside it: tails and histograms, until they are dropped */
    struct observed *tensors;
    struct qc_statistics *statistics;
};

/* ---- setting up --------------------------------------------------------------------------- */

static enum qd_code new_tails(struct qc_observer *o, struct observed *t, bool smallest,
                              double percentile, struct qc_tail **ret, struct qc_tail *merged,
                              struct qd_error *err)
{
    uint64_t samples = o->options.n_samples > 0 ? (uint64_t)o->options.n_samples : 1;
    uint64_t k = qc_tail_length(samples * t->n_elements, percentile);
    struct qc_tail *tails = NULL;
    QD_TRY(qc_tail_init(merged, smallest, k, &o->counts, err));
    if (k > 1) {
        size_t threads = (size_t)o->options.n_threads;
        QD_TRY(qd_arena_array(&o->counts, threads, sizeof(*tails), &tails, err));
        for (size_t i = 0; i < threads; i++) {
            QD_TRY(qc_tail_init(&tails[i], smallest, k, &o->counts, err));
        }
    }
    *ret = tails;
    return QD_OK;
}

static enum qd_code new_slots(struct qc_observer *o, struct observed *t, struct qd_error *err)
{
    size_t n = (size_t)o->options.n_slots;
    size_t sums = (size_t)t->n_sums;
    QD_TRY(qd_arena_array(o->arena, n, sizeof(*t->slots), &t->slots, err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(qd_arena_array(o->arena, 2 * sums, sizeof(double), &t->slots[i].channel_sum, err));
        t->slots[i].channel_squares = t->slots[i].channel_sum + sums;
    }
    return QD_OK;
}

static enum qd_code new_tensor(struct qc_observer *o, const struct qc_observed *from,
                               struct observed *t, struct qc_tensor_statistics *s,
                               struct qd_error *err)
{
    const struct qc_observer_options *options = &o->options;
    int axis = from->channel_axis;
    bool has_axis = axis >= 0 && axis < from->shape.rank;
    t->shape = from->shape;
    t->channel_axis = has_axis ? axis : -1;
    t->n_elements = qc_shape_elements(&from->shape);
    if (t->n_elements == 0 || (has_axis && from->shape.dim[axis] > INT32_MAX)) {
        return qd_fail_on(err, QD_INVALID, from->name,
                          "tensor '%s' has no elements to observe, or too many channels",
                          from->name);
    }
    s->name = from->name;
    s->n_channels = has_axis ? (int)from->shape.dim[axis] : 0;
    s->min = INFINITY;
    s->max = -INFINITY;
    t->n_sums = has_axis ? s->n_channels : 1;
    size_t channels = (size_t)s->n_channels;
    QD_TRY(qd_arena_array(o->arena, channels, sizeof(double), &s->channel_sum, err));
    QD_TRY(qd_arena_array(o->arena, channels, sizeof(double), &s->channel_mean, err));
    QD_TRY(new_slots(o, t, err));
    QD_TRY(new_tails(o, t, true, options->min_percentile, &t->smallest, &s->smallest, err));
    QD_TRY(new_tails(o, t, false, options->max_percentile, &t->largest, &s->largest, err));
    return QD_OK;
}

static void free_counts(void *arg)
{
    qd_arena_done(&((struct qc_observer *)arg)->counts);
}

enum qd_code qc_observer_new(const struct qc_observed *tensors, int n,
                             const struct qc_observer_options *options, struct qd_arena *arena,
                             struct qc_observer **ret, struct qd_error *err)
{
    assert(n >= 0 && options->n_threads >= 1 && options->n_slots >= 1);
    struct qc_observer *o = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*o), &o, err));
    QD_TRY(qd_arena_defer(arena, free_counts, o, err));
    qd_arena_init_inside(&o->counts, arena);
    o->options = *options;
    o->arena = arena;
    QD_TRY(qd_arena_array(arena, (size_t)n, sizeof(*o->tensors), &o->tensors, err));
    QD_TRY(qd_arena_alloc(arena, sizeof(*o->statistics), &o->statistics, err));
    QD_TRY(qd_arena_array(arena, (size_t)n, sizeof(*o->statistics->tensors),
                          &o->statistics->tensors, err));
    o->statistics->n = n;
    for (int i = 0; i < n; i++) {
        enum qd_code code = new_tensor(o, &tensors[i], &o->tensors[i],
                                       &o->statistics->tensors[i], err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "observe '%s'", tensors[i].name);
        }
    }
    *ret = o;
    return QD_OK;
}

/* ---- reading a view ----------------------------------------------------------------------- */

typedef void run_fn(void *ctx, const float *x, size_t n);

/* Contiguous runs of a view's interior. */
static void for_each_run(const struct qc_view *view, run_fn *fn, void *ctx)
{
    const float *data = view->data;
    if (view->layout == QC_PLAIN) {
        fn(ctx, data, qc_shape_elements(&view->shape));
        return;
    }
    const int64_t *dim = view->shape.dim;
    bool dense = view->pixel_stride == dim[1];
    for (int64_t n = 0; n < dim[0]; n++) {
        for (int64_t h = 0; h < dim[2]; h++) {
            const float *row = data + n * view->image_stride + h * view->row_stride;
            if (dense) {
                fn(ctx, row, (size_t)(dim[3] * dim[1]));
                continue;
            }
            for (int64_t w = 0; w < dim[3]; w++) {
                fn(ctx, row + w * view->pixel_stride, (size_t)dim[1]);
            }
        }
    }
}

/* x[i] belongs to channel i. */
static void sum_across(const float *x, size_t n, double *sum, double *squares)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i];
        sum[i] += v;
        squares[i] += v * v;
    }
}

/* All of x belongs to one channel. Eight partial sums, so that the additions need not wait for
 * each other; their order is fixed and part of the result. */
static void sum_along(const float *x, size_t n, double *sum, double *squares)
{
    double s[8] = {0};
    double q[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t lane = 0; lane < 8; lane++) {
            double v = (double)x[i + lane];
            s[lane] += v;
            q[lane] += v * v;
        }
    }
    for (; i < n; i++) {
        double v = (double)x[i];
        s[i % 8] += v;
        q[i % 8] += v * v;
    }
    *sum += ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
    *squares += ((q[0] + q[4]) + (q[1] + q[5])) + ((q[2] + q[6]) + (q[3] + q[7]));
}

static void sum_plain(const struct qc_view *view, int axis, double *sum, double *squares)
{
    const float *x = view->data;
    size_t outer = 1;
    size_t inner = 1;
    for (int i = 0; i < view->shape.rank; i++) {
        if (axis >= 0 && i < axis) {
            outer *= (size_t)view->shape.dim[i];
        } else if (i != axis) {
            inner *= (size_t)view->shape.dim[i];
        }
    }
    size_t channels = axis >= 0 ? (size_t)view->shape.dim[axis] : 1;
    for (size_t o = 0; o < outer; o++, x += channels * inner) {
        if (inner == 1) {
            sum_across(x, channels, sum, squares);
            continue;
        }
        for (size_t c = 0; c < channels; c++) {
            sum_along(x + c * inner, inner, &sum[c], &squares[c]);
        }
    }
}

static void sum_nhwc(const struct qc_view *view, int axis, double *sum, double *squares)
{
    const int64_t *dim = view->shape.dim;
    for (int64_t n = 0; n < dim[0]; n++) {
        for (int64_t h = 0; h < dim[2]; h++) {
            for (int64_t w = 0; w < dim[3]; w++) {
                const float *x = (const float *)view->data + n * view->image_stride +
                                 h * view->row_stride + w * view->pixel_stride;
                if (axis == 1) {
                    sum_across(x, (size_t)dim[1], sum, squares);
                    continue;
                }
                int64_t c = axis == 0 ? n : axis == 2 ? h : axis == 3 ? w : 0;
                sum_along(x, (size_t)dim[1], &sum[c], &squares[c]);
            }
        }
    }
}

/* ---- pass 1 ------------------------------------------------------------------------------- */

struct extremes {
    qc_minmax_f32_fn *minmax;
    float min, max;
    bool finite;
};

static void run_minmax(void *ctx, const float *x, size_t n)
{
    struct extremes *e = ctx;
    float lo = 0;
    float hi = 0;
    bool finite = false;
    e->minmax(x, n, &lo, &hi, &finite);
    e->min = lo < e->min ? lo : e->min;
    e->max = hi > e->max ? hi : e->max;
    e->finite = e->finite && finite;
}

static void run_tail(void *ctx, const float *x, size_t n)
{
    qc_tail_add(ctx, x, n);
}

void qc_observer_pass1(struct qc_observer *o, int tensor, int thread, int slot,
                       const struct qc_view *view)
{
    struct observed *t = &o->tensors[tensor];
    struct slot *s = &t->slots[slot];
    assert(view->dtype == QC_F32 && qc_shape_equal(&view->shape, &t->shape));
    assert(thread < o->options.n_threads && slot < o->options.n_slots);
    struct extremes e = {o->options.kernels->minmax_f32, INFINITY, -INFINITY, true};
    for_each_run(view, run_minmax, &e);
    s->min = e.min;
    s->max = e.max;
    s->finite = e.finite;
    if (!e.finite) {
        return; /* end_batch reports it; a NaN would ruin the order of the tails */
    }
    for (int c = 0; c < t->n_sums; c++) {
        s->channel_sum[c] = 0;
        s->channel_squares[c] = 0;
    }
    if (view->layout == QC_PLAIN) {
        sum_plain(view, t->channel_axis, s->channel_sum, s->channel_squares);
    } else {
        sum_nhwc(view, t->channel_axis, s->channel_sum, s->channel_squares);
    }
    if (t->smallest != NULL) {
        for_each_run(view, run_tail, &t->smallest[thread]);
    }
    if (t->largest != NULL) {
        for_each_run(view, run_tail, &t->largest[thread]);
    }
}

static void merge_slot(const struct observed *t, const struct slot *slot,
                       struct qc_tensor_statistics *s)
{
    double sum = 0;
    double squares = 0;
    for (int c = 0; c < t->n_sums; c++) {
        sum += slot->channel_sum[c];
        squares += slot->channel_squares[c];
    }
    for (int c = 0; c < s->n_channels; c++) {
        s->channel_sum[c] += slot->channel_sum[c];
    }
    s->sum += sum;
    s->sum_squares += squares;
    s->min = fmin(s->min, (double)slot->min);
    s->max = fmax(s->max, (double)slot->max);
    s->count += t->n_elements;
}

enum qd_code qc_observer_end_batch(struct qc_observer *o, int n_used, int64_t first,
                                   struct qd_error *err)
{
    assert(n_used >= 0 && n_used <= o->options.n_slots);
    for (int i = 0; i < n_used; i++) {
        for (int k = 0; k < o->statistics->n; k++) {
            struct qc_tensor_statistics *s = &o->statistics->tensors[k];
            const struct slot *slot = &o->tensors[k].slots[i];
            if (!slot->finite) {
                return qd_fail_on(err, QD_INVALID, s->name,
                                  "tensor '%s' has a NaN or an infinite value in sample %lld",
                                  s->name, (long long)(first + i));
            }
            merge_slot(&o->tensors[k], slot, s);
        }
        o->statistics->n_samples++;
    }
    return QD_OK;
}

static void end_tail(const struct qc_observer *o, const struct qc_tail *threads, double extreme,
                     struct qc_tail *ret)
{
    if (threads == NULL) {
        float x = (float)extreme;
        qc_tail_add(ret, &x, 1);
        return;
    }
    for (int i = 0; i < o->options.n_threads; i++) {
        qc_tail_merge(ret, &threads[i]);
    }
}

enum qd_code qc_observer_end_pass1(struct qc_observer *o, struct qd_error *err)
{
    size_t threads = (size_t)o->options.n_threads;
    if (o->statistics->n_samples == 0) {
        return qd_fail(err, QD_INVALID, "no calibration samples: at least 1 is needed");
    }
    for (int k = 0; k < o->statistics->n; k++) {
        struct observed *t = &o->tensors[k];
        struct qc_tensor_statistics *s = &o->statistics->tensors[k];
        qc_tensor_statistics_finish(s);
        end_tail(o, t->smallest, s->min, &s->smallest);
        end_tail(o, t->largest, s->max, &s->largest);
        enum qd_code code = qc_histogram_init(&s->fine, s->min, s->max, QC_FINE_BINS,
                                              &o->counts, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "tensor '%s'", s->name);
        }
        QD_TRY(qd_arena_array(&o->counts, threads, sizeof(*t->counts), &t->counts, err));
        t->counts[0] = s->fine.counts;
        for (size_t i = 1; i < threads; i++) {
            QD_TRY(qd_arena_array(&o->counts, QC_FINE_BINS, sizeof(uint64_t), &t->counts[i],
                                  err));
        }
    }
    return QD_OK;
}

/* ---- pass 2 ------------------------------------------------------------------------------- */

struct counting {
    qc_histogram_f32_fn *histogram;
    const struct qc_histogram *fine;
    uint64_t *counts;
};

static void run_count(void *ctx, const float *x, size_t n)
{
    const struct counting *c = ctx;
    c->histogram(x, n, (float)c->fine->lo, c->fine->inv_width, c->fine->n_bins, c->counts);
}

void qc_observer_pass2(struct qc_observer *o, int tensor, int thread, const struct qc_view *view)
{
    struct counting c = {o->options.kernels->histogram_f32,
                         &o->statistics->tensors[tensor].fine, o->tensors[tensor].counts[thread]};
    for_each_run(view, run_count, &c);
}

enum qd_code qc_observer_end_pass2(struct qc_observer *o, struct qc_statistics **ret,
                                   struct qd_error *err)
{
    for (int k = 0; k < o->statistics->n; k++) {
        struct qc_tensor_statistics *s = &o->statistics->tensors[k];
        uint64_t **counts = o->tensors[k].counts;
        for (int i = 1; i < o->options.n_threads; i++) {
            for (int b = 0; b < s->fine.n_bins; b++) {
                s->fine.counts[b] += counts[i][b];
                counts[i][b] = 0;
            }
        }
        uint64_t total = qc_histogram_total(&s->fine);
        if (total != s->count) {
            return qd_fail_on(err, QD_INTERNAL, s->name,
                              "pass 2 counted %llu values of '%s', pass 1 saw %llu",
                              (unsigned long long)total, s->name, (unsigned long long)s->count);
        }
    }
    *ret = o->statistics;
    return QD_OK;
}

void qc_observer_drop_counts(struct qc_observer *o)
{
    for (int k = 0; k < o->statistics->n; k++) {
        struct qc_tensor_statistics *s = &o->statistics->tensors[k];
        struct observed *t = &o->tensors[k];
        t->smallest = t->largest = NULL;
        t->counts = NULL;
        s->smallest.heap = s->largest.heap = NULL;
        s->smallest.n = s->largest.n = 0;
        s->fine.counts = NULL;
        s->fine.n_bins = 0;
    }
    qd_arena_done(&o->counts);
}
