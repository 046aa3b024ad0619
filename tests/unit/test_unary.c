/* Functions of one tensor beside the C library's in double, and their plan. */
#include <check.h>
#include <float.h>
#include <stdio.h>

#include "int_fixture.h"
#include "quantcore/exec/exec_math_f64.h"

Suite *test_unary_suite(void);

static const int ops[] = {QC_OP_SQRT, QC_OP_LOG,  QC_OP_NEG,  QC_OP_ABS,      QC_OP_RECIPROCAL,
                          QC_OP_ERF,  QC_OP_GELU, QC_OP_ELU,  QC_OP_SELU,     QC_OP_SOFTPLUS,
                          QC_OP_MISH, QC_OP_SOFTSIGN};

static double expected(int op, double x)
{
    const double selu_alpha = 1.67326319217681884765625, selu_gamma = 1.05070102214813232421875;
    if (op == QC_OP_SQRT) {
        return sqrt(x);
    }
    if (op == QC_OP_LOG) {
        return log(x);
    }
    if (op == QC_OP_NEG || op == QC_OP_ABS) {
        return op == QC_OP_NEG ? -x : fabs(x);
    }
    if (op == QC_OP_RECIPROCAL) {
        return 1 / x;
    }
    if (op == QC_OP_ERF) {
        return erf(x);
    }
    if (op == QC_OP_GELU) {
        return 0.5 * x * erfc(-x / sqrt(2));
    }
    if (op == QC_OP_ELU) {
        return x < 0 ? expm1(x) : x;
    }
    if (op == QC_OP_SELU) {
        return selu_gamma * (x < 0 ? selu_alpha * expm1(x) : x);
    }
    double softplus = (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
    return op == QC_OP_SOFTPLUS ? softplus : op == QC_OP_MISH ? x * tanh(softplus)
                                                              : x / (1 + fabs(x));
}

START_TEST(exec__unary__is_close_to_libm)
{
    struct fixture fixture, *f = &fixture;
    enum { N = 4001 };
    static float data[N];
    fixture_init(f);
    for (int i = 0; i < N; i++) { /* near 0 finely, and far */
        float t = (float)(i - N / 2) / 400.0f;
        data[i] = t * fabsf(t) * (i % 3 == 0 ? 1.0f : 0.37f);
    }
    int x = value_new(f, QC_F32, SHAPE1(N)), y = value_new(f, QC_F32, SHAPE1(N)), op = ops[_i];
    NODE(f, op, y, x);
    const float *got = run_one(f, x, y, data);
    /* (e^x - 1), n / (n + 2) and 1 + erf(x) subtract numbers near 1. */
    bool cancels = op == QC_OP_ELU || op == QC_OP_SELU || op == QC_OP_MISH || op == QC_OP_GELU;
    for (int i = 0; i < N; i++) {
        double want = expected(op, (double)data[i]);
        double scale = fmax(fabs(want), cancels ? 1 : (double)FLT_MIN);
        bool same = isnan(want) ? isnan(got[i])
                                : got[i] == (float)want ||
                                      fabs((double)got[i] - want) <= 3e-7 * scale;
        ck_assert_msg(same, "%s at %g: %.9g, not %.9g", qc_op_rows[op].type, (double)data[i],
                      (double)got[i], want);
    }
    fixture_done(f);
}
END_TEST

START_TEST(exec__gelu_tanh_and_alpha__are_the_attributes)
{
    struct fixture fixture, *f = &fixture;
    float data[4] = {-3, -0.5f, 0.7f, 2};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE1(4)), y = value_new(f, QC_F32, SHAPE1(4));
    int z = value_new(f, QC_F32, SHAPE1(4));
    attr_string(f, NODE(f, QC_OP_GELU, y, x), "approximate", "tanh");
    attr_float(f, NODE(f, QC_OP_ELU, z, y), "alpha", 2.0f);
    const float *got = run_one(f, x, z, data);
    for (int i = 0; i < 4; i++) {
        double v = (double)data[i];
        double g = 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
        ck_assert_double_eq_tol((double)got[i], g < 0 ? 2 * expm1(g) : g, 1e-6);
    }
    f->g->nodes[0].n_attrs = 0;
    attr_string(f, &f->g->nodes[0], "approximate", "sigmoid");
    const struct qc_tensor *out[1];
    f->g->values[x].constant = tensor_new(f, QC_F32, SHAPE1(4), data);
    ck_assert_int_eq(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(f->err.message, "neither none nor tanh"));
    fixture_done(f);
}
END_TEST

/* Within an ulp over a grid; the edges as C has them. */
START_TEST(powf__grid_and_edges__are_those_of_c)
{
    static const float edges[] = {0.0f, -0.0f, 1.0f,  -1.0f,    0.5f,     -0.5f,   2.0f,
                                  -2.0f, 3.0f, -3.0f, INFINITY, -INFINITY, NAN,    1e30f,
                                  1e-30f, -1e30f, 2.5f, 16777216.0f, 33554434.0f, -7.0f};
    for (size_t i = 0; i < QD_COUNT_OF(edges); i++) {
        for (size_t k = 0; k < QD_COUNT_OF(edges); k++) {
            float want = powf(edges[i], edges[k]), got = qc_powf(edges[i], edges[k]);
            bool same = isnan(want) ? isnan(got)
                                    : got == want && signbit(got) == signbit(want);
            same = same || (isnormal(want) && fabsf(got - want) <= 2e-7f * fabsf(want));
            ck_assert_msg(same, "%g ^ %g: %g, not %g", (double)edges[i], (double)edges[k],
                          (double)got, (double)want);
        }
    }
    for (int i = 1; i < 200; i++) {
        for (int k = -50; k <= 50; k++) {
            float x = (float)i * 0.173f, y = (float)k * 0.31f;
            double want = pow((double)x, (double)y), got = (double)qc_powf(x, y);
            ck_assert_msg(fabs(got - want) <= 6.1e-8 * want || want > (double)FLT_MAX ||
                              want < (double)FLT_MIN,
                          "%g ^ %g: %.9g, not %.9g", (double)x, (double)y, got, want);
        }
    }
}
END_TEST

START_TEST(math__log_exp_erf__within_1e_12)
{
    for (int i = -6000; i <= 6000; i++) {
        double x = i * 0.11, z = ldexp(1 + (i & 255) / 256.0, i / 10), near = i / 1000.0;
        ck_assert_double_eq_tol(qc_exp(x) / exp(x), 1, 1e-12);
        ck_assert_double_eq_tol(qc_log(z), log(z), 1e-12 * (1 + fabs(log(z))));
        ck_assert_double_eq_tol(qc_erf(near), fabs(near) < 4 ? erf(near) : copysign(1, near),
                                1e-12);
    }
    ck_assert(isinf(qc_log(0)) && qc_log(0) < 0 && isnan(qc_log(-1)) && isnan(qc_exp((double)NAN)));
    ck_assert(qc_exp(-1000) == 0 && isinf(qc_exp(1000)) && isnan(qc_erf((double)NAN)));
}
END_TEST

/* ---- codes ---- */

static void build_table(struct fixture *f, const void *arg)
{
    struct int_q xq = U8(0.031f, 90), yq = S8(0.027f, -100);
    int x = value_new(f, QC_F32, SHAPE2(1, 512)), y = int_value(f);
    NODE(f, *(const int *)arg, y, qdq_new(f, x, xq));
    int_io(f, x, qdq_new(f, y, yq));
}

START_TEST(int_plan__unary__is_a_table)
{
    if (ops[_i] == QC_OP_SQRT || ops[_i] == QC_OP_LOG) {
        return; /* NaN has no code */
    }
    struct int_want w = {.in = U8(0.031f, 90), .units = 1};
    int_expect(build_table, &ops[_i], &w);
}
END_TEST

Suite *test_unary_suite(void)
{
    Suite *suite = suite_create("test_unary");
    TCase *tcase = tcase_create("unary");
    tcase_add_loop_test(tcase, exec__unary__is_close_to_libm, 0, (int)QD_COUNT_OF(ops));
    tcase_add_test(tcase, exec__gelu_tanh_and_alpha__are_the_attributes);
    tcase_add_test(tcase, powf__grid_and_edges__are_those_of_c);
    tcase_add_test(tcase, math__log_exp_erf__within_1e_12);
    tcase_add_loop_test(tcase, int_plan__unary__is_a_table, 0, (int)QD_COUNT_OF(ops));
    suite_add_tcase(suite, tcase);
    return suite;
}
