#include "quantcore/qc_model.h"

#include <stdlib.h>
#include <string.h>

#include "quantcore/integer/int_plan.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/passes/pass.h"
#include "quantcore/passes/pass_import_qdq.h"
#include "quantcore/passes/pass_simplify.h"

enum qd_code qc_model_load(struct qd_bytes model, const struct qc_external *external,
                           struct qd_arena *arena, struct qc_graph **ret, struct qd_error *err)
{
    struct qc_graph *g = NULL;
    QD_TRY(qc_onnx_import(model, external, arena, &g, err));
    QD_TRY(qc_passes_run(g, err));
    *ret = g;
    return QD_OK;
}

enum qd_code qc_model_load_f32(struct qd_bytes model, const struct qc_external *external,
                               struct qd_arena *arena, struct qc_graph **ret,
                               struct qd_error *err)
{
    struct qc_graph *g = NULL;
    struct qc_import constants;
    QD_TRY(qc_onnx_import(model, external, arena, &g, err));
    if (qc_is_quantized(g)) {
        QD_TRY(qc_pass_simplify(g, err));
        QD_TRY(qc_import_constants(g, &constants, err));
    }
    QD_TRY(qc_passes_run(g, err));
    *ret = g;
    return QD_OK;
}

enum qd_code qc_model_load_int8(struct qd_bytes model, const struct qc_external *external,
                                const struct qc_kernels *kernels,
                                struct qd_arena *arena, struct qc_graph **ret_graph,
                                struct qc_exec **ret_exec, struct qc_verify_codes *codes,
                                struct qd_error *err)
{
    struct qc_graph *g = NULL;
    struct qc_int_counts counts;
    struct qc_exec_options options = {.kernels = kernels, .borrow_inputs = true};
    QD_TRY(qc_model_load(model, external, arena, &g, err));
    if (codes != NULL) {
        QD_TRY(qc_verify_find_codes(g, codes, err));
    }
    QD_TRY(qc_int_plan(g, &counts, err));
    if (counts.n_units == 0) {
        return qd_fail(err, QD_INVALID,
                       "no operator stands between DequantizeLinear and QuantizeLinear: "
                       "the model is not quantized");
    }
    QD_TRY(qc_exec_build(g, &options, arena, ret_exec, err));
    *ret_graph = g;
    return QD_OK;
}

static enum qd_code io_info(const struct qc_graph *g, const struct qc_io *io, int n,
                            struct qd_arena *arena, const struct qc_io_info **ret,
                            struct qd_error *err)
{
    struct qc_io_info *info = NULL;
    QD_TRY(qd_arena_array(arena, (size_t)n, sizeof(*info), &info, err));
    for (int i = 0; i < n; i++) {
        const struct qc_value *v = &g->values[io[i].value];
        info[i].name = v->name;
        info[i].dtype = qc_dtype_name(v->dtype);
        info[i].rank = v->shape.rank;
        for (int d = 0; d < v->shape.rank; d++) {
            info[i].dim[d] = (v->symbolic_dims >> d & 1) != 0 ? -1 : v->shape.dim[d];
        }
    }
    *ret = info;
    return QD_OK;
}

/* Multiply-accumulates of one node: output elements times the inner length. */
static int64_t node_macs(const struct qc_graph *g, const struct qc_node *n)
{
    const bool transposed = n->op == QC_OP_CONV_TRANSPOSE;
    if (n->op != QC_OP_CONV && n->op != QC_OP_GEMM && n->op != QC_OP_MATMUL && !transposed) {
        return 0;
    }
    const struct qc_shape *w = &g->values[n->inputs[1]].shape;
    if (transposed) { /* every input pixel through all the weights of its group */
        const struct qc_shape *x = &g->values[n->inputs[0]].shape;
        int64_t pixels = (int64_t)qc_shape_elements(x) / (x->dim[1] > 0 ? x->dim[1] : 1);
        return pixels * (int64_t)qc_shape_elements(w);
    }
    int64_t outputs = (int64_t)qc_shape_elements(&g->values[n->outputs[0]].shape);
    if (n->op == QC_OP_CONV) {
        int64_t out_channels = w->rank > 0 && w->dim[0] > 0 ? w->dim[0] : 1;
        return outputs * ((int64_t)qc_shape_elements(w) / out_channels);
    }
    bool by_rows = n->op == QC_OP_GEMM && qc_node_int(n, "transB", 0) != 0;
    int axis = by_rows ? w->rank - 1 : w->rank - 2;
    return axis >= 0 ? outputs * w->dim[axis] : outputs;
}

enum qd_code qc_model_info_new(const struct qc_graph *g, struct qd_arena *arena,
                               struct qc_model_info **ret, struct qd_error *err)
{
    struct qc_model_info *m = NULL;
    char *dump = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*m), &m, err));
    m->name = g->name != NULL ? g->name : "";
    m->producer = g->producer_name != NULL ? g->producer_name : "";
    m->ir_version = g->ir_version;
    m->opset = g->opset;
    m->n_inputs = g->n_inputs;
    m->n_outputs = g->n_outputs;
    QD_TRY(io_info(g, g->inputs, g->n_inputs, arena, &m->inputs, err));
    QD_TRY(io_info(g, g->outputs, g->n_outputs, arena, &m->outputs, err));
    m->n_nodes_folded = g->n_nodes;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        m->n_macs += node_macs(g, n);
        m->is_quantized = m->is_quantized || n->op == QC_OP_QUANTIZE_LINEAR;
        m->has_quantized_weights =
            m->has_quantized_weights || (n->op == QC_OP_DEQUANTIZE_LINEAR &&
                                         qc_node_constant(g, n, 0) != NULL);
    }
    for (int i = 0; i < g->n_values; i++) {
        const struct qc_value *v = &g->values[i];
        if (v->constant != NULL && v->producer < 0 && qc_graph_count_uses(g, i) > 0) {
            m->n_parameters += (int64_t)qc_shape_elements(&v->constant->shape);
        }
    }
    QD_TRY(qc_graph_dump(g, &dump, err));
    enum qd_code code = qd_arena_string(arena, dump, strlen(dump), &m->dump, err);
    free(dump);
    *ret = m;
    return code;
}

enum qd_code qc_inspect(struct qd_bytes model, const struct qc_external *external,
                        struct qd_arena *arena, struct qc_model_info **ret, struct qd_error *err)
{
    struct qc_graph *g = NULL;
    struct qc_model_info *info = NULL;
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    QD_TRY(qc_onnx_import(model, external, arena, &g, err));
    int n_stored = g->n_nodes;
    QD_TRY(qc_passes_run(g, err));
    QD_TRY(qc_model_info_new(g, arena, &info, err));
    info->n_nodes = n_stored;
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    struct qc_exec_options options = {.kernels = &kernels, .keep = NULL};
    QD_TRY(qc_exec_build(g, &options, arena, &exec, err));
    info->buffer_bytes = qc_exec_buffer_size(exec);
    *ret = info;
    return QD_OK;
}

/* ---- running a network on samples ------------------------------------------------------------ */

struct qc_runner {
    struct qc_kernels kernels;
    struct qc_graph *graph;
    struct qc_exec *exec;
    struct qc_exec_state *state;
    struct qc_model_info *info;
    const void **inputs;
};

static void free_runner_state(void *arg)
{
    qc_exec_state_free(((struct qc_runner *)arg)->state);
}

/* Callers bring and make room for one sample: the dims after the first. */
static enum qd_code check_sample(const struct qc_value *v, const char *what, struct qd_error *err)
{
    if (v->shape.rank < 1 || v->shape.dim[0] != 1 || v->symbolic_dims >> 1 != 0) {
        return qd_fail_on(err, QD_UNSUPPORTED, v->name,
                          "the first axis of %s '%s' is not the sample: a sample has %lld rows",
                          what, v->name, v->shape.rank < 1 ? 0 : (long long)v->shape.dim[0]);
    }
    return QD_OK;
}

static enum qd_code check_io(const struct qc_graph *g, struct qd_error *err)
{
    for (int i = 0; i < g->n_inputs; i++) {
        const struct qc_value *v = &g->values[g->inputs[i].value];
        if (v->dtype != QC_F32) {
            return qd_fail_on(err, QD_UNSUPPORTED, v->name, "input '%s' is %s: only f32 can be fed",
                              v->name, qc_dtype_name(v->dtype));
        }
        QD_TRY(check_sample(v, "input", err));
    }
    for (int i = 0; i < g->n_outputs; i++) {
        QD_TRY(check_sample(&g->values[g->outputs[i].value], "output", err));
    }
    return QD_OK;
}

enum qd_code qc_runner_new(struct qd_bytes model, const struct qc_external *external,
                           enum qc_engine engine, enum qc_isa isa, struct qd_arena *arena,
                           struct qc_runner **ret, struct qd_error *err)
{
    struct qc_runner *r = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*r), &r, err));
    QD_TRY(qd_arena_defer(arena, free_runner_state, r, err));
    qc_kernels_init(&r->kernels, isa);
    if (engine == QC_ENGINE_INT8) {
        QD_TRY(qc_model_load_int8(model, external, &r->kernels, arena, &r->graph, &r->exec,
                                  NULL, err));
    } else {
        struct qc_exec_options options = {.kernels = &r->kernels, .keep = NULL};
        QD_TRY(qc_model_load_f32(model, external, arena, &r->graph, err));
        QD_TRY(qc_exec_build(r->graph, &options, arena, &r->exec, err));
    }
    QD_TRY(check_io(r->graph, err));
    QD_TRY(qd_arena_array(arena, (size_t)r->graph->n_inputs, sizeof(*r->inputs), &r->inputs, err));
    QD_TRY(qc_model_info_new(r->graph, arena, &r->info, err));
    QD_TRY(qc_exec_state_new(r->exec, &r->state, err));
    *ret = r;
    return QD_OK;
}

const struct qc_model_info *qc_runner_info(const struct qc_runner *runner)
{
    return runner->info;
}

enum qd_code qc_runner_run(struct qc_runner *runner, const float *const *inputs,
                           float *const *outputs, struct qd_error *err)
{
    for (int i = 0; i < runner->graph->n_inputs; i++) {
        runner->inputs[i] = inputs[i];
    }
    QD_TRY(qc_exec_run(runner->exec, runner->state, runner->inputs, NULL, NULL, err));
    for (int i = 0; i < runner->graph->n_outputs; i++) {
        const struct qc_value *v = &runner->graph->values[runner->graph->outputs[i].value];
        if (v->dtype != QC_F32) {
            return qd_fail_on(err, QD_UNSUPPORTED, v->name, "output '%s' is %s, not f32", v->name,
                              qc_dtype_name(v->dtype));
        }
        qc_exec_output(runner->exec, runner->state, i, outputs[i]);
    }
    return QD_OK;
}
