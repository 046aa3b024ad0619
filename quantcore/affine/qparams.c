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

void qc_qparams_choose(struct qc_scheme scheme, double lo, double hi, struct qc_qparams *ret)
{
    int32_t shift = scheme.is_s8 ? 128 : 0;
    if (scheme.symmetric) {
        ret->scale = qc_scale_symmetric_s8(fmax(fabs(lo), fabs(hi)));
        ret->zero_point = 128 - shift;
    } else {
        qc_qparams_asymmetric_u8(lo, hi, ret);
        ret->zero_point -= shift;
    }
    ret->is_s8 = scheme.is_s8;
}

static float scale_of(double absmax, double steps)
{
    if (absmax <= 0) {
        return 1.0f;
    }
    float scale = (float)(absmax / steps);
    return scale < FLT_MIN ? FLT_MIN : scale;
}

float qc_scale_full_s8(double absmax)
{
    return scale_of(absmax, 127.5);
}

float qc_scale_symmetric_s8(double absmax)
{
    return scale_of(absmax, 127.0);
}
