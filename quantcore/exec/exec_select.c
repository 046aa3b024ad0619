/* Where, Not; Expand and Tile: elements chosen, negated, repeated. */
#include <string.h>

#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

/* ---- Where: condition, then, else → out ---- */

struct where {
    struct qc_nd nd;
    size_t size; /* bytes of an element */
};

struct where_run {
    const struct where *op;
    const uint8_t *condition;
    const char *a, *b;
    char *out;
};

static void where_one(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct where_run *r = ctx;
    int last = nd->rank - 1;
    int64_t size = (int64_t)r->op->size;
    int64_t step[QC_ND_OPERANDS];
    for (int k = 0; k < QC_ND_OPERANDS; k++) {
        step[k] = nd->stride[k][last];
    }
    const char *a = r->a + off[1] * size, *b = r->b + off[2] * size;
    char *out = r->out + off[3] * size;
    for (int64_t i = 0; i < nd->dim[last]; i++) {
        bool yes = r->condition[off[0] + i * step[0]] != 0;
        memcpy(out + i * step[3] * size, yes ? a + i * step[1] * size : b + i * step[2] * size,
               r->op->size);
    }
}

static void where_run(const struct qc_step *step, const struct qc_view *in,
                      const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct where *op = step->params;
    struct where_run r = {op, in[0].data, in[1].data, in[2].data, out[0].data};
    qc_nd_walk(&op->nd, where_one, &r);
}

enum qd_code qc_prepare_where(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    const struct qc_view *views[4] = {&p->in[0], &p->in[1], &p->in[2], &p->out[0]};
    struct qc_shape shape = p->out[0].shape, both;
    struct where *op;
    bool fits = p->in[0].dtype == QC_BOOL && qc_dtype_size(p->out[0].dtype) > 0 &&
                !p->node->clamp.present;
    for (int k = 0; k < 3; k++) {
        fits = fits && (k == 0 || views[k]->dtype == p->out[0].dtype) &&
               qc_shape_broadcast(&views[k]->shape, &shape, &both) &&
               qc_shape_equal(&both, &shape);
    }
    if (!fits) {
        return qc_prepare_refuse(p, err, "types or shapes do not fit together");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*op), &op, err));
    op->size = qc_dtype_size(p->out[0].dtype);
    qc_nd_init(&op->nd, &shape, 4, views);
    step->params = op;
    step->run = where_run;
    return QD_OK;
}

/* ---- Not ---- */

struct not_run {
    const uint8_t *x;
    uint8_t *out;
};

static void not_one(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct not_run *r = ctx;
    int last = nd->rank - 1;
    for (int64_t i = 0; i < nd->dim[last]; i++) {
        r->out[off[1] + i * nd->stride[1][last]] = r->x[off[0] + i * nd->stride[0][last]] == 0;
    }
}

static void not_run(const struct qc_step *step, const struct qc_view *in,
                    const struct qc_view *out, void *scratch)
{
    (void)scratch;
    struct not_run r = {in[0].data, out[0].data};
    qc_nd_walk(step->params, not_one, &r);
}

enum qd_code qc_prepare_not(const struct qc_prepare *p, struct qc_step *step,
                            struct qd_error *err)
{
    const struct qc_view *views[2] = {&p->in[0], &p->out[0]};
    struct qc_nd *nd;
    if (p->in[0].dtype != QC_BOOL || p->out[0].dtype != QC_BOOL ||
        !qc_shape_equal(&p->in[0].shape, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "only bool is implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*nd), &nd, err));
    qc_nd_init(nd, &p->out[0].shape, 2, views);
    step->params = nd;
    step->run = not_run;
    return QD_OK;
}

/* ---- Expand, Tile ---- */

static void repeat_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    qc_nd_copy(step->params, qc_dtype_size(out[0].dtype), in[0].data, out[0].data);
}

static enum qd_code repeat_new(const struct qc_prepare *p, struct qc_step *step,
                               struct qc_nd **ret, struct qd_error *err)
{
    if (qc_dtype_size(p->in[0].dtype) == 0 || p->in[0].dtype != p->out[0].dtype ||
        p->in[0].shape.rank > p->out[0].shape.rank || p->node->clamp.present) {
        return qc_prepare_refuse(p, err, "not implemented for this type or rank");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(**ret), ret, err));
    step->params = *ret;
    step->run = repeat_run;
    return QD_OK;
}

enum qd_code qc_prepare_expand(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *views[2] = {&p->in[0], &p->out[0]};
    struct qc_shape both;
    struct qc_nd *nd;
    QD_TRY(repeat_new(p, step, &nd, err));
    if (!qc_shape_broadcast(&p->in[0].shape, &p->out[0].shape, &both) ||
        !qc_shape_equal(&both, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "the input does not broadcast to the output");
    }
    qc_nd_init(nd, &p->out[0].shape, 2, views);
    return QD_OK;
}

/* A repeated dim is two: how often, and the dim itself. */
enum qd_code qc_prepare_tile(const struct qc_prepare *p, struct qc_step *step,
                             struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape, *y = &p->out[0].shape;
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK], from[QC_MAX_RANK], to[QC_MAX_RANK];
    struct qc_shape walk = {.rank = 0};
    struct qc_nd *nd;
    QD_TRY(repeat_new(p, step, &nd, err));
    qc_view_strides(&p->in[0], xs);
    qc_view_strides(&p->out[0], ys);
    for (int d = 0; d < x->rank; d++) {
        int64_t times = x->dim[d] > 0 ? y->dim[d] / x->dim[d] : 0;
        if (x->rank != y->rank || times * x->dim[d] != y->dim[d]) {
            return qc_prepare_refuse(p, err, "the output is no multiple of the input");
        }
        const int64_t dims[2] = {times, x->dim[d]};
        const int64_t steps[2] = {0, xs[d]}, strides[2] = {x->dim[d] * ys[d], ys[d]};
        for (int k = 0; k < 2; k++) {
            if (dims[k] == 1) {
                continue;
            }
            if (walk.rank == QC_MAX_RANK) {
                return qc_prepare_refuse(p, err, "that many repeated dims are not implemented");
            }
            walk.dim[walk.rank] = dims[k];
            from[walk.rank] = steps[k];
            to[walk.rank++] = strides[k];
        }
    }
    const int64_t *both[2] = {from, to};
    qc_nd_init_strides(nd, &walk, 2, both, false);
    return QD_OK;
}
