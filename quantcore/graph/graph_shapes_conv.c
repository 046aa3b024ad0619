#include <inttypes.h>
#include <string.h>

#include "quantcore/graph/graph_shapes.h"

#define MAX_SPATIAL (QC_MAX_RANK - 2)
/* Attributes up to here cannot overflow the products of two of them in int64. */
#define MAX_GEOMETRY ((int64_t)1 << 30)

struct window {
    int n; /* spatial dims */
    int64_t kernel[MAX_SPATIAL], stride[MAX_SPATIAL], dilation[MAX_SPATIAL],
        pad[2 * MAX_SPATIAL]; /* all begins, then all ends */
    bool same, ceil;          /* auto_pad SAME_*; ceil_mode */
};

static enum qd_code read_ints(struct qc_infer *c, const char *name, int count, int64_t fallback,
                              int64_t low, int64_t *out)
{
    const struct qc_attr *a = qc_node_attr(c->n, name);
    for (int i = 0; i < count; i++) {
        out[i] = fallback;
    }
    if (a == NULL || (a->type == QC_ATTR_INTS && a->n == 0)) {
        return QD_OK;
    }
    if (a->type != QC_ATTR_INTS || a->n != (size_t)count) {
        return qc_infer_fail(c, QD_INVALID, "%s has %zu elements, expected %d", name, a->n,
                             count);
    }
    for (int i = 0; i < count; i++) {
        if (a->ints[i] < low || a->ints[i] > MAX_GEOMETRY) {
            return qc_infer_fail(c, QD_INVALID,
                                 "%s[%d] = %" PRId64 " is outside %" PRId64 "..%" PRId64, name, i,
                                 a->ints[i], low, MAX_GEOMETRY);
        }
        out[i] = a->ints[i];
    }
    return QD_OK;
}

static enum qd_code read_window(struct qc_infer *c, struct window *w)
{
    QD_TRY(read_ints(c, "strides", w->n, 1, 1, w->stride));
    QD_TRY(read_ints(c, "dilations", w->n, 1, 1, w->dilation));
    QD_TRY(read_ints(c, "pads", 2 * w->n, 0, 0, w->pad));
    const char *auto_pad = qc_node_string(c->n, "auto_pad", "NOTSET");
    if (strcmp(auto_pad, "SAME_UPPER") == 0 || strcmp(auto_pad, "SAME_LOWER") == 0) {
        w->same = true;
    } else if (strcmp(auto_pad, "VALID") == 0) {
        memset(w->pad, 0, sizeof w->pad);
    } else if (strcmp(auto_pad, "NOTSET") != 0 && auto_pad[0] != '\0') {
        return qc_infer_fail(c, QD_INVALID, "auto_pad \"%.32s\" is not known", auto_pad);
    }
    return QD_OK;
}

/* https://onnx.ai/onnx/operators/onnx__MaxPool.html, "output_shape"; with ceil_mode a window
 * that would start in the end padding is left out, as ONNX Runtime and PyTorch do. */
static enum qd_code window_output(struct qc_infer *c, const struct window *w, int i, int64_t in,
                                  int64_t *ret)
{
    if (in > MAX_GEOMETRY) {
        return qc_infer_fail(c, QD_LIMIT_EXCEEDED, "input dim %" PRId64 " is over %" PRId64, in,
                             MAX_GEOMETRY);
    }
    int64_t stride = w->stride[i];
    if (w->same) {
        *ret = (in + stride - 1) / stride;
        return QD_OK;
    }
    int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
    int64_t room = in + w->pad[i] + w->pad[i + w->n] - extent;
    if (room < 0) {
        return qc_infer_fail(c, QD_INVALID,
                             "window of %" PRId64 " does not fit spatial dim %d of %" PRId64
                             " with pads %" PRId64 " and %" PRId64,
                             extent, i, in, w->pad[i], w->pad[i + w->n]);
    }
    int64_t out = (w->ceil ? room + stride - 1 : room) / stride + 1;
    if (w->ceil && (out - 1) * stride >= in + w->pad[i]) {
        out--;
    }
    *ret = out;
    return QD_OK;
}

static enum qd_code spatial_rank(struct qc_infer *c, const struct qc_value *x, int *ret)
{
    if (x->shape.rank < 3) {
        return qc_infer_fail(c, QD_INVALID, "input '%s' of rank %d has no spatial dims", x->name,
                             x->shape.rank);
    }
    *ret = x->shape.rank - 2;
    return QD_OK;
}

static enum qd_code check_conv_weights(struct qc_infer *c, const struct qc_value *x,
                                       const struct qc_value *weights, struct window *w)
{
    char text[192];
    bool transposed = c->n->op == QC_OP_CONV_TRANSPOSE;
    qc_shape_format(&weights->shape, text, sizeof text);
    if (weights->shape.rank != x->shape.rank) {
        return qc_infer_fail(c, QD_INVALID, "weights '%s' %s do not have the rank %d of '%s'",
                             weights->name, text, x->shape.rank, x->name);
    }
    int64_t group = qc_node_int(c->n, "group", 1), in = x->shape.dim[1];
    int64_t first = weights->shape.dim[0], second = weights->shape.dim[1];
    bool fits = group >= 1 && in % group == 0 &&
                (transposed ? first == in && second <= MAX_GEOMETRY / group
                            : first % group == 0 && in / group == second);
    if (!fits) {
        return qc_infer_fail(c, QD_INVALID,
                             "weights '%s' %s do not fit %" PRId64 " channels in %" PRId64
                             " groups",
                             weights->name, text, in, group);
    }
    int64_t declared[MAX_SPATIAL];
    QD_TRY(read_ints(c, "kernel_shape", w->n, -1, 1, declared));
    for (int i = 0; i < w->n; i++) {
        w->kernel[i] = weights->shape.dim[2 + i];
        if (w->kernel[i] < 1 || w->kernel[i] > MAX_GEOMETRY ||
            (declared[i] != -1 && declared[i] != w->kernel[i])) {
            return qc_infer_fail(c, QD_INVALID, "kernel_shape[%d] is not that of weights %s", i,
                                 text);
        }
    }
    return QD_OK;
}

static enum qd_code check_bias(struct qc_infer *c, int input, int64_t channels)
{
    const struct qc_value *b = qc_infer_optional(c, input);
    if (b != NULL && b->shape_known && (b->shape.rank != 1 || b->shape.dim[0] != channels)) {
        char text[192];
        return qc_infer_fail(c, QD_INVALID, "bias '%s' %s is not [%" PRId64 "]", b->name,
                             qc_shape_format(&b->shape, text, sizeof text), channels);
    }
    return QD_OK;
}

static enum qd_code infer_conv_of(struct qc_infer *c, int iw, int ib, enum qc_dtype dtype)
{
    const struct qc_value *x = NULL, *weights = NULL;
    struct window w = {.n = 0};
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_input(c, iw, &weights));
    QD_TRY(spatial_rank(c, x, &w.n));
    QD_TRY(read_window(c, &w));
    QD_TRY(check_conv_weights(c, x, weights, &w));
    QD_TRY(check_bias(c, ib, weights->shape.dim[0]));
    struct qc_shape out = {.rank = x->shape.rank,
                           .dim = {x->shape.dim[0], weights->shape.dim[0]}};
    for (int i = 0; i < w.n; i++) {
        QD_TRY(window_output(c, &w, i, x->shape.dim[2 + i], &out.dim[2 + i]));
    }
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? x->dtype : dtype, &out,
                           x->symbolic_dims & 1u);
}

enum qd_code qc_infer_conv(struct qc_infer *c)
{
    return infer_conv_of(c, 1, 2, QC_UNKNOWN);
}

/* ---- ConvTranspose: https://onnx.ai/onnx/operators/onnx__ConvTranspose.html ---- */

/* output_shape may hold the spatial dims or all of them. */
static enum qd_code asked_shape(struct qc_infer *c, const struct window *w, int64_t *ret,
                                bool *ret_asked)
{
    const struct qc_attr *a = qc_node_attr(c->n, "output_shape");
    *ret_asked = a != NULL && a->type == QC_ATTR_INTS && a->n > 0;
    if (!*ret_asked) {
        return QD_OK;
    }
    if (a->n != (size_t)w->n && a->n != (size_t)w->n + 2) {
        return qc_infer_fail(c, QD_INVALID, "output_shape has %zu elements, expected %d", a->n,
                             w->n);
    }
    for (int i = 0; i < w->n; i++) {
        ret[i] = a->ints[a->n - (size_t)w->n + (size_t)i];
        if (ret[i] < 1 || ret[i] > MAX_GEOMETRY) {
            return qc_infer_fail(c, QD_INVALID,
                                 "output_shape[%d] = %" PRId64 " is outside 1..%" PRId64, i,
                                 ret[i], MAX_GEOMETRY);
        }
    }
    return QD_OK;
}

static enum qd_code transposed_output(struct qc_infer *c, const struct window *w, int i,
                                      int64_t in, int64_t added, int64_t *ret)
{
    int64_t extent = (w->kernel[i] - 1) * w->dilation[i] + 1;
    if (in < 1 || in > MAX_GEOMETRY) {
        return qc_infer_fail(c, QD_LIMIT_EXCEEDED, "input dim %" PRId64 " is outside 1..%" PRId64,
                             in, MAX_GEOMETRY);
    }
    *ret = w->same ? in * w->stride[i]
                   : (in - 1) * w->stride[i] + added + extent - w->pad[i] - w->pad[i + w->n];
    if (*ret < 1) {
        return qc_infer_fail(c, QD_INVALID,
                             "pads %" PRId64 " and %" PRId64 " leave nothing of spatial dim %d",
                             w->pad[i], w->pad[i + w->n], i);
    }
    return QD_OK;
}

enum qd_code qc_infer_conv_transpose(struct qc_infer *c)
{
    const struct qc_value *x = NULL, *weights = NULL;
    struct window w = {.n = 0};
    int64_t added[MAX_SPATIAL], asked[MAX_SPATIAL];
    bool is_asked = false;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_input(c, 1, &weights));
    QD_TRY(spatial_rank(c, x, &w.n));
    QD_TRY(read_window(c, &w));
    QD_TRY(read_ints(c, "output_padding", w.n, 0, 0, added));
    QD_TRY(check_conv_weights(c, x, weights, &w));
    QD_TRY(asked_shape(c, &w, asked, &is_asked));
    struct qc_shape out = {.rank = x->shape.rank,
                           .dim = {x->shape.dim[0], qc_node_channels(c->n, &weights->shape)}};
    QD_TRY(check_bias(c, 2, out.dim[1]));
    for (int i = 0; i < w.n; i++) {
        QD_TRY(transposed_output(c, &w, i, x->shape.dim[2 + i], added[i], &out.dim[2 + i]));
        out.dim[2 + i] = is_asked ? asked[i] : out.dim[2 + i];
    }
    return qc_infer_output(c, 0, x->dtype, &out, x->symbolic_dims & 1u);
}

static bool is_8_bit(const struct qc_value *v)
{
    return v->dtype == QC_U8 || v->dtype == QC_S8;
}

/* Both operands of ConvInteger and MatMulInteger. */
static enum qd_code check_8_bit(struct qc_infer *c)
{
    for (int i = 0; i < 2; i++) {
        const struct qc_value *v = NULL;
        QD_TRY(qc_infer_input(c, i, &v));
        if (!is_8_bit(v)) {
            return qc_infer_fail(c, QD_INVALID, "'%s' is %s, not u8 or s8", v->name,
                                 qc_dtype_name(v->dtype));
        }
    }
    return QD_OK;
}

enum qd_code qc_infer_conv_integer(struct qc_infer *c)
{
    QD_TRY(check_8_bit(c));
    return infer_conv_of(c, 1, c->n->n_inputs, QC_S32);
}

/* Type of an integer unit's output: f32 without a scale, else that of the zero point; without a
 * zero point that of the input. */
static enum qc_dtype unit_dtype(const struct qc_infer *c, int scale, int zero)
{
    if (qc_infer_optional(c, scale) == NULL) {
        return QC_F32;
    }
    const struct qc_value *z = qc_infer_optional(c, zero);
    return z ? z->dtype : QC_UNKNOWN;
}

/* x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, B. */
enum qd_code qc_infer_q_conv(struct qc_infer *c)
{
    return infer_conv_of(c, 3, 8, unit_dtype(c, 6, 7));
}

enum qd_code qc_infer_pool(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    struct window w = {.n = 0};
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(spatial_rank(c, x, &w.n));
    QD_TRY(read_window(c, &w));
    QD_TRY(read_ints(c, "kernel_shape", w.n, -1, 1, w.kernel));
    if (w.kernel[0] == -1) {
        return qc_infer_fail(c, QD_INVALID, "kernel_shape is missing");
    }
    w.ceil = qc_node_int(c->n, "ceil_mode", 0) != 0;
    struct qc_shape out = x->shape;
    for (int i = 0; i < w.n; i++) {
        /* A window must meet at least one pixel: else its maximum or mean does not exist. */
        int64_t extent = (w.kernel[i] - 1) * w.dilation[i] + 1;
        if (w.pad[i] >= extent || w.pad[i + w.n] >= extent) {
            return qc_infer_fail(c, QD_INVALID,
                                 "pads %" PRId64 " and %" PRId64
                                 " are not below the window of %" PRId64,
                                 w.pad[i], w.pad[i + w.n], extent);
        }
        QD_TRY(window_output(c, &w, i, x->shape.dim[2 + i], &out.dim[2 + i]));
    }
    enum qc_dtype dtype = c->n->op == QC_OP_Q_AVERAGE_POOL ? unit_dtype(c, 3, 4) : x->dtype;
    QD_TRY(qc_infer_output(c, 1, QC_S64, &out, x->symbolic_dims));
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? x->dtype : dtype, &out, x->symbolic_dims);
}

enum qd_code qc_infer_global_pool(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int spatial = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(spatial_rank(c, x, &spatial));
    struct qc_shape out = x->shape;
    for (int i = 2; i < out.rank; i++) {
        out.dim[i] = 1;
    }
    enum qc_dtype dtype =
        c->n->op == QC_OP_Q_GLOBAL_AVERAGE_POOL ? unit_dtype(c, 3, 4) : x->dtype;
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? x->dtype : dtype, &out, x->symbolic_dims);
}

enum qd_code qc_infer_channel_parameters(struct qc_infer *c, int first, int last, int64_t channels)
{
    for (int i = first; i <= last; i++) {
        const struct qc_value *p = NULL;
        QD_TRY(qc_infer_input(c, i, &p));
        if (p->shape.rank != 1 || p->shape.dim[0] != channels) {
            char text[192];
            return qc_infer_fail(c, QD_INVALID, "parameter '%s' %s is not [%" PRId64 "]", p->name,
                                 qc_shape_format(&p->shape, text, sizeof text), channels);
        }
    }
    return QD_OK;
}

enum qd_code qc_infer_batch_norm(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    if (x->shape.rank < 2) {
        return qc_infer_fail(c, QD_INVALID, "input '%s' of rank %d has no channels", x->name,
                             x->shape.rank);
    }
    if (qc_node_int(c->n, "training_mode", 0) != 0) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "training_mode = 1");
    }
    QD_TRY(qc_infer_channel_parameters(c, 1, 4, x->shape.dim[1]));
    for (int i = 1; i < c->n->n_outputs; i++) {
        int v = c->n->outputs[i];
        if (v >= 0 && (qc_graph_count_uses(c->g, v) > 0 || qc_graph_is_output(c->g, v))) {
            return qc_infer_fail(c, QD_UNSUPPORTED, "output %d of training is used", i);
        }
    }
    return qc_infer_output(c, 0, x->dtype, &x->shape, x->symbolic_dims);
}

static enum qd_code infer_gemm_of(struct qc_infer *c, int ib, int ic, enum qc_dtype dtype)
{
    const struct qc_value *a = NULL, *b = NULL;
    char sa[192], sb[192];
    QD_TRY(qc_infer_input(c, 0, &a));
    QD_TRY(qc_infer_input(c, ib, &b));
    int ta = qc_node_int(c->n, "transA", 0) != 0;
    int tb = qc_node_int(c->n, "transB", 0) != 0;
    qc_shape_format(&a->shape, sa, sizeof sa);
    qc_shape_format(&b->shape, sb, sizeof sb);
    if (a->shape.rank != 2 || b->shape.rank != 2 || a->shape.dim[!ta] != b->shape.dim[tb]) {
        return qc_infer_fail(c, QD_INVALID, "'%s' %s%s and '%s' %s%s cannot be multiplied",
                             a->name, sa, ta ? " transposed" : "", b->name, sb,
                             tb ? " transposed" : "");
    }
    struct qc_shape out = {.rank = 2, .dim = {a->shape.dim[ta], b->shape.dim[!tb]}};
    const struct qc_value *bias = qc_infer_optional(c, ic);
    if (bias != NULL && bias->shape_known) {
        struct qc_shape both;
        if (!qc_shape_broadcast(&out, &bias->shape, &both) || !qc_shape_equal(&both, &out)) {
            return qc_infer_fail(c, QD_INVALID, "C '%s' %s does not broadcast to the output",
                                 bias->name, qc_shape_format(&bias->shape, sa, sizeof sa));
        }
    }
    unsigned symbolic = (a->symbolic_dims >> ta & 1u) | (b->symbolic_dims >> !tb & 1u) << 1;
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? a->dtype : dtype, &out, symbolic);
}

enum qd_code qc_infer_gemm(struct qc_infer *c)
{
    return infer_gemm_of(c, 1, 2, QC_UNKNOWN);
}

/* A, a_scale, a_zero_point, B, b_scale, b_zero_point, C, y_scale, y_zero_point (the order of
 * com.microsoft QGemm). */
enum qd_code qc_infer_q_gemm(struct qc_infer *c)
{
    return infer_gemm_of(c, 3, 6, unit_dtype(c, 7, 8));
}

/* numpy.matmul: a vector on the left is a row, on the right a column; its dim disappears. */
static enum qd_code infer_matmul_of(struct qc_infer *c, enum qc_dtype dtype)
{
    const struct qc_value *a = NULL, *b = NULL;
    QD_TRY(qc_infer_input(c, 0, &a));
    QD_TRY(qc_infer_input(c, 1, &b));
    int ra = a->shape.rank, rb = b->shape.rank;
    char sa[192], sb[192];
    int64_t ka = ra > 0 ? a->shape.dim[ra - 1] : -1;
    int64_t kb = rb > 1 ? b->shape.dim[rb - 2] : rb == 1 ? b->shape.dim[0] : -2;
    struct qc_shape lead_a = a->shape, lead_b = b->shape, out;
    lead_a.rank = ra > 2 ? ra - 2 : 0;
    lead_b.rank = rb > 2 ? rb - 2 : 0;
    bool types = dtype != QC_UNKNOWN || a->dtype == b->dtype;
    if (ka != kb || !types || !qc_shape_broadcast(&lead_a, &lead_b, &out)) {
        return qc_infer_fail(c, QD_INVALID, "'%s' %s%s and '%s' %s%s cannot be multiplied",
                             a->name, qc_shape_format(&a->shape, sa, sizeof sa),
                             qc_dtype_name(a->dtype), b->name,
                             qc_shape_format(&b->shape, sb, sizeof sb), qc_dtype_name(b->dtype));
    }
    unsigned symbolic = 0;
    for (int i = 0; i < out.rank; i++) {
        int ia = i - (out.rank - lead_a.rank), ib = i - (out.rank - lead_b.rank);
        bool s =
            (ia >= 0 && a->symbolic_dims >> ia & 1) || (ib >= 0 && b->symbolic_dims >> ib & 1);
        symbolic |= (unsigned)s << i;
    }
    if (ra > 1) {
        symbolic |= (a->symbolic_dims >> (ra - 2) & 1u) << out.rank;
        out.dim[out.rank++] = a->shape.dim[ra - 2];
    }
    if (rb > 1) {
        symbolic |= (b->symbolic_dims >> (rb - 1) & 1u) << out.rank;
        out.dim[out.rank++] = b->shape.dim[rb - 1];
    }
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? a->dtype : dtype, &out, symbolic);
}

enum qd_code qc_infer_matmul(struct qc_infer *c)
{
    return infer_matmul_of(c, QC_UNKNOWN);
}

enum qd_code qc_infer_matmul_integer(struct qc_infer *c)
{
    QD_TRY(check_8_bit(c));
    return infer_matmul_of(c, QC_S32);
}
