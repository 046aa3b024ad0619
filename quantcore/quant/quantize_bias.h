/* The bias to s32 with the scale that the accumulator has: s_b = float32(s_x) * float32(s_w[c]),
 * a float32 product, because kernels never read s_b: it is implied. */
#ifndef QC_QUANTIZE_BIAS_H
#define QC_QUANTIZE_BIAS_H

#include "quantcore/quant/quantize_weights.h"

struct qc_quantized_bias {
    struct qc_tensor *q; /* s32 [n] */
    int n_scales;        /* 1, or n where the weights have channels */
    float *scale;
};

/* Where |b| / s_b exceeds 2^31 - 1 the weights' scale is raised until it fits (with per-tensor
 * weights for all channels) and the codes of the weights recomputed. Returns the number of scales
 * raised; the caller corrects its bias for the new codes if it does so at all. n: output
 * channels; s_x > 0. */
int qc_bias_make_room(const double *bias, size_t n, float s_x, struct qc_quantized_weights *w);
/* Would the bias fit without raising a scale? */
bool qc_bias_has_room(const double *bias, size_t n, float s_x,
                      const struct qc_quantized_weights *w);
/* Rounds half to even and saturates. QD_INVALID names the first value that is not finite. */
QD_MUST_CHECK enum qd_code qc_quantize_bias(const double *bias, size_t n, float s_x,
                                            const struct qc_quantized_weights *w,
                                            struct qd_arena *arena,
                                            struct qc_quantized_bias *ret, struct qd_error *err);

#endif
