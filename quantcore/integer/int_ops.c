#include "quantcore/integer/int_ops.h"

#include <math.h>

/* Node inputs of Q_CONV and Q_GEMM. */
enum {
    X_SCALE = 1,
    X_ZERO_POINT = 2,
    W_SCALE = 4,
    W_ZERO_POINT = 5,
    Y_SCALE = 6,
    Y_ZERO_POINT = 7,
    BIAS = 8
};

static bool is_present(const struct qc_prepare *p, int i)
{
    return i < p->node->n_inputs && p->node->inputs[i] >= 0;
}

enum qd_code qc_unit_params(const struct qc_prepare *p, int scale, int zero_point,
                            struct qc_qparams *ret, struct qd_error *err)
{
    const struct qc_view *s = &p->in[scale], *z = &p->in[zero_point];
    if (s->data == NULL || s->dtype != QC_F32 || z->data == NULL || z->dtype != QC_U8) {
        return qc_prepare_refuse(p, err, "scale and zero point must be constants, f32 and u8");
    }
    ret->scale = *(const float *)s->data;
    ret->zero_point = *(const uint8_t *)z->data;
    if (!(ret->scale > 0) || !isfinite(ret->scale)) {
        return qc_prepare_refuse(p, err, "the scale must be positive and finite");
    }
    return QD_OK;
}

enum qd_code qc_unit_output(const struct qc_prepare *p, int scale, int zero_point,
                            struct qc_unit_output *ret, struct qd_error *err)
{
    const struct qc_clamp *clamp = &p->node->clamp;
    *ret = (struct qc_unit_output){.is_u8 = is_present(p, scale), .y_max = 255};
    ret->lo = clamp->present ? clamp->lo : -INFINITY;
    ret->hi = clamp->present ? clamp->hi : INFINITY;
    if (!ret->is_u8) {
        return p->out[0].dtype == QC_F32 ? QD_OK
                                         : qc_prepare_refuse(p, err, "the output must be f32");
    }
    QD_TRY(qc_unit_params(p, scale, zero_point, &ret->y, err));
    if (p->out[0].dtype != QC_U8) {
        return qc_prepare_refuse(p, err, "the output must be u8");
    }
    ret->y_min = qc_quantize_value(ret->lo, ret->y.scale, ret->y.zero_point, 0, 255);
    ret->y_max = qc_quantize_value(ret->hi, ret->y.scale, ret->y.zero_point, 0, 255);
    return QD_OK;
}

static enum qd_code check_weights(const struct qc_prepare *p, int n_out, struct qd_error *err)
{
    const struct qc_view *scale = &p->in[W_SCALE];
    size_t n_scales = scale->data != NULL ? qc_shape_elements(&scale->shape) : 0;
    if (scale->data == NULL || scale->dtype != QC_F32 ||
        (n_scales != 1 && n_scales != (size_t)n_out)) {
        return qc_prepare_refuse(p, err, "one weight scale, or one an output channel, is needed");
    }
    const struct qc_view *zero_point = &p->in[W_ZERO_POINT];
    if (is_present(p, W_ZERO_POINT) && (zero_point->data == NULL || zero_point->dtype != QC_S8 ||
                                        qc_shape_elements(&zero_point->shape) != n_scales)) {
        return qc_prepare_refuse(p, err,
                                 "the weights' zero points must be constant s8, as many "
                                 "as scales");
    }
    if (is_present(p, BIAS) && (p->in[BIAS].data == NULL || p->in[BIAS].dtype != QC_S32 ||
                                qc_shape_elements(&p->in[BIAS].shape) != (size_t)n_out)) {
        return qc_prepare_refuse(p, err, "the bias must be constant s32, one an output channel");
    }
    return QD_OK;
}

static enum qd_code read_zero_points(const struct qc_prepare *p, size_t n_out, int32_t **ret,
                                     struct qd_error *err)
{
    int32_t *z = NULL;
    *ret = NULL;
    if (!is_present(p, W_ZERO_POINT)) {
        return QD_OK;
    }
    const int8_t *given = p->in[W_ZERO_POINT].data;
    size_t n = qc_shape_elements(&p->in[W_ZERO_POINT].shape);
    QD_TRY(qd_arena_array(p->arena, n_out, sizeof(*z), &z, err));
    for (size_t o = 0; o < n_out; o++) {
        z[o] = given[n == 1 ? 0 : o];
    }
    *ret = z;
    return QD_OK;
}

enum qd_code qc_unit_weights(const struct qc_prepare *p, const int8_t *w, int n_out, size_t depth,
                             struct qc_unit_weights *ret, struct qd_error *err)
{
    struct qc_qparams x;
    struct qc_unit_output out;
    QD_TRY(check_weights(p, n_out, err));
    QD_TRY(qc_unit_params(p, X_SCALE, X_ZERO_POINT, &x, err));
    QD_TRY(qc_unit_output(p, Y_SCALE, Y_ZERO_POINT, &out, err));
    *ret = (struct qc_unit_weights){
        .n_out = n_out, .depth = depth, .w = w, .x_zero_point = x.zero_point};
    QD_TRY(read_zero_points(p, (size_t)n_out, &ret->zero_point, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n_out, sizeof(int32_t), &ret->bias, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n_out, sizeof(float), &ret->multiplier, err));
    const float *scale = p->in[W_SCALE].data;
    size_t n_scales = qc_shape_elements(&p->in[W_SCALE].shape);
    const int32_t *bias = is_present(p, BIAS) ? p->in[BIAS].data : NULL;
    for (size_t o = 0; o < (size_t)n_out; o++) {
        int64_t sum = 0;
        for (size_t k = 0; k < depth; k++) {
            sum += w[o * depth + k];
        }
        sum -= ret->zero_point != NULL ? (int64_t)depth * ret->zero_point[o] : 0;
        uint32_t b = bias != NULL ? (uint32_t)bias[o] : 0;
        ret->bias[o] = (int32_t)(b - (uint32_t)(x.zero_point * sum));
        float product = x.scale * scale[n_scales == 1 ? 0 : o];
        ret->multiplier[o] = out.is_u8 ? product / out.y.scale : product;
    }
    return QD_OK;
}
