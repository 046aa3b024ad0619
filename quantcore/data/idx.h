/* Header of the IDX format (MNIST, http://yann.lecun.com/exdb/mnist): two zero bytes, type, rank,
 * then rank big-endian u32 dimensions and the elements, big-endian. */
#ifndef QC_IDX_H
#define QC_IDX_H

#include "quantcore/data/elements.h"
#include "quantcore/data/source.h"

/* Read the header at the source's beginning; a source of known size must be exactly header +
 * data. Types: u8 s8 s16 s32 f32 f64. */
QD_MUST_CHECK enum qd_code qc_idx_read_header(struct qc_source *source,
                                              struct qc_array_header *ret, struct qd_error *err);

#endif
