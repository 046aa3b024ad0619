/* A quantized ConvTranspose: scales on axis 1, the bias of every group, the correction. */
#include "quant_fixture.h"
#include "quantcore/quant/bias_correction.h"

Suite *test_quant_transposed_suite(void);

static const int64_t strides[2] = {2, 2};
static const struct qc_attr attrs[2] = {
    {.name = "group", .type = QC_ATTR_INT, .i = 2},
    {.name = "strides", .type = QC_ATTR_INTS, .n = 2, .ints = strides}};

/* x - up (2 groups of 3 to 2) - conv. */
static void build(void)
{
    int x = data("x", 6), a = data("a", 4), y = data("y", 3);
    int w = constant("w", (struct qc_shape){4, {6, 2, 3, 3}});
    int b = constant("b", (struct qc_shape){1, {4}});
    struct qc_node *n = node(QC_OP_CONV_TRANSPOSE, "up", a, x, w, b, -1);
    n->attrs = attrs;
    n->n_attrs = 2;
    node(QC_OP_CONV, "conv", y, a, constant("v", (struct qc_shape){4, {3, 4, 1, 1}}), -1);
    io(x, 1, &y);
}

static const struct qc_weight_format narrow = {.bits = QC_WEIGHT_BITS};

START_TEST(quantize_graph__conv_transpose__has_scales_on_axis_1)
{
    build();
    struct qc_quantize_plan *plan = plan_of();
    ck_assert(plan->integer[0]);
    ck_assert_int_eq(plan->channel_axis[0], 1);
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    check_units(plan, r, NULL);
    const struct qc_node *up = &r->graph->nodes[find_node(r->graph, "up")];
    const struct qc_node *w = maker(r->graph, up->inputs[1]), *b = maker(r->graph, up->inputs[2]);
    ck_assert_int_eq(qc_node_int(w, "axis", -9), 1);
    ck_assert_int_eq(qc_node_int(b, "axis", -9), 0);
    const struct qc_tensor *ws = qc_node_constant(r->graph, w, 1);
    const struct qc_tensor *bs = qc_node_constant(r->graph, b, 1);
    const struct qc_tensor *bq = qc_node_constant(r->graph, b, 0);
    ck_assert_uint_eq(qc_shape_elements(&ws->shape), 2);
    ck_assert_uint_eq(qc_shape_elements(&bs->shape), 4);
    for (size_t c = 0; c < 4; c++) { /* channel g * 2 + m has scale m */
        float s = (float)(2.0 / 255) * ((const float *)ws->data)[c % 2];
        ck_assert(((const float *)bs->data)[c] == s);
        ck_assert_double_eq_tol((double)s * (double)qc_tensor_s64(bq, c), sin((double)c + 1),
                                (double)s);
    }
}
END_TEST

START_TEST(quantize_graph__excluded_conv_transpose__is_not_between_codes)
{
    const char *names[] = {"up"};
    build();
    options.exclude = (struct qc_exclude){.nodes = names, .n_nodes = 1};
    struct qc_quantize_plan *plan = plan_of();
    struct qc_quantized_graph *r = quantize(plan, NULL, NULL);
    options.exclude = (struct qc_exclude){0};
    const struct qc_node *up = &r->graph->nodes[find_node(r->graph, "up")];
    ck_assert_int_eq(up->inputs[0], qc_graph_find_value(r->graph, "x"));
    ck_assert_ptr_nonnull(qc_node_constant(r->graph, up, 1));
}
END_TEST

/* The mean of the output error over all pixels, without a border: kernel 2, stride 2 has every
 * output pixel meet one tap. */
START_TEST(bias_correct__conv_transpose__mean_error_vanishes)
{
    enum { C = 4, M = 3, T = 4 };
    struct qc_node n = {.name = "up", .op = QC_OP_CONV_TRANSPOSE, .n_attrs = 2, .attrs = attrs};
    struct qc_tensor *t = NULL;
    struct qc_shape shape = {4, {C, M, 2, 2}};
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &shape, &t, NULL), QD_OK);
    float *w = t->data;
    for (int i = 0; i < C * M * T; i++) {
        w[i] = sinf((float)i * 1.7f) + 0.3f;
    }
    const double mean[C] = {0.5, -2, 3, 0.25};
    double bias[2 * M] = {1, 2, 3, 4, 5, 6};
    struct qc_quantized_weights q;
    ck_assert_int_eq(qc_weights_axis(&n, t), 1);
    ck_assert_int_eq(qc_node_channels(&n, &shape), 2 * M);
    ck_assert_int_eq(qc_quantize_weights(t, 1, &narrow, &arena, &q, NULL), QD_OK);
    ck_assert_int_eq(qc_bias_correct(&n, &q, mean, C, bias, NULL), QD_OK);
    for (int o = 0; o < 2 * M; o++) {
        double f32 = o + 1, int8 = bias[o];
        for (int c = o / M * 2; c < o / M * 2 + 2; c++) {
            for (int k = 0; k < T; k++) {
                int i = (c * M + o % M) * T + k;
                f32 += (double)w[i] * mean[c] / T;
                int8 += qc_quantized_weights_value(&q, (size_t)i) * mean[c] / T;
            }
        }
        ck_assert_double_ne(bias[o], o + 1);
        ck_assert_double_eq_tol(f32, int8, 1e-12);
    }
    ck_assert_int_eq(qc_bias_correct(&n, &q, mean, 3, bias, NULL), QD_INVALID);
}
END_TEST

Suite *test_quant_transposed_suite(void)
{
    Suite *s = suite_create("test_quant_transposed");
    TCase *c = tcase_create("transposed");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, quantize_graph__conv_transpose__has_scales_on_axis_1);
    tcase_add_test(c, quantize_graph__excluded_conv_transpose__is_not_between_codes);
    tcase_add_test(c, bias_correct__conv_transpose__mean_error_vanishes);
    suite_add_tcase(s, c);
    return s;
}
