#include <inttypes.h>
#include <math.h>

#include "quantcore/graph/graph_shapes.h"

static bool bit(uint64_t bits, int i)
{
    return bits >> (i < 63 ? i : 63) & 1;
}

enum qd_code qc_infer_flatten(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    int rank = x->shape.rank;
    int64_t axis = qc_node_int(c->n, "axis", 1);
    if (axis < -rank || axis > rank) {
        return qc_infer_fail(c, QD_INVALID, "axis %" PRId64 " is outside rank %d", axis, rank);
    }
    axis += axis < 0 ? rank : 0;
    struct qc_shape out = {.rank = 2, .dim = {1, 1}};
    unsigned symbolic = 0;
    for (int i = 0; i < rank; i++) {
        out.dim[i >= axis] *= x->shape.dim[i]; /* part of a product that was checked */
        symbolic |= (x->symbolic_dims >> i & 1u) << (i >= axis);
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

static enum qd_code reshape_dim(struct qc_infer *c, const struct qc_value *x, int64_t asked,
                                int i, int64_t *ret)
{
    if (asked < -1) {
        return qc_infer_fail(c, QD_INVALID, "shape[%d] = %" PRId64, i, asked);
    }
    if (asked == 0 && !qc_node_int(c->n, "allowzero", 0)) {
        if (i >= x->shape.rank) {
            return qc_infer_fail(c, QD_INVALID, "shape[%d] = 0 copies a dim that '%s' lacks", i,
                                 x->name);
        }
        *ret = x->shape.dim[i];
        return QD_OK;
    }
    *ret = asked;
    return QD_OK;
}

/* Which dims of the result follow the batch: a copied dim that does, an element of the shape that
 * does, and -1 when the batch is in none of the others. */
static unsigned reshape_symbolic(const struct qc_value *x, const struct qc_shape *out,
                                 const int64_t *asked, uint64_t bits, int infer, bool allow_zero)
{
    unsigned symbolic = 0;
    for (int i = 0; i < out->rank; i++) {
        bool copied = asked[i] == 0 && !allow_zero && i < x->shape.rank;
        if ((copied && x->symbolic_dims >> i & 1) || (i != infer && bit(bits, i))) {
            symbolic |= 1u << i;
        }
    }
    if (infer >= 0 && __builtin_popcount(x->symbolic_dims) > __builtin_popcount(symbolic)) {
        symbolic |= 1u << infer;
    }
    return symbolic;
}

enum qd_code qc_infer_reshape(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t asked[QC_MAX_RANK];
    struct qc_shape out = {.rank = 0};
    uint64_t bits = 0;
    int infer = -1;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_ints(c, 1, "shape", QC_MAX_RANK, asked, &out.rank, &bits));
    for (int i = 0; i < out.rank; i++) {
        QD_TRY(reshape_dim(c, x, asked[i], i, &out.dim[i]));
        if (out.dim[i] == -1) {
            if (infer >= 0) {
                return qc_infer_fail(c, QD_INVALID, "shape[%d] and shape[%d] are both -1", infer,
                                     i);
            }
            infer = i;
            out.dim[i] = 1;
        }
    }
    char from[192], to[192];
    size_t have = qc_shape_elements(&x->shape), count = 0;
    bool fits = qc_shape_elements_checked(&out, qc_dtype_size(x->dtype), &count);
    if (fits && infer >= 0) {
        fits = count > 0 && have % count == 0;
        out.dim[infer] = fits ? (int64_t)(have / count) : -1;
        count = have;
    }
    if (!fits || count != have) {
        return qc_infer_fail(c, QD_INVALID, "'%s' %s cannot become %s", x->name,
                             qc_shape_format(&x->shape, from, sizeof from),
                             qc_shape_format(&out, to, sizeof to));
    }
    bool allow_zero = qc_node_int(c->n, "allowzero", 0) != 0;
    return qc_infer_output(c, 0, x->dtype, &out,
                           reshape_symbolic(x, &out, asked, bits, infer, allow_zero));
}

enum qd_code qc_infer_transpose(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    int rank = x->shape.rank;
    const struct qc_attr *perm = qc_node_attr(c->n, "perm");
    if (perm != NULL && (perm->type != QC_ATTR_INTS || perm->n != (size_t)rank)) {
        return qc_infer_fail(c, QD_INVALID, "perm has %zu elements, expected %d", perm->n, rank);
    }
    struct qc_shape out = {.rank = rank};
    unsigned seen = 0, symbolic = 0;
    for (int i = 0; i < rank; i++) {
        int axis = 0;
        QD_TRY(qc_infer_axis(c, perm ? perm->ints[i] : rank - 1 - i, rank, &axis));
        if (seen >> axis & 1) {
            return qc_infer_fail(c, QD_INVALID, "perm names axis %d twice", axis);
        }
        seen |= 1u << axis;
        out.dim[i] = x->shape.dim[axis];
        symbolic |= (x->symbolic_dims >> axis & 1u) << i;
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

/* n axes of a shape of `rank`, no two the same, counted from the front afterwards; also as a set. */
static enum qd_code distinct_axes(struct qc_infer *c, int rank, int n, int64_t *axes,
                                  unsigned *ret_set)
{
    unsigned set = 0;
    for (int i = 0; i < n; i++) {
        int axis = 0;
        QD_TRY(qc_infer_axis(c, axes[i], rank, &axis));
        if (set >> axis & 1) {
            return qc_infer_fail(c, QD_INVALID, "axes name axis %d twice", axis);
        }
        set |= 1u << axis;
        axes[i] = axis;
    }
    *ret_set = set;
    return QD_OK;
}

/* Input 1 as a set of axes of a shape of `rank`; *ret = 0 when the input is absent. */
static enum qd_code read_axes(struct qc_infer *c, int rank, int *ret_count, unsigned *ret)
{
    int64_t axes[QC_MAX_RANK];
    uint64_t bits = 0;
    *ret = 0;
    *ret_count = 0;
    if (qc_infer_optional(c, 1) == NULL) {
        return QD_OK;
    }
    QD_TRY(qc_infer_ints(c, 1, "axes", QC_MAX_RANK, axes, ret_count, &bits));
    return distinct_axes(c, rank, *ret_count, axes, ret);
}

enum qd_code qc_infer_squeeze(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    unsigned axes = 0, symbolic = 0;
    int count = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(read_axes(c, x->shape.rank, &count, &axes));
    bool all = qc_infer_optional(c, 1) == NULL;
    struct qc_shape out = {.rank = 0};
    for (int i = 0; i < x->shape.rank; i++) {
        /* Without axes a batch of 1 must not vanish: another batch would keep it. */
        bool drop = all ? x->shape.dim[i] == 1 && !(x->symbolic_dims >> i & 1) : axes >> i & 1;
        if (!drop) {
            symbolic |= (x->symbolic_dims >> i & 1u) << out.rank;
            out.dim[out.rank++] = x->shape.dim[i];
        } else if (x->shape.dim[i] != 1) {
            return qc_infer_fail(c, QD_INVALID, "dim %d of '%s' is %" PRId64 ", not 1", i,
                                 x->name, x->shape.dim[i]);
        }
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

enum qd_code qc_infer_unsqueeze(struct qc_infer *c)
{
    const struct qc_value *x = NULL, *axes_value = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_input(c, 1, &axes_value));
    int count = axes_value->constant ? (int)qc_shape_elements(&axes_value->shape) : 0;
    if (count < 0 || x->shape.rank + count > QC_MAX_RANK) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "output of rank %d + %d, limit %d", x->shape.rank,
                             count, QC_MAX_RANK);
    }
    struct qc_shape out = {.rank = x->shape.rank + count};
    unsigned axes = 0, symbolic = 0;
    QD_TRY(read_axes(c, out.rank, &count, &axes));
    for (int i = 0, from = 0; i < out.rank; i++) {
        if (axes >> i & 1) {
            out.dim[i] = 1;
        } else {
            symbolic |= (x->symbolic_dims >> from & 1u) << i;
            out.dim[i] = x->shape.dim[from++];
        }
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

/* numpy's slice: bounds count from the end when negative and are clamped to the dim. */
static int64_t slice_length(int64_t dim, int64_t start, int64_t end, int64_t step)
{
    start += start < 0 ? dim : 0;
    end += end < 0 ? dim : 0;
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? dim : dim - 1;
    start = start < 0 ? 0 : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    int64_t span = step > 0 ? end - start : start - end;
    uint64_t stride = step > 0 ? (uint64_t)step : (uint64_t)0 - (uint64_t)step;
    return span <= 0 ? 0 : (int64_t)(((uint64_t)span - 1) / stride + 1);
}

static enum qd_code slice_dim(struct qc_infer *c, struct qc_shape *out, int64_t axis64,
                              const int64_t range[3], unsigned *seen, int *ret_axis)
{
    int axis = 0;
    QD_TRY(qc_infer_axis(c, axis64, out->rank, &axis));
    if (*seen >> axis & 1) {
        return qc_infer_fail(c, QD_INVALID, "axes name axis %d twice", axis);
    }
    if (range[2] == 0) {
        return qc_infer_fail(c, QD_INVALID, "step of axis %d is 0", axis);
    }
    *seen |= 1u << axis;
    out->dim[axis] = slice_length(out->dim[axis], range[0], range[1], range[2]);
    *ret_axis = axis;
    return QD_OK;
}

enum qd_code qc_infer_slice(struct qc_infer *c)
{
    enum { N = QC_MAX_RANK };
    const struct qc_value *x = NULL;
    int64_t start[N], end[N], axes[N], step[N];
    int n = 0, n_end = 0, n_axes = 0, n_step = 0;
    uint64_t bits = 0, end_bits = 0, ignored;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_ints(c, 1, "starts", N, start, &n, &bits));
    QD_TRY(qc_infer_ints(c, 2, "ends", N, end, &n_end, &end_bits));
    bool has_axes = qc_infer_optional(c, 3) != NULL, has_steps = qc_infer_optional(c, 4) != NULL;
    if (has_axes) {
        QD_TRY(qc_infer_ints(c, 3, "axes", N, axes, &n_axes, &ignored));
    }
    if (has_steps) {
        QD_TRY(qc_infer_ints(c, 4, "steps", N, step, &n_step, &ignored));
    }
    if (n_end != n || (has_axes && n_axes != n) || (has_steps && n_step != n)) {
        return qc_infer_fail(c, QD_INVALID, "%d starts, %d ends, %d axes, %d steps", n, n_end,
                             has_axes ? n_axes : n, has_steps ? n_step : n);
    }
    struct qc_shape out = x->shape;
    unsigned seen = 0, symbolic = x->symbolic_dims;
    for (int i = 0; i < n; i++) {
        const int64_t range[3] = {start[i], end[i], has_steps ? step[i] : 1};
        int axis = 0;
        QD_TRY(slice_dim(c, &out, has_axes ? axes[i] : i, range, &seen, &axis));
        if (bit(bits | end_bits, i)) {
            symbolic |= 1u << axis;
        }
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

/* axes of a Pad or Resize: those of `given`, or all when it is absent (n_given -1). */
static enum qd_code given_or_all_axes(struct qc_infer *c, int rank, int n_given, int64_t *axes,
                                      int *ret_n)
{
    unsigned set = 0;
    *ret_n = n_given < 0 ? rank : n_given;
    for (int i = 0; n_given < 0 && i < rank; i++) {
        axes[i] = i;
    }
    return distinct_axes(c, rank, *ret_n, axes, &set);
}

enum qd_code qc_infer_pad(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t pads[2 * QC_MAX_RANK], axes[QC_MAX_RANK];
    int n = 0, n_axes = -1;
    uint64_t bits = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_ints(c, 1, "pads", 2 * QC_MAX_RANK, pads, &n, &bits));
    if (qc_infer_optional(c, 3) != NULL) {
        QD_TRY(qc_infer_ints(c, 3, "axes", QC_MAX_RANK, axes, &n_axes, &bits));
    }
    QD_TRY(given_or_all_axes(c, x->shape.rank, n_axes, axes, &n_axes));
    if (n != 2 * n_axes) {
        return qc_infer_fail(c, QD_INVALID, "%d pads for %d axes", n, n_axes);
    }
    struct qc_shape out = x->shape;
    for (int k = 0; k < n_axes; k++) {
        int i = (int)axes[k];
        int64_t dim = out.dim[i], before = pads[k], after = pads[k + n_axes];
        if (__builtin_add_overflow(dim, before, &dim) || dim < 0 ||
            __builtin_add_overflow(dim, after, &dim) || dim < 0) {
            return qc_infer_fail(c, QD_INVALID,
                                 "pads %" PRId64 " and %" PRId64 " do not fit dim %d of %" PRId64,
                                 before, after, i, out.dim[i]);
        }
        out.dim[i] = dim;
    }
    return qc_infer_output(c, 0, x->dtype, &out, x->symbolic_dims);
}

enum qd_code qc_infer_gather(struct qc_infer *c)
{
    const struct qc_value *x = NULL, *index = NULL;
    int axis = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_input(c, 1, &index));
    QD_TRY(qc_infer_axis(c, qc_node_int(c->n, "axis", 0), x->shape.rank, &axis));
    if (x->shape.rank - 1 + index->shape.rank > QC_MAX_RANK) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "output of rank %d, limit %d",
                             x->shape.rank - 1 + index->shape.rank, QC_MAX_RANK);
    }
    struct qc_shape out = {.rank = 0};
    unsigned symbolic = 0;
    for (int i = 0; i < x->shape.rank; i++) {
        if (i != axis) {
            symbolic |= (x->symbolic_dims >> i & 1u) << out.rank;
            out.dim[out.rank++] = x->shape.dim[i];
            continue;
        }
        for (int k = 0; k < index->shape.rank; k++) {
            symbolic |= (index->symbolic_dims >> k & 1u) << out.rank;
            out.dim[out.rank++] = index->shape.dim[k];
        }
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

/* Concat of inputs first, first + step, … */
static enum qd_code infer_concat_of(struct qc_infer *c, int first, int step, enum qc_dtype dtype)
{
    const struct qc_value *x = NULL;
    int axis = 0;
    QD_TRY(qc_infer_input(c, first, &x));
    const struct qc_attr *attr = qc_node_attr(c->n, "axis");
    if (attr == NULL || attr->type != QC_ATTR_INT) {
        return qc_infer_fail(c, QD_INVALID, "axis is missing");
    }
    QD_TRY(qc_infer_axis(c, attr->i, x->shape.rank, &axis));
    struct qc_shape out = x->shape;
    unsigned symbolic = x->symbolic_dims;
    enum qc_dtype type = x->dtype;
    for (int i = first + step; i < c->n->n_inputs; i += step) {
        QD_TRY(qc_infer_input(c, i, &x));
        bool fits = x->shape.rank == out.rank && x->dtype == type;
        for (int k = 0; fits && k < out.rank; k++) {
            fits = k == axis || x->shape.dim[k] == out.dim[k];
        }
        if (!fits || __builtin_add_overflow(out.dim[axis], x->shape.dim[axis], &out.dim[axis])) {
            char sa[192], sb[192];
            return qc_infer_fail(c, QD_INVALID, "'%s' %s%s does not fit %s%s along axis %d",
                                 x->name, qc_shape_format(&x->shape, sa, sizeof sa),
                                 qc_dtype_name(x->dtype), qc_shape_format(&out, sb, sizeof sb),
                                 qc_dtype_name(type), axis);
        }
        symbolic |= x->symbolic_dims;
    }
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? type : dtype, &out, symbolic);
}

enum qd_code qc_infer_concat(struct qc_infer *c)
{
    return infer_concat_of(c, 0, 1, QC_UNKNOWN);
}

/* y_scale, y_zero_point, then x, x_scale, x_zero_point for every input. */
enum qd_code qc_infer_q_concat(struct qc_infer *c)
{
    const struct qc_value *zero = qc_infer_optional(c, 1);
    bool has_scale = qc_infer_optional(c, 0) != NULL;
    return infer_concat_of(c, 2, 3, !has_scale ? QC_F32 : zero ? zero->dtype : QC_UNKNOWN);
}

static enum qd_code resize_scaled(struct qc_infer *c, const struct qc_value *scales,
                                  const int64_t *axes, int n_axes, struct qc_shape *out)
{
    const struct qc_tensor *t = scales->constant;
    if (t == NULL) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "scales '%s' are computed from data",
                             scales->name);
    }
    size_t n = qc_shape_elements(&t->shape);
    if (n != (size_t)n_axes || t->dtype != QC_F32) {
        return qc_infer_fail(c, QD_INVALID, "%zu scales of type %s for %d axes", n,
                             qc_dtype_name(t->dtype), n_axes);
    }
    for (int i = 0; i < n_axes; i++) {
        /* ONNX Runtime computes this product in f32. */
        float scale = ((const float *)t->data)[i];
        int64_t *dim = &out->dim[axes[i]];
        float scaled = floorf((float)*dim * scale);
        if (!(scale > 0) || !(scaled < 0x1p31f)) {
            return qc_infer_fail(c, QD_INVALID, "scales[%d] = %g for a dim of %" PRId64, i,
                                 (double)scale, *dim);
        }
        *dim = (int64_t)scaled;
    }
    return QD_OK;
}

static enum qd_code resize_axes(struct qc_infer *c, int rank, int64_t *axes, int *ret_n)
{
    const struct qc_attr *a = qc_node_attr(c->n, "axes");
    if (a != NULL && (a->type != QC_ATTR_INTS || a->n > (size_t)rank)) {
        return qc_infer_fail(c, QD_INVALID, "axes has %zu integers for rank %d", a->n, rank);
    }
    return given_or_all_axes(c, rank, a != NULL ? qc_node_ints(c->n, "axes", axes, rank) : -1, axes,
                             ret_n);
}

enum qd_code qc_infer_resize(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    bool upsample = c->n->op == QC_OP_UPSAMPLE;
    QD_TRY(qc_infer_input(c, 0, &x));
    const struct qc_value *scales = qc_infer_optional(c, upsample ? 1 : 2);
    const struct qc_value *sizes = upsample ? NULL : qc_infer_optional(c, 3);
    struct qc_shape out = x->shape;
    unsigned symbolic = x->symbolic_dims;
    int64_t axes[QC_MAX_RANK];
    int n_axes = 0;
    QD_TRY(resize_axes(c, out.rank, axes, &n_axes));
    bool empty = sizes && sizes->shape_known && qc_shape_elements(&sizes->shape) == 0;
    if (sizes != NULL && !empty) {
        int64_t dims[QC_MAX_RANK];
        int n = 0;
        uint64_t bits = 0;
        QD_TRY(qc_infer_ints(c, 3, "sizes", QC_MAX_RANK, dims, &n, &bits));
        if (n != n_axes) {
            return qc_infer_fail(c, QD_INVALID, "%d sizes for %d axes", n, n_axes);
        }
        for (int i = 0; i < n; i++) {
            out.dim[axes[i]] = dims[i];
            symbolic |= (unsigned)bit(bits, i) << axes[i];
        }
    } else if (scales != NULL) {
        QD_TRY(resize_scaled(c, scales, axes, n_axes, &out));
    } else {
        return qc_infer_fail(c, QD_INVALID, "neither scales nor sizes are given");
    }
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}
