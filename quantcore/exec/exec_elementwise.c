/* Functions of one f32 tensor, BatchNormalization. */
#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

struct unary;
typedef float unary_fn(float x, const struct unary *u);

struct unary {
    struct qc_nd nd; /* operands: x, out */
    unary_fn *fn;    /* NULL: clamp alone */
    float alpha, beta, lo, hi;
    bool clamp; /* after fn */
};

struct unary_run {
    const struct unary *op;
    const float *x;
    float *out;
    const struct qc_kernels *kernels;
};

static float leaky_relu(float x, const struct unary *u)
{
    return x < 0.0f ? u->alpha * x : x;
}

static float sigmoid(float x, const struct unary *u)
{
    (void)u;
    return qc_sigmoidf(x);
}

static float hard_sigmoid(float x, const struct unary *u)
{
    return qc_clamp(u->alpha * x + u->beta, 0.0f, 1.0f);
}

static float hard_swish(float x, const struct unary *u)
{
    return x * hard_sigmoid(x, u);
}

static float hyperbolic_tangent(float x, const struct unary *u)
{
    (void)u;
    return qc_tanhf(x);
}

static float exponential(float x, const struct unary *u)
{
    (void)u;
    return qc_expf(x);
}

static void one_run(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct unary_run *r = ctx;
    const struct unary *u = r->op;
    int last = nd->rank - 1;
    int64_t n = nd->dim[last], sx = nd->stride[0][last], so = nd->stride[1][last];
    const float *x = r->x + off[0];
    float *out = r->out + off[1];
    if (u->fn == NULL && sx == 1 && so == 1) {
        r->kernels->clamp_f32(x, u->lo, u->hi, out, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float y = u->fn != NULL ? u->fn(x[i * sx], u) : x[i * sx];
        out[i * so] = u->clamp ? qc_clamp(y, u->lo, u->hi) : y;
    }
}

static void unary_run(const struct qc_step *step, const struct qc_view *in,
                      const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct unary *op = step->params;
    struct unary_run r = {op, in[0].data, out[0].data, step->kernels};
    qc_nd_walk(&op->nd, one_run, &r);
}

/* lo and hi of Clip, which must be constants; a fused clamp is applied on top. */
static enum qd_code clip_bounds(const struct qc_prepare *p, struct unary *u, struct qd_error *err)
{
    for (int i = 1; i < p->node->n_inputs && i < 3; i++) {
        if (p->node->inputs[i] < 0) {
            continue;
        }
        if (p->in[i].data == NULL || p->in[i].dtype != QC_F32 ||
            qc_shape_elements(&p->in[i].shape) != 1) {
            return qc_prepare_refuse(p, err, "the bounds must be constant f32 scalars");
        }
        *(i == 1 ? &u->lo : &u->hi) = *(const float *)p->in[i].data;
    }
    return QD_OK;
}

static enum qd_code unary_choose(const struct qc_prepare *p, struct unary *u,
                                 struct qd_error *err)
{
    const struct qc_node *n = p->node;
    u->lo = -INFINITY;
    u->hi = INFINITY;
    if (n->op == QC_OP_RELU) {
        u->lo = 0.0f;
    } else if (n->op == QC_OP_CLIP) {
        QD_TRY(clip_bounds(p, u, err));
    } else if (n->op == QC_OP_LEAKY_RELU) {
        u->fn = leaky_relu;
        u->alpha = qc_node_float(n, "alpha", 0.01f);
    } else if (n->op == QC_OP_SIGMOID) {
        u->fn = sigmoid;
    } else if (n->op == QC_OP_HARD_SIGMOID) {
        u->fn = hard_sigmoid;
        u->alpha = qc_node_float(n, "alpha", 0.2f);
        u->beta = qc_node_float(n, "beta", 0.5f);
    } else if (n->op == QC_OP_HARD_SWISH) {
        u->fn = hard_swish;
        u->alpha = 1.0f / 6.0f;
        u->beta = 0.5f;
    } else if (n->op == QC_OP_TANH) {
        u->fn = hyperbolic_tangent;
    } else {
        u->fn = exponential;
    }
    return QD_OK;
}

enum qd_code qc_prepare_unary(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    struct unary *u;
    if (p->in[0].dtype != QC_F32 || p->out[0].dtype != QC_F32 ||
        !qc_shape_equal(&p->in[0].shape, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "only f32 of one shape is implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*u), &u, err));
    QD_TRY(unary_choose(p, u, err));
    if (p->node->clamp.present) { /* clamp of a clamp is a clamp; lo first, then hi */
        u->lo = qc_clamp(u->lo, p->node->clamp.lo, p->node->clamp.hi);
        u->hi = qc_clamp(u->hi, p->node->clamp.lo, p->node->clamp.hi);
    }
    u->clamp = u->fn == NULL || p->node->clamp.present;
    const struct qc_view *views[2] = {&p->in[0], &p->out[0]};
    qc_nd_init(&u->nd, &p->out[0].shape, 2, views);
    step->params = u;
    step->run = unary_run;
    return QD_OK;
}

/* ---- BatchNormalization: y = fma(x, a, b), a = scale / sqrt(var + epsilon), b = bias - mean*a -
 */

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
