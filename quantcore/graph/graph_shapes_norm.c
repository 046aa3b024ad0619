#include <inttypes.h>

#include "quantcore/graph/graph_shapes.h"

/* Scale and bias broadcast to the dims from the axis on; mean and 1 / deviation have 1 there. */
enum qd_code qc_infer_layer_norm(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int axis = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_axis(c, qc_node_int(c->n, "axis", -1), x->shape.rank, &axis));
    struct qc_shape tail = {.rank = x->shape.rank - axis}, both;
    for (int i = 0; i < tail.rank; i++) {
        tail.dim[i] = x->shape.dim[axis + i];
    }
    for (int i = 1; i < c->n->n_inputs; i++) {
        const struct qc_value *p = qc_infer_optional(c, i);
        if (p != NULL && (!p->shape_known || !qc_shape_broadcast(&tail, &p->shape, &both) ||
                          !qc_shape_equal(&both, &tail))) {
            char sp[192], st[192];
            return qc_infer_fail(c, QD_INVALID, "parameter '%s' %s does not broadcast to %s",
                                 p->name, qc_shape_format(&p->shape, sp, sizeof sp),
                                 qc_shape_format(&tail, st, sizeof st));
        }
    }
    struct qc_shape rows = x->shape;
    for (int i = axis; i < rows.rank; i++) {
        rows.dim[i] = 1;
    }
    for (int i = 1; i < 3; i++) {
        QD_TRY(qc_infer_output(c, i, QC_F32, &rows, x->symbolic_dims & ((1u << axis) - 1)));
    }
    return qc_infer_output(c, 0, x->dtype, &x->shape, x->symbolic_dims);
}

/* InstanceNormalization, GroupNormalization: [N,C,…], one scale and bias a channel. */
enum qd_code qc_infer_channel_norm(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    bool groups = c->n->op == QC_OP_GROUP_NORMALIZATION;
    int64_t n = groups ? qc_node_int(c->n, "num_groups", 0) : 1;
    if (x->shape.rank < 3) {
        return qc_infer_fail(c, QD_INVALID, "input '%s' of rank %d has no spatial dims", x->name,
                             x->shape.rank);
    }
    if (n < 1 || x->shape.dim[1] % n != 0) {
        return qc_infer_fail(c, QD_INVALID,
                             "num_groups = %" PRId64 " does not divide %" PRId64 " channels", n,
                             x->shape.dim[1]);
    }
    QD_TRY(qc_infer_channel_parameters(c, 1, 2, x->shape.dim[1]));
    return qc_infer_output(c, 0, x->dtype, &x->shape, x->symbolic_dims);
}

enum qd_code qc_infer_lrn(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    int64_t size = qc_node_int(c->n, "size", 0);
    if (x->shape.rank < 2 || size < 1 || size > INT32_MAX) {
        return qc_infer_fail(c, QD_INVALID,
                             "size = %" PRId64 " is outside 1..%d, or rank %d is below 2", size,
                             INT32_MAX, x->shape.rank);
    }
    return qc_infer_output(c, 0, x->dtype, &x->shape, x->symbolic_dims);
}
