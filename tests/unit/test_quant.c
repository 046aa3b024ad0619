#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "quantcore/affine/qparams.h"
#include "quantcore/quant/bias_correction.h"
#include "quantcore/quant/quantize_bias.h"
#include "quantcore/quant/quantize_weights.h"

static const struct qc_weight_format narrow = {.bits = QC_WEIGHT_BITS};
static const struct qc_weight_format asymmetric = {.form = QC_WEIGHTS_ASYMMETRIC,
                                                      .bits = QC_WEIGHT_BITS};
static struct qd_arena arena;

static void setup(void)
{
    qd_arena_init(&arena, 0);
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

static struct qc_tensor *tensor(int rank, const int64_t *dims, const float *data)
{
    struct qc_shape shape = {.rank = rank};
    struct qc_tensor *t = NULL;
    for (int i = 0; i < rank; i++) {
        shape.dim[i] = dims[i];
    }
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &shape, &t, NULL), QD_OK);
    memcpy(t->data, data, qc_shape_elements(&shape) * sizeof(float));
    return t;
}

START_TEST(quantize_weights__per_channel_and_per_tensor__absmax_is_127)
{
    const float w[6] = {1, -2, 0.5f, 10, 3, -10};
    struct qc_tensor *t = tensor(2, (int64_t[]){2, 3}, w);
    struct qc_quantized_weights q;
    ck_assert_int_eq(qc_quantize_weights(t, 0, &narrow, &arena, &q, NULL), QD_OK);
    const int8_t *code = q.q->data;
    ck_assert_int_eq(q.n_scales, 2);
    ck_assert_float_eq(q.scale[0], (float)(2 / 127.0));
    ck_assert_int_eq(code[0], 64); /* 63.5 to even */
    ck_assert_int_eq(code[1], -127);
    ck_assert_int_eq(code[3], 127);
    ck_assert_int_eq(code[4], 38);
    ck_assert_int_eq(qc_quantize_weights(t, 1, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(q.n_scales, 3);
    ck_assert_int_eq(((const int8_t *)q.q->data)[0], 13);
    ck_assert_double_eq_tol(qc_quantized_weights_value(&q, 4), 3, 1e-6);
    ck_assert_int_eq(qc_quantize_weights(t, -1, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(q.n_scales, 1);
    ck_assert_int_eq(((const int8_t *)q.q->data)[1], -25);
}
END_TEST

START_TEST(quantize_weights__dead_channel__floor)
{
    const float w[4] = {0, 1e-12f, 5, -3};
    struct qc_tensor *t = tensor(2, (int64_t[]){2, 2}, w);
    struct qc_quantized_weights q;
    ck_assert_int_eq(qc_quantize_weights(t, 0, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_float_eq(q.scale[0], (float)(0.05 / 127));
    ck_assert_int_eq(q.n_dead, 1);
    const float zeros[4] = {0};
    t = tensor(2, (int64_t[]){2, 2}, zeros);
    ck_assert_int_eq(qc_quantize_weights(t, 0, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_float_eq(q.scale[1], (float)(8e-5 / 127));
    ck_assert_int_eq(q.n_dead, 2);
}
END_TEST

/* Inputs of another unit (counts, not shares) make all weights small: none of them is dead. */
START_TEST(quantize_weights__all_small__own_scales)
{
    const float w[6] = {2e-7f, -1e-7f, 1e-6f, 5e-7f, 1e-12f, 0};
    struct qc_tensor *t = tensor(2, (int64_t[]){3, 2}, w);
    struct qc_quantized_weights q;
    for (int form = QC_WEIGHTS_NARROW; form <= QC_WEIGHTS_ASYMMETRIC; form++) {
        const struct qc_weight_format format = {.form = form, .bits = QC_WEIGHT_BITS};
        ck_assert_int_eq(qc_quantize_weights(t, 0, &format, &arena, &q, NULL), QD_OK);
        ck_assert_int_eq(q.n_dead, 1);
        ck_assert_float_le(q.scale[1], 1.01e-6f / 127);
        for (size_t i = 0; i < 4; i++) {
            ck_assert_double_eq_tol(qc_quantized_weights_value(&q, i), (double)w[i], 5e-9);
        }
    }
    const float largest[4] = {1e-3f, 1e-6f, 5e-5f, 2e-5f}; /* the floor as it was */
    t = tensor(2, (int64_t[]){2, 2}, largest);
    ck_assert_int_eq(qc_quantize_weights(t, 0, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_float_eq(q.scale[1], (float)(8e-5 / 127));
}
END_TEST

START_TEST(quantize_weights__nan__names_the_element)
{
    const float w[2] = {1, NAN};
    struct qd_error err;
    struct qc_quantized_weights q;
    ck_assert_int_eq(
        qc_quantize_weights(tensor(1, (int64_t[]){2}, w), 0, &narrow, &arena, &q, &err),
        QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "weight 1 is nan"));
}
END_TEST

START_TEST(quantize_weights__asymmetric__every_code_of_the_span)
{
    static const struct {
        float lo, hi;
        int zero_point, first, last;
    } rows[] = {{1.0f, 2.55f, -128, -28, 127}, {-1.0f, 1.55f, -28, -128, 127},
                {-2.55f, -0.05f, 127, -128, 122}, {0.0f, 2.55f, -128, -128, 127}};
    float w[8];
    struct qc_quantized_weights q;
    for (int i = 0; i < 4; i++) {
        w[2 * i] = rows[i].lo;
        w[2 * i + 1] = rows[i].hi;
    }
    struct qc_tensor *t = tensor(2, (int64_t[]){4, 2}, w);
    ck_assert_int_eq(qc_quantize_weights(t, 0, &asymmetric, &arena, &q, NULL), QD_OK);
    for (int i = 0; i < 4; i++) {
        ck_assert_float_eq_tol(q.scale[i], 0.01f, 1e-6f);
        ck_assert_int_eq(q.zero_point[i], rows[i].zero_point);
        ck_assert_int_eq(((const int8_t *)q.q->data)[2 * i], rows[i].first);
        ck_assert_int_eq(((const int8_t *)q.q->data)[2 * i + 1], rows[i].last);
        ck_assert_double_eq_tol(qc_quantized_weights_value(&q, (size_t)(2 * i)),
                                (double)rows[i].lo, 0.005);
    }
    ck_assert_int_eq(qc_quantize_weights(t, -1, &asymmetric, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(q.n_scales, 1);
    ck_assert_float_eq(q.scale[0], (float)((2.55 + 2.55) / 255));
}
END_TEST

START_TEST(quantize_weights__asymmetric_dead_channel_and_huge_bias__scale_and_zero_point)
{
    const float w[6] = {0, -1e-12f, 5, -3, 2, -2};
    const double bias[3] = {0, 1e9, 0};
    struct qc_quantized_weights q;
    struct qc_tensor *t = tensor(2, (int64_t[]){3, 2}, w);
    ck_assert_int_eq(qc_quantize_weights(t, 0, &asymmetric, &arena, &q, NULL), QD_OK);
    ck_assert_float_eq(q.scale[0], (float)(0.08 / 255)); /* a hundredth of the largest span */
    ck_assert_int_eq(q.zero_point[0], -128);
    ck_assert_int_eq(q.n_dead, 1);
    ck_assert_int_eq(q.zero_point[1], -32); /* -128 + 3 * 255 / 8 = -32.4 */
    ck_assert_int_eq(qc_bias_make_room(bias, 3, 1.0f, &q), 1);
    ck_assert_float_gt(q.scale[1], 0.46f);
    /* the zero point follows the scale, so that the codes still hold the range */
    ck_assert_int_eq(q.zero_point[1], (int)rint(-128 + 3 / (double)q.scale[1]));
    for (size_t i = 0; i < 6; i++) {
        ck_assert_double_le(fabs(qc_quantized_weights_value(&q, i) - (double)w[i]),
                            0.5001 * (double)q.scale[i / 2]);
    }
}
END_TEST

START_TEST(quantize_bias__float32_product_rounds_half_to_even)
{
    const float w[2] = {127, 254};
    const double bias[2] = {1.25, -3};
    struct qc_quantized_weights q;
    struct qc_quantized_bias b;
    ck_assert_int_eq(
        qc_quantize_weights(tensor(2, (int64_t[]){2, 1}, w), 0, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(qc_bias_make_room(bias, 2, 0.5f, &q), 0);
    ck_assert_int_eq(qc_quantize_bias(bias, 2, 0.5f, &q, &arena, &b, NULL), QD_OK);
    ck_assert_float_eq(b.scale[0], 0.5f * q.scale[0]);
    ck_assert_int_eq(((int32_t *)b.q->data)[0], 2); /* 2.5 */
    ck_assert_int_eq(((int32_t *)b.q->data)[1], -3);
    struct qd_error err;
    ck_assert_int_eq(qc_quantize_bias((double[]){1, (double)NAN}, 2, 0.5f, &q, &arena, &b, &err),
                     QD_INVALID);
    ck_assert_str_eq(err.message, "bias 1 is nan, not a finite number");
}
END_TEST

START_TEST(bias_make_room__huge_bias__scale_raised_and_weights_requantized)
{
    for (int axis = -1; axis <= 0; axis++) {
        const float w[4] = {1e-3f, -1e-3f, 1e-3f, 5e-4f};
        const double bias[2] = {1e6, 0.5};
        struct qc_quantized_weights q;
        struct qc_quantized_bias b;
        ck_assert_int_eq(
            qc_quantize_weights(tensor(2, (int64_t[]){2, 2}, w), axis, &narrow, &arena, &q, NULL),
            QD_OK);
        float before = q.scale[0];
        ck_assert_int_eq(qc_bias_make_room(bias, 2, 1e-3f, &q), 1);
        ck_assert_float_gt(q.scale[0], before);
        ck_assert_double_le(1e6 / (double)(1e-3f * q.scale[0]), 2147483647.0);
        ck_assert_double_gt(1e6 / (double)(1e-3f * q.scale[0]), 2147483000.0);
        ck_assert_int_eq(((int8_t *)q.q->data)[0],
                         qc_quantize_value(w[0], q.scale[0], 0, -127, 127));
        ck_assert_int_lt(((int8_t *)q.q->data)[0], 127);
        ck_assert_int_eq(qc_quantize_bias(bias, 2, 1e-3f, &q, &arena, &b, NULL), QD_OK);
        double back = ((int32_t *)b.q->data)[0] * (double)b.scale[0];
        ck_assert_double_eq_tol(back, 1e6, 1);
    }
}
END_TEST

/* Mean of the layer's output error, computed directly, before and after. */
START_TEST(bias_correct__grouped_conv__mean_error_vanishes)
{
    enum { O = 4, I = 2, T = 6, GROUPS = 2 };
    float w[O * I * T];
    for (int i = 0; i < O * I * T; i++) {
        w[i] = sinf((float)i * 1.7f) + 0.3f;
    }
    struct qc_attr group = {.name = "group", .type = QC_ATTR_INT, .i = GROUPS};
    struct qc_node node = {.name = "c", .op = QC_OP_CONV, .n_attrs = 1, .attrs = &group};
    struct qc_tensor *t = tensor(4, (int64_t[]){O, I, 2, 3}, w);
    const double mean[I * GROUPS] = {0.5, -2, 3, 0.25};
    double bias[O] = {1, 2, 3, 4};
    struct qc_quantized_weights q;
    ck_assert_int_eq(qc_quantize_weights(t, 0, _i == 0 ? &narrow : &asymmetric, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(qc_bias_correct(&node, &q, mean, I * GROUPS, bias, NULL), QD_OK);
    for (int o = 0; o < O; o++) {
        double f32 = o + 1, int8 = bias[o];
        for (int c = 0; c < I; c++) {
            double x = mean[o / (O / GROUPS) * I + c];
            for (int k = 0; k < T; k++) {
                f32 += (double)w[(o * I + c) * T + k] * x;
                int8 += qc_quantized_weights_value(&q, (size_t)((o * I + c) * T + k)) * x;
            }
        }
        ck_assert_double_ne(bias[o], o + 1);
        ck_assert_double_eq_tol(f32, int8, 1e-12);
    }
    struct qd_error err;
    ck_assert_int_eq(qc_bias_correct(&node, &q, mean, 3, bias, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "3 channel means for 4"));
}
END_TEST

START_TEST(bias_correct__gemm_both_ways_and_matmul__mean_error_vanishes)
{
    enum { K = 5, N = 3 };
    const double mean[K] = {1, -0.5, 0.25, 2, -3};
    for (int kind = 0; kind < 3; kind++) {
        bool trans = kind == 1;
        float w[K * N];
        for (int i = 0; i < K * N; i++) {
            w[i] = cosf((float)(i * i)) * 2;
        }
        struct qc_attr attr = {.name = "transB", .type = QC_ATTR_INT, .i = trans};
        struct qc_node node = {.name = "g",
                               .op = kind == 2 ? QC_OP_MATMUL : QC_OP_GEMM,
                               .n_attrs = 1,
                               .attrs = &attr};
        struct qc_tensor *t = tensor(2, trans ? (int64_t[]){N, K} : (int64_t[]){K, N}, w);
        struct qc_quantized_weights q;
        double bias[N] = {0};
        int axis = qc_weights_axis(&node, t);
        ck_assert_int_eq(axis, trans ? 0 : 1);
        ck_assert_int_eq(qc_quantize_weights(t, axis, &narrow, &arena, &q, NULL), QD_OK);
        ck_assert_int_eq(qc_bias_correct(&node, &q, mean, K, bias, NULL), QD_OK);
        for (int o = 0; o < N; o++) {
            double f32 = 0, int8 = bias[o];
            for (int k = 0; k < K; k++) {
                int i = trans ? o * K + k : k * N + o;
                f32 += (double)w[i] * mean[k];
                int8 += qc_quantized_weights_value(&q, (size_t)i) * mean[k];
            }
            ck_assert_double_eq_tol(f32, int8, 1e-12);
        }
    }
}
END_TEST

Suite *test_quant_suite(void);
Suite *test_quant_suite(void)
{
    Suite *s = suite_create("test_quant");
    TCase *c = tcase_create("quant");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, quantize_weights__per_channel_and_per_tensor__absmax_is_127);
    tcase_add_test(c, quantize_weights__dead_channel__floor);
    tcase_add_test(c, quantize_weights__all_small__own_scales);
    tcase_add_test(c, quantize_weights__nan__names_the_element);
    tcase_add_test(c, quantize_weights__asymmetric__every_code_of_the_span);
    tcase_add_test(c,
                   quantize_weights__asymmetric_dead_channel_and_huge_bias__scale_and_zero_point);
    tcase_add_test(c, quantize_bias__float32_product_rounds_half_to_even);
    tcase_add_test(c, bias_make_room__huge_bias__scale_raised_and_weights_requantized);
    tcase_add_loop_test(c, bias_correct__grouped_conv__mean_error_vanishes, 0, 2);
    tcase_add_test(c, bias_correct__gemm_both_ways_and_matmul__mean_error_vanishes);
    suite_add_tcase(s, c);
    return s;
}
