/* What the transforms of F(2 x 2, 3 x 3) are, sum by sum. */
#include "quantcore/affine/requant.h"
#include "quantcore/kernels/kernels_decl.h"

static void in_4(const float d[4], float ret[4])
{
    ret[0] = d[0] - d[2];
    ret[1] = d[1] + d[2];
    ret[2] = d[2] - d[1];
    ret[3] = d[1] - d[3];
}

static void out_4(const float m[4], float ret[2])
{
    ret[0] = m[0] + m[1] + m[2];
    ret[1] = m[1] - m[2] - m[3];
}

void qc_winograd_in_f32__ref(const float *const *in, int channels, float *out, size_t plane)
{
    for (int c = 0; c < channels; c++) {
        float rows[4][4], v[4];
        for (int i = 0; i < 4; i++) {
            const float d[4] = {in[4 * i][c], in[4 * i + 1][c], in[4 * i + 2][c],
                                in[4 * i + 3][c]};
            in_4(d, rows[i]);
        }
        for (int j = 0; j < 4; j++) {
            const float column[4] = {rows[0][j], rows[1][j], rows[2][j], rows[3][j]};
            in_4(column, v);
            for (int i = 0; i < 4; i++) {
                out[(size_t)(4 * i + j) * plane + (size_t)c] = v[i];
            }
        }
    }
}

void qc_winograd_out_f32__ref(const float *in, size_t plane, const float *bias, int channels,
                              float lo, float hi, float *const *out)
{
    for (int c = 0; c < channels; c++) {
        float rows[4][2], y[2];
        for (int i = 0; i < 4; i++) {
            const float *m = in + (size_t)(4 * i) * plane + c;
            const float products[4] = {m[0], m[plane], m[2 * plane], m[3 * plane]};
            out_4(products, rows[i]);
        }
        for (int j = 0; j < 2; j++) {
            const float column[4] = {rows[0][j], rows[1][j], rows[2][j], rows[3][j]};
            out_4(column, y);
            out[j][c] = qc_clamp(y[0] + bias[c], lo, hi);
            out[2 + j][c] = qc_clamp(y[1] + bias[c], lo, hi);
        }
    }
}
