/* Which of several configurations: each is derived from the same statistics, its artifact is run
 * on samples that no statistic has seen, the best is kept. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "quantcore/calib/calib_auto.h"
#include "quantcore/qc_pipeline.h"

#define BEST_DB 200.0 /* an output without any error counts as this */

/* ---- the list ------------------------------------------------------------------------------ */

static enum qd_code expand(struct qc_pipeline *p, const struct qc_candidate *from,
                           struct qd_error *err)
{
    struct qc_recipe recipes[QC_MAX_RECIPES];
    struct qc_search search = {.min_percentile = from->options.min_percentile,
                               .max_percentile = from->options.max_percentile};
    int n = qc_recipes(from->options.calibrator, &search, recipes);
    for (int i = 0; i < n; i++) {
        struct qc_candidate *c = &p->candidates[p->n_candidates++];
        char label[64];
        *c = *from;
        if (n > 1) {
            c->options.calibrator = recipes[i].calibrator;
            c->options.min_percentile = recipes[i].search.min_percentile;
            c->options.max_percentile = recipes[i].search.max_percentile;
            qc_recipe_label(&recipes[i], label, sizeof(label));
            QD_TRY(qd_arena_printf(p->arena, &c->label, err, "%s%s%s", from->label,
                                   from->label[0] != '\0' ? ", " : "", label));
        }
        QD_TRY(qc_options_check(&c->options, err));
    }
    return QD_OK;
}

enum qd_code qc_pipeline_expand(struct qc_pipeline *p, struct qd_error *err)
{
    const struct qc_candidate alone = {.options = *p->options, .label = ""};
    const struct qc_candidate *list = p->job->n_candidates > 0 ? p->job->candidates : &alone;
    size_t n = p->job->n_candidates > 0 ? p->job->n_candidates : 1;
    QD_TRY(qd_arena_array(p->arena, n * QC_MAX_RECIPES, sizeof(*p->candidates), &p->candidates,
                          err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(expand(p, &list[i], err));
    }
    p->options = &p->candidates[0].options;
    return QD_OK;
}

/* ---- running one --------------------------------------------------------------------------- */

struct trial {
    const struct qc_pipeline *p;
    const struct qc_feed *feed;
    const struct qc_exec *exec;
    struct qc_exec_state **states; /* a thread each */
    float **expected, **actual;    /* a thread each: room for the largest output */
    struct qc_metric *metrics;     /* [slot][output] */
    uint8_t *same;                 /* [slot][output] same class first */
    struct qd_error *errors;       /* a thread each */
    enum qd_code *codes;
    struct qc_metric *sum;         /* [output] */
    uint64_t n_same, n_classified;
};

static bool is_classifier(const struct qc_shape *s)
{
    return s->rank == 2 && s->dim[0] == 1 && s->dim[1] >= 2;
}

static enum qd_code run_both(struct trial *t, int slot, int thread, struct qd_error *err)
{
    const struct qc_pipeline *p = t->p;
    const struct qc_graph *g = p->graph;
    const void *const *inputs = (const void *const *)t->feed->slot[slot];
    QD_TRY(qc_exec_run(p->exec, p->states[thread], inputs, NULL, NULL, err));
    QD_TRY(qc_exec_run(t->exec, t->states[thread], inputs, NULL, NULL, err));
    for (int i = 0; i < g->n_outputs; i++) {
        const struct qc_shape *shape = &g->values[g->outputs[i].value].shape;
        size_t n = qc_shape_elements(shape), at = (size_t)(slot * g->n_outputs + i);
        float *x = t->expected[thread], *y = t->actual[thread];
        qc_exec_output(p->exec, p->states[thread], i, x);
        qc_exec_output(t->exec, t->states[thread], i, y);
        t->metrics[at] = (struct qc_metric){0};
        qc_metric_add_dense(&t->metrics[at], x, y, n);
        t->same[at] = is_classifier(shape) && qc_top1(x, n) == qc_top1(y, n);
    }
    return QD_OK;
}

static void run_slot(void *arg, int index, int thread)
{
    struct trial *t = arg;
    if (t->codes[thread] == QD_OK) {
        t->codes[thread] = run_both(t, index, thread, &t->errors[thread]);
    }
}

static enum qd_code end_batch(struct trial *t, int n, struct qd_error *err)
{
    const struct qc_graph *g = t->p->graph;
    for (int i = 0; i < t->p->job->threads.n_threads; i++) {
        if (t->codes[i] != QD_OK) {
            *err = t->errors[i];
            return t->codes[i];
        }
    }
    for (int slot = 0; slot < n; slot++) {
        for (int i = 0; i < g->n_outputs; i++) {
            int at = slot * g->n_outputs + i;
            qc_metric_merge(&t->sum[i], &t->metrics[at]);
            t->n_classified += is_classifier(&g->values[g->outputs[i].value].shape);
            t->n_same += t->same[at];
        }
    }
    return QD_OK;
}

static enum qd_code new_trial(struct qc_pipeline *p, struct qc_feed *feed, struct trial *t,
                              struct qd_error *err)
{
    const struct qc_graph *g = p->graph;
    size_t threads = (size_t)p->job->threads.n_threads, largest = 0;
    size_t cells = (size_t)feed->n_slots * (size_t)g->n_outputs;
    for (int i = 0; i < g->n_outputs; i++) {
        size_t n = qc_shape_elements(&g->values[g->outputs[i].value].shape);
        largest = n > largest ? n : largest;
    }
    *t = (struct trial){.p = p, .feed = feed};
    QD_TRY(qd_arena_array(p->arena, threads, sizeof(*t->states), &t->states, err));
    QD_TRY(qd_arena_array(p->arena, threads, sizeof(float *), &t->expected, err));
    QD_TRY(qd_arena_array(p->arena, threads, sizeof(float *), &t->actual, err));
    QD_TRY(qd_arena_array(p->arena, threads, sizeof(*t->errors), &t->errors, err));
    QD_TRY(qd_arena_array(p->arena, threads, sizeof(*t->codes), &t->codes, err));
    QD_TRY(qd_arena_array(p->arena, cells, sizeof(*t->metrics), &t->metrics, err));
    QD_TRY(qd_arena_array(p->arena, cells, 1, &t->same, err));
    QD_TRY(qd_arena_array(p->arena, (size_t)g->n_outputs, sizeof(*t->sum), &t->sum, err));
    for (size_t i = 0; i < threads; i++) {
        QD_TRY(qd_arena_array(p->arena, largest, sizeof(float), &t->expected[i], err));
        QD_TRY(qd_arena_array(p->arena, largest, sizeof(float), &t->actual[i], err));
    }
    return QD_OK;
}

static enum qd_code run_feed(struct qc_pipeline *p, struct trial *t, struct qc_feed *feed,
                             struct qd_error *err)
{
    const struct qc_threads *threads = &p->job->threads;
    int n = 0;
    for (int i = 0; i < threads->n_threads; i++) {
        QD_TRY(qc_exec_state_new(t->exec, &t->states[i], err));
    }
    QD_TRY(qc_feed_rewind(feed, err));
    for (;;) {
        QD_TRY(qc_feed_batch(feed, &n, err));
        if (n == 0) {
            return QD_OK;
        }
        threads->parallel_for(threads->ctx, n, run_slot, t);
        QD_TRY(end_batch(t, n, err));
    }
}

/* Mean over the outputs. */
static double score(const struct trial *t, int n_outputs)
{
    double sum = 0;
    for (int i = 0; i < n_outputs; i++) {
        double db = qc_metric_sqnr_db(&t->sum[i]);
        sum += isnan(db) ? 0 : fmin(db, BEST_DB);
    }
    return sum / n_outputs;
}

/* q is p with another configuration, an arena that goes, and nobody to tell about progress. */
static enum qd_code try_one(struct qc_pipeline *q, struct qc_feed *feed, struct qc_choice *ret,
                            struct qd_error *err)
{
    struct qc_graph *g = NULL;
    struct qc_exec *exec = NULL;
    struct trial t;
    QD_TRY(qd_arena_alloc(q->arena, sizeof(*q->report), &q->report, err));
    QD_TRY(qc_pipeline_plan(q, err));
    QD_TRY(qc_pipeline_derive(q, err));
    QD_TRY(qc_pipeline_export(q, err));
    QD_TRY(qc_model_load_int8(q->artifact, NULL, &q->kernels, q->arena, &g, &exec, NULL, err));
    QD_TRY(new_trial(q, feed, &t, err));
    t.exec = exec;
    enum qd_code code = run_feed(q, &t, feed, err);
    for (int i = 0; i < q->job->threads.n_threads; i++) {
        qc_exec_state_free(t.states[i]);
    }
    if (code == QD_OK) {
        ret->tried = true;
        ret->sqnr_db = score(&t, q->graph->n_outputs);
        ret->agreement = t.n_classified == 0 ? (double)NAN
                                             : (double)t.n_same / (double)t.n_classified;
    }
    return code;
}

/* ---- all of them --------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum qd_code try_all(struct qc_pipeline *p, struct qc_feed *feed, struct qd_error *err)
{
    struct qc_report *r = p->report;
    struct qc_job quiet = *p->job;
    double begin = seconds();
    quiet.progress.step = NULL;
    for (int i = 0; i < p->n_candidates; i++) {
        struct qc_pipeline q = *p;
        struct qd_arena arena;
        double start = seconds();
        if (i > 0 && p->options->choice_deadline > 0 &&
            start - begin > p->options->choice_deadline) {
            break;
        }
        qd_arena_init_inside(&arena, p->arena);
        q.arena = &arena;
        q.job = &quiet;
        q.options = &p->candidates[i].options;
        q.observer = NULL; /* the statistics are needed once more */
        enum qd_code code = try_one(&q, feed, &r->choices[i], err);
        qd_arena_done(&arena);
        if (code != QD_OK) {
            return qd_wrap(err, code, "configuration '%s'", p->candidates[i].label);
        }
        r->choices[i].seconds = seconds() - start;
        QD_TRY(qc_pipeline_progress(p, i + 1, p->n_candidates, "configurations", err));
    }
    return QD_OK;
}

static enum qd_code keep_best(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    int best = 0, second = -1, tried = 0;
    for (int i = 0; i < p->n_candidates; i++) {
        tried += r->choices[i].tried;
        if (r->choices[i].tried && r->choices[i].sqnr_db > r->choices[best].sqnr_db) {
            best = i; /* an earlier one wins a tie */
        }
    }
    for (int i = 0; i < p->n_candidates; i++) {
        if (i != best && r->choices[i].tried &&
            (second < 0 || r->choices[i].sqnr_db > r->choices[second].sqnr_db)) {
            second = i;
        }
    }
    r->choices[best].chosen = true;
    p->options = &p->candidates[best].options;
    const struct qc_choice *a = &r->choices[best], *b = second >= 0 ? &r->choices[second] : NULL;
    QD_TRY(qd_arena_printf(p->arena, &r->choice_reason, err,
                           "'%s' has the highest SQNR of the outputs on %lld samples: %.2f dB; "
                           "next is '%s' with %.2f dB; %d of %d configurations were tried%s",
                           a->label, (long long)r->n_selection, a->sqnr_db,
                           b != NULL ? b->label : "none", b != NULL ? b->sqnr_db : 0.0, tried,
                           p->n_candidates, tried < p->n_candidates ? " before the deadline" : ""));
    return qc_pipeline_plan(p, err);
}

enum qd_code qc_pipeline_choose(struct qc_pipeline *p, struct qd_error *err)
{
    struct qc_report *r = p->report;
    struct qc_feed *feed = p->selection.reader != NULL ? &p->selection : &p->verification;
    if (p->n_candidates < 2) {
        return QD_OK;
    }
    if (feed->reader == NULL) {
        return qd_fail(err, QD_INVALID, "to choose among %d configurations takes samples: give "
                       "calibration or validation data", p->n_candidates);
    }
    QD_TRY(qc_pipeline_begin(p, QC_PHASE_SEARCHING, err));
    r->n_choices = p->n_candidates;
    r->n_selection = qc_feed_count(feed->limit, feed->share, feed->part);
    QD_TRY(qd_arena_array(p->arena, (size_t)p->n_candidates, sizeof(*r->choices), &r->choices,
                          err));
    for (int i = 0; i < p->n_candidates; i++) {
        r->choices[i].label = p->candidates[i].label;
    }
    QD_TRY(try_all(p, feed, err));
    return keep_best(p, err);
}
