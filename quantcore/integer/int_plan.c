#include "quantcore/integer/int_plan.h"

#include <math.h>
#include <string.h>

/* Both parameters of a QuantizeLinear or DequantizeLinear node, as value indices. */
struct int_params {
    int scale, zero_point;
};

static bool has_scalar_constant(const struct qc_graph *g, int value, enum qc_dtype dtype)
{
    if (value < 0 || g->values[value].constant == NULL) {
        return false;
    }
    const struct qc_tensor *t = g->values[value].constant;
    return t->dtype == dtype && qc_shape_elements(&t->shape) == 1;
}

/* Q/DQ with constant per-tensor parameters and u8 data. */
static bool per_tensor_u8(const struct qc_graph *g, const struct qc_node *n,
                          struct int_params *ret)
{
    if (n->n_inputs < 3 || !has_scalar_constant(g, n->inputs[1], QC_F32) ||
        !has_scalar_constant(g, n->inputs[2], QC_U8)) {
        return false;
    }
    ret->scale = n->inputs[1];
    ret->zero_point = n->inputs[2];
    return true;
}

static bool same_params(const struct qc_graph *g, const struct int_params *a,
                        const struct int_params *b)
{
    return qc_tensor_f64(g->values[a->scale].constant, 0) ==
               qc_tensor_f64(g->values[b->scale].constant, 0) &&
           qc_tensor_s64(g->values[a->zero_point].constant, 0) ==
               qc_tensor_s64(g->values[b->zero_point].constant, 0);
}

static const struct qc_node *producer(const struct qc_graph *g, int value, int op)
{
    if (value < 0 || g->values[value].producer < 0) {
        return NULL;
    }
    const struct qc_node *n = &g->nodes[g->values[value].producer];
    return n->op == op ? n : NULL;
}

/* The quantized source of an f32 value: DequantizeLinear of u8 activations. */
static bool dequantized_from(const struct qc_graph *g, int value, int *ret_q,
                             struct int_params *ret)
{
    const struct qc_node *dq = producer(g, value, QC_OP_DEQUANTIZE_LINEAR);
    if (dq == NULL || g->values[dq->inputs[0]].constant != NULL || !per_tensor_u8(g, dq, ret)) {
        return false;
    }
    *ret_q = dq->inputs[0];
    return true;
}

/* The one QuantizeLinear that takes everything the value gives, or NULL. */
static const struct qc_node *quantized_by(const struct qc_graph *g, int value,
                                          struct int_params *ret)
{
    if (qc_graph_is_output(g, value) || qc_graph_count_uses(g, value) != 1) {
        return NULL;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (n->op == QC_OP_QUANTIZE_LINEAR && n->n_inputs > 0 && n->inputs[0] == value) {
            return per_tensor_u8(g, n, ret) ? n : NULL;
        }
    }
    return NULL;
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

/* Weights: DequantizeLinear of a constant s8 tensor, symmetric. Zero points may be absent (then
 * the type says s8 already). */
static const struct qc_node *weights_from(const struct qc_graph *g, int value)
{
    const struct qc_node *dq = producer(g, value, QC_OP_DEQUANTIZE_LINEAR);
    if (dq == NULL) {
        return NULL;
    }
    const struct qc_tensor *w = g->values[dq->inputs[0]].constant;
    const struct qc_tensor *scale = qc_node_constant(g, dq, 1);
    const struct qc_tensor *zp = qc_node_constant(g, dq, 2);
    bool ok = w != NULL && w->dtype == QC_S8 && scale != NULL && (zp == NULL || all_zero(zp));
    return ok ? dq : NULL;
}

/* Bias: s32 with scale x_scale * w_scale is implied by the unit, so only the integers matter. */
static bool bias_from(const struct qc_graph *g, int value, int *ret)
{
    const struct qc_node *dq = producer(g, value, QC_OP_DEQUANTIZE_LINEAR);
    if (dq == NULL || g->values[dq->inputs[0]].constant == NULL ||
        g->values[dq->inputs[0]].constant->dtype != QC_S32) {
        return false;
    }
    *ret = dq->inputs[0];
    return true;
}

/* Replace node i by an internal one; attributes, name and clamp stay. */
static enum qd_code become(struct qc_graph *g, int i, int op, const int *inputs, int n_inputs,
                           int output, struct qd_error *err)
{
    struct qc_node *n = &g->nodes[i];
    int *in = NULL;
    QD_TRY(qd_arena_array(g->arena, (size_t)n_inputs, sizeof(*in), &in, err));
    memcpy(in, inputs, (size_t)n_inputs * sizeof(*in));
    n->op = op;
    n->op_type = qc_op_rows[op].type;
    n->domain = qc_op_rows[op].domain;
    n->inputs = in;
    n->n_inputs = n_inputs;
    n->n_outputs = 1;
    n->outputs[0] = output;
    return QD_OK;
}

/* Take the QuantizeLinear out: the unit writes its output. */
static int take_output(struct qc_graph *g, const struct qc_node *q)
{
    struct qc_node *node = &g->nodes[q - g->nodes];
    int output = node->outputs[0];
    node->n_outputs = 0;
    return output;
}

/* Which axis of the weights the scales run along must be the output channels. */
static bool weights_fit(const struct qc_graph *g, const struct qc_node *n,
                        const struct qc_node *dq)
{
    const struct qc_tensor *w = g->values[dq->inputs[0]].constant;
    const struct qc_tensor *scale = g->values[dq->inputs[1]].constant;
    if (qc_shape_elements(&scale->shape) == 1) {
        return true;
    }
    int64_t axis = qc_node_int(dq, "axis", 1);
    if (axis < 0) {
        axis += w->shape.rank;
    }
    int64_t want = 0;
    if (n->op == QC_OP_MATMUL) {
        want = w->shape.rank - 1;
    } else if (n->op == QC_OP_GEMM) {
        want = qc_node_int(n, "transB", 0) != 0 ? 0 : 1;
    }
    return axis == want;
}

static bool gemm_is_plain(const struct qc_graph *g, const struct qc_node *n)
{
    if (n->op == QC_OP_CONV) {
        return true;
    }
    const struct qc_value *x = &g->values[n->inputs[0]];
    const struct qc_value *w = &g->values[n->inputs[1]];
    return w->shape.rank == 2 && x->shape.rank >= 2 && qc_node_int(n, "transA", 0) == 0 &&
           qc_node_float(n, "alpha", 1.0f) == 1.0f && qc_node_float(n, "beta", 1.0f) == 1.0f;
}

static enum qd_code plan_product(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct int_params x, y = {-1, -1};
    int q_in, bias = -1;
    const struct qc_node *w = weights_from(g, n->inputs[1]);
    bool has_bias = n->n_inputs > 2 && n->inputs[2] >= 0;
    if (w == NULL || !dequantized_from(g, n->inputs[0], &q_in, &x) || !weights_fit(g, n, w) ||
        !gemm_is_plain(g, n) || (has_bias && !bias_from(g, n->inputs[2], &bias))) {
        return QD_OK;
    }
    const struct qc_node *q = quantized_by(g, n->outputs[0], &y);
    int output = q != NULL ? take_output(g, q) : n->outputs[0];
    int inputs[] = {q_in,         x.scale, x.zero_point, w->inputs[0], w->inputs[1],
                    w->n_inputs > 2 ? w->inputs[2] : -1, y.scale, y.zero_point, bias};
    *ret_done = true;
    return become(g, i, n->op == QC_OP_CONV ? QC_OP_Q_CONV : QC_OP_Q_GEMM, inputs, 9, output, err);
}

static enum qd_code plan_binary(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct int_params a, b, y;
    int qa, qb;
    if (!dequantized_from(g, n->inputs[0], &qa, &a) ||
        !dequantized_from(g, n->inputs[1], &qb, &b)) {
        return QD_OK;
    }
    const struct qc_node *q = quantized_by(g, n->outputs[0], &y);
    if (q == NULL) {
        return QD_OK;
    }
    int inputs[] = {qa, a.scale, a.zero_point, qb, b.scale, b.zero_point, y.scale, y.zero_point};
    int op = n->op == QC_OP_ADD ? QC_OP_Q_ADD : QC_OP_Q_MUL;
    *ret_done = true;
    return become(g, i, op, inputs, 8, take_output(g, q), err);
}

static enum qd_code plan_concat(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct int_params y;
    int *inputs = NULL;
    QD_TRY(qd_arena_array(g->arena, (size_t)n->n_inputs * 3 + 2, sizeof(*inputs), &inputs, err));
    for (int k = 0; k < n->n_inputs; k++) {
        struct int_params x;
        if (!dequantized_from(g, n->inputs[k], &inputs[2 + 3 * k], &x)) {
            return QD_OK;
        }
        inputs[3 + 3 * k] = x.scale;
        inputs[4 + 3 * k] = x.zero_point;
    }
    const struct qc_node *q = quantized_by(g, n->outputs[0], &y);
    if (q == NULL) {
        return QD_OK;
    }
    inputs[0] = y.scale;
    inputs[1] = y.zero_point;
    *ret_done = true;
    return become(g, i, QC_OP_Q_CONCAT, inputs, 2 + 3 * n->n_inputs, take_output(g, q), err);
}

static enum qd_code plan_pool(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct int_params x, y;
    int q_in;
    if (!dequantized_from(g, n->inputs[0], &q_in, &x)) {
        return QD_OK;
    }
    const struct qc_node *q = quantized_by(g, n->outputs[0], &y);
    if (q == NULL) {
        return QD_OK;
    }
    int inputs[] = {q_in, x.scale, x.zero_point, y.scale, y.zero_point};
    int op = n->op == QC_OP_AVERAGE_POOL ? QC_OP_Q_AVERAGE_POOL : QC_OP_Q_GLOBAL_AVERAGE_POOL;
    *ret_done = true;
    return become(g, i, op, inputs, 5, take_output(g, q), err);
}

/* Operators that only move elements run on the bytes when both sides mean the same by them. */
static enum qd_code plan_pass(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    struct qc_node *n = &g->nodes[i];
    struct int_params x, y;
    int q_in;
    (void)err;
    if (n->op == QC_OP_PAD || n->op == QC_OP_RESIZE || n->n_outputs != 1) {
        return QD_OK; /* arithmetic of their own: a fill value, an interpolation */
    }
    if (!dequantized_from(g, n->inputs[0], &q_in, &x)) {
        return QD_OK;
    }
    const struct qc_node *q = quantized_by(g, n->outputs[0], &y);
    if (q == NULL || !same_params(g, &x, &y)) {
        return QD_OK;
    }
    n->inputs[0] = q_in;
    n->outputs[0] = take_output(g, q);
    *ret_done = true;
    return QD_OK;
}

static enum qd_code plan_node(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    int op = g->nodes[i].op;
    if (op == QC_OP_CONV || op == QC_OP_GEMM || op == QC_OP_MATMUL) {
        return plan_product(g, i, ret_done, err);
    }
    if (op == QC_OP_ADD || op == QC_OP_MUL) {
        return plan_binary(g, i, ret_done, err);
    }
    if (op == QC_OP_CONCAT) {
        return plan_concat(g, i, ret_done, err);
    }
    if (op == QC_OP_AVERAGE_POOL || op == QC_OP_GLOBAL_AVERAGE_POOL) {
        return plan_pool(g, i, ret_done, err);
    }
    if ((qc_op_rows[op].flags & QC_IS_PASS) != 0) {
        return plan_pass(g, i, ret_done, err);
    }
    return QD_OK;
}

/* x = s (q - z) = s ((q + 128) - (z + 128)): the s8 activation as a u8 one. */
static enum qd_code shift_zero_point(struct qc_graph *g, struct qc_node *n, struct qd_error *err)
{
    const struct qc_tensor *old = qc_node_constant(g, n, 2);
    if (old == NULL || old->dtype != QC_S8 || qc_shape_elements(&old->shape) != 1) {
        return QD_OK;
    }
    struct qc_tensor *zp = NULL;
    const char *name = NULL;
    QD_TRY(qc_tensor_new(g->arena, QC_U8, &old->shape, &zp, err));
    *(uint8_t *)zp->data = (uint8_t)(qc_tensor_s64(old, 0) + 128);
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_u8", g->values[n->inputs[2]].name));
    return qc_graph_add_constant(g, name, zp, &n->inputs[2], err);
}

static enum qd_code s8_to_u8(struct qc_graph *g, struct qd_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        bool q = n->op == QC_OP_QUANTIZE_LINEAR;
        bool dq = n->op == QC_OP_DEQUANTIZE_LINEAR && g->values[n->inputs[0]].constant == NULL;
        bool external = (q && qc_graph_is_output(g, n->outputs[0])) ||
                        (dq && g->values[n->inputs[0]].producer < 0);
        if ((q || dq) && !external) {
            QD_TRY(shift_zero_point(g, n, err));
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(qc_graph_infer_node(g, i, err));
    }
    return QD_OK;
}

enum qd_code qc_int_plan(struct qc_graph *g, struct qc_int_counts *ret, struct qd_error *err)
{
    struct qc_int_counts counts = {0, 0};
    QD_TRY(s8_to_u8(g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        bool done = false;
        if (n->n_outputs == 0 || n->shape_only || n->op == QC_OP_QUANTIZE_LINEAR ||
            n->op == QC_OP_DEQUANTIZE_LINEAR) {
            continue;
        }
        QD_TRY(plan_node(g, i, &done, err));
        counts.n_units += done ? 1 : 0;
        counts.n_f32_islands += done ? 0 : 1;
    }
    QD_TRY(qc_graph_sweep(g, err));
    *ret = counts;
    return QD_OK;
}
