/* Range and histogram, NEON. */
#include <math.h>

#include "quantcore/kernels/kernels_bins.h"
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"

enum { LANES = 8 }; /* two registers */

void qc_minmax_f32__neon(const float *x, size_t n, float *ret_min, float *ret_max,
                         bool *ret_finite)
{
    float32x4_t lo0 = vdupq_n_f32(INFINITY), hi0 = vdupq_n_f32(-INFINITY);
    float32x4_t lo1 = lo0, hi1 = hi0;
    uint32x4_t numbers = vdupq_n_u32(UINT32_MAX);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        float32x4_t v0 = vld1q_f32(x + i), v1 = vld1q_f32(x + i + 4);
        lo0 = min4(v0, lo0);
        hi0 = max4(v0, hi0);
        lo1 = min4(v1, lo1);
        hi1 = max4(v1, hi1);
        numbers = vandq_u32(numbers, vandq_u32(vceqq_f32(v0, v0), vceqq_f32(v1, v1)));
    }
    float lo = vminvq_f32(min4(lo0, lo1)), hi = vmaxvq_f32(max4(hi0, hi1));
    bool finite = vminvq_u32(numbers) != 0;
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
    float32x4_t first, inv_width, last;
};

/* Four bins of 16 bits: n_bins <= 65536. */
static inline uint64_t bins_of(const struct scaler *s, float32x4_t x)
{
    float32x4_t f = vsubq_f32(vrndmq_f32(vmulq_f32(x, s->inv_width)), s->first);
    f = vminq_f32(vmaxq_f32(f, vdupq_n_f32(0.0f)), s->last);
    return vget_lane_u64(vreinterpret_u64_u16(vmovn_u32(vcvtq_u32_f32(f))), 0);
}

static void count_in_tables(const struct scaler *s, const float *x, size_t n, int n_bins,
                            uint32_t *counts)
{
    struct bins b;
    bins_clear(&b, n_bins);
    for (size_t i = 0; i < n; i += LANES) {
        bins_add4(&b, bins_of(s, vld1q_f32(x + i)));
        bins_add4(&b, bins_of(s, vld1q_f32(x + i + 4)));
    }
    bins_merge(&b, n_bins, counts);
}

void qc_histogram_f32__neon(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                            uint32_t *counts)
{
    const struct scaler s = {vdupq_n_f32((float)first), vdupq_n_f32(inv_width),
                             vdupq_n_f32((float)(n_bins - 1))};
    size_t i = 0, whole = n - n % LANES;
    uint32_t n_zeros = 0;
    while (bins_useful(whole - i, n_bins)) {
        size_t round = whole - i < BINS_ROUND ? whole - i : BINS_ROUND;
        count_in_tables(&s, x + i, round, n_bins, counts);
        i += round;
    }
    for (; i < whole; i += LANES) {
        float32x4_t v0 = vld1q_f32(x + i), v1 = vld1q_f32(x + i + 4);
        /* Vectors of zeros are common after a ReLU and need no store each. */
        if (vmaxvq_u32(vorrq_u32(not_zero4(v0), not_zero4(v1))) == 0) {
            n_zeros += LANES;
            continue;
        }
        counts_add4(counts, bins_of(&s, v0));
        counts_add4(counts, bins_of(&s, v1));
    }
    counts[bins_of(&s, vdupq_n_f32(0.0f)) & 0xffff] += n_zeros;
    qc_histogram_f32__ref(x + i, n - i, first, inv_width, n_bins, counts);
}
