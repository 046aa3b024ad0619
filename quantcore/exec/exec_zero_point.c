#include "quantcore/exec/exec_step.h"

static int constant_u8(const struct qc_graph *g, const struct qc_node *n, int i)
{
    const struct qc_tensor *t = qc_node_constant(g, n, i);
    return t != NULL && qc_shape_elements(&t->shape) > 0 ? (int)qc_tensor_s64(t, 0) : 0;
}

/* Position of the zero point that belongs to data input i of an operator, -1 for none. */
static int zero_point_of_input(int op, int i)
{
    bool first = op == QC_OP_DEQUANTIZE_LINEAR || op == QC_OP_Q_CONV || op == QC_OP_Q_GEMM ||
                 op == QC_OP_Q_ADD || op == QC_OP_Q_MUL || op == QC_OP_Q_AVERAGE_POOL ||
                 op == QC_OP_Q_GLOBAL_AVERAGE_POOL;
    if ((first && i == 0) || ((op == QC_OP_Q_ADD || op == QC_OP_Q_MUL) && i == 3)) {
        return i + 2;
    }
    return op == QC_OP_Q_CONCAT && i >= 2 && (i - 2) % 3 == 0 ? i + 2 : -1;
}

static int zero_point_of_output(int op)
{
    if (op == QC_OP_QUANTIZE_LINEAR) {
        return 2;
    }
    if (op == QC_OP_Q_CONV || op == QC_OP_Q_GEMM || op == QC_OP_Q_ADD || op == QC_OP_Q_MUL) {
        return 7;
    }
    if (op == QC_OP_Q_AVERAGE_POOL || op == QC_OP_Q_GLOBAL_AVERAGE_POOL) {
        return 4;
    }
    return op == QC_OP_Q_CONCAT ? 1 : -1;
}

static bool passes(const struct qc_node *n)
{
    return n->n_inputs > 0 && qc_node_passed(n) > 0;
}

static bool has_uses(const struct qc_graph *g, int value)
{
    return value >= 0 && qc_graph_count_uses(g, value) > 0;
}

/* Backward through operators that pass elements on, to whoever made the integers. */
static bool from_producer(const struct qc_graph *g, int value, int *ret)
{
    for (int steps = 0; value >= 0 && steps <= g->n_nodes; steps++) {
        int producer = g->values[value].producer;
        if (producer < 0) {
            return false;
        }
        const struct qc_node *n = &g->nodes[producer];
        int at = zero_point_of_output(n->op);
        if (at >= 0) {
            *ret = at < n->n_inputs && n->inputs[at] >= 0 ? constant_u8(g, n, at) : 0;
            return true;
        }
        if (!passes(n)) {
            return false;
        }
        value = n->inputs[0];
    }
    return false;
}

/* True: a consumer of value knows. Otherwise *ret_pass is a value made of it by an operator that
 * passes elements on, -1 for none. */
static bool ask_consumers(const struct qc_graph *g, int value, int *ret, int *ret_pass)
{
    *ret_pass = -1;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_inputs; k++) {
            if (n->inputs[k] != value) {
                continue;
            }
            int at = zero_point_of_input(n->op, k);
            if (at >= 0) {
                *ret = at < n->n_inputs && n->inputs[at] >= 0 ? constant_u8(g, n, at) : 0;
                return true;
            }
            for (int o = 0; k == 0 && passes(n) && o < qc_node_passed(n); o++) {
                if (has_uses(g, n->outputs[o])) { /* they all hold the same codes */
                    *ret_pass = n->outputs[o];
                }
            }
        }
    }
    return false;
}

static bool from_consumer(const struct qc_graph *g, int value, int *ret)
{
    for (int steps = 0; value >= 0 && steps <= g->n_nodes; steps++) {
        int pass;
        if (ask_consumers(g, value, ret, &pass)) {
            return true;
        }
        value = pass;
    }
    return false;
}

int qc_exec_zero_point(const struct qc_graph *g, int value)
{
    int zero_point = 0;
    if (from_consumer(g, value, &zero_point) || from_producer(g, value, &zero_point)) {
        return zero_point;
    }
    return 0;
}
