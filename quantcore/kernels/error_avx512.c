/* Sums of an approximation's error, AVX-512: the eight partial sums are a register's lanes. Lanes
 * beyond a row's end add x = y = 0, which changes nothing: no sum is ever -0. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"

struct sums {
    __m512d signal, noise, dot, energy, max_error;
};

static inline struct sums load_sums(const struct qc_error_sums *from)
{
    return (struct sums){_mm512_loadu_pd(from->signal), _mm512_loadu_pd(from->noise),
                         _mm512_loadu_pd(from->dot), _mm512_loadu_pd(from->energy),
                         _mm512_loadu_pd(from->max_error)};
}

static inline void store_sums(const struct sums *s, struct qc_error_sums *to)
{
    _mm512_storeu_pd(to->signal, s->signal);
    _mm512_storeu_pd(to->noise, s->noise);
    _mm512_storeu_pd(to->dot, s->dot);
    _mm512_storeu_pd(to->energy, s->energy);
    _mm512_storeu_pd(to->max_error, s->max_error);
}

static inline void add(struct sums *s, __m512d x, __m512d y, __m512d e)
{
    s->signal = _mm512_fmadd_pd(x, x, s->signal);
    s->noise = _mm512_fmadd_pd(e, e, s->noise);
    s->dot = _mm512_fmadd_pd(x, y, s->dot);
    s->energy = _mm512_fmadd_pd(y, y, s->energy);
    /* The new value is the first operand: NaN leaves the result. */
    s->max_error = _mm512_max_pd(_mm512_abs_pd(e), s->max_error);
}

static inline __mmask8 lanes(size_t left)
{
    return (__mmask8)(left < QC_SUM_LANES ? (1U << left) - 1 : 0xff);
}

void qc_error_f32__avx512(const struct qc_error *p, struct qc_error_sums *sums)
{
    struct sums s = load_sums(sums);
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const float *y = p->y_f32 + (int64_t)r * p->y_step;
        for (size_t i = 0; i < p->n; i += QC_SUM_LANES) {
            __mmask8 m = lanes(p->n - i);
            __m512d a = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, x + i));
            __m512d b = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, y + i));
            add(&s, a, b, _mm512_sub_pd(a, b));
        }
    }
    store_sums(&s, sums);
}

/* What turns codes into errors. */
struct codes {
    __m256i zero_point;
    __m512d scale;
    __m256 lo, hi;
    uint64_t saturated;
};

static inline void add_codes(struct sums *s, struct codes *c, __mmask8 m, const float *x,
                             const uint8_t *q)
{
    __m256 v = _mm256_maskz_loadu_ps(m, x);
    __m256i code = _mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, q));
    __m512d a = _mm512_cvtps_pd(v);
    __m512d y = _mm512_cvtepi32_pd(_mm256_maskz_sub_epi32(m, code, c->zero_point));
    /* scale * y is exact: one rounding, as in a subtraction */
    add(s, a, y, _mm512_fnmadd_pd(c->scale, y, a));
    __mmask8 below = _mm256_cmp_ps_mask(v, c->lo, _CMP_LT_OQ);
    __mmask8 above = _mm256_cmp_ps_mask(v, c->hi, _CMP_GT_OQ);
    if (__builtin_expect((below | above) != 0, 0)) {
        __mmask8 first = _mm256_mask_cmpeq_epi32_mask(below, code, _mm256_setzero_si256());
        __mmask8 last = _mm256_mask_cmpeq_epi32_mask(above, code, _mm256_set1_epi32(255));
        c->saturated += (uint64_t)__builtin_popcount((unsigned)(first | last));
    }
}

void qc_error_u8__avx512(const struct qc_error *p, struct qc_error_sums *sums)
{
    struct sums s = load_sums(sums);
    struct codes c = {_mm256_set1_epi32(p->zero_point), _mm512_set1_pd((double)p->scale),
                      _mm256_set1_ps(p->lo), _mm256_set1_ps(p->hi), sums->saturated};
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const uint8_t *q = p->y_u8 + (int64_t)r * p->y_step;
        size_t i = 0;
        for (; i + QC_SUM_LANES <= p->n; i += QC_SUM_LANES) {
            add_codes(&s, &c, 0xff, x + i, q + i);
        }
        if (i < p->n) {
            add_codes(&s, &c, lanes(p->n - i), x + i, q + i);
        }
    }
    store_sums(&s, sums);
    sums->saturated = c.saturated;
}
