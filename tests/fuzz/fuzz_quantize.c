/* Bytes → import, what is quantized already taken over → plan → quantized graph → export. All
 * ranges are [-1, 1] and all channel means 1, no sample runs. What was written has to be
 * readable: reading it back may fail for want of memory alone. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec.h"
#include "quantcore/integer/int_plan.h"
#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/passes/pass.h"
#include "quantcore/quant/quantize_graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 64 << 20, MAX_VALUES = 4096, MAX_CHANNELS = 4096 };

struct fuzz {
    struct qd_arena arena;
    struct qd_error err;
    struct qc_kernels kernels;
    struct qc_graph *graph;
    struct qc_exec *exec;
    struct qc_import *import;
    struct qc_quantize_plan *plan;
    const double **means;
    int *n_means;
    struct qc_range *ranges;
};

static enum qd_code make_plan(struct fuzz *f, struct qd_bytes model,
                              struct qc_quantize_options *o)
{
    QD_TRY(qc_onnx_import(model, NULL, &f->arena, &f->graph, &f->err));
    QD_TRY(qc_passes_run_import(f->graph, &f->import, &f->err));
    o->import = f->import;
    if (f->graph->n_values > MAX_VALUES) {
        return qd_fail(&f->err, QD_LIMIT_EXCEEDED, "too large");
    }
    qc_kernels_init(&f->kernels, QC_ISA_AVX512);
    struct qc_exec_options options = {.kernels = &f->kernels, .keep = NULL};
    QD_TRY(qc_exec_build(f->graph, &options, &f->arena, &f->exec, &f->err)); /* refuses types */
    return qc_quantize_plan_new(f->graph, o, &f->arena, &f->plan, &f->err);
}

/* As pass 1 would leave them. */
static enum qd_code make_statistics(struct fuzz *f)
{
    size_t n = (size_t)f->graph->n_values;
    QD_TRY(qd_arena_array(&f->arena, n, sizeof(*f->ranges), &f->ranges, &f->err));
    QD_TRY(qd_arena_array(&f->arena, n, sizeof(*f->means), &f->means, &f->err));
    QD_TRY(qd_arena_array(&f->arena, n, sizeof(*f->n_means), &f->n_means, &f->err));
    for (size_t v = 0; v < n; v++) {
        const struct qc_shape *shape = &f->graph->values[v].shape;
        int axis = f->plan->channel_axis[v];
        f->ranges[v] = (struct qc_range){.lo = -1, .hi = 1};
        if (axis < 0 || axis >= shape->rank || shape->dim[axis] > MAX_CHANNELS) {
            continue;
        }
        double *mean = NULL;
        f->n_means[v] = (int)shape->dim[axis];
        QD_TRY(qd_arena_array(&f->arena, (size_t)f->n_means[v], sizeof(*mean), &mean, &f->err));
        for (int c = 0; c < f->n_means[v]; c++) {
            mean[c] = 1;
        }
        f->means[v] = mean;
    }
    return QD_OK;
}

static enum qd_code quantize(struct fuzz *f, struct qd_bytes *ret)
{
    struct qc_qparams *pairs = NULL;
    struct qc_quantized_graph *q = NULL;
    QD_TRY(make_statistics(f));
    QD_TRY(qc_quantize_plan_pairs(f->plan, f->ranges, &f->arena, &pairs, &f->err));
    QD_TRY(qc_quantize_graph(f->plan, pairs, f->means, f->n_means, &f->arena, &q, &f->err));
    return qc_onnx_export(q->graph, &f->arena, ret, &f->err);
}

static enum qd_code read_back(struct qd_bytes artifact, struct qd_error *err)
{
    struct qd_arena arena;
    struct qc_graph *g = NULL;
    struct qc_int_counts counts;
    qd_arena_init(&arena, 4 * (size_t)LIMIT);
    enum qd_code code = qc_onnx_import(artifact, NULL, &arena, &g, err);
    code = code == QD_OK ? qc_passes_run(g, err) : code;
    code = code == QD_OK ? qc_int_plan(g, &counts, err) : code;
    qd_arena_done(&arena);
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f;
    struct qd_bytes artifact = {NULL, 0};
    unsigned bits = size > 0 ? data[size - 1] : 0;
    struct qc_quantize_options o = {.weights_per_channel = (bits & 1) == 0,
                                    .dense_per_channel = (bits & 2) == 0,
                                    .weights_full_range = (bits & 4) != 0,
                                    .weights_asymmetric = (bits & 12) == 12,
                                    .activations = {(bits & 8) != 0, (bits & 16) != 0},
                                    .bias_correction = (bits & 32) == 0,
                                    .quantize_last_output = (bits & 64) != 0};
    memset(&f, 0, sizeof(f));
    qd_arena_init(&f.arena, LIMIT);
    enum qd_code code = make_plan(&f, (struct qd_bytes){data, size}, &o);
    code = code == QD_OK ? quantize(&f, &artifact) : code;
    code = code == QD_OK ? read_back(artifact, &f.err) : code;
    if (code != QD_OK && f.err.message[0] == '\0') {
        abort(); /* no failure without a message */
    }
    if (artifact.data != NULL && code != QD_OK && code != QD_NO_MEMORY) {
        fprintf(stderr, "the artifact cannot be read back: %s\n", f.err.message);
        abort();
    }
    qd_arena_done(&f.arena);
    return 0;
}
