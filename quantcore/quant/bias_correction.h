/* Takes the mean of the weights' rounding error out of a layer: b' = b - sum (W^ - W) E[x], with
 * the channel means of the layer's input from pass 1. No run of the network is needed. For a Conv
 * with padding it is exact inside and a little too much at the border. */
#ifndef QC_BIAS_CORRECTION_H
#define QC_BIAS_CORRECTION_H

#include "quantcore/quant/quantize_weights.h"

/* node: Conv (with groups), Gemm or MatMul with weights of rank 2. mean: E[x] of the input's
 * channels (Conv: dim 1; Gemm, MatMul: the K of the product), n_means of them. bias: one an
 * output channel, changed in place. QD_INVALID, bias untouched, when n_means does not fit. */
QD_MUST_CHECK enum qd_code qc_bias_correct(const struct qc_node *node,
                                           const struct qc_quantized_weights *w,
                                           const double *mean, size_t n_means, double *bias,
                                           struct qd_error *err);

#endif
