/* External data of initializers: files that the caller has read, known by their names alone. No
 * location is ever opened as a path here. */
#ifndef QC_ONNX_EXTERNAL_H
#define QC_ONNX_EXTERNAL_H

#include "quantcore/base/qd_arena.h"

#define QC_EXTERNAL_MAX 16 /* files of a model */

struct Onnx__TensorProto;

struct qc_external_file {
    const char *name; /* a tensor's `location`, byte for byte */
    struct qd_bytes bytes;
};

struct qc_external {
    struct qc_external_file files[QC_EXTERNAL_MAX];
    int n;
};

/* Files of one import, and which of them a tensor has named. */
struct qc_external_use {
    const struct qc_external *external; /* borrowed; NULL: no files */
    bool used[QC_EXTERNAL_MAX];
};

bool qc_onnx_is_external(const struct Onnx__TensorProto *proto);

/* The `size` bytes of a tensor inside the file that it names. QD_INVALID, with tensor, location,
 * value and limit: a file that was not given, an offset or length that is no number, not the
 * tensor's or not inside the file, a key that stands twice, data in the tensor too. */
QD_MUST_CHECK enum qd_code qc_onnx_external_find(struct qc_external_use *use,
                                                 const struct Onnx__TensorProto *proto,
                                                 size_t size, struct qd_bytes *ret,
                                                 struct qd_error *err);
/* After all tensors: QD_INVALID for a file that none has named. */
QD_MUST_CHECK enum qd_code qc_onnx_external_check_used(const struct qc_external_use *use,
                                                       struct qd_error *err);

/* The distinct locations that a model's initializers name, as ret->files[].name without bytes.
 * QD_LIMIT_EXCEEDED: more than QC_EXTERNAL_MAX. */
QD_MUST_CHECK enum qd_code qc_onnx_external_names(struct qd_bytes model, struct qd_arena *arena,
                                                  struct qc_external *ret, struct qd_error *err);

#endif
