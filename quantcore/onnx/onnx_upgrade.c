#include "quantcore/onnx/onnx_upgrade.h"

#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_attrs.h"

static enum qd_code set_int(struct qc_onnx_upgrade *up, struct qc_node *n, const char *name,
                            int64_t v, struct qd_error *err)
{
    struct qc_attr a = {.name = name, .type = QC_ATTR_INT, .i = v};
    return qc_onnx_attrs_set(up->graph->arena, n, a, err);
}

static enum qd_code set_string(struct qc_onnx_upgrade *up, struct qc_node *n, const char *name,
                               const char *v, struct qd_error *err)
{
    struct qc_attr a = {.name = name, .type = QC_ATTR_STRING,
                        .s = {(const uint8_t *)v, strlen(v)}};
    return qc_onnx_attrs_set(up->graph->arena, n, a, err);
}

/* A node of exactly n inputs, the new ones absent. */
static enum qd_code resize_inputs(struct qc_onnx_upgrade *up, struct qc_node *n, int count,
                                  struct qd_error *err)
{
    int *inputs;
    QD_TRY(qd_arena_array(up->graph->arena, (size_t)count, sizeof(*inputs), &inputs, err));
    for (int i = 0; i < count; i++) {
        inputs[i] = i < n->n_inputs ? n->inputs[i] : -1;
    }
    n->inputs = inputs;
    n->n_inputs = count;
    return QD_OK;
}

/* Input i becomes a constant called <node>_<what>. rank 0 or 1. */
static enum qd_code constant_input(struct qc_onnx_upgrade *up, struct qc_node *n, int i,
                                   const char *what, enum qc_dtype dtype, int rank, size_t count,
                                   const void *data, struct qd_error *err)
{
    struct qc_graph *g = up->graph;
    struct qc_shape shape = {.rank = rank, .dim = {(int64_t)count}};
    struct qc_tensor *t;
    const char *base, *name;
    int value;
    QD_TRY(qc_tensor_new(g->arena, dtype, &shape, &t, err));
    if (count > 0) {
        memcpy(t->data, data, count * qc_dtype_size(dtype));
    }
    QD_TRY(qd_arena_printf(g->arena, &base, err, "%s_%s", n->name, what));
    QD_TRY(qc_onnx_names_make(up->names, g->arena, base, g->n_values, &name, err));
    QD_TRY(qc_graph_add_constant(g, name, t, &value, err));
    if (n->n_inputs <= i) {
        QD_TRY(resize_inputs(up, n, i + 1, err));
    }
    n->inputs[i] = value;
    return QD_OK;
}

static enum qd_code typed_attr(const struct qc_node *n, const char *name, enum qc_attr_type type,
                               const struct qc_attr **ret, struct qd_error *err)
{
    *ret = qc_node_attr(n, name);
    if (*ret != NULL && (*ret)->type != type) {
        return qd_fail(err, QD_INVALID, "attribute '%s' has the wrong type", name);
    }
    return QD_OK;
}

static enum qd_code one_input(const struct qc_node *n, struct qd_error *err)
{
    return n->n_inputs == 1 ? QD_OK
                            : qd_fail(err, QD_INVALID, "%s of this opset has 1 input, not %d",
                                      n->op_type, n->n_inputs);
}

/* Attribute of ints → 1-D s64 input. */
static enum qd_code ints_to_input(struct qc_onnx_upgrade *up, struct qc_node *n, const char *name,
                                  int i, struct qd_error *err)
{
    const struct qc_attr *a;
    QD_TRY(typed_attr(n, name, QC_ATTR_INTS, &a, err));
    if (a == NULL) {
        return QD_OK;
    }
    QD_TRY(constant_input(up, n, i, name, QC_S64, 1, a->n, a->ints, err));
    return qc_onnx_attrs_drop(up->graph->arena, n, name, err);
}

/* Attribute of one float → scalar f32 input. */
static enum qd_code float_to_input(struct qc_onnx_upgrade *up, struct qc_node *n,
                                   const char *name, int i, struct qd_error *err)
{
    const struct qc_attr *a;
    QD_TRY(typed_attr(n, name, QC_ATTR_FLOAT, &a, err));
    if (a == NULL) {
        return QD_OK;
    }
    QD_TRY(constant_input(up, n, i, name, QC_F32, 0, 1, &a->f, err));
    return qc_onnx_attrs_drop(up->graph->arena, n, name, err);
}

static enum qd_code upgrade_clip(struct qc_onnx_upgrade *up, struct qc_node *n,
                                 struct qd_error *err)
{
    QD_TRY(one_input(n, err));
    QD_TRY(float_to_input(up, n, "min", 1, err));
    return float_to_input(up, n, "max", 2, err);
}

static enum qd_code upgrade_pad(struct qc_onnx_upgrade *up, struct qc_node *n,
                                struct qd_error *err)
{
    QD_TRY(one_input(n, err));
    if (qc_node_attr(n, "pads") == NULL) {
        return qd_fail(err, QD_INVALID, "Pad without attribute 'pads'");
    }
    QD_TRY(ints_to_input(up, n, "pads", 1, err));
    return float_to_input(up, n, "value", 2, err);
}

static enum qd_code upgrade_axes(struct qc_onnx_upgrade *up, struct qc_node *n,
                                 struct qd_error *err)
{
    QD_TRY(one_input(n, err));
    if (n->op == QC_OP_UNSQUEEZE && qc_node_attr(n, "axes") == NULL) {
        return qd_fail(err, QD_INVALID, "Unsqueeze without attribute 'axes'");
    }
    return ints_to_input(up, n, "axes", 1, err);
}

static enum qd_code upgrade_split(struct qc_onnx_upgrade *up, struct qc_node *n,
                                  struct qd_error *err)
{
    QD_TRY(one_input(n, err));
    return ints_to_input(up, n, "split", 1, err);
}

static enum qd_code upgrade_slice(struct qc_onnx_upgrade *up, struct qc_node *n,
                                  struct qd_error *err)
{
    QD_TRY(one_input(n, err));
    if (qc_node_attr(n, "starts") == NULL || qc_node_attr(n, "ends") == NULL) {
        return qd_fail(err, QD_INVALID, "Slice without attributes 'starts' and 'ends'");
    }
    QD_TRY(ints_to_input(up, n, "starts", 1, err));
    QD_TRY(ints_to_input(up, n, "ends", 2, err));
    return ints_to_input(up, n, "axes", 3, err);
}

/* Does a Resize of opset 10 shrink? Its text leaves the rounding of nearest open; ONNX's own
 * test of it and ONNX Runtime round up where the scale is below 1, and down otherwise. */
static enum qd_code nearest_mode_10(struct qc_onnx_upgrade *up, const struct qc_node *n,
                                    const char **ret, struct qd_error *err)
{
    const struct qc_tensor *scales = qc_node_constant(up->graph, n, 1);
    size_t count = scales != NULL ? qc_shape_elements(&scales->shape) : 0;
    bool grows = false, shrinks = false;
    for (size_t i = 0; i < count; i++) {
        grows |= qc_tensor_f64(scales, i) > 1.0;
        shrinks |= qc_tensor_f64(scales, i) < 1.0;
    }
    if (grows && shrinks) {
        return qd_fail(err, QD_UNSUPPORTED,
                       "Resize of opset 10 in mode nearest with scales below and above 1");
    }
    *ret = shrinks ? "ceil" : "floor";
    return QD_OK;
}

/* What Upsample and the first Resize compute, in the words of Resize 11: output pixel i is
 * taken at i / scale, rounded as `nearest` says when that is the mode. */
static enum qd_code resize_asymmetric(struct qc_onnx_upgrade *up, struct qc_node *n, int scales,
                                      const char *nearest, struct qd_error *err)
{
    QD_TRY(resize_inputs(up, n, 3, err));
    n->inputs[1] = -1; /* roi */
    n->inputs[2] = scales;
    QD_TRY(set_string(up, n, "coordinate_transformation_mode", "asymmetric", err));
    const char *mode = qc_node_string(n, "mode", "nearest");
    return strcmp(mode, "nearest") == 0 ? set_string(up, n, "nearest_mode", nearest, err)
                                        : QD_OK;
}

static enum qd_code upgrade_upsample(struct qc_onnx_upgrade *up, struct qc_node *n,
                                     struct qd_error *err)
{
    if (up->opset < 9) {
        const struct qc_attr *a;
        QD_TRY(one_input(n, err));
        QD_TRY(typed_attr(n, "scales", QC_ATTR_FLOATS, &a, err));
        if (a == NULL) {
            return qd_fail(err, QD_INVALID, "Upsample without attribute 'scales'");
        }
        QD_TRY(constant_input(up, n, 1, "scales", QC_F32, 1, a->n, a->floats, err));
        QD_TRY(qc_onnx_attrs_drop(up->graph->arena, n, "scales", err));
    }
    if (n->n_inputs != 2) {
        return qd_fail(err, QD_INVALID, "Upsample without input 'scales'");
    }
    n->op = QC_OP_RESIZE;
    n->op_type = qc_op_rows[QC_OP_RESIZE].type;
    return resize_asymmetric(up, n, n->inputs[1], "floor", err);
}

static enum qd_code upgrade_resize(struct qc_onnx_upgrade *up, struct qc_node *n,
                                   struct qd_error *err)
{
    if (n->n_inputs != 2) {
        return qd_fail(err, QD_INVALID, "Resize of opset 10 has 2 inputs, not %d", n->n_inputs);
    }
    const char *nearest = "floor";
    if (strcmp(qc_node_string(n, "mode", "nearest"), "nearest") == 0) {
        QD_TRY(nearest_mode_10(up, n, &nearest, err));
    }
    return resize_asymmetric(up, n, n->inputs[1], nearest, err);
}

static enum qd_code upgrade_softmax(struct qc_onnx_upgrade *up, struct qc_node *n,
                                    struct qd_error *err)
{
    const struct qc_attr *a;
    QD_TRY(typed_attr(n, "axis", QC_ATTR_INT, &a, err));
    int64_t axis = a != NULL ? a->i : 1;
    int x = n->n_inputs > 0 ? n->inputs[0] : -1;
    int rank = x >= 0 && x < up->n_ranks ? up->ranks[x] : -1;
    bool last = axis == -1 || (rank > 0 && axis == rank - 1);
    QD_TRY(set_int(up, n, "axis", axis, err));
    return last ? QD_OK : set_int(up, n, QC_ONNX_FLATTEN, 1, err);
}

static enum qd_code upgrade_dropout(struct qc_onnx_upgrade *up, struct qc_node *n,
                                    struct qd_error *err)
{
    QD_TRY(one_input(n, err));
    return float_to_input(up, n, "ratio", 1, err);
}

/* spatial = 0 has statistics for every pixel; 9 dropped it. */
static enum qd_code upgrade_batch_norm(struct qc_onnx_upgrade *up, struct qc_node *n,
                                       struct qd_error *err)
{
    if (qc_node_int(n, "spatial", 1) != 1) {
        return qd_fail(err, QD_UNSUPPORTED, "BatchNormalization with spatial = 0");
    }
    return qc_onnx_attrs_drop(up->graph->arena, n, "spatial", err);
}

/* Its first form, deprecated, had a scale a group. */
static enum qd_code refuse_group_norm(struct qc_onnx_upgrade *up, struct qc_node *n,
                                      struct qd_error *err)
{
    return qd_fail(err, QD_UNSUPPORTED, "%s of opset %lld, with a scale a group, is not supported",
                   n->op_type, (long long)up->opset);
}

static const struct {
    int op, below; /* the rule applies to models of opsets < below */
    enum qd_code (*upgrade)(struct qc_onnx_upgrade *, struct qc_node *, struct qd_error *);
} rules[] = {
    {QC_OP_CLIP, 11, upgrade_clip},
    {QC_OP_PAD, 11, upgrade_pad},
    {QC_OP_SQUEEZE, 13, upgrade_axes},
    {QC_OP_UNSQUEEZE, 13, upgrade_axes},
    {QC_OP_REDUCE_MEAN, 18, upgrade_axes},
    {QC_OP_REDUCE_SUM, 13, upgrade_axes},
    {QC_OP_REDUCE_MAX, 18, upgrade_axes},
    {QC_OP_REDUCE_MIN, 18, upgrade_axes},
    {QC_OP_REDUCE_L2, 18, upgrade_axes},
    {QC_OP_LOG_SOFTMAX, 13, upgrade_softmax},
    {QC_OP_GROUP_NORMALIZATION, 21, refuse_group_norm},
    {QC_OP_SLICE, 10, upgrade_slice},
    {QC_OP_SPLIT, 13, upgrade_split},
    {QC_OP_UPSAMPLE, 10, upgrade_upsample},
    {QC_OP_RESIZE, 11, upgrade_resize},
    {QC_OP_SOFTMAX, 13, upgrade_softmax},
    {QC_OP_DROPOUT, 12, upgrade_dropout},
    {QC_OP_BATCH_NORMALIZATION, 9, upgrade_batch_norm},
};

#define TYPE(t) ONNX__TENSOR_PROTO__DATA_TYPE__##t

/* Attributes of later opsets, each with the values that mean what the operator does without it:
 * `value` and `also` of integers, `text` of a string; or any, where the type of input `typed_by`
 * says the same. With another value the operator has no canonical form. (Dilations of AveragePool
 * could have one, but not between quantized tensors: ONNX Runtime makes an operator without
 * dilations of that, and refuses the model.) */
static const struct {
    int op;
    const char *name;
    enum qc_attr_type type;
    int64_t value, also;
    const char *text;
    int typed_by; /* 0: none */
} later[] = {
    {QC_OP_AVERAGE_POOL, "dilations", QC_ATTR_INTS, 1, 1, NULL, 0},
    {QC_OP_RESIZE, "antialias", QC_ATTR_INT, 0, 0, NULL, 0},
    {QC_OP_RESIZE, "keep_aspect_ratio_policy", QC_ATTR_STRING, 0, 0, "stretch", 0},
    {QC_OP_QUANTIZE_LINEAR, "output_dtype", QC_ATTR_INT, 0, TYPE(UINT8), NULL, 2},
    {QC_OP_QUANTIZE_LINEAR, "precision", QC_ATTR_INT, 0, TYPE(FLOAT), NULL, 0},
    {QC_OP_DEQUANTIZE_LINEAR, "output_dtype", QC_ATTR_INT, 0, TYPE(FLOAT), NULL, 0},
};

/* QD_OK when the attribute has a value of its row. */
static enum qd_code check_later(size_t row, const struct qc_node *n, const struct qc_attr *a,
                                struct qd_error *err)
{
    bool one = a->type == QC_ATTR_INT;
    size_t count = one ? 1 : a->type == QC_ATTR_INTS ? a->n : 0;
    for (size_t i = 0; i < count; i++) {
        int64_t v = one ? a->i : a->ints[i];
        if (v != later[row].value && v != later[row].also) {
            return qd_fail(err, QD_UNSUPPORTED, "%s with %s = %lld is not supported", n->op_type,
                           a->name, (long long)v);
        }
    }
    const char *text = a->type == QC_ATTR_STRING ? (const char *)a->s.data : NULL;
    if (text != NULL && strcmp(text, later[row].text) != 0) {
        return qd_fail(err, QD_UNSUPPORTED, "%s with %s = '%.64s' is not supported", n->op_type,
                       a->name, text);
    }
    return QD_OK;
}

static enum qd_code drop_later(struct qc_onnx_upgrade *up, struct qc_node *n,
                               struct qd_error *err)
{
    for (size_t i = 0; i < QD_COUNT_OF(later); i++) {
        const struct qc_attr *a;
        int by = later[i].typed_by;
        if (later[i].op != n->op) {
            continue;
        }
        QD_TRY(typed_attr(n, later[i].name, later[i].type, &a, err));
        if (a != NULL && (by == 0 || by >= n->n_inputs || n->inputs[by] < 0)) {
            QD_TRY(check_later(i, n, a, err));
        }
        QD_TRY(qc_onnx_attrs_drop(up->graph->arena, n, later[i].name, err));
    }
    return QD_OK;
}

enum qd_code qc_onnx_upgrade_node(struct qc_onnx_upgrade *up, struct qc_node *node,
                                  struct qd_error *err)
{
    for (size_t i = 0; i < QD_COUNT_OF(rules); i++) {
        if (rules[i].op == node->op && up->opset < rules[i].below) {
            QD_TRY(rules[i].upgrade(up, node, err));
            break;
        }
    }
    return drop_later(up, node, err);
}
