/* Depthwise convolution, NEON: f32 4 channels x 8 pixels; weights of eight bits 16 channels, four
 * taps a multiply-add; others 8 channels x 4 pixels. The channels beyond a multiple of that go
 * to the next of these and to `_ref`, whose results are the same by contract. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"
#include "quantcore/kernels/kernels_rows.h"

enum { F32_LANES = 4, F32_PIXELS = 8, S8_LANES = 8, S8_PIXELS = 4, QUAD_LANES = 16 };

#define ACC(r) float32x4_t a##r = bias;
#define POINT(r) const float *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r) a##r = vfmaq_f32(a##r, vld1q_f32(x##r + tap), w);
#define STORE(r) vst1q_f32(d->out + (i + r) * d->out_step + c, clamp4(a##r, lo, hi));

#define SEGMENT(n)                                                                     \
    static inline void segment_f32_##n(const struct qc_depthwise_f32 *d, int i, int c) \
    {                                                                                  \
        const float32x4_t bias = vld1q_f32(d->bias + c);                               \
        const float32x4_t lo = vdupq_n_f32(d->lo), hi = vdupq_n_f32(d->hi);            \
        const float *weights = d->weights + c;                                         \
        ROWS_##n(ACC)                                                                  \
        ROWS_##n(POINT)                                                                \
        for (int t = 0; t < d->n_taps; t++) {                                          \
            const ptrdiff_t tap = d->tap[t];                                           \
            const float32x4_t w = vld1q_f32(weights);                                  \
            weights += d->channels_padded;                                             \
            ROWS_##n(STEP)                                                             \
        }                                                                              \
        ROWS_##n(STORE)                                                                \
    }

SEGMENT(1)
SEGMENT(8)

#undef ACC
#undef POINT
#undef STEP
#undef STORE
#undef SEGMENT

static void one_row_f32(const struct qc_depthwise_f32 *d)
{
    int c = 0;
    for (; c + F32_LANES <= d->channels; c += F32_LANES) {
        int i = 0;
        for (; i + F32_PIXELS <= d->n_pixels; i += F32_PIXELS) {
            segment_f32_8(d, i, c);
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

void qc_depthwise_f32__neon(const struct qc_depthwise_f32 *d)
{
    each_row_f32(d, one_row_f32);
}

/* The channels from c on, in taps. */
static inline struct qc_depthwise_s8 channels_from(const struct qc_depthwise_s8 *d, int c)
{
    struct qc_depthwise_s8 rest = *d;
    rest.in += c;
    rest.out_u8 = d->out_u8 != NULL ? d->out_u8 + c : NULL;
    rest.out_f32 = d->out_f32 != NULL ? d->out_f32 + c : NULL;
    rest.weights += c;
    rest.bias += c;
    rest.multiplier += c;
    rest.channels -= c;
    return rest;
}

static inline int16x8_t load_u8(const uint8_t *x)
{
    return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(x)));
}

static inline void store_s8(const struct qc_depthwise_s8 *d, int64_t at, int c, int32x4_t v0,
                            int32x4_t v1)
{
    float32x4_t y0 = vmulq_f32(vcvtq_f32_s32(v0), vld1q_f32(d->multiplier + c));
    float32x4_t y1 = vmulq_f32(vcvtq_f32_s32(v1), vld1q_f32(d->multiplier + c + 4));
    if (d->out_u8 != NULL) {
        const float32x4_t lo = vdupq_n_f32((float)(d->y_min - d->y_zero_point));
        const float32x4_t hi = vdupq_n_f32((float)(d->y_max - d->y_zero_point));
        const int32x4_t zp = vdupq_n_s32(d->y_zero_point);
        vst1_u8(d->out_u8 + at, narrow8(vaddq_s32(clamp_round4(y0, lo, hi), zp),
                                        vaddq_s32(clamp_round4(y1, lo, hi), zp)));
    } else {
        const float32x4_t lo = vdupq_n_f32(d->lo), hi = vdupq_n_f32(d->hi);
        vst1q_f32(d->out_f32 + at, clamp4(y0, lo, hi));
        vst1q_f32(d->out_f32 + at + 4, clamp4(y1, lo, hi));
    }
}

/* Both factors in 16 bits, products and sums in 32: exact. */
#define ACC(r) int32x4_t a##r = bias0, b##r = bias1;
#define POINT(r) const uint8_t *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r)                                                    \
    {                                                              \
        const int16x8_t x = load_u8(x##r + tap);                   \
        a##r = vmlal_s16(a##r, vget_low_s16(x), vget_low_s16(w));  \
        b##r = vmlal_high_s16(b##r, x, w);                         \
    }
#define STORE(r) store_s8(d, (i + r) * d->out_step + c, c, a##r, b##r);

#define SEGMENT(n)                                                                   \
    static inline void segment_s8_##n(const struct qc_depthwise_s8 *d, int i, int c) \
    {                                                                                \
        const int32x4_t bias0 = vld1q_s32(d->bias + c);                              \
        const int32x4_t bias1 = vld1q_s32(d->bias + c + 4);                          \
        const int16_t *weights = d->weights + c;                                     \
        ROWS_##n(ACC)                                                                \
        ROWS_##n(POINT)                                                              \
        for (int t = 0; t < d->n_taps; t++) {                                        \
            const ptrdiff_t tap = d->tap[t];                                         \
            const int16x8_t w = vld1q_s16(weights);                                  \
            weights += d->channels_padded;                                           \
            ROWS_##n(STEP)                                                           \
        }                                                                            \
        ROWS_##n(STORE)                                                              \
    }

SEGMENT(1)
SEGMENT(4)

static void depthwise_taps(const struct qc_depthwise_s8 *d)
{
    int c = 0;
    for (; c + S8_LANES <= d->channels; c += S8_LANES) {
        int i = 0;
        for (; i + S8_PIXELS <= d->n_pixels; i += S8_PIXELS) {
            segment_s8_4(d, i, c);
        }
        for (; i < d->n_pixels; i++) {
            segment_s8_1(d, i, c);
        }
    }
    if (c < d->channels) {
        struct qc_depthwise_s8 rest = channels_from(d, c);
        qc_depthwise_s8__ref(&rest);
    }
}

/* ---- weights of eight bits: four taps a multiply-add ----------------------------------------
 * Interleaving the bytes of four taps leaves quad k with channels 4 k + 0..3, as the weights are
 * packed. SDOT multiplies signed bytes: it gets x - 128, the bias the sum of 128 w. */
struct four {
    int8x16_t q0, q1, q2, q3;
};

struct sums {
    int32x4_t q0, q1, q2, q3;
};

/* What 16 channels need, loaded once for all pixels. */
struct quads {
    const int8_t *w; /* quads of channels lie 64 bytes apart */
    ptrdiff_t group; /* bytes from one quad of taps to the next */
    struct sums bias;
    float32x4_t multiplier[4];
    int16x8_t zero_point;
    uint8x16_t y_min, y_max;
};

static inline struct four load_weights(const int8_t *w)
{
    return (struct four){vld1q_s8(w), vld1q_s8(w + 64), vld1q_s8(w + 128), vld1q_s8(w + 192)};
}

static inline struct sums multiply_add(struct sums acc, struct four x, struct four w)
{
    return (struct sums){vdotq_s32(acc.q0, x.q0, w.q0), vdotq_s32(acc.q1, x.q1, w.q1),
                         vdotq_s32(acc.q2, x.q2, w.q2), vdotq_s32(acc.q3, x.q3, w.q3)};
}

static inline struct four interleave(uint8x16_t x0, uint8x16_t x1, uint8x16_t x2, uint8x16_t x3)
{
    uint16x8_t l01 = vreinterpretq_u16_u8(vzip1q_u8(x0, x1));
    uint16x8_t l23 = vreinterpretq_u16_u8(vzip1q_u8(x2, x3));
    uint16x8_t h01 = vreinterpretq_u16_u8(vzip2q_u8(x0, x1));
    uint16x8_t h23 = vreinterpretq_u16_u8(vzip2q_u8(x2, x3));
    return (struct four){vreinterpretq_s8_u16(vzip1q_u16(l01, l23)),
                         vreinterpretq_s8_u16(vzip2q_u16(l01, l23)),
                         vreinterpretq_s8_u16(vzip1q_u16(h01, h23)),
                         vreinterpretq_s8_u16(vzip2q_u16(h01, h23))};
}

/* x - 128 in eight bits. */
static inline uint8x16_t load_less_128(const uint8_t *x)
{
    return veorq_u8(vld1q_u8(x), vdupq_n_u8(0x80));
}

static void quads_init(struct quads *q, const struct qc_depthwise_s8 *d, int c)
{
    const int8x16_t one = vdupq_n_s8(1);
    const struct four ones = {one, one, one, one};
    const int32x4_t zero = vdupq_n_s32(0);
    struct sums w = {zero, zero, zero, zero};
    q->w = d->quads + (size_t)(c / 64) * 256 + (size_t)(c % 64);
    q->group = (ptrdiff_t)d->channels_padded * 4;
    for (int g = 0; g < d->n_quads; g++) {
        w = multiply_add(w, ones, load_weights(q->w + g * q->group));
    }
    const int32_t *bias = d->bias + c;
    q->bias = (struct sums){vaddq_s32(vld1q_s32(bias), vshlq_n_s32(w.q0, 7)),
                            vaddq_s32(vld1q_s32(bias + 4), vshlq_n_s32(w.q1, 7)),
                            vaddq_s32(vld1q_s32(bias + 8), vshlq_n_s32(w.q2, 7)),
                            vaddq_s32(vld1q_s32(bias + 12), vshlq_n_s32(w.q3, 7))};
    for (int k = 0; k < 4; k++) {
        q->multiplier[k] = vld1q_f32(d->multiplier + c + 4 * k);
    }
    q->zero_point = vdupq_n_s16((int16_t)d->y_zero_point);
    q->y_min = vdupq_n_u8((uint8_t)d->y_min);
    q->y_max = vdupq_n_u8((uint8_t)d->y_max);
}

static inline int16x4_t quad_round(int32x4_t acc, float32x4_t multiplier)
{
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(acc), multiplier)));
}

/* Conversions and packing saturate far beyond the codes: clamping the codes is clamping before. */
static inline void quads_store(const struct quads *q, uint8_t *out, struct sums a)
{
    int16x8_t lo = vcombine_s16(quad_round(a.q0, q->multiplier[0]),
                                quad_round(a.q1, q->multiplier[1]));
    int16x8_t hi = vcombine_s16(quad_round(a.q2, q->multiplier[2]),
                                quad_round(a.q3, q->multiplier[3]));
    uint8x16_t y = vcombine_u8(vqmovun_s16(vqaddq_s16(lo, q->zero_point)),
                               vqmovun_s16(vqaddq_s16(hi, q->zero_point)));
    vst1q_u8(out, vminq_u8(vmaxq_u8(y, q->y_min), q->y_max));
}

static inline void quads_pixel(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    const int32_t *tap = d->quad_tap;
    struct sums acc = q->bias;
    for (int g = 0; g < d->n_quads; g++, tap += 4) {
        struct four x = interleave(load_less_128(in + tap[0]), load_less_128(in + tap[1]),
                                   load_less_128(in + tap[2]), load_less_128(in + tap[3]));
        acc = multiply_add(acc, x, load_weights(q->w + g * q->group));
    }
    quads_store(q, out, acc);
}

/* One column of a 3 x 3 kernel's input: its three rows are a quad, interleaved once for the two or
 * three outputs that use it. */
static inline struct four column(const struct qc_depthwise_s8 *d, const uint8_t *in)
{
    uint8x16_t x2 = load_less_128(in + d->quad_tap[2]);
    return interleave(load_less_128(in + d->quad_tap[0]), load_less_128(in + d->quad_tap[1]), x2,
                      x2);
}

/* Four outputs of stride 1 from six columns: one that comes begins an output, goes on with the
 * one before and ends the one before that. */
static inline void four_pixels(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    const struct four w0 = load_weights(q->w), w1 = load_weights(q->w + q->group);
    const struct four w2 = load_weights(q->w + 2 * q->group);
    struct four x = column(d, in);
    struct sums a = multiply_add(q->bias, x, w0), b;
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

/* Stride 2: the last column of an output is the first of the next. */
static inline void columns_stride_2(const struct qc_depthwise_s8 *d, const struct quads *q,
                                    const uint8_t *in, uint8_t *out)
{
    const struct four w0 = load_weights(q->w), w1 = load_weights(q->w + q->group);
    const struct four w2 = load_weights(q->w + 2 * q->group);
    struct sums acc = multiply_add(q->bias, column(d, in), w0);
    for (int i = 0; i < d->n_pixels; i++, in += d->in_step, out += d->out_step) {
        const struct four last = column(d, in + 2 * d->column_step);
        acc = multiply_add(acc, column(d, in + d->column_step), w1);
        quads_store(q, out, multiply_add(acc, last, w2));
        acc = multiply_add(q->bias, last, w0);
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
    int c = 0;
    if (d->quads != NULL && d->out_u8 != NULL) {
        for (; c + QUAD_LANES <= d->channels; c += QUAD_LANES) {
            depthwise_quads(d, c);
        }
    }
    if (c < d->channels) {
        struct qc_depthwise_s8 rest = channels_from(d, c);
        depthwise_taps(&rest);
    }
}

void qc_depthwise_s8__neon(const struct qc_depthwise_s8 *d)
{
    each_row_s8(d, one_row_s8);
}
