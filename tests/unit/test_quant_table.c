/* Scales of a calibration table in place of calibrated ones. */
#include <math.h>

#include "quantcore/passes/pass.h"
#include "quantcore/quant/quantize_graph.h"
#include "quantcore/quant/quantize_table.h"
#include "tests/unit/test_graph_build.h"

static struct tg t;
static int x, conv, pool, fc;
static struct qc_quantize_plan *plan;

static struct qc_quantize_plan *new_plan(const struct qc_import *import)
{
    struct qc_quantize_options options = {.weights_per_channel = true, .import = import};
    struct qc_quantize_plan *p = NULL;
    ck_assert_msg(qc_quantize_plan_new(t.g, &options, &t.arena, &p, &t.err) == QD_OK, "%s",
                  t.err.message);
    return p;
}

/* x - conv - pool - conv2 - softmax: {x}, {conv_y, pool_y} are quantized, the rest is f32. */
static void setup(void)
{
    tg_init(&t);
    x = tg_input(&t, "x", 4, -1, 3, 4, 4);
    conv = tg_node(&t, "conv", QC_OP_CONV, 2, x, tg_floats(&t, "w", 0.1f, 0.1f, 4, 2, 3, 1, 1));
    pool = tg_node(&t, "pool", QC_OP_MAX_POOL, 1, conv);
    tg_attr_ints(&t, "kernel_shape", 2, 2, 2);
    fc = tg_node(&t, "conv2", QC_OP_CONV, 2, pool, tg_floats(&t, "v", 0.1f, 0.1f, 4, 4, 2, 1, 1));
    tg_output(&t, tg_node(&t, "softmax", QC_OP_SOFTMAX, 1, fc));
    ck_assert_int_eq(qc_graph_link(t.g, &t.err), QD_OK);
    ck_assert_msg(qc_passes_run(t.g, &t.err) == QD_OK, "%s", t.err.message);
    plan = new_plan(NULL);
    ck_assert_int_eq(plan->group[pool], conv);
    ck_assert_int_eq(plan->group[fc], -1);
}

static void teardown(void)
{
    tg_done(&t);
}

static void check_pair(const struct qc_qparams *p, bool is_s8, float scale, int zero_point)
{
    ck_assert_ptr_nonnull(p);
    ck_assert(p->scale == scale);
    ck_assert_int_eq(p->zero_point, zero_point);
    ck_assert_int_eq(p->is_s8, is_s8);
}

static struct qc_import *import_rows(const struct qc_table_row *rows, size_t n, size_t unused)
{
    struct qc_import *import = NULL;
    size_t is = 99;
    ck_assert_msg(qc_table_import(plan, rows, n, &t.arena, &import, &is, &t.err) == QD_OK, "%s",
                  t.err.message);
    ck_assert_uint_eq(is, unused);
    return import;
}

START_TEST(table_import__some_tensors__they_win_the_rest_is_calibrated)
{
    const struct qc_table_row rows[] = {{.tensor = "conv_y", .scale = 0.25f, .is_s8 = true},
                                        {.tensor = "conv2_y", .scale = 0.5f, .zero_point = 3},
                                        {.tensor = "nobody", .scale = 1}};
    struct qc_import *import = import_rows(rows, 3, 2);
    struct qc_range ranges[128];
    struct qc_qparams *pairs = NULL;
    ck_assert_int_eq(import->n_pairs, 1);
    struct qc_quantize_plan *second = new_plan(import);
    for (int v = 0; v < t.g->n_values; v++) {
        ranges[v] = (struct qc_range){.lo = -1, .hi = 1};
        ck_assert_int_eq(second->group[v], plan->group[v]); /* a table quantizes nothing more */
    }
    ck_assert_int_eq(second->n_integer, plan->n_integer);
    ck_assert_int_eq(qc_quantize_plan_pairs(second, ranges, &t.arena, &pairs, &t.err), QD_OK);
    check_pair(&pairs[conv], true, 0.25f, 0);
    check_pair(&pairs[pool], true, 0.25f, 0);
    check_pair(&pairs[x], false, 2.0f / 255, 127);
}
END_TEST

START_TEST(table_import__member_before_root__the_root_wins)
{
    const struct qc_table_row rows[] = {{.tensor = "pool_y", .scale = 0.5f, .zero_point = 7},
                                        {.layer = "conv2", .scale = 2, .zero_point = 9},
                                        {.tensor = "conv_y", .scale = 0.25f, .zero_point = 5},
                                        {.tensor = "x", .scale = 1, .zero_point = 255}};
    struct qc_import *import = import_rows(rows, 4, 0);
    check_pair(qc_import_pair(import, conv), false, 0.25f, 5);
    check_pair(qc_import_pair(import, x), false, 1, 255);
    ck_assert_ptr_null(qc_import_pair(import, pool));
    ck_assert_int_eq(import->n_pairs, 2);
    import = import_rows(rows, 2, 0); /* without the root the first member */
    check_pair(qc_import_pair(import, conv), false, 0.5f, 7);
}
END_TEST

START_TEST(table_import__layers__their_first_inputs)
{
    const struct qc_table_row rows[] = {{.layer = "conv2", .scale = 0.5f, .is_s8 = true},
                                        {.layer = "conv", .scale = 0.25f, .is_s8 = true},
                                        {.layer = "softmax", .scale = 1, .is_s8 = true}};
    struct qc_import *import = import_rows(rows, 3, 1);
    check_pair(qc_import_pair(import, conv), true, 0.5f, 0);
    check_pair(qc_import_pair(import, x), true, 0.25f, 0);
}
END_TEST

static const struct {
    struct qc_table_row row;
    const char *says;
} wrong[] = {
    {{.tensor = "nobody", .scale = 1}, "none of the 1 scales"},
    {{.tensor = "conv2_y", .scale = 1}, "'conv2_y'"},
    {{.tensor = "x", .scale = 0}, "scale 0 of 'x'"},
    {{.tensor = "x", .scale = -1}, "scale -1 of 'x'"},
    {{.tensor = "x", .scale = INFINITY}, "scale inf of 'x'"},
    {{.tensor = "x", .scale = NAN}, "nan of 'x'"},
    {{.tensor = "x", .scale = 1, .zero_point = 256}, "256 of 'x', allowed: 0 to 255"},
    {{.layer = "conv", .scale = 1, .zero_point = 128, .is_s8 = true}, "allowed: -128 to 127"},
    {{.scale = 1}, "names nothing"},
};

START_TEST(table_import__bad_row__named)
{
    struct qc_import *import = NULL;
    size_t unused = 0;
    enum qd_code code =
        qc_table_import(plan, &wrong[_i].row, 1, &t.arena, &import, &unused, &t.err);
    ck_assert_int_eq(code, QD_INVALID);
    ck_assert_ptr_null(import);
    ck_assert_msg(strstr(t.err.message, wrong[_i].says) != NULL, "%s", t.err.message);
}
END_TEST

START_TEST(table_import__no_row__refused)
{
    struct qc_import *import = NULL;
    size_t unused = 0;
    ck_assert_int_eq(qc_table_import(plan, NULL, 0, &t.arena, &import, &unused, &t.err),
                     QD_INVALID);
}
END_TEST

Suite *test_quant_table_suite(void)
{
    Suite *s = suite_create("quant_table");
    TCase *c = tcase_create("import");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, table_import__some_tensors__they_win_the_rest_is_calibrated);
    tcase_add_test(c, table_import__member_before_root__the_root_wins);
    tcase_add_test(c, table_import__layers__their_first_inputs);
    tcase_add_loop_test(c, table_import__bad_row__named, 0, QD_COUNT_OF(wrong));
    tcase_add_test(c, table_import__no_row__refused);
    suite_add_tcase(s, c);
    return s;
}
