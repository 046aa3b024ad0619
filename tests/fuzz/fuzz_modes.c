/* Bytes → import → the graphs of modes weight_only and dynamic, biases corrected with means of 1
 * → export → import → a run on zeros. What was written has to be readable and to run: for want of
 * memory alone it may not. The seeds are those of fuzz_quantize. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec.h"
#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/passes/pass.h"
#include "quantcore/quant/quantize_dynamic.h"
#include "quantcore/quant/quantize_weight_only.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 64 << 20, MAX_VALUES = 4096, MAX_CHANNELS = 4096 };

struct fuzz {
    struct qd_arena arena;
    struct qd_error err;
    struct qc_graph *graph;
    struct qc_import *import;
    const double **means;
    int *n_means;
};

static enum qd_code build(const struct qc_graph *g, struct qd_arena *arena, struct qc_exec **ret,
                          struct qd_error *err)
{
    struct qc_kernels kernels;
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    struct qc_exec_options options = {.kernels = &kernels, .keep = NULL};
    return qc_exec_build(g, &options, arena, ret, err);
}

static enum qd_code load(struct fuzz *f, struct qd_bytes model)
{
    struct qc_exec *exec = NULL;
    QD_TRY(qc_onnx_import(model, NULL, &f->arena, &f->graph, &f->err));
    QD_TRY(qc_passes_run_import(f->graph, &f->import, &f->err));
    if (f->graph->n_values > MAX_VALUES) {
        return qd_fail(&f->err, QD_LIMIT_EXCEEDED, "too large");
    }
    return build(f->graph, &f->arena, &exec, &f->err); /* refuses types */
}

static enum qd_code make_means(struct fuzz *f)
{
    size_t n = (size_t)f->graph->n_values;
    QD_TRY(qd_arena_array(&f->arena, n, sizeof(*f->means), &f->means, &f->err));
    QD_TRY(qd_arena_array(&f->arena, n, sizeof(*f->n_means), &f->n_means, &f->err));
    for (size_t v = 0; v < n; v++) {
        const struct qc_shape *s = &f->graph->values[v].shape;
        double *mean = NULL;
        if (s->rank < 2 || s->dim[1] > MAX_CHANNELS || f->graph->values[v].constant != NULL) {
            continue;
        }
        f->n_means[v] = (int)s->dim[1];
        QD_TRY(qd_arena_array(&f->arena, (size_t)s->dim[1], sizeof(*mean), &mean, &f->err));
        for (int c = 0; c < f->n_means[v]; c++) {
            mean[c] = 1;
        }
        f->means[v] = mean;
    }
    return QD_OK;
}

static enum qd_code run_zeros(const struct qc_graph *g, const struct qc_exec *exec,
                              struct qd_arena *arena, struct qd_error *err)
{
    struct qc_exec_state *state = NULL;
    void *inputs[8];
    if (g->n_inputs > 8) {
        return QD_OK;
    }
    for (int i = 0; i < g->n_inputs; i++) {
        const struct qc_value *v = &g->values[g->inputs[i].value];
        QD_TRY(qd_arena_array(arena, qc_shape_elements(&v->shape) + 1, qc_dtype_size(v->dtype),
                              &inputs[i], err));
    }
    QD_TRY(qc_exec_state_new(exec, &state, err));
    enum qd_code code = qc_exec_run(exec, state, (const void *const *)inputs, NULL, NULL, err);
    qc_exec_state_free(state);
    return code;
}

static enum qd_code read_back(struct qd_bytes artifact, struct qd_error *err)
{
    struct qd_arena arena;
    struct qc_graph *g = NULL;
    struct qc_exec *exec = NULL;
    qd_arena_init(&arena, 4 * (size_t)LIMIT);
    enum qd_code code = qc_onnx_import(artifact, NULL, &arena, &g, err);
    code = code == QD_OK ? qc_passes_run(g, err) : code;
    code = code == QD_OK ? build(g, &arena, &exec, err) : code;
    if (code == QD_OK && qc_exec_buffer_size(exec) < LIMIT) {
        code = run_zeros(g, exec, &arena, err);
    }
    qd_arena_done(&arena);
    return code;
}

static enum qd_code try_mode(struct fuzz *f, const struct qc_rewrite_options *o, bool dynamic)
{
    struct qc_rewrite *r = NULL;
    struct qd_bytes artifact;
    QD_TRY(dynamic ? qc_quantize_dynamic(f->graph, o, &f->arena, &r, &f->err)
                   : qc_quantize_weight_only(f->graph, o, &f->arena, &r, &f->err));
    QD_TRY(qc_onnx_export(r->graph, &f->arena, &artifact, &f->err));
    enum qd_code code = read_back(artifact, &f->err);
    if (code != QD_OK && code != QD_NO_MEMORY && code != QD_LIMIT_EXCEEDED) {
        fprintf(stderr, "the artifact cannot be read back: %s\n", f->err.message);
        abort();
    }
    return QD_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f;
    unsigned bits = size > 0 ? data[size - 1] : 0;
    memset(&f, 0, sizeof(f));
    qd_arena_init(&f.arena, LIMIT);
    enum qd_code code = load(&f, (struct qd_bytes){data, size});
    code = code == QD_OK ? make_means(&f) : code;
    struct qc_rewrite_options o = {.weights_per_channel = (bits & 1) == 0,
                                   .dense_per_channel = (bits & 2) == 0,
                                   .weights_full_range = (bits & 4) != 0,
                                   .channel_mean = (bits & 8) == 0 ? f.means : NULL,
                                   .n_channels = f.n_means,
                                   .import = f.import};
    static const int widths[8] = {8, 4, 3, 2, 1, QC_FLOAT16_BITS, 4, 8};
    for (int dynamic = 0; dynamic < 2 && code == QD_OK; dynamic++) {
        if (dynamic == 0) { /* what weight_only alone has */
            o.weight_bits = widths[bits >> 4 & 7];
            o.block_size = (bits & 128) != 0 && o.weight_bits <= QC_WEIGHT_BITS ? 32 : 0;
        } else {
            o.block_size = 0;
            o.weight_bits = o.weight_bits > QC_WEIGHT_BITS ? QC_WEIGHT_BITS : o.weight_bits;
        }
        o.weights_full_range = o.weights_full_range && o.weight_bits > 1;
        code = try_mode(&f, &o, dynamic == 1);
    }
    if (code != QD_OK && f.err.message[0] == '\0') {
        abort(); /* no failure without a message */
    }
    qd_arena_done(&f.arena);
    return 0;
}
