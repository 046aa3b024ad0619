/* Q_CONV: the f32 network's codes where f32 is exact, integers computed here elsewhere. */
#include "int_fixture.h"
#include "quantcore/affine/qparams.h"

struct conv_case {
    int channels, outputs, group; /* of the whole tensor */
    int h, w, kernel[2], stride[2], dilation[2];
    int pads[4]; /* top, left, bottom, right */
    struct int_q x, y;
    int scales; /* 1: per tensor; otherwise one an output */
    bool bias, f32_out, auto_pad;
    float lo, hi; /* fused activation when lo < hi */
};

#define K(a, b)                                                                                  \
    {                                                                                            \
        a, b                                                                                     \
    }
static const struct conv_case cases[] = {
    /* one tap, odd channels, per tensor */
    {.channels = 3,
     .outputs = 5,
     .group = 1,
     .h = 7,
     .w = 9,
     .kernel = K(1, 1),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .x = {0.5f, 0, QC_U8},
     .y = {0, 128, QC_U8},
     .scales = 1},
    /* everything asymmetric */
    {.channels = 5,
     .outputs = 33,
     .group = 1,
     .h = 9,
     .w = 6,
     .kernel = K(3, 2),
     .stride = K(2, 1),
     .dilation = K(1, 2),
     .pads = {0, 2, 1, 1},
     .x = {0.25f, 77, QC_U8},
     .y = {0, 13, QC_U8},
     .scales = 33,
     .bias = true},
    /* two panels, groups whose channels are no multiple of 4 */
    {.channels = 6,
     .outputs = 68,
     .group = 2,
     .h = 5,
     .w = 5,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(2, 2),
     .pads = {2, 2, 2, 2},
     .x = {1.0f, 255, QC_U8},
     .y = {0, 255, QC_U8},
     .scales = 68,
     .bias = true},
    {.channels = 10,
     .outputs = 35,
     .group = 5,
     .h = 4,
     .w = 7,
     .kernel = K(2, 3),
     .stride = K(1, 2),
     .dilation = K(1, 1),
     .pads = {1, 0, 0, 2},
     .x = {0.125f, 9, QC_S8},
     .y = {0, -128, QC_S8},
     .scales = 35,
     .bias = true,
     .lo = 0,
     .hi = INFINITY},
    /* depthwise: odd, around the vector widths, dilated, strided */
    {.channels = 7,
     .outputs = 7,
     .group = 7,
     .h = 6,
     .w = 11,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.5f, 131, QC_U8},
     .y = {0, 99, QC_U8},
     .scales = 7,
     .bias = true},
    {.channels = 65,
     .outputs = 65,
     .group = 65,
     .h = 9,
     .w = 9,
     .kernel = K(5, 3),
     .stride = K(2, 3),
     .dilation = K(1, 2),
     .pads = {2, 0, 1, 3},
     .x = {0.5f, -7, QC_S8},
     .y = {0, 20, QC_S8},
     .scales = 65,
     .bias = true,
     .lo = -300,
     .hi = 600},
    /* one channel in, many out: a group of one, no depthwise */
    {.channels = 1,
     .outputs = 17,
     .group = 1,
     .h = 8,
     .w = 8,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.5f, 30, QC_U8},
     .y = {0, 128, QC_U8},
     .scales = 17,
     .bias = true},
    /* depth multiplier 2 */
    {.channels = 4,
     .outputs = 8,
     .group = 4,
     .h = 5,
     .w = 5,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.5f, 30, QC_U8},
     .y = {0, 128, QC_U8},
     .scales = 8,
     .bias = true},
    /* f32 out, with a clamp; auto_pad */
    {.channels = 9,
     .outputs = 40,
     .group = 1,
     .h = 6,
     .w = 6,
     .kernel = K(3, 3),
     .stride = K(2, 2),
     .dilation = K(1, 1),
     .x = {0.5f, 3, QC_U8},
     .scales = 40,
     .bias = true,
     .f32_out = true,
     .auto_pad = true,
     .lo = -100,
     .hi = 250},
    {.channels = 19,
     .outputs = 19,
     .group = 19,
     .h = 6,
     .w = 5,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.5f, 3, QC_S8},
     .scales = 1,
     .f32_out = true},
    /* depthwise: pixels beside each other that fill the lanes; an odd width, where they do not */
    {.channels = 32,
     .outputs = 32,
     .group = 32,
     .h = 5,
     .w = 6,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.5f, 9, QC_U8},
     .y = {0, 0, QC_U8},
     .scales = 32,
     .bias = true},
    {.channels = 16,
     .outputs = 16,
     .group = 16,
     .h = 4,
     .w = 8,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.25f, 200, QC_U8},
     .y = {0, 31, QC_U8},
     .scales = 16},
    {.channels = 32,
     .outputs = 32,
     .group = 32,
     .h = 6,
     .w = 7,
     .kernel = K(3, 3),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {1, 1, 1, 1},
     .x = {0.5f, 128, QC_U8},
     .y = {0, 0, QC_U8},
     .scales = 32},
    {.channels = 16,
     .outputs = 16,
     .group = 16,
     .h = 5,
     .w = 4,
     .kernel = K(5, 5),
     .stride = K(1, 1),
     .dilation = K(1, 1),
     .pads = {2, 2, 2, 2},
     .x = {0.5f, 1, QC_U8},
     .scales = 1,
     .f32_out = true},
};

static size_t depth_of(const struct conv_case *c)
{
    return (size_t)(c->channels / c->group * c->kernel[0] * c->kernel[1]);
}

/* A step of the output so that about all codes occur: the sum's spread over 64 steps. */
static float y_scale(const struct conv_case *c, float product)
{
    return product * exp2f(rintf(log2f(5000.0f * sqrtf((float)depth_of(c)) / 64.0f)));
}

#define W_SCALE 0.0625f

static int conv_new(struct fixture *f, const struct conv_case *c, int x, float w_scale)
{
    struct qc_shape shape =
        SHAPE4(c->outputs, c->channels / c->group, c->kernel[0], c->kernel[1]);
    int w = constant_q_new(f, QC_S8, shape, -127, 127, w_scale, c->scales, 0);
    int y = int_value(f), b = -1;
    if (c->bias) {
        b = constant_q_new(f, QC_S32, SHAPE1(c->outputs), -9000, 9000, c->x.scale * w_scale,
                           c->scales, 0);
    }
    struct qc_node *n = NODE(f, QC_OP_CONV, y, x, w, b);
    attr_int(f, n, "group", c->group);
    INTS(f, n, "strides", c->stride[0], c->stride[1]);
    INTS(f, n, "dilations", c->dilation[0], c->dilation[1]);
    if (c->auto_pad) {
        attr_string(f, n, "auto_pad", "SAME_UPPER");
    } else {
        INTS(f, n, "pads", c->pads[0], c->pads[1], c->pads[2], c->pads[3]);
    }
    if (c->lo < c->hi) {
        n->clamp = (struct qc_clamp){true, c->lo, c->hi};
    }
    return y;
}

static void build_conv(struct fixture *f, const void *arg)
{
    const struct conv_case *c = arg;
    struct int_q q = c->y;
    q.scale = y_scale(c, c->x.scale * W_SCALE);
    int x = value_new(f, QC_F32, SHAPE4(2, c->channels, c->h, c->w));
    int y = conv_new(f, c, qdq_new(f, x, c->x), W_SCALE);
    int_io(f, x, c->f32_out ? y : qdq_new(f, y, q));
}

START_TEST(q_conv__powers_of_two__codes_of_f32)
{
    const struct conv_case *c = &cases[_i];
    struct int_want w = {.in = c->x, .units = 1};
    int_expect(build_conv, c, &w);
}
END_TEST

/* ---- other scales: the integers, computed here ---- */

static const void *constant_of(const struct fixture *f, const struct qc_node *n, int i)
{
    return f->g->values[n->inputs[i]].constant->data;
}

struct window_at {
    int64_t image, y, x;
};

/* Sum over one window, in s64. */
static int64_t accumulate(const struct conv_case *c, const uint8_t *codes, const int8_t *w,
                          int32_t bias, int o, struct window_at at, int zero_point)
{
    int per_group = c->channels / c->group, first = o / (c->outputs / c->group) * per_group;
    int64_t acc = bias;
    for (int i = 0; i < per_group; i++) {
        for (int kh = 0; kh < c->kernel[0]; kh++) {
            for (int kw = 0; kw < c->kernel[1]; kw++) {
                int64_t h = at.y * c->stride[0] - c->pads[0] + kh * c->dilation[0];
                int64_t v = at.x * c->stride[1] - c->pads[1] + kw * c->dilation[1];
                if (h < 0 || h >= c->h || v < 0 || v >= c->w) {
                    continue;
                }
                int64_t x = codes[((at.image * c->channels + first + i) * c->h + h) * c->w + v];
                acc += (x - zero_point) *
                       w[((o * per_group + i) * c->kernel[0] + kh) * c->kernel[1] + kw];
            }
        }
    }
    return acc;
}

/* ONNX Runtime's QLinearConv. */
static uint8_t requantize(int64_t acc, float sx, float sw, struct int_q y)
{
    float m = sx * sw / y.scale, q = rintf((float)acc * m) + (float)y.zero_point;
    return (uint8_t)(q < 0 ? 0 : (q > 255 ? 255 : q));
}

static void expect_conv(struct fixture *f, const struct conv_case *c, struct int_q y,
                        const struct qc_node *n, const uint8_t *codes, const uint8_t *got)
{
    const struct qc_shape *s = &f->g->values[n->outputs[0]].shape;
    const int8_t *w = constant_of(f, n, 3);
    const float *w_scale = constant_of(f, n, 4);
    const int32_t *bias = n->inputs[8] >= 0 ? constant_of(f, n, 8) : NULL;
    size_t i = 0;
    for (int64_t image = 0; image < s->dim[0]; image++) {
        for (int o = 0; o < c->outputs; o++) {
            for (int64_t h = 0; h < s->dim[2]; h++) {
                for (int64_t v = 0; v < s->dim[3]; v++, i++) {
                    int64_t acc = accumulate(c, codes, w, bias != NULL ? bias[o] : 0, o,
                                             (struct window_at){image, h, v}, c->x.zero_point);
                    uint8_t want = requantize(acc, c->x.scale, w_scale[c->scales > 1 ? o : 0], y);
                    ck_assert_msg(got[i] == want, "element %zu: %d, want %d", i, got[i], want);
                }
            }
        }
    }
}

START_TEST(q_conv__any_scales__integers_computed_here)
{
    struct fixture fixture, *f = &fixture;
    struct qc_int_counts counts;
    struct conv_case c = cases[_i];
    size_t n = 0;
    c.f32_out = c.auto_pad = false;
    c.lo = c.hi = 0;
    c.x = U8(0.0173f, c.x.zero_point & 255);
    struct int_q y = {y_scale(&c, c.x.scale * 0.0091f) * 0.77f, c.y.zero_point & 255, QC_U8};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(2, c.channels, c.h, c.w));
    int out = conv_new(f, &c, qdq_new(f, x, c.x), 0.0091f);
    int_io(f, x, quantize_new(f, out, y));
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(counts.n_units, 1);
    const float *samples = int_samples(f, int_elements(f, x), c.x);
    uint8_t *codes = calloc(int_elements(f, x), 1);
    for (size_t i = 0; i < int_elements(f, x); i++) {
        codes[i] = (uint8_t)qc_quantize_value(samples[i], c.x.scale, c.x.zero_point, 0, 255);
    }
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        const uint8_t *got = int_run(f, (enum qc_isa)isa, samples, &n);
        expect_conv(f, &c, y, &f->g->nodes[1], codes, got);
    }
    free(codes);
    fixture_done(f);
}
END_TEST

/* ---- what is no unit stays f32 and still runs ---- */

enum refusal { WRONG_BIAS_SCALE, F32_BIAS, WRONG_AXIS, ONE_DIM, REFUSALS };

static void build_refused(struct fixture *f, const void *arg)
{
    enum refusal why = *(const enum refusal *)arg;
    struct int_q q = U8(0.5f, 10);
    bool flat = why == ONE_DIM;
    int x = value_new(f, QC_F32, flat ? SHAPE3(1, 4, 9) : SHAPE4(1, 4, 9, 9)), y = int_value(f);
    int w = constant_q_new(f, QC_S8, flat ? SHAPE3(4, 4, 3) : SHAPE4(4, 4, 3, 3), -99, 99, 0.25f,
                           4, why == WRONG_AXIS ? 1 : 0);
    int b = why == F32_BIAS ? constant_new(f, QC_F32, SHAPE1(4), NULL)
                            : constant_q_new(f, QC_S32, SHAPE1(4), -99, 99,
                                             why == WRONG_BIAS_SCALE ? 0.25f : 0.125f, 4, 0);
    NODE(f, QC_OP_CONV, y, qdq_new(f, x, q), w, b);
    int_io(f, x, qdq_new(f, y, U8(64.0f, 100)));
}

START_TEST(q_conv__what_is_no_unit__stays_f32)
{
    enum refusal why = (enum refusal)_i;
    struct int_want w = {.in = U8(0.5f, 10), .units = 0, .islands = 1};
    int_expect(build_refused, &why, &w);
}
END_TEST

/* ---- weights with a zero point that move into s8 ---- */

enum moved { S8_ZERO_POINTS, U8_ONE, U8_MANY, U8_NONE, GEMM_COLUMNS, MOVED };

static void build_moved(struct fixture *f, const void *arg)
{
    enum moved how = *(const enum moved *)arg;
    bool s8 = how == S8_ZERO_POINTS, gemm = how == GEMM_COLUMNS;
    int n = how == U8_ONE ? 1 : 5, axis = gemm ? 1 : 0;
    /* u8 in [100, 120]; without a zero point they are all positive */
    int w = constant_q_new(f, s8 ? QC_S8 : QC_U8, gemm ? SHAPE2(3, 5) : SHAPE4(5, 3, 3, 3),
                           s8 ? -90 : 100, s8 ? 110 : 120, 0.25f, n, axis);
    struct qc_node *dq = &f->g->nodes[0];
    if (how != U8_NONE) {
        static const int8_t zp_s8[5] = {20, -15, 0, 38, 3};
        static const uint8_t zp_u8[5] = {110, 128, 101, 228, 5};
        int in[3] = {dq->inputs[0], dq->inputs[1],
                     constant_new(f, s8 ? QC_S8 : QC_U8, n > 1 ? SHAPE1(n) : shape_of(0),
                                  s8 ? (const void *)zp_s8 : zp_u8)};
        dq->n_inputs = 3;
        OK(qd_arena_copy(&f->arena, in, sizeof(in), &dq->inputs, &f->err));
    }
    int x = value_new(f, QC_F32, gemm ? SHAPE2(40, 3) : SHAPE4(1, 3, 9, 9)), y = int_value(f);
    struct int_q q = U8(0.5f, 90);
    NODE(f, gemm ? QC_OP_MATMUL : QC_OP_CONV, y, qdq_new(f, x, q), w);
    int_io(f, x, qdq_new(f, y, U8(gemm ? 64.0f : 128.0f, 100)));
}

START_TEST(q_conv__weights_with_zero_points__codes_of_f32)
{
    enum moved how = (enum moved)_i;
    struct int_want w = {.in = U8(0.5f, 90), .units = 1};
    int_expect(build_moved, &how, &w);
}
END_TEST

Suite *test_int_conv_suite(void);
Suite *test_int_conv_suite(void)
{
    Suite *s = suite_create("int_conv");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, q_conv__powers_of_two__codes_of_f32, 0, (int)QD_COUNT_OF(cases));
    tcase_add_loop_test(tc, q_conv__any_scales__integers_computed_here, 0,
                        (int)QD_COUNT_OF(cases));
    tcase_add_loop_test(tc, q_conv__what_is_no_unit__stays_f32, 0, REFUSALS);
    tcase_add_loop_test(tc, q_conv__weights_with_zero_points__codes_of_f32, 0, MOVED);
    suite_add_tcase(s, tc);
    return s;
}
