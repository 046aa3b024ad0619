/* Writers of .npy (version 1.0) and .npz (zip, stored) for results and test data. */
#ifndef QC_NPY_WRITE_H
#define QC_NPY_WRITE_H

#include "quantcore/data/elements.h"

struct qc_npy_writer; /* heap object */

/* shape[0] is the number of samples; the file is created or replaced. Elements are little-endian
 * in C order. Types: all of enum qc_element. */
QD_MUST_CHECK enum qd_code qc_npy_writer_open(const char *path, enum qc_element element,
                                              const int64_t *shape, int rank,
                                              struct qc_npy_writer **ret, struct qd_error *err);
/* n elements in host representation, as the type has it (float, uint8_t, int32_t...).
 * QD_INVALID when there are more than the shape takes. */
QD_MUST_CHECK enum qd_code qc_npy_writer_append(struct qc_npy_writer *writer, const void *data,
                                                size_t n, struct qd_error *err);
/* Ends the file; QD_INVALID if elements are missing. The writer is freed in any case. */
QD_MUST_CHECK enum qd_code qc_npy_writer_close(struct qc_npy_writer *writer,
                                               struct qd_error *err);
/* Give up without checks (the file stays as it is). Takes NULL. */
void qc_npy_writer_free(struct qc_npy_writer *writer);

struct qc_npz_array {
    const char *name; /* without ".npy" */
    enum qc_element element;
    const int64_t *shape;
    int rank;
    const void *data;
};
/* Several arrays into one .npz; the bytes depend on the arrays alone (no time stamps). */
QD_MUST_CHECK enum qd_code qc_npz_write(const char *path, const struct qc_npz_array *arrays,
                                        int n, struct qd_error *err);

#endif
