/* ONNX's own node tests, as Debian packages them (libonnx-testdata), against import and exec.
 *
 * Every case whose model uses operators of the table alone must pass or stand in
 * tests/conformance/skipped.txt with its reason; a listed case that passes is a failure too, so
 * that the list stays true. QUANTD_ONNX_NODE_TESTS names another folder, and
 * QUANTD_CONFORMANCE_LIST another list. */
#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/exec/exec.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/onnx/onnx_tensor.h"

Suite *test_conformance_suite(void);

#define NODE_TESTS "/usr/share/libonnx-testdata/data/node"
#define SKIPPED "tests/conformance/skipped.txt"

enum { MAX_IO = 16, MAX_LISTED = 512, MAX_FILE = 64 << 20, MAX_PATH = 1024 };

enum verdict { OTHER, NEWER, PASSED, FAILED }; /* NEWER: an opset outside of ours */

struct conformance {
    const char *folder;
    char *list; /* the text, cut into strings */
    int n_listed, passed, failed_as_listed, other, wrong, programs;
    const char *name[MAX_LISTED], *reason[MAX_LISTED];
    bool seen[MAX_LISTED];
};

/* NULL when there is no such file. The caller frees. */
static uint8_t *read_file(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    ck_assert(size >= 0 && size <= MAX_FILE);
    rewind(file);
    uint8_t *data = malloc((size_t)size + 1);
    ck_assert_ptr_nonnull(data);
    ck_assert_uint_eq(fread(data, 1, (size_t)size, file), (size_t)size);
    data[size] = 0;
    (void)fclose(file);
    *ret_size = (size_t)size;
    return data;
}

/* Whether the case is ours to pass: operators of the table, opset in range (PASSED so far). */
static enum verdict is_ours(const uint8_t *data, size_t size)
{
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, size, data);
    ck_assert_ptr_nonnull(model);
    bool ours = model->graph != NULL && model->graph->n_node > 0, in_range = true;
    for (size_t i = 0; i < model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *opset = model->opset_import[i];
        bool onnx = opset->domain == NULL || opset->domain[0] == '\0';
        in_range &= !onnx || (opset->version >= QC_OPSET_MIN && opset->version <= QC_OPSET_MAX);
    }
    for (size_t i = 0; ours && i < model->graph->n_node; i++) {
        const Onnx__NodeProto *node = model->graph->node[i];
        ours = qc_op_find(node->op_type, node->domain) >= 0;
    }
    onnx__model_proto__free_unpacked(model, NULL);
    return !ours ? OTHER : in_range ? PASSED : NEWER;
}

/* NULL without an error when there is no such file. */
static enum qd_code load(const char *dir, const char *kind, int k, struct qd_arena *arena,
                         struct qc_tensor **ret, struct qd_error *err)
{
    char path[2 * MAX_PATH];
    size_t size = 0;
    (void)snprintf(path, sizeof(path), "%s/test_data_set_0/%s_%d.pb", dir, kind, k);
    uint8_t *data = read_file(path, &size);
    *ret = NULL;
    if (data == NULL) {
        return QD_OK;
    }
    enum qd_code code = qc_onnx_read_tensor((struct qd_bytes){data, size}, arena, ret, err);
    free(data);
    return code == QD_OK ? QD_OK : qd_wrap(err, code, "%s_%d.pb", kind, k);
}

static bool is_float(enum qc_dtype dtype)
{
    return dtype == QC_F32 || dtype == QC_F64 || dtype == QC_F16;
}

static enum qd_code compare(const struct qc_tensor *got, const struct qc_tensor *expect, int k,
                            struct qd_error *err)
{
    char a[128], b[128];
    if (got->dtype != expect->dtype || !qc_shape_equal(&got->shape, &expect->shape)) {
        return qd_fail(err, QD_INTERNAL, "output %d is %s%s, not %s%s", k,
                       qc_dtype_name(got->dtype), qc_shape_format(&got->shape, a, sizeof(a)),
                       qc_dtype_name(expect->dtype),
                       qc_shape_format(&expect->shape, b, sizeof(b)));
    }
    size_t n = qc_shape_elements(&got->shape);
    for (size_t i = 0; i < n; i++) {
        if (!is_float(got->dtype)) {
            if (qc_tensor_s64(got, i) != qc_tensor_s64(expect, i)) {
                return qd_fail(err, QD_INTERNAL, "output %d element %zu is %lld, not %lld", k, i,
                               (long long)qc_tensor_s64(got, i),
                               (long long)qc_tensor_s64(expect, i));
            }
            continue;
        }
        double x = qc_tensor_f64(got, i), y = qc_tensor_f64(expect, i);
        bool same = x == y || (isnan(x) && isnan(y)) ||
                    (isfinite(x) && isfinite(y) && fabs(x - y) <= 1e-6 + 1e-3 * fabs(y));
        if (!same) {
            return qd_fail(err, QD_INTERNAL, "output %d element %zu is %.9g, not %.9g", k, i, x,
                           y);
        }
    }
    return QD_OK;
}

/* Give input i of the graph its tensor: as a constant, or as data of known shape. */
static void feed(struct qc_graph *g, int i, const struct qc_tensor *t, bool constant)
{
    struct qc_value *v = &g->values[g->inputs[i].value];
    v->dtype = t->dtype;
    v->shape = t->shape;
    v->shape_known = true;
    v->constant = constant ? t : NULL;
}

static enum qd_code read_inputs(struct qc_graph *g, const char *dir, bool first_is_data,
                                struct qc_tensor **first, struct qd_error *err)
{
    *first = NULL;
    for (int i = 0; i < g->n_inputs; i++) {
        struct qc_tensor *t = NULL;
        QD_TRY(load(dir, "input", i, g->arena, &t, err));
        if (t == NULL) {
            return qd_fail(err, QD_NOT_FOUND, "input_%d.pb is missing", i);
        }
        *first = i == 0 ? t : *first;
        feed(g, i, t, !(first_is_data && i == 0));
    }
    return QD_OK;
}

/* Node after node on constants: any dtype. */
static enum qd_code run_nodes(struct qc_graph *g, const char *dir, struct qd_error *err)
{
    struct qc_tensor *first, *expect;
    const struct qc_tensor *out[MAX_IO] = {NULL};
    QD_TRY(read_inputs(g, dir, false, &first, err));
    for (int i = 0; i < g->n_nodes; i++) {
        ck_assert_int_le(g->nodes[i].n_outputs, MAX_IO);
        QD_TRY(qc_graph_infer_node(g, i, err));
        QD_TRY(qc_exec_eval_node(g, i, g->arena, out, err));
        for (int k = 0; k < g->nodes[i].n_outputs; k++) {
            if (g->nodes[i].outputs[k] >= 0) {
                g->values[g->nodes[i].outputs[k]].constant = out[k];
            }
        }
    }
    for (int k = 0; k < g->n_outputs; k++) {
        const struct qc_tensor *got = g->values[g->outputs[k].value].constant;
        QD_TRY(load(dir, "output", k, g->arena, &expect, err));
        if (got == NULL || expect == NULL) {
            return qd_fail(err, QD_NOT_FOUND, "output %d is missing", k);
        }
        QD_TRY(compare(got, expect, k, err));
    }
    return QD_OK;
}

static enum qd_code run_state(struct qc_graph *g, const struct qc_exec *exec,
                              struct qc_exec_state *state, const void *input, const char *dir,
                              struct qd_error *err)
{
    struct qc_tensor *expect, *got;
    QD_TRY(qc_exec_run(exec, state, &input, NULL, NULL, err));
    for (int k = 0; k < g->n_outputs; k++) {
        const struct qc_value *v = &g->values[g->outputs[k].value];
        QD_TRY(load(dir, "output", k, g->arena, &expect, err));
        QD_TRY(qc_tensor_new(g->arena, v->dtype, &v->shape, &got, err));
        qc_exec_output(exec, state, k, got->data);
        QD_TRY(compare(got, expect, k, err));
    }
    return QD_OK;
}

static enum qd_code run_with(enum qc_isa isa, struct qc_graph *g, const void *input,
                             const char *dir, struct qd_error *err)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    qc_kernels_init(&kernels, isa);
    struct qc_exec_options options = {.kernels = &kernels};
    QD_TRY(qc_exec_build(g, &options, g->arena, &exec, err));
    QD_TRY(qc_exec_state_new(exec, &state, err));
    enum qd_code code = run_state(g, exec, state, input, dir, err);
    qc_exec_state_free(state);
    return code;
}

/* Node i gives a constant: what folding would leave. */
static enum qd_code fold_constant(struct qc_graph *g, int i, struct qd_error *err)
{
    const struct qc_tensor *out = NULL;
    struct qc_node *n = &g->nodes[i];
    if (n->op != QC_OP_CONSTANT) {
        return QD_OK;
    }
    QD_TRY(qc_exec_eval_node(g, i, g->arena, &out, err));
    g->values[n->outputs[0]].constant = out;
    n->shape_only = true;
    return QD_OK;
}

/* The planner's way, with portable and with this CPU's kernels: input 0 is data
 * when it is f32, the others are constants. */
static enum qd_code run_program(struct qc_graph *g, const char *dir, bool *ret_ran,
                                struct qd_error *err)
{
    struct qc_tensor *first;
    QD_TRY(read_inputs(g, dir, true, &first, err));
    if (first == NULL || first->dtype != QC_F32) {
        return QD_OK;
    }
    g->n_inputs = 1;
    for (int i = 0; i < g->n_nodes; i++) {
        QD_TRY(qc_graph_infer_node(g, i, err));
        QD_TRY(fold_constant(g, i, err));
    }
    for (int k = 0; k < g->n_outputs; k++) {
        if (g->values[g->outputs[k].value].constant != NULL) {
            return QD_OK; /* shape arithmetic: nothing is left to run */
        }
    }
    QD_TRY(qc_graph_link(g, err));
    *ret_ran = true;
    QD_TRY(run_with(QC_ISA_REF, g, first->data, dir, err));
    return run_with(qc_isa_detect(), g, first->data, dir, err);
}

static enum verdict run_case(const char *dir, int *programs, struct qd_error *err)
{
    char path[2 * MAX_PATH];
    size_t size = 0;
    (void)snprintf(path, sizeof(path), "%s/model.onnx", dir);
    uint8_t *data = read_file(path, &size);
    enum verdict ours = data != NULL ? is_ours(data, size) : OTHER;
    if (ours != PASSED) {
        free(data);
        return ours;
    }
    enum qd_code code = QD_OK;
    bool ran = false;
    for (int way = 0; way < 2 && code == QD_OK; way++) {
        struct qd_arena arena;
        struct qc_graph *g = NULL;
        qd_arena_init(&arena, (size_t)1 << 30);
        code = qc_onnx_import((struct qd_bytes){data, size}, NULL, &arena, &g, err);
        if (code == QD_OK) {
            code = way == 0 ? run_nodes(g, dir, err) : run_program(g, dir, &ran, err);
            if (code != QD_OK && way == 1) {
                code = qd_wrap(err, code, "as a program");
            }
        }
        qd_arena_done(&arena);
    }
    free(data);
    *programs += ran && code == QD_OK;
    return code == QD_OK ? PASSED : FAILED;
}

/* "name<TAB>reason" a line; '#' starts a comment line. */
static void read_list(struct conformance *c)
{
    size_t size = 0;
    char *save = NULL;
    const char *path = getenv("QUANTD_CONFORMANCE_LIST");
    c->list = (char *)read_file(path != NULL ? path : SKIPPED, &size);
    ck_assert_msg(c->list != NULL, "%s cannot be read (run from the repository root)", SKIPPED);
    for (char *line = strtok_r(c->list, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (line[0] == '#') {
            continue;
        }
        char *tab = strchr(line, '\t');
        ck_assert_msg(tab != NULL && tab[1] != '\0', "%s: no reason in '%s'", SKIPPED, line);
        ck_assert_int_lt(c->n_listed, MAX_LISTED);
        *tab = '\0';
        c->name[c->n_listed] = line;
        c->reason[c->n_listed++] = tab + 1;
    }
}

static void judge(struct conformance *c, const char *name)
{
    char dir[MAX_PATH];
    struct qd_error err = {0};
    int listed = 0;
    while (listed < c->n_listed && strcmp(c->name[listed], name) != 0) {
        listed++;
    }
    bool is_listed = listed < c->n_listed;
    (void)snprintf(dir, sizeof(dir), "%s/%s", c->folder, name);
    enum verdict verdict = run_case(dir, &c->programs, &err);
    if (is_listed) {
        c->seen[listed] = true;
    }
    if (verdict == FAILED && is_listed) {
        c->failed_as_listed++;
    } else if (verdict == FAILED) {
        printf("conformance: FAILED\t%s\t%s\n", name, err.message);
        c->wrong++;
    } else if (verdict == NEWER) {
        c->other++; /* another release of ONNX: its list entry is neither right nor wrong */
    } else if (is_listed) {
        printf("conformance: %s is listed (%s) but %s\n", name, c->reason[listed],
               verdict == PASSED ? "passes" : "is of another operator");
        c->wrong++;
    } else {
        *(verdict == PASSED ? &c->passed : &c->other) += 1;
    }
}

START_TEST(qc_exec__onnx_node_tests__pass_or_are_listed)
{
    static struct conformance c;
    const char *folder = getenv("QUANTD_ONNX_NODE_TESTS");
    struct dirent **entries = NULL;
    c.folder = folder != NULL ? folder : NODE_TESTS;
    int n = scandir(c.folder, &entries, NULL, alphasort);
    if (n < 0) {
        printf("conformance: nothing checked, %s is absent (Debian: libonnx-testdata)\n",
               c.folder);
        return;
    }
    read_list(&c);
    for (int i = 0; i < n; i++) {
        if (strncmp(entries[i]->d_name, "test_", 5) == 0) {
            judge(&c, entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    for (int i = 0; i < c.n_listed; i++) {
        if (!c.seen[i]) {
            printf("conformance: note: %s is listed but not in this release\n", c.name[i]);
        }
    }
    printf("conformance: %d passed, %d listed, %d of other operators\n", c.passed,
           c.failed_as_listed, c.other);
    printf("conformance: %d of them also as a program\n", c.programs);
    (void)fflush(stdout); /* a failure below ends this process at once */
    free(c.list);
    ck_assert_msg(c.wrong == 0, "%d cases are not as %s says", c.wrong, SKIPPED);
    ck_assert_msg(c.passed > 0 && c.programs > 0, "no case of %s ran", c.folder);
}
END_TEST

Suite *test_conformance_suite(void)
{
    Suite *suite = suite_create("test_conformance");
    TCase *tcase = tcase_create("onnx");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, qc_exec__onnx_node_tests__pass_or_are_listed);
    suite_add_tcase(suite, tcase);
    return suite;
}
