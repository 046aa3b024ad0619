/* Range and histogram, AVX-512. */
#include <immintrin.h>
#include <math.h>

#include "quantcore/kernels/kernels_bins.h"
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

/* Sixteen bins of 16 bits: n_bins <= 65536. */
static inline __m256i bins_of(const struct scaler *s, const float *x)
{
    __m512 f = _mm512_mul_ps(_mm512_loadu_ps(x), s->inv_width);
    f = _mm512_sub_ps(_mm512_floor_ps(f), s->first);
    f = _mm512_min_ps(_mm512_max_ps(f, _mm512_setzero_ps()), s->last);
    return _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(f));
}

static void count_in_tables(const struct scaler *s, const float *x, size_t n, int n_bins,
                            uint64_t *counts)
{
    struct bins b;
    bins_clear(&b, n_bins);
    for (size_t i = 0; i < n; i += LANES) {
        __m256i bins = bins_of(s, x + i);
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 0));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 1));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 2));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 3));
    }
    bins_merge(&b, n_bins, counts);
}

void qc_histogram_f32__avx512(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                              uint64_t *counts)
{
    const struct scaler s = {_mm512_set1_ps((float)first), _mm512_set1_ps(inv_width),
                             _mm512_set1_ps((float)(n_bins - 1))};
    size_t i = 0, whole = n - n % LANES;
    while (bins_useful(whole - i, n_bins)) {
        size_t round = whole - i < BINS_ROUND ? whole - i : BINS_ROUND;
        count_in_tables(&s, x + i, round, n_bins, counts);
        i += round;
    }
    for (; i < whole; i += LANES) {
        __m256i bins = bins_of(&s, x + i);
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 0));
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 1));
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 2));
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 3));
    }
    qc_histogram_f32__ref(x + i, n - i, first, inv_width, n_bins, counts);
}
