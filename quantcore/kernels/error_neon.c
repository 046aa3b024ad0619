/* Sums of an approximation's error, NEON: the eight partial sums are the lanes of four registers.
 * Lanes beyond a row's end add x = y = 0, which changes nothing: no sum is ever -0. */
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"

/* Two partial sums. */
struct pair {
    float64x2_t signal, noise, dot, energy, max_error;
};

struct pairs {
    struct pair p[4];
};

static inline struct pairs load_pairs(const struct qc_error_sums *from)
{
    struct pairs s;
    for (int k = 0; k < 4; k++) {
        s.p[k] = (struct pair){vld1q_f64(from->signal + 2 * k), vld1q_f64(from->noise + 2 * k),
                               vld1q_f64(from->dot + 2 * k), vld1q_f64(from->energy + 2 * k),
                               vld1q_f64(from->max_error + 2 * k)};
    }
    return s;
}

static inline void store_pairs(const struct pairs *s, struct qc_error_sums *to)
{
    for (int k = 0; k < 4; k++) {
        vst1q_f64(to->signal + 2 * k, s->p[k].signal);
        vst1q_f64(to->noise + 2 * k, s->p[k].noise);
        vst1q_f64(to->dot + 2 * k, s->p[k].dot);
        vst1q_f64(to->energy + 2 * k, s->p[k].energy);
        vst1q_f64(to->max_error + 2 * k, s->p[k].max_error);
    }
}

/* Products of f32 values are exact, so that fused or not is the same, except for the noise. */
static inline void add(struct pair *s, float64x2_t x, float64x2_t y, float64x2_t e)
{
    s->signal = vfmaq_f64(s->signal, x, x);
    s->noise = vfmaq_f64(s->noise, e, e);
    s->dot = vfmaq_f64(s->dot, x, y);
    s->energy = vfmaq_f64(s->energy, y, y);
    float64x2_t size = vabsq_f64(e); /* NaN leaves the result */
    s->max_error = vbslq_f64(vcgtq_f64(size, s->max_error), size, s->max_error);
}

static inline float64x2_t low(float32x4_t v)
{
    return vcvt_f64_f32(vget_low_f32(v));
}

static inline float64x2_t high(float32x4_t v)
{
    return vcvt_high_f64_f32(v);
}

static inline void add8(struct pairs *s, const float *x, const float *y)
{
    float32x4_t a = vld1q_f32(x), b = vld1q_f32(y);
    add(&s->p[0], low(a), low(b), vsubq_f64(low(a), low(b)));
    add(&s->p[1], high(a), high(b), vsubq_f64(high(a), high(b)));
    a = vld1q_f32(x + 4);
    b = vld1q_f32(y + 4);
    add(&s->p[2], low(a), low(b), vsubq_f64(low(a), low(b)));
    add(&s->p[3], high(a), high(b), vsubq_f64(high(a), high(b)));
}

void qc_error_f32__neon(const struct qc_error *p, struct qc_error_sums *sums)
{
    struct pairs s = load_pairs(sums);
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const float *y = p->y_f32 + (int64_t)r * p->y_step;
        size_t i = 0;
        for (; i + QC_SUM_LANES <= p->n; i += QC_SUM_LANES) {
            add8(&s, x + i, y + i);
        }
        if (i < p->n) {
            float a[QC_SUM_LANES] = {0}, b[QC_SUM_LANES] = {0};
            memcpy(a, x + i, (p->n - i) * sizeof(*a));
            memcpy(b, y + i, (p->n - i) * sizeof(*b));
            add8(&s, a, b);
        }
    }
    store_pairs(&s, sums);
}

/* What turns codes into errors. */
struct codes {
    int32x4_t zero_point;
    float64x2_t scale;
    float32x4_t lo, hi;
    uint64_t saturated;
};

/* v: four values; code: their codes; y: the codes less the zero point. */
static inline void add_codes(struct pair s[2], struct codes *c, float32x4_t v, int32x4_t code,
                             int32x4_t y)
{
    float64x2_t y0 = vcvtq_f64_s64(vmovl_s32(vget_low_s32(y)));
    float64x2_t y1 = vcvtq_f64_s64(vmovl_high_s32(y));
    /* scale * y is exact: one rounding, as in a subtraction */
    add(&s[0], low(v), y0, vfmsq_f64(low(v), c->scale, y0));
    add(&s[1], high(v), y1, vfmsq_f64(high(v), c->scale, y1));
    uint32x4_t below = vandq_u32(vcltq_f32(v, c->lo), vceqzq_s32(code));
    uint32x4_t above = vandq_u32(vcgtq_f32(v, c->hi), vceqq_s32(code, vdupq_n_s32(255)));
    c->saturated += vaddvq_u32(vshrq_n_u32(vorrq_u32(below, above), 31));
}

static inline void add8_codes(struct pairs *s, struct codes *c, const float *x, uint8x8_t q)
{
    int32x4x2_t code = widen8(q);
    add_codes(s->p, c, vld1q_f32(x), code.val[0], vsubq_s32(code.val[0], c->zero_point));
    add_codes(s->p + 2, c, vld1q_f32(x + 4), code.val[1],
              vsubq_s32(code.val[1], c->zero_point));
}

void qc_error_u8__neon(const struct qc_error *p, struct qc_error_sums *sums)
{
    struct pairs s = load_pairs(sums);
    struct codes c = {vdupq_n_s32(p->zero_point), vdupq_n_f64((double)p->scale),
                      vdupq_n_f32(p->lo), vdupq_n_f32(p->hi), sums->saturated};
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const uint8_t *q = p->y_u8 + (int64_t)r * p->y_step;
        size_t i = 0;
        for (; i + QC_SUM_LANES <= p->n; i += QC_SUM_LANES) {
            add8_codes(&s, &c, x + i, vld1_u8(q + i));
        }
        if (i < p->n) {
            /* codes of the zero point stand for 0; x = 0 is not beyond [lo, hi] */
            float values[QC_SUM_LANES] = {0};
            uint8_t codes[QC_SUM_LANES];
            memset(codes, p->zero_point, sizeof(codes));
            memcpy(values, x + i, (p->n - i) * sizeof(*values));
            memcpy(codes, q + i, p->n - i);
            add8_codes(&s, &c, values, vld1_u8(codes));
        }
    }
    store_pairs(&s, sums);
    sums->saturated = c.saturated;
}
