#include "quantcore/quant/quantize_rewrite.h"

#include <string.h>

#include "quantcore/quant/bias_correction.h"
#include "quantcore/quant/quantize_plan.h"

static enum qd_code copy_header(struct qc_rewrite *r, struct qd_error *err)
{
    const struct qc_graph *old = r->old;
    struct qc_graph *g = NULL;
    QD_TRY(qc_graph_new(r->arena, &g, err));
    *g = *old;
    g->arena = r->arena;
    g->n_values = g->cap_values = g->n_nodes = g->cap_nodes = 0;
    g->values = NULL;
    g->nodes = NULL;
    r->graph = g;
    for (int v = 0; v < old->n_values; v++) {
        int index;
        QD_TRY(qc_graph_add_value(g, old->values[v].name, &index, err));
        g->values[index] = old->values[v];
        if (old->values[v].name != NULL) {
            QD_TRY(qc_name_set_add(&r->names, old->values[v].name, r->arena, err));
        }
    }
    return QD_OK;
}

enum qd_code qc_rewrite_new(const struct qc_graph *old, const struct qc_rewrite_options *options,
                            struct qd_arena *arena, struct qc_rewrite **ret, struct qd_error *err)
{
    struct qc_rewrite *r = NULL;
    size_t nodes = (size_t)old->n_nodes;
    QD_TRY(qd_arena_alloc(arena, sizeof(*r), &r, err));
    r->old = old;
    r->options = *options;
    r->arena = arena;
    QD_TRY(qd_arena_array(arena, nodes, sizeof(*r->reason), &r->reason, err));
    QD_TRY(qd_arena_array(arena, nodes, sizeof(*r->weights), &r->weights, err));
    QD_TRY(qc_name_set_init(&r->names, 2 * (size_t)old->n_values, arena, err));
    QD_TRY(qc_exclude_nodes(&options->exclude, old, arena, r->reason, err));
    QD_TRY(copy_header(r, err));
    *ret = r;
    return QD_OK;
}

/* ---- weights ------------------------------------------------------------------------------ */

const char *qc_rewrite_obstacle(const struct qc_rewrite *r, int i)
{
    const struct qc_node *n = &r->old->nodes[i];
    if (r->reason[i] != NULL) {
        return r->reason[i];
    }
    if (!qc_is_product(n)) {
        return "automatic: neither Conv, ConvTranspose, Gemm nor MatMul";
    }
    const struct qc_value *w = &r->old->values[n->inputs[1]];
    if (w->constant == NULL || w->producer >= 0 || w->symbolic_elements != 0 ||
        w->constant->dtype != QC_F32) {
        return "automatic: the weights are not f32 constants";
    }
    if (w->constant->shape.rank < 2 || qc_shape_elements(&w->constant->shape) == 0) {
        return "automatic: the weights are a vector";
    }
    return NULL;
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

/* The model's own codes in the quantizer's terms; false when they have another form. */
static bool take_imported(const struct qc_rewrite *r, const struct qc_node *n,
                          struct qc_quantized_weights *ret)
{
    const struct qc_imported_constant *c =
        qc_import_constant(r->options.import, r->old, n->inputs[1]);
    if (c == NULL) {
        return false;
    }
    const struct qc_tensor *code = r->old->values[c->code].constant;
    const struct qc_tensor *scale = r->old->values[c->scale].constant;
    if (code->dtype != QC_S8 || c->block > 0 || scale->dtype != QC_F32 || !all_zero(r->old, c->zero_point) ||
        (c->axis >= 0 && c->axis != qc_weights_axis(n, c->real))) {
        return false;
    }
    *ret = (struct qc_quantized_weights){.source = c->real,
                                         .q = code,
                                         .axis = c->axis,
                                         .n_scales = (int)qc_shape_elements(&scale->shape),
                                         .scale = scale->data,
                                         .format = {.bits = QC_WEIGHT_BITS},
                                         .imported = true};
    return true;
}

static enum qd_code scaled(struct qc_rewrite *r, const struct qc_tensor *t, float factor,
                           const struct qc_tensor **ret, struct qd_error *err)
{
    struct qc_tensor *copy = NULL;
    *ret = t;
    if (factor == 1.0f) {
        return QD_OK;
    }
    QD_TRY(qc_tensor_new(r->arena, QC_F32, &t->shape, &copy, err));
    for (size_t i = 0; i < qc_shape_elements(&t->shape); i++) {
        ((float *)copy->data)[i] = factor * ((const float *)t->data)[i];
    }
    *ret = copy;
    return QD_OK;
}

enum qd_code qc_rewrite_quantize(struct qc_rewrite *r, int i, float factor, bool packed,
                                 struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    const struct qc_rewrite_options *o = &r->options;
    const struct qc_tensor *source = NULL;
    struct qc_quantized_weights *w = NULL;
    QD_TRY(qd_arena_alloc(r->arena, sizeof(*w), &w, err));
    r->weights[i] = w;
    if (factor == 1.0f && take_imported(r, n, w)) {
        return QD_OK;
    }
    bool per_channel = qc_is_convolution(n) ? o->weights_per_channel : o->dense_per_channel;
    QD_TRY(scaled(r, qc_node_constant(r->old, n, 1), factor, &source, err));
    const struct qc_weight_format format = {
        .form = qc_weight_form(o->weights_asymmetric, o->weights_full_range),
        .bits = o->weight_bits > 0 ? o->weight_bits : QC_WEIGHT_BITS,
        .block = o->block_size,
        .block_axis = qc_weights_input_axis(n, source),
        .packed = packed};
    enum qd_code code = qc_quantize_weights(
        source, per_channel ? qc_weights_axis(n, source) : -1, &format, r->arena, w, err);
    return code == QD_OK ? QD_OK
                         : qd_wrap(err, code, "quantize the weights '%s' of '%s'",
                                   r->old->values[n->inputs[1]].name, n->name);
}

/* Is there a bias to correct: none, or a constant with one number a channel. */
static bool bias_is_plain(const struct qc_rewrite *r, const struct qc_node *n, size_t n_out)
{
    if (n->n_inputs < 3 || n->inputs[2] < 0) {
        return true;
    }
    const struct qc_value *v = &r->old->values[n->inputs[2]];
    if (v->constant == NULL || v->producer >= 0 || v->constant->dtype != QC_F32 ||
        qc_import_constant(r->options.import, r->old, n->inputs[2]) != NULL) {
        return false;
    }
    const struct qc_shape *s = &v->constant->shape;
    size_t n_bias = qc_shape_elements(s);
    return n_bias == 1 ||
           (n_bias == n_out && s->rank > 0 && s->dim[s->rank - 1] == (int64_t)n_out);
}

/* The Add is copied later, and reads the corrected constant then. */
static enum qd_code correct_addend(const struct qc_rewrite *r, int i, const double *mean,
                                   struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    int v = qc_matmul_addend(r->old, r->options.import, n);
    return v < 0 ? QD_OK
                 : qc_bias_correct_addend(n, r->weights[i], mean,
                                          (size_t)r->options.n_channels[n->inputs[0]],
                                          r->old->values[v].constant, r->arena,
                                          &r->graph->values[v].constant, err);
}

enum qd_code qc_rewrite_correct(const struct qc_rewrite *r, int i, const struct qc_tensor **ret,
                                struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    const struct qc_quantized_weights *w = r->weights[i];
    const double *mean =
        r->options.channel_mean != NULL ? r->options.channel_mean[n->inputs[0]] : NULL;
    bool plain =
        qc_is_convolution(n) || (n->op == QC_OP_GEMM && qc_node_float(n, "alpha", 1.0f) == 1.0f &&
                                 qc_node_float(n, "beta", 1.0f) == 1.0f);
    *ret = NULL;
    if (mean == NULL || w == NULL || w->imported) {
        return QD_OK;
    }
    if (n->op == QC_OP_MATMUL) {
        return correct_addend(r, i, mean, err);
    }
    if (!plain) {
        return QD_OK;
    }
    struct qc_shape shape = {.rank = 1,
                             .dim = {qc_node_channels(n, &w->source->shape)}};
    size_t n_out = (size_t)shape.dim[0];
    const struct qc_tensor *given = qc_node_constant(r->old, n, 2);
    struct qc_tensor *t = NULL;
    double *bias = NULL;
    if (!bias_is_plain(r, n, n_out)) {
        return QD_OK;
    }
    QD_TRY(qd_arena_array(r->arena, n_out, sizeof(*bias), &bias, err));
    for (size_t c = 0; given != NULL && c < n_out; c++) {
        bias[c] = qc_tensor_f64(given, qc_shape_elements(&given->shape) == 1 ? 0 : c);
    }
    QD_TRY(qc_bias_correct(n, w, mean, (size_t)r->options.n_channels[n->inputs[0]], bias, err));
    QD_TRY(qc_tensor_new(r->arena, QC_F32, &shape, &t, err));
    for (size_t c = 0; c < n_out; c++) {
        ((float *)t->data)[c] = (float)bias[c];
    }
    *ret = t;
    return QD_OK;
}

/* ---- values and nodes --------------------------------------------------------------------- */

enum qd_code qc_rewrite_constant(struct qc_rewrite *r, const char *base, const char *suffix,
                                 const struct qc_tensor *tensor, int *ret, struct qd_error *err)
{
    const char *name = NULL;
    QD_TRY(qc_name_set_make(&r->names, base, suffix, r->arena, &name, err));
    return qc_graph_add_constant(r->graph, name, tensor, ret, err);
}

enum qd_code qc_rewrite_numbers(struct qc_rewrite *r, const char *base, const char *suffix,
                                enum qc_dtype dtype, const struct qc_shape *shape,
                                const void *data, int *ret, struct qd_error *err)
{
    struct qc_tensor *t = NULL;
    QD_TRY(qc_tensor_new(r->arena, dtype, shape, &t, err));
    memcpy(t->data, data, qc_shape_elements(shape) * qc_dtype_size(dtype));
    return qc_rewrite_constant(r, base, suffix, t, ret, err);
}

enum qd_code qc_rewrite_add(struct qc_rewrite *r, struct qc_rewrite_step *step,
                            struct qc_node **ret_node, struct qd_error *err)
{
    struct qc_node *n = NULL;
    for (int k = 0; k < step->n_outputs; k++) {
        if (step->outputs[k] < 0) {
            const char *name = NULL;
            QD_TRY(
                qc_name_set_make(&r->names, step->base, step->suffix[k], r->arena, &name, err));
            QD_TRY(qc_graph_add_value(r->graph, name, &step->outputs[k], err));
        }
    }
    const char *name = step->name != NULL ? step->name : r->graph->values[step->outputs[0]].name;
    QD_TRY(qc_graph_add_node(r->graph, name, step->op, step->n_inputs, step->n_outputs, &n, err));
    memcpy(n->inputs, step->inputs, (size_t)step->n_inputs * sizeof(int));
    memcpy(n->outputs, step->outputs, (size_t)step->n_outputs * sizeof(int));
    if (ret_node != NULL) {
        *ret_node = n;
    }
    return QD_OK;
}

enum qd_code qc_rewrite_set_int(struct qc_rewrite *r, struct qc_node *node, const char *name,
                                int64_t value, struct qd_error *err)
{
    struct qc_attr *all = NULL;
    size_t n = (size_t)node->n_attrs;
    QD_TRY(qd_arena_array(r->arena, n + 1, sizeof(*all), &all, err));
    if (n > 0) {
        memcpy(all, node->attrs, n * sizeof(*all));
    }
    all[n] = (struct qc_attr){.name = name, .type = QC_ATTR_INT, .i = value};
    node->attrs = all;
    node->n_attrs++;
    return QD_OK;
}

/* The DequantizeLinear that the model had around constant v makes it again, once for all of its
 * readers. */
static enum qd_code restore(struct qc_rewrite *r, const struct qc_imported_constant *c, int v,
                            struct qd_error *err)
{
    struct qc_node *n = NULL;
    struct qc_rewrite_step step = {.op = QC_OP_DEQUANTIZE_LINEAR,
                                   .n_inputs = c->zero_point >= 0 ? 3 : 2,
                                   .n_outputs = 1,
                                   .inputs = {c->code, c->scale, c->zero_point},
                                   .outputs = {v}};
    if (r->graph->values[v].constant == NULL) {
        return QD_OK;
    }
    r->graph->values[v].constant = NULL;
    QD_TRY(qc_rewrite_add(r, &step, &n, err));
    if (c->axis >= 0) {
        QD_TRY(qc_rewrite_set_int(r, n, "axis", c->axis, err));
    }
    return c->block > 0 ? qc_rewrite_set_int(r, n, "block_size", c->block, err) : QD_OK;
}

enum qd_code qc_rewrite_copy(struct qc_rewrite *r, int i, const int *inputs, int n_inputs,
                             struct qd_error *err)
{
    const struct qc_node *from = &r->old->nodes[i];
    struct qc_node *n = NULL;
    int *own = NULL;
    QD_TRY(qd_arena_copy(r->arena, inputs, (size_t)n_inputs * sizeof(int), &own, err));
    for (int k = 0; k < n_inputs; k++) {
        const struct qc_imported_constant *c =
            qc_import_constant(r->options.import, r->old, inputs[k]);
        if (c != NULL) {
            QD_TRY(restore(r, c, inputs[k], err));
        }
    }
    QD_TRY(qc_graph_add_node(r->graph, from->name, from->op, 0, from->n_outputs, &n, err));
    int *outputs = n->outputs;
    *n = *from;
    n->inputs = own;
    n->n_inputs = n_inputs;
    n->outputs = outputs;
    memcpy(outputs, from->outputs, (size_t)from->n_outputs * sizeof(int));
    return QD_OK;
}

enum qd_code qc_rewrite_finish(struct qc_rewrite *r, struct qd_error *err)
{
    for (int i = 0; i < r->old->n_nodes; i++) {
        bool executes = !r->old->nodes[i].shape_only;
        r->n_quantized += executes && r->reason[i][0] == '\0';
        r->n_f32 += executes && r->reason[i][0] != '\0';
    }
    return qc_graph_link(r->graph, err);
}
