/* Networks whose weights are INT4 behind a DequantizeLinear already. */
#include <math.h>
#include <string.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/quant/quantize_graph.h"
#include "quantcore/quant/quantize_weight_only.h"
#include "quantcore/quantcore.h"
#include "test_graph_build.h"

Suite *test_import_int4_suite(void);

enum { N_OUT = 3, N_IN = 40, SIDE = 4, N_X = N_IN * SIDE * SIDE, N_Y = N_OUT * SIDE * SIDE };

static struct tg t;

static void setup(void)
{
    tg_init(&t);
}

static void teardown(void)
{
    tg_done(&t);
}

/* Codes that count through all of the type. */
static int codes(const char *name, enum qc_dtype dtype, int rank, const int64_t *dims)
{
    struct qc_tensor *x = tg_tensor(&t, dtype, rank, dims);
    for (size_t i = 0; i < qc_shape_elements(&x->shape); i++) {
        int v = (int)(i * 7 % 16);
        ((uint8_t *)x->data)[i] = (uint8_t)(dtype == QC_S4 ? v - 8 : v);
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t.g, name, x, &v, &t.err), QD_OK);
    return v;
}

static int fake_quant(const char *q, const char *dq, const char *s_name, const char *z_name, int x,
                      float scale, int zero_point)
{
    int s = tg_floats(&t, s_name, scale, 0, 0), z;
    struct qc_tensor *zero = tg_tensor(&t, QC_U8, 0, NULL);
    *(uint8_t *)zero->data = (uint8_t)zero_point;
    ck_assert_int_eq(qc_graph_add_constant(t.g, z_name, zero, &z, &t.err), QD_OK);
    int y = tg_node(&t, q, QC_OP_QUANTIZE_LINEAR, 3, x, s, z);
    return tg_node(&t, dq, QC_OP_DEQUANTIZE_LINEAR, 3, y, s, z);
}

/* x -> Q -> DQ -> Conv with weights of 4 bits -> Q -> DQ. block 0: a scale an output channel. */
static struct qd_bytes build(enum qc_dtype dtype, bool zero_points, int block)
{
    struct qd_bytes bytes;
    int x = fake_quant("xq", "xdq", "xs", "xz", tg_input(&t, "x", 4, -1, N_IN, SIDE, SIDE),
                       0.01f, 128);
    int w = codes("w_codes", dtype, 4, (int64_t[]){N_OUT, N_IN, 1, 1});
    int s = block > 0 ? tg_floats(&t, "w_s", 0.02f, 0.003f, 4, N_OUT, 2, 1, 1)
                      : tg_floats(&t, "w_s", 0.02f, 0.003f, 1, N_OUT);
    int y;
    if (zero_points) {
        int z = block > 0 ? codes("w_z", dtype, 4, (int64_t[]){N_OUT, 2, 1, 1})
                          : codes("w_z", dtype, 1, (int64_t[]){N_OUT});
        y = tg_node(&t, "w", QC_OP_DEQUANTIZE_LINEAR, 3, w, s, z);
    } else {
        y = tg_node(&t, "w", QC_OP_DEQUANTIZE_LINEAR, 2, w, s);
    }
    tg_attr_int(&t, "axis", block > 0 ? 1 : 0);
    if (block > 0) {
        tg_attr_int(&t, "block_size", block);
    }
    y = tg_node(&t, "conv", QC_OP_CONV, 2, x, y);
    tg_output(&t, fake_quant("yq", "ydq", "ys", "yz", y, 0.02f, 128));
    tg_bind(&t);
    t.g->opset = 21;
    ck_assert_int_eq(qc_onnx_export(t.g, &t.arena, &bytes, &t.err), QD_OK);
    return bytes;
}

static void run(struct qd_bytes model, enum qc_engine engine, float *y)
{
    struct qc_runner *runner = NULL;
    float x[N_X];
    const float *inputs[1] = {x};
    for (int i = 0; i < N_X; i++) {
        x[i] = 0.01f * (float)(i * 37 % 255 - 127);
    }
    enum qd_code code =
        qc_runner_new(model, NULL, engine, QC_ISA_AVX512, &t.arena, &runner, &t.err);
    ck_assert_msg(code == QD_OK, "%s", t.err.message);
    ck_assert_int_eq(qc_runner_run(runner, inputs, &y, &t.err), QD_OK);
}

/* signed or not, with zero points or not, a scale a channel or in blocks */
START_TEST(qc_runner__int4_weights__integers_and_f32_agree)
{
    float f32[N_Y], int8[N_Y];
    struct qd_bytes model =
        build((_i & 1) != 0 ? QC_U4 : QC_S4, (_i & 2) != 0, (_i & 4) != 0 ? 32 : 0);
    float least = 0, most = 0;
    run(model, QC_ENGINE_F32, f32);
    if ((_i & 4) != 0) { /* nothing there has an integer form */
        struct qc_runner *runner = NULL;
        ck_assert_int_eq(qc_runner_new(model, NULL, QC_ENGINE_INT8, QC_ISA_AVX512, &t.arena,
                                       &runner, &t.err),
                         QD_INVALID);
        ck_assert_ptr_nonnull(strstr(t.err.message, "no operator stands between"));
        return;
    }
    run(model, QC_ENGINE_INT8, int8);
    for (int i = 0; i < N_Y; i++) {
        ck_assert_float_le(fabsf(f32[i] - int8[i]), 0.0201f);
        least = fminf(least, f32[i]);
        most = fmaxf(most, f32[i]);
    }
    ck_assert_float_gt(most - least, 0.5f);
}
END_TEST

/* What came in as INT4 goes out as it was. */
START_TEST(weight_only__int4_weights__kept_to_the_byte)
{
    bool blocks = _i == 1;
    int x = tg_input(&t, "x", 4, -1, N_IN, SIDE, SIDE);
    int w = codes("w_codes", QC_S4, 4, (int64_t[]){N_OUT, N_IN, 1, 1});
    int s = blocks ? tg_floats(&t, "w_s", 0.02f, 0.003f, 4, N_OUT, 2, 1, 1)
                   : tg_floats(&t, "w_s", 0.02f, 0.003f, 1, N_OUT);
    int y = tg_node(&t, "w", QC_OP_DEQUANTIZE_LINEAR, 2, w, s);
    struct qd_bytes model, artifact;
    struct qc_report *report = NULL;
    struct qc_options options;
    struct qc_graph *g = NULL;
    tg_attr_int(&t, "axis", blocks ? 1 : 0);
    if (blocks) {
        tg_attr_int(&t, "block_size", 32);
    }
    tg_output(&t, tg_node(&t, "conv", QC_OP_CONV, 2, x, y));
    tg_bind(&t);
    t.g->opset = 21;
    const struct qc_tensor *before = t.g->values[w].constant;
    ck_assert_int_eq(qc_onnx_export(t.g, &t.arena, &model, &t.err), QD_OK);
    struct qc_job job = {.model = model, .threads = qc_threads_none()};
    qc_options_init(&options);
    options.mode = QC_MODE_WEIGHT_ONLY;
    enum qd_code code = qc_quantize(&job, &options, &t.arena, &artifact, &report, &t.err);
    ck_assert_msg(code == QD_OK, "%s", t.err.message);
    ck_assert_str_eq(report->layers[report->n_layers - 1].precision, "int4_weights");
    ck_assert_int_eq(qc_onnx_import(artifact, NULL, &t.arena, &g, &t.err), QD_OK);
    const struct qc_node *dq = &g->nodes[0];
    ck_assert_int_eq(dq->op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert_int_eq((int)qc_node_int(dq, "block_size", 0), blocks ? 32 : 0);
    const struct qc_tensor *after = qc_node_constant(g, dq, 0);
    ck_assert_int_eq(after->dtype, QC_S4);
    ck_assert_mem_eq(after->data, before->data, qc_shape_elements(&before->shape));
}
END_TEST

/* The static quantizer restores them too; in blocks the layer stays f32 for its weights' sake. */
START_TEST(quantize_graph__int4_weights__restored)
{
    bool blocks = _i == 1;
    struct qd_bytes model = build(QC_S4, false, blocks ? 32 : 0);
    struct qc_graph *g = NULL;
    struct qc_import *import = NULL;
    struct qc_quantize_plan *plan = NULL;
    struct qc_qparams *pairs = NULL;
    struct qc_quantized_graph *q = NULL;
    struct qc_range ranges[64] = {{.lo = 0}};
    ck_assert_int_eq(qc_onnx_import(model, NULL, &t.arena, &g, &t.err), QD_OK);
    ck_assert_int_eq(qc_passes_run_import(g, &import, &t.err), QD_OK);
    ck_assert_int_eq(import->n_constants, 1);
    struct qc_quantize_options o = {.weights_per_channel = true, .import = import};
    ck_assert_int_le(g->n_values, 64);
    ck_assert_int_eq(qc_quantize_plan_new(g, &o, &t.arena, &plan, &t.err), QD_OK);
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &t.arena, &pairs, &t.err), QD_OK);
    ck_assert_int_eq(qc_quantize_graph(plan, pairs, NULL, NULL, &t.arena, &q, &t.err), QD_OK);
    int n_int4 = 0;
    for (int i = 0; i < q->graph->n_nodes; i++) {
        const struct qc_node *n = &q->graph->nodes[i];
        const struct qc_tensor *w = qc_node_constant(q->graph, n, 0);
        if (n->op == QC_OP_DEQUANTIZE_LINEAR && w != NULL && w->dtype == QC_S4) {
            n_int4++;
            ck_assert_int_eq((int)qc_node_int(n, "block_size", 0), blocks ? 32 : 0);
            ck_assert_int_eq((int)qc_node_int(n, "axis", 1), blocks ? 1 : 0);
        }
    }
    ck_assert_int_eq(n_int4, 1);
}
END_TEST

Suite *test_import_int4_suite(void)
{
    Suite *s = suite_create("import_int4");
    TCase *tc = tcase_create("import_int4");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, qc_runner__int4_weights__integers_and_f32_agree, 0, 8);
    tcase_add_loop_test(tc, weight_only__int4_weights__kept_to_the_byte, 0, 2);
    tcase_add_loop_test(tc, quantize_graph__int4_weights__restored, 0, 2);
    suite_add_tcase(s, tc);
    return s;
}
