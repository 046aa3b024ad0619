/* Elementwise operators of two tensors (Min and Max: any number) with numpy broadcasting. */
#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_math_f64.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

/* n results: strides in elements. */
typedef void binary_loop(const void *a, const void *b, void *out, int64_t n, int64_t sa,
                         int64_t sb, int64_t so);

struct binary {
    int n_steps;       /* 1; of n inputs n - 1, each from the result before and an input */
    struct qc_nd *nd;  /* [n_steps] operands: a, b, out */
    binary_loop *loop;
    qc_binary_f32_fn *dense; /* for runs without strides, may be NULL */
    const float *exponent;   /* of Pow, converted from another type; else NULL */
    bool clamp;
    float lo, hi;
};

struct binary_run {
    const struct binary *op;
    const char *a, *b;
    char *out;
    size_t size, out_size;
    const struct qc_kernels *kernels;
};

enum row {
    ADD, SUB, MUL, DIV, MIN, MAX, POW, PRELU, EQUAL, LESS, GREATER, LESS_OR_EQUAL,
    GREATER_OR_EQUAL, AND, OR, N_ROWS
};

static const uint8_t row_of[QC_OP_COUNT] = {
    [QC_OP_ADD] = ADD,
    [QC_OP_SUB] = SUB,
    [QC_OP_MUL] = MUL,
    [QC_OP_DIV] = DIV,
    [QC_OP_MIN] = MIN,
    [QC_OP_MAX] = MAX,
    [QC_OP_POW] = POW,
    [QC_OP_PRELU] = PRELU,
    [QC_OP_EQUAL] = EQUAL,
    [QC_OP_LESS] = LESS,
    [QC_OP_GREATER] = GREATER,
    [QC_OP_LESS_OR_EQUAL] = LESS_OR_EQUAL,
    [QC_OP_GREATER_OR_EQUAL] = GREATER_OR_EQUAL,
    [QC_OP_AND] = AND,
    [QC_OP_OR] = OR,
};

/* Integers wrap; a division by zero gives 0, since no run may fail (ONNX leaves it open). */
#define DEFINE_LOOP(name, type, out_type, expr)                                                  \
    static void name(const void *va, const void *vb, void *vo, int64_t n, int64_t sa,            \
                     int64_t sb, int64_t so)                                                     \
    {                                                                                            \
        const type *pa = va, *pb = vb;                                                           \
        out_type *out = vo;                                                                      \
        for (int64_t i = 0; i < n; i++) {                                                        \
            type a = pa[i * sa], b = pb[i * sb];                                                 \
            out[i * so] = (out_type)(expr);                                                      \
        }                                                                                        \
    }
#define DEFINE_COMPARISONS(id, type)                                                             \
    DEFINE_LOOP(equal_##id, type, uint8_t, a == b)                                               \
    DEFINE_LOOP(less_##id, type, uint8_t, a < b)                                                 \
    DEFINE_LOOP(greater_##id, type, uint8_t, a > b)                                              \
    DEFINE_LOOP(less_or_equal_##id, type, uint8_t, a <= b)                                       \
    DEFINE_LOOP(greater_or_equal_##id, type, uint8_t, a >= b)
#define DEFINE_INT(id, type, wide, min_value)                                                    \
    DEFINE_LOOP(add_##id, type, type, (wide)a + (wide)b)                                         \
    DEFINE_LOOP(sub_##id, type, type, (wide)a - (wide)b)                                         \
    DEFINE_LOOP(mul_##id, type, type, (wide)a *(wide)b)                                          \
    DEFINE_LOOP(div_##id, type, type,                                                            \
                b == 0 ? 0 : (a == (min_value) && b == (type)-1 && (type)-1 < 1 ? a : a / b))    \
    DEFINE_LOOP(min_##id, type, type, a < b ? a : b)                                             \
    DEFINE_LOOP(max_##id, type, type, a > b ? a : b)                                             \
    DEFINE_COMPARISONS(id, type)

DEFINE_LOOP(add_f32, float, float, a + b)
DEFINE_LOOP(sub_f32, float, float, a - b)
DEFINE_LOOP(mul_f32, float, float, a *b)
DEFINE_LOOP(div_f32, float, float, a / b)
DEFINE_LOOP(min_f32, float, float, a < b || isnan(a) ? a : b)
DEFINE_LOOP(max_f32, float, float, a > b || isnan(a) ? a : b)
DEFINE_LOOP(pow_f32, float, float, qc_powf(a, b))
DEFINE_LOOP(prelu_f32, float, float, a < 0.0f ? a * b : a)
DEFINE_COMPARISONS(f32, float)
DEFINE_INT(s64, int64_t, uint64_t, INT64_MIN)
DEFINE_INT(s32, int32_t, uint32_t, INT32_MIN)
DEFINE_INT(s8, int8_t, uint32_t, INT8_MIN)
DEFINE_INT(u8, uint8_t, uint32_t, 0)
DEFINE_LOOP(equal_bool, uint8_t, uint8_t, (a != 0) == (b != 0))
DEFINE_LOOP(and_bool, uint8_t, uint8_t, a != 0 && b != 0)
DEFINE_LOOP(or_bool, uint8_t, uint8_t, a != 0 || b != 0)

#define ROWS_OF(id)                                                                              \
    [ADD] = add_##id, [SUB] = sub_##id, [MUL] = mul_##id, [DIV] = div_##id, [MIN] = min_##id,    \
    [MAX] = max_##id, [EQUAL] = equal_##id, [LESS] = less_##id, [GREATER] = greater_##id,        \
    [LESS_OR_EQUAL] = less_or_equal_##id, [GREATER_OR_EQUAL] = greater_or_equal_##id

static binary_loop *const loops[QC_DTYPE_COUNT][N_ROWS] = {
    [QC_F32] = {ROWS_OF(f32), [POW] = pow_f32, [PRELU] = prelu_f32},
    [QC_S64] = {ROWS_OF(s64)},
    [QC_S32] = {ROWS_OF(s32)},
    [QC_S8] = {ROWS_OF(s8)},
    [QC_U8] = {ROWS_OF(u8)},
    [QC_BOOL] = {[EQUAL] = equal_bool, [AND] = and_bool, [OR] = or_bool},
};

static void one_run(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct binary_run *r = ctx;
    int last = nd->rank - 1;
    int64_t n = nd->dim[last], size = (int64_t)r->size, out_size = (int64_t)r->out_size;
    int64_t sa = nd->stride[0][last], sb = nd->stride[1][last], so = nd->stride[2][last];
    const void *a = r->a + off[0] * size, *b = r->b + off[1] * size;
    void *out = r->out + off[2] * out_size;
    if (r->op->dense != NULL && sa == 1 && sb == 1 && so == 1) {
        r->op->dense(a, b, out, (size_t)n);
    } else {
        r->op->loop(a, b, out, n, sa, sb, so);
    }
    if (!r->op->clamp) {
        return;
    }
    float *y = out;
    if (so == 1) {
        r->kernels->clamp_f32(y, r->op->lo, r->op->hi, y, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        y[i * so] = qc_clamp(y[i * so], r->op->lo, r->op->hi);
    }
}

static void binary_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct binary *op = step->params;
    for (int i = 0; i < op->n_steps; i++) {
        const struct qc_view *b = &in[step->n_inputs > 1 ? i + 1 : 0];
        const void *exponent = op->exponent;
        struct binary_run r = {.op = op,
                               .a = i == 0 ? in[0].data : out[0].data,
                               .b = exponent != NULL ? exponent : b->data,
                               .out = out[0].data,
                               .size = qc_dtype_size(in[0].dtype),
                               .out_size = qc_dtype_size(out[0].dtype),
                               .kernels = step->kernels};
        qc_nd_walk(&op->nd[i], one_run, &r);
    }
}

/* A constant exponent of integers as f32. */
static enum qd_code convert_exponent(const struct qc_prepare *p, struct binary *op,
                                     struct qd_error *err)
{
    const struct qc_view *b = &p->in[1];
    float *to = NULL;
    size_t n = qc_shape_elements(&b->shape);
    if (b->data == NULL || (b->dtype != QC_S64 && b->dtype != QC_S32)) {
        return qc_prepare_refuse(p, err, "the exponent must be f32, or constant integers");
    }
    QD_TRY(qd_arena_array(p->arena, n, sizeof(*to), &to, err));
    for (size_t i = 0; i < n; i++) {
        to[i] = b->dtype == QC_S64 ? (float)((const int64_t *)b->data)[i]
                                   : (float)((const int32_t *)b->data)[i];
    }
    op->exponent = to;
    return QD_OK;
}

static enum qd_code check_operands(const struct qc_prepare *p, int row, struct qd_error *err)
{
    const struct qc_view *y = &p->out[0];
    enum qc_dtype dtype = p->in[0].dtype;
    struct qc_shape shape;
    if (loops[dtype][row] == NULL || y->dtype != (row >= EQUAL ? QC_BOOL : dtype)) {
        return qc_prepare_refuse(p, err, "not implemented for this type");
    }
    for (int i = 0; i < p->node->n_inputs; i++) {
        if (p->node->inputs[i] < 0 || (p->in[i].dtype != dtype && row != POW)) {
            return qc_prepare_refuse(p, err, "the types must be equal");
        }
        if (!qc_shape_broadcast(&p->in[i].shape, &y->shape, &shape) ||
            !qc_shape_equal(&shape, &y->shape)) {
            return qc_prepare_refuse(p, err, "the shapes do not broadcast to the output's");
        }
    }
    if (p->node->clamp.present && y->dtype != QC_F32) {
        return qc_prepare_refuse(p, err, "a fused activation needs f32");
    }
    return QD_OK;
}

enum qd_code qc_prepare_binary(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *y = &p->out[0];
    int row = row_of[p->node->op], n = p->node->n_inputs;
    struct binary *op;
    QD_TRY(check_operands(p, row, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*op), &op, err));
    op->n_steps = n > 1 ? n - 1 : 1;
    QD_TRY(qd_arena_array(p->arena, (size_t)op->n_steps, sizeof(*op->nd), &op->nd, err));
    for (int i = 0; i < op->n_steps; i++) {
        const struct qc_view *views[3] = {i == 0 ? &p->in[0] : y, &p->in[n > 1 ? i + 1 : 0], y};
        qc_nd_init_pixels(&op->nd[i], &y->shape, 3, views); /* no value fails */
    }
    if (row == POW && p->in[1].dtype != QC_F32) {
        QD_TRY(convert_exponent(p, op, err));
    }
    op->loop = loops[p->in[0].dtype][row];
    if (y->dtype == QC_F32) {
        op->dense = row == ADD ? p->kernels->add_f32 : row == MUL ? p->kernels->mul_f32 : NULL;
    }
    op->clamp = p->node->clamp.present;
    op->lo = p->node->clamp.lo;
    op->hi = p->node->clamp.hi;
    step->params = op;
    step->run = binary_run;
    return QD_OK;
}
