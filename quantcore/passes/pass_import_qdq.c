#include "quantcore/passes/pass_import_qdq.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quantcore/exec/exec.h"
#include "quantcore/passes/pass.h"
#include "quantcore/passes/pass_simplify.h"

bool qc_is_quantized(const struct qc_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == QC_OP_QUANTIZE_LINEAR ||
            g->nodes[i].op == QC_OP_DEQUANTIZE_LINEAR) {
            return true;
        }
    }
    return false;
}

const struct qc_qparams *qc_import_pair(const struct qc_import *import, int value)
{
    if (import == NULL || value < 0 || value >= import->n_pair_values ||
        !(import->pair[value].scale > 0)) {
        return NULL;
    }
    return &import->pair[value];
}

const struct qc_imported_constant *qc_import_constant(const struct qc_import *import,
                                                      const struct qc_graph *g, int value)
{
    if (import == NULL || value < 0 || value >= import->n_constant_values) {
        return NULL;
    }
    const struct qc_imported_constant *c = &import->constant[value];
    return c->real != NULL && c->real == g->values[value].constant ? c : NULL;
}

/* ---- constants ---------------------------------------------------------------------------- */

static bool plain_constant(const struct qc_graph *g, int value)
{
    const struct qc_value *v = &g->values[value];
    return v->constant != NULL && v->producer < 0 && v->symbolic_elements == 0 &&
           v->symbolic_dims == 0;
}

/* Every scale that quantd computes with is a positive number. */
static enum qd_code check_scales(const struct qc_graph *g, const struct qc_node *n,
                                 struct qd_error *err)
{
    const struct qc_tensor *t = qc_node_constant(g, n, 1);
    for (size_t i = 0; t != NULL && i < qc_shape_elements(&t->shape); i++) {
        double scale = qc_tensor_f64(t, i);
        if (!(scale > 0) || isinf(scale)) {
            return qd_fail_on(err, QD_INVALID, n->name,
                              "%s '%s': scale %zu ('%s') is %g, it must be above 0 and finite",
                              n->op_type, n->name, i, g->values[n->inputs[1]].name, scale);
        }
    }
    return QD_OK;
}

static bool all_inputs_plain(const struct qc_graph *g, const struct qc_node *n)
{
    for (int k = 0; k < n->n_inputs; k++) {
        if (n->inputs[k] >= 0 && !plain_constant(g, n->inputs[k])) {
            return false;
        }
    }
    return n->n_inputs > 1 && n->n_outputs == 1 && n->outputs[0] >= 0 &&
           !qc_graph_is_output(g, n->outputs[0]);
}

/* Node i of constants becomes its result. */
static enum qd_code fold_node(struct qc_graph *g, int i, struct qd_error *err)
{
    const struct qc_tensor *out = NULL;
    QD_TRY(qc_exec_eval_node(g, i, g->arena, &out, err));
    struct qc_value *v = &g->values[g->nodes[i].outputs[0]];
    v->constant = out;
    v->dtype = out->dtype;
    v->shape = out->shape;
    v->shape_known = true;
    v->producer = -1;
    g->nodes[i].n_outputs = 0;
    return QD_OK;
}

static enum qd_code take_constant(struct qc_graph *g, int i, struct qc_import *import,
                                  struct qd_error *err)
{
    struct qc_node n = g->nodes[i];
    const struct qc_shape *shape = &g->values[n.inputs[0]].shape;
    int64_t axis = qc_node_int(&n, "axis", 1);
    QD_TRY(check_scales(g, &n, err));
    QD_TRY(fold_node(g, i, err));
    const struct qc_tensor *scale = g->values[n.inputs[1]].constant;
    bool single = qc_shape_elements(&scale->shape) == 1;
    import->constant[n.outputs[0]] = (struct qc_imported_constant){
        .real = g->values[n.outputs[0]].constant,
        .code = n.inputs[0],
        .scale = n.inputs[1],
        .zero_point = n.n_inputs > 2 ? n.inputs[2] : -1,
        .axis = single ? -1 : (int)(axis < 0 ? axis + shape->rank : axis),
        .block = single ? 0 : qc_node_int(&n, "block_size", 0)};
    import->n_constants++;
    return QD_OK;
}

/* Transpose(DequantizeLinear(q)) = DequantizeLinear(Transpose(q)), with the axis moved along. */
static enum qd_code transpose_constant(struct qc_graph *g, int i, struct qc_import *import,
                                       struct qd_error *err)
{
    struct qc_node *n = &g->nodes[i];
    struct qc_imported_constant c = import->constant[n->inputs[0]];
    int64_t perm[QC_MAX_RANK];
    int rank = g->values[n->inputs[0]].shape.rank;
    int real = n->inputs[0];
    int out = n->outputs[0];
    if (qc_node_ints(n, "perm", perm, QC_MAX_RANK) != rank) {
        for (int d = 0; d < rank; d++) {
            perm[d] = rank - 1 - d;
        }
    }
    int code = -1;
    const char *name = NULL;
    const struct qc_tensor *moved = NULL;
    n->inputs[0] = c.code;
    g->values[out].dtype = g->values[c.code].dtype;
    QD_TRY(qc_exec_eval_node(g, i, g->arena, &moved, err));
    g->values[out].dtype = QC_F32;
    n->inputs[0] = real;
    QD_TRY(fold_node(g, i, err));
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_transposed", g->values[c.code].name));
    QD_TRY(qc_graph_add_constant(g, name, moved, &code, err));
    for (int d = 0; d < rank && c.axis >= 0; d++) {
        if (perm[d] == c.axis) {
            c.axis = d;
            break;
        }
    }
    c.code = code;
    c.real = g->values[out].constant;
    import->constant[out] = c;
    return QD_OK;
}

enum qd_code qc_import_constants(struct qc_graph *g, struct qc_import *ret, struct qd_error *err)
{
    struct qc_import import = {.n_constant_values = g->n_values};
    QD_TRY(qd_arena_array(g->arena, (size_t)g->n_values, sizeof(*import.constant),
                          &import.constant, err));
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        bool q = n->op == QC_OP_QUANTIZE_LINEAR;
        bool dq = n->op == QC_OP_DEQUANTIZE_LINEAR;
        if ((q || dq) && all_inputs_plain(g, n)) {
            QD_TRY(q ? fold_node(g, i, err) : take_constant(g, i, &import, err));
        } else if (n->op == QC_OP_TRANSPOSE && n->n_outputs == 1 && n->outputs[0] >= 0 &&
                   !qc_graph_is_output(g, n->outputs[0]) &&
                   qc_import_constant(&import, g, n->inputs[0]) != NULL &&
                   import.constant[n->inputs[0]].block == 0) {
            QD_TRY(transpose_constant(g, i, &import, err));
        }
    }
    *ret = import;
    return qc_graph_sweep(g, err);
}

/* ---- constants that a pass has scaled ----------------------------------------------------- */

/* The scales with which the codes are the weights w that a pass has left, by each channel's
 * largest code; false when there is no positive one for all of a channel. at: room for
 * n_channels. */
static bool channel_scales(const struct qc_tensor *codes, const float *w, size_t inner,
                           size_t n_channels, size_t *at, float *ret)
{
    size_t n = qc_shape_elements(&codes->shape);
    for (size_t c = 0; c < n_channels; c++) {
        at[c] = c * inner;
    }
    for (size_t i = 0; i < n; i++) {
        size_t *largest = &at[i / inner % n_channels];
        if (fabs(qc_tensor_f64(codes, i)) > fabs(qc_tensor_f64(codes, *largest))) {
            *largest = i;
        }
    }
    for (size_t c = 0; c < n_channels; c++) {
        double code = qc_tensor_f64(codes, at[c]);
        ret[c] = code != 0 ? (float)((double)w[at[c]] / code) : 0.0f;
        if (!(ret[c] >= FLT_MIN) || isinf(ret[c])) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        double want = (double)ret[i / inner % n_channels] * qc_tensor_f64(codes, i);
        if (!(fabs((double)w[i] - want) <= 1e-5 * fabs(want))) {
            return false;
        }
    }
    return true;
}

static bool all_zero(const struct qc_graph *g, int value)
{
    const struct qc_tensor *t = value >= 0 ? g->values[value].constant : NULL;
    for (size_t i = 0; t != NULL && i < qc_shape_elements(&t->shape); i++) {
        if (qc_tensor_s64(t, i) != 0) {
            return false;
        }
    }
    return true;
}

/* The codes stay with other scales, as long as they have no zero point. The weights as they were
 * before may be written over already. */
static enum qd_code rescale(struct qc_graph *g, struct qc_imported_constant *c, int value,
                            int axis, struct qd_error *err)
{
    const struct qc_tensor *after = g->values[value].constant;
    const struct qc_tensor *codes = g->values[c->code].constant;
    struct qc_shape shape = {.rank = 1, .dim = {after->shape.dim[axis]}};
    size_t n = (size_t)shape.dim[0];
    size_t inner = 1;
    size_t *at = NULL;
    struct qc_tensor *scale = NULL;
    const char *name = NULL;
    if (!all_zero(g, c->zero_point) || c->block > 0 || (c->axis >= 0 && c->axis != axis)) {
        return QD_OK;
    }
    for (int d = axis + 1; d < after->shape.rank; d++) {
        inner *= (size_t)after->shape.dim[d];
    }
    QD_TRY(qc_tensor_new(g->arena, QC_F32, &shape, &scale, err));
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*at), &at, err));
    if (qc_shape_elements(&codes->shape) == 0 ||
        !channel_scales(codes, after->data, inner, n, at, scale->data)) {
        return QD_OK;
    }
    QD_TRY(qd_arena_printf(g->arena, &name, err, "%s_folded", g->values[c->scale].name));
    QD_TRY(qc_graph_add_constant(g, name, scale, &c->scale, err));
    c->axis = axis;
    c->zero_point = -1;
    c->real = after;
    return QD_OK;
}

/* Weights into which a BatchNormalization was folded: scaled a channel, the codes are the same.
 */
static enum qd_code rescale_constants(struct qc_graph *g, struct qc_import *import,
                                      struct qd_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        int v = n->n_inputs > 1 ? n->inputs[1] : -1;
        bool folds = n->op == QC_OP_CONV || n->op == QC_OP_GEMM || n->op == QC_OP_CONV_TRANSPOSE;
        if (!folds || v < 0 || v >= import->n_constant_values ||
            import->constant[v].real == NULL) {
            continue;
        }
        struct qc_imported_constant *c = &import->constant[v];
        const struct qc_tensor *w = g->values[v].constant;
        if (w != NULL && w != c->real && w->dtype == QC_F32 &&
            qc_shape_equal(&w->shape, &g->values[c->code].shape) && w->shape.rank > 1) {
            QD_TRY(rescale(g, c, v, qc_node_weights_axis(n, w->shape.rank), err));
        }
    }
    return QD_OK;
}

/* ---- activations -------------------------------------------------------------------------- */

struct strip {
    struct qc_graph *g;
    struct qc_import *import;
    int *alias;      /* [n_values] the value that stands for this one, itself at first */
    int *uses;       /* [n_values] by nodes */
    bool *is_output; /* [n_values] of the graph */
    int *matched;    /* [n_values] DequantizeLinear nodes with the pair of these codes */
    int *output_of;  /* [n_values] a graph output that such a node gives; -1: none, -2: several */
};

static int resolve(const struct strip *s, int value)
{
    while (value >= 0 && s->alias[value] != value) {
        value = s->alias[value];
    }
    return value;
}

/* The pair of a QuantizeLinear or DequantizeLinear node, when it is one that can be taken over.
 */
static bool read_pair(const struct qc_graph *g, const struct qc_node *n, enum qc_dtype code,
                      struct qc_qparams *ret)
{
    const struct qc_tensor *scale = qc_node_constant(g, n, 1);
    const struct qc_tensor *zp = qc_node_constant(g, n, 2);
    bool has_zp = n->n_inputs > 2 && n->inputs[2] >= 0;
    if (scale == NULL || scale->dtype != QC_F32 || qc_shape_elements(&scale->shape) != 1 ||
        (code != QC_U8 && code != QC_S8) || (has_zp && zp == NULL) ||
        (zp != NULL && (zp->dtype != code || qc_shape_elements(&zp->shape) != 1))) {
        return false;
    }
    ret->scale = *(const float *)scale->data;
    ret->zero_point = zp != NULL ? (int32_t)qc_tensor_s64(zp, 0) : 0;
    ret->is_s8 = code == QC_S8;
    return true;
}

static bool same_pair(const struct qc_qparams *a, const struct qc_qparams *b)
{
    return a->scale == b->scale && a->zero_point == b->zero_point && a->is_s8 == b->is_s8;
}

/* Node n as a QuantizeLinear whose pair can be taken over. */
static bool quantizes(const struct strip *s, const struct qc_node *n, struct qc_qparams *ret)
{
    return n->op == QC_OP_QUANTIZE_LINEAR && n->n_outputs == 1 && n->outputs[0] >= 0 &&
           n->n_inputs > 1 && n->inputs[0] >= 0 && s->g->values[n->inputs[0]].constant == NULL &&
           s->g->values[n->inputs[0]].dtype == QC_F32 &&
           read_pair(s->g, n, s->g->values[n->outputs[0]].dtype, ret);
}

static void count_uses(struct strip *s)
{
    struct qc_graph *g = s->g;
    for (int v = 0; v < g->n_values; v++) {
        s->alias[v] = v;
        s->output_of[v] = -1;
    }
    for (int i = 0; i < g->n_outputs; i++) {
        s->is_output[g->outputs[i].value] = true;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        for (int k = 0; k < n->n_inputs; k++) {
            if (n->inputs[k] >= 0) {
                s->uses[n->inputs[k]]++;
            }
        }
    }
}

/* Which DequantizeLinear nodes undo which codes. */
static void match_nodes(struct strip *s)
{
    struct qc_graph *g = s->g;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        struct qc_qparams q, dq;
        if (n->op != QC_OP_DEQUANTIZE_LINEAR || n->n_inputs < 2 || n->inputs[0] < 0 ||
            n->n_outputs != 1 || n->outputs[0] < 0) {
            continue;
        }
        int code = n->inputs[0];
        int producer = g->values[code].producer;
        if (producer < 0 || !quantizes(s, &g->nodes[producer], &q) ||
            !read_pair(g, n, g->values[code].dtype, &dq) || !same_pair(&q, &dq)) {
            continue;
        }
        s->matched[code]++;
        if (s->is_output[n->outputs[0]]) {
            s->output_of[code] = s->output_of[code] == -1 ? n->outputs[0] : -2;
        }
    }
}

/* The tensor in front of the codes takes over the name of a graph output behind them. */
static bool take_output_name(struct strip *s, int x, int output)
{
    struct qc_graph *g = s->g;
    int producer = g->values[x].producer;
    if (producer < 0 || s->is_output[x]) {
        return false;
    }
    struct qc_node *p = &g->nodes[producer];
    for (int k = 0; k < p->n_outputs; k++) {
        if (p->outputs[k] == x) {
            p->outputs[k] = output;
        }
    }
    g->values[output].producer = producer;
    s->alias[x] = output;
    return true;
}

/* Tools leave a Relu out in front of codes that begin at 0: the ends of the codes are part of
 * what the network computes. x_read is the tensor that QuantizeLinear reads. */
static void keep_saturation(struct strip *s, int x_read, const struct qc_qparams *pair)
{
    static const int ops[] = {QC_OP_CONV, QC_OP_CONV_TRANSPOSE, QC_OP_GEMM, QC_OP_MATMUL,
                              QC_OP_ADD,  QC_OP_SUB,            QC_OP_MUL,  QC_OP_DIV,
                              QC_OP_BATCH_NORMALIZATION};
    int producer = s->g->values[x_read].producer;
    if (producer < 0 || s->uses[x_read] != 1 || s->is_output[x_read]) {
        return; /* others read what is not saturated */
    }
    struct qc_clamp *c = &s->g->nodes[producer].clamp;
    float lo = pair->scale * (float)(qc_code_min(pair) - pair->zero_point);
    float hi = pair->scale * (float)(qc_code_max(pair) - pair->zero_point);
    for (size_t i = 0; i < QD_COUNT_OF(ops); i++) {
        if (s->g->nodes[producer].op == ops[i]) {
            float old_lo = c->present ? c->lo : -INFINITY;
            float old_hi = c->present ? c->hi : INFINITY;
            c->present = true;
            c->lo = fminf(fmaxf(old_lo, lo), hi);
            c->hi = fmaxf(fminf(old_hi, hi), lo);
        }
    }
}

static void strip_quantize(struct strip *s, struct qc_node *n)
{
    struct qc_qparams pair;
    if (!quantizes(s, n, &pair)) {
        return;
    }
    int code = n->outputs[0];
    int x = resolve(s, n->inputs[0]);
    const struct qc_qparams *known = qc_import_pair(s->import, x);
    if (s->matched[code] == 0 || s->matched[code] != s->uses[code] || s->is_output[code] ||
        (known != NULL && !same_pair(known, &pair)) || s->output_of[code] == -2) {
        return;
    }
    if (s->output_of[code] >= 0) {
        int output = s->output_of[code];
        if (!take_output_name(s, x, output)) {
            return;
        }
        s->import->pair[x].scale = 0;
        s->import->n_pairs -= known != NULL;
        known = NULL;
        x = output;
    }
    keep_saturation(s, n->inputs[0], &pair);
    s->import->n_pairs += known == NULL;
    s->import->pair[x] = pair;
    s->alias[code] = x; /* the DequantizeLinear behind sees that its codes are gone */
    n->n_outputs = 0;
}

static void strip_dequantize(struct strip *s, struct qc_node *n)
{
    int code = n->inputs[0];
    if (code < 0 || s->alias[code] == code || n->n_outputs != 1) {
        return;
    }
    int x = resolve(s, code);
    if (n->outputs[0] != x) {
        s->alias[n->outputs[0]] = x;
    }
    n->n_outputs = 0;
}

static void strip_nodes(struct strip *s)
{
    struct qc_graph *g = s->g;
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        if (n->op == QC_OP_QUANTIZE_LINEAR) {
            strip_quantize(s, n);
        } else if (n->op == QC_OP_DEQUANTIZE_LINEAR) {
            strip_dequantize(s, n);
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            g->nodes[i].inputs[k] = resolve(s, g->nodes[i].inputs[k]);
        }
    }
}

enum qd_code qc_import_activations(struct qc_graph *g, struct qc_import *import,
                                   struct qd_error *err)
{
    struct strip s = {.g = g, .import = import};
    size_t n = (size_t)g->n_values;
    QD_TRY(qc_graph_link(g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == QC_OP_QUANTIZE_LINEAR ||
            g->nodes[i].op == QC_OP_DEQUANTIZE_LINEAR) {
            QD_TRY(check_scales(g, &g->nodes[i], err));
        }
    }
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*s.alias), &s.alias, err));
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*s.uses), &s.uses, err));
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*s.is_output), &s.is_output, err));
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*s.matched), &s.matched, err));
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*s.output_of), &s.output_of, err));
    QD_TRY(qd_arena_array(g->arena, n, sizeof(*import->pair), &import->pair, err));
    import->n_pair_values = g->n_values;
    import->n_pairs = 0;
    count_uses(&s);
    match_nodes(&s);
    strip_nodes(&s);
    return qc_graph_sweep(g, err);
}

enum qd_code qc_passes_run_import(struct qc_graph *g, struct qc_import **ret_import,
                                  struct qd_error *err)
{
    struct qc_import *import = NULL;
    *ret_import = NULL;
    if (!qc_is_quantized(g)) {
        return qc_passes_run(g, err);
    }
    QD_TRY(qd_arena_alloc(g->arena, sizeof(*import), &import, err));
    QD_TRY(qc_pass_simplify(g, err));
    enum qd_code code = qc_import_constants(g, import, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "take over quantized weights");
    }
    QD_TRY(qc_passes_run(g, err));
    QD_TRY(rescale_constants(g, import, err));
    code = qc_import_activations(g, import, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "take over scales");
    }
    *ret_import = import;
    return QD_OK;
}
