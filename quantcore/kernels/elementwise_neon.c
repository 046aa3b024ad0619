/* Elementwise kernels, NEON: whole vectors; the rest goes to `_ref`, whose result is the same by
 * contract. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"

enum { F32 = 4, U8 = 8 };

void qc_add_f32__neon(const float *a, const float *b, float *out, size_t n)
{
    size_t i = 0;
    for (; i + F32 <= n; i += F32) {
        vst1q_f32(out + i, vaddq_f32(vld1q_f32(a + i), vld1q_f32(b + i)));
    }
    qc_add_f32__ref(a + i, b + i, out + i, n - i);
}

void qc_mul_f32__neon(const float *a, const float *b, float *out, size_t n)
{
    size_t i = 0;
    for (; i + F32 <= n; i += F32) {
        vst1q_f32(out + i, vmulq_f32(vld1q_f32(a + i), vld1q_f32(b + i)));
    }
    qc_mul_f32__ref(a + i, b + i, out + i, n - i);
}

void qc_clamp_f32__neon(const float *x, float lo, float hi, float *out, size_t n)
{
    const float32x4_t l = vdupq_n_f32(lo), h = vdupq_n_f32(hi);
    size_t i = 0;
    for (; i + F32 <= n; i += F32) {
        vst1q_f32(out + i, clamp4(vld1q_f32(x + i), l, h));
    }
    qc_clamp_f32__ref(x + i, lo, hi, out + i, n - i);
}

void qc_max_taps_f32__neon(const float *x, const int32_t *tap, int n_taps, float *out, size_t n)
{
    size_t i = 0;
    for (; i + F32 <= n; i += F32) {
        float32x4_t most = vld1q_f32(x + i + tap[0]);
        for (int t = 1; t < n_taps; t++) {
            most = max4(vld1q_f32(x + i + tap[t]), most);
        }
        vst1q_f32(out + i, most);
    }
    qc_max_taps_f32__ref(x + i, tap, n_taps, out + i, n - i);
}

void qc_sum_f32__neon(const float *x, float *inout, size_t n)
{
    size_t i = 0;
    for (; i + F32 <= n; i += F32) {
        vst1q_f32(inout + i, vaddq_f32(vld1q_f32(inout + i), vld1q_f32(x + i)));
    }
    qc_sum_f32__ref(x + i, inout + i, n - i);
}

struct quantizer {
    float32x4_t scale, lo, hi;
    int32x4_t zero_point;
};

static inline struct quantizer quantizer_of(float scale, int32_t zero_point)
{
    return (struct quantizer){vdupq_n_f32(scale), vdupq_n_f32((float)(0 - zero_point)),
                              vdupq_n_f32((float)(255 - zero_point)), vdupq_n_s32(zero_point)};
}

static inline uint8x8_t quantize8(const struct quantizer *p, const float *x)
{
    int32x4_t q0 = clamp_round4(vdivq_f32(vld1q_f32(x), p->scale), p->lo, p->hi);
    int32x4_t q1 = clamp_round4(vdivq_f32(vld1q_f32(x + 4), p->scale), p->lo, p->hi);
    return narrow8(vaddq_s32(q0, p->zero_point), vaddq_s32(q1, p->zero_point));
}

void qc_quantize_u8__neon(const float *x, float scale, int32_t zero_point, uint8_t *out, size_t n)
{
    const struct quantizer p = quantizer_of(scale, zero_point);
    size_t i = 0;
    for (; i + U8 <= n; i += U8) {
        vst1_u8(out + i, quantize8(&p, x + i));
    }
    qc_quantize_u8__ref(x + i, scale, zero_point, out + i, n - i);
}

void qc_quantize_pixels_u8__neon(const float *x, int64_t plane, int channels, float scale,
                                 int32_t zero_point, uint8_t *out, size_t n)
{
    const struct quantizer p = quantizer_of(scale, zero_point);
    const float *a = x, *b = a + plane;
    size_t i = 0, size = (size_t)channels;
    for (; i + U8 <= n; i += U8) {
        uint8x8_t qa = quantize8(&p, a + i), qb = quantize8(&p, b + i);
        if (channels == 2) {
            vst2_u8(out + i * size, (uint8x8x2_t){{qa, qb}});
            continue;
        }
        uint8x8_t qc = quantize8(&p, b + plane + i);
        if (channels == 3) {
            vst3_u8(out + i * size, (uint8x8x3_t){{qa, qb, qc}});
        } else {
            uint8x8_t qd = quantize8(&p, b + 2 * plane + i);
            vst4_u8(out + i * size, (uint8x8x4_t){{qa, qb, qc, qd}});
        }
    }
    qc_quantize_pixels_u8__ref(x + i, plane, channels, scale, zero_point, out + i * size, n - i);
}

void qc_dequantize_u8__neon(const uint8_t *q, float scale, int32_t zero_point, float *out,
                            size_t n)
{
    const int32x4_t zp = vdupq_n_s32(zero_point);
    size_t i = 0;
    for (; i + U8 <= n; i += U8) {
        int32x4x2_t v = widen8(vld1_u8(q + i));
        vst1q_f32(out + i, vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(v.val[0], zp)), scale));
        vst1q_f32(out + i + 4, vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(v.val[1], zp)), scale));
    }
    qc_dequantize_u8__ref(q + i, scale, zero_point, out + i, n - i);
}

/* What both additions of codes need; four sums. */
struct adder {
    float32x4_t ra, rb, k, lo, hi;
    int32x4_t offset;
};

static inline int32x4_t add4(const struct adder *p, int32x4_t a, int32x4_t b)
{
    float32x4_t fa = vcvtq_f32_s32(vsubq_s32(a, p->offset));
    float32x4_t fb = vcvtq_f32_s32(vsubq_s32(b, p->offset));
    float32x4_t y = vfmaq_f32(vfmaq_f32(p->k, fb, p->rb), fa, p->ra);
    return vaddq_s32(clamp_round4(y, p->lo, p->hi), p->offset);
}

void qc_add_u8__neon(const uint8_t *a, const uint8_t *b, const struct qc_add_u8 *p, uint8_t *out,
                     size_t n)
{
    const struct adder adder = {vdupq_n_f32(p->ra),
                                vdupq_n_f32(p->rb),
                                vdupq_n_f32(p->k),
                                vdupq_n_f32((float)(p->y_min - p->offset)),
                                vdupq_n_f32((float)(p->y_max - p->offset)),
                                vdupq_n_s32(p->offset)};
    size_t i = 0;
    for (; i + U8 <= n; i += U8) {
        int32x4x2_t va = widen8(vld1_u8(a + i)), vb = widen8(vld1_u8(b + i));
        vst1_u8(out + i, narrow8(add4(&adder, va.val[0], vb.val[0]),
                                 add4(&adder, va.val[1], vb.val[1])));
    }
    qc_add_u8__ref(a + i, b + i, p, out + i, n - i);
}

static inline int32x4_t mul4(const struct qc_mul_u8 *p, int32x4_t a, int32x4_t b)
{
    int32x4_t product = vmulq_s32(vsubq_s32(a, vdupq_n_s32(p->a_zero_point)),
                                  vsubq_s32(b, vdupq_n_s32(p->b_zero_point)));
    float32x4_t y = vmulq_n_f32(vcvtq_f32_s32(product), p->multiplier);
    y = vaddq_f32(y, vdupq_n_f32((float)p->y_zero_point));
    return clamp_round4(y, vdupq_n_f32((float)p->y_min), vdupq_n_f32((float)p->y_max));
}

void qc_mul_u8__neon(const uint8_t *a, const uint8_t *b, const struct qc_mul_u8 *p, uint8_t *out,
                     size_t n)
{
    const struct qc_mul_u8 q = *p;
    size_t i = 0;
    for (; i + U8 <= n; i += U8) {
        int32x4x2_t va = widen8(vld1_u8(a + i)), vb = widen8(vld1_u8(b + i));
        vst1_u8(out + i,
                narrow8(mul4(&q, va.val[0], vb.val[0]), mul4(&q, va.val[1], vb.val[1])));
    }
    qc_mul_u8__ref(a + i, b + i, p, out + i, n - i);
}

/* Four tables of 64 bytes: TBL gives 0 for an index beyond its table, TBX leaves what was there. */
void qc_lut_u8__neon(const uint8_t *x, const uint8_t table[256], uint8_t *out, size_t n)
{
    const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64);
    const uint8x16x4_t t2 = vld1q_u8_x4(table + 128), t3 = vld1q_u8_x4(table + 192);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint8x16_t v = vld1q_u8(x + i);
        uint8x16_t y = vqtbl4q_u8(t0, v);
        y = vqtbx4q_u8(y, t1, vsubq_u8(v, vdupq_n_u8(64)));
        y = vqtbx4q_u8(y, t2, vsubq_u8(v, vdupq_n_u8(128)));
        y = vqtbx4q_u8(y, t3, vsubq_u8(v, vdupq_n_u8(192)));
        vst1q_u8(out + i, y);
    }
    qc_lut_u8__ref(x + i, table, out + i, n - i);
}

void qc_max_taps_u8__neon(const uint8_t *x, const int32_t *tap, int n_taps, uint8_t *out,
                          size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint8x16_t most = vld1q_u8(x + i + tap[0]);
        for (int t = 1; t < n_taps; t++) {
            most = vmaxq_u8(most, vld1q_u8(x + i + tap[t]));
        }
        vst1q_u8(out + i, most);
    }
    qc_max_taps_u8__ref(x + i, tap, n_taps, out + i, n - i);
}

void qc_sum_u8__neon(const uint8_t *x, int32_t *inout, size_t n)
{
    size_t i = 0;
    for (; i + U8 <= n; i += U8) {
        int32x4x2_t v = widen8(vld1_u8(x + i));
        vst1q_s32(inout + i, vaddq_s32(vld1q_s32(inout + i), v.val[0]));
        vst1q_s32(inout + i + 4, vaddq_s32(vld1q_s32(inout + i + 4), v.val[1]));
    }
    qc_sum_u8__ref(x + i, inout + i, n - i);
}
