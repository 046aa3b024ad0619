/* Convolution tiles in plain C: what every other instruction set must reproduce. */
#include "quantcore/kernels/kernels_decl.h"

#include <math.h>
#include <string.h>

#include "quantcore/affine/requant.h"

void qc_tile_f32__ref(const struct qc_tile_f32 *t)
{
    for (int r = 0; r < t->n_rows; r++) {
        float acc[QC_NR];
        const float *w = t->weights;
        memcpy(acc, t->bias, (size_t)t->panel * sizeof(*acc));
        for (int tap = 0; tap < t->n_taps; tap++) {
            const float *x = t->row[r] + t->tap[tap];
            for (int c = 0; c < t->channels; c++, w += t->panel) {
                for (int o = 0; o < t->panel; o++) {
                    acc[o] = fmaf(x[c], w[o], acc[o]);
                }
            }
            w += t->gap[tap];
        }
        for (int o = 0; o < t->n_out; o++) {
            t->out[r][t->first + o] = qc_clamp(acc[o], t->lo, t->hi);
        }
    }
}

static void store_s8_row(const struct qc_tile_s8 *t, int r, const uint32_t *acc)
{
    for (int o = 0; o < t->n_out; o++) {
        int32_t a = (int32_t)acc[o];
        if (t->out_u8 != NULL) {
            t->out_u8[r][o] = (uint8_t)qc_requantize(a, t->multiplier[o], t->y_zero_point,
                                                     t->y_min, t->y_max);
        } else {
            t->out_f32[r][o] = qc_clamp((float)a * t->multiplier[o], t->lo, t->hi);
        }
    }
}

void qc_tile_s8__ref(const struct qc_tile_s8 *t)
{
    for (int r = 0; r < t->n_rows; r++) {
        uint32_t acc[QC_NR]; /* unsigned: the sum wraps by definition */
        const int8_t *w = t->weights;
        for (int o = 0; o < QC_NR; o++) {
            acc[o] = (uint32_t)t->bias[o];
            if (t->row_sum != NULL) {
                acc[o] -= (uint32_t)t->w_zero_point[o] * (uint32_t)t->row_sum[r];
            }
        }
        for (int tap = 0; tap < t->n_taps; tap++) {
            const uint8_t *x = t->row[r] + t->tap[tap];
            for (int c = 0; c < t->channels; c += 4, w += 4 * QC_NR) {
                for (int o = 0; o < QC_NR; o++) {
                    for (int k = 0; k < 4; k++) {
                        acc[o] += (uint32_t)(x[c + k] * w[4 * o + k]);
                    }
                }
            }
        }
        store_s8_row(t, r, acc);
    }
}
