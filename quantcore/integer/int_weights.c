#include "quantcore/integer/int_weights.h"

#include <math.h>

/* The axis of a weight tensor that the output channels lie along. */
static int output_axis(const struct qc_node *n, int rank)
{
    if (n->op == QC_OP_CONV) {
        return 0;
    }
    return n->op == QC_OP_GEMM && qc_node_int(n, "transB", 0) != 0 ? 0 : rank - 1;
}

static bool is_4_bits(enum qc_dtype dtype)
{
    return dtype == QC_S4 || dtype == QC_U4;
}

/* One parameter, or one an output channel along that axis; no blocks. */
static bool along_outputs(const struct qc_node *n, const struct qc_node *dq,
                          const struct qc_tensor *w, const struct qc_tensor *parameters)
{
    size_t count = qc_shape_elements(&parameters->shape);
    int64_t axis = qc_node_int(dq, "axis", 1);
    int want = output_axis(n, w->shape.rank);
    axis += axis < 0 ? w->shape.rank : 0;
    return count == 1 || (axis == want && count == (size_t)w->shape.dim[want] &&
                          qc_node_int(dq, "block_size", 0) == 0);
}

/* Weight i's zero point. */
static int64_t zero_point_at(const struct qc_tensor *w, const struct qc_tensor *zp, int axis,
                             size_t i)
{
    size_t inner = 1;
    if (qc_shape_elements(&zp->shape) == 1) {
        return qc_tensor_s64(zp, 0);
    }
    for (int d = axis + 1; d < w->shape.rank; d++) {
        inner *= (size_t)w->shape.dim[d];
    }
    return qc_tensor_s64(zp, i / inner % (size_t)w->shape.dim[axis]);
}

/* *ret_value: a new constant w - zp, -1 when one of them is no s8. */
static enum qd_code recentre(struct qc_graph *g, int w_value, const struct qc_tensor *zp,
                             int axis, int *ret_value, struct qd_error *err)
{
    const struct qc_tensor *w = g->values[w_value].constant;
    struct qc_tensor *t = NULL;
    const char *name = NULL;
    *ret_value = -1;
    QD_TRY(qc_tensor_new(g->arena, QC_S8, &w->shape, &t, err));
    for (size_t i = 0; i < qc_shape_elements(&w->shape); i++) {
        int64_t q = qc_tensor_s64(w, i) - zero_point_at(w, zp, axis, i);
        if (q < -128 || q > 127) {
            return QD_OK;
        }
        ((int8_t *)t->data)[i] = (int8_t)q;
    }
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_s8", g->values[w_value].name));
    return qc_graph_add_constant(g, name, t, ret_value, err);
}

/* A u8 constant less 128 as s8. */
static enum qd_code as_s8(struct qc_graph *g, const struct qc_tensor *u8, const char *name,
                          int *ret_value, struct qd_error *err)
{
    struct qc_tensor *t = NULL;
    QD_TRY(qc_tensor_new(g->arena, QC_S8, &u8->shape, &t, err));
    for (size_t i = 0; i < qc_shape_elements(&u8->shape); i++) {
        ((int8_t *)t->data)[i] = (int8_t)(((const uint8_t *)u8->data)[i] - 128);
    }
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_s8", name));
    return qc_graph_add_constant(g, name, t, ret_value, err);
}

/* Codes and zero points as they are, in s8. zp NULL (of u8 weights): zeros. */
static enum qd_code keep_zero_points(struct qc_graph *g, const struct qc_node *dq,
                                     const struct qc_tensor *zp, struct qc_int_weights *ret,
                                     struct qd_error *err)
{
    const struct qc_value *w = &g->values[dq->inputs[0]];
    struct qc_tensor *zeros = NULL;
    const char *name = NULL, *w_name = w->name;
    const struct qc_tensor *codes = w->constant;
    if (codes->dtype == QC_S8) {
        ret->w = dq->inputs[0];
        ret->zero_point = dq->inputs[2];
        return QD_OK;
    }
    if (zp == NULL) {
        QD_TRY(qc_tensor_new(g->arena, QC_U8, &g->values[dq->inputs[1]].constant->shape, &zeros,
                             err));
        zp = zeros;
    }
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_zero_point", w_name));
    QD_TRY(as_s8(g, codes, w_name, &ret->w, err));
    return as_s8(g, zp, name, &ret->zero_point, err);
}

/* What the executor takes as parameters of a DequantizeLinear; the rest is left to its message.
 */
static bool parameters_fit(const struct qc_tensor *scale, const struct qc_tensor *zp,
                           enum qc_dtype dtype)
{
    if (scale->dtype != QC_F32 ||
        (zp != NULL && (zp->dtype != dtype ||
                        qc_shape_elements(&zp->shape) != qc_shape_elements(&scale->shape)))) {
        return false;
    }
    for (size_t i = 0; i < qc_shape_elements(&scale->shape); i++) {
        float s = ((const float *)scale->data)[i];
        if (!(s > 0.0f) || !isfinite(s)) {
            return false;
        }
    }
    return true;
}

static bool all_zero(const struct qc_tensor *t)
{
    for (size_t i = 0; i < qc_shape_elements(&t->shape); i++) {
        if (qc_tensor_s64(t, i) != 0) {
            return false;
        }
    }
    return true;
}

enum qd_code qc_int_weights(struct qc_graph *g, const struct qc_node *n,
                            struct qc_int_weights *ret, bool *ret_found, struct qd_error *err)
{
    const struct qc_node *dq = qc_int_producer(g, n->inputs[1], QC_OP_DEQUANTIZE_LINEAR);
    *ret_found = false;
    if (dq == NULL) {
        return QD_OK;
    }
    const struct qc_tensor *w = g->values[dq->inputs[0]].constant;
    const struct qc_tensor *scale = qc_node_constant(g, dq, 1);
    const struct qc_tensor *zp = qc_node_constant(g, dq, 2);
    bool has_zp = dq->n_inputs > 2 && dq->inputs[2] >= 0;
    if (w == NULL || (w->dtype != QC_S8 && w->dtype != QC_U8 && !is_4_bits(w->dtype)) ||
        w->shape.rank < 1 ||
        scale == NULL || (has_zp && zp == NULL) || !parameters_fit(scale, zp, w->dtype) ||
        !along_outputs(n, dq, w, scale)) {
        return QD_OK;
    }
    *ret = (struct qc_int_weights){dq->inputs[0], dq->inputs[1], -1};
    if (w->dtype != QC_S8 || (zp != NULL && !all_zero(zp))) { /* 4 bits always fit s8 then */
        const struct qc_shape one = {.rank = 0};
        uint8_t zero = 0;
        const struct qc_tensor none = {.dtype = QC_U8, .shape = one, .data = &zero};
        QD_TRY(recentre(g, dq->inputs[0], zp != NULL ? zp : &none, output_axis(n, w->shape.rank),
                        &ret->w, err));
        if (ret->w < 0) {
            QD_TRY(keep_zero_points(g, dq, zp, ret, err));
        }
    }
    *ret_found = true;
    return QD_OK;
}

static bool scale_fits(const struct qc_tensor *b, float x_scale, const struct qc_tensor *w)
{
    size_t n_b = qc_shape_elements(&b->shape), n_w = qc_shape_elements(&w->shape);
    for (size_t i = 0; i < (n_b > n_w ? n_b : n_w); i++) {
        double want = (double)x_scale * qc_tensor_f64(w, n_w == 1 ? 0 : i);
        double have = qc_tensor_f64(b, n_b == 1 ? 0 : i);
        if (!(fabs(have - want) <= 1e-6 * want)) {
            return false;
        }
    }
    return true;
}

bool qc_int_bias(const struct qc_graph *g, const struct qc_node *n, float x_scale,
                 const struct qc_int_weights *w, int *ret)
{
    const struct qc_node *dq = qc_int_producer(g, n->inputs[2], QC_OP_DEQUANTIZE_LINEAR);
    const struct qc_shape *y = &g->values[n->outputs[0]].shape;
    size_t n_out = (size_t)y->dim[n->op == QC_OP_CONV ? 1 : y->rank - 1];
    if (dq == NULL) {
        return false;
    }
    const struct qc_tensor *b = g->values[dq->inputs[0]].constant;
    const struct qc_tensor *scale = qc_node_constant(g, dq, 1);
    const struct qc_tensor *zp = qc_node_constant(g, dq, 2);
    bool has_zp = dq->n_inputs > 2 && dq->inputs[2] >= 0;
    if (b == NULL || b->dtype != QC_S32 || b->shape.rank < 1 || scale == NULL ||
        (has_zp && zp == NULL) || qc_shape_elements(&b->shape) != n_out ||
        b->shape.dim[b->shape.rank - 1] != (int64_t)n_out || !parameters_fit(scale, zp, QC_S32) ||
        (zp != NULL && !all_zero(zp)) ||
        (qc_shape_elements(&scale->shape) != 1 && qc_shape_elements(&scale->shape) != n_out)) {
        return false;
    }
    *ret = dq->inputs[0];
    return scale_fits(scale, x_scale, g->values[w->scale].constant);
}
