/* Sums of a window's inputs in plain C. */
#include "quantcore/kernels/kernels_decl.h"

void qc_sum_taps_u8__ref(const uint8_t *const *row, int n_rows, const int32_t *tap, int n_taps,
                         int channels, int32_t *ret_sums)
{
    for (int r = 0; r < n_rows; r++) {
        uint32_t sum = 0;
        for (int t = 0; t < n_taps; t++) {
            const uint8_t *x = row[r] + tap[t];
            for (int c = 0; c < channels; c++) {
                sum += x[c];
            }
        }
        ret_sums[r] = (int32_t)sum;
    }
}
