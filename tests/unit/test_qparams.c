#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/affine/qparams.h"
#include "quantcore/affine/requant.h"
#include "quantcore/kernels/qc_kernels.h"

START_TEST(quantize_value__ties__half_to_even)
{
    ck_assert_int_eq(qc_quantize_value(0.5f, 1.0f, 0, 0, 255), 0);
    ck_assert_int_eq(qc_quantize_value(1.5f, 1.0f, 0, 0, 255), 2);
    ck_assert_int_eq(qc_quantize_value(2.5f, 1.0f, 0, 0, 255), 2);
    ck_assert_int_eq(qc_quantize_value(-1.5f, 1.0f, 10, 0, 255), 8);
    ck_assert_int_eq(qc_quantize_value(1e30f, 1.0f, 128, 0, 255), 255);
    ck_assert_int_eq(qc_quantize_value(-INFINITY, 1.0f, 0, -128, 127), -128);
}
END_TEST

START_TEST(asymmetric_u8__ranges__zero_is_exact)
{
    const double ranges[][2] = {{-1, 1}, {0.5, 6}, {-3, -1}, {0, 6}, {-1e-30, 1e-30}, {-7, 0.01}};
    for (size_t i = 0; i < QD_COUNT_OF(ranges); i++) {
        struct qc_qparams p;
        qc_qparams_asymmetric_u8(ranges[i][0], ranges[i][1], &p);
        ck_assert(p.scale > 0 && p.zero_point >= 0 && p.zero_point <= 255);
        ck_assert_int_eq(qc_quantize_value(0.0f, p.scale, p.zero_point, 0, 255), p.zero_point);
        double step = fmax(ranges[i][1], 0) - fmin(ranges[i][0], 0);
        ck_assert_double_eq_tol(p.scale, step / 255, step * 1e-7);
    }
}
END_TEST

START_TEST(asymmetric_u8__constant_zero__scale_one)
{
    struct qc_qparams p;
    qc_qparams_asymmetric_u8(0, 0, &p);
    ck_assert_float_eq(p.scale, 1.0f);
    ck_assert_int_eq(p.zero_point, 0);
    ck_assert_float_eq(qc_scale_symmetric_s8(0), 1.0f);
    ck_assert_float_eq(qc_scale_symmetric_s8(127), 1.0f);
}
END_TEST

START_TEST(requantize__extremes__clamped_before_rounding)
{
    ck_assert_int_eq(qc_requantize(INT32_MAX, 1.0f, 3, 0, 255), 255);
    ck_assert_int_eq(qc_requantize(INT32_MIN, 1.0f, 3, 0, 255), 0);
    ck_assert_int_eq(qc_requantize(5, 0.5f, 0, 0, 255), 2);
    ck_assert_int_eq(qc_requantize(7, 0.5f, 0, 0, 255), 4);
    ck_assert_int_eq(qc_requantize(-100, 1.0f, 100, 100, 200), 100);
}
END_TEST

/* A packed tile computes what the definition of a convolution says, whatever the panel. */
START_TEST(pack_and_tile_s8__odd_sizes__equal_to_definition)
{
    enum { OUT = 37, CHANNELS = 6, TAPS = 3, PADDED = 8 };
    int8_t w[OUT * CHANNELS * TAPS];
    uint8_t x[2 * TAPS * PADDED + 64];
    int32_t bias[2 * QC_NR] = {0};
    float multiplier[2 * QC_NR];
    int32_t tap[TAPS] = {0, PADDED, 2 * PADDED};
    for (size_t i = 0; i < sizeof(w); i++) {
        w[i] = (int8_t)(i * 37 % 255 - 127);
    }
    for (size_t i = 0; i < sizeof(x); i++) {
        x[i] = (uint8_t)(i * 101 % 256);
    }
    for (int i = 0; i < 2 * QC_NR; i++) {
        bias[i] = i * 100 - 3000;
        multiplier[i] = 0.003f;
    }
    int8_t *packed = malloc(2 * qc_packed_panel_s8(TAPS, CHANNELS));
    struct qc_kernels k;
    qc_kernels_init(&k, QC_ISA_REF);
    qc_pack_s8(w, OUT, CHANNELS, TAPS, k.s8_together, packed);
    uint8_t out[2][OUT + 8];
    memset(out, 0xAA, sizeof(out));
    for (int panel = 0; panel < 2; panel++) {
        const uint8_t *row[2] = {x, x + TAPS * PADDED};
        uint8_t *dst[2] = {out[0] + panel * QC_NR, out[1] + panel * QC_NR};
        struct qc_tile_s8 t = {.row = row, .n_rows = 2, .tap = tap, .n_taps = TAPS,
            .channels = PADDED,
            .weights = packed + (size_t)panel * qc_packed_panel_s8(TAPS, CHANNELS),
            .bias = bias + panel * QC_NR, .n_out = panel == 0 ? QC_NR : OUT - QC_NR,
            .out_u8 = dst, .multiplier = multiplier, .y_zero_point = 100, .y_max = 255};
        k.tile_s8(&t);
    }
    for (int r = 0; r < 2; r++) {
        for (int o = 0; o < OUT; o++) {
            int32_t acc = bias[o];
            for (int t = 0; t < TAPS; t++) {
                for (int c = 0; c < CHANNELS; c++) {
                    acc += x[(r * TAPS + t) * PADDED + c] * w[(o * CHANNELS + c) * TAPS + t];
                }
            }
            ck_assert_int_eq(out[r][o], qc_requantize(acc, 0.003f, 100, 0, 255));
        }
        ck_assert_int_eq(out[r][OUT], 0xAA);
    }
    free(packed);
}
END_TEST

Suite *test_qparams_suite(void)
{
    Suite *s = suite_create("qparams");
    TCase *tc = tcase_create("qparams");
    tcase_add_test(tc, quantize_value__ties__half_to_even);
    tcase_add_test(tc, asymmetric_u8__ranges__zero_is_exact);
    tcase_add_test(tc, asymmetric_u8__constant_zero__scale_one);
    tcase_add_test(tc, requantize__extremes__clamped_before_rounding);
    tcase_add_test(tc, pack_and_tile_s8__odd_sizes__equal_to_definition);
    suite_add_tcase(s, tc);
    return s;
}
