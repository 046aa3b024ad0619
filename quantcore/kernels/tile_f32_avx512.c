/* f32 convolution tile, AVX-512: up to 12 pixels x 32 channels in 24 accumulators. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

static inline void store_row(const struct qc_tile_f32 *t, int r, __m512 v0, __m512 v1)
{
    __m512 lo = _mm512_set1_ps(t->lo), hi = _mm512_set1_ps(t->hi);
    float *out = t->out[r];
    /* the operand order lets NaN through, as qc_clamp does */
    v0 = _mm512_min_ps(hi, _mm512_max_ps(lo, v0));
    v1 = _mm512_min_ps(hi, _mm512_max_ps(lo, v1));
    if (t->n_out == QC_NR) {
        _mm512_storeu_ps(out, v0);
        _mm512_storeu_ps(out + 16, v1);
    } else {
        uint32_t lanes = (1U << t->n_out) - 1;
        _mm512_mask_storeu_ps(out, (__mmask16)(lanes & 0xffff), v0);
        if (t->n_out > 16) {
            _mm512_mask_storeu_ps(out + 16, (__mmask16)(lanes >> 16), v1);
        }
    }
}

#define ACC(r) __m512 a##r = bias0, b##r = bias1;
#define POINT(r) const float *x##r = t->row[r] + t->tap[tap];
#define STEP(r)                                   \
    {                                             \
        const __m512 x = _mm512_set1_ps(x##r[c]); \
        a##r = _mm512_fmadd_ps(x, w0, a##r);      \
        b##r = _mm512_fmadd_ps(x, w1, b##r);      \
    }
#define STORE(r) store_row(t, r, a##r, b##r);

#define TILE(n)                                             \
    static void tile_##n(const struct qc_tile_f32 *t)       \
    {                                                       \
        const __m512 bias0 = _mm512_loadu_ps(t->bias);      \
        const __m512 bias1 = _mm512_loadu_ps(t->bias + 16); \
        const float *w = t->weights;                        \
        const ptrdiff_t channels = t->channels;             \
        ROWS_##n(ACC)                                       \
        for (int tap = 0; tap < t->n_taps; tap++) {         \
            ROWS_##n(POINT)                                 \
            for (ptrdiff_t c = 0; c < channels; c++) {      \
                const __m512 w0 = _mm512_loadu_ps(w);       \
                const __m512 w1 = _mm512_loadu_ps(w + 16);  \
                w += QC_NR;                                 \
                ROWS_##n(STEP)                              \
            }                                               \
        }                                                   \
        ROWS_##n(STORE)                                     \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)

void qc_tile_f32__avx512(const struct qc_tile_f32 *t)
{
    static qc_tile_f32_fn *const by_rows[QC_MAX_ROWS] = {
        tile_1, tile_2, tile_3, tile_4,  tile_5,  tile_6,
        tile_7, tile_8, tile_9, tile_10, tile_11, tile_12,
    };
    by_rows[t->n_rows - 1](t);
}
