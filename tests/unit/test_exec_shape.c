#include "tests/unit/exec_fixture.h"

Suite *test_exec_shape_suite(void);

/* ---- pools ---- */

struct pool_case {
    int kh, kw, sh, sw, dh, dw, pt, pl, pb, pr, oh, ow;
    bool average, include, ceil;
};

static const struct pool_case pool_cases[] = {
    {3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 4, 5, false, false, false},
    {2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 4, 5, false, false, true},
    {2, 3, 1, 2, 2, 1, 0, 1, 1, 0, 6, 4, false, false, false},
    {3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 4, 5, true, false, false},
    {3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 4, 5, true, true, false},
    {2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 4, 5, true, true, true},
};

static double naive_pool(const struct pool_case *c, const float *x, int oh, int ow)
{
    enum { H = 7, W = 9 };
    double best = -1e30, sum = 0.0;
    int inside = 0, padded = 0;
    for (int kh = 0; kh < c->kh; kh++) {
        for (int kw = 0; kw < c->kw; kw++) {
            int ih = oh * c->sh - c->pt + kh * c->dh, iw = ow * c->sw - c->pl + kw * c->dw;
            padded += ih < H + c->pb && iw < W + c->pr;
            if (ih >= 0 && ih < H && iw >= 0 && iw < W) {
                best = fmax(best, (double)x[ih * W + iw]);
                sum += (double)x[ih * W + iw];
                inside++;
            }
        }
    }
    return c->average ? sum / (c->include ? padded : inside) : best;
}

START_TEST(qc_exec_run__pool__equals_the_naive_window)
{
    struct fixture fixture, *f = &fixture;
    const struct pool_case *c = &pool_cases[_i];
    fixture_init(f);
    struct qc_shape shape = SHAPE4(2, 5, 7, 9);
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, SHAPE4(2, 5, c->oh, c->ow));
    const struct qc_tensor *data = tensor_new(f, QC_F32, shape, NULL);
    struct qc_node *n = NODE(f, c->average ? QC_OP_AVERAGE_POOL : QC_OP_MAX_POOL, y, x);
    INTS(f, n, "kernel_shape", c->kh, c->kw);
    INTS(f, n, "strides", c->sh, c->sw);
    INTS(f, n, "dilations", c->dh, c->dw);
    INTS(f, n, "pads", c->pt, c->pl, c->pb, c->pr);
    attr_int(f, n, "count_include_pad", c->include);
    attr_int(f, n, "ceil_mode", c->ceil);
    const float *got = run_one(f, x, y, data->data);
    for (int i = 0; i < 10 * c->oh * c->ow; i++) {
        int pixel = i % (c->oh * c->ow);
        double expect = naive_pool(c, (const float *)data->data + i / (c->oh * c->ow) * 63,
                                   pixel / c->ow, pixel % c->ow);
        ck_assert_msg(fabs((double)got[i] - expect) < 1e-6, "%d: %g, not %g", i, (double)got[i],
                      expect);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__max_pool_of_u8__ignores_the_padding)
{
    struct fixture fixture, *f = &fixture;
    uint8_t data[4] = {1, 2, 3, 4}, expect[4] = {1, 2, 3, 4};
    fixture_init(f);
    int x = value_new(f, QC_U8, SHAPE4(1, 1, 2, 2)), y = value_new(f, QC_U8, SHAPE4(1, 1, 2, 2));
    struct qc_node *n = NODE(f, QC_OP_MAX_POOL, y, x);
    INTS(f, n, "kernel_shape", 2, 2);
    INTS(f, n, "pads", 1, 1, 0, 0);
    ck_assert_mem_eq(run_one(f, x, y, data), expect, 4);
    fixture_done(f);
}
END_TEST

/* ---- element moves ---- */

START_TEST(qc_exec_eval_node__transpose__permutes_every_type)
{
    static const enum qc_dtype types[] = {QC_U8, QC_S32, QC_S64, QC_F16};
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    uint8_t data[24 * 8];
    fixture_init(f);
    size_t size = qc_dtype_size(types[_i]);
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 37);
    }
    int x = constant_new(f, types[_i], SHAPE3(2, 3, 4), data);
    struct qc_node *n = NODE(f, QC_OP_TRANSPOSE, value_new(f, types[_i], SHAPE3(4, 2, 3)), x);
    INTS(f, n, "perm", 2, 0, 1);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    for (size_t i = 0; i < 24; i++) {
        size_t a = i / 6, b = i / 3 % 2, c = i % 3;
        ck_assert_mem_eq((char *)out[0]->data + i * size, data + (b * 12 + c * 4 + a) * size,
                         size);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__slice__takes_negative_steps)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    int32_t data[12];
    int64_t starts[2] = {-1, 1}, ends[2] = {INT64_MIN, INT64_MAX}, axes[2] = {1, 0};
    int64_t steps[2] = {-2, 1};
    int32_t expect[4] = {7, 5, 11, 9};
    fixture_init(f);
    for (int i = 0; i < 12; i++) {
        data[i] = i;
    }
    int x = constant_new(f, QC_S32, SHAPE2(3, 4), data), y = value_new(f, QC_S32, SHAPE2(2, 2));
    NODE(f, QC_OP_SLICE, y, x, constant_new(f, QC_S64, SHAPE1(2), starts),
         constant_new(f, QC_S64, SHAPE1(2), ends), constant_new(f, QC_S64, SHAPE1(2), axes),
         constant_new(f, QC_S64, SHAPE1(2), steps));
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, expect, sizeof(expect));
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__pad__fills_mirrors_and_cuts)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "constant", "wrap"};
    static const float expect[5][7] = {{9, 9, 1, 2, 3, 9, 9},
                                       {3, 2, 1, 2, 3, 2, 1},
                                       {1, 1, 1, 2, 3, 3, 3},
                                       {2, 3, 9},
                                       {2, 3, 1, 2, 3, 1, 2}};
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    float data[3] = {1, 2, 3}, nine = 9;
    int64_t pads[2] = {2, 2}, cut[2] = {-1, 1};
    int n_out = _i == 3 ? 3 : 7;
    fixture_init(f);
    int x = constant_new(f, QC_F32, SHAPE1(3), data);
    int y = value_new(f, QC_F32, SHAPE1(n_out));
    struct qc_node *n =
        NODE(f, QC_OP_PAD, y, x, constant_new(f, QC_S64, SHAPE1(2), _i == 3 ? cut : pads),
             constant_new(f, QC_F32, shape_of(0), &nine));
    attr_string(f, n, "mode", modes[_i]);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, expect[_i], (size_t)n_out * sizeof(float));
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__concat_of_channels__joins_in_both_layouts)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape sa = SHAPE4(2, 3, 2, 2), sb = SHAPE4(2, 18, 2, 2);
    int x = value_new(f, QC_F32, sa), a = x, y = value_new(f, QC_F32, SHAPE4(2, 21, 2, 2));
    const float *data = tensor_new(f, QC_F32, sa, NULL)->data;
    int b = constant_new(f, QC_F32, sb, NULL);
    if (_i == 1) {
        a = value_new(f, QC_F32, sa);
        INTS(f, NODE(f, QC_OP_MAX_POOL, a, x), "kernel_shape", 1, 1);
    }
    attr_int(f, NODE(f, QC_OP_CONCAT, y, a, b), "axis", -3);
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 168; i++) {
        int n = i / 84, c = i / 4 % 21, p = i % 4;
        float expect =
            c < 3 ? data[n * 12 + c * 4 + p] : constant_f32(f, b)[n * 72 + (c - 3) * 4 + p];
        ck_assert(got[i] == expect);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__gather_shape_cast__do_shape_arithmetic)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    int64_t index[2] = {-1, 0}, dims[2] = {7, 3};
    float reals[4] = {1.9f, -1.9f, NAN, 1e30f};
    int32_t ints[4] = {1, -1, 0, INT32_MAX};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE3(3, 5, 7)), s = value_new(f, QC_S64, SHAPE1(3));
    NODE(f, QC_OP_SHAPE, s, x);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    int c = constant_new(f, QC_S64, SHAPE1(3), out[0]->data);
    int i = constant_new(f, QC_S64, SHAPE1(2), index);
    NODE(f, QC_OP_GATHER, value_new(f, QC_S64, SHAPE1(2)), c, i);
    OK(qc_exec_eval_node(f->g, 1, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, dims, sizeof(dims));
    NODE(f, QC_OP_CAST, value_new(f, QC_S32, SHAPE1(4)),
         constant_new(f, QC_F32, SHAPE1(4), reals));
    OK(qc_exec_eval_node(f->g, 2, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, ints, sizeof(ints));
    index[0] = -4;
    NODE(f, QC_OP_GATHER, value_new(f, QC_S64, SHAPE1(2)), c,
         constant_new(f, QC_S64, SHAPE1(2), index));
    ck_assert_int_eq(qc_exec_eval_node(f->g, 3, &f->arena, out, &f->err), QD_UNSUPPORTED);
    fixture_done(f);
}
END_TEST

/* ---- Resize (expected values: the ONNX operator's examples) ---- */

START_TEST(qc_exec_run__resize__equals_the_onnx_examples)
{
    static const struct {
        const char *mode, *coordinate, *nearest;
        int in_w, out_w;
        float x[4], expect[8];
    } cases[] = {
        {"nearest", "half_pixel", "round_prefer_floor", 2, 4, {1, 2}, {1, 1, 2, 2}},
        {"nearest", "asymmetric", "floor", 2, 5, {1, 2}, {1, 1, 1, 2, 2}},
        {"nearest", "align_corners", "round_prefer_ceil", 3, 5, {1, 2, 3}, {1, 2, 2, 3, 3}},
        {"linear", "half_pixel", NULL, 2, 4, {1, 2}, {1, 1.25f, 1.75f, 2}},
        {"linear", "align_corners", NULL, 2, 4, {1, 2}, {1, 1.33333333f, 1.66666667f, 2}},
        {"linear", "asymmetric", NULL, 2, 4, {1, 2}, {1, 1.5f, 2, 2}},
        {"linear", "pytorch_half_pixel", NULL, 4, 1, {1, 2, 3, 4}, {1}},
    };
    struct fixture fixture, *f = &fixture;
    int64_t sizes[4] = {1, 1, 1, cases[_i].out_w};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 1, 1, cases[_i].in_w));
    int y = value_new(f, QC_F32, SHAPE4(1, 1, 1, cases[_i].out_w));
    struct qc_node *n =
        NODE(f, QC_OP_RESIZE, y, x, -1, -1, constant_new(f, QC_S64, SHAPE1(4), sizes));
    attr_string(f, n, "mode", cases[_i].mode);
    attr_string(f, n, "coordinate_transformation_mode", cases[_i].coordinate);
    if (cases[_i].nearest != NULL) {
        attr_string(f, n, "nearest_mode", cases[_i].nearest);
    }
    const float *got = run_one(f, x, y, cases[_i].x);
    for (int i = 0; i < cases[_i].out_w; i++) {
        ck_assert_msg(fabsf(got[i] - cases[_i].expect[i]) < 1e-6f, "%d: %g, not %g", i,
                      (double)got[i], (double)cases[_i].expect[i]);
    }
    fixture_done(f);
}
END_TEST

/* The scales decide, not the ratio of the lengths; half_pixel_symmetric keeps the middle of a length
 * that is rounded. */
START_TEST(qc_exec_run__half_pixel_symmetric_resize__keeps_the_middle)
{
    static const float data[4] = {1, 2, 3, 4}, expect[2] = {1.66666667f, 3.33333333f};
    const float scales[4] = {1, 1, 1, 0.6f};
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 1, 1, 4)), y = value_new(f, QC_F32, SHAPE4(1, 1, 1, 2));
    struct qc_node *n =
        NODE(f, QC_OP_RESIZE, y, x, -1, constant_new(f, QC_F32, SHAPE1(4), scales));
    attr_string(f, n, "mode", "linear");
    attr_string(f, n, "coordinate_transformation_mode", "half_pixel_symmetric");
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 2; i++) {
        ck_assert_msg(fabsf(got[i] - expect[i]) < 1e-6f, "%d: %g, not %g", i, (double)got[i],
                      (double)expect[i]);
    }
    fixture_done(f);
}
END_TEST

/* ---- ReduceMean, Softmax ---- */

START_TEST(qc_exec_run__reduce_mean__averages_its_axes)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape shape = SHAPE3(3, 4, 5);
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, SHAPE3(1, 4, 1));
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    static const int64_t axes[2] = {0, -1};
    NODE(f, QC_OP_REDUCE_MEAN, y, x, constant_new(f, QC_S64, SHAPE1(2), axes));
    const float *got = run_one(f, x, y, data);
    for (int j = 0; j < 4; j++) {
        double sum = 0.0;
        for (int i = 0; i < 15; i++) {
            sum += (double)data[i / 5 * 20 + j * 5 + i % 5];
        }
        ck_assert(fabs((double)got[j] - sum / 15.0) < 1e-6);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__softmax__sums_to_one_along_its_axis)
{
    struct fixture fixture, *f = &fixture;
    bool flatten = _i == 1;
    fixture_init(f);
    struct qc_shape shape = SHAPE3(2, 3, 4);
    int x = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, shape);
    float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    data[0] = 300.0f; /* e^300 is no f32 */
    struct qc_node *n = NODE(f, QC_OP_SOFTMAX, y, x);
    attr_int(f, n, "axis", 1);
    attr_int(f, n, "quantd_flatten", flatten);
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 24; i++) {
        double sum = 0.0;
        for (int k = 0; k < 24; k++) {
            bool same = i / 12 == k / 12 && (flatten || i % 4 == k % 4);
            sum += same ? exp((double)data[k] - (double)data[i]) : 0.0;
        }
        ck_assert_msg(fabs((double)got[i] - 1.0 / sum) < 1e-6, "%d: %g, not %g", i,
                      (double)got[i], 1.0 / sum);
    }
    fixture_done(f);
}
END_TEST

/* ---- QuantizeLinear, DequantizeLinear ---- */

START_TEST(qc_exec_run__quantize__rounds_half_to_even_and_saturates)
{
    struct fixture fixture, *f = &fixture;
    float data[7] = {0.25f, 0.75f, -0.25f, 1.25f, 1000.0f, -1000.0f, 3.0f}, scale = 0.5f;
    uint8_t zp = 10, expect[7] = {10, 12, 10, 12, 255, 0, 16};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE1(7)), y = value_new(f, QC_U8, SHAPE1(7));
    NODE(f, QC_OP_QUANTIZE_LINEAR, y, x, constant_new(f, QC_F32, shape_of(0), &scale),
         constant_new(f, QC_U8, shape_of(0), &zp));
    ck_assert_mem_eq(run_one(f, x, y, data), expect, 7);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__quantize_per_axis__takes_each_slice_its_scale)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    float data[6] = {1, -200, 3, 4, -5, 6}, scale[2] = {1.0f, 2.0f};
    float back[6] = {1, -128, 3, 4, -4, 6};
    int8_t expect[6] = {1, -128, 3, 2, -2, 3}, zp[2] = {0, 0};
    fixture_init(f);
    int x = constant_new(f, QC_F32, SHAPE2(2, 3), data);
    int s = constant_new(f, QC_F32, SHAPE1(2), scale), z = constant_new(f, QC_S8, SHAPE1(2), zp);
    attr_int(f, NODE(f, QC_OP_QUANTIZE_LINEAR, value_new(f, QC_S8, SHAPE2(2, 3)), x, s, z),
             "axis", 0);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, expect, 6);
    int q = constant_new(f, QC_S8, SHAPE2(2, 3), expect);
    attr_int(f, NODE(f, QC_OP_DEQUANTIZE_LINEAR, value_new(f, QC_F32, SHAPE2(2, 3)), q, s, z),
             "axis", 0);
    OK(qc_exec_eval_node(f->g, 1, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, back, sizeof(back));
    fixture_done(f);
}
END_TEST

/* [2,5] of 4 bits in blocks of 2 along either axis, the last one ragged. */
START_TEST(qc_exec_eval_node__dequantize_in_blocks__a_scale_a_block)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    int8_t s4[10] = {-8, 7, 1, 2, 3, 4, -5, 6, -7, 0}, zeros[6] = {1, 0, -1, 0, 2, 0};
    float scale[10] = {1, 2, 4, 0.5f, 0.25f, 8, 1, 1, 1, 1};
    float along_1[10] = {-9, 6, 2, 4, 16, 2, -2.5f, 1, -2.25f, 0};
    float along_0[10] = {-8, 14, 4, 1, 0.75f, 4, -10, 24, -3.5f, 0};
    fixture_init(f);
    int x = constant_new(f, QC_S4, SHAPE2(2, 5), s4);
    int s = constant_new(f, QC_F32, SHAPE2(2, 3), scale);
    int z = constant_new(f, QC_S4, SHAPE2(2, 3), zeros);
    struct qc_node *n = NODE(f, QC_OP_DEQUANTIZE_LINEAR, value_new(f, QC_F32, SHAPE2(2, 5)), x, s,
                             z);
    attr_int(f, n, "axis", -1);
    attr_int(f, n, "block_size", 2);
    OK(qc_graph_infer_node(f->g, 0, &f->err));
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, along_1, sizeof(along_1));
    s = constant_new(f, QC_F32, SHAPE2(1, 5), scale);
    n = NODE(f, QC_OP_DEQUANTIZE_LINEAR, value_new(f, QC_F32, SHAPE2(2, 5)), x, s);
    attr_int(f, n, "axis", 0);
    attr_int(f, n, "block_size", 2);
    OK(qc_exec_eval_node(f->g, 1, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, along_0, sizeof(along_0));
    /* Scales of another shape, and blocks of QuantizeLinear, are refused. */
    s = constant_new(f, QC_F32, SHAPE2(2, 2), scale);
    n = NODE(f, QC_OP_DEQUANTIZE_LINEAR, value_new(f, QC_F32, SHAPE2(2, 5)), x, s);
    attr_int(f, n, "axis", 1);
    attr_int(f, n, "block_size", 2);
    ck_assert_int_eq(qc_graph_infer_node(f->g, 2, &f->err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(f->err.message, "does not fit blocks of 2 along axis 1: [2,3]"));
    ck_assert_int_eq(qc_exec_eval_node(f->g, 2, &f->arena, out, &f->err), QD_UNSUPPORTED);
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__dequantize_of_u4__zero_points_an_axis)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    uint8_t u4[4] = {0, 15, 8, 3}, zeros[2] = {8, 3};
    float scale[2] = {0.5f, 2}, expect[4] = {-4, 3.5f, 10, 0};
    fixture_init(f);
    int x = constant_new(f, QC_U4, SHAPE2(2, 2), u4);
    int s = constant_new(f, QC_F32, SHAPE1(2), scale);
    int z = constant_new(f, QC_U4, SHAPE1(2), zeros);
    attr_int(f, NODE(f, QC_OP_DEQUANTIZE_LINEAR, value_new(f, QC_F32, SHAPE2(2, 2)), x, s, z),
             "axis", 0);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, expect, sizeof(expect));
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_eval_node__dequantize_of_s32__gives_biases)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    int32_t data[2] = {100000, -3};
    float scale[2] = {0.5f, 0.25f}, expect[2] = {50000.0f, -0.75f};
    fixture_init(f);
    int x = constant_new(f, QC_S32, SHAPE1(2), data);
    int s = constant_new(f, QC_F32, SHAPE1(2), scale);
    attr_int(f, NODE(f, QC_OP_DEQUANTIZE_LINEAR, value_new(f, QC_F32, SHAPE1(2)), x, s), "axis",
             0);
    OK(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err));
    ck_assert_mem_eq(out[0]->data, expect, sizeof(expect));
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_build__scale_of_zero__is_refused)
{
    struct fixture fixture, *f = &fixture;
    const struct qc_tensor *out[1];
    float data[1] = {1}, scale = 0.0f;
    fixture_init(f);
    int x = constant_new(f, QC_F32, SHAPE1(1), data);
    NODE(f, QC_OP_QUANTIZE_LINEAR, value_new(f, QC_U8, SHAPE1(1)), x,
         constant_new(f, QC_F32, shape_of(0), &scale));
    ck_assert_int_eq(qc_exec_eval_node(f->g, 0, &f->arena, out, &f->err), QD_UNSUPPORTED);
    fixture_done(f);
}
END_TEST

/* A QDQ network as it is exported, nothing folded: the border of an 8-bit value is never read as
 * a real number, and layouts change between Q and the convolution. */
START_TEST(qc_exec_run__qdq_around_a_conv__equals_the_f32_conv_of_rounded_data)
{
    struct fixture fixture, *f = &fixture;
    float scale = 0.125f;
    uint8_t zp = 128;
    fixture_init(f);
    struct qc_shape shape = SHAPE4(1, 2, 4, 4);
    int x = value_new(f, QC_F32, shape), q = value_new(f, QC_U8, shape);
    int d = value_new(f, QC_F32, shape), y = value_new(f, QC_F32, shape);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    int s = constant_new(f, QC_F32, shape_of(0), &scale);
    int z = constant_new(f, QC_U8, shape_of(0), &zp);
    int w = constant_new(f, QC_F32, SHAPE4(2, 2, 3, 3), NULL);
    NODE(f, QC_OP_QUANTIZE_LINEAR, q, x, s, z);
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, d, q, s, z);
    INTS(f, NODE(f, QC_OP_CONV, y, d, w), "pads", 1, 1, 1, 1);
    const float *got = run_one(f, x, y, data);
    for (int i = 0; i < 32; i++) {
        float acc = 0.0f;
        for (int t = 0; t < 18; t++) {
            int c = t % 2, kh = t / 6, kw = t / 2 % 3;
            int ih = i / 4 % 4 - 1 + kh, iw = i % 4 - 1 + kw;
            bool in = ih >= 0 && ih < 4 && iw >= 0 && iw < 4;
            float v = in ? rintf(data[c * 16 + ih * 4 + iw] / scale) * scale : 0.0f;
            acc = fmaf(v, constant_f32(f, w)[(i / 16 * 2 + c) * 9 + kh * 3 + kw], acc);
        }
        ck_assert_msg(got[i] == acc, "%d: %.9g, not %.9g", i, (double)got[i], (double)acc);
    }
    fixture_done(f);
}
END_TEST

Suite *test_exec_shape_suite(void)
{
    Suite *suite = suite_create("test_exec_shape");
    TCase *c = tcase_create("shape");
    tcase_add_loop_test(c, qc_exec_run__pool__equals_the_naive_window, 0,
                        (int)QD_COUNT_OF(pool_cases));
    tcase_add_test(c, qc_exec_run__max_pool_of_u8__ignores_the_padding);
    tcase_add_loop_test(c, qc_exec_eval_node__transpose__permutes_every_type, 0, 4);
    tcase_add_test(c, qc_exec_eval_node__slice__takes_negative_steps);
    tcase_add_loop_test(c, qc_exec_eval_node__pad__fills_mirrors_and_cuts, 0, 5);
    tcase_add_loop_test(c, qc_exec_run__concat_of_channels__joins_in_both_layouts, 0, 2);
    tcase_add_test(c, qc_exec_eval_node__gather_shape_cast__do_shape_arithmetic);
    tcase_add_loop_test(c, qc_exec_run__resize__equals_the_onnx_examples, 0, 7);
    tcase_add_test(c, qc_exec_run__half_pixel_symmetric_resize__keeps_the_middle);
    tcase_add_test(c, qc_exec_run__reduce_mean__averages_its_axes);
    tcase_add_loop_test(c, qc_exec_run__softmax__sums_to_one_along_its_axis, 0, 2);
    tcase_add_test(c, qc_exec_run__quantize__rounds_half_to_even_and_saturates);
    tcase_add_test(c, qc_exec_eval_node__quantize_per_axis__takes_each_slice_its_scale);
    tcase_add_test(c, qc_exec_eval_node__dequantize_in_blocks__a_scale_a_block);
    tcase_add_test(c, qc_exec_eval_node__dequantize_of_u4__zero_points_an_axis);
    tcase_add_test(c, qc_exec_eval_node__dequantize_of_s32__gives_biases);
    tcase_add_test(c, qc_exec_build__scale_of_zero__is_refused);
    tcase_add_test(c, qc_exec_run__qdq_around_a_conv__equals_the_f32_conv_of_rounded_data);
    suite_add_tcase(suite, c);
    return suite;
}
