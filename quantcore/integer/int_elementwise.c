/* Q_ADD, Q_MUL, Q_TABLE, Q_CONCAT: elementwise on u8, in any layout. */
#include <math.h>

#include "quantcore/exec/exec_nd.h"
#include "quantcore/integer/int_ops.h"

struct int_binary {
    struct qc_nd nd; /* a, b, y */
    struct qc_add_u8 add;
    struct qc_mul_u8 mul;
    bool is_add;
};

struct binary_run {
    const struct int_binary *b;
    const struct qc_kernels *k;
    const uint8_t *a, *c;
    uint8_t *y;
};

static void binary_elements(const struct binary_run *r, const uint8_t *a, const uint8_t *b,
                            uint8_t *y, size_t n)
{
    if (r->b->is_add) {
        r->k->add_u8(a, b, &r->b->add, y, n);
    } else {
        r->k->mul_u8(a, b, &r->b->mul, y, n);
    }
}

static void binary_one_run(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct binary_run *r = ctx;
    int last = nd->rank - 1;
    const uint8_t *a = r->a + off[0], *b = r->c + off[1];
    uint8_t *y = r->y + off[2];
    int64_t n = nd->dim[last], sa = nd->stride[0][last], sb = nd->stride[1][last],
            sy = nd->stride[2][last];
    if (sa == 1 && sb == 1 && sy == 1) {
        binary_elements(r, a, b, y, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        binary_elements(r, a + i * sa, b + i * sb, y + i * sy, 1);
    }
}

static void binary_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    const struct int_binary *b = step->params;
    struct binary_run r = {b, step->kernels, in[0].data, in[3].data, out[0].data};
    (void)scratch;
    qc_nd_walk(&b->nd, binary_one_run, &r);
}

/* Both operands and the result had s8 codes before int_shift. */
static bool were_s8(const struct qc_prepare *p)
{
    const struct qc_value *values = p->graph->values;
    const int *in = p->node->inputs;
    return values[in[2]].was_s8 && values[in[5]].was_s8 && values[in[7]].was_s8;
}

static enum qd_code prepare_binary(const struct qc_prepare *p, struct qc_step *step, bool is_add,
                                   struct qd_error *err)
{
    struct int_binary *s = NULL;
    struct qc_qparams a, b;
    struct qc_unit_output out;
    if (p->in[0].dtype != QC_U8 || p->in[3].dtype != QC_U8) {
        return qc_prepare_refuse(p, err, "u8 inputs are needed");
    }
    QD_TRY(qc_unit_params(p, 1, 2, &a, err));
    QD_TRY(qc_unit_params(p, 4, 5, &b, err));
    QD_TRY(qc_unit_output(p, 6, 7, &out, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*s), &s, err));
    float ra = a.scale / out.y.scale, rb = b.scale / out.y.scale;
    int offset = were_s8(p) ? 128 : 0;
    /* fused as ONNX Runtime's QLinearAdd has it: near a tie the code depends on this bit */
    float shift = fmaf(ra, (float)(a.zero_point - offset), rb * (float)(b.zero_point - offset));
    float k = (float)(out.y.zero_point - offset) - shift;
    s->is_add = is_add;
    s->add = (struct qc_add_u8){ra, rb, k, offset, out.y_min, out.y_max};
    s->mul = (struct qc_mul_u8){a.zero_point,     b.zero_point, a.scale * b.scale / out.y.scale,
                                out.y.zero_point, out.y_min,    out.y_max};
    const struct qc_view *views[3] = {&p->in[0], &p->in[3], &p->out[0]};
    qc_nd_init_pixels(&s->nd, &p->out[0].shape, 3, views);
    step->params = s;
    step->run = binary_run;
    return QD_OK;
}

enum qd_code qc_prepare_q_add(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    return prepare_binary(p, step, true, err);
}

enum qd_code qc_prepare_q_mul(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    return prepare_binary(p, step, false, err);
}

/* One operand through a table of 256, to its place in the output. */
struct int_table {
    struct qc_nd nd; /* x, y */
    int64_t y_first; /* element offset in y */
    uint8_t table[256];
};

struct table_run {
    const struct int_table *t;
    const struct qc_kernels *k;
    const uint8_t *x;
    uint8_t *y;
};

static void table_one_run(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct table_run *r = ctx;
    int last = nd->rank - 1;
    const uint8_t *x = r->x + off[0];
    uint8_t *y = r->y + off[1];
    int64_t n = nd->dim[last], sx = nd->stride[0][last], sy = nd->stride[1][last];
    if (sx == 1 && sy == 1) {
        r->k->lut_u8(x, r->t->table, y, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        y[i * sy] = r->t->table[x[i * sx]];
    }
}

static void table_apply(const struct int_table *t, const struct qc_kernels *k, const void *x,
                        void *y)
{
    struct table_run r = {t, k, x, (uint8_t *)y + t->y_first};
    qc_nd_walk(&t->nd, table_one_run, &r);
}

static void table_run(const struct qc_step *step, const struct qc_view *in,
                      const struct qc_view *out, void *scratch)
{
    (void)scratch;
    table_apply(step->params, step->kernels, in[0].data, out[0].data);
}

static bool is_byte(enum qc_dtype dtype)
{
    return dtype == QC_U8 || dtype == QC_S8;
}

/* The table is indexed by the byte, whatever its sign means. */
enum qd_code qc_prepare_q_table(const struct qc_prepare *p, struct qc_step *step,
                                struct qd_error *err)
{
    struct int_table *t = NULL;
    const struct qc_view *views[2] = {&p->in[0], &p->out[0]};
    if (!is_byte(p->in[0].dtype) || !is_byte(p->out[0].dtype) || p->in[1].data == NULL ||
        p->in[1].dtype != p->out[0].dtype || qc_shape_elements(&p->in[1].shape) != 256) {
        return qc_prepare_refuse(p, err, "8-bit data and a constant table of 256 are needed");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*t), &t, err));
    for (int i = 0; i < 256; i++) {
        t->table[i] = ((const uint8_t *)p->in[1].data)[i];
    }
    qc_nd_init_pixels(&t->nd, &p->out[0].shape, 2, views);
    step->params = t;
    step->run = table_run;
    return QD_OK;
}

struct int_concat {
    int n;
    struct int_table *part;
};

static bool is_identity(const uint8_t table[256])
{
    for (int i = 0; i < 256; i++) {
        if (table[i] != i) {
            return false;
        }
    }
    return true;
}

static void concat_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    const struct int_concat *c = step->params;
    (void)scratch;
    for (int i = 0; i < c->n; i++) {
        const uint8_t *x = in[2 + 3 * i].data;
        bool in_place = x == (const uint8_t *)out[0].data + c->part[i].y_first;
        if (!in_place || !is_identity(c->part[i].table)) {
            table_apply(&c->part[i], step->kernels, x, out[0].data);
        }
    }
}

/* Every code of x as a code of y; the identity when both mean the same. */
static void requantize_table(const struct qc_qparams *x, const struct qc_unit_output *out,
                             uint8_t table[256])
{
    bool same = x->scale == out->y.scale && x->zero_point == out->y.zero_point;
    for (int i = 0; i < 256; i++) {
        float real = (float)(i - x->zero_point) * x->scale;
        int q = same ? i : qc_quantize_value(real, out->y.scale, out->y.zero_point, 0, 255);
        q = q < out->y_min ? out->y_min : q;
        table[i] = (uint8_t)(q > out->y_max ? out->y_max : q);
    }
}

enum qd_code qc_prepare_q_concat(const struct qc_prepare *p, struct qc_step *step,
                                 struct qd_error *err)
{
    struct int_concat *c = NULL;
    struct qc_unit_output out;
    int64_t y_stride[QC_MAX_RANK], first = 0;
    int rank = p->out[0].shape.rank;
    int64_t axis = qc_node_int(p->node, "axis", 0);
    axis += axis < 0 ? rank : 0;
    if (axis < 0 || axis >= rank) {
        return qc_prepare_refuse(p, err, "the axis is outside the rank");
    }
    QD_TRY(qc_unit_output(p, 0, 1, &out, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    c->n = (p->node->n_inputs - 2) / 3;
    QD_TRY(qd_arena_array(p->arena, (size_t)c->n, sizeof(*c->part), &c->part, err));
    qc_view_strides(&p->out[0], y_stride);
    for (int i = 0; i < c->n; i++) {
        const struct qc_view *x = &p->in[2 + 3 * i];
        struct qc_qparams params;
        int64_t x_stride[QC_MAX_RANK];
        const int64_t *strides[2] = {x_stride, y_stride};
        if (x->dtype != QC_U8 || x->shape.rank != rank) {
            return qc_prepare_refuse(p, err, "u8 inputs of one rank are needed");
        }
        QD_TRY(qc_unit_params(p, 3 + 3 * i, 4 + 3 * i, &params, err));
        requantize_table(&params, &out, c->part[i].table);
        qc_view_strides(x, x_stride);
        qc_nd_init_strides(&c->part[i].nd, &x->shape, 2, strides, p->out[0].layout == QC_NHWC);
        c->part[i].y_first = first * y_stride[axis];
        first += x->shape.dim[axis];
    }
    if (first != p->out[0].shape.dim[axis]) {
        return qc_prepare_refuse(p, err, "the inputs do not add up to the output");
    }
    step->params = c;
    step->run = concat_run;
    return QD_OK;
}
