#include <limits.h>
#include <stdio.h>

#include "tests/unit/test_graph_build.h"

/* The shape of the value as "[…]type", for one-line expectations; a * follows the batch. */
static void expect_value(const struct tg *t, int value, const char *want)
{
    char buf[128];
    size_t used = 0;
    const struct qc_value *v = &t->g->values[value];
    for (int i = 0; i < v->shape.rank; i++) {
        used += (size_t)snprintf(buf + used, sizeof buf - used, "%s%d%s", i ? "," : "",
                                 (int)v->shape.dim[i], v->symbolic_dims >> i & 1 ? "*" : "");
    }
    snprintf(buf + used, sizeof buf - used, " %s", qc_dtype_name(v->dtype));
    ck_assert_str_eq(buf, want);
}

static void infer_last(struct tg *t)
{
    enum qd_code code = qc_graph_infer_node(t->g, t->g->n_nodes - 1, &t->err);
    ck_assert_msg(code == QD_OK, "%s", t->err.message);
}

static void fail_last(struct tg *t, enum qd_code want, const char *text)
{
    enum qd_code code = qc_graph_infer_node(t->g, t->g->n_nodes - 1, &t->err);
    ck_assert_int_eq(code, want);
    ck_assert_msg(strstr(t->err.message, text) != NULL, "'%s' lacks '%s'", t->err.message, text);
    ck_assert_str_eq(t->err.subject, t->g->nodes[t->g->n_nodes - 1].name);
}

static struct tg t;
static int x; /* [N,6,9,10] */

static void setup(void)
{
    tg_init(&t);
    x = tg_input(&t, "x", 4, -1, 6, 9, 10);
    ck_assert_int_eq(qc_graph_bind_inputs(t.g, 1, &t.err), QD_OK);
}

static void teardown(void)
{
    tg_done(&t);
}

START_TEST(conv__strides_pads_groups__onnx_shape)
{
    int w = tg_floats(&t, "w", 0, 1, 4, 8, 3, 3, 2);
    int y = tg_node(&t, "c", QC_OP_CONV, 2, x, w);
    tg_attr_int(&t, "group", 2);
    tg_attr_ints(&t, "strides", 2, 2, 3);
    tg_attr_ints(&t, "pads", 4, 1, 0, 2, 1);
    tg_attr_ints(&t, "dilations", 2, 2, 1);
    infer_last(&t); /* (9+3-5)/2+1, (10+1-2)/3+1 */
    expect_value(&t, y, "1*,8,4,4 f32");
    y = tg_node(&t, "same", QC_OP_CONV, 2, x, w);
    tg_attr_int(&t, "group", 2);
    tg_attr_ints(&t, "strides", 2, 2, 3);
    tg_attr_string(&t, "auto_pad", "SAME_UPPER");
    infer_last(&t);
    expect_value(&t, y, "1*,8,5,4 f32");
}
END_TEST

START_TEST(conv__bad_attributes__named)
{
    int w = tg_floats(&t, "w", 0, 1, 4, 8, 6, 3, 3);
    int b = tg_floats(&t, "b", 0, 1, 1, 7);
    tg_node(&t, "c", QC_OP_CONV, 2, x, w);
    tg_attr_int(&t, "group", 4);
    fail_last(&t, QD_INVALID, "4 groups");
    tg_node(&t, "c2", QC_OP_CONV, 2, x, w);
    tg_attr_ints(&t, "strides", 2, 0, 1);
    fail_last(&t, QD_INVALID, "strides[0] = 0");
    tg_node(&t, "c3", QC_OP_CONV, 2, x, w);
    tg_attr_ints(&t, "dilations", 2, INT_MAX, 1);
    fail_last(&t, QD_INVALID, "dilations[0]");
    tg_node(&t, "c4", QC_OP_CONV, 2, x, w);
    tg_attr_ints(&t, "dilations", 2, 5, 1);
    fail_last(&t, QD_INVALID, "window of 11 does not fit");
    tg_node(&t, "c5", QC_OP_CONV, 3, x, w, b);
    fail_last(&t, QD_INVALID, "bias 'b' [7]");
    tg_node(&t, "c6", QC_OP_CONV, 2, x, w);
    tg_attr_ints(&t, "kernel_shape", 2, 3, 5);
    fail_last(&t, QD_INVALID, "kernel_shape[1]");
    tg_node(&t, "c7", QC_OP_CONV, 2, x, w);
    tg_attr_ints(&t, "pads", 2, 1, 1);
    fail_last(&t, QD_INVALID, "pads has 2 elements, expected 4");
}
END_TEST

START_TEST(pool__ceil_mode__window_in_padding_left_out)
{
    int y = tg_node(&t, "p", QC_OP_MAX_POOL, 1, x);
    tg_attr_ints(&t, "kernel_shape", 2, 2, 2);
    tg_attr_ints(&t, "strides", 2, 2, 3);
    infer_last(&t);
    expect_value(&t, y, "1*,6,4,3 f32");
    tg_attr_int(&t, "ceil_mode", 1);
    infer_last(&t);
    expect_value(&t, y, "1*,6,5,4 f32");
    y = tg_node(&t, "q", QC_OP_AVERAGE_POOL, 1, x);
    tg_attr_ints(&t, "kernel_shape", 2, 2, 2);
    tg_attr_ints(&t, "strides", 2, 2, 2);
    tg_attr_ints(&t, "pads", 4, 1, 1, 1, 1);
    tg_attr_int(&t, "ceil_mode", 1);
    infer_last(&t); /* both 6, but the last window of the height would start at 10, its end */
    expect_value(&t, y, "1*,6,5,6 f32");
    tg_node(&t, "r", QC_OP_MAX_POOL, 1, x);
    tg_attr_ints(&t, "kernel_shape", 2, 2, 2);
    tg_attr_ints(&t, "pads", 4, 2, 0, 0, 0);
    fail_last(&t, QD_INVALID, "not below the window");
    tg_node(&t, "s", QC_OP_MAX_POOL, 1, x);
    fail_last(&t, QD_INVALID, "kernel_shape is missing");
    y = tg_node(&t, "g", QC_OP_GLOBAL_AVERAGE_POOL, 1, x);
    infer_last(&t);
    expect_value(&t, y, "1*,6,1,1 f32");
}
END_TEST

START_TEST(matrix_products__ranks__numpy_shape)
{
    int a = tg_floats(&t, "a", 0, 1, 3, 2, 3, 4), b = tg_floats(&t, "b", 0, 1, 2, 4, 5);
    int v = tg_floats(&t, "v", 0, 1, 1, 4), m = tg_floats(&t, "m", 0, 1, 2, 5, 4);
    int y = tg_node(&t, "ab", QC_OP_MATMUL, 2, a, b);
    infer_last(&t);
    expect_value(&t, y, "2,3,5 f32");
    y = tg_node(&t, "av", QC_OP_MATMUL, 2, a, v);
    infer_last(&t);
    expect_value(&t, y, "2,3 f32");
    y = tg_node(&t, "vv", QC_OP_MATMUL, 2, v, v);
    infer_last(&t);
    expect_value(&t, y, " f32");
    tg_node(&t, "bad", QC_OP_MATMUL, 2, a, m);
    fail_last(&t, QD_INVALID, "'a' [2,3,4]f32 and 'm' [5,4]f32");
    y = tg_node(&t, "g", QC_OP_GEMM, 2, m, b);
    infer_last(&t);
    expect_value(&t, y, "5,5 f32");
    y = tg_node(&t, "gt", QC_OP_GEMM, 3, b, b, v);
    tg_attr_int(&t, "transB", 1);
    infer_last(&t);
    expect_value(&t, y, "4,4 f32");
    tg_node(&t, "gc", QC_OP_GEMM, 3, m, b, v);
    fail_last(&t, QD_INVALID, "C 'v' [4] does not broadcast");
    y = tg_node(&t, "f", QC_OP_FLATTEN, 1, x);
    infer_last(&t);
    expect_value(&t, y, "1*,540 f32");
}
END_TEST

START_TEST(elementwise__broadcast__symbolic_kept)
{
    int b = tg_floats(&t, "b", 0, 1, 3, 6, 1, 10), i = tg_ints(&t, "i", 1, 3);
    int y = tg_node(&t, "add", QC_OP_ADD, 2, b, x);
    infer_last(&t);
    expect_value(&t, y, "1*,6,9,10 f32");
    tg_node(&t, "mix", QC_OP_MUL, 2, x, i);
    fail_last(&t, QD_INVALID, "types of 'x' (f32) and 'i' (s64) differ");
    int c = tg_floats(&t, "c", 0, 1, 1, 4);
    tg_node(&t, "bad", QC_OP_SUB, 2, x, c);
    fail_last(&t, QD_INVALID, "[1,6,9,10] of 'x' and [4] of 'c'");
    y = tg_node(&t, "cat", QC_OP_CONCAT, 3, x, x, x);
    tg_attr_int(&t, "axis", -3);
    infer_last(&t);
    expect_value(&t, y, "1*,18,9,10 f32");
    tg_node(&t, "cat2", QC_OP_CONCAT, 2, x, b);
    tg_attr_int(&t, "axis", 1);
    fail_last(&t, QD_INVALID, "'b' [6,1,10]f32 does not fit");
    y = tg_node(&t, "cast", QC_OP_CAST, 1, x);
    tg_attr_int(&t, "to", 7);
    infer_last(&t);
    expect_value(&t, y, "1*,6,9,10 s64");
    tg_node(&t, "cast2", QC_OP_CAST, 1, x);
    tg_attr_int(&t, "to", 8);
    fail_last(&t, QD_UNSUPPORTED, "to = 8");
}
END_TEST

START_TEST(reshape__zero_and_minus_one__batch_followed)
{
    int y = tg_node(&t, "a", QC_OP_RESHAPE, 2, x, tg_ints(&t, "s1", 2, 0, -1));
    infer_last(&t);
    expect_value(&t, y, "1*,540 f32");
    y = tg_node(&t, "b", QC_OP_RESHAPE, 2, x, tg_ints(&t, "s2", 3, -1, 54, 10));
    infer_last(&t);
    expect_value(&t, y, "1*,54,10 f32");
    int s = tg_ints(&t, "s3", 2, 1, -1);
    t.g->values[s].symbolic_elements = 1;
    y = tg_node(&t, "c", QC_OP_RESHAPE, 2, x, s);
    infer_last(&t);
    expect_value(&t, y, "1*,540 f32");
    tg_node(&t, "d", QC_OP_RESHAPE, 2, x, tg_ints(&t, "s4", 2, 7, -1));
    fail_last(&t, QD_INVALID, "'x' [1,6,9,10] cannot become");
    tg_node(&t, "e", QC_OP_RESHAPE, 2, x, tg_ints(&t, "s5", 2, -1, -1));
    fail_last(&t, QD_INVALID, "both -1");
    tg_node(&t, "f", QC_OP_RESHAPE, 2, x, tg_ints(&t, "s6", 9, 1, 1, 1, 1, 1, 1, 1, 1, 540));
    fail_last(&t, QD_INVALID, "9 elements, limit 8");
    int data = tg_input(&t, "data", 1, 2);
    t.g->values[data].dtype = QC_S64;
    ck_assert_int_eq(qc_graph_bind_shapes(t.g, 1, &t.err), QD_OK);
    tg_node(&t, "g", QC_OP_RESHAPE, 2, x, data);
    fail_last(&t, QD_UNSUPPORTED, "shape 'data' is computed from data");
}
END_TEST

START_TEST(views__axes__symbolic_moves_along)
{
    int y = tg_node(&t, "tr", QC_OP_TRANSPOSE, 1, x);
    tg_attr_ints(&t, "perm", 4, 1, 2, 3, 0);
    infer_last(&t);
    expect_value(&t, y, "6,9,10,1* f32");
    tg_node(&t, "tr2", QC_OP_TRANSPOSE, 1, x);
    tg_attr_ints(&t, "perm", 4, 1, 1, 3, 0);
    fail_last(&t, QD_INVALID, "axis 1 twice");
    y = tg_node(&t, "un", QC_OP_UNSQUEEZE, 2, x, tg_ints(&t, "u", 2, 0, -1));
    infer_last(&t);
    expect_value(&t, y, "1,1*,6,9,10,1 f32");
    int q = tg_node(&t, "sq", QC_OP_SQUEEZE, 1, y);
    infer_last(&t);
    expect_value(&t, q, "1*,6,9,10 f32");
    tg_node(&t, "sq2", QC_OP_SQUEEZE, 2, x, tg_ints(&t, "q", 1, 1));
    fail_last(&t, QD_INVALID, "dim 1 of 'x' is 6, not 1");
    y = tg_node(&t, "ga", QC_OP_GATHER, 2, x, tg_ints(&t, "i", -1, 2));
    tg_attr_int(&t, "axis", 1);
    infer_last(&t);
    expect_value(&t, y, "1*,9,10 f32");
    y = tg_node(&t, "sh", QC_OP_SHAPE, 1, x);
    tg_attr_int(&t, "start", -3);
    infer_last(&t);
    expect_value(&t, y, "3 s64");
    y = tg_node(&t, "rm", QC_OP_REDUCE_MEAN, 2, x, tg_ints(&t, "axes", 2, -1, 2));
    tg_attr_int(&t, "keepdims", 0);
    infer_last(&t);
    expect_value(&t, y, "1*,6 f32");
}
END_TEST

START_TEST(slice__steps_and_extremes__numpy_length)
{
    static const struct {
        int start, end, step, want; /* of a dim of 9 */
    } cases[] = {
        {0, INT_MAX, 1, 9},      {2, -1, 1, 6},      {-3, INT_MAX, 2, 2}, {8, 0, -3, 3},
        {-1, INT_MIN, -1, 9},    {5, 5, 1, 0},       {7, 3, 1, 0},        {100, -100, -4, 3},
        {-100, 100, 4, 3},       {0, 9, INT_MAX, 1}, {9, INT_MAX, 1, 0},  {3, 7, -1, 0},
        {8, INT_MIN, INT_MIN, 1}};
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        int y = tg_node(&t, "s", QC_OP_SLICE, 5, x, tg_ints(&t, "a", 1, cases[i].start),
                        tg_ints(&t, "b", 1, cases[i].end), tg_ints(&t, "c", 1, 2),
                        tg_ints(&t, "d", 1, cases[i].step));
        infer_last(&t);
        ck_assert_msg(t.g->values[y].shape.dim[2] == cases[i].want, "case %zu: %d", i,
                      (int)t.g->values[y].shape.dim[2]);
        ck_assert_int_eq(t.g->values[y].symbolic_dims, 1);
    }
    int a = tg_ints(&t, "a", 1, 0);
    tg_node(&t, "z", QC_OP_SLICE, 5, x, a, a, a, a);
    fail_last(&t, QD_INVALID, "step of axis 0 is 0");
    tg_node(&t, "n", QC_OP_SLICE, 3, x, a, tg_ints(&t, "e", 2, 1, 1));
    fail_last(&t, QD_INVALID, "1 starts, 2 ends");
}
END_TEST

START_TEST(resize_pad__sizes_scales__checked)
{
    int y = tg_node(&t, "r", QC_OP_RESIZE, 4, x, -1, -1, tg_ints(&t, "z", 4, 1, 6, 18, 5));
    infer_last(&t);
    expect_value(&t, y, "1*,6,18,5 f32");
    int scales = tg_floats(&t, "k", 1.0f, 0.5f, 1, 4); /* 1, 1.5, 2, 2.5 */
    y = tg_node(&t, "r2", QC_OP_RESIZE, 3, x, -1, scales);
    infer_last(&t);
    expect_value(&t, y, "1*,9,18,25 f32");
    tg_node(&t, "r3", QC_OP_RESIZE, 1, x);
    fail_last(&t, QD_INVALID, "neither scales nor sizes");
    tg_node(&t, "r4", QC_OP_UPSAMPLE, 2, x, tg_floats(&t, "k2", -1.0f, 0, 1, 4));
    fail_last(&t, QD_INVALID, "scales[0] = -1");
    tg_node(&t, "r5", QC_OP_RESIZE, 4, x, -1, -1,
            tg_ints(&t, "z2", 4, INT_MAX, INT_MAX, INT_MAX, 1));
    fail_last(&t, QD_LIMIT_EXCEEDED, "too large");
    y = tg_node(&t, "p", QC_OP_PAD, 2, x, tg_ints(&t, "p1", 8, 0, 0, 1, -2, 0, 0, 3, 1));
    infer_last(&t);
    expect_value(&t, y, "1*,6,13,9 f32");
    tg_node(&t, "p2", QC_OP_PAD, 2, x, tg_ints(&t, "p2", 8, 0, 0, 0, -9, 0, 0, 0, -9));
    fail_last(&t, QD_INVALID, "pads -9 and -9 do not fit dim 3 of 10");
    tg_node(&t, "p3", QC_OP_PAD, 2, x, tg_ints(&t, "p3", 4, 0, 0, 0, 0));
    fail_last(&t, QD_INVALID, "4 pads for 4 axes");
}
END_TEST

START_TEST(resize_pad__some_axes__the_others_stay)
{
    int y = tg_node(&t, "r", QC_OP_RESIZE, 4, x, -1, -1, tg_ints(&t, "z", 2, 5, 18));
    tg_attr_ints(&t, "axes", 2, 3, -2);
    infer_last(&t);
    expect_value(&t, y, "1*,6,18,5 f32");
    y = tg_node(&t, "r2", QC_OP_RESIZE, 3, x, -1, tg_floats(&t, "k", 2.0f, 0.5f, 1, 2));
    tg_attr_ints(&t, "axes", 2, 2, 3);
    infer_last(&t);
    expect_value(&t, y, "1*,6,18,25 f32");
    tg_node(&t, "r3", QC_OP_RESIZE, 4, x, -1, -1, tg_ints(&t, "z3", 4, 1, 6, 18, 5));
    tg_attr_ints(&t, "axes", 2, 2, 3);
    fail_last(&t, QD_INVALID, "4 sizes for 2 axes");
    tg_node(&t, "r4", QC_OP_RESIZE, 4, x, -1, -1, tg_ints(&t, "z4", 2, 5, 18));
    tg_attr_ints(&t, "axes", 2, 3, -1);
    fail_last(&t, QD_INVALID, "axes name axis 3 twice");
    y = tg_node(&t, "p", QC_OP_PAD, 4, x, tg_ints(&t, "p1", 4, -2, 1, 1, 3), -1,
                tg_ints(&t, "a1", 2, -1, 2));
    infer_last(&t);
    expect_value(&t, y, "1*,6,13,9 f32");
    tg_node(&t, "p2", QC_OP_PAD, 4, x, tg_ints(&t, "p2", 4, 0, 0, 0, 0), -1,
            tg_ints(&t, "a2", 2, 1, 4));
    fail_last(&t, QD_INVALID, "axis 4 is outside rank 4");
}
END_TEST

START_TEST(quantized__zero_point_type__decides)
{
    struct qc_tensor *z = tg_tensor(&t, QC_S8, 0, NULL);
    int zero, scale = tg_floats(&t, "scale", 0.5f, 0, 0), per = tg_floats(&t, "per", 1, 1, 1, 6);
    ck_assert_int_eq(qc_graph_add_constant(t.g, "zero", z, &zero, &t.err), QD_OK);
    int q = tg_node(&t, "q", QC_OP_QUANTIZE_LINEAR, 3, x, scale, zero);
    infer_last(&t);
    expect_value(&t, q, "1*,6,9,10 s8");
    int y = tg_node(&t, "d", QC_OP_DEQUANTIZE_LINEAR, 2, q, per);
    infer_last(&t);
    expect_value(&t, y, "1*,6,9,10 f32");
    tg_node(&t, "d2", QC_OP_DEQUANTIZE_LINEAR, 2, q, per);
    tg_attr_int(&t, "axis", 2);
    fail_last(&t, QD_INVALID, "does not fit axis 2 of size 9");
    y = tg_node(&t, "qa", QC_OP_Q_ADD, 8, q, scale, zero, q, scale, zero, scale, zero);
    infer_last(&t);
    expect_value(&t, y, "1*,6,9,10 s8");
    y = tg_node(&t, "qa2", QC_OP_Q_ADD, 8, q, scale, zero, q, scale, zero, -1, -1);
    infer_last(&t);
    expect_value(&t, y, "1*,6,9,10 f32");
    y = tg_node(&t, "qc", QC_OP_Q_CONCAT, 8, scale, zero, q, scale, zero, q, scale, zero);
    tg_attr_int(&t, "axis", 1);
    infer_last(&t);
    expect_value(&t, y, "1*,12,9,10 s8");
}
END_TEST

START_TEST(bind_inputs__undeclared_or_symbolic_inside__unsupported)
{
    t.g->inputs[0].dim[2] = -1;
    t.g->inputs[0].dim_param[2] = "height";
    ck_assert_int_eq(qc_graph_bind_inputs(t.g, 1, &t.err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(t.err.message, "'x': dim 2 (height) is symbolic"));
    t.g->inputs[0].dim[2] = (int64_t)1 << 40;
    ck_assert_int_eq(qc_graph_bind_inputs(t.g, 1, &t.err), QD_LIMIT_EXCEEDED);
    t.g->inputs[0].has_shape = false;
    ck_assert_int_eq(qc_graph_bind_inputs(t.g, 1, &t.err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(t.err.message, "declares no shape"));
}
END_TEST

Suite *test_shapes_suite(void);
Suite *test_shapes_suite(void)
{
    Suite *s = suite_create("shapes");
    TCase *c = tcase_create("shapes");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, conv__strides_pads_groups__onnx_shape);
    tcase_add_test(c, conv__bad_attributes__named);
    tcase_add_test(c, pool__ceil_mode__window_in_padding_left_out);
    tcase_add_test(c, matrix_products__ranks__numpy_shape);
    tcase_add_test(c, elementwise__broadcast__symbolic_kept);
    tcase_add_test(c, reshape__zero_and_minus_one__batch_followed);
    tcase_add_test(c, views__axes__symbolic_moves_along);
    tcase_add_test(c, slice__steps_and_extremes__numpy_length);
    tcase_add_test(c, resize_pad__sizes_scales__checked);
    tcase_add_test(c, resize_pad__some_axes__the_others_stay);
    tcase_add_test(c, quantized__zero_point_type__decides);
    tcase_add_test(c, bind_inputs__undeclared_or_symbolic_inside__unsupported);
    suite_add_tcase(s, c);
    return s;
}
