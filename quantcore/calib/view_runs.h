/* The contiguous runs of a view's interior, for who takes a tensor's values in any order. */
#ifndef QC_VIEW_RUNS_H
#define QC_VIEW_RUNS_H

#include "quantcore/exec/exec.h"

typedef void qc_view_run_fn(void *ctx, const float *x, size_t n);

/* Never a border or a stride's padding; in the order of memory. */
void qc_view_for_each_run(const struct qc_view *view, qc_view_run_fn *fn, void *ctx);

#endif
