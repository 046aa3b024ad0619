/* The transforms of every instruction set that this CPU has against `_ref`, to the bit, and `_ref`
 * against the matrices that define them. */
#include <stdlib.h>

#include "tests/kernels/kernel_data.h"

enum { MOST = 70, PLANE = 80, GUARD = 3 };

static struct qc_kernels ref, k;
static float input[16 * PLANE], bias[MOST], got[16 * PLANE], want[16 * PLANE];

static void prepare(int isa)
{
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, (enum qc_isa)isa);
    for (int i = 0; i < 16 * PLANE; i++) {
        got[i] = want[i] = 77.0f;
    }
}

START_TEST(winograd_in_f32__every_length__same_bits_as_ref)
{
    const float *pixel[16];
    for (int n = 1; n <= MOST; n++) {
        prepare(_i);
        data_f32(input, QD_COUNT_OF(input), n % 3 == 0 ? DATA_SPECIAL : DATA_PLAIN);
        for (int i = 0; i < 16; i++) {
            pixel[i] = input + (i * 7 + n) % 16 * PLANE + i % 4;
        }
        k.winograd_in_f32(pixel, n, got + GUARD, PLANE - 1);
        ref.winograd_in_f32(pixel, n, want + GUARD, PLANE - 1);
        data_same_f32(got, want, QD_COUNT_OF(got), "%d channels", n);
    }
}
END_TEST

START_TEST(winograd_out_f32__every_length_and_clamp__same_bits_as_ref)
{
    static const float limits[3][2] = {{-INFINITY, INFINITY}, {0.0f, INFINITY}, {-1.0f, 2.0f}};
    float *to[4], *ref_to[4];
    for (int n = 1; n <= MOST; n++) {
        prepare(_i);
        data_f32(input, QD_COUNT_OF(input), n % 3 == 0 ? DATA_SPECIAL : DATA_PLAIN);
        data_f32(bias, MOST, DATA_PLAIN);
        const float lo = limits[n % 4 % 3][0], hi = limits[n % 4 % 3][1];
        for (int i = 0; i < 4; i++) {
            to[i] = got + i * PLANE + GUARD;
            ref_to[i] = want + i * PLANE + GUARD;
        }
        k.winograd_out_f32(input, PLANE - 1, bias, n, lo, hi, to);
        ref.winograd_out_f32(input, PLANE - 1, bias, n, lo, hi, ref_to);
        data_same_f32(got, want, QD_COUNT_OF(got), "%d channels", n);
    }
}
END_TEST

/* Products with the transformed kernel give the convolution: small integers, without rounding. */
START_TEST(winograd__in_times_kernel_and_out__the_convolution)
{
    static const float to[4][3] = {{1, 0, 0}, {0.5f, 0.5f, 0.5f}, {0.5f, -0.5f, 0.5f}, {0, 0, 1}};
    float d[4][4], g[3][3], v[16], y[4];
    const float *pixel[16];
    float *out[4] = {y, y + 1, y + 2, y + 3};
    const float some_bias = 3;
    prepare(_i);
    for (int i = 0; i < 16; i++) {
        d[i / 4][i % 4] = (float)(i * 5 % 13 - 6);
        pixel[i] = &d[i / 4][i % 4];
    }
    for (int i = 0; i < 9; i++) {
        g[i / 3][i % 3] = (float)(4 * (i * 7 % 11 - 5));
    }
    k.winograd_in_f32(pixel, 1, v, 1);
    for (int i = 0; i < 16; i++) {
        float u = 0;
        for (int a = 0; a < 9; a++) {
            u += to[i / 4][a / 3] * g[a / 3][a % 3] * to[i % 4][a % 3];
        }
        v[i] *= u;
    }
    k.winograd_out_f32(v, 1, &some_bias, 1, -1e9f, 1e9f, out);
    for (int i = 0; i < 4; i++) {
        float sum = some_bias;
        for (int a = 0; a < 9; a++) {
            sum += g[a / 3][a % 3] * d[i / 2 + a / 3][i % 2 + a % 3];
        }
        ck_assert_float_eq(y[i], sum);
    }
}
END_TEST

Suite *test_kernels_winograd_suite(void);
Suite *test_kernels_winograd_suite(void)
{
    Suite *suite = suite_create("kernels_winograd");
    TCase *tc = tcase_create("kernels_winograd");
    data_against_ref(tc, winograd_in_f32__every_length__same_bits_as_ref);
    data_against_ref(tc, winograd_out_f32__every_length_and_clamp__same_bits_as_ref);
    data_every_isa(tc, winograd__in_times_kernel_and_out__the_convolution);
    suite_add_tcase(suite, tc);
    return suite;
}
