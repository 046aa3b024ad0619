/* First look at untrusted ONNX bytes, before protobuf-c builds anything out of them.
 *
 * The walk follows the message descriptors: tags, wire types, lengths, varints, UTF-8 of
 * strings, nesting and counts. What passes can be unpacked with bounded recursion; how much
 * memory that takes is limited by onnx_proto.c. */
#ifndef QC_ONNX_SCAN_H
#define QC_ONNX_SCAN_H

#include "quantcore/base/qd_error.h"

#define QC_ONNX_MAX_NESTING 64          /* messages in messages */
#define QC_ONNX_MAX_NODES 200000        /* of all graphs together */
#define QC_ONNX_MAX_INITIALIZERS 100000 /* likewise */

/* Bytes of a ModelProto / a TensorProto. QD_INVALID for malformed or truncated bytes (message,
 * field and byte offset are named), QD_LIMIT_EXCEEDED for a passed limit. Allocates nothing. */
QD_MUST_CHECK enum qd_code qc_onnx_scan(struct qd_bytes model, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_onnx_scan_tensor(struct qd_bytes tensor, struct qd_error *err);

#endif
