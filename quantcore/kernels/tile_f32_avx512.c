/* f32 convolution tile, AVX-512: up to 12 pixels x 32 channels in 24 accumulators, or x 16 in 12 when
 * the panel has no more. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

/* n: channels left from this vector's first one on. */
static inline void store16(float *out, __m512 v, __m512 lo, __m512 hi, int n)
{
    /* the operand order lets NaN through, as qc_clamp does */
    v = _mm512_min_ps(hi, _mm512_max_ps(lo, v));
    if (n >= 16) {
        _mm512_storeu_ps(out, v);
    } else {
        _mm512_mask_storeu_ps(out, (__mmask16)((1U << n) - 1), v);
    }
}

#define POINT(r) const float *x##r = t->row[r];

/* The lines that the tile writes, for writing: they come while it multiplies. */
#define CLAIM(r)                         \
    __builtin_prefetch(t->out[r], 1);    \
    __builtin_prefetch(t->out[r] + 16, 1);
#define HALF_CLAIM(r) __builtin_prefetch(t->out[r], 1);

#define ACC(r) __m512 a##r = bias0, b##r = bias1;
#define STEP(r)                                   \
    {                                             \
        const __m512 x = _mm512_set1_ps(x##r[c]);                  \
        a##r = _mm512_fmadd_ps(x, w0, a##r);                       \
        b##r = _mm512_fmadd_ps(x, w1, b##r);                       \
    }
#define STORE(r)                                  \
    store16(t->out[r], a##r, lo, hi, 16);         \
    store16(t->out[r] + 16, b##r, lo, hi, n_out - 16);

#define HALF_ACC(r)   __m512 a##r = bias0;
#define HALF_STEP(r)  a##r = _mm512_fmadd_ps(_mm512_set1_ps(x##r[c]), w0, a##r);
#define HALF_STORE(r) store16(t->out[r], a##r, lo, hi, n_out);

#define TILE(n, KEEP)                                       \
    static void tile_##n(const struct qc_tile_f32 *t)       \
    {                                                       \
        const __m512 bias0 = _mm512_loadu_ps(t->bias);             \
        const __m512 bias1 = _mm512_loadu_ps(t->bias + 16);        \
        const ptrdiff_t channels = t->channels;                    \
        const float *w = t->weights;                               \
        ROWS_##n(ACC)                                              \
        if (t->far) {                                              \
            ROWS_##n(CLAIM)                                        \
        }                                                          \
        ROWS_##n(POINT)                                            \
        for (int tap = 0; tap < t->n_taps; tap++) {                \
            const ptrdiff_t end = t->tap[tap] + channels;          \
            for (ptrdiff_t c = t->tap[tap]; c < end; c++) {        \
                const __m512 w0 = _mm512_loadu_ps(w);              \
                const __m512 w1 = _mm512_loadu_ps(w + 16);         \
                w += QC_NR;                                        \
                ROWS_##n(STEP)                                     \
                KEEP()                                             \
            }                                                      \
            w += t->gap[tap];                                      \
        }                                                          \
        const __m512 lo = _mm512_set1_ps(t->lo);                   \
        const __m512 hi = _mm512_set1_ps(t->hi);                   \
        const int n_out = t->n_out;                                \
        ROWS_##n(STORE)                                            \
    }                                                       \
    static void half_##n(const struct qc_tile_f32 *t)       \
    {                                                       \
        const __m512 bias0 = _mm512_loadu_ps(t->bias);             \
        const ptrdiff_t channels = t->channels;                    \
        const float *w = t->weights;                               \
        ROWS_##n(HALF_ACC)                                         \
        if (t->far) {                                              \
            ROWS_##n(HALF_CLAIM)                                   \
        }                                                          \
        ROWS_##n(POINT)                                            \
        for (int tap = 0; tap < t->n_taps; tap++) {                \
            const ptrdiff_t end = t->tap[tap] + channels;          \
            for (ptrdiff_t c = t->tap[tap]; c < end; c++) {        \
                const __m512 w0 = _mm512_loadu_ps(w);              \
                w += QC_NR;                                        \
                ROWS_##n(HALF_STEP)                                \
                KEEP()                                             \
            }                                                      \
            w += t->gap[tap];                                      \
        }                                                          \
        const __m512 lo = _mm512_set1_ps(t->lo);                   \
        const __m512 hi = _mm512_set1_ps(t->hi);                   \
        const int n_out = t->n_out;                                \
        ROWS_##n(HALF_STORE)                                       \
    }

TILE(1, KEEP_NOTHING)
TILE(2, KEEP_NOTHING)
TILE(3, KEEP_NOTHING)
TILE(4, KEEP_NOTHING)
TILE(5, KEEP_NOTHING)
TILE(6, KEEP_NOTHING)
TILE(7, KEEP_NOTHING)
TILE(8, KEEP_NOTHING)
TILE(9, KEEP_NOTHING)
TILE(10, KEEP_NOTHING)
TILE(11, KEEP_NOTHING)
TILE(12, KEEP_POINTERS)

void qc_tile_f32__avx512(const struct qc_tile_f32 *t)
{
    static qc_tile_f32_fn *const by_rows[2][QC_MAX_ROWS] = {
        {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8, tile_9, tile_10, tile_11,
         tile_12},
        {half_1, half_2, half_3, half_4, half_5, half_6, half_7, half_8, half_9, half_10, half_11,
         half_12}};
    by_rows[t->n_out <= 16][t->n_rows - 1](t);
}
