#include "quantcore/kernels/qc_kernels.h"

#include <string.h>

size_t qc_packed_panel_f32(int n_taps, int channels, int panel)
{
    return (size_t)n_taps * (size_t)channels * (size_t)panel;
}

size_t qc_packed_panel_s8(int n_taps, int channels)
{
    return (size_t)n_taps * (((size_t)channels + 3) & ~(size_t)3) * QC_NR;
}

void qc_pack_f32(const float *w, int n_out, int channels, int n_taps, int panel, float *out)
{
    size_t size = qc_packed_panel_f32(n_taps, channels, panel), width = (size_t)panel;
    size_t taps = (size_t)n_taps, depth = (size_t)channels;
    memset(out, 0, ((size_t)n_out + width - 1) / width * size * sizeof(*out));
    for (size_t o = 0; o < (size_t)n_out; o++) {
        float *p = out + o / width * size + o % width;
        for (size_t c = 0; c < depth; c++) {
            for (size_t t = 0; t < taps; t++) {
                p[(t * depth + c) * width] = w[(o * depth + c) * taps + t];
            }
        }
    }
}

void qc_pack_s8(const int8_t *w, int n_out, int channels, int n_taps, int together, int8_t *out)
{
    size_t panel = qc_packed_panel_s8(n_taps, channels);
    size_t taps = (size_t)n_taps, depth = (size_t)channels, group = (size_t)together;
    size_t padded = (depth + group - 1) / group * group;
    memset(out, 0, ((size_t)n_out + QC_NR - 1) / QC_NR * panel);
    for (size_t o = 0; o < (size_t)n_out; o++) {
        int8_t *p = out + o / QC_NR * panel + o % QC_NR * group;
        for (size_t c = 0; c < depth; c++) {
            size_t first = c / group * group;
            for (size_t t = 0; t < taps; t++) {
                p[(t * padded + first) * QC_NR + c % group] = w[(o * depth + c) * taps + t];
            }
        }
    }
}

int qc_quads(int n_taps)
{
    return (n_taps + 3) / 4;
}

void qc_quads_order(int n_taps, bool columns, int32_t *ret_order)
{
    for (int i = 0; i < 4 * qc_quads(n_taps); i++) {
        int tap = columns ? i / 4 + i % 4 * 3 : i;
        ret_order[i] = tap < n_taps ? tap : -1;
    }
}

bool qc_pack_quads(const int16_t *w, const int32_t *order, int n_quads, int channels_padded,
                   int8_t *out)
{
    size_t padded = (size_t)channels_padded;
    memset(out, 0, 4 * (size_t)n_quads * padded);
    for (size_t i = 0; i < 4 * (size_t)n_quads; i++) {
        for (size_t c = 0; order[i] >= 0 && c < padded; c++) {
            int16_t one = w[(size_t)order[i] * padded + c];
            if (one < INT8_MIN || one > INT8_MAX) {
                return false;
            }
            size_t quad = c % 16 / 4, lane = c % 64 / 16 * 4 + c % 4;
            out[i / 4 * 4 * padded + c / 64 * 256 + quad * 64 + lane * 4 + i % 4] = (int8_t)one;
        }
    }
    return true;
}
