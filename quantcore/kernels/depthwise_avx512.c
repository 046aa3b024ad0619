/* Depthwise convolution, AVX-512: 16 channels x 8 pixels, so that a weight is loaded once for
 * eight multiply-adds. Channels beyond a multiple of 16 are masked: no byte past them is read
 * from the input or written. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 16, PIXELS = 8 };

static inline __mmask16 lanes_of(int n)
{
    return (__mmask16)(n >= LANES ? 0xffffU : (1U << n) - 1);
}

static inline void store_f32(float *out, __mmask16 lanes, __m512 y, float lo, float hi)
{
    y = _mm512_min_ps(_mm512_set1_ps(hi), _mm512_max_ps(_mm512_set1_ps(lo), y));
    _mm512_mask_storeu_ps(out, lanes, y);
}

#define ACC(r) __m512 a##r = bias;
#define POINT(r) const float *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r) a##r = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, x##r + tap), w, a##r);
#define STORE(r) store_f32(d->out + (i + r) * d->out_step + c, lanes, a##r, d->lo, d->hi);

#define SEGMENT(n)                                                              \
    static inline void segment_f32_##n(const struct qc_depthwise_f32 *d, int i, int c, \
                                       __mmask16 lanes)                         \
    {                                                                           \
        const __m512 bias = _mm512_loadu_ps(d->bias + c);                       \
        const float *weights = d->weights + c;                                  \
        ROWS_##n(ACC)                                                           \
        ROWS_##n(POINT)                                                         \
        for (int t = 0; t < d->n_taps; t++) {                                   \
            const ptrdiff_t tap = d->tap[t];                                    \
            const __m512 w = _mm512_loadu_ps(weights);                          \
            weights += d->channels_padded;                                      \
            ROWS_##n(STEP)                                                      \
        }                                                                       \
        ROWS_##n(STORE)                                                         \
    }

SEGMENT(1)
SEGMENT(8)

#undef ACC
#undef POINT
#undef STEP
#undef STORE
#undef SEGMENT

void qc_depthwise_f32__avx512(const struct qc_depthwise_f32 *d)
{
    for (int c = 0; c < d->channels; c += LANES) {
        __mmask16 lanes = lanes_of(d->channels - c);
        int i = 0;
        for (; i + PIXELS <= d->n_pixels; i += PIXELS) {
            segment_f32_8(d, i, c, lanes);
        }
        for (; i < d->n_pixels; i++) {
            segment_f32_1(d, i, c, lanes);
        }
    }
}

/* A zero-extended byte is the s16 pair (x, 0), a sign-extended weight (w, sign): vpdpwssd of
 * both is the exact product in one instruction, where vpmulld takes several. */
static inline __m512i load_u8(const uint8_t *x, __mmask16 lanes)
{
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, x));
}

static inline void store_s8(const struct qc_depthwise_s8 *d, int64_t at, int c, __mmask16 lanes,
                            __m512i acc)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(d->multiplier + c));
    if (d->out_u8 != NULL) {
        y = _mm512_max_ps(y, _mm512_set1_ps((float)(d->y_min - d->y_zero_point)));
        y = _mm512_min_ps(y, _mm512_set1_ps((float)(d->y_max - d->y_zero_point)));
        __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(y), _mm512_set1_epi32(d->y_zero_point));
        _mm_mask_storeu_epi8(d->out_u8 + at, lanes, _mm512_cvtepi32_epi8(q));
    } else {
        store_f32(d->out_f32 + at, lanes, y, d->lo, d->hi);
    }
}

#define ACC(r) __m512i a##r = bias;
#define POINT(r) const uint8_t *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r) a##r = _mm512_dpwssd_epi32(a##r, load_u8(x##r + tap, lanes), w);
#define STORE(r) store_s8(d, (i + r) * d->out_step + c, c, lanes, a##r);

#define SEGMENT(n)                                                                           \
    static inline void segment_s8_##n(const struct qc_depthwise_s8 *d, int i, int c,         \
                                      __mmask16 lanes)                                       \
    {                                                                                        \
        const __m512i bias = _mm512_loadu_si512(d->bias + c);                                \
        const int16_t *weights = d->weights + c;                                             \
        ROWS_##n(ACC)                                                                        \
        ROWS_##n(POINT)                                                                      \
        for (int t = 0; t < d->n_taps; t++) {                                                \
            const ptrdiff_t tap = d->tap[t];                                                 \
            const __m512i w =                                                                \
                _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)weights));            \
            weights += d->channels_padded;                                                   \
            ROWS_##n(STEP)                                                                   \
        }                                                                                    \
        ROWS_##n(STORE)                                                                      \
    }

SEGMENT(1)
SEGMENT(8)

void qc_depthwise_s8__avx512(const struct qc_depthwise_s8 *d)
{
    for (int c = 0; c < d->channels; c += LANES) {
        __mmask16 lanes = lanes_of(d->channels - c);
        int i = 0;
        for (; i + PIXELS <= d->n_pixels; i += PIXELS) {
            segment_s8_8(d, i, c, lanes);
        }
        for (; i < d->n_pixels; i++) {
            segment_s8_1(d, i, c, lanes);
        }
    }
}
