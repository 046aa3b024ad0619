/* Sums of a window's inputs, NEON: UDOT with ones adds four bytes into 32 bits, which wrap. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"

void qc_sum_taps_u8__neon(const uint8_t *const *row, int n_rows, const int32_t *tap, int n_taps,
                          int channels, int32_t *ret_sums)
{
    const uint8x16_t ones = vdupq_n_u8(1);
    for (int r = 0; r < n_rows; r++) {
        uint32x4_t sums = vdupq_n_u32(0);
        uint32_t rest = 0;
        for (int t = 0; t < n_taps; t++) {
            const uint8_t *x = row[r] + tap[t];
            int c = 0;
            for (; c + 16 <= channels; c += 16) {
                sums = vdotq_u32(sums, vld1q_u8(x + c), ones);
            }
            for (; c < channels; c++) {
                rest += x[c];
            }
        }
        ret_sums[r] = (int32_t)(rest + vaddvq_u32(sums));
    }
}
