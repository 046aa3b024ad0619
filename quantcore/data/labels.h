/* One class label a sample: integers of a .npy array, an IDX1 file, or an array of an .npz. */
#ifndef QC_LABELS_H
#define QC_LABELS_H

#include "quantcore/data/elements.h"

/* Read all labels from a source whose header has been read. The array has rank 1 (or [n,1]),
 * an integer type, and exactly n values that fit s32. *ret_labels is malloc'ed: the caller
 * frees it. */
QD_MUST_CHECK enum qd_code qc_labels_read(struct qc_source *source,
                                          const struct qc_array_header *header, int64_t n,
                                          int32_t **ret_labels, struct qd_error *err);
/* The same from a file of its own (.npy, IDX, IDX.gz). */
QD_MUST_CHECK enum qd_code qc_labels_open(const char *path, int64_t n,
                                          const struct qc_reader_limits *limits,
                                          int32_t **ret_labels, struct qd_error *err);

#endif
