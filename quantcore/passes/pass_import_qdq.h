/* Networks that carry QuantizeLinear and DequantizeLinear already: what they say is taken off the
 * graph and remembered, so that the rest of the work sees an f32 network, and the quantizer puts
 * the same scales back.
 *
 * Weights. A constant behind a DequantizeLinear (or f32 behind both) becomes the f32 constant
 * that it stands for; its codes, scales, zero points and axis are remembered and never change. A
 * Transpose of them works on the codes, and a BatchNormalization that is folded into them on the
 * scales (with a positive factor a channel; else, and in blocks, such weights are quantized anew).
 * Activations. QuantizeLinear -> DequantizeLinear with the same constant pair (one f32 scale > 0,
 * a u8 or s8 zero point) is taken out when nothing else reads the codes; the tensor in front of
 * it keeps the pair. What has another form (a scale an axis, a scale that is data, codes that are
 * an output of the network, a second, different pair on the same tensor) stays as it is and runs
 * as an f32 operator. */
#ifndef QC_PASS_IMPORT_QDQ_H
#define QC_PASS_IMPORT_QDQ_H

#include "quantcore/affine/qparams.h"
#include "quantcore/graph/op_table.h"

struct qc_imported_constant {
    const struct qc_tensor *real; /* f32: what DequantizeLinear gives */
    int code, scale, zero_point;  /* values of the graph; zero_point -1: absent, thus 0 */
    int axis;                     /* of the scales in the codes; -1: one scale */
    int64_t block;                /* codes along axis that share a scale, which has their rank then;
                                     0: all */
};

struct qc_import {
    int n_constant_values;                 /* values that existed when the weights were taken */
    struct qc_imported_constant *constant; /* [n_constant_values] real NULL: not imported */
    int n_constants;
    int n_pair_values;
    struct qc_qparams *pair; /* [n_pair_values] scale 0: not imported */
    int n_pairs;
};

bool qc_is_quantized(const struct qc_graph *g); /* has QuantizeLinear or DequantizeLinear */

/* The first half, on a simplified graph (types and shapes known) and before the other passes,
 * which fold and fuse around constants. QD_INVALID names a scale that is not a positive finite
 * number. */
QD_MUST_CHECK enum qd_code qc_import_constants(struct qc_graph *g, struct qc_import *ret,
                                               struct qd_error *err);
/* The second half, after all passes: activations. Links. */
QD_MUST_CHECK enum qd_code qc_import_activations(struct qc_graph *g, struct qc_import *import,
                                                 struct qd_error *err);

/* All passes with both halves around them: the f32 network, and what it carried. *ret_import is
 * NULL when the model carries nothing of the kind. */
QD_MUST_CHECK enum qd_code qc_passes_run_import(struct qc_graph *g, struct qc_import **ret_import,
                                                struct qd_error *err);

/* The pair of a value, NULL when the model had none. import may be NULL. */
const struct qc_qparams *qc_import_pair(const struct qc_import *import, int value);
/* What is known about a constant, NULL when the model had it in f32 or a pass changed it. */
const struct qc_imported_constant *qc_import_constant(const struct qc_import *import,
                                                      const struct qc_graph *g, int value);

#endif
