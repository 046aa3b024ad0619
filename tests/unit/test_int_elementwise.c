/* Q_ADD, Q_MUL, Q_CONCAT. */
#include "int_fixture.h"
#include "quantcore/affine/qparams.h"

struct binary_case {
    int op;
    struct qc_shape x, other; /* other: of the second operand */
    struct int_q a, b, y;
    bool constant, swapped; /* the second operand is constant, and comes first */
    int steps;
    float lo, hi; /* fused activation when lo < hi */
};

/* The second operand: the input again with other parameters, its first images or rows cut out so
 * that it broadcasts, or a constant. */
static int other_new(struct fixture *f, const struct binary_case *c, int x)
{
    if (c->constant) {
        struct qc_tensor *t = NULL;
        int q = -1, y = int_value(f);
        OK(qc_tensor_new(&f->arena, c->b.dtype, &c->other, &t, &f->err));
        for (size_t i = 0; i < qc_shape_elements(&c->other); i++) {
            ((uint8_t *)t->data)[i] = (uint8_t)(i * 97 + 13);
        }
        OK(qc_graph_add_constant(f->g, "other", t, &q, &f->err));
        NODE(f, QC_OP_DEQUANTIZE_LINEAR, y, q, int_f32(f, c->b.scale), int_zero_point(f, c->b));
        return y;
    }
    if (!qc_shape_equal(&c->x, &c->other)) {
        int64_t zero[QC_MAX_RANK] = {0}, axes[QC_MAX_RANK];
        for (int i = 0; i < c->x.rank; i++) {
            axes[i] = i;
        }
        int cut = int_value(f);
        struct qc_shape n = SHAPE1(c->x.rank);
        NODE(f, QC_OP_SLICE, cut, x, constant_new(f, QC_S64, n, zero),
             constant_new(f, QC_S64, n, c->other.dim), constant_new(f, QC_S64, n, axes));
        x = cut;
    }
    return qdq_new(f, x, c->b);
}

static void build_binary(struct fixture *f, const void *arg)
{
    const struct binary_case *c = arg;
    int x = value_new(f, QC_F32, c->x), y = int_value(f);
    int a = qdq_new(f, x, c->a), b = other_new(f, c, x);
    struct qc_node *n = c->swapped ? NODE(f, c->op, y, b, a) : NODE(f, c->op, y, a, b);
    if (c->lo < c->hi) {
        n->clamp = (struct qc_clamp){true, c->lo, c->hi};
    }
    int_io(f, x, qdq_new(f, y, c->y));
}

static void expect_binary(const struct binary_case *c)
{
    bool cut = !c->constant && !qc_shape_equal(&c->x, &c->other);
    struct int_want w = {.in = c->a,
                         .units = 1,
                         .islands = cut ? 1 : 0, /* the Slice, before any QuantizeLinear */
                         .step = c->y.scale,
                         .steps = c->steps};
    int_expect(build_binary, c, &w);
}

#define BOTH(shape) .x = shape, .other = shape
#define R1(a)                                                                                    \
    {                                                                                            \
        1,                                                                                       \
        {                                                                                        \
            a                                                                                    \
        }                                                                                        \
    }
#define R2(a, b)                                                                                 \
    {                                                                                            \
        2,                                                                                       \
        {                                                                                        \
            a, b                                                                                 \
        }                                                                                        \
    }
#define R3(a, b, c)                                                                              \
    {                                                                                            \
        3,                                                                                       \
        {                                                                                        \
            a, b, c                                                                              \
        }                                                                                        \
    }
#define R4(a, b, c, d)                                                                           \
    {                                                                                            \
        4,                                                                                       \
        {                                                                                        \
            a, b, c, d                                                                           \
        }                                                                                        \
    }

/* Powers of two, and an even zero point behind: the units round x / s + zero_point, f32 rounds
 * x / s, and both break a tie alike when the zero point is even. */
static const struct binary_case exact[] = {
    {.op = QC_OP_ADD,
     BOTH(R2(1, 777)),
     .a = {0.5f, 100, QC_U8},
     .b = {0.25f, 31, QC_U8},
     .y = {1.0f, 128, QC_U8}},
    {.op = QC_OP_ADD,
     BOTH(R4(1, 5, 7, 9)),
     .a = {0.5f, -3, QC_S8},
     .b = {0.125f, 127, QC_S8},
     .y = {0.5f, -20, QC_S8},
     .lo = -11.25f,
     .hi = 30.5f},
    {.op = QC_OP_ADD,
     .x = R4(2, 3, 4, 5),
     .other = R4(1, 3, 1, 1),
     .a = {0.5f, 7, QC_U8},
     .b = {0.25f, 255, QC_U8},
     .y = {1.0f, 90, QC_U8}},
    {.op = QC_OP_ADD,
     .x = R4(1, 67, 3, 3),
     .other = R3(67, 1, 1),
     .constant = true,
     .a = {0.5f, 7, QC_U8},
     .b = {0.5f, 0, QC_U8},
     .y = {1.0f, 0, QC_U8}},
    {.op = QC_OP_ADD,
     .x = R2(4, 33),
     .other = R1(33),
     .constant = true,
     .swapped = true,
     .a = {0.5f, -7, QC_S8},
     .b = {0.5f, 11, QC_S8},
     .y = {1.0f, 4, QC_S8}},
    {.op = QC_OP_MUL,
     BOTH(R2(1, 777)),
     .a = {0.125f, 100, QC_U8},
     .b = {0.25f, 31, QC_U8},
     .y = {8.0f, 2, QC_U8}},
    {.op = QC_OP_MUL,
     BOTH(R4(1, 5, 7, 9)),
     .a = {0.125f, -3, QC_S8},
     .b = {0.125f, 127, QC_S8},
     .y = {2.0f, -20, QC_S8},
     .lo = -64.0f,
     .hi = 100.0f},
    {.op = QC_OP_MUL,
     .x = R4(2, 3, 4, 5),
     .other = R4(2, 3, 1, 1),
     .a = {0.5f, 7, QC_U8},
     .b = {0.03125f, 0, QC_U8},
     .y = {2.0f, 10, QC_U8}},
    {.op = QC_OP_MUL,
     .x = R4(1, 67, 3, 3),
     .other = R3(67, 1, 1),
     .constant = true,
     .a = {0.5f, 7, QC_U8},
     .b = {0.0625f, -128, QC_S8},
     .y = {8.0f, 30, QC_U8}},
};

START_TEST(binary__powers_of_two__codes_of_f32)
{
    expect_binary(&exact[_i]);
}
END_TEST

/* Other scales: the unit's factors s_a / s_y, s_b / s_y and s_a s_b / s_y are rounded once more
 * than what f32 does; an odd zero point breaks ties the other way. One step at most. */
static const struct binary_case near[] = {
    {.op = QC_OP_ADD,
     BOTH(R2(1, 5000)),
     .a = {0.031f, 100, QC_U8},
     .b = {0.017f, 31, QC_U8},
     .y = {0.043f, 129, QC_U8},
     .steps = 1},
    {.op = QC_OP_ADD,
     BOTH(R4(1, 9, 13, 7)),
     .a = {0.031f, 1, QC_S8},
     .b = {0.031f, 1, QC_S8},
     .y = {0.062f, 1, QC_S8},
     .steps = 1},
    {.op = QC_OP_ADD,
     BOTH(R2(1, 900)),
     .a = {0.5f, 0, QC_U8},
     .b = {0.5f, 0, QC_U8},
     .y = {2.0f, 17, QC_U8},
     .steps = 1},
    {.op = QC_OP_MUL,
     BOTH(R2(1, 5000)),
     .a = {0.031f, 100, QC_U8},
     .b = {0.017f, 31, QC_U8},
     .y = {0.043f, 129, QC_U8},
     .steps = 1},
    {.op = QC_OP_MUL,
     BOTH(R4(1, 9, 13, 7)),
     .a = {0.031f, 55, QC_S8},
     .b = {0.012f, -1, QC_S8},
     .y = {0.037f, 1, QC_S8},
     .steps = 1},
};

START_TEST(binary__any_scales__within_one_step)
{
    expect_binary(&near[_i]);
}
END_TEST

/* ONNX Runtime's QLinearAdd and QLinearMul on all pairs of codes: the formulas of qc_kernels.h with
 * the codes, zero points and ends of the operands' own type. */
static int saturate(float f, enum qc_dtype dtype)
{
    float lo = dtype == QC_S8 ? -128 : 0, hi = lo + 255;
    f = rintf(f);
    return (int)(f < lo ? lo : (f > hi ? hi : f));
}

static int formula(const struct binary_case *c, int a, int b)
{
    float zc = (float)c->y.zero_point;
    if (c->op == QC_OP_MUL) {
        float m = c->a.scale * c->b.scale / c->y.scale;
        float product = (float)((a - c->a.zero_point) * (b - c->b.zero_point));
        return saturate(product * m + zc, c->y.dtype);
    }
    float ra = c->a.scale / c->y.scale, rb = c->b.scale / c->y.scale;
    float k = zc - fmaf(ra, (float)c->a.zero_point, rb * (float)c->b.zero_point);
    return saturate(fmaf((float)a, ra, fmaf((float)b, rb, k)), c->y.dtype);
}

/* x is [256, 1] of every code; its transpose, requantized by nothing, is the other operand. The
 * result is dequantized: bytes of s8 that somebody sees stay out of the units. */
static void build_pairs(struct fixture *f, const void *arg)
{
    const struct binary_case *c = arg;
    int x = value_new(f, QC_F32, SHAPE2(256, 1)), y = int_value(f);
    int64_t shape[2] = {1, 256};
    int row = int_value(f);
    NODE(f, QC_OP_RESHAPE, row, x, constant_new(f, QC_S64, SHAPE1(2), shape));
    NODE(f, c->op, y, qdq_new(f, x, c->a), qdq_new(f, row, c->b));
    int_io(f, x, qdq_new(f, y, c->y));
}

static const struct binary_case pairs[] = {
    /* this K decides: 178 and 124 give 4 with it, 5 without the fused product */
    {.op = QC_OP_ADD,
     .a = {0.083858304f, 166, QC_U8},
     .b = {0.21724364f, 126, QC_U8},
     .y = {0.12706915f, 0, QC_U8}},
    /* in s8, with zero points 128 lower, K is another one: other codes than in u8 */
    {.op = QC_OP_ADD,
     .a = {0.083858304f, 38, QC_S8},
     .b = {0.21724364f, -2, QC_S8},
     .y = {0.12706915f, -128, QC_S8}},
    {.op = QC_OP_MUL,
     .a = {0.083858304f, 166, QC_U8},
     .b = {0.21724364f, 126, QC_U8},
     .y = {1.7f, 101, QC_U8}},
    {.op = QC_OP_MUL,
     .a = {0.083858304f, 38, QC_S8},
     .b = {0.21724364f, -2, QC_S8},
     .y = {1.7f, -27, QC_S8}},
};

START_TEST(binary__every_pair_of_codes__onnx_runtime_formula)
{
    struct fixture fixture, *f = &fixture;
    const struct binary_case *c = &pairs[_i];
    int lo = c->a.dtype == QC_S8 ? -128 : 0;
    struct qc_int_counts counts;
    size_t n = 0;
    fixture_init(f);
    build_pairs(f, c);
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(counts.n_units, 1);
    float x[256];
    for (int i = 0; i < 256; i++) {
        x[i] = (float)(i + lo - c->a.zero_point) * c->a.scale;
    }
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        const float *got = int_run(f, (enum qc_isa)isa, x, &n);
        ck_assert_uint_eq(n, 65536 * sizeof(float));
        for (int i = 0; i < 65536; i++) {
            int a = i / 256 + lo;
            int b = qc_quantize_value(x[i % 256], c->b.scale, c->b.zero_point, lo, lo + 255);
            int code = (int)lrintf(got[i] / c->y.scale) + c->y.zero_point;
            ck_assert_int_eq(code, formula(c, a, b));
        }
    }
    fixture_done(f);
}
END_TEST

/* ---- Concat ---- */

struct concat_case {
    struct qc_shape x;
    int axis, n;
    struct int_q part[3], y;
};

static void build_concat(struct fixture *f, const void *arg)
{
    const struct concat_case *c = arg;
    int x = value_new(f, QC_F32, c->x), y = int_value(f), in[3];
    for (int i = 0; i < c->n; i++) {
        in[i] = qdq_new(f, x, c->part[i]);
    }
    struct qc_node *n = node_new(f, QC_OP_CONCAT, c->n, in, y);
    attr_int(f, n, "axis", c->axis);
    int_io(f, x, qdq_new(f, y, c->y));
}

static const struct concat_case concats[] = {
    {R4(1, 5, 3, 4),
     1,
     3,
     {{0.031f, 100, QC_U8}, {0.05f, 9, QC_U8}, {0.02f, 255, QC_U8}},
     {0.04f, 99, QC_U8}},
    {R4(2, 64, 3, 4), 1, 2, {{0.031f, 100, QC_U8}, {0.04f, 99, QC_U8}}, {0.04f, 99, QC_U8}},
    {R4(2, 3, 4, 5), -1, 2, {{0.031f, 10, QC_S8}, {0.03f, -128, QC_S8}}, {0.04f, 9, QC_S8}},
    {R4(2, 3, 4, 5),
     2,
     3,
     {{0.031f, 10, QC_S8}, {0.03f, -128, QC_S8}, {0.1f, 0, QC_U8}},
     {0.04f, 9, QC_S8}},
    {R4(2, 3, 4, 5), 0, 2, {{0.031f, 10, QC_U8}, {0.031f, 10, QC_U8}}, {0.031f, 10, QC_U8}},
    {R2(3, 77), 1, 2, {{0.031f, 10, QC_U8}, {0.03f, 200, QC_U8}}, {0.04f, 9, QC_U8}},
};

/* Each code goes through a table of the f32 chain: equal for any scales. */
START_TEST(concat__other_scales__codes_of_f32)
{
    const struct concat_case *c = &concats[_i];
    struct int_want w = {.in = c->part[0], .units = 1};
    int_expect(build_concat, c, &w);
}
END_TEST

Suite *test_int_elementwise_suite(void);
Suite *test_int_elementwise_suite(void)
{
    Suite *s = suite_create("int_elementwise");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, binary__powers_of_two__codes_of_f32, 0, (int)QD_COUNT_OF(exact));
    tcase_add_loop_test(tc, binary__any_scales__within_one_step, 0, (int)QD_COUNT_OF(near));
    tcase_add_loop_test(tc, binary__every_pair_of_codes__onnx_runtime_formula, 0,
                        (int)QD_COUNT_OF(pairs));
    tcase_add_loop_test(tc, concat__other_scales__codes_of_f32, 0, (int)QD_COUNT_OF(concats));
    suite_add_tcase(s, tc);
    return s;
}
