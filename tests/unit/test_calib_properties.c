/* What must hold of each formula whatever the data. */
#include <float.h>

#include "quantcore/calib/calib_auto.h"
#include "quantcore/calib/calib_divergence.h"
#include "quantcore/calib/calib_entropy.h"
#include "tests/lib/naive_search.h"
#include "tests/unit/calib_fixture.h"

enum { N = 6000, SCHEMES = 2, FORMS = 2 };
static struct qd_arena arena;
static float x[N], y[N];

static void setup(void)
{
    qd_arena_init(&arena, 0);
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

/* Every combination that gives a range: i = 0..n_variants-1. */
static const int n_variants = (int)QC_CALIB_AUTO * SCHEMES * FORMS;
static enum qc_calibrator variant(int i, struct qc_search *search)
{
    *search = DEFAULTS;
    search->symmetric = i % 2 == 1;
    search->form = i / 2 % 2 == 1 ? QC_FORM_SPREAD : QC_FORM_LEVELS;
    return (enum qc_calibrator)(i / 4);
}

/* ---- candidates ------------------------------------------------------------------------------
 */

static const struct {
    double start, end, step;
    int n;
} searches[] = {{0.8, 1.2, 0.01, 41},    {0.3, 1.7, 0.01, 141}, {0.1, 0.3, 0.1, 3},
                {0.7, 1.3, 0.2, 4},      {1, 1, 0.01, 1},       {0.3, 1.7, 0.007, 201},
                {0.01, 10, 0.001, 9991}, {0.5, 1.49, 0.5, 2}};

START_TEST(search_count__steps_that_are_no_binary_fractions__none_lost)
{
    struct qc_search s = DEFAULTS;
    s.start = searches[_i].start;
    s.end = searches[_i].end;
    s.step = searches[_i].step;
    ck_assert_int_eq(qc_search_count(&s), searches[_i].n);
    for (int i = 0; i < searches[_i].n; i++) {
        double r = qc_search_ratio(&s, i);
        ck_assert_double_eq_tol(r, s.start + i * s.step, 1e-9);
        ck_assert(r >= s.start && r <= s.end);
        ck_assert_double_eq(r, round(r * 1e6) / 1e6);
    }
}
END_TEST

START_TEST(calibrate__a_million_values__tenth_from_each_end)
{
    enum { MILLION = 1000000 };
    struct qc_tensor_statistics t;
    struct qc_search s = DEFAULTS;
    float *v = malloc(MILLION * sizeof(*v));
    /* every value once, in a scrambled order: 7919 and a million have no common factor */
    for (int i = 0; i < MILLION; i++) {
        v[i] = (float)((int64_t)i * 7919 % MILLION) - 400000.0f;
    }
    s.min_percentile = s.max_percentile = 0.99999;
    describe(&t, v, MILLION, qc_tail_length(MILLION, 0.99999), &arena);
    struct qc_range r = calibrate(&t, QC_CALIB_PERCENTILE, &s);
    ck_assert(r.exact_tails);
    ck_assert_double_eq(r.hi, 599990);
    ck_assert_double_eq(r.lo, -399991);
    s.symmetric = true;
    r = calibrate(&t, QC_CALIB_PERCENTILE, &s);
    ck_assert_double_eq(r.hi, 599990);
    ck_assert_double_eq(r.lo, -599990);
    free(v);
}
END_TEST

/* ---- divergences -----------------------------------------------------------------------------
 */

static void random_counts(uint64_t *p, int n, int empty_of_8)
{
    for (int i = 0; i < n; i++) {
        p[i] = (int)(8 * uniform()) < empty_of_8 ? 0 : (uint64_t)(expf(14 * uniform()));
    }
    p[(int)(uniform() * (float)n)] += 1; /* never all empty */
}

START_TEST(divergence__random_histograms__within_their_bounds)
{
    enum { BINS = 150 };
    static const enum qc_calibrator measures[] = {QC_CALIB_KL, QC_CALIB_SYMMETRIC_KL,
                                                  QC_CALIB_JS};
    uint64_t p[BINS], q[BINS];
    double a[BINS], b[BINS];
    seed = 11;
    for (int round = 0; round < 300; round++) {
        double total_p = 0, total_q = 0;
        random_counts(p, BINS, round % 9);
        random_counts(q, BINS, round / 9 % 9);
        for (int i = 0; i < BINS; i++) {
            total_p += (double)p[i];
            total_q += (double)q[i];
        }
        for (int i = 0; i < BINS; i++) {
            a[i] = (double)p[i] / total_p;
            b[i] = (double)q[i] / total_q;
        }
        for (int m = 0; m < 3; m++) {
            double d = qc_divergence(measures[m], p, q, BINS);
            double back = qc_divergence(measures[m], q, p, BINS);
            ck_assert_double_ge(d, 0);
            ck_assert(isfinite(d));
            ck_assert_double_eq_tol(qc_divergence(measures[m], p, p, BINS), 0, 1e-15);
            ck_assert_double_eq_tol(qc_divergence_shares(measures[m], a, b, BINS), d, 1e-12);
            if (measures[m] != QC_CALIB_KL) {
                ck_assert_double_eq_tol(back, d, 1e-12);
            }
            if (measures[m] == QC_CALIB_JS) {
                ck_assert_double_le(d, log(2.0) + 1e-12);
            }
        }
    }
}
END_TEST

/* Nine bins over [0, 2]: 1 lies in the middle of one, and so does what candidates of 0.9 to 1.1
 * make of it. All divergences are 0. */
START_TEST(calibrate__all_candidates_alike__nearest_one_then_the_larger)
{
    struct qc_tensor_statistics t;
    struct qc_search s = DEFAULTS;
    for (int i = 0; i < 64; i++) {
        x[i] = i % 2 == 0 ? 0.0f : 1.0f;
    }
    describe(&t, x, 64, 1, &arena);
    s.bins = 9;
    s.symmetric = _i == 1;
    for (int c = QC_CALIB_KL; c <= QC_CALIB_JS; c++) {
        s.start = 0.9;
        s.end = 1.1;
        s.step = 0.05;
        ck_assert_double_eq(calibrate(&t, c, &s).ratio, 1);
        s.step = 0.2;
        ck_assert_double_eq(calibrate(&t, c, &s).ratio, 1.1);
        s.end = 0.95;
        s.step = 0.05;
        ck_assert_double_eq(calibrate(&t, c, &s).ratio, 0.95);
    }
}
END_TEST

/* On evenly spread data nothing is gained by clipping or by widening. The coarse bins prefer a
 * whole number of levels a bin all the same; spread over the steps, the extremes win. */
START_TEST(calibrate__even_data__only_spread_keeps_the_extremes)
{
    struct qc_tensor_statistics t;
    struct qc_search s = DEFAULTS;
    enum { EVEN = 1 << 18 };
    float *v = malloc(EVEN * sizeof(*v));
    for (int i = 0; i < EVEN; i++) {
        v[i] = ((float)i + 0.5f) / EVEN;
    }
    describe(&t, v, EVEN, 1, &arena);
    for (int c = QC_CALIB_KL; c <= QC_CALIB_JS; c++) {
        s.form = QC_FORM_SPREAD;
        double r = calibrate(&t, c, &s).ratio;
        ck_assert_msg(r >= 0.99 && r <= 1.01, "%s: %g", qc_calibrator_name(c), r);
        s.form = QC_FORM_LEVELS;
        r = calibrate(&t, c, &s).ratio;
        double levels = 2 * 255.0 / (r * s.bins);
        ck_assert_msg(fabs(levels - round(levels)) < 0.03, "%s: %g levels a bin",
                      qc_calibrator_name(c), levels);
    }
    free(v);
}
END_TEST

/* ---- invariances -----------------------------------------------------------------------------
 */

START_TEST(calibrate__data_times_a_power_of_two__range_times_it_exactly)
{
    static const int powers[] = {-30, -7, 1, 20};
    struct qc_tensor_statistics t, scaled;
    struct qc_search s;
    fill(x, N, _i, 40 + (uint32_t)_i);
    describe(&t, x, N, 1, &arena);
    for (size_t k = 0; k < QD_COUNT_OF(powers); k++) {
        float factor = ldexpf(1, powers[k]);
        for (int i = 0; i < N; i++) {
            y[i] = x[i] * factor;
        }
        describe(&scaled, y, N, 1, &arena);
        for (int i = 0; i < n_variants; i++) {
            enum qc_calibrator c = variant(i, &s);
            struct qc_range a = calibrate(&t, c, &s), b = calibrate(&scaled, c, &s);
            ck_assert_double_eq(b.lo, a.lo * (double)factor);
            ck_assert_double_eq(b.hi, a.hi * (double)factor);
            ck_assert_double_eq(b.ratio, a.ratio);
            ck_assert_double_eq(b.clipped_share, a.clipped_share);
        }
    }
}
END_TEST

/* Negated data give the mirrored range: to the bit where it comes from values, within a candidate
 * where it comes from bins, which hold their lower edge and not their upper. The asymmetric
 * divergences are left out: their candidates all start at the lower end. */
START_TEST(calibrate__negated_data__mirrored_range)
{
    struct qc_tensor_statistics t, mirror;
    struct qc_search s;
    fill(x, N, _i, 60 + (uint32_t)_i);
    for (int i = 0; i < N; i++) {
        y[i] = -x[i];
    }
    describe(&t, x, N, 60, &arena);
    describe(&mirror, y, N, 60, &arena);
    for (int i = 0; i < n_variants; i++) {
        enum qc_calibrator c = variant(i, &s);
        if (c >= QC_CALIB_KL && c <= QC_CALIB_JS && (!s.symmetric || s.form == QC_FORM_SPREAD)) {
            continue;
        }
        s.min_percentile = 0.99;
        s.max_percentile = 0.995;
        struct qc_range a = calibrate(&t, c, &s);
        s.min_percentile = 0.995;
        s.max_percentile = 0.99;
        struct qc_range b = calibrate(&mirror, c, &s);
        bool exact = c == QC_CALIB_MINMAX || c == QC_CALIB_PERCENTILE;
        double slack = exact ? 0 : 0.021 * (a.hi - a.lo);
        ck_assert_msg(fabs(a.lo + b.hi) <= slack && fabs(a.hi + b.lo) <= slack,
                      "%s%s: [%g, %g] and [%g, %g]", qc_calibrator_name(c),
                      s.symmetric ? " symmetric" : "", a.lo, a.hi, b.lo, b.hi);
    }
}
END_TEST

START_TEST(calibrate__symmetric__zero_in_the_middle)
{
    struct qc_tensor_statistics t;
    struct qc_search s;
    fill(x, N, _i, 80 + (uint32_t)_i);
    describe(&t, x, N, 1, &arena);
    double m = fmax(-t.min, t.max);
    for (int i = 1; i < n_variants; i += 2) {
        enum qc_calibrator c = variant(i, &s);
        struct qc_range r = calibrate(&t, c, &s);
        ck_assert_double_eq(r.lo, -r.hi);
        ck_assert_double_gt(r.hi, 0);
        ck_assert_double_eq_tol(r.hi, r.ratio * m, 1e-9 * m);
        ck_assert(c != QC_CALIB_MINMAX || r.hi == m);
        struct qc_qparams pair;
        qc_candidate_qparams(true, r.lo, r.hi, &pair);
        ck_assert_int_eq(pair.zero_point, 128);
        ck_assert_float_eq(pair.scale, (float)(r.hi / 127.0));
    }
}
END_TEST

/* ---- what each is for ------------------------------------------------------------------------
 */

START_TEST(calibrate__mse__no_worse_than_the_extremes)
{
    struct qc_tensor_statistics t;
    struct qc_search s = DEFAULTS;
    struct naive values;
    fill(x, N, _i, 20 + (uint32_t)_i);
    x[N / 2] *= 8; /* and with an outlier */
    describe(&t, x, N, 1, &arena);
    for (int symmetric = 0; symmetric < SCHEMES; symmetric++) {
        s.symmetric = symmetric == 1;
        naive_init(&values, x, N, &s);
        struct qc_range best = calibrate(&t, QC_CALIB_MSE, &s);
        struct qc_range extremes = calibrate(&t, QC_CALIB_MINMAX, &s);
        double error = naive_error(&values, best.lo, best.hi);
        ck_assert_double_le(error, naive_error(&values, extremes.lo, extremes.hi));
        ck_assert_double_eq_tol(best.score, error, 0.02 * error);
    }
}
END_TEST

START_TEST(calibrate__entropy_of_a_bell_with_an_outlier__cuts_it_off)
{
    struct qc_tensor_statistics t;
    struct qc_search s = DEFAULTS;
    fill(x, N, GAUSSIAN, 5);
    x[0] = 40;
    describe(&t, x, N, 1, &arena);
    for (int symmetric = 0; symmetric < SCHEMES; symmetric++) {
        s.symmetric = symmetric == 1;
        struct qc_range r = calibrate(&t, QC_CALIB_ENTROPY, &s);
        ck_assert_double_lt(r.hi, 8);
        ck_assert_double_gt(r.hi, 1);
        ck_assert_double_gt(r.clipped_share, 0);
        /* the end that does not reach the threshold is left where it is */
        ck_assert_double_eq(r.lo, s.symmetric ? -r.hi : fmax(t.min, -r.hi));
    }
}
END_TEST

/* Codes for every bin: nothing to gain. */
START_TEST(entropy_threshold__even_bins__keeps_all)
{
    enum { BINS = 2048 };
    static double bins[BINS];
    double d = -1;
    int i = 0;
    for (int k = 0; k < BINS; k++) {
        bins[k] = 3;
    }
    ck_assert_int_eq(qc_entropy_threshold(bins, BINS, 0, 128, &i, &d, NULL), QD_OK);
    ck_assert_int_eq(i, BINS);
    ck_assert_double_eq_tol(d, 0, 1e-12);
    /* nothing at all, and nothing within reach */
    memset(bins, 0, sizeof(bins));
    ck_assert_int_eq(qc_entropy_threshold(bins, BINS, 5, 128, &i, &d, NULL), QD_OK);
    ck_assert_int_eq(i, BINS);
    ck_assert_double_eq(d, 0);
}
END_TEST

START_TEST(entropy_threshold__random_bins__as_the_plain_sums)
{
    enum { BINS = 2048 };
    static double bins[BINS];
    seed = 9;
    for (int round = 0; round < 6; round++) {
        int levels = round % 2 == 0 ? 128 : 256, i = 0;
        double d = 0, in = 0, all = 0, plain = 0;
        for (int k = 0; k < BINS; k++) {
            double tail = exp(-6.0 * k / BINS);
            bins[k] = uniform() < 0.3f ? 0 : floor(1000 * tail * (double)uniform());
            all += bins[k];
        }
        ck_assert_int_eq(qc_entropy_threshold(bins, BINS, 0, levels, &i, &d, NULL), QD_OK);
        ck_assert(i >= levels && i <= BINS);
        for (int k = 0; k < i; k++) {
            in += bins[k];
        }
        for (int k = 0; k < i; k++) { /* quadratic, from the definition */
            double mass = 0, p = bins[k] + (k == i - 1 ? all - in : 0);
            int filled = 0;
            for (int m = 0; m < i; m++) {
                bool same = m * levels / i == k * levels / i;
                mass += same ? bins[m] : 0;
                filled += same && bins[m] > 0;
            }
            double q = bins[k] > 0 ? mass / filled / in : QC_DIVERGENCE_EPSILON;
            plain += p > 0 ? p / all * log(p / all / q) : 0;
        }
        ck_assert_double_eq_tol(d, plain, 1e-10);
    }
}
END_TEST

/* After Relu half of the values are exactly 0: their number must not move the threshold. */
START_TEST(calibrate__entropy_of_more_zeros__same_range)
{
    struct qc_tensor_statistics t;
    float *v = calloc(10 * N, sizeof(*v));
    fill(v, N, RELU, 8);
    describe(&t, v, N, 1, &arena);
    struct qc_range few = calibrate(&t, QC_CALIB_ENTROPY, &DEFAULTS);
    describe(&t, v, 10 * N, 1, &arena);
    struct qc_range many = calibrate(&t, QC_CALIB_ENTROPY, &DEFAULTS);
    ck_assert_double_eq(few.hi, many.hi);
    ck_assert_double_eq(many.lo, 0);
    free(v);
}
END_TEST

/* ---- tensors without a spread ----------------------------------------------------------------
 */

static const float constants[] = {0, 5, -3, 1e-40f, -1e-45f, FLT_MAX / 2, -1e-30f};

START_TEST(calibrate__constant_tensors__finite_range_around_zero)
{
    struct qc_tensor_statistics t;
    struct qc_search s;
    float v[8];
    for (int i = 0; i < 8; i++) {
        v[i] = constants[_i];
    }
    describe(&t, v, 8, 1, &arena);
    for (int i = 0; i < n_variants; i++) {
        enum qc_calibrator c = variant(i, &s);
        struct qc_range r = calibrate(&t, c, &s);
        struct qc_qparams pair;
        ck_assert(r.lo <= 0 && r.hi >= 0 && isfinite(r.lo) && isfinite(r.hi));
        ck_assert(r.lo <= t.min && r.hi >= t.max);
        ck_assert(!signbit(r.lo) || r.lo < 0);
        ck_assert_double_eq(r.clipped_share, 0);
        ck_assert(isfinite(r.score) && isfinite(r.ratio));
        qc_candidate_qparams(s.symmetric, r.lo, r.hi, &pair);
        ck_assert(pair.scale > 0 && isfinite(pair.scale));
    }
}
END_TEST

/* Two values, far or next to each other, and one of them often. */
START_TEST(calibrate__two_values__finite_range_that_holds_zero)
{
    const float pairs[][2] = {{0, 1},          {-1, 0},
                              {1, 1.0000001f}, {-1e-38f, 1e-38f},
                              {0, 1e-44f},     {-1.5e38f, 1.5e38f},
                              {1e6f, 1e6f + 1}};
    struct qc_tensor_statistics t;
    struct qc_search s;
    for (size_t k = 0; k < QD_COUNT_OF(pairs); k++) {
        float v[100];
        for (int i = 0; i < 100; i++) {
            v[i] = pairs[k][i == 50];
        }
        describe(&t, v, 100, 1, &arena);
        for (int i = 0; i < n_variants; i++) {
            enum qc_calibrator c = variant(i, &s);
            struct qc_range r = calibrate(&t, c, &s);
            ck_assert(r.lo <= 0 && r.hi >= 0 && r.lo < r.hi);
            ck_assert(isfinite(r.hi - r.lo) && isfinite(r.score) && r.score >= 0);
            ck_assert(r.clipped_share >= 0 && r.clipped_share <= 1);
        }
    }
}
END_TEST

/* ---- recipes ---------------------------------------------------------------------------------
 */

START_TEST(recipes__of_auto__each_gives_a_range)
{
    struct qc_recipe r[QC_MAX_RECIPES];
    struct qc_tensor_statistics t;
    struct qc_search s = DEFAULTS;
    double lo = 0, hi = 0;
    char label[64];
    s.symmetric = true;
    int n = qc_recipes(QC_CALIB_AUTO, &s, r);
    ck_assert_int_eq(n, 4);
    ck_assert_int_eq(r[0].calibrator, QC_CALIB_MSE);
    qc_recipes_percentiles(r, n, &lo, &hi);
    ck_assert_double_eq(lo, 0.99999);
    ck_assert_double_eq(hi, 0.99999);
    fill(x, N, GAUSSIAN, 3);
    describe(&t, x, N, qc_tail_length(N, lo), &arena);
    for (int i = 0; i < n; i++) {
        ck_assert_int_ne(r[i].calibrator, QC_CALIB_AUTO);
        ck_assert(r[i].search.symmetric);
        ck_assert_double_gt(calibrate(&t, r[i].calibrator, &r[i].search).hi, 0);
    }
    qc_recipe_label(&r[1], label, sizeof(label));
    ck_assert_str_eq(label, "percentile 0.99999");
    qc_recipe_label(&r[3], label, sizeof(label));
    ck_assert_str_eq(label, "minmax");
}
END_TEST

START_TEST(recipes__with_percentiles_of_the_job__tried_too)
{
    struct qc_recipe r[QC_MAX_RECIPES];
    struct qc_search s = DEFAULTS;
    double lo = 0, hi = 0;
    char label[64];
    s.min_percentile = 0.9;
    s.max_percentile = 0.9999;
    int n = qc_recipes(QC_CALIB_AUTO, &s, r);
    ck_assert_int_eq(n, QC_MAX_RECIPES);
    ck_assert_double_eq(r[0].search.min_percentile, 1);
    ck_assert_int_eq(r[4].calibrator, QC_CALIB_PERCENTILE);
    ck_assert_int_eq(r[5].calibrator, QC_CALIB_MSE);
    qc_recipes_percentiles(r, n, &lo, &hi);
    ck_assert_double_eq(lo, 0.9);
    ck_assert_double_eq(hi, 0.9999);
    qc_recipe_label(&r[5], label, sizeof(label));
    ck_assert_str_eq(label, "mse 0.9 0.9999");
    ck_assert_int_eq(qc_recipes(QC_CALIB_JS, &s, r), 1);
    ck_assert_int_eq(r[0].calibrator, QC_CALIB_JS);
    ck_assert_double_eq(r[0].search.min_percentile, 0.9);
}
END_TEST

START_TEST(calibrate__auto__refused_for_a_tensor)
{
    struct qc_tensor_statistics t;
    struct qc_range range;
    struct qd_error err;
    fill(x, N, GAUSSIAN, 3);
    describe(&t, x, N, 1, &arena);
    ck_assert_int_eq(qc_calibrate(&t, QC_CALIB_AUTO, &DEFAULTS, &range, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "'auto'"));
    ck_assert_str_eq(err.subject, "t");
}
END_TEST

START_TEST(form_names__round_trip)
{
    enum qc_divergence_form back = QC_FORM_COUNT;
    for (int f = 0; f < QC_FORM_COUNT; f++) {
        ck_assert(qc_divergence_form_from_name(qc_divergence_form_name(f), &back));
        ck_assert_int_eq(back, f);
    }
    ck_assert(!qc_divergence_form_from_name("coarse", &back));
}
END_TEST

Suite *test_calib_properties_suite(void);
Suite *test_calib_properties_suite(void)
{
    Suite *s = suite_create("test_calib_properties");
    TCase *c = tcase_create("properties");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, search_count__steps_that_are_no_binary_fractions__none_lost, 0,
                        (int)QD_COUNT_OF(searches));
    tcase_add_test(c, calibrate__a_million_values__tenth_from_each_end);
    tcase_add_test(c, divergence__random_histograms__within_their_bounds);
    tcase_add_loop_test(c, calibrate__all_candidates_alike__nearest_one_then_the_larger, 0,
                        SCHEMES);
    tcase_add_test(c, calibrate__even_data__only_spread_keeps_the_extremes);
    tcase_add_loop_test(c, calibrate__data_times_a_power_of_two__range_times_it_exactly, 0,
                        SHAPE_COUNT);
    tcase_add_loop_test(c, calibrate__negated_data__mirrored_range, 0, SHAPE_COUNT);
    tcase_add_loop_test(c, calibrate__symmetric__zero_in_the_middle, 0, SHAPE_COUNT);
    tcase_add_loop_test(c, calibrate__mse__no_worse_than_the_extremes, 0, SHAPE_COUNT);
    tcase_add_test(c, calibrate__entropy_of_a_bell_with_an_outlier__cuts_it_off);
    tcase_add_test(c, entropy_threshold__even_bins__keeps_all);
    tcase_add_test(c, entropy_threshold__random_bins__as_the_plain_sums);
    tcase_add_test(c, calibrate__entropy_of_more_zeros__same_range);
    tcase_add_loop_test(c, calibrate__constant_tensors__finite_range_around_zero, 0,
                        (int)QD_COUNT_OF(constants));
    tcase_add_test(c, calibrate__two_values__finite_range_that_holds_zero);
    tcase_add_test(c, recipes__of_auto__each_gives_a_range);
    tcase_add_test(c, recipes__with_percentiles_of_the_job__tried_too);
    tcase_add_test(c, calibrate__auto__refused_for_a_tensor);
    tcase_add_test(c, form_names__round_trip);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}
