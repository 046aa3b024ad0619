/* qc_graph → ModelProto. */
#ifndef QC_ONNX_EXPORT_H
#define QC_ONNX_EXPORT_H

#include "quantcore/graph/graph.h"

/* Write a linked graph in canonical form. *ret lives in the arena; the same graph gives the
 * same bytes.
 *
 * Default opset qc_onnx_export_opset, operators in its form, ir_version what that opset needs or
 * the model's own if it is higher; other domains as imported, without "quantd". Inputs and outputs
 * as declared (an output without a declared shape gets the inferred one). Only what the outputs
 * need is written: constants as initializers with raw_data, except those with symbolic_elements,
 * which are computed by their nodes. A clamp is a Relu or Clip after its node. A Softmax marked
 * QC_ONNX_FLATTEN is written as Shape, Flatten, Softmax, Reshape when its axis is not the last.
 *
 * QD_INTERNAL for what ONNX has no words for: an integer unit, a clamp that is not f32. */
QD_MUST_CHECK enum qd_code qc_onnx_export(const struct qc_graph *g, struct qd_arena *arena,
                                          struct qd_bytes *ret, struct qd_error *err);

/* The default domain's opset that an export of g has: the largest of g->opset, g->least_opset and
 * 13, the oldest one that is written. */
int64_t qc_onnx_export_opset(const struct qc_graph *g);

#endif
