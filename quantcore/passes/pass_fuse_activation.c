#include "quantcore/passes/pass_fuse_activation.h"

#include <math.h>

#include "quantcore/graph/op_table.h"
#include "quantcore/passes/pass_edit.h"

/* A bound of Clip; false when it is data, or not one f32 number. */
static bool read_bound(const struct qc_graph *g, const struct qc_node *n, int i, float absent,
                       float *ret)
{
    if (i >= n->n_inputs || n->inputs[i] < 0) {
        *ret = absent;
        return true;
    }
    const struct qc_tensor *t = qc_edit_initializer(g, n, i);
    if (t == NULL || qc_shape_elements(&t->shape) != 1) {
        return false;
    }
    *ret = ((const float *)t->data)[0];
    return true;
}

static bool read_clamp(const struct qc_graph *g, const struct qc_node *n, struct qc_clamp *ret)
{
    struct qc_clamp c = {.present = true, .lo = 0.0f, .hi = INFINITY};
    if (n->op == QC_OP_CLIP && (!read_bound(g, n, 1, -INFINITY, &c.lo) ||
                                !read_bound(g, n, 2, INFINITY, &c.hi) || !(c.lo <= c.hi))) {
        return false;
    }
    if (n->clamp.present) {
        return false;
    }
    *ret = c;
    return n->op == QC_OP_CLIP || n->op == QC_OP_RELU;
}

static bool takes_clamp(const struct qc_graph *g, const struct qc_node *n)
{
    return (n->op == QC_OP_CONV || n->op == QC_OP_CONV_TRANSPOSE || n->op == QC_OP_GEMM ||
            n->op == QC_OP_MATMUL || n->op == QC_OP_ADD || n->op == QC_OP_MUL) &&
           g->values[n->outputs[0]].dtype == QC_F32;
}

static float limit(float x, const struct qc_clamp *c)
{
    return fminf(fmaxf(x, c->lo), c->hi);
}

static void fuse(const struct qc_edit *e, struct qc_node *n)
{
    struct qc_clamp c;
    struct qc_node *producer = qc_edit_sole_producer(e, n, 0);
    if (producer == NULL || !takes_clamp(e->g, producer) || !read_clamp(e->g, n, &c)) {
        return;
    }
    if (producer->clamp.present) {
        c.lo = limit(producer->clamp.lo, &c);
        c.hi = limit(producer->clamp.hi, &c);
    }
    producer->clamp = c;
    qc_edit_merge(e->g, producer, n);
}

enum qd_code qc_pass_fuse_activation(struct qc_graph *g, struct qd_error *err)
{
    struct qc_edit edit;
    QD_TRY(qc_edit_init(&edit, g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        if ((n->op == QC_OP_RELU || n->op == QC_OP_CLIP) && n->n_outputs > 0) {
            fuse(&edit, n);
        }
    }
    return qc_graph_sweep(g, err);
}
