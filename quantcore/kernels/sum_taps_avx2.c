/* Sums of a window's inputs, AVX2: vpsadbw against zero adds eight bytes into 64 bits. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"

static inline __m128i load16(const uint8_t *x)
{
    return _mm_loadu_si128((const __m128i *)(const void *)x);
}

void qc_sum_taps_u8__avx2(const uint8_t *const *row, int n_rows, const int32_t *tap, int n_taps,
                          int channels, int32_t *ret_sums)
{
    const __m256i zero = _mm256_setzero_si256();
    for (int r = 0; r < n_rows; r++) {
        __m256i wide = zero;
        __m128i sums = _mm_setzero_si128();
        uint32_t rest = 0;
        for (int t = 0; t < n_taps; t++) {
            const uint8_t *x = row[r] + tap[t];
            int c = 0;
            for (; c + 32 <= channels; c += 32) {
                __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(x + c));
                wide = _mm256_add_epi64(wide, _mm256_sad_epu8(bytes, zero));
            }
            if (c + 16 <= channels) {
                sums = _mm_add_epi64(sums, _mm_sad_epu8(load16(x + c), _mm_setzero_si128()));
                c += 16;
            }
            for (; c < channels; c++) {
                rest += x[c];
            }
        }
        sums = _mm_add_epi64(sums, _mm256_castsi256_si128(wide));
        sums = _mm_add_epi64(sums, _mm256_extracti128_si256(wide, 1));
        sums = _mm_add_epi64(sums, _mm_unpackhi_epi64(sums, sums));
        ret_sums[r] = (int32_t)(rest + (uint32_t)_mm_cvtsi128_si32(sums));
    }
}
