#include "quantcore/integer/int_plan.h"

#include <string.h>

#include "quantcore/exec/exec.h"
#include "quantcore/integer/int_match.h"
#include "quantcore/integer/int_shift.h"
#include "quantcore/integer/int_table.h"
#include "quantcore/integer/int_weights.h"

/* Take the QuantizeLinear out: the unit writes its output. */
static int take_output(struct qc_graph *g, const struct qc_node *q)
{
    struct qc_node *node = &g->nodes[q - g->nodes];
    int output = node->outputs[0];
    node->n_outputs = 0;
    return output;
}

/* What the kernels are for: two spatial dims, or rows times a matrix. */
static bool product_is_plain(const struct qc_graph *g, const struct qc_node *n)
{
    const struct qc_value *x = &g->values[n->inputs[0]];
    const struct qc_value *w = &g->values[n->inputs[1]];
    if (n->op == QC_OP_CONV) {
        return x->shape.rank == 4 && w->shape.rank == 4;
    }
    return w->shape.rank == 2 && x->shape.rank >= 2 && qc_node_int(n, "transA", 0) == 0 &&
           qc_node_float(n, "alpha", 1.0f) == 1.0f && qc_node_float(n, "beta", 1.0f) == 1.0f;
}

/* A border holds one value: everybody who reads the codes must mean the same by it. */
static bool one_zero_point(const struct qc_graph *g, int q, const struct qc_int_params *params)
{
    int zero_point = qc_int_qparams(g, params).zero_point;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        struct qc_int_params other;
        if (n->op == QC_OP_DEQUANTIZE_LINEAR && n->inputs[0] == q &&
            (!qc_int_per_tensor(g, n, &other) ||
             qc_int_qparams(g, &other).zero_point != zero_point)) {
            return false;
        }
    }
    return true;
}

static enum qd_code plan_product(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct qc_int_params x, y = {-1, -1};
    struct qc_int_weights w;
    int q_in, bias = -1;
    bool found = false, has_bias = n->n_inputs > 2 && n->inputs[2] >= 0;
    if (!qc_int_dequantized_from(g, n->inputs[0], &q_in, &x) || !product_is_plain(g, n) ||
        (n->op == QC_OP_CONV && !one_zero_point(g, q_in, &x))) {
        return QD_OK;
    }
    QD_TRY(qc_int_weights(g, n, &w, &found, err));
    if (!found || (has_bias && !qc_int_bias(g, n, qc_int_qparams(g, &x).scale, &w, &bias))) {
        return QD_OK;
    }
    const struct qc_node *q = qc_int_quantized_by(g, n->outputs[0], &y);
    int output = q != NULL ? take_output(g, q) : n->outputs[0];
    int op = n->op == QC_OP_CONV ? QC_OP_Q_CONV : QC_OP_Q_GEMM;
    int inputs[] = {q_in, x.scale, x.zero_point, w.w, w.scale, w.zero_point,
                    y.scale, y.zero_point, bias};
    *ret_done = true;
    return qc_int_become(g, i, op, inputs, 9, output, err);
}

/* A constant s8 tensor and its zero point as u8 ones. */
static enum qd_code constant_to_u8(struct qc_graph *g, int *value, struct qd_error *err)
{
    const struct qc_tensor *old = g->values[*value].constant;
    struct qc_tensor *t = NULL;
    const char *name = NULL;
    QD_TRY(qc_tensor_new(g->arena, QC_U8, &old->shape, &t, err));
    for (size_t i = 0; i < qc_shape_elements(&old->shape); i++) {
        ((uint8_t *)t->data)[i] = (uint8_t)(((const int8_t *)old->data)[i] + 128);
    }
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_u8", g->values[*value].name));
    return qc_graph_add_constant(g, name, t, value, err);
}

/* An operand of Add or Mul: quantized data, or a quantized constant. */
static enum qd_code operand_from(struct qc_graph *g, int value, int *ret_q,
                                 struct qc_int_params *ret, bool *ret_found, struct qd_error *err)
{
    const struct qc_node *dq = qc_int_producer(g, value, QC_OP_DEQUANTIZE_LINEAR);
    *ret_found = qc_int_dequantized_from(g, value, ret_q, ret);
    if (*ret_found || dq == NULL || g->values[dq->inputs[0]].constant == NULL ||
        !qc_int_per_tensor(g, dq, ret)) {
        return QD_OK;
    }
    *ret_found = true;
    *ret_q = dq->inputs[0];
    if (qc_int_dtype(g, ret) == QC_S8) {
        QD_TRY(constant_to_u8(g, ret_q, err));
        QD_TRY(constant_to_u8(g, &ret->zero_point, err));
    }
    return QD_OK;
}

static enum qd_code plan_binary(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct qc_int_params a, b, y;
    int qa, qb, op = n->op == QC_OP_ADD ? QC_OP_Q_ADD : QC_OP_Q_MUL;
    bool found_a = false, found_b = false;
    const struct qc_node *q = qc_int_quantized_by(g, n->outputs[0], &y);
    if (q == NULL) {
        return QD_OK;
    }
    QD_TRY(operand_from(g, n->inputs[0], &qa, &a, &found_a, err));
    QD_TRY(operand_from(g, n->inputs[1], &qb, &b, &found_b, err));
    if (!found_a || !found_b) {
        return QD_OK;
    }
    int inputs[] = {qa, a.scale, a.zero_point, qb, b.scale, b.zero_point, y.scale, y.zero_point};
    *ret_done = true;
    return qc_int_become(g, i, op, inputs, 8, take_output(g, q), err);
}

static enum qd_code plan_concat(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct qc_int_params y;
    int *inputs = NULL;
    QD_TRY(qd_arena_array(g->arena, (size_t)n->n_inputs * 3 + 2, sizeof(*inputs), &inputs, err));
    for (int k = 0; k < n->n_inputs; k++) {
        struct qc_int_params x;
        if (!qc_int_dequantized_from(g, n->inputs[k], &inputs[2 + 3 * k], &x)) {
            return QD_OK;
        }
        inputs[3 + 3 * k] = x.scale;
        inputs[4 + 3 * k] = x.zero_point;
    }
    const struct qc_node *q = qc_int_quantized_by(g, n->outputs[0], &y);
    if (q == NULL) {
        return QD_OK;
    }
    inputs[0] = y.scale;
    inputs[1] = y.zero_point;
    *ret_done = true;
    return qc_int_become(g, i, QC_OP_Q_CONCAT, inputs, 2 + 3 * n->n_inputs, take_output(g, q),
                         err);
}

static enum qd_code plan_pool(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[i];
    struct qc_int_params x, y;
    int q_in;
    if (g->values[n->inputs[0]].shape.rank != 4 || qc_node_attr(n, "dilations") != NULL ||
        !qc_int_dequantized_from(g, n->inputs[0], &q_in, &x)) {
        return QD_OK;
    }
    const struct qc_node *q = qc_int_quantized_by(g, n->outputs[0], &y);
    if (q == NULL) {
        return QD_OK;
    }
    int inputs[] = {q_in, x.scale, x.zero_point, y.scale, y.zero_point};
    int op = n->op == QC_OP_AVERAGE_POOL ? QC_OP_Q_AVERAGE_POOL : QC_OP_Q_GLOBAL_AVERAGE_POOL;
    *ret_done = true;
    return qc_int_become(g, i, op, inputs, 5, take_output(g, q), err);
}

/* Does the operator give bytes for bytes, each one of its input's? */
static bool moves_bytes(const struct qc_node *n)
{
    const char *mode = qc_node_string(n, "mode", "");
    if (n->n_outputs != qc_node_passed(n) || n->clamp.present) {
        return false;
    }
    if (n->op == QC_OP_RESIZE || n->op == QC_OP_UPSAMPLE) {
        return strcmp(mode, "") == 0 || strcmp(mode, "nearest") == 0;
    }
    return true;
}

/* Pad's fill value in the input's codes; the mode may need none. */
static enum qd_code fill_of_pad(struct qc_graph *g, int i, const struct qc_int_params *params,
                                bool *ret_fits, struct qd_error *err)
{
    struct qc_node *n = &g->nodes[i];
    const struct qc_tensor *fill = qc_node_constant(g, n, 2);
    struct qc_qparams x = qc_int_qparams(g, params);
    const struct qc_shape scalar = {.rank = 0};
    struct qc_tensor *code = NULL;
    const char *name = NULL;
    int *inputs = NULL;
    bool absent = n->n_inputs < 3 || n->inputs[2] < 0;
    *ret_fits =
        absent || (fill != NULL && fill->dtype == QC_F32 && qc_shape_elements(&fill->shape) == 1);
    if (!*ret_fits || strcmp(qc_node_string(n, "mode", "constant"), "constant") != 0) {
        return QD_OK;
    }
    QD_TRY(qc_tensor_new(g->arena, QC_U8, &scalar, &code, err));
    *(uint8_t *)code->data = (uint8_t)qc_quantize_value(
        absent ? 0.0f : *(const float *)fill->data, x.scale, x.zero_point, 0, 255);
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_fill", n->name));
    QD_TRY(qd_arena_array(g->arena, 3, sizeof(*inputs), &inputs, err));
    memcpy(inputs, n->inputs, 2 * sizeof(*inputs));
    QD_TRY(qc_graph_add_constant(g, name, code, &inputs[2], err));
    n->inputs = inputs;
    n->n_inputs = 3;
    return QD_OK;
}

/* The operator writes codes of its input's parameters; its QuantizeLinear changes them. That is
 * the f32 chain's result, since every element (MaxPool's: the order) passes unchanged. */
static enum qd_code pass_then_table(struct qc_graph *g, int i, int k, int x, int q_node,
                                    struct qd_error *err)
{
    const char *name = NULL;
    int codes, y = g->nodes[i].outputs[k];
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_codes", g->values[y].name));
    QD_TRY(qc_graph_add_value(g, name, &codes, err));
    g->values[codes] = g->values[y];
    g->values[codes].name = name;
    g->values[codes].dtype = QC_U8;
    QD_TRY(qc_int_table_requantize(g, q_node, codes, g->values[x].producer, err));
    g->nodes[i].outputs[k] = codes;
    return QD_OK;
}

static bool is_unused(const struct qc_graph *g, int value)
{
    return !qc_graph_is_output(g, value) && qc_graph_count_uses(g, value) == 0;
}

/* Every output that is used goes into a QuantizeLinear of its own. */
static bool all_quantized(const struct qc_graph *g, const struct qc_node *n)
{
    struct qc_int_params y;
    for (int k = 0; k < n->n_outputs; k++) {
        if (n->outputs[k] >= 0 && !is_unused(g, n->outputs[k]) &&
            qc_int_quantized_by(g, n->outputs[k], &y) == NULL) {
            return false;
        }
    }
    return true;
}

/* Output k in codes. x: the f32 input, with the parameters from. */
static enum qd_code pass_output(struct qc_graph *g, int i, int k, int x,
                                const struct qc_int_params *from, struct qd_error *err)
{
    struct qc_int_params y;
    int value = g->nodes[i].outputs[k];
    if (value < 0) {
        return QD_OK;
    }
    if (is_unused(g, value)) {
        g->values[value].dtype = QC_U8;
        return QD_OK;
    }
    const struct qc_node *q = qc_int_quantized_by(g, value, &y);
    if (!qc_int_same_params(g, from, &y)) {
        return pass_then_table(g, i, k, x, (int)(q - g->nodes), err);
    }
    g->nodes[i].outputs[k] = take_output(g, q);
    return QD_OK;
}

/* Operators that only move elements run on the bytes as they are. */
static enum qd_code plan_pass(struct qc_graph *g, int i, bool *ret_done, struct qd_error *err)
{
    struct qc_int_params x, y;
    int q_in, from = g->nodes[i].inputs[0];
    bool fits = true;
    if (!moves_bytes(&g->nodes[i]) || !qc_int_dequantized_from(g, from, &q_in, &x) ||
        !all_quantized(g, &g->nodes[i])) {
        return QD_OK;
    }
    if (g->nodes[i].op == QC_OP_PAD) {
        /* With other parameters the fill value may be no code of the input's. */
        if (qc_int_quantized_by(g, g->nodes[i].outputs[0], &y) == NULL ||
            !qc_int_same_params(g, &x, &y)) {
            return QD_OK;
        }
        QD_TRY(fill_of_pad(g, i, &x, &fits, err));
        if (!fits) {
            return QD_OK;
        }
    }
    *ret_done = true;
    for (int k = 0; k < g->nodes[i].n_outputs; k++) {
        QD_TRY(pass_output(g, i, k, from, &x, err));
    }
    g->nodes[i].inputs[0] = q_in;
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

/* Functions of one tensor first: what they fold must not be planned by itself. */
static enum qd_code plan_tables(struct qc_graph *g, struct qc_int_counts *counts,
                                struct qd_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        bool done = false;
        int folded = 0;
        if (g->nodes[i].op == QC_OP_QUANTIZE_LINEAR) {
            QD_TRY(qc_int_table(g, i, &done, &folded, err));
        }
        counts->n_units += folded;
    }
    return QD_OK;
}

static bool is_planned(const struct qc_node *n)
{
    return n->n_outputs == 0 || n->shape_only || n->op == QC_OP_QUANTIZE_LINEAR ||
           n->op == QC_OP_DEQUANTIZE_LINEAR || (qc_op_rows[n->op].flags & QC_IS_INTERNAL) != 0;
}

static bool is_constant(const struct qc_graph *g, int value)
{
    return value < 0 || (g->values[value].constant != NULL && g->values[value].producer < 0);
}

/* What f32 islands read of quantized constants (weights of a ConvTranspose) is dequantized here,
 * not at every run. */
static enum qd_code fold_constants(struct qc_graph *g, struct qd_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        const struct qc_tensor *out = NULL;
        bool folds = n->op == QC_OP_DEQUANTIZE_LINEAR && n->n_outputs == 1 &&
                     !qc_graph_is_output(g, n->outputs[0]);
        for (int k = 0; k < n->n_inputs; k++) {
            folds = folds && is_constant(g, n->inputs[k]);
        }
        if (!folds) {
            continue;
        }
        QD_TRY(qc_exec_eval_node(g, i, g->arena, &out, err));
        g->values[n->outputs[0]].constant = out;
        g->values[n->outputs[0]].producer = -1;
        n->n_outputs = 0;
    }
    return qc_graph_sweep(g, err);
}

enum qd_code qc_int_plan(struct qc_graph *g, struct qc_int_counts *ret, struct qd_error *err)
{
    struct qc_int_counts counts = {0, 0};
    QD_TRY(qc_int_shift(g, err));
    QD_TRY(plan_tables(g, &counts, err));
    for (int i = 0; i < g->n_nodes; i++) {
        bool done = false;
        if (is_planned(&g->nodes[i])) {
            continue;
        }
        QD_TRY(plan_node(g, i, &done, err));
        counts.n_units += done ? 1 : 0;
        counts.n_f32_islands += done ? 0 : 1;
    }
    QD_TRY(qc_graph_sweep(g, err));
    QD_TRY(fold_constants(g, err));
    *ret = counts;
    return QD_OK;
}
