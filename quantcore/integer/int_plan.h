/* Where quantize, requantize and dequantize go: turns a QDQ graph into one with integer units.
 *
 * A unit is DequantizeLinear on every data input → operator → QuantizeLinear. It becomes one
 * internal node (op_table.h: Q_CONV …) that reads and writes u8; a Conv, Gemm or MatMul without
 * a QuantizeLinear behind it writes f32. Functions of one quantized tensor become tables
 * (int_table.h). Operators that move elements (QC_IS_PASS) run on the 8-bit data as they are, and
 * a table follows when the parameters behind them are others. Whatever fits no unit stays an f32
 * island.
 *
 * Inputs of the internal nodes, every scale and zero point a constant:
 *   Q_CONV, Q_GEMM       x, x_scale, x_zp, w, w_scale, w_zp, y_scale, y_zp, [bias s32]
 *                        w is s8, whatever the model has; w_zp is -1 when all its zero points
 *                        are 0, else s8 with as many as w_scale (int_weights.h).
 *                        y_scale and y_zp absent (-1): f32 output. Q_GEMM: w is [K,N] or, with
 *                        attribute transB=1, [N,K]; transA is not supported.
 *   Q_ADD, Q_MUL         a, a_scale, a_zp, b, b_scale, b_zp, y_scale, y_zp
 *   Q_CONCAT             y_scale, y_zp, (x, x_scale, x_zp)…; attribute axis
 *   Q_TABLE              x (u8 or s8), table u8[256] or s8[256], indexed by x's byte
 *   Q_AVERAGE_POOL, Q_GLOBAL_AVERAGE_POOL   x, x_scale, x_zp, y_scale, y_zp
 * The attributes are the operator's own. A clamp of the node (fused activation) is kept: it
 * narrows the u8 range, because Q(clamp(x)) = clamp(Q(x), Q(lo), Q(hi)). */
#ifndef QC_INT_PLAN_H
#define QC_INT_PLAN_H

#include "quantcore/graph/op_table.h"

struct qc_int_counts {
    int n_units;       /* operators that run on integers, pass-through ones included */
    int n_f32_islands; /* operators that stay f32 (Quantize/DequantizeLinear not counted) */
};

/* Rewrites the graph in place; it must be linked, inferred, and have its activations fused.
 * s8 activations become u8 with the zero point moved by 128 (int_shift.h). */
QD_MUST_CHECK enum qd_code qc_int_plan(struct qc_graph *g, struct qc_int_counts *ret,
                                       struct qd_error *err);

#endif
