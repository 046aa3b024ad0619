/* Pools on 8-bit data. */
#include "int_fixture.h"

struct pool_case {
    int op, channels, h, w, kernel[2], stride[2], pads[4];
    int dilation; /* MaxPool; 0: absent */
    bool ceil, include_pad;
    struct int_q x, y;
    int steps; /* see struct int_want */
};

#define SIZE(c, a, b)          .channels = c, .h = a, .w = b
#define WINDOW(kh, kw, sh, sw) .kernel = {kh, kw}, .stride = {sh, sw}

static int pool_new(struct fixture *f, const struct pool_case *c, int x)
{
    int y = int_value(f);
    struct qc_node *n = NODE(f, c->op, y, x);
    if (c->op == QC_OP_GLOBAL_AVERAGE_POOL) {
        return y;
    }
    INTS(f, n, "kernel_shape", c->kernel[0], c->kernel[1]);
    INTS(f, n, "strides", c->stride[0], c->stride[1]);
    INTS(f, n, "pads", c->pads[0], c->pads[1], c->pads[2], c->pads[3]);
    attr_int(f, n, "ceil_mode", c->ceil);
    if (c->op == QC_OP_AVERAGE_POOL) {
        attr_int(f, n, "count_include_pad", c->include_pad);
    }
    if (c->dilation > 0) {
        INTS(f, n, "dilations", c->dilation, c->dilation);
    }
    return y;
}

static void build_pool(struct fixture *f, const void *arg)
{
    const struct pool_case *c = arg;
    int x = value_new(f, QC_F32, SHAPE4(2, c->channels, c->h, c->w));
    int_io(f, x, qdq_new(f, pool_new(f, c, qdq_new(f, x, c->x)), c->y));
}

static void expect_pool(const struct pool_case *c)
{
    struct int_want w = {.in = c->x, .units = 1, .step = c->y.scale, .steps = c->steps};
    int_expect(build_pool, c, &w);
}

/* The maximum of codes is the code of the maximum. Other parameters behind: a table follows,
 * which keeps the order. */
static const struct pool_case max_pools[] = {
    {.op = QC_OP_MAX_POOL,
     SIZE(3, 7, 9),
     WINDOW(2, 2, 2, 2),
     .x = {0.3f, 11, QC_U8},
     .y = {0.3f, 11, QC_U8}},
    {.op = QC_OP_MAX_POOL,
     SIZE(67, 6, 5),
     WINDOW(3, 2, 1, 2),
     .pads = {1, 0, 2, 1},
     .x = {0.3f, 200, QC_U8},
     .y = {0.3f, 200, QC_U8}},
    {.op = QC_OP_MAX_POOL,
     SIZE(5, 9, 9),
     WINDOW(3, 3, 2, 2),
     .pads = {1, 1, 1, 1},
     .ceil = true,
     .x = {0.07f, -9, QC_S8},
     .y = {0.07f, -9, QC_S8}},
    {.op = QC_OP_MAX_POOL,
     SIZE(5, 9, 9),
     WINDOW(2, 2, 1, 1),
     .dilation = 3,
     .x = {0.07f, -128, QC_S8},
     .y = {0.07f, -128, QC_S8}},
    {.op = QC_OP_MAX_POOL,
     SIZE(33, 8, 8),
     WINDOW(3, 3, 2, 2),
     .pads = {0, 0, 1, 1},
     .x = {0.07f, 90, QC_U8},
     .y = {0.05f, 77, QC_U8}},
    {.op = QC_OP_MAX_POOL,
     SIZE(4, 8, 8),
     WINDOW(2, 2, 2, 2),
     .x = {0.07f, 3, QC_S8},
     .y = {0.09f, 120, QC_U8}},
};

START_TEST(max_pool__bytes__codes_of_f32)
{
    expect_pool(&max_pools[_i]);
}
END_TEST

/* Powers of two as scales and as every window's size: both runs are exact, ties included. */
static const struct pool_case exact[] = {
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(3, 8, 6),
     WINDOW(2, 2, 2, 2),
     .x = {0.25f, 100, QC_U8},
     .y = {0.125f, 31, QC_U8}},
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(65, 7, 7),
     WINDOW(2, 2, 1, 3),
     .pads = {1, 1, 1, 1},
     .x = {0.25f, -20, QC_S8},
     .y = {0.25f, 7, QC_S8}}, /* windows of 1, 2 and 4 */
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(6, 9, 9),
     WINDOW(4, 2, 3, 2),
     .pads = {2, 1, 2, 0},
     .include_pad = true,
     .x = {0.5f, 255, QC_U8},
     .y = {0.25f, 255, QC_U8}},
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(5, 8, 8),
     WINDOW(1, 8, 1, 8),
     .x = {0.5f, 0, QC_U8},
     .y = {0.25f, 1, QC_U8}},
    {.op = QC_OP_GLOBAL_AVERAGE_POOL,
     SIZE(70, 4, 4),
     .x = {0.5f, 10, QC_U8},
     .y = {0.5f, 20, QC_U8}},
    {.op = QC_OP_GLOBAL_AVERAGE_POOL,
     SIZE(33, 1, 1),
     .x = {0.5f, -128, QC_S8},
     .y = {0.5f, -100, QC_S8}},
};

START_TEST(average_pool__exact_sizes__codes_of_f32)
{
    expect_pool(&exact[_i]);
}
END_TEST

/* Otherwise f32 divides a sum of rounded products by n, and the unit multiplies the exact sum by
 * the rounded s_x / (s_y n): two roundings of one number, which may lie on the two sides of a
 * tie. Never more than one step. */
static const struct pool_case near[] = {
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(19, 9, 9),
     WINDOW(3, 3, 2, 2),
     .pads = {1, 1, 1, 1},
     .x = {0.0231f, 100, QC_U8},
     .y = {0.0097f, 31, QC_U8},
     .steps = 1},
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(4, 10, 11),
     WINDOW(3, 5, 1, 2),
     .pads = {1, 2, 0, 2},
     .include_pad = true,
     .x = {0.0231f, 0, QC_S8},
     .y = {0.011f, -3, QC_S8},
     .steps = 1},
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(4, 10, 11),
     WINDOW(3, 3, 2, 2),
     .ceil = true,
     .pads = {0, 1, 0, 1},
     .include_pad = true,
     .x = {0.0231f, 0, QC_S8},
     .y = {0.011f, -3, QC_S8},
     .steps = 1},
    {.op = QC_OP_AVERAGE_POOL,
     SIZE(4, 10, 11),
     WINDOW(3, 3, 2, 2),
     .ceil = true,
     .x = {0.0231f, 50, QC_U8},
     .y = {0.011f, 125, QC_U8},
     .steps = 1},
    {.op = QC_OP_GLOBAL_AVERAGE_POOL,
     SIZE(131, 7, 5),
     .x = {0.0231f, 60, QC_U8},
     .y = {0.0087f, 11, QC_U8},
     .steps = 1},
};

START_TEST(average_pool__any_sizes__within_one_step)
{
    expect_pool(&near[_i]);
}
END_TEST

/* One spatial dim has no kernel, dilated windows neither: f32. */
static void build_1d(struct fixture *f, const void *arg)
{
    const struct pool_case *c = arg;
    int x = value_new(f, QC_F32, SHAPE3(2, c->channels, c->w)), y = int_value(f);
    struct qc_node *n = NODE(f, c->op, y, qdq_new(f, x, c->x));
    if (c->op == QC_OP_AVERAGE_POOL) {
        INTS(f, n, "kernel_shape", 3);
    }
    int_io(f, x, qdq_new(f, y, c->y));
}

START_TEST(average_pool__one_dim__stays_f32)
{
    static const int ops[] = {QC_OP_AVERAGE_POOL, QC_OP_GLOBAL_AVERAGE_POOL};
    struct pool_case c = {
        .op = ops[_i], SIZE(40, 1, 13), .x = {0.05f, 3, QC_U8}, .y = {0.04f, 20, QC_U8}};
    struct int_want w = {.in = c.x, .islands = 1};
    int_expect(build_1d, &c, &w);
}
END_TEST

Suite *test_int_pool_suite(void);
Suite *test_int_pool_suite(void)
{
    Suite *s = suite_create("int_pool");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, max_pool__bytes__codes_of_f32, 0, (int)QD_COUNT_OF(max_pools));
    tcase_add_loop_test(tc, average_pool__exact_sizes__codes_of_f32, 0, (int)QD_COUNT_OF(exact));
    tcase_add_loop_test(tc, average_pool__any_sizes__within_one_step, 0, (int)QD_COUNT_OF(near));
    tcase_add_loop_test(tc, average_pool__one_dim__stays_f32, 0, 2);
    suite_add_tcase(s, tc);
    return s;
}
