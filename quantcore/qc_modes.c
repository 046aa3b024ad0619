/* The modes without calibration: what they put in place of the pipeline's passes. */
#include "quantcore/qc_pipeline.h"

#include "quantcore/quant/quantize_dynamic.h"
#include "quantcore/quant/quantize_weight_only.h"

bool qc_mode_calibrates(const struct qc_pipeline *p)
{
    return p->options->mode != QC_MODE_STATIC && p->options->bias_correction &&
           (p->job->calibration != NULL || p->job->statistics.size > 0);
}

/* Without a correction nothing is fitted to the data: whatever there are verify. */
static enum qd_code init_verification(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    bool given = p->job->validation != NULL;
    struct qc_reader *reader = given ? p->job->validation : p->job->calibration;
    if (reader == NULL) {
        return QD_OK;
    }
    QD_TRY(qc_feed_init(&p->verification, reader, p->graph, QC_FEED_ALL, 0,
                        given ? o->max_verification : o->max_samples, o->batch_size, NULL,
                        p->arena, err));
    qc_feed_cut(&p->verification, o->max_verification);
    p->report->n_verification = p->verification.limit;
    if (p->report->n_verification < 1) {
        return qd_fail(err, QD_INVALID, "the data hold no sample");
    }
    return QD_OK;
}

static enum qd_code check_gate(const struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    bool gate = o->gate_min_sqnr_db > 0 || o->gate_min_agreement > 0 || o->gate_max_drop > 0;
    if (gate && p->verification.reader == NULL) {
        return qd_fail(err, QD_INVALID, "a gate needs data: mode %s without any verifies nothing",
                       qc_mode_name(o->mode));
    }
    return QD_OK;
}

static enum qd_code rewrite(struct qc_pipeline *p, const double *const *mean,
                            const int *n_channels, struct qc_rewrite **ret, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    struct qc_rewrite_options r = {.weights_per_channel = o->weights_per_channel,
                                   .dense_per_channel =
                                       o->weights_per_channel && o->dense_per_channel,
                                   .weights_full_range = o->weights_full_range,
                                   .weights_asymmetric = o->weights_asymmetric,
                                   .weight_bits = o->weight_bits,
                                   .block_size = o->block_size,
                                   .exclude = o->exclude,
                                   .channel_mean = mean,
                                   .n_channels = n_channels,
                                   .import = p->import};
    return o->mode == QC_MODE_DYNAMIC ? qc_quantize_dynamic(p->graph, &r, p->arena, ret, err)
                                      : qc_quantize_weight_only(p->graph, &r, p->arena, ret, err);
}

/* The report reads a plan and a quantized graph: those of a network without quantized tensors. */
static enum qd_code fill_plan(struct qc_pipeline *p, const struct qc_rewrite *r,
                              struct qd_error *err)
{
    size_t n_nodes = (size_t)p->graph->n_nodes, n_values = (size_t)p->graph->n_values;
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*p->plan), &p->plan, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*p->quantized), &p->quantized, err));
    QD_TRY(qd_arena_array(p->arena, n_nodes, sizeof(bool), &p->plan->integer, err));
    QD_TRY(qd_arena_array(p->arena, n_values, sizeof(int), &p->plan->group, err));
    QD_TRY(qd_arena_array(p->arena, n_values, sizeof(bool), &p->plan->observe, err));
    QD_TRY(qd_arena_array(p->arena, n_values, sizeof(int), &p->plan->channel_axis, err));
    for (size_t v = 0; v < n_values; v++) {
        p->plan->group[v] = p->plan->channel_axis[v] = -1;
    }
    for (size_t i = 0; i < n_nodes; i++) {
        p->plan->integer[i] = r->reason[i][0] == '\0';
    }
    p->plan->graph = p->graph;
    p->plan->reason = r->reason;
    p->plan->n_integer = r->n_quantized;
    p->plan->n_f32 = r->n_f32;
    p->quantized->graph = r->graph;
    p->quantized->weights = r->weights;
    qc_plan_observe_means(p->plan, p->import);
    return QD_OK;
}

enum qd_code qc_mode_prepare(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_rewrite *r = NULL;
    const char *mode = qc_mode_name(p->options->mode);
    if (p->job->n_table > 0) {
        return qd_fail(err, QD_INVALID,
                       "mode %s has no scales of activations: a calibration table "
                       "has no use there",
                       mode);
    }
    if (p->import != NULL && p->import->n_pairs > 0) {
        return qd_fail(err, QD_INVALID,
                       "the network is quantized already, %d tensors have scales: "
                       "mode %s would drop them, mode static keeps them",
                       p->import->n_pairs, mode);
    }
    if (!qc_mode_calibrates(p)) {
        QD_TRY(init_verification(p, err));
    }
    QD_TRY(check_gate(p, err));
    QD_TRY(rewrite(p, NULL, NULL, &r, err));
    QD_TRY(fill_plan(p, r, err));
    if (r->n_quantized == 0) {
        return qd_fail(err, QD_INVALID,
                       "nothing in the network can be quantized: %d operators, "
                       "none with constant weights for mode %s",
                       r->n_f32, mode);
    }
    return QD_OK;
}

enum qd_code qc_mode_correct(struct qc_pipeline *p, struct qd_error *err)
{
    size_t n_values = (size_t)p->graph->n_values;
    struct qc_rewrite *r = NULL;
    const double **mean = NULL;
    int *n_channels = NULL;
    QD_TRY(qd_arena_array(p->arena, n_values, sizeof(*mean), &mean, err));
    QD_TRY(qd_arena_array(p->arena, n_values, sizeof(int), &n_channels, err));
    for (size_t v = 0; v < n_values; v++) {
        if (p->tensor_of[v] >= 0 && p->plan->channel_axis[v] >= 0) {
            mean[v] = p->statistics->tensors[p->tensor_of[v]].channel_mean;
            n_channels[v] = p->statistics->tensors[p->tensor_of[v]].n_channels;
        }
    }
    QD_TRY(rewrite(p, mean, n_channels, &r, err));
    p->quantized->graph = r->graph;
    p->quantized->weights = r->weights;
    return QD_OK;
}

enum qd_code qc_mode_load(struct qc_pipeline *p, struct qc_graph **ret_graph,
                          struct qc_exec **ret_exec, struct qc_verify_codes *codes,
                          struct qd_error *err)
{
    struct qc_exec_options options = {.kernels = &p->kernels, .keep = NULL};
    *codes = (struct qc_verify_codes){0, NULL};
    QD_TRY(qc_model_load_f32(p->artifact, NULL, p->arena, ret_graph, err));
    return qc_exec_build(*ret_graph, &options, p->arena, ret_exec, err);
}
