/* What is derived from one fine histogram against the naive form, which quantizes every value
 * once for every candidate: on distributions of known shapes and on the activations of the
 * example network. `make bench-search` does the same on larger networks. */
#include <stdio.h>

#include "tests/lib/activations.h"
#include "quantcore/calib/histogram_prefix.h"
#include "tests/lib/naive_search.h"
#include "tests/unit/calib_fixture.h"

static const enum qc_calibrator measures[3] = {QC_CALIB_KL, QC_CALIB_SYMMETRIC_KL, QC_CALIB_JS};

struct tally {
    int n, n_same, n_near; /* near: the same or a neighbour */
    double worst;          /* naive score of the chosen candidate / the least, above 1 */
};

static void count(struct tally *t, int distance, double chosen, double least)
{
    t->n++;
    t->n_same += distance == 0;
    t->n_near += distance <= 1;
    if (distance > 1) {
        t->worst = fmax(t->worst, chosen / fmax(least, 1e-12));
    }
}

static int index_of(const struct naive *s, double ratio)
{
    return (int)lround((ratio - s->start) / s->step);
}

static void compare_divergences(const float *x, size_t n, const struct qc_search *search,
                                const struct qc_tensor_statistics *t, struct tally *tally)
{
    struct naive s;
    double d[3][141];
    naive_init(&s, x, n, search);
    ck_assert_int_eq(s.n_candidates, qc_search_count(search));
    ck_assert_int_le(s.n_candidates, 141);
    naive_divergences(&s, (double *const[3]){d[0], d[1], d[2]});
    for (int m = 0; m < 3; m++) {
        struct qc_range range = calibrate(t, measures[m], search);
        int mine = index_of(&s, range.ratio), best = naive_best(&s, d[m]);
        ck_assert_double_eq(naive_ratio(&s, mine), range.ratio);
        count(tally, abs(mine - best), d[m][mine], d[m][best]);
    }
}

static void compare_mse(const float *x, size_t n, const struct qc_search *search,
                        const struct qc_tensor_statistics *t, struct tally *tally)
{
    struct naive s;
    double lo = 0, hi = 0, least = 0;
    naive_init(&s, x, n, search);
    naive_mse(&s, &lo, &hi, &least);
    struct qc_range range = calibrate(t, QC_CALIB_MSE, search);
    double unit = 1.0 / 64 * (s.hi - s.lo);
    int distance = (int)fmax(fabs(range.lo - lo) / unit, fabs(range.hi - hi) / unit);
    double mine = naive_error(&s, range.lo, range.hi);
    count(tally, distance, mine, least);
    /* The error has shallow minima: wherever the ends lie, it must be as good. */
    ck_assert_msg(mine <= 1.01 * least + 1e-30, "%g, naively %g", mine, least);
    ck_assert_double_eq_tol(range.score, mine, 0.02 * mine + t->fine.width * t->fine.width);
}

static void compare_entropy(const float *x, size_t n, const struct qc_search *search,
                            const struct qc_tensor_statistics *t, struct tally *tally)
{
    static double d[4097];
    struct naive s;
    double width = 0;
    naive_init(&s, x, n, search);
    int best = naive_entropy(&s, d, &width);
    struct qc_range range = calibrate(t, QC_CALIB_ENTROPY, search);
    double end = fmin(best * width, fmax(-s.lo, s.hi)), mine = fmax(-range.lo, range.hi);
    count(tally, (int)lround(fabs(mine - end) / width), range.score, d[best]);
    ck_assert_double_eq_tol(range.score, d[best], 1e-9);
}

static void compare(const float *x, size_t n, bool symmetric, const char *name,
                    struct tally tally[3])
{
    struct qc_search search = DEFAULTS;
    struct qd_arena arena;
    struct qc_tensor_statistics t;
    search.symmetric = symmetric;
    qd_arena_init(&arena, 0);
    describe(&t, x, n, 1, &arena);
    compare_divergences(x, n, &search, &t, &tally[0]);
    compare_mse(x, n, &search, &t, &tally[1]);
    compare_entropy(x, n, &search, &t, &tally[2]);
    if (getenv("QD_TEST_VERBOSE") != NULL) {
        printf("%s%s: divergences %d/%d near, worst %.3f; entropy %d/%d near, worst %.3f\n", name,
               symmetric ? " symmetric" : "", tally[0].n_near, tally[0].n, tally[0].worst,
               tally[2].n_near, tally[2].n, tally[2].worst);
    }
    qd_arena_done(&arena);
}

START_TEST(calibrate__known_shapes__chooses_as_the_naive_form)
{
    enum { N = 8000 };
    static float x[N];
    struct tally tally[3] = {0};
    for (int shape = 0; shape < SHAPE_COUNT; shape++) {
        fill(x, N, shape, 100 + (uint32_t)shape);
        compare(x, N, _i == 1, shape_names[shape], tally);
    }
    ck_assert_int_eq(tally[0].n, 3 * SHAPE_COUNT);
    ck_assert_int_eq(tally[0].n_near, 3 * SHAPE_COUNT);
    ck_assert_int_eq(tally[1].n_near, SHAPE_COUNT);
    ck_assert_int_eq(tally[2].n_same, SHAPE_COUNT); /* whole fine bins: the same counts */
}
END_TEST

/* Ranges of the example network's own activations. Its data are a package of Debian. */
START_TEST(calibrate__activations_of_the_example__chooses_as_the_naive_form)
{
    static const char model[] = "examples/fashion-mnist/model.onnx";
    static const char images[] = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
    const struct qc_preprocess preprocess = {.has_scale = true, .scale = 1.0f / 255};
    struct qd_arena arena;
    struct qd_error err;
    struct activations a;
    struct tally tally[3] = {0};
    qd_arena_init(&arena, 0);
    enum qd_code code = activations_collect(model, images, &preprocess, 8, 100, &arena, &a, &err);
    if (code == QD_NOT_FOUND) {
        printf("test_calib_naive: skipped the example network: %s\n", err.message);
        qd_arena_done(&arena);
        return;
    }
    ck_assert_msg(code == QD_OK, "%s", err.message);
    ck_assert_int_gt(a.n, 3);
    for (int i = 0; i < a.n; i++) {
        /* An odd stride: most patterns of rows and channels are not kept. */
        size_t stride = a.tensor[i].n > 8000 ? a.tensor[i].n / 8000 | 1 : 1, n = 0;
        for (size_t k = 0; k < a.tensor[i].n; k += stride) {
            a.tensor[i].x[n++] = a.tensor[i].x[k];
        }
        compare(a.tensor[i].x, n, false, a.tensor[i].name, tally);
    }
    /* Of few values, the one in the far tail that a bin moves over an edge decides between two
     * minima of the coarse bins' artefact. */
    ck_assert_int_ge(tally[0].n_near, tally[0].n * 85 / 100);
    ck_assert_double_le(tally[0].worst, 1.35);
    ck_assert_int_eq(tally[2].n_same, tally[2].n);
    qd_arena_done(&arena);
}
END_TEST

/* Edges of a bin give what counting gives; within a bin it is a part of the bin's values. */
START_TEST(prefix_below__even_values__counts_them)
{
    enum { M = 4000 };
    static float v[M];
    struct qc_tensor_statistics t = {.min = -1, .max = 2, .count = M};
    struct qc_histogram_prefix p;
    struct qd_arena arena;
    struct qd_error err;
    for (int i = 0; i < M; i++) {
        v[i] = (float)(-1 + 3.0 * i / (M - 1));
    }
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qc_histogram_init(&t.fine, t.min, t.max, 300, &arena, &err), QD_OK);
    qc_histogram_count(&t.fine, v, M);
    ck_assert_int_eq(qc_histogram_prefix_init(&p, &t, &err), QD_OK);
    for (double at = -1.5; at < 2.5; at += 0.0009) {
        double exact = 0;
        for (int i = 0; i < M; i++) {
            exact += (double)v[i] < at;
        }
        bool end = at < t.min + t.fine.width || at > t.max - t.fine.width;
        double below = qc_histogram_prefix_below(&p, at, false);
        /* The end bins and that at 0 are all or none. */
        bool whole = end || (at >= 0 && at <= t.fine.width);
        ck_assert_double_eq_tol(below, exact, whole ? t.fine.width * M / 3 + 2 : 2);
        ck_assert(below <= qc_histogram_prefix_below(&p, at + 0.0009, false));
    }
    ck_assert_double_eq(qc_histogram_prefix_below(&p, t.min, false), 0);
    ck_assert_double_eq(qc_histogram_prefix_below(&p, t.min, true), (double)t.fine.counts[0]);
    ck_assert_double_eq(qc_histogram_prefix_below(&p, 3, false), M);
    qc_histogram_prefix_done(&p);
    qd_arena_done(&arena);
}
END_TEST

Suite *test_calib_naive_suite(void);
Suite *test_calib_naive_suite(void)
{
    Suite *s = suite_create("test_calib_naive");
    TCase *c = tcase_create("naive");
    tcase_add_test(c, prefix_below__even_values__counts_them);
    tcase_add_loop_test(c, calibrate__known_shapes__chooses_as_the_naive_form, 0, 2);
    tcase_add_test(c, calibrate__activations_of_the_example__chooses_as_the_naive_form);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return s;
}
