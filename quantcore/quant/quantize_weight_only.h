/* `mode: weight_only`: the weights of Conv, Gemm and MatMul are s8 behind a DequantizeLinear,
 * everything else stays f32. A runtime dequantizes them when it loads or before each run: the
 * file is about a quarter, the arithmetic is f32's, and no data are needed.
 *
 * One DequantizeLinear for a tensor of weights, whoever reads it (two when a Gemm reads it
 * transposed and another node does not), without a zero point: it is 0. Names:
 * "<weights>_quantized",
 * "_scale", "_dequantized". */
#ifndef QC_QUANTIZE_WEIGHT_ONLY_H
#define QC_QUANTIZE_WEIGHT_ONLY_H

#include "quantcore/quant/quantize_rewrite.h"

/* Arguments as qc_rewrite_new. */
QD_MUST_CHECK enum qd_code qc_quantize_weight_only(const struct qc_graph *g,
                                                   const struct qc_rewrite_options *options,
                                                   struct qd_arena *arena,
                                                   struct qc_rewrite **ret, struct qd_error *err);

#endif
