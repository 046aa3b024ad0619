/* Which operators stay in f32: asked for, or by themselves. */
#include <math.h>

#include "quantcore/quant/quantize_graph.h"
#include "tests/unit/test_graph_build.h"

static struct tg t;
static const char *reason[16];

/* x - conv1 - conv2 - add - mm - softmax, with a way around conv2 (side):
 *        \___ side __/                                                     */
static void setup(void)
{
    tg_init(&t);
    int x = tg_input(&t, "x", 4, -1, 2, 1, 1);
    int w = tg_floats(&t, "w", -1, 0.7f, 4, 2, 2, 1, 1);
    int c1 = tg_node(&t, "body/conv1", QC_OP_CONV, 2, x, w);
    int c2 = tg_node(&t, "body/conv2", QC_OP_CONV, 2, c1, w);
    int side = tg_node(&t, "side", QC_OP_CONV, 2, c1, w);
    int a = tg_node(&t, "add", QC_OP_ADD, 2, c2, side);
    int f = tg_node(&t, "flat", QC_OP_FLATTEN, 1, a);
    int m = tg_node(&t, "head.mm", QC_OP_MATMUL, 2, f, tg_floats(&t, "v", -1, 0.7f, 2, 2, 3));
    tg_output(&t, tg_node(&t, "soft", QC_OP_SOFTMAX, 1, m));
    tg_bind(&t);
}

static void teardown(void)
{
    tg_done(&t);
}

static enum qd_code exclude(struct qc_exclude e)
{
    return qc_exclude_nodes(&e, t.g, &t.arena, reason, &t.err);
}

/* The excluded nodes by name, with a space behind each. */
static const char *excluded(void)
{
    static char names[200];
    names[0] = '\0';
    for (int i = 0; i < t.g->n_nodes; i++) {
        if (reason[i] != NULL) {
            strcat(names, t.g->nodes[i].name);
            strcat(names, " ");
        }
    }
    return names;
}

START_TEST(glob_match__patterns__as_documented)
{
    static const struct {
        const char *pattern, *text;
        bool want;
    } cases[] = {
        {"", "", true},          {"", "a", false},       {"*", "", true},
        {"*", "a/b", true},      {"a*", "abc", true},    {"a*", "ba", false},
        {"*c", "abc", true},     {"*c", "abd", false},   {"a*b*c", "a1b2b3c", true},
        {"a*b*c", "acb", false}, {"a?c", "abc", true},   {"a?c", "ac", false},
        {"?", "", false},        {"**?", "x", true},     {"[ab]", "a", false},
        {"[ab]", "[ab]", true},  {"*ab*ab", "ababab", true},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        ck_assert_msg(qc_glob_match(cases[i].pattern, cases[i].text) == cases[i].want,
                      "'%s' on '%s'", cases[i].pattern, cases[i].text);
    }
}
END_TEST

/* What a recursive matcher needs centuries for. */
START_TEST(glob_match__many_stars__ends)
{
    char text[2001];
    memset(text, 'a', 2000);
    text[2000] = '\0';
    ck_assert(!qc_glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", text));
    ck_assert(qc_glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*", text));
}
END_TEST

START_TEST(exclude_nodes__each_kind__marked_with_the_reason)
{
    const char *name[] = {"add"}, *type[] = {"MatMul", "Softmax"}, *pattern[] = {"body/*"};
    ck_assert_int_eq(exclude((struct qc_exclude){.nodes = name, .n_nodes = 1}), QD_OK);
    ck_assert_str_eq(excluded(), "add ");
    ck_assert_str_eq(reason[3], "excluded by name 'add'");
    ck_assert_int_eq(exclude((struct qc_exclude){.types = type, .n_types = 2}), QD_OK);
    ck_assert_str_eq(excluded(), "head.mm soft ");
    ck_assert_str_eq(reason[5], "excluded by operator type 'MatMul'");
    ck_assert_int_eq(exclude((struct qc_exclude){.patterns = pattern, .n_patterns = 1}), QD_OK);
    ck_assert_str_eq(excluded(), "body/conv1 body/conv2 ");
    ck_assert_str_eq(reason[0], "excluded by pattern 'body/*'");
    ck_assert_int_eq(exclude((struct qc_exclude){0}), QD_OK);
    ck_assert_str_eq(excluded(), "");
}
END_TEST

START_TEST(exclude_nodes__range__all_paths_between_and_both_ends)
{
    static const struct {
        struct qc_exclude_range range;
        const char *want;
    } cases[] = {
        {{"body/conv1", "add"}, "body/conv1 body/conv2 side add "},
        {{"body/conv2", "flat"}, "body/conv2 add flat "},
        {{"side", "side"}, "side "},
        {{"add", "soft"}, "add flat head.mm soft "},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        ck_assert_msg(exclude((struct qc_exclude){.ranges = &cases[i].range, .n_ranges = 1}) ==
                          QD_OK, "%s", t.err.message);
        ck_assert_str_eq(excluded(), cases[i].want);
    }
    ck_assert_str_eq(reason[3], "excluded by range 'add' to 'soft'");
}
END_TEST

START_TEST(exclude_nodes__nothing_matches__names_it)
{
    const char *wrong[] = {"add", "convolution"}, *types[] = {"Sigmoid"}, *patterns[] = {"*x"};
    struct qc_exclude_range no_end = {"add", "nowhere"}, back = {"add", "side"},
                            apart = {"body/conv2", "side"};
    const struct {
        struct qc_exclude e;
        const char *part;
    } cases[] = {
        {{.nodes = wrong, .n_nodes = 2}, "excluded node 'convolution'"},
        {{.types = types, .n_types = 1}, "excluded operator type 'Sigmoid'"},
        {{.patterns = patterns, .n_patterns = 1}, "excluded pattern '*x'"},
        {{.ranges = &no_end, .n_ranges = 1}, "no node 'nowhere'"},
        {{.ranges = &back, .n_ranges = 1}, "no path leads from node 'add' to node 'side'"},
        {{.ranges = &apart, .n_ranges = 1}, "from node 'body/conv2' to node 'side'"},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        ck_assert_int_eq(exclude(cases[i].e), QD_INVALID);
        ck_assert_msg(strstr(t.err.message, cases[i].part) != NULL, "%s", t.err.message);
    }
}
END_TEST

START_TEST(plan__range_and_automatic__f32_with_reasons)
{
    struct qc_quantize_plan *plan = NULL;
    struct qc_exclude_range range = {"body/conv2", "add"};
    struct qc_quantize_options o = {.exclude = {.ranges = &range, .n_ranges = 1}};
    ck_assert_int_eq(qc_quantize_plan_new(t.g, &o, &t.arena, &plan, &t.err), QD_OK);
    static const bool integer[] = {true, false, true, false, true, true, false};
    for (int i = 0; i < t.g->n_nodes; i++) {
        ck_assert_msg(plan->integer[i] == integer[i], "%s: %s", t.g->nodes[i].name,
                      plan->reason[i]);
    }
    ck_assert_str_eq(plan->reason[1], "excluded by range 'body/conv2' to 'add'");
    ck_assert_str_eq(plan->reason[6], "automatic: softmax, its output needs more than 256 steps");
}
END_TEST

static const char *automatic(int op)
{
    struct qc_node n = {.op = op, .op_type = qc_op_rows[op].type};
    return qc_automatic_exclusion(&n);
}

START_TEST(automatic_exclusion__kinds__said)
{
    ck_assert_ptr_nonnull(strstr(automatic(QC_OP_BATCH_NORMALIZATION), "normalisation"));
    ck_assert_ptr_nonnull(strstr(automatic(QC_OP_EXP), "box and score decoding"));
    ck_assert_ptr_nonnull(strstr(automatic(QC_OP_DIV), "box and score decoding"));
    ck_assert_ptr_null(automatic(QC_OP_CONV));
    ck_assert_ptr_null(automatic(QC_OP_RELU));
}
END_TEST

/* A dead channel and a bias of 1e9 beside weights of 1e-3: each layer carries its own counts. */
START_TEST(quantize_graph__guards__counted_a_layer)
{
    struct qc_quantize_plan *plan = NULL;
    struct qc_qparams *pairs = NULL;
    struct qc_quantized_graph *q = NULL;
    struct qc_range ranges[32];
    struct tg u;
    tg_init(&u);
    int x = tg_input(&u, "x", 2, 1, 2);
    int w = tg_floats(&u, "w", 1e-3f, 0, 2, 2, 2), w2 = tg_floats(&u, "w2", 1, 0, 2, 2, 2);
    ((float *)(uintptr_t)u.g->values[w2].constant->data)[1] = 0;
    ((float *)(uintptr_t)u.g->values[w2].constant->data)[3] = 0;
    int a = tg_node(&u, "a", QC_OP_GEMM, 3, x, w, tg_floats(&u, "b", 1e9f, 0, 1, 2));
    tg_output(&u, tg_node(&u, "c", QC_OP_GEMM, 2, a, w2));
    tg_bind(&u);
    struct qc_quantize_options o = {.weights_per_channel = true, .dense_per_channel = true};
    ck_assert_int_eq(qc_quantize_plan_new(u.g, &o, &u.arena, &plan, &u.err), QD_OK);
    for (int v = 0; v < u.g->n_values; v++) {
        ranges[v] = (struct qc_range){.lo = -1, .hi = 1};
    }
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &u.arena, &pairs, &u.err), QD_OK);
    ck_assert_int_eq(qc_quantize_graph(plan, pairs, NULL, NULL, &u.arena, &q, &u.err), QD_OK);
    ck_assert_int_eq(q->weights[0]->n_dead, 0);
    ck_assert_int_eq(q->weights[0]->n_raised, 2);
    ck_assert_int_eq(q->weights[1]->n_dead, 1);
    ck_assert_int_eq(q->weights[1]->n_raised, 0);
    tg_done(&u);
}
END_TEST

Suite *test_quant_exclude_suite(void)
{
    Suite *s = suite_create("quant_exclude");
    TCase *tc = tcase_create("quant_exclude");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, glob_match__patterns__as_documented);
    tcase_add_test(tc, glob_match__many_stars__ends);
    tcase_add_test(tc, exclude_nodes__each_kind__marked_with_the_reason);
    tcase_add_test(tc, exclude_nodes__range__all_paths_between_and_both_ends);
    tcase_add_test(tc, exclude_nodes__nothing_matches__names_it);
    tcase_add_test(tc, plan__range_and_automatic__f32_with_reasons);
    tcase_add_test(tc, automatic_exclusion__kinds__said);
    tcase_add_test(tc, quantize_graph__guards__counted_a_layer);
    suite_add_tcase(s, tc);
    return s;
}
