/* TensorProto to and from qc_tensor. */
#ifndef QC_ONNX_TENSOR_H
#define QC_ONNX_TENSOR_H

#include "quantcore/graph/tensor.h"
#include "quantcore/onnx/onnx_external.h"

struct Onnx__TensorProto;

/* TensorProto.DataType <-> dtype. QC_UNKNOWN / 0 when there is no counterpart (bfloat16,
 * complex). The name is ONNX's ("FLOAT16"), "?" for a number that ONNX does not define. */
enum qc_dtype qc_onnx_dtype(int32_t data_type);
int32_t qc_onnx_data_type(enum qc_dtype dtype);
const char *qc_onnx_data_type_name(int32_t data_type);

/* Copy of a scanned and unpacked tensor in the arena: raw_data, the typed field or the file
 * of `external` that it names, f16 stays f16, bool becomes 0 or 1, INT4 and UINT4 come apart, one a
 * byte. The bytes present must be exactly those of the dims (QD_INVALID);
 * strings, bfloat16, complex, segments are QD_UNSUPPORTED, and external data
 * where `external` is NULL. `what` names it in
 * messages ("initializer"). */
QD_MUST_CHECK enum qd_code qc_onnx_tensor_import(const struct Onnx__TensorProto *proto,
                                                 const char *what,
                                                 struct qc_external_use *external,
                                                 struct qd_arena *arena,
                                                 struct qc_tensor **ret, struct qd_error *err);

/* The whole way for a file with one TensorProto (test data of the ONNX model zoo). */
QD_MUST_CHECK enum qd_code qc_onnx_read_tensor(struct qd_bytes bytes, struct qd_arena *arena,
                                               struct qc_tensor **ret, struct qd_error *err);

/* TensorProto that borrows name, dims and data (raw_data; of s4 and u4 a copy, two in a byte); only
 * read while it is packed. */
QD_MUST_CHECK enum qd_code qc_onnx_tensor_export(const struct qc_tensor *tensor, const char *name,
                                                 struct qd_arena *arena,
                                                 struct Onnx__TensorProto **ret,
                                                 struct qd_error *err);

#endif
