/* Dense tensors and shapes. */
#ifndef QC_TENSOR_H
#define QC_TENSOR_H

#include "quantcore/base/qd_arena.h"

#define QC_MAX_RANK 8

enum qc_dtype {
    QC_UNKNOWN, QC_F32, QC_F64, QC_F16, QC_U8, QC_S8, QC_U16, QC_S16, QC_S32, QC_S64, QC_U32,
    QC_U64, QC_BOOL, QC_STRING, QC_S4, QC_U4, QC_DTYPE_COUNT
};

/* Bytes of one element; 0 for UNKNOWN, STRING. S4 and U4 take a byte each, as s8 and u8: files alone
 * have two in a byte. */
size_t qc_dtype_size(enum qc_dtype dtype);
const char *qc_dtype_name(enum qc_dtype dtype); /* "f32", "u8", … */

struct qc_shape {
    int rank;                  /* 0..QC_MAX_RANK */
    int64_t dim[QC_MAX_RANK];  /* >= 0 */
};

/* Row-major, 64-byte aligned, QD_ARENA_TAIL readable bytes behind the end. */
struct qc_tensor {
    enum qc_dtype dtype;
    struct qc_shape shape;
    void *data;
};

/* Product of the dims (1 for rank 0). Shapes in a graph have been checked not to overflow. */
size_t qc_shape_elements(const struct qc_shape *shape);
/* The same with overflow and limit checks, for shapes out of untrusted input. */
bool qc_shape_elements_checked(const struct qc_shape *shape, size_t element_size, size_t *ret);
bool qc_shape_equal(const struct qc_shape *a, const struct qc_shape *b);
/* "[1,3,224,224]" into a caller's buffer of `size` bytes; returns buf. */
const char *qc_shape_format(const struct qc_shape *shape, char *buf, size_t size);
/* ONNX (numpy) broadcast of two shapes; false when they do not fit. */
bool qc_shape_broadcast(const struct qc_shape *a, const struct qc_shape *b, struct qc_shape *ret);
QD_MUST_CHECK enum qd_code qc_tensor_new(struct qd_arena *arena, enum qc_dtype dtype,
                                         const struct qc_shape *shape, struct qc_tensor **ret,
                                         struct qd_error *err);
/* Element i as s64 / double, whatever the (numeric) dtype. */
int64_t qc_tensor_s64(const struct qc_tensor *t, size_t i);
double qc_tensor_f64(const struct qc_tensor *t, size_t i);

#endif
