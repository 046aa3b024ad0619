#include "quantcore/quant/quantize_dynamic.h"

#include <string.h>

/* TensorProto.FLOAT of onnx.proto */
#define ONNX_FLOAT 1

/* A value of the old graph as integers; codes -1: not yet. */
struct dynamic {
    int codes, scale;
    int zero_point;             /* of data */
    const struct qc_node *node; /* of weights: who asked for them */
    struct qc_quantized_weights *weights;
};

static float alpha_of(const struct qc_node *n)
{
    return n->op == QC_OP_GEMM ? qc_node_float(n, "alpha", 1.0f) : 1.0f;
}

static bool is_transposed(const struct qc_node *n)
{
    return n->op == QC_OP_GEMM && qc_node_int(n, "transB", 0) != 0;
}

/* ---- what stays in f32 -------------------------------------------------------------------- */

static const char *conv_obstacle(const struct qc_rewrite *r, const struct qc_node *n)
{
    int rank = r->old->values[n->inputs[0]].shape.rank;
    return rank == 3 || rank == 4 ? NULL : "automatic: more than two spatial dims";
}

static const char *dense_obstacle(const struct qc_rewrite *r, const struct qc_node *n)
{
    if (qc_node_int(n, "transA", 0) != 0) {
        return "automatic: the input is transposed";
    }
    return r->old->values[n->inputs[0]].shape.rank < 2 ? "automatic: the input is a vector"
                                                       : NULL;
}

static const char *obstacle(const struct qc_rewrite *r, int i)
{
    const struct qc_node *n = &r->old->nodes[i];
    const char *reason = qc_rewrite_obstacle(r, i);
    if (reason != NULL) {
        return reason;
    }
    if (n->op == QC_OP_CONV_TRANSPOSE) {
        return "automatic: ConvTranspose has no form on integers in ONNX";
    }
    const struct qc_value *x = &r->old->values[n->inputs[0]];
    if (x->dtype != QC_F32 || x->constant != NULL || !x->shape_known) {
        return "automatic: the input is not f32 data";
    }
    const struct qc_value *bias =
        n->n_inputs > 2 && n->inputs[2] >= 0 ? &r->old->values[n->inputs[2]] : NULL;
    if (bias != NULL &&
        (bias->constant == NULL || bias->producer >= 0 || bias->dtype != QC_F32)) {
        return "automatic: the bias is not an f32 constant";
    }
    const struct qc_tensor *w = qc_node_constant(r->old, n, 1);
    int64_t n_out = w->shape.dim[qc_weights_axis(n, w)];
    int64_t depth = (int64_t)qc_shape_elements(&w->shape) / n_out;
    if (n->op == QC_OP_MATMUL) {
        depth = w->shape.dim[w->shape.rank - 2];
    }
    if (depth > QC_DYNAMIC_DEPTH) {
        return "automatic: sums of that many products could pass 32 bits";
    }
    return n->op == QC_OP_CONV ? conv_obstacle(r, n) : dense_obstacle(r, n);
}

/* ---- the parts of the chain --------------------------------------------------------------- */

static enum qd_code quantize_input(struct qc_rewrite *r, int v, struct dynamic *d,
                                   struct qd_error *err)
{
    struct qc_rewrite_step step = {.op = QC_OP_DYNAMIC_QUANTIZE_LINEAR,
                                   .base = r->old->values[v].name,
                                   .n_inputs = 1,
                                   .n_outputs = 3,
                                   .inputs = {v},
                                   .outputs = {-1, -1, -1},
                                   .suffix = {"_quantized", "_scale", "_zero_point"}};
    if (d->codes >= 0) {
        return QD_OK;
    }
    QD_TRY(qc_rewrite_add(r, &step, NULL, err));
    d->codes = step.outputs[0];
    d->scale = step.outputs[1];
    d->zero_point = step.outputs[2];
    return QD_OK;
}

/* [N, K] of a Gemm with transB to the [K, N] of MatMulInteger. */
static enum qd_code transposed(struct qc_rewrite *r, const struct qc_tensor *t,
                               const struct qc_tensor **ret, struct qd_error *err)
{
    size_t n = (size_t)t->shape.dim[0], k = (size_t)t->shape.dim[1];
    struct qc_shape shape = {.rank = 2, .dim = {t->shape.dim[1], t->shape.dim[0]}};
    struct qc_tensor *out = NULL;
    QD_TRY(qc_tensor_new(r->arena, QC_S8, &shape, &out, err));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < k; j++) {
            ((int8_t *)out->data)[j * n + i] = ((const int8_t *)t->data)[i * k + j];
        }
    }
    *ret = out;
    return QD_OK;
}

/* A constant along the output channels, times factor: [C,1,1] behind a Conv, where the channels
 * are not the last dim. */
static enum qd_code channels_constant(struct qc_rewrite *r, const struct qc_node *n,
                                      const char *base, const char *suffix,
                                      const struct qc_shape *own, const float *data, float factor,
                                      int *ret, struct qd_error *err)
{
    struct qc_shape shape = *own;
    struct qc_tensor *t = NULL;
    if (n->op == QC_OP_CONV && shape.rank == 1) {
        for (int d = 2; d < r->old->values[n->inputs[0]].shape.rank; d++) {
            shape.dim[shape.rank++] = 1;
        }
    }
    QD_TRY(qc_tensor_new(r->arena, QC_F32, &shape, &t, err));
    for (size_t i = 0; i < qc_shape_elements(&shape); i++) {
        ((float *)t->data)[i] = factor == 1.0f ? data[i] : factor * data[i];
    }
    return qc_rewrite_constant(r, base, suffix, t, ret, err);
}

/* Could both read the same codes and scales? */
static bool same_form(const struct qc_node *a, const struct qc_node *b)
{
    return (a->op == QC_OP_CONV) == (b->op == QC_OP_CONV) &&
           is_transposed(a) == is_transposed(b) && alpha_of(a) == alpha_of(b);
}

static enum qd_code take_weights(struct qc_rewrite *r, int i, struct dynamic *d,
                                 struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    const char *base = r->old->values[n->inputs[1]].name;
    if (d->codes >= 0 && same_form(n, d->node)) {
        r->weights[i] = d->weights;
        return QD_OK;
    }
    QD_TRY(qc_rewrite_quantize(r, i, alpha_of(n), false, err));
    const struct qc_quantized_weights *w = r->weights[i];
    const struct qc_tensor *q = w->q;
    if (is_transposed(n)) {
        QD_TRY(transposed(r, q, &q, err));
    }
    struct qc_shape shape = {.rank = w->axis >= 0 ? 1 : 0, .dim = {w->n_scales}};
    QD_TRY(qc_rewrite_constant(r, base, "_quantized", q, &d->codes, err));
    d->node = n;
    d->weights = r->weights[i];
    return channels_constant(r, n, base, "_scale", &shape, w->scale, 1.0f, &d->scale, err);
}

/* ConvInteger or MatMulInteger, then Cast: the sums as f32. */
static enum qd_code add_product(struct qc_rewrite *r, int i, const struct dynamic *x,
                                const struct dynamic *weights, int *ret, struct qd_error *err)
{
    const struct qc_node *old = &r->old->nodes[i];
    struct qc_node *n = NULL;
    bool conv = old->op == QC_OP_CONV;
    struct qc_rewrite_step step = {.op = conv ? QC_OP_CONV_INTEGER : QC_OP_MATMUL_INTEGER,
                                   .name = old->name,
                                   .base = old->name,
                                   .n_inputs = 3,
                                   .n_outputs = 1,
                                   .inputs = {x->codes, weights->codes, x->zero_point},
                                   .outputs = {-1},
                                   .suffix = {"_acc"}};
    QD_TRY(qc_rewrite_add(r, &step, &n, err));
    n->doc_string = old->doc_string;
    if (conv) { /* the same attributes */
        n->attrs = old->attrs;
        n->n_attrs = old->n_attrs;
    }
    struct qc_rewrite_step cast = {.op = QC_OP_CAST,
                                   .name = "",
                                   .base = old->name,
                                   .n_inputs = 1,
                                   .n_outputs = 1,
                                   .inputs = {step.outputs[0]},
                                   .outputs = {-1},
                                   .suffix = {"_acc_f32"}};
    QD_TRY(qc_rewrite_add(r, &cast, &n, err));
    *ret = cast.outputs[0];
    return qc_rewrite_set_int(r, n, "to", ONNX_FLOAT, err);
}

static enum qd_code add_binary(struct qc_rewrite *r, int op, const char *base, const char *suffix,
                               int a, int b, int out, struct qc_node **ret_node, int *ret,
                               struct qd_error *err)
{
    struct qc_rewrite_step step = {.op = op,
                                   .name = "",
                                   .base = base,
                                   .n_inputs = 2,
                                   .n_outputs = 1,
                                   .inputs = {a, b},
                                   .outputs = {out},
                                   .suffix = {suffix}};
    QD_TRY(qc_rewrite_add(r, &step, ret_node, err));
    *ret = step.outputs[0];
    return QD_OK;
}

/* The bias, corrected where that is possible; *ret stays -1 when there is none. */
static enum qd_code add_bias_constant(struct qc_rewrite *r, int i, int *ret, struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    const struct qc_value *given =
        n->n_inputs > 2 && n->inputs[2] >= 0 ? &r->old->values[n->inputs[2]] : NULL;
    const struct qc_tensor *bias = NULL;
    float beta = n->op == QC_OP_GEMM ? qc_node_float(n, "beta", 1.0f) : 1.0f;
    QD_TRY(qc_rewrite_correct(r, i, &bias, err));
    if (bias == NULL && given == NULL) {
        return QD_OK;
    }
    bias = bias != NULL ? bias : given->constant;
    return channels_constant(r, n, given != NULL ? given->name : n->name, "_added", &bias->shape,
                             bias->data, beta, ret, err);
}

/* ---- one node ----------------------------------------------------------------------------- */

static enum qd_code rewrite_product(struct qc_rewrite *r, int i, struct dynamic *dynamic,
                                    struct qd_error *err)
{
    const struct qc_node *old = &r->old->nodes[i];
    struct dynamic *x = &dynamic[old->inputs[0]], *w = &dynamic[old->inputs[1]];
    int y = old->outputs[0], sums, scale, scaled, bias = -1;
    struct qc_node *last = NULL;
    QD_TRY(take_weights(r, i, w, err));
    QD_TRY(add_bias_constant(r, i, &bias, err));
    QD_TRY(quantize_input(r, old->inputs[0], x, err));
    QD_TRY(add_product(r, i, x, w, &sums, err));
    QD_TRY(add_binary(r, QC_OP_MUL, old->name, "_scale", x->scale, w->scale, -1, &last, &scale,
                      err));
    QD_TRY(add_binary(r, QC_OP_MUL, old->name, "_scaled", sums, scale, bias >= 0 ? -1 : y, &last,
                      &scaled, err));
    if (bias >= 0) {
        QD_TRY(add_binary(r, QC_OP_ADD, old->name, "", scaled, bias, y, &last, &scaled, err));
    }
    last->clamp = old->clamp;
    return QD_OK;
}

enum qd_code qc_quantize_dynamic(const struct qc_graph *g,
                                 const struct qc_rewrite_options *options, struct qd_arena *arena,
                                 struct qc_rewrite **ret, struct qd_error *err)
{
    struct qc_rewrite *r = NULL;
    struct dynamic *dynamic = NULL;
    if (options->weights_asymmetric) {
        return qd_fail(err, QD_INVALID, "dynamic products have no zero points of weights");
    }
    if (options->block_size > 0 || options->weight_bits > QC_WEIGHT_BITS) {
        return qd_fail(err, QD_INVALID, "dynamic products have no blocks of weights and no float16");
    }
    QD_TRY(qc_rewrite_new(g, options, arena, &r, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(*dynamic), &dynamic, err));
    for (int v = 0; v < g->n_values; v++) {
        dynamic[v].codes = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        r->reason[i] = obstacle(r, i);
        if (r->reason[i] != NULL) {
            QD_TRY(qc_rewrite_copy(r, i, g->nodes[i].inputs, g->nodes[i].n_inputs, err));
            continue;
        }
        r->reason[i] = "";
        QD_TRY(rewrite_product(r, i, dynamic, err));
    }
    QD_TRY(qc_rewrite_finish(r, err));
    *ret = r;
    return QD_OK;
}
