/* Sums of channels, NEON. Channels beyond whole vectors go to `_ref`, elements beyond them are
 * masked and add 0, which changes nothing: no sum is ever -0. Extremes end with + 0.0f, so that
 * which of -0 and 0 came first does not show. Products of f32 values are exact in double: fused
 * or not is the same. */
#include <math.h>
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"

enum { LANES = 4, ALONG = 8 };

static inline float64x2_t low(float32x4_t v)
{
    return vcvt_f64_f32(vget_low_f32(v));
}

static inline float64x2_t high(float32x4_t v)
{
    return vcvt_high_f64_f32(v);
}

/* Four channels from channel c on: they stay in registers for all rows. */
static inline void across(const float *x, int64_t step, size_t n_rows, size_t c,
                          const struct qc_channel_sums *m)
{
    float64x2_t s0 = vld1q_f64(m->sum + c), s1 = vld1q_f64(m->sum + c + 2);
    float64x2_t q0 = vld1q_f64(m->squares + c), q1 = vld1q_f64(m->squares + c + 2);
    float32x4_t lo = vld1q_f32(m->min + c), hi = vld1q_f32(m->max + c);
    uint32x4_t nonzero = vdupq_n_u32(0);
    for (size_t r = 0; r < n_rows; r++, x += step) {
        __builtin_prefetch(x + (int64_t)n_rows * step);
        float32x4_t v = vld1q_f32(x);
        nonzero = vsubq_u32(nonzero, not_zero4(v));
        lo = min4(v, lo);
        hi = max4(v, hi);
        s0 = vaddq_f64(s0, low(v));
        s1 = vaddq_f64(s1, high(v));
        q0 = vfmaq_f64(q0, low(v), low(v));
        q1 = vfmaq_f64(q1, high(v), high(v));
    }
    vst1q_f64(m->sum + c, s0);
    vst1q_f64(m->sum + c + 2, s1);
    vst1q_f64(m->squares + c, q0);
    vst1q_f64(m->squares + c + 2, q1);
    vst1q_f32(m->min + c, vaddq_f32(lo, vdupq_n_f32(0.0f)));
    vst1q_f32(m->max + c, vaddq_f32(hi, vdupq_n_f32(0.0f)));
    uint64_t *count = m->n_nonzero + c;
    vst1q_u64(count, vaddw_u32(vld1q_u64(count), vget_low_u32(nonzero)));
    vst1q_u64(count + 2, vaddw_high_u32(vld1q_u64(count + 2), nonzero));
}

void qc_channels_across_f32__neon(const float *x, int64_t step, size_t n_rows, size_t n,
                                  const struct qc_channel_sums *m)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        across(x + c, step, n_rows, c, m);
    }
    if (c < n) {
        const struct qc_channel_sums rest = {m->sum + c, m->squares + c, m->n_nonzero + c,
                                             m->min + c, m->max + c};
        qc_channels_across_f32__ref(x + c, step, n_rows, n - c, &rest);
    }
}

/* Four of one channel's eight partial sums: lanes 0, 1 and 2, 3. */
struct half {
    float64x2_t s0, s1, q0, q1;
    float32x4_t lo, hi;
    uint64x2_t nonzero;
};

/* low_v, high_v: the lanes that count, +inf and -inf in the others. */
static inline void add(struct half *h, float32x4_t v, float32x4_t low_v, float32x4_t high_v)
{
    h->s0 = vaddq_f64(h->s0, low(v));
    h->s1 = vaddq_f64(h->s1, high(v));
    h->q0 = vfmaq_f64(h->q0, low(v), low(v));
    h->q1 = vfmaq_f64(h->q1, high(v), high(v));
    h->lo = min4(low_v, h->lo);
    h->hi = max4(high_v, h->hi);
    h->nonzero = vpadalq_u32(h->nonzero, vshrq_n_u32(not_zero4(v), 31));
}

/* Up to three elements, zeros behind them. */
static inline void add_rest(struct half *h, const float *x, size_t n)
{
    static const uint32_t index[LANES] = {0, 1, 2, 3};
    float four[LANES] = {0};
    memcpy(four, x, n * sizeof(*four));
    uint32x4_t counts = vcltq_u32(vld1q_u32(index), vdupq_n_u32((uint32_t)n));
    float32x4_t v = vld1q_f32(four);
    add(h, v, vbslq_f32(counts, v, vdupq_n_f32(INFINITY)),
        vbslq_f32(counts, v, vdupq_n_f32(-INFINITY)));
}

static inline double total(float64x2_t s01, float64x2_t s23, float64x2_t s45, float64x2_t s67)
{
    return vpaddd_f64(vaddq_f64(s01, s45)) + vpaddd_f64(vaddq_f64(s23, s67));
}

static void merge(const struct half *a, const struct half *b, const struct qc_channel_sums *m)
{
    float lo = vminvq_f32(min4(a->lo, b->lo)), hi = vmaxvq_f32(max4(a->hi, b->hi));
    m->min[0] = lo < m->min[0] ? lo + 0.0f : m->min[0];
    m->max[0] = hi > m->max[0] ? hi + 0.0f : m->max[0];
    m->sum[0] += total(a->s0, a->s1, b->s0, b->s1);
    m->squares[0] += total(a->q0, a->q1, b->q0, b->q1);
    m->n_nonzero[0] += vaddvq_u64(vaddq_u64(a->nonzero, b->nonzero));
}

void qc_channels_along_f32__neon(const float *x, int64_t step, size_t n_rows, size_t n,
                                 const struct qc_channel_sums *m)
{
    const float64x2_t zero = vdupq_n_f64(0.0);
    struct half a = {zero, zero, zero, zero, vdupq_n_f32(INFINITY), vdupq_n_f32(-INFINITY),
                     vdupq_n_u64(0)};
    struct half b = a;
    for (size_t r = 0; r < n_rows; r++, x += step) {
        size_t i = 0;
        for (; i + ALONG <= n; i += ALONG) {
            float32x4_t v0 = vld1q_f32(x + i), v1 = vld1q_f32(x + i + LANES);
            add(&a, v0, v0, v0);
            add(&b, v1, v1, v1);
        }
        struct half *next = &a;
        if (i + LANES <= n) {
            float32x4_t v = vld1q_f32(x + i);
            add(&a, v, v, v);
            i += LANES;
            next = &b;
        }
        add_rest(next, x + i, n - i);
    }
    merge(&a, &b, m);
}
