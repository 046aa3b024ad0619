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

/* Puts the lanes that a mask names one behind the other; what follows them is of no use. */
#define LANE(l) 4 * (l), 4 * (l) + 1, 4 * (l) + 2, 4 * (l) + 3
#define FOUR(a, b, c, d) {LANE(a), LANE(b), LANE(c), LANE(d)}
static const uint8_t kept_lanes[16][16] = {
    FOUR(0, 0, 0, 0), FOUR(0, 0, 0, 0), FOUR(1, 0, 0, 0), FOUR(0, 1, 0, 0),
    FOUR(2, 0, 0, 0), FOUR(0, 2, 0, 0), FOUR(1, 2, 0, 0), FOUR(0, 1, 2, 0),
    FOUR(3, 0, 0, 0), FOUR(0, 3, 0, 0), FOUR(1, 3, 0, 0), FOUR(0, 1, 3, 0),
    FOUR(2, 3, 0, 0), FOUR(0, 2, 3, 0), FOUR(1, 2, 3, 0), FOUR(0, 1, 2, 3)};

static inline size_t keep4(uint32_t *to, __m128i bins, unsigned lanes)
{
    const __m128i order = _mm_loadu_si128((const __m128i *)(const void *)kept_lanes[lanes]);
    _mm_storeu_si128((__m128i *)(void *)to, _mm_shuffle_epi8(bins, order));
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
        __m256i all = bins_of(s, v);
        unsigned others = (unsigned)_mm256_movemask_ps(
            _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
        kept += keep4(bins + kept, _mm256_castsi256_si128(all), others & 15);
        kept += keep4(bins + kept, _mm256_extracti128_si256(all, 1), others >> 4);
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
