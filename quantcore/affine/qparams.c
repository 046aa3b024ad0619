#include "quantcore/affine/qparams.h"

#include <float.h>
#include <math.h>

int32_t qc_quantize_value(float x, float scale, int32_t zero_point, int32_t q_min, int32_t q_max)
{
    float lo = (float)(q_min - zero_point);
    float hi = (float)(q_max - zero_point);
    float f = x / scale;
    f = f > lo ? f : lo;
    f = f < hi ? f : hi;
    return (int32_t)rintf(f) + zero_point;
}

void qc_qparams_asymmetric_u8(double lo, double hi, struct qc_qparams *ret)
{
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    ret->is_s8 = false;
    if (lo == hi) {
        ret->scale = 1.0f;
        ret->zero_point = 0;
        return;
    }
    float scale = (float)((hi - lo) / 255.0);
    if (scale < FLT_MIN) {
        scale = FLT_MIN;
    }
    /* With the scale that is stored, not with the exact quotient: both sides must agree. */
    double z = rint(-lo / (double)scale);
    ret->scale = scale;
    ret->zero_point = z < 0 ? 0 : (z > 255 ? 255 : (int32_t)z);
}

float qc_scale_symmetric_s8(double absmax)
{
    if (absmax <= 0) {
        return 1.0f;
    }
    float scale = (float)(absmax / 127.0);
    return scale < FLT_MIN ? FLT_MIN : scale;
}
