#include "quantcore/quant/quantize_weight_only.h"

#include <string.h>

/* TensorProto.FLOAT of onnx.proto; the opset that INT4 and blocks came with */
enum { ONNX_FLOAT = 1, INT4_OPSET = 21 };

/* What became of a tensor of weights. */
struct shared {
    int axis, value; /* value: out of the DequantizeLinear or Cast; -1: none yet */
    struct qc_quantized_weights *weights;
};

static enum qd_code dequantize(struct qc_rewrite *r, const char *base,
                               const struct qc_quantized_weights *w, int *ret,
                               struct qd_error *err)
{
    struct qc_node *n = NULL;
    struct qc_rewrite_step step = {.op = QC_OP_DEQUANTIZE_LINEAR,
                                   .base = base,
                                   .n_inputs = 2,
                                   .n_outputs = 1,
                                   .outputs = {-1},
                                   .suffix = {"_dequantized"}};
    const struct qc_shape shape = qc_weights_scale_shape(w);
    int64_t block = w->format.block;
    int8_t *zero_points = NULL;
    QD_TRY(qc_weights_zero_points(w, r->arena, &zero_points, err));
    QD_TRY(qc_rewrite_constant(r, base, "_quantized", w->q, &step.inputs[0], err));
    QD_TRY(qc_rewrite_numbers(r, base, "_scale", QC_F32, &shape, w->scale, &step.inputs[1], err));
    if (zero_points != NULL) {
        QD_TRY(qc_rewrite_numbers(r, base, "_zero_point", w->q->dtype, &shape, zero_points,
                                  &step.inputs[2], err));
        step.n_inputs = 3;
    }
    QD_TRY(qc_rewrite_add(r, &step, &n, err));
    *ret = step.outputs[0];
    if (w->q->dtype == QC_S4 || block > 0) {
        r->graph->least_opset = INT4_OPSET;
    }
    if (block > 0) {
        QD_TRY(qc_rewrite_set_int(r, n, "axis", w->format.block_axis, err));
        return qc_rewrite_set_int(r, n, "block_size", block, err);
    }
    return w->axis >= 0 ? qc_rewrite_set_int(r, n, "axis", w->axis, err) : QD_OK;
}

static enum qd_code cast(struct qc_rewrite *r, const char *base,
                         const struct qc_quantized_weights *w, int *ret, struct qd_error *err)
{
    struct qc_node *n = NULL;
    struct qc_rewrite_step step = {.op = QC_OP_CAST,
                                   .base = base,
                                   .n_inputs = 1,
                                   .n_outputs = 1,
                                   .outputs = {-1},
                                   .suffix = {"_f32"}};
    QD_TRY(qc_rewrite_constant(r, base, "_f16", w->q, &step.inputs[0], err));
    QD_TRY(qc_rewrite_add(r, &step, &n, err));
    *ret = step.outputs[0];
    return qc_rewrite_set_int(r, n, "to", ONNX_FLOAT, err);
}

static enum qd_code take_weights(struct qc_rewrite *r, int i, struct shared *shared, int *ret,
                                 struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    int v = n->inputs[1];
    if (qc_import_constant(r->options.import, r->old, v) != NULL) {
        return QD_OK; /* qc_rewrite_copy restores it, whatever its form is */
    }
    struct shared *s = &shared[v];
    int axis = qc_weights_axis(n, r->old->values[v].constant);
    if (s->value >= 0 && (s->axis == axis || s->weights->axis < 0)) {
        r->weights[i] = s->weights;
        *ret = s->value;
        return QD_OK;
    }
    QD_TRY(qc_rewrite_quantize(r, i, 1.0f, true, err));
    s->axis = axis;
    s->weights = r->weights[i];
    const char *base = r->old->values[v].name;
    QD_TRY(s->weights->q->dtype == QC_F16 ? cast(r, base, s->weights, &s->value, err)
                                          : dequantize(r, base, s->weights, &s->value, err));
    *ret = s->value;
    return QD_OK;
}

static enum qd_code rewrite_node(struct qc_rewrite *r, int i, struct shared *shared,
                                 struct qd_error *err)
{
    const struct qc_node *n = &r->old->nodes[i];
    const struct qc_tensor *bias = NULL;
    int n_inputs = n->n_inputs;
    int *inputs = NULL;
    QD_TRY(qd_arena_array(r->arena, (size_t)n_inputs + 1, sizeof(int), &inputs, err));
    memcpy(inputs, n->inputs, (size_t)n_inputs * sizeof(int));
    r->reason[i] = qc_rewrite_obstacle(r, i);
    if (r->reason[i] == NULL) {
        r->reason[i] = "";
        QD_TRY(take_weights(r, i, shared, &inputs[1], err));
        QD_TRY(qc_rewrite_correct(r, i, &bias, err));
    }
    if (bias != NULL) {
        QD_TRY(qc_rewrite_constant(r, n->name, "_bias", bias, &inputs[2], err));
        n_inputs = 3;
    }
    return qc_rewrite_copy(r, i, inputs, n_inputs, err);
}

enum qd_code qc_quantize_weight_only(const struct qc_graph *g,
                                     const struct qc_rewrite_options *options,
                                     struct qd_arena *arena, struct qc_rewrite **ret,
                                     struct qd_error *err)
{
    struct qc_rewrite *r = NULL;
    struct shared *shared = NULL;
    QD_TRY(qc_rewrite_new(g, options, arena, &r, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(*shared), &shared, err));
    for (int v = 0; v < g->n_values; v++) {
        shared[v].value = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(rewrite_node(r, i, shared, err));
    }
    QD_TRY(qc_rewrite_finish(r, err));
    *ret = r;
    return QD_OK;
}
