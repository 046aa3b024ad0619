/* Clip: f32 as any function of one tensor, integers here. */
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

struct clip {
    struct qc_nd nd; /* x, out */
    enum qc_dtype dtype;
    int64_t lo, hi;
};

struct clip_run {
    const struct clip *op;
    const void *x;
    void *y;
};

#define CLIP_LOOP(type)                                                                          \
    do {                                                                                         \
        const type *x = (const type *)r->x + off[0];                                             \
        type *y = (type *)r->y + off[1];                                                         \
        for (int64_t i = 0; i < nd->dim[last]; i++) {                                            \
            int64_t v = x[i * sx];                                                               \
            v = v < r->op->lo ? r->op->lo : v;                                                   \
            y[i * sy] = (type)(v > r->op->hi ? r->op->hi : v); /* hi wins, as in ONNX */         \
        }                                                                                        \
    } while (0)

static void clip_one(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct clip_run *r = ctx;
    int last = nd->rank - 1;
    int64_t sx = nd->stride[0][last], sy = nd->stride[1][last];
    if (r->op->dtype == QC_S8) {
        CLIP_LOOP(int8_t);
    } else if (r->op->dtype == QC_U8) {
        CLIP_LOOP(uint8_t);
    } else if (r->op->dtype == QC_S32) {
        CLIP_LOOP(int32_t);
    } else {
        CLIP_LOOP(int64_t);
    }
}

static void clip_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct clip *op = step->params;
    struct clip_run r = {op, in[0].data, out[0].data};
    qc_nd_walk(&op->nd, clip_one, &r);
}

/* A bound of the tensor's own type, so that every result fits it. */
static bool read_bound(const struct qc_prepare *p, int i, int64_t *ret)
{
    if (i >= p->node->n_inputs || p->node->inputs[i] < 0) {
        return true;
    }
    const struct qc_view *v = &p->in[i];
    if (v->data == NULL || v->dtype != p->in[0].dtype || qc_shape_elements(&v->shape) != 1) {
        return false;
    }
    struct qc_tensor t = {.dtype = v->dtype, .shape = v->shape, .data = v->data};
    *ret = qc_tensor_s64(&t, 0);
    return true;
}

enum qd_code qc_prepare_clip(const struct qc_prepare *p, struct qc_step *step,
                             struct qd_error *err)
{
    enum qc_dtype d = p->in[0].dtype;
    struct clip *c;
    if (d == QC_F32) {
        return qc_prepare_unary(p, step, err);
    }
    if ((d != QC_S8 && d != QC_U8 && d != QC_S32 && d != QC_S64) || p->out[0].dtype != d ||
        !qc_shape_equal(&p->in[0].shape, &p->out[0].shape) || p->node->clamp.present) {
        return qc_prepare_refuse(p, err, "implemented for f32, s8, u8, s32, s64");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    c->dtype = d;
    c->lo = INT64_MIN;
    c->hi = INT64_MAX;
    if (!read_bound(p, 1, &c->lo) || !read_bound(p, 2, &c->hi)) {
        return qc_prepare_refuse(p, err, "the bounds must be constants of the input's type");
    }
    const struct qc_view *views[2] = {&p->in[0], &p->out[0]};
    qc_nd_init(&c->nd, &p->out[0].shape, 2, views);
    step->params = c;
    step->run = clip_run;
    return QD_OK;
}
