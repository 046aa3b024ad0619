#include "quantcore/quant/quantize_graph.h"

#include <stdio.h>
#include <string.h>

#include "quantcore/quant/quantize_params.h"

/* ---- QuantizeLinear and DequantizeLinear -------------------------------------------------- */

static enum qd_code quantize_value(struct qc_builder *b, int v, struct qd_error *err)
{
    const char *base = b->old->values[v].name;
    const char *name = NULL;
    const struct qc_qparams *pair = &b->pairs[v];
    uint8_t zero_point = (uint8_t)pair->zero_point; /* two's complement for s8 */
    enum qc_dtype dtype = pair->is_s8 ? QC_S8 : QC_U8;
    QD_TRY(qc_builder_constant(b, base, "_scale", QC_F32, 0, &pair->scale, &b->scale[v], err));
    QD_TRY(qc_builder_constant(b, base, "_zero_point", dtype, 0, &zero_point, &b->zero_point[v],
                               err));
    QD_TRY(qc_builder_name(b, base, "_quantized", &name, err));
    return qc_builder_convert(b, QC_OP_QUANTIZE_LINEAR, name, name, v, b->scale[v],
                              b->zero_point[v], -1, &b->result->quantized[v], err);
}

/* One more use of a quantized value. output_name: the graph output's own name, or NULL. */
static enum qd_code dequantize_value(struct qc_builder *b, int v, const char *output_name, int *ret,
                                     struct qd_error *err)
{
    const char *name = NULL;
    int use = ++b->n_uses[v];
    char suffix[40] = "_dequantized";
    if (use > 1) {
        (void)snprintf(suffix, sizeof(suffix), "_dequantized_%d", use);
    }
    QD_TRY(qc_builder_name(b, b->old->values[v].name, suffix, &name, err));
    return qc_builder_convert(b, QC_OP_DEQUANTIZE_LINEAR, name,
                              output_name != NULL ? output_name : name, b->result->quantized[v],
                              b->scale[v], b->zero_point[v], -1, ret, err);
}

/* ---- what a node reads -------------------------------------------------------------------- */

static bool made_by_integers(const struct qc_builder *b, int v)
{
    int p = b->old->values[v].producer;
    return p >= 0 && b->plan->integer[p];
}

static bool is_data_input(const struct qc_node *n, int k)
{
    return k == 0 || n->op == QC_OP_ADD || n->op == QC_OP_MUL || n->op == QC_OP_CONCAT;
}

/* Does input k of node i come out of a DequantizeLinear? */
static bool reads_dequantized(const struct qc_builder *b, int i, int k)
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
    bool has_form = (qc_op_rows[n->op].flags & (QC_IS_QUANT | QC_IS_TABLE)) != 0;
    bool looks_integer = qc_is_product(n) || (b->plan->excluded[i] && has_form);
    return (made_by_integers(b, v) || qc_plan_is_imported(b->plan, v)) &&
           !(looks_integer && feeds_q);
}

static void find_readers(struct qc_builder *b)
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

/* ---- nodes -------------------------------------------------------------------------------- */

/* Q(clamp(x)) = clamp(Q(x), Q(lo), Q(hi)): nothing is left to clamp when the ends are the ends of
 * the codes. A reader in front of Q would miss the clamp. */
static bool clamp_is_implied(const struct qc_builder *b, int i, const struct qc_clamp *clamp)
{
    int v = b->old->nodes[i].outputs[0];
    bool quantized = b->plan->integer[i] || (v >= 0 && qc_plan_is_imported(b->plan, v));
    if (!quantized || b->plan->group[v] < 0 || b->read_as_f32[v]) {
        return false;
    }
    const struct qc_qparams *p = &b->pairs[v];
    int32_t lo = qc_code_min(p);
    int32_t hi = qc_code_max(p);
    return qc_quantize_value(clamp->lo, p->scale, p->zero_point, lo, hi) == lo &&
           qc_quantize_value(clamp->hi, p->scale, p->zero_point, lo, hi) == hi;
}

/* An output whose node runs on integers, or which the model had quantized: its value is renamed, the
 * last DequantizeLinear of it takes over the name. */
static bool output_moves(const struct qc_builder *b, int v)
{
    return b->plan->group[v] >= 0 && b->old->values[v].producer >= 0 &&
           (made_by_integers(b, v) || qc_plan_is_imported(b->plan, v));
}

/* All readers may have asked for the f32 result. */
static bool needs_quantize(const struct qc_builder *b, int v)
{
    return b->plan->group[v] >= 0 &&
           (b->read_as_u8[v] || (qc_graph_is_output(b->old, v) && output_moves(b, v)));
}

static enum qd_code copy_node(struct qc_builder *b, int i, struct qd_error *err)
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
        QD_TRY(qc_builder_add_parameters(b, i, &weights, &bias, err));
        inputs[1] = weights;
        n_inputs = bias >= 0 && n_inputs < 3 ? 3 : n_inputs;
        if (bias >= 0) {
            inputs[2] = bias;
        }
    } else {
        QD_TRY(qc_builder_restore_constants(b, from, inputs, err));
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

static enum qd_code copy_header(struct qc_builder *b, struct qd_error *err)
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
static enum qd_code rename_outputs(struct qc_builder *b, struct qd_error *err)
{
    for (int i = 0; i < b->old->n_outputs; i++) {
        int v = b->old->outputs[i].value;
        if (output_moves(b, v) && b->g->values[v].name == b->old->values[v].name) {
            const char *name = NULL;
            QD_TRY(qc_builder_name(b, b->old->values[v].name, "_float", &name, err));
            b->g->values[v].name = name;
        }
    }
    return QD_OK;
}

static enum qd_code finish_outputs(struct qc_builder *b, struct qd_error *err)
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

static enum qd_code new_builder(struct qc_builder *b, struct qd_error *err)
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
    struct qc_builder b = {.plan = plan, .old = plan->graph, .pairs = pairs, .arena = arena,
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
