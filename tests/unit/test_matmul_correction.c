/* A MatMul's weights' rounding error, taken out in the Add behind it. */
#include <math.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/quant/bias_correction.h"
#include "quantcore/quant/quantize_dynamic.h"
#include "quantcore/quant/quantize_graph.h"
#include "quantcore/quant/quantize_weight_only.h"
#include "quantcore/quantcore.h"
#include "test_graph_build.h"
#include "tests/lib/data_files.h"

Suite *test_matmul_correction_suite(void);

/* ---- one layer, by hand ------------------------------------------------------------------- */

/* Column 0 has the scale 0.01: 1.27 is a code, 0.503 becomes 0.50. Column 1 has 0.02: -2.54 is
 * one, 0.711 becomes 0.72. With E[x] = (2, 10) the shifts are -0.03 and 0.09. */
static const float by_hand[4] = {1.27f, -2.54f, 0.503f, 0.711f};
static const double means_by_hand[2] = {2, 10};
static const float bias[2] = {1.0f, -1.0f};
static const float corrected[2] = {1.03f, -1.09f};

static int floats(struct tg *t, const char *name, const float *x, int rank, int a, int b, int c)
{
    int v;
    struct qc_tensor *tensor = tg_tensor(t, QC_F32, rank, (int64_t[]){a, b, c});
    memcpy(tensor->data, x, qc_shape_elements(&tensor->shape) * sizeof(float));
    ck_assert_int_eq(qc_graph_add_constant(t->g, name, tensor, &v, &t->err), QD_OK);
    return v;
}

struct layer {
    struct tg t;
    int x, w, b, product, add; /* values; product is node 0 */
};

enum variant {
    PLAIN, SWAPPED, ROW_OF_RANK_3, /* corrected */
    SHARED, READ_TWICE, IS_OUTPUT, CLAMPED, ONE_NUMBER, COLUMN, OF_DATA, BESIDE_CONV, N_VARIANTS
};

static void build_layer(struct layer *l, enum variant how)
{
    struct tg *t = &l->t;
    tg_init(t);
    l->x = tg_input(t, "x", 3, -1, 2, 2);
    l->w = floats(t, "w", by_hand, 2, 2, 2, 0);
    l->b = how == ROW_OF_RANK_3 ? floats(t, "b", bias, 3, 1, 1, 2)
           : how == COLUMN      ? floats(t, "b", bias, 2, 2, 1, 0)
                                : floats(t, "b", bias, 1, how == ONE_NUMBER ? 1 : 2, 0, 0);
    l->product = tg_node(t, "product", QC_OP_MATMUL, 2, l->x, l->w);
    t->g->nodes[0].clamp.present = how == CLAMPED;
    int added = how == OF_DATA ? tg_node(t, "relu", QC_OP_RELU, 1, l->x) : l->b;
    l->add = how == SWAPPED ? tg_node(t, "add", QC_OP_ADD, 2, added, l->product)
                            : tg_node(t, "add", QC_OP_ADD, 2, l->product, added);
    tg_output(t, l->add);
    if (how == SHARED) {
        tg_output(t, tg_node(t, "other", QC_OP_ADD, 2, l->x, l->b));
    } else if (how == READ_TWICE) {
        tg_output(t, tg_node(t, "other", QC_OP_RELU, 1, l->product));
    } else if (how == IS_OUTPUT) {
        tg_output(t, l->product);
    } else if (how == BESIDE_CONV) {
        tg_output(t, tg_node(t, "conv", QC_OP_CONV, 2, l->x, floats(t, "v", by_hand, 3, 2, 2, 1)));
    }
    tg_bind(t);
}

START_TEST(matmul_addend__variant__only_what_stands_for_a_bias)
{
    struct layer l;
    build_layer(&l, (enum variant)_i);
    bool fits = _i <= ROW_OF_RANK_3;
    ck_assert_int_eq(qc_matmul_addend(l.t.g, NULL, &l.t.g->nodes[0]), fits ? l.b : -1);
    struct qc_quantize_options o = {.dense_per_channel = true, .bias_correction = true};
    struct qc_quantize_plan *plan = NULL;
    ck_assert_int_eq(qc_quantize_plan_new(l.t.g, &o, &l.t.arena, &plan, &l.t.err), QD_OK);
    ck_assert(plan->integer[0]);
    ck_assert_int_eq(plan->channel_axis[l.x], fits ? 2 : _i == BESIDE_CONV ? 1 : -1);
    tg_done(&l.t);
}
END_TEST

static void check_addend(struct layer *l, const struct qc_graph *g, const float *want)
{
    const float *b = g->values[l->b].constant->data;
    ck_assert_float_eq_tol(b[0], want[0], 1e-6f);
    ck_assert_float_eq_tol(b[1], want[1], 1e-6f);
    ck_assert_str_eq(g->values[l->b].name, "b");
    ck_assert_mem_eq(l->t.g->values[l->b].constant->data, bias, sizeof(bias)); /* the f32 network */
}

static void check_quantized(struct layer *l, bool correct, bool shared)
{
    struct qc_quantize_options o = {.dense_per_channel = true, .bias_correction = correct};
    struct qc_quantize_plan *plan = NULL;
    struct qc_qparams *pairs = NULL;
    struct qc_quantized_graph *q = NULL;
    struct qc_range ranges[16];
    const double *means[16] = {NULL};
    int n_means[16] = {0};
    build_layer(l, shared ? SHARED : PLAIN);
    for (int v = 0; v < 16; v++) {
        ranges[v] = (struct qc_range){.lo = -1, .hi = 1};
    }
    means[l->x] = means_by_hand;
    n_means[l->x] = 2;
    struct tg *t = &l->t;
    ck_assert_int_eq(qc_quantize_plan_new(t->g, &o, &t->arena, &plan, &t->err), QD_OK);
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &t->arena, &pairs, &t->err), QD_OK);
    ck_assert_int_eq(qc_quantize_graph(plan, pairs, means, n_means, &t->arena, &q, &t->err),
                     QD_OK);
    check_addend(l, q->graph, correct && !shared ? corrected : bias);
}

START_TEST(quantize_graph__matmul_and_add__add_takes_the_correction)
{
    for (int kind = 0; kind < 3; kind++) {
        struct layer l;
        check_quantized(&l, kind != 1, kind == 2);
        tg_done(&l.t);
    }
}
END_TEST

START_TEST(modes__matmul_and_add__add_takes_the_correction)
{
    for (int known = 0; known < 2; known++) {
        struct layer l;
        struct qc_rewrite *r = NULL;
        const double *means[16] = {NULL};
        int n_means[16] = {0};
        build_layer(&l, PLAIN);
        means[l.x] = means_by_hand;
        n_means[l.x] = 2;
        struct qc_rewrite_options o = {.dense_per_channel = true,
                                       .channel_mean = known ? means : NULL,
                                       .n_channels = n_means};
        enum qd_code code = (_i ? qc_quantize_dynamic : qc_quantize_weight_only)(
            l.t.g, &o, &l.t.arena, &r, &l.t.err);
        ck_assert_msg(code == QD_OK, "%s", l.t.err.message);
        check_addend(&l, r->graph, known ? corrected : bias);
        tg_done(&l.t);
    }
}
END_TEST

/* ---- a network of them -------------------------------------------------------------------- */

enum { N_SAMPLES = 40, ROWS = 6, WIDTH = 32 };

static uint32_t seed;

static float noise(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)(seed >> 8) / (float)(1 << 23) - 1.0f;
}

/* Most are small and few are large, as in trained weights: the large ones set the scale. */
static int random_floats(struct tg *t, const char *name, int rank, int a, int b)
{
    float x[WIDTH * WIDTH];
    for (int i = 0; i < WIDTH * WIDTH; i++) {
        float u = noise();
        x[i] = u * u * u;
    }
    return floats(t, name, x, rank, a, b, 0);
}

static struct qd_bytes model_bytes(struct tg *t)
{
    struct qd_bytes bytes;
    seed = 5;
    int y = tg_input(t, "x", 3, -1, ROWS, WIDTH);
    for (int i = 0; i < 3; i++) {
        const char *names[] = {"p0", "p1", "p2", "a0", "a1", "a2", "r0", "r1", "r2"};
        const char *parameters[] = {"w0", "w1", "w2", "b0", "b1", "b2"};
        int w = random_floats(t, parameters[i], 2, WIDTH, WIDTH);
        int b = random_floats(t, parameters[3 + i], 1, WIDTH, 0);
        y = tg_node(t, names[i], QC_OP_MATMUL, 2, y, w);
        y = tg_node(t, names[3 + i], QC_OP_ADD, 2, b, y); /* as exporters write it */
        y = i < 2 ? tg_node(t, names[6 + i], QC_OP_RELU, 1, y) : y;
    }
    tg_output(t, y);
    tg_bind(t);
    t->g->opset = 13;
    ck_assert_int_eq(qc_onnx_export(t->g, &t->arena, &bytes, &t->err), QD_OK);
    return bytes;
}

/* What a Relu leaves: no negative numbers, a mean of its own in each channel. */
static struct qc_reader *samples(void)
{
    static float x[N_SAMPLES * ROWS * WIDTH];
    struct qc_reader *reader = NULL;
    struct qd_error err;
    seed = 31;
    for (int i = 0; i < N_SAMPLES * ROWS * WIDTH; i++) {
        x[i] = fmaxf(0, noise() + (float)(i % WIDTH % 5) * 0.25f);
    }
    struct test_bytes npy = test_npy("<f4", "False", "(40, 6, 32)", x, sizeof(x));
    char *path = test_write("rows.npy", npy.data, npy.size);
    struct qc_reader_input input = {.name = "x", .rank = 2, .dim = {ROWS, WIDTH}};
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    ck_assert_msg(qc_reader_open(path, "rows.npy", &options, &reader, &err) == QD_OK, "%s",
                  err.message);
    free(npy.data);
    free(path);
    return reader;
}

static double sqnr_of(enum qc_mode mode, bool correct)
{
    struct tg t;
    struct qd_bytes artifact;
    struct qc_report *report = NULL;
    struct qc_options options;
    tg_init(&t);
    struct qc_reader *reader = samples();
    struct qc_job job = {
        .model = model_bytes(&t), .calibration = reader, .threads = qc_threads_none()};
    qc_options_init(&options);
    options.mode = mode;
    options.bias_correction = correct;
    enum qd_code code = qc_quantize(&job, &options, &t.arena, &artifact, &report, &t.err);
    ck_assert_msg(code == QD_OK, "%s", t.err.message);
    double db = report->outputs[0].sqnr_db;
    qc_reader_free(reader);
    test_files_done();
    tg_done(&t);
    return db;
}

START_TEST(quantize__rows_through_matmul_add_relu__correction_is_worth_decibels)
{
    double before = sqnr_of((enum qc_mode)_i, false), after = sqnr_of((enum qc_mode)_i, true);
    ck_assert_msg(after > before + 0.5, "%g dB, corrected %g dB", before, after);
}
END_TEST

Suite *test_matmul_correction_suite(void)
{
    Suite *s = suite_create("matmul_correction");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, matmul_addend__variant__only_what_stands_for_a_bias, 0, N_VARIANTS);
    tcase_add_test(tc, quantize_graph__matmul_and_add__add_takes_the_correction);
    tcase_add_loop_test(tc, modes__matmul_and_add__add_takes_the_correction, 0, 2);
    tcase_add_loop_test(tc, quantize__rows_through_matmul_add_relu__correction_is_worth_decibels,
                        QC_MODE_STATIC, QC_MODE_DYNAMIC + 1);
    suite_add_tcase(s, tc);
    return s;
}
