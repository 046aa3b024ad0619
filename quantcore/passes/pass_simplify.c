#include "quantcore/passes/pass_simplify.h"

#include <string.h>

#include "quantcore/exec/exec.h"
#include "quantcore/passes/pass_axes.h"

struct simplify {
    struct qc_graph *g;
    qc_eval_fn *eval;
    struct qd_error *err;
    int *alias; /* [n_values] the value that stands for this one, itself at first */
    struct qc_edit uses;
};

static int resolve(const struct simplify *s, int value)
{
    while (value >= 0 && s->alias[value] != value) {
        value = s->alias[value];
    }
    return value;
}

static void resolve_inputs(const struct simplify *s, struct qc_node *n)
{
    for (int k = 0; k < n->n_inputs; k++) {
        n->inputs[k] = resolve(s, n->inputs[k]);
    }
}

/* --- folding -----------------------------------------------------------------------------------
 */

/* Output o of node i is `tensor`. The node goes when nothing in it follows the batch. */
static void set_folded(struct simplify *s, struct qc_node *n, int o,
                       const struct qc_tensor *tensor, uint64_t bits)
{
    struct qc_value *v = &s->g->values[n->outputs[o]];
    v->constant = tensor;
    v->dtype = tensor->dtype;
    v->shape = tensor->shape;
    v->shape_known = true;
    v->symbolic_elements = bits;
}

static void finish_fold(struct simplify *s, struct qc_node *n)
{
    bool keep = false;
    for (int o = 0; o < n->n_outputs; o++) {
        if (n->outputs[o] >= 0) {
            const struct qc_value *v = &s->g->values[n->outputs[o]];
            keep = keep || v->symbolic_elements != 0 || v->symbolic_dims != 0 ||
                   qc_graph_is_output(s->g, n->outputs[o]);
        }
    }
    if (keep) {
        n->shape_only = true;
        return;
    }
    for (int o = 0; o < n->n_outputs; o++) {
        if (n->outputs[o] >= 0) {
            s->g->values[n->outputs[o]].producer = -1;
        }
    }
    n->n_outputs = 0;
}

static enum qd_code vector_s64(struct simplify *s, const int64_t *data, size_t n, bool scalar,
                               const struct qc_tensor **ret)
{
    struct qc_shape shape = {.rank = scalar ? 0 : 1, .dim = {(int64_t)n}};
    struct qc_tensor *t;
    QD_TRY(qc_tensor_new(s->g->arena, QC_S64, &shape, &t, s->err));
    if (n > 0) {
        memcpy(t->data, data, n * sizeof *data);
    }
    *ret = t;
    return QD_OK;
}

static enum qd_code fold_constant(struct simplify *s, struct qc_node *n)
{
    const struct qc_tensor *tensor = NULL;
    for (int i = 0; i < n->n_attrs && tensor == NULL; i++) {
        const struct qc_attr *a = &n->attrs[i];
        bool one = a->type == QC_ATTR_INT || a->type == QC_ATTR_FLOAT;
        if (a->type == QC_ATTR_TENSOR) {
            tensor = a->tensor;
        } else if (a->type == QC_ATTR_INT || a->type == QC_ATTR_INTS) {
            QD_TRY(vector_s64(s, one ? &a->i : a->ints, one ? 1 : a->n, one, &tensor));
        } else if (a->type == QC_ATTR_FLOAT || a->type == QC_ATTR_FLOATS) {
            size_t count = one ? 1 : a->n;
            struct qc_shape shape = {.rank = one ? 0 : 1, .dim = {(int64_t)count}};
            struct qc_tensor *t;
            QD_TRY(qc_tensor_new(s->g->arena, QC_F32, &shape, &t, s->err));
            if (count > 0) {
                memcpy(t->data, one ? &a->f : a->floats, count * sizeof(float));
            }
            tensor = t;
        }
    }
    if (tensor == NULL) {
        return qd_fail_on(s->err, QD_UNSUPPORTED, n->name, "Constant '%s' has no numeric value",
                          n->name);
    }
    set_folded(s, n, 0, tensor, 0);
    finish_fold(s, n);
    return QD_OK;
}

static enum qd_code fold_shape(struct simplify *s, struct qc_node *n)
{
    const struct qc_value *x = &s->g->values[n->inputs[0]];
    int64_t count = s->g->values[n->outputs[0]].shape.dim[0];
    int64_t start = qc_node_int(n, "start", 0);
    start += start < 0 ? x->shape.rank : 0;
    start = start < 0 ? 0 : start > x->shape.rank ? x->shape.rank : start;
    const struct qc_tensor *tensor = NULL;
    QD_TRY(vector_s64(s, x->shape.dim + start, (size_t)count, false, &tensor));
    uint64_t bits = ((uint64_t)x->symbolic_dims >> start) & (((uint64_t)1 << count) - 1);
    set_folded(s, n, 0, tensor, bits);
    finish_fold(s, n);
    return QD_OK;
}

static bool moves_elements(int op)
{
    return op == QC_OP_GATHER || op == QC_OP_SLICE || op == QC_OP_CONCAT || op == QC_OP_SQUEEZE ||
           op == QC_OP_UNSQUEEZE || op == QC_OP_CAST || op == QC_OP_RESHAPE ||
           op == QC_OP_IDENTITY || op == QC_OP_FLATTEN || op == QC_OP_TRANSPOSE ||
           op == QC_OP_SPLIT;
}

/* A tensor like `like` with 1 where an element follows the batch and 0 elsewhere. */
static enum qd_code flag_tensor(struct simplify *s, const struct qc_value *v,
                                const struct qc_tensor **ret)
{
    struct qc_tensor *t;
    QD_TRY(qc_tensor_new(s->g->arena, v->constant->dtype, &v->constant->shape, &t, s->err));
    size_t count = qc_shape_elements(&t->shape);
    for (size_t i = 0; i < count; i++) {
        if (!(v->symbolic_elements >> (i < 63 ? i : 63) & 1)) {
            continue;
        }
        if (t->dtype == QC_S64) {
            ((int64_t *)t->data)[i] = 1;
        } else if (t->dtype == QC_S32) {
            ((int32_t *)t->data)[i] = 1;
        } else if (t->dtype == QC_F32) {
            ((float *)t->data)[i] = 1.0f;
        } else {
            t = NULL;
            break;
        }
    }
    *ret = t;
    return QD_OK;
}

/* Run the node on flags instead of values: where a flag arrives, an element that follows the
 * batch does. The bits of each output stay as they are (all) when the flags cannot be written or
 * run. */
static enum qd_code moved_bits(struct simplify *s, int node, uint64_t *bits)
{
    struct qc_node *n = &s->g->nodes[node];
    int data = n->op == QC_OP_CONCAT ? n->n_inputs : 1;
    const struct qc_tensor **saved, **out;
    QD_TRY(qd_arena_array(s->g->arena, (size_t)data * 2, sizeof *saved, &saved, s->err));
    QD_TRY(qd_arena_array(s->g->arena, (size_t)n->n_outputs, sizeof *out, &out, s->err));
    bool possible = true;
    for (int k = 0; k < data; k++) {
        saved[k] = s->g->values[n->inputs[k]].constant;
        QD_TRY(flag_tensor(s, &s->g->values[n->inputs[k]], &saved[data + k]));
        possible = possible && saved[data + k] != NULL;
    }
    if (!possible) {
        return QD_OK;
    }
    for (int k = 0; k < data; k++) {
        s->g->values[n->inputs[k]].constant = saved[data + k];
    }
    enum qd_code code = s->eval(s->g, node, s->g->arena, out, s->err);
    for (int k = 0; k < data; k++) {
        s->g->values[n->inputs[k]].constant = saved[k];
    }
    QD_TRY(code);
    for (int o = 0; o < n->n_outputs; o++) {
        bits[o] = 0;
        size_t count = qc_shape_elements(&out[o]->shape);
        for (size_t i = 0; i < count; i++) {
            if (qc_tensor_s64(out[o], i) != 0) {
                bits[o] |= (uint64_t)1 << (i < 63 ? i : 63);
            }
        }
    }
    return QD_OK;
}

static enum qd_code symbolic_bits(struct simplify *s, int node, uint64_t *ret)
{
    const struct qc_node *n = &s->g->nodes[node];
    int data = n->op == QC_OP_CONCAT ? n->n_inputs : 1;
    bool any = false, control = false;
    for (int k = 0; k < n->n_inputs; k++) {
        if (n->inputs[k] >= 0 && s->g->values[n->inputs[k]].symbolic_elements != 0) {
            any = true;
            control = control || k >= data;
        }
    }
    for (int o = 0; o < n->n_outputs; o++) {
        ret[o] = any ? UINT64_MAX : 0;
    }
    if (any && !control && moves_elements(n->op)) {
        return moved_bits(s, node, ret);
    }
    return QD_OK;
}

static bool foldable(const struct qc_graph *g, const struct qc_node *n)
{
    bool all_one_kind = n->n_outputs == 1 || qc_node_passed(n) == n->n_outputs;
    if (n->op == QC_OP_QUANTIZE_LINEAR || n->op == QC_OP_DEQUANTIZE_LINEAR || !all_one_kind ||
        n->outputs[0] < 0 || n->n_inputs < 1 || (qc_op_rows[n->op].flags & QC_IS_INTERNAL)) {
        return false;
    }
    for (int k = 0; k < n->n_inputs; k++) {
        if (n->inputs[k] >= 0 && g->values[n->inputs[k]].constant == NULL) {
            return false;
        }
    }
    return n->inputs[0] >= 0;
}

static enum qd_code fold(struct simplify *s, int node)
{
    struct qc_node *n = &s->g->nodes[node];
    if (n->outputs[0] < 0) {
        return QD_OK; /* an output without a name: the sweep takes it */
    }
    if (n->op == QC_OP_CONSTANT) {
        return fold_constant(s, n);
    }
    if (n->op == QC_OP_SHAPE) {
        return fold_shape(s, n);
    }
    if (!foldable(s->g, n)) {
        return QD_OK;
    }
    const struct qc_tensor **out = NULL;
    uint64_t *bits = NULL;
    size_t n_outputs = (size_t)n->n_outputs;
    QD_TRY(qd_arena_array(s->g->arena, n_outputs, sizeof *out, &out, s->err));
    QD_TRY(qd_arena_array(s->g->arena, n_outputs, sizeof *bits, &bits, s->err));
    enum qd_code code = s->eval(s->g, node, s->g->arena, out, s->err);
    if (code == QD_UNSUPPORTED) {
        return QD_OK;
    }
    QD_TRY(code);
    QD_TRY(symbolic_bits(s, node, bits));
    for (int o = 0; o < n->n_outputs; o++) {
        set_folded(s, n, o, out[o], bits[o]);
    }
    finish_fold(s, n);
    return QD_OK;
}

/* --- Identity, Dropout, Pad --------------------------------------------------------------------
 */

static bool passes_through(const struct simplify *s, const struct qc_node *n)
{
    if (n->n_outputs < 1 || n->outputs[0] < 0) {
        return false;
    }
    if (n->op == QC_OP_IDENTITY) {
        return true;
    }
    if (n->op != QC_OP_DROPOUT) {
        return false;
    }
    bool mask = n->n_outputs > 1 && n->outputs[1] >= 0 && s->uses.uses[n->outputs[1]] > 0;
    bool has_mode = n->n_inputs > 2 && n->inputs[2] >= 0;
    const struct qc_tensor *training = qc_node_constant(s->g, n, 2);
    bool trains = has_mode && (training == NULL || qc_shape_elements(&training->shape) != 1 ||
                               qc_tensor_s64(training, 0) != 0);
    return !mask && !trains;
}

static void bypass(struct simplify *s, struct qc_node *n)
{
    int x = n->inputs[0], y = n->outputs[0];
    if (!qc_graph_is_output(s->g, y)) {
        s->alias[y] = x;
        n->n_outputs = 0;
        return;
    }
    /* The output's name must live on: the producer of x produces y instead, and whoever used x
     * uses y. Not possible for a graph input, an initializer or another graph output. */
    int producer = s->g->values[x].producer;
    if (producer < 0 || s->g->values[x].constant != NULL || qc_graph_is_output(s->g, x)) {
        return;
    }
    struct qc_node *p = &s->g->nodes[producer];
    for (int o = 0; o < p->n_outputs; o++) {
        if (p->outputs[o] == x) {
            p->outputs[o] = y;
        }
    }
    s->g->values[y].producer = producer;
    s->alias[x] = y;
    n->n_outputs = 0;
}

/* ---- Split: all outputs have names, and their sizes stand in input 1 ---- */

static enum qd_code name_parts(struct qc_graph *g, struct qc_node *n, struct qd_error *err)
{
    for (int k = 0; k < n->n_outputs; k++) {
        const char *name = NULL;
        if (n->outputs[k] < 0) {
            QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_part_%d", n->name, k));
            QD_TRY(qc_graph_add_value(g, name, &n->outputs[k], err));
        }
    }
    return QD_OK;
}

static enum qd_code name_all_parts(struct qc_graph *g, struct qd_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == QC_OP_SPLIT) {
            QD_TRY(name_parts(g, &g->nodes[i], err));
        }
    }
    return QD_OK;
}

/* Equal parts have no size in opsets to 17 and need num_outputs from 18 on: sizes are in all. */
static enum qd_code size_parts(struct simplify *s, struct qc_node *n)
{
    struct qc_shape shape = {.rank = 1, .dim = {n->n_outputs}};
    struct qc_attr *axis = NULL;
    struct qc_tensor *t = NULL;
    if (n->op != QC_OP_SPLIT || n->n_outputs == 0 || (n->n_inputs > 1 && n->inputs[1] >= 0)) {
        return QD_OK;
    }
    int64_t at = qc_node_int(n, "axis", 0); /* inference has checked it */
    at += at < 0 ? s->g->values[n->inputs[0]].shape.rank : 0;
    QD_TRY(qc_tensor_new(s->g->arena, QC_S64, &shape, &t, s->err));
    for (int k = 0; k < n->n_outputs; k++) {
        ((int64_t *)t->data)[k] = s->g->values[n->outputs[k]].shape.dim[at];
    }
    QD_TRY(qd_arena_alloc(s->g->arena, sizeof *axis, &axis, s->err));
    *axis = (struct qc_attr){.name = "axis", .type = QC_ATTR_INT, .i = at};
    n->attrs = axis; /* without num_outputs */
    n->n_attrs = 1;
    return qc_edit_set_initializer(&s->uses, n, 1, t, n->name, "split", s->err);
}

/* Is n a Pad with zeros that only grows height and width; ret_pads: top, left, bottom, right. */
static bool is_zero_border(const struct qc_graph *g, const struct qc_node *n, int64_t ret_pads[4])
{
    const struct qc_tensor *pads = qc_node_constant(g, n, 1);
    const struct qc_tensor *value = qc_node_constant(g, n, 2);
    bool has_value = n->n_inputs > 2 && n->inputs[2] >= 0;
    if (n->op != QC_OP_PAD || strcmp(qc_node_string(n, "mode", "constant"), "constant") != 0 ||
        pads == NULL || qc_shape_elements(&pads->shape) != 8 ||
        g->values[n->inputs[1]].symbolic_elements != 0 ||
        (has_value && (value == NULL || qc_shape_elements(&value->shape) != 1 ||
                       qc_tensor_f64(value, 0) != 0))) {
        return false;
    }
    static const int spatial[4] = {2, 3, 6, 7}, other[4] = {0, 1, 4, 5};
    for (int i = 0; i < 4; i++) {
        ret_pads[i] = qc_tensor_s64(pads, (size_t)spatial[i]);
        if (ret_pads[i] < 0 || qc_tensor_s64(pads, (size_t)other[i]) != 0) {
            return false;
        }
    }
    return true;
}

static enum qd_code join_pad(struct qc_edit *e, struct qc_node *conv, struct qd_error *err)
{
    struct qc_node *pad = qc_edit_sole_producer(e, conv, 0);
    int64_t extra[4], own[4] = {0, 0, 0, 0}, *sum;
    const char *auto_pad = qc_node_string(conv, "auto_pad", "NOTSET");
    if (pad == NULL || !is_zero_border(e->g, pad, extra) || strncmp(auto_pad, "SAME", 4) == 0) {
        return QD_OK;
    }
    if (strcmp(auto_pad, "VALID") != 0) {
        (void)qc_node_ints(conv, "pads", own, 4);
    }
    QD_TRY(qd_arena_array(e->g->arena, 4, sizeof *sum, &sum, err));
    for (int i = 0; i < 4; i++) {
        if (__builtin_add_overflow(own[i], extra[i], &sum[i]) || sum[i] > INT32_MAX / 4) {
            return QD_OK;
        }
    }
    const struct qc_attr pads = {.name = "pads", .type = QC_ATTR_INTS, .n = 4, .ints = sum};
    QD_TRY(qc_edit_set_attr(e->g, conv, &pads, err));
    if (qc_node_attr(conv, "auto_pad") != NULL) {
        const struct qc_attr notset = {
            .name = "auto_pad", .type = QC_ATTR_STRING, .s = {(const uint8_t *)"NOTSET", 6}};
        QD_TRY(qc_edit_set_attr(e->g, conv, &notset, err));
    }
    conv->inputs[0] = pad->inputs[0];
    pad->n_outputs = 0;
    return QD_OK;
}

static enum qd_code join_pads(struct qc_graph *g, struct qd_error *err)
{
    struct qc_edit e;
    QD_TRY(qc_edit_init(&e, g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == QC_OP_CONV && g->nodes[i].n_outputs > 0) {
            QD_TRY(join_pad(&e, &g->nodes[i], err));
        }
    }
    return qc_graph_sweep(g, err);
}

enum qd_code qc_pass_simplify_with(struct qc_graph *g, qc_eval_fn *eval, struct qd_error *err)
{
    struct simplify s = {.g = g, .eval = eval, .err = err};
    QD_TRY(name_all_parts(g, err));
    QD_TRY(qc_graph_link(g, err));
    QD_TRY(qc_graph_bind_shapes(g, 1, err));
    QD_TRY(qd_arena_array(g->arena, (size_t)g->n_values, sizeof *s.alias, &s.alias, err));
    for (int v = 0; v < g->n_values; v++) {
        s.alias[v] = v;
    }
    QD_TRY(qc_edit_init(&s.uses, g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        resolve_inputs(&s, n);
        QD_TRY(qc_graph_infer_node(g, i, err));
        if (passes_through(&s, n)) {
            bypass(&s, n);
        }
        if (n->n_outputs > 0) {
            QD_TRY(fold(&s, i));
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        resolve_inputs(&s, &g->nodes[i]);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(size_parts(&s, &g->nodes[i]));
        QD_TRY(qc_pass_all_axes(&s.uses, &g->nodes[i], err));
    }
    QD_TRY(qc_graph_sweep(g, err));
    return join_pads(g, err);
}

enum qd_code qc_pass_simplify(struct qc_graph *g, struct qd_error *err)
{
    return qc_pass_simplify_with(g, qc_exec_eval_node, err);
}
