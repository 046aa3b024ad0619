/* Depthwise convolution of weights of eight bits, AVX-VNNI: 32 channels, four taps a multiply-add.
 * The bytes of four taps are interleaved within 128-bit lanes, which leaves quad k with channels
 * 16 lane + 4 k + 0..3: the order of the packed weights (qc_pack_quads), half of a row of 64
 * bytes. Packing the results brings the channels back into their order. Channels beyond a
 * multiple of 32 and everything else go to AVX2. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"

enum { LANES = 32 };

/* What 32 channels need, loaded once for all pixels. */
struct quads {
    const int8_t *w;
    __m256i bias[4];
    __m256 multiplier[4];
    __m256 hi;
    __m256i zero_point, y_min, y_max;
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

static void quads_init(struct quads *q, const struct qc_depthwise_s8 *d, int c)
{
    for (int k = 0; k < 4; k++) {
        q->bias[k] = load_quad(d->bias + c, k);
        q->multiplier[k] = _mm256_castsi256_ps(load_quad(d->multiplier + c, k));
    }
    q->w = d->quads + (size_t)(c / 64) * 256 + (size_t)(c % 64);
    q->hi = _mm256_set1_ps((float)(d->y_max - d->y_zero_point));
    q->zero_point = _mm256_set1_epi16((int16_t)d->y_zero_point);
    q->y_min = _mm256_set1_epi8((char)d->y_min);
    q->y_max = _mm256_set1_epi8((char)d->y_max);
}

/* Below y_min the conversions and packs saturate, above y_max the f32 minimum comes first: an f32
 * beyond 2^31 would become the smallest integer. */
static inline __m256i quad_round(const struct quads *q, int k, __m256i acc)
{
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), q->multiplier[k]);
    return _mm256_cvtps_epi32(_mm256_min_ps(y, q->hi));
}

static inline void quads_pixel(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    __m256i a0 = q->bias[0], a1 = q->bias[1], a2 = q->bias[2], a3 = q->bias[3];
    const ptrdiff_t group = (ptrdiff_t)d->channels_padded * 4;
    const int8_t *w = q->w;
    const int32_t *tap = d->quad_tap;
    for (int g = 0; g < d->n_quads; g++, w += group, tap += 4) {
        __m256i x0 = load32(in + tap[0]), x1 = load32(in + tap[1]);
        __m256i x2 = load32(in + tap[2]), x3 = load32(in + tap[3]);
        __m256i l01 = _mm256_unpacklo_epi8(x0, x1), l23 = _mm256_unpacklo_epi8(x2, x3);
        __m256i h01 = _mm256_unpackhi_epi8(x0, x1), h23 = _mm256_unpackhi_epi8(x2, x3);
        a0 = _mm256_dpbusd_avx_epi32(a0, _mm256_unpacklo_epi16(l01, l23), load32(w));
        a1 = _mm256_dpbusd_avx_epi32(a1, _mm256_unpackhi_epi16(l01, l23), load32(w + 64));
        a2 = _mm256_dpbusd_avx_epi32(a2, _mm256_unpacklo_epi16(h01, h23), load32(w + 128));
        a3 = _mm256_dpbusd_avx_epi32(a3, _mm256_unpackhi_epi16(h01, h23), load32(w + 192));
    }
    __m256i low = _mm256_packs_epi32(quad_round(q, 0, a0), quad_round(q, 1, a1));
    __m256i high = _mm256_packs_epi32(quad_round(q, 2, a2), quad_round(q, 3, a3));
    __m256i y = _mm256_packus_epi16(_mm256_adds_epi16(low, q->zero_point),
                                    _mm256_adds_epi16(high, q->zero_point));
    y = _mm256_min_epu8(_mm256_max_epu8(y, q->y_min), q->y_max);
    _mm256_storeu_si256((__m256i *)(void *)out, y);
}

void qc_depthwise_s8__avxvnni(const struct qc_depthwise_s8 *d)
{
    struct qc_depthwise_s8 rest = *d;
    if (d->quads != NULL && d->out_u8 != NULL) {
        int c = 0;
        for (; c + LANES <= d->channels; c += LANES) {
            struct quads q;
            quads_init(&q, d, c);
            for (int i = 0; i < d->n_pixels; i++) {
                quads_pixel(d, &q, d->in + i * d->in_step + c, d->out_u8 + i * d->out_step + c);
            }
        }
        rest.in += c;
        rest.out_u8 += c;
        rest.weights += c;
        rest.bias += c;
        rest.multiplier += c;
        rest.channels -= c;
    }
    if (rest.channels > 0) {
        qc_depthwise_s8__avx2(&rest);
    }
}
