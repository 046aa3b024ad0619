/* Weights with zero points of their own, a channel or a tensor: Conv (general, 1x1, grouped,
 * depthwise), Gemm and MatMul against plain sums of (q_x - z_x) (q_w - z_w), to the bit and with
 * every instruction set. */
#include <stdio.h>

#include "int_fixture.h"

#define X_SCALE 0.25f
#define W_SCALE 0.5f /* and the fixture's fractions of it: powers of two, no rounding */

/* The constants of the product as the model has them, found before planning changes them. */
struct model {
    const struct qc_tensor *w, *scale, *zero_point, *bias;
};

static int any_weights(struct fixture *f, struct qc_shape shape, int n_scales, int axis,
                       struct model *m)
{
    bool u8 = int_random(f, 0, 1) == 0;
    int w = constant_q_new(f, u8 ? QC_U8 : QC_S8, shape, u8 ? 0 : -128, u8 ? 255 : 127, W_SCALE,
                           n_scales, axis);
    if (!u8 || int_random(f, 0, 3) != 0) { /* u8 without zero points: they are 0, far from 128 */
        int_zero_points(f, u8 ? 0 : -128, u8 ? 255 : 127);
    }
    const struct qc_node *dq = &f->g->nodes[f->g->n_nodes - 1];
    m->w = f->g->values[dq->inputs[0]].constant;
    m->scale = f->g->values[dq->inputs[1]].constant;
    m->zero_point = dq->n_inputs > 2 ? f->g->values[dq->inputs[2]].constant : NULL;
    return w;
}

static int any_bias(struct fixture *f, int n, int n_scales, struct model *m)
{
    m->bias = NULL;
    if (int_random(f, 0, 2) == 0) {
        return -1;
    }
    int b = constant_q_new(f, QC_S32, SHAPE1(n), -99999, 99999, X_SCALE * W_SCALE, n_scales, 0);
    m->bias = f->g->values[f->g->nodes[f->g->n_nodes - 1].inputs[0]].constant;
    return b;
}

static int weight_at(const struct model *m, size_t i, size_t channel)
{
    size_t at = m->zero_point == NULL || qc_shape_elements(&m->zero_point->shape) == 1 ? 0
                                                                                       : channel;
    return (int)(qc_tensor_s64(m->w, i) -
                 (m->zero_point != NULL ? qc_tensor_s64(m->zero_point, at) : 0));
}

/* The unit's f32 output for a sum. */
static float output_of(const struct model *m, int64_t sum, size_t channel)
{
    size_t n = qc_shape_elements(&m->scale->shape);
    sum += m->bias != NULL ? qc_tensor_s64(m->bias, channel) : 0;
    return (float)(int32_t)sum *
           (X_SCALE * ((const float *)m->scale->data)[n == 1 ? 0 : channel]);
}

/* The input's codes, with the parameters of q. */
static int *codes_of(struct fixture *f, const float *x, size_t n, struct int_q q)
{
    int *codes = NULL;
    OK(qd_arena_array(&f->arena, n + 1, sizeof(*codes), &codes, &f->err));
    for (size_t i = 0; i < n; i++) {
        codes[i] = (int)(x[i] / q.scale) + q.zero_point; /* exact */
    }
    return codes;
}

/* Plans the network to one unit, runs it with every instruction set and compares the bits. */
static void expect_sums(struct fixture *f, const float *x, const float *want, size_t n,
                        const char *what)
{
    struct qc_int_counts counts;
    size_t size = 0;
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(counts.n_units, 1);
    ck_assert_int_eq(counts.n_f32_islands, 0);
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        const float *got = int_run(f, (enum qc_isa)isa, x, &size);
        ck_assert_uint_eq(size, n * sizeof(float));
        for (size_t i = 0; i < n; i++) {
            ck_assert_msg(got[i] == want[i], "%s, %s: element %zu of %zu: %a, want %a", what,
                          qc_isa_name((enum qc_isa)isa), i, n, (double)got[i], (double)want[i]);
        }
    }
}

static struct int_q any_input(struct fixture *f)
{
    bool u8 = int_random(f, 0, 1) == 0;
    return (struct int_q){X_SCALE, int_random(f, u8 ? 0 : -128, u8 ? 255 : 127),
                          u8 ? QC_U8 : QC_S8};
}

/* ---- Conv ---- */

struct conv {
    int n, c, h, w, out, group, kernel[2], stride[2], dilation[2], pads[4], y[2];
    struct int_q q;
};

enum form { GENERAL, ONE_BY_ONE, GROUPED, DEPTHWISE, FORMS };

static void draw_conv(struct fixture *f, enum form form, struct conv *c)
{
    static const int widths[] = {1, 3, 5, 8, 15, 16, 33, 64, 65};
    int drawn = widths[int_random(f, 0, (int)QD_COUNT_OF(widths) - 1)];
    *c = (struct conv){.n = int_random(f, 1, 2), .c = drawn, .out = int_random(f, 1, 70),
                       .group = 1, .q = any_input(f)};
    if (form == GROUPED) {
        c->group = int_random(f, 2, 4);
        c->c = c->group * (drawn % 18 + 1);
        c->out = c->group * int_random(f, 1, 35);
    } else if (form == DEPTHWISE) {
        c->c = c->group = c->out = drawn + 1;
    }
    c->h = int_random(f, 5, 9);
    c->w = int_random(f, 5, 9);
    for (int d = 0; d < 2; d++) {
        c->kernel[d] = form == ONE_BY_ONE ? 1 : int_random(f, 1, 3);
        c->stride[d] = int_random(f, 1, 3);
        c->dilation[d] = int_random(f, 1, 2);
        c->pads[d] = int_random(f, 0, 2);
        c->pads[d + 2] = int_random(f, 0, 2);
        c->y[d] = ((d == 0 ? c->h : c->w) + c->pads[d] + c->pads[d + 2] -
                   (c->kernel[d] - 1) * c->dilation[d] - 1) / c->stride[d] + 1;
    }
}

/* Sum at one output; what is outside the input is z_x, thus adds nothing. */
static int64_t conv_sum(const struct conv *c, const struct model *m, const int *codes, int image,
                        int o, int oh, int ow)
{
    int per_group = c->c / c->group, first = o / (c->out / c->group) * per_group;
    int64_t sum = 0;
    for (int k = 0; k < per_group; k++) {
        for (int i = 0; i < c->kernel[0] * c->kernel[1]; i++) {
            int h = oh * c->stride[0] - c->pads[0] + i / c->kernel[1] * c->dilation[0];
            int w = ow * c->stride[1] - c->pads[1] + i % c->kernel[1] * c->dilation[1];
            if (h < 0 || h >= c->h || w < 0 || w >= c->w) {
                continue;
            }
            int x = codes[((image * c->c + first + k) * c->h + h) * c->w + w];
            size_t at = (size_t)((o * per_group + k) * c->kernel[0] * c->kernel[1] + i);
            sum += (x - c->q.zero_point) * weight_at(m, at, (size_t)o);
        }
    }
    return sum;
}

static float *conv_wanted(struct fixture *f, const struct conv *c, const struct model *m,
                          const int *codes)
{
    float *want = NULL;
    size_t at = 0, n = (size_t)(c->n * c->out * c->y[0] * c->y[1]);
    OK(qd_arena_array(&f->arena, n, sizeof(*want), &want, &f->err));
    for (int image = 0; image < c->n; image++) {
        for (int o = 0; o < c->out; o++) {
            for (int p = 0; p < c->y[0] * c->y[1]; p++) {
                int64_t sum = conv_sum(c, m, codes, image, o, p / c->y[1], p % c->y[1]);
                want[at++] = output_of(m, sum, (size_t)o);
            }
        }
    }
    return want;
}

static void check_conv(enum form form, int seed)
{
    struct fixture fixture, *f = &fixture;
    struct conv c;
    struct model m;
    char what[64];
    fixture_init(f);
    f->random = 991u + 2654435761u * (uint32_t)(seed * FORMS + (int)form);
    draw_conv(f, form, &c);
    int n_scales = int_random(f, 0, 3) == 0 ? 1 : c.out;
    int w = any_weights(f, SHAPE4(c.out, c.c / c.group, c.kernel[0], c.kernel[1]), n_scales, 0,
                        &m);
    int b = any_bias(f, c.out, n_scales, &m);
    int x = value_new(f, QC_F32, SHAPE4(c.n, c.c, c.h, c.w)), y = int_value(f);
    struct qc_node *n = NODE(f, QC_OP_CONV, y, qdq_new(f, x, c.q), w, b);
    attr_int(f, n, "group", c.group);
    INTS(f, n, "pads", c.pads[0], c.pads[1], c.pads[2], c.pads[3]);
    INTS(f, n, "strides", c.stride[0], c.stride[1]);
    INTS(f, n, "dilations", c.dilation[0], c.dilation[1]);
    int_io(f, x, y);
    size_t elements = int_elements(f, x);
    const float *samples = int_samples(f, elements, c.q);
    const float *want = conv_wanted(f, &c, &m, codes_of(f, samples, elements, c.q));
    snprintf(what, sizeof(what), "form %d, seed %d", (int)form, seed);
    expect_sums(f, samples, want, int_elements(f, y), what);
    fixture_done(f);
}

START_TEST(q_conv__asymmetric_weights__plain_sums)
{
    for (int seed = 0; seed < 60; seed++) {
        check_conv((enum form)_i, seed);
    }
}
END_TEST

/* ---- Gemm and MatMul ---- */

static void check_gemm(int seed)
{
    static const int depths[] = {1, 3, 4, 17, 64, 100, 257};
    struct fixture fixture, *f = &fixture;
    struct model m = {.bias = NULL};
    char what[32];
    fixture_init(f);
    f->random = 5u + 2654435761u * (uint32_t)seed;
    int rows = int_random(f, 1, 30), k = depths[seed % (int)QD_COUNT_OF(depths)];
    int out = int_random(f, 1, 70), n_scales = int_random(f, 0, 2) == 0 ? 1 : out, b = -1;
    bool gemm = int_random(f, 0, 1) == 0, transposed = gemm && int_random(f, 0, 1) == 0;
    struct int_q q = any_input(f);
    int w = any_weights(f, transposed ? SHAPE2(out, k) : SHAPE2(k, out), n_scales,
                        transposed ? 0 : 1, &m);
    if (gemm) {
        b = any_bias(f, out, n_scales, &m);
    }
    int x = value_new(f, QC_F32, SHAPE2(rows, k)), y = int_value(f), in = qdq_new(f, x, q);
    struct qc_node *n = gemm ? NODE(f, QC_OP_GEMM, y, in, w, b) : NODE(f, QC_OP_MATMUL, y, in, w);
    if (gemm) {
        attr_int(f, n, "transB", transposed);
    }
    int_io(f, x, y);
    const float *samples = int_samples(f, (size_t)(rows * k), q);
    const int *codes = codes_of(f, samples, (size_t)(rows * k), q);
    float *want = NULL;
    OK(qd_arena_array(&f->arena, (size_t)(rows * out), sizeof(*want), &want, &f->err));
    for (int i = 0; i < rows * out; i++) {
        int64_t sum = 0;
        for (int j = 0; j < k; j++) {
            int o = i % out;
            sum += (codes[i / out * k + j] - q.zero_point) *
                   weight_at(&m, (size_t)(transposed ? o * k + j : j * out + o), (size_t)o);
        }
        want[i] = output_of(&m, sum, (size_t)(i % out));
    }
    snprintf(what, sizeof(what), "seed %d", seed);
    expect_sums(f, samples, want, (size_t)(rows * out), what);
    fixture_done(f);
}

START_TEST(q_gemm__asymmetric_weights__plain_sums)
{
    for (int seed = 0; seed < 70; seed++) {
        check_gemm(seed);
    }
}
END_TEST

/* ---- requantized, and what has no such form ---- */

static void build_requantized(struct fixture *f, const void *arg)
{
    bool depthwise = *(const bool *)arg;
    struct int_q q = U8(0.5f, 90);
    int x = value_new(f, QC_F32, SHAPE4(2, 40, 7, 7)), y = int_value(f);
    int w = constant_q_new(f, QC_S8, SHAPE4(40, depthwise ? 1 : 40, 3, 3), -128, 127, 0.25f, 40,
                           0);
    int_zero_points(f, -40, 40);
    struct qc_node *n = NODE(f, QC_OP_CONV, y, qdq_new(f, x, q), w);
    attr_int(f, n, "group", depthwise ? 40 : 1);
    INTS(f, n, "pads", 1, 1, 1, 1);
    n->clamp = (struct qc_clamp){true, 0.0f, 6000.0f};
    int_io(f, x, qdq_new(f, y, U8(depthwise ? 16.0f : 64.0f, 4)));
}

START_TEST(q_conv__asymmetric_weights_and_clamp__codes_of_f32)
{
    bool depthwise = _i == 1;
    struct int_want w = {.in = U8(0.5f, 90), .units = 1};
    int_expect(build_requantized, &depthwise, &w);
}
END_TEST

/* Zero points along the input channels would change the sum with every tap. */
static void build_wrong_axis(struct fixture *f, const void *arg)
{
    struct int_q q = U8(0.5f, 90);
    (void)arg;
    int x = value_new(f, QC_F32, SHAPE4(1, 4, 6, 6)), y = int_value(f);
    int w = constant_q_new(f, QC_S8, SHAPE4(4, 4, 3, 3), -128, 127, 0.25f, 4, 1);
    int_zero_points(f, -40, 40);
    NODE(f, QC_OP_CONV, y, qdq_new(f, x, q), w);
    int_io(f, x, qdq_new(f, y, U8(32.0f, 100)));
}

START_TEST(q_conv__zero_points_of_input_channels__stays_f32)
{
    struct int_want w = {.in = U8(0.5f, 90), .islands = 1};
    int_expect(build_wrong_axis, NULL, &w);
}
END_TEST

Suite *test_int_asym_suite(void);
Suite *test_int_asym_suite(void)
{
    Suite *s = suite_create("int_asym");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, q_conv__asymmetric_weights__plain_sums, 0, FORMS);
    tcase_add_test(tc, q_gemm__asymmetric_weights__plain_sums);
    tcase_add_loop_test(tc, q_conv__asymmetric_weights_and_clamp__codes_of_f32, 0, 2);
    tcase_add_test(tc, q_conv__zero_points_of_input_channels__stays_f32);
    suite_add_tcase(s, tc);
    return s;
}
