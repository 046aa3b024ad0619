/* Depthwise convolution, AVX2 + FMA: 8 channels x 4 pixels. The channels beyond a multiple of 8
 * go to `_ref`, whose result is the same by contract. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 8, PIXELS = 4 };

static inline void store_f32(float *out, __m256 y, float lo, float hi)
{
    y = _mm256_min_ps(_mm256_set1_ps(hi), _mm256_max_ps(_mm256_set1_ps(lo), y));
    _mm256_storeu_ps(out, y);
}

#define ACC(r) __m256 a##r = bias;
#define POINT(r) const float *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r) a##r = _mm256_fmadd_ps(_mm256_loadu_ps(x##r + tap), w, a##r);
#define STORE(r) store_f32(d->out + (i + r) * d->out_step + c, a##r, d->lo, d->hi);

#define SEGMENT(n)                                                                     \
    static inline void segment_f32_##n(const struct qc_depthwise_f32 *d, int i, int c) \
    {                                                                                  \
        const __m256 bias = _mm256_loadu_ps(d->bias + c);                              \
        const float *weights = d->weights + c;                                         \
        ROWS_##n(ACC)                                                                  \
        ROWS_##n(POINT)                                                                \
        for (int t = 0; t < d->n_taps; t++) {                                          \
            const ptrdiff_t tap = d->tap[t];                                           \
            const __m256 w = _mm256_loadu_ps(weights);                                 \
            weights += d->channels_padded;                                             \
            ROWS_##n(STEP)                                                             \
        }                                                                              \
        ROWS_##n(STORE)                                                                \
    }

SEGMENT(1)
SEGMENT(4)

#undef ACC
#undef POINT
#undef STEP
#undef STORE
#undef SEGMENT

static void one_row_f32(const struct qc_depthwise_f32 *d)
{
    int c = 0;
    for (; c + LANES <= d->channels; c += LANES) {
        int i = 0;
        for (; i + PIXELS <= d->n_pixels; i += PIXELS) {
            segment_f32_4(d, i, c);
        }
        for (; i < d->n_pixels; i++) {
            segment_f32_1(d, i, c);
        }
    }
    if (c < d->channels) {
        struct qc_depthwise_f32 rest = *d;
        rest.in += c;
        rest.out += c;
        rest.weights += c;
        rest.bias += c;
        rest.channels -= c;
        qc_depthwise_f32__ref(&rest);
    }
}

void qc_depthwise_f32__avx2(const struct qc_depthwise_f32 *d)
{
    each_row_f32(d, one_row_f32);
}

static inline __m128i load8(const void *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}

static inline __m256i load_weights(const int16_t *p)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

static inline void store_s8(const struct qc_depthwise_s8 *d, int64_t at, int c, __m256i acc)
{
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(d->multiplier + c));
    if (d->out_u8 != NULL) {
        y = _mm256_max_ps(y, _mm256_set1_ps((float)(d->y_min - d->y_zero_point)));
        y = _mm256_min_ps(y, _mm256_set1_ps((float)(d->y_max - d->y_zero_point)));
        __m256i q = _mm256_add_epi32(_mm256_cvtps_epi32(y), _mm256_set1_epi32(d->y_zero_point));
        __m128i s16 = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64((__m128i *)(void *)(d->out_u8 + at), _mm_packus_epi16(s16, s16));
    } else {
        store_f32(d->out_f32 + at, y, d->lo, d->hi);
    }
}

/* A zero-extended byte is the s16 pair (x, 0), a sign-extended weight (w, sign): vpmaddwd of both
 * is the exact product. */
#define ACC(r) __m256i a##r = bias;
#define POINT(r) const uint8_t *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r) \
    a##r = _mm256_add_epi32(a##r, _mm256_madd_epi16(_mm256_cvtepu8_epi32(load8(x##r + tap)), w));
#define STORE(r) store_s8(d, (i + r) * d->out_step + c, c, a##r);

#define SEGMENT(n)                                                                       \
    static inline void segment_s8_##n(const struct qc_depthwise_s8 *d, int i, int c)     \
    {                                                                                    \
        const __m256i bias = _mm256_loadu_si256((const __m256i *)(const void *)(d->bias + c)); \
        const int16_t *weights = d->weights + c;                                         \
        ROWS_##n(ACC)                                                                    \
        ROWS_##n(POINT)                                                                  \
        for (int t = 0; t < d->n_taps; t++) {                                            \
            const ptrdiff_t tap = d->tap[t];                                             \
            const __m256i w = load_weights(weights);                                     \
            weights += d->channels_padded;                                               \
            ROWS_##n(STEP)                                                               \
        }                                                                                \
        ROWS_##n(STORE)                                                                  \
    }

SEGMENT(1)
SEGMENT(4)

static void one_row_s8(const struct qc_depthwise_s8 *d)
{
    int c = 0;
    for (; c + LANES <= d->channels; c += LANES) {
        int i = 0;
        for (; i + PIXELS <= d->n_pixels; i += PIXELS) {
            segment_s8_4(d, i, c);
        }
        for (; i < d->n_pixels; i++) {
            segment_s8_1(d, i, c);
        }
    }
    if (c < d->channels) {
        struct qc_depthwise_s8 rest = *d;
        rest.in += c;
        rest.out_u8 = d->out_u8 != NULL ? d->out_u8 + c : NULL;
        rest.out_f32 = d->out_f32 != NULL ? d->out_f32 + c : NULL;
        rest.weights += c;
        rest.bias += c;
        rest.multiplier += c;
        rest.channels -= c;
        qc_depthwise_s8__ref(&rest);
    }
}

void qc_depthwise_s8__avx2(const struct qc_depthwise_s8 *d)
{
    each_row_s8(d, one_row_s8);
}
