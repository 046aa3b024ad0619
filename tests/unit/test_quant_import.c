/* Networks that are quantized already: what is taken off them, and that it comes back. Trained ones
 * are in test_quant_import_trained.c. */
#include <math.h>

#include "quantcore/quant/quantize_graph.h"
#include "tests/unit/test_graph_build.h"

static struct tg t;
static struct qc_import *import;

static void setup(void)
{
    tg_init(&t);
}

static void teardown(void)
{
    tg_done(&t);
}

/* ---- building ----------------------------------------------------------------------------- */

/* A constant of bytes or s32 from ints; rank 0 for n = 0. */
static int codes(const char *name, enum qc_dtype dtype, int rank, const int64_t *dims,
                 const int *values)
{
    struct qc_tensor *x = tg_tensor(&t, dtype, rank, dims);
    for (size_t i = 0; i < qc_shape_elements(&x->shape); i++) {
        if (dtype == QC_S32) {
            ((int32_t *)x->data)[i] = values[i];
        } else {
            ((uint8_t *)x->data)[i] = (uint8_t)values[i];
        }
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t.g, name, x, &v, &t.err), QD_OK);
    return v;
}

static int scalar(const char *base, const char *suffix, enum qc_dtype dtype, double value)
{
    const char *name;
    ck_assert_int_eq(qd_arena_printf(&t.arena, &name, &t.err, "%s_%s", base, suffix), QD_OK);
    if (dtype == QC_F32) {
        return tg_floats(&t, name, (float)value, 0, 0);
    }
    return codes(name, dtype, 0, NULL, (int[]){(int)value});
}

/* x -> QuantizeLinear -> DequantizeLinear, both with this pair. */
static int fake_quant(const char *name, int x, enum qc_dtype dtype, float scale, int zero_point)
{
    const char *q, *dq;
    ck_assert_int_eq(qd_arena_printf(&t.arena, &q, &t.err, "%s_q", name), QD_OK);
    ck_assert_int_eq(qd_arena_printf(&t.arena, &dq, &t.err, "%s_dq", name), QD_OK);
    int s = scalar(name, "s", QC_F32, (double)scale);
    int z = scalar(name, "z", dtype, zero_point);
    int y = tg_node(&t, q, QC_OP_QUANTIZE_LINEAR, 3, x, s, z);
    return tg_node(&t, dq, QC_OP_DEQUANTIZE_LINEAR, 3, y, s, z);
}

enum { N_OUT = 2, N_IN = 3 };

/* s8 weights [2,3,1,1] with a scale an output channel behind DequantizeLinear. */
static int conv_weights(void)
{
    int w = codes("w_codes", QC_S8, 4, (int64_t[]){N_OUT, N_IN, 1, 1},
                  (int[]){127, -5, 3, 64, -128, 7});
    int s = tg_floats(&t, "w_scales", 0.5f, 0.25f, 1, N_OUT);
    int z = codes("w_zeros", QC_S8, 1, (int64_t[]){N_OUT}, (int[]){0, 0});
    int y = tg_node(&t, "w", QC_OP_DEQUANTIZE_LINEAR, 3, w, s, z);
    tg_attr_int(&t, "axis", 0);
    return y;
}

/* s32 bias with scale s_x * s_w. */
static int conv_bias(float s_x)
{
    int b = codes("b_codes", QC_S32, 1, (int64_t[]){N_OUT}, (int[]){100, -200});
    int s = tg_floats(&t, "b_scales", 0.5f * s_x, 0.25f * s_x, 1, N_OUT);
    int z = codes("b_zeros", QC_S32, 1, (int64_t[]){N_OUT}, (int[]){0, 0});
    int y = tg_node(&t, "b", QC_OP_DEQUANTIZE_LINEAR, 3, b, s, z);
    tg_attr_int(&t, "axis", 0);
    return y;
}

static void run_passes(void)
{
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_OK);
    ck_assert_msg(qc_passes_run_import(t.g, &import, &t.err) == QD_OK, "%s", t.err.message);
}

static int value(const char *name)
{
    int v = qc_graph_find_value(t.g, name);
    ck_assert_msg(v >= 0, "no value '%s'", name);
    return v;
}

static void check_pair(const struct qc_qparams *p, enum qc_dtype dtype, float scale, int zp)
{
    ck_assert_ptr_nonnull(p);
    ck_assert(p->scale == scale);
    ck_assert_int_eq(p->zero_point, zp);
    ck_assert_int_eq(p->is_s8, dtype == QC_S8);
}

/* ---- quantizing --------------------------------------------------------------------------- */

static struct qc_quantize_plan *plan;
static struct qc_qparams *pairs;
static struct qc_quantized_graph *quantized;

/* Calibrated ranges are [-1, 1] everywhere, the channel means 1. */
static void quantize_excluding(struct qc_exclude exclude)
{
    static const double ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const double *means[128];
    int n_means[128];
    struct qc_range ranges[128];
    struct qc_quantize_options options = {.weights_per_channel = true,
                                          .bias_correction = true,
                                          .import = import,
                                          .exclude = exclude};
    ck_assert_int_le(t.g->n_values, 128);
    ck_assert_msg(qc_quantize_plan_new(t.g, &options, &t.arena, &plan, &t.err) == QD_OK, "%s",
                  t.err.message);
    for (int v = 0; v < t.g->n_values; v++) {
        const struct qc_shape *s = &t.g->values[v].shape;
        ranges[v] = (struct qc_range){.lo = -1, .hi = 1};
        means[v] = plan->channel_axis[v] >= 0 ? ones : NULL;
        n_means[v] = s->rank > 1 ? (int)s->dim[1] : 0;
    }
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &t.arena, &pairs, &t.err), QD_OK);
    ck_assert_msg(qc_quantize_graph(plan, pairs, means, n_means, &t.arena, &quantized, &t.err) ==
                      QD_OK,
                  "%s", t.err.message);
}

static void quantize(void)
{
    quantize_excluding((struct qc_exclude){0});
}

static const struct qc_node *new_node(const char *name)
{
    for (int i = 0; i < quantized->graph->n_nodes; i++) {
        if (strcmp(quantized->graph->nodes[i].name, name) == 0) {
            return &quantized->graph->nodes[i];
        }
    }
    ck_abort_msg("no node '%s'", name);
    return NULL;
}

/* The node that gives input k of a node of the quantized graph. */
static const struct qc_node *feeder(const char *name, int k)
{
    const struct qc_graph *q = quantized->graph;
    int p = q->values[new_node(name)->inputs[k]].producer;
    return p >= 0 ? &q->nodes[p] : NULL;
}

static const struct qc_tensor *constant_of(const struct qc_node *n, int k)
{
    return qc_node_constant(quantized->graph, n, k);
}

/* x -> conv(relu) -> y, quantized completely: s8, scales 0.1 and 0.2. */
static void build_conv(float bias_scale)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, N_IN, 4, 4), QC_S8, 0.1f, -128);
    int w = conv_weights();
    int b = conv_bias(bias_scale);
    int c = tg_node(&t, "conv", QC_OP_CONV, 3, x, w, b);
    int r = tg_node(&t, "relu", QC_OP_RELU, 1, c);
    tg_output(&t, fake_quant("y", r, QC_S8, 0.2f, -128));
}

/* ---- what is taken off -------------------------------------------------------------------- */

START_TEST(passes_run_import__quantized_conv__f32_conv_and_its_pairs)
{
    build_conv(0.1f);
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 1);
    ck_assert_int_eq(t.g->nodes[0].op, QC_OP_CONV);
    ck_assert(t.g->nodes[0].clamp.present);
    ck_assert_int_eq(import->n_pairs, 2);
    ck_assert_int_eq(import->n_constants, 2);
    check_pair(qc_import_pair(import, t.g->inputs[0].value), QC_S8, 0.1f, -128);
    check_pair(qc_import_pair(import, t.g->outputs[0].value), QC_S8, 0.2f, -128);
    ck_assert_str_eq(t.g->values[t.g->outputs[0].value].name, "y_dq_y");
    const float *w = t.g->values[t.g->nodes[0].inputs[1]].constant->data;
    const float want[] = {63.5f, -2.5f, 1.5f, 48.0f, -96.0f, 5.25f};
    ck_assert_mem_eq(w, want, sizeof(want));
    ck_assert_ptr_nonnull(qc_import_constant(import, t.g, t.g->nodes[0].inputs[1]));
    ck_assert_ptr_nonnull(qc_import_constant(import, t.g, t.g->nodes[0].inputs[2]));
}
END_TEST

/* BatchNormalization whose Relu was left out, as its codes begin at 0 (zero point 0); and one
 * that somebody reads without codes. */
START_TEST(import_activations__codes_from_zero__saturate_as_a_relu)
{
    int x = tg_input(&t, "x", 4, -1, 1, 2, 2);
    int one = tg_floats(&t, "one", 1, 0, 1, 1);
    int a = tg_node(&t, "bn", QC_OP_BATCH_NORMALIZATION, 5, x, one, one, one, one);
    int b = tg_node(&t, "add", QC_OP_ADD, 2, x, x);
    tg_output(&t, tg_node(&t, "cat", QC_OP_CONCAT, 3, fake_quant("a", a, QC_U8, 0.1f, 0),
                          fake_quant("b", b, QC_U8, 0.1f, 0), b));
    tg_attr_int(&t, "axis", 1);
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 3);
    ck_assert(t.g->nodes[0].clamp.present && t.g->nodes[0].clamp.lo == 0);
    ck_assert(t.g->nodes[0].clamp.hi == 0.1f * 255);
    ck_assert(!t.g->nodes[1].clamp.present);
    quantize(); /* QuantizeLinear saturates by itself */
    ck_assert(!new_node("bn")->clamp.present);
}
END_TEST

START_TEST(passes_run_import__f32_network__nothing)
{
    int x = tg_input(&t, "x", 2, 1, 3);
    tg_output(&t, tg_node(&t, "relu", QC_OP_RELU, 1, x));
    run_passes();
    ck_assert_ptr_null(import);
    ck_assert_ptr_null(qc_import_pair(import, x));
}
END_TEST

START_TEST(import_activations__pair_of_two_scales__stays)
{
    int x = tg_input(&t, "x", 2, 1, 3);
    int s = scalar("a", "s", QC_F32, 0.5);
    int s2 = scalar("b", "s", QC_F32, 0.25);
    int z = scalar("a", "z", QC_U8, 3);
    int q = tg_node(&t, "q", QC_OP_QUANTIZE_LINEAR, 3, x, s, z);
    tg_output(&t, tg_node(&t, "relu", QC_OP_RELU, 1,
                          tg_node(&t, "dq", QC_OP_DEQUANTIZE_LINEAR, 3, q, s2, z)));
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 3);
    ck_assert_int_eq(import->n_pairs, 0);
}
END_TEST

START_TEST(import_activations__codes_that_are_an_output__stay)
{
    int x = tg_input(&t, "x", 2, 1, 3);
    int s = scalar("a", "s", QC_F32, 0.5);
    int z = scalar("a", "z", QC_U8, 3);
    int q = tg_node(&t, "q", QC_OP_QUANTIZE_LINEAR, 3, x, s, z);
    tg_output(&t, q);
    tg_output(&t, tg_node(&t, "dq", QC_OP_DEQUANTIZE_LINEAR, 3, q, s, z));
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 2);
    ck_assert_int_eq(import->n_pairs, 0);
}
END_TEST

/* A network's input that is an output behind its codes has no node that could give that name. */
START_TEST(import_activations__input_to_output__stays)
{
    tg_output(&t, fake_quant("x", tg_input(&t, "x", 2, 1, 3), QC_U8, 0.5f, 3));
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 2);
    ck_assert_int_eq(import->n_pairs, 0);
}
END_TEST

START_TEST(import_activations__second_pair_on_a_tensor__first_wins_second_stays)
{
    int x = tg_input(&t, "x", 2, 1, 3);
    int a = fake_quant("a", x, QC_U8, 0.5f, 3);
    int b = fake_quant("b", a, QC_U8, 0.25f, 0);
    int c = fake_quant("c", x, QC_U8, 0.5f, 3);
    tg_output(&t, tg_node(&t, "add", QC_OP_ADD, 2, b, c));
    run_passes();
    check_pair(qc_import_pair(import, x), QC_U8, 0.5f, 3);
    ck_assert_int_eq(import->n_pairs, 1);
    ck_assert_int_eq(t.g->n_nodes, 3); /* b's two and the Add */
    ck_assert_int_eq(t.g->nodes[0].inputs[0], x);
    ck_assert_int_eq(t.g->nodes[2].inputs[1], x);
}
END_TEST

START_TEST(passes_run_import__bad_scale__named)
{
    static const float scales[] = {0, -1, NAN, INFINITY};
    int x = tg_input(&t, "x", 2, 1, 3);
    tg_output(&t, tg_node(&t, "relu", QC_OP_RELU, 1, fake_quant("x", x, QC_U8, scales[_i], 3)));
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_OK);
    ck_assert_int_eq(qc_passes_run_import(t.g, &import, &t.err), QD_INVALID);
    ck_assert_msg(strstr(t.err.message, "x_s") != NULL, "%s", t.err.message);
    ck_assert_msg(strstr(t.err.message, "above 0") != NULL, "%s", t.err.message);
}
END_TEST

/* ---- constants ---------------------------------------------------------------------------- */

START_TEST(import_constants__transposed__codes_and_axis_move)
{
    int x = fake_quant("x", tg_input(&t, "x", 2, -1, 3), QC_U8, 0.1f, 3);
    int w = codes("w_codes", QC_S8, 2, (int64_t[]){2, 3}, (int[]){1, 2, 3, 4, 5, 6});
    int s = tg_floats(&t, "w_scales", 0.5f, 0.25f, 1, 2);
    int z = codes("w_zeros", QC_S8, 1, (int64_t[]){2}, (int[]){0, 0});
    int dq = tg_node(&t, "w", QC_OP_DEQUANTIZE_LINEAR, 3, w, s, z);
    tg_attr_int(&t, "axis", -2);
    int m = tg_node(&t, "mm", QC_OP_MATMUL, 2, x, tg_node(&t, "turn", QC_OP_TRANSPOSE, 1, dq));
    tg_output(&t, m);
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 1);
    const struct qc_imported_constant *c =
        qc_import_constant(import, t.g, t.g->nodes[0].inputs[1]);
    ck_assert_ptr_nonnull(c);
    ck_assert_int_eq(c->axis, 1);
    const int8_t want[] = {1, 4, 2, 5, 3, 6};
    ck_assert_mem_eq(t.g->values[c->code].constant->data, want, sizeof(want));
    quantize();
    ck_assert_ptr_eq(constant_of(feeder("mm", 1), 0), t.g->values[c->code].constant);
    ck_assert_int_eq(qc_node_int(feeder("mm", 1), "axis", 9), 1);
}
END_TEST

START_TEST(import_constants__f32_weights_behind_both__codes)
{
    int x = fake_quant("x", tg_input(&t, "x", 2, -1, 3), QC_U8, 0.1f, 3);
    int w = fake_quant("w", tg_floats(&t, "w_real", -0.9f, 0.3f, 2, 3, 2), QC_S8, 0.25f, 0);
    tg_output(&t, tg_node(&t, "mm", QC_OP_MATMUL, 2, x, w));
    run_passes();
    quantize();
    const int8_t want[] = {-4, -2, -1, 0, 1, 2}; /* -3.6, -2.4, -1.2, 0, 1.2, 2.4 */
    ck_assert_int_eq(import->n_constants, 1);
    ck_assert_mem_eq(constant_of(feeder("mm", 1), 0)->data, want, sizeof(want));
}
END_TEST

/* Conv -> BatchNormalization with gains 2 and `second`: scales times gains, the same codes. */
static void build_bn(float second)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, N_IN, 4, 4), QC_U8, 0.1f, 3);
    int c = tg_node(&t, "conv", QC_OP_CONV, 2, x, conv_weights());
    int gamma = tg_floats(&t, "gamma", 4, 2 * second - 4, 1, N_OUT);
    int beta = tg_floats(&t, "beta", 1, 1, 1, N_OUT);
    int mean = tg_floats(&t, "mean", 0, 0, 1, N_OUT);
    int var = tg_floats(&t, "var", 4, 0, 1, N_OUT);
    tg_output(&t, tg_node(&t, "bn", QC_OP_BATCH_NORMALIZATION, 5, c, gamma, beta, mean, var));
    tg_attr_float(&t, "epsilon", 0);
    run_passes();
    ck_assert_int_eq(t.g->n_nodes, 1);
    quantize();
}

START_TEST(import_constants__batch_normalization_folded__the_scales_take_it)
{
    build_bn(3);
    const struct qc_node *w = feeder("conv", 1);
    ck_assert_ptr_eq(constant_of(w, 0), t.g->values[value("w_codes")].constant);
    const float *scale = constant_of(w, 1)->data;
    ck_assert(scale[0] == 0.5f * 2 && scale[1] == 0.75f * 3);
    ck_assert(quantized->weights[0]->imported);
}
END_TEST

START_TEST(import_constants__folded_with_a_negative_gain__quantized_anew)
{
    build_bn(-3);
    ck_assert(!quantized->weights[0]->imported);
    ck_assert_int_eq(((const int8_t *)constant_of(feeder("conv", 1), 0)->data)[4], 127);
}
END_TEST

/* ---- what comes back ---------------------------------------------------------------------- */

START_TEST(quantize_graph__quantized_conv__the_model_again)
{
    build_conv(0.1f);
    run_passes();
    int w = value("w_codes"), b = value("b_codes"), bs = value("b_scales");
    quantize();
    const struct qc_graph *q = quantized->graph;
    ck_assert_ptr_eq(constant_of(feeder("conv", 1), 0), t.g->values[w].constant);
    ck_assert_ptr_eq(constant_of(feeder("conv", 2), 0), t.g->values[b].constant);
    ck_assert_ptr_eq(constant_of(feeder("conv", 2), 1), t.g->values[bs].constant);
    ck_assert_int_eq(qc_node_int(feeder("conv", 1), "axis", 9), 0);
    /* both pairs as they were, the clamp at 0 is the first code of the output */
    const struct qc_node *x = feeder("conv", 0);
    ck_assert(qc_tensor_f64(constant_of(x, 1), 0) == (double)0.1f);
    ck_assert_int_eq(constant_of(x, 2)->dtype, QC_S8);
    ck_assert_int_eq(qc_tensor_s64(constant_of(x, 2), 0), -128);
    ck_assert(!new_node("conv")->clamp.present);
    const struct qc_value *y = &q->values[q->outputs[0].value];
    ck_assert_str_eq(y->name, "y_dq_y");
    ck_assert_int_eq(q->nodes[y->producer].op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert(qc_tensor_f64(constant_of(&q->nodes[y->producer], 1), 0) == (double)0.2f);
    /* Q, DQ, DQ, DQ, Conv, Q, DQ */
    ck_assert_int_eq(q->n_nodes, 7);
}
END_TEST

/* Whatever the pass-1 means say: its value is kept, the codes follow the accumulator's scale. */
START_TEST(quantize_graph__bias_of_another_scale__same_value_not_corrected)
{
    build_conv(0.4f);
    run_passes();
    quantize();
    const struct qc_tensor *q = constant_of(feeder("conv", 2), 0);
    ck_assert_int_eq(((const int32_t *)q->data)[0], 400);
    ck_assert_int_eq(((const int32_t *)q->data)[1], -800);
}
END_TEST

START_TEST(quantize_graph__f32_bias_without_room__stays_f32)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, N_IN, 4, 4), QC_U8, 0.1f, 3);
    int b = tg_floats(&t, "bias", 1e9f, 0, 1, N_OUT);
    int w = conv_weights();
    tg_output(&t, tg_node(&t, "conv", QC_OP_CONV, 3, x, w, b));
    run_passes();
    quantize();
    ck_assert(quantized->weights[0]->f32_bias);
    ck_assert_ptr_null(feeder("conv", 2));
    ck_assert_int_eq(constant_of(new_node("conv"), 2)->dtype, QC_F32);
    ck_assert_ptr_eq(constant_of(feeder("conv", 1), 1), t.g->values[value("w_scales")].constant);
}
END_TEST

START_TEST(quantize_graph__u8_weights__as_they_are)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, 1, 4, 4), QC_U8, 0.1f, 3);
    int w = codes("w_codes", QC_U8, 4, (int64_t[]){1, 1, 1, 1}, (int[]){200});
    int dq = tg_node(&t, "w", QC_OP_DEQUANTIZE_LINEAR, 3, w, scalar("w", "s", QC_F32, 0.5),
                     scalar("w", "z", QC_U8, 100));
    tg_output(&t, tg_node(&t, "conv", QC_OP_CONV, 2, x, dq));
    run_passes();
    quantize();
    ck_assert_ptr_eq(constant_of(feeder("conv", 1), 0), t.g->values[w].constant);
    ck_assert_int_eq(qc_tensor_s64(constant_of(feeder("conv", 1), 2), 0), 100);
    ck_assert_int_eq(quantized->weights[0]->zero_point[0], 100);
    ck_assert(qc_quantized_weights_value(quantized->weights[0], 0) == 50);
}
END_TEST

START_TEST(quantize_graph__excluded_conv__keeps_its_integer_weights)
{
    const char *names[] = {"conv"};
    build_conv(0.1f);
    run_passes();
    quantize_excluding((struct qc_exclude){.nodes = names, .n_nodes = 1});
    ck_assert(!plan->integer[0]);
    ck_assert_ptr_eq(constant_of(feeder("conv", 1), 0), t.g->values[value("w_codes")].constant);
    ck_assert_ptr_eq(constant_of(feeder("conv", 2), 0), t.g->values[value("b_codes")].constant);
    /* not between a DequantizeLinear and a QuantizeLinear, where it would look like a unit */
    ck_assert_ptr_null(feeder("conv", 0));
    const struct qc_graph *q = quantized->graph;
    ck_assert_int_eq(q->nodes[q->values[q->outputs[0].value].producer].op,
                     QC_OP_DEQUANTIZE_LINEAR);
}
END_TEST

/* A tensor without a pair is calibrated, those around it are not. */
START_TEST(quantize_plan__half_quantized__the_rest_is_calibrated)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, N_IN, 4, 4), QC_S8, 0.1f, 5);
    int w = conv_weights();
    int a = tg_node(&t, "conv", QC_OP_CONV, 2, x, w);
    int v = tg_floats(&t, "v", 0.1f, 0.1f, 4, 2, N_OUT, 1, 1);
    tg_output(&t, tg_node(&t, "conv2", QC_OP_CONV, 2, a, v));
    run_passes();
    quantize();
    ck_assert(!qc_plan_is_imported(plan, a));
    check_pair(&pairs[t.g->inputs[0].value], QC_S8, 0.1f, 5);
    check_pair(&pairs[a], QC_U8, 2.0f / 255, 127); /* [-1, 1], the f32 scale above 2 / 255 */
    ck_assert_int_eq(constant_of(feeder("conv2", 0), 2)->dtype, QC_U8);
    ck_assert_int_eq(constant_of(feeder("conv2", 1), 0)->dtype, QC_S8);
    ck_assert_ptr_nonnull(quantized->weights[1]);
}
END_TEST

/* x(A) - flatten -> (B): each side keeps its own. */
START_TEST(quantize_plan__two_pairs_around_a_reshape__two_groups)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, 2, 1, 1), QC_U8, 0.1f, 5);
    int f = fake_quant("f", tg_node(&t, "flat", QC_OP_FLATTEN, 1, x), QC_U8, 0.3f, 6);
    int w = tg_floats(&t, "v", 0.1f, 0.1f, 2, 2, 2);
    tg_output(&t, tg_node(&t, "fc", QC_OP_GEMM, 2, f, w));
    run_passes();
    quantize();
    int flat = value("flat_y");
    check_pair(&pairs[t.g->inputs[0].value], QC_U8, 0.1f, 5);
    check_pair(&pairs[flat], QC_U8, 0.3f, 6);
    ck_assert_int_eq(plan->group[flat], flat);
    ck_assert_int_eq(plan->n_integer, 2);
}
END_TEST

/* conv - pool -> (B): rounding before the pool is the same as behind it. */
START_TEST(quantize_plan__pair_behind_a_pool__is_in_front_too)
{
    int x = fake_quant("x", tg_input(&t, "x", 4, -1, N_IN, 4, 4), QC_U8, 0.1f, 5);
    int w = conv_weights();
    int c = tg_node(&t, "conv", QC_OP_CONV, 2, x, w);
    int p = tg_node(&t, "pool", QC_OP_MAX_POOL, 1, c);
    tg_attr_ints(&t, "kernel_shape", 2, 2, 2);
    int f = fake_quant("p", p, QC_U8, 0.3f, 6);
    int v = tg_floats(&t, "v", 0.1f, 0.1f, 4, 2, N_OUT, 1, 1);
    tg_output(&t, tg_node(&t, "conv2", QC_OP_CONV, 2, f, v));
    run_passes();
    quantize();
    check_pair(&pairs[value("conv_y")], QC_U8, 0.3f, 6);
    ck_assert_int_eq(plan->group[value("pool_y")], value("conv_y"));
}
END_TEST

/* Calibration would leave both in f32; the model has them quantized. */
START_TEST(quantize_plan__quantized_tail__stays_quantized)
{
    int x = fake_quant("x", tg_input(&t, "x", 2, -1, 3), QC_U8, 0.1f, 5);
    int w = tg_floats(&t, "v", 0.1f, 0.1f, 2, 3, 4);
    int l = fake_quant("l", tg_node(&t, "fc", QC_OP_GEMM, 2, x, w), QC_U8, 0.3f, 6);
    int s = tg_node(&t, "softmax", QC_OP_SOFTMAX, 1, l);
    tg_output(&t, fake_quant("s", s, QC_U8, 1.0f / 256, 0));
    run_passes();
    quantize();
    const struct qc_graph *q = quantized->graph;
    ck_assert_int_eq(feeder("softmax", 0)->op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert(qc_tensor_f64(constant_of(feeder("softmax", 0), 1), 0) == (double)0.3f);
    const struct qc_node *last = &q->nodes[q->values[q->outputs[0].value].producer];
    ck_assert_int_eq(last->op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert(qc_tensor_f64(constant_of(last, 1), 0) == 1.0 / 256);
    ck_assert_str_eq(q->values[q->outputs[0].value].name, "s_dq_y");
}
END_TEST

START_TEST(quantize_plan__concat_of_imported_tensors__pairs_are_not_unified)
{
    int a = fake_quant("a", tg_input(&t, "a", 4, -1, 2, 1, 1), QC_U8, 0.1f, 5);
    int b = fake_quant("b", tg_input(&t, "b", 4, -1, 2, 1, 1), QC_U8, 0.11f, 5);
    int c = tg_node(&t, "cat", QC_OP_CONCAT, 2, a, b);
    tg_attr_int(&t, "axis", 1);
    int f = fake_quant("c", c, QC_U8, 0.12f, 5);
    int v = tg_floats(&t, "v", 0.1f, 0.1f, 4, 2, 4, 1, 1);
    tg_output(&t, tg_node(&t, "conv", QC_OP_CONV, 2, f, v));
    run_passes();
    quantize();
    check_pair(&pairs[t.g->inputs[0].value], QC_U8, 0.1f, 5);
    check_pair(&pairs[t.g->inputs[1].value], QC_U8, 0.11f, 5);
    check_pair(&pairs[value("cat_y")], QC_U8, 0.12f, 5);
}
END_TEST

Suite *test_quant_import_suite(void)
{
    Suite *s = suite_create("quant_import");
    TCase *tc = tcase_create("quant_import");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, passes_run_import__quantized_conv__f32_conv_and_its_pairs);
    tcase_add_test(tc, import_activations__codes_from_zero__saturate_as_a_relu);
    tcase_add_test(tc, passes_run_import__f32_network__nothing);
    tcase_add_loop_test(tc, passes_run_import__bad_scale__named, 0, 4);
    tcase_add_test(tc, import_activations__pair_of_two_scales__stays);
    tcase_add_test(tc, import_activations__codes_that_are_an_output__stay);
    tcase_add_test(tc, import_activations__input_to_output__stays);
    tcase_add_test(tc, import_activations__second_pair_on_a_tensor__first_wins_second_stays);
    tcase_add_test(tc, import_constants__transposed__codes_and_axis_move);
    tcase_add_test(tc, import_constants__f32_weights_behind_both__codes);
    tcase_add_test(tc, import_constants__batch_normalization_folded__the_scales_take_it);
    tcase_add_test(tc, import_constants__folded_with_a_negative_gain__quantized_anew);
    tcase_add_test(tc, quantize_graph__quantized_conv__the_model_again);
    tcase_add_test(tc, quantize_graph__excluded_conv__keeps_its_integer_weights);
    tcase_add_test(tc, quantize_graph__bias_of_another_scale__same_value_not_corrected);
    tcase_add_test(tc, quantize_graph__f32_bias_without_room__stays_f32);
    tcase_add_test(tc, quantize_graph__u8_weights__as_they_are);
    tcase_add_test(tc, quantize_plan__half_quantized__the_rest_is_calibrated);
    tcase_add_test(tc, quantize_plan__two_pairs_around_a_reshape__two_groups);
    tcase_add_test(tc, quantize_plan__pair_behind_a_pool__is_in_front_too);
    tcase_add_test(tc, quantize_plan__quantized_tail__stays_quantized);
    tcase_add_test(tc, quantize_plan__concat_of_imported_tensors__pairs_are_not_unified);
    suite_add_tcase(s, tc);
    return s;
}
