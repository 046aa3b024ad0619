/* Networks from the corpus of the model target (make_model_corpus.py), run on single samples. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quantcore/quantcore.h"

static struct qd_arena arena;
static struct qd_error err;
static struct qc_runner *runner;

static enum qd_code open_model(const char *name, enum qc_engine engine)
{
    static uint8_t data[4096];
    char path[256];
    snprintf(path, sizeof(path), "tests/fuzz/corpus/model/%s.onnx", name);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "run from the repository root: no %s", path);
    struct qd_bytes model = {data, fread(data, 1, sizeof(data), f)};
    fclose(f);
    return qc_runner_new(model, NULL, engine, QC_ISA_AVX512, &arena, &runner, &err);
}

static void setup(void)
{
    qd_arena_init(&arena, 0);
    memset(&err, 0, sizeof(err));
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

START_TEST(qc_runner_run__classifier__softmax_sums_to_one)
{
    float x[50], y[2] = {0};
    const float *inputs[] = {x};
    float *outputs[] = {y};
    for (int i = 0; i < 50; i++) {
        x[i] = (float)(i % 7) - 3.0f;
    }
    ck_assert_msg(open_model("conv_net", QC_ENGINE_F32) == QD_OK, "%s", err.message);
    ck_assert_msg(qc_runner_run(runner, inputs, outputs, &err) == QD_OK, "%s", err.message);
    ck_assert(fabsf(y[0] + y[1] - 1.0f) < 1e-6f && y[0] > 0.0f && y[1] > 0.0f);
}
END_TEST

START_TEST(qc_runner_run__qdq__integers_agree_with_f32)
{
    float x[50], f32[75], int8[75];
    const float *inputs[] = {x};
    for (int i = 0; i < 50; i++) {
        x[i] = (float)(i % 13) * 0.7f - 4.0f;
    }
    ck_assert_msg(open_model("qdq_net", QC_ENGINE_F32) == QD_OK, "%s", err.message);
    ck_assert_msg(qc_runner_run(runner, inputs, (float *[]){f32}, &err) == QD_OK, "%s",
                  err.message);
    ck_assert_msg(open_model("qdq_net", QC_ENGINE_INT8) == QD_OK, "%s", err.message);
    ck_assert_msg(qc_runner_run(runner, inputs, (float *[]){int8}, &err) == QD_OK, "%s",
                  err.message);
    float largest = 0.0f;
    for (int i = 0; i < 75; i++) {
        ck_assert_msg(fabsf(f32[i] - int8[i]) <= 0.0501f, "%d: %g, %g", i, (double)f32[i],
                      (double)int8[i]); /* at most one step of 0.05 */
        largest = fmaxf(largest, int8[i]);
    }
    ck_assert(largest > 0.1f);
}
END_TEST

START_TEST(qc_runner_new__no_quantized_operator__refused)
{
    ck_assert_int_eq(open_model("conv_net", QC_ENGINE_INT8), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "not quantized"));
}
END_TEST

/* A caller makes room for one sample: more than that may not come. */
START_TEST(qc_runner_new__output_is_no_sample__refused)
{
    ck_assert_int_eq(open_model("batch_net", QC_ENGINE_F32), QD_UNSUPPORTED);
    ck_assert_str_eq(err.subject, "y");
    ck_assert_int_eq(open_model("shape_net", QC_ENGINE_F32), QD_UNSUPPORTED);
    ck_assert_str_eq(err.subject, "y");
}
END_TEST

Suite *test_runner_suite(void)
{
    Suite *s = suite_create("runner");
    TCase *t = tcase_create("runner");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, qc_runner_run__classifier__softmax_sums_to_one);
    tcase_add_test(t, qc_runner_run__qdq__integers_agree_with_f32);
    tcase_add_test(t, qc_runner_new__no_quantized_operator__refused);
    tcase_add_test(t, qc_runner_new__output_is_no_sample__refused);
    suite_add_tcase(s, t);
    return s;
}
