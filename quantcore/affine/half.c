#include "quantcore/affine/half.h"

#include <math.h>
#include <string.h>

float qc_half_to_f32(uint16_t h)
{
    int exponent = h >> 10 & 31;
    int fraction = h & 1023;
    float v;
    if (exponent == 31) {
        v = fraction != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        v = ldexpf((float)fraction, -24);
    } else {
        v = ldexpf((float)(fraction + 1024), exponent - 25);
    }
    return (h & 0x8000) != 0 ? -v : v;
}

uint16_t qc_half_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return (uint16_t)(sign | 0x7e00);
    }
    if (magnitude >= 0x477ff000) { /* 65520: halfway between the largest one and 2^16 */
        return (uint16_t)(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) { /* below 2^-14: a multiple of 2^-24, which rintf rounds to */
        return (uint16_t)(sign | (uint32_t)rintf(fabsf(x) * 0x1p24f));
    }
    /* 13 bits of the fraction go; a carry moves on into the exponent. */
    uint32_t kept = (magnitude - 0x38000000) >> 13, rest = magnitude & 0x1fff;
    kept += rest > 0x1000 || (rest == 0x1000 && (kept & 1) != 0);
    return (uint16_t)(sign | kept);
}
