/* Q_GEMM: Gemm and MatMul with constant weights. */
#include "int_fixture.h"
#include "quantcore/affine/qparams.h"

struct gemm_case {
    int op, rows, depth, outputs;
    bool transposed, per_channel, bias, f32_out;
    struct int_q x, y;
    float lo, hi;          /* fused activation when lo < hi */
    struct qc_shape shape; /* MatMul: of the input; rank 0: [rows, depth] */
};

#define SIZE(r, k, n) .rows = r, .depth = k, .outputs = n
static const struct gemm_case cases[] = {
    {.op = QC_OP_GEMM,
     SIZE(1, 1, 70),
     .bias = true,
     .x = {0.5f, 3, QC_U8},
     .y = {16.0f, 128, QC_U8}},
    {.op = QC_OP_GEMM,
     SIZE(3, 64, 10),
     .transposed = true,
     .per_channel = true,
     .bias = true,
     .x = {0.5f, 0, QC_U8},
     .y = {64.0f, 24, QC_S8}},
    {.op = QC_OP_GEMM,
     SIZE(13, 67, 33),
     .per_channel = true,
     .bias = true,
     .x = {0.25f, 255, QC_U8},
     .y = {32.0f, 7, QC_U8}},
    {.op = QC_OP_GEMM,
     SIZE(5, 130, 65),
     .transposed = true,
     .x = {0.5f, -5, QC_S8},
     .y = {64.0f, -1, QC_S8}},
    {.op = QC_OP_GEMM,
     SIZE(2, 31, 12),
     .transposed = true,
     .per_channel = true,
     .bias = true,
     .f32_out = true,
     .x = {0.5f, 77, QC_U8},
     .lo = -200,
     .hi = 900},
    {.op = QC_OP_GEMM,
     SIZE(4, 9, 40),
     .per_channel = true,
     .bias = true,
     .x = {0.5f, 77, QC_U8},
     .y = {8.0f, 0, QC_U8},
     .lo = 0,
     .hi = 999},
    {.op = QC_OP_MATMUL,
     SIZE(6, 50, 31),
     .per_channel = true,
     .x = {0.5f, 99, QC_U8},
     .y = {64.0f, 130, QC_U8}},
    {.op = QC_OP_MATMUL,
     SIZE(24, 7, 32),
     .per_channel = true,
     .f32_out = true,
     .x = {0.5f, -128, QC_S8}},
    {.op = QC_OP_MATMUL,
     SIZE(24, 20, 5),
     .x = {0.5f, 12, QC_S8},
     .y = {32.0f, 1, QC_S8},
     .shape = {4, {2, 3, 4, 20}}},
};

static int gemm_new(struct fixture *f, const struct gemm_case *c, int x, float w_scale)
{
    struct qc_shape shape =
        c->transposed ? SHAPE2(c->outputs, c->depth) : SHAPE2(c->depth, c->outputs);
    int n = c->per_channel ? c->outputs : 1;
    int w = constant_q_new(f, QC_S8, shape, -127, 127, w_scale, n, c->transposed ? 0 : 1);
    int y = int_value(f), b = -1;
    if (c->bias) {
        b = constant_q_new(f, QC_S32, SHAPE1(c->outputs), -9000, 9000, c->x.scale * w_scale, n,
                           0);
    }
    struct qc_node *node =
        c->op == QC_OP_GEMM ? NODE(f, c->op, y, x, w, b) : NODE(f, c->op, y, x, w);
    if (c->op == QC_OP_GEMM) {
        attr_int(f, node, "transB", c->transposed);
    }
    if (c->lo < c->hi) {
        node->clamp = (struct qc_clamp){true, c->lo, c->hi};
    }
    return y;
}

static int gemm_input(struct fixture *f, const struct gemm_case *c)
{
    return value_new(f, QC_F32, c->shape.rank > 0 ? c->shape : SHAPE2(c->rows, c->depth));
}

static void build_gemm(struct fixture *f, const void *arg)
{
    const struct gemm_case *c = arg;
    int x = gemm_input(f, c);
    int y = gemm_new(f, c, qdq_new(f, x, c->x), 0.0625f);
    int_io(f, x, c->f32_out ? y : qdq_new(f, y, c->y));
}

START_TEST(q_gemm__powers_of_two__codes_of_f32)
{
    const struct gemm_case *c = &cases[_i];
    struct int_want w = {.in = c->x, .units = 1};
    int_expect(build_gemm, c, &w);
}
END_TEST

/* Other scales: the integers, computed here; the multiplier as ONNX Runtime has it. */
static void expect_gemm(const struct fixture *f, const struct gemm_case *c, const float *x,
                        const uint8_t *got)
{
    const struct qc_node *n = &f->g->nodes[1];
    const int8_t *w = f->g->values[n->inputs[3]].constant->data;
    const float *w_scale = f->g->values[n->inputs[4]].constant->data;
    const int32_t *bias = n->inputs[8] >= 0 ? f->g->values[n->inputs[8]].constant->data : NULL;
    for (int r = 0; r < c->rows; r++) {
        for (int o = 0; o < c->outputs; o++) {
            int64_t acc = bias != NULL ? bias[o] : 0;
            for (int k = 0; k < c->depth; k++) {
                int q =
                    qc_quantize_value(x[r * c->depth + k], c->x.scale, c->x.zero_point, 0, 255);
                acc += (int64_t)(q - c->x.zero_point) *
                       w[c->transposed ? o * c->depth + k : k * c->outputs + o];
            }
            float m = c->x.scale * w_scale[c->per_channel ? o : 0] / c->y.scale;
            float q = rintf((float)acc * m) + (float)c->y.zero_point;
            uint8_t want = (uint8_t)(q < 0 ? 0 : (q > 255 ? 255 : q));
            ck_assert_msg(got[r * c->outputs + o] == want, "row %d, output %d: %d, want %d", r, o,
                          got[r * c->outputs + o], want);
        }
    }
}

START_TEST(q_gemm__any_scales__integers_computed_here)
{
    struct fixture fixture, *f = &fixture;
    struct qc_int_counts counts;
    struct gemm_case c = cases[_i];
    size_t n = 0;
    c.lo = c.hi = 0;
    c.f32_out = false;
    c.x = U8(0.0371f, c.x.zero_point & 255);
    c.y = U8(c.x.scale * 0.0191f * 80.0f * sqrtf((float)c.depth), c.y.zero_point & 255);
    fixture_init(f);
    int x = gemm_input(f, &c);
    int_io(f, x, quantize_new(f, gemm_new(f, &c, qdq_new(f, x, c.x), 0.0191f), c.y));
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(counts.n_units, 1);
    const float *samples = int_samples(f, int_elements(f, x), c.x);
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        expect_gemm(f, &c, samples, int_run(f, (enum qc_isa)isa, samples, &n));
    }
    fixture_done(f);
}
END_TEST

/* ---- what is no unit stays f32 ---- */

enum refusal { ALPHA, BETA, TRANS_A, MATRIX_BIAS, WEIGHTS_OF_RANK_3, WRONG_AXIS, REFUSALS };

static void build_refused(struct fixture *f, const void *arg)
{
    enum refusal why = *(const enum refusal *)arg;
    struct int_q q = U8(0.5f, 10);
    bool deep = why == WEIGHTS_OF_RANK_3;
    int x = value_new(f, QC_F32, deep ? SHAPE3(2, 6, 6) : SHAPE2(6, 6)), y = int_value(f), b = -1;
    int w = constant_q_new(f, QC_S8, deep ? SHAPE3(2, 6, 6) : SHAPE2(6, 6), -99, 99, 0.25f, 6,
                           why == WRONG_AXIS ? 0 : (deep ? 2 : 1));
    if (why == MATRIX_BIAS) {
        b = constant_q_new(f, QC_S32, SHAPE2(6, 6), -99, 99, 0.125f, 1, 0);
    } else if (why == BETA) {
        b = constant_q_new(f, QC_S32, SHAPE1(6), -99, 99, 0.125f, 6, 0);
    }
    int in = qdq_new(f, x, q);
    struct qc_node *n = deep ? NODE(f, QC_OP_MATMUL, y, in, w) : NODE(f, QC_OP_GEMM, y, in, w, b);
    if (why == ALPHA) {
        attr_float(f, n, "alpha", 0.5f);
    } else if (why == BETA) {
        attr_float(f, n, "beta", 2.0f);
    } else if (why == TRANS_A) {
        attr_int(f, n, "transA", 1);
    }
    int_io(f, x, qdq_new(f, y, U8(64.0f, 100)));
}

START_TEST(q_gemm__what_is_no_unit__stays_f32)
{
    enum refusal why = (enum refusal)_i;
    struct int_want w = {.in = U8(0.5f, 10), .units = 0, .islands = 1};
    int_expect(build_refused, &why, &w);
}
END_TEST

Suite *test_int_gemm_suite(void);
Suite *test_int_gemm_suite(void)
{
    Suite *s = suite_create("int_gemm");
    TCase *tc = tcase_create("all");
    tcase_add_loop_test(tc, q_gemm__powers_of_two__codes_of_f32, 0, (int)QD_COUNT_OF(cases));
    tcase_add_loop_test(tc, q_gemm__any_scales__integers_computed_here, 0,
                        (int)QD_COUNT_OF(cases));
    tcase_add_loop_test(tc, q_gemm__what_is_no_unit__stays_f32, 0, REFUSALS);
    suite_add_tcase(s, tc);
    return s;
}
