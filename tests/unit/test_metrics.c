#include <check.h>
#include <math.h>

#include "quantcore/verify/metrics.h"

START_TEST(sqnr__known_noise__exact_db)
{
    const float x[4] = {3, -4, 0, 5}, y[4] = {3, -4, 0.5f, 5};
    struct qc_metric m = {0};
    qc_metric_add_dense(&m, x, y, 4);
    ck_assert_double_eq_tol(qc_metric_sqnr_db(&m), 10 * log10(50 / 0.25), 1e-12);
    ck_assert_double_eq(m.max_error, 0.5);
    ck_assert(qc_metric_cosine(&m) < 1 && qc_metric_cosine(&m) > 0.99);
}
END_TEST

START_TEST(sqnr__edge_cases__inf_and_nan)
{
    const float zero[2] = {0, 0}, one[2] = {1, 0};
    struct qc_metric none = {0}, same = {0}, lost = {0};
    ck_assert(isnan(qc_metric_sqnr_db(&none)) && isnan(qc_metric_cosine(&none)));
    qc_metric_add_dense(&same, zero, zero, 2);
    ck_assert(isinf(qc_metric_sqnr_db(&same)));
    ck_assert_double_eq(qc_metric_cosine(&same), 1);
    qc_metric_add_dense(&lost, zero, one, 2);
    ck_assert(isnan(qc_metric_sqnr_db(&lost)));
}
END_TEST

START_TEST(add__nhwc_codes_against_plain_f32__dequantized_and_saturation_counted)
{
    /* [1,2,1,2] plain: channel-major; the codes are stored pixel by pixel, stride 4 */
    float x[4] = {0, 1, 10, -3};
    uint8_t q[8] = {5, 255, 9, 9, 7, 0, 9, 9};
    struct qc_qparams p = {.scale = 0.5f, .zero_point = 5};
    struct qc_shape shape = {4, {1, 2, 1, 2}};
    struct qc_view vx = {.data = x, .dtype = QC_F32, .layout = QC_PLAIN, .shape = shape};
    struct qc_view vq = {.data = q, .dtype = QC_U8, .layout = QC_NHWC, .shape = shape,
                         .pixel_stride = 4, .row_stride = 8, .image_stride = 8};
    struct qc_metric m = {0};
    struct qc_kernels kernels;
    qc_kernels_init(&kernels, QC_ISA_REF);
    qc_metric_add(&m, &kernels, &vx, &vq, &p);
    /* channel 0: 0 against 0, 1 against 1; channel 1: 10 against 125, -3 against -2.5 */
    ck_assert_uint_eq(m.n, 4);
    ck_assert_double_eq_tol(m.noise, 115 * 115 + 0.25, 1e-9);
    ck_assert_uint_eq(m.saturated, 1);
}
END_TEST

START_TEST(topk__ties__first_wins)
{
    const float x[4] = {1, 3, 3, 2};
    ck_assert_uint_eq(qc_top1(x, 4), 1);
    ck_assert(!qc_in_topk(x, 4, 2, 1));
    ck_assert(qc_in_topk(x, 4, 2, 2));
    ck_assert(!qc_in_topk(x, 4, 0, 3));
}
END_TEST

START_TEST(wilson__known_case__literature_value)
{
    /* 8 of 10: interval [0.4902, 0.9433] */
    ck_assert_double_eq_tol(qc_wilson95(8, 10), (0.9433 - 0.4902) / 2, 1e-4);
    ck_assert(isnan(qc_wilson95(0, 0)));
}
END_TEST

START_TEST(entropy_share__probabilities_and_logits__as_defined)
{
    const float even[4] = {0.25f, 0.25f, 0.25f, 0.25f}, sure[4] = {0, 1, 0, 0};
    const float same[4] = {7, 7, 7, 7}, logits[2] = {0, 2}, large[3] = {5000, 0, -5000};
    double p = 1 / (1 + exp(2.0));
    ck_assert_double_eq_tol(qc_entropy_share(even, 4), 1, 1e-12);
    ck_assert_double_eq_tol(qc_entropy_share(same, 4), 1, 1e-12);
    ck_assert_double_eq_tol(qc_entropy_share(sure, 4), 0, 1e-12);
    ck_assert_double_eq_tol(qc_entropy_share(large, 3), 0, 1e-12);
    ck_assert_double_eq_tol(qc_entropy_share(logits, 2),
                            -(p * log(p) + (1 - p) * log(1 - p)) / log(2.0), 1e-12);
}
END_TEST

Suite *test_metrics_suite(void)
{
    Suite *s = suite_create("metrics");
    TCase *tc = tcase_create("metrics");
    tcase_add_test(tc, sqnr__known_noise__exact_db);
    tcase_add_test(tc, sqnr__edge_cases__inf_and_nan);
    tcase_add_test(tc, add__nhwc_codes_against_plain_f32__dequantized_and_saturation_counted);
    tcase_add_test(tc, topk__ties__first_wins);
    tcase_add_test(tc, wilson__known_case__literature_value);
    tcase_add_test(tc, entropy_share__probabilities_and_logits__as_defined);
    suite_add_tcase(s, tc);
    return s;
}
