/* u8 x s8 convolution tile, AVX-512 VNNI: up to 12 pixels x 32 channels in 24 accumulators, or x 16
 * in 12 when the panel has no more; with up to 24 the second half is a ymm register, as in f32.
 * Four input channels a step. vpdpbusd sums in 32 bits without saturation: exact. */
#include <immintrin.h>
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

/* What storing needs, loaded once a tile. */
struct finish {
    __m512 multiplier[2];
    __m512 lo, hi; /* u8: hi alone */
    __m512i zero_point, y_min, y_max, order;
    __mmask32 lanes;
    bool small; /* all multipliers are below a half */
    bool bare;  /* small, zero point 0, no clamp but 0 and 255: packing alone gives the codes */
};

TILE_INLINE void finish_init(struct finish *f, const struct qc_tile_s8 *t)
{
    f->multiplier[0] = _mm512_loadu_ps(t->multiplier);
    f->multiplier[1] = _mm512_loadu_ps(t->multiplier + 16);
    f->lo = _mm512_set1_ps(t->lo);
    f->hi = _mm512_set1_ps(t->out_u8 != NULL ? (float)(t->y_max - t->y_zero_point) : t->hi);
    f->zero_point = _mm512_set1_epi16((int16_t)t->y_zero_point);
    f->y_min = _mm512_set1_epi8((char)t->y_min);
    f->y_max = _mm512_set1_epi8((char)t->y_max);
    f->order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    f->small = (_mm512_cmp_ps_mask(f->multiplier[0], _mm512_set1_ps(0.5f), _CMP_NLT_UQ) |
                _mm512_cmp_ps_mask(f->multiplier[1], _mm512_set1_ps(0.5f), _CMP_NLT_UQ)) == 0;
    f->bare = f->small && t->y_zero_point == 0 && t->y_min == 0 && t->y_max == 255;
    f->lanes = t->n_out == QC_NR ? UINT32_MAX : (1U << t->n_out) - 1;
}

/* Beyond 2^31 an f32 would become the smallest integer: multipliers below a half stay away. */
TILE_INLINE __m512i to_steps(const struct finish *f, __m512i acc, int half, bool small)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), f->multiplier[half]);
    return _mm512_cvtps_epi32(small ? y : _mm512_min_ps(y, f->hi));
}

/* A row's codes as saturated 16 bits, four channels of v0 and four of v1 in each 128. */
TILE_INLINE __m512i requantize(const struct finish *f, __m512i v0, __m512i v1, bool small,
                               bool bare)
{
    __m512i y =
        _mm512_packs_epi32(to_steps(f, v0, 0, small), to_steps(f, v1, 1, small));
    return bare ? y : _mm512_adds_epi16(y, f->zero_point);
}

TILE_INLINE void store_codes(const struct finish *f, uint8_t *out, __m256i codes)
{
    if (f->lanes == UINT32_MAX) {
        _mm256_storeu_si256((__m256i *)(void *)out, codes);
    } else {
        _mm256_mask_storeu_epi8(out, f->lanes, codes);
    }
}

/* Two rows at once: packing leaves in each 128 bits a dword of v0 and one of v1 of the first row,
 * then of the second; `order` sorts them. */
TILE_INLINE void store_u8(const struct qc_tile_s8 *t, const struct finish *f,
                          const __m512i *rows, int n, bool bare)
{
#pragma GCC unroll 6
    for (int r = 0; r < n; r += 2) {
        int second = r + 1 < n ? r + 1 : r;
        __m512i y = _mm512_packus_epi16(rows[r], rows[second]);
        y = bare ? y : _mm512_min_epu8(_mm512_max_epu8(y, f->y_min), f->y_max);
        y = _mm512_permutexvar_epi32(f->order, y);
        store_codes(f, t->out_u8[r], _mm512_castsi512_si256(y));
        store_codes(f, t->out_u8[second], _mm512_extracti64x4_epi64(y, 1));
    }
}

/* Half a panel: four rows at once, each 16 codes of the result. */
TILE_INLINE void store_u8_half(const struct qc_tile_s8 *t, const struct finish *f,
                               const __m512i *rows, int n, bool bare)
{
#pragma GCC unroll 3
    for (int r = 0; r < n; r += 4) {
        int last = n - 1, b = r + 1 < n ? r + 1 : last, c = r + 2 < n ? r + 2 : last;
        int d = r + 3 < n ? r + 3 : last;
        __m512i low = _mm512_packs_epi32(rows[r], rows[b]);
        __m512i high = _mm512_packs_epi32(rows[c], rows[d]);
        low = bare ? low : _mm512_adds_epi16(low, f->zero_point);
        high = bare ? high : _mm512_adds_epi16(high, f->zero_point);
        __m512i y = _mm512_packus_epi16(low, high);
        y = bare ? y : _mm512_min_epu8(_mm512_max_epu8(y, f->y_min), f->y_max);
        y = _mm512_permutexvar_epi32(f->order, y);
        const __mmask16 lanes = (__mmask16)(f->lanes & 0xffff);
        _mm_mask_storeu_epi8(t->out_u8[r], lanes, _mm512_castsi512_si128(y));
        _mm_mask_storeu_epi8(t->out_u8[b], lanes, _mm512_extracti32x4_epi32(y, 1));
        _mm_mask_storeu_epi8(t->out_u8[c], lanes, _mm512_extracti32x4_epi32(y, 2));
        _mm_mask_storeu_epi8(t->out_u8[d], lanes, _mm512_extracti32x4_epi32(y, 3));
    }
}

TILE_INLINE __m512 dequantize(const struct finish *f, int half, __m512i acc)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), f->multiplier[half]);
    return _mm512_min_ps(f->hi, _mm512_max_ps(f->lo, y));
}

TILE_INLINE void store_f32(const struct qc_tile_s8 *t, const struct finish *f, int r,
                           __m512i v0, __m512i v1)
{
    float *out = t->out_f32[r];
    _mm512_mask_storeu_ps(out, (__mmask16)(f->lanes & 0xffff), dequantize(f, 0, v0));
    if (t->n_out > 16) {
        _mm512_mask_storeu_ps(out + 16, (__mmask16)(f->lanes >> 16), dequantize(f, 1, v1));
    }
}

TILE_INLINE __m512i broadcast4(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
}

#define POINT(r) const uint8_t *x##r = t->row[r];
#define CODES(r)       requantize(&f, a##r, b##r, false, false),
#define SMALL_CODES(r) requantize(&f, a##r, b##r, true, false),
#define BARE_CODES(r)  requantize(&f, a##r, b##r, true, true),
#define STORE(r)       store_f32(t, &f, r, a##r, b##r);
/* The weights' zero points, once a tile: acc -= zero_point * sum of the row's inputs. */
#define LESS(acc, z, sum) acc = _mm512_sub_epi32(acc, _mm512_mullo_epi32(z, sum));

/* By width: the second half of the bias, the weights and their zero points; a row's accumulators,
 * offset and step; what is done with all of them. */
#define BIAS_32    const __m512i bias1 = _mm512_loadu_si512(t->bias + 16);
#define WEIGHTS_32 const __m512i w1 = _mm512_loadu_si512(w + 64);
#define ZERO_32    const __m512i z1 = _mm512_loadu_si512(t->w_zero_point + 16);
#define ACC_32(r)  __m512i a##r = bias0, b##r = bias1;
#define OFFSET_32(r)                                          \
    {                                                         \
        const __m512i sum = _mm512_set1_epi32(t->row_sum[r]); \
        LESS(a##r, z0, sum)                                   \
        LESS(b##r, z1, sum)                                   \
    }
#define STEP_32(r)                               \
    {                                            \
        const __m512i x = broadcast4(x##r + c);  \
        a##r = _mm512_dpbusd_epi32(a##r, x, w0); \
        b##r = _mm512_dpbusd_epi32(b##r, x, w1); \
        KEEP_ZMM(a##r)                           \
        KEEP_ZMM(b##r)                           \
    }
#define FINISH_32(n)                                        \
    if (t->out_u8 != NULL && f.bare) {                      \
        const __m512i codes[] = {ROWS_##n(BARE_CODES)};     \
        store_u8(t, &f, codes, n, true);                    \
    } else if (t->out_u8 != NULL && f.small) {              \
        const __m512i codes[] = {ROWS_##n(SMALL_CODES)};    \
        store_u8(t, &f, codes, n, false);                   \
    } else if (t->out_u8 != NULL) {                         \
        const __m512i codes[] = {ROWS_##n(CODES)};          \
        store_u8(t, &f, codes, n, false);                   \
    } else {                                                \
        ROWS_##n(STORE)                                     \
    }

#define BIAS_24    const __m256i bias1 = _mm256_loadu_si256((const void *)(t->bias + 16));
#define WEIGHTS_24 const __m256i w1 = _mm256_loadu_si256((const void *)(w + 64));
#define ZERO_24    const __m256i z1 = _mm256_loadu_si256((const void *)(t->w_zero_point + 16));
#define ACC_24(r)         \
    __m512i a##r = bias0; \
    __m256i y##r = bias1;
#define OFFSET_24(r)                                                                      \
    {                                                                                     \
        const __m512i sum = _mm512_set1_epi32(t->row_sum[r]);                             \
        LESS(a##r, z0, sum)                                                               \
        const __m256i part = _mm256_mullo_epi32(z1, _mm512_castsi512_si256(sum));         \
        y##r = _mm256_sub_epi32(y##r, part);                                              \
    }
#define STEP_24(r)                                                       \
    {                                                                    \
        const __m512i x = broadcast4(x##r + c);                          \
        a##r = _mm512_dpbusd_epi32(a##r, x, w0);                         \
        y##r = _mm256_dpbusd_epi32(y##r, _mm512_castsi512_si256(x), w1); \
        KEEP_ZMM(a##r)                                                   \
        KEEP_ZMM(y##r)                                                   \
    }
#define WIDEN(r) const __m512i b##r = _mm512_castsi256_si512(y##r);
#define FINISH_24(n)  \
    ROWS_##n(WIDEN)   \
    FINISH_32(n)

#define BIAS_16
#define WEIGHTS_16
#define ZERO_16
#define ACC_16(r)    __m512i a##r = bias0;
#define OFFSET_16(r) LESS(a##r, z0, _mm512_set1_epi32(t->row_sum[r]))
#define STEP_16(r)                                                  \
    {                                                               \
        a##r = _mm512_dpbusd_epi32(a##r, broadcast4(x##r + c), w0); \
        KEEP_ZMM(a##r)                                              \
    }
#define STEPS_16(r)       to_steps(&f, a##r, 0, false),
#define SMALL_STEPS_16(r) to_steps(&f, a##r, 0, true),
#define STORE_16(r)       store_f32(t, &f, r, a##r, a##r);
#define FINISH_16(n)                                        \
    if (t->out_u8 != NULL && f.small) {                     \
        const __m512i steps[] = {ROWS_##n(SMALL_STEPS_16)}; \
        store_u8_half(t, &f, steps, n, f.bare);             \
    } else if (t->out_u8 != NULL) {                         \
        const __m512i steps[] = {ROWS_##n(STEPS_16)};       \
        store_u8_half(t, &f, steps, n, false);              \
    } else {                                                \
        ROWS_##n(STORE_16)                                  \
    }

#define TILE_OF(n, width, KEEP)                                      \
    static void tile_##n##x##width(const struct qc_tile_s8 *t)       \
    {                                                                \
        const __m512i bias0 = _mm512_loadu_si512(t->bias);           \
        const int8_t *w = t->weights;                                \
        const ptrdiff_t channels = t->channels;                      \
        BIAS_##width                                                 \
        ROWS_##n(ACC_##width)                                        \
        if (t->row_sum != NULL) {                                    \
            const __m512i z0 = _mm512_loadu_si512(t->w_zero_point);  \
            ZERO_##width                                             \
            ROWS_##n(OFFSET_##width)                                 \
        }                                                            \
        ROWS_##n(POINT)                                              \
        for (int tap = 0; tap < t->n_taps; tap++) {                  \
            const ptrdiff_t end = t->tap[tap] + channels;            \
            for (ptrdiff_t c = t->tap[tap]; c < end; c += 4) {       \
                const __m512i w0 = _mm512_loadu_si512(w);            \
                WEIGHTS_##width                                      \
                w += 4 * QC_NR;                                      \
                ROWS_##n(STEP_##width)                               \
                KEEP()                                               \
            }                                                        \
        }                                                            \
        struct finish f;                                             \
        finish_init(&f, t);                                          \
        FINISH_##width(n)                                            \
    }
#define TILE(n, KEEP) TILE_OF(n, 32, KEEP) TILE_OF(n, 24, KEEP) TILE_OF(n, 16, KEEP)

EACH_TILE(TILE)

void qc_tile_s8__avx512(const struct qc_tile_s8 *t)
{
    static qc_tile_s8_fn *const tiles[3][QC_MAX_ROWS] = {TILES_OF(32), TILES_OF(24),
                                                         TILES_OF(16)};
    tiles[t->n_out <= 16 ? 2 : t->n_out <= 24][t->n_rows - 1](t);
}
