/* Graphs as a hostile model could have them: any operator with any inputs, attributes of wrong
 * types and values. Inference and passes must answer with a result or a message, never crash
 * (the sanitizers watch), and what they accept must have sound shapes. */
#include "quantcore/passes/pass_bn_fold.h"
#include "quantcore/passes/pass_fuse_activation.h"
#include "quantcore/passes/pass_fuse_bias.h"
#include "quantcore/passes/pass_simplify.h"
#include "tests/unit/test_graph_build.h"

static uint64_t rng_state;

static unsigned rng(unsigned n)
{
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng_state >> 33) % n;
}

static int64_t any_int(void)
{
    static const int64_t values[] = {0,  1,  2,  3, 4,         -1,        -2,        8,
                                     16, -8, 64, 7, INT64_MAX, INT64_MIN, INT32_MAX, 1 << 30};
    /* Mostly small, or nothing would ever be accepted. */
    return rng(4) > 0 ? values[rng(5)] : values[rng(QD_COUNT_OF(values))];
}

static int any_value(struct tg *t)
{
    static const int64_t dims[] = {1, 2, 3, 4, 4, 1, 8, 0};
    static const enum qc_dtype types[] = {QC_F32, QC_F32, QC_F32, QC_S64, QC_S64, QC_S32, QC_U8};
    int64_t shape[QC_MAX_RANK];
    int rank = (int)rng(3) == 0 ? 1 : (int)rng(6);
    for (int i = 0; i < rank; i++) {
        shape[i] = dims[rng(QD_COUNT_OF(dims) - (rng(8) != 0))];
    }
    struct qc_tensor *tensor = tg_tensor(t, types[rng(QD_COUNT_OF(types))], rank, shape);
    for (size_t i = 0; i < qc_shape_elements(&tensor->shape); i++) {
        if (tensor->dtype == QC_S64) {
            ((int64_t *)tensor->data)[i] = any_int();
        } else if (tensor->dtype == QC_F32) {
            ((float *)tensor->data)[i] = (float)any_int() / 2;
        }
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t->g, "k", tensor, &v, &t->err), QD_OK);
    if (rng(3) == 0) {
        t->g->values[v].symbolic_elements = rng(4);
    }
    return v;
}

static void any_attr(struct tg *t)
{
    static const char *const names[] = {
        "axis",   "axes",  "pads",  "strides",    "dilations", "kernel_shape", "group",
        "perm",   "to",    "value", "value_ints", "keepdims",  "auto_pad",     "ceil_mode",
        "transA", "start", "end",   "mode",       "epsilon",   "transB",       "allowzero"};
    const char *name = names[rng(QD_COUNT_OF(names))];
    switch (rng(5)) {
    case 0:
        tg_attr_float(t, name, (float)any_int());
        return;
    case 1:
        tg_attr_string(t, name, rng(2) ? "SAME_UPPER" : "VALID");
        return;
    case 2:
        tg_attr_ints(t, name, (int)rng(10), (int)any_int(), (int)any_int(), (int)any_int(),
                     (int)any_int(), 0, 1, 2, 3, 0);
        return;
    case 3:
        tg_add_attr(t, (struct qc_attr){.name = name,
                                        .type = QC_ATTR_TENSOR,
                                        .tensor = t->g->values[any_value(t)].constant});
        return;
    default:
        tg_attr_int(t, name, any_int());
    }
}

static void any_node(struct tg *t, int *pool, int *n_pool)
{
    int op = (int)rng(QC_OP_COUNT);
    const struct qc_op_row *row = &qc_op_rows[op];
    int most = row->max_inputs < 9 ? row->max_inputs : 9;
    int n = row->min_inputs + (int)rng((unsigned)(most - row->min_inputs + 1));
    int y = tg_node(t, "n", op, 0);
    struct qc_node *node = &t->g->nodes[t->g->n_nodes - 1];
    int *inputs = NULL;
    ck_assert_int_eq(qd_arena_array(&t->arena, (size_t)n, sizeof *inputs, &inputs, &t->err),
                     QD_OK);
    for (int i = 0; i < n; i++) {
        inputs[i] = rng(12) == 0 ? -1 : rng(3) ? pool[rng((unsigned)*n_pool)] : any_value(t);
    }
    node->inputs = inputs;
    node->n_inputs = n;
    for (unsigned i = rng(5); i > 0; i--) {
        any_attr(t);
    }
    if (rng(20) == 0) {
        t->g->nodes[t->g->n_nodes - 1].outputs[0] = -1;
    } else {
        pool[(*n_pool)++] = y;
    }
}

static enum qd_code no_eval(struct qc_graph *g, int node, struct qd_arena *arena,
                            const struct qc_tensor **ret_outputs, struct qd_error *err)
{
    const struct qc_value *v = &g->values[g->nodes[node].outputs[0]];
    if (v->dtype != QC_S64 || rng(3) == 0) {
        return qd_fail(err, QD_UNSUPPORTED, "not now");
    }
    struct qc_tensor *out = NULL;
    QD_TRY(qc_tensor_new(arena, v->dtype, &v->shape, &out, err));
    for (size_t i = 0; i < qc_shape_elements(&v->shape); i++) {
        ((int64_t *)out->data)[i] = any_int();
    }
    ret_outputs[0] = out;
    return QD_OK;
}

static void check_sound(const struct qc_graph *g)
{
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_value *v = &g->values[g->nodes[i].outputs[0]];
        size_t count = 0;
        ck_assert(v->shape_known && v->dtype != QC_UNKNOWN);
        ck_assert(qc_shape_elements_checked(&v->shape, qc_dtype_size(v->dtype), &count));
        ck_assert_int_eq(v->symbolic_dims >> v->shape.rank, 0);
        ck_assert_int_eq(v->producer, i);
    }
}

static bool run_case(unsigned seed, int *ret_nodes)
{
    struct tg t;
    int pool[32], n_pool = 0;
    rng_state = seed;
    tg_init(&t);
    pool[n_pool++] = tg_input(&t, "x", 4, -1, 4, 8, 8);
    pool[n_pool++] = tg_input(&t, "y", 2, -1, 4);
    for (unsigned i = 1 + rng(4); i > 0; i--) {
        any_node(&t, pool, &n_pool);
    }
    tg_output(&t, pool[n_pool - 1]);
    t.err.message[0] = '\0';
    enum qd_code code = qc_pass_simplify_with(t.g, no_eval, &t.err);
    if (code == QD_OK) {
        code = qc_pass_fuse_bias(t.g, &t.err);
    }
    if (code == QD_OK) {
        code = qc_pass_bn_fold(t.g, &t.err);
    }
    if (code == QD_OK) {
        code = qc_pass_fuse_activation(t.g, &t.err);
    }
    if (code == QD_OK) {
        check_sound(t.g);
        *ret_nodes += t.g->n_nodes;
    } else {
        ck_assert_msg(t.err.message[0] != '\0', "seed %u: no message", seed);
        ck_assert_msg(code != QD_INTERNAL, "seed %u: %s", seed, t.err.message);
    }
    char *dump = NULL;
    ck_assert_int_eq(qc_graph_dump(t.g, &dump, &t.err), QD_OK);
    free(dump);
    tg_done(&t);
    return code == QD_OK;
}

START_TEST(passes__random_graphs__result_or_message)
{
    int accepted = 0, nodes = 0;
    for (unsigned seed = 1; seed <= 20000; seed++) {
        accepted += run_case(seed, &nodes);
    }
    /* The generator must reach both sides for the test to mean something. */
    ck_assert_int_gt(accepted, 1000);
    ck_assert_int_lt(accepted, 19000);
    ck_assert_int_gt(nodes, 500);
}
END_TEST

Suite *test_graph_random_suite(void);
Suite *test_graph_random_suite(void)
{
    Suite *s = suite_create("graph_random");
    TCase *c = tcase_create("graph_random");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, passes__random_graphs__result_or_message);
    suite_add_tcase(s, c);
    return s;
}
