/* Constant additions become biases:
 *     Conv + Add(one number, or one a channel: [C,1,1], [1,C,1,1])    -> Conv with bias
 *     Gemm without C + Add([N] or one number)                          -> Gemm with C
 *     MatMul(A of rank 2, initializer) + Add([N] or one number)        -> Gemm
 * The constant must be an f32 initializer and the intermediate value must have no other use.
 * An existing bias is added to in double. */
#ifndef QC_PASS_FUSE_BIAS_H
#define QC_PASS_FUSE_BIAS_H

#include "quantcore/graph/graph.h"

QD_MUST_CHECK enum qd_code qc_pass_fuse_bias(struct qc_graph *g, struct qd_error *err);

#endif
