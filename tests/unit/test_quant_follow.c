/* Functions that runtimes have in f32 only: integer between integer operators, else f32. */
#include "quant_fixture.h"

static const int tables[] = {QC_OP_HARD_SIGMOID, QC_OP_HARD_SWISH, QC_OP_TANH, QC_OP_GELU,
                             QC_OP_MISH};

/* x - one - [pool -] act - two, the result of act read by an f32 operator too. */
static void build_between(int op, bool pool)
{
    int x = data("x", 3), a = data("a", 3), p = data("p", 3), h = data("h", 3), y = data("y", 3);
    int e = data("e", 3), both[2] = {y, e};
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_CONV, "one", a, x, w, -1);
    if (pool) {
        node(QC_OP_MAX_POOL, "pool", p, a, -1);
    }
    node(op, "act", h, pool ? p : a, -1);
    node(QC_OP_CONV, "two", y, h, w, -1);
    node(QC_OP_EXP, "exp", e, h, -1);
    io(x, 2, both);
}

START_TEST(plan__table_between_integers__is_integer)
{
    for (int pool = 0; pool < 2; pool++) {
        teardown();
        setup();
        build_between(tables[_i], pool);
        struct qc_quantize_plan *plan = plan_of();
        ck_assert_str_eq(plan->reason[1 + pool], "");
        ck_assert(plan->integer[1 + pool]);
        struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
        check_units(plan, r, NULL); /* exp reads codes too: h has one reader, its Q */
        ck_assert_int_ge(r->quantized[qc_graph_find_value(g, "h")], 0);
    }
}
END_TEST

START_TEST(quantize_graph__excluded_table__reads_and_writes_f32)
{
    build_between(tables[_i], false);
    const char *names[] = {"act"};
    options.exclude = (struct qc_exclude){.nodes = names, .n_nodes = 1};
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    options.exclude = (struct qc_exclude){0};
    ck_assert_str_eq(plan->reason[1], "excluded by name 'act'");
    const struct qc_node *act = &r->graph->nodes[find_node(r->graph, "act")];
    ck_assert_str_eq(maker(r->graph, act->inputs[0])->name, "one");
    ck_assert_int_eq(find_node(r->graph, "a_quantized"), -1);
    ck_assert_int_ge(find_node(r->graph, "h_quantized"), 0);
}
END_TEST

/* x * tanh(x * k): the product by a constant is f32, so tanh reads no codes. */
START_TEST(plan__table_behind_f32__gets_no_pair)
{
    int x = data("x", 3), a = data("a", 3), s = data("s", 3), t = data("t", 3), m = data("m", 3);
    int y = data("y", 3), k = constant("k", (struct qc_shape){0, {0}});
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_CONV, "one", a, x, w, -1);
    node(QC_OP_MUL, "by_constant", s, a, k, -1);
    node(tables[_i], "act", t, s, -1);
    node(QC_OP_MUL, "mul", m, a, t, -1);
    node(QC_OP_CONV, "two", y, m, w, -1);
    io(x, 1, &y);
    struct qc_quantize_plan *plan = plan_of();
    ck_assert_str_eq(plan->reason[2], "automatic: not between integer operators");
    ck_assert_int_eq(plan->group[s], -1);
    ck_assert_int_eq(plan->group[t], t); /* mul wants it */
    check_units(plan, quantize(plan, NULL, NULL), NULL);
}
END_TEST

/* Two in a row: one function of a's codes, nothing to round in between. */
START_TEST(plan__table_behind_table__no_pair_between)
{
    int x = data("x", 3), a = data("a", 3), s = data("s", 3), t = data("t", 3), y = data("y", 3);
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_CONV, "one", a, x, w, -1);
    node(QC_OP_HARD_SWISH, "swish", s, a, -1);
    node(QC_OP_TANH, "tanh", t, s, -1);
    node(QC_OP_CONV, "two", y, t, w, -1);
    io(x, 1, &y);
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    ck_assert_int_eq(plan->group[s], -1);
    ck_assert_int_eq(plan->n_integer, 2);
    const struct qc_node *tanh_ = &r->graph->nodes[find_node(r->graph, "tanh")];
    ck_assert_str_eq(maker(r->graph, tanh_->inputs[0])->name, "swish");
    check_units(plan, r, NULL);
}
END_TEST

/* one - swish - gap - fc - gate - mul - two
 *            \_____________________/        */
START_TEST(quantize_graph__squeeze_and_excite__all_units)
{
    int x = data("x", 3), a = data("a", 3), h = data("h", 3), p = data("p", 3), f = data("f", 3);
    int s = data("s", 3), m = data("m", 3), y = data("y", 3);
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_CONV, "one", a, x, w, -1);
    node(QC_OP_HARD_SWISH, "swish", h, a, -1);
    node(QC_OP_GLOBAL_AVERAGE_POOL, "gap", p, h, -1);
    node(QC_OP_CONV, "fc", f, p, w, -1);
    node(QC_OP_HARD_SIGMOID, "gate", s, f, -1);
    node(QC_OP_MUL, "mul", m, h, s, -1);
    node(QC_OP_CONV, "two", y, m, w, -1);
    io(x, 1, &y);
    struct qc_quantize_plan *plan = plan_of();
    ck_assert_int_eq(plan->n_integer, 7);
    check_units(plan, quantize(plan, NULL, NULL), NULL);
    struct qc_range ranges[64];
    struct qc_qparams *pairs = NULL;
    for (int v = 0; v < g->n_values; v++) {
        ranges[v] = (struct qc_range){.lo = v == h ? -0.375 : 0, .hi = v == h ? 4 : 1};
    }
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &arena, &pairs, NULL), QD_OK);
    ck_assert_int_eq(pairs[h].zero_point, 22); /* 0.375 / (4.375 / 255) = 21.9 */
    ck_assert_int_eq(pairs[s].zero_point, 0);
    ck_assert_float_eq(pairs[s].scale, (float)(1 / 255.0));
}
END_TEST

/* x - split - two parts, one of them into a Conv: all four tensors have one pair, and the part that
 * an f32 operator reads is dequantized. */
START_TEST(plan__split__is_one_group)
{
    int x = data("x", 6), a = data("a", 3), b = data("b", 3), y = data("y", 3), e = data("e", 3);
    int both[2] = {y, e}, *outputs = NULL;
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    struct qc_node *s = node(QC_OP_SPLIT, "split", a, x, -1);
    ck_assert_int_eq(qd_arena_array(&arena, 2, sizeof(int), &outputs, NULL), QD_OK);
    outputs[0] = a;
    outputs[1] = b;
    s->outputs = outputs;
    s->n_outputs = 2;
    node(QC_OP_CONV, "conv", y, b, w, -1);
    node(QC_OP_EXP, "exp", e, a, -1);
    io(x, 2, both);
    struct qc_quantize_plan *plan = plan_of();
    ck_assert(plan->integer[0]);
    ck_assert_int_eq(plan->group[a], x);
    ck_assert_int_eq(plan->group[b], x);
    ck_assert(plan->observe[x] && !plan->observe[a] && plan->observe[b]); /* b: means */
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    check_units(plan, r, "split"); /* whose second output is checked here */
    const struct qc_node *split = &r->graph->nodes[find_node(r->graph, "split")];
    ck_assert_int_eq(maker(r->graph, split->inputs[0])->op, QC_OP_DEQUANTIZE_LINEAR);
    for (int k = 0; k < 2; k++) {
        int u8 = r->quantized[k == 0 ? a : b];
        ck_assert_int_eq(maker(r->graph, u8)->inputs[0], split->outputs[k]);
    }
    const struct qc_node *exp = &r->graph->nodes[find_node(r->graph, "exp")];
    ck_assert_int_eq(maker(r->graph, exp->inputs[0])->op, QC_OP_DEQUANTIZE_LINEAR);
}
END_TEST

Suite *test_quant_follow_suite(void);
Suite *test_quant_follow_suite(void)
{
    Suite *s = suite_create("test_quant_follow");
    TCase *c = tcase_create("follow");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, plan__table_between_integers__is_integer, 0,
                        (int)QD_COUNT_OF(tables));
    tcase_add_loop_test(c, quantize_graph__excluded_table__reads_and_writes_f32, 0,
                        (int)QD_COUNT_OF(tables));
    tcase_add_loop_test(c, plan__table_behind_f32__gets_no_pair, 0, (int)QD_COUNT_OF(tables));
    tcase_add_test(c, plan__table_behind_table__no_pair_between);
    tcase_add_test(c, quantize_graph__squeeze_and_excite__all_units);
    tcase_add_test(c, plan__split__is_one_group);
    suite_add_tcase(s, c);
    return s;
}
