/* What the depthwise convolutions of u8 x s8 on 256-bit registers share: 32 channels in four
 * registers and how they become codes. Interleaving within 128-bit lanes leaves register k with
 * channels 16 lane + 4 k + 0..3; packing the results brings the channels back into their order. */
#ifndef QC_KERNELS_DEPTHWISE_YMM_H
#define QC_KERNELS_DEPTHWISE_YMM_H

#include <immintrin.h>

#include "quantcore/kernels/qc_kernels.h"

enum { STRIP = 32 };

struct four {
    __m256i q0, q1, q2, q3;
};

static inline __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Channels 4 k + 0..3 and 16 more. */
static inline __m256i load_quad(const void *natural, int k)
{
    const __m128i *x = natural;
    return _mm256_set_m128i(_mm_loadu_si128(x + 4 + k), _mm_loadu_si128(x + k));
}

/* Loaded once for all pixels. */
struct finish {
    struct four bias;
    __m256 multiplier[4];
    __m256 hi;
    __m256i zero_point, y_min, y_max;
};

static inline void finish_init(struct finish *f, const struct qc_depthwise_s8 *d, int c)
{
    f->bias = (struct four){load_quad(d->bias + c, 0), load_quad(d->bias + c, 1),
                            load_quad(d->bias + c, 2), load_quad(d->bias + c, 3)};
    for (int k = 0; k < 4; k++) {
        f->multiplier[k] = _mm256_castsi256_ps(load_quad(d->multiplier + c, k));
    }
    f->hi = _mm256_set1_ps((float)(d->y_max - d->y_zero_point));
    f->zero_point = _mm256_set1_epi16((int16_t)d->y_zero_point);
    f->y_min = _mm256_set1_epi8((char)d->y_min);
    f->y_max = _mm256_set1_epi8((char)d->y_max);
}

/* Below y_min the conversions and packs saturate, above y_max the f32 minimum comes first: an f32
 * beyond 2^31 would become the smallest integer. */
static inline __m256i quad_round(const struct finish *f, int k, __m256i acc)
{
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), f->multiplier[k]);
    return _mm256_cvtps_epi32(_mm256_min_ps(y, f->hi));
}

static inline void store_strip(const struct finish *f, uint8_t *out, struct four a)
{
    __m256i low = _mm256_packs_epi32(quad_round(f, 0, a.q0), quad_round(f, 1, a.q1));
    __m256i high = _mm256_packs_epi32(quad_round(f, 2, a.q2), quad_round(f, 3, a.q3));
    __m256i y = _mm256_packus_epi16(_mm256_adds_epi16(low, f->zero_point),
                                    _mm256_adds_epi16(high, f->zero_point));
    y = _mm256_min_epu8(_mm256_max_epu8(y, f->y_min), f->y_max);
    _mm256_storeu_si256((__m256i *)(void *)out, y);
}

#endif
