/* f32 convolution tile, AVX-512: up to 12 pixels x 32 channels in 24 accumulators, or x 16 in 12
 * when the panel has no more. With up to 24 the second half is a ymm register, which CPUs whose
 * units are 256 bits wide multiply in half the time. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

/* n: channels left from this vector's first one on. */
TILE_INLINE void store16(float *out, __m512 v, __m512 lo, __m512 hi, int n)
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

/* By width: the second half of the bias and of the weights; a row's accumulators, step and store.
 * CLAIM: the lines that it writes, for writing; they come while it multiplies. */
#define BIAS_32 const __m512 bias1 = _mm512_loadu_ps(t->bias + 16);
#define WEIGHTS_32 const __m512 w1 = _mm512_loadu_ps(w + 16);
#define ACC_32(r) __m512 a##r = bias0, b##r = bias1;
#define CLAIM_32(r)                      \
    __builtin_prefetch(t->out[r] + first, 1);    \
    __builtin_prefetch(t->out[r] + first + 16, 1);
#define STEP_32(r)                                \
    {                                             \
        const __m512 x = _mm512_set1_ps(x##r[c]); \
        a##r = _mm512_fmadd_ps(x, w0, a##r);      \
        b##r = _mm512_fmadd_ps(x, w1, b##r);      \
    }
#define STORE_32(r)                       \
    store16(t->out[r] + first, a##r, lo, hi, 16); \
    store16(t->out[r] + first + 16, b##r, lo, hi, n_out - 16);

#define BIAS_24 const __m256 bias1 = _mm256_loadu_ps(t->bias + 16);
#define WEIGHTS_24 const __m256 w1 = _mm256_loadu_ps(w + 16);
#define ACC_24(r)   \
    __m512 a##r = bias0; \
    __m256 b##r = bias1;
#define CLAIM_24 CLAIM_32
#define STEP_24(r)                                                   \
    {                                                                \
        const __m512 x = _mm512_set1_ps(x##r[c]);                    \
        a##r = _mm512_fmadd_ps(x, w0, a##r);                         \
        b##r = _mm256_fmadd_ps(_mm512_castps512_ps256(x), w1, b##r); \
    }
#define STORE_24(r)                       \
    store16(t->out[r] + first, a##r, lo, hi, 16); \
    store16(t->out[r] + first + 16, _mm512_castps256_ps512(b##r), lo, hi, n_out - 16);

#define BIAS_16
#define WEIGHTS_16
#define ACC_16(r)   __m512 a##r = bias0;
#define CLAIM_16(r) __builtin_prefetch(t->out[r] + first, 1);
#define STEP_16(r)  a##r = _mm512_fmadd_ps(_mm512_set1_ps(x##r[c]), w0, a##r);
#define STORE_16(r) store16(t->out[r] + first, a##r, lo, hi, n_out);

#define TILE_OF(n, width, KEEP)                                      \
    static void tile_##n##x##width(const struct qc_tile_f32 *t)      \
    {                                                                \
        const __m512 bias0 = _mm512_loadu_ps(t->bias);               \
        const ptrdiff_t channels = t->channels, first = t->first;    \
        const float *w = t->weights;                                 \
        BIAS_##width                                                 \
        ROWS_##n(ACC_##width)                                        \
        if (t->far) {                                                \
            ROWS_##n(CLAIM_##width)                                  \
        }                                                            \
        ROWS_##n(POINT)                                              \
        for (int tap = 0; tap < t->n_taps; tap++) {                  \
            const ptrdiff_t end = t->tap[tap] + channels;            \
            for (ptrdiff_t c = t->tap[tap]; c < end; c++) {          \
                const __m512 w0 = _mm512_loadu_ps(w);                \
                WEIGHTS_##width                                      \
                w += QC_NR;                                          \
                ROWS_##n(STEP_##width)                               \
                KEEP()                                               \
            }                                                        \
            w += t->gap[tap];                                        \
        }                                                            \
        const __m512 lo = _mm512_set1_ps(t->lo);                     \
        const __m512 hi = _mm512_set1_ps(t->hi);                     \
        const int n_out = t->n_out;                                  \
        ROWS_##n(STORE_##width)                                      \
    }
#define TILE(n, KEEP) TILE_OF(n, 32, KEEP) TILE_OF(n, 24, KEEP) TILE_OF(n, 16, KEEP)

EACH_TILE(TILE)

void qc_tile_f32__avx512(const struct qc_tile_f32 *t)
{
    static qc_tile_f32_fn *const tiles[3][QC_MAX_ROWS] = {TILES_OF(32), TILES_OF(24),
                                                          TILES_OF(16)};
    tiles[t->n_out <= 16 ? 2 : t->n_out <= 24][t->n_rows - 1](t);
}
