#include "tests/unit/exec_fixture.h"

Suite *test_exec_conv_suite(void);

struct conv_case {
    int n, c, h, w, o, kh, kw, group;
    int sh, sw, dh, dw, pt, pl, pb, pr;
    bool bias, clamp, chain, weights_are_data;
    const char *auto_pad;
};

static const struct conv_case cases[] = {
    {1, 3, 8, 9, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, false, false, false, NULL},
    {2, 17, 7, 7, 33, 3, 3, 1, 2, 2, 1, 1, 1, 1, 1, 1, true, true, false, false, NULL},
    {1, 4, 9, 6, 70, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, false, false, false, false, NULL},
    {1, 8, 10, 10, 8, 3, 3, 8, 1, 1, 1, 1, 1, 1, 1, 1, true, true, false, false, NULL},
    {2, 67, 7, 5, 67, 5, 3, 67, 2, 1, 1, 1, 2, 1, 2, 1, true, false, false, false, NULL},
    {1, 12, 6, 6, 8, 3, 3, 4, 1, 1, 1, 1, 1, 1, 1, 1, true, false, false, false, NULL},
    {1, 4, 6, 6, 8, 3, 3, 4, 1, 1, 1, 1, 1, 1, 1, 1, true, false, false, false, NULL},
    {1, 3, 12, 12, 4, 3, 3, 1, 1, 1, 2, 3, 2, 3, 2, 3, true, false, false, false, NULL},
    {1, 3, 8, 8, 4, 4, 2, 1, 3, 2, 1, 1, 0, 1, 2, 0, true, false, false, false, NULL},
    {1, 5, 11, 11, 6, 3, 3, 1, 2, 2, 1, 1, 0, 0, 0, 0, true, false, false, false, "SAME_UPPER"},
    {1, 5, 10, 10, 6, 3, 3, 1, 2, 2, 1, 1, 0, 0, 0, 0, true, false, false, false, "SAME_LOWER"},
    {1, 5, 10, 10, 6, 3, 3, 1, 2, 2, 1, 1, 0, 0, 0, 0, true, false, false, false, "VALID"},
    {1, 3, 8, 9, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, false, true, false, NULL},
    {1, 8, 8, 9, 8, 3, 3, 8, 2, 2, 1, 1, 1, 1, 1, 1, true, true, true, false, NULL},
    {1, 3, 6, 6, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, false, false, true, NULL},
    /* enough channels that the columns at the border are told apart */
    {2, 32, 9, 7, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, true, false, false, NULL},
    /* 2 x 2 outputs at once: odd and even sizes, each kind of border, blocks of tiles */
    {1, 33, 14, 15, 35, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, false, false, false, NULL},
    {1, 48, 5, 6, 32, 3, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0, false, false, false, false, NULL},
    {1, 32, 8, 7, 70, 3, 3, 1, 1, 1, 1, 1, 2, 0, 1, 2, true, true, true, false, NULL},
    {2, 36, 2, 3, 40, 3, 3, 1, 1, 1, 1, 1, 0, 0, 0, 0, true, false, false, false, "SAME_LOWER"},
    {1, 32, 30, 28, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, true, false, false, NULL},
    {1, 32, 9, 7, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, true, true, false, true, NULL},
    {1, 35, 12, 11, 9, 5, 5, 1, 1, 1, 1, 1, 2, 2, 2, 2, true, false, false, false, NULL},
    {1, 32, 13, 12, 8, 3, 3, 1, 2, 2, 1, 1, 1, 1, 1, 1, false, false, false, false, NULL},
    {1, 64, 9, 8, 34, 3, 3, 2, 1, 1, 1, 3, 1, 3, 1, 3, true, false, false, false, NULL},
    {1, 32, 6, 3, 8, 1, 7, 1, 1, 1, 1, 1, 0, 3, 0, 3, true, false, false, true, NULL},
    {1, 32, 10, 9, 6, 2, 4, 1, 1, 1, 2, 1, 0, 0, 0, 0, true, false, false, false, "SAME_UPPER"},
};

static int out_dim(int in, int k, int s, int d, int p0, int p1)
{
    return (in + p0 + p1 - (k - 1) * d - 1) / s + 1;
}

/* What auto_pad means: fills the case's pads. */
static void resolve_pads(struct conv_case *c)
{
    if (c->auto_pad == NULL || c->auto_pad[0] != 'S') {
        return;
    }
    int th = ((c->h + c->sh - 1) / c->sh - 1) * c->sh + (c->kh - 1) * c->dh + 1 - c->h;
    int tw = ((c->w + c->sw - 1) / c->sw - 1) * c->sw + (c->kw - 1) * c->dw + 1 - c->w;
    th = th > 0 ? th : 0;
    tw = tw > 0 ? tw : 0;
    bool upper = strcmp(c->auto_pad, "SAME_UPPER") == 0;
    c->pt = upper ? th / 2 : th - th / 2;
    c->pb = th - c->pt;
    c->pl = upper ? tw / 2 : tw - tw / 2;
    c->pr = tw - c->pl;
}

/* What adds up inputs before it multiplies: exec_winograd.h. */
static bool rounds_otherwise(const struct conv_case *c)
{
    return c->kh == 3 && c->kw == 3 && c->sh == 1 && c->sw == 1 && c->dh == 1 && c->dw == 1 &&
           c->group == 1 && c->c >= 32 && c->o >= 32 && !c->weights_are_data;
}

/* The same order of sums as the kernels: bias, taps, channels. size: of all that is added up. */
static float naive_at(const struct conv_case *c, const float *x, const float *w, const float *b,
                      int n, int o, int oh, int ow, float *size)
{
    int cg = c->c / c->group, g = o / (c->o / c->group);
    float acc = b != NULL ? b[o] : 0.0f;
    *size = fabsf(acc);
    for (int kh = 0; kh < c->kh; kh++) {
        for (int kw = 0; kw < c->kw; kw++) {
            int ih = oh * c->sh - c->pt + kh * c->dh, iw = ow * c->sw - c->pl + kw * c->dw;
            for (int i = 0; i < cg; i++) {
                bool in = ih >= 0 && ih < c->h && iw >= 0 && iw < c->w;
                float v = in ? x[((n * c->c + g * cg + i) * c->h + ih) * c->w + iw] : 0.0f;
                float weight = w[((o * cg + i) * c->kh + kh) * c->kw + kw];
                acc = fmaf(v, weight, acc);
                *size += fabsf(v * weight);
            }
        }
    }
    return c->clamp ? (acc < -0.5f ? -0.5f : (acc > 0.6f ? 0.6f : acc)) : acc;
}

static void check_conv(const struct conv_case *c, const float *x, const float *w, const float *b,
                       const float *y, int oh, int ow, bool relu)
{
    for (int n = 0; n < c->n; n++) {
        for (int o = 0; o < c->o; o++) {
            for (int i = 0; i < oh * ow; i++) {
                float size, expect = naive_at(c, x, w, b, n, o, i / ow, i % ow, &size);
                float room = rounds_otherwise(c) ? 5e-7f * size : 0.0f;
                expect = relu && expect < 0.0f ? 0.0f : expect;
                float got = y[(n * c->o + o) * oh * ow + i];
                ck_assert_msg(fabsf(got - expect) <= room, "n %d o %d pixel %d: %.9g, not %.9g", n, o, i,
                              (double)got, (double)expect);
            }
        }
    }
}

START_TEST(qc_exec_run__conv__equals_the_naive_sum)
{
    struct fixture fixture, *f = &fixture;
    struct conv_case c = cases[_i];
    fixture_init(f);
    resolve_pads(&c);
    int oh = out_dim(c.h, c.kh, c.sh, c.dh, c.pt, c.pb);
    int ow = out_dim(c.w, c.kw, c.sw, c.dw, c.pl, c.pr);
    int x = value_new(f, QC_F32, SHAPE4(c.n, c.c, c.h, c.w));
    struct qc_tensor *data = tensor_new(f, QC_F32, SHAPE4(c.n, c.c, c.h, c.w), NULL);
    int w = constant_new(f, QC_F32, SHAPE4(c.o, c.c / c.group, c.kh, c.kw), NULL);
    int b = c.bias ? constant_new(f, QC_F32, SHAPE1(c.o), NULL) : -1;
    const float *weights = constant_f32(f, w);
    int used = w;
    if (c.weights_are_data) { /* packed at every run: behind an operator that is not folded */
        used = value_new(f, QC_F32, SHAPE4(c.o, c.c / c.group, c.kh, c.kw));
        NODE(f, QC_OP_IDENTITY, used, w);
    }
    int y = value_new(f, QC_F32, SHAPE4(c.n, c.o, oh, ow));
    struct qc_node *n = NODE(f, QC_OP_CONV, y, x, used, b);
    attr_int(f, n, "group", c.group);
    INTS(f, n, "strides", c.sh, c.sw);
    INTS(f, n, "dilations", c.dh, c.dw);
    if (c.auto_pad != NULL) {
        attr_string(f, n, "auto_pad", c.auto_pad);
    } else {
        INTS(f, n, "pads", c.pt, c.pl, c.pb, c.pr);
    }
    n->clamp = (struct qc_clamp){c.clamp, -0.5f, 0.6f};
    if (c.chain) {
        int r = value_new(f, QC_F32, f->g->values[y].shape);
        NODE(f, QC_OP_RELU, r, y);
        y = r;
    }
    const float *got = run_one(f, x, y, data->data);
    check_conv(&c, data->data, weights, b >= 0 ? constant_f32(f, b) : NULL, got, oh, ow, c.chain);
    fixture_done(f);
}
END_TEST

/* A convolution whose sums have another order than tap by tap has one order on every machine. */
START_TEST(qc_exec_run__conv_by_tiles__same_bits_on_every_isa)
{
    struct fixture fixture, *f = &fixture;
    static float ref[40 * 17 * 15], got[40 * 17 * 15];
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE4(1, 37, 17, 15));
    struct qc_tensor *data = tensor_new(f, QC_F32, SHAPE4(1, 37, 17, 15), NULL);
    const void *inputs[] = {data->data};
    int w = constant_new(f, QC_F32, SHAPE4(40, 37, 3, 3), NULL);
    int b = constant_new(f, QC_F32, SHAPE1(40), NULL);
    int y = value_new(f, QC_F32, SHAPE4(1, 40, 17, 15));
    struct qc_node *n = NODE(f, QC_OP_CONV, y, x, w, b);
    INTS(f, n, "pads", 1, 1, 1, 1);
    graph_io(f, 1, &x, 1, &y);
    for (int isa = QC_ISA_REF; isa < QC_ISA_COUNT; isa++) {
        if (qc_isa_supported((enum qc_isa)isa)) {
            run_graph_on(f, (enum qc_isa)isa, inputs, isa == QC_ISA_REF ? ref : got);
            ck_assert(isa == QC_ISA_REF || memcmp(ref, got, sizeof(ref)) == 0);
        }
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_run__conv_of_one_dim__equals_the_naive_sum)
{
    struct fixture fixture, *f = &fixture;
    struct conv_case c = {2, 3, 1, 11, 4, 1,    3,     1,     1,     2,   1,
                          1, 0, 1, 0,  1, true, false, false, false, NULL};
    fixture_init(f);
    int ow = out_dim(c.w, c.kw, c.sw, c.dw, c.pl, c.pr);
    int x = value_new(f, QC_F32, SHAPE3(c.n, c.c, c.w));
    struct qc_tensor *data = tensor_new(f, QC_F32, SHAPE3(c.n, c.c, c.w), NULL);
    int w = constant_new(f, QC_F32, SHAPE3(c.o, c.c, c.kw), NULL);
    int b = constant_new(f, QC_F32, SHAPE1(c.o), NULL);
    int y = value_new(f, QC_F32, SHAPE3(c.n, c.o, ow));
    struct qc_node *n = NODE(f, QC_OP_CONV, y, x, w, b);
    INTS(f, n, "strides", 2);
    INTS(f, n, "pads", 1, 1);
    const float *got = run_one(f, x, y, data->data);
    check_conv(&c, data->data, constant_f32(f, w), constant_f32(f, b), got, 1, ow, false);
    fixture_done(f);
}
END_TEST

/* Two convolutions with different pads read one value: the border is the larger one; the sum of
 * both goes through a pool into a Gemm. */
START_TEST(qc_exec_run__residual_network__equals_the_naive_sum)
{
    struct fixture fixture, *f = &fixture;
    struct conv_case a = {1, 6, 8, 8, 6, 5,    5,     1,     1,     1,   1,
                          1, 2, 2, 2, 2, true, false, false, false, NULL};
    struct conv_case d = {1, 6, 8, 8, 6, 3,    3,     6,     1,     1,   1,
                          1, 1, 1, 1, 1, true, false, false, false, NULL};
    float expect[6], sum, size;
    fixture_init(f);
    struct qc_shape shape = SHAPE4(1, 6, 8, 8);
    int x = value_new(f, QC_F32, shape), ya = value_new(f, QC_F32, shape);
    int yd = value_new(f, QC_F32, shape), s = value_new(f, QC_F32, shape);
    struct qc_tensor *data = tensor_new(f, QC_F32, shape, NULL);
    int wa = constant_new(f, QC_F32, SHAPE4(6, 6, 5, 5), NULL);
    int wd = constant_new(f, QC_F32, SHAPE4(6, 1, 3, 3), NULL);
    int b = constant_new(f, QC_F32, SHAPE1(6), NULL);
    int p = value_new(f, QC_F32, SHAPE4(1, 6, 1, 1)), flat = value_new(f, QC_F32, SHAPE2(1, 6));
    struct qc_node *n = NODE(f, QC_OP_CONV, ya, x, wa, b);
    INTS(f, n, "pads", 2, 2, 2, 2);
    n = NODE(f, QC_OP_CONV, yd, x, wd, b);
    INTS(f, n, "pads", 1, 1, 1, 1);
    attr_int(f, n, "group", 6);
    NODE(f, QC_OP_ADD, s, ya, yd);
    NODE(f, QC_OP_GLOBAL_AVERAGE_POOL, p, s);
    NODE(f, QC_OP_FLATTEN, flat, p);
    const float *got = run_one(f, x, flat, data->data);
    for (int o = 0; o < 6; o++) {
        sum = 0.0f;
        for (int i = 0; i < 64; i++) {
            float t = naive_at(&a, data->data, constant_f32(f, wa), constant_f32(f, b), 0, o,
                               i / 8, i % 8, &size) +
                      naive_at(&d, data->data, constant_f32(f, wd), constant_f32(f, b), 0, o,
                               i / 8, i % 8, &size);
            sum = i == 0 ? t : sum + t;
        }
        expect[o] = sum / 64.0f;
        ck_assert_msg(got[o] == expect[o], "%d: %.9g, not %.9g", o, (double)got[o],
                      (double)expect[o]);
    }
    fixture_done(f);
}
END_TEST

START_TEST(qc_exec_build__conv_window_larger_than_input__is_refused)
{
    struct fixture fixture, *f = &fixture;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    fixture_init(f);
    qc_kernels_init(&kernels, QC_ISA_REF);
    int x = value_new(f, QC_F32, SHAPE4(1, 2, 4, 4)),
        y = value_new(f, QC_F32, SHAPE4(1, 2, 4, 4));
    int w = constant_new(f, QC_F32, SHAPE4(2, 2, 3, 3), NULL);
    NODE(f, QC_OP_CONV, y, x, w);
    graph_io(f, 1, &x, 1, &y);
    struct qc_exec_options options = {.kernels = &kernels};
    ck_assert_int_eq(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(f->err.message, "window"));
    fixture_done(f);
}
END_TEST

Suite *test_exec_conv_suite(void)
{
    Suite *suite = suite_create("test_exec_conv");
    TCase *c = tcase_create("conv");
    tcase_add_loop_test(c, qc_exec_run__conv__equals_the_naive_sum, 0, (int)QD_COUNT_OF(cases));
    tcase_add_test(c, qc_exec_run__conv_by_tiles__same_bits_on_every_isa);
    tcase_add_test(c, qc_exec_run__conv_of_one_dim__equals_the_naive_sum);
    tcase_add_test(c, qc_exec_run__residual_network__equals_the_naive_sum);
    tcase_add_test(c, qc_exec_build__conv_window_larger_than_input__is_refused);
    suite_add_tcase(suite, c);
    return suite;
}
