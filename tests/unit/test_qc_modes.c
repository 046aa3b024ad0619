/* The modes without calibration from outside: the pipeline on a model's bytes, their names. */
#include <math.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/quantcore.h"
#include "test_graph_build.h"
#include "worker/worker_spec.h"

Suite *test_qc_modes_suite(void);

enum { X_SIZE = 72 };

static uint32_t seed;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

static int weights(struct tg *t, const char *name, int rank, int a, int b)
{
    struct qc_tensor *tensor = tg_tensor(t, QC_F32, rank, (int64_t[]){a, b});
    for (size_t i = 0; i < qc_shape_elements(&tensor->shape); i++) {
        ((float *)tensor->data)[i] = noise();
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t->g, name, tensor, &v, &t->err), QD_OK);
    return v;
}

/* One layer that makes most of the file. */
static struct qd_bytes model_bytes(struct tg *t)
{
    struct qd_bytes bytes;
    seed = 21;
    int x = tg_input(t, "x", 2, -1, X_SIZE);
    int y = tg_node(t, "fc", QC_OP_GEMM, 3, x, weights(t, "w", 2, X_SIZE, 200),
                    weights(t, "b", 1, 200, 1));
    y = tg_node(t, "relu", QC_OP_RELU, 1, y);
    tg_output(t, y);
    tg_bind(t);
    t->g->opset = 13;
    ck_assert_int_eq(qc_onnx_export(t->g, &t->arena, &bytes, &t->err), QD_OK);
    return bytes;
}

static enum qd_code quantize(struct tg *t, struct qd_bytes model,
                             const struct qc_options *options, struct qd_bytes *artifact,
                             struct qc_report **report)
{
    struct qc_job job = {.model = model, .threads = qc_threads_none()};
    return qc_quantize(&job, options, &t->arena, artifact, report, &t->err);
}

START_TEST(qc_quantize__mode_without_data__a_quarter_and_an_honest_report)
{
    for (int mode = QC_MODE_WEIGHT_ONLY; mode <= QC_MODE_DYNAMIC; mode++) {
        struct tg t;
        struct qd_bytes artifact;
        struct qc_report *report = NULL;
        struct qc_options options;
        tg_init(&t);
        struct qd_bytes model = model_bytes(&t);
        qc_options_init(&options);
        options.mode = (enum qc_mode)mode;
        enum qd_code code = quantize(&t, model, &options, &artifact, &report);
        ck_assert_msg(code == QD_OK, "%s", t.err.message);
        double share = (double)artifact.size / (double)model.size;
        ck_assert_msg(share < 0.30, "%zu of %zu bytes", artifact.size, model.size);
        ck_assert_int_eq(report->mode, options.mode);
        ck_assert_int_eq(report->n_calibration, 0);
        ck_assert_int_eq(report->n_verification, 0);
        ck_assert_int_eq(report->n_nodes_int8, 1);
        ck_assert_str_eq(report->layers[0].precision,
                         mode == QC_MODE_DYNAMIC ? "int8" : "int8_weights");
        ck_assert(isnan(report->outputs[0].sqnr_db) && isnan(report->outputs[0].max_error));
        ck_assert(report->layers[0].weight_sqnr_db > 40);
        /* The artifact runs, and gives what the model gives. */
        struct qc_runner *before = NULL, *after = NULL;
        float x[X_SIZE], a[200], b[200], *pa = a, *pb = b;
        const float *px = x;
        double error = 0, signal = 0;
        for (int i = 0; i < X_SIZE; i++) {
            x[i] = noise();
        }
        ck_assert_int_eq(
            qc_runner_new(model, NULL, QC_ENGINE_F32, QC_ISA_AVX512, &t.arena, &before, &t.err), QD_OK);
        ck_assert_int_eq(
            qc_runner_new(artifact, NULL, QC_ENGINE_F32, QC_ISA_AVX512, &t.arena, &after, &t.err),
            QD_OK);
        ck_assert_int_eq(qc_runner_run(before, &px, &pa, &t.err), QD_OK);
        ck_assert_int_eq(qc_runner_run(after, &px, &pb, &t.err), QD_OK);
        for (int i = 0; i < 200; i++) {
            signal += (double)a[i] * (double)a[i];
            error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        }
        ck_assert_msg(error > 0 && error < 1e-3 * signal, "%g of %g", error, signal);
        tg_done(&t);
    }
}
END_TEST

START_TEST(qc_quantize__mode__what_does_not_go_together_is_named)
{
    static const struct qc_table_row row = {.tensor = "x", .scale = 1};
    struct tg t;
    struct qd_bytes artifact;
    struct qc_report *report = NULL;
    struct qc_options options;
    tg_init(&t);
    struct qd_bytes model = model_bytes(&t);
    qc_options_init(&options);
    ck_assert_int_eq(quantize(&t, model, &options, &artifact, &report), QD_INVALID);
    ck_assert_str_eq(t.err.message, "calibration data are missing: mode static needs them, "
                                    "or the statistics of another run");
    options.mode = QC_MODE_DYNAMIC;
    options.gate_min_sqnr_db = 20;
    ck_assert_int_eq(quantize(&t, model, &options, &artifact, &report), QD_INVALID);
    ck_assert_str_eq(t.err.message,
                     "a gate needs data: mode dynamic without any verifies nothing");
    options.gate_min_sqnr_db = 0;
    struct qc_job job = {
        .model = model, .table = &row, .n_table = 1, .threads = qc_threads_none()};
    ck_assert_int_eq(qc_quantize(&job, &options, &t.arena, &artifact, &report, &t.err),
                     QD_INVALID);
    ck_assert_ptr_nonnull(strstr(t.err.message, "a calibration table has no use there"));
    struct qc_check *check = NULL;
    job.n_table = 0;
    ck_assert_int_eq(qc_check(&job, &options, &t.arena, &check, &t.err), QD_OK);
    ck_assert_int_eq(check->n_nodes_int8, 1);
    ck_assert_int_eq((int)check->n_calibration, 0);
    tg_done(&t);
}
END_TEST

START_TEST(qc_mode_from_name__names__both_ways)
{
    enum qc_mode mode;
    for (int i = 0; i < QC_MODE_COUNT; i++) {
        ck_assert(qc_mode_from_name(qc_mode_name((enum qc_mode)i), &mode));
        ck_assert_int_eq((int)mode, i);
    }
    ck_assert(!qc_mode_from_name("Dynamic", &mode));
    ck_assert(!qc_mode_from_name("", &mode));
}
END_TEST

START_TEST(worker_spec_parse__mode__set_or_refused_by_name)
{
    struct worker_spec s;
    struct qd_error err;
    json_t *config = json_pack("{s:s}", "mode", "weight_only");
    ck_assert_int_eq(worker_spec_parse(config, &s, &err), QD_OK);
    ck_assert_int_eq(s.options.mode, QC_MODE_WEIGHT_ONLY);
    json_object_set_new(config, "mode", json_string("int8"));
    ck_assert_int_eq(worker_spec_parse(config, &s, &err), QD_INVALID);
    ck_assert_str_eq(err.message, "/mode is 'int8', allowed: static, weight_only, dynamic");
    json_decref(config);
    ck_assert_int_eq(worker_spec_parse(NULL, &s, &err), QD_OK);
    ck_assert_int_eq(s.options.mode, QC_MODE_STATIC);
}
END_TEST

Suite *test_qc_modes_suite(void)
{
    Suite *suite = suite_create("test_qc_modes");
    TCase *tcase = tcase_create("pipeline");
    tcase_add_test(tcase, qc_quantize__mode_without_data__a_quarter_and_an_honest_report);
    tcase_add_test(tcase, qc_quantize__mode__what_does_not_go_together_is_named);
    tcase_add_test(tcase, qc_mode_from_name__names__both_ways);
    tcase_add_test(tcase, worker_spec_parse__mode__set_or_refused_by_name);
    suite_add_tcase(suite, tcase);
    return suite;
}
