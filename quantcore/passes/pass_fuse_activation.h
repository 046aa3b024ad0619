/* Relu, and Clip with constant bounds, behind Conv, Gemm, MatMul, Add or Mul become the clamp of
 * that node: the value in between is never stored or quantized. It must have no other use. A
 * chain of them becomes one clamp; a Clip whose bounds are not in order stays. */
#ifndef QC_PASS_FUSE_ACTIVATION_H
#define QC_PASS_FUSE_ACTIVATION_H

#include "quantcore/graph/graph.h"

QD_MUST_CHECK enum qd_code qc_pass_fuse_activation(struct qc_graph *g, struct qd_error *err);

#endif
