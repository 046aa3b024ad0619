#include "tests/unit/test_graph_build.h"

START_TEST(add_value__many__indices_and_names_stay)
{
    struct tg t;
    tg_init(&t);
    for (int i = 0; i < 1000; i++) {
        const char *name;
        int v;
        ck_assert_int_eq(qd_arena_printf(&t.arena, &name, &t.err, "v%d", i), QD_OK);
        ck_assert_int_eq(qc_graph_add_value(t.g, name, &v, &t.err), QD_OK);
        ck_assert_int_eq(v, i);
    }
    ck_assert_int_eq(qc_graph_find_value(t.g, "v0"), 0);
    ck_assert_int_eq(qc_graph_find_value(t.g, "v999"), 999);
    ck_assert_int_eq(qc_graph_find_value(t.g, "v1000"), -1);
    tg_done(&t);
}
END_TEST

START_TEST(link__two_producers__node_and_value_named)
{
    struct tg t;
    tg_init(&t);
    int x = tg_input(&t, "x", 1, 4);
    int y = tg_node(&t, "a", QC_OP_RELU, 1, x);
    tg_node(&t, "b", QC_OP_RELU, 1, x);
    t.g->nodes[1].outputs[0] = y;
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_INVALID);
    ck_assert_str_eq(t.err.message, "node 'b': value 'a_y' is already produced by a");
    t.g->nodes[1].outputs[0] = x;
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(t.err.message, "a graph input"));
    tg_done(&t);
}
END_TEST

START_TEST(link__undefined_or_late_input__named)
{
    struct tg t;
    tg_init(&t);
    int x = tg_input(&t, "x", 1, 4);
    int lost, a, b;
    ck_assert_int_eq(qc_graph_add_value(t.g, "lost", &lost, &t.err), QD_OK);
    a = tg_node(&t, "a", QC_OP_RELU, 1, x);
    b = tg_node(&t, "b", QC_OP_RELU, 1, a);
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_OK);
    ck_assert_int_eq(t.g->values[b].producer, 1);
    t.g->nodes[0].inputs[0] = lost;
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_INVALID);
    ck_assert_str_eq(t.err.message, "node 'a': input 'lost' is not produced by any node");
    ck_assert_str_eq(t.err.subject, "a");
    t.g->nodes[0].inputs[0] = b;
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(t.err.message, "topological order"));
    t.g->nodes[0].inputs[0] = a; /* itself */
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_INVALID);
    t.g->nodes[0].inputs[0] = x;
    tg_output(&t, lost);
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(t.err.message, "graph output 'lost'"));
    tg_done(&t);
}
END_TEST

START_TEST(sweep__dead_branch_and_removed_node__gone_in_order)
{
    struct tg t;
    tg_init(&t);
    int x = tg_input(&t, "x", 1, 4);
    int a = tg_node(&t, "a", QC_OP_RELU, 1, x);
    int dead = tg_node(&t, "dead", QC_OP_TANH, 1, a);
    tg_node(&t, "dead2", QC_OP_EXP, 1, dead);
    int i = tg_node(&t, "i", QC_OP_IDENTITY, 1, a);
    int b = tg_node(&t, "b", QC_OP_ADD, 2, i, i);
    tg_output(&t, b);
    tg_bind(&t);
    ck_assert_int_eq(qc_graph_count_uses(t.g, i), 2);
    ck_assert(qc_graph_is_output(t.g, b) && !qc_graph_is_output(t.g, i));
    qc_graph_replace_uses(t.g, i, a);
    t.g->nodes[3].n_outputs = 0;
    ck_assert_int_eq(qc_graph_sweep(t.g, &t.err), QD_OK);
    tg_expect(&t, "a Relu(x[4]f32) -> a_y[4]f32\n"
                  "b Add(a_y[4]f32, a_y[4]f32) -> b_y[4]f32\n");
    ck_assert_int_eq(t.g->values[b].producer, 1);
    tg_done(&t);
}
END_TEST

START_TEST(node_attr__types__value_or_fallback)
{
    struct tg t;
    tg_init(&t);
    tg_node(&t, "a", QC_OP_RELU, 0);
    tg_attr_int(&t, "i", 7);
    tg_attr_float(&t, "f", 0.5f);
    tg_attr_string(&t, "s", "text");
    tg_attr_ints(&t, "is", 3, 1, 2, 3);
    const struct qc_node *n = &t.g->nodes[0];
    int64_t out[2] = {9, 9};
    ck_assert_int_eq(qc_node_int(n, "i", 1), 7);
    ck_assert_int_eq(qc_node_int(n, "f", 1), 1); /* of another type */
    ck_assert(qc_node_float(n, "f", 1) == 0.5f && qc_node_float(n, "none", 2) == 2);
    ck_assert_str_eq(qc_node_string(n, "s", ""), "text");
    ck_assert_str_eq(qc_node_string(n, "none", "d"), "d");
    ck_assert_int_eq(qc_node_ints(n, "is", out, 2), 2);
    ck_assert_int_eq(out[1], 2);
    ck_assert_int_eq(qc_node_ints(n, "none", out, 2), 0);
    ck_assert_ptr_null(qc_node_attr(n, "none"));
    ck_assert_ptr_null(qc_node_constant(t.g, n, 0));
    tg_done(&t);
}
END_TEST

START_TEST(op_find__names_and_domains__importable_only)
{
    ck_assert_int_eq(qc_op_find("Conv", ""), QC_OP_CONV);
    ck_assert_int_eq(qc_op_find("Conv", NULL), QC_OP_CONV);
    ck_assert_int_eq(qc_op_find("Conv", "ai.onnx"), QC_OP_CONV);
    ck_assert_int_eq(qc_op_find("Conv", "com.microsoft"), -1);
    ck_assert_int_eq(qc_op_find("conv", ""), -1);
    ck_assert_int_eq(qc_op_find("QLinearConv", "quantd"), -1);
    for (int i = 0; i < QC_OP_COUNT; i++) {
        const struct qc_op_row *row = &qc_op_rows[i];
        ck_assert_ptr_nonnull(row->type);
        ck_assert_int_le(row->min_inputs, row->max_inputs);
        ck_assert(row->flags & QC_IS_INTERNAL || qc_op_find(row->type, row->domain) == i);
    }
}
END_TEST

START_TEST(dump__clamp_attrs_absent_input__one_line)
{
    struct tg t;
    tg_init(&t);
    int x = tg_input(&t, "x", 4, -1, 3, 8, 8);
    int w = tg_floats(&t, "w", 0, 1, 4, 4, 3, 3, 3);
    int y = tg_node(&t, "conv1", QC_OP_CONV, 3, x, w, -1);
    tg_attr_ints(&t, "pads", 4, 1, 1, 1, 1);
    tg_attr_string(&t, "auto_pad", "NOTSET");
    t.g->nodes[0].clamp = (struct qc_clamp){true, 0, 6};
    tg_output(&t, y);
    tg_bind(&t);
    tg_expect(&t, "conv1 Conv(x[1*,3,8,8]f32, w, _) -> conv1_y[1*,4,8,8]f32 clamp[0,6] "
                  "{pads=[1,1,1,1], auto_pad=\"NOTSET\"}\n");
    tg_done(&t);
}
END_TEST

Suite *test_graph_suite(void);
Suite *test_graph_suite(void)
{
    Suite *s = suite_create("graph");
    TCase *t = tcase_create("graph");
    tcase_add_test(t, add_value__many__indices_and_names_stay);
    tcase_add_test(t, link__two_producers__node_and_value_named);
    tcase_add_test(t, link__undefined_or_late_input__named);
    tcase_add_test(t, sweep__dead_branch_and_removed_node__gone_in_order);
    tcase_add_test(t, node_attr__types__value_or_fallback);
    tcase_add_test(t, op_find__names_and_domains__importable_only);
    tcase_add_test(t, dump__clamp_attrs_absent_input__one_line);
    suite_add_tcase(s, t);
    return s;
}
