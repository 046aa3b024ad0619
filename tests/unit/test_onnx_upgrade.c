/* One operator of an old opset each, in its form of opset 18 after the import. */
#include "tests/unit/test_onnx_build.h"

#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_upgrade.h"

static const struct qc_tensor *input_constant(int i)
{
    const struct qc_tensor *t = qc_node_constant(g, &g->nodes[0], i);
    ck_assert_ptr_nonnull(t);
    return t;
}

START_TEST(upgrade__clip_6__bounds_are_inputs)
{
    start(7);
    Onnx__NodeProto *n = add_node("n", "Clip", "x > y");
    add_float(n, "min", 0.0f);
    add_float(n, "max", 6.0f);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 3);
    ck_assert_int_eq(g->nodes[0].n_attrs, 0);
    ck_assert_int_eq(input_constant(1)->shape.rank, 0);
    ck_assert_double_eq(qc_tensor_f64(input_constant(1), 0), 0.0);
    ck_assert_double_eq(qc_tensor_f64(input_constant(2), 0), 6.0);
}
END_TEST

START_TEST(upgrade__clip_6_only_max__min_absent)
{
    start(10);
    add_float(add_node("n", "Clip", "x > y"), "max", 6.0f);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 3);
    ck_assert_int_eq(g->nodes[0].inputs[1], -1);
    ck_assert_double_eq(qc_tensor_f64(input_constant(2), 0), 6.0);
}
END_TEST

START_TEST(upgrade__pad_2__pads_and_value_are_inputs)
{
    static int64_t pads[4] = {0, 1, 0, 2};
    start(10);
    Onnx__NodeProto *n = add_node("n", "Pad", "x > y");
    add_ints(n, "pads", pads, 4);
    add_float(n, "value", 1.5f);
    expect_ok();
    ck_assert_int_eq(input_constant(1)->dtype, QC_S64);
    ck_assert_int_eq(qc_tensor_s64(input_constant(1), 3), 2);
    ck_assert_double_eq(qc_tensor_f64(input_constant(2), 0), 1.5);
}
END_TEST

START_TEST(upgrade__axes_attribute__is_an_input)
{
    static int64_t axes[1] = {1};
    static const struct {
        const char *op;
        int last; /* opset with the attribute */
    } ops[] = {{"Squeeze", 12}, {"Unsqueeze", 12}, {"ReduceMean", 17}};
    for (size_t i = 0; i < QD_COUNT_OF(ops); i++) {
        start(ops[i].last);
        add_ints(add_node("n", ops[i].op, "x > y"), "axes", axes, 1);
        expect_ok();
        ck_assert_int_eq(g->nodes[0].n_inputs, 2);
        ck_assert_int_eq(qc_tensor_s64(input_constant(1), 0), 1);
        ck_assert_ptr_null(qc_node_attr(&g->nodes[0], "axes"));
    }
}
END_TEST

START_TEST(upgrade__slice_1__starts_ends_axes_are_inputs)
{
    static int64_t starts[1] = {1}, ends[1] = {2}, axes[1] = {1};
    start(9);
    Onnx__NodeProto *n = add_node("n", "Slice", "x > y");
    add_ints(n, "starts", starts, 1);
    add_ints(n, "axes", axes, 1);
    add_ints(n, "ends", ends, 1);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 4);
    ck_assert_int_eq(qc_tensor_s64(input_constant(1), 0), 1);
    ck_assert_int_eq(qc_tensor_s64(input_constant(2), 0), 2);
    ck_assert_int_eq(qc_tensor_s64(input_constant(3), 0), 1);
}
END_TEST

START_TEST(upgrade__split_2__sizes_are_an_input)
{
    static int64_t sizes[2] = {1, 3};
    start(12);
    add_ints(add_node("n", "Split", "x > y"), "split", sizes, 2);
    expect_ok();
    ck_assert_int_eq(input_constant(1)->dtype, QC_S64);
    ck_assert_int_eq(qc_tensor_s64(input_constant(1), 1), 3);
    ck_assert_int_eq(g->nodes[0].n_attrs, 0);
}
END_TEST

START_TEST(upgrade__upsample_7_and_9__resize_asymmetric_floor)
{
    static float scales[2] = {1, 2};
    for (int opset = 7; opset <= 9; opset += 2) {
        start(opset);
        Onnx__NodeProto *n = add_node("n", "Upsample", opset == 7 ? "x > y" : "x s > y");
        if (opset == 7) {
            Onnx__AttributeProto *a = add_attr(n, "scales");
            a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
            a->n_floats = 2;
            a->floats = scales;
        } else {
            add_initializer("s");
        }
        expect_ok();
        const struct qc_node *r = &g->nodes[0];
        ck_assert_int_eq(r->op, QC_OP_RESIZE);
        ck_assert_str_eq(r->op_type, "Resize");
        ck_assert_int_eq(r->n_inputs, 3);
        ck_assert_int_eq(r->inputs[1], -1);
        ck_assert_double_eq(qc_tensor_f64(input_constant(2), 1), 2.0);
        ck_assert_str_eq(qc_node_string(r, "nearest_mode", ""), "floor");
        ck_assert_str_eq(qc_node_string(r, "coordinate_transformation_mode", ""), "asymmetric");
        ck_assert_ptr_null(qc_node_attr(r, "scales"));
    }
}
END_TEST

START_TEST(upgrade__resize_10__scales_move_to_input_2)
{
    start(10);
    add_initializer("s");
    add_node("n", "Resize", "x s > y");
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 3);
    ck_assert_ptr_nonnull(input_constant(2));
    ck_assert_str_eq(qc_node_string(&g->nodes[0], "nearest_mode", ""), "floor");

    static float shrink[3] = {1, 0.5f, 0.25f}, mixed[3] = {1, 2, 0.5f};
    start(10);
    add_initializer("s")->float_data = shrink;
    add_node("n", "Resize", "x s > y");
    expect_ok();
    ck_assert_str_eq(qc_node_string(&g->nodes[0], "nearest_mode", ""), "ceil");
    start(10);
    add_initializer("s")->float_data = mixed;
    add_node("n", "Resize", "x s > y");
    expect(QD_UNSUPPORTED, "node 'n': Resize of opset 10 in mode nearest");
}
END_TEST

START_TEST(upgrade__softmax_1__axis_written_and_flatten_marked)
{
    static const struct {
        int64_t axis; /* 99: no attribute */
        const char *input;
        int64_t want_axis, want_flatten;
    } cases[] = {
        {99, "x", 1, 0}, /* rank 2, default 1: the last dim */
        {0, "x", 0, 1},
        {1, "h", 1, 1}, /* unknown rank */
        {-1, "h", -1, 0},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        start(12);
        add_node("r", "Relu", "x > h");
        Onnx__NodeProto *n = add_node("n", "Softmax", cases[i].input[0] == 'x' ? "x > y" : "h > y");
        if (cases[i].axis != 99) {
            add_int(n, "axis", cases[i].axis);
        }
        expect_ok();
        ck_assert_int_eq(qc_node_int(&g->nodes[1], "axis", 77), cases[i].want_axis);
        ck_assert_int_eq(qc_node_int(&g->nodes[1], QC_ONNX_FLATTEN, 0), cases[i].want_flatten);
    }
}
END_TEST

START_TEST(upgrade__softmax_13__untouched)
{
    start(13);
    add_node("n", "Softmax", "x > y");
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_attrs, 0);
}
END_TEST

START_TEST(upgrade__dropout_7__ratio_is_an_input)
{
    start(11);
    add_float(add_node("n", "Dropout", "x > y -"), "ratio", 0.25f);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_outputs, 1);
    ck_assert_double_eq(qc_tensor_f64(input_constant(1), 0), 0.25);
}
END_TEST

/* What each attribute says that came after opset 18, or with it, and whether it changes anything. */
static const struct {
    const char *op, *spec, *attr, *text; /* text NULL: the integer */
    int64_t value;
    const char *refused; /* NULL: accepted, and gone */
} later[] = {
    {"AveragePool", "x > y", "dilations", NULL, 1, NULL},
    {"AveragePool", "x > y", "dilations", NULL, 2, "AveragePool with dilations = 2"},
    {"Resize", "x - s > y", "antialias", NULL, 0, NULL},
    {"Resize", "x - s > y", "antialias", NULL, 1, "Resize with antialias = 1"},
    {"Resize", "x - s > y", "keep_aspect_ratio_policy", "stretch", 0, NULL},
    {"Resize", "x - s > y", "keep_aspect_ratio_policy", "not_larger", 0,
     "Resize with keep_aspect_ratio_policy = 'not_larger'"},
    {"QuantizeLinear", "x s > y", "output_dtype", NULL, 0, NULL},
    {"QuantizeLinear", "x s > y", "output_dtype", NULL, 2, NULL}, /* UINT8 */
    {"QuantizeLinear", "x s > y", "output_dtype", NULL, 3, "QuantizeLinear with output_dtype = 3"},
    {"QuantizeLinear", "x s z > y", "output_dtype", NULL, 3, NULL}, /* the zero point decides */
    {"QuantizeLinear", "x s > y", "precision", NULL, 1, NULL},      /* FLOAT */
    {"QuantizeLinear", "x s > y", "precision", NULL, 10, "QuantizeLinear with precision = 10"},
    {"DequantizeLinear", "x s > y", "output_dtype", NULL, 1, NULL},
    {"DequantizeLinear", "x s > y", "output_dtype", NULL, 10,
     "DequantizeLinear with output_dtype = 10 is not supported"},
};

START_TEST(upgrade__later_attribute__gone_or_refused_with_its_value)
{
    int64_t dilations[2] = {1, later[_i].value};
    start(QC_OPSET_MAX);
    add_initializer("s");
    add_initializer("z");
    Onnx__NodeProto *n = add_node("n", later[_i].op, later[_i].spec);
    if (later[_i].text != NULL) {
        add_string(n, later[_i].attr, later[_i].text);
    } else if (strcmp(later[_i].attr, "dilations") == 0) {
        add_ints(n, later[_i].attr, dilations, 2);
    } else {
        add_int(n, later[_i].attr, later[_i].value);
    }
    if (later[_i].refused != NULL) {
        expect(QD_UNSUPPORTED, later[_i].refused);
        return;
    }
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_attrs, 0);
}
END_TEST

Suite *test_onnx_upgrade_suite(void)
{
    Suite *s = suite_create("onnx_upgrade");
    TCase *upgrade = tcase_create("upgrade");
    tcase_add_checked_fixture(upgrade, setup, teardown);
    tcase_add_test(upgrade, upgrade__clip_6__bounds_are_inputs);
    tcase_add_test(upgrade, upgrade__clip_6_only_max__min_absent);
    tcase_add_test(upgrade, upgrade__pad_2__pads_and_value_are_inputs);
    tcase_add_test(upgrade, upgrade__axes_attribute__is_an_input);
    tcase_add_test(upgrade, upgrade__slice_1__starts_ends_axes_are_inputs);
    tcase_add_test(upgrade, upgrade__split_2__sizes_are_an_input);
    tcase_add_test(upgrade, upgrade__upsample_7_and_9__resize_asymmetric_floor);
    tcase_add_test(upgrade, upgrade__resize_10__scales_move_to_input_2);
    tcase_add_test(upgrade, upgrade__softmax_1__axis_written_and_flatten_marked);
    tcase_add_test(upgrade, upgrade__softmax_13__untouched);
    tcase_add_test(upgrade, upgrade__dropout_7__ratio_is_an_input);
    tcase_add_loop_test(upgrade, upgrade__later_attribute__gone_or_refused_with_its_value, 0,
                        (int)QD_COUNT_OF(later));
    suite_add_tcase(s, upgrade);
    return s;
}
