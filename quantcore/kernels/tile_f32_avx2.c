/* f32 convolution tile, AVX2 + FMA: up to 6 pixels x 16 channels in 12 of the 16 registers. A
 * panel takes two passes, more than 6 pixels two more. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 16, ROWS = 6 };

static inline void store8(float *out, __m256 v, __m256 lo, __m256 hi, int n)
{
    /* the operand order lets NaN through, as qc_clamp does */
    v = _mm256_min_ps(hi, _mm256_max_ps(lo, v));
    if (n >= 8) {
        _mm256_storeu_ps(out, v);
    } else if (n > 0) {
        const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), index), v);
    }
}

static inline void store_row(const struct qc_tile_f32 *t, int r, int first, __m256 v0, __m256 v1)
{
    __m256 lo = _mm256_set1_ps(t->lo), hi = _mm256_set1_ps(t->hi);
    int n = t->n_out - first;
    float *out = t->out[r] + first;
    store8(out, v0, lo, hi, n);
    if (n > 8) {
        store8(out + 8, v1, lo, hi, n - 8);
    }
}

#define ACC(r) __m256 a##r = bias0, b##r = bias1;
#define POINT(r) const float *x##r = t->row[r] + t->tap[tap];
#define STEP(r)                                        \
    {                                                  \
        const __m256 x = _mm256_broadcast_ss(x##r + c); \
        a##r = _mm256_fmadd_ps(x, w0, a##r);           \
        b##r = _mm256_fmadd_ps(x, w1, b##r);           \
    }
#define STORE(r) store_row(t, r, first, a##r, b##r);

#define TILE(n)                                                     \
    static void tile_##n(const struct qc_tile_f32 *t, int first)    \
    {                                                               \
        const __m256 bias0 = _mm256_loadu_ps(t->bias + first);      \
        const __m256 bias1 = _mm256_loadu_ps(t->bias + first + 8);  \
        const float *w = t->weights + first;                        \
        const ptrdiff_t channels = t->channels;                     \
        ROWS_##n(ACC)                                               \
        for (int tap = 0; tap < t->n_taps; tap++) {                 \
            ROWS_##n(POINT)                                         \
            for (ptrdiff_t c = 0; c < channels; c++) {              \
                const __m256 w0 = _mm256_loadu_ps(w);               \
                const __m256 w1 = _mm256_loadu_ps(w + 8);           \
                w += QC_NR;                                         \
                ROWS_##n(STEP)                                      \
            }                                                       \
            w += t->gap[tap];                                       \
        }                                                           \
        ROWS_##n(STORE)                                             \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

void qc_tile_f32__avx2(const struct qc_tile_f32 *t)
{
    static void (*const by_rows[ROWS])(const struct qc_tile_f32 *, int) = {
        tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
    };
    for (int r = 0; r < t->n_rows; r += ROWS) {
        struct qc_tile_f32 part = *t;
        part.row += r;
        part.out += r;
        part.n_rows = t->n_rows - r < ROWS ? t->n_rows - r : ROWS;
        for (int first = 0; first < t->n_out; first += LANES) {
            by_rows[part.n_rows - 1](&part, first);
        }
    }
}
