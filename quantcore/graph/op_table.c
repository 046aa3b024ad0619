#include "quantcore/graph/op_table.h"

#include <string.h>

const struct qc_op_row qc_op_rows[QC_OP_COUNT] = {
#define X(id, type, domain, since, min_in, max_in, max_out, flags)                               \
    [QC_OP_##id] = {type, domain, since, min_in, max_in, max_out, flags},
    QC_OPS(X)
#undef X
};

int qc_op_find(const char *type, const char *domain)
{
    if (domain == NULL || strcmp(domain, "ai.onnx") == 0) {
        domain = "";
    }
    for (int i = 0; i < QC_OP_COUNT; i++) {
        const struct qc_op_row *row = &qc_op_rows[i];
        if (!(row->flags & QC_IS_INTERNAL) && strcmp(row->type, type) == 0 &&
            strcmp(row->domain, domain) == 0) {
            return i;
        }
    }
    return -1;
}

int qc_node_passed(const struct qc_node *n)
{
    unsigned flags = n->op >= 0 ? qc_op_rows[n->op].flags : 0;
    if ((flags & QC_IS_PASS) == 0 || n->n_outputs == 0) {
        return 0;
    }
    return (flags & QC_IS_PARTS) != 0 ? n->n_outputs : 1;
}

int qc_node_weights_axis(const struct qc_node *n, int rank)
{
    if (n->op == QC_OP_GEMM) {
        return qc_node_int(n, "transB", 0) != 0 ? 0 : 1;
    }
    if (n->op == QC_OP_CONV_TRANSPOSE) {
        return 1;
    }
    return n->op == QC_OP_MATMUL ? rank - 1 : 0;
}

int64_t qc_node_channels(const struct qc_node *n, const struct qc_shape *weights)
{
    int64_t own = weights->dim[qc_node_weights_axis(n, weights->rank)];
    return n->op == QC_OP_CONV_TRANSPOSE ? own * qc_node_int(n, "group", 1) : own;
}
