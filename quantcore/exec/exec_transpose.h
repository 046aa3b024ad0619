/* Transposing a plane of elements: what a change between NCHW and NHWC is. */
#ifndef QC_EXEC_TRANSPOSE_H
#define QC_EXEC_TRANSPOSE_H

#include "quantcore/base/qd_base.h"

/* n rows of m contiguous elements of `size` bytes become m rows of n contiguous ones:
 * to[j * to_step + i] = from[i * from_step + j]. Nothing else is read or written. */
struct qc_plane {
    const void *from;
    void *to;
    int64_t n, m, from_step, to_step; /* in elements */
};
/* false, and nothing is done, where plain loops are as good. */
bool qc_plane_transpose(const struct qc_plane *p, size_t size);

#endif
