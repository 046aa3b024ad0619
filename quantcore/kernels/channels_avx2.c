/* Sums of channels, AVX2 + FMA. What lies beyond whole vectors is masked and adds 0, which changes
 * nothing: no sum is ever -0. Extremes take the new value as first operand, so that NaN leaves the
 * result, and end with + 0.0f, so that which of -0 and 0 came first does not show. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"

enum { LANES = 8 };

static inline __m256d low(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

static inline __m256d high(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

static inline __m256i first_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* All ones where v is not 0. */
static inline __m256i not_zero(__m256 v)
{
    return _mm256_castps_si256(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
}

static inline void add_counts(uint64_t *to, __m128i counts)
{
    __m256i old = _mm256_loadu_si256((const __m256i *)(const void *)to);
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm256_add_epi64(old, _mm256_cvtepu32_epi64(counts)));
}

/* Eight channels from channel c on, of which `lanes` are read: they stay in registers for all
 * rows. */
static inline void across(const float *x, int64_t step, size_t n_rows, __m256i lanes, size_t c,
                          const struct qc_channel_sums *m)
{
    __m256d s0 = _mm256_loadu_pd(m->sum + c), s1 = _mm256_loadu_pd(m->sum + c + 4);
    __m256d q0 = _mm256_loadu_pd(m->squares + c), q1 = _mm256_loadu_pd(m->squares + c + 4);
    __m256 lo = _mm256_loadu_ps(m->min + c), hi = _mm256_loadu_ps(m->max + c);
    __m256i nonzero = _mm256_setzero_si256();
    for (size_t r = 0; r < n_rows; r++, x += step) {
        __builtin_prefetch(x + (int64_t)n_rows * step);
        __m256 v = _mm256_maskload_ps(x, lanes);
        nonzero = _mm256_sub_epi32(nonzero, not_zero(v));
        lo = _mm256_min_ps(v, lo);
        hi = _mm256_max_ps(v, hi);
        s0 = _mm256_add_pd(s0, low(v));
        s1 = _mm256_add_pd(s1, high(v));
        q0 = _mm256_fmadd_pd(low(v), low(v), q0);
        q1 = _mm256_fmadd_pd(high(v), high(v), q1);
    }
    _mm256_storeu_pd(m->sum + c, s0);
    _mm256_storeu_pd(m->sum + c + 4, s1);
    _mm256_storeu_pd(m->squares + c, q0);
    _mm256_storeu_pd(m->squares + c + 4, q1);
    _mm256_storeu_ps(m->min + c, _mm256_add_ps(lo, _mm256_setzero_ps()));
    _mm256_storeu_ps(m->max + c, _mm256_add_ps(hi, _mm256_setzero_ps()));
    add_counts(m->n_nonzero + c, _mm256_castsi256_si128(nonzero));
    add_counts(m->n_nonzero + c + 4, _mm256_extracti128_si256(nonzero, 1));
}

/* Fewer than eight channels, by way of room for eight. */
static void across_few(const float *x, int64_t step, size_t n_rows, size_t n,
                       const struct qc_channel_sums *m)
{
    double sum[LANES] = {0}, squares[LANES] = {0};
    uint64_t n_nonzero[LANES] = {0};
    float min[LANES] = {0}, max[LANES] = {0};
    const struct qc_channel_sums eight = {sum, squares, n_nonzero, min, max};
    memcpy(sum, m->sum, n * sizeof(*sum));
    memcpy(squares, m->squares, n * sizeof(*squares));
    memcpy(n_nonzero, m->n_nonzero, n * sizeof(*n_nonzero));
    memcpy(min, m->min, n * sizeof(*min));
    memcpy(max, m->max, n * sizeof(*max));
    across(x, step, n_rows, first_lanes(n), 0, &eight);
    memcpy(m->sum, sum, n * sizeof(*sum));
    memcpy(m->squares, squares, n * sizeof(*squares));
    memcpy(m->n_nonzero, n_nonzero, n * sizeof(*n_nonzero));
    memcpy(m->min, min, n * sizeof(*min));
    memcpy(m->max, max, n * sizeof(*max));
}

void qc_channels_across_f32__avx2(const float *x, int64_t step, size_t n_rows, size_t n,
                                  const struct qc_channel_sums *m)
{
    size_t c = 0;
    for (; c + LANES <= n; c += LANES) {
        across(x + c, step, n_rows, first_lanes(LANES), c, m);
    }
    if (c < n) {
        const struct qc_channel_sums rest = {m->sum + c, m->squares + c, m->n_nonzero + c,
                                             m->min + c, m->max + c};
        across_few(x + c, step, n_rows, n - c, &rest);
    }
}

/* One channel's partial sums. */
struct one {
    __m256d s0, s1, q0, q1;
    __m256 lo, hi;
    uint64_t nonzero;
};

/* low_v, high_v: the lanes that count, +inf and -inf in the others. */
static inline void add(struct one *o, __m256 v, __m256 low_v, __m256 high_v)
{
    o->s0 = _mm256_add_pd(o->s0, low(v));
    o->s1 = _mm256_add_pd(o->s1, high(v));
    o->q0 = _mm256_fmadd_pd(low(v), low(v), o->q0);
    o->q1 = _mm256_fmadd_pd(high(v), high(v), o->q1);
    o->lo = _mm256_min_ps(low_v, o->lo);
    o->hi = _mm256_max_ps(high_v, o->hi);
    int k = _mm256_movemask_ps(_mm256_castsi256_ps(not_zero(v)));
    o->nonzero += (uint64_t)__builtin_popcount((unsigned)k);
}

static double total(__m256d s0, __m256d s1)
{
    double s[4];
    _mm256_storeu_pd(s, _mm256_add_pd(s0, s1));
    return (s[0] + s[1]) + (s[2] + s[3]);
}

static void merge(const struct one *o, const struct qc_channel_sums *m)
{
    float lo[LANES], hi[LANES];
    _mm256_storeu_ps(lo, o->lo);
    _mm256_storeu_ps(hi, o->hi);
    for (int l = 0; l < LANES; l++) {
        m->min[0] = lo[l] < m->min[0] ? lo[l] + 0.0f : m->min[0];
        m->max[0] = hi[l] > m->max[0] ? hi[l] + 0.0f : m->max[0];
    }
    m->sum[0] += total(o->s0, o->s1);
    m->squares[0] += total(o->q0, o->q1);
    m->n_nonzero[0] += o->nonzero;
}

void qc_channels_along_f32__avx2(const float *x, int64_t step, size_t n_rows, size_t n,
                                 const struct qc_channel_sums *m)
{
    const __m256 inf = _mm256_set1_ps(INFINITY), minus_inf = _mm256_set1_ps(-INFINITY);
    const __m256d zero = _mm256_setzero_pd();
    struct one o = {zero, zero, zero, zero, inf, minus_inf, 0};
    const __m256i rest = first_lanes(n % LANES);
    for (size_t r = 0; r < n_rows; r++, x += step) {
        size_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            __m256 v = _mm256_loadu_ps(x + i);
            add(&o, v, v, v);
        }
        if (i < n) {
            __m256 v = _mm256_maskload_ps(x + i, rest), k = _mm256_castsi256_ps(rest);
            add(&o, v, _mm256_blendv_ps(inf, v, k), _mm256_blendv_ps(minus_inf, v, k));
        }
    }
    merge(&o, m);
}
