/* Weights to s8: symmetric, one scale a channel or one a tensor. Narrow, the default: codes
 * [-127, 127], scale = absmax / 127. Full, on request: [-128, 127], scale = absmax / 127.5, which
 * clips the largest positive weight systematically. */
#ifndef QC_QUANTIZE_WEIGHTS_H
#define QC_QUANTIZE_WEIGHTS_H

#include "quantcore/graph/op_table.h"

struct qc_quantized_weights {
    const struct qc_tensor *source; /* f32 */
    const struct qc_tensor *q;      /* s8, the source's shape */
    int axis;                       /* output channels; -1: one scale for all */
    bool full_range;                /* codes down to -128 */
    int n_scales;
    float *scale;                   /* n_scales, > 0 */
    int n_dead;                     /* channels whose scale was raised to the floor */
    int n_raised;                   /* scales raised so that the bias fits 32 bits */
    bool f32_bias;                  /* the bias stays f32: see qc_builder_add_parameters */
    bool imported;                  /* codes and scales are the model's own: never changed */
};

/* The axis of the output channels in the weights of a Conv, Gemm or MatMul: 0; 0 with transB,
 * else 1; the last. */
int qc_weights_axis(const struct qc_node *node, const struct qc_tensor *weights);
/* Index of the output channel that element i of the weights belongs to. */
static inline size_t qc_weights_channel(size_t i, size_t inner, size_t n_channels)
{
    return i / inner % n_channels;
}
/* Product of the dims behind axis. */
size_t qc_weights_inner(const struct qc_tensor *weights, int axis);

/* axis -1: per tensor. A channel's scale is at least max(0.01 * largest absmax, 8e-5) / 127:
 * a dead channel would make its bias billions of steps. QD_INVALID names the first value that is
 * not finite; the source must be f32. */
QD_MUST_CHECK enum qd_code qc_quantize_weights(const struct qc_tensor *weights, int axis,
                                               bool full_range, struct qd_arena *arena,
                                               struct qc_quantized_weights *ret,
                                               struct qd_error *err);
/* Recompute the codes after a scale was changed. */
void qc_quantized_weights_update(struct qc_quantized_weights *w);
/* Dequantized element i. */
double qc_quantized_weights_value(const struct qc_quantized_weights *w, size_t i);

#endif
