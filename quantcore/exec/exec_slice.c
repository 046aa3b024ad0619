/* Slice and Pad: copies of boxes. */
#include <string.h>

#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

static int64_t element(const struct qc_view *v, int64_t i)
{
    return v->dtype == QC_S64 ? ((const int64_t *)v->data)[i] : ((const int32_t *)v->data)[i];
}

/* A constant list of integers at input i; *ret_n is -1 when the input is absent. */
static enum qd_code constant_list(const struct qc_prepare *p, int i, int64_t *out, int *ret_n,
                                  int max, struct qd_error *err)
{
    *ret_n = -1;
    if (i >= p->node->n_inputs || p->node->inputs[i] < 0) {
        return QD_OK;
    }
    size_t n = qc_shape_elements(&p->in[i].shape);
    if (p->in[i].data == NULL || (p->in[i].dtype != QC_S64 && p->in[i].dtype != QC_S32) ||
        n > (size_t)max) {
        return qc_prepare_refuse(p, err, "a list of integers is not constant or too long");
    }
    for (size_t j = 0; j < n; j++) {
        out[j] = element(&p->in[i], (int64_t)j);
    }
    *ret_n = (int)n;
    return QD_OK;
}

struct box {
    struct qc_nd nd;  /* from, to */
    int64_t from, to; /* bytes */
    struct qc_clamp clamp;
    /* Pad with a constant: */
    bool fill;
    uint64_t value; /* bits, in the element's size */
};

struct whole {
    const struct qc_step *step;
    const struct qc_clamp *clamp;
    char *data;
    size_t size;
    const void *value;
};

static void clamp_elements(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct whole *w = ctx;
    int64_t n = nd->dim[nd->rank - 1], stride = nd->stride[0][nd->rank - 1];
    float *y = (float *)(void *)w->data + off[0];
    int64_t runs = stride == 1 ? 1 : n;
    for (int64_t i = 0; i < runs; i++, y += stride) {
        w->step->kernels->clamp_f32(y, w->clamp->lo, w->clamp->hi, y, (size_t)(n / runs));
    }
}

static void clamp_all(const struct qc_step *step, const struct qc_clamp *clamp,
                      const struct qc_view *out)
{
    struct whole w = {.step = step, .clamp = clamp, .data = out->data};
    struct qc_nd nd;
    if (clamp->present) {
        qc_nd_init(&nd, &out->shape, 1, &out);
        qc_nd_walk(&nd, clamp_elements, &w);
    }
}

static void fill_elements(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct whole *w = ctx;
    int64_t n = nd->dim[nd->rank - 1];
    int64_t step = nd->stride[0][nd->rank - 1] * (int64_t)w->size;
    char *y = w->data + off[0] * (int64_t)w->size;
    if (step == 1) {
        memset(y, *(const uint8_t *)w->value, (size_t)n);
    } else if (w->size == sizeof(uint32_t)) {
        uint32_t value;
        memcpy(&value, w->value, sizeof(value));
        for (int64_t i = 0; i < n; i++, y += step) {
            *(uint32_t *)(void *)y = value;
        }
    } else {
        for (int64_t i = 0; i < n; i++, y += step) {
            memcpy(y, w->value, w->size);
        }
    }
}

static void fill_all(const uint64_t *value, const struct qc_view *out)
{
    struct whole w = {.data = out->data, .size = qc_dtype_size(out->dtype), .value = value};
    struct qc_nd nd;
    qc_nd_init(&nd, &out->shape, 1, &out);
    qc_nd_walk(&nd, fill_elements, &w);
}

static void box_run(const struct qc_step *step, const struct qc_view *in,
                    const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct box *b = step->params;
    size_t size = qc_dtype_size(out[0].dtype);
    if (b->fill) {
        fill_all(&b->value, &out[0]);
    }
    qc_nd_copy(&b->nd, size, (const char *)in[0].data + b->from, (char *)out[0].data + b->to);
    clamp_all(step, &b->clamp, &out[0]);
}

static int64_t limit(int64_t x, int64_t lo, int64_t hi)
{
    return x < lo ? lo : (x > hi ? hi : x);
}

/* ONNX Slice of one axis: start within the dim; false for a step of 0. The number of elements is
 * the output's dim and is checked against it. */
static bool slice_axis(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t out_dim,
                       int64_t *ret_start)
{
    if (step == 0 || step == INT64_MIN) {
        return false;
    }
    start = start < 0 ? start + dim : start;
    end = end < 0 ? end + dim : end;
    start = step > 0 ? limit(start, 0, dim) : limit(start, 0, dim - 1);
    end = step > 0 ? limit(end, 0, dim) : limit(end, -1, dim - 1);
    int64_t span = step > 0 ? end - start : start - end, size = step > 0 ? step : -step;
    int64_t n = span > 0 ? (span - 1) / size + 1 : 0;
    *ret_start = start;
    return n == out_dim;
}

enum qd_code qc_prepare_slice(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    int64_t starts[QC_MAX_RANK], ends[QC_MAX_RANK], axes[QC_MAX_RANK], steps[QC_MAX_RANK];
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    int n, n_ends, n_axes, n_steps, rank = x->shape.rank;
    struct box *b;
    if (qc_dtype_size(x->dtype) == 0 || x->dtype != y->dtype || y->shape.rank != rank) {
        return qc_prepare_refuse(p, err, "input and output differ in type or rank");
    }
    QD_TRY(constant_list(p, 1, starts, &n, rank, err));
    QD_TRY(constant_list(p, 2, ends, &n_ends, rank, err));
    QD_TRY(constant_list(p, 3, axes, &n_axes, rank, err));
    QD_TRY(constant_list(p, 4, steps, &n_steps, rank, err));
    if (n < 0 || n_ends != n || (n_axes >= 0 && n_axes != n) || (n_steps >= 0 && n_steps != n)) {
        return qc_prepare_refuse(p, err, "starts, ends, axes and steps differ in length");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*b), &b, err));
    qc_view_strides(x, xs);
    qc_view_strides(y, ys);
    for (int i = 0; i < n; i++) {
        int64_t axis = n_axes >= 0 ? axes[i] : i, by = n_steps >= 0 ? steps[i] : 1, start;
        axis = axis < 0 ? axis + rank : axis;
        if (axis < 0 || axis >= rank ||
            !slice_axis(x->shape.dim[axis], starts[i], ends[i], by, y->shape.dim[axis], &start)) {
            return qc_prepare_refuse(p, err, "bad axis or step, or the output does not fit");
        }
        if (y->shape.dim[axis] > 0) {
            b->from += start * xs[axis] * (int64_t)qc_dtype_size(x->dtype);
        }
        xs[axis] = y->shape.dim[axis] > 1 ? xs[axis] * by : xs[axis];
    }
    const int64_t *strides[2] = {xs, ys};
    qc_nd_init_strides(&b->nd, &y->shape, 2, strides, y->layout == QC_NHWC);
    b->clamp = p->node->clamp;
    step->params = b;
    step->run = box_run;
    return QD_OK;
}

/* ---- Pad with pixels of the input: an index per axis ---- */

struct mirror {
    int64_t *offset[QC_MAX_RANK]; /* [out dim] element offset into the input */
    int64_t to_stride[QC_MAX_RANK];
    struct qc_clamp clamp;
};

static void mirror_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct mirror *m = step->params;
    int rank = out[0].shape.rank;
    size_t size = qc_dtype_size(out[0].dtype), n = qc_shape_elements(&out[0].shape);
    int64_t index[QC_MAX_RANK] = {0};
    for (size_t i = 0; i < n; i++) {
        int64_t from = 0, to = 0;
        for (int d = 0; d < rank; d++) {
            from += m->offset[d][index[d]];
            to += m->to_stride[d] * index[d];
        }
        memcpy((char *)out[0].data + to * (int64_t)size,
               (const char *)in[0].data + from * (int64_t)size, size);
        for (int d = rank - 1; d >= 0 && ++index[d] == out[0].shape.dim[d]; d--) {
            index[d] = 0;
        }
    }
    clamp_all(step, &m->clamp, &out[0]);
}

enum border { BORDER_REFLECT, BORDER_EDGE, BORDER_WRAP, BORDER_CONSTANT, BORDER_COUNT };

static int64_t mirror_index(int64_t i, int64_t dim, enum border border)
{
    if (border == BORDER_EDGE || dim == 1) {
        return limit(i, 0, dim - 1);
    }
    int64_t period = border == BORDER_WRAP ? dim : 2 * (dim - 1), at = i % period;
    at = at < 0 ? at + period : at;
    return at < dim ? at : period - at;
}

static enum qd_code prepare_mirror(const struct qc_prepare *p, const int64_t *pads,
                                   enum border border, struct qc_step *step,
                                   struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape, *y = &p->out[0].shape;
    int64_t xs[QC_MAX_RANK];
    struct mirror *m;
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*m), &m, err));
    qc_view_strides(&p->in[0], xs);
    qc_view_strides(&p->out[0], m->to_stride);
    for (int d = 0; d < x->rank; d++) {
        if (x->dim[d] == 0) {
            return qc_prepare_refuse(p, err, "nothing to mirror in an empty dim");
        }
        QD_TRY(qd_arena_array(p->arena, (size_t)y->dim[d], sizeof(int64_t), &m->offset[d], err));
        for (int64_t i = 0; i < y->dim[d]; i++) {
            m->offset[d][i] = mirror_index(i - pads[d], x->dim[d], border) * xs[d];
        }
    }
    m->clamp = p->node->clamp;
    step->params = m;
    step->run = mirror_run;
    return QD_OK;
}

/* ---- Pad with a constant ---- */

static enum qd_code prepare_fill(const struct qc_prepare *p, const int64_t *pads,
                                 struct qc_step *step, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK], size = (int64_t)qc_dtype_size(x->dtype);
    struct qc_shape inside = x->shape;
    struct box *b;
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*b), &b, err));
    if (p->node->n_inputs > 2 && p->node->inputs[2] >= 0) {
        if (p->in[2].data == NULL || p->in[2].dtype != x->dtype ||
            qc_shape_elements(&p->in[2].shape) != 1) {
            return qc_prepare_refuse(p, err,
                                     "the value must be one constant of the input's type");
        }
        memcpy(&b->value, p->in[2].data, (size_t)size);
    } /* absent: 0 of the type, whatever the zero point is, as ONNX says */
    qc_view_strides(x, xs);
    qc_view_strides(y, ys);
    for (int d = 0; d < x->shape.rank; d++) { /* negative pads cut off */
        int64_t begin = pads[d], end = pads[d + x->shape.rank];
        b->from += (begin < 0 ? -begin : 0) * xs[d] * size;
        b->to += (begin > 0 ? begin : 0) * ys[d] * size;
        inside.dim[d] += (begin < 0 ? begin : 0) + (end < 0 ? end : 0);
        if (inside.dim[d] < 0) {
            return qc_prepare_refuse(p, err, "more is cut off than there is");
        }
    }
    const int64_t *strides[2] = {xs, ys};
    qc_nd_init_strides(&b->nd, &inside, 2, strides, y->layout == QC_NHWC);
    b->fill = true;
    b->clamp = p->node->clamp;
    step->params = b;
    step->run = box_run;
    return QD_OK;
}

enum qd_code qc_prepare_pad(const struct qc_prepare *p, struct qc_step *step,
                            struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape, *y = &p->out[0].shape;
    int64_t pads[2 * QC_MAX_RANK];
    static const char *const modes[BORDER_COUNT] = {"reflect", "edge", "wrap", "constant"};
    const char *mode = qc_node_string(p->node, "mode", "constant");
    int border = 0, n;
    if (qc_dtype_size(p->in[0].dtype) == 0 || p->in[0].dtype != p->out[0].dtype ||
        (p->node->clamp.present && p->in[0].dtype != QC_F32)) {
        return qc_prepare_refuse(p, err, "not implemented for this type");
    }
    if (p->node->n_inputs > 3 && p->node->inputs[3] >= 0) { /* left by pass_axes.c */
        return qc_prepare_refuse(p, err, "pads of axes that follow the batch are not implemented");
    }
    QD_TRY(constant_list(p, 1, pads, &n, 2 * QC_MAX_RANK, err));
    if (n != 2 * x->rank || y->rank != x->rank) {
        return qc_prepare_refuse(p, err, "pads must have two values a dim");
    }
    for (int d = 0; d < x->rank; d++) {
        int64_t out = 0;
        if (__builtin_add_overflow(x->dim[d], pads[d], &out) ||
            __builtin_add_overflow(out, pads[d + x->rank], &out) || out != y->dim[d]) {
            return qc_prepare_refuse(p, err, "the output does not fit the pads");
        }
    }
    while (border < BORDER_COUNT && strcmp(mode, modes[border]) != 0) {
        border++;
    }
    if (border == BORDER_COUNT) {
        return qc_prepare_refuse(p, err,
                                 "only the modes constant, reflect, edge, wrap are implemented");
    }
    return border == BORDER_CONSTANT ? prepare_fill(p, pads, step, err)
                                     : prepare_mirror(p, pads, (enum border)border, step, err);
}
