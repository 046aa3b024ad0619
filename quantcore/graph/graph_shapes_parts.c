#include <inttypes.h>
#include <string.h>

#include "quantcore/graph/graph_shapes.h"

/* ---- Split ---- */

/* The sizes that input 1 gives. */
static enum qd_code given_parts(struct qc_infer *c, int64_t dim, int64_t *size)
{
    int n = 0;
    uint64_t bits = 0;
    int64_t left = dim;
    QD_TRY(qc_infer_ints(c, 1, "split", QC_MAX_PARTS, size, &n, &bits));
    if (n != c->n->n_outputs) {
        return qc_infer_fail(c, QD_INVALID, "%d sizes for %d outputs", n, c->n->n_outputs);
    }
    for (int i = 0; i < n; i++) {
        if (size[i] < 0 || size[i] > left) {
            return qc_infer_fail(c, QD_INVALID,
                                 "split[%d] = %" PRId64 " is outside 0..%" PRId64
                                 ", what is left of the axis",
                                 i, size[i], left);
        }
        left -= size[i];
    }
    return left == 0 ? QD_OK
                     : qc_infer_fail(c, QD_INVALID, "split leaves %" PRId64 " of %" PRId64, left,
                                     dim);
}

/* Without sizes all parts are equal; num_outputs (opset 18) lets the last one be smaller. */
static enum qd_code equal_parts(struct qc_infer *c, int64_t dim, int64_t *size)
{
    int64_t n = c->n->n_outputs, asked = qc_node_int(c->n, "num_outputs", n);
    bool uneven = qc_node_attr(c->n, "num_outputs") != NULL;
    int64_t part = dim / n + (dim % n != 0), last = dim - part * (n - 1);
    if (asked != n) {
        return qc_infer_fail(c, QD_INVALID, "num_outputs = %" PRId64 " for %" PRId64 " outputs",
                             asked, n);
    }
    if ((!uneven && dim % n != 0) || last < 0) {
        return qc_infer_fail(c, QD_INVALID,
                             "%" PRId64 " elements are not %" PRId64 " equal parts", dim, n);
    }
    for (int64_t i = 0; i < n; i++) {
        size[i] = i + 1 < n ? part : last;
    }
    return QD_OK;
}

enum qd_code qc_infer_split(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t size[QC_MAX_PARTS];
    int axis = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_axis(c, qc_node_int(c->n, "axis", 0), x->shape.rank, &axis));
    if (c->n->n_outputs > QC_MAX_PARTS) {
        return qc_infer_fail(c, QD_LIMIT_EXCEEDED, "%d outputs, limit %d", c->n->n_outputs,
                             QC_MAX_PARTS);
    }
    if (x->symbolic_dims >> axis & 1) {
        return qc_infer_fail(c, QD_UNSUPPORTED, "axis %d of '%s' follows the batch", axis,
                             x->name);
    }
    bool given = qc_infer_optional(c, 1) != NULL;
    QD_TRY((given ? given_parts : equal_parts)(c, x->shape.dim[axis], size));
    struct qc_shape from = x->shape;
    enum qc_dtype dtype = x->dtype;
    unsigned symbolic = x->symbolic_dims;
    for (int i = 0; i < c->n->n_outputs; i++) {
        from.dim[axis] = size[i];
        QD_TRY(qc_infer_output(c, i, dtype, &from, symbolic));
    }
    return QD_OK;
}

/* ---- DepthToSpace, SpaceToDepth ---- */

static enum qd_code read_block(struct qc_infer *c, const struct qc_value **ret, int64_t *ret_block)
{
    const struct qc_attr *block = qc_node_attr(c->n, "blocksize");
    QD_TRY(qc_infer_input(c, 0, ret));
    if ((*ret)->shape.rank != 4) {
        return qc_infer_fail(c, QD_INVALID, "input '%s' has rank %d, not 4", (*ret)->name,
                             (*ret)->shape.rank);
    }
    if (block == NULL || block->type != QC_ATTR_INT || block->i < 1 || block->i > INT32_MAX / 2) {
        return qc_infer_fail(c, QD_INVALID, "blocksize = %" PRId64 " is outside 1..%d",
                             block != NULL ? block->i : 0, INT32_MAX / 2);
    }
    *ret_block = block->i;
    return QD_OK;
}

enum qd_code qc_infer_depth_to_space(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t block = 0;
    QD_TRY(read_block(c, &x, &block));
    const char *mode = qc_node_string(c->n, "mode", "DCR");
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0) {
        return qc_infer_fail(c, QD_INVALID, "mode \"%.32s\" is neither DCR nor CRD", mode);
    }
    struct qc_shape out = x->shape;
    if (out.dim[1] % (block * block) != 0 ||
        __builtin_mul_overflow(out.dim[2], block, &out.dim[2]) ||
        __builtin_mul_overflow(out.dim[3], block, &out.dim[3])) {
        return qc_infer_fail(c, QD_INVALID,
                             "%" PRId64 " channels are no blocks of %" PRId64 " x %" PRId64,
                             out.dim[1], block, block);
    }
    out.dim[1] /= block * block;
    return qc_infer_output(c, 0, x->dtype, &out, x->symbolic_dims & 1u);
}

enum qd_code qc_infer_space_to_depth(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t block = 0;
    QD_TRY(read_block(c, &x, &block));
    struct qc_shape out = x->shape;
    if (out.dim[2] % block != 0 || out.dim[3] % block != 0 ||
        __builtin_mul_overflow(out.dim[1], block * block, &out.dim[1])) {
        return qc_infer_fail(c, QD_INVALID,
                             "%" PRId64 " x %" PRId64 " pixels are no blocks of %" PRId64
                             " x %" PRId64,
                             out.dim[2], out.dim[3], block, block);
    }
    out.dim[2] /= block;
    out.dim[3] /= block;
    return qc_infer_output(c, 0, x->dtype, &out, x->symbolic_dims & 1u);
}

/* ---- Expand, Tile ---- */

static unsigned symbolic_of(uint64_t bits, int n)
{
    return (unsigned)(bits & (((uint64_t)1 << n) - 1));
}

enum qd_code qc_infer_expand(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t dims[QC_MAX_RANK];
    struct qc_shape asked = {.rank = 0}, out;
    uint64_t bits = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_ints(c, 1, "shape", QC_MAX_RANK, dims, &asked.rank, &bits));
    memcpy(asked.dim, dims, sizeof(int64_t) * (size_t)asked.rank);
    for (int i = 0; i < asked.rank; i++) {
        if (dims[i] < 0) {
            return qc_infer_fail(c, QD_INVALID, "shape[%d] = %" PRId64 " is negative", i, dims[i]);
        }
    }
    if (!qc_shape_broadcast(&x->shape, &asked, &out)) {
        char sa[192], sb[192];
        return qc_infer_fail(c, QD_INVALID, "'%s' %s does not broadcast to %s", x->name,
                             qc_shape_format(&x->shape, sa, sizeof sa),
                             qc_shape_format(&asked, sb, sizeof sb));
    }
    unsigned symbolic = symbolic_of(bits, asked.rank) << (out.rank - asked.rank) |
                        (unsigned)x->symbolic_dims << (out.rank - x->shape.rank);
    return qc_infer_output(c, 0, x->dtype, &out, symbolic);
}

enum qd_code qc_infer_tile(struct qc_infer *c)
{
    const struct qc_value *x = NULL;
    int64_t repeats[QC_MAX_RANK];
    int n = 0;
    uint64_t bits = 0;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_ints(c, 1, "repeats", QC_MAX_RANK, repeats, &n, &bits));
    if (n != x->shape.rank) {
        return qc_infer_fail(c, QD_INVALID, "%d repeats for rank %d", n, x->shape.rank);
    }
    struct qc_shape out = x->shape;
    for (int i = 0; i < n; i++) {
        if (repeats[i] < 0 || __builtin_mul_overflow(out.dim[i], repeats[i], &out.dim[i])) {
            return qc_infer_fail(c, QD_INVALID, "repeats[%d] = %" PRId64 " of a dim of %" PRId64,
                                 i, repeats[i], x->shape.dim[i]);
        }
    }
    return qc_infer_output(c, 0, x->dtype, &out, x->symbolic_dims | symbolic_of(bits, n));
}
