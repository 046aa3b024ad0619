/* ReduceMean and its kin, Softmax and LogSoftmax: sums in the order of the elements. */
#include <string.h>

#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_math_f64.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

enum kind { MEAN, SUM, LARGEST, SMALLEST, L2 };

static const uint8_t kind_of[QC_OP_COUNT] = {
    [QC_OP_REDUCE_MEAN] = MEAN,    [QC_OP_REDUCE_SUM] = SUM, [QC_OP_REDUCE_MAX] = LARGEST,
    [QC_OP_REDUCE_MIN] = SMALLEST, [QC_OP_REDUCE_L2] = L2,
};

struct reduce {
    struct qc_nd nd; /* x, out: stride 0 along the reduced dims */
    enum kind kind;
    float count, lo, hi;
};

struct reduce_run {
    enum kind kind;
    const float *x;
    float *y;
};

#define REDUCE_LOOP(expr)                                                                        \
    for (int64_t i = 0; i < nd->dim[last]; i++) {                                                \
        float a = y[i * nd->stride[1][last]], b = x[i * nd->stride[0][last]];                    \
        y[i * nd->stride[1][last]] = (expr);                                                     \
    }

static void reduce_one(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct reduce_run *r = ctx;
    int last = nd->rank - 1;
    const float *x = r->x + off[0];
    float *y = r->y + off[1];
    if (r->kind == LARGEST) {
        REDUCE_LOOP(b > a || isnan(b) ? b : a)
    } else if (r->kind == SMALLEST) {
        REDUCE_LOOP(b < a || isnan(b) ? b : a)
    } else if (r->kind == L2) {
        REDUCE_LOOP(fmaf(b, b, a))
    } else {
        REDUCE_LOOP(a + b)
    }
}

static void reduce_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct reduce *op = step->params;
    size_t n = qc_shape_elements(&out[0].shape);
    struct reduce_run r = {op->kind, in[0].data, out[0].data};
    float first = op->kind == LARGEST ? -INFINITY : op->kind == SMALLEST ? INFINITY : 0.0f;
    for (size_t i = 0; i < n; i++) {
        r.y[i] = first;
    }
    qc_nd_walk(&op->nd, reduce_one, &r);
    for (size_t i = 0; i < n; i++) {
        float y = op->kind == MEAN ? r.y[i] / op->count : op->kind == L2 ? sqrtf(r.y[i]) : r.y[i];
        r.y[i] = qc_clamp(y, op->lo, op->hi);
    }
}

/* Which dims are reduced: those of input 1; none given: all, unless noop_with_empty_axes says
 * none. */
static enum qd_code reduced_dims(const struct qc_prepare *p, bool *reduced, struct qd_error *err)
{
    int64_t axes[QC_MAX_RANK];
    int rank = p->in[0].shape.rank;
    int n = 0;
    if (p->node->n_inputs > 1 && p->node->inputs[1] >= 0) {
        size_t count = qc_shape_elements(&p->in[1].shape);
        if (p->in[1].data == NULL || p->in[1].dtype != QC_S64 || count > QC_MAX_RANK) {
            return qc_prepare_refuse(p, err, "axes must be constant s64");
        }
        n = (int)count;
        memcpy(axes, p->in[1].data, count * sizeof(int64_t));
    }
    bool all = n == 0 && qc_node_int(p->node, "noop_with_empty_axes", 0) == 0;
    for (int i = 0; i < rank; i++) {
        reduced[i] = all;
    }
    for (int i = 0; i < n; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank) {
            return qc_prepare_refuse(p, err, "an axis lies outside the rank");
        }
        reduced[axis] = true;
    }
    return QD_OK;
}

enum qd_code qc_prepare_reduce(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    bool reduced[QC_MAX_RANK];
    int64_t xs[QC_MAX_RANK] = {0}, ys[QC_MAX_RANK] = {0}, stride = 1, count = 1;
    struct reduce *op;
    if (x->dtype != QC_F32 || y->dtype != QC_F32) {
        return qc_prepare_refuse(p, err, "only f32 is implemented");
    }
    QD_TRY(reduced_dims(p, reduced, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*op), &op, err));
    qc_view_strides(x, xs);
    for (int i = x->shape.rank - 1; i >= 0; i--) {
        ys[i] = reduced[i] ? 0 : stride;
        stride *= reduced[i] ? 1 : x->shape.dim[i];
        count *= reduced[i] ? x->shape.dim[i] : 1;
    }
    if ((size_t)stride != qc_shape_elements(&y->shape)) {
        return qc_prepare_refuse(p, err, "the output does not fit the axes");
    }
    const int64_t *strides[2] = {xs, ys};
    qc_nd_init_strides(&op->nd, &x->shape, 2, strides, false);
    op->kind = kind_of[p->node->op];
    op->count = (float)count;
    op->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    op->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    step->params = op;
    step->run = reduce_run;
    return QD_OK;
}

/* ---- Softmax ---- */

struct softmax {
    bool log;
    int64_t outer, count, inner;
    float lo, hi;
};

static void softmax_one(const float *x, float *y, int64_t n, int64_t stride, bool log)
{
    float largest = x[0], sum = 0.0f;
    for (int64_t i = 1; i < n; i++) {
        float v = x[i * stride];
        largest = v > largest ? v : largest;
    }
    for (int64_t i = 0; i < n; i++) {
        float e = qc_expf(x[i * stride] - largest);
        y[i * stride] = e;
        sum += e;
    }
    float log_sum = log ? (float)qc_log((double)sum) : 0;
    for (int64_t i = 0; i < n; i++) {
        y[i * stride] = log ? x[i * stride] - largest - log_sum : y[i * stride] / sum;
    }
}

static void softmax_run(const struct qc_step *step, const struct qc_view *in,
                        const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct softmax *s = step->params;
    for (int64_t o = 0; o < s->outer; o++) {
        for (int64_t i = 0; i < s->inner; i++) {
            int64_t at = o * s->count * s->inner + i;
            softmax_one((const float *)in[0].data + at, (float *)out[0].data + at, s->count,
                        s->inner, s->log);
        }
    }
    size_t n = qc_shape_elements(&out[0].shape);
    step->kernels->clamp_f32(out[0].data, s->lo, s->hi, out[0].data, n);
}

/* Attribute quantd_flatten=1 keeps the meaning of opsets below 13: everything from the axis on is
 * one row, and the axis is 1 when it is not given. */
enum qd_code qc_prepare_softmax(const struct qc_prepare *p, struct qc_step *step,
                                struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape;
    bool flatten = qc_node_int(p->node, "quantd_flatten", 0) != 0;
    int64_t axis = qc_node_int(p->node, "axis", flatten ? 1 : -1);
    struct softmax *s;
    axis = axis < 0 ? axis + x->rank : axis;
    if (p->in[0].dtype != QC_F32 || p->out[0].dtype != QC_F32 || axis < 0 ||
        axis > x->rank - (flatten ? 0 : 1) || !qc_shape_equal(x, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "only f32 with an axis inside the rank is implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*s), &s, err));
    s->log = p->node->op == QC_OP_LOG_SOFTMAX;
    s->outer = s->count = s->inner = 1;
    for (int i = 0; i < x->rank; i++) {
        if (i < axis) {
            s->outer *= x->dim[i];
        } else if (i == axis || flatten) {
            s->count *= x->dim[i];
        } else {
            s->inner *= x->dim[i];
        }
    }
    s->outer = s->count == 0 ? 0 : s->outer;
    s->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    s->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    step->params = s;
    step->run = softmax_run;
    return QD_OK;
}
