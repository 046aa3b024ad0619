/* `mode: weight_only`: the weights of Conv, Gemm and MatMul are s8, s4 or float16, everything else
 * stays f32. A runtime takes them to f32 when it loads or before each run: the file is about a
 * quarter (an eighth, a half), the arithmetic is f32's, and no data are needed.
 *
 * One DequantizeLinear for a tensor of weights, whoever reads it (two when a Gemm reads it
 * transposed and another node does not), with a zero point if the weights are asymmetric. Names:
 * "<weights>_quantized", "_scale", "_zero_point", "_dequantized". Blocks are along the inputs of
 * the product, as the attributes axis and block_size say; the scales then have the weights' shape,
 * but for that axis. Codes of 4 bits and fewer are s4 (ONNX's INT4): that and blocks take opset 21.
 * float16 is an initializer "<weights>_f16" and a Cast "<weights>_f32". */
#ifndef QC_QUANTIZE_WEIGHT_ONLY_H
#define QC_QUANTIZE_WEIGHT_ONLY_H

#include "quantcore/quant/quantize_rewrite.h"

/* Arguments as qc_rewrite_new. */
QD_MUST_CHECK enum qd_code qc_quantize_weight_only(const struct qc_graph *g,
                                                   const struct qc_rewrite_options *options,
                                                   struct qd_arena *arena,
                                                   struct qc_rewrite **ret, struct qd_error *err);

#endif
