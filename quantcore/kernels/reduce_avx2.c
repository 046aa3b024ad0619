/* Range and histogram, AVX2. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

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

static inline __m256i bins_of(const struct scaler *s, __m256 x)
{
    __m256 f = _mm256_sub_ps(_mm256_floor_ps(_mm256_mul_ps(x, s->inv_width)), s->first);
    f = _mm256_min_ps(_mm256_max_ps(f, _mm256_setzero_ps()), s->last);
    return _mm256_cvttps_epi32(f);
}

/* Values a round: their bins stay in the first cache between the two loops. */
enum { ROUND = 512 };

/* For each mask of eight lanes those that it names, in order, a byte each; what follows them is of
 * no use. */
#define HAS(m, l)       ((m) >> (l)&1)
#define BEFORE(m, l)    __builtin_popcount((m) & ((1 << (l)) - 1))
#define AT(m, l)        ((uint64_t)(HAS(m, l) * (l)) << (8 * BEFORE(m, l)))
#define LANES_OF(m)     (AT(m, 1) | AT(m, 2) | AT(m, 3) | AT(m, 4) | AT(m, 5) | AT(m, 6) | AT(m, 7))
#define FOUR_MASKS(m)   LANES_OF(m), LANES_OF((m) + 1), LANES_OF((m) + 2), LANES_OF((m) + 3)
#define MASKS_16(m)     FOUR_MASKS(m), FOUR_MASKS((m) + 4), FOUR_MASKS((m) + 8), FOUR_MASKS((m) + 12)
#define MASKS_64(m)     MASKS_16(m), MASKS_16((m) + 16), MASKS_16((m) + 32), MASKS_16((m) + 48)
static const uint64_t kept_lanes[256] = {MASKS_64(0), MASKS_64(64), MASKS_64(128), MASKS_64(192)};

static inline size_t keep(uint32_t *to, __m256i bins, unsigned lanes)
{
    __m128i order = _mm_loadl_epi64((const __m128i *)(const void *)&kept_lanes[lanes]);
    bins = _mm256_permutevar8x32_epi32(bins, _mm256_cvtepu8_epi32(order));
    _mm256_storeu_si256((__m256i *)(void *)to, bins);
    return (unsigned)__builtin_popcount(lanes);
}

/* Two bins a load: a fifth faster. */
static inline void count_bins(const uint32_t *bins, size_t n, uint32_t *counts)
{
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        uint64_t pair[2];
        memcpy(pair, bins + i, sizeof(pair));
        counts[(uint32_t)pair[0]]++;
        counts[pair[0] >> 32]++;
        counts[(uint32_t)pair[1]]++;
        counts[pair[1] >> 32]++;
    }
    for (; i < n; i++) {
        counts[bins[i]]++;
    }
}

/* After a ReLU every second value is 0: those are counted by a population count, for a counter that
 * is incremented each time waits for its own store. The others' bins are put one behind the other
 * first, so that counting them has no branch to guess. n is a multiple of LANES; returns how many
 * were 0. */
static uint32_t count_round(const struct scaler *s, const float *x, size_t n, uint32_t *counts)
{
    uint32_t bins[ROUND + LANES];
    size_t kept = 0;
    for (size_t i = 0; i < n; i += LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        unsigned others = (unsigned)_mm256_movemask_ps(
            _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        kept += keep(bins + kept, bins_of(s, v), others);
    }
    count_bins(bins, kept, counts);
    return (uint32_t)(n - kept);
}

void qc_histogram_f32__avx2(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                            uint32_t *counts)
{
    const struct scaler s = {_mm256_set1_ps((float)first), _mm256_set1_ps(inv_width),
                             _mm256_set1_ps((float)(n_bins - 1))};
    size_t whole = n - n % LANES;
    uint32_t zeros = 0;
    for (size_t i = 0; i < whole; i += ROUND) {
        zeros += count_round(&s, x + i, whole - i < ROUND ? whole - i : ROUND, counts);
    }
    counts[_mm_cvtsi128_si32(_mm256_castsi256_si128(bins_of(&s, _mm256_setzero_ps())))] += zeros;
    qc_histogram_f32__ref(x + whole, n - whole, first, inv_width, n_bins, counts);
}
