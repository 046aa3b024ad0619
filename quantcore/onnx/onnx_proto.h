/* The borrowed half of protobuf-c: unpacking under a memory limit, and fields kept as bytes.
 * Private to quantcore/onnx. */
#ifndef QC_ONNX_PROTO_H
#define QC_ONNX_PROTO_H

#include <protobuf-c/protobuf-c.h>

#include "quantcore/base/qd_arena.h"

struct qc_onnx_chunk;

/* Everything that one unpack allocates; malloc behind it, freed at once by _done. */
struct qc_onnx_pool {
    struct qc_onnx_chunk *chunks;
    size_t used, limit; /* bytes */
    bool over_limit;
};

/* Memory that unpacking `size` bytes may take: the data once, and structs of many times their
 * wire form up to half a gigabyte (200,000 nodes take less than 100 MB). */
#define QC_ONNX_POOL_LIMIT(size) (2 * (size) + ((size_t)512 << 20))

/* Unpack scanned bytes. The message lives until qc_onnx_pool_done, which must be called on
 * failure too. QD_LIMIT_EXCEEDED over the pool's limit, QD_NO_MEMORY, QD_INVALID. */
QD_MUST_CHECK enum qd_code qc_onnx_unpack(struct qc_onnx_pool *pool,
                                          const ProtobufCMessageDescriptor *type,
                                          struct qd_bytes bytes, ProtobufCMessage **ret,
                                          struct qd_error *err);
void qc_onnx_pool_done(struct qc_onnx_pool *pool);

/* The wire form of a message, in the arena; size 0 for an empty one. Deterministic. */
QD_MUST_CHECK enum qd_code qc_onnx_pack(struct qd_arena *arena, const ProtobufCMessage *message,
                                        struct qd_bytes *ret, struct qd_error *err);

/* Make bytes that were kept aside unknown fields of a message that is going to be packed (data
 * borrowed). The bytes come from qc_onnx_pack; QD_INTERNAL when they are broken. */
QD_MUST_CHECK enum qd_code qc_onnx_attach(struct qd_arena *arena, struct qd_bytes fields,
                                          ProtobufCMessage *message, struct qd_error *err);

#endif
