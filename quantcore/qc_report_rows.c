/* The tables of the report: calibration, layers, outputs. */
#include <math.h>
#include <string.h>

#include "quantcore/qc_pipeline.h"
#include "quantcore/quant/saturating_pairs.h"

#define MOST_ENTROPY    0.97 /* squeezenet: 0.999 given 0..1 for -123..151, 0.2 given the right */
#define LEAST_CLASSES   10
#define GATE_LIMITS     3
#define LEAST_UNCERTAIN 4    /* samples */

static const char *producer_type(const struct qc_graph *g, int value)
{
    int n = g->values[value].producer;
    return n < 0 ? "Input" : g->nodes[n].op_type;
}

static const char *source_of(const struct qc_pipeline *p, int v)
{
    if (qc_plan_is_imported(p->plan, v)) {
        return "imported";
    }
    return qc_pipeline_is_normalized(p, v) ? "normalization" : "calibrated";
}

/* Names of the values that share the pair of their group's root. */
static enum qd_code shared_names(const struct qc_pipeline *p, int root,
                                 struct qc_calibration_row *row, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    const char **names = NULL;
    int n = 0;
    for (int v = 0; v < g->n_values; v++) {
        n += p->plan->group[v] == root && v != root;
    }
    if (n == 0) {
        return QD_OK;
    }
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(*names), &names, err));
    for (int v = 0; v < g->n_values; v++) {
        if (p->plan->group[v] == root && v != root) {
            names[row->n_shared++] = g->values[v].name;
        }
    }
    row->shared = names;
    return QD_OK;
}

static enum qd_code calibration_rows(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    struct qc_report *r = p->report;
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*r->calibration), &r->calibration,
                          err));
    for (int v = 0; v < g->n_values; v++) {
        if (p->plan->group[v] != v || p->tensor_of[v] < 0) {
            continue; /* one row a group: the others share its pair */
        }
        const struct qc_tensor_statistics *t = &p->statistics->tensors[p->tensor_of[v]];
        r->calibration[r->n_calibration_rows++] = (struct qc_calibration_row){
            .tensor = g->values[v].name,
            .op_type = producer_type(g, v),
            .dtype = p->pairs[v].is_s8 ? "s8" : "u8",
            .source = source_of(p, v),
            .scale = p->pairs[v].scale,
            .zero_point = p->pairs[v].zero_point,
            .lo = p->ranges[v].lo,
            .hi = p->ranges[v].hi,
            .min = t->min,
            .max = t->max,
            .mean = t->mean,
            .std = t->std,
            .is_constant = t->min == t->max,
            .count = (int64_t)t->count,
            .clipped_share = p->ranges[v].clipped_share,
        };
        QD_TRY(shared_names(p, v, &r->calibration[r->n_calibration_rows - 1], err));
    }
    return QD_OK;
}

static int64_t weights_of(const struct qc_graph *g, const struct qc_node *n)
{
    if (!qc_is_product(n)) {
        return 0;
    }
    const struct qc_tensor *w = qc_node_constant(g, n, 1);
    return w != NULL ? (int64_t)qc_shape_elements(&w->shape) : 0;
}

/* 10 log10(sum w^2 / sum (w - w^)^2): what rounding the weights alone costs. */
static double weight_sqnr(const struct qc_quantized_weights *w)
{
    struct qc_metric m = {0};
    if (w == NULL) {
        return NAN;
    }
    const float *x = w->source->data;
    for (size_t i = 0; i < qc_shape_elements(&w->source->shape); i++) {
        float y = (float)qc_quantized_weights_value(w, i);
        qc_metric_add_dense(&m, &x[i], &y, 1);
    }
    return qc_metric_sqnr_db(&m);
}

static void measured(struct qc_layer_row *row, const struct qc_verify_layer *layer)
{
    row->local_sqnr_db = qc_metric_sqnr_db(&layer->local);
    row->cumulative_sqnr_db = qc_metric_sqnr_db(&layer->cumulative);
    row->cosine = qc_metric_cosine(&layer->cumulative);
    row->max_error = layer->cumulative.n > 0 ? layer->cumulative.max_error : (double)NAN;
    row->saturated_share = qc_metric_saturated_share(&layer->cumulative);
}

static void weights_row(struct qc_layer_row *row, const struct qc_graph *g,
                        const struct qc_node *n, const struct qc_quantized_weights *w)
{
    if (w == NULL) {
        return;
    }
    row->input = g->values[n->inputs[0]].name;
    row->weights = g->values[n->inputs[1]].name;
    row->weight_scales = w->scale;
    row->n_weight_scales = w->n_scales;
    row->weight_zero_points = w->zero_point;
    row->n_dead_channels = w->n_dead;
    row->n_raised_scales = w->n_raised;
    row->f32_bias = w->f32_bias;
    row->n_saturating_pairs =
        strcmp(row->precision, "int8") == 0 ? qc_saturating_pairs(n, w) : 0;
    row->n_channels = w->source->shape.dim[qc_weights_axis(n, w->source)];
    row->n_groups = n->op == QC_OP_CONV ? qc_node_int(n, "group", 1) : 1;
    row->block_size = w->format.block;
}

/* Codes of the model's own have no quantized weights in a mode that restores them as they are. */
static int weight_bits(const struct qc_pipeline *p, int node)
{
    const struct qc_quantized_weights *w = p->quantized->weights[node];
    const struct qc_node *n = &p->graph->nodes[node];
    const struct qc_imported_constant *c =
        qc_is_product(n) ? qc_import_constant(p->import, p->graph, n->inputs[1]) : NULL;
    if (w != NULL || c == NULL) {
        return w != NULL ? w->format.bits : 0;
    }
    enum qc_dtype dtype = p->graph->values[c->code].constant->dtype;
    return dtype == QC_S4 || dtype == QC_U4 ? 4 : QC_WEIGHT_BITS;
}

static const char *precision_of(const struct qc_pipeline *p, int node)
{
    static const char *const names[] = {
        [0] = "int8_weights", [1] = "int1_weights", [2] = "int2_weights", [3] = "int3_weights", [4] = "int4_weights",
        [7] = "int8_weights", [QC_WEIGHT_BITS] = "int8_weights", [QC_FLOAT16_BITS] = "float16_weights"};
    if (!p->plan->integer[node]) {
        return "f32";
    }
    return p->options->mode == QC_MODE_WEIGHT_ONLY ? names[weight_bits(p, node)] : "int8";
}

static enum qd_code layer_rows(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    struct qc_report *r = p->report;
    int n_measured = 0;
    const struct qc_verify_layer *layers = qc_verify_layers(p->verify, &n_measured);
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_nodes, sizeof(*r->layers), &r->layers, err));
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (n->shape_only) {
            continue;
        }
        struct qc_layer_row *row = &r->layers[r->n_layers++];
        *row = (struct qc_layer_row){.node = n->name,
                                     .op_type = n->op_type,
                                     .output = g->values[n->outputs[0]].name,
                                     .precision = precision_of(p, i),
                                     .reason = p->plan->reason[i],
                                     .local_sqnr_db = NAN,
                                     .cumulative_sqnr_db = NAN,
                                     .cosine = NAN,
                                     .max_error = NAN,
                                     .saturated_share = NAN,
                                     .weight_sqnr_db = weight_sqnr(p->quantized->weights[i]),
                                     .n_weights = weights_of(g, n)};
        weights_row(row, g, n, p->quantized->weights[i]);
        row->weight_bits = p->plan->integer[i] ? weight_bits(p, i) : 0;
        for (int k = 0; k < n_measured; k++) {
            if (layers[k].f32_node == i) {
                measured(row, &layers[k]);
            }
        }
    }
    return QD_OK;
}

static double share(uint64_t part, uint64_t all)
{
    return all == 0 ? (double)NAN : (double)part / (double)all;
}

static enum qd_code output_rows(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    const struct qc_verify_output *outputs = qc_verify_outputs(p->verify, &r->n_outputs);
    QD_TRY(qd_arena_array(p->arena, (size_t)r->n_outputs, sizeof(*r->outputs), &r->outputs, err));
    for (int i = 0; i < r->n_outputs; i++) {
        const struct qc_verify_output *o = &outputs[i];
        uint64_t classified = o->is_classifier ? o->n : 0;
        r->outputs[i] = (struct qc_output_row){
            .name = p->graph->values[p->graph->outputs[o->output].value].name,
            .sqnr_db = qc_metric_sqnr_db(&o->metric),
            .cosine = qc_metric_cosine(&o->metric),
            .max_error = o->metric.n > 0 ? o->metric.max_error : (double)NAN,
            .top1_agreement = share(o->agree1, classified),
            .top5_agreement = share(o->agree5, classified),
            .accuracy_f32 = share(o->right_f32, o->n_labelled),
            .accuracy_int8 = share(o->right_int8, o->n_labelled),
            .accuracy_ci95 = qc_wilson95(o->right_int8, o->n_labelled),
        };
    }
    return QD_OK;
}

/* The worst of the outputs for which it was measured, NAN when it was for none. */
struct gate_figures {
    double sqnr_db, agreement, drop;
};

static struct gate_figures worst_figures(const struct qc_report *r)
{
    struct gate_figures f = {(double)NAN, (double)NAN, (double)NAN};
    for (int i = 0; i < r->n_outputs; i++) {
        const struct qc_output_row *y = &r->outputs[i];
        f.sqnr_db = fmin(f.sqnr_db, y->sqnr_db); /* of a number and NAN the number */
        f.agreement = fmin(f.agreement, y->top1_agreement);
        f.drop = fmax(f.drop, y->accuracy_f32 - y->accuracy_int8);
    }
    return f;
}

/* Whether each limit holds; a warning says which does not, or that nothing could tell: what was not
 * measured must not be published as if it were. A limit of 0 is off. */
static enum qd_code check_gate(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    struct qc_report *r = p->report;
    const struct gate_figures f = worst_figures(r);
    const struct {
        const char *name, *missing;
        double limit, figure;
        bool holds;
    } limits[GATE_LIMITS] = {
        {"min_sqnr_db", "no output's SQNR was measured", o->gate_min_sqnr_db, f.sqnr_db,
         f.sqnr_db >= o->gate_min_sqnr_db},
        {"min_agreement", "no output is a classifier's", o->gate_min_agreement, f.agreement,
         f.agreement >= o->gate_min_agreement},
        {"max_drop", "no sample has a label", o->gate_max_drop, f.drop,
         f.drop <= o->gate_max_drop}};
    r->gate_passed = true;
    for (int i = 0; i < GATE_LIMITS; i++) {
        if (limits[i].limit <= 0 || limits[i].holds) {
            continue;
        }
        r->gate_passed = false;
        if (isnan(limits[i].figure)) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings], err,
                                   "the gate is closed: %s is %g, but %s", limits[i].name,
                                   limits[i].limit, limits[i].missing));
        } else {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings], err,
                                   "the gate is closed: %s is %g, measured was %.4g",
                                   limits[i].name, limits[i].limit, limits[i].figure));
        }
        r->gate_reason = r->gate_reason != NULL ? r->gate_reason : r->warnings[r->n_warnings];
        r->n_warnings++;
    }
    return QD_OK;
}

static enum qd_code warn_layer(struct qc_pipeline *p, const struct qc_layer_row *row,
                               struct qd_error *err)
{
    struct qc_report *r = p->report;
    if (row->n_dead_channels > 0) {
        QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                               "layer '%s': %d of %lld output channels have next to no weights, "
                               "their scales were raised", row->node, row->n_dead_channels,
                               (long long)row->n_channels));
    }
    if (row->n_raised_scales > 0) {
        QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                               "layer '%s': %d of %d weight scales were raised so that the bias "
                               "fits 32 bits", row->node, row->n_raised_scales,
                               row->n_weight_scales));
    }
    if (row->f32_bias) {
        QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                               "layer '%s': the bias stays f32, it does not fit 32 bits with the "
                               "model's own weight scales", row->node));
    }
    return QD_OK;
}

static enum qd_code warn_preprocessing(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    for (int i = 0; p->sanity != NULL && i < qc_sanity_count(p->sanity); i++) {
        struct qc_sanity_row row = qc_sanity_row_at(p->sanity, i);
        if (row.suspicious && row.trained) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                                   "preprocessing is probably wrong: input '%s' has values from %g "
                                   "to %g; behind '%s' they are spread by a factor of %.3g from, and "
                                   "lie %.3g deviations off, what BatchNormalization saw in "
                                   "training", row.input, row.min, row.max, row.node,
                                   exp2(row.spread), row.shift));
        } else if (row.suspicious) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                                   "preprocessing is perhaps wrong: the mean of input '%s' lies %.2g "
                                   "deviations from zero, but '%s' has next to no bias, as if it was "
                                   "trained on data around zero", row.input, row.offset, row.node));
        }
    }
    return QD_OK;
}

/* Logits that hardly differ: the network does not react to what it is given. */
static enum qd_code warn_uncertain(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    int n = 0;
    const struct qc_verify_output *outputs = qc_verify_outputs(p->verify, &n);
    for (int i = 0; i < n; i++) {
        const struct qc_verify_output *o = &outputs[i];
        const struct qc_value *v = &p->graph->values[p->graph->outputs[o->output].value];
        double entropy = o->n > 0 ? o->entropy / (double)o->n : 0;
        if (o->is_classifier && o->n >= LEAST_UNCERTAIN && entropy > MOST_ENTROPY &&
            qc_shape_elements(&v->shape) >= LEAST_CLASSES) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                                   "preprocessing is probably wrong: in output '%s' of the f32 "
                                   "network all classes are nearly as likely (%.2f %% of the most "
                                   "possible entropy)", v->name, 100 * entropy));
        }
    }
    return QD_OK;
}

/* Classes counted from 1, or labels of another network: the accuracy means nothing. */
static enum qd_code warn_labels(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    int n = 0;
    const struct qc_verify_output *outputs = qc_verify_outputs(p->verify, &n);
    for (int i = 0; i < n; i++) {
        const struct qc_verify_output *o = &outputs[i];
        const struct qc_value *v = &p->graph->values[p->graph->outputs[o->output].value];
        if (o->n_beyond > 0) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                                   "labels are wrong: %llu of %llu are no class, output '%s' has "
                                   "%lld classes, the largest is %d", (unsigned long long)o->n_beyond,
                                   (unsigned long long)o->n_labelled, v->name,
                                   (long long)v->shape.dim[1], (int)o->largest_label));
        }
    }
    return QD_OK;
}

static enum qd_code add_warnings(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    size_t n_looked = p->sanity != NULL ? (size_t)qc_sanity_count(p->sanity) : 0;
    size_t most = 3 * (size_t)r->n_layers + 2 * (size_t)r->n_calibration_rows + n_looked +
                  2 * (size_t)r->n_outputs + GATE_LIMITS;
    QD_TRY(qd_arena_array(p->arena, most, sizeof(*r->warnings), &r->warnings, err));
    QD_TRY(warn_preprocessing(p, err));
    QD_TRY(warn_uncertain(p, err));
    QD_TRY(warn_labels(p, err));
    for (int i = 0; i < r->n_layers; i++) {
        QD_TRY(warn_layer(p, &r->layers[i], err));
    }
    for (int i = 0; i < r->n_calibration_rows; i++) {
        const struct qc_calibration_row *c = &r->calibration[i];
        if (c->is_constant) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                                   "tensor '%s' is %g in every calibration sample", c->tensor,
                                   c->min));
        }
        /* Without histograms it is not known how many, but that there are some. */
        if (strcmp(c->source, "normalization") == 0 && !(c->clipped_share <= 0)) {
            QD_TRY(qd_arena_printf(p->arena, &r->warnings[r->n_warnings++], err,
                                   "input '%s' has values from %g to %g, mean and std promise %g to "
                                   "%g", c->tensor, c->min, c->max, c->lo, c->hi));
        }
    }
    return QD_OK;
}

enum qd_code qc_report_fill(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    QD_TRY(calibration_rows(p, err));
    QD_TRY(layer_rows(p, err));
    QD_TRY(output_rows(p, err));
    r->weight_bits = p->options->weight_bits;
    r->block_size = p->options->block_size;
    r->n_nodes_int8 = p->plan->n_integer;
    r->n_nodes_f32 = p->plan->n_f32;
    r->n_imported_tensors = p->import != NULL ? p->import->n_pairs : 0;
    r->n_imported_constants = p->import != NULL ? p->import->n_constants : 0;
    r->size_in = p->job->model.size;
    for (int i = 0; p->job->external != NULL && i < p->job->external->n; i++) {
        r->size_in += p->job->external->files[i].bytes.size;
    }
    r->size_out = p->artifact.size;
    QD_TRY(add_warnings(p, err));
    QD_TRY(check_gate(p, err));
    r->peak_arena_bytes = p->arena->peak;
    return QD_OK;
}
