/* What is counted of one tensor: its values one by one while they are few (values.h), else the bins
 * of the fine histogram. Everything is held once a thread, and the result does not depend on which
 * thread saw what.
 *
 * The edges need not be known: a thread's bins are those of the range that it has seen so far, and
 * move into the coarser ones of a larger range without loss (histogram.h), so that what comes out is
 * the same to the byte as with the final edges from the beginning. A new extreme is rare: of n samples
 * about 2 ln n bring one. */
#ifndef QC_COUNTING_H
#define QC_COUNTING_H

#include "quantcore/calib/statistics.h"
#include "quantcore/kernels/qc_kernels.h"

struct qc_counting; /* in the arena, with all that it counts */

/* count: how many values it will be, of all samples; what it counts is at most that. */
QD_MUST_CHECK enum qd_code qc_counting_new(uint64_t count, int n_threads,
                                           const struct qc_kernels *kernels,
                                           struct qd_arena *arena, struct qc_counting **ret,
                                           struct qd_error *err);
/* Values outside count as lo and hi from now on; the edges are those of this range. Before the
 * first sample. QD_INVALID as qc_histogram_edges. */
QD_MUST_CHECK enum qd_code qc_counting_fix(struct qc_counting *c, double lo, double hi,
                                           struct qd_error *err);
/* Some of a sample's values, on any thread. lo, hi: the extremes of all that this thread has brought,
 * with these; not read when they are fixed. A span that no histogram has is an error of _end. */
void qc_counting_add(struct qc_counting *c, int thread, const float *x, size_t n, double lo,
                     double hi);
/* Before a sample's values come: what it will count in into the caches, which the network has just
 * filled with other things. Counting itself would wait for one line after the other. */
void qc_counting_fetch(const struct qc_counting *c, int thread);
/* s->fine and s->values, in the arena, by s->min and s->max. QD_INVALID as qc_histogram_edges;
 * QD_INTERNAL when it counted another number of values than s->count. */
QD_MUST_CHECK enum qd_code qc_counting_end(struct qc_counting *c, struct qd_arena *arena,
                                           struct qc_tensor_statistics *s, struct qd_error *err);

#endif
