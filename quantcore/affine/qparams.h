/* Affine quantization: q integer, x real, x ~ scale * (q - zero_point).
 * The one place where rounding and saturation are defined. */
#ifndef QC_QPARAMS_H
#define QC_QPARAMS_H

#include "quantcore/base/qd_base.h"

struct qc_qparams {
    float scale;        /* > 0, real units a step */
    int32_t zero_point;
    bool is_s8;         /* codes are -128..127, else 0..255 */
};

/* The ends of the codes. */
static inline int32_t qc_code_min(const struct qc_qparams *p)
{
    return p->is_s8 ? -128 : 0;
}
static inline int32_t qc_code_max(const struct qc_qparams *p)
{
    return p->is_s8 ? 127 : 255;
}

/* clamp(rne(x / scale) + zero_point, q_min, q_max); divides, as ONNX's QuantizeLinear does. */
int32_t qc_quantize_value(float x, float scale, int32_t zero_point, int32_t q_min,
                          int32_t q_max);

/* u8 parameters of the range [lo, hi], widened to contain 0 so that 0 is exact:
 * scale = (hi - lo) / 255, zero_point = clamp(rne(-lo / scale), 0, 255), computed in double.
 * An empty range (a constant 0 tensor) gives scale 1, zero point 0; a scale below FLT_MIN is
 * raised to it. lo and hi must be finite. Sets is_s8 to false. */
void qc_qparams_asymmetric_u8(double lo, double hi, struct qc_qparams *ret);

/* How activations become codes. */
struct qc_scheme {
    bool is_s8;     /* codes -128..127, else 0..255 */
    bool symmetric; /* 0 in the middle: zero point 0 (s8) or 128 (u8) */
};

/* The pair of the range [lo, hi] in a scheme. Asymmetric: as above, for s8 the same scale with a
 * zero point 128 lower, so that both stand for the same values. Symmetric: scale =
 * max(|lo|, |hi|) / 127 as of weights. */
void qc_qparams_choose(struct qc_scheme scheme, double lo, double hi, struct qc_qparams *ret);

/* Full-range symmetric s8 scale: 2 absmax / 255, codes -128..127; the largest positive value is
 * then half a step beyond the last code. 1 for absmax 0. */
float qc_scale_full_s8(double absmax);

/* Narrow symmetric s8 scale: absmax / 127, computed in double; 1 for absmax 0. */
float qc_scale_symmetric_s8(double absmax);

#endif
