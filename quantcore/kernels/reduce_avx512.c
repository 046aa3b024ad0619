/* Range and histogram, AVX-512. */
#include <immintrin.h>
#include <math.h>

#include "quantcore/kernels/kernels_decl.h"

enum { LANES = 16 };

void qc_minmax_f32__avx512(const float *x, size_t n, float *ret_min, float *ret_max,
                           bool *ret_finite)
{
    /* Two chains hide the latency. The new value is the first operand: NaN leaves the result. */
    __m512 lo0 = _mm512_set1_ps(INFINITY), hi0 = _mm512_set1_ps(-INFINITY);
    __m512 lo1 = lo0, hi1 = hi0;
    __mmask16 nan = 0;
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        __m512 v0 = _mm512_loadu_ps(x + i), v1 = _mm512_loadu_ps(x + i + LANES);
        lo0 = _mm512_min_ps(v0, lo0);
        hi0 = _mm512_max_ps(v0, hi0);
        lo1 = _mm512_min_ps(v1, lo1);
        hi1 = _mm512_max_ps(v1, hi1);
        /* unordered if either is NaN */
        nan = (__mmask16)(nan | _mm512_cmp_ps_mask(v0, v1, _CMP_UNORD_Q));
    }
    while (i < n) {
        size_t rest = n - i < LANES ? n - i : LANES;
        __mmask16 lanes = (__mmask16)((1U << rest) - 1);
        __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
        lo0 = _mm512_mask_min_ps(lo0, lanes, v, lo0);
        hi0 = _mm512_mask_max_ps(hi0, lanes, v, hi0);
        nan = (__mmask16)(nan | _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q));
        i += rest;
    }
    float lo = _mm512_reduce_min_ps(_mm512_min_ps(lo0, lo1));
    float hi = _mm512_reduce_max_ps(_mm512_max_ps(hi0, hi1));
    /* + 0.0f: which of -0 and 0 came first must not show */
    *ret_min = lo + 0.0f;
    *ret_max = hi + 0.0f;
    *ret_finite = nan == 0 && isfinite(lo) && isfinite(hi);
}

/* What turns a value into its bin. */
struct scaler {
    __m512 first, inv_width, last;
};

static inline __m512i bins_of(const struct scaler *s, __m512 x)
{
    __m512 f = _mm512_sub_ps(_mm512_floor_ps(_mm512_mul_ps(x, s->inv_width)), s->first);
    f = _mm512_min_ps(_mm512_max_ps(f, _mm512_setzero_ps()), s->last);
    return _mm512_cvttps_epi32(f);
}

/* Values a round: their bins stay in the first cache between the two loops. */
enum { ROUND = 512 };

/* After a ReLU every second value is 0: those are counted by a population count, for a counter that
 * is incremented each time waits for its own store. The others' bins are put one behind the other
 * first, so that counting them has no branch to guess. Returns how many were 0. */
static uint32_t count_round(const struct scaler *s, const float *x, size_t n, uint32_t *counts)
{
    uint32_t bins[ROUND + LANES];
    size_t kept = 0;
    for (size_t i = 0; i < n; i += LANES) {
        __mmask16 lanes = (__mmask16)(n - i >= LANES ? 0xffffU : (1U << (n - i)) - 1);
        __m512 v = _mm512_maskz_loadu_ps(lanes, x + i);
        __mmask16 others = _mm512_mask_cmp_ps_mask(lanes, v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        _mm512_storeu_si512(bins + kept, _mm512_maskz_compress_epi32(others, bins_of(s, v)));
        kept += (unsigned)__builtin_popcount(others);
    }
    for (size_t i = 0; i < kept; i++) {
        counts[bins[i]]++;
    }
    return (uint32_t)(n - kept);
}

void qc_histogram_f32__avx512(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                              uint32_t *counts)
{
    const struct scaler s = {_mm512_set1_ps((float)first), _mm512_set1_ps(inv_width),
                             _mm512_set1_ps((float)(n_bins - 1))};
    uint32_t zeros = 0;
    for (size_t i = 0; i < n; i += ROUND) {
        zeros += count_round(&s, x + i, n - i < ROUND ? n - i : ROUND, counts);
    }
    counts[_mm512_cvtsi512_si32(bins_of(&s, _mm512_setzero_ps()))] += zeros;
}
