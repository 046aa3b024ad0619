/* f32 convolution tile, AVX2 + FMA: up to 6 pixels x 16 channels in 12 of the 16 registers, or x 8
 * when the panel has no more. More than 6 pixels take two passes. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { PANEL = 16, ROWS = 6 };

/* n: channels left from this vector's first one on. */
TILE_INLINE void store8(float *out, __m256 v, __m256 lo, __m256 hi, int n)
{
    /* the operand order lets NaN through, as qc_clamp does */
    v = _mm256_min_ps(hi, _mm256_max_ps(lo, v));
    if (n >= 8) {
        _mm256_storeu_ps(out, v);
    } else {
        const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index), v);
    }
}

#define POINT(r) const float *x##r = t->row[r];

/* By width: the second half of the bias and of the weights; a row's accumulators, step and store.
 * CLAIM: the line that it writes, for writing; it comes while it multiplies. */
#define BIAS_16 const __m256 bias1 = _mm256_loadu_ps(t->bias + 8);
#define WEIGHTS_16 const __m256 w1 = _mm256_loadu_ps(w + 8);
#define ACC_16(r) __m256 a##r = bias0, b##r = bias1;
#define STEP_16(r)                                      \
    {                                                   \
        const __m256 x = _mm256_broadcast_ss(x##r + c); \
        a##r = _mm256_fmadd_ps(x, w0, a##r);            \
        b##r = _mm256_fmadd_ps(x, w1, b##r);            \
    }
#define STORE_16(r)                     \
    store8(t->out[r] + first, a##r, lo, hi, 8); \
    store8(t->out[r] + first + 8, b##r, lo, hi, n_out - 8);

#define BIAS_8
#define WEIGHTS_8
#define ACC_8(r)   __m256 a##r = bias0;
#define STEP_8(r)  a##r = _mm256_fmadd_ps(_mm256_broadcast_ss(x##r + c), w0, a##r);
#define STORE_8(r) store8(t->out[r] + first, a##r, lo, hi, n_out);

#define CLAIM(r) __builtin_prefetch(t->out[r] + first, 1);

/* `ahead` is the same place in the panel that follows: large layers' weights come from the third
 * cache or from memory, and the first of a panel's tiles would wait for them. */
#define TILE_OF(n, width)                                       \
    static void tile_##n##x##width(const struct qc_tile_f32 *t) \
    {                                                           \
        const __m256 bias0 = _mm256_loadu_ps(t->bias);          \
        const ptrdiff_t channels = t->channels, first = t->first;\
        const float *w = t->weights;                            \
        const ptrdiff_t ahead = channels * t->n_taps * PANEL;   \
        BIAS_##width                                            \
        ROWS_##n(ACC_##width)                                   \
        if (t->far) {                                           \
            ROWS_##n(CLAIM)                                     \
        }                                                       \
        ROWS_##n(POINT)                                         \
        for (int tap = 0; tap < t->n_taps; tap++) {             \
            const ptrdiff_t end = t->tap[tap] + channels;       \
            for (ptrdiff_t c = t->tap[tap]; c < end; c++) {     \
                const __m256 w0 = _mm256_loadu_ps(w);           \
                WEIGHTS_##width                                 \
                __builtin_prefetch(w + ahead);                  \
                w += PANEL;                                     \
                ROWS_##n(STEP_##width)                          \
            }                                                   \
            w += t->gap[tap];                                   \
        }                                                       \
        const __m256 lo = _mm256_set1_ps(t->lo);                \
        const __m256 hi = _mm256_set1_ps(t->hi);                \
        const int n_out = t->n_out;                             \
        ROWS_##n(STORE_##width)                                 \
    }
#define TILE(n) TILE_OF(n, 16) TILE_OF(n, 8)

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

#define TILES_OF_6(width)                                                      \
    {tile_1x##width, tile_2x##width, tile_3x##width, tile_4x##width, tile_5x##width, \
     tile_6x##width}

void qc_tile_f32__avx2(const struct qc_tile_f32 *t)
{
    static qc_tile_f32_fn *const tiles[2][ROWS] = {TILES_OF_6(16), TILES_OF_6(8)};
    qc_tile_f32_fn *const *by_rows = tiles[t->n_out <= 8];
    if (t->n_rows <= ROWS) {
        by_rows[t->n_rows - 1](t);
        return;
    }
    struct qc_tile_f32 rest = *t;
    rest.row += ROWS;
    rest.out += ROWS;
    rest.n_rows -= ROWS;
    by_rows[ROWS - 1](t);
    by_rows[rest.n_rows - 1](&rest);
}
