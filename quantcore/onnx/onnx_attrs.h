/* Attributes between AttributeProto and qc_attr, and small edits of a node's list. */
#ifndef QC_ONNX_ATTRS_H
#define QC_ONNX_ATTRS_H

#include "quantcore/graph/graph.h"

struct Onnx__NodeProto;

/* All attributes of a node into the arena. A subgraph, a sparse tensor, a type or a list of
 * tensors is QD_UNSUPPORTED, a duplicate or nameless one QD_INVALID; messages do not name the
 * node, the caller does. */
QD_MUST_CHECK enum qd_code qc_onnx_attrs_import(const struct Onnx__NodeProto *proto,
                                                struct qd_arena *arena, struct qc_node *node,
                                                struct qd_error *err);
/* The reverse: fills proto->attribute, borrowing from the node. */
QD_MUST_CHECK enum qd_code qc_onnx_attrs_export(const struct qc_node *node,
                                                struct qd_arena *arena,
                                                struct Onnx__NodeProto *proto,
                                                struct qd_error *err);

/* Edits; the old list stays as it is in the arena. */
QD_MUST_CHECK enum qd_code qc_onnx_attrs_drop(struct qd_arena *arena, struct qc_node *node,
                                              const char *name, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_onnx_attrs_set(struct qd_arena *arena, struct qc_node *node,
                                             struct qc_attr attr, struct qd_error *err);

#endif
