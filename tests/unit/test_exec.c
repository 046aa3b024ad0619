#include "tests/unit/exec_fixture.h"

Suite *test_exec_suite(void);

static void check_close(const float *got, const float *expect, size_t n, float tolerance)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(fabsf(got[i] - expect[i]) <= tolerance, "%zu: %.9g, not %.9g", i,
                      (double)got[i], (double)expect[i]);
    }
}

/* ---- Gemm, MatMul ---- */

struct gemm_case {
    int m, n, k;
    bool ta, tb, b_is_data;
    float alpha, beta;
    int c_rank, c_rows, c_cols; /* -1: no C */
    bool clamp;
};

static const struct gemm_case gemm_cases[] = {
    {1, 10, 7, false, true, false, 1.0f, 1.0f, 1, 0, 10, false},
    {5, 40, 9, false, false, false, 1.0f, 1.0f, 1, 0, 40, true},
    {13, 33, 17, true, false, false, 0.5f, 2.0f, 2, 13, 33, false},
    {4, 6, 3, true, true, true, 1.0f, 1.0f, 2, 4, 1, true},
    {4, 6, 3, false, false, true, 1.0f, 0.5f, 2, 1, 6, false},
    {3, 5, 2, false, true, false, 1.0f, 1.0f, -1, 0, 0, false},
    {3, 5, 2, false, true, false, 1.0f, 1.0f, 0, 1, 1, false},
};

START_TEST(qc_exec_run__gemm__equals_the_naive_sum)
{
    struct fixture fixture, *f = &fixture;
    const struct gemm_case *c = &gemm_cases[_i];
    fixture_init(f);
    struct qc_shape as = c->ta ? SHAPE2(c->k, c->m) : SHAPE2(c->m, c->k);
    int a = value_new(f, QC_F32, as), y = value_new(f, QC_F32, SHAPE2(c->m, c->n));
    const float *x = tensor_new(f, QC_F32, as, NULL)->data;
    int b = constant_new(f, QC_F32, c->tb ? SHAPE2(c->n, c->k) : SHAPE2(c->k, c->n), NULL);
    const float *w = constant_f32(f, b);
    if (c->b_is_data) {
        int copy = value_new(f, QC_F32, f->g->values[b].shape);
        NODE(f, QC_OP_IDENTITY, copy, b);
        b = copy;
    }
    int bias = -1;
    if (c->c_rank >= 0) {
        struct qc_shape cs = SHAPE2(c->c_rows, c->c_cols);
        cs = c->c_rank == 1 ? SHAPE1(c->c_cols) : cs;
        cs.rank = c->c_rank;
        bias = constant_new(f, QC_F32, cs, NULL);
    }
    struct qc_node *n = NODE(f, QC_OP_GEMM, y, a, b, bias);
    attr_int(f, n, "transA", c->ta);
    attr_int(f, n, "transB", c->tb);
    attr_float(f, n, "alpha", c->alpha);
    attr_float(f, n, "beta", c->beta);
    n->clamp = (struct qc_clamp){c->clamp, 0.0f, 0.7f};
    const float *got = run_one(f, a, y, x);
    for (int i = 0; i < c->m * c->n; i++) {
        int row = i / c->n, col = i % c->n;
        double sum = 0.0;
        for (int k = 0; k < c->k; k++) {
            sum += (double)x[c->ta ? k * c->m + row : row * c->k + k] *
                   (double)w[c->tb ? col * c->k + k : k * c->n + col];
        }
        sum *= (double)c->alpha;
        if (bias >= 0) {
            int at = (c->c_rank > 1 && c->c_rows > 1 ? row * c->c_cols : 0) +
                     (c->c_cols > 1 ? col : 0);
            sum += (double)c->beta * (double)constant_f32(f, bias)[at];
        }
        sum = c->clamp ? fmin(fmax(sum, 0.0), 0.7f) : sum;
        ck_assert_msg(fabs((double)got[i] - sum) < 1e-5, "%d: %g, not %g", i, (double)got[i],
                      sum);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__matmul_of_batches__broadcasts)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    bool data = _i == 1;
    struct qc_shape as = SHAPE4(2, 1, 3, 4), bs = SHAPE3(5, 4, 6);
    int a = value_new(f, QC_F32, as), y = value_new(f, QC_F32, SHAPE4(2, 5, 3, 6));
    int b = constant_new(f, QC_F32, bs, NULL), used = b;
    const float *x = tensor_new(f, QC_F32, as, NULL)->data, *w = constant_f32(f, b);
    if (data) {
        used = value_new(f, QC_F32, bs);
        NODE(f, QC_OP_IDENTITY, used, b);
    }
    NODE(f, QC_OP_MATMUL, y, a, used);
    const float *got = run_one(f, a, y, x);
    for (int i = 0; i < 2 * 5 * 3 * 6; i++) {
        int n = i / 90, p = i / 18 % 5, row = i / 6 % 3, col = i % 6;
        float sum = 0.0f;
        for (int k = 0; k < 4; k++) {
            sum = fmaf(x[n * 12 + row * 4 + k], w[p * 24 + k * 6 + col], sum);
        }
        ck_assert(got[i] == sum);
    }
    fixture_done(f);
}
END_TEST

/* ---- elementwise ---- */

static double apply(int op, double a, double b)
{
    return op == QC_OP_ADD ? a + b : op == QC_OP_SUB ? a - b : op == QC_OP_MUL ? a * b : a / b;
}

START_TEST(qc_exec_run__binary__broadcasts_like_numpy)
{
    struct fixture fixture, *f = &fixture;
    static const int ops[] = {QC_OP_ADD, QC_OP_SUB, QC_OP_MUL, QC_OP_DIV};
    fixture_init(f);
    struct qc_shape as = SHAPE4(2, 3, 4, 5);
    struct qc_shape shapes[] = {as,        SHAPE4(1, 3, 1, 1), SHAPE3(3, 1, 1),
                                SHAPE1(5), shape_of(0),        SHAPE4(2, 1, 4, 1)};
    struct qc_shape bs = shapes[_i / 8];
    bool nhwc = _i / 4 % 2 == 1; /* behind a pool of 1x1, which leaves NHWC */
    int a = value_new(f, QC_F32, as), y = value_new(f, QC_F32, as), in = a;
    const float *x = tensor_new(f, QC_F32, as, NULL)->data;
    int b = constant_new(f, QC_F32, bs, NULL);
    if (nhwc) {
        int pooled = value_new(f, QC_F32, as);
        struct qc_node *n = NODE(f, QC_OP_MAX_POOL, pooled, a);
        INTS(f, n, "kernel_shape", 1, 1);
        in = pooled;
    }
    struct qc_node *n = NODE(f, ops[_i % 4], y, in, b);
    n->clamp = (struct qc_clamp){true, -1.5f, 1.25f};
    const float *got = run_one(f, a, y, x);
    for (int i = 0; i < 120; i++) {
        int index[4] = {i / 60, i / 20 % 3, i / 5 % 4, i % 5}, at = 0;
        for (int d = 0; d < bs.rank; d++) {
            int64_t dim = bs.dim[d];
            at = at * (int)dim + (dim == 1 ? 0 : index[d + 4 - bs.rank]);
        }
        float expect = (float)apply(ops[_i % 4], (double)x[i], (double)constant_f32(f, b)[at]);
        expect = expect < -1.5f ? -1.5f : (expect > 1.25f ? 1.25f : expect);
        ck_assert_msg(got[i] == expect, "%d: %g not %g", i, (double)got[i], (double)expect);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__integers__wrap_and_never_trap)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    int64_t a[4] = {7, -7, INT64_MIN, 5}, b[4] = {2, 2, -1, 0};
    int64_t quotient[4] = {3, -3, INT64_MIN, 0}, sum[4] = {9, -5, INT64_MAX, 5};
    fixture_init(f);
    int ca = constant_new(f, QC_S64, SHAPE1(4), a), cb = constant_new(f, QC_S64, SHAPE1(4), b);
    NODE(f, QC_OP_DIV, value_new(f, QC_S64, SHAPE1(4)), ca, cb);
    NODE(f, QC_OP_ADD, value_new(f, QC_S64, SHAPE1(4)), ca, cb);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, quotient, sizeof(quotient));
    OK(qc_exec_eval_node(f->g, 1, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, sum, sizeof(sum));
    fixture_done(f);
}
END_TEST

static double unary_expect(int op, double x)
{
    switch (op) {
    case QC_OP_RELU:
        return fmax(x, 0.0);
    case QC_OP_LEAKY_RELU:
        return x < 0.0 ? 0.01 * x : x;
    case QC_OP_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case QC_OP_HARD_SIGMOID:
        return fmin(fmax(0.2 * x + 0.5, 0.0), 1.0);
    case QC_OP_HARD_SWISH:
        return x * fmin(fmax(x / 6.0 + 0.5, 0.0), 1.0);
    case QC_OP_TANH:
        return tanh(x);
    default:
        return exp(x);
    }
}

START_TEST(qc_exec_run__unary__is_close_to_libm)
{
    static const int ops[] = {QC_OP_RELU,         QC_OP_LEAKY_RELU, QC_OP_SIGMOID,
                              QC_OP_HARD_SIGMOID, QC_OP_HARD_SWISH, QC_OP_TANH,
                              QC_OP_EXP};
    struct fixture fixture, *f = &fixture;
    enum { N = 4000 };
    static float data[N];
    fixture_init(f);
    for (int i = 0; i < N; i++) {
        data[i] = (float)(i - N / 2) * 0.05f;
    }
    int x = value_new(f, QC_F32, SHAPE1(N)), y = value_new(f, QC_F32, SHAPE1(N));
    NODE(f, ops[_i], y, x);
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < N; i++) {
        double expect = unary_expect(ops[_i], (double)data[i]);
        bool far = expect > (double)3.4028235e38f;
        /* the hard forms subtract numbers near 0.5 */
        bool hard = ops[_i] == QC_OP_HARD_SIGMOID || ops[_i] == QC_OP_HARD_SWISH;
        double scale = fmax(fabs(expect), hard ? 1.0 : 1e-37);
        ck_assert_msg(far ? isinf(got[i]) : fabs((double)got[i] - expect) <= 3e-7 * scale,
                      "op %d at %g: %.9g, not %.9g", ops[_i], (double)data[i], (double)got[i],
                      expect);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__clip_and_clamp__are_both_applied)
{
    struct fixture fixture, *f = &fixture;
    float data[5] = {-9.0f, -1.5f, 0.25f, 2.0f, NAN}, lo = -2.0f, hi = 3.0f;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE1(5)), y = value_new(f, QC_F32, SHAPE1(5));
    int clo = constant_new(f, QC_F32, shape_of(0), &lo);
    int chi = constant_new(f, QC_F32, shape_of(0), &hi);
    struct qc_node *n = NODE(f, QC_OP_CLIP, y, x, clo, chi);
    n->clamp = (struct qc_clamp){true, -1.0f, 1.0f};
    const float *got = run_one(f, x, y, data);
    ck_assert(got[0] == -1.0f && got[1] == -1.0f && got[2] == 0.25f && got[3] == 1.0f);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__batch_normalization__follows_the_formula)
{
    struct fixture fixture, *f = &fixture;
    float var[3] = {0.5f, 1.0f, 2.0f}, expect[24];
    fixture_init(f);
    struct qc_shape shape = _i == 0 ? SHAPE4(1, 3, 2, 4) : SHAPE3(1, 3, 8);
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, shape);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    int s = constant_new(f, QC_F32, SHAPE1(3), NULL),
        b = constant_new(f, QC_F32, SHAPE1(3), NULL);
    int m = constant_new(f, QC_F32, SHAPE1(3), NULL), v = constant_new(f, QC_F32, SHAPE1(3), var);
    NODE(f, QC_OP_BATCH_NORMALIZATION, y, x, s, b, m, v);
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 24; i++) {
        int c = i / 8;
        expect[i] =
            (data[i] - constant_f32(f, m)[c]) / sqrtf(var[c] + 1e-5f) * constant_f32(f, s)[c] +
            constant_f32(f, b)[c];
    }
    check_close(got, expect, 24, 1e-6f);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__clip_of_s8__saturates_at_its_bounds)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    int8_t data[4] = {-128, -3, 5, 127}, lo = -4, hi = 6, expect[4] = {-4, -3, 5, 6};
    fixture_init(f);
    NODE(f, QC_OP_CLIP, value_new(f, QC_S8, SHAPE1(4)), constant_new(f, QC_S8, SHAPE1(4), data),
         constant_new(f, QC_S8, shape_of(0), &lo), constant_new(f, QC_S8, shape_of(0), &hi));
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, expect, 4);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__dropout_in_training__is_refused)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    uint8_t mode = _i == 0;
    fixture_init(f);
    int x = constant_new(f, QC_F32, SHAPE1(4), NULL);
    NODE(f, QC_OP_DROPOUT, value_new(f, QC_F32, SHAPE1(4)), x, -1,
         constant_new(f, QC_BOOL, shape_of(0), &mode));
    ck_assert_int_eq(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err),
                     mode ? QD_UNSUPPORTED : QD_OK);
    fixture_done(f);
}
END_TEST

/* ---- programs ---- */

static void scale_by_two(void *ctx, int value, const struct qc_view *view)
{
    int *count = ctx;
    count[value]++;
    if (value == 1) { /* what fake quantization does: the interior is overwritten */
        for (int i = 0; i < 12; i++) {
            float *p = (float *)view->data +
                       (view->layout == QC_NHWC ? i / 4 + i % 4 * view->pixel_stride : i);
            *p *= 2.0f;
        }
    }
}

START_TEST(qc_exec_run__observer__sees_each_value_once_and_may_overwrite)
{
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    int count[8] = {0};
    float out[12];
    fixture_init(f);
    qc_kernels_init(&kernels, QC_ISA_REF);
    struct qc_shape shape = SHAPE4(1, 3, 2, 2);
    int x = value_new(f, QC_F32, shape), p = value_new(f, QC_F32, shape);
    int y = value_new(f, QC_F32, SHAPE2(3, 4));
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const void *inputs[1] = {data};
    INTS(f, NODE(f, QC_OP_MAX_POOL, p, x), "kernel_shape", 1, 1);
    int64_t dims[2] = {3, 4};
    NODE(f, QC_OP_RESHAPE, y, p, constant_new(f, QC_S64, SHAPE1(2), dims));
    graph_io(f, 1, &x, 1, &y);
    struct qc_exec_options options = {.kernels = &kernels};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    OK(qc_exec_state_new(exec, &state, &f->err));
    OK(qc_exec_run(exec, state, inputs, scale_by_two, count, &f->err));
    qc_exec_output(exec, state, 0, out);
    for (int i = 0; i < 12; i++) {
        ck_assert(out[i] == 2.0f * data[i]);
    }
    ck_assert_int_eq(count[x], 1);
    ck_assert_int_eq(count[p], 1);
    ck_assert_int_eq(count[y], 1);
    qc_exec_state_free(state);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_advance__value_by_value__shows_each)
{
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_view view;
    int values[9];
    fixture_init(f);
    qc_kernels_init(&kernels, QC_ISA_REF);
    float one = 1.0f, x[64] = {0}, got[64];
    int c = constant_new(f, QC_F32, shape_of(0), &one);
    for (int i = 0; i < 9; i++) {
        values[i] = value_new(f, QC_F32, SHAPE1(64));
        if (i > 0) {
            NODE(f, QC_OP_ADD, values[i], values[i - 1], c);
        }
    }
    graph_io(f, 1, values, 1, &values[8]);
    bool keep[16] = {false};
    keep[values[3]] = true;
    struct qc_exec_options options = {.kernels = &kernels, .keep = keep};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    ck_assert_uint_le(qc_exec_buffer_size(exec), 4 * (64 * 4 + 64)); /* 9 values share 4 places */
    OK(qc_exec_state_new(exec, &state, &f->err));
    const void *inputs[1] = {x};
    OK(qc_exec_begin(exec, state, inputs, &f->err));
    for (int i = 0; i < 9; i++) {
        OK(qc_exec_advance(exec, state, values[i], &f->err));
        ck_assert(qc_exec_view(exec, state, values[i], &view));
        qc_view_to_dense(&view, got);
        ck_assert(got[0] == (float)i && got[63] == (float)i);
    }
    ck_assert(qc_exec_view(exec, state, values[3], &view));
    ck_assert(((const float *)view.data)[5] == 3.0f);
    ck_assert(!qc_exec_view(exec, state, c, &view));
    qc_exec_state_free(state);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_build__unknown_type__names_the_node)
{
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    fixture_init(f);
    qc_kernels_init(&kernels, QC_ISA_REF);
    int x = value_new(f, QC_F64, SHAPE1(4)), y = value_new(f, QC_F64, SHAPE1(4));
    NODE(f, QC_OP_SIGMOID, y, x);
    graph_io(f, 1, &x, 1, &y);
    struct qc_exec_options options = {.kernels = &kernels};
    ck_assert_int_eq(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err), QD_UNSUPPORTED);
    ck_assert_str_eq(f->err.subject, "n0");
    ck_assert_ptr_nonnull(strstr(f->err.message, "f64[4]"));
    fixture_done(f);
}
END_TEST

Suite *test_exec_suite(void)
{
    Suite *suite = suite_create("test_exec");
    TCase *c = tcase_create("exec");
    tcase_add_loop_test(c, qc_exec_run__gemm__equals_the_naive_sum, 0,
                        (int)QD_COUNT_OF(gemm_cases));
    tcase_add_loop_test(c, qc_exec_run__matmul_of_batches__broadcasts, 0, 2);
    tcase_add_loop_test(c, qc_exec_run__binary__broadcasts_like_numpy, 0, 48);
    tcase_add_test(c, qc_exec_eval_node__integers__wrap_and_never_trap);
    tcase_add_loop_test(c, qc_exec_run__unary__is_close_to_libm, 0, 7);
    tcase_add_test(c, qc_exec_run__clip_and_clamp__are_both_applied);
    tcase_add_test(c, qc_exec_eval_node__clip_of_s8__saturates_at_its_bounds);
    tcase_add_loop_test(c, qc_exec_eval_node__dropout_in_training__is_refused, 0, 2);
    tcase_add_loop_test(c, qc_exec_run__batch_normalization__follows_the_formula, 0, 2);
    tcase_add_test(c, qc_exec_run__observer__sees_each_value_once_and_may_overwrite);
    tcase_add_test(c, qc_exec_advance__value_by_value__shows_each);
    tcase_add_test(c, qc_exec_build__unknown_type__names_the_node);
    suite_add_tcase(suite, c);
    return suite;
}
