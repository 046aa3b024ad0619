/* QuantizeLinear and DequantizeLinear, per tensor and per axis; DequantizeLinear in blocks too. */
#include <math.h>

#include "quantcore/affine/qparams.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

struct quantize {
    struct qc_nd nd; /* of one slice of the axis: x, out */
    int64_t slices, x_step, y_step;
    enum qc_dtype q; /* the integer side */
    int32_t q_min, q_max;
    /* In blocks: the dims and strides of x, and where the scales' step along them. */
    int rank, axis;
    int64_t block, dim[QC_MAX_RANK], x_stride[QC_MAX_RANK], y_stride[QC_MAX_RANK],
        scale_stride[QC_MAX_RANK];
    /* From planes to pixels: nd is of the first channel, the others lie `plane` elements apart. */
    int channels;
    int64_t plane;
};

struct quantize_run {
    const struct quantize *op;
    const struct qc_kernels *kernels;
    const char *x;
    char *y;
    float scale;
    int32_t zero_point;
};

static int32_t load_code(enum qc_dtype dtype, const void *data, int64_t i)
{
    if (dtype == QC_U8 || dtype == QC_U4) {
        return ((const uint8_t *)data)[i];
    }
    return dtype == QC_S32 ? ((const int32_t *)data)[i] : ((const int8_t *)data)[i];
}

static int32_t load_zero_point(const struct qc_view *zp, int64_t i)
{
    return zp->data == NULL ? 0 : load_code(zp->dtype, zp->data, i);
}

static void quantize_one(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct quantize_run *r = ctx;
    int last = nd->rank - 1;
    int64_t n = nd->dim[last], sx = nd->stride[0][last], sy = nd->stride[1][last];
    const float *x = (const float *)(const void *)r->x + off[0];
    char *y = r->y + off[1];
    if (r->op->q == QC_U8 && sx == 1 && sy == 1) {
        r->kernels->quantize_u8(x, r->scale, r->zero_point, (uint8_t *)y, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        int32_t q =
            qc_quantize_value(x[i * sx], r->scale, r->zero_point, r->op->q_min, r->op->q_max);
        ((uint8_t *)y)[i * sy] = (uint8_t)q; /* two's complement for s8 */
    }
}

static void quantize_pixels(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct quantize_run *r = ctx;
    r->kernels->quantize_pixels_u8((const float *)(const void *)r->x + off[0], r->op->plane,
                                   r->op->channels, r->scale, r->zero_point,
                                   (uint8_t *)r->y + off[1], (size_t)nd->dim[nd->rank - 1]);
}

static void dequantize_one(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct quantize_run *r = ctx;
    int last = nd->rank - 1;
    int64_t n = nd->dim[last], sx = nd->stride[0][last], sy = nd->stride[1][last];
    float *y = (float *)(void *)r->y + off[1];
    const void *x = r->x + off[0] * (int64_t)qc_dtype_size(r->op->q);
    if (r->op->q == QC_U8 && sx == 1 && sy == 1) {
        r->kernels->dequantize_u8(x, r->scale, r->zero_point, y, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        int32_t q = load_code(r->op->q, x, i * sx);
        y[i * sy] = (float)((int64_t)q - r->zero_point) * r->scale;
    }
}

static void run_slices(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, qc_nd_run_fn *fn)
{
    const struct quantize *op = step->params;
    struct quantize_run r = {.op = op, .kernels = step->kernels};
    const struct qc_view none = {.dtype = op->q}, *zp = step->n_inputs > 2 ? &in[2] : &none;
    for (int64_t s = 0; s < op->slices; s++) {
        r.scale = ((const float *)in[1].data)[s];
        r.zero_point = load_zero_point(zp, s);
        r.x = (const char *)in[0].data + s * op->x_step;
        r.y = (char *)out[0].data + s * op->y_step;
        qc_nd_walk(&op->nd, fn, &r);
    }
}

static void quantize_run(const struct qc_step *step, const struct qc_view *in,
                         const struct qc_view *out, void *scratch)
{
    (void)scratch;
    run_slices(step, in, out, quantize_one);
}

static void quantize_pixels_run(const struct qc_step *step, const struct qc_view *in,
                                const struct qc_view *out, void *scratch)
{
    (void)scratch;
    run_slices(step, in, out, quantize_pixels);
}

static void dequantize_run(const struct qc_step *step, const struct qc_view *in,
                           const struct qc_view *out, void *scratch)
{
    (void)scratch;
    run_slices(step, in, out, dequantize_one);
}

/* One scale a position along all dims but one, where it holds for a block. Of constants, which are
 * dequantized once. */
static void dequantize_blocks_run(const struct qc_step *step, const struct qc_view *in,
                                  const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct quantize *op = step->params;
    const struct qc_view none = {.dtype = op->q}, *zp = step->n_inputs > 2 ? &in[2] : &none;
    const float *scale = in[1].data;
    float *y = out[0].data;
    int64_t at[QC_MAX_RANK] = {0};
    size_t n = qc_shape_elements(&in[0].shape);
    for (size_t i = 0; i < n; i++) {
        int64_t from = 0, to = 0, s = 0;
        for (int d = 0; d < op->rank; d++) {
            from += at[d] * op->x_stride[d];
            to += at[d] * op->y_stride[d];
            s += (d == op->axis ? at[d] / op->block : at[d]) * op->scale_stride[d];
        }
        int64_t q = load_code(op->q, in[0].data, from);
        y[to] = (float)(q - load_zero_point(zp, s)) * scale[s];
        for (int d = op->rank - 1; d >= 0 && ++at[d] == op->dim[d]; d--) {
            at[d] = 0;
        }
    }
}

static enum qd_code check_parameters(const struct qc_prepare *p, enum qc_dtype q,
                                     struct qd_error *err)
{
    const struct qc_view *scale = &p->in[1];
    bool has_zp = p->node->n_inputs > 2 && p->node->inputs[2] >= 0;
    if (scale->dtype != QC_F32 || (has_zp && p->in[2].dtype != q)) {
        return qc_prepare_refuse(p, err, "the scale must be f32, the zero point of the q type");
    }
    if (has_zp && !qc_shape_equal(&p->in[2].shape, &scale->shape) &&
        qc_shape_elements(&p->in[2].shape) != qc_shape_elements(&scale->shape)) {
        return qc_prepare_refuse(p, err, "scale and zero point differ in shape");
    }
    for (size_t i = 0; scale->data != NULL && i < qc_shape_elements(&scale->shape); i++) {
        float s = ((const float *)scale->data)[i];
        if (!(s > 0.0f) || !isfinite(s)) {
            return qc_prepare_refuse(p, err, "a scale is not a positive number");
        }
    }
    return QD_OK;
}

static enum qd_code prepare_slices(const struct qc_prepare *p, struct quantize *op,
                                   struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    size_t n = qc_shape_elements(&p->in[1].shape);
    struct qc_shape slice = x->shape;
    qc_view_strides(x, xs);
    qc_view_strides(y, ys);
    op->slices = 1;
    if (n != 1 || (p->in[1].shape.rank == 1 && x->shape.rank > 0)) {
        int64_t axis = qc_node_int(p->node, "axis", 1);
        axis = axis < 0 ? axis + x->shape.rank : axis;
        bool fits = axis >= 0 && axis < x->shape.rank && (int64_t)n == x->shape.dim[axis];
        if (!fits && n != 1) {
            return qc_prepare_refuse(p, err, "the scale has not one value a slice of the axis");
        }
        if (fits) {
            op->slices = x->shape.dim[axis];
            op->x_step = xs[axis] * (int64_t)qc_dtype_size(x->dtype);
            op->y_step = ys[axis] * (int64_t)qc_dtype_size(y->dtype);
            slice.dim[axis] = 1;
        }
    }
    const int64_t *strides[2] = {xs, ys};
    bool nhwc = x->layout == QC_NHWC || y->layout == QC_NHWC;
    qc_nd_init_strides(&op->nd, &slice, 2, strides, nhwc);
    return QD_OK;
}

static enum qd_code prepare_blocks(const struct qc_prepare *p, struct quantize *op,
                                   struct qc_step *step, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *scale = &p->in[1];
    int64_t axis = qc_node_int(p->node, "axis", 1);
    op->rank = x->shape.rank;
    op->axis = (int)(axis < 0 ? axis + op->rank : axis);
    if (op->axis < 0 || op->axis >= op->rank || scale->shape.rank != op->rank ||
        scale->layout != QC_PLAIN) {
        return qc_prepare_refuse(p, err, "the scale has not one value a block of the axis");
    }
    qc_view_strides(x, op->x_stride);
    qc_view_strides(&p->out[0], op->y_stride);
    qc_view_strides(scale, op->scale_stride);
    for (int d = 0; d < op->rank; d++) {
        op->dim[d] = x->shape.dim[d];
        int64_t blocks = d == op->axis ? op->dim[d] / op->block + (op->dim[d] % op->block != 0)
                                       : op->dim[d];
        if (scale->shape.dim[d] != blocks) {
            return qc_prepare_refuse(p, err, "the scale has not one value a block of the axis");
        }
    }
    step->run = dequantize_blocks_run;
    return QD_OK;
}

static enum qd_code prepare_both(const struct qc_prepare *p, enum qc_dtype q,
                                 struct qc_step *step, struct qd_error *err)
{
    struct quantize *op;
    if (!qc_shape_equal(&p->in[0].shape, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "input and output differ in shape");
    }
    if (p->node->clamp.present) {
        return qc_prepare_refuse(p, err, "a fused activation is not implemented");
    }
    QD_TRY(check_parameters(p, q, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*op), &op, err));
    op->q = q;
    op->q_min = q == QC_U8 ? 0 : -128;
    op->q_max = q == QC_U8 ? 255 : 127;
    step->params = op;
    op->block = qc_node_int(p->node, "block_size", 0);
    if (op->block <= 0 || qc_shape_elements(&p->in[1].shape) == 1) {
        return prepare_slices(p, op, err);
    }
    return p->node->op == QC_OP_DEQUANTIZE_LINEAR
               ? prepare_blocks(p, op, step, err)
               : qc_prepare_refuse(p, err, "blocks are implemented for DequantizeLinear alone");
}

/* Take the channels away if planes become pixels of a few of them. */
static bool take_channels(struct quantize *op)
{
    struct qc_nd *nd = &op->nd;
    int c = nd->rank - 1, w = c - 1;
    if (op->q != QC_U8 || w < 0 || nd->dim[c] < 2 || nd->dim[c] > 4 || nd->stride[1][c] != 1 ||
        nd->stride[0][w] != 1 || nd->stride[1][w] != nd->dim[c]) {
        return false;
    }
    op->channels = (int)nd->dim[c];
    op->plane = nd->stride[0][c];
    nd->rank--;
    return true;
}

enum qd_code qc_prepare_quantize(const struct qc_prepare *p, struct qc_step *step,
                                 struct qd_error *err)
{
    enum qc_dtype q = p->out[0].dtype;
    if (p->in[0].dtype != QC_F32 || (q != QC_U8 && q != QC_S8)) {
        return qc_prepare_refuse(p, err, "only f32 to u8 or s8 is implemented");
    }
    QD_TRY(prepare_both(p, q, step, err));
    step->run = take_channels(step->params) ? quantize_pixels_run : quantize_run;
    return QD_OK;
}

enum qd_code qc_prepare_dequantize(const struct qc_prepare *p, struct qc_step *step,
                                   struct qd_error *err)
{
    enum qc_dtype q = p->in[0].dtype;
    if (p->out[0].dtype != QC_F32 ||
        (q != QC_U8 && q != QC_S8 && q != QC_S32 && q != QC_S4 && q != QC_U4)) {
        return qc_prepare_refuse(p, err, "only u4, s4, u8, s8 or s32 to f32 is implemented");
    }
    step->run = dequantize_run;
    return prepare_both(p, q, step, err);
}
