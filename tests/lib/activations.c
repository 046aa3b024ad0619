#include "tests/lib/activations.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "quantcore/exec/exec.h"
#include "quantcore/qc_model.h"
#include "quantcore/quant/quantize_plan.h"

static enum qd_code read_file(const char *path, struct qd_arena *arena, struct qd_bytes *ret,
                              struct qd_error *err)
{
    uint8_t *data = NULL;
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return qd_fail_errno(err, errno, "open %s", path);
    }
    fseek(f, 0, SEEK_END);
    size_t size = (size_t)ftell(f);
    rewind(f);
    enum qd_code code = qd_arena_alloc(arena, size, &data, err);
    if (code == QD_OK && fread(data, 1, size, f) != size) {
        code = qd_fail(err, QD_IO, "%s is shorter than its size", path);
    }
    fclose(f);
    *ret = (struct qd_bytes){data, size};
    return code;
}

struct collecting {
    const int *tensor_of; /* [n_values], -1 */
    struct activations *result;
};

static void collect(void *ctx, int value, const struct qc_view *view)
{
    struct collecting *c = ctx;
    if (c->tensor_of[value] >= 0) {
        struct activation *a = &c->result->tensor[c->tensor_of[value]];
        qc_view_to_dense(view, a->x + a->n);
        a->n += qc_shape_elements(&view->shape);
    }
}

static enum qd_code choose_tensors(const struct qc_graph *g, int n_samples,
                                   struct qd_arena *arena, int *tensor_of,
                                   struct activations *ret, struct qd_error *err)
{
    struct qc_quantize_options options = {.weights_per_channel = true};
    struct qc_quantize_plan *plan = NULL;
    QD_TRY(qc_quantize_plan_new(g, &options, arena, &plan, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(*ret->tensor), &ret->tensor, err));
    ret->n = 0;
    for (int v = 0; v < g->n_values; v++) {
        bool searched = plan->observe[v] && plan->group[v] == v;
        tensor_of[v] = searched ? ret->n : -1;
        if (searched) {
            struct activation *a = &ret->tensor[ret->n++];
            size_t n = (size_t)n_samples * qc_shape_elements(&g->values[v].shape);
            a->name = g->values[v].name;
            a->shape = g->values[v].shape;
            a->channel_axis = plan->channel_axis[v];
            QD_TRY(qd_arena_array(arena, n, sizeof(float), &a->x, err));
        }
    }
    return QD_OK;
}

static enum qd_code open_data(const struct qc_graph *g, const char *path,
                              const struct qc_preprocess *preprocess, struct qc_reader **ret,
                              struct qd_error *err)
{
    const struct qc_value *v = &g->values[g->inputs[0].value];
    struct qc_reader_input input = {.name = v->name, .rank = v->shape.rank - 1};
    for (int d = 1; d < v->shape.rank; d++) {
        input.dim[d - 1] = v->shape.dim[d];
    }
    struct qc_reader_options options = {
        .inputs = &input, .n_inputs = 1, .preprocess = *preprocess};
    return qc_reader_open(path, path, &options, ret, err);
}

static enum qd_code run_samples(const struct qc_graph *g, const struct qc_exec *exec,
                                struct qc_exec_state *state, struct qc_reader *reader, int n,
                                int every, struct collecting *c, struct qd_arena *arena,
                                struct qd_error *err)
{
    float *sample = NULL;
    bool end = false;
    size_t elements = qc_shape_elements(&g->values[g->inputs[0].value].shape);
    QD_TRY(qd_arena_array(arena, elements, sizeof(*sample), &sample, err));
    for (int i = 0; i < n; i++) {
        QD_TRY(qc_reader_next(reader, &sample, &end, err));
        if (end) {
            return i > 0 ? QD_OK : qd_fail(err, QD_INVALID, "no sample in the data");
        }
        QD_TRY(qc_exec_run(exec, state, (const void *const[]){sample}, collect, c, err));
        if ((int64_t)(i + 1) * every >= qc_reader_count(reader)) {
            return QD_OK;
        }
        QD_TRY(qc_reader_skip(reader, every - 1, err));
    }
    return QD_OK;
}

enum qd_code activations_collect(const char *model_path, const char *data_path,
                                 const struct qc_preprocess *preprocess, int n, int every,
                                 struct qd_arena *arena, struct activations *ret,
                                 struct qd_error *err)
{
    struct qd_bytes bytes;
    struct qc_graph *g = NULL;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    struct qc_reader *reader = NULL;
    struct qc_kernels *kernels = NULL; /* the program reads them until the arena ends */
    int *tensor_of = NULL;
    if (access(data_path, R_OK) != 0) {
        return qd_fail_errno(err, errno, "open %s", data_path);
    }
    QD_TRY(read_file(model_path, arena, &bytes, err));
    QD_TRY(qd_arena_alloc(arena, sizeof(*kernels), &kernels, err));
    qc_kernels_init(kernels, QC_ISA_AVX512);
    QD_TRY(qc_model_load(bytes, NULL, arena, &g, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(int), &tensor_of, err));
    QD_TRY(choose_tensors(g, n, arena, tensor_of, ret, err));
    struct qc_exec_options options = {.kernels = kernels};
    QD_TRY(qc_exec_build(g, &options, arena, &exec, err));
    QD_TRY(open_data(g, data_path, preprocess, &reader, err));
    struct collecting c = {tensor_of, ret};
    enum qd_code code = qc_exec_state_new(exec, &state, err);
    if (code == QD_OK) {
        code = run_samples(g, exec, state, reader, n, every, &c, arena, err);
    }
    qc_exec_state_free(state);
    qc_reader_free(reader);
    return code;
}
