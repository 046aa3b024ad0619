#include <math.h>

#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_step.h"
#include "tests/unit/exec_fixture.h"

Suite *test_exec_plan_suite(void);

enum { N_NODES = 24, CHANNELS = 5, SIDE = 6 };

static int pick(struct fixture *f, int n)
{
    f->random = f->random * 1664525u + 1013904223u;
    return (int)(f->random >> 8) % n;
}

static int convolve(struct fixture *f, int x, int y, int kernel, int channels)
{
    int w = constant_new(f, QC_F32, SHAPE4(CHANNELS, channels, kernel, kernel), NULL);
    struct qc_node *c = NODE(f, QC_OP_CONV, y, x, w);
    INTS(f, c, "pads", kernel / 2, kernel / 2, kernel / 2, kernel / 2);
    c->clamp = (struct qc_clamp){true, -1.0f, 1.0f};
    return y;
}

/* Two convolutions and a value side by side, back to [1,5,6,6]: the convolutions write in place. */
static void concat_new(struct fixture *f, int a, int b, int y)
{
    struct qc_shape shape = SHAPE4(1, CHANNELS, SIDE, SIDE);
    int left = convolve(f, a, value_new(f, QC_F32, shape), 3, CHANNELS);
    int right = convolve(f, b, value_new(f, QC_F32, shape), 1, CHANNELS);
    int wide = value_new(f, QC_F32, SHAPE4(1, 3 * CHANNELS, SIDE, SIDE));
    attr_int(f, NODE(f, QC_OP_CONCAT, wide, left, a, right), "axis", 1);
    (void)convolve(f, wide, y, 3, 3 * CHANNELS);
}

/* One more node on values made so far, all [1,5,6,6]: convolutions with several borders, pools,
 * elementwise operators, Concat, and a Transpose that forces row-major. */
static int random_node(struct fixture *f, const int *values, int n)
{
    struct qc_shape shape = SHAPE4(1, CHANNELS, SIDE, SIDE);
    int a = values[pick(f, n)], b = values[pick(f, n)], y = value_new(f, QC_F32, shape);
    int kind = pick(f, 7);
    if (kind < 2) {
        int k = 1 + 2 * pick(f, 3), group = kind == 0 ? 1 : CHANNELS;
        int w = constant_new(f, QC_F32, SHAPE4(CHANNELS, CHANNELS / group, k, k), NULL);
        struct qc_node *c = NODE(f, QC_OP_CONV, y, a, w);
        INTS(f, c, "pads", k / 2, k / 2, k / 2, k / 2);
        attr_int(f, c, "group", group);
        c->clamp = (struct qc_clamp){true, -1.0f, 1.0f};
    } else if (kind == 2) {
        struct qc_node *p = NODE(f, QC_OP_MAX_POOL, y, a);
        INTS(f, p, "kernel_shape", 3, 3);
        INTS(f, p, "pads", 1, 1, 1, 1);
    } else if (kind == 6) {
        concat_new(f, a, b, y);
    } else if (kind == 3) {
        INTS(f, NODE(f, QC_OP_TRANSPOSE, y, a), "perm", 0, 1, 3, 2);
    } else {
        NODE(f, kind == 4 ? QC_OP_ADD : QC_OP_MUL, y, a, b)->clamp =
            (struct qc_clamp){true, -1.0f, 1.0f};
    }
    return y;
}

static size_t run_kept(struct fixture *f, const bool *keep, const float *x, float *out)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    const void *inputs[1] = {x};
    qc_kernels_init(&kernels, qc_isa_detect());
    struct qc_exec_options options = {.kernels = &kernels, .keep = keep};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    OK(qc_exec_state_new(exec, &state, &f->err));
    OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
    OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
    qc_exec_output(exec, state, 0, out);
    size_t size = qc_exec_buffer_size(exec);
    qc_exec_state_free(state);
    return size;
}

/* Sharing memory must not change a bit; neither may a border or a layout. */
START_TEST(qc_exec_build__random_graph__reuse_of_memory_changes_nothing)
{
    struct fixture fixture, *f = &fixture;
    int values[N_NODES + 1];
    bool keep[9 * N_NODES];
    float shared[CHANNELS * SIDE * SIDE], apart[CHANNELS * SIDE * SIDE];
    fixture_init(f);
    f->random = (uint32_t)_i * 7919u + 1;
    struct qc_shape shape = SHAPE4(1, CHANNELS, SIDE, SIDE);
    values[0] = value_new(f, QC_F32, shape);
    const float *x = tensor_new(f, QC_F32, shape, NULL)->data;
    for (int i = 0; i < N_NODES; i++) {
        values[i + 1] = random_node(f, values, i + 1);
    }
    graph_io(f, 1, &values[0], 1, &values[N_NODES]);
    ck_assert_int_le(f->g->n_values, 9 * N_NODES);
    memset(keep, 1, sizeof(keep));
    size_t small = run_kept(f, NULL, x, shared), large = run_kept(f, keep, x, apart);
    ck_assert_mem_eq(shared, apart, sizeof(shared));
    ck_assert_uint_lt(small, large);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_build__convolution_for_a_concat__is_written_there)
{
    struct fixture fixture, *f = &fixture;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_view part, whole;
    struct qc_kernels kernels;
    struct qc_shape shape = SHAPE4(1, CHANNELS, SIDE, SIDE);
    fixture_init(f);
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, shape);
    concat_new(f, x, x, y);
    graph_io(f, 1, &x, 1, &y);
    int right = f->g->nodes[1].outputs[0], wide = f->g->nodes[2].outputs[0];
    qc_kernels_init(&kernels, qc_isa_detect());
    bool *keep = calloc((size_t)f->g->n_values, sizeof(*keep));
    ck_assert_ptr_nonnull(keep);
    for (int kept = 0; kept < 2; kept++) { /* a value that somebody wants has a place of its own */
        keep[right] = kept == 1;
        struct qc_exec_options options = {.kernels = &kernels, .keep = keep};
        OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
        OK(qc_exec_state_new(exec, &state, &f->err));
        ck_assert(qc_exec_view(exec, state, right, &part));
        ck_assert(qc_exec_view(exec, state, wide, &whole));
        bool inside = part.data == (float *)whole.data + 2 * CHANNELS;
        ck_assert(inside == (kept == 0));
        qc_exec_state_free(state);
    }
    free(keep);
    fixture_done(f);
}
END_TEST

/* Every node by itself on constants (row-major, no plan) against the program. */
START_TEST(qc_exec_build__random_graph__equals_node_by_node)
{
    struct fixture fixture, *f = &fixture;
    int values[N_NODES + 1];
    float got[CHANNELS * SIDE * SIDE];
    const struct qc_tensor *out[1];
    fixture_init(f);
    f->random = (uint32_t)_i * 104729u + 3;
    struct qc_shape shape = SHAPE4(1, CHANNELS, SIDE, SIDE);
    values[0] = value_new(f, QC_F32, shape);
    struct qc_tensor *x = tensor_new(f, QC_F32, shape, NULL);
    for (int i = 0; i < N_NODES; i++) {
        values[i + 1] = random_node(f, values, i + 1);
    }
    graph_io(f, 1, &values[0], 1, &values[N_NODES]);
    (void)run_kept(f, NULL, x->data, got);
    f->g->values[values[0]].constant = x;
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_exec_eval_node(f->g, i, &f->arena, out, &f->err));
        f->g->values[f->g->nodes[i].outputs[0]].constant = out[0];
    }
    ck_assert_mem_eq(got, out[0]->data, sizeof(got));
    fixture_done(f);
}
END_TEST

/* x -> Q -> DQ -> Conv, and x -> Conv too when it is_read; returns the layout x is given in. */
static enum qc_layout input_layout(struct fixture *f, int channels, bool is_read, float *got)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_view view;
    struct qc_shape shape = SHAPE4(2, channels, SIDE, SIDE);
    struct qc_shape wide = SHAPE4(2, CHANNELS, SIDE, SIDE);
    float scale = 1.0f / 128;
    uint8_t zp = 128;
    int s = constant_new(f, QC_F32, shape_of(0), &scale), z = constant_new(f, QC_U8, shape_of(0), &zp);
    int x = value_new(f, QC_F32, shape), q = value_new(f, QC_U8, shape);
    int d = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, wide);
    int w = constant_new(f, QC_F32, SHAPE4(CHANNELS, channels, 3, 3), NULL), outputs[2] = {y, y};
    NODE(f, QC_OP_QUANTIZE_LINEAR, q, x, s, z);
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, d, q, s, z);
    INTS(f, NODE(f, QC_OP_CONV, y, d, w), "pads", 1, 1, 1, 1);
    if (is_read) {
        outputs[1] = value_new(f, QC_F32, wide);
        INTS(f, NODE(f, QC_OP_CONV, outputs[1], x, w), "pads", 1, 1, 1, 1);
    }
    graph_io(f, 1, &x, is_read ? 2 : 1, outputs);
    qc_kernels_init(&kernels, qc_isa_detect());
    struct qc_exec_options options = {.kernels = &kernels};
    const void *inputs[1] = {tensor_new(f, QC_F32, shape, NULL)->data};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    OK(qc_exec_state_new(exec, &state, &f->err));
    OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
    qc_exec_output(exec, state, 0, got);
    ck_assert(qc_exec_view(exec, state, q, &view)); /* few channels become pixels on the way */
    ck_assert_int_eq(view.layout, is_read || channels <= 4 ? QC_NHWC : QC_PLAIN);
    ck_assert(qc_exec_view(exec, state, x, &view));
    qc_exec_state_free(state);
    return view.layout;
}

START_TEST(qc_exec_build__input_that_is_quantized_alone__stays_plain_same_result)
{
    struct fixture fixture, *f = &fixture;
    float alone[2 * CHANNELS * SIDE * SIDE], shared[2 * CHANNELS * SIDE * SIDE];
    fixture_init(f);
    ck_assert_int_eq(input_layout(f, _i, false, alone), QC_PLAIN);
    fixture_done(f);
    fixture_init(f);
    ck_assert_int_eq(input_layout(f, _i, true, shared), QC_NHWC);
    fixture_done(f);
    ck_assert_mem_eq(alone, shared, sizeof(alone));
}
END_TEST

/* x -> Q -> y: no room for x, and each run reads what it is given. */
START_TEST(qc_exec_run__input_that_is_borrowed__is_read_where_it_lies)
{
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_view view;
    struct qc_shape shape = SHAPE4(1, 3, SIDE, SIDE);
    float scale = 1.0f / 128;
    uint8_t zp = 128, got[2][3 * SIDE * SIDE], want[3 * SIDE * SIDE];
    fixture_init(f);
    int s = constant_new(f, QC_F32, shape_of(0), &scale), z = constant_new(f, QC_U8, shape_of(0), &zp);
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_U8, shape);
    NODE(f, QC_OP_QUANTIZE_LINEAR, y, x, s, z);
    graph_io(f, 1, &x, 1, &y);
    qc_kernels_init(&kernels, qc_isa_detect());
    size_t size[2];
    for (int borrowed = 0; borrowed < 2; borrowed++) {
        f->random = 1;
        struct qc_exec_options options = {.kernels = &kernels, .borrow_inputs = borrowed == 1};
        OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
        OK(qc_exec_state_new(exec, &state, &f->err));
        size[borrowed] = qc_exec_buffer_size(exec);
        for (int run = 0; run < 2; run++) {
            const void *inputs[1] = {tensor_new(f, QC_F32, shape, NULL)->data};
            OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
            qc_exec_output(exec, state, 0, borrowed == 1 ? want : got[run]);
            ck_assert(qc_exec_view(exec, state, x, &view));
            ck_assert((view.data == inputs[0]) == (borrowed == 1));
            ck_assert(borrowed == 0 || memcmp(want, got[run], sizeof(want)) == 0);
        }
        qc_exec_state_free(state);
    }
    ck_assert_mem_ne(got[0], got[1], sizeof(want));
    ck_assert_uint_lt(size[1], size[0]);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_build__hostile_pads__are_refused)
{
    static const int64_t pads[][4] = {
        {INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX}, {-1, 0, 0, 0}, {INT32_MIN, 1, 1, 1}};
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    fixture_init(f);
    qc_kernels_init(&kernels, QC_ISA_REF);
    int rank = _i / 3 == 0 ? 4 : 3; /* rank 3: the staged copy */
    struct qc_shape shape = SHAPE4(1, 1, 8, 8), ws = SHAPE4(1, 1, 1, 1);
    shape.rank = ws.rank = rank;
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, shape);
    attr_ints(f, NODE(f, QC_OP_CONV, y, x, constant_new(f, QC_F32, ws, NULL)), "pads",
              rank == 4 ? 4 : 2, pads[_i % 3]);
    graph_io(f, 1, &x, 1, &y);
    struct qc_exec_options options = {.kernels = &kernels};
    enum qd_code code = qc_exec_build(f->g, &options, &f->arena, &exec, &f->err);
    ck_assert_msg(code == QD_UNSUPPORTED || code == QD_LIMIT_EXCEEDED, "case %d: %d", _i,
                  (int)code);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_zero_point__8_bit_value__is_found_through_pools)
{
    struct fixture fixture, *f = &fixture;
    float scale = 0.5f;
    uint8_t zp = 77;
    fixture_init(f);
    struct qc_shape shape = SHAPE4(1, 2, 4, 4);
    int s = constant_new(f, QC_F32, shape_of(0), &scale);
    int z = constant_new(f, QC_U8, shape_of(0), &zp);
    int x = value_new(f, QC_F32, shape), q = value_new(f, QC_U8, shape);
    int p = value_new(f, QC_U8, shape), d = value_new(f, QC_F32, shape);
    int in = value_new(f, QC_U8, shape), moved = value_new(f, QC_U8, shape);
    int d2 = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, shape);
    int plain = value_new(f, QC_U8, shape), same = value_new(f, QC_U8, shape);
    NODE(f, QC_OP_QUANTIZE_LINEAR, q, x, s, z);
    INTS(f, NODE(f, QC_OP_MAX_POOL, p, q), "kernel_shape", 1, 1);
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, d, p, s, z);
    INTS(f, NODE(f, QC_OP_MAX_POOL, moved, in), "kernel_shape", 1, 1);
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, d2, moved, s, z);
    NODE(f, QC_OP_ADD, y, d, d2);
    NODE(f, QC_OP_ADD, same, plain, plain);
    int inputs[3] = {x, in, plain};
    graph_io(f, 3, inputs, 1, &y);
    ck_assert_int_eq(qc_exec_zero_point(f->g, q), 77);    /* its producer */
    ck_assert_int_eq(qc_exec_zero_point(f->g, p), 77);    /* its consumer */
    ck_assert_int_eq(qc_exec_zero_point(f->g, in), 77);   /* a consumer behind a pool */
    ck_assert_int_eq(qc_exec_zero_point(f->g, plain), 0); /* not quantized */
    fixture_done(f);
}
END_TEST

/* One output however far the next one would be: the product of both strides is 2^32. */
START_TEST(qc_exec_build__strides_of_65536__one_pixel)
{
    struct fixture fixture, *f = &fixture;
    float got[1];
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 1, 3, 3)), y = value_new(f, QC_F32, SHAPE4(1, 1, 1, 1));
    int w = constant_new(f, QC_F32, SHAPE4(1, 1, 3, 3), NULL);
    INTS(f, NODE(f, QC_OP_CONV, y, x, w), "strides", 65536, 65536);
    graph_io(f, 1, &x, 1, &y);
    const float *in = tensor_new(f, QC_F32, SHAPE4(1, 1, 3, 3), NULL)->data;
    const float *weights = constant_f32(f, w);
    float want = 0.0f;
    for (int i = 0; i < 9; i++) {
        want = fmaf(in[i], weights[i], want);
    }
    (void)run_kept(f, NULL, in, got);
    ck_assert_float_eq(got[0], want);
    fixture_done(f);
}
END_TEST

START_TEST(qc_view_nhwc_strides__few_channels__stay_together)
{
    static const struct {
        int channels, f32, u8;
    } want[] = {{1, 1, 1},    {3, 3, 3},    {4, 4, 4},     {5, 16, 16},
                {16, 16, 16}, {17, 32, 32}, {33, 48, 64},  {96, 96, 128}};
    const int pad[4] = {0, 1, 2, 3};
    for (size_t i = 0; i < QD_COUNT_OF(want); i++) {
        size_t lead = 0, size = 0;
        struct qc_view v = {.dtype = QC_F32, .shape = SHAPE4(1, want[i].channels, 5, 7)};
        qc_view_nhwc_strides(&v, pad, &lead, &size);
        ck_assert_int_eq(v.pixel_stride, want[i].f32);
        ck_assert_int_eq(v.row_stride, 11 * want[i].f32);
        ck_assert_uint_eq(size, sizeof(float) * 7 * 11 * (size_t)want[i].f32);
        v.dtype = QC_U8;
        qc_view_nhwc_strides(&v, pad, &lead, &size);
        ck_assert_int_eq(v.pixel_stride, want[i].u8);
        ck_assert_uint_eq(lead, (size_t)want[i].u8);
    }
}
END_TEST

START_TEST(qc_view_fill_border__u8__writes_the_border_alone)
{
    const int pad[4] = {1, 2, 3, 4};
    size_t lead = 0, size = 0;
    struct qc_view v = {.dtype = QC_U8, .shape = SHAPE4(2, 33, 2, 2)};
    qc_view_nhwc_strides(&v, pad, &lead, &size);
    ck_assert_int_eq(v.pixel_stride, 64);
    ck_assert_uint_eq(size, 2 * 6 * 8 * 64);
    uint8_t *bytes = calloc(1, size + 1);
    ck_assert_ptr_nonnull(bytes);
    v.data = bytes + lead;
    qc_view_fill_border(&v, pad, 9);
    for (size_t i = 0; i < size; i++) {
        size_t row = i / 512 % 6, col = i / 64 % 8;
        bool inside = row >= 1 && row < 3 && col >= 2 && col < 4;
        ck_assert_int_eq(bytes[i], inside ? 0 : 9);
    }
    ck_assert_int_eq(bytes[size], 0);
    free(bytes);
}
END_TEST

static struct qc_view nhwc_u8(int channels, int border)
{
    const int pad[4] = {0, 0, border, border};
    struct qc_view v = {.dtype = QC_U8, .shape = {.rank = 4, .dim = {1, channels, 3, 5}}};
    size_t lead, size;
    qc_view_nhwc_strides(&v, pad, &lead, &size);
    return v;
}

/* Length of a run and number of runs of x onto y. */
static void expect_runs(const struct qc_view *x, const struct qc_view *y, int64_t run, int64_t n)
{
    const struct qc_view *views[2] = {x, y};
    struct qc_nd nd;
    int64_t runs = 1;
    qc_nd_init_pixels(&nd, &y->shape, 2, views);
    for (int i = 0; i < nd.rank - 1; i++) {
        runs *= nd.dim[i];
    }
    ck_assert_int_eq(nd.dim[nd.rank - 1], run);
    ck_assert_int_eq(runs, n);
    ck_assert_int_eq(nd.stride[1][nd.rank - 1], 1);
}

START_TEST(qc_nd_init_pixels__what_lies_behind_channels__is_walked_over_where_it_may)
{
    struct qc_view plain = nhwc_u8(24, 0), bordered = nhwc_u8(24, 1), part = nhwc_u8(24, 0);
    struct qc_view wide = nhwc_u8(24, 0), one = nhwc_u8(24, 0);
    ck_assert_int_eq(plain.pixel_stride, 32);
    expect_runs(&plain, &plain, 3 * 5 * 32, 1);
    expect_runs(&plain, &bordered, 5 * 32, 3); /* not over the border */
    part.owns_pixels = false;
    expect_runs(&part, &plain, 3 * 5 * 32, 1); /* reading is free */
    expect_runs(&plain, &part, 24, 15);
    wide.pixel_stride = 64;
    wide.row_stride = 5 * 64;
    expect_runs(&wide, &plain, 24, 15);
    one.shape.dim[2] = one.shape.dim[3] = 1; /* broadcast */
    expect_runs(&one, &plain, 24, 15);
}
END_TEST

Suite *test_exec_plan_suite(void)
{
    Suite *suite = suite_create("test_exec_plan");
    TCase *c = tcase_create("plan");
    tcase_add_loop_test(c, qc_exec_build__random_graph__reuse_of_memory_changes_nothing, 0, 40);
    tcase_add_loop_test(c, qc_exec_build__random_graph__equals_node_by_node, 0, 40);
    tcase_add_test(c, qc_exec_build__convolution_for_a_concat__is_written_there);
    tcase_add_test(c, qc_exec_run__input_that_is_borrowed__is_read_where_it_lies);
    tcase_add_loop_test(
        c, qc_exec_build__input_that_is_quantized_alone__stays_plain_same_result, 1, CHANNELS + 1);
    tcase_add_test(c, qc_exec_zero_point__8_bit_value__is_found_through_pools);
    tcase_add_test(c, qc_exec_build__strides_of_65536__one_pixel);
    tcase_add_test(c, qc_view_nhwc_strides__few_channels__stay_together);
    tcase_add_test(c, qc_view_fill_border__u8__writes_the_border_alone);
    tcase_add_test(c, qc_nd_init_pixels__what_lies_behind_channels__is_walked_over_where_it_may);
    tcase_add_loop_test(c, qc_exec_build__hostile_pads__are_refused, 0, 6);
    suite_add_tcase(suite, c);
    return suite;
}
