#include "quantcore/quant/quantize_weights.h"

#include <math.h>

#include "quantcore/affine/qparams.h"

int qc_weights_axis(const struct qc_node *node, const struct qc_tensor *weights)
{
    return qc_node_weights_axis(node, weights->shape.rank);
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
    int32_t lowest = w->form == QC_WEIGHTS_NARROW ? -127 : -128;
    for (size_t c = 0; c < channels && w->form == QC_WEIGHTS_ASYMMETRIC; c++) {
        double z = rint(-128 - w->lo[c] / (double)w->scale[c]);
        w->zero_point[c] = z < -128 ? -128 : (z > 127 ? 127 : (int32_t)z);
    }
    for (size_t i = 0; i < n; i++) {
        size_t c = qc_weights_channel(i, inner, channels);
        int32_t z = w->zero_point != NULL ? w->zero_point[c] : 0;
        q[i] = (int8_t)qc_quantize_value(x[i], w->scale[c], z, lowest, 127);
    }
}

double qc_quantized_weights_value(const struct qc_quantized_weights *w, size_t i)
{
    size_t inner;
    size_t channels;
    layout(w, &inner, &channels);
    size_t c = qc_weights_channel(i, inner, channels);
    int q =
        w->q->dtype == QC_U8 ? ((const uint8_t *)w->q->data)[i] : ((const int8_t *)w->q->data)[i];
    return (double)w->scale[c] * (double)(q - (w->zero_point != NULL ? w->zero_point[c] : 0));
}

/* The channels' smallest and largest weights, widened to 0: lo and hi come as zeros. */
static enum qd_code find_ranges(const struct qc_quantized_weights *w, double *lo, double *hi,
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
        lo[c] = fmin(lo[c], (double)x[i]);
        hi[c] = fmax(hi[c], (double)x[i]);
    }
    return QD_OK;
}

/* What a channel's codes have to reach: the span, or the larger of both ends. */
static double reach(const struct qc_quantized_weights *w, double lo, double hi)
{
    return w->form == QC_WEIGHTS_ASYMMETRIC ? hi - lo : fmax(-lo, hi);
}

static float scale_of(enum qc_weight_form form, double reached)
{
    return form == QC_WEIGHTS_ASYMMETRIC ? (float)(reached / 255.0)
           : form == QC_WEIGHTS_FULL     ? qc_scale_full_s8(reached)
                                         : qc_scale_symmetric_s8(reached);
}

static void choose_scales(struct qc_quantized_weights *w, const double *lo, const double *hi)
{
    double largest = 0;
    for (int c = 0; c < w->n_scales; c++) {
        largest = fmax(largest, reach(w, lo[c], hi[c]));
    }
    double floor = largest > 0 ? fmin(8e-5, 0.1 * largest) : 8e-5;
    double least = fmax(0.01 * largest, floor);
    for (int c = 0; c < w->n_scales; c++) {
        double here = reach(w, lo[c], hi[c]);
        w->n_dead += here < least;
        w->scale[c] = scale_of(w->form, fmax(here, least));
    }
}

enum qd_code qc_quantize_weights(const struct qc_tensor *weights, int axis,
                                 enum qc_weight_form form, struct qd_arena *arena,
                                 struct qc_quantized_weights *ret, struct qd_error *err)
{
    struct qc_quantized_weights w = {
        .source = weights, .axis = axis, .form = form, .n_scales = 1};
    double *hi = NULL;
    struct qc_tensor *q = NULL;
    if (weights->dtype != QC_F32 || axis >= weights->shape.rank ||
        (axis >= 0 && (weights->shape.dim[axis] < 1 || weights->shape.dim[axis] > INT32_MAX))) {
        return qd_fail(err, QD_INVALID, "weights of type %s and rank %d have no channels on %d",
                       qc_dtype_name(weights->dtype), weights->shape.rank, axis);
    }
    w.n_scales = axis >= 0 ? (int)weights->shape.dim[axis] : 1;
    size_t n = (size_t)w.n_scales;
    QD_TRY(qd_arena_array(arena, n, sizeof(*w.lo), &w.lo, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*hi), &hi, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*w.scale), &w.scale, err));
    if (form == QC_WEIGHTS_ASYMMETRIC) {
        QD_TRY(qd_arena_array(arena, n, sizeof(*w.zero_point), &w.zero_point, err));
    }
    QD_TRY(qc_tensor_new(arena, QC_S8, &weights->shape, &q, err));
    w.q = q;
    QD_TRY(find_ranges(&w, w.lo, hi, err));
    choose_scales(&w, w.lo, hi);
    qc_quantized_weights_update(&w);
    *ret = w;
    return QD_OK;
}

enum qd_code qc_weights_zero_points(const struct qc_quantized_weights *w, struct qd_arena *arena,
                                    int8_t **ret, struct qd_error *err)
{
    int8_t *z = NULL;
    *ret = NULL;
    if (w->zero_point == NULL) {
        return QD_OK;
    }
    QD_TRY(qd_arena_array(arena, (size_t)w->n_scales, sizeof(*z), &z, err));
    for (int c = 0; c < w->n_scales; c++) {
        z[c] = (int8_t)w->zero_point[c];
    }
    *ret = z;
    return QD_OK;
}
