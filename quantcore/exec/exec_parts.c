/* Split; DepthToSpace and SpaceToDepth. Elements of any type, in either layout. */
#include <string.h>

#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

/* ---- Split ---- */

struct split {
    struct qc_nd *nd; /* [n_outputs] from, to */
    int64_t *offset;  /* [n_outputs] bytes into the input */
};

static void split_run(const struct qc_step *step, const struct qc_view *in,
                      const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct split *s = step->params;
    for (int i = 0; i < step->n_outputs; i++) {
        if (out[i].data != NULL) {
            qc_nd_copy(&s->nd[i], qc_dtype_size(in[0].dtype),
                       (const char *)in[0].data + s->offset[i], out[i].data);
        }
    }
}

enum qd_code qc_prepare_split(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    const struct qc_view *x = &p->in[0];
    int rank = x->shape.rank, n = p->node->n_outputs;
    int64_t axis = qc_node_int(p->node, "axis", 0), at = 0;
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    struct split *s;
    axis = axis < 0 ? axis + rank : axis;
    if (qc_dtype_size(x->dtype) == 0 || p->node->clamp.present || axis < 0 || axis >= rank) {
        return qc_prepare_refuse(p, err, "not implemented for this type or axis");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*s), &s, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(struct qc_nd), &s->nd, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(int64_t), &s->offset, err));
    qc_view_strides(x, xs);
    for (int i = 0; i < n; i++) {
        const struct qc_view *y = &p->out[i];
        struct qc_shape expect = x->shape;
        if (p->node->outputs[i] < 0) {
            return qc_prepare_refuse(p, err, "an output has no name");
        }
        expect.dim[axis] = y->shape.rank == rank ? y->shape.dim[axis] : -1;
        if (y->dtype != x->dtype || !qc_shape_equal(&y->shape, &expect) ||
            expect.dim[axis] > x->shape.dim[axis] - at) {
            return qc_prepare_refuse(p, err, "the outputs differ in type or shape");
        }
        qc_view_strides(y, ys);
        const int64_t *strides[2] = {xs, ys};
        qc_nd_init_strides(&s->nd[i], &y->shape, 2, strides, y->layout == QC_NHWC);
        s->offset[i] = at * xs[axis] * (int64_t)qc_dtype_size(x->dtype);
        at += expect.dim[axis];
    }
    step->params = s;
    step->run = split_run;
    return QD_OK;
}

/* ---- DepthToSpace, SpaceToDepth ---- */

static void move_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct qc_nd *nd = step->params;
    qc_nd_copy(nd, qc_dtype_size(out[0].dtype), in[0].data, out[0].data);
}

/* The deep tensor has C * b * b channels and H x W pixels, the wide one C channels and
 * H * b x W * b pixels. Pixel (h * b + i, w * b + j), channel c of the wide one is channel
 * (i * b + j) * C + c of the deep one (DCR, and SpaceToDepth), or c * b * b + i * b + j (CRD). */
enum qd_code qc_prepare_depth_to_space(const struct qc_prepare *p, struct qc_step *step,
                                       struct qd_error *err)
{
    bool to_space = p->node->op == QC_OP_DEPTH_TO_SPACE;
    const struct qc_view *deep = to_space ? &p->in[0] : &p->out[0];
    const struct qc_view *wide = to_space ? &p->out[0] : &p->in[0];
    bool crd = to_space && strcmp(qc_node_string(p->node, "mode", "DCR"), "CRD") == 0;
    const int64_t *d = deep->shape.dim, *w = wide->shape.dim;
    int64_t b = qc_node_int(p->node, "blocksize", 0), ds[QC_MAX_RANK], ws[QC_MAX_RANK];
    struct qc_nd *nd;
    if (qc_dtype_size(deep->dtype) == 0 || deep->dtype != wide->dtype ||
        deep->shape.rank != 4 || wide->shape.rank != 4 || p->node->clamp.present || b < 1 ||
        b > INT32_MAX / 2 || d[0] != w[0] || d[1] % (b * b) != 0 || d[1] / (b * b) != w[1] ||
        w[2] % b != 0 || w[2] / b != d[2] || w[3] % b != 0 || w[3] / b != d[3]) {
        return qc_prepare_refuse(p, err, "type, shapes and blocksize do not fit together");
    }
    qc_view_strides(deep, ds);
    qc_view_strides(wide, ws);
    int64_t block = crd ? ds[1] : w[1] * ds[1]; /* from (i, j) to the next one */
    /* dims n, h, i, w, j with the channel last, where it is beside the next one, or second */
    struct qc_shape shape = {6, {d[0], d[2], b, d[3], b, w[1]}};
    int64_t from[6] = {ds[0], ds[2], b * block, ds[3], block, crd ? b * b * ds[1] : ds[1]};
    int64_t to[6] = {ws[0], b * ws[2], ws[2], b * ws[3], ws[3], ws[1]};
    if (p->out[0].layout != QC_NHWC) {
        int64_t *all[] = {shape.dim, from, to};
        for (size_t k = 0; k < QD_COUNT_OF(all); k++) {
            int64_t channel = all[k][5];
            memmove(all[k] + 2, all[k] + 1, 4 * sizeof(int64_t));
            all[k][1] = channel;
        }
    }
    const int64_t *strides[2] = {to_space ? from : to, to_space ? to : from};
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*nd), &nd, err));
    qc_nd_init_strides(nd, &shape, 2, strides, false);
    step->params = nd;
    step->run = move_run;
    return QD_OK;
}
