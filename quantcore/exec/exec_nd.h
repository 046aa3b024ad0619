/* Walking up to four operands of one n-dimensional shape together.
 *
 * The dims are put into storage order of the first operand that has NHWC layout, then neighbours
 * that are contiguous in all operands are merged, so that the callback gets runs as long as
 * possible. */
#ifndef QC_EXEC_ND_H
#define QC_EXEC_ND_H

#include "quantcore/exec/exec.h"

#define QC_ND_OPERANDS 4

struct qc_nd {
    int rank, n_operands; /* rank >= 1; the last dim is the run */
    int64_t dim[QC_MAX_RANK];
    int64_t stride[QC_ND_OPERANDS][QC_MAX_RANK]; /* elements; 0 where an operand is broadcast */
};

/* Strides in elements of a view's logical dims. */
void qc_view_strides(const struct qc_view *view, int64_t ret[QC_MAX_RANK]);
/* shape: what is walked over; views of lower rank or with dims of 1 are broadcast to it. */
void qc_nd_init(struct qc_nd *nd, const struct qc_shape *shape, int n_operands,
                const struct qc_view *const *views);
/* The same with the strides given; nhwc: walk dims in the order 0, 2, 3, 1 (rank 4). */
void qc_nd_init_strides(struct qc_nd *nd, const struct qc_shape *shape, int n_operands,
                        const int64_t *const *strides, bool nhwc);

/* As qc_nd_init. Where all are NHWC of one shape and pixel stride, and the last one (the output)
 * owns its pixels, what lies behind the channels is walked over too: a run is a row of the image. For
 * operators that take whatever lies there. */
void qc_nd_init_pixels(struct qc_nd *nd, const struct qc_shape *shape, int n_operands,
                       const struct qc_view *const *views);

/* off[k]: element offset of the run's first element in operand k; run length nd->dim[rank-1],
 * its strides nd->stride[k][rank-1]. */
typedef void qc_nd_run_fn(const struct qc_nd *nd, const int64_t *off, void *ctx);
void qc_nd_walk(const struct qc_nd *nd, qc_nd_run_fn *run, void *ctx);

/* Take away the last dim if it is contiguous in all operands, and return its length; else leave it
 * and return 1. A walk then gives runs of rows of that many contiguous elements. */
int64_t qc_nd_take_row(struct qc_nd *nd);

/* Copy elements of `size` bytes (1, 2, 4, 8): operand 0 is the source, 1 the destination. */
void qc_nd_copy(const struct qc_nd *nd, size_t size, const void *from, void *to);

#endif
