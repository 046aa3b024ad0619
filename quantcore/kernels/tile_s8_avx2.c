/* u8 x s8 convolution tile, AVX2: up to 4 pixels x 16 channels. vpmaddubsw would saturate, so
 * bytes are widened to s16 first: of each group of four input channels, vpmaddwd takes 0 and 2,
 * then 1 and 3. Products and sums are exact, as with vpdpbusd. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"
#include "quantcore/kernels/kernels_s8_ymm.h"

enum { ROWS = 4 };

/* Bytes 0 and 2, then 1 and 3, of each 32-bit lane, sign-extended. */
static inline __m256i even_s16(__m256i w)
{
    return _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
}

static inline __m256i odd_s16(__m256i w)
{
    return _mm256_srai_epi16(w, 8);
}

#define ACC(r) __m256i a##r = bias0, b##r = bias1;
#define POINT(r) const uint8_t *x##r = t->row[r] + t->tap[tap];
#define STEP(r)                                                        \
    {                                                                  \
        const __m256i x = broadcast4(x##r + c);                        \
        const __m256i even = _mm256_and_si256(x, low);                 \
        const __m256i odd = _mm256_srli_epi16(x, 8);                   \
        a##r = _mm256_add_epi32(a##r, _mm256_madd_epi16(even, even0)); \
        KEEP_YMM(a##r)                                                 \
        b##r = _mm256_add_epi32(b##r, _mm256_madd_epi16(even, even1)); \
        KEEP_YMM(b##r)                                                 \
        a##r = _mm256_add_epi32(a##r, _mm256_madd_epi16(odd, odd0));   \
        KEEP_YMM(a##r)                                                 \
        b##r = _mm256_add_epi32(b##r, _mm256_madd_epi16(odd, odd1));   \
        KEEP_YMM(b##r)                                                 \
    }
#define STORE(r) store_row(t, &f, r, first, a##r, b##r);
#define TILE(n)                                                                          \
    static void tile_##n(const struct qc_tile_s8 *t, int first)                          \
    {                                                                                    \
        const __m256i bias0 = _mm256_loadu_si256((const __m256i *)(t->bias + first));    \
        const __m256i bias1 = _mm256_loadu_si256((const __m256i *)(t->bias + first + 8)); \
        const __m256i low = _mm256_set1_epi16(0xff);                                     \
        const int8_t *w = t->weights + 4 * first;                                        \
        const ptrdiff_t channels = t->channels;                                          \
        ROWS_##n(ACC)                                                                    \
        if (t->row_sum != NULL) {                                                        \
            const __m256i z0 = load_s32(t->w_zero_point + first);                        \
            const __m256i z1 = load_s32(t->w_zero_point + first + 8);                    \
            ROWS_##n(OFFSET)                                                             \
        }                                                                                \
        for (int tap = 0; tap < t->n_taps; tap++) {                                      \
            ROWS_##n(POINT)                                                              \
            for (ptrdiff_t c = 0; c < channels; c += 4) {                                \
                const __m256i w0 = load32(w), w1 = load32(w + 32);                       \
                const __m256i even0 = even_s16(w0), odd0 = odd_s16(w0);                  \
                const __m256i even1 = even_s16(w1), odd1 = odd_s16(w1);                  \
                w += 4 * QC_NR;                                                          \
                ROWS_##n(STEP)                                                           \
            }                                                                            \
        }                                                                                \
        struct finish f;                                                                 \
        finish_init(&f, t);                                                              \
        ROWS_##n(STORE)                                                                  \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)

void qc_tile_s8__avx2(const struct qc_tile_s8 *t)
{
    static half_tile_s8_fn *const by_rows[ROWS] = {tile_1, tile_2, tile_3, tile_4};
    run_half_tiles(t, by_rows, ROWS);
}
