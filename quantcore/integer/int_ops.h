/* The integer units: prepare functions behind the internal rows of exec_table.c, and what they
 * share. The nodes are made by int_plan.c, which says what their inputs are. */
#ifndef QC_INT_OPS_H
#define QC_INT_OPS_H

#include "quantcore/affine/qparams.h"
#include "quantcore/exec/exec_step.h"

/* int_conv.c: NHWC u8 in, NHWC u8 or f32 out */
qc_prepare_fn qc_prepare_q_conv;
void qc_border_q_conv(const struct qc_graph *g, const struct qc_node *n, int ret_pad[4]);
/* int_gemm.c: plain u8 [..., K] in, plain u8 or f32 [..., N] out */
qc_prepare_fn qc_prepare_q_gemm;
/* int_elementwise.c: any layout */
qc_prepare_fn qc_prepare_q_add, qc_prepare_q_mul, qc_prepare_q_table, qc_prepare_q_concat;
/* int_pool.c: NHWC u8 */
qc_prepare_fn qc_prepare_q_average_pool, qc_prepare_q_global_average_pool;

/* What a unit writes: u8 with its parameters and range, or f32 with a clamp. */
struct qc_unit_output {
    bool is_u8;
    struct qc_qparams y;
    int32_t y_min, y_max; /* u8: 0..255, narrower when an activation is fused */
    float lo, hi;         /* f32: the fused activation */
};

/* Parameters out of the constant inputs scale and zero_point (node input positions). */
QD_MUST_CHECK enum qd_code qc_unit_params(const struct qc_prepare *p, int scale, int zero_point,
                                          struct qc_qparams *ret, struct qd_error *err);
/* Reads the output's parameters; absent ones mean f32. A clamp of the node becomes y_min and
 * y_max by Q(clamp(x)) = clamp(Q(x), Q(lo), Q(hi)). */
QD_MUST_CHECK enum qd_code qc_unit_output(const struct qc_prepare *p, int scale, int zero_point,
                                          struct qc_unit_output *ret, struct qd_error *err);

/* Weights of a product with their biases, ready for the kernels: per output channel the
 * multiplier float32(s_x * s_w) (/ s_y for u8) and the bias with all that the input does not
 * change: b - z_x * sum(w - z_w), modulo 2^32. The sum of (x - z_x) (w - z_w) is then
 * sum(x w) - z_w * sum(x) + bias; sum(x) is the same for all channels of a group. */
struct qc_unit_weights {
    int n_out;
    size_t depth;        /* weights of one output channel */
    const int8_t *w;     /* [n_out][depth] */
    int32_t *bias;       /* [n_out] */
    float *multiplier;   /* [n_out] */
    int32_t *zero_point; /* [n_out] z_w, or NULL: all are 0 */
    int32_t x_zero_point;
};
/* w: the weights of the node, transposed where it stores them otherwise: [n_out][depth]. */
QD_MUST_CHECK enum qd_code qc_unit_weights(const struct qc_prepare *p, const int8_t *w, int n_out,
                                           size_t depth, struct qc_unit_weights *ret,
                                           struct qd_error *err);

#endif
