/* The number formats: schemes of activations, ranges and granularity of weights, an input's range
 * from its normalization. Whole runs use the example network (examples/fashion-mnist). */
#include <math.h>
#include <stdio.h>

#include "quantcore/quant/quantize_graph.h"
#include "quantcore/quantcore.h"
#include "tests/lib/data_files.h"
#include "tests/unit/test_graph_build.h"

/* ---- the pairs ---------------------------------------------------------------------------- */

static const struct qc_weight_format narrow = {.bits = QC_WEIGHT_BITS};
static const struct qc_weight_format full = {.form = QC_WEIGHTS_FULL, .bits = QC_WEIGHT_BITS};

START_TEST(qparams_choose__schemes__documented_pairs)
{
    struct qc_qparams u, p;
    qc_qparams_asymmetric_u8(-1, 3, &u);
    qc_qparams_choose((struct qc_scheme){false, false}, -1, 3, &p);
    ck_assert(p.scale == u.scale && p.zero_point == u.zero_point && !p.is_s8);
    qc_qparams_choose((struct qc_scheme){true, false}, -1, 3, &p);
    ck_assert(p.scale == u.scale && p.zero_point == u.zero_point - 128 && p.is_s8);
    qc_qparams_choose((struct qc_scheme){true, true}, -1, 3, &p);
    ck_assert(p.scale == (float)(3 / 127.0) && p.zero_point == 0 && p.is_s8);
    qc_qparams_choose((struct qc_scheme){false, true}, -4, 3, &p);
    ck_assert(p.scale == (float)(4 / 127.0) && p.zero_point == 128 && !p.is_s8);
    qc_qparams_choose((struct qc_scheme){true, true}, 0, 0, &p);
    ck_assert(p.scale == 1.0f && p.zero_point == 0);
}
END_TEST

START_TEST(quantize_weights__full_range__minus_128_and_clipped_top)
{
    static const float w[] = {-2.55f, 2.55f, 1.0f, 0};
    struct qd_arena arena;
    struct qc_quantized_weights q;
    struct qc_shape shape = {.rank = 2, .dim = {1, 4}};
    struct qc_tensor *t = NULL;
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &shape, &t, NULL), QD_OK);
    memcpy(t->data, w, sizeof(w));
    ck_assert_int_eq(qc_quantize_weights(t, 0, &full, &arena, &q, NULL), QD_OK);
    ck_assert(q.scale[0] == (float)((double)2.55f / 127.5));
    const int8_t *code = q.q->data;
    ck_assert_int_eq(code[0], -128);
    ck_assert_int_eq(code[1], 127);
    ck_assert_int_eq(code[2], 50);
    ck_assert_int_eq(qc_quantize_weights(t, 0, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(((const int8_t *)q.q->data)[0], -127);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(options_normalization__one_channel__scale_and_zero_point_of_the_formula)
{
    struct qc_options o;
    struct qc_qparams p;
    qc_options_init(&o);
    struct qc_preprocess pre = {.n_mean = 1, .mean = {104}, .n_std = 1, .std = {4}};
    qc_options_normalization(&o, &pre);
    ck_assert(o.input_lo == -26 && o.input_hi == 37.75);
    qc_qparams_asymmetric_u8(o.input_lo, o.input_hi, &p);
    ck_assert(p.scale == 0.25f && p.zero_point == 104);
    qc_options_normalization(&o, &(struct qc_preprocess){0});
    ck_assert(o.input_lo == 0 && o.input_hi == 255);
}
END_TEST

START_TEST(options_normalization__channels__widest)
{
    struct qc_options o;
    qc_options_init(&o);
    struct qc_preprocess pre = {.has_scale = true,
                                .scale = 0.5f,
                                .n_mean = 3,
                                .mean = {10, 50, 0},
                                .n_std = 3,
                                .std = {1, 2, 4}};
    qc_options_normalization(&o, &pre);
    ck_assert(o.input_lo == -25);   /* -50 / 2 */
    ck_assert(o.input_hi == 117.5); /* (127.5 - 10) / 1 */
    pre = (struct qc_preprocess){.has_scale = true, .scale = -1};
    qc_options_normalization(&o, &pre);
    ck_assert(o.input_lo == -255 && o.input_hi == 0);
}
END_TEST

START_TEST(options_check__range_upside_down__named)
{
    struct qc_options o;
    struct qd_error err;
    qc_options_init(&o);
    o.input_from_normalization = true;
    o.input_lo = 1;
    o.input_hi = 0;
    ck_assert_int_eq(qc_options_check(&o, &err), QD_INVALID);
    ck_assert_str_eq(err.subject, "input_hi");
    o.input_lo = NAN;
    ck_assert_int_eq(qc_options_check(&o, &err), QD_INVALID);
    ck_assert_str_eq(err.subject, "input_lo");
}
END_TEST

/* ---- granularity -------------------------------------------------------------------------- */

START_TEST(quantize_graph__dense_per_tensor__convs_keep_their_channels)
{
    struct tg t;
    struct qc_quantize_plan *plan = NULL;
    struct qc_qparams *pairs = NULL;
    struct qc_quantized_graph *q = NULL;
    struct qc_range ranges[32];
    tg_init(&t);
    int x = tg_input(&t, "x", 4, 1, 2, 1, 1);
    int c = tg_node(&t, "conv", QC_OP_CONV, 2, x, tg_floats(&t, "w", -1, 0.3f, 4, 3, 2, 1, 1));
    int f = tg_node(&t, "flat", QC_OP_FLATTEN, 1, c);
    tg_output(&t, tg_node(&t, "fc", QC_OP_GEMM, 2, f, tg_floats(&t, "v", -1, 0.3f, 2, 3, 4)));
    tg_bind(&t);
    for (int v = 0; v < t.g->n_values; v++) {
        ranges[v] = (struct qc_range){.lo = -1, .hi = 1};
    }
    for (int dense = 0; dense < 2; dense++) {
        struct qc_quantize_options o = {.weights_per_channel = true,
                                        .dense_per_channel = dense == 1,
                                        .activations = {.is_s8 = true, .symmetric = true}};
        ck_assert_int_eq(qc_quantize_plan_new(t.g, &o, &t.arena, &plan, &t.err), QD_OK);
        ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &t.arena, &pairs, &t.err), QD_OK);
        ck_assert(pairs[x].is_s8 && pairs[x].zero_point == 0);
        ck_assert_int_eq(qc_quantize_graph(plan, pairs, NULL, NULL, &t.arena, &q, &t.err), QD_OK);
        ck_assert_int_eq(q->weights[0]->n_scales, 3);
        ck_assert_int_eq(q->weights[2]->n_scales, dense == 1 ? 4 : 1);
    }
    tg_done(&t);
}
END_TEST

/* ---- whole runs --------------------------------------------------------------------------- */

enum { N_SAMPLES = 20, PIXELS = 784 };

static struct qc_reader *images(const struct qc_preprocess *preprocess)
{
    static uint8_t x[N_SAMPLES * PIXELS];
    struct qc_reader *reader = NULL;
    struct qd_error err;
    for (int i = 0; i < N_SAMPLES * PIXELS; i++) {
        /* blobs, not noise: stripes of a width and brightness of their own */
        int s = i / PIXELS, row = i % PIXELS / 28, column = i % 28;
        x[i] = (uint8_t)((row * (s % 5 + 1) + column * (s % 3 + 1)) % 28 < 14 ? 255 - 9 * s : 0);
    }
    struct test_bytes npy = test_npy("|u1", "False", "(20, 1, 28, 28)", x, sizeof(x));
    char *path = test_write("formats.npy", npy.data, npy.size);
    struct qc_reader_input input = {.name = "x", .rank = 3, .dim = {1, 28, 28}};
    struct qc_reader_options options = {
        .inputs = &input, .n_inputs = 1, .preprocess = *preprocess};
    ck_assert_msg(qc_reader_open(path, "formats.npy", &options, &reader, &err) == QD_OK, "%s",
                  err.message);
    free(npy.data);
    free(path);
    return reader;
}

static const struct qc_report *run(const struct qc_options *options,
                                   const struct qc_preprocess *preprocess, struct qd_arena *arena)
{
    static uint8_t model[1 << 20];
    struct qd_error err;
    struct qd_bytes artifact;
    struct qc_report *report = NULL;
    FILE *f = fopen("examples/fashion-mnist/model.onnx", "rb");
    ck_assert_msg(f != NULL, "run from the repository root");
    size_t size = fread(model, 1, sizeof(model), f);
    fclose(f);
    struct qc_job job = {
        .model = {model, size}, .calibration = images(preprocess), .threads = qc_threads_none()};
    enum qd_code code = qc_quantize(&job, options, arena, &artifact, &report, &err);
    ck_assert_msg(code == QD_OK, "%s", err.message);
    qc_reader_free(job.calibration);
    test_files_done();
    return report;
}

/* The artifact is read back and run by the integer engine: a format that it did not understand
 * would give noise. */
START_TEST(quantize__every_format__runs_and_keeps_the_signal)
{
    struct qd_arena arena;
    struct qc_options o;
    struct qc_preprocess pre = {.has_scale = true, .scale = 1 / 255.0f};
    qd_arena_init(&arena, 0);
    qc_options_init(&o);
    o.activations = (struct qc_scheme){.is_s8 = (_i & 1) != 0, .symmetric = (_i & 2) != 0};
    o.weights_full_range = (_i & 4) != 0;
    o.dense_per_channel = (_i & 8) == 0;
    o.weights_asymmetric = (_i & 16) != 0;
    o.quantize_last_output = true;
    const struct qc_report *r = run(&o, &pre, &arena);
    ck_assert_msg(r->outputs[0].sqnr_db > 24, "%g dB", r->outputs[0].sqnr_db);
    for (int i = 0; i < r->n_calibration_rows; i++) {
        const struct qc_calibration_row *c = &r->calibration[i];
        ck_assert_str_eq(c->dtype, o.activations.is_s8 ? "s8" : "u8");
        ck_assert_str_eq(c->source, "calibrated");
        ck_assert(!o.activations.symmetric ||
                  (c->lo == -c->hi && c->zero_point == (o.activations.is_s8 ? 0 : 128)));
    }
    qd_arena_done(&arena);
}
END_TEST

START_TEST(quantize__input_from_normalization__pair_of_mean_and_std)
{
    struct qd_arena arena;
    struct qc_options o;
    struct qc_preprocess pre = {.n_mean = 1, .mean = {64}, .n_std = 1, .std = {128}};
    qd_arena_init(&arena, 0);
    qc_options_init(&o);
    o.input_from_normalization = true;
    qc_options_normalization(&o, &pre);
    const struct qc_report *r = run(&o, &pre, &arena);
    const struct qc_calibration_row *c = &r->calibration[0];
    ck_assert_str_eq(c->op_type, "Input");
    ck_assert_str_eq(c->source, "normalization");
    ck_assert(c->scale == 1 / 128.0f);
    ck_assert_int_eq(c->zero_point, 64);
    ck_assert(c->clipped_share == 0);
    ck_assert_str_eq(r->calibration[1].source, "calibrated");
    /* declared for other data than there are: said */
    struct qc_preprocess none = {0};
    r = run(&o, &none, &arena);
    bool said = false;
    for (int i = 0; i < r->n_warnings; i++) {
        said = said || strstr(r->warnings[i], "mean and std promise -0.5 to") != NULL;
    }
    ck_assert(said);
    qd_arena_done(&arena);
}
END_TEST

Suite *test_quant_formats_suite(void)
{
    Suite *s = suite_create("quant_formats");
    TCase *tc = tcase_create("quant_formats");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, qparams_choose__schemes__documented_pairs);
    tcase_add_test(tc, quantize_weights__full_range__minus_128_and_clipped_top);
    tcase_add_test(tc, options_normalization__one_channel__scale_and_zero_point_of_the_formula);
    tcase_add_test(tc, options_normalization__channels__widest);
    tcase_add_test(tc, options_check__range_upside_down__named);
    tcase_add_test(tc, quantize_graph__dense_per_tensor__convs_keep_their_channels);
    tcase_add_loop_test(tc, quantize__every_format__runs_and_keeps_the_signal, 0, 32);
    tcase_add_test(tc, quantize__input_from_normalization__pair_of_mean_and_std);
    suite_add_tcase(s, tc);
    return s;
}
