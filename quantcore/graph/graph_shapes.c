#include "quantcore/graph/graph_shapes.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum qd_code qc_infer_fail(struct qc_infer *c, enum qd_code code, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    return qd_fail_on(c->err, code, c->n->name, "%s '%s': %s", c->n->op_type, c->n->name, text);
}

const struct qc_value *qc_infer_optional(const struct qc_infer *c, int i)
{
    if (i >= c->n->n_inputs || c->n->inputs[i] < 0) {
        return NULL;
    }
    return &c->g->values[c->n->inputs[i]];
}

enum qd_code qc_infer_input(struct qc_infer *c, int i, const struct qc_value **ret)
{
    const struct qc_value *v = qc_infer_optional(c, i);
    if (v == NULL) {
        return qc_infer_fail(c, QD_INVALID, "input %d is missing", i);
    }
    if (!v->shape_known || v->dtype == QC_UNKNOWN) {
        return qc_infer_fail(c, QD_INVALID, "input '%s' has no known %s", v->name,
                             v->shape_known ? "type" : "shape");
    }
    *ret = v;
    return QD_OK;
}

enum qd_code qc_infer_ints(struct qc_infer *c, int i, const char *what, int max, int64_t *ret,
                           int *ret_count, uint64_t *ret_bits)
{
    const struct qc_value *v = NULL;
    QD_TRY(qc_infer_input(c, i, &v));
    const struct qc_tensor *t = v->constant;
    if (t == NULL) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "%s '%s' is computed from data", what, v->name);
    }
    if (t->shape.rank > 1 || (t->dtype != QC_S64 && t->dtype != QC_S32)) {
        return qc_infer_fail(c, QD_INVALID, "%s '%s' is not a vector of integers (rank %d, %s)",
                             what, v->name, t->shape.rank, qc_dtype_name(t->dtype));
    }
    size_t count = qc_shape_elements(&t->shape);
    if (count > (size_t)max) {
        return qc_infer_fail(c, QD_INVALID, "%s '%s' has %zu elements, limit %d", what, v->name,
                             count, max);
    }
    for (size_t k = 0; k < count; k++) {
        ret[k] = qc_tensor_s64(t, k);
    }
    *ret_count = (int)count;
    *ret_bits = v->symbolic_elements;
    return QD_OK;
}

enum qd_code qc_infer_output(struct qc_infer *c, int i, enum qc_dtype dtype,
                             const struct qc_shape *shape, unsigned symbolic)
{
    size_t count = 0;
    char text[192];
    if (shape->rank < 0 || shape->rank > QC_MAX_RANK) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "output of rank %d, limit %d", shape->rank,
                             QC_MAX_RANK);
    }
    if (!qc_shape_elements_checked(shape, qc_dtype_size(dtype), &count)) {
        return qc_infer_fail(c, QD_LIMIT_EXCEEDED, "output shape %s is negative or too large",
                             qc_shape_format(shape, text, sizeof text));
    }
    if (i >= c->n->n_outputs || c->n->outputs[i] < 0) {
        return QD_OK;
    }
    struct qc_value *v = &c->g->values[c->n->outputs[i]];
    v->dtype = dtype;
    v->shape = *shape;
    v->shape_known = true;
    v->symbolic_dims = (uint8_t)(symbolic & ((1u << shape->rank) - 1));
    return QD_OK;
}

enum qd_code qc_infer_axis(struct qc_infer *c, int64_t axis, int rank, int *ret)
{
    if (axis < -rank || axis >= rank) {
        return qc_infer_fail(c, QD_INVALID, "axis %" PRId64 " is outside rank %d", axis, rank);
    }
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return QD_OK;
}

static enum qd_code infer_same(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    return qc_infer_output(c, 0, x->dtype, &x->shape, x->symbolic_dims);
}

static enum qd_code infer_softmax(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int axis = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_axis(c, qc_node_int(c->n, "axis", -1), x->shape.rank, &axis));
    return infer_same(c);
}

static enum qd_code infer_dropout(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_output(c, 1, QC_BOOL, &x->shape, x->symbolic_dims));
    return infer_same(c);
}

static enum qd_code infer_constant(struct qc_infer *c)
{
    for (int i = 0; i < c->n->n_attrs; i++) {
        const struct qc_attr *a = &c->n->attrs[i];
        struct qc_shape shape = {.rank = 0};
        if (strcmp(a->name, "value") == 0 && a->type == QC_ATTR_TENSOR) {
            return qc_infer_output(c, 0, a->tensor->dtype, &a->tensor->shape, 0);
        }
        if (a->type == QC_ATTR_FLOATS || a->type == QC_ATTR_INTS) {
            shape = (struct qc_shape){.rank = 1, .dim = {(int64_t)a->n}};
        }
        if (strcmp(a->name, "value_float") == 0 || strcmp(a->name, "value_floats") == 0) {
            return qc_infer_output(c, 0, QC_F32, &shape, 0);
        }
        if (strcmp(a->name, "value_int") == 0 || strcmp(a->name, "value_ints") == 0) {
            return qc_infer_output(c, 0, QC_S64, &shape, 0);
        }
    }
    return qc_infer_fail(c, QD_UNSUPPORTED,
                         "none of value, value_float(s), value_int(s) is present");
}

static enum qd_code infer_constant_of_shape(struct qc_infer *c)
{
    int64_t dims[QC_MAX_RANK];
    struct qc_shape shape = {.rank = 0};
    uint64_t bits = 0;
    QD_TRY(qc_infer_ints(c, 0, "shape", QC_MAX_RANK, dims, &shape.rank, &bits));
    memcpy(shape.dim, dims, sizeof(int64_t) * (size_t)shape.rank);
    const struct qc_attr *value = qc_node_attr(c->n, "value");
    enum qc_dtype dtype = value && value->tensor ? value->tensor->dtype : QC_F32;
    return qc_infer_output(c, 0, dtype, &shape, (unsigned)bits);
}

static enum qd_code infer_shape(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    int64_t rank = x->shape.rank;
    int64_t start = qc_node_int(c->n, "start", 0);
    int64_t end = qc_node_int(c->n, "end", rank);
    start += start < 0 ? rank : 0;
    end += end < 0 ? rank : 0;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < 0 ? 0 : end > rank ? rank : end;
    struct qc_shape shape = {.rank = 1, .dim = {end > start ? end - start : 0}};
    return qc_infer_output(c, 0, QC_S64, &shape, 0);
}

static enum qd_code infer_cast(struct qc_infer *c)
{
    /* TensorProto.DataType of onnx.proto */
    static const enum qc_dtype types[] = {QC_UNKNOWN, QC_F32, QC_U8,  QC_S8,     QC_U16,
                                          QC_S16,     QC_S32, QC_S64, QC_STRING, QC_BOOL,
                                          QC_F16,     QC_F64, QC_U32, QC_U64};
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    int64_t to = qc_node_int(c->n, "to", 0);
    if (to < 1 || to >= (int64_t)QD_COUNT_OF(types) || types[to] == QC_STRING) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "to = %" PRId64 " is not a numeric type", to);
    }
    return qc_infer_output(c, 0, types[to], &x->shape, x->symbolic_dims);
}

static enum qd_code reduce_axes(struct qc_infer *c, int rank, unsigned *ret)
{
    int64_t axes[QC_MAX_RANK];
    uint64_t bits = 0;
    int n = 0;
    if (qc_infer_optional(c, 1) != NULL) {
        QD_TRY(qc_infer_ints(c, 1, "axes", QC_MAX_RANK, axes, &n, &bits));
    }
    unsigned set = 0;
    for (int i = 0; i < n; i++) {
        int axis = 0;
        QD_TRY(qc_infer_axis(c, axes[i], rank, &axis));
        set |= 1u << axis;
    }
    if (n == 0 && !qc_node_int(c->n, "noop_with_empty_axes", 0)) {
        set = (1u << rank) - 1;
    }
    *ret = set;
    return QD_OK;
}

static enum qd_code infer_reduce(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    unsigned axes = 0, symbolic = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(reduce_axes(c, x->shape.rank, &axes));
    bool keep = qc_node_int(c->n, "keepdims", 1) != 0;
    struct qc_shape out = {.rank = 0};
    for (int i = 0; i < x->shape.rank; i++) {
        if (axes >> i & 1) {
            if (keep) {
                out.dim[out.rank++] = 1;
            }
        } else {
            symbolic |= (x->symbolic_dims >> i & 1u) << out.rank;
            out.dim[out.rank++] = x->shape.dim[i];
        }
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

/* The scales of blocks have the shape of x, but for one a block along axis. */
static enum qd_code check_blocks(struct qc_infer *c, const struct qc_value *x,
                                 const struct qc_value *scale, int axis, int64_t block)
{
    struct qc_shape want = x->shape;
    want.dim[axis] = want.dim[axis] / block + (want.dim[axis] % block != 0);
    if (!qc_shape_equal(&scale->shape, &want)) {
        char text[192], wanted[192];
        return qc_infer_fail(c, QD_INVALID,
                             "scale '%s' %s does not fit blocks of %" PRId64 " along axis %d: %s",
                             scale->name, qc_shape_format(&scale->shape, text, sizeof text), block,
                             axis, qc_shape_format(&want, wanted, sizeof wanted));
    }
    return QD_OK;
}

static enum qd_code check_scale(struct qc_infer *c, const struct qc_value *x)
{
    const struct qc_value *scale = NULL;
    QD_TRY(qc_infer_input(c, 1, &scale));
    if (qc_shape_elements(&scale->shape) == 1) {
        return QD_OK;
    }
    int axis = 0;
    QD_TRY(qc_infer_axis(c, qc_node_int(c->n, "axis", 1), x->shape.rank, &axis));
    int64_t block = qc_node_int(c->n, "block_size", 0);
    if (block < 0) {
        return qc_infer_fail(c, QD_INVALID, "block_size is %" PRId64 ", at least 0", block);
    }
    if (block > 0) {
        return check_blocks(c, x, scale, axis, block);
    }
    if (scale->shape.rank != 1 || scale->shape.dim[0] != x->shape.dim[axis]) {
        char text[192];
        return qc_infer_fail(c, QD_INVALID, "scale '%s' %s does not fit axis %d of size %" PRId64,
                             scale->name, qc_shape_format(&scale->shape, text, sizeof text), axis,
                             x->shape.dim[axis]);
    }
    return QD_OK;
}

static enum qd_code infer_quantize(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(check_scale(c, x));
    const struct qc_value *zero = qc_infer_optional(c, 2);
    enum qc_dtype dtype = zero && zero->dtype != QC_UNKNOWN ? zero->dtype : QC_U8;
    return qc_infer_output(c, 0, dtype, &x->shape, x->symbolic_dims);
}

static enum qd_code infer_dequantize(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(check_scale(c, x));
    return qc_infer_output(c, 0, QC_F32, &x->shape, x->symbolic_dims);
}

/* x -> u8 codes, their scale and zero point. */
static enum qd_code infer_dynamic_quantize(struct qc_infer *c)
{
    const struct qc_shape scalar = {.rank = 0};
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    if (x->dtype != QC_F32) {
        return qc_infer_fail(c, QD_INVALID, "'%s' is %s, not f32", x->name,
                             qc_dtype_name(x->dtype));
    }
    QD_TRY(qc_infer_output(c, 1, QC_F32, &scalar, 0));
    QD_TRY(qc_infer_output(c, 2, QC_U8, &scalar, 0));
    return qc_infer_output(c, 0, QC_U8, &x->shape, x->symbolic_dims);
}

static qc_infer_fn *const infer_table[QC_OP_COUNT] = {
    [QC_OP_CONV] = qc_infer_conv,
    [QC_OP_CONV_TRANSPOSE] = qc_infer_conv_transpose,
    [QC_OP_GEMM] = qc_infer_gemm,
    [QC_OP_MATMUL] = qc_infer_matmul,
    [QC_OP_BATCH_NORMALIZATION] = qc_infer_batch_norm,
    [QC_OP_RELU] = infer_same,
    [QC_OP_CLIP] = infer_same,
    [QC_OP_LEAKY_RELU] = infer_same,
    [QC_OP_SIGMOID] = infer_same,
    [QC_OP_HARD_SIGMOID] = infer_same,
    [QC_OP_HARD_SWISH] = infer_same,
    [QC_OP_TANH] = infer_same,
    [QC_OP_EXP] = infer_same,
    [QC_OP_SQRT] = infer_same,
    [QC_OP_LOG] = infer_same,
    [QC_OP_RECIPROCAL] = infer_same,
    [QC_OP_NEG] = infer_same,
    [QC_OP_ABS] = infer_same,
    [QC_OP_ERF] = infer_same,
    [QC_OP_GELU] = infer_same,
    [QC_OP_ELU] = infer_same,
    [QC_OP_SELU] = infer_same,
    [QC_OP_SOFTPLUS] = infer_same,
    [QC_OP_SOFTSIGN] = infer_same,
    [QC_OP_MISH] = infer_same,
    [QC_OP_ADD] = qc_infer_broadcast,
    [QC_OP_SUB] = qc_infer_broadcast,
    [QC_OP_MUL] = qc_infer_broadcast,
    [QC_OP_DIV] = qc_infer_broadcast,
    [QC_OP_POW] = qc_infer_pow,
    [QC_OP_MIN] = qc_infer_min_max,
    [QC_OP_MAX] = qc_infer_min_max,
    [QC_OP_PRELU] = qc_infer_prelu,
    [QC_OP_EQUAL] = qc_infer_compare,
    [QC_OP_LESS] = qc_infer_compare,
    [QC_OP_GREATER] = qc_infer_compare,
    [QC_OP_LESS_OR_EQUAL] = qc_infer_compare,
    [QC_OP_GREATER_OR_EQUAL] = qc_infer_compare,
    [QC_OP_AND] = qc_infer_compare,
    [QC_OP_OR] = qc_infer_compare,
    [QC_OP_NOT] = infer_same,
    [QC_OP_WHERE] = qc_infer_where,
    [QC_OP_CONCAT] = qc_infer_concat,
    [QC_OP_MAX_POOL] = qc_infer_pool,
    [QC_OP_AVERAGE_POOL] = qc_infer_pool,
    [QC_OP_GLOBAL_AVERAGE_POOL] = qc_infer_global_pool,
    [QC_OP_GLOBAL_MAX_POOL] = qc_infer_global_pool,
    [QC_OP_FLATTEN] = qc_infer_flatten,
    [QC_OP_RESHAPE] = qc_infer_reshape,
    [QC_OP_TRANSPOSE] = qc_infer_transpose,
    [QC_OP_SQUEEZE] = qc_infer_squeeze,
    [QC_OP_UNSQUEEZE] = qc_infer_unsqueeze,
    [QC_OP_SLICE] = qc_infer_slice,
    [QC_OP_PAD] = qc_infer_pad,
    [QC_OP_SPLIT] = qc_infer_split,
    [QC_OP_DEPTH_TO_SPACE] = qc_infer_depth_to_space,
    [QC_OP_SPACE_TO_DEPTH] = qc_infer_space_to_depth,
    [QC_OP_EXPAND] = qc_infer_expand,
    [QC_OP_TILE] = qc_infer_tile,
    [QC_OP_SOFTMAX] = infer_softmax,
    [QC_OP_LOG_SOFTMAX] = infer_softmax,
    [QC_OP_IDENTITY] = infer_same,
    [QC_OP_CONSTANT] = infer_constant,
    [QC_OP_CONSTANT_OF_SHAPE] = infer_constant_of_shape,
    [QC_OP_DROPOUT] = infer_dropout,
    [QC_OP_SHAPE] = infer_shape,
    [QC_OP_GATHER] = qc_infer_gather,
    [QC_OP_CAST] = infer_cast,
    [QC_OP_RESIZE] = qc_infer_resize,
    [QC_OP_UPSAMPLE] = qc_infer_resize,
    [QC_OP_REDUCE_MEAN] = infer_reduce,
    [QC_OP_REDUCE_SUM] = infer_reduce,
    [QC_OP_REDUCE_MAX] = infer_reduce,
    [QC_OP_REDUCE_MIN] = infer_reduce,
    [QC_OP_REDUCE_L2] = infer_reduce,
    [QC_OP_LAYER_NORMALIZATION] = qc_infer_layer_norm,
    [QC_OP_INSTANCE_NORMALIZATION] = qc_infer_channel_norm,
    [QC_OP_GROUP_NORMALIZATION] = qc_infer_channel_norm,
    [QC_OP_LRN] = qc_infer_lrn,
    [QC_OP_QUANTIZE_LINEAR] = infer_quantize,
    [QC_OP_DEQUANTIZE_LINEAR] = infer_dequantize,
    [QC_OP_DYNAMIC_QUANTIZE_LINEAR] = infer_dynamic_quantize,
    [QC_OP_CONV_INTEGER] = qc_infer_conv_integer,
    [QC_OP_MATMUL_INTEGER] = qc_infer_matmul_integer,
    [QC_OP_Q_CONV] = qc_infer_q_conv,
    [QC_OP_Q_GEMM] = qc_infer_q_gemm,
    [QC_OP_Q_ADD] = qc_infer_q_broadcast,
    [QC_OP_Q_MUL] = qc_infer_q_broadcast,
    [QC_OP_Q_CONCAT] = qc_infer_q_concat,
    [QC_OP_Q_TABLE] = qc_infer_q_table,
    [QC_OP_Q_AVERAGE_POOL] = qc_infer_pool,
    [QC_OP_Q_GLOBAL_AVERAGE_POOL] = qc_infer_global_pool,
};

enum qd_code qc_graph_infer_node(struct qc_graph *g, int node, struct qd_error *err)
{
    struct qc_infer c = {.g = g, .n = &g->nodes[node], .err = err};
    if (c.n->op < 0 || c.n->op >= QC_OP_COUNT || infer_table[c.n->op] == NULL) {
        return qc_infer_fail(&c, QD_UNSUPPORTED, "operator has no shape inference");
    }
    return infer_table[c.n->op](&c);
}

static enum qd_code bind_input(struct qc_graph *g, const struct qc_io *io, int64_t batch,
                               struct qd_error *err)
{
    struct qc_value *v = &g->values[io->value];
    if (!io->has_shape || v->dtype == QC_UNKNOWN) {
        return qd_fail_on(err, QD_UNSUPPORTED, v->name, "graph input '%s' declares no %s",
                          v->name, io->has_shape ? "type" : "shape");
    }
    if (io->rank < 0 || io->rank > QC_MAX_RANK) {
        return qd_fail_on(err, QD_UNSUPPORTED, v->name, "graph input '%s' has rank %d, limit %d",
                          v->name, io->rank, QC_MAX_RANK);
    }
    struct qc_shape shape = {.rank = io->rank};
    unsigned symbolic = 0;
    for (int i = 0; i < io->rank; i++) {
        shape.dim[i] = io->dim[i];
        if (io->dim[i] < 0) {
            if (i > 0) {
                return qd_fail_on(err, QD_UNSUPPORTED, v->name,
                                  "graph input '%s': dim %d (%s) is symbolic, only the first may "
                                  "be",
                                  v->name, i, io->dim_param[i] ? io->dim_param[i] : "unnamed");
            }
            shape.dim[i] = batch;
            symbolic = 1;
        }
    }
    size_t count = 0;
    if (!qc_shape_elements_checked(&shape, qc_dtype_size(v->dtype), &count)) {
        char text[192];
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, v->name,
                          "graph input '%s': shape %s is too large", v->name,
                          qc_shape_format(&shape, text, sizeof text));
    }
    v->shape = shape;
    v->shape_known = true;
    v->symbolic_dims = (uint8_t)symbolic;
    return QD_OK;
}

enum qd_code qc_graph_bind_shapes(struct qc_graph *g, int64_t batch, struct qd_error *err)
{
    for (int i = 0; i < g->n_inputs; i++) {
        QD_TRY(bind_input(g, &g->inputs[i], batch, err));
    }
    return QD_OK;
}

enum qd_code qc_graph_bind_inputs(struct qc_graph *g, int64_t batch, struct qd_error *err)
{
    QD_TRY(qc_graph_bind_shapes(g, batch, err));
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(qc_graph_infer_node(g, i, err));
    }
    return QD_OK;
}
