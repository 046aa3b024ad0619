#include "quantcore/quant/quantize_params.h"

#include <math.h>
#include <string.h>

#include "quantcore/quant/bias_correction.h"
#include "quantcore/quant/quantize_bias.h"

/* ---- names and small constants ------------------------------------------------------------ */

enum qd_code qc_builder_name(struct qc_builder *b, const char *base, const char *suffix,
                             const char **ret, struct qd_error *err)
{
    return qc_name_set_make(&b->names, base, suffix, b->arena, ret, err);
}

enum qd_code qc_builder_constant(struct qc_builder *b, const char *base, const char *suffix,
                                 enum qc_dtype dtype, size_t n, const void *data, int *ret,
                                 struct qd_error *err)
{
    struct qc_shape shape = {.rank = n > 0 ? 1 : 0, .dim = {(int64_t)n}};
    struct qc_tensor *t = NULL;
    const char *name = NULL;
    QD_TRY(qc_builder_name(b, base, suffix, &name, err));
    QD_TRY(qc_tensor_new(b->arena, dtype, &shape, &t, err));
    if (data != NULL) {
        memcpy(t->data, data, (n > 0 ? n : 1) * qc_dtype_size(dtype));
    }
    return qc_graph_add_constant(b->g, name, t, ret, err);
}

static enum qd_code add_tensor(struct qc_builder *b, const char *base, const char *suffix,
                               const struct qc_tensor *t, int *ret, struct qd_error *err)
{
    const char *name = NULL;
    QD_TRY(qc_builder_name(b, base, suffix, &name, err));
    return qc_graph_add_constant(b->g, name, t, ret, err);
}

enum qd_code qc_builder_convert(struct qc_builder *b, int op, const char *node_name,
                                const char *name, int x, int scale, int zero_point, int axis,
                                int *ret, struct qd_error *err)
{
    struct qc_node *n = NULL;
    int out;
    QD_TRY(qc_graph_add_value(b->g, name, &out, err));
    struct qc_value *to = &b->g->values[out];
    const struct qc_value *from = &b->g->values[x];
    to->dtype = op == QC_OP_QUANTIZE_LINEAR ? b->g->values[zero_point].dtype : QC_F32;
    to->shape_known = from->shape_known;
    to->shape = from->shape;
    to->symbolic_dims = from->symbolic_dims;
    QD_TRY(qc_graph_add_node(b->g, node_name, op, zero_point >= 0 ? 3 : 2, 1, &n, err));
    n->inputs[0] = x;
    n->inputs[1] = scale;
    if (zero_point >= 0) {
        n->inputs[2] = zero_point;
    }
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

/* ---- weights and biases that are f32 ------------------------------------------------------- */

static size_t count_outputs(const struct qc_node *n, const struct qc_tensor *w)
{
    return (size_t)qc_node_channels(n, &w->shape);
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
static enum qd_code settle_bias(struct qc_builder *b, const struct qc_node *n,
                                struct qc_quantized_weights *w, bool correct, double *bias,
                                size_t n_out, struct qd_error *err)
{
    const struct qc_tensor *given = qc_node_constant(b->old, n, 2);
    int x = n->inputs[0];
    for (int round = 0; round < 2; round++) {
        memset(bias, 0, n_out * sizeof(*bias));
        read_bias(given, bias, n_out);
        if (correct) {
            QD_TRY(
                qc_bias_correct(n, w, b->channel_mean[x], (size_t)b->n_channels[x], bias, err));
        }
        int raised = qc_bias_make_room(bias, n_out, b->pairs[x].scale, w);
        if (raised == 0) {
            break;
        }
        w->n_raised = raised > w->n_raised ? raised : w->n_raised;
    }
    return QD_OK;
}

static enum qd_code add_bias(struct qc_builder *b, const struct qc_node *n, const char *base,
                             const struct qc_quantized_weights *w, const double *bias,
                             size_t n_out, int *ret, struct qd_error *err)
{
    struct qc_quantized_bias q;
    int code, scale, zero_point;
    const char *name = NULL;
    QD_TRY(qc_quantize_bias(bias, n_out, b->pairs[n->inputs[0]].scale, w, b->arena, &q, err));
    size_t scales = q.n_scales > 1 || w->axis >= 0 ? (size_t)q.n_scales : 0;
    QD_TRY(add_tensor(b, base, "_quantized", q.q, &code, err));
    QD_TRY(qc_builder_constant(b, base, "_scale", QC_F32, scales, q.scale, &scale, err));
    QD_TRY(qc_builder_constant(b, base, "_zero_point", QC_S32, scales, NULL, &zero_point, err));
    QD_TRY(qc_builder_name(b, base, "_dequantized", &name, err));
    return qc_builder_convert(b, QC_OP_DEQUANTIZE_LINEAR, name, name, code, scale, zero_point,
                              scales > 0 ? 0 : -1, ret, err);
}

static enum qd_code add_weights(struct qc_builder *b, const char *base,
                                const struct qc_quantized_weights *w, int *ret,
                                struct qd_error *err)
{
    int code, scale, zero_point;
    const char *name = NULL;
    size_t scales = w->axis >= 0 ? (size_t)w->n_scales : 0;
    int8_t *zero_points = NULL;
    QD_TRY(qc_weights_zero_points(w, b->arena, &zero_points, err));
    QD_TRY(add_tensor(b, base, "_quantized", w->q, &code, err));
    QD_TRY(qc_builder_constant(b, base, "_scale", QC_F32, scales, w->scale, &scale, err));
    QD_TRY(qc_builder_constant(b, base, "_zero_point", QC_S8, scales, zero_points, &zero_point,
                               err));
    QD_TRY(qc_builder_name(b, base, "_dequantized", &name, err));
    return qc_builder_convert(b, QC_OP_DEQUANTIZE_LINEAR, name, name, code, scale, zero_point,
                              w->axis, ret, err);
}

/* The parameter's name, with the node's behind it when another node has used it already: trying
 * numbers would be quadratic in the nodes that share their weights. */
static enum qd_code parameter_base(struct qc_builder *b, const struct qc_node *n,
                                   const char *name, const char **ret, struct qd_error *err)
{
    const char *probe = NULL;
    QD_TRY(qd_arena_printf(b->arena, &probe, err, "%s_quantized", name));
    if (qc_name_set_has(&b->names, probe)) {
        return qd_arena_printf(b->arena, ret, err, "%s_%s", name, n->name);
    }
    *ret = name;
    return QD_OK;
}

/* ---- what the model had as integers -------------------------------------------------------- */

static const struct qc_imported_constant *imported(const struct qc_builder *b,
                                                   const struct qc_node *n, int k)
{
    return k < n->n_inputs ? qc_import_constant(b->plan->options.import, b->old, n->inputs[k])
                           : NULL;
}

/* Of the last node, which has an axis. */
static enum qd_code add_block_size(struct qc_builder *b, int64_t block, struct qd_error *err)
{
    struct qc_node *n = &b->g->nodes[b->g->n_nodes - 1];
    struct qc_attr *both = NULL;
    QD_TRY(qd_arena_array(b->arena, 2, sizeof(*both), &both, err));
    both[0] = n->attrs[0];
    both[1] = (struct qc_attr){.name = "block_size", .type = QC_ATTR_INT, .i = block};
    n->attrs = both;
    n->n_attrs = 2;
    return QD_OK;
}

/* The DequantizeLinear that the model had, with its own constants. */
static enum qd_code restore(struct qc_builder *b, const struct qc_imported_constant *c,
                            const char *base, int *ret, struct qd_error *err)
{
    const char *name = NULL;
    QD_TRY(qc_builder_name(b, base, "_dequantized", &name, err));
    QD_TRY(qc_builder_convert(b, QC_OP_DEQUANTIZE_LINEAR, name, name, c->code, c->scale,
                              c->zero_point, c->axis, ret, err));
    return c->block > 0 ? add_block_size(b, c->block, err) : QD_OK;
}

enum qd_code qc_builder_restore_constants(struct qc_builder *b, const struct qc_node *from,
                                          int *inputs, struct qd_error *err)
{
    for (int k = 0; k < from->n_inputs; k++) {
        const struct qc_imported_constant *c = imported(b, from, k);
        if (c != NULL) {
            QD_TRY(restore(b, c, b->old->values[from->inputs[k]].name, &inputs[k], err));
        }
    }
    return QD_OK;
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

/* Imported weights in the quantizer's own terms; *ret_fits is false when they have another form
 * (another axis). */
static enum qd_code as_weights(const struct qc_builder *b, const struct qc_node *n,
                               const struct qc_imported_constant *c, bool *ret_fits,
                               struct qc_quantized_weights *ret, struct qd_error *err)
{
    const struct qc_tensor *code = b->old->values[c->code].constant;
    const struct qc_tensor *scale = b->old->values[c->scale].constant;
    int32_t *zero_point = NULL;
    size_t n_scales = qc_shape_elements(&scale->shape);
    bool is_unsigned = code->dtype == QC_U8 || code->dtype == QC_U4;
    bool four_bits = code->dtype == QC_S4 || code->dtype == QC_U4;
    *ret_fits = (code->dtype == QC_S8 || is_unsigned || four_bits) && scale->dtype == QC_F32 &&
                c->block == 0 && (c->axis < 0 || c->axis == qc_weights_axis(n, c->real));
    if (!*ret_fits) {
        return QD_OK;
    }
    if (is_unsigned || !all_zero(b->old, c->zero_point)) { /* u8: NULL would say s8 */
        const struct qc_tensor *z =
            c->zero_point >= 0 ? b->old->values[c->zero_point].constant : NULL;
        QD_TRY(qd_arena_array(b->arena, n_scales, sizeof(*zero_point), &zero_point, err));
        for (size_t i = 0; z != NULL && i < n_scales; i++) {
            zero_point[i] =
                (int32_t)qc_tensor_s64(z, qc_shape_elements(&z->shape) == 1 ? 0 : i);
        }
    }
    *ret = (struct qc_quantized_weights){.source = c->real,
                                         .q = code,
                                         .axis = c->axis,
                                         .n_scales = (int)n_scales,
                                         .scale = scale->data,
                                         .zero_point = zero_point,
                                         .format = {.bits = four_bits ? 4 : QC_WEIGHT_BITS},
                                         .imported = true};
    return QD_OK;
}

/* Does an imported bias have the scale that the accumulator has, s_x * s_w? Written by other
 * tools it may differ in the last bits. */
static bool bias_scale_fits(const struct qc_builder *b, const struct qc_imported_constant *c,
                            float s_x, const struct qc_quantized_weights *w, size_t n_out)
{
    const struct qc_tensor *scale = b->old->values[c->scale].constant;
    const struct qc_tensor *code = b->old->values[c->code].constant;
    size_t n_scales = qc_shape_elements(&scale->shape);
    if (code->dtype != QC_S32 || qc_shape_elements(&code->shape) != n_out ||
        (n_scales != 1 && n_scales != n_out) || !all_zero(b->old, c->zero_point)) {
        return false;
    }
    for (size_t i = 0; i < n_out; i++) {
        double want = (double)s_x * (double)w->scale[i % (size_t)w->n_scales];
        double have = qc_tensor_f64(scale, n_scales == 1 ? 0 : i);
        if (!(fabs(have - want) <= 1e-5 * want)) {
            return false;
        }
    }
    return true;
}

/* ---- all parameters of a node -------------------------------------------------------------- */

/* The bias of node n with weights w; *ret stays -1 where it has to stay f32: weights of the model
 * that leave no room for it are not touched. */
static enum qd_code make_bias(struct qc_builder *b, const struct qc_node *n,
                              struct qc_quantized_weights *w, bool correct, int *ret,
                              struct qd_error *err)
{
    const struct qc_imported_constant *c = imported(b, n, 2);
    bool has_bias = n->n_inputs > 2 && n->inputs[2] >= 0;
    float s_x = b->pairs[n->inputs[0]].scale;
    size_t n_out = count_outputs(n, w->source);
    const char *base = NULL;
    double *bias = NULL;
    if (has_bias) {
        QD_TRY(parameter_base(b, n, b->old->values[n->inputs[2]].name, &base, err));
    } else {
        QD_TRY(qd_arena_printf(b->arena, &base, err, "%s_bias", n->name));
    }
    if (c != NULL && bias_scale_fits(b, c, s_x, w, n_out)) {
        return restore(b, c, base, ret, err);
    }
    QD_TRY(qd_arena_array(b->arena, n_out, sizeof(*bias), &bias, err));
    if (w->imported) {
        read_bias(qc_node_constant(b->old, n, 2), bias, n_out);
        if (!qc_bias_has_room(bias, n_out, s_x, w)) {
            w->f32_bias = true;
            return QD_OK;
        }
    } else {
        QD_TRY(settle_bias(b, n, w, correct && c == NULL, bias, n_out, err));
    }
    return add_bias(b, n, base, w, bias, n_out, ret, err);
}

/* Constants are values of the new graph too: the Add reads the corrected one. */
static enum qd_code correct_addend(struct qc_builder *b, const struct qc_node *n,
                                   const struct qc_quantized_weights *w, struct qd_error *err)
{
    int x = n->inputs[0];
    int v = qc_matmul_addend(b->old, b->plan->options.import, n);
    return v < 0 ? QD_OK
                 : qc_bias_correct_addend(n, w, b->channel_mean[x], (size_t)b->n_channels[x],
                                          b->old->values[v].constant, b->arena,
                                          &b->g->values[v].constant, err);
}

enum qd_code qc_builder_add_parameters(struct qc_builder *b, int i, int *ret_weights,
                                       int *ret_bias, struct qd_error *err)
{
    const struct qc_node *n = &b->old->nodes[i];
    const struct qc_quantize_options *o = &b->plan->options;
    const struct qc_tensor *source = qc_node_constant(b->old, n, 1);
    const struct qc_imported_constant *c = imported(b, n, 1);
    struct qc_quantized_weights *w = NULL;
    int x = n->inputs[0];
    const char *base = NULL;
    bool has_bias = n->n_inputs > 2 && n->inputs[2] >= 0, fits = true;
    *ret_bias = -1;
    QD_TRY(qd_arena_alloc(b->arena, sizeof(*w), &w, err));
    QD_TRY(parameter_base(b, n, b->old->values[n->inputs[1]].name, &base, err));
    if (c != NULL) {
        QD_TRY(as_weights(b, n, c, &fits, w, err));
    }
    if (!fits) {
        c = has_bias ? imported(b, n, 2) : NULL;
        if (c != NULL) {
            QD_TRY(restore(b, c, b->old->values[n->inputs[2]].name, ret_bias, err));
        }
        return restore(b, imported(b, n, 1), base, ret_weights, err);
    }
    if (c == NULL) {
        bool per_channel =
            qc_is_convolution(n) ? o->weights_per_channel : o->dense_per_channel;
        const struct qc_weight_format format = {
            .form = qc_weight_form(o->weights_asymmetric, o->weights_full_range),
            .bits = o->weight_bits > 0 ? o->weight_bits : QC_WEIGHT_BITS};
        QD_TRY(qc_quantize_weights(source, per_channel ? qc_weights_axis(n, source) : -1, &format,
                                   b->arena, w, err));
    }
    b->result->weights[i] = w;
    bool correct = o->bias_correction && !w->imported && b->channel_mean != NULL &&
                   b->channel_mean[x] != NULL;
    if (n->op == QC_OP_MATMUL) {
        QD_TRY(correct ? correct_addend(b, n, w, err) : QD_OK);
    } else if (has_bias || correct) {
        QD_TRY(make_bias(b, n, w, correct, ret_bias, err));
    }
    return c != NULL ? restore(b, c, base, ret_weights, err)
                     : add_weights(b, base, w, ret_weights, err);
}
