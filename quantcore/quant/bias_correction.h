/* Takes the mean of the weights' rounding error out of a layer: b' = b - sum (W^ - W) E[x], with
 * the channel means of the layer's input from pass 1. No run of the network is needed. For a Conv
 * with padding it is exact inside and a little too much at the border. */
#ifndef QC_BIAS_CORRECTION_H
#define QC_BIAS_CORRECTION_H

#include "quantcore/passes/pass_import_qdq.h"
#include "quantcore/quant/quantize_weights.h"

/* node: Conv (with groups), Gemm or MatMul with weights of rank 2. mean: E[x] of the input's
 * channels (Conv: dim 1; Gemm, MatMul: the K of the product), n_means of them. bias: one an
 * output channel, changed in place. QD_INVALID, bias untouched, when n_means does not fit. */
QD_MUST_CHECK enum qd_code qc_bias_correct(const struct qc_node *node,
                                           const struct qc_quantized_weights *w,
                                           const double *mean, size_t n_means, double *bias,
                                           struct qd_error *err);

/* A MatMul has no bias; the constant that an Add behind it adds to every row can take the
 * correction. The value of that constant, or -1: node is no MatMul with a matrix of weights, has a
 * clamp or another reader than the one Add, or is an output; the constant is not N f32 numbers
 * along the last axis, is read elsewhere, or was integers in the model; or a Conv reads the same
 * input, whose means are then along dim 1. import may be NULL. */
int qc_matmul_addend(const struct qc_graph *g, const struct qc_import *import,
                     const struct qc_node *node);

/* The same as qc_bias_correct for that constant; *ret: a corrected copy, in the arena. mean: along
 * the last axis of the MatMul's input. */
QD_MUST_CHECK enum qd_code qc_bias_correct_addend(const struct qc_node *node,
                                                  const struct qc_quantized_weights *w,
                                                  const double *mean, size_t n_means,
                                                  const struct qc_tensor *addend,
                                                  struct qd_arena *arena,
                                                  const struct qc_tensor **ret,
                                                  struct qd_error *err);

#endif
