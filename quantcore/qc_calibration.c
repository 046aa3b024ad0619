/* Statistics: from both passes over the calibration data, or of an earlier run. */
#include <math.h>
#include <string.h>

#include "quantcore/calib/fake_quant.h"
#include "quantcore/calib/statistics_file.h"
#include "quantcore/qc_pipeline.h"

/* Statistics serve other configurations of the same network later: what is observed must not
 * depend on what this one excludes. */
static enum qd_code widen_observation(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_quantize_options q = p->plan->options;
    struct qc_quantize_plan *wide = NULL;
    q.exclude = (struct qc_exclude){.nodes = NULL};
    q.quantize_last_output = true;
    QD_TRY(qc_quantize_plan_new(p->graph, &q, p->arena, &wide, err));
    for (int v = 0; v < p->graph->n_values; v++) {
        p->plan->observe[v] = p->plan->observe[v] || wide->observe[v];
        if (p->plan->channel_axis[v] < 0) {
            p->plan->channel_axis[v] = wide->channel_axis[v];
        }
    }
    return QD_OK;
}

static enum qd_code make_observer(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    struct qc_observed *observed = NULL;
    const struct qc_graph *g = p->graph;
    int n = 0;
    QD_TRY(widen_observation(p, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*observed), &observed, err));
    for (int v = 0; v < g->n_values; v++) {
        p->tensor_of[v] = p->plan->observe[v] ? n : -1;
        if (p->plan->observe[v]) {
            observed[n++] = (struct qc_observed){.name = g->values[v].name,
                                                 .shape = g->values[v].shape,
                                                 .channel_axis = p->plan->channel_axis[v]};
        }
    }
    double min_percentile = o->min_percentile, max_percentile = o->max_percentile;
    for (int i = 0; i < p->n_candidates; i++) { /* tails long enough for each */
        min_percentile = fmin(min_percentile, p->candidates[i].options.min_percentile);
        max_percentile = fmin(max_percentile, p->candidates[i].options.max_percentile);
    }
    struct qc_observer_options options = {.n_threads = p->job->threads.n_threads,
                                          .n_slots = o->batch_size,
                                          .n_samples = p->report->n_calibration,
                                          .min_percentile = min_percentile,
                                          .max_percentile = max_percentile,
                                          .tail_length = o->tail_length,
                                          .kernels = &p->kernels,
                                          .counts_at_once = o->inference == QC_INFERENCE_FLOAT,
                                          .no_histograms = !o->histograms};
    return qc_observer_new(observed, n, &options, p->arena, &p->observer, err);
}

/* What the plan needs, from an earlier run. */
static enum qd_code find_statistics(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    for (int v = 0; v < g->n_values; v++) {
        const char *name = g->values[v].name;
        int axis = p->plan->channel_axis[v];
        p->tensor_of[v] = p->plan->observe[v] ? qc_statistics_find(p->statistics, name) : -1;
        if (!p->plan->observe[v]) {
            continue;
        }
        if (p->tensor_of[v] < 0) {
            return qd_fail_on(err, QD_INVALID, name,
                              "the statistics have no tensor '%s', which has to be quantized: they "
                              "are of another network or another version of quantd",
                              name);
        }
        const struct qc_tensor_statistics *t = &p->statistics->tensors[p->tensor_of[v]];
        if (axis >= 0 && t->n_channels != g->values[v].shape.dim[axis]) {
            return qd_fail_on(err, QD_INVALID, name,
                              "the statistics have %d channels of '%s', the network has %lld: they "
                              "are of another network or another version of quantd",
                              t->n_channels, name, (long long)g->values[v].shape.dim[axis]);
        }
    }
    return QD_OK;
}

static enum qd_code load_statistics(struct qc_pipeline *p, struct qd_error *err)
{
    static const uint8_t unknown[32];
    const uint8_t *model = p->job->model_sha256;
    QD_TRY(qc_statistics_read(p->job->statistics, p->arena, &p->statistics, err));
    const uint8_t *theirs = p->statistics->model_sha256;
    if (model != NULL && memcmp(theirs, unknown, 32) != 0 && memcmp(theirs, model, 32) != 0) {
        return qd_fail(err, QD_INVALID,
                       "the statistics are of another model: it begins with sha256 "
                       "%02x%02x%02x%02x, this one with %02x%02x%02x%02x",
                       theirs[0], theirs[1], theirs[2], theirs[3], model[0], model[1], model[2],
                       model[3]);
    }
    p->report->n_calibration = p->statistics->n_samples;
    p->report->statistics = p->job->statistics;
    QD_TRY(find_statistics(p, err));
    return qc_pipeline_check_ranges(p, err);
}

/* ---- the two passes -------------------------------------------------------------------------- */

struct qc_rounded {
    struct qd_arena arena;
    struct qc_graph *graph;
    struct qc_exec *exec;
    struct qc_exec_state **states; /* a thread each */
};

/* The network with the weights as they will be, for a second pass that sees what quantization does
 * upstream: a copy of the graph that differs in its constants. */
static enum qd_code round_weights(struct qc_pipeline *p, struct qc_graph *g, struct qd_arena *arena,
                                  struct qd_error *err)
{
    const struct qc_quantize_options *o = &p->plan->options;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (!p->plan->integer[i] || !qc_is_product(n) ||
            qc_import_constant(p->import, p->graph, n->inputs[1]) != NULL) {
            continue; /* the model's own codes are rounded already */
        }
        struct qc_value *v = &g->values[n->inputs[1]];
        struct qc_quantized_weights w = {.source = NULL};
        struct qc_tensor *rounded = NULL;
        bool per_channel =
            qc_is_convolution(n) ? o->weights_per_channel : o->dense_per_channel;
        const struct qc_weight_format format = {
            .form = qc_weight_form(o->weights_asymmetric, o->weights_full_range),
            .bits = o->weight_bits};
        QD_TRY(qc_quantize_weights(v->constant, per_channel ? qc_weights_axis(n, v->constant) : -1,
                                   &format, arena, &w, err));
        QD_TRY(qc_tensor_new(arena, QC_F32, &v->constant->shape, &rounded, err));
        for (size_t k = 0; k < qc_shape_elements(&rounded->shape); k++) {
            ((float *)rounded->data)[k] = (float)qc_quantized_weights_value(&w, k);
        }
        v->constant = rounded;
    }
    return QD_OK;
}

static enum qd_code rounded_program(struct qc_pipeline *p, struct qc_rounded *r,
                                    struct qd_error *err)
{
    const struct qc_exec_options options = {.kernels = &p->kernels};
    qd_arena_init_inside(&r->arena, p->arena);
    QD_TRY(qd_arena_copy(&r->arena, p->graph, sizeof(*p->graph), &r->graph, err));
    QD_TRY(qd_arena_copy(&r->arena, p->graph->values,
                         (size_t)p->graph->n_values * sizeof(*p->graph->values), &r->graph->values,
                         err));
    QD_TRY(round_weights(p, r->graph, &r->arena, err));
    QD_TRY(qc_exec_build(r->graph, &options, &r->arena, &r->exec, err));
    size_t n = (size_t)p->job->threads.n_threads;
    QD_TRY(qd_arena_array(&r->arena, n, sizeof(*r->states), &r->states, err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(qc_exec_state_new(r->exec, &r->states[i], err));
    }
    return QD_OK;
}

static void rounded_done(struct qc_pipeline *p, struct qc_rounded *r)
{
    for (int i = 0; r->states != NULL && i < p->job->threads.n_threads; i++) {
        qc_exec_state_free(r->states[i]);
    }
    qd_arena_done(&r->arena);
}

struct pass_batch {
    struct qc_pipeline *p;
    bool second;
    const struct qc_exec *exec;
    struct qc_exec_state **states;
    const struct qc_rounded *rounded; /* NULL: plain f32 */
    struct qd_error *errors; /* a thread each */
    enum qd_code *codes;
    /* The batch after this one, and what its reading came to. */
    int n_ahead;
    enum qd_code ahead_code;
    struct qd_error ahead_error;
};

struct pass_sample {
    const struct pass_batch *batch;
    int slot, thread;
};

static void observe(void *ctx, int value, const struct qc_view *view)
{
    const struct pass_sample *s = ctx;
    struct qc_pipeline *p = s->batch->p;
    int tensor = p->tensor_of[value];
    if (p->moments != NULL && !s->batch->second) {
        qc_moments_add(p->moments, s->thread, value, view);
    }
    if (tensor < 0) {
        return;
    }
    if (s->batch->second) {
        qc_observer_pass2(p->observer, tensor, s->thread, view);
        if (s->batch->rounded != NULL && p->plan->group[value] == value) {
            qc_fake_quant_view(&p->kernels, p->options->activations, view);
        }
    } else {
        qc_observer_pass1(p->observer, tensor, s->thread, s->slot, view);
    }
}

static void run_sample(void *arg, int index, int thread)
{
    struct pass_batch *b = arg;
    struct pass_sample s = {b, index, thread};
    struct qc_pipeline *p = b->p;
    enum qd_code code =
        qc_exec_run(b->exec, b->states[thread], (const void *const *)p->calibration.slot[index],
                    observe, &s, &b->errors[thread]);
    b->codes[thread] = b->codes[thread] != QD_OK ? b->codes[thread] : code;
}

static enum qd_code look_at_batch(struct qc_pipeline *p, int n, struct qd_error *err)
{
    for (int i = 0; i < n; i++) {
        QD_TRY(qc_sanity_sample(p->sanity, (const float *const *)p->calibration.slot[i], err));
    }
    return QD_OK;
}

/* What only one thread may do, while the others run samples: the plausibility of this batch and
 * reading the next one. */
static void read_ahead(struct pass_batch *b, int n)
{
    struct qc_pipeline *p = b->p;
    b->ahead_code = b->second ? QD_OK : look_at_batch(p, n, &b->ahead_error);
    if (b->ahead_code == QD_OK) {
        b->ahead_code = qc_feed_ahead(&p->calibration, &b->n_ahead, &b->ahead_error);
    }
}

struct batch_tasks {
    struct pass_batch *batch;
    int n;
};

static void run_task(void *arg, int index, int thread)
{
    struct batch_tasks *t = arg;
    if (index == 0) {
        read_ahead(t->batch, t->n);
    } else {
        run_sample(t->batch, index - 1, thread);
    }
}

static enum qd_code run_batch(struct qc_pipeline *p, struct pass_batch *b, int n,
                              struct qd_error *err)
{
    const struct qc_threads *t = &p->job->threads;
    struct batch_tasks tasks = {b, n};
    t->parallel_for(t->ctx, n + 1, run_task, &tasks);
    for (int i = 0; i < t->n_threads; i++) {
        if (b->codes[i] != QD_OK) {
            *err = b->errors[i];
            return b->codes[i];
        }
    }
    return QD_OK;
}

static enum qd_code run_pass(struct qc_pipeline *p, bool second, const struct qc_rounded *rounded,
                             struct qd_error *err)
{
    struct pass_batch b = {.p = p,
                           .second = second,
                           .exec = rounded != NULL ? rounded->exec : p->exec,
                           .states = rounded != NULL ? rounded->states : p->states,
                           .rounded = rounded};
    size_t n_threads = (size_t)p->job->threads.n_threads;
    int64_t done = 0;
    int n = 0;
    QD_TRY(qc_pipeline_begin(p, second ? QC_PHASE_PASS2 : QC_PHASE_PASS1, err));
    QD_TRY(qd_arena_array(p->arena, n_threads, sizeof(*b.errors), &b.errors, err));
    QD_TRY(qd_arena_array(p->arena, n_threads, sizeof(*b.codes), &b.codes, err));
    QD_TRY(qc_feed_rewind(&p->calibration, err));
    QD_TRY(qc_feed_room_ahead(&p->calibration, p->graph, p->arena, err));
    QD_TRY(qc_feed_batch(&p->calibration, &n, err));
    for (; n > 0; n = b.n_ahead) {
        QD_TRY(run_batch(p, &b, n, err));
        if (!second) {
            QD_TRY(qc_observer_end_batch(p->observer, n, p->calibration.index[0], err));
        }
        if (b.ahead_code != QD_OK) {
            *err = b.ahead_error;
            return b.ahead_code;
        }
        done += n;
        QD_TRY(qc_pipeline_progress(p, done, p->report->n_calibration, "samples", err));
        qc_feed_swap(&p->calibration);
    }
    return second ? qc_observer_end_pass2(p->observer, &p->statistics, err)
                  : qc_observer_end_pass1(p->observer, err);
}

static enum qd_code run_second_pass(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_rounded rounded = {.states = NULL};
    if (p->options->inference == QC_INFERENCE_FLOAT) { /* it would see the same values again */
        return qc_observer_end_pass2(p->observer, &p->statistics, err);
    }
    enum qd_code code = rounded_program(p, &rounded, err);
    code = code == QD_OK ? run_pass(p, true, &rounded, err) : code;
    rounded_done(p, &rounded);
    return code;
}

static enum qd_code take_moments(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_statistics *s = p->statistics;
    qc_moments_end(p->moments, &s->moments, &s->n_moments);
    for (int i = 0; i < s->n_moments; i++) {
        if (s->moments[i].overflow) {
            return qd_fail_on(err, QD_LIMIT_EXCEEDED, s->moments[i].node,
                              "the second moments of '%s' pass 2^76", s->moments[i].node);
        }
    }
    return QD_OK;
}

static enum qd_code run_passes(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(make_observer(p, err));
    QD_TRY(qc_sanity_new(p->graph, p->arena, &p->sanity, err));
    if (p->options->second_moments) {
        QD_TRY(qc_moments_new(p->graph, p->plan->integer, p->job->threads.n_threads, p->arena,
                              &p->moments, err));
    }
    QD_TRY(run_pass(p, false, NULL, err));
    QD_TRY(run_second_pass(p, err));
    if (p->moments != NULL) {
        QD_TRY(take_moments(p, err));
    }
    if (p->job->model_sha256 != NULL) {
        memcpy(p->statistics->model_sha256, p->job->model_sha256, 32);
    }
    return qc_statistics_write(p->statistics, p->arena, &p->report->statistics, err);
}

enum qd_code qc_pipeline_calibrate(struct qc_pipeline *p, struct qd_error *err)
{
    return p->job->statistics.size > 0 ? load_statistics(p, err) : run_passes(p, err);
}
