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
