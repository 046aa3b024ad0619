#include "quantcore/quant/quantize_weights.h"

#include <math.h>

#include "quantcore/affine/qparams.h"

int qc_weights_axis(const struct qc_node *node, const struct qc_tensor *weights)
{
    if (node->op == QC_OP_GEMM) {
        return qc_node_int(node, "transB", 0) != 0 ? 0 : 1;
    }
    return node->op == QC_OP_MATMUL ? weights->shape.rank - 1 : 0;
}

size_t qc_weights_inner(const struct qc_tensor *weights, int axis)
{
    size_t inner = 1;
    for (int i = axis + 1; i < weights->shape.rank; i++) {
        inner *= (size_t)weights->shape.dim[i];
    }
    return inner;
}

/* Elements a step of the channel index covers, and the number of scales. */
static void layout(const struct qc_quantized_weights *w, size_t *ret_inner, size_t *ret_channels)
{
    *ret_inner = w->axis >= 0 ? qc_weights_inner(w->source, w->axis) : 1;
    *ret_channels = (size_t)w->n_scales;
}

void qc_quantized_weights_update(struct qc_quantized_weights *w)
{
    const float *x = w->source->data;
    int8_t *q = w->q->data;
    size_t inner;
    size_t channels;
    layout(w, &inner, &channels);
    size_t n = qc_shape_elements(&w->source->shape);
    for (size_t i = 0; i < n; i++) {
        float scale = w->scale[qc_weights_channel(i, inner, channels)];
        q[i] = (int8_t)qc_quantize_value(x[i], scale, 0, w->full_range ? -128 : -127, 127);
    }
}

double qc_quantized_weights_value(const struct qc_quantized_weights *w, size_t i)
{
    size_t inner;
    size_t channels;
    layout(w, &inner, &channels);
    double scale = (double)w->scale[qc_weights_channel(i, inner, channels)];
    return scale * (double)((const int8_t *)w->q->data)[i];
}

static enum qd_code find_absmax(const struct qc_quantized_weights *w, double *absmax,
                                struct qd_error *err)
{
    const float *x = w->source->data;
    size_t inner;
    size_t channels;
    layout(w, &inner, &channels);
    size_t n = qc_shape_elements(&w->source->shape);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return qd_fail(err, QD_INVALID, "weight %zu is %g, not a finite number", i,
                           (double)x[i]);
        }
        size_t c = qc_weights_channel(i, inner, channels);
        absmax[c] = fmax(absmax[c], fabs((double)x[i]));
    }
    return QD_OK;
}

enum qd_code qc_quantize_weights(const struct qc_tensor *weights, int axis, bool full_range,
                                 struct qd_arena *arena, struct qc_quantized_weights *ret,
                                 struct qd_error *err)
{
    struct qc_quantized_weights w = {
        .source = weights, .axis = axis, .full_range = full_range, .n_scales = 1};
    double *absmax = NULL;
    struct qc_tensor *q = NULL;
    if (weights->dtype != QC_F32 || axis >= weights->shape.rank ||
        (axis >= 0 && (weights->shape.dim[axis] < 1 || weights->shape.dim[axis] > INT32_MAX))) {
        return qd_fail(err, QD_INVALID, "weights of type %s and rank %d have no channels on %d",
                       qc_dtype_name(weights->dtype), weights->shape.rank, axis);
    }
    w.n_scales = axis >= 0 ? (int)weights->shape.dim[axis] : 1;
    size_t n = (size_t)w.n_scales;
    QD_TRY(qd_arena_array(arena, n, sizeof(*absmax), &absmax, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*w.scale), &w.scale, err));
    QD_TRY(qc_tensor_new(arena, QC_S8, &weights->shape, &q, err));
    w.q = q;
    QD_TRY(find_absmax(&w, absmax, err));
    double largest = 0;
    for (size_t c = 0; c < n; c++) {
        largest = fmax(largest, absmax[c]);
    }
    double floor_absmax = fmax(0.01 * largest, 8e-5);
    for (size_t c = 0; c < n; c++) {
        w.n_dead += absmax[c] < floor_absmax;
        double largest_here = fmax(absmax[c], floor_absmax);
        w.scale[c] = full_range ? qc_scale_full_s8(largest_here)
                                : qc_scale_symmetric_s8(largest_here);
    }
    qc_quantized_weights_update(&w);
    *ret = w;
    return QD_OK;
}
