/* The state of one run of qc_quantize: what its phases hand to each other. */
#ifndef QC_PIPELINE_H
#define QC_PIPELINE_H

#include "quantcore/calib/observer.h"
#include "quantcore/calib/sanity.h"
#include "quantcore/qc_feed.h"
#include "quantcore/qc_model.h"
#include "quantcore/quant/quantize_graph.h"

struct qc_pipeline {
    const struct qc_job *job;
    const struct qc_options *options; /* of the candidate that is worked on */
    struct qc_candidate *candidates;  /* one at least; `auto` is a list of them */
    int n_candidates;
    struct qd_arena *arena;
    struct qc_kernels kernels;
    struct qc_report *report;
    struct qc_graph *graph;      /* f32: folded and fused */
    struct qc_import *model_import; /* what the model carried already, NULL: nothing */
    struct qc_import *import;    /* that, or the job's table by the plan */
    struct qc_exec *exec;
    struct qc_exec_state **states; /* a thread each */
    struct qc_quantize_plan *plan;
    struct qc_observer *observer; /* NULL: the statistics are of an earlier run */
    struct qc_moments *moments;  /* NULL: not asked for */
    struct qc_sanity *sanity;    /* NULL likewise */
    int *tensor_of;              /* [n_values] index in the observer, -1 */
    struct qc_feed calibration, verification;
    struct qc_feed selection;    /* to choose among candidates by; no reader: by verification */
    struct qc_statistics *statistics;
    struct qc_range *ranges;     /* [n_values] */
    struct qc_qparams *pairs;    /* [n_values] */
    struct qc_quantized_graph *quantized;
    struct qd_bytes artifact;
    struct qc_verify *verify;
    enum qc_phase phase;
    double phase_start, start;   /* seconds, monotonic */
};

/* The former phase ends where the next begins, so that the times add up to the wall clock.
 * QD_CANCELED when the job's callback says so. */
QD_MUST_CHECK enum qd_code qc_pipeline_begin(struct qc_pipeline *p, enum qc_phase phase,
                                             struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_pipeline_progress(struct qc_pipeline *p, int64_t done, int64_t total,
                                                const char *unit, struct qd_error *err);

/* qc_calibration.c: statistics and tensor_of, from the two passes or from the job. */
QD_MUST_CHECK enum qd_code qc_pipeline_calibrate(struct qc_pipeline *p, struct qd_error *err);
/* qc_derive.c: can each candidate's ranges be found without histograms, where there are none: in
 * the statistics given, else in what the options will have counted? QD_INVALID as
 * qc_calibrate_check. */
QD_MUST_CHECK enum qd_code qc_pipeline_check_ranges(struct qc_pipeline *p, struct qd_error *err);
/* qc_derive.c: ranges, pairs and the quantized graph from the statistics, whose counts and tails
 * are given back; then the artifact's bytes. */
QD_MUST_CHECK enum qd_code qc_pipeline_derive(struct qc_pipeline *p, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_pipeline_export(struct qc_pipeline *p, struct qd_error *err);

/* What of the network becomes integers by the options. */
QD_MUST_CHECK enum qd_code qc_pipeline_plan(struct qc_pipeline *p, struct qd_error *err);
/* qc_choose.c: the candidates from the job's options; and, when the statistics are there, the best
 * of them: options and plan are its own then, the report's choices say why. */
QD_MUST_CHECK enum qd_code qc_pipeline_expand(struct qc_pipeline *p, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_pipeline_choose(struct qc_pipeline *p, struct qd_error *err);

/* Does value v take its range from the declared normalization? Preprocessing is for a single input,
 * or for those whose samples have rank 3. */
bool qc_pipeline_is_normalized(const struct qc_pipeline *p, int v);

/* qc_modes.c: the modes without calibration. After the f32 network has been built: data to verify
 * with (optional there), the artifact's graph, and what the report reads of a plan. */
QD_MUST_CHECK enum qd_code qc_mode_prepare(struct qc_pipeline *p, struct qd_error *err);
/* Are there data, or statistics, to correct the biases with? Then the feeds come before prepare,
 * the statistics between it and correct. */
bool qc_mode_calibrates(const struct qc_pipeline *p);
/* The artifact's graph once more, with the means of the layers' inputs. */
QD_MUST_CHECK enum qd_code qc_mode_correct(struct qc_pipeline *p, struct qd_error *err);
/* The artifact as a program for verification, in place of qc_model_load_int8. */
QD_MUST_CHECK enum qd_code qc_mode_load(struct qc_pipeline *p, struct qc_graph **ret_graph,
                                        struct qc_exec **ret_exec, struct qc_verify_codes *codes,
                                        struct qd_error *err);

/* qc_report_rows.c: the tables of the report from what the phases left. */
QD_MUST_CHECK enum qd_code qc_report_fill(struct qc_pipeline *p, struct qd_error *err);

#endif
