/* What is done to every imported graph before calibration. */
#ifndef QC_PASS_H
#define QC_PASS_H

#include "quantcore/graph/graph.h"

/* simplify, fuse_bias, bn_fold, fuse_bias again (a bias behind a BatchNormalization),
 * fuse_activation. Afterwards the graph is linked, bound to a batch of 1, inferred and swept.
 * Errors are those of the passes, with the pass in front. */
QD_MUST_CHECK enum qd_code qc_passes_run(struct qc_graph *g, struct qd_error *err);

#endif
