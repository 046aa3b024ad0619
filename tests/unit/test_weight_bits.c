/* Weights of fewer than 8 bits, in blocks, and in float16: codes, scales, shapes. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "quantcore/affine/half.h"
#include "quantcore/affine/qparams.h"
#include "quantcore/affine/scale_search.h"
#include "quantcore/quant/bias_correction.h"
#include "quantcore/quant/quantize_bias.h"

Suite *test_weight_bits_suite(void);

static struct qd_arena arena;
static struct qd_error err;
static struct qc_quantized_weights q;

static void setup(void)
{
    qd_arena_init(&arena, 0);
    memset(&err, 0, sizeof(err));
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

/* data NULL: noise that has a few large values. */
static struct qc_tensor *tensor(int rank, const int64_t *dims, const float *data)
{
    struct qc_shape shape = {.rank = rank};
    struct qc_tensor *t = NULL;
    uint32_t seed = 77;
    for (int i = 0; i < rank; i++) {
        shape.dim[i] = dims[i];
    }
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &shape, &t, NULL), QD_OK);
    for (size_t i = 0; i < qc_shape_elements(&shape); i++) {
        seed = seed * 1664525u + 1013904223u;
        float v = (float)(int32_t)(seed >> 8) / (float)(1 << 23) - 1.0f;
        ((float *)t->data)[i] = data != NULL ? data[i] : v * v * v;
    }
    return t;
}

static void quantize(const struct qc_tensor *t, int axis, const struct qc_weight_format *f)
{
    enum qd_code code = qc_quantize_weights(t, axis, f, &arena, &q, &err);
    ck_assert_msg(code == QD_OK, "%s", err.message);
}

static int code_at(size_t i)
{
    return ((const int8_t *)q.q->data)[i];
}

/* sum |error|^power */
static double error_sum(const struct qc_tensor *t, int power)
{
    double sum = 0;
    for (size_t i = 0; i < qc_shape_elements(&t->shape); i++) {
        double e = qc_quantized_weights_value(&q, i) - (double)((const float *)t->data)[i];
        sum += pow(fabs(e), power);
    }
    return sum;
}

/* What fits the codes exactly is kept: scale, codes, and their ends. */
START_TEST(quantize_weights__exact_levels__full_scale_and_every_code)
{
    static const struct {
        int bits;
        enum qc_weight_form form;
        int lo, hi;
    } rows[] = {{4, QC_WEIGHTS_NARROW, -7, 7}, {3, QC_WEIGHTS_NARROW, -3, 3},
                {2, QC_WEIGHTS_NARROW, -1, 1}, {4, QC_WEIGHTS_ASYMMETRIC, -8, 7},
                {3, QC_WEIGHTS_ASYMMETRIC, -4, 3}, {2, QC_WEIGHTS_ASYMMETRIC, -2, 1},
                {7, QC_WEIGHTS_NARROW, -63, 63}, {7, QC_WEIGHTS_ASYMMETRIC, -64, 63}};
    float w[2 * 128];
    int n = rows[_i].hi - rows[_i].lo + 1;
    for (int i = 0; i < n; i++) {
        w[i] = 0.5f * (float)(rows[_i].lo + i);
        w[n + i] = 0.25f * (float)(rows[_i].hi - i);
    }
    struct qc_tensor *t = tensor(2, (int64_t[]){2, n}, w);
    const struct qc_weight_format f = {.form = rows[_i].form, .bits = rows[_i].bits};
    quantize(t, 0, &f);
    ck_assert_int_eq(q.q->dtype, QC_S8);
    ck_assert(q.scale[0] == 0.5f && q.scale[1] == 0.25f);
    for (int i = 0; i < n; i++) {
        ck_assert_int_eq(code_at((size_t)i), rows[_i].lo + i);
        ck_assert_int_eq(code_at((size_t)(n + i)), rows[_i].hi - i);
    }
    ck_assert_double_eq(error_sum(t, 2), 0);
    ck_assert_int_eq(q.zero_point != NULL, rows[_i].form == QC_WEIGHTS_ASYMMETRIC);
}
END_TEST

START_TEST(quantize_weights__full_range__lowest_code_is_used)
{
    const float w[4] = {-2.0f, 1.0f, 0, -1.0f};
    const struct qc_weight_format f = {.form = QC_WEIGHTS_FULL, .bits = 2};
    /* absmax / 1.5 and its parts; codes -2, -1, 0, 1: scale 1 is 48 of 64 parts */
    quantize(tensor(1, (int64_t[]){4}, w), -1, &f);
    ck_assert_float_eq(q.scale[0], 1.0f);
    ck_assert_int_eq(code_at(0), -2);
    ck_assert_int_eq(code_at(1), 1);
    ck_assert_double_eq(error_sum(q.source, 2), 0);
}
END_TEST

/* The ends of 400 weights, 0 among them: of channel c. */
static double end_of(const struct qc_tensor *t, int c, bool upper)
{
    const float *x = (const float *)t->data + 400 * c;
    float end = 0;
    for (int i = 0; i < 400; i++) {
        if (upper ? x[i] > end : x[i] < end) {
            end = x[i];
        }
    }
    return (double)end;
}

/* No other part for all channels has less error. */
START_TEST(quantize_weights__noise__least_cubed_error)
{
    int bits = _i % 3 + 2;
    bool asymmetric = _i >= 3;
    struct qc_tensor *t = tensor(2, (int64_t[]){3, 400}, NULL);
    const struct qc_weight_format f = {
        .form = asymmetric ? QC_WEIGHTS_ASYMMETRIC : QC_WEIGHTS_NARROW, .bits = bits};
    quantize(t, 0, &f);
    double found = error_sum(t, 3);
    for (int part = QC_SCALE_LEAST; part <= QC_SCALE_PARTS; part++) {
        for (int c = 0; c < 3; c++) {
            double lo = end_of(t, c, false), hi = end_of(t, c, true);
            double full = asymmetric ? (hi - lo) / ((1 << bits) - 1)
                                     : fmax(-lo, hi) / ((1 << (bits - 1)) - 1);
            q.scale[c] = (float)(full * part / QC_SCALE_PARTS);
            q.lo[c] = lo * part / QC_SCALE_PARTS;
        }
        qc_quantized_weights_update(&q);
        ck_assert_double_ge(error_sum(t, 3), found * (1 - 1e-9));
    }
}
END_TEST

START_TEST(quantize_weights__one_bit__sign_and_mean)
{
    const float w[8] = {1, -2, 0, 3, -0.0f, -1e-3f, 4, -4};
    const struct qc_weight_format f = {.bits = 1};
    struct qc_tensor *t = tensor(2, (int64_t[]){2, 4}, w);
    quantize(t, 0, &f);
    ck_assert_float_eq(q.scale[0], 1.5f);
    ck_assert_float_eq(q.scale[1], (float)((8 + (double)1e-3f) / 4));
    static const int signs[8] = {1, -1, 1, 1, 1, -1, 1, -1};
    for (size_t i = 0; i < 8; i++) {
        ck_assert_int_eq(code_at(i), signs[i]);
    }
    ck_assert_int_eq(q.n_dead, 0);
    /* No other scale has less error. */
    double found = error_sum(t, 2);
    for (int c = 0; c < 2; c++) {
        float best = q.scale[c];
        for (int k = -1; k <= 1; k += 2) {
            q.scale[c] = best * (1 + 0.01f * (float)k);
            ck_assert_double_gt(error_sum(t, 2), found);
        }
        q.scale[c] = best;
    }
    const float zeros[2] = {0, 0};
    quantize(tensor(1, (int64_t[]){2}, zeros), -1, &f);
    ck_assert_float_eq(q.scale[0], FLT_MIN); /* a scale is above 0 */
    ck_assert_int_eq(code_at(0), 1);
}
END_TEST

/* Floor and guard are those of 8 bits. */
START_TEST(quantize_weights__dead_channel_and_huge_bias__as_with_8_bits)
{
    const float w[4] = {0, 1e-12f, 7, -3};
    const double bias[2] = {0, 1e12};
    const struct qc_weight_format f = {.bits = 4};
    quantize(tensor(2, (int64_t[]){2, 2}, w), 0, &f);
    ck_assert_float_eq(q.scale[0], (float)(0.07 / 127));
    ck_assert_float_eq(q.scale[1], 1.0f);
    ck_assert_int_eq(q.n_dead, 1);
    ck_assert_int_eq(qc_bias_make_room(bias, 2, 1.0f, &q), 1);
    ck_assert_double_le(1e12 / (double)q.scale[1], 2147483647.0);
    ck_assert_int_eq(code_at(2), 0); /* 7 is a fraction of the new step */
    const struct qc_weight_format sign = {.bits = 1};
    quantize(tensor(2, (int64_t[]){2, 2}, w), 0, &sign);
    ck_assert_int_eq(qc_bias_make_room(bias, 2, 1.0f, &q), 1);
    ck_assert_int_eq(code_at(3), -1);
}
END_TEST

/* The error of the mean goes, whatever the codes are. */
START_TEST(bias_correct__low_bits__mean_error_vanishes)
{
    static const int bits[] = {4, 3, 2, 1};
    struct qc_tensor *t = tensor(2, (int64_t[]){3, 20}, NULL);
    struct qc_attr transposed = {.name = "transB", .type = QC_ATTR_INT, .i = 1};
    const struct qc_node node = {
        .name = "fc", .op = QC_OP_GEMM, .attrs = &transposed, .n_attrs = 1};
    double mean[20], bias[3] = {0};
    const struct qc_weight_format f = {.bits = bits[_i]};
    quantize(t, 0, &f);
    for (int k = 0; k < 20; k++) {
        mean[k] = 0.1 * k - 0.7;
    }
    ck_assert_int_eq(qc_bias_correct(&node, &q, mean, 20, bias, NULL), QD_OK);
    for (size_t o = 0; o < 3; o++) {
        double real = 0, rounded = bias[o];
        for (size_t k = 0; k < 20; k++) {
            real += (double)((float *)t->data)[o * 20 + k] * mean[k];
            rounded += qc_quantized_weights_value(&q, o * 20 + k) * mean[k];
        }
        ck_assert_double_eq_tol(real, rounded, 1e-9);
    }
}
END_TEST

/* [K,N] in blocks of 32 along K = 70: the last one has 6. */
START_TEST(quantize_weights__blocks__scale_each_the_last_one_ragged)
{
    struct qc_tensor *t = tensor(2, (int64_t[]){70, 3}, NULL);
    struct qc_weight_format f = {.bits = 4, .block = 32, .block_axis = 0, .packed = true};
    quantize(t, 1, &f);
    struct qc_shape shape = qc_weights_scale_shape(&q);
    ck_assert_int_eq(q.q->dtype, QC_S4);
    ck_assert_int_eq(shape.rank, 2);
    ck_assert_int_eq((int)shape.dim[0], 3);
    ck_assert_int_eq((int)shape.dim[1], 3);
    ck_assert_int_eq(q.n_scales, 9);
    for (size_t b = 0; b < 3; b++) {
        for (size_t n = 0; n < 3; n++) { /* as that block alone */
            float part[32];
            size_t count = b < 2 ? 32 : 6;
            struct qc_quantized_weights all = q;
            for (size_t k = 0; k < count; k++) {
                part[k] = ((float *)t->data)[(32 * b + k) * 3 + n];
            }
            f.block = 0;
            quantize(tensor(1, (int64_t[]){(int64_t)count}, part), -1, &f);
            ck_assert_float_eq(all.scale[3 * b + n], q.scale[0]);
            for (size_t k = 0; k < count; k++) {
                ck_assert_double_eq(qc_quantized_weights_value(&all, (32 * b + k) * 3 + n),
                                    qc_quantized_weights_value(&q, k));
            }
            q = all;
        }
    }
}
END_TEST

/* [O,C,2,2]: a scale each for output, block of inputs and tap. */
START_TEST(quantize_weights__blocks_of_a_conv__one_a_tap)
{
    for (int bits = 1; bits <= 8; bits = bits == 4 ? 8 : bits + 1) {
        struct qc_tensor *t = tensor(4, (int64_t[]){5, 40, 2, 2}, NULL);
        const struct qc_weight_format f = {
            .bits = bits, .block = 32, .block_axis = 1, .packed = true};
        quantize(t, 0, &f);
        struct qc_shape shape = qc_weights_scale_shape(&q);
        ck_assert_int_eq(q.q->dtype, bits == 8 ? QC_S8 : QC_S4);
        ck_assert_int_eq(shape.rank, 4);
        ck_assert_int_eq((int)shape.dim[1], 2);
        ck_assert_int_eq(q.n_scales, 5 * 2 * 4);
        ck_assert_int_eq(q.n_dead, 0);
        for (size_t i = 0; i < 5 * 40 * 4; i++) {
            size_t scale = (i / 160 * 2 + i / 4 % 40 / 32) * 4 + i % 4;
            ck_assert_double_eq(qc_quantized_weights_value(&q, i),
                                (double)q.scale[scale] * code_at(i));
        }
        double blocks = error_sum(t, 2);
        const struct qc_weight_format whole = {.bits = bits};
        quantize(t, 0, &whole);
        ck_assert_double_lt(blocks, error_sum(t, 2));
    }
}
END_TEST

START_TEST(quantize_weights__block_no_shorter_than_the_inputs__a_scale_a_channel)
{
    struct qc_tensor *t = tensor(2, (int64_t[]){4, 32}, NULL);
    const struct qc_weight_format f = {.bits = 4, .block = 32, .block_axis = 1};
    quantize(t, 0, &f);
    ck_assert_int_eq(q.format.block, 0);
    ck_assert_int_eq(q.n_scales, 4);
    ck_assert_int_eq(qc_weights_scale_shape(&q).rank, 1);
    quantize(t, -1, &f); /* a channel's blocks alone */
    ck_assert_int_eq(q.n_scales, 1);
    ck_assert_int_eq(qc_weights_scale_shape(&q).rank, 0);
}
END_TEST

START_TEST(weights_input_axis__products__what_is_summed_over)
{
    struct qc_attr transposed = {.name = "transB", .type = QC_ATTR_INT, .i = 1};
    struct qc_node n = {.op = QC_OP_CONV};
    const struct qc_tensor *conv = tensor(4, (int64_t[]){1, 1, 1, 1}, NULL);
    const struct qc_tensor *matrix = tensor(2, (int64_t[]){1, 1}, NULL);
    ck_assert_int_eq(qc_weights_input_axis(&n, conv), 1);
    n.op = QC_OP_CONV_TRANSPOSE;
    ck_assert_int_eq(qc_weights_input_axis(&n, conv), 0);
    n.op = QC_OP_GEMM;
    ck_assert_int_eq(qc_weights_input_axis(&n, matrix), 0);
    n.attrs = &transposed;
    n.n_attrs = 1;
    ck_assert_int_eq(qc_weights_input_axis(&n, matrix), 1);
    n.op = QC_OP_MATMUL;
    ck_assert_int_eq(qc_weights_input_axis(&n, matrix), 0);
    ck_assert_int_eq(qc_weights_input_axis(&n, tensor(3, (int64_t[]){1, 1, 1}, NULL)), 1);
}
END_TEST

START_TEST(quantize_weights__float16__nearest_or_an_error)
{
    float w[4] = {1.0f, 0.1f, -65504.0f, 1e-8f};
    const struct qc_weight_format f = {.bits = QC_FLOAT16_BITS};
    struct qc_tensor *t = tensor(2, (int64_t[]){2, 2}, w);
    quantize(t, 0, &f);
    ck_assert_int_eq(q.q->dtype, QC_F16);
    ck_assert_int_eq(q.n_scales, 0);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_double_eq(qc_quantized_weights_value(&q, i),
                            (double)qc_half_to_f32(qc_half_from_f32(w[i])));
    }
    ((float *)t->data)[2] = -65520.0f;
    ck_assert_int_eq(qc_quantize_weights(t, 0, &f, &arena, &q, &err), QD_INVALID);
    ck_assert_str_eq(err.message,
                     "weight 2 is -65520, float16 holds finite numbers up to 65504");
    ((float *)t->data)[2] = NAN;
    ck_assert_int_eq(qc_quantize_weights(t, 0, &f, &arena, &q, &err), QD_INVALID);
    const struct qc_weight_format low = {.bits = 4};
    ck_assert_int_eq(qc_quantize_weights(t, 0, &low, &arena, &q, &err), QD_INVALID);
    ck_assert_str_eq(err.message, "weight 2 is nan, not a finite number");
}
END_TEST

Suite *test_weight_bits_suite(void)
{
    Suite *s = suite_create("weight_bits");
    TCase *tc = tcase_create("weight_bits");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, quantize_weights__exact_levels__full_scale_and_every_code, 0, 8);
    tcase_add_test(tc, quantize_weights__full_range__lowest_code_is_used);
    tcase_add_loop_test(tc, quantize_weights__noise__least_cubed_error, 0, 6);
    tcase_add_test(tc, quantize_weights__one_bit__sign_and_mean);
    tcase_add_test(tc, quantize_weights__dead_channel_and_huge_bias__as_with_8_bits);
    tcase_add_loop_test(tc, bias_correct__low_bits__mean_error_vanishes, 0, 4);
    tcase_add_test(tc, quantize_weights__blocks__scale_each_the_last_one_ragged);
    tcase_add_test(tc, quantize_weights__blocks_of_a_conv__one_a_tap);
    tcase_add_test(tc, quantize_weights__block_no_shorter_than_the_inputs__a_scale_a_channel);
    tcase_add_test(tc, weights_input_axis__products__what_is_summed_over);
    tcase_add_test(tc, quantize_weights__float16__nearest_or_an_error);
    suite_add_tcase(s, tc);
    return s;
}
