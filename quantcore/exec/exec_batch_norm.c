/* BatchNormalization: y = fma(x, a, b), a = scale / sqrt(var + epsilon), b = bias - mean * a */
#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

struct batch_norm {
    struct qc_nd nd; /* x, out without their channels */
    int64_t channels, x_step, out_step;
    float epsilon, lo, hi;
};

struct batch_norm_run {
    const struct batch_norm *bn;
    const float *a, *b; /* the channel's, or all channels' */
    const float *x;
    float *out;
};

/* A run of one channel. */
static void normalize_channel(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct batch_norm_run *r = ctx;
    int last = nd->rank - 1;
    const float *x = r->x + off[0];
    float *out = r->out + off[1];
    for (int64_t i = 0; i < nd->dim[last]; i++) {
        float y = fmaf(x[i * nd->stride[0][last]], r->a[0], r->b[0]);
        out[i * nd->stride[1][last]] = qc_clamp(y, r->bn->lo, r->bn->hi);
    }
}

/* A run of pixels, whose channels lie side by side. */
static void normalize_pixels(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct batch_norm_run *r = ctx;
    int last = nd->rank - 1;
    for (int64_t i = 0; i < nd->dim[last]; i++) {
        const float *x = r->x + off[0] + i * nd->stride[0][last];
        float *out = r->out + off[1] + i * nd->stride[1][last];
        for (int64_t c = 0; c < r->bn->channels; c++) {
            out[c] = qc_clamp(fmaf(x[c], r->a[c], r->b[c]), r->bn->lo, r->bn->hi);
        }
    }
}

static void batch_norm_run(const struct qc_step *step, const struct qc_view *in,
                           const struct qc_view *out, void *scratch)
{
    const struct batch_norm *bn = step->params;
    const float *scale = in[1].data, *bias = in[2].data, *mean = in[3].data, *var = in[4].data;
    float *a = scratch, *b = a + bn->channels;
    for (int64_t c = 0; c < bn->channels; c++) {
        a[c] = scale[c] / sqrtf(var[c] + bn->epsilon);
        b[c] = bias[c] - mean[c] * a[c];
    }
    struct batch_norm_run r = {bn, a, b, in[0].data, out[0].data};
    if (bn->x_step == 1 && bn->out_step == 1) {
        qc_nd_walk(&bn->nd, normalize_pixels, &r);
        return;
    }
    for (int64_t c = 0; c < bn->channels; c++) {
        r = (struct batch_norm_run){bn, a + c, b + c, r.x, r.out};
        qc_nd_walk(&bn->nd, normalize_channel, &r);
        r.x += bn->x_step;
        r.out += bn->out_step;
    }
}

enum qd_code qc_prepare_batch_normalization(const struct qc_prepare *p, struct qc_step *step,
                                            struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    struct batch_norm *bn;
    if (x->dtype != QC_F32 || y->dtype != QC_F32 || x->shape.rank < 2 ||
        !qc_shape_equal(&x->shape, &y->shape) || p->node->n_inputs != 5) {
        return qc_prepare_refuse(p, err,
                                 "only f32 with five inputs and [N,C,...] is implemented");
    }
    for (int i = 1; i < 5; i++) {
        if (p->node->inputs[i] < 0 || p->in[i].dtype != QC_F32 ||
            qc_shape_elements(&p->in[i].shape) != (size_t)x->shape.dim[1]) {
            return qc_prepare_refuse(p, err, "parameters must be f32, one value a channel");
        }
    }
    if (qc_node_int(p->node, "training_mode", 0) != 0) {
        return qc_prepare_refuse(p, err, "training_mode is not implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*bn), &bn, err));
    qc_view_strides(x, xs);
    qc_view_strides(y, ys);
    struct qc_shape one = x->shape;
    one.dim[1] = 1;
    const int64_t *strides[2] = {xs, ys};
    qc_nd_init_strides(&bn->nd, &one, 2, strides, false);
    bn->channels = x->shape.dim[1];
    bn->x_step = xs[1];
    bn->out_step = ys[1];
    bn->epsilon = qc_node_float(p->node, "epsilon", 1e-5f);
    bn->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    bn->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    step->scratch_size = 2 * (size_t)bn->channels * sizeof(float);
    step->params = bn;
    step->run = batch_norm_run;
    return QD_OK;
}
