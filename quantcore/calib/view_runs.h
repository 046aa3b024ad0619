/* A view's interior in parts that the first cache holds, for who takes a tensor's values in any
 * order, or channel by channel. */
#ifndef QC_VIEW_RUNS_H
#define QC_VIEW_RUNS_H

#include "quantcore/exec/exec.h"

/* n_pixels of all channels, `step` elements from one to the next. */
typedef void qc_view_strip_fn(void *ctx, const float *x, int64_t step, size_t n_pixels);
/* QC_NHWC only; never a border; in the order of memory. */
void qc_view_for_each_strip(const struct qc_view *view, qc_view_strip_fn *fn, void *ctx);

typedef void qc_view_run_fn(void *ctx, const float *x, size_t n);
/* A strip's values one behind the other: where there is padding between its pixels, copied. */
void qc_strip_for_each_run(const float *x, int64_t step, size_t n_pixels, size_t channels,
                           qc_view_run_fn *fn, void *ctx);
/* Of any layout: never a border or a stride's padding; in the order of memory. */
void qc_view_for_each_run(const struct qc_view *view, qc_view_run_fn *fn, void *ctx);

#endif
