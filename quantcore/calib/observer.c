#include "quantcore/calib/observer.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "quantcore/calib/counting.h"
#include "quantcore/calib/view_runs.h"

/* What one thread has seen of one tensor. */
struct partial {
    double min, max;
    uint64_t count;
    struct qd_exact sum, squares;
    struct qc_channel_statistics *channels; /* n_channels */
    struct qc_tail smallest, largest;       /* unused when k is 1: min and max tell */
};

struct observed {
    struct qc_shape shape;
    int channel_axis;
    uint64_t n_elements; /* of a sample */
    int n_sums;          /* max(n_channels, 1) */
    bool has_smallest, has_largest;
    bool *bad;                /* a slot each: the sample has a NaN or an infinity */
    struct partial *partials; /* a thread each */
    struct qc_counting *counting; /* of pass 2 */
};

struct qc_observer {
    struct qc_observer_options options;
    struct qd_arena *arena;
    struct qd_arena counts; /* inside it: tails and histograms, until they are dropped */
    struct qd_arena pass1;  /* inside it: what threads hold until pass 1 ends */
    struct observed *tensors;
    /* One sample's sums, cut to exact ones when it is complete: a thread each, for the most
     * channels of any tensor. */
    struct qc_channel_sums *scratch;
    struct qc_statistics *statistics;
};

/* ---- setting up --------------------------------------------------------------------------- */

static enum qd_code new_partial(struct qc_observer *o, const struct observed *t,
                                const struct qc_tensor_statistics *s, struct partial *p,
                                struct qd_error *err)
{
    p->min = INFINITY;
    p->max = -INFINITY;
    QD_TRY(qd_arena_array(&o->pass1, (size_t)s->n_channels, sizeof(*p->channels), &p->channels,
                          err));
    if (t->has_smallest) {
        QD_TRY(qc_tail_init(&p->smallest, true, s->smallest.k, &o->pass1, err));
    }
    if (t->has_largest) {
        QD_TRY(qc_tail_init(&p->largest, false, s->largest.k, &o->pass1, err));
    }
    return QD_OK;
}

static enum qd_code new_tails(struct qc_observer *o, struct observed *t,
                              struct qc_tensor_statistics *s, struct qd_error *err)
{
    const struct qc_observer_options *options = &o->options;
    uint64_t n = (options->n_samples > 0 ? (uint64_t)options->n_samples : 1) * t->n_elements;
    uint64_t k_lo = qc_tail_length(n, options->min_percentile);
    uint64_t k_hi = qc_tail_length(n, options->max_percentile);
    uint64_t least = options->tail_length > 0 ? (uint64_t)options->tail_length : 1;
    k_lo = k_lo > least ? k_lo : least;
    k_hi = k_hi > least ? k_hi : least;
    t->has_smallest = k_lo > 1;
    t->has_largest = k_hi > 1;
    QD_TRY(qc_tail_init(&s->smallest, true, k_lo, &o->counts, err));
    return qc_tail_init(&s->largest, false, k_hi, &o->counts, err);
}

static enum qd_code new_tensor(struct qc_observer *o, const struct qc_observed *from,
                               struct observed *t, struct qc_tensor_statistics *s,
                               struct qd_error *err)
{
    size_t threads = (size_t)o->options.n_threads;
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
    t->n_sums = has_axis ? s->n_channels : 1;
    size_t channels = (size_t)s->n_channels;
    QD_TRY(qd_arena_array(o->arena, channels, sizeof(*s->channels), &s->channels, err));
    QD_TRY(qd_arena_array(o->arena, channels, sizeof(double), &s->channel_mean, err));
    QD_TRY(qd_arena_array(o->arena, (size_t)o->options.n_slots, sizeof(bool), &t->bad, err));
    QD_TRY(new_tails(o, t, s, err));
    if (o->options.counts_at_once) {
        uint64_t samples = o->options.n_samples > 0 ? (uint64_t)o->options.n_samples : 1;
        QD_TRY(qc_counting_new(samples * t->n_elements, o->options.n_threads, o->options.kernels,
                               &o->counts, &t->counting, err));
    }
    QD_TRY(qd_arena_array(o->arena, threads, sizeof(*t->partials), &t->partials, err));
    for (size_t i = 0; i < threads; i++) {
        QD_TRY(new_partial(o, t, s, &t->partials[i], err));
    }
    return QD_OK;
}

static enum qd_code new_scratch(struct qc_observer *o, struct qd_error *err)
{
    size_t threads = (size_t)o->options.n_threads;
    size_t most = 1;
    for (int i = 0; i < o->statistics->n; i++) {
        size_t n = (size_t)o->tensors[i].n_sums;
        most = n > most ? n : most;
    }
    QD_TRY(qd_arena_array(&o->pass1, threads, sizeof(*o->scratch), &o->scratch, err));
    for (size_t i = 0; i < threads; i++) {
        struct qc_channel_sums *s = &o->scratch[i];
        QD_TRY(qd_arena_array(&o->pass1, most, sizeof(double), &s->sum, err));
        QD_TRY(qd_arena_array(&o->pass1, most, sizeof(double), &s->squares, err));
        QD_TRY(qd_arena_array(&o->pass1, most, sizeof(uint64_t), &s->n_nonzero, err));
        QD_TRY(qd_arena_array(&o->pass1, most, sizeof(float), &s->min, err));
        QD_TRY(qd_arena_array(&o->pass1, most, sizeof(float), &s->max, err));
    }
    return QD_OK;
}

static void free_inner(void *arg)
{
    struct qc_observer *o = arg;
    qd_arena_done(&o->pass1);
    qd_arena_done(&o->counts);
}

enum qd_code qc_observer_new(const struct qc_observed *tensors, int n,
                             const struct qc_observer_options *options, struct qd_arena *arena,
                             struct qc_observer **ret, struct qd_error *err)
{
    assert(n >= 0 && options->n_threads >= 1 && options->n_slots >= 1);
    struct qc_observer *o = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*o), &o, err));
    QD_TRY(qd_arena_defer(arena, free_inner, o, err));
    qd_arena_init_inside(&o->counts, arena);
    qd_arena_init_inside(&o->pass1, arena);
    o->options = *options;
    o->options.counts_at_once = options->counts_at_once && !options->no_histograms;
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
    QD_TRY(new_scratch(o, err));
    *ret = o;
    return QD_OK;
}

static struct qc_channel_sums from_channel(const struct qc_channel_sums *m, size_t c)
{
    return (struct qc_channel_sums){m->sum + c, m->squares + c, m->n_nonzero + c, m->min + c,
                                    m->max + c};
}

static void sum_plain(const struct qc_kernels *k, const struct qc_view *view, int axis,
                      const struct qc_channel_sums *m)
{
    const float *x = view->data;
    size_t outer = 1, inner = 1;
    for (int i = 0; i < view->shape.rank; i++) {
        if (axis >= 0 && i < axis) {
            outer *= (size_t)view->shape.dim[i];
        } else if (i != axis) {
            inner *= (size_t)view->shape.dim[i];
        }
    }
    size_t channels = axis >= 0 ? (size_t)view->shape.dim[axis] : 1;
    if (inner == 1) {
        k->channels_across_f32(x, (int64_t)channels, outer, channels, m);
        return;
    }
    for (size_t o = 0; o < outer; o++) {
        for (size_t c = 0; c < channels; c++, x += inner) {
            struct qc_channel_sums channel = from_channel(m, c);
            k->channels_along_f32(x, (int64_t)inner, 1, inner, &channel);
        }
    }
}

/* Of another axis than the channels: these go by strips. */
static void sum_nhwc(const struct qc_kernels *k, const struct qc_view *view, int axis,
                     const struct qc_channel_sums *m)
{
    const int64_t *dim = view->shape.dim;
    int64_t step = view->pixel_stride;
    size_t w = (size_t)dim[3], c = (size_t)dim[1];
    for (int64_t n = 0; n < dim[0]; n++) {
        for (int64_t h = 0; h < dim[2]; h++) {
            const float *x =
                (const float *)view->data + n * view->image_stride + h * view->row_stride;
            for (size_t i = 0; axis == 3 && i < w; i++) {
                struct qc_channel_sums one = from_channel(m, i);
                k->channels_along_f32(x + (int64_t)i * step, step, 1, c, &one);
            }
            if (axis != 3) {
                int64_t at = axis == 0 ? n : axis == 2 ? h : 0;
                struct qc_channel_sums one = from_channel(m, (size_t)at);
                k->channels_along_f32(x, step, w, c, &one);
            }
        }
    }
}

/* ---- pass 1 ------------------------------------------------------------------------------- */

static void run_tail(void *ctx, const float *x, size_t n)
{
    qc_tail_add(ctx, x, n);
}

/* Of numbers alone: without what fmin does for others. */
static double smaller(double a, double b)
{
    return a < b ? a : b;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static void clear_sums(const struct qc_channel_sums *m, int n)
{
    size_t size = (size_t)n;
    memset(m->sum, 0, size * sizeof(*m->sum));
    memset(m->squares, 0, size * sizeof(*m->squares));
    memset(m->n_nonzero, 0, size * sizeof(*m->n_nonzero));
    for (int c = 0; c < n; c++) {
        m->min[c] = INFINITY;
        m->max[c] = -INFINITY;
    }
}

/* One tensor of one sample. */
struct observing {
    const struct qc_observer *o;
    struct observed *t;
    int thread;
    struct partial *p;
    const struct qc_channel_sums *m;
    size_t n_channels;
    double lo, hi; /* with what this sample has shown so far */
};

static void run_counting(void *ctx, const float *x, size_t n)
{
    const struct observing *s = ctx;
    qc_counting_add(s->t->counting, s->thread, x, n, s->lo, s->hi);
}

/* Summed and counted while the first cache holds it. */
static void observe_strip(void *ctx, const float *x, int64_t step, size_t n_pixels)
{
    struct observing *s = ctx;
    const struct qc_kernels *k = s->o->options.kernels;
    k->channels_across_f32(x, step, n_pixels, s->n_channels, s->m);
    if (!s->o->options.counts_at_once) {
        return;
    }
    float min, max, other;
    bool finite;
    k->minmax_f32(s->m->min, s->n_channels, &min, &other, &finite);
    k->minmax_f32(s->m->max, s->n_channels, &other, &max, &finite);
    s->lo = smaller(s->p->min, (double)min);
    s->hi = larger(s->p->max, (double)max);
    qc_strip_for_each_run(x, step, n_pixels, s->n_channels, run_counting, s);
}

static void take_channel(struct qc_channel_statistics *to, const struct qc_channel_sums *m, int c)
{
    float size = fabsf(m->min[c]) > fabsf(m->max[c]) ? fabsf(m->min[c]) : fabsf(m->max[c]);
    qd_exact_add(&to->sum, m->sum[c]);
    qd_exact_add(&to->squares, m->squares[c]);
    to->n_nonzero += m->n_nonzero[c];
    to->max_abs = size > to->max_abs ? size : to->max_abs;
}

/* The sample's sums become exact ones. False, and nothing is taken, when a value is not finite:
 * then the sum is not. */
static bool take_sums(const struct observed *t, const struct qc_channel_sums *m, struct partial *p)
{
    double sum = 0, squares = 0;
    for (int c = 0; c < t->n_sums; c++) {
        sum += m->sum[c];
        squares += m->squares[c];
    }
    if (!isfinite(sum)) {
        return false;
    }
    qd_exact_add(&p->sum, sum);
    qd_exact_add(&p->squares, squares);
    for (int c = 0; c < t->n_sums; c++) {
        p->min = smaller(p->min, (double)m->min[c]);
        p->max = larger(p->max, (double)m->max[c]);
    }
    for (int c = 0; t->channel_axis >= 0 && c < t->n_sums; c++) {
        take_channel(&p->channels[c], m, c);
    }
    p->count += t->n_elements;
    return true;
}

void qc_observer_pass1(struct qc_observer *o, int tensor, int thread, int slot,
                       const struct qc_view *view)
{
    struct observed *t = &o->tensors[tensor];
    struct partial *p = &t->partials[thread];
    const struct qc_channel_sums *m = &o->scratch[thread];
    assert(view->dtype == QC_F32 && qc_shape_equal(&view->shape, &t->shape));
    assert(thread < o->options.n_threads && slot < o->options.n_slots);
    clear_sums(m, t->n_sums);
    struct observing s = {o, t, thread, p, m, (size_t)t->n_sums, 0, 0};
    bool by_strips = view->layout == QC_NHWC && t->channel_axis == 1;
    if (o->options.counts_at_once) {
        qc_counting_fetch(t->counting, thread);
    }
    if (by_strips) {
        qc_view_for_each_strip(view, observe_strip, &s);
    } else if (view->layout == QC_PLAIN) {
        sum_plain(o->options.kernels, view, t->channel_axis, m);
    } else {
        sum_nhwc(o->options.kernels, view, t->channel_axis, m);
    }
    t->bad[slot] = !take_sums(t, m, p);
    if (t->bad[slot]) {
        return; /* end_batch reports it; a NaN would ruin the order of the tails */
    }
    if (t->has_smallest) {
        qc_view_for_each_run(view, run_tail, &p->smallest);
    }
    if (t->has_largest) {
        qc_view_for_each_run(view, run_tail, &p->largest);
    }
    if (o->options.counts_at_once && !by_strips) {
        s.lo = p->min;
        s.hi = p->max;
        qc_view_for_each_run(view, run_counting, &s);
    }
}

enum qd_code qc_observer_end_batch(struct qc_observer *o, int n_used, int64_t first,
                                   struct qd_error *err)
{
    assert(n_used >= 0 && n_used <= o->options.n_slots);
    for (int i = 0; i < n_used; i++) {
        for (int k = 0; k < o->statistics->n; k++) {
            const char *name = o->statistics->tensors[k].name;
            if (o->tensors[k].bad[i]) {
                return qd_fail_on(err, QD_INVALID, name,
                                  "tensor '%s' has a NaN or an infinite value in sample %lld",
                                  name, (long long)(first + i));
            }
        }
        o->statistics->n_samples++;
    }
    return QD_OK;
}

static void end_tail(bool kept, double extreme, const struct qc_tail *from, struct qc_tail *to)
{
    if (kept) {
        qc_tail_merge(to, from);
    } else {
        float x = (float)extreme;
        qc_tail_add(to, &x, 1);
    }
}

/* Order does not matter to anything that is added here. */
static void end_tensor(const struct qc_observer *o, const struct observed *t,
                       struct qc_tensor_statistics *s)
{
    s->min = INFINITY;
    s->max = -INFINITY;
    for (int i = 0; i < o->options.n_threads; i++) {
        const struct partial *p = &t->partials[i];
        if (p->count == 0) {
            continue;
        }
        s->min = fmin(s->min, p->min);
        s->max = fmax(s->max, p->max);
        s->count += p->count;
        qd_exact_merge(&s->sum, &p->sum);
        qd_exact_merge(&s->squares, &p->squares);
        for (int c = 0; c < s->n_channels; c++) {
            qc_channel_statistics_merge(&s->channels[c], &p->channels[c]);
        }
        end_tail(t->has_smallest, p->min, &p->smallest, &s->smallest);
        end_tail(t->has_largest, p->max, &p->largest, &s->largest);
    }
}

/* What threads held of pass 1 has been merged: gone before the histograms come. */
static void drop_pass1(struct qc_observer *o)
{
    for (int k = 0; k < o->statistics->n; k++) {
        for (int i = 0; i < o->options.n_threads; i++) {
            struct partial *p = &o->tensors[k].partials[i];
            p->channels = NULL;
            p->smallest.heap = p->largest.heap = NULL;
            p->smallest.n = p->largest.n = 0;
        }
    }
    o->scratch = NULL;
    qd_arena_done(&o->pass1);
}

/* For pass 2, with the range that pass 1 saw. */
static enum qd_code new_counting(struct qc_observer *o, struct observed *t,
                                 const struct qc_tensor_statistics *s, struct qd_error *err)
{
    QD_TRY(qc_counting_new(s->count, o->options.n_threads, o->options.kernels, &o->counts,
                           &t->counting, err));
    enum qd_code code = qc_counting_fix(t->counting, s->min, s->max, err);
    return code == QD_OK ? QD_OK : qd_wrap(err, code, "tensor '%s'", s->name);
}

enum qd_code qc_observer_end_pass1(struct qc_observer *o, struct qd_error *err)
{
    if (o->statistics->n_samples == 0) {
        return qd_fail(err, QD_INVALID, "no calibration samples: at least 1 is needed");
    }
    for (int k = 0; k < o->statistics->n; k++) {
        struct qc_tensor_statistics *s = &o->statistics->tensors[k];
        end_tensor(o, &o->tensors[k], s);
        QD_TRY(qc_tensor_statistics_finish(s, err));
    }
    drop_pass1(o);
    bool pass2 = !o->options.counts_at_once && !o->options.no_histograms;
    for (int k = 0; pass2 && k < o->statistics->n; k++) {
        QD_TRY(new_counting(o, &o->tensors[k], &o->statistics->tensors[k], err));
    }
    return QD_OK;
}

/* ---- pass 2 ------------------------------------------------------------------------------- */

void qc_observer_pass2(struct qc_observer *o, int tensor, int thread, const struct qc_view *view)
{
    assert(!o->options.counts_at_once && !o->options.no_histograms);
    struct observing s = {.t = &o->tensors[tensor], .thread = thread};
    qc_view_for_each_run(view, run_counting, &s);
}

enum qd_code qc_observer_end_pass2(struct qc_observer *o, struct qc_statistics **ret,
                                   struct qd_error *err)
{
    for (int k = 0; k < o->statistics->n && !o->options.no_histograms; k++) {
        struct qc_tensor_statistics *s = &o->statistics->tensors[k];
        enum qd_code code = qc_counting_end(o->tensors[k].counting, &o->counts, s, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "tensor '%s'", s->name);
        }
    }
    *ret = o->statistics;
    return QD_OK;
}

void qc_observer_drop_counts(struct qc_observer *o)
{
    if (o == NULL) {
        return;
    }
    for (int k = 0; k < o->statistics->n; k++) {
        struct qc_tensor_statistics *s = &o->statistics->tensors[k];
        struct observed *t = &o->tensors[k];
        t->has_smallest = t->has_largest = false;
        s->smallest.heap = s->largest.heap = NULL;
        s->smallest.n = s->largest.n = 0;
        s->fine.counts = NULL;
        s->fine.n_bins = 0;
        s->values = (struct qc_values){0, NULL};
    }
    qd_arena_done(&o->counts);
}
