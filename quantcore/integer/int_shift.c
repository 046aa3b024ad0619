#include "quantcore/integer/int_shift.h"

#include <string.h>

static bool is_quantize(const struct qc_node *n)
{
    return n->op == QC_OP_QUANTIZE_LINEAR && n->n_outputs > 0;
}

static bool is_dequantize(const struct qc_graph *g, const struct qc_node *n)
{
    return n->op == QC_OP_DEQUANTIZE_LINEAR && n->n_outputs > 0 &&
           g->values[n->inputs[0]].constant == NULL;
}

/* The 8-bit side of a Quantize/DequantizeLinear node of an activation, -1 for other nodes. */
static int code_value(const struct qc_graph *g, const struct qc_node *n)
{
    if (is_quantize(n)) {
        return n->outputs[0];
    }
    return is_dequantize(g, n) ? n->inputs[0] : -1;
}

/* A scalar 0 of the 8-bit side's type. */
static enum qd_code add_zero_point(struct qc_graph *g, struct qc_node *n, struct qd_error *err)
{
    enum qc_dtype dtype = g->values[code_value(g, n)].dtype;
    struct qc_shape shape = {.rank = 0};
    struct qc_tensor *zp = NULL;
    const char *name = NULL;
    int *inputs = NULL;
    if (dtype != QC_U8 && dtype != QC_S8) {
        return QD_OK;
    }
    QD_TRY(qc_tensor_new(g->arena, dtype, &shape, &zp, err));
    *(uint8_t *)zp->data = 0;
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_zero_point", n->name));
    QD_TRY(qd_arena_array(g->arena, 3, sizeof(*inputs), &inputs, err));
    memcpy(inputs, n->inputs, 2 * sizeof(*inputs));
    QD_TRY(qc_graph_add_constant(g, name, zp, &inputs[2], err));
    n->inputs = inputs;
    n->n_inputs = 3;
    return QD_OK;
}

static bool is_per_tensor_s8(const struct qc_graph *g, const struct qc_node *n)
{
    const struct qc_tensor *zp = qc_node_constant(g, n, 2);
    return zp != NULL && zp->dtype == QC_S8 && qc_shape_elements(&zp->shape) == 1 &&
           g->values[code_value(g, n)].dtype == QC_S8;
}

/* Moves elements and nothing else, whatever the bytes mean. */
static bool is_mover(const struct qc_node *n)
{
    return (qc_op_rows[n->op].flags & QC_IS_PASS) != 0 && n->op != QC_OP_PAD &&
           n->n_outputs == qc_node_passed(n) && !n->clamp.present;
}

/* fixed[v]: the bytes of v must stay as they are. */
static void mark_ends(const struct qc_graph *g, bool *fixed)
{
    for (int v = 0; v < g->n_values; v++) {
        fixed[v] = g->values[v].producer < 0 || qc_graph_is_output(g, v);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        bool shifts = code_value(g, n) >= 0 && is_per_tensor_s8(g, n);
        for (int o = 0; o < n->n_outputs; o++) {
            bool quantized = is_quantize(n) && shifts;
            if (n->outputs[o] >= 0 && !quantized && !is_mover(n)) {
                fixed[n->outputs[o]] = true;
            }
        }
        for (int k = 0; k < n->n_inputs; k++) {
            bool dequantized = is_dequantize(g, n) && shifts;
            if (n->inputs[k] >= 0 && !(k == 0 && (dequantized || is_mover(n)))) {
                fixed[n->inputs[k]] = true;
            }
        }
    }
}

/* What a mover joins is shifted together or not at all. */
static void spread(const struct qc_graph *g, bool *fixed)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < g->n_nodes; i++) {
            const struct qc_node *n = &g->nodes[i];
            if (n->n_inputs == 0 || !is_mover(n) || n->inputs[0] < 0) {
                continue;
            }
            for (int k = 0; k < n->n_outputs; k++) {
                if (n->outputs[k] >= 0) {
                    bool *x = &fixed[n->inputs[0]], *y = &fixed[n->outputs[k]];
                    changed = changed || *x != *y;
                    *x = *y = *x || *y;
                }
            }
        }
    }
}

static enum qd_code shift_zero_point(struct qc_graph *g, struct qc_node *n, struct qd_error *err)
{
    const struct qc_tensor *old = qc_node_constant(g, n, 2);
    struct qc_tensor *zp = NULL;
    const char *name = NULL;
    QD_TRY(qc_tensor_new(g->arena, QC_U8, &old->shape, &zp, err));
    *(uint8_t *)zp->data = (uint8_t)(qc_tensor_s64(old, 0) + 128);
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_u8", g->values[n->inputs[2]].name));
    QD_TRY(qc_graph_add_constant(g, name, zp, &n->inputs[2], err));
    g->values[n->inputs[2]].was_s8 = true;
    return QD_OK;
}

enum qd_code qc_int_shift(struct qc_graph *g, struct qd_error *err)
{
    bool *fixed = NULL;
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        if (code_value(g, n) >= 0 && (n->n_inputs < 3 || n->inputs[2] < 0)) {
            QD_TRY(add_zero_point(g, n, err));
        }
    }
    QD_TRY(qd_arena_array(g->arena, (size_t)g->n_values, sizeof(*fixed), &fixed, err));
    mark_ends(g, fixed);
    spread(g, fixed);
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        int value = code_value(g, n);
        if (value >= 0 && !fixed[value] && is_per_tensor_s8(g, n)) {
            QD_TRY(shift_zero_point(g, n, err));
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(qc_graph_infer_node(g, i, err));
    }
    return QD_OK;
}
