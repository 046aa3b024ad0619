#include "quantcore/integer/int_table.h"

#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec.h"

/* Longer chains are left in f32: no network has them. */
#define MAX_FOLD 32

/* The nodes of a function, once each. */
struct fold {
    int n, node[MAX_FOLD]; /* between the DequantizeLinear nodes and the QuantizeLinear */
    int n_dq, dq[MAX_FOLD];
    int source; /* the 8-bit value, -1 until found */
};

static bool insert(int *list, int *n, int node)
{
    for (int i = 0; i < *n; i++) {
        if (list[i] == node) {
            return true;
        }
    }
    if (*n == MAX_FOLD) {
        return false;
    }
    list[(*n)++] = node;
    return true;
}

static bool is_elementwise(const struct qc_node *n)
{
    return n->n_outputs == 1 && !n->shape_only &&
           ((qc_op_rows[n->op].flags & QC_IS_UNARY) != 0 || n->op == QC_OP_ADD ||
            n->op == QC_OP_SUB || n->op == QC_OP_MUL || n->op == QC_OP_DIV ||
            n->op == QC_OP_POW || n->op == QC_OP_MIN || n->op == QC_OP_MAX ||
            n->op == QC_OP_PRELU);
}

/* One input of a function's node: a number, the source, or another node of the function. */
static bool add_input(const struct qc_graph *g, int value, struct fold *f)
{
    if (value < 0) {
        return true;
    }
    const struct qc_value *v = &g->values[value];
    if (v->constant != NULL) {
        return v->dtype == QC_F32 && qc_shape_elements(&v->shape) == 1;
    }
    if (v->producer < 0 || v->dtype != QC_F32) {
        return false;
    }
    struct qc_int_params unused;
    const struct qc_node *dq = qc_int_dequantizer(g, value, &unused);
    if (dq != NULL) {
        bool same = f->source < 0 || f->source == dq->inputs[0];
        f->source = dq->inputs[0];
        return same && insert(f->dq, &f->n_dq, v->producer);
    }
    return is_elementwise(&g->nodes[v->producer]) && insert(f->node, &f->n, v->producer);
}

static int uses_by(const struct qc_node *n, int value)
{
    int uses = 0;
    for (int k = 0; k < n->n_inputs; k++) {
        uses += n->inputs[k] == value;
    }
    return uses;
}

/* Nobody else reads what lies between. */
static bool is_closed(const struct qc_graph *g, const struct fold *f, int end)
{
    for (int i = 0; i < f->n; i++) {
        int value = g->nodes[f->node[i]].outputs[0], uses = uses_by(&g->nodes[end], value);
        for (int k = 0; k < f->n; k++) {
            uses += uses_by(&g->nodes[f->node[k]], value);
        }
        if (qc_graph_is_output(g, value) || uses != qc_graph_count_uses(g, value)) {
            return false;
        }
    }
    return true;
}

/* Add and Mul of two quantized tensors have integer units. */
static bool is_binary_unit(const struct qc_graph *g, const struct fold *f)
{
    if (f->n != 1) {
        return false;
    }
    const struct qc_node *n = &g->nodes[f->node[0]];
    return (n->op == QC_OP_ADD || n->op == QC_OP_MUL) &&
           g->values[n->inputs[0]].constant == NULL && g->values[n->inputs[1]].constant == NULL;
}

static bool collect(const struct qc_graph *g, int end, struct fold *f)
{
    struct qc_int_params unused;
    const struct qc_node *q = &g->nodes[end];
    *f = (struct fold){.source = -1};
    if (!qc_int_per_tensor(g, q, &unused) || !add_input(g, q->inputs[0], f)) {
        return false;
    }
    for (int i = 0; i < f->n; i++) {
        const struct qc_node *n = &g->nodes[f->node[i]];
        for (int k = 0; k < n->n_inputs; k++) {
            if (!add_input(g, n->inputs[k], f)) {
                return false;
            }
        }
    }
    return f->source >= 0 && is_closed(g, f, end) && !is_binary_unit(g, f) &&
           qc_shape_equal(&g->values[f->source].shape, &g->values[q->outputs[0]].shape);
}

/* ---- evaluation: the graph's own values hold the 256 codes for a while ---- */

struct loan {
    int n, value[2 * MAX_FOLD + 3];
    struct qc_value old[2 * MAX_FOLD + 3];
};

static void borrow(struct qc_graph *g, struct loan *l, int value, const struct qc_tensor *t)
{
    struct qc_value *v = &g->values[value];
    l->value[l->n] = value;
    l->old[l->n++] = *v;
    v->constant = t;
    v->shape_known = false;
    if (t != NULL) {
        v->dtype = t->dtype;
        v->shape = t->shape;
        v->shape_known = true;
    }
    v->symbolic_dims = 0;
}

static void give_back(struct qc_graph *g, struct loan *l)
{
    while (l->n > 0) {
        l->n--;
        g->values[l->value[l->n]] = l->old[l->n];
    }
}

/* Every code in order of its byte. */
static enum qd_code all_codes(struct qc_graph *g, enum qc_dtype dtype, struct qc_tensor **ret,
                              struct qd_error *err)
{
    struct qc_shape shape = {.rank = 1, .dim = {256}};
    QD_TRY(qc_tensor_new(g->arena, dtype, &shape, ret, err));
    for (int i = 0; i < 256; i++) {
        ((uint8_t *)(*ret)->data)[i] = (uint8_t)i;
    }
    return QD_OK;
}

static enum qd_code evaluate(struct qc_graph *g, int node, struct loan *l,
                             const struct qc_tensor **ret, struct qd_error *err)
{
    const struct qc_tensor *y = NULL;
    int value = g->nodes[node].outputs[0];
    borrow(g, l, value, NULL);
    QD_TRY(qc_exec_eval_node(g, node, g->arena, &y, err));
    if (qc_shape_elements(&y->shape) != 256) {
        return qd_fail_on(err, QD_INTERNAL, g->nodes[node].name, "%s '%s' of 256 codes gave %zu",
                          g->nodes[node].op_type, g->nodes[node].name,
                          qc_shape_elements(&y->shape));
    }
    g->values[value].constant = y;
    *ret = y;
    return QD_OK;
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a < *(const int *)b ? -1 : 1;
}

static enum qd_code evaluate_all(struct qc_graph *g, int end, struct fold *f, struct loan *l,
                                 const struct qc_tensor **ret, struct qd_error *err)
{
    struct qc_tensor *codes = NULL;
    QD_TRY(all_codes(g, g->values[f->source].dtype, &codes, err));
    borrow(g, l, f->source, codes);
    for (int i = 0; i < f->n_dq; i++) {
        QD_TRY(evaluate(g, f->dq[i], l, ret, err));
    }
    qsort(f->node, (size_t)f->n, sizeof(f->node[0]), ascending); /* nodes stand in order */
    for (int i = 0; i < f->n; i++) {
        QD_TRY(evaluate(g, f->node[i], l, ret, err));
    }
    return evaluate(g, end, l, ret, err);
}

/* Node i becomes the table of `source`, once its values are themselves again. */
static enum qd_code become_table(struct qc_graph *g, int i, int source,
                                 const struct qc_tensor *result, struct qd_error *err)
{
    const char *name = NULL;
    struct qc_tensor *table = NULL;
    struct qc_shape shape = {.rank = 1, .dim = {256}};
    int inputs[2] = {source, -1};
    QD_TRY(qc_tensor_new(g->arena, result->dtype, &shape, &table, err));
    memcpy(table->data, result->data, 256);
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_table", g->nodes[i].name));
    QD_TRY(qc_graph_add_constant(g, name, table, &inputs[1], err));
    g->nodes[i].n_attrs = 0;
    return qc_int_become(g, i, QC_OP_Q_TABLE, inputs, 2, g->nodes[i].outputs[0], err);
}

enum qd_code qc_int_table(struct qc_graph *g, int i, bool *ret_done, int *ret_folded,
                          struct qd_error *err)
{
    struct fold f;
    struct loan loan = {.n = 0};
    const struct qc_tensor *result = NULL;
    *ret_done = false;
    *ret_folded = 0;
    if (g->nodes[i].op != QC_OP_QUANTIZE_LINEAR || !collect(g, i, &f)) {
        return QD_OK;
    }
    enum qd_code code = evaluate_all(g, i, &f, &loan, &result, err);
    give_back(g, &loan);
    QD_TRY(code);
    for (int k = 0; k < f.n; k++) {
        g->nodes[f.node[k]].n_outputs = 0;
    }
    *ret_done = true;
    *ret_folded = f.n;
    return become_table(g, i, f.source, result, err);
}

enum qd_code qc_int_table_requantize(struct qc_graph *g, int i, int q, int dq,
                                     struct qd_error *err)
{
    struct loan loan = {.n = 0};
    const struct qc_tensor *result = NULL;
    struct qc_tensor *codes = NULL;
    QD_TRY(all_codes(g, g->values[g->nodes[dq].inputs[0]].dtype, &codes, err));
    borrow(g, &loan, g->nodes[dq].inputs[0], codes);
    enum qd_code code = evaluate(g, dq, &loan, &result, err);
    if (code == QD_OK) {
        borrow(g, &loan, g->nodes[i].inputs[0], result);
        code = evaluate(g, i, &loan, &result, err);
    }
    give_back(g, &loan);
    QD_TRY(code);
    return become_table(g, i, q, result, err);
}
