/* What is derived from one fine histogram against the naive form, which quantizes every value
 * once for every candidate: on distributions of known shapes and on the activations of the
 * example network. `make bench-search` does the same on larger networks. */
#include <stdio.h>

#include "tests/lib/activations.h"
#include "quantcore/calib/histogram_prefix.h"
#include "tests/lib/naive_search.h"
#include "tests/unit/calib_fixture.h"

static const enum qc_calibrator measures[3] = {QC_CALIB_KL, QC_CALIB_SYMMETRIC_KL, QC_CALIB_JS};

/* The table of values that pass 2 would keep. */
static void tabulate(struct qc_tensor_statistics *t, const float *x, size_t n,
                     struct qd_arena *arena)
{
    struct qc_value_table table = {.lo = (float)t->min, .hi = (float)t->max};
    ck_assert_int_eq(qd_arena_array(arena, QC_VALUES_SLOTS, sizeof(*table.slots), &table.slots,
                                    NULL),
                     QD_OK);
    ck_assert_uint_eq(qc_value_table_add(&table, x, n), n);
    ck_assert_int_eq(qc_value_table_finish(&table, arena, &t->values, NULL), QD_OK);
}

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

static struct qc_histogram_prefix prefix_of(const struct qc_tensor_statistics *t)
{
    struct qc_histogram_prefix p;
    struct qd_error err;
    ck_assert_msg(qc_histogram_prefix_init(&p, t, &err) == QD_OK, "%s", err.message);
    return p;
}

static uint64_t count_upto(const float *x, size_t n, const struct qc_qparams *params, int q)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += qc_quantize_value(x[i], params->scale, params->zero_point, 0, 255) <= q;
    }
    return count;
}

/* Within a bin it is a part of the bin's values. */
START_TEST(prefix_upto__even_values__counts_them)
{
    enum { M = 4000 };
    static float v[M];
    struct qc_tensor_statistics t = {.min = -1, .max = 2, .count = M};
    struct qd_arena arena;
    struct qd_error err;
    for (int i = 0; i < M; i++) {
        v[i] = (float)(-1 + 3.0 * i / (M - 1));
    }
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qc_histogram_init(&t.fine, t.min, t.max, 300, &arena, &err), QD_OK);
    qc_histogram_count(&t.fine, v, M);
    struct qc_histogram_prefix p = prefix_of(&t);
    ck_assert_int_eq(p.n_known, 0);
    for (float scale = 0.0021f; scale < 0.03f; scale += 0.0017f) {
        const struct qc_qparams params = {.scale = scale, .zero_point = 90};
        double last = 0;
        for (int q = 1; q < 255; q++) {
            double at = ((double)(q - 90) + 0.5) * (double)scale;
            /* The end bins and that at 0 are all or none. */
            bool end = at < t.min + t.fine.width || at > t.max - t.fine.width;
            bool whole = end || (at >= 0 && at <= t.fine.width);
            double below = qc_histogram_prefix_upto(&p, &params, q);
            ck_assert_double_eq_tol(below, (double)count_upto(v, M, &params, q),
                                    whole ? t.fine.width * M / 3 + 2 : 2);
            ck_assert_double_ge(below, last);
            last = below;
        }
    }
    qc_histogram_prefix_done(&p);
    qd_arena_done(&arena);
}
END_TEST

/* Pixels of 8-bit images: at every edge exact, also where a value lies on it. */
START_TEST(prefix_upto__table_of_values__counts_as_quantization_does)
{
    enum { M = 3000 };
    static float v[M];
    struct qc_tensor_statistics t;
    struct qd_arena arena;
    seed = 5;
    for (int i = 0; i < M; i++) {
        v[i] = (float)(int)(256 * uniform()) / 255.0f;
    }
    qd_arena_init(&arena, 0);
    describe(&t, v, M, 1, &arena);
    tabulate(&t, v, M, &arena);
    ck_assert_int_eq(t.values.n, 256);
    struct qc_histogram_prefix p = prefix_of(&t);
    for (int i = 30; i <= 170; i++) {
        struct qc_qparams params;
        qc_candidate_qparams(i % 2 == 1, i % 2 == 1 ? -0.01 * i : 0, 0.01 * i, &params);
        for (int q = 1; q < 255; q++) {
            ck_assert_double_eq(qc_histogram_prefix_upto(&p, &params, q),
                                (double)count_upto(v, M, &params, q));
        }
    }
    qc_histogram_prefix_done(&p);
    qd_arena_done(&arena);
}
END_TEST

/* A channel that is the same everywhere: all of its values go to the side where they are, although
 * the bin that they share with others has an edge of levels in it. */
/* Pixels: on the grid of scale 1 / 255 there is no error, between its points there is the naive one. */
START_TEST(prefix_error__all_values_known__theirs)
{
    enum { N = 3000 };
    static float x[N];
    struct qc_tensor_statistics t;
    struct qd_arena arena;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i * 7 % 256) / 255.0f - 0.25f;
    }
    qd_arena_init(&arena, 0);
    describe(&t, x, N, 1, &arena);
    tabulate(&t, x, N, &arena);
    struct qc_histogram_prefix p = prefix_of(&t);
    for (int i = 0; i < 40; i++) {
        struct qc_qparams params = {.scale = (float)(60 + 10 * i) / 100.0f / 255.0f,
                                    .zero_point = i * 3};
        double sum = 0;
        for (int k = 0; k < N; k++) {
            int q = qc_quantize_value(x[k], params.scale, params.zero_point, 0, 255);
            double e = (double)x[k] - (double)params.scale * (double)(q - params.zero_point);
            sum += e * e;
        }
        ck_assert_double_eq_tol(qc_histogram_prefix_error(&p, &params, 0), sum / N,
                                1e-6 * sum / N + 1e-15);
    }
    qc_histogram_prefix_done(&p);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(prefix_upto__constant_channel__goes_whole)
{
    enum { PER = 500, CHANNELS = 3, M = PER * CHANNELS };
    static float v[M];
    struct qc_channel_statistics channels[CHANNELS] = {{.max_abs = 0}};
    struct qc_tensor_statistics t;
    struct qd_arena arena;
    seed = 9;
    for (int i = 0; i < M; i++) {
        int c = i / PER;
        v[i] = c == 0 ? 0.147683889f : c == 1 ? -0.25f : 4.0f * uniform() - 1.0f;
        channels[c].max_abs = fmaxf(channels[c].max_abs, fabsf(v[i]));
        channels[c].n_nonzero += v[i] != 0.0f;
        qd_exact_add(&channels[c].sum, (double)v[i]);
    }
    qd_arena_init(&arena, 0);
    describe(&t, v, M, 1, &arena);
    t.n_channels = CHANNELS;
    t.channels = channels;
    struct qc_histogram_prefix p = prefix_of(&t);
    ck_assert_int_eq(p.n_known, 2);
    ck_assert_float_eq(p.known[0], -0.25f);
    for (int i = 0; i < 2; i++) {
        /* The edge behind code 128 of zero point 128 is half a step: just below and above. */
        for (int above = 0; above < 2; above++) {
            struct qc_qparams params = {.scale = 2 * fabsf(p.known[i]), .zero_point = 128};
            params.scale *= above == 1 ? 1 + 1e-6f : 1 - 1e-6f;
            int q = i == 1 ? 128 : 127;
            ck_assert_double_eq_tol(qc_histogram_prefix_upto(&p, &params, q),
                                    (double)count_upto(v, M, &params, q), 2);
        }
    }
    qc_histogram_prefix_done(&p);
    /* The bins hold other values than pass 1 saw (`inference: quantized`): not known. */
    int bin = qc_histogram_bin(&t.fine, 0.147683889f);
    t.fine.counts[bin + 1] += t.fine.counts[bin];
    t.fine.counts[bin] = 0;
    p = prefix_of(&t);
    ck_assert_int_eq(p.n_known, 1);
    qc_histogram_prefix_done(&p);
    /* One value off by its last bit is no constant channel. */
    channels[1].sum = (struct qd_exact){0, false};
    for (int i = 0; i < PER; i++) {
        qd_exact_add(&channels[1].sum, i == 7 ? (double)nextafterf(-0.25f, 0.0f) : -0.25);
    }
    p = prefix_of(&t);
    ck_assert_int_eq(p.n_known, 0);
    qc_histogram_prefix_done(&p);
    qd_arena_done(&arena);
}
END_TEST

/* Values on the edges of coarse bins: k/255 is j/75 for every 17th k, and 1/75 is no float. The
 * edges lie on the grid of the fine bins, so that both forms know the side. */
START_TEST(calibrate__pixels_on_coarse_edges__chooses_as_the_naive_form)
{
    enum { M = 15 * 400 };
    static float v[M];
    struct tally tally[3] = {0};
    for (int i = 0; i < M; i++) {
        float x = (float)(17 * (i % 15 + 1)) / 255.0f;
        v[i] = _i == 1 && i % 2 == 1 ? -x : x;
    }
    struct qc_search search = DEFAULTS;
    struct qc_tensor_statistics t;
    struct qd_arena arena;
    qd_arena_init(&arena, 0);
    describe(&t, v, M, 1, &arena);
    tabulate(&t, v, M, &arena);
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        search.symmetric = symmetric == 1;
        compare_divergences(v, M, &search, &t, &tally[0]);
    }
    ck_assert_int_eq(tally[0].n_same, tally[0].n);
    qd_arena_done(&arena);
}
END_TEST

Suite *test_calib_naive_suite(void);
Suite *test_calib_naive_suite(void)
{
    Suite *s = suite_create("test_calib_naive");
    TCase *c = tcase_create("naive");
    tcase_add_test(c, prefix_upto__even_values__counts_them);
    tcase_add_test(c, prefix_upto__table_of_values__counts_as_quantization_does);
    tcase_add_test(c, prefix_upto__constant_channel__goes_whole);
    tcase_add_test(c, prefix_error__all_values_known__theirs);
    tcase_add_loop_test(c, calibrate__pixels_on_coarse_edges__chooses_as_the_naive_form, 0, 2);
    tcase_add_loop_test(c, calibrate__known_shapes__chooses_as_the_naive_form, 0, 2);
    tcase_add_test(c, calibrate__activations_of_the_example__chooses_as_the_naive_form);
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    return s;
}
