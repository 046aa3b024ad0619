#include "quantcore/integer/int_match.h"

#include <string.h>

static const struct qc_tensor *one_constant(const struct qc_graph *g, int value)
{
    const struct qc_tensor *t = value >= 0 ? g->values[value].constant : NULL;
    return t != NULL && qc_shape_elements(&t->shape) == 1 ? t : NULL;
}

bool qc_int_per_tensor(const struct qc_graph *g, const struct qc_node *n,
                       struct qc_int_params *ret)
{
    if (n->n_inputs < 3) {
        return false;
    }
    const struct qc_tensor *scale = one_constant(g, n->inputs[1]);
    const struct qc_tensor *zp = one_constant(g, n->inputs[2]);
    if (scale == NULL || scale->dtype != QC_F32 || zp == NULL ||
        (zp->dtype != QC_U8 && zp->dtype != QC_S8) ||
        (n->op == QC_OP_DEQUANTIZE_LINEAR && g->values[n->inputs[0]].dtype != zp->dtype)) {
        return false; /* the executor refuses a zero point of another type */
    }
    ret->scale = n->inputs[1];
    ret->zero_point = n->inputs[2];
    return true;
}

enum qc_dtype qc_int_dtype(const struct qc_graph *g, const struct qc_int_params *p)
{
    return g->values[p->zero_point].constant->dtype;
}

struct qc_qparams qc_int_qparams(const struct qc_graph *g, const struct qc_int_params *p)
{
    return (struct qc_qparams){.scale = *(const float *)g->values[p->scale].constant->data,
                               .zero_point =
                                   (int32_t)qc_tensor_s64(g->values[p->zero_point].constant, 0)};
}

bool qc_int_same_params(const struct qc_graph *g, const struct qc_int_params *a,
                        const struct qc_int_params *b)
{
    struct qc_qparams p = qc_int_qparams(g, a), q = qc_int_qparams(g, b);
    return p.scale == q.scale && p.zero_point == q.zero_point &&
           qc_int_dtype(g, a) == qc_int_dtype(g, b);
}

const struct qc_node *qc_int_producer(const struct qc_graph *g, int value, int op)
{
    if (value < 0 || g->values[value].producer < 0) {
        return NULL;
    }
    const struct qc_node *n = &g->nodes[g->values[value].producer];
    return n->op == op ? n : NULL;
}

const struct qc_node *qc_int_dequantizer(const struct qc_graph *g, int value,
                                         struct qc_int_params *ret)
{
    const struct qc_node *dq = qc_int_producer(g, value, QC_OP_DEQUANTIZE_LINEAR);
    if (dq == NULL || g->values[dq->inputs[0]].constant != NULL ||
        !qc_int_per_tensor(g, dq, ret)) {
        return NULL;
    }
    return dq;
}

bool qc_int_dequantized_from(const struct qc_graph *g, int value, int *ret_q,
                             struct qc_int_params *ret)
{
    const struct qc_node *dq = qc_int_dequantizer(g, value, ret);
    if (dq == NULL || qc_int_dtype(g, ret) != QC_U8) {
        return false;
    }
    *ret_q = dq->inputs[0];
    return true;
}

const struct qc_node *qc_int_quantized_by(const struct qc_graph *g, int value,
                                          struct qc_int_params *ret)
{
    if (qc_graph_is_output(g, value) || qc_graph_count_uses(g, value) != 1) {
        return NULL;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (n->op == QC_OP_QUANTIZE_LINEAR && n->n_outputs > 0 && n->inputs[0] == value) {
            bool fits = qc_int_per_tensor(g, n, ret) && qc_int_dtype(g, ret) == QC_U8;
            return fits ? n : NULL;
        }
    }
    return NULL;
}

enum qd_code qc_int_become(struct qc_graph *g, int i, int op, const int *inputs, int n_inputs,
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
