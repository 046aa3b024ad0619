/* ConvTranspose: geometry, the f32 result beside its definition, what the integer engine does. */
#include "int_fixture.h"

Suite *test_conv_transpose_suite(void);

/* One spatial dim of n stands for width alone. */
struct geometry {
    int spatial, in[2], kernel[2], stride[2], dilation[2], pad[4], added[2];
    int group, channels, outputs; /* of one group */
    const char *auto_pad;
    int asked[2]; /* output_shape; 0: none */
    bool pixels, weights_are_data;
    int want[2]; /* output size */
    int first[2]; /* pads at the beginning, as resolved */
};

static const struct geometry cases[] = {
    {2, {4, 5}, {3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, {1, 0}, 1, 6, 4, NULL, {0, 0}, true, false,
     {8, 9}, {1, 1}},
    {2, {4, 5}, {3, 2}, {3, 1}, {2, 3}, {0, 2, 1, 0}, {0, 0}, 2, 3, 5, NULL, {0, 0}, false, false,
     {13, 6}, {0, 2}},
    {2, {3, 3}, {2, 4}, {1, 2}, {1, 1}, {0}, {0}, 7, 1, 1, NULL, {0, 0}, true, false,
     {4, 8}, {0, 0}},
    {2, {3, 4}, {3, 4}, {2, 3}, {1, 1}, {0}, {0}, 1, 2, 3, "SAME_UPPER", {0, 0}, true, false,
     {6, 12}, {0, 0}},
    {2, {3, 4}, {5, 4}, {2, 1}, {1, 1}, {0}, {0}, 1, 2, 3, "SAME_LOWER", {0, 0}, false, false,
     {6, 4}, {2, 2}},
    {2, {3, 4}, {3, 4}, {2, 3}, {1, 1}, {0}, {0}, 1, 2, 3, "SAME_UPPER", {4, 10}, false, false,
     {4, 10}, {1, 1}},
    {2, {3, 4}, {3, 4}, {2, 3}, {1, 1}, {0}, {0}, 1, 2, 3, NULL, {4, 15}, true, false,
     {4, 15}, {2, 0}},
    {2, {3, 4}, {3, 3}, {1, 1}, {1, 1}, {0}, {0}, 1, 33, 40, "VALID", {0, 0}, true, true,
     {5, 6}, {0, 0}},
    {1, {1, 9}, {1, 4}, {1, 3}, {1, 2}, {0, 1, 0, 2}, {0, 1}, 2, 3, 2, NULL, {0, 0}, false, false,
     {1, 29}, {0, 1}},
};

static struct qc_shape shape_with(const struct geometry *c, int64_t a, int64_t b, const int *size)
{
    return c->spatial == 2 ? SHAPE4(a, b, size[0], size[1]) : SHAPE3(a, b, size[1]);
}

static void ints_attr(struct fixture *f, struct qc_node *n, const char *name,
                      const struct geometry *c, const int *v, int per_dim)
{
    int64_t all[4];
    int count = 0;
    for (int k = 0; k < per_dim; k++) {
        for (int d = 2 - c->spatial; d < 2; d++) {
            all[count++] = v[2 * k + d];
        }
    }
    attr_ints(f, n, name, count, all);
}

static struct qc_node *transposed_new(struct fixture *f, const struct geometry *c, int x, int w,
                                      int b)
{
    struct qc_node *n = NODE(f, QC_OP_CONV_TRANSPOSE, int_value(f), x, w, b);
    attr_int(f, n, "group", c->group);
    ints_attr(f, n, "strides", c, c->stride, 1);
    ints_attr(f, n, "dilations", c, c->dilation, 1);
    ints_attr(f, n, "output_padding", c, c->added, 1);
    if (c->auto_pad != NULL) {
        attr_string(f, n, "auto_pad", c->auto_pad);
    } else if (c->asked[1] == 0) {
        ints_attr(f, n, "pads", c, c->pad, 2);
    }
    if (c->asked[1] > 0) {
        ints_attr(f, n, "output_shape", c, c->asked, 1);
    }
    return n;
}

/* The definition: every input pixel times every tap, in double. */
static void expect_transposed(const struct geometry *c, const float *x, const float *w,
                              const float *b, float lo, const float *got)
{
    int M = c->group * c->outputs, C = c->group * c->channels;
    for (int m = 0; m < M; m++) {
        for (int at = 0; at < c->want[0] * c->want[1]; at++) {
            double sum = (double)b[m];
            for (int k = 0; k < C; k++) {
                for (int tap = 0; tap < c->kernel[0] * c->kernel[1]; tap++) {
                    int h = at / c->want[1] + c->first[0] - tap / c->kernel[1] * c->dilation[0];
                    int v = at % c->want[1] + c->first[1] - tap % c->kernel[1] * c->dilation[1];
                    bool meets = k / c->channels == m / c->outputs && h >= 0 && v >= 0 &&
                                 h % c->stride[0] == 0 && v % c->stride[1] == 0 &&
                                 h / c->stride[0] < c->in[0] && v / c->stride[1] < c->in[1];
                    if (meets) {
                        int from = (k * c->in[0] + h / c->stride[0]) * c->in[1] + v / c->stride[1];
                        int weight = (k * c->outputs + m % c->outputs) * c->kernel[0] *
                                         c->kernel[1] + tap;
                        sum += (double)x[from] * (double)w[weight];
                    }
                }
            }
            double want = sum < (double)lo ? (double)lo : sum;
            double have = (double)got[m * c->want[0] * c->want[1] + at];
            ck_assert_msg(fabs(have - want) <= 1e-5 * (1 + fabs(want)),
                          "case %d, channel %d, pixel %d: %g, not %g", (int)(c - cases), m, at,
                          have, want);
        }
    }
}

START_TEST(exec__conv_transpose__is_its_definition_on_every_isa)
{
    const struct geometry *c = &cases[_i];
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape xs = shape_with(c, 1, c->group * c->channels, c->in);
    struct qc_shape ws = shape_with(c, c->group * c->channels, c->outputs, c->kernel);
    int x = value_new(f, QC_F32, xs), from = x;
    if (c->pixels) { /* a pool of one pixel: NHWC */
        from = int_value(f);
        INTS(f, NODE(f, QC_OP_MAX_POOL, from, x), "kernel_shape", 1, 1);
    }
    int w = constant_new(f, QC_F32, ws, NULL), read = w;
    if (c->weights_are_data) {
        read = int_value(f);
        NODE(f, QC_OP_RELU, read, w);
        for (size_t i = 0; i < qc_shape_elements(&ws); i++) {
            ((float *)f->g->values[w].constant->data)[i] = fabsf(constant_f32(f, w)[i]);
        }
    }
    int b = constant_new(f, QC_F32, SHAPE1(c->group * c->outputs), NULL);
    struct qc_node *n = transposed_new(f, c, from, read, b);
    float lo = _i == 0 ? 0.1f : -INFINITY;
    n->clamp = (struct qc_clamp){.present = _i == 0, .lo = lo, .hi = INFINITY};
    int y = n->outputs[0];
    int_io(f, x, y);
    struct qc_shape want = shape_with(c, 1, c->group * c->outputs, c->want);
    ck_assert(qc_shape_equal(&f->g->values[y].shape, &want));
    const float *data = tensor_new(f, QC_F32, xs, NULL)->data, *first = NULL;
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        size_t size = 0;
        const float *got = int_run(f, (enum qc_isa)isa, data, &size);
        first = first == NULL ? got : first;
        ck_assert_mem_eq(got, first, size);
    }
    expect_transposed(c, data, constant_f32(f, w), constant_f32(f, b), lo, first);
    fixture_done(f);
}
END_TEST

static void fails(struct fixture *f, enum qd_code want, const char *text)
{
    ck_assert_int_eq(qc_graph_infer_node(f->g, f->g->n_nodes - 1, &f->err), want);
    ck_assert_msg(strstr(f->err.message, text) != NULL, "'%s' lacks '%s'", f->err.message, text);
}

START_TEST(infer__conv_transpose_that_does_not_fit__names_the_numbers)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 6, 3, 4)), y = int_value(f);
    int w = constant_new(f, QC_F32, SHAPE4(6, 4, 3, 3), NULL);
    int few = constant_new(f, QC_F32, SHAPE4(5, 4, 3, 3), NULL);
    int b = constant_new(f, QC_F32, SHAPE1(4), NULL);
    NODE(f, QC_OP_CONV_TRANSPOSE, y, x, few);
    fails(f, QD_INVALID, "[5,4,3,3] do not fit 6 channels in 1 groups");
    attr_int(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w, b), "group", 2);
    fails(f, QD_INVALID, "is not [8]");
    static const int64_t groups[] = {0, -2, 4, INT64_MAX};
    for (size_t i = 0; i < QD_COUNT_OF(groups); i++) {
        attr_int(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "group", groups[i]);
        fails(f, QD_INVALID, "do not fit 6 channels");
    }
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "pads", 3, 0, 2, 0);
    fails(f, QD_INVALID, "pads 3 and 2 leave nothing of spatial dim 0");
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "output_shape", 5, 0);
    fails(f, QD_INVALID, "output_shape[1] = 0 is outside 1..");
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "output_shape", 5, 6, 7);
    fails(f, QD_INVALID, "output_shape has 3 elements");
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "strides", 1, (int64_t)1 << 31);
    fails(f, QD_INVALID, "strides[1]");
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "strides", 1 << 30, 1 << 30);
    fails(f, QD_LIMIT_EXCEEDED, "too large");
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, x, w), "output_padding", -1, 0);
    fails(f, QD_INVALID, "output_padding[0] = -1");
    fixture_done(f);
}
END_TEST

/* Between DequantizeLinear and QuantizeLinear: f32, with its weights dequantized once. */
static void build_island(struct fixture *f, const void *arg)
{
    (void)arg;
    struct int_q q = U8(0.0625f, 100);
    int x = value_new(f, QC_F32, SHAPE4(1, 6, 5, 4)), y = int_value(f);
    int w = constant_q_new(f, QC_S8, SHAPE4(6, 4, 3, 3), -127, 127, 0.0078125f, 4, 1);
    INTS(f, NODE(f, QC_OP_CONV_TRANSPOSE, y, qdq_new(f, x, q), w), "strides", 2, 2);
    int_io(f, x, qdq_new(f, y, U8(0.25f, 128)));
}

START_TEST(int_plan__conv_transpose__is_an_f32_island_with_constant_weights)
{
    struct int_want w = {.in = U8(0.0625f, 100), .islands = 1};
    struct fixture fixture, *f = &fixture;
    struct qc_int_counts counts;
    int_expect(build_island, NULL, &w);
    fixture_init(f);
    build_island(f, NULL);
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(int_count_ops(f->g, QC_OP_DEQUANTIZE_LINEAR), 2); /* data */
    for (int i = 0; i < f->g->n_nodes; i++) {
        const struct qc_node *n = &f->g->nodes[i];
        ck_assert(n->op != QC_OP_CONV_TRANSPOSE || qc_node_constant(f->g, n, 1) != NULL);
    }
    fixture_done(f);
}
END_TEST

Suite *test_conv_transpose_suite(void)
{
    Suite *suite = suite_create("test_conv_transpose");
    TCase *tcase = tcase_create("conv_transpose");
    tcase_add_loop_test(tcase, exec__conv_transpose__is_its_definition_on_every_isa, 0,
                        (int)QD_COUNT_OF(cases));
    tcase_add_test(tcase, infer__conv_transpose_that_does_not_fit__names_the_numbers);
    tcase_add_test(tcase, int_plan__conv_transpose__is_an_f32_island_with_constant_weights);
    suite_add_tcase(suite, tcase);
    return suite;
}
