/* What the NEON kernels share. Results are `_ref`'s to the bit: minima and maxima are comparisons
 * where the sign of zero or NaN would show, and no product is fused that `_ref` rounds. */
#ifndef QC_KERNELS_NEON_H
#define QC_KERNELS_NEON_H

#include <arm_neon.h>

/* qc_clamp: NaN and -0 pass through, which FMAX and FMIN do not promise. */
static inline float32x4_t clamp4(float32x4_t v, float32x4_t lo, float32x4_t hi)
{
    v = vbslq_f32(vcltq_f32(v, lo), lo, v);
    return vbslq_f32(vcgtq_f32(v, hi), hi, v);
}

/* lo for NaN; rounds half to even. */
static inline int32x4_t clamp_round4(float32x4_t v, float32x4_t lo, float32x4_t hi)
{
    return vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(v, lo), hi));
}

static inline float32x4_t min4(float32x4_t v, float32x4_t than)
{
    return vbslq_f32(vcltq_f32(v, than), v, than);
}

static inline float32x4_t max4(float32x4_t v, float32x4_t than)
{
    return vbslq_f32(vcgtq_f32(v, than), v, than);
}

/* All ones where v is not 0; NaN is not 0. */
static inline uint32x4_t not_zero4(float32x4_t v)
{
    return vmvnq_u32(vceqzq_f32(v));
}

/* Eight integers; those that become bytes are in 0..255. */
static inline int32x4x2_t widen8(uint8x8_t bytes)
{
    int16x8_t v = vreinterpretq_s16_u16(vmovl_u8(bytes));
    return (int32x4x2_t){{vmovl_s16(vget_low_s16(v)), vmovl_high_s16(v)}};
}

static inline uint8x8_t narrow8(int32x4_t v0, int32x4_t v1)
{
    return vqmovun_s16(vcombine_s16(vqmovn_s32(v0), vqmovn_s32(v1)));
}

#endif
