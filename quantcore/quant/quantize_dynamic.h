/* `mode: dynamic`: the weights of Conv, Gemm and MatMul are s8 in the file (with codes of fewer bits
 * too, which products take as s8 only), their input is
 * quantized while the network runs, with the range that it has in that run. No data are needed.
 *
 *     x ── DynamicQuantizeLinear ─ codes ─ ConvInteger / MatMulInteger ─ Cast ─ Mul ─ Add ─ y
 *                 │   └ zero point ──────────────┘                              │     │
 *                 └ scale ── Mul (weights' scales) ─────────────────────────────┘   bias
 *
 * One DynamicQuantizeLinear a tensor, whoever reads it. Weights are symmetric: their zero point
 * is 0 and absent, so that a scale an output channel can be multiplied afterwards. A Gemm's
 * weights are stored as [K, N] with alpha in them, beta is in its bias. A fused activation
 * follows the last node of the chain.
 *
 * The range is that of the whole tensor: in a batch of several samples each one's rounding
 * depends on the others. quantd runs one sample at a time.
 *
 * Names: "<x>_quantized", "_scale", "_zero_point"; "<weights>_quantized", "_scale";
 * "<node>_acc", "_acc_f32", "_scale", "_scaled". The product keeps the node's name, the rest of
 * the chain has names such as Mul_12: in a small network names are a good part of the file. */
#ifndef QC_QUANTIZE_DYNAMIC_H
#define QC_QUANTIZE_DYNAMIC_H

#include "quantcore/quant/quantize_rewrite.h"

/* Arguments as qc_rewrite_new. In f32 stay, with their reason: what qc_rewrite_obstacle names, a
 * Conv with three spatial dims, a Gemm with transA, a bias that is no constant, a MatMul of
 * vectors, and sums of more than QC_DYNAMIC_DEPTH products, which could pass 32 bits. */
#define QC_DYNAMIC_DEPTH (INT32_MAX / (255 * 128))
QD_MUST_CHECK enum qd_code qc_quantize_dynamic(const struct qc_graph *g,
                                               const struct qc_rewrite_options *options,
                                               struct qd_arena *arena, struct qc_rewrite **ret,
                                               struct qd_error *err);

#endif
