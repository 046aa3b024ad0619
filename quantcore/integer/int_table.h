/* Functions of one 8-bit tensor as tables.
 *
 * Between DequantizeLinear and QuantizeLinear, whatever is computed element by element from one
 * quantized tensor and constant numbers (Sigmoid; x * Sigmoid(x); x * Clip(x + 3, 0, 6) / 6; a
 * mere change of parameters) is a function of 256 codes. It is evaluated once for each of them by
 * the executor's own operators, so that the table gives the f32 chain's result to the byte. */
#ifndef QC_INT_TABLE_H
#define QC_INT_TABLE_H

#include "quantcore/integer/int_match.h"

/* If node i, a QuantizeLinear, ends such a function, it becomes a Q_TABLE of the quantized tensor
 * and the operators in between are removed (n_outputs = 0, for qc_graph_sweep). A single Add or
 * Mul of two quantized tensors is left to the integer arithmetic of its own. *ret_folded: number
 * of operators removed; *ret_done: whether node i is a table now. */
QD_MUST_CHECK enum qd_code qc_int_table(struct qc_graph *g, int i, bool *ret_done,
                                        int *ret_folded, struct qd_error *err);

/* Codes of x's parameters as codes of y's, through the real values: node i becomes Q_TABLE of the
 * 8-bit value q. dq and node i are the DequantizeLinear and QuantizeLinear whose parameters they
 * are. */
QD_MUST_CHECK enum qd_code qc_int_table_requantize(struct qc_graph *g, int i, int q, int dq,
                                                   struct qd_error *err);

#endif
