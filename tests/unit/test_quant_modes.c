/* The graphs of the modes without calibration: weights of every kind, run before and after. */
#include <math.h>
#include <stdio.h>

#include "quantcore/exec/exec.h"
#include "quantcore/passes/pass_import_qdq.h"
#include "quantcore/quant/quantize_dynamic.h"
#include "quantcore/quant/quantize_weight_only.h"
#include "test_graph_build.h"

Suite *test_quant_modes_suite(void);

enum { X_SIZE = 2 * 6 * 6, MAX_Y = 4096 };

static uint32_t seed;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

/* An initializer of noise, the first slice of the first dim ten times smaller than the others. */
static int weights(struct tg *t, const char *name, int rank, int a, int b, int c, int d)
{
    int64_t dims[4] = {a, b, c, d};
    struct qc_tensor *tensor = tg_tensor(t, QC_F32, rank, dims);
    size_t n = qc_shape_elements(&tensor->shape);
    for (size_t i = 0; i < n; i++) {
        size_t slice = i / (n / (size_t)a);
        ((float *)tensor->data)[i] = noise() * (slice == 0 ? 0.1f : 1.0f);
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t->g, name, tensor, &v, &t->err), QD_OK);
    return v;
}

static struct qc_node *last(struct tg *t)
{
    return &t->g->nodes[t->g->n_nodes - 1];
}

/* conv (pads, clamp) - depthwise - flatten - gemm (alpha, beta, transB) - gemm - softmax */
static void build_net(struct tg *t)
{
    seed = 7; /* in statements: the order of arguments is the compiler's */
    int x = tg_input(t, "x", 4, -1, 2, 6, 6);
    int b = weights(t, "b1", 1, 8, 1, 1, 1), w = weights(t, "w1", 4, 8, 2, 3, 3);
    int y = tg_node(t, "conv", QC_OP_CONV, 3, x, w, b);
    tg_attr_ints(t, "pads", 4, 1, 1, 1, 1);
    last(t)->clamp = (struct qc_clamp){true, 0.0f, 6.0f};
    y = tg_node(t, "depthwise", QC_OP_CONV, 2, y, weights(t, "w2", 4, 8, 1, 3, 3));
    tg_attr_int(t, "group", 8);
    tg_attr_ints(t, "strides", 2, 2, 2);
    y = tg_node(t, "flat", QC_OP_FLATTEN, 1, y);
    b = weights(t, "b3", 2, 1, 16, 1, 1);
    w = weights(t, "w3", 2, 16, 32, 1, 1);
    y = tg_node(t, "fc1", QC_OP_GEMM, 3, y, w, b);
    tg_attr_int(t, "transB", 1);
    tg_attr_float(t, "alpha", 0.5f);
    tg_attr_float(t, "beta", 2.0f);
    y = tg_node(t, "fc2", QC_OP_MATMUL, 2, y, weights(t, "w4", 2, 16, 10, 1, 1));
    y = tg_node(t, "softmax", QC_OP_SOFTMAX, 1, y);
    tg_attr_int(t, "axis", -1);
    tg_output(t, y);
    tg_bind(t);
}

static const struct qc_rewrite_options per_channel = {.weights_per_channel = true,
                                                      .dense_per_channel = true};

static struct qc_rewrite *rewrite(struct tg *t, bool dynamic,
                                  const struct qc_rewrite_options *options)
{
    struct qc_rewrite *r = NULL;
    enum qd_code code = (dynamic ? qc_quantize_dynamic : qc_quantize_weight_only)(
        t->g, options, &t->arena, &r, &t->err);
    ck_assert_msg(code == QD_OK, "%s", t->err.message);
    for (int i = 0; i < r->graph->n_nodes; i++) {
        code = qc_graph_infer_node(r->graph, i, &t->err);
        ck_assert_msg(code == QD_OK, "%s", t->err.message);
    }
    return r;
}

/* Output 0 for samples of noise. */
static size_t run(struct tg *t, const struct qc_graph *g, float *y)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    float x[X_SIZE];
    const void *inputs[1] = {x};
    seed = 99;
    for (int i = 0; i < X_SIZE; i++) {
        x[i] = noise();
    }
    qc_kernels_init(&kernels, qc_isa_detect());
    struct qc_exec_options options = {.kernels = &kernels};
    enum qd_code code = qc_exec_build(g, &options, &t->arena, &exec, &t->err);
    ck_assert_msg(code == QD_OK, "%s", t->err.message);
    ck_assert_int_eq(qc_exec_state_new(exec, &state, &t->err), QD_OK);
    ck_assert_int_eq(qc_exec_run(exec, state, inputs, NULL, NULL, &t->err), QD_OK);
    size_t n = qc_shape_elements(&g->values[g->outputs[0].value].shape);
    ck_assert_uint_le(n, MAX_Y);
    qc_exec_output(exec, state, 0, y);
    qc_exec_state_free(state);
    return n;
}

/* 10 log10(sum a^2 / sum (a - b)^2) of both graphs' outputs; they must not be the same. */
static double sqnr_db(struct tg *t, const struct qc_graph *after)
{
    static float a[MAX_Y], b[MAX_Y];
    double signal = 0, error = 0;
    size_t n = run(t, t->g, a);
    ck_assert_uint_eq(run(t, after, b), n);
    for (size_t i = 0; i < n; i++) {
        signal += (double)a[i] * (double)a[i];
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    }
    ck_assert(error > 0);
    return 10 * log10(signal / error);
}

static int count(const struct qc_graph *g, int op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        n += g->nodes[i].op == op;
    }
    return n;
}

static const struct qc_value *value(const struct qc_graph *g, const char *name)
{
    int v = qc_graph_find_value(g, name);
    ck_assert_msg(v >= 0, "no value '%s'", name);
    return &g->values[v];
}

/* ---- weight_only ----------------------------------------------------------------------------
 */

START_TEST(weight_only__net__weights_alone_are_rounded)
{
    struct tg t;
    tg_init(&t);
    build_net(&t);
    struct qc_rewrite *r = rewrite(&t, false, &per_channel);
    ck_assert_int_eq(r->n_quantized, 4);
    ck_assert_int_eq(r->n_f32, 2);
    ck_assert_int_eq(count(r->graph, QC_OP_DEQUANTIZE_LINEAR), 4);
    ck_assert_int_eq(r->graph->n_nodes, t.g->n_nodes + 4);
    ck_assert_int_eq(value(r->graph, "w1_quantized")->constant->dtype, QC_S8);
    ck_assert_int_eq((int)value(r->graph, "w1_scale")->shape.dim[0], 8);
    ck_assert_int_eq((int)value(r->graph, "w3_scale")->shape.dim[0], 16); /* transB: axis 0 */
    ck_assert_int_eq((int)value(r->graph, "w4_scale")->shape.dim[0], 10);
    /* Every weight is within half a step of its channel. */
    const struct qc_tensor *w = value(t.g, "w1")->constant;
    const struct qc_quantized_weights *q = r->weights[0];
    for (size_t i = 0; i < qc_shape_elements(&w->shape); i++) {
        double step = (double)q->scale[i / 18];
        double error =
            fabs((double)((const float *)w->data)[i] - qc_quantized_weights_value(q, i));
        ck_assert(error <= 0.50001 * step);
    }
    double db = sqnr_db(&t, r->graph);
    ck_assert_msg(db > 40, "%g dB", db);
    tg_done(&t);
}
END_TEST

START_TEST(weight_only__per_tensor__one_scale_and_no_axis)
{
    struct tg t;
    struct qc_rewrite_options o = {.weights_per_channel = false};
    tg_init(&t);
    build_net(&t);
    struct qc_rewrite *r = rewrite(&t, false, &o);
    ck_assert_int_eq(value(r->graph, "w1_scale")->shape.rank, 0);
    ck_assert_ptr_null(qc_node_attr(&r->graph->nodes[0], "axis"));
    ck_assert(sqnr_db(&t, r->graph) > 30);
    const struct qc_rewrite *fine = rewrite(&t, false, &per_channel);
    ck_assert(fine->weights[0]->scale[0] < 0.2f * r->weights[0]->scale[0]);
    tg_done(&t);
}
END_TEST

START_TEST(weight_only__asymmetric__zero_points_beside_the_scales)
{
    for (int one = 0; one < 2; one++) {
        struct tg t;
        struct qc_rewrite *r;
        struct qc_rewrite_options o = {.weights_per_channel = one == 0,
                                       .dense_per_channel = one == 0,
                                       .weights_asymmetric = true};
        tg_init(&t);
        build_net(&t);
        r = rewrite(&t, false, &o);
        const struct qc_tensor *z = value(r->graph, "w1_zero_point")->constant;
        ck_assert_int_eq(z->dtype, QC_S8);
        ck_assert_uint_eq(qc_shape_elements(&z->shape), one == 0 ? 8 : 1);
        ck_assert_int_eq(z->shape.rank, one == 0 ? 1 : 0);
        ck_assert(sqnr_db(&t, r->graph) > (one == 0 ? 40 : 30));
        ck_assert_int_eq(qc_quantize_dynamic(t.g, &o, &t.arena, &r, &t.err), QD_INVALID);
        tg_done(&t);
    }
}
END_TEST

/* Two nodes read w as it is, one transposed. */
static void build_shared(struct tg *t)
{
    seed = 3;
    int x = tg_input(t, "x", 2, -1, X_SIZE);
    int w = weights(t, "w", 2, X_SIZE, X_SIZE, 1, 1);
    int a = tg_node(t, "a", QC_OP_MATMUL, 2, x, w);
    int b = tg_node(t, "b", QC_OP_GEMM, 2, a, w);
    int c = tg_node(t, "c", QC_OP_GEMM, 2, b, w);
    tg_attr_int(t, "transB", 1);
    tg_output(t, c);
    tg_bind(t);
}

START_TEST(weight_only__shared_weights__stored_once_an_axis)
{
    struct tg t;
    tg_init(&t);
    build_shared(&t);
    struct qc_rewrite *r = rewrite(&t, false, &per_channel);
    ck_assert_int_eq(count(r->graph, QC_OP_DEQUANTIZE_LINEAR), 2);
    ck_assert(sqnr_db(&t, r->graph) > 30);
    struct qc_rewrite_options o = {.weights_per_channel = false};
    r = rewrite(&t, false, &o);
    ck_assert_int_eq(count(r->graph, QC_OP_DEQUANTIZE_LINEAR), 1);
    tg_done(&t);
}
END_TEST

START_TEST(weight_only__model_has_integer_weights__kept_to_the_byte)
{
    struct tg t;
    struct qc_rewrite_options o = per_channel;
    struct qc_import *import = NULL;
    static const uint8_t codes[6] = {0, 255, 128, 7, 200, 131}; /* u8 with a zero point */
    static const uint8_t zero[1] = {130};
    tg_init(&t);
    int x = tg_input(&t, "x", 2, -1, 2), code, zp, scale = tg_floats(&t, "s", 0.01f, 0, 0);
    struct qc_tensor *q = tg_tensor(&t, QC_U8, 2, (int64_t[]){2, 3});
    struct qc_tensor *z = tg_tensor(&t, QC_U8, 0, NULL);
    memcpy(q->data, codes, sizeof(codes));
    memcpy(z->data, zero, sizeof(zero));
    ck_assert_int_eq(qc_graph_add_constant(t.g, "q", q, &code, &t.err), QD_OK);
    ck_assert_int_eq(qc_graph_add_constant(t.g, "z", z, &zp, &t.err), QD_OK);
    int w = tg_node(&t, "dq", QC_OP_DEQUANTIZE_LINEAR, 3, code, scale, zp);
    tg_output(&t, tg_node(&t, "fc", QC_OP_GEMM, 2, x, w));
    ck_assert_int_eq(qc_passes_run_import(t.g, &import, &t.err), QD_OK);
    o.import = import;
    struct qc_rewrite *r = rewrite(&t, false, &o);
    ck_assert_int_eq(r->n_quantized, 1);
    const struct qc_node *dq = &r->graph->nodes[0];
    ck_assert_int_eq(dq->op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert_ptr_eq(qc_node_constant(r->graph, dq, 0), q);
    ck_assert_ptr_eq(qc_node_constant(r->graph, dq, 2), z);
    tg_done(&t);
}
END_TEST

/* ---- dynamic --------------------------------------------------------------------------------
 */

START_TEST(dynamic__net__integers_with_the_scale_of_the_run)
{
    struct tg t;
    tg_init(&t);
    build_net(&t);
    struct qc_rewrite *r = rewrite(&t, true, &per_channel);
    ck_assert_int_eq(r->n_quantized, 4);
    ck_assert_int_eq(count(r->graph, QC_OP_DYNAMIC_QUANTIZE_LINEAR), 4);
    ck_assert_int_eq(count(r->graph, QC_OP_CONV_INTEGER), 2);
    ck_assert_int_eq(count(r->graph, QC_OP_MATMUL_INTEGER), 2);
    ck_assert_int_eq(count(r->graph, QC_OP_CONV) + count(r->graph, QC_OP_GEMM), 0);
    const struct qc_value *scale = value(r->graph, "w1_scale");
    ck_assert_int_eq(scale->shape.rank, 3); /* [8,1,1] against [N,8,H,W] */
    ck_assert_int_eq((int)scale->shape.dim[0], 8);
    ck_assert_int_eq((int)value(r->graph, "w3_quantized")->shape.dim[0], 32); /* [K,N] */
    double db = sqnr_db(&t, r->graph);
    ck_assert_msg(db > 30, "%g dB", db);
    tg_done(&t);
}
END_TEST

START_TEST(dynamic__per_tensor__scalar_scales)
{
    struct tg t;
    struct qc_rewrite_options o = {.weights_per_channel = false};
    tg_init(&t);
    build_net(&t);
    struct qc_rewrite *r = rewrite(&t, true, &o);
    ck_assert_int_eq(value(r->graph, "w1_scale")->shape.rank, 0);
    ck_assert_int_eq(value(r->graph, "w4_scale")->shape.rank, 0);
    ck_assert(sqnr_db(&t, r->graph) > 25);
    tg_done(&t);
}
END_TEST

START_TEST(dynamic__shared_tensors__quantized_and_stored_once)
{
    struct tg t;
    tg_init(&t);
    build_shared(&t);
    struct qc_rewrite *r = rewrite(&t, true, &per_channel);
    ck_assert_int_eq(count(r->graph, QC_OP_DYNAMIC_QUANTIZE_LINEAR), 3);
    ck_assert(qc_graph_find_value(r->graph, "w_quantized_2") >= 0); /* the transposed one */
    ck_assert_int_lt(qc_graph_find_value(r->graph, "w_quantized_3"), 0);
    ck_assert(sqnr_db(&t, r->graph) > 25);
    tg_done(&t);
    tg_init(&t);
    seed = 5;
    int x = tg_input(&t, "x", 2, -1, X_SIZE);
    int a = tg_node(&t, "a", QC_OP_MATMUL, 2, x, weights(&t, "w", 2, X_SIZE, 4, 1, 1));
    int b = tg_node(&t, "b", QC_OP_MATMUL, 2, x, weights(&t, "v", 2, X_SIZE, 4, 1, 1));
    tg_output(&t, tg_node(&t, "sum", QC_OP_ADD, 2, a, b));
    tg_bind(&t);
    r = rewrite(&t, true, &per_channel);
    ck_assert_int_eq(count(r->graph, QC_OP_DYNAMIC_QUANTIZE_LINEAR), 1);
    ck_assert(sqnr_db(&t, r->graph) > 30);
    tg_done(&t);
}
END_TEST

/* One spatial dim, and a MatMul of rank 3 with a matrix a batch. */
START_TEST(dynamic__other_ranks__same_values)
{
    struct tg t;
    tg_init(&t);
    seed = 11;
    int x = tg_input(&t, "x", 3, -1, 6, X_SIZE / 6);
    int y = tg_node(&t, "conv", QC_OP_CONV, 3, x, weights(&t, "w1", 3, 4, 6, 3, 1),
                    weights(&t, "b1", 1, 4, 1, 1, 1));
    tg_attr_ints(&t, "pads", 2, 1, 1);
    y = tg_node(&t, "dense", QC_OP_MATMUL, 2, y, weights(&t, "w2", 3, 1, X_SIZE / 6, 5, 1));
    tg_output(&t, y);
    tg_bind(&t);
    struct qc_rewrite *r = rewrite(&t, true, &per_channel);
    ck_assert_int_eq(r->n_quantized, 2);
    ck_assert_int_eq(value(r->graph, "b1_added")->shape.rank, 2); /* [4,1] */
    double db = sqnr_db(&t, r->graph);
    ck_assert_msg(db > 30, "%g dB", db);
    tg_done(&t);
}
END_TEST

/* ---- bias correction ------------------------------------------------------------------------
 */

/* A Gemm (with or without a bias) on the very means: what the weights' rounding adds is gone. */
static void check_correction(bool dynamic, bool has_bias)
{
    struct tg t;
    static float x[X_SIZE], want[MAX_Y], plain[MAX_Y], corrected[MAX_Y];
    static double mean[X_SIZE];
    const double *means[8] = {NULL};
    int n_channels[8] = {0};
    double before = 0, after = 0;
    struct qc_rewrite_options o = per_channel;
    tg_init(&t);
    seed = 17;
    int v = tg_input(&t, "x", 2, -1, X_SIZE), w = weights(&t, "w", 2, X_SIZE, 9, 1, 1);
    int b = has_bias ? weights(&t, "b", 1, 9, 1, 1, 1) : -1;
    tg_output(&t, tg_node(&t, "fc", QC_OP_GEMM, 3, v, w, b));
    tg_bind(&t);
    size_t n = run(&t, t.g, want);
    ck_assert_uint_eq(run(&t, rewrite(&t, dynamic, &o)->graph, plain), n);
    seed = 99; /* the sample that run feeds */
    for (int i = 0; i < X_SIZE; i++) {
        x[i] = noise();
        mean[i] = (double)x[i];
    }
    means[v] = mean;
    n_channels[v] = X_SIZE;
    o.channel_mean = means;
    o.n_channels = n_channels;
    struct qc_rewrite *r = rewrite(&t, dynamic, &o);
    ck_assert_uint_eq(run(&t, r->graph, corrected), n);
    for (size_t i = 0; i < n; i++) {
        before = fmax(before, fabs((double)plain[i] - (double)want[i]));
        after = fmax(after, fabs((double)corrected[i] - (double)want[i]));
    }
    if (dynamic) { /* x is rounded, too: half a step of x for each weight, at most */
        ck_assert_msg(after < 0.5 * 2 / 255 * X_SIZE, "%g", after);
        ck_assert_int_eq(count(r->graph, QC_OP_ADD), 1);
    } else {
        ck_assert_msg(after < 1e-5 && before > 1e-3, "%g, uncorrected %g", after, before);
    }
    tg_done(&t);
}

START_TEST(weight_only__means_known__rounding_leaves_no_mean)
{
    check_correction(false, _i == 1);
}
END_TEST

START_TEST(dynamic__means_known__bias_is_added)
{
    check_correction(true, _i == 1);
}
END_TEST

/* ---- what stays in f32 ----------------------------------------------------------------------
 */

START_TEST(modes__excluded_and_unfit_nodes__stay_with_their_reason)
{
    struct tg t;
    static const char *const nodes[] = {"conv"};
    struct qc_rewrite_options o = per_channel;
    o.exclude = (struct qc_exclude){.nodes = nodes, .n_nodes = 1};
    tg_init(&t);
    build_net(&t);
    for (int dynamic = 0; dynamic < 2; dynamic++) {
        struct qc_rewrite *r = rewrite(&t, dynamic == 1, &o);
        ck_assert_int_eq(r->n_quantized, 3);
        ck_assert_str_eq(r->reason[0], "excluded by name 'conv'");
        ck_assert_str_eq(r->reason[1], "");
        ck_assert_str_eq(r->reason[2], "automatic: neither Conv, ConvTranspose, Gemm nor MatMul");
        ck_assert_ptr_null(r->weights[0]);
        ck_assert_int_lt(qc_graph_find_value(r->graph, "w1_quantized"), 0);
    }
    tg_done(&t);
}
END_TEST

START_TEST(modes__weights_that_are_data__stay_f32)
{
    struct tg t;
    tg_init(&t);
    int x = tg_input(&t, "x", 2, 4, 4);
    tg_output(&t, tg_node(&t, "square", QC_OP_MATMUL, 2, x, x));
    tg_bind(&t);
    for (int dynamic = 0; dynamic < 2; dynamic++) {
        struct qc_rewrite *r = rewrite(&t, dynamic == 1, &per_channel);
        ck_assert_int_eq(r->n_quantized, 0);
        ck_assert_str_eq(r->reason[0], "automatic: the weights are not f32 constants");
    }
    tg_done(&t);
}
END_TEST

START_TEST(dynamic__long_sums_and_transposed_input__stay_f32)
{
    struct tg t;
    tg_init(&t);
    int x = tg_input(&t, "x", 2, 1, QC_DYNAMIC_DEPTH + 1);
    tg_output(&t, tg_node(&t, "fc", QC_OP_MATMUL, 2, x,
                          tg_floats(&t, "w", 0, 1, 2, QC_DYNAMIC_DEPTH + 1, 1)));
    tg_bind(&t);
    struct qc_rewrite *r = rewrite(&t, true, &per_channel);
    ck_assert_str_eq(r->reason[0], "automatic: sums of that many products could pass 32 bits");
    tg_done(&t);
    tg_init(&t);
    x = tg_input(&t, "x", 2, 4, 1);
    tg_output(&t, tg_node(&t, "fc", QC_OP_GEMM, 2, x, tg_floats(&t, "w", 0, 1, 2, 4, 3)));
    tg_attr_int(&t, "transA", 1);
    tg_bind(&t);
    r = rewrite(&t, true, &per_channel);
    ck_assert_str_eq(r->reason[0], "automatic: the input is transposed");
    tg_done(&t);
}
END_TEST

START_TEST(modes__weights_not_finite__named)
{
    struct tg t;
    struct qc_rewrite *r = NULL;
    tg_init(&t);
    build_net(&t);
    ((float *)value(t.g, "w4")->constant->data)[3] = NAN;
    ck_assert_int_eq(qc_quantize_weight_only(t.g, &per_channel, &t.arena, &r, &t.err),
                     QD_INVALID);
    ck_assert_msg(strstr(t.err.message, "'fc2'") != NULL, "%s", t.err.message);
    ck_assert_int_eq(qc_quantize_dynamic(t.g, &per_channel, &t.arena, &r, &t.err), QD_INVALID);
    tg_done(&t);
}
END_TEST

Suite *test_quant_modes_suite(void)
{
    Suite *suite = suite_create("test_quant_modes");
    TCase *tcase = tcase_create("weight_only");
    tcase_add_test(tcase, weight_only__net__weights_alone_are_rounded);
    tcase_add_test(tcase, weight_only__per_tensor__one_scale_and_no_axis);
    tcase_add_test(tcase, weight_only__asymmetric__zero_points_beside_the_scales);
    tcase_add_test(tcase, weight_only__shared_weights__stored_once_an_axis);
    tcase_add_test(tcase, weight_only__model_has_integer_weights__kept_to_the_byte);
    tcase_add_loop_test(tcase, weight_only__means_known__rounding_leaves_no_mean, 0, 2);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("dynamic");
    tcase_add_test(tcase, dynamic__net__integers_with_the_scale_of_the_run);
    tcase_add_test(tcase, dynamic__per_tensor__scalar_scales);
    tcase_add_test(tcase, dynamic__shared_tensors__quantized_and_stored_once);
    tcase_add_test(tcase, dynamic__other_ranks__same_values);
    tcase_add_loop_test(tcase, dynamic__means_known__bias_is_added, 0, 2);
    tcase_add_test(tcase, dynamic__long_sums_and_transposed_input__stay_f32);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("both");
    tcase_add_test(tcase, modes__excluded_and_unfit_nodes__stay_with_their_reason);
    tcase_add_test(tcase, modes__weights_that_are_data__stay_f32);
    tcase_add_test(tcase, modes__weights_not_finite__named);
    suite_add_tcase(suite, tcase);
    return suite;
}
