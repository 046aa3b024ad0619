/* u8 x s8 convolution tile, AVX2: up to 4 pixels x 16 channels. vpmaddubsw would saturate, so
 * bytes are widened to s16 first: of each group of four input channels, vpmaddwd takes 0 and 2,
 * then 1 and 3. Products and sums are exact, as with vpdpbusd. */
#include <immintrin.h>
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 16, ROWS = 4 };

struct finish {
    __m256 lo, hi;
    __m256i zero_point;
};

static inline void finish_init(struct finish *f, const struct qc_tile_s8 *t)
{
    bool u8 = t->out_u8 != NULL;
    f->lo = _mm256_set1_ps(u8 ? (float)(t->y_min - t->y_zero_point) : t->lo);
    f->hi = _mm256_set1_ps(u8 ? (float)(t->y_max - t->y_zero_point) : t->hi);
    f->zero_point = _mm256_set1_epi32(t->y_zero_point);
}

static inline __m256 scale8(__m256i acc, const float *multiplier)
{
    return _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier));
}

static inline __m256i requantize(const struct finish *f, __m256 y)
{
    y = _mm256_min_ps(_mm256_max_ps(y, f->lo), f->hi);
    return _mm256_add_epi32(_mm256_cvtps_epi32(y), f->zero_point);
}

static inline void store_row(const struct qc_tile_s8 *t, const struct finish *f, int r, int first,
                             __m256i v0, __m256i v1)
{
    int n = t->n_out - first < LANES ? t->n_out - first : LANES;
    __m256 y0 = scale8(v0, t->multiplier + first);
    __m256 y1 = scale8(v1, t->multiplier + first + 8);
    float buffer[LANES]; /* a partial panel goes through it: nothing is written past n */
    if (t->out_u8 != NULL) {
        /* packs interleaves the halves of both operands: 0 2 1 3 puts them back */
        __m256i s16 = _mm256_packs_epi32(requantize(f, y0), requantize(f, y1));
        s16 = _mm256_permute4x64_epi64(s16, _MM_SHUFFLE(3, 1, 2, 0));
        __m128i q = _mm_packus_epi16(_mm256_castsi256_si128(s16),
                                     _mm256_extracti128_si256(s16, 1));
        if (n == LANES) {
            _mm_storeu_si128((__m128i *)(void *)(t->out_u8[r] + first), q);
        } else {
            _mm_storeu_si128((__m128i *)(void *)buffer, q);
            memcpy(t->out_u8[r] + first, buffer, (size_t)n);
        }
    } else {
        float *out = n == LANES ? t->out_f32[r] + first : buffer;
        _mm256_storeu_ps(out, _mm256_min_ps(f->hi, _mm256_max_ps(f->lo, y0)));
        _mm256_storeu_ps(out + 8, _mm256_min_ps(f->hi, _mm256_max_ps(f->lo, y1)));
        if (n < LANES) {
            memcpy(t->out_f32[r] + first, buffer, (size_t)n * sizeof(*buffer));
        }
    }
}

static inline __m256i broadcast4(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm256_set1_epi32(four);
}

/* Bytes 0 and 2, then 1 and 3, of each 32-bit lane, sign-extended. */
static inline __m256i even_s16(__m256i w)
{
    return _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
}

static inline __m256i odd_s16(__m256i w)
{
    return _mm256_srai_epi16(w, 8);
}

static inline __m256i load32(const int8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m256i load_s32(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
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
/* The weights' zero points, once a tile: acc -= zero_point * sum of the row's inputs. */
#define OFFSET(r)                                                  \
    {                                                              \
        const __m256i sum = _mm256_set1_epi32(t->row_sum[r]);      \
        a##r = _mm256_sub_epi32(a##r, _mm256_mullo_epi32(z0, sum)); \
        b##r = _mm256_sub_epi32(b##r, _mm256_mullo_epi32(z1, sum)); \
    }

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
    static void (*const by_rows[ROWS])(const struct qc_tile_s8 *, int) = {
        tile_1, tile_2, tile_3, tile_4,
    };
    for (int r = 0; r < t->n_rows; r += ROWS) {
        struct qc_tile_s8 part = *t;
        part.row += r;
        part.row_sum = t->row_sum != NULL ? t->row_sum + r : NULL;
        part.out_u8 = t->out_u8 != NULL ? t->out_u8 + r : NULL;
        part.out_f32 = t->out_f32 != NULL ? t->out_f32 + r : NULL;
        part.n_rows = t->n_rows - r < ROWS ? t->n_rows - r : ROWS;
        for (int first = 0; first < t->n_out; first += LANES) {
            by_rows[part.n_rows - 1](&part, first);
        }
    }
}
