/* Add, Sub, Mul, Div with numpy broadcasting, f32 and integers. */
#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

/* n results: strides in elements. */
typedef void binary_loop(const void *a, const void *b, void *out, int64_t n, int64_t sa,
                         int64_t sb, int64_t so);

struct binary {
    struct qc_nd nd; /* operands: a, b, out */
    binary_loop *loop;
    qc_binary_f32_fn *dense; /* for runs without strides, may be NULL */
    bool clamp;
    float lo, hi;
};

struct binary_run {
    const struct binary *op;
    const char *a, *b;
    char *out;
    size_t size;
    const struct qc_kernels *kernels;
};

/* Integers wrap; a division by zero gives 0, since no run may fail (ONNX leaves it open). */
#define DEFINE_LOOP(name, type, expr)                                                            \
    static void name(const void *va, const void *vb, void *vo, int64_t n, int64_t sa,            \
                     int64_t sb, int64_t so)                                                     \
    {                                                                                            \
        const type *pa = va, *pb = vb;                                                           \
        type *out = vo;                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                        \
            type a = pa[i * sa], b = pb[i * sb];                                                 \
            out[i * so] = (type)(expr);                                                          \
        }                                                                                        \
    }
#define DEFINE_INT(id, type, wide, min_value)                                                    \
    DEFINE_LOOP(add_##id, type, (wide)a + (wide)b)                                               \
    DEFINE_LOOP(sub_##id, type, (wide)a - (wide)b)                                               \
    DEFINE_LOOP(mul_##id, type, (wide)a *(wide)b)                                                \
    DEFINE_LOOP(div_##id, type,                                                                  \
                b == 0 ? 0 : (a == (min_value) && b == (type)-1 && (type)-1 < 1 ? a : a / b))

DEFINE_LOOP(add_f32, float, a + b)
DEFINE_LOOP(sub_f32, float, a - b)
DEFINE_LOOP(mul_f32, float, a *b)
DEFINE_LOOP(div_f32, float, a / b)
DEFINE_INT(s64, int64_t, uint64_t, INT64_MIN)
DEFINE_INT(s32, int32_t, uint32_t, INT32_MIN)
DEFINE_INT(s8, int8_t, uint32_t, INT8_MIN)
DEFINE_LOOP(add_u8, uint8_t, a + b)
DEFINE_LOOP(sub_u8, uint8_t, a - b)
DEFINE_LOOP(mul_u8, uint8_t, a *b)
DEFINE_LOOP(div_u8, uint8_t, b == 0 ? 0 : a / b)

/* Rows: Add, Sub, Mul, Div. */
static binary_loop *const loops_f32[4] = {add_f32, sub_f32, mul_f32, div_f32};
static binary_loop *const loops_s64[4] = {add_s64, sub_s64, mul_s64, div_s64};
static binary_loop *const loops_s32[4] = {add_s32, sub_s32, mul_s32, div_s32};
static binary_loop *const loops_s8[4] = {add_s8, sub_s8, mul_s8, div_s8};
static binary_loop *const loops_u8[4] = {add_u8, sub_u8, mul_u8, div_u8};

static binary_loop *const *find_loops(enum qc_dtype dtype)
{
    if (dtype == QC_F32) {
        return loops_f32;
    }
    if (dtype == QC_S64) {
        return loops_s64;
    }
    if (dtype == QC_S32) {
        return loops_s32;
    }
    if (dtype == QC_S8) {
        return loops_s8;
    }
    return dtype == QC_U8 ? loops_u8 : NULL;
}

static void one_run(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct binary_run *r = ctx;
    int last = nd->rank - 1;
    int64_t n = nd->dim[last], size = (int64_t)r->size;
    int64_t sa = nd->stride[0][last], sb = nd->stride[1][last], so = nd->stride[2][last];
    const void *a = r->a + off[0] * size, *b = r->b + off[1] * size;
    void *out = r->out + off[2] * size;
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
    struct binary_run r = {
        op, in[0].data, in[1].data, out[0].data, qc_dtype_size(out[0].dtype), step->kernels};
    qc_nd_walk(&op->nd, one_run, &r);
}

enum qd_code qc_prepare_binary(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *a = &p->in[0], *b = &p->in[1], *y = &p->out[0];
    binary_loop *const *loops = find_loops(y->dtype);
    struct qc_shape shape;
    struct binary *op;
    int row = p->node->op == QC_OP_ADD ? 0 : p->node->op == QC_OP_SUB ? 1 : 2;
    row = p->node->op == QC_OP_DIV ? 3 : row;
    if (loops == NULL || a->dtype != y->dtype || b->dtype != y->dtype) {
        return qc_prepare_refuse(p, err, "implemented for equal types f32, s64, s32, s8, u8");
    }
    if (!qc_shape_broadcast(&a->shape, &b->shape, &shape) || !qc_shape_equal(&shape, &y->shape)) {
        return qc_prepare_refuse(p, err, "the shapes do not broadcast to the output's");
    }
    if (p->node->clamp.present && y->dtype != QC_F32) {
        return qc_prepare_refuse(p, err, "a fused activation needs f32");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*op), &op, err));
    const struct qc_view *views[3] = {a, b, y};
    qc_nd_init_pixels(&op->nd, &y->shape, 3, views); /* no value fails */
    op->loop = loops[row];
    if (y->dtype == QC_F32) {
        op->dense = row == 0 ? p->kernels->add_f32 : row == 2 ? p->kernels->mul_f32 : NULL;
    }
    op->clamp = p->node->clamp.present;
    op->lo = p->node->clamp.lo;
    op->hi = p->node->clamp.hi;
    step->params = op;
    step->run = binary_run;
    return QD_OK;
}
