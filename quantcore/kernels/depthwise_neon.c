/* Depthwise convolution, NEON: f32 4 channels x 8 pixels, s8 8 channels x 4 pixels. The channels
 * beyond a multiple of that go to `_ref`, whose result is the same by contract. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"
#include "quantcore/kernels/kernels_rows.h"

enum { F32_LANES = 4, F32_PIXELS = 8, S8_LANES = 8, S8_PIXELS = 4 };

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

void qc_depthwise_f32__neon(const struct qc_depthwise_f32 *d)
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

void qc_depthwise_s8__neon(const struct qc_depthwise_s8 *d)
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
