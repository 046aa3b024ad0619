#include "quantcore/quant/quantize_names.h"
#include "quant_fixture.h"

static const struct qc_clamp RELU = {true, 0, INFINITY};

/* x - conv1(relu) - pool - conv2 - add(relu) - gap - flat - fc - softmax
 *                    \_______________/                                    */
static void build_net(void)
{
    int x = data("x", 3), c1 = data("c1", 4), p = data("p", 4), c2 = data("c2", 4);
    int a = data("a", 4), m = data("m", 4), f = data("f", -4), s = data("s", -2);
    int y = data("y", -2);
    int w1 = constant("w1", (struct qc_shape){4, {4, 3, 1, 1}});
    int b1 = constant("b1", (struct qc_shape){1, {4}});
    int w2 = constant("w2", (struct qc_shape){4, {4, 4, 1, 1}});
    int w3 = constant("w3", (struct qc_shape){2, {4, 2}});
    node(QC_OP_CONV, "conv1", c1, x, w1, b1, -1)->clamp = RELU;
    node(QC_OP_MAX_POOL, "pool", p, c1, -1);
    node(QC_OP_CONV, "conv2", c2, p, w2, -1);
    node(QC_OP_ADD, "add", a, c2, p, -1)->clamp = RELU;
    node(QC_OP_GLOBAL_AVERAGE_POOL, "gap", m, a, -1);
    node(QC_OP_FLATTEN, "flat", f, m, -1);
    node(QC_OP_GEMM, "fc", s, f, w3, -1);
    node(QC_OP_SOFTMAX, "softmax", y, s, -1);
    io(x, 1, &y);
}

static float scale_of(const struct qc_graph *q, const char *tensor)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "%s_scale", tensor);
    int v = qc_graph_find_value(q, name);
    ck_assert_msg(v >= 0, "%s", name);
    ck_assert_int_eq(q->values[v].shape.rank, 0);
    return *(const float *)q->values[v].constant->data;
}

START_TEST(plan__residual_net__tail_is_f32_and_pools_share)
{
    build_net();
    struct qc_quantize_plan *plan = plan_of();
    const bool want[] = {true, true, true, true, true, true, true, false};
    for (int i = 0; i < 8; i++) {
        ck_assert_msg(plan->integer[i] == want[i], "%s: %s", g->nodes[i].name, plan->reason[i]);
    }
    ck_assert_str_eq(plan->reason[7], "automatic: softmax, its output needs more than 256 steps");
    ck_assert(plan->keeps_f32[6]);
    ck_assert_int_eq(plan->n_integer, 7);
    ck_assert_int_eq(plan->n_f32, 1);
    int c1 = qc_graph_find_value(g, "c1"), p = qc_graph_find_value(g, "p");
    int m = qc_graph_find_value(g, "m"), f = qc_graph_find_value(g, "f");
    ck_assert_int_eq(plan->group[p], c1);
    ck_assert_int_eq(plan->group[f], m);
    ck_assert_int_eq(plan->group[qc_graph_find_value(g, "s")], -1);
    ck_assert(plan->observe[p]); /* conv2's input: its means */
    ck_assert_int_eq(plan->channel_axis[p], 1);
    ck_assert(plan->observe[c1]);
    ck_assert(!plan->observe[qc_graph_find_value(g, "s")]);
}
END_TEST

START_TEST(quantize_graph__residual_net__node_units_in_order)
{
    build_net();
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    const char *want[] = {
        "x_quantized", "x_dequantized", "b1_dequantized", "w1_dequantized", "conv1",
        "c1_quantized", "c1_dequantized", "pool", "p_quantized", "p_dequantized",
        "w2_dequantized", "conv2", "c2_quantized", "c2_dequantized", "p_dequantized_2", "add",
        "a_quantized", "a_dequantized", "gap", "m_quantized", "m_dequantized", "flat",
        "f_quantized", "f_dequantized", "w3_dequantized", "fc", "softmax"};
    ck_assert_int_eq(r->graph->n_nodes, (int)QD_COUNT_OF(want));
    for (size_t i = 0; i < QD_COUNT_OF(want); i++) {
        ck_assert_str_eq(r->graph->nodes[i].name, want[i]);
    }
    check_units(plan, r, NULL);
    ck_assert_float_eq(scale_of(r->graph, "c1"), scale_of(r->graph, "p"));
    ck_assert_float_eq(scale_of(r->graph, "c1"), (float)(1 / 255.0));
    ck_assert_float_eq(scale_of(r->graph, "c2"), (float)(2 / 255.0));
    /* Relu is what saturation does at zero point 0 */
    ck_assert(!r->graph->nodes[find_node(r->graph, "conv1")].clamp.present);
    const struct qc_node *w = &r->graph->nodes[find_node(r->graph, "w3_dequantized")];
    ck_assert_int_eq(qc_node_int(w, "axis", -1), 1);
    ck_assert_int_eq(r->graph->values[w->inputs[0]].dtype, QC_S8);
    const struct qc_node *b = &r->graph->nodes[find_node(r->graph, "b1_dequantized")];
    ck_assert_int_eq(qc_node_int(b, "axis", -1), 0);
    const struct qc_tensor *sb = qc_node_constant(r->graph, b, 1);
    ck_assert_float_eq(((float *)sb->data)[2], scale_of(r->graph, "x") * r->weights[0]->scale[2]);
    ck_assert_str_eq(r->graph->values[r->graph->outputs[0].value].name, "y");
}
END_TEST

START_TEST(quantize_graph__quantize_last_output__everything_but_softmax)
{
    build_net();
    options.quantize_last_output = true;
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    options.quantize_last_output = false;
    ck_assert_int_ge(find_node(r->graph, "s_quantized"), 0);
    check_units(plan, r, NULL);
    const struct qc_node *softmax = &r->graph->nodes[find_node(r->graph, "softmax")];
    ck_assert_str_eq(maker(r->graph, softmax->inputs[0])->name, "s_dequantized");
}
END_TEST

START_TEST(quantize_graph__means_given__bias_made_and_corrected)
{
    build_net();
    struct qc_quantize_plan *plan = plan_of();
    const double mean[4] = {0.5, 1, 0.25, 2};
    const double *means[64] = {0};
    int n_means[64] = {0};
    int p = qc_graph_find_value(g, "p");
    means[p] = mean;
    n_means[p] = 4;
    struct qc_quantized_graph *r = quantize(plan, means, n_means);
    check_units(plan, r, NULL);
    const struct qc_node *n = &r->graph->nodes[find_node(r->graph, "conv2")];
    ck_assert_int_eq(n->n_inputs, 3);
    const struct qc_node *dq = maker(r->graph, n->inputs[2]);
    const struct qc_tensor *q = qc_node_constant(r->graph, dq, 0);
    const struct qc_tensor *s = qc_node_constant(r->graph, dq, 1);
    ck_assert_str_eq(dq->name, "conv2_bias_dequantized");
    for (size_t o = 0; o < 4; o++) {
        double shift = 0, step = (double)((float *)s->data)[o];
        for (size_t c = 0; c < 4; c++) {
            shift -= (qc_quantized_weights_value(r->weights[2], o * 4 + c) -
                      (double)sinf((float)(o * 4 + c) + 1)) * mean[c];
        }
        ck_assert_double_eq_tol(((int32_t *)q->data)[o] * step, shift, step / 2 + 1e-9);
    }
    n_means[p] = 3;
    struct qc_range ranges[64] = {{0}};
    struct qc_qparams *pairs = NULL;
    struct qd_error err;
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &arena, &pairs, NULL), QD_OK);
    ck_assert_int_eq(qc_quantize_graph(plan, pairs, means, n_means, &arena, &r, &err),
                     QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "conv2"));
}
END_TEST

START_TEST(quantize_graph__excluded_conv__never_between_dequantize_and_quantize)
{
    build_net();
    const char *names[] = {"conv2"};
    options.exclude = (struct qc_exclude){.nodes = names, .n_nodes = 1};
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    options.exclude = (struct qc_exclude){0};
    ck_assert_str_eq(plan->reason[2], "excluded by name 'conv2'");
    const struct qc_node *conv = &r->graph->nodes[find_node(r->graph, "conv2")];
    ck_assert_str_eq(maker(r->graph, conv->inputs[0])->name, "pool");
    ck_assert_ptr_null(maker(r->graph, conv->inputs[1]));
    check_units(plan, r, "pool");
}
END_TEST

START_TEST(quantize_graph__excluded_add__not_taken_for_a_unit)
{
    build_net();
    const char *types[] = {"Add"};
    options.exclude = (struct qc_exclude){.types = types, .n_types = 1};
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    options.exclude = (struct qc_exclude){0};
    const struct qc_node *add = &r->graph->nodes[find_node(r->graph, "add")];
    ck_assert_str_eq(maker(r->graph, add->inputs[0])->name, "conv2");
    ck_assert_str_eq(maker(r->graph, add->inputs[1])->name, "pool");
    ck_assert(add->clamp.present); /* in f32 nothing implies it */
    /* conv2 has no other reader: it gives f32 and no QuantizeLinear is left dangling */
    ck_assert_int_eq(find_node(r->graph, "c2_quantized"), -1);
    ck_assert_int_eq(r->quantized[qc_graph_find_value(g, "c2")], -1);
    ck_assert_int_ge(find_node(r->graph, "a_quantized"), 0);
}
END_TEST

/* Four rows and four columns: by the number of its elements alone, a bias of the rows is one of
 * the columns. */
START_TEST(plan__gemm_bias_a_row__stays_f32)
{
    int x = data("x", -4), y[4];
    const struct qc_shape shapes[] = {{2, {4, 1}}, {2, {1, 4}}, {1, {4}}, {2, {1, 1}}};
    int w = constant("w", (struct qc_shape){2, {4, 4}});
    g->values[x].shape.dim[0] = 4;
    for (int i = 0; i < 4; i++) {
        char name[] = {'y', (char)('0' + i), '\0'}, bias[] = {'b', (char)('0' + i), '\0'};
        const char *own = NULL, *own_bias = NULL;
        ck_assert_int_eq(qd_arena_string(&arena, name, 2, &own, NULL), QD_OK);
        ck_assert_int_eq(qd_arena_string(&arena, bias, 2, &own_bias, NULL), QD_OK);
        y[i] = data(own, -4);
        g->values[y[i]].shape.dim[0] = 4;
        node(QC_OP_GEMM, own, y[i], x, w, constant(own_bias, shapes[i]), -1);
    }
    io(x, 4, y);
    struct qc_quantize_plan *plan = plan_of();
    ck_assert_str_eq(plan->reason[0], "the bias is not one value an output channel");
    for (int i = 1; i < 4; i++) {
        ck_assert_msg(plan->integer[i], "%s", plan->reason[i]);
    }
}
END_TEST

START_TEST(plan__unknown_exclusion__names_it)
{
    build_net();
    struct qc_quantize_plan *plan = NULL;
    struct qd_error err;
    const char *names[] = {"conv9"}, *types[] = {"Konv"};
    struct qc_quantize_options o = {.exclude = {.nodes = names, .n_nodes = 1}};
    ck_assert_int_eq(qc_quantize_plan_new(g, &o, &arena, &plan, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "conv9"));
    o = (struct qc_quantize_options){.exclude = {.types = types, .n_types = 1}};
    ck_assert_int_eq(qc_quantize_plan_new(g, &o, &arena, &plan, &err), QD_INVALID);
    types[0] = "Add";
    ck_assert_int_eq(qc_quantize_plan_new(g, &o, &arena, &plan, &err), QD_OK);
    ck_assert_str_eq(plan->reason[3], "excluded by operator type 'Add'");
}
END_TEST

START_TEST(quantize_graph__inner_tensor_is_an_output__keeps_its_name)
{
    int x = data("x", 3), c = data("c", 3), y = data("y", 3);
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_CONV, "one", c, x, w, -1);
    node(QC_OP_CONV, "two", y, c, w, -1);
    io(x, 3, (int[]){c, y, c});
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    const struct qc_graph *q = r->graph;
    check_units(plan, r, "one"); /* listed twice: its last value has one reader a listing */
    const char *names[] = {"c", "y", "c"};
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(q->values[q->outputs[i].value].name, names[i]);
    }
    const struct qc_node *last = maker(q, q->outputs[0].value);
    ck_assert_int_eq(last->op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert_str_eq(q->values[last->inputs[0]].name, "c_quantized");
    ck_assert_str_eq(q->values[q->nodes[r->node[0]].outputs[0]].name, "c_float");
    /* shared weights: a DequantizeLinear each */
    ck_assert_int_ge(find_node(q, "w_dequantized"), 0);
    ck_assert_int_ge(find_node(q, "w_two_dequantized"), 0);
}
END_TEST

START_TEST(quantize_graph__x_plus_x__two_dequantize)
{
    int x = data("x", 3), a = data("a", 3), y = data("y", 3);
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_ADD, "add", a, x, x, -1);
    node(QC_OP_CONV, "conv", y, a, w, -1);
    io(x, 1, &y);
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    const struct qc_node *add = &r->graph->nodes[r->node[0]];
    ck_assert_int_ne(add->inputs[0], add->inputs[1]);
    check_units(plan, r, NULL);
}
END_TEST

START_TEST(quantize_graph__relu6_wider_and_narrower__clamp_dropped_when_implied)
{
    for (int narrow = 0; narrow < 2; narrow++) {
        teardown();
        setup();
        int x = data("x", 3), a = data("a", 3), y = data("y", 3);
        int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
        node(QC_OP_CONV, "one", a, x, w, -1)->clamp =
            (struct qc_clamp){true, 0, narrow ? 0.5f : 6.0f};
        node(QC_OP_CONV, "two", y, a, w, -1);
        io(x, 1, &y);
        struct qc_quantized_graph *r = quantize(plan_of(), NULL, NULL);
        ck_assert_int_eq(r->graph->nodes[r->node[0]].clamp.present, narrow);
    }
}
END_TEST

START_TEST(plan_pairs__concat__unified_when_close)
{
    for (int far = 0; far < 2; far++) {
        teardown();
        setup();
        int x = data("x", 3), a = data("a", 3), b = data("b", 3), c = data("c", 6);
        int y = data("y", 3);
        int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
        int v = constant("v", (struct qc_shape){4, {3, 6, 1, 1}});
        node(QC_OP_CONV, "one", a, x, w, -1);
        node(QC_OP_CONV, "two", b, x, w, -1);
        node(QC_OP_CONCAT, "cat", c, a, b, -1);
        node(QC_OP_CONV, "three", y, c, v, -1);
        io(x, 1, &y);
        struct qc_range ranges[16];
        for (int i = 0; i < 16; i++) {
            ranges[i] = (struct qc_range){.lo = -1, .hi = 1};
        }
        ranges[b].hi = far ? 0.5 : 0.95;
        struct qc_qparams *pairs = NULL;
        ck_assert_int_eq(qc_quantize_plan_pairs(plan_of(), ranges, &arena, &pairs, NULL), QD_OK);
        ck_assert_int_eq(pairs[a].scale == pairs[b].scale, !far);
        ck_assert_float_eq(pairs[c].scale, pairs[a].scale);
        ranges[x].hi = NAN;
        struct qd_error err;
        ck_assert_int_eq(qc_quantize_plan_pairs(plan_of(), ranges, &arena, &pairs, &err),
                         QD_INVALID);
        ck_assert_str_eq(err.subject, "x");
    }
}
END_TEST

START_TEST(plan__f32_island_between__reads_and_writes_f32)
{
    int x = data("x", 3), a = data("a", 3), h = data("h", 3), y = data("y", 3);
    int k = constant("k", (struct qc_shape){0, {0}}), s = data("s", 3);
    int w = constant("w", (struct qc_shape){4, {3, 3, 1, 1}});
    node(QC_OP_MUL, "by_constant", s, x, k, -1);
    node(QC_OP_CONV, "one", a, s, w, -1);
    node(QC_OP_EXP, "exp", h, a, -1);
    node(QC_OP_CONV, "two", y, h, w, -1);
    io(x, 1, &y);
    struct qc_quantize_plan *plan = plan_of();
    ck_assert_str_eq(plan->reason[0], "an input is a constant or no f32 tensor");
    ck_assert_str_eq(plan->reason[2], "automatic: arithmetic of box and score decoding");
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    const struct qc_graph *q = r->graph;
    check_units(plan, r, NULL);
    ck_assert_int_eq(q->nodes[r->node[0]].inputs[0], x);
    ck_assert_int_eq(maker(q, q->nodes[r->node[2]].inputs[0])->op, QC_OP_DEQUANTIZE_LINEAR);
    ck_assert_int_eq(r->quantized[x], -1);
    ck_assert_int_ge(r->quantized[h], 0);
}
END_TEST

START_TEST(name_set__many_names__grows_and_finds)
{
    struct qc_name_set set;
    const char *name = NULL;
    ck_assert_int_eq(qc_name_set_init(&set, 1, &arena, NULL), QD_OK);
    for (int i = 0; i < 5000; i++) {
        ck_assert_int_eq(qc_name_set_make(&set, i % 2 ? "w" : "v", "_scale", &arena, &name, NULL),
                         QD_OK);
        if (i > 500) {
            i += 50; /* each clash tries all numbers */
        }
    }
    ck_assert_ptr_nonnull(strstr(name, "_scale_2"));
    ck_assert(qc_name_set_has(&set, "w_scale") && qc_name_set_has(&set, "v_scale_200"));
    ck_assert(!qc_name_set_has(&set, "w_scale_1") && !qc_name_set_has(&set, ""));
    ck_assert_uint_le(2 * set.n, set.n_slots);
}
END_TEST

START_TEST(quantize_graph__any_allocation_fails__clean_error)
{
    build_net();
    struct qc_range ranges[64] = {{0}};
    int failures = 0;
    for (int at = 1; at < 5000; at++) {
        struct qd_arena own;
        struct qd_error err = {0};
        struct qc_quantize_plan *plan = NULL;
        struct qc_qparams *pairs = NULL;
        struct qc_quantized_graph *q = NULL;
        qd_arena_init(&own, 0);
        own.fail_after = at;
        enum qd_code code = qc_quantize_plan_new(g, &options, &own, &plan, &err);
        code = code != QD_OK ? code : qc_quantize_plan_pairs(plan, ranges, &own, &pairs, &err);
        code = code != QD_OK ? code : qc_quantize_graph(plan, pairs, NULL, NULL, &own, &q, &err);
        qd_arena_done(&own);
        if (code == QD_OK) {
            break;
        }
        failures++;
        ck_assert_int_ne(err.message[0], '\0');
        ck_assert_ptr_null(q);
    }
    ck_assert_int_gt(failures, 50);
    ck_assert_int_lt(failures, 4000);
}
END_TEST

Suite *test_quant_graph_suite(void);
Suite *test_quant_graph_suite(void)
{
    Suite *s = suite_create("test_quant_graph");
    TCase *c = tcase_create("graph");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, plan__residual_net__tail_is_f32_and_pools_share);
    tcase_add_test(c, quantize_graph__residual_net__node_units_in_order);
    tcase_add_test(c, quantize_graph__quantize_last_output__everything_but_softmax);
    tcase_add_test(c, quantize_graph__means_given__bias_made_and_corrected);
    tcase_add_test(c, quantize_graph__excluded_conv__never_between_dequantize_and_quantize);
    tcase_add_test(c, quantize_graph__excluded_add__not_taken_for_a_unit);
    tcase_add_test(c, plan__gemm_bias_a_row__stays_f32);
    tcase_add_test(c, plan__unknown_exclusion__names_it);
    tcase_add_test(c, quantize_graph__inner_tensor_is_an_output__keeps_its_name);
    tcase_add_test(c, quantize_graph__x_plus_x__two_dequantize);
    tcase_add_test(c, quantize_graph__relu6_wider_and_narrower__clamp_dropped_when_implied);
    tcase_add_test(c, plan_pairs__concat__unified_when_close);
    tcase_add_test(c, plan__f32_island_between__reads_and_writes_f32);
    tcase_add_test(c, name_set__many_names__grows_and_finds);
    tcase_add_test(c, quantize_graph__any_allocation_fails__clean_error);
    suite_add_tcase(s, c);
    return s;
}
