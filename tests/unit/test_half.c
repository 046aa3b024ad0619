#include <check.h>
#include <math.h>

#include "quantcore/affine/half.h"

Suite *test_half_suite(void);

START_TEST(half_to_f32__every_pattern__comes_back)
{
    for (uint32_t h = 0; h <= UINT16_MAX; h++) {
        float x = qc_half_to_f32((uint16_t)h);
        bool nan = (h & 0x7c00) == 0x7c00 && (h & 0x3ff) != 0;
        ck_assert_int_eq(isnan(x), nan);
        if (!nan) {
            ck_assert_uint_eq(qc_half_from_f32(x), h);
        } else {
            ck_assert(isnan(qc_half_to_f32(qc_half_from_f32(x))));
        }
    }
    ck_assert(qc_half_to_f32(0x3c00) == 1.0f && qc_half_to_f32(0xc000) == -2.0f);
    ck_assert(qc_half_to_f32(0x0001) == 0x1p-24f && qc_half_to_f32(0x7bff) == QC_HALF_MAX);
    ck_assert(qc_half_to_f32(0x7c00) == INFINITY && signbit(qc_half_to_f32(0x8000)));
}
END_TEST

/* Between two neighbours: the middle goes to the even one, what is beside it to the nearer. */
START_TEST(half_from_f32__between_neighbours__half_to_even)
{
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double a = (double)qc_half_to_f32((uint16_t)h);
        double b = (double)qc_half_to_f32((uint16_t)(h + 1));
        float middle = (float)((a + b) / 2); /* exact: one bit more */
        uint32_t even = h + (h & 1);
        for (int sign = 0; sign < 2; sign++) {
            uint32_t bit = sign == 0 ? 0 : 0x8000;
            float s = sign == 0 ? 1.0f : -1.0f;
            ck_assert_uint_eq(qc_half_from_f32(s * middle), even | bit);
            ck_assert_uint_eq(qc_half_from_f32(s * nextafterf(middle, 0)), h | bit);
            ck_assert_uint_eq(qc_half_from_f32(s * nextafterf(middle, INFINITY)), (h + 1) | bit);
        }
    }
}
END_TEST

START_TEST(half_from_f32__beyond_the_range__infinity)
{
    ck_assert_uint_eq(qc_half_from_f32(nextafterf(65520.0f, 0)), 0x7bff);
    ck_assert_uint_eq(qc_half_from_f32(65520.0f), 0x7c00);
    ck_assert_uint_eq(qc_half_from_f32(-70000.0f), 0xfc00);
    ck_assert_uint_eq(qc_half_from_f32(INFINITY), 0x7c00);
    ck_assert(isnan(qc_half_to_f32(qc_half_from_f32(NAN))));
    ck_assert_uint_eq(qc_half_from_f32(1e-30f), 0);
    ck_assert_uint_eq(qc_half_from_f32(-0.0f), 0x8000);
}
END_TEST

Suite *test_half_suite(void)
{
    Suite *s = suite_create("half");
    TCase *tc = tcase_create("half");
    tcase_add_test(tc, half_to_f32__every_pattern__comes_back);
    tcase_add_test(tc, half_from_f32__between_neighbours__half_to_even);
    tcase_add_test(tc, half_from_f32__beyond_the_range__infinity);
    suite_add_tcase(s, tc);
    return s;
}
