/* Observers: what runs inside qc_observe_fn while a value is still in cache.
 *
 * Order of calls:
 *   qc_observer_new
 *   for each batch: qc_observer_pass1 for its samples, on any threads, slot = index in the batch;
 *                   then qc_observer_end_batch
 *   qc_observer_end_pass1       fixes the histograms' edges
 *   for each batch: qc_observer_pass2 likewise (no slots: counts are integers), unless pass 1
 *                   has counted already (counts_at_once) or nothing is counted (no_histograms)
 *   qc_observer_end_pass2       gives the statistics
 *   qc_observer_drop_counts     when the ranges have been searched
 *
 * Nothing is shared between threads while samples run: everything is held once a thread and merges
 * in any order (a sample's sums have a fixed order and are then added exactly). So the statistics are the same to the bit for every thread count and batch size,
 * and memory does not grow with the number of samples. */
#ifndef QC_OBSERVER_H
#define QC_OBSERVER_H

#include "quantcore/calib/statistics.h"
#include "quantcore/exec/exec.h"

struct qc_observed {
    const char *name;    /* borrowed from the graph */
    struct qc_shape shape; /* of one sample, f32 */
    int channel_axis;    /* for the channel means; -1: none */
};

struct qc_observer_options {
    int n_threads;       /* >= 1 */
    int n_slots;         /* samples of a batch, >= 1 */
    int64_t n_samples;   /* expected: decides how long the tails are, and which values are kept */
    double min_percentile, max_percentile; /* (0.5, 1] */
    int64_t tail_length; /* values kept at each end at least; 0: what the percentiles need */
    const struct qc_kernels *kernels;
    /* The histograms are of what pass 1 sees: counted there, with edges that follow the range, to
     * the same bytes as in a second run over the same values. */
    bool counts_at_once;
    bool no_histograms; /* nothing is counted: the statistics have no bins and no values */
};

struct qc_observer; /* in the arena */

QD_MUST_CHECK enum qd_code qc_observer_new(const struct qc_observed *tensors, int n,
                                           const struct qc_observer_options *options,
                                           struct qd_arena *arena, struct qc_observer **ret,
                                           struct qd_error *err);
/* One tensor of one sample. Reads the interior alone, never a border or a stride's padding. */
void qc_observer_pass1(struct qc_observer *o, int tensor, int thread, int slot,
                       const struct qc_view *view);
/* Merge slots 0..n_used-1, which held samples first, first + 1, … QD_INVALID names the first
 * tensor and sample with a NaN or an infinity. */
QD_MUST_CHECK enum qd_code qc_observer_end_batch(struct qc_observer *o, int n_used, int64_t first,
                                                 struct qd_error *err);
/* QD_INVALID when no sample was seen. */
QD_MUST_CHECK enum qd_code qc_observer_end_pass1(struct qc_observer *o, struct qd_error *err);
void qc_observer_pass2(struct qc_observer *o, int tensor, int thread,
                       const struct qc_view *view);
/* The result lives in the arena. Before it the histograms are empty; QD_INTERNAL when they
 * counted another number of values than pass 1 saw. */
QD_MUST_CHECK enum qd_code qc_observer_end_pass2(struct qc_observer *o,
                                                 struct qc_statistics **ret,
                                                 struct qd_error *err);
/* Give back what counts and tails take, which is most of it. Extremes, means and sums stay; the
 * statistics' histograms and tails are empty from then on (no bins, no values). Takes
 * NULL: what is derived from given statistics has no observer. */
void qc_observer_drop_counts(struct qc_observer *o);

#endif
