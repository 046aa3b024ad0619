/* exp, tanh and sigmoid in f32 with one defined result on every machine: only IEEE additions,
 * multiplications, divisions and fmaf, so that the bits do not depend on the C library.
 * Polynomials: Cephes (expf, tanhf); error below 2 ulp over the whole range. */
#ifndef QC_EXEC_MATH_H
#define QC_EXEC_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "quantcore/affine/requant.h"

/* 2^n for -126 <= n <= 127. */
static inline float qc_exp2_int(int n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float f;
    memcpy(&f, &bits, sizeof(f));
    return f;
}

/* e^x; 0 below -103.98, infinity above 88.73, NaN for NaN. */
static inline float qc_expf(float x)
{
    if (!(x > -104.0f)) {
        return isnan(x) ? x : 0.0f;
    }
    if (x > 89.0f) {
        return INFINITY;
    }
    float n = rintf(x * 1.44269504088896341f);
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float y = 1.9875691500e-4f;
    y = fmaf(y, r, 1.3981999507e-3f);
    y = fmaf(y, r, 8.3334519073e-3f);
    y = fmaf(y, r, 4.1665795894e-2f);
    y = fmaf(y, r, 1.6666665459e-1f);
    y = fmaf(y, r, 5.0000001201e-1f);
    y = fmaf(y, r * r, r) + 1.0f;
    /* In two steps: the result may be subnormal or just below infinity. */
    int whole = (int)n, half = whole / 2;
    return y * qc_exp2_int(half) * qc_exp2_int(whole - half);
}

static inline float qc_tanhf(float x)
{
    float a = fabsf(x);
    if (a >= 0.625f) {
        float y = a > 9.1f ? 1.0f : 1.0f - 2.0f / (qc_expf(a + a) + 1.0f);
        return copysignf(y, x);
    }
    float z = x * x; /* NaN ends here */
    float y = -5.70498872745e-3f;
    y = fmaf(y, z, 2.06390887954e-2f);
    y = fmaf(y, z, -5.37397155531e-2f);
    y = fmaf(y, z, 1.33314422036e-1f);
    y = fmaf(y, z, -3.33332819422e-1f);
    return fmaf(y * z, x, x);
}

/* 1 / (1 + e^-x), without overflow on either side. */
static inline float qc_sigmoidf(float x)
{
    float e = qc_expf(-fabsf(x));
    return x >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
}

#endif
