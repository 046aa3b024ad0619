/* From statistics to the artifact: ranges, pairs, weights, bytes. */
#include <math.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/qc_pipeline.h"

bool qc_pipeline_is_normalized(const struct qc_pipeline *p, int v)
{
    const struct qc_graph *g = p->graph;
    if (!p->options->input_from_normalization || qc_plan_is_imported(p->plan, v)) {
        return false;
    }
    for (int i = 0; i < g->n_inputs; i++) {
        if (g->inputs[i].value == v) {
            return g->n_inputs == 1 || g->values[v].shape.rank == 4;
        }
    }
    return false;
}

/* A range that was chosen without the data, with what they say about it. */
static void given_range(struct qc_pipeline *p, int v, double lo, double hi)
{
    const struct qc_tensor_statistics *t = &p->statistics->tensors[p->tensor_of[v]];
    struct qc_range *r = &p->ranges[v];
    r->lo = lo;
    r->hi = hi;
    /* The extremes are exact, a bin counts by its centre; f32 may round 255 * scale up. */
    double slack = 1e-5 * (hi - lo);
    bool inside = t->min >= lo - slack && t->max <= hi + slack;
    r->clipped_share = inside ? 0 : qc_histogram_outside(&t->fine, lo, hi);
}

static enum qd_code find_range(struct qc_pipeline *p, int v, const struct qc_search *s,
                               struct qd_error *err)
{
    const struct qc_options *o = p->options;
    if (qc_plan_is_imported(p->plan, v)) {
        const struct qc_qparams *q = &p->plan->imported[v];
        given_range(p, v, (double)q->scale * (qc_code_min(q) - q->zero_point),
                    (double)q->scale * (qc_code_max(q) - q->zero_point));
        return QD_OK;
    }
    if (qc_pipeline_is_normalized(p, v)) {
        given_range(p, v, fmin(o->input_lo, 0), fmax(o->input_hi, 0));
    } else {
        QD_TRY(qc_calibrate(&p->statistics->tensors[p->tensor_of[v]], o->calibrator, s,
                            &p->ranges[v], err));
    }
    if (o->activations.symmetric) {
        double absmax = fmax(fabs(p->ranges[v].lo), fabs(p->ranges[v].hi));
        given_range(p, v, -absmax, absmax);
    }
    return QD_OK;
}

static struct qc_search search_of(const struct qc_options *o)
{
    return (struct qc_search){.min_percentile = o->min_percentile,
                              .max_percentile = o->max_percentile,
                              .start = o->search_start_scale,
                              .end = o->search_end_scale,
                              .step = o->search_step,
                              .bins = o->bins,
                              .form = o->divergence,
                              .symmetric = o->activations.symmetric};
}

/* The ranges of all values that need one, each on any thread. */
struct searching {
    struct qc_pipeline *p;
    struct qc_search search;
    int *values;
    enum qd_code *codes; /* a value each */
};

static void search_one(void *arg, int index, int thread)
{
    struct searching *s = arg;
    (void)thread;
    s->codes[index] = find_range(s->p, s->values[index], &s->search, NULL);
}

static enum qd_code search(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    const struct qc_threads *t = &p->job->threads;
    struct searching s = {.p = p, .search = search_of(p->options)};
    int n = 0;
    QD_TRY(qc_pipeline_begin(p, QC_PHASE_SEARCHING, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*p->ranges), &p->ranges, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*s.values), &s.values, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*s.codes), &s.codes, err));
    for (int v = 0; v < g->n_values; v++) {
        if (p->plan->group[v] == v && p->tensor_of[v] >= 0) {
            s.values[n++] = v;
        }
    }
    t->parallel_for(t->ctx, n, search_one, &s);
    for (int i = 0; i < n; i++) {
        if (s.codes[i] != QD_OK) { /* the first of the graph says why, whichever thread was first */
            return find_range(p, s.values[i], &s.search, err);
        }
    }
    return qc_quantize_plan_pairs(p->plan, p->ranges, p->arena, &p->pairs, err);
}

/* What the statistics have of v, or without any, what pass 1 will leave: tails as long as the
 * candidates' percentiles ask for, up to their limit. */
static struct qc_tensor_statistics known_of(const struct qc_pipeline *p, int v)
{
    if (p->statistics != NULL) {
        return p->statistics->tensors[p->tensor_of[v]];
    }
    const struct qc_value *value = &p->graph->values[v];
    uint64_t n = (uint64_t)p->report->n_calibration * qc_shape_elements(&value->shape);
    struct qc_tensor_statistics t = {.name = value->name, .count = n};
    t.smallest.n = t.largest.n = n < QC_TAIL_MAX ? (size_t)n : QC_TAIL_MAX;
    return t;
}

enum qd_code qc_pipeline_check_ranges(struct qc_pipeline *p, struct qd_error *err)
{
    const char *why = p->statistics != NULL ? "statistics without histograms"
                                            : "histograms is false";
    if (p->options->mode != QC_MODE_STATIC || (p->statistics == NULL && p->options->histograms)) {
        return QD_OK;
    }
    for (int i = 0; i < p->n_candidates; i++) {
        struct qc_pipeline q = *p;
        q.options = &p->candidates[i].options;
        const struct qc_search s = search_of(q.options);
        for (int v = 0; v < p->graph->n_values; v++) {
            if (p->plan->group[v] != v || !p->plan->observe[v] ||
                qc_plan_is_imported(p->plan, v) || qc_pipeline_is_normalized(&q, v)) {
                continue; /* not searched */
            }
            const struct qc_tensor_statistics t = known_of(p, v);
            enum qd_code code = qc_calibrate_check(&t, q.options->calibrator, &s, err);
            if (code != QD_OK) {
                return qd_wrap(err, code, "%s", why);
            }
        }
    }
    return QD_OK;
}

/* E[x] of every observed value that has a channel axis, for the bias correction. */
static enum qd_code quantize(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    const double **mean = NULL;
    int *n_channels = NULL;
    QD_TRY(qc_pipeline_begin(p, QC_PHASE_WEIGHTS, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*mean), &mean, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(int), &n_channels, err));
    for (int v = 0; v < g->n_values; v++) {
        if (p->tensor_of[v] >= 0 && p->plan->channel_axis[v] >= 0) {
            mean[v] = p->statistics->tensors[p->tensor_of[v]].channel_mean;
            n_channels[v] = p->statistics->tensors[p->tensor_of[v]].n_channels;
        }
    }
    return qc_quantize_graph(p->plan, p->pairs, mean, n_channels, p->arena, &p->quantized, err);
}

enum qd_code qc_pipeline_derive(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(search(p, err));
    if (p->observer != NULL) {
        qc_observer_drop_counts(p->observer);
    }
    return quantize(p, err);
}

enum qd_code qc_pipeline_export(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(qc_pipeline_begin(p, QC_PHASE_EXPORTING, err));
    QD_TRY(qc_onnx_export(p->quantized->graph, p->arena, &p->artifact, err));
    p->report->opset_in = p->graph->opset;
    p->report->opset_out = qc_onnx_export_opset(p->quantized->graph);
    return QD_OK;
}
