/* weight_only and dynamic with fewer bits, blocks and float16: the graph, and what it computes. */
#include <math.h>
#include <string.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/quant/quantize_dynamic.h"
#include "quantcore/quant/quantize_weight_only.h"
#include "quantcore/quantcore.h"
#include "test_graph_build.h"

Suite *test_quant_modes_bits_suite(void);

enum { K = 70, N = 40, C = 34, SIDE = 5, N_X = K + C * SIDE * SIDE };

static uint32_t seed;
static struct tg t;

static void setup(void)
{
    tg_init(&t);
    seed = 11;
}

static void teardown(void)
{
    tg_done(&t);
}

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

static int weights(const char *name, int rank, int a, int b, int c, int d)
{
    struct qc_tensor *tensor = tg_tensor(&t, QC_F32, rank, (int64_t[]){a, b, c, d});
    for (size_t i = 0; i < qc_shape_elements(&tensor->shape); i++) {
        ((float *)tensor->data)[i] = noise();
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t.g, name, tensor, &v, &t.err), QD_OK);
    return v;
}

/* Two inputs: a Gemm as it is, one transposed and a MatMul on the one, a Conv on the other. */
static struct qd_bytes build(void)
{
    struct qd_bytes bytes;
    int x = tg_input(&t, "x", 2, -1, K), image = tg_input(&t, "image", 4, -1, C, SIDE, SIDE);
    int y = tg_node(&t, "fc1", QC_OP_GEMM, 2, x, weights("w1", 2, K, N, 1, 1));
    y = tg_node(&t, "fc2", QC_OP_GEMM, 2, y, weights("w2", 2, K, N, 1, 1));
    tg_attr_int(&t, "transB", 1);
    tg_output(&t, tg_node(&t, "mm", QC_OP_MATMUL, 2, y, weights("w3", 2, K, N, 1, 1)));
    tg_output(&t, tg_node(&t, "conv", QC_OP_CONV, 2, image, weights("w4", 4, 6, C, 3, 3)));
    tg_bind(&t);
    t.g->opset = 13;
    ck_assert_int_eq(qc_onnx_export(t.g, &t.arena, &bytes, &t.err), QD_OK);
    return bytes;
}

static const struct qc_value *value(const struct qc_graph *g, const char *name)
{
    int v = qc_graph_find_value(g, name);
    ck_assert_msg(v >= 0, "no value '%s'", name);
    return &g->values[v];
}

static const struct qc_node *maker(const struct qc_graph *g, const char *name)
{
    return &g->nodes[value(g, name)->producer];
}

START_TEST(weight_only__4_bits_in_blocks__along_the_inputs)
{
    const struct qc_rewrite_options o = {.weights_per_channel = true,
                                         .dense_per_channel = true,
                                         .weight_bits = 4,
                                         .block_size = 32};
    static const struct {
        const char *scale, *result;
        int axis, rank, dim[4];
    } rows[] = {{"w1_scale", "w1_dequantized", 0, 2, {3, N}},
                {"w2_scale", "w2_dequantized", 1, 2, {K, 2}},
                {"w3_scale", "w3_dequantized", 0, 2, {3, N}},
                {"w4_scale", "w4_dequantized", 1, 4, {6, 2, 3, 3}}};
    struct qc_rewrite *r = NULL;
    (void)build();
    ck_assert_int_eq(qc_quantize_weight_only(t.g, &o, &t.arena, &r, &t.err), QD_OK);
    ck_assert_int_eq((int)r->graph->least_opset, 21);
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        const struct qc_shape *s = &value(r->graph, rows[i].scale)->shape;
        const struct qc_node *dq = maker(r->graph, rows[i].result);
        ck_assert_int_eq(s->rank, rows[i].rank);
        for (int d = 0; d < s->rank; d++) {
            ck_assert_int_eq((int)s->dim[d], rows[i].dim[d]);
        }
        ck_assert_int_eq((int)qc_node_int(dq, "axis", 1), rows[i].axis);
        ck_assert_int_eq((int)qc_node_int(dq, "block_size", 0), 32);
        ck_assert_int_eq(qc_node_constant(r->graph, dq, 0)->dtype, QC_S4);
        ck_assert_int_eq(dq->n_inputs, 2);
    }
}
END_TEST

START_TEST(weight_only__4_bits_asymmetric__zero_points_are_s4)
{
    const struct qc_rewrite_options o = {
        .weights_per_channel = true, .weights_asymmetric = true, .weight_bits = 4};
    struct qc_rewrite *r = NULL;
    (void)build();
    ck_assert_int_eq(qc_quantize_weight_only(t.g, &o, &t.arena, &r, &t.err), QD_OK);
    ck_assert_int_eq(value(r->graph, "w4_zero_point")->constant->dtype, QC_S4);
    ck_assert_int_eq((int)value(r->graph, "w4_zero_point")->shape.dim[0], 6);
    ck_assert_int_eq(value(r->graph, "w1_zero_point")->shape.rank, 0);
}
END_TEST

START_TEST(dynamic__low_bits__codes_are_s8_and_blocks_refused)
{
    struct qc_rewrite_options o = {.weights_per_channel = true, .weight_bits = 3};
    struct qc_rewrite *r = NULL;
    (void)build();
    ck_assert_int_eq(qc_quantize_dynamic(t.g, &o, &t.arena, &r, &t.err), QD_OK);
    const struct qc_tensor *q = value(r->graph, "w4_quantized")->constant;
    ck_assert_int_eq(q->dtype, QC_S8);
    for (size_t i = 0; i < qc_shape_elements(&q->shape); i++) {
        ck_assert_int_le(abs(((int8_t *)q->data)[i]), 3);
    }
    o.block_size = 32;
    ck_assert_int_eq(qc_quantize_dynamic(t.g, &o, &t.arena, &r, &t.err), QD_INVALID);
    o.block_size = 0;
    o.weight_bits = QC_FLOAT16_BITS;
    ck_assert_int_eq(qc_quantize_dynamic(t.g, &o, &t.arena, &r, &t.err), QD_INVALID);
}
END_TEST

static void run(struct qd_bytes model, float *mm, float *conv)
{
    struct qc_runner *runner = NULL;
    float x[N_X];
    const float *inputs[2] = {x, x + K};
    float *outputs[2] = {mm, conv};
    uint32_t before = seed;
    seed = 5;
    for (int i = 0; i < N_X; i++) {
        x[i] = noise();
    }
    seed = before;
    enum qd_code code = qc_runner_new(model, NULL, QC_ENGINE_F32, QC_ISA_AVX512, &t.arena,
                                      &runner, &t.err);
    ck_assert_msg(code == QD_OK, "%s", t.err.message);
    ck_assert_int_eq(qc_runner_run(runner, inputs, outputs, &t.err), QD_OK);
}

static double sqnr_db(const float *a, const float *b, int n)
{
    double signal = 0, error = 0;
    for (int i = 0; i < n; i++) {
        signal += (double)a[i] * (double)a[i];
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    return 10 * log10(signal / error);
}

/* From bytes to bytes: what is written is read back and run. */
START_TEST(qc_quantize__weight_only__size_opset_and_error)
{
    static const struct {
        int bits, block;
        double most; /* of the f32 file */
        int opset;
        double db;   /* of the Conv at least, and at most 9 more */
        const char *precision;
    } rows[] = {{16, 0, 0.58, 13, 66, "float16_weights"}, {8, 0, 0.36, 13, 45, "int8_weights"},
                {8, 32, 0.39, 21, 45, "int8_weights"},    {4, 0, 0.25, 21, 19, "int4_weights"},
                {4, 32, 0.27, 21, 19, "int4_weights"},    {3, 0, 0.25, 21, 13, "int3_weights"},
                {2, 0, 0.25, 21, 6, "int2_weights"},      {1, 0, 0.25, 21, 3, "int1_weights"}};
    enum { N_CONV = 6 * (SIDE - 2) * (SIDE - 2) };
    float mm[2][N], conv[2][N_CONV];
    struct qd_bytes model = build(), artifact;
    struct qc_report *report = NULL;
    struct qc_options options;
    struct qc_job job = {.model = model, .threads = qc_threads_none()};
    qc_options_init(&options);
    options.mode = QC_MODE_WEIGHT_ONLY;
    options.weight_bits = rows[_i].bits;
    options.block_size = rows[_i].block;
    enum qd_code code = qc_quantize(&job, &options, &t.arena, &artifact, &report, &t.err);
    ck_assert_msg(code == QD_OK, "%s", t.err.message);
    double share = (double)artifact.size / (double)model.size;
    ck_assert_msg(share < rows[_i].most, "%d bits: %zu of %zu bytes, %g", rows[_i].bits,
                  artifact.size, model.size, share);
    ck_assert_int_eq((int)report->opset_out, rows[_i].opset);
    ck_assert_int_eq(report->weight_bits, rows[_i].bits);
    ck_assert_int_eq(report->block_size, rows[_i].block);
    for (int i = 0; i < report->n_layers; i++) {
        ck_assert_str_eq(report->layers[i].precision, rows[_i].precision);
        ck_assert_int_eq(report->layers[i].weight_bits, rows[_i].bits);
        ck_assert_int_eq(report->layers[i].block_size, rows[_i].block);
    }
    run(model, mm[0], conv[0]);
    run(artifact, mm[1], conv[1]);
    double db = sqnr_db(conv[0], conv[1], N_CONV);
    ck_assert_msg(db > rows[_i].db && db < rows[_i].db + 9, "%d bits: %g dB", rows[_i].bits, db);
    ck_assert(sqnr_db(mm[0], mm[1], N) > rows[_i].db - 9);
}
END_TEST

START_TEST(qc_quantize__beyond_float16__names_tensor_and_value)
{
    struct qd_bytes model, artifact;
    struct qc_report *report = NULL;
    struct qc_options options;
    int x = tg_input(&t, "x", 2, -1, 2);
    int w = tg_floats(&t, "big", 1e5f, 0, 2, 2, 1);
    tg_output(&t, tg_node(&t, "fc", QC_OP_MATMUL, 2, x, w));
    tg_bind(&t);
    t.g->opset = 13;
    ck_assert_int_eq(qc_onnx_export(t.g, &t.arena, &model, &t.err), QD_OK);
    struct qc_job job = {.model = model, .threads = qc_threads_none()};
    qc_options_init(&options);
    options.mode = QC_MODE_WEIGHT_ONLY;
    options.weight_bits = QC_FLOAT16_BITS;
    ck_assert_int_eq(qc_quantize(&job, &options, &t.arena, &artifact, &report, &t.err),
                     QD_INVALID);
    ck_assert_str_eq(t.err.message, "quantize the weights 'big' of 'fc': weight 0 is 100000, "
                                    "float16 holds finite numbers up to 65504");
}
END_TEST

Suite *test_quant_modes_bits_suite(void)
{
    Suite *s = suite_create("quant_modes_bits");
    TCase *tc = tcase_create("quant_modes_bits");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, weight_only__4_bits_in_blocks__along_the_inputs);
    tcase_add_test(tc, weight_only__4_bits_asymmetric__zero_points_are_s4);
    tcase_add_test(tc, dynamic__low_bits__codes_are_s8_and_blocks_refused);
    tcase_add_loop_test(tc, qc_quantize__weight_only__size_opset_and_error, 0, 8);
    tcase_add_test(tc, qc_quantize__beyond_float16__names_tensor_and_value);
    suite_add_tcase(s, tc);
    return s;
}
