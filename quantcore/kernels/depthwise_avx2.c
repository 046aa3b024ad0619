/* Depthwise convolution, AVX2 + FMA. f32: 16 channels, which are a line of the cache, x up to 6
 * pixels, then 8 channels. u8 x s8: 32 channels x 1 pixel; where there are fewer, or the result is
 * f32, 8 channels x 4 pixels. The channels beyond a multiple of 8 go to `_ref`, whose result is the
 * same by contract. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_depthwise_ymm.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 8, PIXELS = 4, PIXELS_F32 = 6 };

TILE_INLINE void store_f32(float *out, __m256 y, __m256 lo, __m256 hi)
{
    _mm256_storeu_ps(out, _mm256_min_ps(hi, _mm256_max_ps(lo, y)));
}

/* Pixels from i on, channels from c on. */
typedef void segment_f32_fn(const struct qc_depthwise_f32 *d, int i, int c);

/* By width: the second half of the bias and of the weights; a pixel's accumulators, step, store.
 * Three pixels a pointer: the others are one and two steps away, which an address can hold. */
#define AT(p, r, step) (p[(r) / 3] + (r) % 3 * step)
#define BIAS_16        const __m256 bias1 = _mm256_loadu_ps(d->bias + c + 8);
#define WEIGHTS_16     const __m256 w1 = _mm256_loadu_ps(weights + 8);
#define ACC_16(r)      __m256 a##r = bias0, b##r = bias1;
#define STEP_16(r)                                                              \
    a##r = _mm256_fmadd_ps(_mm256_loadu_ps(AT(x, r, in_step)), w0, a##r);        \
    b##r = _mm256_fmadd_ps(_mm256_loadu_ps(AT(x, r, in_step) + 8), w1, b##r);
#define STORE_16(r)                              \
    store_f32(AT(y, r, out_step), a##r, lo, hi); \
    store_f32(AT(y, r, out_step) + 8, b##r, lo, hi);

#define BIAS_8
#define WEIGHTS_8
#define ACC_8(r)   __m256 a##r = bias0;
#define STEP_8(r)  a##r = _mm256_fmadd_ps(_mm256_loadu_ps(AT(x, r, in_step)), w0, a##r);
#define STORE_8(r) store_f32(AT(y, r, out_step), a##r, lo, hi);

#define SEGMENT_OF(n, width)                                                              \
    static void segment_f32_##n##x##width(const struct qc_depthwise_f32 *d, int i, int c) \
    {                                                                                     \
        const __m256 bias0 = _mm256_loadu_ps(d->bias + c);                                \
        const __m256 lo = _mm256_set1_ps(d->lo), hi = _mm256_set1_ps(d->hi);              \
        const float *weights = d->weights + c;                                            \
        const ptrdiff_t in_step = d->in_step, out_step = d->out_step;                     \
        const float *in = d->in + i * in_step + c;                                        \
        BIAS_##width                                                                      \
        ROWS_##n(ACC_##width)                                                             \
        for (int t = 0; t < d->n_taps; t++) {                                             \
            const float *const x[2] = {in + d->tap[t], in + d->tap[t] + 3 * in_step};     \
            const __m256 w0 = _mm256_loadu_ps(weights);                                   \
            WEIGHTS_##width                                                               \
            weights += d->channels_padded;                                                \
            ROWS_##n(STEP_##width)                                                        \
        }                                                                                 \
        float *out = d->out + i * out_step + c;                                           \
        float *const y[2] = {out, out + 3 * out_step};                                    \
        ROWS_##n(STORE_##width)                                                           \
    }
#define SEGMENTS(width)                                                           \
    SEGMENT_OF(1, width) SEGMENT_OF(2, width) SEGMENT_OF(3, width)                \
    SEGMENT_OF(4, width) SEGMENT_OF(5, width) SEGMENT_OF(6, width)                \
    static segment_f32_fn *const segments_f32_x##width[PIXELS_F32] = {            \
        segment_f32_1x##width, segment_f32_2x##width, segment_f32_3x##width,      \
        segment_f32_4x##width, segment_f32_5x##width, segment_f32_6x##width};

SEGMENTS(16)
SEGMENTS(8)

#undef AT
#undef SEGMENT_OF
#undef SEGMENTS

/* 14 pixels are segments of 5, 5 and 4, not of 6, 6 and 2. */
static void one_row_f32(const struct qc_depthwise_f32 *d)
{
    int c = 0, n = (d->n_pixels + PIXELS_F32 - 1) / PIXELS_F32;
    for (int width = 2 * LANES; width >= LANES; width /= 2) {
        segment_f32_fn *const *by_pixels = width > LANES ? segments_f32_x16 : segments_f32_x8;
        for (; c + width <= d->channels; c += width) {
            for (int k = 0; k < n; k++) {
                int first = k * d->n_pixels / n, end = (k + 1) * d->n_pixels / n;
                by_pixels[end - first - 1](d, first, c);
            }
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
        store_f32(d->out_f32 + at, y, _mm256_set1_ps(d->lo), _mm256_set1_ps(d->hi));
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

/* Pairs of taps: their bytes interleaved and widened are what one vpmaddwd multiplies and adds.
 * Nine bits of a weight and eight of an input are exact. */
enum { PAIRS_MOST = 32 };

struct pairs {
    struct finish f;
    int n;
    ptrdiff_t tap[2 * PAIRS_MOST];
    struct four w[PAIRS_MOST];
};

/* Register k of two taps' weights, interleaved. */
static inline __m256i pair_weights(const int16_t *w0, const int16_t *w1, int k)
{
    __m128i low = _mm_unpacklo_epi16(load8(w0 + 4 * k), load8(w1 + 4 * k));
    __m128i high = _mm_unpacklo_epi16(load8(w0 + 16 + 4 * k), load8(w1 + 16 + 4 * k));
    return _mm256_set_m128i(high, low);
}

/* The last tap of an odd number is half of a pair whose other weight is 0. */
static void pairs_init(struct pairs *p, const struct qc_depthwise_s8 *d, int c)
{
    static const int16_t none[STRIP];
    finish_init(&p->f, d, c);
    p->n = (d->n_taps + 1) / 2;
    for (int g = 0; g < p->n; g++) {
        const int16_t *w0 = d->weights + (ptrdiff_t)(2 * g) * d->channels_padded + c;
        bool two = 2 * g + 1 < d->n_taps;
        const int16_t *w1 = two ? w0 + d->channels_padded : none;
        p->tap[2 * g] = d->tap[2 * g];
        p->tap[2 * g + 1] = d->tap[two ? 2 * g + 1 : 2 * g];
        p->w[g] = (struct four){pair_weights(w0, w1, 0), pair_weights(w0, w1, 1),
                                pair_weights(w0, w1, 2), pair_weights(w0, w1, 3)};
    }
}

static inline __m256i add_product(__m256i acc, __m256i x, __m256i w)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
}

TILE_INLINE void pairs_pixel(const struct pairs *p, int n, const uint8_t *in, uint8_t *out)
{
    const __m256i zero = _mm256_setzero_si256();
    struct four a = p->f.bias;
#pragma GCC unroll 5
    for (int g = 0; g < n; g++) {
        const struct four *w = &p->w[g];
        __m256i x0 = load32(in + p->tap[2 * g]), x1 = load32(in + p->tap[2 * g + 1]);
        __m256i low = _mm256_unpacklo_epi8(x0, x1), high = _mm256_unpackhi_epi8(x0, x1);
        a.q0 = add_product(a.q0, _mm256_unpacklo_epi8(low, zero), w->q0);
        a.q1 = add_product(a.q1, _mm256_unpackhi_epi8(low, zero), w->q1);
        a.q2 = add_product(a.q2, _mm256_unpacklo_epi8(high, zero), w->q2);
        a.q3 = add_product(a.q3, _mm256_unpackhi_epi8(high, zero), w->q3);
    }
    store_strip(&p->f, out, a);
}

TILE_INLINE void pairs_row(const struct qc_depthwise_s8 *d, const struct pairs *p, int n,
                           const uint8_t *in, uint8_t *out)
{
    for (int i = 0; i < d->n_pixels; i++, in += d->in_step, out += d->out_step) {
        pairs_pixel(p, n, in, out);
    }
}

/* All rows of 32 channels before the next: their weights are interleaved once. The last strip
 * begins where 32 channels are left, inside the one before. */
static void strips(const struct qc_depthwise_s8 *d)
{
    struct pairs p;
    for (int c = 0; c < d->channels; c += STRIP) {
        int first = c + STRIP <= d->channels ? c : d->channels - STRIP;
        pairs_init(&p, d, first);
        for (int r = 0; r < d->n_rows; r++) {
            const uint8_t *in = d->in + r * d->in_row + first;
            uint8_t *out = d->out_u8 + r * d->out_row + first;
            if (p.n == 5) {
                pairs_row(d, &p, 5, in, out);
            } else {
                pairs_row(d, &p, p.n, in, out);
            }
        }
    }
}

void qc_depthwise_s8__avx2(const struct qc_depthwise_s8 *d)
{
    if (d->out_u8 != NULL && d->channels >= STRIP && d->n_taps <= 2 * PAIRS_MOST) {
        strips(d);
    } else {
        each_row_s8(d, one_row_s8);
    }
}
