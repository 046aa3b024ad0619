/* From a 32-bit accumulator to the output's integer: the arithmetic of ONNX Runtime's
 * QLinearConv, so that both agree to the bit. */
#ifndef QC_REQUANT_H
#define QC_REQUANT_H

#include <math.h>

#include "quantcore/base/qd_base.h"

/* f = (float)acc * multiplier, clamped to [q_min - zp, q_max - zp] in float, rounded half to
 * even, zero point added after rounding. NaN cannot occur for finite multipliers. */
static inline int32_t qc_requantize(int32_t acc, float multiplier, int32_t zero_point,
                                    int32_t q_min, int32_t q_max)
{
    float lo = (float)(q_min - zero_point);
    float hi = (float)(q_max - zero_point);
    float f = (float)acc * multiplier;
    f = f > lo ? f : lo;
    f = f < hi ? f : hi;
    return (int32_t)rintf(f) + zero_point;
}

/* The clamp of a fused activation: NaN passes through. */
static inline float qc_clamp(float x, float lo, float hi)
{
    return x < lo ? lo : (x > hi ? hi : x);
}

#endif
