/* s8 activations as u8 ones: x = s (q - z) = s ((q + 128) - (z + 128)). */
#ifndef QC_INT_SHIFT_H
#define QC_INT_SHIFT_H

#include "quantcore/graph/op_table.h"

/* First every Quantize/DequantizeLinear of an activation gets a zero point that it leaves out.
 * Then s8 values become u8 with the zero point moved by 128, wherever nobody outside can see the
 * bytes: graph inputs and outputs, and what an operator with 8-bit arithmetic of its own (Pad's
 * fill value) touches, stay s8. Types are inferred anew. */
QD_MUST_CHECK enum qd_code qc_int_shift(struct qc_graph *g, struct qd_error *err);

#endif
