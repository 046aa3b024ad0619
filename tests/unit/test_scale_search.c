#include <check.h>
#include <float.h>
#include <math.h>

#include "quantcore/affine/qparams.h"
#include "quantcore/affine/scale_search.h"

Suite *test_scale_search_suite(void);

enum { N = 1003 };

static float x[N];

/* A bell, of twelve uniform numbers. */
static void fill(uint32_t seed)
{
    for (int i = 0; i < N; i++) {
        x[i] = 0;
        for (int k = 0; k < 12; k++) {
            seed = seed * 1664525u + 1013904223u;
            x[i] += (float)(int32_t)(seed >> 8) / (float)(1 << 23) - 1.0f;
        }
    }
}

static double naive_error(size_t n, float scale, int32_t z, int32_t lo, int32_t hi)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t q = qc_quantize_value(x[i], scale, z, lo, hi);
        double e = fabs((double)(x[i] - scale * (float)(q - z)));
        sum += e * e * e;
    }
    return sum;
}

START_TEST(rounding_error__sizes_and_codes__as_one_by_one)
{
    fill(1);
    for (size_t n = 0; n < 40; n++) {
        for (int z = -8; z <= 7; z += 5) {
            double want = naive_error(n, 0.37f, z, -8, 7);
            ck_assert_double_eq_tol(qc_rounding_error(x, n, 0.37f, z, -8, 7), want,
                                    1e-12 * want + 1e-300);
        }
    }
    double want = naive_error(N, 1.25f, 0, -1, 1);
    ck_assert_double_eq_tol(qc_rounding_error(x, N, 1.25f, 0, -1, 1), want, 1e-12 * want);
}
END_TEST

/* Ties go to even, as in the codes. */
START_TEST(rounding_error__ties__to_even)
{
    const float ties[4] = {0.5f, 1.5f, 2.5f, -0.5f};
    ck_assert_double_eq(qc_rounding_error(ties, 4, 1.0f, 0, -7, 7), 0.5); /* four times 1/8 */
    const float one[1] = {2.5f * 3.0f}; /* rne(2.5) = 2 */
    ck_assert_double_eq(qc_rounding_error(one, 1, 3.0f, 0, -7, 7), 3.375);
}
END_TEST

START_TEST(scale_search__bell__the_least_of_all_parts)
{
    for (int bits = 2; bits <= 4; bits++) {
        int32_t most = (1 << (bits - 1)) - 1;
        double absmax = 0, best = INFINITY;
        int best_part = 0;
        fill((uint32_t)bits);
        for (int i = 0; i < N; i++) {
            absmax = fmax(absmax, fabs((double)x[i]));
        }
        double full = absmax / most;
        for (int i = QC_SCALE_PARTS; i >= QC_SCALE_LEAST; i--) {
            double e = naive_error(N, (float)(full * i / QC_SCALE_PARTS), 0, -most, most);
            best_part = e < best ? i : best_part;
            best = fmin(best, e);
        }
        double part = qc_scale_search(x, N, full, 0, -most, most);
        ck_assert_double_eq(part, (double)best_part / QC_SCALE_PARTS);
        ck_assert_double_lt(part, 0.9);
        ck_assert_double_lt(best, 0.7 * naive_error(N, (float)full, 0, -most, most));
    }
}
END_TEST

START_TEST(scale_search__no_error_at_all__the_full_scale)
{
    const float exact[5] = {-0.75f, 0.25f, 0, 0.5f, 0.75f};
    ck_assert_double_eq(qc_scale_search(exact, 5, 0.25, 0, -3, 3), 1.0);
    ck_assert_double_eq(qc_scale_search(exact, 0, 0.25, 0, -3, 3), 1.0);
    const float tiny[2] = {1e-39f, -1e-39f}; /* below the smallest scale */
    ck_assert_double_eq(qc_scale_search(tiny, 2, 1e-39 / 3, 0, -3, 3), 1.0);
}
END_TEST

Suite *test_scale_search_suite(void)
{
    Suite *s = suite_create("scale_search");
    TCase *tc = tcase_create("scale_search");
    tcase_add_test(tc, rounding_error__sizes_and_codes__as_one_by_one);
    tcase_add_test(tc, rounding_error__ties__to_even);
    tcase_add_test(tc, scale_search__bell__the_least_of_all_parts);
    tcase_add_test(tc, scale_search__no_error_at_all__the_full_scale);
    suite_add_tcase(s, tc);
    return s;
}
