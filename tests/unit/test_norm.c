/* Normalisations, reductions, LogSoftmax, GlobalMaxPool beside their definitions in double. */
#include "int_fixture.h"

Suite *test_norm_suite(void);

static void infer_all(struct fixture *f)
{
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
}

static void fails(struct fixture *f, const char *text)
{
    ck_assert_int_eq(qc_graph_infer_node(f->g, f->g->n_nodes - 1, &f->err), QD_INVALID);
    ck_assert_msg(strstr(f->err.message, text) != NULL, "'%s' lacks '%s'", f->err.message, text);
}

/* Element k of rows of `length`: (x - mean) / sqrt(var + epsilon) * scale + bias. */
static double normalised(const float *x, int length, int k, double epsilon, double scale,
                         double bias)
{
    const float *row = x + k / length * length;
    double mean = 0, var = 0;
    for (int i = 0; i < length; i++) {
        mean += (double)row[i] / length;
    }
    for (int i = 0; i < length; i++) {
        var += ((double)row[i] - mean) * ((double)row[i] - mean) / length;
    }
    return ((double)x[k] - mean) / sqrt(var + epsilon) * scale + bias;
}

START_TEST(exec__layer_norm__over_the_dims_behind_the_axis)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape shape = SHAPE3(2, 3, 8);
    int x = value_new(f, QC_F32, shape), y = int_value(f);
    int length = _i == 0 ? 8 : 24;
    int s = constant_new(f, QC_F32, _i == 0 ? SHAPE1(8) : SHAPE2(3, 8), NULL);
    int b = _i == 0 ? constant_new(f, QC_F32, SHAPE1(8), NULL) : -1;
    struct qc_node *n = NODE(f, QC_OP_LAYER_NORMALIZATION, y, x, s, b);
    attr_int(f, n, "axis", _i == 0 ? -1 : 1);
    attr_float(f, n, "epsilon", 0.01f);
    infer_all(f);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int k = 0; k < 48; k++) {
        double bias = b >= 0 ? (double)constant_f32(f, b)[k % 8] : 0;
        double want = normalised(data, length, k, (double)0.01f,
                                 (double)constant_f32(f, s)[k % length], bias);
        ck_assert_double_eq_tol((double)got[k], want, 1e-6);
    }
    NODE(f, QC_OP_LAYER_NORMALIZATION, int_value(f), x, constant_new(f, QC_F32, SHAPE1(3), NULL));
    fails(f, "[3] does not broadcast to [8]");
    fixture_done(f);
}
END_TEST

/* Groups of 2 of 6 channels; of 1: InstanceNormalization. */
START_TEST(exec__group_and_instance_norm__have_parameters_a_channel)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape shape = SHAPE4(2, 6, 2, 5);
    int x = value_new(f, QC_F32, shape), y = int_value(f), channels = _i == 0 ? 2 : 1;
    int s = constant_new(f, QC_F32, SHAPE1(6), NULL), b = constant_new(f, QC_F32, SHAPE1(6), NULL);
    int op = _i == 0 ? QC_OP_GROUP_NORMALIZATION : QC_OP_INSTANCE_NORMALIZATION;
    struct qc_node *n = NODE(f, op, y, x, s, b);
    if (_i == 0) {
        attr_int(f, n, "num_groups", 3);
    }
    infer_all(f);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int k = 0; k < 120; k++) {
        int c = k / 10 % 6;
        double want = normalised(data, channels * 10, k, (double)1e-5f,
                                 (double)constant_f32(f, s)[c], (double)constant_f32(f, b)[c]);
        ck_assert_double_eq_tol((double)got[k], want, 2e-6);
    }
    attr_int(f, NODE(f, QC_OP_GROUP_NORMALIZATION, int_value(f), x, s, b), "num_groups", 4);
    fails(f, "num_groups = 4 does not divide 6 channels");
    NODE(f, QC_OP_INSTANCE_NORMALIZATION, int_value(f), x, s,
         constant_new(f, QC_F32, SHAPE1(5), NULL));
    fails(f, "[5] is not [6]");
    fixture_done(f);
}
END_TEST

START_TEST(exec__lrn__divides_by_the_neighbours)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape shape = SHAPE4(1, 7, 2, 3);
    int x = value_new(f, QC_F32, shape), y = int_value(f), size = 4;
    struct qc_node *n = NODE(f, QC_OP_LRN, y, x);
    attr_int(f, n, "size", size);
    attr_float(f, n, "alpha", 0.5f);
    infer_all(f);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int k = 0; k < 42; k++) {
        double sum = 0;
        for (int c = k / 6 - 1; c <= k / 6 + 2; c++) { /* floor and ceil of (size - 1) / 2 */
            double v = c >= 0 && c < 7 ? (double)data[c * 6 + k % 6] : 0;
            sum += v * v;
        }
        double want = (double)data[k] / pow(1 + 0.5 / size * sum, 0.75);
        ck_assert_double_eq_tol((double)got[k], want, 1e-6);
    }
    attr_int(f, NODE(f, QC_OP_LRN, int_value(f), x), "size", INT64_MAX);
    fails(f, "size = 9223372036854775807 is outside");
    fixture_done(f);
}
END_TEST

START_TEST(exec__reductions__over_the_axes)
{
    static const int ops[] = {QC_OP_REDUCE_MEAN, QC_OP_REDUCE_SUM, QC_OP_REDUCE_MAX,
                              QC_OP_REDUCE_MIN, QC_OP_REDUCE_L2};
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    struct qc_shape shape = SHAPE3(2, 5, 3);
    int x = value_new(f, QC_F32, shape), y = int_value(f);
    struct qc_node *n = NODE(f, ops[_i], y, x, constant_new(f, QC_S64, SHAPE1(1), (int64_t[]){-2}));
    attr_int(f, n, "keepdims", 0);
    infer_all(f);
    ck_assert_int_eq(f->g->values[y].shape.rank, 2);
    const float *data = tensor_new(f, QC_F32, shape, NULL)->data;
    const float *got = run_one(f, x, y, data);
    for (int k = 0; k < 6; k++) {
        double sum = 0, squares = 0, least = (double)INFINITY, most = -least;
        for (int i = 0; i < 5; i++) {
            double v = (double)data[k / 3 * 15 + i * 3 + k % 3];
            sum += v;
            squares += v * v;
            least = fmin(least, v);
            most = fmax(most, v);
        }
        const double want[5] = {sum / 5, sum, most, least, sqrt(squares)};
        ck_assert_double_eq_tol((double)got[k], want[_i], 1e-6);
    }
    fixture_done(f);
}
END_TEST

START_TEST(exec__log_softmax__is_the_logarithm)
{
    struct fixture fixture, *f = &fixture;
    float data[4] = {1000, 998.5f, 999, 0};
    fixture_init(f);
    int x = value_new(f, QC_F32, SHAPE2(1, 4)), y = int_value(f);
    NODE(f, QC_OP_LOG_SOFTMAX, y, x);
    infer_all(f);
    const float *got = run_one(f, x, y, data);
    double sum = 1 + exp(-1.5) + exp(-1);
    for (int i = 0; i < 4; i++) {
        ck_assert_double_eq_tol((double)got[i], (double)data[i] - 1000 - log(sum), 1e-4);
    }
    fixture_done(f);
}
END_TEST

static void build_pool(struct fixture *f, const void *arg)
{
    (void)arg;
    struct int_q q = U8(0.043f, 77);
    int x = value_new(f, QC_F32, SHAPE4(1, 20, 6, 5)), y = int_value(f);
    NODE(f, QC_OP_GLOBAL_MAX_POOL, y, qdq_new(f, x, q));
    int_io(f, x, qdq_new(f, y, q));
}

START_TEST(int_plan__global_max_pool__runs_on_codes)
{
    struct int_want w = {.in = U8(0.043f, 77), .units = 1, .may_saturate = true};
    int_expect(build_pool, NULL, &w);
}
END_TEST

Suite *test_norm_suite(void)
{
    Suite *suite = suite_create("test_norm");
    TCase *tcase = tcase_create("norm");
    tcase_add_loop_test(tcase, exec__layer_norm__over_the_dims_behind_the_axis, 0, 2);
    tcase_add_loop_test(tcase, exec__group_and_instance_norm__have_parameters_a_channel, 0, 2);
    tcase_add_test(tcase, exec__lrn__divides_by_the_neighbours);
    tcase_add_loop_test(tcase, exec__reductions__over_the_axes, 0, 5);
    tcase_add_test(tcase, exec__log_softmax__is_the_logarithm);
    tcase_add_test(tcase, int_plan__global_max_pool__runs_on_codes);
    suite_add_tcase(suite, tcase);
    return suite;
}
