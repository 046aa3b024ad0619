/* BatchNormalization behind Conv or Gemm becomes part of the weights and the bias:
 *     w' = w * gamma / sqrt(var + epsilon)        per output channel
 *     b' = beta + gamma * (b - mean) / sqrt(var + epsilon)
 * computed in double, stored in f32. Both nodes' parameters must be initializers and the
 * intermediate value must have no other use; any other BatchNormalization stays. QD_INVALID when
 * var + epsilon is not positive or a result is not finite (node and channel are named). */
#ifndef QC_PASS_BN_FOLD_H
#define QC_PASS_BN_FOLD_H

#include "quantcore/graph/graph.h"

QD_MUST_CHECK enum qd_code qc_pass_bn_fold(struct qc_graph *g, struct qd_error *err);

#endif
