/* Depthwise convolution of weights of eight bits, AVX-VNNI: 32 channels, four taps a multiply-add.
 * The bytes of four taps are interleaved within 128-bit lanes, which leaves the channels in the
 * order of the packed weights (qc_pack_quads), half of a row of 64 bytes. Channels beyond a
 * multiple of 32 and everything else go to AVX2. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_depthwise_ymm.h"
#include "quantcore/kernels/kernels_rows.h"

/* Bytes of up to four taps. */
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
    struct finish f;
};

static void quads_init(struct quads *q, const struct qc_depthwise_s8 *d, int c)
{
    finish_init(&q->f, d, c);
    q->w = d->quads + (size_t)(c / 64) * 256 + (size_t)(c % 64);
    q->group = (ptrdiff_t)d->channels_padded * 4;
}

static inline void quads_pixel(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    const int32_t *tap = d->quad_tap;
    struct four acc = q->f.bias;
    for (int g = 0; g < d->n_quads; g++, tap += 4) {
        struct four x = interleave(load32(in + tap[0]), load32(in + tap[1]), load32(in + tap[2]),
                                   load32(in + tap[3]));
        acc = multiply_add(acc, x, q->w + g * q->group);
    }
    store_strip(&q->f, out, acc);
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
    struct four a = multiply_add(q->f.bias, x, w0), b;
    x = column(d, in + d->column_step);
    a = multiply_add(a, x, w1);
    b = multiply_add(q->f.bias, x, w0);
    x = column(d, in + 2 * d->column_step);
    store_strip(&q->f, out, multiply_add(a, x, w2));
    b = multiply_add(b, x, w1);
    a = multiply_add(q->f.bias, x, w0);
    x = column(d, in + 3 * d->column_step);
    store_strip(&q->f, out + d->out_step, multiply_add(b, x, w2));
    a = multiply_add(a, x, w1);
    b = multiply_add(q->f.bias, x, w0);
    x = column(d, in + 4 * d->column_step);
    store_strip(&q->f, out + 2 * d->out_step, multiply_add(a, x, w2));
    b = multiply_add(b, x, w1);
    x = column(d, in + 5 * d->column_step);
    store_strip(&q->f, out + 3 * d->out_step, multiply_add(b, x, w2));
}

static inline void columns_stride_2(const struct qc_depthwise_s8 *d, const struct quads *q,
                                    const uint8_t *in, uint8_t *out)
{
    struct four acc = multiply_add(q->f.bias, column(d, in), q->w);
    for (int i = 0; i < d->n_pixels; i++, in += d->in_step, out += d->out_step) {
        const struct four last = column(d, in + 2 * d->column_step);
        acc = multiply_add(acc, column(d, in + d->column_step), q->w + q->group);
        store_strip(&q->f, out, multiply_add(acc, last, q->w + 2 * q->group));
        acc = multiply_add(q->f.bias, last, q->w);
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
        for (; c + STRIP <= d->channels; c += STRIP) {
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
