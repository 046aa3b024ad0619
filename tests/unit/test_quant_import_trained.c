/* Trained networks that are quantized already come back as they were. They lie beside the checkout
 * (../shared/data/golden); without them that is said, and nothing is checked. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "quantcore/onnx/onnx_tensor.h"
#include "quantcore/quantcore.h"
#include "tests/lib/data_files.h"

static struct qd_arena memory;

static void setup(void)
{
    qd_arena_init(&memory, 256 << 20);
}

static void teardown(void)
{
    qd_arena_done(&memory);
}

static const char *const networks[] = {"resnet8_int8qdq", "vww_int8qdq"};

static bool read_file(const char *network, const char *name, struct qd_arena *arena,
                      struct qd_bytes *ret)
{
    char path[512];
    snprintf(path, sizeof(path), "../shared/data/golden/%s/%s", network, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        printf("quant_import: %s is absent, not checked\n", path);
        return false;
    }
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = NULL;
    ck_assert_int_eq(qd_arena_alloc(arena, size, &data, NULL), QD_OK);
    ck_assert_uint_eq(fread(data, 1, size, f), size);
    fclose(f);
    *ret = (struct qd_bytes){data, size};
    return true;
}

static struct qc_reader *reader_of(const struct qc_tensor *x)
{
    struct qc_reader *reader = NULL;
    struct qd_error err;
    char shape[80];
    snprintf(shape, sizeof(shape), "(%lld, %lld, %lld, %lld)", (long long)x->shape.dim[0],
             (long long)x->shape.dim[1], (long long)x->shape.dim[2], (long long)x->shape.dim[3]);
    struct test_bytes npy =
        test_npy("<f4", "False", shape, x->data, qc_shape_elements(&x->shape) * sizeof(float));
    char *path = test_write("import.npy", npy.data, npy.size);
    struct qc_reader_input input = {
        .name = "input", .rank = 3, .dim = {x->shape.dim[1], x->shape.dim[2], x->shape.dim[3]}};
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    ck_assert_msg(qc_reader_open(path, "import.npy", &options, &reader, &err) == QD_OK, "%s",
                  err.message);
    free(npy.data);
    free(path);
    return reader;
}

/* Integer codes of both files give the same outputs: the artifact is the model again. */
static void compare_runs(struct qd_bytes model, struct qd_bytes artifact,
                         const struct qc_tensor *x, struct qd_arena *arena)
{
    struct qc_runner *a = NULL, *b = NULL;
    struct qd_error err;
    float ya[64], yb[64];
    ck_assert_msg(qc_runner_new(model, NULL, QC_ENGINE_INT8, QC_ISA_AVX512, arena, &a, &err) == QD_OK,
                  "%s", err.message);
    ck_assert_msg(qc_runner_new(artifact, NULL, QC_ENGINE_INT8, QC_ISA_AVX512, arena, &b, &err) ==
                      QD_OK,
                  "%s", err.message);
    const struct qc_model_info *info = qc_runner_info(b);
    size_t n = (size_t)info->outputs[0].dim[1];
    ck_assert_uint_le(n, QD_COUNT_OF(ya));
    ck_assert_str_eq(info->outputs[0].name, qc_runner_info(a)->outputs[0].name);
    size_t stride = qc_shape_elements(&x->shape) / (size_t)x->shape.dim[0];
    for (int64_t s = 0; s < x->shape.dim[0]; s++) {
        const float *in = (const float *)x->data + (size_t)s * stride;
        ck_assert_int_eq(qc_runner_run(a, &in, (float *[]){ya}, &err), QD_OK);
        ck_assert_int_eq(qc_runner_run(b, &in, (float *[]){yb}, &err), QD_OK);
        ck_assert_mem_eq(ya, yb, n * sizeof(float));
    }
}

START_TEST(quantize__trained_and_quantized_network__the_same_network)
{
    const char *network = networks[_i];
    struct qd_bytes model, input, artifact;
    struct qd_error err;
    struct qc_tensor *x = NULL;
    struct qc_options options;
    struct qc_report *report = NULL;
    if (!read_file(network, "model.onnx", &memory, &model) ||
        !read_file(network, "test_data_set_0/input_0.pb", &memory, &input)) {
        return;
    }
    ck_assert_int_eq(qc_onnx_read_tensor(input, &memory, &x, &err), QD_OK);
    struct qc_reader *reader = reader_of(x);
    struct qc_job job = {.model = model, .calibration = reader, .threads = qc_threads_none()};
    qc_options_init(&options);
    enum qd_code code = qc_quantize(&job, &options, &memory, &artifact, &report, &err);
    ck_assert_msg(code == QD_OK, "%s", err.message);
    ck_assert_int_gt(report->n_calibration_rows, 10);
    for (int i = 0; i < report->n_calibration_rows; i++) {
        ck_assert_str_eq(report->calibration[i].source, "imported");
        ck_assert_str_eq(report->calibration[i].dtype, "s8");
    }
    ck_assert_int_eq(report->n_nodes_f32, 1); /* the Softmax */
    compare_runs(model, artifact, x, &memory);
    qc_reader_free(reader);
    test_files_done();
}
END_TEST

Suite *test_quant_import_trained_suite(void)
{
    Suite *s = suite_create("quant_import_trained");
    TCase *tc = tcase_create("quant_import_trained");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, quantize__trained_and_quantized_network__the_same_network, 0,
                        (int)QD_COUNT_OF(networks));
    suite_add_tcase(s, tc);
    return s;
}
