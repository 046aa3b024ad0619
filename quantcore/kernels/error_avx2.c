/* Sums of an approximation's error, AVX2 + FMA: the eight partial sums are the lanes of two
 * registers. Lanes beyond a row's end add x = y = 0, which changes nothing: no sum is ever -0. */
#include <immintrin.h>
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"

/* Partial sums 0..3 and 4..7. */
struct half {
    __m256d signal, noise, dot, energy, max_error;
};

static inline struct half load_half(const struct qc_error_sums *from, int at)
{
    return (struct half){_mm256_loadu_pd(from->signal + at), _mm256_loadu_pd(from->noise + at),
                         _mm256_loadu_pd(from->dot + at), _mm256_loadu_pd(from->energy + at),
                         _mm256_loadu_pd(from->max_error + at)};
}

static inline void store_half(const struct half *s, struct qc_error_sums *to, int at)
{
    _mm256_storeu_pd(to->signal + at, s->signal);
    _mm256_storeu_pd(to->noise + at, s->noise);
    _mm256_storeu_pd(to->dot + at, s->dot);
    _mm256_storeu_pd(to->energy + at, s->energy);
    _mm256_storeu_pd(to->max_error + at, s->max_error);
}

static inline void add(struct half *s, __m256d x, __m256d y, __m256d e)
{
    s->signal = _mm256_fmadd_pd(x, x, s->signal);
    s->noise = _mm256_fmadd_pd(e, e, s->noise);
    s->dot = _mm256_fmadd_pd(x, y, s->dot);
    s->energy = _mm256_fmadd_pd(y, y, s->energy);
    /* The new value is the first operand: NaN leaves the result. */
    s->max_error = _mm256_max_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), e), s->max_error);
}

static inline __m256d low(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

static inline __m256d high(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

/* All ones in the first `left` of eight lanes. */
static inline __m256i lanes(size_t left)
{
    int n = left < QC_SUM_LANES ? (int)left : QC_SUM_LANES;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

void qc_error_f32__avx2(const struct qc_error *p, struct qc_error_sums *sums)
{
    struct half s0 = load_half(sums, 0), s1 = load_half(sums, 4);
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const float *y = p->y_f32 + (int64_t)r * p->y_step;
        for (size_t i = 0; i < p->n; i += QC_SUM_LANES) {
            __m256i m = lanes(p->n - i);
            __m256 a = _mm256_maskload_ps(x + i, m), b = _mm256_maskload_ps(y + i, m);
            add(&s0, low(a), low(b), _mm256_sub_pd(low(a), low(b)));
            add(&s1, high(a), high(b), _mm256_sub_pd(high(a), high(b)));
        }
    }
    store_half(&s0, sums, 0);
    store_half(&s1, sums, 4);
}

/* What turns codes into errors. */
struct codes {
    __m256i zero_point;
    __m256d scale;
    __m256 lo, hi;
    uint64_t saturated;
};

/* v: eight values; code: their codes; y: the codes less the zero point. */
static inline void add_codes(struct half *s0, struct half *s1, struct codes *c, __m256 v,
                             __m256i code, __m256i y)
{
    __m256d a0 = low(v), a1 = high(v);
    __m256d y0 = _mm256_cvtepi32_pd(_mm256_castsi256_si128(y));
    __m256d y1 = _mm256_cvtepi32_pd(_mm256_extracti128_si256(y, 1));
    /* scale * y is exact: one rounding, as in a subtraction */
    add(s0, a0, y0, _mm256_fnmadd_pd(c->scale, y0, a0));
    add(s1, a1, y1, _mm256_fnmadd_pd(c->scale, y1, a1));
    __m256 below = _mm256_cmp_ps(v, c->lo, _CMP_LT_OQ);
    __m256 above = _mm256_cmp_ps(v, c->hi, _CMP_GT_OQ);
    if (__builtin_expect(_mm256_movemask_ps(_mm256_or_ps(below, above)) != 0, 0)) {
        __m256i first = _mm256_cmpeq_epi32(code, _mm256_setzero_si256());
        __m256i last = _mm256_cmpeq_epi32(code, _mm256_set1_epi32(255));
        __m256 hit = _mm256_or_ps(_mm256_and_ps(below, _mm256_castsi256_ps(first)),
                                  _mm256_and_ps(above, _mm256_castsi256_ps(last)));
        c->saturated += (uint64_t)__builtin_popcount((unsigned)_mm256_movemask_ps(hit));
    }
}

static inline __m256i widen(uint64_t eight)
{
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)eight));
}

void qc_error_u8__avx2(const struct qc_error *p, struct qc_error_sums *sums)
{
    struct half s0 = load_half(sums, 0), s1 = load_half(sums, 4);
    struct codes c = {_mm256_set1_epi32(p->zero_point), _mm256_set1_pd((double)p->scale),
                      _mm256_set1_ps(p->lo), _mm256_set1_ps(p->hi), sums->saturated};
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const uint8_t *q = p->y_u8 + (int64_t)r * p->y_step;
        uint64_t eight = 0;
        size_t i = 0;
        for (; i + QC_SUM_LANES <= p->n; i += QC_SUM_LANES) {
            memcpy(&eight, q + i, sizeof(eight));
            __m256i code = widen(eight);
            add_codes(&s0, &s1, &c, _mm256_loadu_ps(x + i), code,
                      _mm256_sub_epi32(code, c.zero_point));
        }
        if (i < p->n) {
            __m256i m = lanes(p->n - i);
            eight = 0;
            memcpy(&eight, q + i, p->n - i);
            __m256i code = widen(eight);
            add_codes(&s0, &s1, &c, _mm256_maskload_ps(x + i, m), code,
                      _mm256_and_si256(m, _mm256_sub_epi32(code, c.zero_point)));
        }
    }
    store_half(&s0, sums, 0);
    store_half(&s1, sums, 4);
    sums->saturated = c.saturated;
}
