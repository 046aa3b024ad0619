#include <check.h>
#include <math.h>

#include "quantcore/calib/sanity.h"
#include "quantcore/passes/pass.h"
#include "tests/unit/test_graph_build.h"

enum { C = 6, SIZE = 8, PIXELS = SIZE * SIZE };

static uint32_t seed;

static float uniform(void) /* [0, 1) */
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f;
}

static int constant(struct tg *t, const char *name, const float *x)
{
    int v = tg_floats(t, name, 0, 0, 1, C);
    memcpy(t->g->values[v].constant->data, x, C * sizeof(*x));
    return v;
}

/* y = BatchNormalization(Conv(x)), its statistics those of x uniform in [0, 1): a 1x1 kernel w
 * gives w / 2 and w / sqrt(12). */
static void build(struct tg *t)
{
    float gamma[C], beta[C], mean[C], var[C];
    seed = 5;
    for (int c = 0; c < C; c++) {
        float w = 1.0f + (float)c;
        mean[c] = w / 2;
        var[c] = w * w / 12;
        gamma[c] = c == 3 ? 1e-6f : 0.5f + 0.25f * (float)c;
        beta[c] = (float)c - 2.0f;
    }
    tg_init(t);
    int x = tg_input(t, "image", 4, -1, 1, SIZE, SIZE);
    int w = tg_floats(t, "w", 1, 1, 4, C, 1, 1, 1);
    int y = tg_node(t, "conv", QC_OP_CONV, 2, x, w);
    y = tg_node(t, "bn", QC_OP_BATCH_NORMALIZATION, 5, y, constant(t, "gamma", gamma),
                constant(t, "beta", beta), constant(t, "mean", mean), constant(t, "var", var));
    tg_output(t, tg_node(t, "relu", QC_OP_RELU, 1, y));
    ck_assert_msg(qc_passes_run(t->g, &t->err) == QD_OK, "%s", t->err.message);
}

static struct qc_sanity_row look(struct tg *t, int n, float scale, float add)
{
    struct qc_sanity *s = NULL;
    float image[PIXELS];
    const float *inputs[1] = {image};
    ck_assert_int_eq(qc_sanity_new(t->g, &t->arena, &s, &t->err), QD_OK);
    ck_assert_int_eq(qc_sanity_count(s), 1);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < PIXELS; i++) {
            image[i] = uniform() * scale + add;
        }
        ck_assert_msg(qc_sanity_sample(s, inputs, &t->err) == QD_OK, "%s", t->err.message);
    }
    return qc_sanity_row_at(s, 0);
}

START_TEST(sanity__data_as_in_training__not_suspicious)
{
    struct tg t;
    build(&t);
    struct qc_sanity_row row = look(&t, 30, 1, 0);
    ck_assert_str_eq(row.input, "image");
    ck_assert_str_eq(row.node, "conv");
    ck_assert(!row.suspicious);
    ck_assert_double_lt(row.shift, 0.1);
    ck_assert_double_lt(row.spread, 0.1);
    ck_assert_double_lt(row.max, 1);
    tg_done(&t);
}
END_TEST

START_TEST(sanity__other_scale_or_mean__suspicious_by_how_much)
{
    struct tg t;
    build(&t);
    struct qc_sanity_row row = look(&t, 8, 255, 0);
    ck_assert(row.suspicious);
    ck_assert_double_eq_tol(row.spread, log2(255), 0.2);
    row = look(&t, 8, 2, -1);
    ck_assert(row.suspicious);
    ck_assert_double_eq_tol(row.spread, 1, 0.1);
    row = look(&t, 8, 1, 0.5f);
    ck_assert(row.suspicious);
    ck_assert_double_eq_tol(row.shift, 0.5 * sqrt(12), 0.1);
    tg_done(&t);
}
END_TEST

START_TEST(sanity__few_samples__nothing_said)
{
    struct tg t;
    build(&t);
    ck_assert(!look(&t, 7, 255, 0).suspicious);
    tg_done(&t);
}
END_TEST

START_TEST(sanity__no_batch_normalization__a_missing_mean_is_seen)
{
    struct tg t;
    build(&t);
    t.g->nodes[0].trained_mean = t.g->nodes[0].trained_std = NULL;
    struct qc_sanity_row row = look(&t, 8, 1, 0);
    ck_assert(!row.trained && !row.suspicious); /* its bias is no small one */
    ck_assert_double_gt(row.bias, QC_SANITY_BIAS);
    for (int c = 0; c < C; c++) {
        ((float *)qc_node_constant(t.g, &t.g->nodes[0], 2)->data)[c] = 0.01f;
    }
    row = look(&t, 8, 255, 0);
    ck_assert(row.suspicious);
    ck_assert_double_eq_tol(row.offset, sqrt(3), 0.1);
    ck_assert(!look(&t, 8, 255, -120).suspicious);
    tg_done(&t);
}
END_TEST

Suite *test_sanity_suite(void);
Suite *test_sanity_suite(void)
{
    Suite *s = suite_create("test_sanity");
    TCase *c = tcase_create("sanity");
    tcase_add_test(c, sanity__data_as_in_training__not_suspicious);
    tcase_add_test(c, sanity__other_scale_or_mean__suspicious_by_how_much);
    tcase_add_test(c, sanity__few_samples__nothing_said);
    tcase_add_test(c, sanity__no_batch_normalization__a_missing_mean_is_seen);
    suite_add_tcase(s, c);
    return s;
}
