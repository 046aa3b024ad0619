/* Split, DepthToSpace, SpaceToDepth: shapes, elements in both layouts, codes. */
#include "int_fixture.h"

Suite *test_parts_suite(void);

static struct qc_node *more_outputs(struct fixture *f, struct qc_node *n, int count)
{
    int *outputs = NULL;
    OK(qd_arena_array(&f->arena, (size_t)count, sizeof(int), &outputs, &f->err));
    outputs[0] = n->outputs[0];
    for (int k = 1; k < count; k++) {
        outputs[k] = int_value(f);
    }
    n->outputs = outputs;
    n->n_outputs = count;
    return n;
}

/* Split of x along the axis, sizes -1: none. */
static struct qc_node *split_new(struct fixture *f, int x, int axis, int count, int sizes)
{
    int y = int_value(f);
    struct qc_node *n = NODE(f, QC_OP_SPLIT, y, x, sizes);
    attr_int(f, n, "axis", axis);
    return more_outputs(f, n, count);
}

static int ints(struct fixture *f, int count, const int64_t *data)
{
    return constant_new(f, QC_S64, SHAPE1(count), data);
}

static int64_t part_dim(const struct fixture *f, const struct qc_node *n, int k, int axis)
{
    return f->g->values[n->outputs[k]].shape.dim[axis];
}

static void fails(struct fixture *f, enum qd_code want, const char *text)
{
    ck_assert_int_eq(qc_graph_infer_node(f->g, f->g->n_nodes - 1, &f->err), want);
    ck_assert_msg(strstr(f->err.message, text) != NULL, "'%s' lacks '%s'", f->err.message, text);
}

/* ---- shapes ---- */

START_TEST(infer__split__sizes_equal_or_numbered_parts)
{
    struct fixture fixture, *f = &fixture;
    static const int64_t sizes[3] = {1, 0, 6};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 7, 8, 9));
    struct qc_node *n = split_new(f, x, 1, 3, ints(f, 3, sizes));
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    for (int k = 0; k < 3; k++) {
        ck_assert_int_eq(part_dim(f, n, k, 1), sizes[k]);
        ck_assert_int_eq(part_dim(f, n, k, 3), 9);
    }
    n = split_new(f, x, -1, 3, -1);
    OK(qc_graph_infer_node(f->g, 1, &f->err));
    ck_assert_int_eq(part_dim(f, n, 2, 3), 3);
    n = split_new(f, x, 2, 3, -1);
    attr_int(f, n, "num_outputs", 3);
    OK(qc_graph_infer_node(f->g, 2, &f->err));
    ck_assert_int_eq(part_dim(f, n, 1, 2), 3);
    ck_assert_int_eq(part_dim(f, n, 2, 2), 2);
    fixture_done(f);
}
END_TEST

START_TEST(infer__split_that_does_not_fit__names_the_numbers)
{
    struct fixture fixture, *f = &fixture;
    static const int64_t wrong[3][3] = {{3, 3, 3}, {3, 3, 0}, {INT64_MAX, 1, -1}};
    static const char *const text[3] = {"split[2] = 3 is outside 0..1", "split leaves 1 of 7",
                                        "split[0] = 9223372036854775807"};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE2(2, 7));
    for (int i = 0; i < 3; i++) {
        (void)split_new(f, x, 1, 3, ints(f, 3, wrong[i]));
        fails(f, QD_INVALID, text[i]);
    }
    (void)split_new(f, x, 1, 2, ints(f, 3, wrong[0]));
    fails(f, QD_INVALID, "3 sizes for 2 outputs");
    (void)split_new(f, x, 1, 2, -1);
    fails(f, QD_INVALID, "7 elements are not 2 equal parts");
    attr_int(f, split_new(f, x, 1, 6, -1), "num_outputs", 6); /* parts of 2: the last has -3 */
    fails(f, QD_INVALID, "7 elements are not 6 equal parts");
    attr_int(f, split_new(f, x, 1, 2, -1), "num_outputs", 3);
    fails(f, QD_INVALID, "num_outputs = 3 for 2 outputs");
    (void)split_new(f, x, 2, 2, -1);
    fails(f, QD_INVALID, "axis 2 is outside rank 2");
    f->g->values[x].symbolic_dims = 1;
    (void)split_new(f, x, 0, 2, -1);
    fails(f, QD_UNSUPPORTED, "axis 0 of 'v0' follows the batch");
    fixture_done(f);
}
END_TEST

static struct qc_node *block_new(struct fixture *f, int op, int x, int64_t block, const char *mode)
{
    struct qc_node *n = NODE(f, op, int_value(f), x);
    attr_int(f, n, "blocksize", block);
    if (mode != NULL) {
        attr_string(f, n, "mode", mode);
    }
    return n;
}

START_TEST(infer__blocks_that_do_not_fit__name_the_numbers)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 8, 6, 4)), flat = value_new(f, QC_F32, SHAPE2(8, 6));
    (void)block_new(f, QC_OP_DEPTH_TO_SPACE, x, 3, NULL);
    fails(f, QD_INVALID, "8 channels are no blocks of 3 x 3");
    (void)block_new(f, QC_OP_DEPTH_TO_SPACE, x, 2, "RCD");
    fails(f, QD_INVALID, "mode \"RCD\"");
    (void)block_new(f, QC_OP_SPACE_TO_DEPTH, x, 3, NULL);
    fails(f, QD_INVALID, "6 x 4 pixels are no blocks of 3 x 3");
    (void)block_new(f, QC_OP_SPACE_TO_DEPTH, flat, 2, NULL);
    fails(f, QD_INVALID, "has rank 2, not 4");
    static const int64_t blocks[] = {0, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 32};
    for (size_t i = 0; i < QD_COUNT_OF(blocks); i++) {
        (void)block_new(f, QC_OP_DEPTH_TO_SPACE, x, blocks[i], NULL);
        fails(f, QD_INVALID, "is outside 1..");
    }
    fixture_done(f);
}
END_TEST

/* ---- elements ---- */

/* x, pooled by a window of 1 so that it lies as pixels when asked. */
static int as_pixels(struct fixture *f, int x, bool pixels)
{
    if (!pixels) {
        return x;
    }
    int y = value_new(f, f->g->values[x].dtype, f->g->values[x].shape);
    INTS(f, NODE(f, QC_OP_MAX_POOL, y, x), "kernel_shape", 1, 1);
    return y;
}

START_TEST(exec__split_of_channels__each_part_in_both_layouts)
{
    struct fixture fixture, *f = &fixture;
    static const int64_t sizes[3] = {5, 1, 15};
    fixture_init(f);
    struct qc_shape shape = SHAPE4(2, 21, 3, 2);
    int x = value_new(f, QC_F32, shape);
    struct qc_node *n =
        split_new(f, as_pixels(f, x, _i % 2 == 1), 1, 3, ints(f, 3, sizes));
    int part = _i / 2, first = part == 0 ? 0 : part == 1 ? 5 : 6;
    int y = n->outputs[part];
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int b = 0; b < 2; b++) {
        ck_assert_mem_eq(got + b * sizes[part] * 6, data + (b * 21 + first) * 6,
                         (size_t)sizes[part] * 6 * sizeof(float));
    }
    fixture_done(f);
}
END_TEST

/* Pixel (h b + i, w b + j) of channel c is channel (i b + j) C + c, CRD: c b b + i b + j. */
START_TEST(exec__depth_to_space__both_modes_and_back)
{
    struct fixture fixture, *f = &fixture;
    enum { B = 2, C = 3, H = 4, W = 5 };
    bool crd = _i / 2 == 1;
    fixture_init(f);
    struct qc_shape deep = SHAPE4(1, C * B * B, H, W);
    int x = value_new(f, QC_F32, deep);
    struct qc_node *n = block_new(f, QC_OP_DEPTH_TO_SPACE, as_pixels(f, x, _i % 2 == 1), B,
                                  crd ? "CRD" : "DCR");
    int y = n->outputs[0];
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
    const float *data = tensor_new(f, QC_F32, deep, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int c = 0; c < C; c++) {
        for (int h = 0; h < H * B; h++) {
            for (int w = 0; w < W * B; w++) {
                int at = h % B * B + w % B;
                int from = crd ? c * B * B + at : at * C + c;
                ck_assert(got[(c * H * B + h) * W * B + w] ==
                          data[(from * H + h / B) * W + w / B]);
            }
        }
    }
    if (!crd) { /* and SpaceToDepth is the way back */
        int z = block_new(f, QC_OP_SPACE_TO_DEPTH, y, B, NULL)->outputs[0];
        OK(qc_graph_infer_node(f->g, f->g->n_nodes - 1, &f->err));
        ck_assert_mem_eq(run_one(f, x, z, data), data, (size_t)C * B * B * H * W * sizeof(float));
    }
    fixture_done(f);
}
END_TEST

/* ---- codes ---- */

struct split_case {
    struct int_q x, y[2]; /* of the input, of the parts */
    bool f32_part;        /* part 1 is read by an f32 operator */
};

/* The parts, changed about. */
static void build_split(struct fixture *f, const void *arg)
{
    const struct split_case *c = arg;
    static const int64_t sizes[3] = {3, 2, 4}; /* nobody reads part 2 */
    int x = value_new(f, QC_F32, SHAPE4(1, 9, 5, 6)), y = int_value(f);
    struct qc_node *n = split_new(f, qdq_new(f, x, c->x), 1, 3, ints(f, 3, sizes));
    int part[2] = {n->outputs[0], n->outputs[1]};
    int a = qdq_new(f, part[0], c->y[0]);
    int b = c->f32_part ? part[1] : qdq_new(f, part[1], c->y[1]);
    attr_int(f, NODE(f, QC_OP_CONCAT, y, b, a), "axis", 1);
    int_io(f, x, qdq_new(f, y, c->y[0]));
}

START_TEST(int_plan__split__runs_on_codes)
{
    struct int_q u8 = U8(0.043f, 77), s8 = S8(0.043f, -30), other = U8(0.031f, 9);
    struct split_case cases[] = {
        {u8, {u8, u8}, false}, {s8, {s8, s8}, false}, {u8, {other, u8}, false}};
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        struct int_want w = {.in = cases[i].x, .units = 2};
        int_expect(build_split, &cases[i], &w);
        struct fixture fixture, *f = &fixture;
        struct qc_int_counts counts;
        fixture_init(f);
        build_split(f, &cases[i]);
        OK(qc_int_plan(f->g, &counts, &f->err));
        ck_assert_int_eq(int_count_ops(f->g, QC_OP_Q_TABLE), i == 2); /* of part 0 alone */
        ck_assert_int_eq(int_count_ops(f->g, QC_OP_SPLIT), 1);
        fixture_done(f);
    }
}
END_TEST

START_TEST(int_plan__split_with_an_f32_part__stays_f32)
{
    struct int_q u8 = U8(0.043f, 77);
    struct split_case c = {u8, {u8, u8}, true};
    struct int_want w = {.in = u8, .islands = 2};
    int_expect(build_split, &c, &w);
}
END_TEST

/* The zero point of a border comes from behind any of the parts. */
static void build_border(struct fixture *f, const void *arg)
{
    (void)arg;
    struct int_q q = U8(0.043f, 77), yq = U8(0.5f, 100);
    int x = value_new(f, QC_F32, SHAPE4(1, 8, 5, 6)), y = int_value(f);
    struct qc_node *n = split_new(f, qdq_new(f, x, q), 1, 2, -1);
    int part = qdq_new(f, n->outputs[1], q);
    int w = constant_q_new(f, QC_S8, SHAPE4(4, 4, 3, 3), -127, 127, 0.01f, 1, 0);
    INTS(f, NODE(f, QC_OP_CONV, y, part, w), "pads", 1, 1, 1, 1);
    int_io(f, x, qdq_new(f, y, yq));
}

START_TEST(int_plan__split_before_a_border__has_its_zero_point)
{
    struct int_want w = {.in = U8(0.043f, 77), .units = 2, .step = 0.5f, .steps = 1};
    int_expect(build_border, NULL, &w);
}
END_TEST

static void build_block(struct fixture *f, const void *arg)
{
    int op = *(const int *)arg;
    struct int_q q = S8(0.043f, -30);
    int x = value_new(f, QC_F32, SHAPE4(1, 8, 4, 6));
    struct qc_node *n = block_new(f, op, qdq_new(f, x, q), 2, NULL);
    int_io(f, x, qdq_new(f, n->outputs[0], q));
}

START_TEST(int_plan__blocks__run_on_codes)
{
    static const int ops[2] = {QC_OP_DEPTH_TO_SPACE, QC_OP_SPACE_TO_DEPTH};
    struct int_want w = {.in = S8(0.043f, -30), .units = 1};
    int_expect(build_block, &ops[_i], &w);
}
END_TEST

Suite *test_parts_suite(void)
{
    Suite *suite = suite_create("test_parts");
    TCase *tcase = tcase_create("parts");
    tcase_add_test(tcase, infer__split__sizes_equal_or_numbered_parts);
    tcase_add_test(tcase, infer__split_that_does_not_fit__names_the_numbers);
    tcase_add_test(tcase, infer__blocks_that_do_not_fit__name_the_numbers);
    tcase_add_loop_test(tcase, exec__split_of_channels__each_part_in_both_layouts, 0, 6);
    tcase_add_loop_test(tcase, exec__depth_to_space__both_modes_and_back, 0, 4);
    tcase_add_test(tcase, int_plan__split__runs_on_codes);
    tcase_add_test(tcase, int_plan__split_with_an_f32_part__stays_f32);
    tcase_add_test(tcase, int_plan__split_before_a_border__has_its_zero_point);
    tcase_add_loop_test(tcase, int_plan__blocks__run_on_codes, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite;
}
