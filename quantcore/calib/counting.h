/* What pass 2 counts of one tensor: its values one by one while they are few (values.h), else the
 * bins of the fine histogram, whose edges pass 1 fixed. Everything is held once a thread, and the
 * result does not depend on which thread saw what. */
#ifndef QC_COUNTING_H
#define QC_COUNTING_H

#include "quantcore/calib/statistics.h"
#include "quantcore/exec/exec.h"

struct qc_counting; /* in the arena, with all that it counts */

/* Sets s->fine, without counts, by s->min, max and count. QD_INVALID as qc_histogram_edges. */
QD_MUST_CHECK enum qd_code qc_counting_new(struct qc_tensor_statistics *s, int n_threads,
                                           const struct qc_kernels *kernels,
                                           struct qd_arena *arena, struct qc_counting **ret,
                                           struct qd_error *err);
/* One sample's values, on any thread. */
void qc_counting_add(struct qc_counting *c, int thread, const struct qc_view *view);
/* s->fine.counts and s->values, in the arena. QD_INTERNAL when it counted another number of values
 * than s->count. */
QD_MUST_CHECK enum qd_code qc_counting_end(struct qc_counting *c, struct qd_arena *arena,
                                           struct qc_tensor_statistics *s, struct qd_error *err);

#endif
