/* Real trained networks: f32 outputs against those of another runtime. The data lie beside the
 * checkout (../shared/data/golden); without them this suite says so and checks nothing. */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quantcore/onnx/onnx_tensor.h"
#include "quantcore/quantcore.h"

static const char *const networks[] = {
    "efficientnet_lite0", "kws_dscnn", "mobilenetv1_025_vww", "resnet20_cifar10",
    "resnet8_cifar10", "resnet8_int8qdq", "squeezenet10_dc_imagenet", "ultraface_rfb320",
    "vww_int8qdq"};

static const char folder[] = "../shared/data/golden";

static bool read_file(const char *network, const char *name, struct qd_arena *arena,
                      struct qd_bytes *ret)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s/%s", folder, network, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
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

static const struct qc_tensor *read_tensor(const char *network, const char *name,
                                           struct qd_arena *arena)
{
    struct qd_bytes bytes;
    struct qd_error err;
    struct qc_tensor *t = NULL;
    if (!read_file(network, name, arena, &bytes)) {
        return NULL;
    }
    ck_assert_msg(qc_onnx_read_tensor(bytes, arena, &t, &err) == QD_OK, "%s", err.message);
    return t;
}

/* A network that carries QuantizeLinear rounds its f32 sums: where the last bit of a sum decides,
 * two correct engines differ by one quantum, here 1/256 of a probability. */
static double quantum_of(const char *network)
{
    return strstr(network, "int8qdq") != NULL ? 1.0 / 256 : 0;
}

/* |x - y| <= 1e-3 |y| + 1e-5 range + quantum, element by element. */
static void check_close(const char *network, int output, const float *x, const struct qc_tensor *t)
{
    const float *y = t->data;
    size_t n = qc_shape_elements(&t->shape);
    float lo = INFINITY, hi = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        lo = fminf(lo, y[i]);
        hi = fmaxf(hi, y[i]);
    }
    for (size_t i = 0; i < n; i++) {
        double limit = 1e-3 * fabs((double)y[i]) + 1e-5 * (double)(hi - lo) +
                       quantum_of(network);
        ck_assert_msg(fabs((double)x[i] - (double)y[i]) <= limit,
                      "%s output %d element %zu: %.9g, expected %.9g", network, output, i,
                      (double)x[i], (double)y[i]);
    }
}

static void check_outputs(const char *network, struct qc_runner *runner, struct qd_arena *arena)
{
    const struct qc_model_info *info = qc_runner_info(runner);
    const struct qc_tensor *in = read_tensor(network, "test_data_set_0/input_0.pb", arena);
    const struct qc_tensor *expected[8] = {NULL};
    float *out[8] = {NULL};
    struct qd_error err;
    ck_assert_ptr_nonnull(in);
    int64_t n_samples = in->shape.dim[0];
    size_t stride = qc_shape_elements(&in->shape) / (size_t)n_samples;
    for (int i = 0; i < info->n_outputs; i++) {
        char name[64];
        snprintf(name, sizeof(name), "test_data_set_0/output_%d.pb", i);
        expected[i] = read_tensor(network, name, arena);
        ck_assert_ptr_nonnull(expected[i]);
        out[i] = malloc((qc_shape_elements(&expected[i]->shape) + 16) * sizeof(float));
    }
    for (int64_t s = 0; s < n_samples; s++) {
        const float *x = (const float *)in->data + (size_t)s * stride;
        float *y[8];
        for (int i = 0; i < info->n_outputs; i++) {
            size_t one = qc_shape_elements(&expected[i]->shape) / (size_t)n_samples;
            y[i] = out[i] + (size_t)s * one;
        }
        ck_assert_msg(qc_runner_run(runner, &x, y, &err) == QD_OK, "%s", err.message);
    }
    for (int i = 0; i < info->n_outputs; i++) {
        check_close(network, i, out[i], expected[i]);
        free(out[i]);
    }
}

START_TEST(run_f32__trained_network__other_runtimes_outputs)
{
    const char *network = networks[_i];
    struct qd_arena arena;
    struct qd_bytes model;
    struct qd_error err;
    struct qc_runner *runner = NULL;
    qd_arena_init(&arena, 0);
    if (!read_file(network, "model.onnx", &arena, &model)) {
        printf("golden: %s/%s is absent, not checked\n", folder, network);
        qd_arena_done(&arena);
        return;
    }
    ck_assert_msg(qc_runner_new(model, NULL, QC_ENGINE_F32, QC_ISA_AVX512, &arena, &runner, &err) ==
                      QD_OK, "%s: %s", network, err.message);
    check_outputs(network, runner, &arena);
    qd_arena_done(&arena);
}
END_TEST

Suite *test_golden_suite(void)
{
    Suite *s = suite_create("golden");
    TCase *tc = tcase_create("golden");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, run_f32__trained_network__other_runtimes_outputs, 0,
                        (int)QD_COUNT_OF(networks));
    suite_add_tcase(s, tc);
    return s;
}
