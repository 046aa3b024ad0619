#include "quantcore/graph/graph.h"

#include <limits.h>
#include <string.h>

#include "quantcore/graph/op_table.h"

enum qd_code qc_graph_new(struct qd_arena *arena, struct qc_graph **ret, struct qd_error *err)
{
    struct qc_graph *g;
    QD_TRY(qd_arena_alloc(arena, sizeof *g, &g, err));
    g->arena = arena;
    g->name = "";
    *ret = g;
    return QD_OK;
}

/* Room for one more item of `size` bytes; the old array stays in the arena, so growth doubles. */
static enum qd_code grow(struct qd_arena *arena, void *array, int count, int *cap, size_t size,
                         struct qd_error *err)
{
    if (count < *cap) {
        return QD_OK;
    }
    if (*cap > INT_MAX / 2) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "graph has more than %d items", INT_MAX / 2);
    }
    int new_cap = *cap ? *cap * 2 : 32;
    void *fresh;
    QD_TRY(qd_arena_array(arena, (size_t)new_cap, size, &fresh, err));
    void *old;
    memcpy(&old, array, sizeof old);
    if (count > 0) {
        memcpy(fresh, old, (size_t)count * size);
    }
    memcpy(array, &fresh, sizeof fresh);
    *cap = new_cap;
    return QD_OK;
}

enum qd_code qc_graph_add_value(struct qc_graph *g, const char *name, int *ret_value,
                                struct qd_error *err)
{
    QD_TRY(grow(g->arena, &g->values, g->n_values, &g->cap_values, sizeof *g->values, err));
    g->values[g->n_values] = (struct qc_value){.name = name, .producer = -1};
    *ret_value = g->n_values++;
    return QD_OK;
}

enum qd_code qc_graph_add_node(struct qc_graph *g, const char *name, int op, int n_inputs,
                               int n_outputs, struct qc_node **ret_node, struct qd_error *err)
{
    if (op < 0 || op >= QC_OP_COUNT || n_inputs < 0 || n_outputs < 0) {
        return qd_fail(err, QD_INTERNAL, "node '%s': operator %d, %d inputs, %d outputs",
                       name ? name : "", op, n_inputs, n_outputs);
    }
    QD_TRY(grow(g->arena, &g->nodes, g->n_nodes, &g->cap_nodes, sizeof *g->nodes, err));
    struct qc_node n = {.name = name,
                        .op_type = qc_op_rows[op].type,
                        .domain = qc_op_rows[op].domain,
                        .op = op,
                        .n_inputs = n_inputs,
                        .n_outputs = n_outputs};
    if (name == NULL || name[0] == '\0') {
        QD_TRY(qd_arena_printf(g->arena, &n.name, err, "%s_%d", n.op_type, g->n_nodes));
    }
    QD_TRY(qd_arena_array(g->arena, (size_t)n_inputs, sizeof *n.inputs, &n.inputs, err));
    QD_TRY(qd_arena_array(g->arena, (size_t)n_outputs, sizeof *n.outputs, &n.outputs, err));
    for (int i = 0; i < n_inputs; i++) {
        n.inputs[i] = -1;
    }
    for (int i = 0; i < n_outputs; i++) {
        n.outputs[i] = -1;
    }
    g->nodes[g->n_nodes] = n;
    *ret_node = &g->nodes[g->n_nodes++];
    return QD_OK;
}

enum qd_code qc_graph_add_constant(struct qc_graph *g, const char *name,
                                   const struct qc_tensor *tensor, int *ret_value,
                                   struct qd_error *err)
{
    int value;
    QD_TRY(qc_graph_add_value(g, name, &value, err));
    struct qc_value *v = &g->values[value];
    v->constant = tensor;
    v->dtype = tensor->dtype;
    v->shape = tensor->shape;
    v->shape_known = true;
    *ret_value = value;
    return QD_OK;
}

int qc_graph_find_value(const struct qc_graph *g, const char *name)
{
    for (int i = 0; i < g->n_values; i++) {
        if (g->values[i].name != NULL && strcmp(g->values[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_input(const struct qc_graph *g, int value)
{
    for (int i = 0; i < g->n_inputs; i++) {
        if (g->inputs[i].value == value) {
            return true;
        }
    }
    return false;
}

static enum qd_code set_producers(struct qc_graph *g, struct qd_error *err)
{
    for (int v = 0; v < g->n_values; v++) {
        g->values[v].producer = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        for (int o = 0; o < n->n_outputs; o++) {
            int v = n->outputs[o];
            if (v < 0) {
                continue;
            }
            if (v >= g->n_values) {
                return qd_fail_on(err, QD_INTERNAL, n->name, "node '%s': output value %d of %d",
                                  n->name, v, g->n_values);
            }
            if (g->values[v].producer >= 0 || is_input(g, v)) {
                return qd_fail_on(
                    err, QD_INVALID, n->name, "node '%s': value '%s' is already produced by %s",
                    n->name, g->values[v].name,
                    g->values[v].producer >= 0 ? g->nodes[g->values[v].producer].name
                                               : "a graph input");
            }
            g->values[v].producer = i;
        }
    }
    return QD_OK;
}

static enum qd_code check_node_inputs(const struct qc_graph *g, int node, struct qd_error *err)
{
    const struct qc_node *n = &g->nodes[node];
    for (int i = 0; i < n->n_inputs; i++) {
        int v = n->inputs[i];
        if (v < 0) {
            continue;
        }
        if (v >= g->n_values) {
            return qd_fail_on(err, QD_INTERNAL, n->name, "node '%s': input value %d of %d",
                              n->name, v, g->n_values);
        }
        const struct qc_value *value = &g->values[v];
        if (value->producer >= node) {
            return qd_fail_on(err, QD_INVALID, n->name,
                              "node '%s': input '%s' is produced by the later node '%s': nodes "
                              "are not in topological order",
                              n->name, value->name, g->nodes[value->producer].name);
        }
        if (value->producer < 0 && value->constant == NULL && !is_input(g, v)) {
            return qd_fail_on(err, QD_INVALID, n->name,
                              "node '%s': input '%s' is not produced by any node", n->name,
                              value->name);
        }
    }
    return QD_OK;
}

enum qd_code qc_graph_link(struct qc_graph *g, struct qd_error *err)
{
    QD_TRY(set_producers(g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(check_node_inputs(g, i, err));
    }
    for (int i = 0; i < g->n_outputs; i++) {
        int v = g->outputs[i].value;
        if (v < 0 || v >= g->n_values) {
            return qd_fail(err, QD_INTERNAL, "graph output %d: value %d of %d", i, v,
                           g->n_values);
        }
        const struct qc_value *value = &g->values[v];
        if (value->producer < 0 && value->constant == NULL && !is_input(g, v)) {
            return qd_fail_on(err, QD_INVALID, value->name,
                              "graph output '%s' is not produced by any node", value->name);
        }
    }
    return QD_OK;
}

int qc_graph_count_uses(const struct qc_graph *g, int value)
{
    int uses = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            uses += g->nodes[i].inputs[k] == value;
        }
    }
    return uses;
}

bool qc_graph_is_output(const struct qc_graph *g, int value)
{
    for (int i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].value == value) {
            return true;
        }
    }
    return false;
}

void qc_graph_replace_uses(struct qc_graph *g, int from, int to)
{
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            if (g->nodes[i].inputs[k] == from) {
                g->nodes[i].inputs[k] = to;
            }
        }
    }
    for (int i = 0; i < g->n_outputs; i++) {
        if (g->outputs[i].value == from) {
            g->outputs[i].value = to;
        }
    }
}

enum qd_code qc_graph_sweep(struct qc_graph *g, struct qd_error *err)
{
    bool *live;
    QD_TRY(qd_arena_array(g->arena, (size_t)g->n_values, sizeof *live, &live, err));
    for (int i = 0; i < g->n_outputs; i++) {
        live[g->outputs[i].value] = true;
    }
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        struct qc_node *n = &g->nodes[i];
        bool used = false;
        for (int o = 0; o < n->n_outputs; o++) {
            used = used || (n->outputs[o] >= 0 && live[n->outputs[o]]);
        }
        if (!used) {
            n->n_outputs = 0;
            continue;
        }
        for (int k = 0; k < n->n_inputs; k++) {
            if (n->inputs[k] >= 0) {
                live[n->inputs[k]] = true;
            }
        }
    }
    int kept = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].n_outputs > 0) {
            g->nodes[kept++] = g->nodes[i];
        }
    }
    g->n_nodes = kept;
    return qc_graph_link(g, err);
}

const struct qc_attr *qc_node_attr(const struct qc_node *n, const char *name)
{
    for (int i = 0; i < n->n_attrs; i++) {
        if (strcmp(n->attrs[i].name, name) == 0) {
            return &n->attrs[i];
        }
    }
    return NULL;
}

int64_t qc_node_int(const struct qc_node *n, const char *name, int64_t fallback)
{
    const struct qc_attr *a = qc_node_attr(n, name);
    return a && a->type == QC_ATTR_INT ? a->i : fallback;
}

float qc_node_float(const struct qc_node *n, const char *name, float fallback)
{
    const struct qc_attr *a = qc_node_attr(n, name);
    return a && a->type == QC_ATTR_FLOAT ? a->f : fallback;
}

int qc_node_ints(const struct qc_node *n, const char *name, int64_t *out, int max)
{
    const struct qc_attr *a = qc_node_attr(n, name);
    if (a == NULL || a->type != QC_ATTR_INTS || max <= 0) {
        return 0;
    }
    int count = a->n < (size_t)max ? (int)a->n : max;
    if (count > 0) {
        memcpy(out, a->ints, (size_t)count * sizeof *out);
    }
    return count;
}

const char *qc_node_string(const struct qc_node *n, const char *name, const char *fallback)
{
    const struct qc_attr *a = qc_node_attr(n, name);
    return a && a->type == QC_ATTR_STRING && a->s.data ? (const char *)a->s.data : fallback;
}

const struct qc_tensor *qc_node_constant(const struct qc_graph *g, const struct qc_node *n, int i)
{
    if (i < 0 || i >= n->n_inputs || n->inputs[i] < 0) {
        return NULL;
    }
    return g->values[n->inputs[i]].constant;
}
