#include "quantcore/qc_pipeline.h"

#include <string.h>
#include <time.h>

#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum qd_code qc_pipeline_progress(struct qc_pipeline *p, int64_t done, int64_t total,
                                  const char *unit, struct qd_error *err)
{
    const struct qc_progress *c = &p->job->progress;
    if (c->step != NULL && !c->step(c->ctx, p->phase, done, total, unit)) {
        return qd_fail(err, QD_CANCELED, "canceled in phase %s", qc_phase_name(p->phase));
    }
    return QD_OK;
}

/* The former phase ends where the next begins, so that the times add up to the wall clock. */
enum qd_code qc_pipeline_begin(struct qc_pipeline *p, enum qc_phase phase,
                               struct qd_error *err)
{
    double t = now();
    p->report->phase_seconds[p->phase] += t - p->phase_start;
    p->phase = phase;
    p->phase_start = t;
    return qc_pipeline_progress(p, 0, 0, "", err);
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
    QD_TRY(qc_pipeline_begin(p, QC_PHASE_FOLDING, err));
    QD_TRY(qc_onnx_import(p->job->model, p->job->external, p->arena, &p->graph, err));
    QD_TRY(qc_passes_run_import(p->graph, &p->model_import, err));
    p->import = p->model_import;
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
    bool choose = p->n_candidates > 1;
    double share = given && !choose ? 0 : o->holdout;
    QD_TRY(qc_feed_init(&p->calibration, p->job->calibration, p->graph, QC_FEED_KEPT, share,
                        o->max_samples, o->batch_size, NULL, p->arena, err));
    int64_t limit = p->calibration.limit;
    if (!given && limit > 1 && qc_feed_count(limit, share, QC_FEED_HELD_BACK) < 1) {
        share = p->calibration.share = qc_feed_least_share(limit); /* at least one to verify */
    }
    p->report->n_calibration = qc_feed_count(limit, share, QC_FEED_KEPT);
    p->report->verification_held_back = !given && limit > 1;
    p->report->verification_same = !given && limit == 1;
    if (p->report->n_calibration < 1) {
        return qd_fail(err, QD_INVALID, "the calibration data hold no sample");
    }
    if (given && choose && qc_feed_count(limit, share, QC_FEED_HELD_BACK) > 0) {
        /* The validation set has no part in the choice: what it tells stays worth something. */
        QD_TRY(qc_feed_init(&p->selection, p->job->calibration, p->graph, QC_FEED_HELD_BACK, share,
                            limit, o->batch_size, &p->calibration, p->arena, err));
    }
    struct qc_reader *reader = given ? p->job->validation : p->job->calibration;
    /* A single sample has to serve for both. */
    enum qc_feed_part part = given || limit == 1 ? QC_FEED_ALL : QC_FEED_HELD_BACK;
    share = given ? 0 : share;
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

enum qd_code qc_pipeline_plan(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_options *o = p->options;
    p->import = p->model_import; /* another candidate's plan took the table its own way */
    struct qc_quantize_options q = {.weights_per_channel = o->weights_per_channel,
                                    .dense_per_channel =
                                        o->weights_per_channel && o->dense_per_channel,
                                    .weights_full_range = o->weights_full_range,
                                    .weights_asymmetric = o->weights_asymmetric,
                                    .weight_bits = o->weight_bits,
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

/* ---- verification --------------------------------------------------------------------------- */

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
        QD_TRY(qc_model_load_int8(p->artifact, NULL, &p->kernels, p->arena, &g, &exec, &codes, err));
    }
    struct qc_verify_options o = {.f32_graph = p->graph,
                                  .f32_exec = p->exec,
                                  .int_graph = g,
                                  .int_exec = exec,
                                  .codes = &codes,
                                  .kernels = &p->kernels,
                                  .n_threads = p->job->threads.n_threads,
                                  .n_slots = p->options->batch_size};
    return qc_verify_new(&o, p->arena, &p->verify, err);
}

static enum qd_code verify(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_threads *t = &p->job->threads;
    int64_t done = 0;
    int n = 0;
    QD_TRY(qc_pipeline_begin(p, QC_PHASE_VERIFYING, err));
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
        QD_TRY(qc_pipeline_progress(p, done, p->report->n_verification, "samples", err));
    }
}

/* What can be known before the first pass. */
static enum qd_code prepare(struct qc_pipeline *p, struct qd_error *err)
{
    QD_TRY(qc_options_check(p->options, err));
    QD_TRY(qc_pipeline_expand(p, err));
    QD_TRY(build_f32(p, err));
    if (p->job->release_model != NULL) {
        p->job->release_model(p->job->release_ctx);
    }
    p->report->model_name = p->graph->name != NULL ? p->graph->name : "";
    if (p->options->mode == QC_MODE_STATIC || qc_mode_calibrates(p)) {
        QD_TRY(init_feeds(p, err));
    }
    if (p->options->mode != QC_MODE_STATIC) {
        QD_TRY(qc_pipeline_begin(p, QC_PHASE_WEIGHTS, err));
        return qc_mode_prepare(p, err);
    }
    QD_TRY(qc_pipeline_plan(p, err));
    return p->job->statistics.size > 0 ? QD_OK : qc_pipeline_check_ranges(p, err);
}

static enum qd_code run_phases(struct qc_pipeline *p, struct qd_error *err)
{
    bool is_static = p->options->mode == QC_MODE_STATIC;
    QD_TRY(prepare(p, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)p->graph->n_values, sizeof(int), &p->tensor_of, err));
    if (is_static || qc_mode_calibrates(p)) {
        QD_TRY(qc_pipeline_calibrate(p, err));
    }
    if (is_static) {
        QD_TRY(qc_pipeline_choose(p, err));
        QD_TRY(qc_pipeline_derive(p, err));
    } else if (qc_mode_calibrates(p)) {
        if (p->observer != NULL) {
            qc_observer_drop_counts(p->observer);
        }
        QD_TRY(qc_pipeline_begin(p, QC_PHASE_BIAS, err));
        QD_TRY(qc_mode_correct(p, err));
    }
    QD_TRY(qc_pipeline_export(p, err));
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

/* Of one thread. */
static void estimate(const struct qc_pipeline *p, struct qc_check *check)
{
    const struct qc_graph *g = p->graph;
    for (int v = 0; v < g->n_values; v++) {
        if (g->values[v].constant != NULL && qc_graph_count_uses(g, v) > 0) {
            check->shared_bytes += 2 * qc_shape_elements(&g->values[v].shape) * sizeof(float);
        } else if (p->plan->observe[v] && p->options->histograms) {
            /* All values may be kept where a sample has few. */
            bool few = qc_shape_elements(&g->values[v].shape) < QC_VALUES_ALL;
            check->thread_bytes += few ? QC_VALUES_ALL * sizeof(float)
                                       : QC_FINE_BINS * sizeof(uint32_t);
            check->shared_bytes += QC_FINE_BINS * sizeof(uint64_t);
            check->shared_bytes += (few ? QC_VALUES_ALL : QC_VALUES_MAX) *
                                   sizeof(struct qc_value_count);
        }
    }
    check->thread_bytes += qc_exec_buffer_size(p->exec);
    if (p->options->second_moments) {
        check->moments_bytes = qc_moments_bytes(g, p->plan->integer, 1);
        check->thread_bytes += check->moments_bytes;
    }
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
    if (job->statistics.size > 0 &&
        (options->mode == QC_MODE_STATIC || qc_mode_calibrates(p))) {
        QD_TRY(qd_arena_array(p->arena, (size_t)p->graph->n_values, sizeof(int), &p->tensor_of,
                              err));
        QD_TRY(qc_pipeline_calibrate(p, err)); /* reads them */
    }
    check->n_calibration = p->report->n_calibration;
    check->n_verification = p->report->n_verification;
    check->n_nodes_int8 = p->plan->n_integer;
    check->n_nodes_f32 = p->plan->n_f32;
    estimate(p, check);
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
        return qd_fail(err, QD_CONFLICT, "%s", p->report->gate_reason);
    }
    return QD_OK;
}
