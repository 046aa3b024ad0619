/* One node on constants, everything row-major. */
#include <stdio.h>
#include <stdlib.h>

#include "quantcore/exec/exec_step.h"

enum qd_code qc_prepare_refuse(const struct qc_prepare *p, struct qd_error *err,
                               const char *reason)
{
    char shape[64] = "";
    const char *type = "no input";
    if (p->node->n_inputs > 0 && p->node->inputs[0] >= 0) {
        type = qc_dtype_name(p->in[0].dtype);
        (void)qc_shape_format(&p->in[0].shape, shape, sizeof(shape));
    }
    return qd_fail_on(err, QD_UNSUPPORTED, p->node->name, "%s '%s' (%s%s): %s", p->node->op_type,
                      p->node->name, type, shape, reason);
}

static struct qc_view constant_view(const struct qc_tensor *t)
{
    return (struct qc_view){
        .data = t->data, .dtype = t->dtype, .layout = QC_PLAIN, .shape = t->shape};
}

static enum qd_code eval_views(struct qc_graph *g, const struct qc_node *n,
                               struct qd_arena *arena, struct qc_view *in, struct qc_view *out,
                               const struct qc_tensor **ret_outputs, struct qd_error *err)
{
    for (int i = 0; i < n->n_inputs; i++) {
        const struct qc_value *v = n->inputs[i] >= 0 ? &g->values[n->inputs[i]] : NULL;
        if (v != NULL && v->constant != NULL) {
            in[i] = constant_view(v->constant);
        } else if (v != NULL && n->op == QC_OP_SHAPE && v->shape_known) {
            in[i] = (struct qc_view){.dtype = v->dtype, .shape = v->shape};
        } else if (v != NULL) {
            return qd_fail_on(err, QD_INTERNAL, n->name, "%s '%s': input '%s' is no constant",
                              n->op_type, n->name, v->name);
        }
    }
    for (int i = 0; i < n->n_outputs; i++) {
        ret_outputs[i] = NULL;
        if (n->outputs[i] < 0) {
            continue;
        }
        const struct qc_value *v = &g->values[n->outputs[i]];
        struct qc_tensor *t;
        QD_TRY(qc_tensor_new(arena, v->dtype, &v->shape, &t, err));
        ret_outputs[i] = t;
        out[i] = constant_view(t);
    }
    return QD_OK;
}

static enum qd_code eval_step(const struct qc_prepare *p, const struct qc_view *out,
                              struct qd_error *err)
{
    struct qc_step step = {.n_inputs = p->node->n_inputs,
                           .n_outputs = p->node->n_outputs,
                           .inputs = p->node->inputs,
                           .outputs = p->node->outputs,
                           .kernels = p->kernels};
    QD_TRY(qc_exec_rows[p->node->op].prepare(p, &step, err));
    void *scratch = NULL;
    if (step.scratch_size > 0) {
        QD_TRY(qd_arena_alloc(p->arena, step.scratch_size, &scratch, err));
    }
    step.run(&step, p->in, out, scratch);
    return QD_OK;
}

enum qd_code qc_exec_eval_node(struct qc_graph *g, int node, struct qd_arena *arena,
                               const struct qc_tensor **ret_outputs, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[node];
    struct qc_kernels kernels;
    struct qc_view *in, *out;
    if (n->op < 0 || n->op >= QC_OP_COUNT || qc_exec_rows[n->op].prepare == NULL) {
        return qd_fail_on(err, QD_UNSUPPORTED, n->name, "%s '%s': not executable", n->op_type,
                          n->name);
    }
    for (int i = 0; i < n->n_outputs; i++) {
        if (n->outputs[i] >= 0 && !g->values[n->outputs[i]].shape_known) {
            QD_TRY(qc_graph_infer_node(g, node, err));
            break;
        }
    }
    qc_kernels_init(&kernels, qc_isa_detect());
    QD_TRY(qd_arena_array(arena, (size_t)n->n_inputs, sizeof(struct qc_view), &in, err));
    QD_TRY(qd_arena_array(arena, (size_t)n->n_outputs, sizeof(struct qc_view), &out, err));
    QD_TRY(eval_views(g, n, arena, in, out, ret_outputs, err));
    struct qc_prepare p = {
        .graph = g, .node = n, .kernels = &kernels, .arena = arena, .in = in, .out = out};
    return eval_step(&p, out, err);
}
