/* DynamicQuantizeLinear, ConvInteger and MatMulInteger against plain sums over every element. */
#include "exec_fixture.h"

Suite *test_exec_dynamic_suite(void);

static int byte_at(const void *data, enum qc_dtype dtype, int64_t i)
{
    return dtype == QC_U8 ? ((const uint8_t *)data)[i] : ((const int8_t *)data)[i];
}

/* Random bytes, the ends of the type among them. */
static void fill(struct fixture *f, void *data, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)fixture_random(f);
        ((uint8_t *)data)[i] = (uint8_t)(f->random >> 13);
        if (i % 5 == 0) {
            ((uint8_t *)data)[i] = i % 2 == 0 ? 0xff : 0x80;
        }
    }
}

static int bytes_new(struct fixture *f, enum qc_dtype dtype, struct qc_shape shape)
{
    size_t n = qc_shape_elements(&shape);
    uint8_t *data = calloc(n, 1);
    fill(f, data, n);
    int v = constant_new(f, dtype, shape, data);
    free(data);
    return v;
}

/* ---- DynamicQuantizeLinear ------------------------------------------------------------------
 */

struct pair {
    uint8_t codes[64];
    float scale;
    uint8_t zero_point;
};

static void quantize(const float *values, int n, struct pair *ret)
{
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_node *node = NULL;
    const void *inputs[1] = {values};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE2(1, n));
    int y[3] = {value_new(f, QC_U8, SHAPE2(1, n)), value_new(f, QC_F32, shape_of(0)),
                value_new(f, QC_U8, shape_of(0))};
    OK(qc_graph_add_node(f->g, "q", QC_OP_DYNAMIC_QUANTIZE_LINEAR, 1, 3, &node, &f->err));
    node->inputs[0] = x;
    memcpy(node->outputs, y, sizeof(y));
    graph_io(f, 1, &x, 3, y);
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    qc_kernels_init(&kernels, qc_isa_detect());
    struct qc_exec_options options = {.kernels = &kernels};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    OK(qc_exec_state_new(exec, &state, &f->err));
    OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
    qc_exec_output(exec, state, 0, ret->codes);
    qc_exec_output(exec, state, 1, &ret->scale);
    qc_exec_output(exec, state, 2, &ret->zero_point);
    qc_exec_state_free(state);
    fixture_done(f);
}

START_TEST(dynamic_quantize__range__widened_to_zero)
{
    struct pair p;
    quantize((float[]){1.0f, 2.0f, 5.1f, 0.25f}, 4, &p); /* all above 0 */
    ck_assert(p.scale == 5.1f / 255.0f);
    ck_assert_uint_eq(p.zero_point, 0);
    ck_assert_uint_eq(p.codes[2], 255);
    quantize((float[]){-1.0f, -2.55f, -0.5f}, 3, &p); /* all below 0 */
    ck_assert(p.scale == 2.55f / 255.0f);
    ck_assert_uint_eq(p.zero_point, 255);
    ck_assert_uint_eq(p.codes[1], 0);
    quantize((float[]){-2.5f, 0.0f, 252.5f}, 3, &p); /* a tie: to even */
    ck_assert(p.scale == 1.0f);
    ck_assert_uint_eq(p.zero_point, 2);
    ck_assert_uint_eq(p.codes[1], 2);
    ck_assert_uint_eq(p.codes[2], 254);
    quantize((float[]){-3.5f, 251.5f}, 2, &p);
    ck_assert_uint_eq(p.zero_point, 4);
}
END_TEST

START_TEST(dynamic_quantize__degenerate__finite_pair)
{
    struct pair p;
    quantize((float[]){0.0f, 0.0f, 0.0f}, 3, &p);
    ck_assert(p.scale == 1.0f);
    ck_assert_uint_eq(p.zero_point, 0);
    ck_assert_uint_eq(p.codes[2], 0);
    quantize((float[]){NAN, -INFINITY, INFINITY, 1e-45f}, 4, &p); /* must not trap */
    ck_assert_uint_le(p.zero_point, 255);
    quantize((float[]){1e-45f, -1e-45f}, 2, &p); /* the scale underflows */
    ck_assert_uint_le(p.zero_point, 255);
}
END_TEST

/* ---- ConvInteger ----------------------------------------------------------------------------
 */

struct conv_case {
    int n, c, h, w, out, kh, kw, group, stride, dilation, pad[4];
    enum qc_dtype x_type, w_type;
    bool x_zero, w_zero, w_zero_each;
};

static int32_t conv_at(const struct conv_case *t, const uint8_t *x, const uint8_t *w, int xz,
                       const void *wz, int n, int o, int oh, int ow)
{
    int channels = t->c / t->group, first = o / (t->out / t->group) * channels;
    int w_zero = wz == NULL ? 0 : byte_at(wz, t->w_type, t->w_zero_each ? o : 0);
    int32_t sum = 0;
    for (int c = 0; c < channels; c++) {
        for (int a = 0; a < t->kh; a++) {
            for (int b = 0; b < t->kw; b++) {
                int ih = oh * t->stride + a * t->dilation - t->pad[0];
                int iw = ow * t->stride + b * t->dilation - t->pad[1];
                if (ih < 0 || ih >= t->h || iw < 0 || iw >= t->w) {
                    continue;
                }
                int64_t at = ((int64_t)(n * t->c + first + c) * t->h + ih) * t->w + iw;
                int64_t wat = ((int64_t)(o * channels + c) * t->kh + a) * t->kw + b;
                sum += (byte_at(x, t->x_type, at) - xz) * (byte_at(w, t->w_type, wat) - w_zero);
            }
        }
    }
    return sum;
}

static void check_conv(const struct conv_case *t)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, t->x_type, SHAPE4(t->n, t->c, t->h, t->w));
    int w = bytes_new(f, t->w_type, SHAPE4(t->out, t->c / t->group, t->kh, t->kw));
    int xz = t->x_zero ? bytes_new(f, t->x_type, shape_of(0)) : -1;
    int wz = t->w_zero ? bytes_new(f, t->w_type, SHAPE1(t->w_zero_each ? t->out : 1)) : -1;
    int y = value_new(f, QC_UNKNOWN, shape_of(0));
    struct qc_node *node = NODE(f, QC_OP_CONV_INTEGER, y, x, w, xz, wz);
    INTS(f, node, "strides", t->stride, t->stride);
    INTS(f, node, "dilations", t->dilation, t->dilation);
    INTS(f, node, "pads", t->pad[0], t->pad[1], t->pad[2], t->pad[3]);
    attr_int(f, node, "group", t->group);
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    uint8_t *data = NULL;
    size_t size = qc_shape_elements(&f->g->values[x].shape);
    OK(qd_arena_array(&f->arena, size, 1, &data, &f->err));
    fill(f, data, size);
    const int32_t *got = (const int32_t *)(const void *)run_one(f, x, y, data);
    const struct qc_shape *s = &f->g->values[y].shape;
    int zero = xz < 0 ? 0 : byte_at(f->g->values[xz].constant->data, t->x_type, 0);
    ck_assert_int_eq(f->g->values[y].dtype, QC_S32);
    for (int n = 0, i = 0; n < s->dim[0]; n++) {
        for (int o = 0; o < s->dim[1]; o++) {
            for (int oh = 0; oh < s->dim[2]; oh++) {
                for (int ow = 0; ow < s->dim[3]; ow++, i++) {
                    int32_t want =
                        conv_at(t, data, f->g->values[w].constant->data, zero,
                                wz < 0 ? NULL : f->g->values[wz].constant->data, n, o, oh, ow);
                    ck_assert_msg(got[i] == want, "[%d,%d,%d,%d]: %d, not %d", n, o, oh, ow,
                                  got[i], want);
                }
            }
        }
    }
    fixture_done(f);
}

START_TEST(conv_integer__shapes_and_types__sums_of_the_definition)
{
    static const struct conv_case cases[] = {
        {1, 3, 7, 9, 40, 3, 3, 1, 1, 1, {1, 1, 1, 1}, QC_U8, QC_S8, true, false, false},
        {2, 4, 6, 5, 33, 1, 1, 1, 1, 1, {0, 0, 0, 0}, QC_U8, QC_S8, true, true, true},
        {1, 6, 8, 8, 6, 3, 3, 6, 2, 1, {0, 1, 1, 0}, QC_U8, QC_S8, true, false, false},
        {1, 4, 9, 9, 64, 3, 2, 2, 2, 2, {2, 0, 1, 3}, QC_U8, QC_U8, true, true, false},
        {1, 2, 5, 5, 7, 3, 3, 1, 1, 1, {1, 1, 1, 1}, QC_S8, QC_S8, true, false, false},
        {1, 2, 5, 5, 8, 5, 5, 1, 3, 1, {2, 2, 2, 2}, QC_S8, QC_U8, false, true, true},
        {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, {0, 0, 0, 0}, QC_U8, QC_S8, false, false, false},
    };
    check_conv(&cases[_i]);
}
END_TEST

START_TEST(conv_integer__one_spatial_dim__as_two)
{
    struct fixture fixture, *f = &fixture;
    static const uint8_t x_data[6] = {1, 2, 3, 4, 5, 250};
    static const int8_t w_data[3] = {1, -2, 3};
    fixture_init(f);
    int x = value_new(f, QC_U8, SHAPE3(1, 1, 6));
    int w = constant_new(f, QC_S8, SHAPE3(1, 1, 3), w_data);
    int y = value_new(f, QC_UNKNOWN, shape_of(0));
    struct qc_node *node = NODE(f, QC_OP_CONV_INTEGER, y, x, w);
    INTS(f, node, "pads", 1, 0);
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    const int32_t *got = (const int32_t *)(const void *)run_one(f, x, y, x_data);
    static const int32_t want[5] = {4, 6, 8, 10, 744}; /* w[0] x[i-1] + w[1] x[i] + w[2] x[i+1] */
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(got[i], want[i]);
    }
    fixture_done(f);
}
END_TEST

START_TEST(conv_integer__sum_beyond_32_bits__wraps)
{
    struct fixture fixture, *f = &fixture;
    enum { K = 40000 }; /* 255 * 255 * 40000 = 2,601,000,000 */
    fixture_init(f);
    uint8_t *ones = malloc(K);
    memset(ones, 0xff, K);
    int x = value_new(f, QC_U8, SHAPE4(1, K, 1, 1));
    int w = constant_new(f, QC_U8, SHAPE4(1, K, 1, 1), ones);
    int y = value_new(f, QC_UNKNOWN, shape_of(0));
    NODE(f, QC_OP_CONV_INTEGER, y, x, w);
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    const int32_t *got = (const int32_t *)(const void *)run_one(f, x, y, ones);
    ck_assert_int_eq(got[0], (int32_t)(255u * 255u * K));
    free(ones);
    fixture_done(f);
}
END_TEST

/* ---- MatMulInteger --------------------------------------------------------------------------
 */

struct matmul_case {
    struct qc_shape a, b;
    enum qc_dtype a_type, b_type;
    int a_zeros, b_zeros; /* 0: absent */
};

static void check_matmul(const struct matmul_case *t)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int a = value_new(f, t->a_type, t->a);
    int b = bytes_new(f, t->b_type, t->b);
    int az = t->a_zeros > 0 ? bytes_new(f, t->a_type, SHAPE1(t->a_zeros)) : -1;
    int bz = t->b_zeros > 0 ? bytes_new(f, t->b_type, SHAPE1(t->b_zeros)) : -1;
    int y = value_new(f, QC_UNKNOWN, shape_of(0));
    NODE(f, QC_OP_MATMUL_INTEGER, y, a, b, az, bz);
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    uint8_t *data = NULL;
    size_t size = qc_shape_elements(&t->a);
    OK(qd_arena_array(&f->arena, size, 1, &data, &f->err));
    fill(f, data, size);
    const int32_t *got = (const int32_t *)(const void *)run_one(f, a, y, data);
    int64_t m = t->a.dim[t->a.rank - 2], depth = t->a.dim[t->a.rank - 1];
    int64_t n = t->b.dim[t->b.rank - 1];
    int64_t rows = (int64_t)size / depth, matrices = t->b.rank > 2 ? t->b.dim[0] : 1;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t j = 0; j < n; j++) {
            int64_t matrix = matrices > 1 ? r / m : 0;
            int za = az < 0 ? 0
                            : byte_at(f->g->values[az].constant->data, t->a_type,
                                      t->a_zeros > 1 ? r % m : 0);
            int zb = bz < 0 ? 0
                            : byte_at(f->g->values[bz].constant->data, t->b_type,
                                      t->b_zeros > 1 ? j : 0);
            int32_t want = 0;
            for (int64_t k = 0; k < depth; k++) {
                want += (byte_at(data, t->a_type, r * depth + k) - za) *
                        (byte_at(f->g->values[b].constant->data, t->b_type,
                                 (matrix * depth + k) * n + j) -
                         zb);
            }
            ck_assert_msg(got[r * n + j] == want, "[%d,%d]: %d, not %d", (int)r, (int)j,
                          got[r * n + j], want);
        }
    }
    fixture_done(f);
}

START_TEST(matmul_integer__shapes_and_types__sums_of_the_definition)
{
    const struct matmul_case cases[] = {
        {SHAPE2(1, 64), SHAPE2(64, 10), QC_U8, QC_S8, 1, 0},
        {SHAPE2(5, 33), SHAPE2(33, 70), QC_U8, QC_S8, 5, 70},
        {SHAPE3(3, 4, 9), SHAPE2(9, 3), QC_U8, QC_U8, 1, 1},
        {SHAPE3(3, 4, 9), SHAPE3(3, 9, 12), QC_S8, QC_S8, 1, 12},
        {SHAPE2(2, 1), SHAPE2(1, 1), QC_S8, QC_U8, 0, 0},
    };
    check_matmul(&cases[_i]);
}
END_TEST

/* ---- refusals -------------------------------------------------------------------------------
 */

static void expect_refused(struct fixture *f, int x, int y, const char *text)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    qc_kernels_init(&kernels, QC_ISA_REF);
    struct qc_exec_options options = {.kernels = &kernels};
    graph_io(f, 1, &x, 1, &y);
    enum qd_code code = qc_graph_infer_node(f->g, 0, &f->err);
    if (code == QD_OK) {
        code = qc_exec_build(f->g, &options, &f->arena, &exec, &f->err);
    }
    ck_assert_int_ne(code, QD_OK);
    ck_assert_msg(strstr(f->err.message, text) != NULL, "%s", f->err.message);
}

START_TEST(integer_products__what_is_not_implemented__named)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, QC_U8, SHAPE2(2, 4)), y = value_new(f, QC_UNKNOWN, shape_of(0));
    NODE(f, QC_OP_MATMUL_INTEGER, y, x, constant_new(f, QC_F32, SHAPE2(4, 3), NULL));
    expect_refused(f, x, y, "is f32, not u8 or s8");
    fixture_done(f);
    fixture_init(f);
    x = value_new(f, QC_U8, SHAPE2(2, 4)), y = value_new(f, QC_UNKNOWN, shape_of(0));
    NODE(f, QC_OP_MATMUL_INTEGER, y, x, bytes_new(f, QC_S8, SHAPE2(4, 3)), -1,
         bytes_new(f, QC_S8, SHAPE1(2)));
    expect_refused(f, x, y, "a zero point has another type or shape");
    fixture_done(f);
    fixture_init(f);
    x = value_new(f, QC_U8, SHAPE2(2, 2)), y = value_new(f, QC_UNKNOWN, shape_of(0));
    NODE(f, QC_OP_MATMUL_INTEGER, y, x, x);
    expect_refused(f, x, y, "must be constants");
    fixture_done(f);
    fixture_init(f);
    x = value_new(f, QC_U8, SHAPE4(1, 2, 4, 4)), y = value_new(f, QC_UNKNOWN, shape_of(0));
    NODE(f, QC_OP_CONV_INTEGER, y, x, bytes_new(f, QC_S8, SHAPE4(3, 2, 1, 1)),
         bytes_new(f, QC_S8, shape_of(0)));
    expect_refused(f, x, y, "a zero point has another type or shape");
    fixture_done(f);
}
END_TEST

Suite *test_exec_dynamic_suite(void)
{
    Suite *suite = suite_create("test_exec_dynamic");
    TCase *tcase = tcase_create("operators");
    tcase_add_test(tcase, dynamic_quantize__range__widened_to_zero);
    tcase_add_test(tcase, dynamic_quantize__degenerate__finite_pair);
    tcase_add_loop_test(tcase, conv_integer__shapes_and_types__sums_of_the_definition, 0, 7);
    tcase_add_test(tcase, conv_integer__one_spatial_dim__as_two);
    tcase_add_test(tcase, conv_integer__sum_beyond_32_bits__wraps);
    tcase_add_loop_test(tcase, matmul_integer__shapes_and_types__sums_of_the_definition, 0, 5);
    tcase_add_test(tcase, integer_products__what_is_not_implemented__named);
    suite_add_tcase(suite, tcase);
    return suite;
}
