/* u8 x s8 convolution tile, AVX-VNNI: up to 6 pixels x 16 channels in 12 of the 16 registers, four
 * input channels a step. vpdpbusd sums in 32 bits without saturation: exact. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"
#include "quantcore/kernels/kernels_s8_ymm.h"

enum { ROWS = 6 };

#define ACC(r) __m256i a##r = bias0, b##r = bias1;
#define POINT(r) const uint8_t *x##r = t->row[r] + t->tap[tap];
#define STEP(r)                                      \
    {                                                \
        const __m256i x = broadcast4(x##r + c);      \
        a##r = _mm256_dpbusd_avx_epi32(a##r, x, w0); \
        b##r = _mm256_dpbusd_avx_epi32(b##r, x, w1); \
        KEEP_YMM(a##r)                               \
        KEEP_YMM(b##r)                               \
    }
#define STORE(r) store_row(t, &f, r, first, a##r, b##r);

#define TILE(n)                                                   \
    static void tile_##n(const struct qc_tile_s8 *t, int first)   \
    {                                                             \
        const __m256i bias0 = load_s32(t->bias + first);          \
        const __m256i bias1 = load_s32(t->bias + first + 8);      \
        const int8_t *w = t->weights + 4 * first;                 \
        const ptrdiff_t channels = t->channels;                   \
        ROWS_##n(ACC)                                             \
        if (t->row_sum != NULL) {                                 \
            const __m256i z0 = load_s32(t->w_zero_point + first); \
            const __m256i z1 = load_s32(t->w_zero_point + first + 8); \
            ROWS_##n(OFFSET)                                      \
        }                                                         \
        for (int tap = 0; tap < t->n_taps; tap++) {               \
            ROWS_##n(POINT)                                       \
            for (ptrdiff_t c = 0; c < channels; c += 4) {         \
                const __m256i w0 = load32(w), w1 = load32(w + 32); \
                w += 4 * QC_NR;                                   \
                ROWS_##n(STEP)                                    \
            }                                                     \
        }                                                         \
        struct finish f;                                          \
        finish_init(&f, t);                                       \
        ROWS_##n(STORE)                                           \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

/* The panel in halves. */
static void run_rows(const struct qc_tile_s8 *t)
{
    static void (*const by_rows[ROWS])(const struct qc_tile_s8 *, int) = {
        tile_1, tile_2, tile_3, tile_4, tile_5, tile_6,
    };
    for (int first = 0; first < t->n_out; first += LANES) {
        by_rows[t->n_rows - 1](t, first);
    }
}

void qc_tile_s8__avxvnni(const struct qc_tile_s8 *t)
{
    run_row_groups(t, run_rows, ROWS);
}
