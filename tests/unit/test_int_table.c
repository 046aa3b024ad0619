/* Functions of one tensor as tables: every code, against the f32 operators. */
#include "int_fixture.h"

struct unary_case {
    const char *name;
    int op;
    const char *attr[2];
    float value[2];
    float lo, hi; /* Clip */
};

static const struct unary_case unaries[] = {
    {.name = "relu", .op = QC_OP_RELU},
    {.name = "clip", .op = QC_OP_CLIP, .lo = -0.7f, .hi = 1.3f},
    {.name = "leaky", .op = QC_OP_LEAKY_RELU},
    {.name = "leaky 0.3", .op = QC_OP_LEAKY_RELU, .attr = {"alpha"}, .value = {0.3f}},
    {.name = "sigmoid", .op = QC_OP_SIGMOID},
    {.name = "hard sigmoid", .op = QC_OP_HARD_SIGMOID},
    {.name = "hard sigmoid 1/6",
     .op = QC_OP_HARD_SIGMOID,
     .attr = {"alpha", "beta"},
     .value = {1.0f / 6.0f, 0.5f}},
    {.name = "hard swish", .op = QC_OP_HARD_SWISH},
    {.name = "tanh", .op = QC_OP_TANH},
    {.name = "exp", .op = QC_OP_EXP},
};

/* Input and output parameters: symmetric, one-sided, coarse, fine, a zero point at either end. */
static const struct int_q inputs[] = {
    {0.03f, 128, QC_U8}, {0.05f, 0, QC_U8},    {0.011f, 255, QC_U8}, {0.1f, 37, QC_U8},
    {0.03f, 0, QC_S8},   {0.05f, -128, QC_S8}, {0.02f, 127, QC_S8},  {0.0625f, 5, QC_S8},
};
static const struct int_q outputs[] = {
    {1.0f / 255, 0, QC_U8},   {0.01f, 111, QC_U8},       {0.25f, 255, QC_U8},
    {0.0078125f, 128, QC_U8}, {1.0f / 256, -128, QC_S8}, {0.04f, -3, QC_S8},
    {0.002f, 127, QC_S8},     {0.5f, 0, QC_S8},
};

struct table_case {
    const struct unary_case *u;
    struct int_q x, y;
    struct qc_shape shape;
};

static int unary_new(struct fixture *f, int x, const struct unary_case *u)
{
    int y = int_value(f);
    struct qc_node *n = u->op == QC_OP_CLIP
                            ? NODE(f, u->op, y, x, int_f32(f, u->lo), int_f32(f, u->hi))
                            : NODE(f, u->op, y, x);
    for (int i = 0; i < 2 && u->attr[i] != NULL; i++) {
        attr_float(f, n, u->attr[i], u->value[i]);
    }
    return y;
}

static void build_unary(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape);
    int y = unary_new(f, qdq_new(f, x, c->x), c->u);
    int_io(f, x, qdq_new(f, y, c->y));
}

static bool has_table_alone(int_build *build, const void *arg)
{
    struct fixture plan, *f = &plan;
    struct qc_int_counts counts;
    fixture_init(f);
    build(f, arg);
    OK(qc_int_plan(f->g, &counts, &f->err));
    bool alone = f->g->n_nodes == 3 && f->g->nodes[0].op == QC_OP_QUANTIZE_LINEAR &&
                 f->g->nodes[1].op == QC_OP_Q_TABLE &&
                 f->g->nodes[2].op == QC_OP_DEQUANTIZE_LINEAR;
    fixture_done(f);
    return alone;
}

START_TEST(table__every_unary_and_code__is_the_f32_chain)
{
    for (size_t x = 0; x < QD_COUNT_OF(inputs); x++) {
        for (size_t y = 0; y < QD_COUNT_OF(outputs); y++) {
            struct table_case c = {&unaries[_i], inputs[x], outputs[y], SHAPE1(259)};
            struct int_want w = {.in = c.x, .units = 1, .may_saturate = x > 0 || y != 1};
            ck_assert_msg(has_table_alone(build_unary, &c), "%s", c.u->name);
            int_expect(build_unary, &c, &w);
        }
    }
}
END_TEST

static double definition(int op, double x)
{
    double gate = fmin(fmax(x / 6 + 0.5, 0), 1);
    return op == QC_OP_HARD_SWISH ? x * gate : op == QC_OP_TANH ? tanh(x) : gate;
}

/* Parameters that the default scheme gives: HardSwish ends at -0.375, so its zero point is inside. */
static const struct table_case defined[] = {
    {&unaries[7], {9.0f / 255, 142, QC_U8}, {4.375f / 255, 22, QC_U8}, {1, {64}}},
    {&unaries[6], {9.0f / 255, 142, QC_U8}, {1.0f / 255, 0, QC_U8}, {1, {64}}},
    {&unaries[8], {5.0f / 255, 128, QC_U8}, {2.0f / 255, 128, QC_U8}, {1, {64}}},
};

START_TEST(table__function_of_runtimes_f32__is_the_definition_rounded)
{
    const struct table_case *c = &defined[_i];
    struct fixture plan, *f = &plan;
    struct qc_int_counts counts;
    fixture_init(f);
    build_unary(f, c);
    OK(qc_int_plan(f->g, &counts, &f->err));
    const struct qc_tensor *table = f->g->values[f->g->nodes[1].inputs[1]].constant;
    double step = (double)c->y.scale;
    for (int code = 0; code < 256; code++) {
        double x = (double)c->x.scale * (code - c->x.zero_point);
        double want = definition(c->u->op, x) / step + c->y.zero_point;
        double got = ((const uint8_t *)table->data)[code];
        ck_assert_msg(fabs(got - fmin(fmax(want, 0), 255)) <= 0.5 + 1e-4, "%s(%g): %g for %g",
                      c->u->name, x, got, want);
    }
    fixture_done(f);
}
END_TEST

START_TEST(table__every_rank_and_layout__is_the_f32_chain)
{
    struct qc_shape shapes[] = {SHAPE2(1, 300), SHAPE3(2, 3, 67), SHAPE4(1, 5, 9, 7),
                                SHAPE4(2, 64, 3, 1)};
    for (size_t i = 0; i < QD_COUNT_OF(shapes); i++) {
        struct table_case c = {&unaries[4], U8(0.04f, 120), U8(0.004f, 3), shapes[i]};
        struct int_want w = {.in = c.x, .units = 1};
        int_expect(build_unary, &c, &w);
    }
}
END_TEST

/* x * clip(x + 3, 0, 6) / 6, then tanh: one function of x, whose first part is used twice. */
static void build_chain(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape), v = qdq_new(f, x, c->x);
    int t[5];
    for (int i = 0; i < 5; i++) {
        t[i] = int_value(f);
    }
    NODE(f, QC_OP_ADD, t[0], v, int_f32(f, 3.0f));
    NODE(f, QC_OP_CLIP, t[1], t[0], int_f32(f, 0.0f), int_f32(f, 6.0f));
    NODE(f, QC_OP_MUL, t[2], t[1], v);
    NODE(f, QC_OP_DIV, t[3], t[2], int_f32(f, 6.0f));
    NODE(f, QC_OP_TANH, t[4], t[3]);
    int_io(f, x, qdq_new(f, t[4], c->y));
}

START_TEST(table__chain_with_constants__is_one_table)
{
    struct table_case c = {NULL, U8(0.03f, 131), U8(0.0079f, 60), SHAPE4(1, 7, 5, 11)};
    struct int_want w = {.in = c.x, .units = 5};
    ck_assert(has_table_alone(build_chain, &c));
    int_expect(build_chain, &c, &w);
}
END_TEST

/* x * sigmoid(x) without a QuantizeLinear between, from two DequantizeLinear of one tensor. */
static void build_silu(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape), q = quantize_new(f, x, c->x);
    int s = int_value(f), y = int_value(f);
    NODE(f, QC_OP_SIGMOID, s, dequantize_new(f, q, c->x));
    NODE(f, QC_OP_MUL, y, dequantize_new(f, q, c->x), s);
    int_io(f, x, qdq_new(f, y, c->y));
}

START_TEST(table__silu_of_two_dequantizes__is_one_table)
{
    struct table_case c = {NULL, S8(0.05f, 9), S8(0.03f, -100), SHAPE2(1, 513)};
    struct int_want w = {.in = c.x, .units = 2};
    ck_assert(has_table_alone(build_silu, &c));
    int_expect(build_silu, &c, &w);
}
END_TEST

/* The sigmoid's f32 value is read twice: no table may swallow it. */
static void build_shared(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape), s = int_value(f), t = int_value(f), y = int_value(f);
    NODE(f, QC_OP_SIGMOID, s, qdq_new(f, x, c->x));
    int a = qdq_new(f, s, c->y);
    NODE(f, QC_OP_SOFTMAX, t, s);
    NODE(f, QC_OP_SUB, y, a, t);
    int_io(f, x, y);
}

START_TEST(table__value_with_another_reader__stays_f32)
{
    struct table_case c = {NULL, U8(0.05f, 90), U8(0.004f, 0), SHAPE2(1, 300)};
    struct int_want w = {.in = c.x, .units = 0, .islands = 3};
    int_expect(build_shared, &c, &w);
}
END_TEST

/* A graph output in the middle has to stay. */
static void build_output(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape), s = int_value(f);
    NODE(f, QC_OP_SIGMOID, s, qdq_new(f, x, c->x));
    int y = qdq_new(f, s, c->y), both[2] = {s, y};
    graph_io(f, 1, &x, 2, both);
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
}

START_TEST(table__inner_value_is_an_output__stays_f32)
{
    struct table_case c = {NULL, U8(0.05f, 90), U8(0.004f, 0), SHAPE2(1, 300)};
    struct int_want w = {.in = c.x, .units = 0, .islands = 1};
    int_expect(build_output, &c, &w);
}
END_TEST

/* Another tensor, or a constant of more than one element, is no function of one code. */
static void build_vector(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape), s = int_value(f), y = int_value(f);
    NODE(f, QC_OP_SIGMOID, s, qdq_new(f, x, c->x));
    NODE(f, QC_OP_MUL, y, s, constant_new(f, QC_F32, SHAPE1(c->shape.dim[1]), NULL));
    int_io(f, x, qdq_new(f, y, c->y));
}

START_TEST(table__factor_a_channel__stays_f32)
{
    struct table_case c = {NULL, U8(0.05f, 90), U8(0.004f, 100), SHAPE2(2, 150)};
    struct int_want w = {.in = c.x, .units = 0, .islands = 2};
    int_expect(build_vector, &c, &w);
}
END_TEST

/* 8-bit graph outputs are what the user sees: s8 stays s8. */
static void build_s8_output(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape);
    int_io(f, x, quantize_new(f, unary_new(f, qdq_new(f, x, c->x), c->u), c->y));
}

START_TEST(table__s8_graph_output__keeps_its_codes)
{
    struct table_case c = {&unaries[8], S8(0.02f, 11), S8(1.0f / 128, 0), SHAPE4(1, 3, 8, 11)};
    struct int_want w = {.in = c.x, .units = 1};
    int_expect(build_s8_output, &c, &w);
}
END_TEST

/* DequantizeLinear, QuantizeLinear with other parameters: a requantization. */
static void build_requantize(struct fixture *f, const void *arg)
{
    const struct table_case *c = arg;
    int x = value_new(f, QC_F32, c->shape);
    int_io(f, x, qdq_new(f, qdq_new(f, x, c->x), c->y));
}

START_TEST(table__no_operator__requantizes)
{
    struct table_case c = {NULL, U8(0.031f, 90), U8(0.027f, 101), SHAPE2(1, 256)};
    struct int_want w = {.in = c.x};
    ck_assert(has_table_alone(build_requantize, &c));
    int_expect(build_requantize, &c, &w);
}
END_TEST

Suite *test_int_table_suite(void);
Suite *test_int_table_suite(void)
{
    Suite *s = suite_create("int_table");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, table__every_unary_and_code__is_the_f32_chain, 0,
                        (int)QD_COUNT_OF(unaries));
    tcase_add_loop_test(tc, table__function_of_runtimes_f32__is_the_definition_rounded, 0,
                        (int)QD_COUNT_OF(defined));
    tcase_add_test(tc, table__every_rank_and_layout__is_the_f32_chain);
    tcase_add_test(tc, table__chain_with_constants__is_one_table);
    tcase_add_test(tc, table__silu_of_two_dequantizes__is_one_table);
    tcase_add_test(tc, table__value_with_another_reader__stays_f32);
    tcase_add_test(tc, table__inner_value_is_an_output__stays_f32);
    tcase_add_test(tc, table__factor_a_channel__stays_f32);
    tcase_add_test(tc, table__s8_graph_output__keeps_its_codes);
    tcase_add_test(tc, table__no_operator__requantizes);
    suite_add_tcase(s, tc);
    return s;
}
