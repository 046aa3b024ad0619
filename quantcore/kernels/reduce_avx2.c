/* Range and histogram, AVX2. */
#include <immintrin.h>
#include <math.h>

#include "quantcore/kernels/kernels_bins.h"
#include "quantcore/kernels/kernels_decl.h"

enum { LANES = 8 };

void qc_minmax_f32__avx2(const float *x, size_t n, float *ret_min, float *ret_max,
                         bool *ret_finite)
{
    /* Two chains hide the latency. The new value is the first operand: NaN leaves the result. */
    __m256 lo0 = _mm256_set1_ps(INFINITY), hi0 = _mm256_set1_ps(-INFINITY);
    __m256 lo1 = lo0, hi1 = hi0, nan = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        __m256 v0 = _mm256_loadu_ps(x + i), v1 = _mm256_loadu_ps(x + i + LANES);
        lo0 = _mm256_min_ps(v0, lo0);
        hi0 = _mm256_max_ps(v0, hi0);
        lo1 = _mm256_min_ps(v1, lo1);
        hi1 = _mm256_max_ps(v1, hi1);
        /* unordered if either is NaN */
        nan = _mm256_or_ps(nan, _mm256_cmp_ps(v0, v1, _CMP_UNORD_Q));
    }
    float lows[LANES], highs[LANES];
    _mm256_storeu_ps(lows, _mm256_min_ps(lo0, lo1));
    _mm256_storeu_ps(highs, _mm256_max_ps(hi0, hi1));
    float lo = INFINITY, hi = -INFINITY;
    bool finite = _mm256_movemask_ps(nan) == 0;
    for (int l = 0; l < LANES; l++) {
        lo = lows[l] < lo ? lows[l] : lo;
        hi = highs[l] > hi ? highs[l] : hi;
    }
    for (; i < n; i++) {
        finite = finite && x[i] == x[i];
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    /* + 0.0f: which of -0 and 0 came first must not show */
    *ret_min = lo + 0.0f;
    *ret_max = hi + 0.0f;
    *ret_finite = finite && isfinite(lo) && isfinite(hi);
}

/* What turns a value into its bin. */
struct scaler {
    __m256 first, inv_width, last;
};

/* Eight bins of 16 bits: n_bins <= 65536. */
static inline __m128i bins_of(const struct scaler *s, __m256 x)
{
    __m256 f = _mm256_sub_ps(_mm256_floor_ps(_mm256_mul_ps(x, s->inv_width)), s->first);
    f = _mm256_min_ps(_mm256_max_ps(f, _mm256_setzero_ps()), s->last);
    __m256i bin = _mm256_cvttps_epi32(f);
    return _mm_packus_epi32(_mm256_castsi256_si128(bin), _mm256_extracti128_si256(bin, 1));
}

static void count_in_tables(const struct scaler *s, const float *x, size_t n, int n_bins,
                            uint32_t *counts)
{
    struct bins b;
    bins_clear(&b, n_bins);
    for (size_t i = 0; i < n; i += LANES) {
        __m128i bins = bins_of(s, _mm256_loadu_ps(x + i));
        bins_add4(&b, (uint64_t)_mm_extract_epi64(bins, 0));
        bins_add4(&b, (uint64_t)_mm_extract_epi64(bins, 1));
    }
    bins_merge(&b, n_bins, counts);
}

/* Vectors of zeros are common after a ReLU and need no store each. */
static inline void count_direct(const struct scaler *s, uint32_t *n_zeros, __m256 v,
                                uint32_t *counts)
{
    if (_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ)) == 0) {
        *n_zeros += LANES;
        return;
    }
    __m128i bins = bins_of(s, v);
    counts_add4(counts, (uint64_t)_mm_extract_epi64(bins, 0));
    counts_add4(counts, (uint64_t)_mm_extract_epi64(bins, 1));
}

void qc_histogram_f32__avx2(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                            uint32_t *counts)
{
    const struct scaler s = {_mm256_set1_ps((float)first), _mm256_set1_ps(inv_width),
                             _mm256_set1_ps((float)(n_bins - 1))};
    size_t i = 0, whole = n - n % LANES;
    uint32_t n_zeros = 0;
    while (bins_useful(whole - i, n_bins)) {
        size_t round = whole - i < BINS_ROUND ? whole - i : BINS_ROUND;
        count_in_tables(&s, x + i, round, n_bins, counts);
        i += round;
    }
    for (; i < whole; i += LANES) {
        count_direct(&s, &n_zeros, _mm256_loadu_ps(x + i), counts);
    }
    counts[_mm_extract_epi16(bins_of(&s, _mm256_setzero_ps()), 0)] += n_zeros;
    qc_histogram_f32__ref(x + i, n - i, first, inv_width, n_bins, counts);
}
