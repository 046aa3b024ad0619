/* log, exp, pow and erf with one defined result on every machine: IEEE additions, multiplications
 * and divisions of doubles alone, so that the bits depend neither on the C library nor on fused
 * instructions. Rounded to f32 they are within half an ulp and a hair. */
#ifndef QC_EXEC_MATH_F64_H
#define QC_EXEC_MATH_F64_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define QC_LN2 0.69314718055994530942
#define QC_SQRT_HALF 0.70710678118654752440

/* c[0] + c[1] x + ... + c[n - 1] x^(n - 1) */
static inline double qc_polynomial(const double *c, int n, double x)
{
    double y = c[n - 1];
    for (int i = n - 2; i >= 0; i--) {
        y = y * x + c[i];
    }
    return y;
}

/* Natural logarithm: -infinity at 0, NaN below. With x = m 2^e and m in [sqrt(1/2), sqrt(2)):
 * e ln 2 + 2 artanh(s), s = (m - 1) / (m + 1), whose series ends below 1e-17. */
static inline double qc_log(double x)
{
    if (!(x > 0) || isinf(x)) {
        return x == 0 ? -(double)INFINITY : (x > 0 ? x : (double)NAN);
    }
    int e = 0;
    double m = frexp(x, &e); /* exact: [1/2, 1) */
    if (m < QC_SQRT_HALF) {
        m *= 2;
        e--;
    }
    double s = (m - 1) / (m + 1), z = s * s, sum = 0;
    for (int k = 21; k >= 1; k -= 2) {
        sum = sum * z + 1.0 / k;
    }
    return e * QC_LN2 + 2 * s * sum;
}

/* e^x. With x = n ln 2 + r and |r| <= ln 2 / 2: the series of e^r to r^13, times 2^n. */
static inline double qc_exp(double x)
{
    if (!(x > -746)) {
        return isnan(x) ? x : 0;
    }
    if (x > 710) {
        return (double)INFINITY;
    }
    double n = rint(x / QC_LN2);
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double y = 1;
    for (int k = 13; k >= 1; k--) {
        y = 1 + y * r / k;
    }
    return ldexp(y, (int)n);
}

/* log(1 + e^x), without overflow on either side. */
static inline double qc_softplus(double x)
{
    double e = qc_exp(-fabs(x));
    return (x > 0 ? x : 0) + (e < 0x1p-27 ? e : qc_log(1 + e));
}

/* x^y as C has it for all that is finite or not; x^2 and x^(1/2) exactly rounded. */
static inline float qc_powf(float x, float y)
{
    if (y == 2.0f) {
        return x * x;
    }
    if (y == 0.5f && x > 0) {
        return sqrtf(x);
    }
    if (y == 0.0f || x == 1.0f) {
        return 1.0f;
    }
    if (isnan(x) || isnan(y)) {
        return NAN;
    }
    bool whole = rintf(y) == y;
    bool odd = whole && fabsf(y) < 0x1p24f && ((int32_t)y & 1) != 0;
    if (x < 0 && !whole && !isinf(x)) {
        return NAN;
    }
    double a = fabs((double)x), p;
    if (a == 1) {
        p = 1; /* -1 to a whole or infinite power */
    } else if (a == 0 || isinf(a) || isinf(y)) {
        p = (a < 1) == (y < 0) ? (double)INFINITY : 0;
    } else {
        p = qc_exp((double)y * qc_log(a));
    }
    return (float)(odd && signbit(x) ? -p : p);
}

/* erf: polynomials fitted to it over [0, 1) (of x^2), [1, 2), [2, 3) and [3, 4), within 1e-12; 1
 * from 4 on, where it is nearer to that than to any other f32. */
static inline double qc_erf(double x)
{
    static const double odd[10] = {
        0.9654687386698857,     -0.14053608902272122,    0.019852496688184784,
        -0.002285485561065167,  0.00021751716323259175,  -1.7537169882043852e-05,
        1.2233626114247032e-06, -7.51146756217598e-08,   4.138781808555555e-09,
        -2.0455415766525615e-10};
    static const double part[3][13] = {
        {0.9661051464752165, 0.059465144604714894, -0.044598858449565036, 0.017344000710495137,
         -0.0027874288028635814, -0.0004645730310544127, 0.0003019723362821591,
         -3.704966107569999e-05, -9.231793155649275e-06, 3.330436567801952e-06,
         -8.690881689463327e-08, -1.170255757878661e-07, 1.612733054798189e-08},
        {0.9995930479825582, 0.0010891421135700828, -0.0013614276442169113, 0.0010437612388474874,
         -0.0005388984385143043, 0.0001911667687695542, -4.37264316127097e-05,
         4.238832192787804e-06, 1.0183064901682592e-06, -4.909540317538295e-07,
         7.686552196017196e-08, 4.242555499519801e-09, -3.379250963348644e-09},
        {0.9999992569016288, 2.699713506375865e-06, -4.724498494097815e-06, 5.2869354223169285e-06,
         -4.232362158250661e-06, 2.566160206534644e-06, -1.2147599498559428e-06,
         4.5454038522284305e-07, -1.3380748296090766e-07, 3.0093664458318645e-08,
         -4.5578716655591794e-09, 9.669486704655214e-11, 1.2720002390539907e-10}};
    double a = fabs(x);
    if (a < 1) {
        return x * qc_polynomial(odd, 10, 2 * x * x - 1);
    }
    double y = 1;
    if (a < 4) {
        int i = (int)a - 1;
        y = qc_polynomial(part[i], 13, 2 * (a - i - 1) - 1);
    }
    return isnan(x) ? x : copysign(y, x);
}

#endif
