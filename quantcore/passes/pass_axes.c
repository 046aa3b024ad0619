#include "quantcore/passes/pass_axes.h"

#include <math.h>
#include <string.h>

#include "quantcore/graph/op_table.h"

/* Input i when it is a constant of every batch and not empty. */
static const struct qc_tensor *fixed(const struct qc_graph *g, const struct qc_node *n, int i)
{
    const struct qc_tensor *t = qc_node_constant(g, n, i);
    bool usable = t != NULL && g->values[n->inputs[i]].symbolic_elements == 0 &&
                  qc_shape_elements(&t->shape) > 0;
    return usable ? t : NULL;
}

static int64_t from_front(int64_t axis, int rank)
{
    return axis < 0 ? axis + rank : axis;
}

static enum qd_code pad_all(const struct qc_edit *e, struct qc_node *n, struct qd_error *err)
{
    const struct qc_tensor *pads = fixed(e->g, n, 1), *axes = fixed(e->g, n, 3);
    int rank = e->g->values[n->inputs[0]].shape.rank;
    struct qc_shape shape = {.rank = 1, .dim = {2 * rank}};
    struct qc_tensor *all = NULL;
    if (pads == NULL || axes == NULL) {
        return QD_OK;
    }
    QD_TRY(qc_tensor_new(e->g->arena, QC_S64, &shape, &all, err));
    int64_t *to = all->data;
    size_t count = qc_shape_elements(&axes->shape);
    memset(to, 0, sizeof(*to) * 2 * (size_t)rank);
    for (size_t i = 0; i < count; i++) { /* inference has checked them */
        int64_t axis = from_front(qc_tensor_s64(axes, i), rank);
        to[axis] = qc_tensor_s64(pads, i);
        to[axis + rank] = qc_tensor_s64(pads, i + count);
    }
    n->n_inputs = 3;
    return qc_edit_set_initializer(e, n, 1, all, n->name, "pads", err);
}

/* Scales of all dims; false when the sizes do not come back from theirs. */
static bool scales_of_all(const struct qc_graph *g, const struct qc_node *n,
                          const struct qc_attr *axes, float *all)
{
    const struct qc_shape *x = &g->values[n->inputs[0]].shape;
    const struct qc_shape *y = &g->values[n->outputs[0]].shape;
    const struct qc_tensor *sizes = fixed(g, n, 3), *scales = fixed(g, n, 2);
    for (int d = 0; d < x->rank; d++) {
        all[d] = 1.0f;
    }
    for (size_t i = 0; i < axes->n; i++) {
        int64_t d = from_front(axes->ints[i], x->rank);
        float in = (float)x->dim[d];
        all[d] = sizes != NULL ? (float)y->dim[d] / in : (float)qc_tensor_f64(scales, i);
        float out = floorf(in * all[d]);
        if (!(out < 0x1p31f) || (int64_t)out != y->dim[d]) {
            return false;
        }
    }
    return true;
}

static enum qd_code resize_all(const struct qc_edit *e, struct qc_node *n, struct qd_error *err)
{
    const struct qc_attr *axes = qc_node_attr(n, "axes");
    int rank = e->g->values[n->inputs[0]].shape.rank;
    struct qc_shape shape = {.rank = 1, .dim = {rank}};
    struct qc_tensor *all = NULL;
    if (axes == NULL || (fixed(e->g, n, 2) == NULL && fixed(e->g, n, 3) == NULL)) {
        return QD_OK;
    }
    QD_TRY(qc_tensor_new(e->g->arena, QC_F32, &shape, &all, err));
    if (!scales_of_all(e->g, n, axes, all->data)) {
        return QD_OK;
    }
    QD_TRY(qc_edit_drop_attr(e->g, n, "axes", err));
    n->inputs[1] = -1; /* roi: two of an axis, of a coordinate mode that is not executed */
    n->n_inputs = 3;
    return qc_edit_set_initializer(e, n, 2, all, n->name, "scales", err);
}

enum qd_code qc_pass_all_axes(const struct qc_edit *e, struct qc_node *n, struct qd_error *err)
{
    bool inferred = n->n_outputs > 0 && n->outputs[0] >= 0 &&
                    e->g->values[n->outputs[0]].shape_known;
    return !inferred                ? QD_OK
           : n->op == QC_OP_PAD    ? pad_all(e, n, err)
           : n->op == QC_OP_RESIZE ? resize_all(e, n, err)
                                    : QD_OK;
}
