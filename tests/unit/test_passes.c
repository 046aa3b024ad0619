#include <math.h>

#include "quantcore/passes/pass.h"
#include "quantcore/passes/pass_bn_fold.h"
#include "quantcore/passes/pass_fuse_activation.h"
#include "quantcore/passes/pass_fuse_bias.h"
#include "quantcore/passes/pass_simplify.h"
#include "tests/unit/test_graph_build.h"

static struct tg t;

static void setup(void)
{
    tg_init(&t);
}

static void teardown(void)
{
    tg_done(&t);
}

static void expect_ok(enum qd_code code)
{
    ck_assert_msg(code == QD_OK, "%s", t.err.message);
}

static const float *floats_of(const char *name)
{
    int v = qc_graph_find_value(t.g, name);
    ck_assert_msg(v >= 0 && t.g->values[v].constant != NULL, "%s", name);
    return t.g->values[v].constant->data;
}

/* What torch.onnx writes for x.view(x.size(0), -1). */
static int view_of(int x, int wrong_axis)
{
    int shape = tg_node(&t, "shape", QC_OP_SHAPE, 1, x);
    int item = tg_node(&t, "item", QC_OP_GATHER, 2, shape, tg_ints(&t, "i", -1, wrong_axis));
    int one = tg_node(&t, "one", QC_OP_UNSQUEEZE, 2, item, tg_ints(&t, "ax", 1, 0));
    int cat = tg_node(&t, "cat", QC_OP_CONCAT, 2, one, tg_ints(&t, "rest", 1, -1));
    tg_attr_int(&t, "axis", 0);
    return tg_node(&t, "view", QC_OP_RESHAPE, 2, x, cat);
}

START_TEST(simplify__view_of_batch__shape_nodes_stay_marked)
{
    int x = tg_input(&t, "x", 3, -1, 4, 5);
    tg_output(&t, view_of(x, 0));
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "shape Shape(x[1*,4,5]f32) -> shape_y[3]s64 shape_only\n"
                  "item Gather(shape_y[3]s64, i) -> item_y[]s64 shape_only\n"
                  "one Unsqueeze(item_y[]s64, ax) -> one_y[1]s64 shape_only\n"
                  "cat Concat(one_y[1]s64, rest) -> cat_y[2]s64 shape_only {axis=0}\n"
                  "view Reshape(x[1*,4,5]f32, cat_y[2]s64) -> view_y[1*,20]f32\n");
    int cat = qc_graph_find_value(t.g, "cat_y");
    ck_assert_uint_eq(t.g->values[cat].symbolic_elements, 1);
    ck_assert_int_eq(qc_tensor_s64(t.g->values[cat].constant, 1), -1);
}
END_TEST

START_TEST(simplify__view_of_fixed_dim__everything_folds)
{
    int x = tg_input(&t, "x", 3, -1, 4, 5);
    tg_output(&t, view_of(x, 1));
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "view Reshape(x[1*,4,5]f32, cat_y) -> view_y[4,5*]f32\n");
    int cat = qc_graph_find_value(t.g, "cat_y");
    ck_assert_int_eq(qc_tensor_s64(t.g->values[cat].constant, 0), 4);
}
END_TEST

START_TEST(simplify__arithmetic_on_batch__all_elements_follow)
{
    int x = tg_input(&t, "x", 3, -1, 4, 5);
    int shape = tg_node(&t, "shape", QC_OP_SHAPE, 1, x);
    int twice = tg_node(&t, "twice", QC_OP_ADD, 2, shape, shape);
    int tail = tg_node(&t, "tail", QC_OP_SLICE, 3, twice, tg_ints(&t, "b", 1, 1),
                       tg_ints(&t, "e", 1, 3));
    int exact = tg_node(&t, "exact", QC_OP_SLICE, 3, shape, tg_ints(&t, "b2", 1, 1),
                        tg_ints(&t, "e2", 1, 3));
    tg_output(&t, tail);
    tg_output(&t, exact);
    expect_ok(qc_pass_simplify(t.g, &t.err));
    ck_assert_uint_eq(t.g->values[tail].symbolic_elements, 3);
    ck_assert_uint_eq(t.g->values[exact].symbolic_elements, 0);
    ck_assert_int_eq(qc_tensor_s64(t.g->values[tail].constant, 1), 10);
    ck_assert(t.g->nodes[t.g->n_nodes - 1].shape_only); /* constant, but a graph output */
}
END_TEST

/* A Split node "s" of x with n outputs, the first without a name. */
static struct qc_node *split_of(int x, int n)
{
    (void)tg_node(&t, "s", QC_OP_SPLIT, 1, x);
    struct qc_node *s = &t.g->nodes[t.g->n_nodes - 1];
    int *outputs = NULL;
    expect_ok(qd_arena_array(&t.arena, (size_t)n, sizeof(int), &outputs, &t.err));
    outputs[0] = -1;
    for (int k = 1; k < n; k++) {
        const char *name = NULL;
        expect_ok(qd_arena_printf(&t.arena, &name, &t.err, "part%d", k));
        expect_ok(qc_graph_add_value(t.g, name, &outputs[k], &t.err));
    }
    s->outputs = outputs;
    s->n_outputs = n;
    return s;
}

START_TEST(simplify__split_of_equal_parts__has_sizes_and_names)
{
    int x = tg_input(&t, "x", 3, -1, 7, 2);
    struct qc_node *s = split_of(x, 3);
    tg_attr_int(&t, "num_outputs", 3);
    tg_attr_int(&t, "axis", -2);
    tg_output(&t, s->outputs[1]);
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "s Split(x[1*,7,2]f32, s_split) -> s_part_0[1*,3,2]f32, part1[1*,3,2]f32, "
                  "part2[1*,1,2]f32 {axis=1}\n");
    const struct qc_tensor *sizes = qc_node_constant(t.g, &t.g->nodes[0], 1);
    ck_assert_int_eq(qc_tensor_s64(sizes, 0), 3);
    ck_assert_int_eq(qc_tensor_s64(sizes, 2), 1);
}
END_TEST

/* [N,4,5] in parts: N follows the batch, the others are numbers. */
START_TEST(simplify__split_of_a_shape__folds)
{
    int x = tg_input(&t, "x", 3, -1, 4, 5);
    int shape = tg_node(&t, "shape", QC_OP_SHAPE, 1, x);
    struct qc_node *s = split_of(shape, 3);
    int n = s->outputs[1], last = s->outputs[2];
    int cat = tg_node(&t, "cat", QC_OP_CONCAT, 3, last, n, tg_ints(&t, "i", 1, -1));
    tg_attr_int(&t, "axis", 0);
    tg_output(&t, tg_node(&t, "view", QC_OP_RESHAPE, 2, x, cat));
    expect_ok(qc_pass_simplify(t.g, &t.err));
    ck_assert_uint_eq(t.g->values[n].symbolic_elements, 0);
    ck_assert_int_eq(qc_tensor_s64(t.g->values[n].constant, 0), 4);
    ck_assert_int_eq(qc_tensor_s64(t.g->values[last].constant, 0), 5);
    int first = qc_graph_find_value(t.g, "s_part_0");
    ck_assert_uint_eq(t.g->values[first].symbolic_elements, 1);
}
END_TEST

START_TEST(simplify__constant_attributes__become_constants)
{
    int x = tg_input(&t, "x", 2, 2, 3);
    int c = tg_node(&t, "c", QC_OP_CONSTANT, 0);
    tg_attr_ints(&t, "value_ints", 2, 3, 2);
    int f = tg_node(&t, "f", QC_OP_CONSTANT, 0);
    tg_attr_float(&t, "value_float", 0.5f);
    int r = tg_node(&t, "r", QC_OP_RESHAPE, 2, x, c);
    tg_output(&t, tg_node(&t, "m", QC_OP_MUL, 2, r, f));
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "r Reshape(x[2,3]f32, c_y) -> r_y[3,2]f32\n"
                  "m Mul(r_y[3,2]f32, f_y) -> m_y[3,2]f32\n");
    ck_assert(floats_of("f_y")[0] == 0.5f);
}
END_TEST

START_TEST(simplify__identity_and_dropout__gone_outputs_keep_names)
{
    int x = tg_input(&t, "x", 2, 2, 3);
    int i0 = tg_node(&t, "i0", QC_OP_IDENTITY, 1, x);
    int a = tg_node(&t, "a", QC_OP_RELU, 1, i0);
    int early = tg_node(&t, "early", QC_OP_TANH, 1, a);
    int d = tg_node(&t, "d", QC_OP_DROPOUT, 1, a);
    int i1 = tg_node(&t, "i1", QC_OP_IDENTITY, 1, d); /* output: a produces i1_y */
    int i2 = tg_node(&t, "i2", QC_OP_IDENTITY, 1, d); /* second output of the same: stays */
    int i3 = tg_node(&t, "i3", QC_OP_IDENTITY, 1, x); /* of a graph input: stays */
    tg_output(&t, early);
    tg_output(&t, i1);
    tg_output(&t, i2);
    tg_output(&t, i3);
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "a Relu(x[2,3]f32) -> i1_y[2,3]f32\n"
                  "early Tanh(i1_y[2,3]f32) -> early_y[2,3]f32\n"
                  "i2 Identity(i1_y[2,3]f32) -> i2_y[2,3]f32\n"
                  "i3 Identity(x[2,3]f32) -> i3_y[2,3]f32\n");
}
END_TEST

static int pad_and_conv(int x, int p0, int p2, int p7, float value)
{
    int p = tg_node(&t, "p", QC_OP_PAD, 3, x, tg_ints(&t, "ps", 8, p0, 0, p2, 0, 0, 0, 0, p7),
                    tg_floats(&t, "v", value, 0, 0));
    int y = tg_node(&t, "c", QC_OP_CONV, 2, p, tg_floats(&t, "w", 1, 1, 4, 2, 3, 3, 3));
    tg_attr_ints(&t, "pads", 4, 1, 1, 1, 1);
    return y;
}

START_TEST(simplify__zero_pad_before_conv__joins)
{
    tg_output(&t, pad_and_conv(tg_input(&t, "x", 4, 1, 3, 8, 8), 0, 2, 3, 0));
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "c Conv(x[1,3,8,8]f32, w) -> c_y[1,2,10,11]f32 {pads=[3,1,1,4]}\n");
}
END_TEST

START_TEST(simplify__other_pads__stay)
{
    static const struct {
        int p0, p2, p7;
        float value;
    } cases[] = {{1, 0, 0, 0}, {0, -1, 0, 0}, {0, 1, 1, 0.5f}};
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        teardown();
        setup();
        tg_output(&t, pad_and_conv(tg_input(&t, "x", 4, 1, 3, 8, 8), cases[i].p0, cases[i].p2,
                                   cases[i].p7, cases[i].value));
        expect_ok(qc_pass_simplify(t.g, &t.err));
        ck_assert_int_eq(t.g->n_nodes, 2);
    }
}
END_TEST

START_TEST(simplify__some_axes__written_as_all)
{
    int x = tg_input(&t, "x", 4, -1, 3, 6, 9);
    int p = tg_node(&t, "p", QC_OP_PAD, 4, x, tg_ints(&t, "ps", 4, -1, 2, 3, 4), -1,
                    tg_ints(&t, "axes", 2, -1, 2));
    int r = tg_node(&t, "r", QC_OP_RESIZE, 3, p, -1, tg_floats(&t, "k", 2.0f, 0, 1, 1));
    tg_attr_ints(&t, "axes", 1, -2);
    int s = tg_node(&t, "s", QC_OP_RESIZE, 4, r, -1, -1, tg_ints(&t, "z", 2, 36, 4));
    tg_attr_ints(&t, "axes", 2, 2, 3);
    tg_output(&t, s);
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "p Pad(x[1*,3,6,9]f32, ps, _) -> p_y[1*,3,12,11]f32\n"
                  "r Resize(p_y[1*,3,12,11]f32, _, k) -> r_y[1*,3,24,11]f32\n"
                  "s Resize(r_y[1*,3,24,11]f32, _, s_scales) -> s_y[1*,3,36,4]f32\n");
    static const int64_t pads[8] = {0, 0, 2, -1, 0, 0, 4, 3};
    static const float scales[2][4] = {{1, 1, 2, 1}, {1, 1, 1.5f, 4.0f / 11}};
    ck_assert_mem_eq(qc_node_constant(t.g, &t.g->nodes[0], 1)->data, pads, sizeof(pads));
    for (int i = 0; i < 2; i++) {
        ck_assert_mem_eq(qc_node_constant(t.g, &t.g->nodes[i + 1], 2)->data, scales[i],
                         sizeof(scales[i]));
    }
}
END_TEST

/* No f32 scale makes 33,554,431 of 1: the sizes stay. */
START_TEST(simplify__sizes_without_a_scale__keep_their_axes)
{
    int x = tg_input(&t, "x", 4, -1, 1, 1, 1);
    int r = tg_node(&t, "r", QC_OP_RESIZE, 4, x, -1, -1, tg_ints(&t, "z", 1, (1 << 25) - 1));
    tg_attr_ints(&t, "axes", 1, 3);
    tg_output(&t, r);
    expect_ok(qc_pass_simplify(t.g, &t.err));
    tg_expect(&t, "r Resize(x[1*,1,1,1]f32, _, _, z) -> r_y[1*,1,1,33554431]f32 {axes=[3]}\n");
}
END_TEST

static enum qd_code refuse(struct qc_graph *g, int node, struct qd_arena *arena,
                           const struct qc_tensor **ret_outputs, struct qd_error *err)
{
    (void)arena;
    (void)ret_outputs;
    bool gather = g->nodes[node].op == QC_OP_GATHER;
    return qd_fail(err, gather ? QD_INVALID : QD_UNSUPPORTED, "no %s", g->nodes[node].op_type);
}

START_TEST(simplify__evaluator_refuses__node_stays_or_error_passes)
{
    int a = tg_floats(&t, "a", 1, 1, 1, 4);
    int y = tg_node(&t, "r", QC_OP_RELU, 1, a);
    tg_output(&t, y);
    expect_ok(qc_pass_simplify_with(t.g, refuse, &t.err));
    tg_expect(&t, "r Relu(a) -> r_y[4]f32\n");
    tg_output(&t, tg_node(&t, "g", QC_OP_GATHER, 2, a, tg_ints(&t, "i", -1, 0)));
    ck_assert_int_eq(qc_pass_simplify_with(t.g, refuse, &t.err), QD_INVALID);
    ck_assert_str_eq(t.err.message, "no Gather");
}
END_TEST

/* BatchNormalization of channels c: gamma 1 + c, beta 0.5, mean c / 2, variance 0.25 + c. */
static int norm_of(int x, int channels)
{
    return tg_node(
        &t, "bn", QC_OP_BATCH_NORMALIZATION, 5, x, tg_floats(&t, "gamma", 1, 1, 1, channels),
        tg_floats(&t, "beta", 0.5f, 0, 1, channels), tg_floats(&t, "mean", 0, 0.5f, 1, channels),
        tg_floats(&t, "var", 0.25f, 1, 1, channels));
}

static void expect_folded(const float *w, const float *b, int channels, int inner, bool by_column,
                          double old_bias, double scale)
{
    for (int c = 0; c < channels; c++) {
        double gain = (1.0 + c) / sqrt(0.25 + c + (double)1e-5f);
        for (int i = 0; i < inner; i++) {
            int at = by_column ? i * channels + c : c * inner + i;
            ck_assert_float_eq(w[at], (float)((1.0 + at) * gain * scale));
        }
        ck_assert_float_eq(b[c], (float)(0.5 + gain * (old_bias - 0.5 * c)));
    }
}

START_TEST(bn_fold__conv__weights_and_new_bias)
{
    int x = tg_input(&t, "x", 4, -1, 3, 8, 8);
    int y = tg_node(&t, "c", QC_OP_CONV, 2, x, tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 1));
    tg_output(&t, norm_of(y, 4));
    tg_bind(&t);
    const struct qc_tensor *old = t.g->values[qc_graph_find_value(t.g, "w")].constant;
    expect_ok(qc_pass_bn_fold(t.g, &t.err));
    tg_expect(&t, "c Conv(x[1*,3,8,8]f32, w, c_bias) -> bn_y[1*,4,8,8]f32\n");
    expect_folded(floats_of("w"), floats_of("c_bias"), 4, 3, false, 0, 1);
    /* nobody else reads them: folded in place, and still another tensor */
    ck_assert_ptr_eq(floats_of("w"), old->data);
    ck_assert_ptr_ne(t.g->values[qc_graph_find_value(t.g, "w")].constant, old);
}
END_TEST

/* Two groups of 2 to 3 channels: weights [4,3,1,2], channel g * 3 + m. The Add before it becomes the
 * bias, the Relu behind it the clamp. */
START_TEST(passes_run__conv_transpose_add_bn_relu__one_node)
{
    int x = tg_input(&t, "x", 4, -1, 4, 5, 6);
    int y = tg_node(&t, "c", QC_OP_CONV_TRANSPOSE, 2, x, tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 2));
    tg_attr_int(&t, "group", 2);
    y = tg_node(&t, "add", QC_OP_ADD, 2, y, tg_floats(&t, "b", 7, 0, 4, 1, 6, 1, 1));
    tg_output(&t, tg_node(&t, "r", QC_OP_RELU, 1, norm_of(y, 6)));
    expect_ok(qc_passes_run(t.g, &t.err));
    tg_expect(&t, "c ConvTranspose(x[1*,4,5,6]f32, w, c_bias) -> r_y[1*,6,5,7]f32 clamp[0,inf] "
                  "{group=2}\n");
    for (int i = 0; i < 4 * 3 * 2; i++) {
        int c = i / 12 * 3 + i / 2 % 3;
        double gain = (1.0 + c) / sqrt(0.25 + c + (double)1e-5f);
        ck_assert_float_eq(floats_of("w")[i], (float)((1.0 + i) * gain));
        ck_assert_float_eq(floats_of("c_bias")[c], (float)(0.5 + gain * (7 - 0.5 * c)));
    }
}
END_TEST

START_TEST(bn_fold__gemm_alpha_beta__scaled_in)
{
    int x = tg_input(&t, "x", 2, -1, 3);
    int y = tg_node(&t, "g", QC_OP_GEMM, 3, x, tg_floats(&t, "w", 1, 1, 2, 3, 4),
                    tg_floats(&t, "b", 7, 0, 1, 4));
    tg_attr_float(&t, "alpha", 2.0f);
    tg_attr_float(&t, "beta", 0.5f);
    tg_output(&t, norm_of(y, 4));
    tg_bind(&t);
    expect_ok(qc_pass_bn_fold(t.g, &t.err));
    tg_expect(&t, "g Gemm(x[1*,3]f32, w, b) -> bn_y[1*,4]f32 {alpha=1, beta=1}\n");
    expect_folded(floats_of("w"), floats_of("b"), 4, 3, true, 3.5, 2);
}
END_TEST

START_TEST(bn_fold__shared_weights__copied_not_overwritten)
{
    int x = tg_input(&t, "x", 4, -1, 3, 8, 8);
    int w = tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 1);
    int y = tg_node(&t, "c", QC_OP_CONV, 2, x, w);
    tg_output(&t, norm_of(y, 4));
    tg_output(&t, tg_node(&t, "c2", QC_OP_CONV, 2, x, w));
    tg_floats(&t, "c_weight", 9, 0, 1, 1); /* the name is taken */
    tg_bind(&t);
    expect_ok(qc_pass_bn_fold(t.g, &t.err));
    tg_expect(&t, "c Conv(x[1*,3,8,8]f32, c_weight_2, c_bias) -> bn_y[1*,4,8,8]f32\n"
                  "c2 Conv(x[1*,3,8,8]f32, w) -> c2_y[1*,4,8,8]f32\n");
    ck_assert(floats_of("w")[5] == 6.0f);
    expect_folded(floats_of("c_weight_2"), floats_of("c_bias"), 4, 3, false, 0, 1);
}
END_TEST

START_TEST(bn_fold__second_use_or_lone__stays)
{
    int x = tg_input(&t, "x", 4, -1, 4, 8, 8);
    int y = tg_node(&t, "c", QC_OP_CONV, 2, x, tg_floats(&t, "w", 1, 1, 4, 4, 4, 1, 1));
    int n = norm_of(y, 4);
    tg_output(&t, tg_node(&t, "a", QC_OP_ADD, 2, n, y));
    tg_bind(&t);
    expect_ok(qc_pass_bn_fold(t.g, &t.err));
    ck_assert_int_eq(t.g->n_nodes, 3);
}
END_TEST

START_TEST(bn_fold__bad_variance__node_and_channel_named)
{
    int x = tg_input(&t, "x", 4, -1, 3, 8, 8);
    int y = tg_node(&t, "c", QC_OP_CONV, 2, x, tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 1));
    tg_output(&t, norm_of(y, 4));
    ((float *)t.g->values[qc_graph_find_value(t.g, "var")].constant->data)[2] = -1.0f;
    tg_bind(&t);
    ck_assert_int_eq(qc_pass_bn_fold(t.g, &t.err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(t.err.message, "'bn': variance + epsilon of channel 2"));
    ck_assert_str_eq(t.err.subject, "bn");
}
END_TEST

START_TEST(fuse_bias__conv_add_per_channel__bias)
{
    int x = tg_input(&t, "x", 4, -1, 3, 8, 8);
    int y = tg_node(&t, "c", QC_OP_CONV, 3, x, tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 1),
                    tg_floats(&t, "b", 10, 1, 1, 4));
    y = tg_node(&t, "a", QC_OP_ADD, 2, tg_floats(&t, "k", 1, 2, 3, 4, 1, 1), y);
    y = tg_node(&t, "a2", QC_OP_ADD, 2, y, tg_floats(&t, "one", 1, 0, 0));
    tg_output(&t, y);
    tg_bind(&t);
    expect_ok(qc_pass_fuse_bias(t.g, &t.err));
    tg_expect(&t, "c Conv(x[1*,3,8,8]f32, w, b) -> a2_y[1*,4,8,8]f32\n");
    for (int c = 0; c < 4; c++) {
        ck_assert_float_eq(floats_of("b")[c], (float)(12 + 3 * c));
    }
}
END_TEST

START_TEST(fuse_bias__not_per_channel__stays)
{
    static const int64_t shapes[][4] = {{1, 1, 1, 8}, {1, 1, 8, 1}, {1, 4, 8, 1}, {2, 1, 1, 1}};
    for (size_t i = 0; i < QD_COUNT_OF(shapes); i++) {
        teardown();
        setup();
        int x = tg_input(&t, "x", 4, 1, 3, 8, 8);
        int y = tg_node(&t, "c", QC_OP_CONV, 2, x, tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 1));
        const int64_t *d = shapes[i];
        int k = tg_floats(&t, "k", 1, 0, 4, (int)d[0], (int)d[1], (int)d[2], (int)d[3]);
        tg_output(&t, tg_node(&t, "a", QC_OP_ADD, 2, y, k));
        tg_bind(&t);
        expect_ok(qc_pass_fuse_bias(t.g, &t.err));
        ck_assert_msg(t.g->n_nodes == 2, "case %zu", i);
    }
}
END_TEST

START_TEST(fuse_bias__matmul_add__gemm_for_rank_2_only)
{
    int x = tg_input(&t, "x", 2, -1, 3), z = tg_input(&t, "z", 3, -1, 2, 3);
    int w = tg_floats(&t, "w", 1, 1, 2, 3, 4), b = tg_floats(&t, "b", 1, 1, 1, 4);
    int y = tg_node(&t, "m", QC_OP_MATMUL, 2, x, w);
    tg_output(&t, tg_node(&t, "a", QC_OP_ADD, 2, y, b));
    y = tg_node(&t, "m3", QC_OP_MATMUL, 2, z, w);
    tg_output(&t, tg_node(&t, "a3", QC_OP_ADD, 2, y, b));
    tg_bind(&t);
    expect_ok(qc_pass_fuse_bias(t.g, &t.err));
    tg_expect(&t, "m Gemm(x[1*,3]f32, w, m_bias) -> a_y[1*,4]f32\n"
                  "m3 MatMul(z[1*,2,3]f32, w) -> m3_y[1*,2,4]f32\n"
                  "a3 Add(m3_y[1*,2,4]f32, b) -> a3_y[1*,2,4]f32\n");
    ck_assert(floats_of("m_bias")[3] == 4.0f);
}
END_TEST

START_TEST(fuse_activation__relu_clip_chain__one_clamp)
{
    int x = tg_input(&t, "x", 2, -1, 3);
    int y = tg_node(&t, "a", QC_OP_ADD, 2, x, x);
    y = tg_node(&t, "c", QC_OP_CLIP, 3, y, -1, tg_floats(&t, "hi", 6, 0, 0));
    y = tg_node(&t, "r", QC_OP_RELU, 1, y);
    int m = tg_node(&t, "m", QC_OP_MUL, 2, y, y);
    tg_output(&t, m);
    tg_output(&t, tg_node(&t, "r2", QC_OP_RELU, 1, m)); /* m is an output too: stays */
    tg_bind(&t);
    expect_ok(qc_pass_fuse_activation(t.g, &t.err));
    tg_expect(&t, "a Add(x[1*,3]f32, x[1*,3]f32) -> r_y[1*,3]f32 clamp[0,6]\n"
                  "m Mul(r_y[1*,3]f32, r_y[1*,3]f32) -> m_y[1*,3]f32\n"
                  "r2 Relu(m_y[1*,3]f32) -> r2_y[1*,3]f32\n");
}
END_TEST

START_TEST(fuse_activation__bounds_unordered_or_data__stays)
{
    int x = tg_input(&t, "x", 2, -1, 3), bound = tg_input(&t, "bound", 0);
    int y = tg_node(&t, "a", QC_OP_ADD, 2, x, x);
    y = tg_node(&t, "c", QC_OP_CLIP, 3, y, tg_floats(&t, "lo", 7, 0, 0),
                tg_floats(&t, "hi", 6, 0, 0));
    y = tg_node(&t, "b", QC_OP_ADD, 2, y, x);
    tg_output(&t, tg_node(&t, "d", QC_OP_CLIP, 2, y, bound));
    tg_bind(&t);
    expect_ok(qc_pass_fuse_activation(t.g, &t.err));
    ck_assert_int_eq(t.g->n_nodes, 4);
    ck_assert(!t.g->nodes[0].clamp.present);
}
END_TEST

START_TEST(passes_run__conv_bn_relu_network__three_nodes)
{
    int x = tg_input(&t, "x", 4, -1, 3, 8, 8);
    int y = tg_node(&t, "c", QC_OP_CONV, 2, x, tg_floats(&t, "w", 1, 1, 4, 4, 3, 1, 1));
    y = norm_of(y, 4);
    y = tg_node(&t, "a", QC_OP_ADD, 2, y, tg_floats(&t, "k", 1, 2, 3, 4, 1, 1));
    y = tg_node(&t, "r", QC_OP_RELU, 1, y);
    y = tg_node(&t, "f", QC_OP_FLATTEN, 1, y);
    y = tg_node(&t, "m", QC_OP_MATMUL, 2, y, tg_floats(&t, "w2", 1, 1, 2, 256, 2));
    y = tg_node(&t, "b", QC_OP_ADD, 2, y, tg_floats(&t, "b2", 1, 1, 1, 2));
    tg_output(&t, tg_node(&t, "out", QC_OP_IDENTITY, 1, y));
    expect_ok(qc_passes_run(t.g, &t.err));
    tg_expect(&t, "c Conv(x[1*,3,8,8]f32, w, c_bias) -> r_y[1*,4,8,8]f32 clamp[0,inf]\n"
                  "f Flatten(r_y[1*,4,8,8]f32) -> f_y[1*,256]f32\n"
                  "m Gemm(f_y[1*,256]f32, w2, m_bias) -> out_y[1*,2]f32\n");
    t.g->inputs[0].dim[3] = -1;
    ck_assert_int_eq(qc_passes_run(t.g, &t.err), QD_UNSUPPORTED);
    ck_assert_ptr_eq(strstr(t.err.message, "simplify: graph input 'x': dim 3"), t.err.message);
}
END_TEST

Suite *test_passes_suite(void);
Suite *test_passes_suite(void)
{
    Suite *s = suite_create("passes");
    TCase *c = tcase_create("passes");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, simplify__view_of_batch__shape_nodes_stay_marked);
    tcase_add_test(c, simplify__view_of_fixed_dim__everything_folds);
    tcase_add_test(c, simplify__arithmetic_on_batch__all_elements_follow);
    tcase_add_test(c, simplify__split_of_equal_parts__has_sizes_and_names);
    tcase_add_test(c, simplify__split_of_a_shape__folds);
    tcase_add_test(c, simplify__constant_attributes__become_constants);
    tcase_add_test(c, simplify__identity_and_dropout__gone_outputs_keep_names);
    tcase_add_test(c, simplify__zero_pad_before_conv__joins);
    tcase_add_test(c, simplify__other_pads__stay);
    tcase_add_test(c, simplify__some_axes__written_as_all);
    tcase_add_test(c, simplify__sizes_without_a_scale__keep_their_axes);
    tcase_add_test(c, simplify__evaluator_refuses__node_stays_or_error_passes);
    tcase_add_test(c, bn_fold__conv__weights_and_new_bias);
    tcase_add_test(c, passes_run__conv_transpose_add_bn_relu__one_node);
    tcase_add_test(c, bn_fold__gemm_alpha_beta__scaled_in);
    tcase_add_test(c, bn_fold__shared_weights__copied_not_overwritten);
    tcase_add_test(c, bn_fold__second_use_or_lone__stays);
    tcase_add_test(c, bn_fold__bad_variance__node_and_channel_named);
    tcase_add_test(c, fuse_bias__conv_add_per_channel__bias);
    tcase_add_test(c, fuse_bias__not_per_channel__stays);
    tcase_add_test(c, fuse_bias__matmul_add__gemm_for_rank_2_only);
    tcase_add_test(c, fuse_activation__relu_clip_chain__one_clamp);
    tcase_add_test(c, fuse_activation__bounds_unordered_or_data__stays);
    tcase_add_test(c, passes_run__conv_bn_relu_network__three_nodes);
    suite_add_tcase(s, c);
    return s;
}
