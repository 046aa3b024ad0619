/* Whole graphs: what moves elements, f32 islands, s8 data, missing zero points. */
#include "int_fixture.h"

/* ---- operators that move elements ---- */

enum mover {
    RESHAPE,
    FLATTEN,
    TRANSPOSE,
    SQUEEZE,
    UNSQUEEZE,
    SLICE,
    GATHER,
    IDENTITY,
    MAX_POOL,
    PAD_ZERO,
    PAD_VALUE,
    PAD_EDGE,
    PAD_REFLECT,
    RESIZE,
    MOVERS
};

struct mover_case {
    enum mover op;
    struct int_q x, y;
    bool bytes; /* the operator stands between QuantizeLinear and DequantizeLinear */
};

#define S64(f, ...)                                                                              \
    constant_new(f, QC_S64, SHAPE1(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),          \
                 ((int64_t[]){__VA_ARGS__}))

static void pad_new(struct fixture *f, enum mover op, int y, int x)
{
    int pads = S64(f, 0, 0, 1, 2, 0, 0, 2, 1);
    struct qc_node *n = op == PAD_VALUE ? NODE(f, QC_OP_PAD, y, x, pads, int_f32(f, 0.77f))
                                        : NODE(f, QC_OP_PAD, y, x, pads);
    if (op == PAD_EDGE || op == PAD_REFLECT) {
        attr_string(f, n, "mode", op == PAD_EDGE ? "edge" : "reflect");
    }
}

/* x is [1,4,5,3]. */
static int mover_new(struct fixture *f, enum mover op, int x)
{
    int y = int_value(f);
    struct qc_node *n;
    switch (op) {
    case RESHAPE:
        NODE(f, QC_OP_RESHAPE, y, x, S64(f, 3, 20));
        break;
    case FLATTEN:
        NODE(f, QC_OP_FLATTEN, y, x);
        break;
    case TRANSPOSE:
        n = NODE(f, QC_OP_TRANSPOSE, y, x);
        INTS(f, n, "perm", 0, 2, 3, 1);
        break;
    case SQUEEZE:
        NODE(f, QC_OP_SQUEEZE, y, x, S64(f, 0));
        break;
    case UNSQUEEZE:
        NODE(f, QC_OP_UNSQUEEZE, y, x, S64(f, 1));
        break;
    case SLICE:
        NODE(f, QC_OP_SLICE, y, x, S64(f, 1, 0), S64(f, 4, 3), S64(f, 1, 3));
        break;
    case GATHER:
        n = NODE(f, QC_OP_GATHER, y, x, S64(f, 3, 0, 1, 3));
        attr_int(f, n, "axis", 2);
        break;
    case IDENTITY:
        NODE(f, QC_OP_IDENTITY, y, x);
        break;
    case MAX_POOL:
        n = NODE(f, QC_OP_MAX_POOL, y, x);
        INTS(f, n, "kernel_shape", 2, 2);
        break;
    case PAD_ZERO:
    case PAD_VALUE:
    case PAD_EDGE:
    case PAD_REFLECT:
        pad_new(f, op, y, x);
        break;
    case RESIZE: {
        float scales[4] = {1, 1, 2, 3};
        n = NODE(f, QC_OP_RESIZE, y, x, -1, constant_new(f, QC_F32, SHAPE1(4), scales));
        attr_string(f, n, "mode", "nearest");
        attr_string(f, n, "coordinate_transformation_mode", "asymmetric");
        attr_string(f, n, "nearest_mode", "floor");
        break;
    }
    case MOVERS:
        break;
    }
    return y;
}

static void build_mover(struct fixture *f, const void *arg)
{
    const struct mover_case *c = arg;
    int x = value_new(f, QC_F32, SHAPE4(1, 4, 5, 3));
    if (c->bytes) {
        int_io(f, x, dequantize_new(f, mover_new(f, c->op, quantize_new(f, x, c->x)), c->x));
        return;
    }
    int_io(f, x, qdq_new(f, mover_new(f, c->op, qdq_new(f, x, c->x)), c->y));
}

START_TEST(pass__equal_parameters__moves_the_bytes)
{
    struct int_q u8 = U8(0.043f, 77), s8 = S8(0.043f, -30);
    for (int i = 0; i < 2; i++) {
        struct mover_case c = {(enum mover)_i, i == 0 ? u8 : s8, i == 0 ? u8 : s8, false};
        struct int_want w = {.in = c.x, .units = 1};
        int_expect(build_mover, &c, &w);
    }
}
END_TEST

/* A table behind the operator; Pad's fill value may be no code of the input's, so it is f32. */
START_TEST(pass__other_parameters__a_table_follows)
{
    struct mover_case c = {(enum mover)_i, U8(0.043f, 77), S8(0.031f, 3), false};
    bool pad = c.op >= PAD_ZERO && c.op <= PAD_REFLECT;
    struct int_want w = {.in = c.x, .units = !pad, .islands = pad};
    struct fixture fixture, *f = &fixture;
    struct qc_int_counts counts;
    int_expect(build_mover, &c, &w);
    fixture_init(f);
    build_mover(f, &c);
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(int_count_ops(f->g, QC_OP_Q_TABLE), !pad);
    fixture_done(f);
}
END_TEST

/* Operators on 8-bit data as they are, without a unit around them: s8 has to stay consistent on
 * both sides. Pad fills with the number 0 of the type. */
START_TEST(shift__operator_on_bytes__codes_of_f32)
{
    if (_i == PAD_VALUE) {
        return; /* its fill value is f32: not ONNX on bytes */
    }
    for (int i = 0; i < 2; i++) {
        struct mover_case c = {
            .op = (enum mover)_i, .x = i == 0 ? U8(0.043f, 77) : S8(0.043f, -30), .bytes = true};
        struct int_want w = {.in = c.x, .islands = 1};
        int_expect(build_mover, &c, &w);
    }
}
END_TEST

/* Linear Resize computes. */
static void build_linear(struct fixture *f, const void *arg)
{
    (void)arg;
    int x = value_new(f, QC_F32, SHAPE4(1, 4, 5, 3)), y = int_value(f);
    float scales[4] = {1, 1, 2, 2};
    struct qc_node *n = NODE(f, QC_OP_RESIZE, y, qdq_new(f, x, U8(0.1f, 3)), -1,
                             constant_new(f, QC_F32, SHAPE1(4), scales));
    attr_string(f, n, "mode", "linear");
    int_io(f, x, qdq_new(f, y, U8(0.1f, 3)));
}

START_TEST(pass__linear_resize__stays_f32)
{
    struct int_want w = {.in = U8(0.1f, 3), .islands = 1};
    int_expect(build_linear, NULL, &w);
}
END_TEST

/* ---- zero points ---- */

/* QuantizeLinear without a zero point means u8 and 0; DequantizeLinear the type of its input. */
static void build_absent(struct fixture *f, const void *arg)
{
    (void)arg;
    int x = value_new(f, QC_F32, SHAPE2(1, 300)), v[5];
    for (int i = 0; i < 5; i++) {
        v[i] = int_value(f);
    }
    NODE(f, QC_OP_QUANTIZE_LINEAR, v[0], x, int_f32(f, 0.05f));
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, v[1], v[0], int_f32(f, 0.05f), -1);
    NODE(f, QC_OP_TANH, v[2], v[1]);
    NODE(f, QC_OP_QUANTIZE_LINEAR, v[3], v[2], int_f32(f, 0.004f), int_zero_point(f, S8(1, 0)));
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, v[4], v[3], int_f32(f, 0.004f));
    int_io(f, x, v[4]);
}

START_TEST(shift__absent_zero_points__codes_of_f32)
{
    struct int_want w = {.in = U8(0.05f, 0), .units = 1};
    int_expect(build_absent, NULL, &w);
}
END_TEST

/* One s8 tensor, seen outside and dequantized inside: its codes stay. */
static void build_seen(struct fixture *f, const void *arg)
{
    (void)arg;
    struct int_q q = S8(0.05f, 11);
    int x = value_new(f, QC_F32, SHAPE2(1, 300)), t = int_value(f), both[2];
    both[0] = quantize_new(f, x, q);
    NODE(f, QC_OP_TANH, t, dequantize_new(f, both[0], q));
    both[1] = qdq_new(f, t, S8(0.01f, -4));
    graph_io(f, 1, &x, 2, both);
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
}

START_TEST(shift__s8_value_is_an_output__keeps_its_codes)
{
    struct int_want w = {.in = S8(0.05f, 11), .units = 1};
    int_expect(build_seen, NULL, &w);
}
END_TEST

/* ---- networks: scales are powers of two, so that f32 is exact but in Softmax ---- */

static int conv_new(struct fixture *f, int x, struct int_q q, int in, int out, int group, int k,
                    float step)
{
    int w = constant_q_new(f, QC_S8, SHAPE4(out, in / group, k, k), -127, 127, step, out, 0);
    int b = constant_q_new(f, QC_S32, SHAPE1(out), -9000, 9000, q.scale * step, out, 0);
    int y = int_value(f);
    struct qc_node *n = NODE(f, QC_OP_CONV, y, x, w, b);
    attr_int(f, n, "group", group);
    INTS(f, n, "pads", k / 2, k / 2, k / 2, k / 2);
    return y;
}

static int gemm_new(struct fixture *f, int x, struct int_q q, int depth, int out)
{
    int w = constant_q_new(f, QC_S8, SHAPE2(out, depth), -127, 127, 1.0f / 64, out, 0);
    int b = constant_q_new(f, QC_S32, SHAPE1(out), -900, 900, q.scale / 64, out, 0),
        y = int_value(f);
    struct qc_node *n = NODE(f, QC_OP_GEMM, y, x, w, b);
    attr_int(f, n, "transB", 1);
    return y;
}

static int clamped(struct fixture *f, int y, float lo, float hi)
{
    struct qc_node *n = &f->g->nodes[f->g->n_nodes - 1];
    ck_assert_int_eq(n->outputs[0], y);
    n->clamp = (struct qc_clamp){true, lo, hi};
    return y;
}

/* Zero points of the sums' outputs are even, see test_int_elementwise.c. */
static void build_residual(struct fixture *f, const void *arg)
{
    enum qc_dtype t = *(const enum qc_dtype *)arg;
    int low = t == QC_U8 ? 0 : -128;
    struct int_q qx = {0.5f, low + 100, t}, q1 = {32.0f, low, t}, q2 = {16.0f, low + 121, t};
    struct int_q qs = {32.0f, low + 40, t}, qc = {32.0f, low + 70, t}, qm = {16.0f, low + 60, t};
    int x = value_new(f, QC_F32, SHAPE4(2, 3, 9, 8)), v = qdq_new(f, x, qx);
    int a = qdq_new(f, clamped(f, conv_new(f, v, qx, 3, 21, 1, 3, 0.25f), 0, INFINITY), q1);
    int b = qdq_new(f, conv_new(f, a, q1, 21, 21, 21, 5, 1.0f / 256), q2);
    int s = int_value(f), c = int_value(f), m = int_value(f), p = int_value(f), r = int_value(f);
    NODE(f, QC_OP_ADD, s, a, b);
    s = qdq_new(f, clamped(f, s, -500, 4000), qs);
    struct qc_node *n = NODE(f, QC_OP_CONCAT, c, s, b, a);
    attr_int(f, n, "axis", 1);
    c = qdq_new(f, c, qc);
    n = NODE(f, QC_OP_MAX_POOL, p, c);
    INTS(f, n, "kernel_shape", 2, 1);
    INTS(f, n, "strides", 2, 1);
    c = qdq_new(f, p, qc);
    NODE(f, QC_OP_GLOBAL_AVERAGE_POOL, m, c); /* 4 x 8 pixels: exact */
    m = qdq_new(f, m, qm);
    NODE(f, QC_OP_FLATTEN, r, m);
    int_io(f, x, gemm_new(f, qdq_new(f, r, qm), qm, 63, 10));
}

START_TEST(int_plan__residual_network__codes_of_f32)
{
    enum qc_dtype t = _i == 0 ? QC_U8 : QC_S8;
    struct int_want w = {.in = {0.5f, (_i == 0 ? 0 : -128) + 100, t}, .units = 8};
    int_expect(build_residual, &t, &w);
}
END_TEST

/* Conv, Softmax over the channels in f32, Conv: the island's neighbours are integer units. */
static void build_island(struct fixture *f, const void *arg)
{
    struct int_q qx = U8(0.5f, 100), q1 = U8(0.0625f, 128), q2 = U8(1.0f / 256, 0);
    int x = value_new(f, QC_F32, SHAPE4(1, 5, 6, 7)), s = int_value(f);
    (void)arg;
    int a = qdq_new(f, conv_new(f, qdq_new(f, x, qx), qx, 5, 7, 1, 3, 1.0f / 4096), q1);
    struct qc_node *n = NODE(f, QC_OP_SOFTMAX, s, a);
    attr_int(f, n, "axis", 1);
    s = qdq_new(f, s, q2);
    int_io(f, x, qdq_new(f, conv_new(f, s, q2, 7, 9, 1, 3, 1.0f), S8(2.0f, 5)));
}

START_TEST(int_plan__softmax_between__is_an_island)
{
    struct int_want w = {.in = U8(0.5f, 100), .units = 2, .islands = 1};
    int_expect(build_island, NULL, &w);
}
END_TEST

/* A Conv read by two QuantizeLinear writes f32; both codes are right. */
static void build_two_readers(struct fixture *f, const void *arg)
{
    struct int_q qx = U8(0.5f, 100), qa = U8(32.0f, 128), qb = U8(16.0f, 30);
    int x = value_new(f, QC_F32, SHAPE4(1, 5, 6, 7)), y = int_value(f);
    (void)arg;
    int c = conv_new(f, qdq_new(f, x, qx), qx, 5, 7, 1, 3, 0.25f);
    NODE(f, QC_OP_ADD, y, qdq_new(f, c, qa), qdq_new(f, c, qb));
    int_io(f, x, qdq_new(f, y, U8(64.0f, 126)));
}

START_TEST(int_plan__two_quantizers__both_get_f32)
{
    struct int_want w = {.in = U8(0.5f, 100), .units = 2};
    int_expect(build_two_readers, NULL, &w);
}
END_TEST

/* Two DequantizeLinear of one tensor that disagree about its zero point: the border around it
 * cannot hold both. */
static void build_disagreeing(struct fixture *f, const void *arg)
{
    struct int_q qx = U8(0.5f, 100), other = U8(0.5f, 20);
    int x = value_new(f, QC_F32, SHAPE4(1, 5, 6, 7)), y = int_value(f);
    (void)arg;
    int q = quantize_new(f, x, qx);
    int a = conv_new(f, dequantize_new(f, q, qx), qx, 5, 7, 1, 3, 0.25f);
    int b = conv_new(f, dequantize_new(f, q, other), other, 5, 7, 1, 3, 0.25f);
    NODE(f, QC_OP_ADD, y, qdq_new(f, a, U8(32.0f, 128)), qdq_new(f, b, U8(64.0f, 30)));
    int_io(f, x, qdq_new(f, y, U8(64.0f, 126)));
}

START_TEST(int_plan__disagreeing_zero_points__convs_stay_f32)
{
    struct int_want w = {.in = U8(0.5f, 100), .units = 1, .islands = 2};
    int_expect(build_disagreeing, NULL, &w);
}
END_TEST

/* DequantizeLinear of u8 data with an s8 zero point: an error, never another meaning. */
START_TEST(int_plan__zero_point_of_another_type__is_refused)
{
    struct fixture fixture, *f = &fixture;
    struct qc_int_counts counts;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE2(1, 300)), t = int_value(f);
    int q = quantize_new(f, x, U8(0.05f, 11));
    NODE(f, QC_OP_TANH, t, dequantize_new(f, q, S8(0.05f, 11)));
    int_io(f, x, qdq_new(f, t, U8(0.01f, 100)));
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(counts.n_units, 0);
    qc_kernels_init(&kernels, QC_ISA_REF);
    struct qc_exec_options options = {.kernels = &kernels};
    ck_assert_int_eq(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(f->err.message, "zero point of the q type"));
    fixture_done(f);
}
END_TEST

Suite *test_int_plan_suite(void);
Suite *test_int_plan_suite(void)
{
    Suite *s = suite_create("int_plan");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, pass__equal_parameters__moves_the_bytes, 0, MOVERS);
    tcase_add_loop_test(tc, pass__other_parameters__a_table_follows, 0, MOVERS);
    tcase_add_loop_test(tc, shift__operator_on_bytes__codes_of_f32, 0, MOVERS);
    tcase_add_test(tc, pass__linear_resize__stays_f32);
    tcase_add_test(tc, shift__absent_zero_points__codes_of_f32);
    tcase_add_test(tc, shift__s8_value_is_an_output__keeps_its_codes);
    tcase_add_loop_test(tc, int_plan__residual_network__codes_of_f32, 0, 2);
    tcase_add_test(tc, int_plan__softmax_between__is_an_island);
    tcase_add_test(tc, int_plan__two_quantizers__both_get_f32);
    tcase_add_test(tc, int_plan__zero_point_of_another_type__is_refused);
    tcase_add_test(tc, int_plan__disagreeing_zero_points__convs_stay_f32);
    suite_add_tcase(s, tc);
    return s;
}
