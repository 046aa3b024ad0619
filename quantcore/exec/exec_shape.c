/* Operators that move elements without changing them, and those that make shapes. */
#include <math.h>
#include <string.h>

#include "quantcore/affine/requant.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

static bool copyable(enum qc_dtype dtype)
{
    return qc_dtype_size(dtype) > 0;
}

/* A fused clamp on an operator that only moves elements. */
static void clamp_out(const struct qc_step *step, const struct qc_clamp *clamp,
                      const struct qc_view *out)
{
    if (clamp->present) {
        step->kernels->clamp_f32(out->data, clamp->lo, clamp->hi, out->data,
                                 qc_shape_elements(&out->shape));
    }
}

static enum qd_code check_move(const struct qc_prepare *p, struct qd_error *err)
{
    if (!copyable(p->in[0].dtype) || p->in[0].dtype != p->out[0].dtype) {
        return qc_prepare_refuse(p, err, "not implemented for this type");
    }
    if (p->node->clamp.present && (p->out[0].dtype != QC_F32 || p->out[0].layout != QC_PLAIN)) {
        return qc_prepare_refuse(p, err, "a fused activation needs plain f32");
    }
    return QD_OK;
}

/* ---- Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout ---- */

static void reshape_run(const struct qc_step *step, const struct qc_view *in,
                        const struct qc_view *out, void *scratch)
{
    (void)scratch;
    memcpy(out[0].data, in[0].data,
           qc_shape_elements(&out[0].shape) * qc_dtype_size(out[0].dtype));
    clamp_out(step, step->params, &out[0]);
}

static void identity_run(const struct qc_step *step, const struct qc_view *in,
                         const struct qc_view *out, void *scratch)
{
    (void)scratch;
    qc_view_copy(&in[0], &out[0]);
    clamp_out(step, step->params, &out[0]);
    if (step->n_outputs > 1 && out[1].data != NULL) { /* Dropout's mask: everything is kept */
        memset(out[1].data, 1, qc_shape_elements(&out[1].shape));
    }
}

static enum qd_code keep_clamp(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    struct qc_clamp *clamp;
    QD_TRY(qd_arena_copy(p->arena, &p->node->clamp, sizeof(*clamp), &clamp, err));
    step->params = clamp;
    return QD_OK;
}

enum qd_code qc_prepare_reshape(const struct qc_prepare *p, struct qc_step *step,
                                struct qd_error *err)
{
    QD_TRY(check_move(p, err));
    if (qc_shape_elements(&p->in[0].shape) != qc_shape_elements(&p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "the output has another number of elements");
    }
    step->run = reshape_run;
    return keep_clamp(p, step, err);
}

enum qd_code qc_prepare_identity(const struct qc_prepare *p, struct qc_step *step,
                                 struct qd_error *err)
{
    QD_TRY(check_move(p, err));
    if (!qc_shape_equal(&p->in[0].shape, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "input and output differ in shape");
    }
    bool has_mode =
        p->node->op == QC_OP_DROPOUT && p->node->n_inputs > 2 && p->node->inputs[2] >= 0;
    if (has_mode && (p->in[2].data == NULL || *(const uint8_t *)p->in[2].data != 0)) {
        return qc_prepare_refuse(p, err, "training_mode must be a constant false");
    }
    if (p->node->n_outputs > 1 && p->node->outputs[1] >= 0 &&
        (p->out[1].dtype != QC_BOOL || p->out[1].layout != QC_PLAIN)) {
        return qc_prepare_refuse(p, err, "the mask must be bool");
    }
    step->run = identity_run;
    return keep_clamp(p, step, err);
}

/* ---- Transpose ---- */

struct move {
    struct qc_nd nd; /* from, to */
    struct qc_clamp clamp;
};

static void move_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct move *m = step->params;
    qc_nd_copy(&m->nd, qc_dtype_size(out[0].dtype), in[0].data, out[0].data);
    clamp_out(step, &m->clamp, &out[0]);
}

enum qd_code qc_prepare_transpose(const struct qc_prepare *p, struct qc_step *step,
                                  struct qd_error *err)
{
    int64_t perm[QC_MAX_RANK], from[QC_MAX_RANK], xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    int rank = p->in[0].shape.rank;
    bool seen[QC_MAX_RANK] = {false};
    struct move *m;
    QD_TRY(check_move(p, err));
    int n = qc_node_ints(p->node, "perm", perm, QC_MAX_RANK);
    if (n != 0 && n != rank) {
        return qc_prepare_refuse(p, err, "perm must have one value a dim");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*m), &m, err));
    qc_view_strides(&p->in[0], xs);
    qc_view_strides(&p->out[0], ys);
    for (int i = 0; i < rank; i++) {
        int64_t d = n == 0 ? rank - 1 - i : perm[i];
        if (d < 0 || d >= rank || seen[d] || p->out[0].shape.rank != rank ||
            p->in[0].shape.dim[d] != p->out[0].shape.dim[i]) {
            return qc_prepare_refuse(p, err, "perm is no permutation to the output's shape");
        }
        seen[d] = true;
        from[i] = xs[d];
    }
    const int64_t *strides[2] = {from, ys};
    qc_nd_init_strides(&m->nd, &p->out[0].shape, 2, strides, false);
    m->clamp = p->node->clamp;
    step->params = m;
    step->run = move_run;
    return QD_OK;
}

/* ---- Concat ---- */

struct concat {
    struct qc_nd *nd; /* [n_inputs] from, to */
    int64_t *offset;  /* [n_inputs] bytes into the output */
    struct qc_clamp clamp;
};

static void concat_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct concat *c = step->params;
    for (int i = 0; i < step->n_inputs; i++) {
        char *to = (char *)out[0].data + c->offset[i];
        if (in[i].data != NULL && in[i].data != to) { /* made in its place */
            qc_nd_copy(&c->nd[i], qc_dtype_size(out[0].dtype), in[i].data, to);
        }
    }
    clamp_out(step, &c->clamp, &out[0]);
}

enum qd_code qc_prepare_concat(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *y = &p->out[0];
    int rank = y->shape.rank, n = p->node->n_inputs;
    int64_t axis = qc_node_int(p->node, "axis", 1), at = 0;
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    struct concat *c;
    QD_TRY(check_move(p, err));
    axis = axis < 0 ? axis + rank : axis;
    if (axis < 0 || axis >= rank) {
        return qc_prepare_refuse(p, err, "the axis lies outside the rank");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(struct qc_nd), &c->nd, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(int64_t), &c->offset, err));
    qc_view_strides(y, ys);
    for (int i = 0; i < n; i++) {
        const struct qc_view *x = &p->in[i];
        struct qc_shape expect = y->shape;
        expect.dim[axis] = x->shape.rank == rank ? x->shape.dim[axis] : -1;
        if (p->node->inputs[i] < 0 || x->dtype != y->dtype ||
            !qc_shape_equal(&x->shape, &expect)) {
            return qc_prepare_refuse(p, err, "the inputs differ in type or shape");
        }
        qc_view_strides(x, xs);
        const int64_t *strides[2] = {xs, ys};
        qc_nd_init_strides(&c->nd[i], &x->shape, 2, strides, y->layout == QC_NHWC);
        c->offset[i] = at * ys[axis] * (int64_t)qc_dtype_size(y->dtype);
        at += x->shape.dim[axis];
    }
    if (at != y->shape.dim[axis]) {
        return qc_prepare_refuse(p, err, "the inputs do not add up to the output");
    }
    c->clamp = p->node->clamp;
    step->params = c;
    step->run = concat_run;
    return QD_OK;
}

/* ---- Gather ---- */

struct gather {
    int64_t outer, count, axis_dim, inner; /* inner in bytes */
    struct qc_clamp clamp;
};

static void gather_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct gather *g = step->params;
    const char *x = in[0].data;
    char *y = out[0].data;
    for (int64_t o = 0; o < g->outer; o++) {
        for (int64_t i = 0; i < g->count; i++) {
            int64_t at = in[1].dtype == QC_S64 ? ((const int64_t *)in[1].data)[i]
                                               : ((const int32_t *)in[1].data)[i];
            at = at < 0 ? at + g->axis_dim : at;
            at = at < 0 ? 0 : (at >= g->axis_dim ? g->axis_dim - 1 : at); /* data: clamped */
            memcpy(y + (o * g->count + i) * g->inner, x + (o * g->axis_dim + at) * g->inner,
                   (size_t)g->inner);
        }
    }
    clamp_out(step, &g->clamp, &out[0]);
}

static bool gather_indices_fit(const struct qc_view *indices, int64_t limit)
{
    for (size_t i = 0; indices->data != NULL && i < qc_shape_elements(&indices->shape); i++) {
        int64_t at = indices->dtype == QC_S64 ? ((const int64_t *)indices->data)[i]
                                              : ((const int32_t *)indices->data)[i];
        if (at < -limit || at >= limit) {
            return false;
        }
    }
    return true;
}

enum qd_code qc_prepare_gather(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *indices = &p->in[1];
    int64_t axis = qc_node_int(p->node, "axis", 0);
    struct gather *g;
    QD_TRY(check_move(p, err));
    axis = axis < 0 ? axis + x->shape.rank : axis;
    if (axis < 0 || axis >= x->shape.rank ||
        (indices->dtype != QC_S64 && indices->dtype != QC_S32)) {
        return qc_prepare_refuse(p, err, "bad axis, or indices that are not s64 or s32");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*g), &g, err));
    g->outer = 1;
    g->inner = (int64_t)qc_dtype_size(x->dtype);
    g->axis_dim = x->shape.dim[axis];
    g->count = (int64_t)qc_shape_elements(&indices->shape);
    for (int i = 0; i < x->shape.rank; i++) {
        g->outer *= i < axis ? x->shape.dim[i] : 1;
        g->inner *= i > axis ? x->shape.dim[i] : 1;
    }
    if ((g->axis_dim == 0 && g->count > 0) || !gather_indices_fit(indices, g->axis_dim)) {
        return qc_prepare_refuse(p, err, "an index lies outside the axis");
    }
    if ((size_t)(g->outer * g->count * g->inner) !=
        qc_shape_elements(&p->out[0].shape) * qc_dtype_size(x->dtype)) {
        return qc_prepare_refuse(p, err, "the output's shape does not fit");
    }
    g->clamp = p->node->clamp;
    step->params = g;
    step->run = gather_run;
    return QD_OK;
}
