#include "quantcore/calib/calib_divergence.h"
#include "tests/unit/calib_fixture.h"

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

START_TEST(tail_length__worked_examples__exact)
{
    ck_assert_uint_eq(qc_tail_length(1000000, 0.99999), 10);
    ck_assert_uint_eq(qc_tail_length(1000000, 0.999999), 1);
    ck_assert_uint_eq(qc_tail_length(1000000, 1.0), 1);
    ck_assert_uint_eq(qc_tail_length(1000, 0.9), 100);
    ck_assert_uint_eq(qc_tail_length(1000, 0.999), 1);
    ck_assert_uint_eq(qc_tail_length(1, 0.6), 1);
    ck_assert_uint_eq(qc_tail_length(0, 0.6), 1);
}
END_TEST

START_TEST(tail_at__million_values_any_order__tenth_largest)
{
    enum { N = 1000000 };
    struct qd_arena arena;
    struct qc_tail high, low, parts[3];
    float scratch[10];
    float *x = malloc(N * sizeof(float));
    qd_arena_init(&arena, 0);
    seed = 7;
    for (int i = 0; i < N; i++) {
        x[i] = bell();
    }
    uint64_t k = qc_tail_length(N, 0.99999);
    ck_assert_int_eq(qc_tail_init(&high, false, k, &arena, NULL), QD_OK);
    ck_assert_int_eq(qc_tail_init(&low, true, k, &arena, NULL), QD_OK);
    qc_tail_add(&high, x, N);
    qc_tail_add(&low, x, N);
    /* three threads that see interleaved pieces, merged in another order */
    for (int t = 0; t < 3; t++) {
        ck_assert_int_eq(qc_tail_init(&parts[t], false, k, &arena, NULL), QD_OK);
    }
    for (int i = 0; i < N; i += 1000) {
        qc_tail_add(&parts[(i / 1000) % 3], x + i, 1000);
    }
    qc_tail_merge(&parts[2], &parts[0]);
    qc_tail_merge(&parts[2], &parts[1]);
    qsort(x, N, sizeof(float), ascending);
    ck_assert_uint_eq(high.n, 10);
    for (size_t i = 1; i <= 10; i++) {
        ck_assert_float_eq(qc_tail_at(&high, i, scratch), x[N - i]);
        ck_assert_float_eq(qc_tail_at(&parts[2], i, scratch), x[N - i]);
        ck_assert_float_eq(qc_tail_at(&low, i, scratch), x[i - 1]);
    }
    free(x);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(histogram__edges_point_and_bad_ranges__as_documented)
{
    struct qd_arena arena;
    struct qd_error err;
    struct qc_histogram h;
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qc_histogram_init(&h, 5, 5, 16, &arena, NULL), QD_OK);
    ck_assert_int_eq(h.n_bins, 1);
    ck_assert_double_eq_tol(qc_histogram_centre(&h, 0), 5, 1e-6);
    ck_assert_int_eq(qc_histogram_init(&h, 0, 0, 16, &arena, NULL), QD_OK);
    ck_assert_int_eq(h.n_bins, 1);
    ck_assert_int_eq(qc_histogram_init(&h, 0, 1e-45, 16, &arena, NULL), QD_OK);
    ck_assert_int_eq(h.n_bins, 1);
    ck_assert(isfinite(h.inv_width));
    /* far from zero: no finer than float32 itself */
    ck_assert_int_eq(qc_histogram_init(&h, 1e6, 1e6 + 1, 16384, &arena, NULL), QD_OK);
    ck_assert_double_eq(h.width, 0.125);
    ck_assert_int_eq(qc_histogram_init(&h, -1, 3, 16384, &arena, NULL), QD_OK);
    ck_assert_int_eq(h.exponent, -11);
    ck_assert_int_eq(h.first, -2048);
    ck_assert_int_eq(h.n_bins, 8193);
    ck_assert_int_eq(qc_histogram_init(&h, -3e38, 3e38, 16, &arena, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "3e+38"));
    ck_assert_int_eq(qc_histogram_init(&h, 1, 0, 16, &arena, &err), QD_INVALID);
    ck_assert_int_eq(qc_histogram_init(&h, 0, 1, 70000, &arena, &err), QD_INVALID);
    ck_assert_int_eq(qc_histogram_init(&h, 0, 3.5, 4, &arena, NULL), QD_OK);
    h.counts[0] = 5;
    h.counts[1] = 3;
    h.counts[3] = 2;
    ck_assert_uint_eq(qc_histogram_total(&h), 10);
    ck_assert_double_eq(qc_histogram_kth_largest(&h, 1), 3);
    ck_assert_double_eq(qc_histogram_kth_largest(&h, 3), 1);
    ck_assert_double_eq(qc_histogram_kth_smallest(&h, 5), 1);
    ck_assert_double_eq(qc_histogram_kth_smallest(&h, 6), 2);
    ck_assert_double_eq(qc_histogram_outside(&h, 0, 2), 0.2);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(search_count__method_examples__no_end_point_lost)
{
    struct qc_search s = DEFAULTS;
    ck_assert_int_eq(qc_search_count(&s), 141);
    ck_assert_double_eq(qc_search_ratio(&s, 0), 0.3);
    ck_assert_double_eq(qc_search_ratio(&s, 70), 1.0);
    ck_assert_double_eq(qc_search_ratio(&s, 140), 1.7);
    s.start = 0.8;
    s.end = 1.2;
    ck_assert_int_eq(qc_search_count(&s), 41);
    ck_assert_double_eq(qc_search_ratio(&s, 40), 1.2);
}
END_TEST

START_TEST(divergence__known_histograms__known_values)
{
    uint64_t p[3] = {2, 2, 0}, q[3] = {1, 3, 0}, apart[3] = {0, 0, 9};
    double kl = 0.5 * log(2.0) + 0.5 * log(2.0 / 3.0);
    double back = 0.25 * log(0.5) + 0.75 * log(1.5);
    ck_assert_double_eq_tol(qc_divergence(QC_CALIB_KL, p, q, 3), kl, 1e-15);
    ck_assert_double_eq_tol(qc_divergence(QC_CALIB_SYMMETRIC_KL, p, q, 3), (kl + back) / 2,
                            1e-15);
    ck_assert_double_eq_tol(qc_divergence(QC_CALIB_JS, p, apart, 3), log(2.0), 1e-15);
    ck_assert_double_eq(qc_divergence(QC_CALIB_JS, p, p, 3), 0);
    ck_assert_double_eq_tol(qc_divergence(QC_CALIB_KL, p, apart, 3),
                            log(0.5 / QC_DIVERGENCE_EPSILON) + log1p(2 * QC_DIVERGENCE_EPSILON),
                            1e-12);
}
END_TEST

START_TEST(calibrate__few_values_on_codes__tie_goes_to_one)
{
    /* Everything sits in one coarse bin for all candidates: all divergences are 0. */
    struct qd_arena arena;
    struct qc_tensor_statistics t;
    struct qc_range range;
    float x[64];
    for (int i = 0; i < 64; i++) {
        x[i] = i % 2 ? 0.0f : 1.0f;
    }
    struct qc_search s = DEFAULTS;
    s.start = 1.0;
    s.end = 1.5;
    s.step = 0.5;
    qd_arena_init(&arena, 0);
    describe(&t, x, 64, 1, &arena);
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_JS, &s, &range, NULL), QD_OK);
    ck_assert_double_eq(range.ratio, 1.0);
    qd_arena_done(&arena);
}
END_TEST

static double naive_error(const float *x, size_t n, double lo, double hi)
{
    struct qc_qparams p;
    double sum = 0;
    qc_qparams_asymmetric_u8(lo, hi, &p);
    for (size_t i = 0; i < n; i++) {
        int code = qc_quantize_value(x[i], p.scale, p.zero_point, 0, 255);
        double back = (double)p.scale * (code - p.zero_point);
        sum += ((double)x[i] - back) * ((double)x[i] - back);
    }
    return sum / (double)n;
}

START_TEST(calibrate__mse__predicts_the_error_and_beats_a_grid)
{
    enum { N = 20000 };
    static float x[N];
    for (int kind = 0; kind < SHAPE_COUNT; kind++) {
        struct qd_arena arena;
        struct qc_tensor_statistics t;
        struct qc_range range;
        qd_arena_init(&arena, 0);
        fill(x, N, kind, 200 + (uint32_t)kind);
        describe(&t, x, N, 1, &arena);
        ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_MSE, &DEFAULTS, &range, NULL), QD_OK);
        double error = naive_error(x, N, range.lo, range.hi);
        ck_assert_double_eq_tol(range.score, error, 0.02 * error);
        ck_assert_double_le(error, 1.001 * naive_error(x, N, t.min, t.max));
        for (int a = 2; a <= 20; a++) {
            for (int b = 2; b <= 20; b++) {
                double other = naive_error(x, N, fmin(t.min, 0) * a / 20, t.max * b / 20);
                ck_assert_double_le(error, 1.02 * other);
            }
        }
        qd_arena_done(&arena);
    }
}
END_TEST

START_TEST(calibrate__mse_with_an_outlier__clips_it)
{
    enum { N = 100000 };
    static float x[N];
    struct qd_arena arena;
    struct qc_tensor_statistics t;
    struct qc_range range;
    qd_arena_init(&arena, 0);
    fill(x, N, GAUSSIAN, 3);
    x[77] = 20.0f;
    describe(&t, x, N, 1, &arena);
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_MSE, &DEFAULTS, &range, NULL), QD_OK);
    ck_assert_double_lt(range.hi, 19.0);
    ck_assert_double_lt(range.score, naive_error(x, N, t.min, t.max));
    ck_assert_double_gt(range.clipped_share, 0);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(calibrate__minmax_and_percentile__two_independent_tails)
{
    enum { N = 10000 };
    static float x[N];
    struct qd_arena arena;
    struct qc_tensor_statistics t;
    struct qc_range range;
    struct qc_search s = DEFAULTS;
    s.max_percentile = 0.999;
    s.min_percentile = 0.9999;
    qd_arena_init(&arena, 0);
    fill(x, N, GAUSSIAN, 5);
    describe(&t, x, N, 10, &arena);
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_MINMAX, &s, &range, NULL), QD_OK);
    ck_assert_double_eq(range.lo, t.min);
    ck_assert_double_eq(range.hi, t.max);
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_PERCENTILE, &s, &range, NULL), QD_OK);
    qsort(x, N, sizeof(float), ascending);
    ck_assert_double_eq(range.hi, (double)x[N - 10]);
    ck_assert_double_eq(range.lo, (double)x[0]);
    ck_assert(range.exact_tails);
    s.max_percentile = 0.9; /* 1000 values, only 10 were kept */
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_PERCENTILE, &s, &range, NULL), QD_OK);
    ck_assert(!range.exact_tails);
    ck_assert_double_eq_tol(range.hi, (double)x[N - 1000], t.fine.width);
    qd_arena_done(&arena);
}
END_TEST

/* Never a range of nothing: what extremes and tails tell is the same, the rest is refused. */
START_TEST(calibrate__no_histogram__by_tails_or_refused)
{
    enum { N = 10000 };
    static float x[N];
    struct qd_arena arena;
    struct qc_tensor_statistics t, bare;
    struct qc_range want, range;
    struct qd_error err;
    struct qc_search s = DEFAULTS;
    s.max_percentile = 0.999;
    s.min_percentile = 0.9995;
    qd_arena_init(&arena, 0);
    fill(x, N, GAUSSIAN, 5);
    describe(&t, x, N, 10, &arena);
    bare = t;
    bare.fine = (struct qc_histogram){.n_bins = 0};
    for (int c = 0; c < QC_CALIB_COUNT; c++) {
        bool needs = c != QC_CALIB_MINMAX && c != QC_CALIB_PERCENTILE;
        ck_assert_int_eq(qc_calibrator_needs_histogram(c), needs);
        ck_assert_int_eq(qc_calibrate_check(&t, c, &s, &err), QD_OK);
        ck_assert_int_eq(qc_calibrate_check(&bare, c, &s, &err), needs ? QD_INVALID : QD_OK);
        ck_assert_int_eq(qc_calibrate(&bare, c, &s, &range, &err), needs ? QD_INVALID : QD_OK);
        if (needs) {
            ck_assert_str_eq(err.subject, "t");
            ck_assert_ptr_nonnull(strstr(err.message, qc_calibrator_name(c)));
            continue;
        }
        ck_assert_int_eq(qc_calibrate(&t, c, &s, &want, NULL), QD_OK);
        ck_assert_double_eq(range.lo, want.lo);
        ck_assert_double_eq(range.hi, want.hi);
        ck_assert(range.exact_tails);
        if (c == QC_CALIB_MINMAX) {
            ck_assert_double_eq(range.clipped_share, 0); /* nothing is outside: known */
        } else {
            ck_assert_double_gt(want.clipped_share, 0);
            ck_assert(isnan(range.clipped_share));
        }
    }
    s.max_percentile = 0.9989; /* one more than the 10 that were kept */
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_PERCENTILE, &s, &range, &err), QD_OK);
    ck_assert_int_eq(qc_calibrate(&bare, QC_CALIB_MINMAX, &s, &range, &err), QD_OK);
    ck_assert_int_eq(qc_calibrate(&bare, QC_CALIB_PERCENTILE, &s, &range, &err), QD_INVALID);
    ck_assert_str_eq(err.message, "percentile 0.9989 needs the 11 largest of the 10000 values of "
                                  "'t', 10 are kept and there is no histogram");
    s.max_percentile = 1;
    s.min_percentile = 0.99;
    ck_assert_int_eq(qc_calibrate(&bare, QC_CALIB_PERCENTILE, &s, &range, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "the 100 smallest"));
    qd_arena_done(&arena);
}
END_TEST

START_TEST(calibrate__constant_positive_negative__contains_zero)
{
    const float cases[3][2] = {{5, 5}, {2, 3}, {-3, -2}};
    for (int i = 0; i < 3; i++) {
        for (int c = 0; c < QC_CALIB_AUTO; c++) {
            struct qd_arena arena;
            struct qc_tensor_statistics t;
            struct qc_range range;
            qd_arena_init(&arena, 0);
            describe(&t, cases[i], 2, 1, &arena);
            ck_assert_int_eq(qc_calibrate(&t, c, &DEFAULTS, &range, NULL), QD_OK);
            ck_assert_double_le(range.lo, 0);
            ck_assert_double_ge(range.hi, 0);
            ck_assert_double_lt(range.lo, range.hi);
            if (i == 0) {
                ck_assert_double_eq(range.hi, 5);
            }
            qd_arena_done(&arena);
        }
    }
}
END_TEST

START_TEST(calibrate__bad_search__names_value_and_limit)
{
    struct qd_arena arena;
    struct qc_tensor_statistics t;
    struct qc_range range;
    struct qd_error err;
    const float x[2] = {0, 1};
    qd_arena_init(&arena, 0);
    describe(&t, x, 2, 1, &arena);
    struct qc_search s = DEFAULTS;
    s.bins = 4;
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_KL, &s, &range, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "4 coarse bins, 8 to 16384"));
    s = DEFAULTS;
    s.step = NAN;
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_KL, &s, &range, &err), QD_INVALID);
    s = DEFAULTS;
    s.max_percentile = 0.4;
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_KL, &s, &range, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "0.4"));
    memset(t.fine.counts, 0, (size_t)t.fine.n_bins * sizeof(uint64_t));
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_MSE, &DEFAULTS, &range, &err), QD_INVALID);
    ck_assert_str_eq(err.subject, "t");
    qd_arena_done(&arena);
}
END_TEST

START_TEST(calibrator_names__round_trip)
{
    for (int c = 0; c < QC_CALIB_COUNT; c++) {
        enum qc_calibrator back = QC_CALIB_COUNT;
        ck_assert(qc_calibrator_from_name(qc_calibrator_name(c), &back));
        ck_assert_int_eq(back, c);
    }
    enum qc_calibrator untouched = QC_CALIB_JS;
    ck_assert(!qc_calibrator_from_name("best", &untouched));
    ck_assert_int_eq(untouched, QC_CALIB_JS);
}
END_TEST

Suite *test_calib_suite(void);
Suite *test_calib_suite(void)
{
    Suite *s = suite_create("test_calib");
    TCase *c = tcase_create("calib");
    tcase_add_test(c, tail_length__worked_examples__exact);
    tcase_add_test(c, tail_at__million_values_any_order__tenth_largest);
    tcase_add_test(c, histogram__edges_point_and_bad_ranges__as_documented);
    tcase_add_test(c, search_count__method_examples__no_end_point_lost);
    tcase_add_test(c, divergence__known_histograms__known_values);
    tcase_add_test(c, calibrate__few_values_on_codes__tie_goes_to_one);
    tcase_add_test(c, calibrate__mse__predicts_the_error_and_beats_a_grid);
    tcase_add_test(c, calibrate__mse_with_an_outlier__clips_it);
    tcase_add_test(c, calibrate__minmax_and_percentile__two_independent_tails);
    tcase_add_test(c, calibrate__no_histogram__by_tails_or_refused);
    tcase_add_test(c, calibrate__constant_positive_negative__contains_zero);
    tcase_add_test(c, calibrate__bad_search__names_value_and_limit);
    tcase_add_test(c, calibrator_names__round_trip);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}
