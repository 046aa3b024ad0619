/* Constant weights and biases of a Conv, Gemm or MatMul in a QDQ graph. */
#ifndef QC_INT_WEIGHTS_H
#define QC_INT_WEIGHTS_H

#include "quantcore/integer/int_match.h"

struct qc_int_weights {
    /* value indices: constant s8; f32, one or one an output channel; s8 of the scale's number, or
     * -1: all are 0 */
    int w, scale, zero_point;
};

/* The node's input 1: DequantizeLinear of a constant 8-bit tensor, its scales per tensor or along
 * the output channels. Weights with zero points are moved to zero point 0 (a new constant) where
 * all of them stay within s8, because that saves the sums of the inputs; u8 weights around 128
 * always do. Others keep their zero points, u8 ones less 128. *ret_found is false for whatever
 * does not fit. */
QD_MUST_CHECK enum qd_code qc_int_weights(struct qc_graph *g, const struct qc_node *n,
                                          struct qc_int_weights *ret, bool *ret_found,
                                          struct qd_error *err);

/* The node's input 2: DequantizeLinear of a constant s32 vector, one number an output channel, in
 * steps of x_scale * w_scale (up to the rounding of that product), because the unit adds the
 * integers to its sums. */
bool qc_int_bias(const struct qc_graph *g, const struct qc_node *n, float x_scale,
                 const struct qc_int_weights *w, int *ret);

#endif
