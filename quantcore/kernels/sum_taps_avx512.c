/* Sums of a window's inputs, AVX-512: vpsadbw against zero adds eight bytes into 64 bits; what is
 * beyond a multiple of 64 channels is masked. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"

void qc_sum_taps_u8__avx512(const uint8_t *const *row, int n_rows, const int32_t *tap, int n_taps,
                            int channels, int32_t *ret_sums)
{
    const __m512i zero = _mm512_setzero_si512();
    const int whole = channels / 64 * 64;
    const __mmask64 rest = ((__mmask64)1 << channels % 64) - 1;
    for (int r = 0; r < n_rows; r++) {
        __m512i sums = zero;
        for (int t = 0; t < n_taps; t++) {
            const uint8_t *x = row[r] + tap[t];
            for (int c = 0; c < whole; c += 64) {
                sums = _mm512_add_epi64(sums, _mm512_sad_epu8(_mm512_loadu_si512(x + c), zero));
            }
            __m512i bytes = _mm512_maskz_loadu_epi8(rest, x + whole);
            sums = _mm512_add_epi64(sums, _mm512_sad_epu8(bytes, zero));
        }
        ret_sums[r] = (int32_t)(uint32_t)_mm512_reduce_add_epi64(sums);
    }
}
