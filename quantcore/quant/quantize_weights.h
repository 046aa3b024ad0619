/* Weights to codes of a few bits, one scale (and zero point) a channel, one a tensor or one a block
 * of the inputs; or to float16.
 *
 * 8 bits. Narrow, the default: codes [-127, 127], scale = absmax / 127. Full, on request:
 * [-128, 127], scale = absmax / 127.5, which clips the largest positive weight systematically.
 * Asymmetric, on request: with lo = min(w, 0) and hi = max(w, 0), scale = (hi - lo) / 255,
 * zero_point = clamp(rne(-128 - lo / scale)): all codes for channels whose weights lie to one side
 * of 0.
 * 7 bits: the same with [-63, 63] or [-64, 63] and 63, 63.5 and 127 steps: two neighbours never
 * add up to what saturates in pairs (saturating_pairs.h).
 * b = 4, 3 or 2 bits: the same with [-(2^(b-1) - 1), 2^(b-1) - 1] or [-2^(b-1), 2^(b-1) - 1] and
 * the full scales absmax / (2^(b-1) - 1), absmax / (2^(b-1) - 0.5), (hi - lo) / (2^b - 1), of which
 * the part is taken that has the least cubed error (scale_search.h); lo moves with it.
 * 1 bit: the code is the sign, -1 or 1 (of 0: 1), the scale the mean of |w|, with which the squared
 * error is least.
 * 16 bits: float16, rounded half to even; no scales. */
#ifndef QC_QUANTIZE_WEIGHTS_H
#define QC_QUANTIZE_WEIGHTS_H

#include "quantcore/graph/op_table.h"

enum qc_weight_form { QC_WEIGHTS_NARROW, QC_WEIGHTS_FULL, QC_WEIGHTS_ASYMMETRIC };
/* Asymmetric weights use all codes anyway. */
static inline enum qc_weight_form qc_weight_form(bool asymmetric, bool full_range)
{
    return asymmetric ? QC_WEIGHTS_ASYMMETRIC : full_range ? QC_WEIGHTS_FULL : QC_WEIGHTS_NARROW;
}

#define QC_FLOAT16_BITS 16
#define QC_WEIGHT_BITS  8 /* unless asked for others */

struct qc_weight_format {
    enum qc_weight_form form; /* narrow alone with 1 bit */
    int bits;       /* 8, 7, 4, 3, 2, 1; 16: float16 */
    int block;      /* weights along block_axis that share a scale, where there are more; 0: none.
                       Needs scales a channel */
    int block_axis; /* qc_weights_input_axis */
    bool packed;    /* codes of 4 bits and fewer are s4, else s8 */
};

struct qc_quantized_weights {
    const struct qc_tensor *source; /* f32 */
    const struct qc_tensor *q;      /* s8, s4, f16 (imported: or u8, u4), the source's shape */
    int axis;                       /* output channels; -1: one scale for all */
    struct qc_weight_format format; /* block 0 where the inputs are no more than one */
    int n_scales;
    float *scale;        /* n_scales, > 0 */
    int32_t *zero_point; /* n_scales; NULL: signed codes around 0 */
    double *lo;          /* n_scales, <= 0: the ranges' lower ends; NULL: imported */
    int n_dead;          /* channels whose scale was raised to the floor */
    int n_raised;        /* scales raised so that the bias fits 32 bits */
    bool f32_bias;       /* the bias stays f32: see qc_builder_add_parameters */
    bool imported;       /* codes and scales are the model's own: never changed */
};

/* The axis of the output channels, as qc_node_weights_axis. (A ConvTranspose with groups has
 * fewer scales than channels: channel c has scale c % n_scales.) */
int qc_weights_axis(const struct qc_node *node, const struct qc_tensor *weights);
/* The axis along which products are summed: of a Conv 1, a ConvTranspose 0, a Gemm 1 with transB,
 * else 0, a MatMul the last but one. The weights have rank 2 or more. */
int qc_weights_input_axis(const struct qc_node *node, const struct qc_tensor *weights);
/* Product of the dims behind axis. */
size_t qc_weights_inner(const struct qc_tensor *weights, int axis);

/* axis -1: per tensor. A channel's scale is at least max(0.01 * largest absmax, 8e-5) / 127
 * (asymmetric: largest span, / 255; full: / 127.5), with fewer bits too: a dead channel would make
 * its bias billions of steps. Where the largest is small itself, below 8e-4, a tenth of it stands
 * for 8e-5. With 1 bit, where no code is 0, and in blocks, behind which no bias is quantized, the
 * floor is FLT_MIN.
 * QD_INVALID names the first value that is not finite or beyond float16; the source must be f32. */
QD_MUST_CHECK enum qd_code qc_quantize_weights(const struct qc_tensor *weights, int axis,
                                               const struct qc_weight_format *format,
                                               struct qd_arena *arena,
                                               struct qc_quantized_weights *ret,
                                               struct qd_error *err);
/* Recompute the codes, and the zero points of asymmetric ones, after a scale was changed. */
void qc_quantized_weights_update(struct qc_quantized_weights *w);
/* Of the scales and zero points: rank 0; [n_scales]; with blocks the weights' own, but for
 * ceil(length / block) along block_axis. */
struct qc_shape qc_weights_scale_shape(const struct qc_quantized_weights *w);
/* The zero points in s8, n_scales of them; NULL when there are none. Not for imported ones. */
QD_MUST_CHECK enum qd_code qc_weights_zero_points(const struct qc_quantized_weights *w,
                                                  struct qd_arena *arena, int8_t **ret,
                                                  struct qd_error *err);
/* Dequantized element i. */
double qc_quantized_weights_value(const struct qc_quantized_weights *w, size_t i);

#endif
