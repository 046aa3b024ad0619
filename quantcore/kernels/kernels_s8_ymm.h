/* What the u8 x s8 tiles of 256-bit registers share: loading, the weights' zero points, and storing
 * 16 channels of a row. */
#ifndef QC_KERNELS_S8_YMM_H
#define QC_KERNELS_S8_YMM_H

#include <immintrin.h>
#include <string.h>

#include "quantcore/kernels/qc_kernels.h"

/* Half a panel: 16 channels in two registers. */
enum { LANES = 16 };

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

static inline __m256i load32(const int8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline __m256i load_s32(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* The weights' zero points, once a tile: acc -= zero_point * sum of the row's inputs. */
#define OFFSET(r)                                                  \
    {                                                              \
        const __m256i sum = _mm256_set1_epi32(t->row_sum[r]);      \
        a##r = _mm256_sub_epi32(a##r, _mm256_mullo_epi32(z0, sum)); \
        b##r = _mm256_sub_epi32(b##r, _mm256_mullo_epi32(z1, sum)); \
    }

/* The rows in groups of up to max_rows. */
static inline void run_row_groups(const struct qc_tile_s8 *t, qc_tile_s8_fn *run, int max_rows)
{
    if (t->n_rows <= max_rows) { /* a copy would read what has just been written in pieces */
        run(t);
        return;
    }
    for (int r = 0; r < t->n_rows; r += max_rows) {
        struct qc_tile_s8 part = *t;
        part.row = t->row != NULL ? t->row + r : NULL;
        part.wide_row = t->wide_row != NULL ? t->wide_row + r : NULL;
        part.row_sum = t->row_sum != NULL ? t->row_sum + r : NULL;
        part.out_u8 = t->out_u8 != NULL ? t->out_u8 + r : NULL;
        part.out_f32 = t->out_f32 != NULL ? t->out_f32 + r : NULL;
        part.n_rows = t->n_rows - r < max_rows ? t->n_rows - r : max_rows;
        run(&part);
    }
}

#endif
