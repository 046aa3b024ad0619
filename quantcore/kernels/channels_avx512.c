/* Sums of channels, AVX-512. Lanes beyond the last element add 0, which changes nothing: no sum
 * is ever -0. Extremes take the new value as first operand, so that NaN leaves the result, and
 * end with + 0.0f, so that which of -0 and 0 came first does not show. */
#include <immintrin.h>
#include <math.h>

#include "quantcore/kernels/kernels_decl.h"

enum { LANES = 16 };

static inline __m512d low(__m512 v)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}

static inline __m512d high(__m512 v)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
}

static inline void add_counts(uint64_t *to, __mmask8 lanes, __m256i counts)
{
    __m512i old = _mm512_maskz_loadu_epi64(lanes, to);
    _mm512_mask_storeu_epi64(to, lanes, _mm512_add_epi64(old, _mm512_cvtepu32_epi64(counts)));
}

/* Sixteen channels or fewer, from channel c on: they stay in registers for all rows. */
static inline void across(const float *x, int64_t step, size_t n_rows, __mmask16 lanes, size_t c,
                          const struct qc_channel_sums *m)
{
    __mmask8 first = (__mmask8)lanes, second = (__mmask8)(lanes >> 8);
    __m512d s0 = _mm512_maskz_loadu_pd(first, m->sum + c);
    __m512d s1 = _mm512_maskz_loadu_pd(second, m->sum + c + 8);
    __m512d q0 = _mm512_maskz_loadu_pd(first, m->squares + c);
    __m512d q1 = _mm512_maskz_loadu_pd(second, m->squares + c + 8);
    __m512 lo = _mm512_maskz_loadu_ps(lanes, m->min + c);
    __m512 hi = _mm512_maskz_loadu_ps(lanes, m->max + c);
    __m512i nonzero = _mm512_setzero_si512();
    const __m512i one = _mm512_set1_epi32(1);
    for (size_t r = 0; r < n_rows; r++, x += step) {
        __builtin_prefetch(x + (int64_t)n_rows * step);
        __m512 v = _mm512_maskz_loadu_ps(lanes, x);
        __mmask16 k = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        nonzero = _mm512_mask_add_epi32(nonzero, k, nonzero, one);
        lo = _mm512_min_ps(v, lo);
        hi = _mm512_max_ps(v, hi);
        s0 = _mm512_add_pd(s0, low(v));
        s1 = _mm512_add_pd(s1, high(v));
        q0 = _mm512_fmadd_pd(low(v), low(v), q0);
        q1 = _mm512_fmadd_pd(high(v), high(v), q1);
    }
    _mm512_mask_storeu_pd(m->sum + c, first, s0);
    _mm512_mask_storeu_pd(m->sum + c + 8, second, s1);
    _mm512_mask_storeu_pd(m->squares + c, first, q0);
    _mm512_mask_storeu_pd(m->squares + c + 8, second, q1);
    _mm512_mask_storeu_ps(m->min + c, lanes, _mm512_add_ps(lo, _mm512_setzero_ps()));
    _mm512_mask_storeu_ps(m->max + c, lanes, _mm512_add_ps(hi, _mm512_setzero_ps()));
    add_counts(m->n_nonzero + c, first, _mm512_castsi512_si256(nonzero));
    add_counts(m->n_nonzero + c + 8, second, _mm512_extracti64x4_epi64(nonzero, 1));
}

void qc_channels_across_f32__avx512(const float *x, int64_t step, size_t n_rows, size_t n,
                                    const struct qc_channel_sums *m)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        across(x + c, step, n_rows, 0xffff, c, m);
    }
    if (c < n) {
        across(x + c, step, n_rows, (__mmask16)((1U << (n - c)) - 1), c, m);
    }
}

/* One channel's partial sums. */
struct one {
    __m512d sum, squares;
    __m256 lo, hi;
    uint64_t nonzero;
};

static inline void add(struct one *o, __mmask8 lanes, const float *x)
{
    __m256 v = _mm256_maskz_loadu_ps(lanes, x);
    __m512d d = _mm512_cvtps_pd(v);
    __mmask8 k = _mm256_cmp_ps_mask(v, _mm256_setzero_ps(), _CMP_NEQ_UQ);
    o->sum = _mm512_add_pd(o->sum, d);
    o->squares = _mm512_fmadd_pd(d, d, o->squares);
    o->lo = _mm256_mask_min_ps(o->lo, lanes, v, o->lo);
    o->hi = _mm256_mask_max_ps(o->hi, lanes, v, o->hi);
    o->nonzero += (uint64_t)__builtin_popcount(k);
}

static double total(__m512d v)
{
    double s[QC_SUM_LANES];
    _mm512_storeu_pd(s, v);
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

static void merge(const struct one *o, const struct qc_channel_sums *m)
{
    float lo[QC_SUM_LANES], hi[QC_SUM_LANES];
    _mm256_storeu_ps(lo, o->lo);
    _mm256_storeu_ps(hi, o->hi);
    for (int l = 0; l < QC_SUM_LANES; l++) {
        m->min[0] = lo[l] < m->min[0] ? lo[l] + 0.0f : m->min[0];
        m->max[0] = hi[l] > m->max[0] ? hi[l] + 0.0f : m->max[0];
    }
    m->sum[0] += total(o->sum);
    m->squares[0] += total(o->squares);
    m->n_nonzero[0] += o->nonzero;
}

void qc_channels_along_f32__avx512(const float *x, int64_t step, size_t n_rows, size_t n,
                                   const struct qc_channel_sums *m)
{
    struct one o = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm256_set1_ps(INFINITY),
                    _mm256_set1_ps(-INFINITY), 0};
    for (size_t r = 0; r < n_rows; r++, x += step) {
        size_t i = 0;
        for (; i + QC_SUM_LANES <= n; i += QC_SUM_LANES) {
            add(&o, 0xff, x + i);
        }
        if (i < n) {
            add(&o, (__mmask8)((1U << (n - i)) - 1), x + i);
        }
    }
    merge(&o, m);
}
