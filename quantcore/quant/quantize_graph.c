#include "quantcore/quant/quantize_graph.h"

#include <stdio.h>
#include <string.h>

#include "quantcore/quant/bias_correction.h"
#include "quantcore/quant/quantize_bias.h"
#include "quantcore/quant/quantize_names.h"

struct builder {
    const struct qc_quantize_plan *plan;
    const struct qc_graph *old;
    const struct qc_qparams *pairs;
    const double *const *channel_mean;
    const int *n_channels;
    struct qd_arena *arena;
    struct qc_graph *g;
    struct qc_quantized_graph *result;
    int *scale, *zero_point; /* [old n_values] constants of a quantized value, -1 before */
    int *n_uses;             /* [old n_values] DequantizeLinear nodes so far */
    struct qc_name_set names; /* all values of the old graph and of the new one */
    bool *read_as_f32;       /* [old n_values] some node reads the value before its Q */
    bool *read_as_u8;        /* [old n_values] some node reads a DequantizeLinear of it */
};

/* ---- names and small constants ------------------------------------------------------------ */

static enum qd_code new_name(struct builder *b, const char *base, const char *suffix,
                             const char **ret, struct qd_error *err)
{
    return qc_name_set_make(&b->names, base, suffix, b->arena, ret, err);
}

/* A constant of n elements (rank 1), or one element of rank 0 when n is 0. data NULL: zeros. */
static enum qd_code add_constant(struct builder *b, const char *base, const char *suffix,
                                 enum qc_dtype dtype, size_t n, const void *data, int *ret,
                                 struct qd_error *err)
{
    struct qc_shape shape = {.rank = n > 0 ? 1 : 0, .dim = {(int64_t)n}};
    struct qc_tensor *t = NULL;
    const char *name = NULL;
    QD_TRY(new_name(b, base, suffix, &name, err));
    QD_TRY(qc_tensor_new(b->arena, dtype, &shape, &t, err));
    if (data != NULL) {
        memcpy(t->data, data, (n > 0 ? n : 1) * qc_dtype_size(dtype));
    }
    return qc_graph_add_constant(b->g, name, t, ret, err);
}

static enum qd_code add_tensor(struct builder *b, const char *base, const char *suffix,
                               const struct qc_tensor *t, int *ret, struct qd_error *err)
{
    const char *name = NULL;
    QD_TRY(new_name(b, base, suffix, &name, err));
    return qc_graph_add_constant(b->g, name, t, ret, err);
}

/* ---- QuantizeLinear and DequantizeLinear -------------------------------------------------- */

/* One node x, scale, zero_point -> a new value called `name` like x, of type dtype. */
static enum qd_code add_conversion(struct builder *b, int op, const char *node_name,
                                   const char *name, int x, int scale, int zero_point, int axis,
                                   int *ret, struct qd_error *err)
{
    struct qc_node *n = NULL;
    int out;
    QD_TRY(qc_graph_add_value(b->g, name, &out, err));
    struct qc_value *to = &b->g->values[out];
    const struct qc_value *from = &b->g->values[x];
    to->dtype = op == QC_OP_QUANTIZE_LINEAR ? QC_U8 : QC_F32;
    to->shape_known = from->shape_known;
    to->shape = from->shape;
    to->symbolic_dims = from->symbolic_dims;
    QD_TRY(qc_graph_add_node(b->g, node_name, op, 3, 1, &n, err));
    n->inputs[0] = x;
    n->inputs[1] = scale;
    n->inputs[2] = zero_point;
    n->outputs[0] = out;
    if (axis >= 0) {
        struct qc_attr *attr = NULL;
        QD_TRY(qd_arena_alloc(b->arena, sizeof(*attr), &attr, err));
        attr->name = "axis";
        attr->type = QC_ATTR_INT;
        attr->i = axis;
        n->attrs = attr;
        n->n_attrs = 1;
    }
    *ret = out;
    return QD_OK;
}

static enum qd_code quantize_value(struct builder *b, int v, struct qd_error *err)
{
    const char *base = b->old->values[v].name;
    const char *name = NULL;
    uint8_t zero_point = (uint8_t)b->pairs[v].zero_point;
    QD_TRY(add_constant(b, base, "_scale", QC_F32, 0, &b->pairs[v].scale, &b->scale[v], err));
    QD_TRY(add_constant(b, base, "_zero_point", QC_U8, 0, &zero_point, &b->zero_point[v], err));
    QD_TRY(new_name(b, base, "_quantized", &name, err));
    return add_conversion(b, QC_OP_QUANTIZE_LINEAR, name, name, v, b->scale[v], b->zero_point[v],
                          -1, &b->result->quantized[v], err);
}

/* One more use of a quantized value. output_name: the graph output's own name, or NULL. */
static enum qd_code dequantize_value(struct builder *b, int v, const char *output_name, int *ret,
                                     struct qd_error *err)
{
    const char *name = NULL;
    int use = ++b->n_uses[v];
    char suffix[40] = "_dequantized";
    if (use > 1) {
        (void)snprintf(suffix, sizeof(suffix), "_dequantized_%d", use);
    }
    QD_TRY(new_name(b, b->old->values[v].name, suffix, &name, err));
    return add_conversion(b, QC_OP_DEQUANTIZE_LINEAR, name,
                          output_name != NULL ? output_name : name, b->result->quantized[v],
                          b->scale[v], b->zero_point[v], -1, ret, err);
}

/* ---- what a node reads -------------------------------------------------------------------- */

static bool made_by_integers(const struct builder *b, int v)
{
    int p = b->old->values[v].producer;
    return p >= 0 && b->plan->integer[p];
}

static bool is_data_input(const struct qc_node *n, int k)
{
    return k == 0 || n->op == QC_OP_ADD || n->op == QC_OP_MUL || n->op == QC_OP_CONCAT;
}

/* Does input k of node i come out of a DequantizeLinear? */
static bool reads_dequantized(const struct builder *b, int i, int k)
{
    const struct qc_node *n = &b->old->nodes[i];
    int v = n->inputs[k];
    if (v < 0 || b->plan->group[v] < 0) {
        return false;
    }
    if (b->plan->integer[i] && is_data_input(n, k)) {
        return true;
    }
    bool feeds_q = n->outputs[0] >= 0 && b->plan->group[n->outputs[0]] >= 0;
    bool looks_integer = qc_is_product(n) ||
                         (b->plan->excluded[i] && (qc_op_rows[n->op].flags & QC_IS_QUANT) != 0);
    return made_by_integers(b, v) && !(looks_integer && feeds_q);
}

static void find_readers(struct builder *b)
{
    for (int i = 0; i < b->old->n_nodes; i++) {
        const struct qc_node *n = &b->old->nodes[i];
        for (int k = 0; k < n->n_inputs; k++) {
            if (n->inputs[k] >= 0) {
                bool *by = reads_dequantized(b, i, k) ? b->read_as_u8 : b->read_as_f32;
                by[n->inputs[k]] = true;
            }
        }
    }
}

/* ---- weights and bias --------------------------------------------------------------------- */

static size_t count_outputs(const struct qc_node *n, const struct qc_tensor *w)
{
    return (size_t)w->shape.dim[qc_weights_axis(n, w)];
}

/* The f32 bias, one value an output channel; zeros when the node has none. */
static void read_bias(const struct qc_tensor *t, double *bias, size_t n)
{
    for (size_t c = 0; t != NULL && c < n; c++) {
        bias[c] = qc_tensor_f64(t, qc_shape_elements(&t->shape) == 1 ? 0 : c);
    }
}

/* Corrects the bias for the codes of w and makes room for it; twice, because room changes the
 * codes of a few channels and with them the correction. */
static enum qd_code settle_bias(struct builder *b, const struct qc_node *n,
                                struct qc_quantized_weights *w, bool correct, double *bias,
                                size_t n_out, struct qd_error *err)
{
    const struct qc_tensor *given = qc_node_constant(b->old, n, 2);
    int x = n->inputs[0];
    for (int round = 0; round < 2; round++) {
        memset(bias, 0, n_out * sizeof(*bias));
        read_bias(given, bias, n_out);
        if (correct) {
            QD_TRY(qc_bias_correct(n, w, b->channel_mean[x], (size_t)b->n_channels[x], bias,
                                   err));
        }
        int raised = qc_bias_make_room(bias, n_out, b->pairs[x].scale, w);
        b->result->n_raised_scales += raised;
        if (raised == 0) {
            break;
        }
    }
    return QD_OK;
}

static enum qd_code add_bias(struct builder *b, const struct qc_node *n, const char *base,
                             const struct qc_quantized_weights *w, const double *bias,
                             size_t n_out, int *ret, struct qd_error *err)
{
    struct qc_quantized_bias q;
    int code, scale, zero_point;
    const char *name = NULL;
    QD_TRY(qc_quantize_bias(bias, n_out, b->pairs[n->inputs[0]].scale, w, b->arena, &q, err));
    size_t scales = q.n_scales > 1 || w->axis >= 0 ? (size_t)q.n_scales : 0;
    QD_TRY(add_tensor(b, base, "_quantized", q.q, &code, err));
    QD_TRY(add_constant(b, base, "_scale", QC_F32, scales, q.scale, &scale, err));
    QD_TRY(add_constant(b, base, "_zero_point", QC_S32, scales, NULL, &zero_point, err));
    QD_TRY(new_name(b, base, "_dequantized", &name, err));
    return add_conversion(b, QC_OP_DEQUANTIZE_LINEAR, name, name, code, scale, zero_point,
                          scales > 0 ? 0 : -1, ret, err);
}

static enum qd_code add_weights(struct builder *b, const char *base,
                                const struct qc_quantized_weights *w, int *ret,
                                struct qd_error *err)
{
    int code, scale, zero_point;
    const char *name = NULL;
    size_t scales = w->axis >= 0 ? (size_t)w->n_scales : 0;
    QD_TRY(add_tensor(b, base, "_quantized", w->q, &code, err));
    QD_TRY(add_constant(b, base, "_scale", QC_F32, scales, w->scale, &scale, err));
    QD_TRY(add_constant(b, base, "_zero_point", QC_S8, scales, NULL, &zero_point, err));
    QD_TRY(new_name(b, base, "_dequantized", &name, err));
    return add_conversion(b, QC_OP_DEQUANTIZE_LINEAR, name, name, code, scale, zero_point,
                          w->axis, ret, err);
}

/* The parameter's name, with the node's behind it when another node has used it already: trying
 * numbers would be quadratic in the nodes that share their weights. */
static enum qd_code parameter_base(struct builder *b, const struct qc_node *n, const char *name,
                                   const char **ret, struct qd_error *err)
{
    const char *probe = NULL;
    QD_TRY(qd_arena_printf(b->arena, &probe, err, "%s_quantized", name));
    if (qc_name_set_has(&b->names, probe)) {
        return qd_arena_printf(b->arena, ret, err, "%s_%s", name, n->name);
    }
    *ret = name;
    return QD_OK;
}

/* Weights and bias of integer node i; ret_bias -1 when it has and needs none. */
static enum qd_code add_parameters(struct builder *b, int i, int *ret_weights, int *ret_bias,
                                   struct qd_error *err)
{
    const struct qc_node *n = &b->old->nodes[i];
    const struct qc_quantize_options *o = &b->plan->options;
    const struct qc_tensor *source = qc_node_constant(b->old, n, 1);
    struct qc_quantized_weights *w = NULL;
    double *bias = NULL;
    int x = n->inputs[0];
    size_t n_out = count_outputs(n, source);
    bool has_bias = n->n_inputs > 2 && n->inputs[2] >= 0;
    bool correct = o->bias_correction && n->op != QC_OP_MATMUL && b->channel_mean != NULL &&
                   b->channel_mean[x] != NULL;
    QD_TRY(qd_arena_alloc(b->arena, sizeof(*w), &w, err));
    QD_TRY(qc_quantize_weights(source, o->weights_per_channel ? qc_weights_axis(n, source) : -1,
                               b->arena, w, err));
    b->result->weights[i] = w;
    b->result->n_dead_channels += w->n_dead;
    *ret_bias = -1;
    if (has_bias || correct) {
        const char *base = NULL;
        QD_TRY(qd_arena_array(b->arena, n_out, sizeof(*bias), &bias, err));
        QD_TRY(settle_bias(b, n, w, correct, bias, n_out, err));
        if (has_bias) {
            QD_TRY(parameter_base(b, n, b->old->values[n->inputs[2]].name, &base, err));
        } else {
            QD_TRY(qd_arena_printf(b->arena, &base, err, "%s_bias", n->name));
        }
        QD_TRY(add_bias(b, n, base, w, bias, n_out, ret_bias, err));
    }
    const char *w_base = NULL;
    QD_TRY(parameter_base(b, n, b->old->values[n->inputs[1]].name, &w_base, err));
    return add_weights(b, w_base, w, ret_weights, err);
}

/* ---- nodes -------------------------------------------------------------------------------- */

/* Q(clamp(x)) = clamp(Q(x), Q(lo), Q(hi)): nothing is left to clamp when the ends are the ends of
 * the codes. A reader in front of Q would miss the clamp. */
static bool clamp_is_implied(const struct builder *b, int i, const struct qc_clamp *clamp)
{
    int v = b->old->nodes[i].outputs[0];
    if (!b->plan->integer[i] || b->plan->group[v] < 0 || b->read_as_f32[v]) {
        return false;
    }
    const struct qc_qparams *p = &b->pairs[v];
    return qc_quantize_value(clamp->lo, p->scale, p->zero_point, 0, 255) == 0 &&
           qc_quantize_value(clamp->hi, p->scale, p->zero_point, 0, 255) == 255;
}

/* An output whose node runs on integers: its value is renamed, the last DequantizeLinear of it
 * takes over the name. */
static bool output_moves(const struct builder *b, int v)
{
    return b->plan->group[v] >= 0 && made_by_integers(b, v);
}

/* All readers may have asked for the f32 result. */
static bool needs_quantize(const struct builder *b, int v)
{
    return b->plan->group[v] >= 0 &&
           (b->read_as_u8[v] || (qc_graph_is_output(b->old, v) && output_moves(b, v)));
}

static enum qd_code copy_node(struct builder *b, int i, struct qd_error *err)
{
    const struct qc_node *from = &b->old->nodes[i];
    bool product = b->plan->integer[i] && qc_is_product(from);
    int weights = -1;
    int bias = -1;
    int n_inputs = from->n_inputs;
    int *inputs = NULL;
    struct qc_node *n = NULL;
    QD_TRY(qd_arena_array(b->arena, (size_t)n_inputs + 1, sizeof(*inputs), &inputs, err));
    for (int k = 0; k < n_inputs; k++) {
        inputs[k] = from->inputs[k];
        if (reads_dequantized(b, i, k)) {
            QD_TRY(dequantize_value(b, inputs[k], NULL, &inputs[k], err));
        }
    }
    if (product) {
        QD_TRY(add_parameters(b, i, &weights, &bias, err));
        inputs[1] = weights;
        n_inputs = bias >= 0 && n_inputs < 3 ? 3 : n_inputs;
        if (bias >= 0) {
            inputs[2] = bias;
        }
    }
    QD_TRY(qc_graph_add_node(b->g, from->name, from->op, n_inputs, from->n_outputs, &n, err));
    int *own_inputs = n->inputs;
    int *own_outputs = n->outputs;
    *n = *from;
    n->n_inputs = n_inputs;
    n->inputs = own_inputs;
    n->outputs = own_outputs;
    memcpy(n->inputs, inputs, (size_t)n_inputs * sizeof(*inputs));
    memcpy(n->outputs, from->outputs, (size_t)from->n_outputs * sizeof(*n->outputs));
    if (n->clamp.present && clamp_is_implied(b, i, &n->clamp)) {
        n->clamp.present = false;
    }
    b->result->node[i] = b->g->n_nodes - 1;
    for (int k = 0; k < from->n_outputs; k++) {
        if (from->outputs[k] >= 0 && needs_quantize(b, from->outputs[k])) {
            QD_TRY(quantize_value(b, from->outputs[k], err));
        }
    }
    return QD_OK;
}

/* ---- the graph around them ---------------------------------------------------------------- */

static enum qd_code copy_header(struct builder *b, struct qd_error *err)
{
    const struct qc_graph *old = b->old;
    struct qc_graph *g = NULL;
    QD_TRY(qc_graph_new(b->arena, &g, err));
    b->g = g;
    b->result->graph = g;
    struct qc_graph copy = *old;
    copy.arena = b->arena;
    copy.n_values = copy.cap_values = copy.n_nodes = copy.cap_nodes = 0;
    copy.values = NULL;
    copy.nodes = NULL;
    *g = copy;
    QD_TRY(qd_arena_copy(b->arena, old->outputs, (size_t)old->n_outputs * sizeof(*old->outputs),
                         &g->outputs, err));
    for (int v = 0; v < old->n_values; v++) {
        int index;
        QD_TRY(qc_graph_add_value(g, old->values[v].name, &index, err));
        g->values[index] = old->values[v];
        if (old->values[v].name != NULL) {
            QD_TRY(qc_name_set_add(&b->names, old->values[v].name, b->arena, err));
        }
    }
    return QD_OK;
}

/* Before the nodes: the names of the moved outputs; after them: their last DequantizeLinear. */
static enum qd_code rename_outputs(struct builder *b, struct qd_error *err)
{
    for (int i = 0; i < b->old->n_outputs; i++) {
        int v = b->old->outputs[i].value;
        if (output_moves(b, v) && b->g->values[v].name == b->old->values[v].name) {
            const char *name = NULL;
            QD_TRY(new_name(b, b->old->values[v].name, "_float", &name, err));
            b->g->values[v].name = name;
        }
    }
    return QD_OK;
}

static enum qd_code finish_outputs(struct builder *b, struct qd_error *err)
{
    for (int i = 0; i < b->old->n_outputs; i++) {
        int v = b->old->outputs[i].value;
        if (!output_moves(b, v)) {
            continue;
        }
        int first = 0;
        while (b->old->outputs[first].value != v) {
            first++;
        }
        if (first < i) { /* listed twice */
            b->g->outputs[i].value = b->g->outputs[first].value;
            continue;
        }
        QD_TRY(dequantize_value(b, v, b->old->values[v].name, &b->g->outputs[i].value, err));
    }
    return QD_OK;
}

static enum qd_code new_builder(struct builder *b, struct qd_error *err)
{
    size_t values = (size_t)b->old->n_values;
    size_t nodes = (size_t)b->old->n_nodes;
    struct qc_quantized_graph *r = NULL;
    QD_TRY(qd_arena_alloc(b->arena, sizeof(*r), &r, err));
    b->result = r;
    QD_TRY(qd_arena_array(b->arena, nodes, sizeof(*r->node), &r->node, err));
    QD_TRY(qd_arena_array(b->arena, nodes, sizeof(*r->weights), &r->weights, err));
    QD_TRY(qd_arena_array(b->arena, values, sizeof(*r->quantized), &r->quantized, err));
    QD_TRY(qd_arena_array(b->arena, values, sizeof(*b->scale), &b->scale, err));
    QD_TRY(qd_arena_array(b->arena, values, sizeof(*b->zero_point), &b->zero_point, err));
    QD_TRY(qd_arena_array(b->arena, values, sizeof(*b->n_uses), &b->n_uses, err));
    QD_TRY(qd_arena_array(b->arena, values, sizeof(*b->read_as_f32), &b->read_as_f32, err));
    QD_TRY(qd_arena_array(b->arena, values, sizeof(*b->read_as_u8), &b->read_as_u8, err));
    for (size_t v = 0; v < values; v++) {
        r->quantized[v] = -1;
    }
    return QD_OK;
}

enum qd_code qc_quantize_graph(const struct qc_quantize_plan *plan,
                               const struct qc_qparams *pairs, const double *const *channel_mean,
                               const int *n_channels, struct qd_arena *arena,
                               struct qc_quantized_graph **ret, struct qd_error *err)
{
    struct builder b = {.plan = plan, .old = plan->graph, .pairs = pairs, .arena = arena,
                        .channel_mean = channel_mean, .n_channels = n_channels};
    QD_TRY(new_builder(&b, err));
    QD_TRY(qc_name_set_init(&b.names, 8 * (size_t)b.old->n_values, arena, err));
    QD_TRY(copy_header(&b, err));
    QD_TRY(rename_outputs(&b, err));
    find_readers(&b);
    for (int i = 0; i < b.old->n_inputs; i++) {
        if (needs_quantize(&b, b.old->inputs[i].value)) {
            QD_TRY(quantize_value(&b, b.old->inputs[i].value, err));
        }
    }
    for (int i = 0; i < b.old->n_nodes; i++) {
        enum qd_code code = copy_node(&b, i, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "quantize node '%s'", b.old->nodes[i].name);
        }
    }
    QD_TRY(finish_outputs(&b, err));
    QD_TRY(qc_graph_link(b.g, err));
    *ret = b.result;
    return QD_OK;
}
