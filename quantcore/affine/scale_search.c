#include "quantcore/affine/scale_search.h"

#include <float.h>
#include <math.h>

enum { LANES = 8 };

/* x + 1.5 * 2^23 has no fraction: the addition rounds half to even, as rintf does, and is an
 * instruction on every machine. For |x| below 2^22. */
static inline float round_small(float x)
{
    const float magic = 12582912.0f;
    return (x + magic) - magic;
}

double qc_rounding_error(const float *x, size_t n, float scale, int32_t zero_point, int32_t q_min,
                         int32_t q_max)
{
    double sum[LANES] = {0};
    float lo = (float)(q_min - zero_point), hi = (float)(q_max - zero_point);
    double total = 0;
    for (size_t i = 0; i < n; i += LANES) {
        float part[LANES] = {0};
        for (size_t k = 0; k < LANES && i + k < n; k++) {
            part[k] = x[i + k];
        }
        for (size_t k = 0; k < LANES; k++) {
            float q = part[k] / scale;
            q = q > lo ? q : lo;
            q = q < hi ? q : hi;
            double e = (double)fabsf(part[k] - scale * round_small(q));
            sum[k] += e * e * e;
        }
    }
    for (int k = 0; k < LANES; k++) {
        total += sum[k];
    }
    return total;
}

double qc_scale_search(const float *x, size_t n, double full, int32_t zero_point, int32_t q_min,
                       int32_t q_max)
{
    double best = INFINITY;
    int part = QC_SCALE_PARTS;
    for (int i = QC_SCALE_PARTS; i >= QC_SCALE_LEAST; i--) {
        float scale = fmaxf((float)(full * i / QC_SCALE_PARTS), FLT_MIN);
        double error = qc_rounding_error(x, n, scale, zero_point, q_min, q_max);
        if (error < best) {
            best = error;
            part = i;
        }
    }
    return (double)part / QC_SCALE_PARTS;
}
