#include "quantcore/qc_pipeline.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "quantcore/calib/statistics_file.h"
#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum qd_code progress(struct qc_pipeline *p, int64_t done, int64_t total, const char *unit,
                             struct qd_error *err)
{
    const struct qc_progress *c = &p->job->progress;
    if (c->step != NULL && !c->step(c->ctx, p->phase, done, total, unit)) {
        return qd_fail(err, QD_CANCELED, "canceled in phase %s", qc_phase_name(p->phase));
    }
    return QD_OK;
}

/* The former phase ends where the next begins, so that the times add up to the wall clock. */
static enum qd_code begin_phase(struct qc_pipeline *p, enum qc_phase phase, struct qd_error *err)
{
    double t = now();
    p->report->phase_seconds[p->phase] += t - p->phase_start;
    p->phase = phase;
    p->phase_start = t;
    return progress(p, 0, 0, "", err);
}

/* ---- before the data ------------------------------------------------------------------------- */

static void free_states(void *arg)
{
    struct qc_pipeline *p = arg;
    /* The job is the caller's and may be gone by now; the report lives in the arena. */
    for (int i = 0; p->states != NULL && i < p->report->n_threads; i++) {
        qc_exec_state_free(p->states[i]);
        p->states[i] = NULL;
    }
}

static enum qd_code build_f32(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_exec_options options = {.kernels = &p->kernels, .keep = NULL};
    QD_TRY(begin_phase(p, QC_PHASE_FOLDING, err));
    QD_TRY(qc_onnx_import(p->job->model, p->arena, &p->graph, err));
    QD_TRY(qc_passes_run_import(p->graph, &p->import, err));
    QD_TRY(qc_exec_build(p->graph, &options, p->arena, &p->exec, err));
    size_t n = (size_t)p->job->threads.n_threads;
    QD_TRY(qd_arena_array(p->arena, n, sizeof(struct qc_exec_state *), &p->states, err));
    QD_TRY(qd_arena_defer(p->arena, free_states, p, err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(qc_exec_state_new(p->exec, &p->states[i], err));
    }
    return QD_OK;
}

static enum qd_code init_feeds(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    if (p->job->calibration == NULL) {
        if (p->job->statistics.size == 0) {
            return qd_fail(err, QD_INVALID, "calibration data are missing: mode static needs them, "
                           "or the statistics of another run");
        }
        if (p->job->validation == NULL) {
            return QD_OK; /* nothing to verify with */
        }
        QD_TRY(qc_feed_init(&p->verification, p->job->validation, p->graph, QC_FEED_ALL, 0,
                            o->max_verification, o->batch_size, NULL, p->arena, err));
        p->report->n_verification = p->verification.limit;
        return QD_OK;
    }
    bool given = p->job->validation != NULL;
    double share = given ? 0 : o->holdout;
    QD_TRY(qc_feed_init(&p->calibration, p->job->calibration, p->graph, QC_FEED_KEPT, share,
                        o->max_samples, o->batch_size, NULL, p->arena, err));
    int64_t limit = p->calibration.limit;
    if (!given && limit > 1 && qc_feed_count(limit, share, QC_FEED_HELD_BACK) < 1) {
        share = p->calibration.share = 1.0 / (double)limit; /* at least one sample to verify */
    }
    p->report->n_calibration = qc_feed_count(limit, share, QC_FEED_KEPT);
    p->report->verification_held_back = !given;
    if (p->report->n_calibration < 1) {
        return qd_fail(err, QD_INVALID, "the calibration data hold no sample");
    }
    struct qc_reader *reader = given ? p->job->validation : p->job->calibration;
    /* A single sample has to serve for both. */
    enum qc_feed_part part = given || limit == 1 ? QC_FEED_ALL : QC_FEED_HELD_BACK;
    QD_TRY(qc_feed_init(&p->verification, reader, p->graph, part, share,
                        given ? o->max_verification : limit, o->batch_size, &p->calibration,
                        p->arena, err));
    qc_feed_cut(&p->verification, o->max_verification);
    p->report->n_verification = qc_feed_count(p->verification.limit, share, part);
    return QD_OK;
}

/* The plan once more, with the pairs of the job's table. */
static enum qd_code take_table(struct qc_pipeline *p, struct qc_quantize_options *q,
                               struct qd_error *err)
{
    if (p->import != NULL) {
        return qd_fail(err, QD_INVALID, "the network is quantized already, by its own scales: a "
                                        "calibration table cannot replace them");
    }
    p->report->n_table = p->job->n_table;
    QD_TRY(qc_table_import(p->plan, p->job->table, p->job->n_table, p->arena, &p->import,
                           &p->report->n_table_unused, err));
    q->import = p->import;
    return qc_quantize_plan_new(p->graph, q, p->arena, &p->plan, err);
}

static enum qd_code make_plan(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    struct qc_quantize_options q = {.weights_per_channel = o->weights_per_channel,
                                    .dense_per_channel =
                                        o->weights_per_channel && o->dense_per_channel,
                                    .weights_full_range = o->weights_full_range,
                                    .activations = o->activations,
                                    .bias_correction = o->bias_correction,
                                    .quantize_last_output = o->quantize_last_output,
                                    .exclude = o->exclude,
                                    .import = p->import};
    QD_TRY(qc_quantize_plan_new(p->graph, &q, p->arena, &p->plan, err));
    if (p->plan->n_integer == 0) {
        return qd_fail(err, QD_INVALID, "nothing in the network can be quantized: %d operators, "
                       "all of them stay in f32", p->plan->n_f32);
    }
    return p->job->n_table > 0 ? take_table(p, &q, err) : QD_OK;
}

/* ---- statistics ------------------------------------------------------------------------------ */

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
    struct qc_observer_options options = {.n_threads = p->job->threads.n_threads,
                                          .n_slots = o->batch_size,
                                          .n_samples = p->report->n_calibration,
                                          .min_percentile = o->min_percentile,
                                          .max_percentile = o->max_percentile,
                                          .tail_length = o->tail_length,
                                          .kernels = &p->kernels};
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
                              "the statistics have %d channels of '%s', the network has %lld",
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
    return find_statistics(p, err);
}

/* ---- the two passes -------------------------------------------------------------------------- */

struct pass_batch {
    struct qc_pipeline *p;
    bool second;
    struct qd_error *errors; /* a thread each */
    enum qd_code *codes;
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
    if (tensor < 0) {
        return;
    }
    if (s->batch->second) {
        qc_observer_pass2(p->observer, tensor, s->thread, view);
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
        qc_exec_run(p->exec, p->states[thread], (const void *const *)p->calibration.slot[index],
                    observe, &s, &b->errors[thread]);
    b->codes[thread] = b->codes[thread] != QD_OK ? b->codes[thread] : code;
}

static enum qd_code run_batch(struct qc_pipeline *p, struct pass_batch *b, int n,
                              struct qd_error *err)
{
    const struct qc_threads *t = &p->job->threads;
    t->parallel_for(t->ctx, n, run_sample, b);
    for (int i = 0; i < t->n_threads; i++) {
        if (b->codes[i] != QD_OK) {
            *err = b->errors[i];
            return b->codes[i];
        }
    }
    return QD_OK;
}

static enum qd_code look_at_batch(struct qc_pipeline *p, int n, struct qd_error *err)
{
    for (int i = 0; i < n; i++) {
        QD_TRY(qc_sanity_sample(p->sanity, (const float *const *)p->calibration.slot[i], err));
    }
    return QD_OK;
}

static enum qd_code run_pass(struct qc_pipeline *p, bool second, struct qd_error *err)
{
    struct pass_batch b = {.p = p, .second = second};
    size_t n_threads = (size_t)p->job->threads.n_threads;
    int64_t done = 0;
    int n = 0;
    QD_TRY(begin_phase(p, second ? QC_PHASE_PASS2 : QC_PHASE_PASS1, err));
    QD_TRY(qd_arena_array(p->arena, n_threads, sizeof(*b.errors), &b.errors, err));
    QD_TRY(qd_arena_array(p->arena, n_threads, sizeof(*b.codes), &b.codes, err));
    QD_TRY(qc_feed_rewind(&p->calibration, err));
    for (;;) {
        QD_TRY(qc_feed_batch(&p->calibration, &n, err));
        if (n == 0) {
            break;
        }
        QD_TRY(run_batch(p, &b, n, err));
        if (!second) {
            QD_TRY(look_at_batch(p, n, err));
            QD_TRY(qc_observer_end_batch(p->observer, n, p->calibration.index[0], err));
        }
        done += n;
        QD_TRY(progress(p, done, p->report->n_calibration, "samples", err));
    }
    return second ? qc_observer_end_pass2(p->observer, &p->statistics, err)
                  : qc_observer_end_pass1(p->observer, err);
}

static enum qd_code calibrate(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(make_observer(p, err));
    QD_TRY(qc_sanity_new(p->graph, p->arena, &p->sanity, err));
    QD_TRY(run_pass(p, false, err));
    QD_TRY(run_pass(p, true, err));
    if (p->job->model_sha256 != NULL) {
        memcpy(p->statistics->model_sha256, p->job->model_sha256, 32);
    }
    return qc_statistics_write(p->statistics, p->arena, &p->report->statistics, err);
}

/* ---- after the data -------------------------------------------------------------------------- */

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

static enum qd_code search(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    struct qc_search s = {.min_percentile = o->min_percentile,
                          .max_percentile = o->max_percentile,
                          .start = o->search_start_scale,
                          .end = o->search_end_scale,
                          .step = o->search_step,
                          .bins = o->bins,
                          .form = o->divergence,
                          .symmetric = o->activations.symmetric};
    const struct qc_graph *g = p->graph;
    QD_TRY(begin_phase(p, QC_PHASE_SEARCHING, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_values, sizeof(*p->ranges), &p->ranges, err));
    for (int v = 0; v < g->n_values; v++) {
        if (p->plan->group[v] == v && p->tensor_of[v] >= 0) {
            QD_TRY(find_range(p, v, &s, err));
        }
    }
    return qc_quantize_plan_pairs(p->plan, p->ranges, p->arena, &p->pairs, err);
}

/* E[x] of every observed value that has a channel axis, for the bias correction. */
static enum qd_code quantize(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    const double **mean = NULL;
    int *n_channels = NULL;
    QD_TRY(begin_phase(p, QC_PHASE_WEIGHTS, err));
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

static enum qd_code export_artifact(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(begin_phase(p, QC_PHASE_EXPORTING, err));
    QD_TRY(qc_onnx_export(p->quantized->graph, p->arena, &p->artifact, err));
    p->report->opset_in = p->graph->opset;
    p->report->opset_out = p->graph->opset < 13 ? 13 : p->graph->opset;
    return QD_OK;
}

static void verify_one(void *arg, int index, int thread)
{
    struct qc_pipeline *p = arg;
    const int32_t *labels = qc_reader_labels(p->verification.reader);
    qc_verify_sample(p->verify, thread, index, (const void *const *)p->verification.slot[index],
                     labels != NULL ? labels[p->verification.index[index]] : -1);
}

static enum qd_code new_verify(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_graph *g = NULL;
    struct qc_exec *exec = NULL;
    struct qc_verify_codes codes;
    if (p->options->mode != QC_MODE_STATIC) {
        QD_TRY(qc_mode_load(p, &g, &exec, &codes, err));
    } else {
        QD_TRY(qc_model_load_int8(p->artifact, &p->kernels, p->arena, &g, &exec, &codes, err));
    }
    struct qc_verify_options o = {.f32_graph = p->graph,
                                  .f32_exec = p->exec,
                                  .int_graph = g,
                                  .int_exec = exec,
                                  .codes = &codes,
                                  .n_threads = p->job->threads.n_threads,
                                  .n_slots = p->options->batch_size};
    return qc_verify_new(&o, p->arena, &p->verify, err);
}

static enum qd_code verify(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_threads *t = &p->job->threads;
    int64_t done = 0;
    int n = 0;
    QD_TRY(begin_phase(p, QC_PHASE_VERIFYING, err));
    free_states(p); /* verification has its own */
    enum qd_code code = new_verify(p, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "read the artifact back");
    }
    if (p->verification.reader == NULL) {
        return QD_OK; /* nothing was given to verify with */
    }
    QD_TRY(qc_feed_rewind(&p->verification, err));
    for (;;) {
        QD_TRY(qc_feed_batch(&p->verification, &n, err));
        if (n == 0) {
            return QD_OK;
        }
        t->parallel_for(t->ctx, n, verify_one, p);
        QD_TRY(qc_verify_end_batch(p->verify, n, err));
        done += n;
        QD_TRY(progress(p, done, p->report->n_verification, "samples", err));
    }
}

/* What can be known before the first pass. */
static enum qd_code prepare(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(qc_options_check(p->options, err));
    QD_TRY(build_f32(p, err));
    if (p->job->release_model != NULL) {
        p->job->release_model(p->job->release_ctx);
    }
    p->report->model_name = p->graph->name != NULL ? p->graph->name : "";
    if (p->options->mode == QC_MODE_STATIC || qc_mode_calibrates(p)) {
        QD_TRY(init_feeds(p, err));
    }
    if (p->options->mode != QC_MODE_STATIC) {
        QD_TRY(begin_phase(p, QC_PHASE_WEIGHTS, err));
        return qc_mode_prepare(p, err);
    }
    return make_plan(p, err);
}

static enum qd_code run_phases(struct qc_pipeline *p, struct qd_error *err)
{
    bool is_static = p->options->mode == QC_MODE_STATIC;
    QD_TRY(prepare(p, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)p->graph->n_values, sizeof(int), &p->tensor_of, err));
    if (is_static || qc_mode_calibrates(p)) {
        QD_TRY(p->job->statistics.size > 0 ? load_statistics(p, err) : calibrate(p, err));
    }
    if (is_static) {
        QD_TRY(search(p, err));
    }
    if (p->observer != NULL) {
        qc_observer_drop_counts(p->observer);
    }
    if (is_static) {
        QD_TRY(quantize(p, err));
    } else if (qc_mode_calibrates(p)) {
        QD_TRY(begin_phase(p, QC_PHASE_BIAS, err));
        QD_TRY(qc_mode_correct(p, err));
    }
    QD_TRY(export_artifact(p, err));
    return verify(p, err);
}

static enum qd_code pipeline_new(const struct qc_job *job, const struct qc_options *options,
                                 struct qd_arena *arena, struct qc_pipeline **ret,
                                 struct qd_error *err)
{
    struct qc_pipeline *p = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*p), &p, err));
    QD_TRY(qd_arena_alloc(arena, sizeof(*p->report), &p->report, err));
    p->job = job;
    p->options = options;
    p->arena = arena;
    p->start = p->phase_start = now();
    qc_kernels_init(&p->kernels, options->isa);
    p->report->mode = options->mode;
    p->report->isa = qc_isa_name(p->kernels.isa);
    p->report->n_threads = job->threads.n_threads;
    *ret = p;
    return QD_OK;
}

enum qd_code qc_check(const struct qc_job *job, const struct qc_options *options,
                      struct qd_arena *arena, struct qc_check **ret, struct qd_error *err)
{
    struct qc_pipeline *p = NULL;
    struct qc_check *check = NULL;
    struct qd_error local;
    int n = 0;
    err = err != NULL ? err : &local;
    QD_TRY(pipeline_new(job, options, arena, &p, err));
    QD_TRY(qd_arena_alloc(arena, sizeof(*check), &check, err));
    QD_TRY(prepare(p, err));
    struct qc_feed *feed = p->calibration.reader != NULL ? &p->calibration : &p->verification;
    if (feed->reader != NULL) {
        QD_TRY(qc_feed_rewind(feed, err));
        QD_TRY(qc_feed_batch(feed, &n, err));
    }
    check->n_calibration = p->report->n_calibration;
    check->n_verification = p->report->n_verification;
    check->n_nodes_int8 = p->plan->n_integer;
    check->n_nodes_f32 = p->plan->n_f32;
    *ret = check;
    return QD_OK;
}

enum qd_code qc_quantize(const struct qc_job *job, const struct qc_options *options,
                         struct qd_arena *arena, struct qd_bytes *ret_artifact,
                         struct qc_report **ret_report, struct qd_error *err)
{
    struct qc_pipeline *p = NULL;
    struct qd_error local;
    err = err != NULL ? err : &local; /* phases copy threads' errors into it */
    QD_TRY(pipeline_new(job, options, arena, &p, err));
    QD_TRY(run_phases(p, err));
    QD_TRY(qc_report_fill(p, err));
    p->report->phase_seconds[p->phase] += now() - p->phase_start;
    p->report->total_seconds = now() - p->start;
    *ret_artifact = p->artifact;
    *ret_report = p->report;
    if (!p->report->gate_passed) {
        return qd_fail(err, QD_CONFLICT, "the artifact does not pass the gate: SQNR %.2f dB, "
                       "agreement %.4f", p->report->outputs[0].sqnr_db,
                       p->report->outputs[0].top1_agreement);
    }
    return QD_OK;
}
