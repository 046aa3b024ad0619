/* Depthwise convolution in plain C: one multiply-add per tap and channel. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

#include <math.h>

#include "quantcore/affine/requant.h"

static void one_row_f32(const struct qc_depthwise_f32 *d)
{
    for (int i = 0; i < d->n_pixels; i++) {
        const float *in = d->in + i * d->in_step;
        float *out = d->out + i * d->out_step;
        for (int c = 0; c < d->channels; c++) {
            float acc = d->bias[c];
            for (int t = 0; t < d->n_taps; t++) {
                size_t w = (size_t)t * (size_t)d->channels_padded + (size_t)c;
                acc = fmaf(in[d->tap[t] + c], d->weights[w], acc);
            }
            out[c] = qc_clamp(acc, d->lo, d->hi);
        }
    }
}

void qc_depthwise_f32__ref(const struct qc_depthwise_f32 *d)
{
    each_row_f32(d, one_row_f32);
}

static void one_row_s8(const struct qc_depthwise_s8 *d)
{
    for (int i = 0; i < d->n_pixels; i++) {
        const uint8_t *in = d->in + i * d->in_step;
        for (int c = 0; c < d->channels; c++) {
            uint32_t acc = (uint32_t)d->bias[c];
            for (int t = 0; t < d->n_taps; t++) {
                size_t w = (size_t)t * (size_t)d->channels_padded + (size_t)c;
                acc += (uint32_t)(in[d->tap[t] + c] * d->weights[w]);
            }
            int64_t o = i * d->out_step + c;
            if (d->out_u8 != NULL) {
                d->out_u8[o] = (uint8_t)qc_requantize((int32_t)acc, d->multiplier[c],
                                                      d->y_zero_point, d->y_min, d->y_max);
            } else {
                d->out_f32[o] = qc_clamp((float)(int32_t)acc * d->multiplier[c], d->lo, d->hi);
            }
        }
    }
}

void qc_depthwise_s8__ref(const struct qc_depthwise_s8 *d)
{
    each_row_s8(d, one_row_s8);
}
