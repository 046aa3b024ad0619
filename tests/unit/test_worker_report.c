/* A report made by hand in the forms that leave the process. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_report.h"

static struct qc_calibration_row calibration[] = {
    {.tensor = "x",
     .op_type = "Input",
     .dtype = "u8",
     .source = "calibrated",
     .scale = 0.25f,
     .zero_point = 3,
     .lo = -0.75,
     .hi = 63.0,
     .min = -1.0,
     .max = 64.0,
     .mean = 2.0,
     .std = 0.5,
     .count = 1000,
     .clipped_share = 0.01},
    {.tensor = "r",
     .op_type = "Relu",
     .dtype = "u8",
     .source = "calibrated",
     .scale = 1.0f,
     .lo = 0.0,
     .hi = 255.0,
     .min = 0.0,
     .max = INFINITY,
     .mean = NAN,
     .std = NAN,
     .count = 0},
};
static struct qc_layer_row layers[] = {
    {.node = "c1",
     .op_type = "Conv",
     .output = "a",
     .precision = "int8",
     .reason = "",
     .local_sqnr_db = 40.0,
     .cumulative_sqnr_db = 39.0,
     .cosine = 0.999,
     .max_error = 0.1,
     .saturated_share = 0.0,
     .weight_sqnr_db = 45.0,
     .n_weights = 54,
     .n_dead_channels = 2,
     .n_saturating_pairs = 7},
    {.node = "c2",
     .op_type = "Gemm",
     .output = "b\xc3\xa9",
     .precision = "int8",
     .reason = "",
     .local_sqnr_db = 20.0,
     .cumulative_sqnr_db = 19.5,
     .cosine = 0.9,
     .max_error = 1.0,
     .saturated_share = 0.5,
     .weight_sqnr_db = 30.0,
     .n_weights = 6,
     .f32_bias = true},
    {.node = "s",
     .op_type = "Softmax",
     .output = "y",
     .precision = "f32",
     .reason = "no integer kernel",
     .local_sqnr_db = NAN,
     .cumulative_sqnr_db = INFINITY,
     .cosine = NAN,
     .max_error = NAN,
     .saturated_share = NAN,
     .weight_sqnr_db = NAN},
};
static struct qc_output_row outputs[] = {
    {.name = "y",
     .sqnr_db = 33.5,
     .cosine = 0.9995,
     .max_error = 0.25,
     .top1_agreement = 0.985,
     .top5_agreement = 1.0,
     .accuracy_f32 = 0.9,
     .accuracy_int8 = 0.875,
     .accuracy_ci95 = 0.02},
    {.name = "aux",
     .sqnr_db = INFINITY,
     .cosine = 1.0,
     .max_error = 0.0,
     .top1_agreement = NAN,
     .top5_agreement = NAN,
     .accuracy_f32 = NAN,
     .accuracy_int8 = NAN,
     .accuracy_ci95 = NAN},
};
static const char *warnings[] = {"something \"odd\"\\"};

static struct qc_report report(void)
{
    return (struct qc_report){.model_name = "net",
                              .opset_in = 11,
                              .opset_out = 13,
                              .isa = "avx2",
                              .n_threads = 2,
                              .n_calibration = 80,
                              .n_verification = 20,
                              .verification_held_back = true,
                              .size_in = 4000,
                              .size_out = 1000,
                              .total_seconds = 1.5,
                              .peak_arena_bytes = 123456,
                              .phase_seconds = {[QC_PHASE_PASS1] = 0.25},
                              .calibration = calibration,
                              .n_calibration_rows = 2,
                              .layers = layers,
                              .n_layers = 3,
                              .outputs = outputs,
                              .n_outputs = 2,
                              .warnings = warnings,
                              .n_warnings = 1,
                              .n_nodes_int8 = 2,
                              .n_nodes_f32 = 1,
                              .gate_passed = true};
}

/* The text of JSON at a path of names and indices: "outputs/0/name". */
static const json_t *at(const json_t *json, const char *path)
{
    char copy[128], *rest = copy;
    snprintf(copy, sizeof(copy), "%s", path);
    for (char *key = strsep(&rest, "/"); key != NULL; key = strsep(&rest, "/")) {
        json = json_is_array(json) ? json_array_get(json, (size_t)atoi(key))
                                   : json_object_get(json, key);
    }
    ck_assert_msg(json != NULL, "no %s", path);
    return json;
}
#define INT(path)  json_integer_value(at(json, path))
#define REAL(path) json_real_value(at(json, path))
#define TEXT(path) json_string_value(at(json, path))

START_TEST(worker_report_json__every_number__where_clients_look)
{
    struct qc_report r = report();
    json_t *json = worker_report_json(&r);
    ck_assert_ptr_nonnull(json);
    ck_assert_str_eq(TEXT("model"), "net");
    ck_assert_int_eq(INT("opset/in"), 11);
    ck_assert_int_eq(INT("bytes/out"), 1000);
    ck_assert_int_eq(INT("nodes/int8"), 2);
    ck_assert_int_eq(INT("n_verification"), 20);
    ck_assert(json_is_true(at(json, "verification_held_back")));
    ck_assert_double_eq(REAL("phase_seconds/pass1"), 0.25);
    ck_assert_uint_eq(json_object_size(at(json, "phase_seconds")), QC_PHASE_COUNT);
    ck_assert_double_eq(REAL("outputs/0/top1_agreement"), 0.985);
    ck_assert_double_eq(REAL("outputs/0/accuracy_int8"), 0.875);
    ck_assert_str_eq(TEXT("warnings/0"), "something \"odd\"\\");
    ck_assert_str_eq(TEXT("layers/1/output"), "b\xc3\xa9");
    ck_assert_int_eq(INT("layers/0/dead_channels"), 2);
    ck_assert_int_eq(INT("layers/0/saturating_pairs"), 7);
    ck_assert(json_is_true(at(json, "layers/1/f32_bias")));
    ck_assert_str_eq(TEXT("layers/2/reason"), "no integer kernel");
    json_decref(json);
}
END_TEST

START_TEST(worker_report_json__not_measured_or_infinite__null)
{
    static const char *const paths[] = {"layers/2/local_sqnr_db", "layers/2/cumulative_sqnr_db",
                                        "layers/2/weight_sqnr_db", "outputs/1/sqnr_db",
                                        "outputs/1/accuracy_f32"};
    struct qc_report r = report();
    json_t *json = worker_report_json(&r);
    for (size_t i = 0; i < QD_COUNT_OF(paths); i++) {
        ck_assert_msg(json_is_null(at(json, paths[i])), "%s", paths[i]);
    }
    char *text = json_dumps(json, 0); /* JSON has no word for NaN: this would fail */
    ck_assert_ptr_nonnull(text);
    free(text);
    json_decref(json);
}
END_TEST

START_TEST(worker_report_calibration__rows__as_frames_take_them)
{
    struct qc_report r = report();
    json_t *json = worker_report_calibration(&r);
    ck_assert_uint_eq(json_array_size(json), 2);
    ck_assert_str_eq(TEXT("0/tensor"), "x");
    ck_assert_str_eq(TEXT("0/op_type"), "Input");
    ck_assert_double_eq(REAL("0/scale"), 0.25);
    ck_assert_int_eq(INT("0/zero_point"), 3);
    ck_assert_double_eq(REAL("0/hi"), 63.0);
    ck_assert_int_eq(INT("0/count"), 1000);
    ck_assert(json_is_null(at(json, "1/max")));
    json_decref(json);
}
END_TEST

START_TEST(worker_report__empty__still_complete)
{
    struct qc_report r = {.model_name = "", .isa = "ref"};
    json_t *json = worker_report_json(&r), *layers_json = worker_report_layers(&r);
    char *text = worker_report_text(&r);
    ck_assert_ptr_nonnull(json);
    ck_assert_uint_eq(json_array_size(layers_json), 0);
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_null(strstr(text, "worst layers"));
    free(text);
    json_decref(layers_json);
    json_decref(json);
}
END_TEST

START_TEST(worker_report_text__report__what_a_person_wants)
{
    struct qc_report r = report();
    char *text = worker_report_text(&r);
    ck_assert_ptr_nonnull(text);
    static const char *const parts[] = {
        "net: 4000 -> 1000 bytes (4.00x smaller), 2 operators on integers, 1 in f32\n",
        "calibrated on 80 samples, verified on 20 held back\n",
        "output y: SQNR 33.50 dB, cosine 0.999500\n",
        "top-1 agreement with f32  98.50 %\n",
        "f32 90.00 %, INT8 87.50 % (+- 2.00)\n",
        "pass1 0.250",
        "total 1.500\n",
        "warning: something \"odd\"\\\n",
    };
    for (size_t i = 0; i < QD_COUNT_OF(parts); i++) {
        ck_assert_msg(strstr(text, parts[i]) != NULL, "no '%s' in:\n%s", parts[i], text);
    }
    /* The worst comes first, what was not measured does not come. */
    char *worst = strstr(text, "worst layers");
    ck_assert_ptr_nonnull(worst);
    /* Layers have the names that the API, warnings and `exclude.nodes` know them by. */
    ck_assert_ptr_nonnull(strstr(worst, "  c1 "));
    ck_assert_ptr_nonnull(strstr(worst, "  c2 "));
    ck_assert(strstr(worst, "  c2 ") < strstr(worst, "  c1 "));
    ck_assert_ptr_null(strstr(worst, "Softmax"));
    /* Of an output that is no classifier's, no accuracy is told. */
    const char *aux = strstr(text, "output aux");
    ck_assert_ptr_nonnull(aux);
    ck_assert_ptr_null(strstr(aux, "accuracy"));
    free(text);
}
END_TEST

Suite *test_worker_report_suite(void)
{
    Suite *s = suite_create("worker_report");
    TCase *t = tcase_create("worker_report");
    tcase_add_test(t, worker_report_json__every_number__where_clients_look);
    tcase_add_test(t, worker_report_json__not_measured_or_infinite__null);
    tcase_add_test(t, worker_report_calibration__rows__as_frames_take_them);
    tcase_add_test(t, worker_report__empty__still_complete);
    tcase_add_test(t, worker_report_text__report__what_a_person_wants);
    suite_add_tcase(s, t);
    return s;
}
