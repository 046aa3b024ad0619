/* What stands around an operator of a QDQ graph: where its 8-bit data come from and go to. Used
 * by the planner alone; nothing here changes the graph but qc_int_become. */
#ifndef QC_INT_MATCH_H
#define QC_INT_MATCH_H

#include "quantcore/affine/qparams.h"
#include "quantcore/graph/op_table.h"

/* Both parameters of a QuantizeLinear or DequantizeLinear node, as value indices. */
struct qc_int_params {
    int scale, zero_point;
};

/* Is the node a Quantize/DequantizeLinear with constant per-tensor parameters of 8-bit data
 * (u8 or s8: qc_int_dtype tells)? */
bool qc_int_per_tensor(const struct qc_graph *g, const struct qc_node *n,
                       struct qc_int_params *ret);
enum qc_dtype qc_int_dtype(const struct qc_graph *g, const struct qc_int_params *p);
/* The numbers behind the indices. */
struct qc_qparams qc_int_qparams(const struct qc_graph *g, const struct qc_int_params *p);
bool qc_int_same_params(const struct qc_graph *g, const struct qc_int_params *a,
                        const struct qc_int_params *b);

/* The node that makes the value, if it is an `op`; NULL otherwise. */
const struct qc_node *qc_int_producer(const struct qc_graph *g, int value, int op);
/* The DequantizeLinear of per-tensor 8-bit activations that makes an f32 value, or NULL. */
const struct qc_node *qc_int_dequantizer(const struct qc_graph *g, int value,
                                         struct qc_int_params *ret);
/* The same for u8 alone; *ret_q is the 8-bit value. */
bool qc_int_dequantized_from(const struct qc_graph *g, int value, int *ret_q,
                             struct qc_int_params *ret);
/* The one QuantizeLinear (per tensor, u8) that takes everything the value gives, or NULL. */
const struct qc_node *qc_int_quantized_by(const struct qc_graph *g, int value,
                                          struct qc_int_params *ret);

/* Replace node i by an internal one; attributes, name and clamp stay. */
QD_MUST_CHECK enum qd_code qc_int_become(struct qc_graph *g, int i, int op, const int *inputs,
                                         int n_inputs, int output, struct qd_error *err);

#endif
