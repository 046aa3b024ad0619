/* Elementwise kernels and reductions in plain C. */
#include "quantcore/kernels/kernels_decl.h"

#include <math.h>

#include "quantcore/affine/qparams.h"
#include "quantcore/affine/requant.h"

void qc_add_f32__ref(const float *a, const float *b, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = a[i] + b[i];
    }
}

void qc_mul_f32__ref(const float *a, const float *b, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = a[i] * b[i];
    }
}

void qc_clamp_f32__ref(const float *x, float lo, float hi, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = qc_clamp(x[i], lo, hi);
    }
}

void qc_quantize_u8__ref(const float *x, float scale, int32_t zero_point, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)qc_quantize_value(x[i], scale, zero_point, 0, 255);
    }
}

void qc_quantize_pixels_u8__ref(const float *x, int64_t plane, int channels, float scale,
                                int32_t zero_point, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (int c = 0; c < channels; c++) {
            float v = x[c * plane + (int64_t)i];
            *out++ = (uint8_t)qc_quantize_value(v, scale, zero_point, 0, 255);
        }
    }
}

void qc_dequantize_u8__ref(const uint8_t *q, float scale, int32_t zero_point, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = (float)(q[i] - zero_point) * scale;
    }
}

void qc_lut_u8__ref(const uint8_t *x, const uint8_t table[256], uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = table[x[i]];
    }
}

static int32_t clamp_round(float f, int32_t q_min, int32_t q_max)
{
    float lo = (float)q_min, hi = (float)q_max;
    f = f > lo ? f : lo;
    f = f < hi ? f : hi;
    return (int32_t)rintf(f);
}

void qc_add_u8__ref(const uint8_t *a, const uint8_t *b, const struct qc_add_u8 *p, uint8_t *out,
                    size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float fa = (float)(a[i] - p->offset), fb = (float)(b[i] - p->offset);
        float f = fmaf(fa, p->ra, fmaf(fb, p->rb, p->k));
        out[i] = (uint8_t)(clamp_round(f, p->y_min - p->offset, p->y_max - p->offset) + p->offset);
    }
}

void qc_mul_u8__ref(const uint8_t *a, const uint8_t *b, const struct qc_mul_u8 *p, uint8_t *out,
                    size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int32_t product = (a[i] - p->a_zero_point) * (b[i] - p->b_zero_point);
        float f = (float)product * p->multiplier + (float)p->y_zero_point;
        out[i] = (uint8_t)clamp_round(f, p->y_min, p->y_max);
    }
}

void qc_max_taps_f32__ref(const float *x, const int32_t *tap, int n_taps, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float most = x[tap[0] + (int64_t)i];
        for (int t = 1; t < n_taps; t++) {
            float v = x[tap[t] + (int64_t)i];
            most = v > most ? v : most;
        }
        out[i] = most;
    }
}

void qc_max_taps_u8__ref(const uint8_t *x, const int32_t *tap, int n_taps, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t most = x[tap[0] + (int64_t)i];
        for (int t = 1; t < n_taps; t++) {
            uint8_t v = x[tap[t] + (int64_t)i];
            most = v > most ? v : most;
        }
        out[i] = most;
    }
}

void qc_sum_f32__ref(const float *x, float *inout, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        inout[i] += x[i];
    }
}

void qc_sum_u8__ref(const uint8_t *x, int32_t *inout, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        inout[i] += x[i];
    }
}

void qc_minmax_f32__ref(const float *x, size_t n, float *ret_min, float *ret_max,
                        bool *ret_finite)
{
    float lo = INFINITY, hi = -INFINITY;
    bool nan = false;
    for (size_t i = 0; i < n; i++) {
        nan = nan || x[i] != x[i];
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    /* + 0.0f: which of -0 and 0 came first must not show */
    *ret_min = lo + 0.0f;
    *ret_max = hi + 0.0f;
    *ret_finite = !nan && isfinite(lo) && isfinite(hi);
}

void qc_histogram_f32__ref(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                           uint32_t *counts)
{
    float last = (float)(n_bins - 1);
    for (size_t i = 0; i < n; i++) {
        float f = floorf(x[i] * inv_width) - (float)first;
        f = f > 0.0f ? f : 0.0f;
        f = f < last ? f : last;
        counts[(int)f]++;
    }
}
