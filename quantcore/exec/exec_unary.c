/* Functions of one f32 tensor. */
#include <string.h>

#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_math_f64.h"
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

/* ---- the functions, from their definitions in ONNX ---- */

#define DEFINE(name, expr)                                                                       \
    static float name(float x, const struct unary *u)                                            \
    {                                                                                            \
        (void)u;                                                                                 \
        return expr;                                                                             \
    }

DEFINE(leaky_relu, x < 0.0f ? u->alpha * x : x)
DEFINE(sigmoid, qc_sigmoidf(x))
DEFINE(hard_sigmoid, qc_clamp(u->alpha * x + u->beta, 0.0f, 1.0f))
DEFINE(hard_swish, x *qc_clamp((1.0f / 6.0f) * x + 0.5f, 0.0f, 1.0f))
DEFINE(hyperbolic_tangent, qc_tanhf(x))
DEFINE(exponential, qc_expf(x))
DEFINE(square_root, sqrtf(x))
DEFINE(logarithm, (float)qc_log((double)x))
DEFINE(negative, -x)
DEFINE(absolute, fabsf(x))
DEFINE(reciprocal, 1.0f / x)
DEFINE(error_function, (float)qc_erf((double)x))
DEFINE(elu, x < 0.0f ? u->alpha * (qc_expf(x) - 1.0f) : x)
DEFINE(selu, u->beta * (x <= 0.0f ? u->alpha * qc_expf(x) - u->alpha : x))
DEFINE(softplus, (float)qc_softplus((double)x))
DEFINE(softsign, x / (1.0f + fabsf(x)))

/* x tanh(log(1 + e^x)): with e = e^x the tangent is n / (n + 2), n = e (e + 2). */
static float mish(float x, const struct unary *u)
{
    (void)u;
    float e = qc_expf(x), n = e * (e + 2.0f);
    return x > 20.0f ? x : x * (n / (n + 2.0f));
}

static float gelu(float x, const struct unary *u)
{
    (void)u;
    return (float)(0.5 * (double)x * (1 + qc_erf((double)x * QC_SQRT_HALF)));
}

/* sqrt(2 / pi) (x + 0.044715 x^3) */
static float gelu_tanh(float x, const struct unary *u)
{
    (void)u;
    float inner = 0.79788456f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + qc_tanhf(inner));
}

/* By enum qc_op; fn NULL: a clamp. alpha is the attribute of that name, beta that called `beta_name`. */
static const struct {
    unary_fn *fn;
    float alpha, beta;
    const char *beta_name;
} functions[QC_OP_COUNT] = {
    [QC_OP_LEAKY_RELU] = {leaky_relu, 0.01f, 0, NULL},
    [QC_OP_SIGMOID] = {sigmoid, 0, 0, NULL},
    [QC_OP_HARD_SIGMOID] = {hard_sigmoid, 0.2f, 0.5f, "beta"},
    [QC_OP_HARD_SWISH] = {hard_swish, 0, 0, NULL},
    [QC_OP_TANH] = {hyperbolic_tangent, 0, 0, NULL},
    [QC_OP_EXP] = {exponential, 0, 0, NULL},
    [QC_OP_SQRT] = {square_root, 0, 0, NULL},
    [QC_OP_LOG] = {logarithm, 0, 0, NULL},
    [QC_OP_NEG] = {negative, 0, 0, NULL},
    [QC_OP_ABS] = {absolute, 0, 0, NULL},
    [QC_OP_RECIPROCAL] = {reciprocal, 0, 0, NULL},
    [QC_OP_ERF] = {error_function, 0, 0, NULL},
    [QC_OP_GELU] = {gelu, 0, 0, NULL},
    [QC_OP_ELU] = {elu, 1.0f, 0, NULL},
    [QC_OP_SELU] = {selu, 1.67326319217681884765625f, 1.05070102214813232421875f, "gamma"},
    [QC_OP_SOFTPLUS] = {softplus, 0, 0, NULL},
    [QC_OP_SOFTSIGN] = {softsign, 0, 0, NULL},
    [QC_OP_MISH] = {mish, 0, 0, NULL},
};

/* ---- running ---- */

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
    u->fn = functions[n->op].fn;
    u->alpha = qc_node_float(n, "alpha", functions[n->op].alpha);
    u->lo = -INFINITY;
    u->hi = INFINITY;
    if (functions[n->op].beta_name != NULL) {
        u->beta = qc_node_float(n, functions[n->op].beta_name, functions[n->op].beta);
    }
    if (n->op == QC_OP_GELU) {
        const char *approximate = qc_node_string(n, "approximate", "none");
        bool tanh = strcmp(approximate, "tanh") == 0;
        if (!tanh && strcmp(approximate, "none") != 0) {
            return qc_prepare_refuse(p, err, "approximate is neither none nor tanh");
        }
        u->fn = tanh ? gelu_tanh : gelu;
    } else if (n->op == QC_OP_RELU) {
        u->lo = 0.0f;
    } else if (n->op == QC_OP_CLIP) {
        return clip_bounds(p, u, err);
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
