/* The tables of the report after a whole run of a small network (tests/fuzz/corpus/model). */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/quantcore.h"
#include "tests/lib/data_files.h"

#define N_SAMPLES 10
#define N_INPUT   50 /* elements of x[N,2,5,5] */

static struct qd_arena arena;
static struct qd_error err;
static struct qc_options options;
static struct qd_bytes artifact;
static struct qc_report *report;
static struct qc_reader *calibration, *validation;

static void setup(void)
{
    qd_arena_init(&arena, 0);
    qc_options_init(&options);
    err = (struct qd_error){.code = QD_OK};
    report = NULL;
    calibration = validation = NULL;
}

static void teardown(void)
{
    qc_reader_free(calibration);
    qc_reader_free(validation);
    qd_arena_done(&arena);
    test_files_done();
}

/* Values in [-2, 3]; each sample has both ends. */
static struct qc_reader *open_samples(const char *name, bool constant, const char *labels)
{
    static float x[N_SAMPLES * N_INPUT];
    static const struct qc_reader_input input = {.name = "x", .rank = 3, .dim = {2, 5, 5}};
    const struct qc_reader_options o = {.inputs = &input, .n_inputs = 1, .labels_path = labels};
    struct qc_reader *reader = NULL;
    for (int i = 0; i < N_SAMPLES * N_INPUT; i++) {
        x[i] = constant ? 0.5f : -2.0f + 0.125f * (float)((i * 17 + i / N_INPUT * 5) % 41);
    }
    for (int s = 0; s < N_SAMPLES && !constant; s++) {
        x[s * N_INPUT] = -2.0f;
        x[s * N_INPUT + 1] = 3.0f;
    }
    struct test_bytes b = test_npy("<f4", "False", "(10, 2, 5, 5)", x, sizeof(x));
    char *path = test_write(name, b.data, b.size);
    ck_assert_msg(qc_reader_open(path, name, &o, &reader, &err) == QD_OK, "%s", err.message);
    free(b.data);
    free(path);
    return reader;
}

static enum qd_code quantize(const char *network)
{
    static uint8_t data[4096];
    char path[256];
    snprintf(path, sizeof(path), "tests/fuzz/corpus/model/%s.onnx", network);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "run from the repository root: no %s", path);
    const struct qc_job job = {.model = {data, fread(data, 1, sizeof(data), f)},
                               .calibration = calibration,
                               .validation = validation,
                               .threads = qc_threads_none()};
    fclose(f);
    return qc_quantize(&job, &options, &arena, &artifact, &report, &err);
}

static const struct qc_calibration_row *row_of(const char *tensor)
{
    for (int i = 0; i < report->n_calibration_rows; i++) {
        if (strcmp(report->calibration[i].tensor, tensor) == 0) {
            return &report->calibration[i];
        }
    }
    ck_abort_msg("no row for tensor '%s'", tensor);
    return NULL;
}

static const struct qc_layer_row *layer_of(const char *op_type)
{
    for (int i = 0; i < report->n_layers; i++) {
        if (strcmp(report->layers[i].op_type, op_type) == 0) {
            return &report->layers[i];
        }
    }
    ck_abort_msg("no layer %s", op_type);
    return NULL;
}

START_TEST(qc_report_fill__calibration_rows__what_was_seen)
{
    calibration = open_samples("x.npy", false, NULL);
    options.quantize_last_output = true;
    ck_assert_msg(quantize("conv_net") == QD_OK, "%s", err.message);
    const struct qc_calibration_row *x = row_of("x");
    ck_assert_str_eq(x->op_type, "Input");
    ck_assert_str_eq(x->dtype, "u8");
    ck_assert_double_eq(x->min, -2.0);
    ck_assert_double_eq(x->max, 3.0);
    ck_assert_int_eq(x->count, 8 * N_INPUT); /* a fifth is held back */
    ck_assert(x->mean > -2.0 && x->mean < 3.0 && x->std > 0.0);
    ck_assert(x->lo >= x->min && x->hi <= x->max && x->lo < x->hi);
    /* The pair stands for the range: ends within one step. */
    ck_assert_double_eq_tol(x->lo, (0 - x->zero_point) * (double)x->scale, (double)x->scale);
    ck_assert_double_eq_tol(x->hi, (255 - x->zero_point) * (double)x->scale, (double)x->scale);
    ck_assert(x->clipped_share >= 0.0 && x->clipped_share < 0.1);
    /* Behind a Relu nothing is negative. */
    const struct qc_calibration_row *r = row_of("r");
    ck_assert_str_eq(r->op_type, "Conv");
    ck_assert_int_eq(r->zero_point, 0);
    ck_assert_double_eq(r->min, 0.0);
    ck_assert_int_eq(r->count, 8 * 27);
}
END_TEST

START_TEST(qc_report_fill__layer_rows__precision_reason_and_error)
{
    calibration = open_samples("x.npy", false, NULL);
    ck_assert_msg(quantize("conv_net") == QD_OK, "%s", err.message);
    const struct qc_layer_row *conv = layer_of("Conv"), *softmax = layer_of("Softmax");
    ck_assert_str_eq(conv->precision, "int8");
    ck_assert_str_eq(conv->reason, "");
    ck_assert_int_eq(conv->n_weights, 54);
    ck_assert_int_eq(conv->n_channels, 3);
    ck_assert_int_eq(conv->n_weight_scales, 3); /* per channel */
    ck_assert(conv->local_sqnr_db > 25.0 && conv->weight_sqnr_db > 25.0);
    ck_assert(conv->cosine > 0.99 && conv->cosine <= 1.0 + 1e-12);
    ck_assert_str_eq(softmax->precision, "f32");
    ck_assert_str_ne(softmax->reason, "");
    ck_assert(isnan(softmax->weight_sqnr_db) && softmax->n_weights == 0);
    int n_int8 = 0;
    for (int i = 0; i < report->n_layers; i++) {
        n_int8 += strcmp(report->layers[i].precision, "int8") == 0;
    }
    ck_assert_int_eq(report->n_nodes_int8, n_int8);
    ck_assert_int_eq(report->n_nodes_f32, report->n_layers - n_int8);
    ck_assert_uint_eq(report->size_out, artifact.size);
    ck_assert(report->peak_arena_bytes > 0 && report->gate_passed);
}
END_TEST

START_TEST(qc_report_fill__outputs__labels_decide_what_is_measured)
{
    calibration = open_samples("x.npy", false, NULL);
    ck_assert_msg(quantize("conv_net") == QD_OK, "%s", err.message);
    ck_assert_int_eq(report->n_outputs, 1);
    ck_assert_str_eq(report->outputs[0].name, "y");
    ck_assert(report->outputs[0].top1_agreement >= 0.5 && report->outputs[0].sqnr_db > 20.0);
    ck_assert(isnan(report->outputs[0].accuracy_f32) && isnan(report->outputs[0].accuracy_int8));
    ck_assert_int_eq(report->n_verification, 2);
    ck_assert(report->verification_held_back);

    struct test_bytes b = test_npy("|u1", "False", "(10,)", "\0\0\0\0\0\1\1\1\1\1", 10);
    char *labels = test_write("labels.npy", b.data, b.size);
    validation = open_samples("v.npy", false, labels);
    ck_assert_msg(quantize("conv_net") == QD_OK, "%s", err.message);
    const struct qc_output_row *y = &report->outputs[0];
    ck_assert_int_eq(report->n_verification, N_SAMPLES);
    ck_assert_int_eq(report->n_calibration, N_SAMPLES);
    ck_assert(!report->verification_held_back);
    ck_assert(y->accuracy_f32 >= 0.0 && y->accuracy_f32 <= 1.0);
    /* Ten samples: tenths, and the two networks differ where they disagree at most. */
    ck_assert_double_eq_tol(y->accuracy_int8 * 10, rint(y->accuracy_int8 * 10), 1e-9);
    ck_assert(fabs(y->accuracy_f32 - y->accuracy_int8) <= 1.0 - y->top1_agreement + 1e-9);
    ck_assert(y->accuracy_ci95 > 0.0 && y->accuracy_ci95 < 0.5);
    for (int i = 0; i < report->n_warnings; i++) {
        ck_assert_ptr_null(strstr(report->warnings[i], "labels"));
    }
    free(b.data);
    free(labels);
}
END_TEST

START_TEST(qc_report_fill__labels_that_no_class_has__warned)
{
    struct test_bytes b = test_npy("|u1", "False", "(10,)", "\0\0\0\0\0\1\1\1\4\3", 10);
    char *labels = test_write("labels.npy", b.data, b.size);
    int n = 0;
    calibration = open_samples("x.npy", false, NULL);
    validation = open_samples("v.npy", false, labels);
    ck_assert_msg(quantize("conv_net") == QD_OK, "%s", err.message);
    for (int i = 0; i < report->n_warnings; i++) {
        n += strstr(report->warnings[i], "labels are wrong: 2 of 10") != NULL &&
             strstr(report->warnings[i], "output 'y' has 2 classes, the largest is 4") != NULL;
    }
    ck_assert_int_eq(n, 1);
    free(b.data);
    free(labels);
}
END_TEST

static const struct {
    double min_sqnr_db, min_agreement, max_drop;
    const char *reason; /* of a closed gate */
} gates[] = {{0, 0, 0, NULL},
             {10, 0, 0, NULL},
             {99, 0, 0, "min_sqnr_db is 99, measured was "},
             {0, 0.01, 0, NULL},
             {10, 0.01, 0, NULL},
             {0, 0, 0.01, "max_drop is 0.01, but no sample has a label"},
             {99, 0.01, 0.5, "min_sqnr_db is 99, measured was "}};

START_TEST(qc_report_fill__gate__opens_only_for_what_was_measured)
{
    enum qd_code code = gates[_i].reason == NULL ? QD_OK : QD_CONFLICT;
    calibration = open_samples("x.npy", false, NULL);
    options.gate_min_sqnr_db = gates[_i].min_sqnr_db;
    options.gate_min_agreement = gates[_i].min_agreement;
    options.gate_max_drop = gates[_i].max_drop;
    ck_assert_msg(quantize("conv_net") == code, "%s", err.message);
    ck_assert_ptr_nonnull(report); /* after a failed gate too */
    ck_assert_int_eq(report->gate_passed, code == QD_OK);
    if (code == QD_CONFLICT) {
        ck_assert_msg(strstr(err.message, gates[_i].reason) != NULL, "%s", err.message);
        bool warned = false;
        for (int i = 0; i < report->n_warnings; i++) {
            warned = warned || strcmp(report->warnings[i], err.message) == 0;
        }
        ck_assert(warned);
    }
    ck_assert(artifact.size > 0);
}
END_TEST

START_TEST(qc_report_fill__input_is_constant__warned)
{
    calibration = open_samples("x.npy", true, NULL);
    ck_assert_msg(quantize("conv_net") == QD_OK, "%s", err.message);
    ck_assert(row_of("x")->is_constant);
    bool warned = false;
    for (int i = 0; i < report->n_warnings; i++) {
        warned |= strstr(report->warnings[i], "'x' is 0.5 in every") != NULL;
    }
    ck_assert(warned);
}
END_TEST

START_TEST(qc_report_fill__output_is_no_classifier__no_agreement)
{
    calibration = open_samples("x.npy", false, NULL);
    ck_assert_msg(quantize("depthwise_net") == QD_OK, "%s", err.message);
    ck_assert(isnan(report->outputs[0].top1_agreement) &&
              isnan(report->outputs[0].top5_agreement));
    ck_assert(report->outputs[0].cosine > 0.9);
    ck_assert_int_eq(layer_of("Conv")->n_groups, 2);
}
END_TEST

Suite *test_qc_report_rows_suite(void)
{
    Suite *s = suite_create("qc_report_rows");
    TCase *t = tcase_create("qc_report_rows");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, qc_report_fill__calibration_rows__what_was_seen);
    tcase_add_test(t, qc_report_fill__layer_rows__precision_reason_and_error);
    tcase_add_test(t, qc_report_fill__labels_that_no_class_has__warned);
    tcase_add_test(t, qc_report_fill__outputs__labels_decide_what_is_measured);
    tcase_add_loop_test(t, qc_report_fill__gate__opens_only_for_what_was_measured, 0, (int)QD_COUNT_OF(gates));
    tcase_add_test(t, qc_report_fill__input_is_constant__warned);
    tcase_add_test(t, qc_report_fill__output_is_no_classifier__no_agreement);
    suite_add_tcase(s, t);
    return s;
}
