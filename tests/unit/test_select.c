/* PRelu, Min, Max, Pow, comparisons, Where, Not, Expand, Tile. */
#include "int_fixture.h"

Suite *test_select_suite(void);

static void infer_all(struct fixture *f)
{
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
}

static void fails(struct fixture *f, enum qd_code want, const char *text)
{
    ck_assert_int_eq(qc_graph_infer_node(f->g, f->g->n_nodes - 1, &f->err), want);
    ck_assert_msg(strstr(f->err.message, text) != NULL, "'%s' lacks '%s'", f->err.message, text);
}

/* A slope a channel, in pixels and in rows. */
START_TEST(exec__prelu__has_a_slope_a_channel)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape shape = SHAPE4(2, 5, 3, 4);
    int x = value_new(f, QC_F32, shape), from = x, y = int_value(f);
    if (_i == 1) {
        from = int_value(f);
        INTS(f, NODE(f, QC_OP_MAX_POOL, from, x), "kernel_shape", 1, 1);
    }
    int slope = constant_new(f, QC_F32, SHAPE3(5, 1, 1), NULL);
    NODE(f, QC_OP_PRELU, y, from, slope);
    infer_all(f);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 2 * 5 * 12; i++) {
        float s = constant_f32(f, slope)[i / 12 % 5];
        ck_assert(got[i] == (data[i] < 0 ? data[i] * s : data[i]));
    }
    NODE(f, QC_OP_PRELU, int_value(f), from, constant_new(f, QC_F32, SHAPE1(3), NULL));
    fails(f, QD_INVALID, "[3] does not broadcast to the input");
    fixture_done(f);
}
END_TEST

START_TEST(exec__min_max__take_any_number)
{
    struct fixture fixture, *f = &fixture;
    float data[4] = {-1, 0.5f, NAN, 3}, row[4] = {0, -2, 1, 5}, two = 2;
    bool max = _i == 1;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE2(1, 4)), y = int_value(f), z = int_value(f);
    NODE(f, max ? QC_OP_MAX : QC_OP_MIN, y, x, constant_new(f, QC_F32, SHAPE1(4), row),
         constant_new(f, QC_F32, SHAPE2(2, 1), (float[]){1, 4}));
    NODE(f, max ? QC_OP_MAX : QC_OP_MIN, z, y);
    infer_all(f);
    const float *got = run_one(f, x, z, data);
    for (int i = 0; i < 8; i++) {
        float a = data[i % 4], b = row[i % 4], c = i < 4 ? 1 : 4;
        float want = max ? fmaxf(fmaxf(a, b), c) : fminf(fminf(a, b), c);
        ck_assert(i % 4 == 2 ? isnan(got[i]) : got[i] == want);
    }
    NODE(f, QC_OP_MAX, int_value(f), x, constant_new(f, QC_F32, SHAPE1(3), NULL),
         int_f32(f, two));
    fails(f, QD_INVALID, "[3]f32 does not fit [1,4]f32");
    fixture_done(f);
}
END_TEST

/* where(x < y or not (x <= 1), x ^ 2, -1) over broadcast operands. */
START_TEST(exec__where__chooses)
{
    struct fixture fixture, *f = &fixture;
    float data[6] = {-1, 0.25f, 1, 1.5f, -3, 0};
    int64_t two = 2;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE2(2, 3)), c[4], squared = int_value(f), y = int_value(f);
    for (int i = 0; i < 4; i++) {
        c[i] = int_value(f);
    }
    NODE(f, QC_OP_LESS, c[0], x, constant_new(f, QC_F32, SHAPE2(2, 1), (float[]){0, -2}));
    NODE(f, QC_OP_LESS_OR_EQUAL, c[1], x, int_f32(f, 1));
    NODE(f, QC_OP_NOT, c[2], c[1]);
    NODE(f, QC_OP_OR, c[3], c[0], c[2]);
    NODE(f, QC_OP_POW, squared, x, int_scalar(f, QC_S64, &two));
    NODE(f, QC_OP_WHERE, y, c[3], squared, int_f32(f, -1));
    infer_all(f);
    const float *got = run_one(f, x, y, data);
    static const float want[6] = {1, -1, -1, 2.25f, 9, -1};
    ck_assert_mem_eq(got, want, sizeof(want));
    NODE(f, QC_OP_WHERE, int_value(f), x, x, x);
    fails(f, QD_INVALID, "is f32, not bool");
    NODE(f, QC_OP_WHERE, int_value(f), c[3], x, int_scalar(f, QC_S64, &two));
    fails(f, QD_INVALID, "s64 does not fit [2,3]f32");
    fixture_done(f);
}
END_TEST

START_TEST(eval__comparisons_of_integers__are_bool)
{
    static const int ops[] = {QC_OP_EQUAL, QC_OP_LESS, QC_OP_GREATER, QC_OP_LESS_OR_EQUAL,
                              QC_OP_GREATER_OR_EQUAL};
    static const uint8_t want[5][3] = {{0, 1, 0}, {1, 0, 0}, {0, 0, 1}, {1, 1, 0}, {0, 1, 1}};
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    fixture_init(f);
    int a = constant_new(f, QC_S64, SHAPE1(3), (int64_t[]){-5, 2, 7});
    int b = constant_new(f, QC_S64, SHAPE1(3), (int64_t[]){2, 2, 2});
    NODE(f, ops[_i], int_value(f), a, b);
    infer_all(f);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_int_eq(out[0]->dtype, QC_BOOL);
    ck_assert_mem_eq(out[0]->data, want[_i], 3);
    fixture_done(f);
}
END_TEST

/* ---- repeating ---- */

START_TEST(exec__expand__repeats_dims_of_1)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE3(1, 3, 1)), y = int_value(f);
    NODE(f, QC_OP_EXPAND, y, x, constant_new(f, QC_S64, SHAPE1(4), (int64_t[]){2, 1, 3, 20}));
    infer_all(f);
    float data[3] = {1, 2, 3};
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 120; i++) {
        ck_assert(got[i] == data[i / 20 % 3]);
    }
    NODE(f, QC_OP_EXPAND, int_value(f), x, constant_new(f, QC_S64, SHAPE1(1), (int64_t[]){-1}));
    fails(f, QD_INVALID, "shape[0] = -1 is negative");
    NODE(f, QC_OP_EXPAND, int_value(f), x,
         constant_new(f, QC_S64, SHAPE1(2), (int64_t[]){4, 7}));
    fails(f, QD_INVALID, "[1,3,1] does not broadcast to [4,7]");
    NODE(f, QC_OP_EXPAND, int_value(f), x,
         constant_new(f, QC_S64, SHAPE1(3), (int64_t[]){INT64_MAX, 3, 1}));
    fails(f, QD_LIMIT_EXCEEDED, "too large");
    fixture_done(f);
}
END_TEST

START_TEST(exec__tile__repeats_every_dim)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE3(2, 1, 3)), y = int_value(f);
    NODE(f, QC_OP_TILE, y, x, constant_new(f, QC_S64, SHAPE1(3), (int64_t[]){3, 4, 2}));
    infer_all(f);
    float data[6] = {1, 2, 3, 4, 5, 6};
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 6 * 4 * 6; i++) {
        ck_assert(got[i] == data[i / 24 % 2 * 3 + i % 6 % 3]);
    }
    NODE(f, QC_OP_TILE, int_value(f), x, constant_new(f, QC_S64, SHAPE1(2), (int64_t[]){1, 1}));
    fails(f, QD_INVALID, "2 repeats for rank 3");
    NODE(f, QC_OP_TILE, int_value(f), x,
         constant_new(f, QC_S64, SHAPE1(3), (int64_t[]){INT64_MAX, 1, 1}));
    fails(f, QD_INVALID, "repeats[0] = 9223372036854775807");
    fixture_done(f);
}
END_TEST

static void build_expand(struct fixture *f, const void *arg)
{
    (void)arg;
    struct int_q q = S8(0.043f, -30);
    int x = value_new(f, QC_F32, SHAPE2(64, 1)), y = int_value(f);
    NODE(f, QC_OP_EXPAND, y, qdq_new(f, x, q),
         constant_new(f, QC_S64, SHAPE1(2), (int64_t[]){1, 9}));
    int_io(f, x, qdq_new(f, y, q));
}

START_TEST(int_plan__expand__runs_on_codes)
{
    struct int_want w = {.in = S8(0.043f, -30), .units = 1};
    int_expect(build_expand, NULL, &w);
}
END_TEST

Suite *test_select_suite(void)
{
    Suite *suite = suite_create("test_select");
    TCase *tcase = tcase_create("select");
    tcase_add_loop_test(tcase, exec__prelu__has_a_slope_a_channel, 0, 2);
    tcase_add_loop_test(tcase, exec__min_max__take_any_number, 0, 2);
    tcase_add_test(tcase, exec__where__chooses);
    tcase_add_loop_test(tcase, eval__comparisons_of_integers__are_bool, 0, 5);
    tcase_add_test(tcase, exec__expand__repeats_dims_of_1);
    tcase_add_test(tcase, exec__tile__repeats_every_dim);
    tcase_add_test(tcase, int_plan__expand__runs_on_codes);
    suite_add_tcase(suite, tcase);
    return suite;
}
