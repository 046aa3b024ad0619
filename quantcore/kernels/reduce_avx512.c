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

static inline __m512i bins_of(const struct scaler *s, __m512 x)
{
    __m512 f = _mm512_sub_ps(_mm512_floor_ps(_mm512_mul_ps(x, s->inv_width)), s->first);
    f = _mm512_min_ps(_mm512_max_ps(f, _mm512_setzero_ps()), s->last);
    return _mm512_cvttps_epi32(f);
}

/* n_bins <= 65536 */
static inline __m256i in_16_bits(__m512i bins)
{
    return _mm512_cvtepi32_epi16(bins);
}

static void count_in_tables(const struct scaler *s, const float *x, size_t n, int n_bins,
                            uint64_t *counts)
{
    struct bins b;
    bins_clear(&b, n_bins);
    for (size_t i = 0; i < n; i += LANES) {
        __m256i bins = in_16_bits(bins_of(s, _mm512_loadu_ps(x + i)));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 0));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 1));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 2));
        bins_add4(&b, (uint64_t)_mm256_extract_epi64(bins, 3));
    }
    bins_merge(&b, n_bins, counts);
}

/* After a ReLU every second value is 0: those are counted by a population count, for a counter
 * that is incremented each time waits for its own store. */
struct zeros {
    __m512i bin; /* where 0 goes, in all lanes */
    uint64_t n;  /* modulo 2^64 */
};

static inline void count_direct(const struct scaler *s, struct zeros *z, __mmask16 lanes,
                                const float *x, uint64_t *counts)
{
    __m512 v = _mm512_maskz_loadu_ps(lanes, x);
    __mmask16 others = _mm512_mask_cmp_ps_mask(lanes, v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    unsigned n = (unsigned)__builtin_popcount(others);
    z->n += (unsigned)__builtin_popcount(lanes) - n;
    if (n == 0) {
        return;
    }
    /* Others move to the front, in fours; what is left of a four counts as 0 and is taken back. */
    __m512i front = _mm512_mask_compress_epi32(z->bin, others, bins_of(s, v));
    __m256i bins = in_16_bits(front);
    z->n -= (0U - n) % 4;
    counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 0));
    if (n > 4) {
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 1));
    }
    if (n > 8) {
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 2));
    }
    if (n > 12) {
        counts_add4(counts, (uint64_t)_mm256_extract_epi64(bins, 3));
    }
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
    struct zeros z = {bins_of(&s, _mm512_setzero_ps()), 0};
    for (; i < whole; i += LANES) {
        count_direct(&s, &z, 0xffff, x + i, counts);
    }
    if (i < n) {
        count_direct(&s, &z, (__mmask16)((1U << (n - i)) - 1), x + i, counts);
    }
    counts[_mm512_cvtsi512_si32(z.bin)] += z.n;
}
