#include "quantcore/passes/pass_edit.h"

#include <string.h>

enum qd_code qc_edit_init(struct qc_edit *e, struct qc_graph *g, struct qd_error *err)
{
    int *uses = NULL;
    QD_TRY(qd_arena_array(g->arena, (size_t)g->n_values, sizeof *uses, &uses, err));
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            if (g->nodes[i].inputs[k] >= 0) {
                uses[g->nodes[i].inputs[k]]++;
            }
        }
    }
    for (int i = 0; i < g->n_outputs; i++) {
        uses[g->outputs[i].value]++;
    }
    *e = (struct qc_edit){.g = g, .n_values = g->n_values, .uses = uses};
    return QD_OK;
}

struct qc_node *qc_edit_sole_producer(const struct qc_edit *e, const struct qc_node *n, int i)
{
    if (i >= n->n_inputs || n->inputs[i] < 0 || n->inputs[i] >= e->n_values ||
        e->uses[n->inputs[i]] != 1 || qc_graph_is_output(e->g, n->inputs[i])) {
        return NULL;
    }
    int producer = e->g->values[n->inputs[i]].producer;
    if (producer < 0) {
        return NULL;
    }
    struct qc_node *p = &e->g->nodes[producer];
    return p->n_outputs > 0 && p->outputs[0] == n->inputs[i] ? p : NULL;
}

const struct qc_tensor *qc_edit_initializer(const struct qc_graph *g, const struct qc_node *n,
                                            int i)
{
    const struct qc_tensor *t = qc_node_constant(g, n, i);
    if (t == NULL || t->dtype != QC_F32) {
        return NULL;
    }
    const struct qc_value *v = &g->values[n->inputs[i]];
    return v->producer < 0 && v->symbolic_elements == 0 && v->symbolic_dims == 0 ? t : NULL;
}

/* "<base>_<suffix>", with a number when the model already has a value of that name. */
static enum qd_code fresh_name(struct qc_graph *g, const char *base, const char *suffix,
                               const char **ret, struct qd_error *err)
{
    QD_TRY(qd_arena_printf(g->arena, ret, err, "%s_%s", base, suffix));
    for (int k = 2; qc_graph_find_value(g, *ret) >= 0; k++) {
        QD_TRY(qd_arena_printf(g->arena, ret, err, "%s_%s_%d", base, suffix, k));
    }
    return QD_OK;
}

bool qc_edit_owns_initializer(const struct qc_edit *e, const struct qc_node *n, int i)
{
    int value = i < n->n_inputs ? n->inputs[i] : -1;
    return value >= 0 && value < e->n_values && e->uses[value] == 1 &&
           e->g->values[value].producer < 0 && e->g->values[value].constant != NULL;
}

enum qd_code qc_edit_set_initializer(const struct qc_edit *e, struct qc_node *n, int i,
                                     const struct qc_tensor *tensor, const char *base,
                                     const char *suffix, struct qd_error *err)
{
    struct qc_graph *g = e->g;
    int value = i < n->n_inputs ? n->inputs[i] : -1;
    if (qc_edit_owns_initializer(e, n, i)) {
        g->values[value].constant = tensor;
        g->values[value].dtype = tensor->dtype;
        g->values[value].shape = tensor->shape;
        return QD_OK;
    }
    const char *name = NULL;
    QD_TRY(fresh_name(g, base, suffix, &name, err));
    QD_TRY(qc_graph_add_constant(g, name, tensor, &value, err));
    if (i >= n->n_inputs) {
        int *inputs;
        QD_TRY(qd_arena_array(g->arena, (size_t)i + 1, sizeof *inputs, &inputs, err));
        memset(inputs, -1, ((size_t)i + 1) * sizeof *inputs);
        memcpy(inputs, n->inputs, (size_t)n->n_inputs * sizeof *inputs);
        n->inputs = inputs;
        n->n_inputs = i + 1;
    }
    n->inputs[i] = value;
    return QD_OK;
}

enum qd_code qc_edit_set_attr(struct qc_graph *g, struct qc_node *n, const struct qc_attr *attr,
                              struct qd_error *err)
{
    struct qc_attr *attrs = NULL;
    QD_TRY(qd_arena_array(g->arena, (size_t)n->n_attrs + 1, sizeof *attrs, &attrs, err));
    int count = 0;
    bool replaced = false;
    for (int i = 0; i < n->n_attrs; i++) {
        bool same = strcmp(n->attrs[i].name, attr->name) == 0;
        attrs[count++] = same ? *attr : n->attrs[i];
        replaced = replaced || same;
    }
    if (!replaced) {
        attrs[count++] = *attr;
    }
    n->attrs = attrs;
    n->n_attrs = count;
    return QD_OK;
}

enum qd_code qc_edit_drop_attr(struct qc_graph *g, struct qc_node *n, const char *name,
                               struct qd_error *err)
{
    struct qc_attr *attrs = NULL;
    int count = 0;
    QD_TRY(qd_arena_array(g->arena, (size_t)n->n_attrs, sizeof *attrs, &attrs, err));
    for (int i = 0; i < n->n_attrs; i++) {
        if (strcmp(n->attrs[i].name, name) != 0) {
            attrs[count++] = n->attrs[i];
        }
    }
    n->attrs = attrs;
    n->n_attrs = count;
    return QD_OK;
}

void qc_edit_merge(struct qc_graph *g, struct qc_node *producer, struct qc_node *n)
{
    producer->outputs[0] = n->outputs[0];
    g->values[n->outputs[0]].producer = (int)(producer - g->nodes);
    n->n_outputs = 0;
}
