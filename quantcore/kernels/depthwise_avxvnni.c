/* Depthwise convolution of weights of eight bits, AVX-VNNI: 32 channels, four taps a multiply-add.
 * The bytes of four taps are interleaved within 128-bit lanes, which leaves quad k with channels
 * 16 lane + 4 k + 0..3: the order of the packed weights (qc_pack_quads), half of a row of 64
 * bytes. Packing the results brings the channels back into their order. Channels beyond a
 * multiple of 32 and everything else go to AVX2. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 32 };

static inline __m256i load32(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Interleaved bytes of up to four taps. */
struct four {
    __m256i q0, q1, q2, q3;
};

static inline struct four interleave(__m256i x0, __m256i x1, __m256i x2, __m256i x3)
{
    __m256i l01 = _mm256_unpacklo_epi8(x0, x1), l23 = _mm256_unpacklo_epi8(x2, x3);
    __m256i h01 = _mm256_unpackhi_epi8(x0, x1), h23 = _mm256_unpackhi_epi8(x2, x3);
    return (struct four){_mm256_unpacklo_epi16(l01, l23), _mm256_unpackhi_epi16(l01, l23),
                         _mm256_unpacklo_epi16(h01, h23), _mm256_unpackhi_epi16(h01, h23)};
}

/* w: the first of four halves of rows */
static inline struct four multiply_add(struct four acc, struct four x, const int8_t *w)
{
    return (struct four){_mm256_dpbusd_avx_epi32(acc.q0, x.q0, load32(w)),
                         _mm256_dpbusd_avx_epi32(acc.q1, x.q1, load32(w + 64)),
                         _mm256_dpbusd_avx_epi32(acc.q2, x.q2, load32(w + 128)),
                         _mm256_dpbusd_avx_epi32(acc.q3, x.q3, load32(w + 192))};
}

/* What 32 channels need, loaded once for all pixels. */
struct quads {
    const int8_t *w;
    ptrdiff_t group; /* bytes from one quad of taps to the next */
    struct four bias;
    __m256 multiplier[4];
    __m256 hi;
    __m256i zero_point, y_min, y_max;
};

/* Channels 4 k + 0..3 and 16 more. */
static inline __m256i load_quad(const void *natural, int k)
{
    const __m128i *x = natural;
    return _mm256_set_m128i(_mm_loadu_si128(x + 4 + k), _mm_loadu_si128(x + k));
}

static void quads_init(struct quads *q, const struct qc_depthwise_s8 *d, int c)
{
    q->bias = (struct four){load_quad(d->bias + c, 0), load_quad(d->bias + c, 1),
                            load_quad(d->bias + c, 2), load_quad(d->bias + c, 3)};
    for (int k = 0; k < 4; k++) {
        q->multiplier[k] = _mm256_castsi256_ps(load_quad(d->multiplier + c, k));
    }
    q->w = d->quads + (size_t)(c / 64) * 256 + (size_t)(c % 64);
    q->group = (ptrdiff_t)d->channels_padded * 4;
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

static inline void quads_store(const struct quads *q, uint8_t *out, struct four a)
{
    __m256i low = _mm256_packs_epi32(quad_round(q, 0, a.q0), quad_round(q, 1, a.q1));
    __m256i high = _mm256_packs_epi32(quad_round(q, 2, a.q2), quad_round(q, 3, a.q3));
    __m256i y = _mm256_packus_epi16(_mm256_adds_epi16(low, q->zero_point),
                                    _mm256_adds_epi16(high, q->zero_point));
    y = _mm256_min_epu8(_mm256_max_epu8(y, q->y_min), q->y_max);
    _mm256_storeu_si256((__m256i *)(void *)out, y);
}

static inline void quads_pixel(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    const int32_t *tap = d->quad_tap;
    struct four acc = q->bias;
    for (int g = 0; g < d->n_quads; g++, tap += 4) {
        struct four x = interleave(load32(in + tap[0]), load32(in + tap[1]), load32(in + tap[2]),
                                   load32(in + tap[3]));
        acc = multiply_add(acc, x, q->w + g * q->group);
    }
    quads_store(q, out, acc);
}

/* One column of a 3 x 3 kernel's input: its three rows are a quad, interleaved once for the two or
 * three outputs that use it. */
static inline struct four column(const struct qc_depthwise_s8 *d, const uint8_t *in)
{
    __m256i x2 = load32(in + d->quad_tap[2]);
    return interleave(load32(in + d->quad_tap[0]), load32(in + d->quad_tap[1]), x2, x2);
}

/* Four outputs of stride 1 from six columns: one that comes begins an output, goes on with the
 * one before and ends the one before that. At most two are under way: that fits the registers. */
static inline void four_pixels(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    const int8_t *w0 = q->w, *w1 = w0 + q->group, *w2 = w1 + q->group;
    struct four x = column(d, in);
    struct four a = multiply_add(q->bias, x, w0), b;
    x = column(d, in + d->column_step);
    a = multiply_add(a, x, w1);
    b = multiply_add(q->bias, x, w0);
    x = column(d, in + 2 * d->column_step);
    quads_store(q, out, multiply_add(a, x, w2));
    b = multiply_add(b, x, w1);
    a = multiply_add(q->bias, x, w0);
    x = column(d, in + 3 * d->column_step);
    quads_store(q, out + d->out_step, multiply_add(b, x, w2));
    a = multiply_add(a, x, w1);
    b = multiply_add(q->bias, x, w0);
    x = column(d, in + 4 * d->column_step);
    quads_store(q, out + 2 * d->out_step, multiply_add(a, x, w2));
    b = multiply_add(b, x, w1);
    x = column(d, in + 5 * d->column_step);
    quads_store(q, out + 3 * d->out_step, multiply_add(b, x, w2));
}

static inline void columns_stride_2(const struct qc_depthwise_s8 *d, const struct quads *q,
                                    const uint8_t *in, uint8_t *out)
{
    struct four acc = multiply_add(q->bias, column(d, in), q->w);
    for (int i = 0; i < d->n_pixels; i++, in += d->in_step, out += d->out_step) {
        const struct four last = column(d, in + 2 * d->column_step);
        acc = multiply_add(acc, column(d, in + d->column_step), q->w + q->group);
        quads_store(q, out, multiply_add(acc, last, q->w + 2 * q->group));
        acc = multiply_add(q->bias, last, q->w);
    }
}

static inline void depthwise_quads(const struct qc_depthwise_s8 *d, int c)
{
    struct quads q;
    const uint8_t *in = d->in + c;
    uint8_t *out = d->out_u8 + c;
    int i = 0;
    quads_init(&q, d, c);
    if (d->column_step > 0 && d->in_step > d->column_step) {
        columns_stride_2(d, &q, in, out);
        return;
    }
    for (; d->column_step > 0 && i + 4 <= d->n_pixels; i += 4) {
        four_pixels(d, &q, in + i * d->in_step, out + i * d->out_step);
    }
    for (; i < d->n_pixels; i++) {
        quads_pixel(d, &q, in + i * d->in_step, out + i * d->out_step);
    }
}

static void one_row_s8(const struct qc_depthwise_s8 *d)
{
    struct qc_depthwise_s8 rest = *d;
    if (d->quads != NULL && d->out_u8 != NULL) {
        int c = 0;
        for (; c + LANES <= d->channels; c += LANES) {
            depthwise_quads(d, c);
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

void qc_depthwise_s8__avxvnni(const struct qc_depthwise_s8 *d)
{
    each_row_s8(d, one_row_s8);
}
