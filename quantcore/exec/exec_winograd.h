/* 3 x 3 convolutions of many channels by F(2 x 2, 3 x 3) (qc_kernels.h): 2.25 times fewer
 * multiplications than tap by tap. Blocks of 4 x 4 input tiles are transformed, multiplied as 16
 * matrix products over the channels by the f32 tile, and transformed back, so that all of a block stays
 * in the cache. The result is the same on every instruction set, and in its last bits another than
 * tap by tap: sums of the inputs are rounded before they are multiplied. */
#ifndef QC_EXEC_WINOGRAD_H
#define QC_EXEC_WINOGRAD_H

#include "quantcore/exec/exec_ops.h"

struct qc_winograd; /* in the arena */

/* Is it faster than tap by tap: kernel 3 x 3, one group, stride and dilation 1, channels enough. The
 * shape decides alone, so that every machine computes the same. */
bool qc_winograd_suits(const struct qc_window *window, int channels, int outputs, int group,
                       const struct qc_shape *out);

/* w: [outputs][channels][3][3]; bias: [outputs] or NULL; out: the shape NCHW. */
QD_MUST_CHECK enum qd_code qc_winograd_new(const struct qc_kernels *kernels, const float *w,
                                           const float *bias, int channels, int outputs,
                                           const struct qc_shape *out, struct qd_arena *arena,
                                           struct qc_winograd **ret, struct qd_error *err);
/* Bytes that a run needs. */
size_t qc_winograd_scratch(const struct qc_winograd *w);
/* first: the first pixel of the first window, in x's border. x and y are NHWC. */
void qc_winograd_run(const struct qc_winograd *w, const struct qc_kernels *kernels,
                     const struct qc_view *x, const float *first, const struct qc_view *y,
                     float lo, float hi, void *scratch);

#endif
