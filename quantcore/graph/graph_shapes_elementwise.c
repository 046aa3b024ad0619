/* Elementwise operators of several tensors. */
#include "quantcore/graph/graph_shapes.h"

/* Dims that follow the batch after broadcasting: only where the dim itself came through. */
static unsigned broadcast_symbolic(const struct qc_value *v, const struct qc_shape *out)
{
    unsigned bits = 0;
    int shift = out->rank - v->shape.rank;
    for (int i = 0; i < v->shape.rank; i++) {
        if (v->symbolic_dims >> i & 1 && v->shape.dim[i] == out->dim[i + shift]) {
            bits |= 1u << (i + shift);
        }
    }
    return bits;
}

static enum qd_code infer_broadcast_of(struct qc_infer *c, int ia, int ib, bool same_type,
                                       enum qc_dtype dtype)
{
    const struct qc_value *a = NULL, *b = NULL;
    QD_TRY(qc_infer_input(c, ia, &a));
    QD_TRY(qc_infer_input(c, ib, &b));
    if (same_type && a->dtype != b->dtype) {
        return qc_infer_fail(c, QD_INVALID, "types of '%s' (%s) and '%s' (%s) differ", a->name,
                             qc_dtype_name(a->dtype), b->name, qc_dtype_name(b->dtype));
    }
    struct qc_shape out;
    if (!qc_shape_broadcast(&a->shape, &b->shape, &out)) {
        char sa[192], sb[192];
        return qc_infer_fail(c, QD_INVALID, "shapes %s of '%s' and %s of '%s' do not broadcast",
                             qc_shape_format(&a->shape, sa, sizeof sa), a->name,
                             qc_shape_format(&b->shape, sb, sizeof sb), b->name);
    }
    return qc_infer_output(c, 0, dtype == QC_UNKNOWN ? a->dtype : dtype, &out,
                           broadcast_symbolic(a, &out) | broadcast_symbolic(b, &out));
}

enum qd_code qc_infer_broadcast(struct qc_infer *c)
{
    return infer_broadcast_of(c, 0, 1, true, QC_UNKNOWN);
}

/* Pow: the exponent may have another type. */
enum qd_code qc_infer_pow(struct qc_infer *c)
{
    return infer_broadcast_of(c, 0, 1, false, QC_UNKNOWN);
}

enum qd_code qc_infer_compare(struct qc_infer *c)
{
    return infer_broadcast_of(c, 0, 1, true, QC_BOOL);
}

/* All inputs from `first` on, of one type, broadcast together with those before. */
static enum qd_code infer_broadcast_all(struct qc_infer *c, int first)
{
    const struct qc_value *v = NULL;
    QD_TRY(qc_infer_input(c, first, &v));
    enum qc_dtype dtype = v->dtype;
    struct qc_shape out = {.rank = 0};
    unsigned symbolic = 0;
    for (int i = 0; i < c->n->n_inputs; i++) {
        struct qc_shape both;
        QD_TRY(qc_infer_input(c, i, &v));
        if ((i >= first && v->dtype != dtype) || !qc_shape_broadcast(&out, &v->shape, &both)) {
            char sa[192], sb[192];
            return qc_infer_fail(c, QD_INVALID, "'%s' %s%s does not fit %s%s", v->name,
                                 qc_shape_format(&v->shape, sa, sizeof sa),
                                 qc_dtype_name(v->dtype), qc_shape_format(&out, sb, sizeof sb),
                                 qc_dtype_name(dtype));
        }
        out = both;
    }
    for (int i = 0; i < c->n->n_inputs; i++) {
        symbolic |= broadcast_symbolic(&c->g->values[c->n->inputs[i]], &out);
    }
    return qc_infer_output(c, 0, dtype, &out, symbolic);
}

enum qd_code qc_infer_min_max(struct qc_infer *c)
{
    return infer_broadcast_all(c, 0);
}

enum qd_code qc_infer_where(struct qc_infer *c)
{
    const struct qc_value *condition = NULL;
    QD_TRY(qc_infer_input(c, 0, &condition));
    if (condition->dtype != QC_BOOL) {
        return qc_infer_fail(c, QD_INVALID, "condition '%s' is %s, not bool", condition->name,
                             qc_dtype_name(condition->dtype));
    }
    return infer_broadcast_all(c, 1);
}

/* The slope broadcasts to the input, not the other way. */
enum qd_code qc_infer_prelu(struct qc_infer *c)
{
    const struct qc_value *x = NULL, *slope = NULL;
    struct qc_shape both;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_input(c, 1, &slope));
    if (slope->dtype != x->dtype || !qc_shape_broadcast(&x->shape, &slope->shape, &both) ||
        !qc_shape_equal(&both, &x->shape)) {
        char text[192];
        return qc_infer_fail(c, QD_INVALID, "slope '%s' %s does not broadcast to the input",
                             slope->name, qc_shape_format(&slope->shape, text, sizeof text));
    }
    return qc_infer_output(c, 0, x->dtype, &x->shape, x->symbolic_dims);
}

/* QLinearAdd, QLinearMul: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero. */
enum qd_code qc_infer_q_broadcast(struct qc_infer *c)
{
    if (qc_infer_optional(c, 6) == NULL) {
        return infer_broadcast_of(c, 0, 3, false, QC_F32);
    }
    const struct qc_value *zero = qc_infer_optional(c, 7);
    return infer_broadcast_of(c, 0, 3, false, zero ? zero->dtype : QC_UNKNOWN);
}

enum qd_code qc_infer_q_table(struct qc_infer *c)
{
    const struct qc_value *x = NULL, *table = NULL;
    QD_TRY(qc_infer_input(c, 0, &x));
    QD_TRY(qc_infer_input(c, 1, &table));
    return qc_infer_output(c, 0, table->dtype, &x->shape, x->symbolic_dims);
}
