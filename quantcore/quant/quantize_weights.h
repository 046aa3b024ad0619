/* Weights to s8, one scale (and zero point) a channel or one a tensor. Narrow, the default: codes
 * [-127, 127], scale = absmax / 127. Full, on request: [-128, 127], scale = absmax / 127.5, which
 * clips the largest positive weight systematically. Asymmetric, on request: with lo = min(w, 0)
 * and hi = max(w, 0), scale = (hi - lo) / 255, zero_point = clamp(rne(-128 - lo / scale)): all
 * codes for channels whose weights lie to one side of 0. */
#ifndef QC_QUANTIZE_WEIGHTS_H
#define QC_QUANTIZE_WEIGHTS_H

#include "quantcore/graph/op_table.h"

enum qc_weight_form { QC_WEIGHTS_NARROW, QC_WEIGHTS_FULL, QC_WEIGHTS_ASYMMETRIC };
/* Asymmetric weights use all codes anyway. */
static inline enum qc_weight_form qc_weight_form(bool asymmetric, bool full_range)
{
    return asymmetric ? QC_WEIGHTS_ASYMMETRIC : full_range ? QC_WEIGHTS_FULL : QC_WEIGHTS_NARROW;
}

struct qc_quantized_weights {
    const struct qc_tensor *source; /* f32 */
    const struct qc_tensor *q;      /* s8 (imported: or u8), the source's shape */
    int axis;                       /* output channels; -1: one scale for all */
    enum qc_weight_form form;
    int n_scales;
    float *scale;        /* n_scales, > 0 */
    int32_t *zero_point; /* n_scales; NULL: s8 codes around 0 */
    double *lo;          /* n_scales, <= 0: the ranges' lower ends; NULL: imported */
    int n_dead;          /* channels whose scale was raised to the floor */
    int n_raised;        /* scales raised so that the bias fits 32 bits */
    bool f32_bias;       /* the bias stays f32: see qc_builder_add_parameters */
    bool imported;       /* codes and scales are the model's own: never changed */
};

/* The axis of the output channels, as qc_node_weights_axis. (A ConvTranspose with groups has
 * fewer scales than channels: channel c has scale c % n_scales.) */
int qc_weights_axis(const struct qc_node *node, const struct qc_tensor *weights);
/* Index of the output channel that element i of the weights belongs to. */
static inline size_t qc_weights_channel(size_t i, size_t inner, size_t n_channels)
{
    return i / inner % n_channels;
}
/* Product of the dims behind axis. */
size_t qc_weights_inner(const struct qc_tensor *weights, int axis);

/* axis -1: per tensor. A channel's scale is at least max(0.01 * largest absmax, 8e-5) / 127
 * (asymmetric: largest span, / 255): a dead channel would make its bias billions of steps. Where
 * the largest is small itself, below 8e-4, a tenth of it stands for 8e-5.
 * QD_INVALID names the first value that is not finite; the source must be f32. */
QD_MUST_CHECK enum qd_code qc_quantize_weights(const struct qc_tensor *weights, int axis,
                                               enum qc_weight_form form, struct qd_arena *arena,
                                               struct qc_quantized_weights *ret,
                                               struct qd_error *err);
/* Recompute the codes, and the zero points of asymmetric ones, after a scale was changed. */
void qc_quantized_weights_update(struct qc_quantized_weights *w);
/* The zero points in s8, n_scales of them; NULL when there are none. Not for imported ones. */
QD_MUST_CHECK enum qd_code qc_weights_zero_points(const struct qc_quantized_weights *w,
                                                  struct qd_arena *arena, int8_t **ret,
                                                  struct qd_error *err);
/* Dequantized element i. */
double qc_quantized_weights_value(const struct qc_quantized_weights *w, size_t i);

#endif
