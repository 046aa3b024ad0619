/* u8 x s8 convolution tile, AVX-512 VNNI: up to 12 pixels x 32 channels in 24 accumulators, or x 16
 * in 12 when the panel has no more; four input channels a step. vpdpbusd sums in 32 bits without saturation: exact. */
#include <immintrin.h>
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

/* What storing needs, loaded once a tile. */
struct finish {
    __m512 multiplier[2];
    __m512 lo, hi;
    __m512i zero_point;
    __mmask32 lanes;
};

static inline void finish_init(struct finish *f, const struct qc_tile_s8 *t)
{
    bool u8 = t->out_u8 != NULL;
    f->multiplier[0] = _mm512_loadu_ps(t->multiplier);
    f->multiplier[1] = _mm512_loadu_ps(t->multiplier + 16);
    f->lo = _mm512_set1_ps(u8 ? (float)(t->y_min - t->y_zero_point) : t->lo);
    f->hi = _mm512_set1_ps(u8 ? (float)(t->y_max - t->y_zero_point) : t->hi);
    f->zero_point = _mm512_set1_epi32(t->y_zero_point);
    f->lanes = t->n_out == QC_NR ? UINT32_MAX : (1U << t->n_out) - 1;
}

static inline __m128i requantize(const struct finish *f, int half, __m512i acc)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), f->multiplier[half]);
    y = _mm512_min_ps(_mm512_max_ps(y, f->lo), f->hi);
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(y), f->zero_point));
}

static inline __m512 dequantize(const struct finish *f, int half, __m512i acc)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), f->multiplier[half]);
    return _mm512_min_ps(f->hi, _mm512_max_ps(f->lo, y));
}

static inline void store_row(const struct qc_tile_s8 *t, const struct finish *f, int r,
                             __m512i v0, __m512i v1)
{
    if (t->out_u8 != NULL) {
        __m256i q = _mm256_set_m128i(requantize(f, 1, v1), requantize(f, 0, v0));
        if (f->lanes == UINT32_MAX) {
            _mm256_storeu_si256((__m256i *)(void *)t->out_u8[r], q);
        } else {
            _mm256_mask_storeu_epi8(t->out_u8[r], f->lanes, q);
        }
    } else {
        float *out = t->out_f32[r];
        _mm512_mask_storeu_ps(out, (__mmask16)(f->lanes & 0xffff), dequantize(f, 0, v0));
        if (t->n_out > 16) {
            _mm512_mask_storeu_ps(out + 16, (__mmask16)(f->lanes >> 16), dequantize(f, 1, v1));
        }
    }
}

static inline __m512i broadcast4(const uint8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
}

#define ACC(r) __m512i a##r = bias0, b##r = bias1;
#define POINT(r) const uint8_t *x##r = t->row[r] + t->tap[tap];
#define STEP(r)                                   \
    {                                             \
        const __m512i x = broadcast4(x##r + c);   \
        a##r = _mm512_dpbusd_epi32(a##r, x, w0);  \
        b##r = _mm512_dpbusd_epi32(b##r, x, w1);  \
        KEEP_ZMM(a##r)                            \
        KEEP_ZMM(b##r)                            \
    }
#define STORE(r) store_row(t, &f, r, a##r, b##r);
/* The weights' zero points, once a tile: acc -= zero_point * sum of the row's inputs. */
#define OFFSET(r)                                                  \
    {                                                              \
        const __m512i sum = _mm512_set1_epi32(t->row_sum[r]);      \
        a##r = _mm512_sub_epi32(a##r, _mm512_mullo_epi32(z0, sum)); \
        b##r = _mm512_sub_epi32(b##r, _mm512_mullo_epi32(z1, sum)); \
    }

/* A panel of at most 16 channels. Its store repeats the first half: no lane of it is written. */
#define HALF_ACC(r) __m512i a##r = bias0;
#define HALF_STEP(r)                                             \
    {                                                            \
        a##r = _mm512_dpbusd_epi32(a##r, broadcast4(x##r + c), w0); \
        KEEP_ZMM(a##r)                                           \
    }
#define HALF_STORE(r)  store_row(t, &f, r, a##r, a##r);
#define HALF_OFFSET(r)                                           \
    a##r = _mm512_sub_epi32(a##r, _mm512_mullo_epi32(z0, _mm512_set1_epi32(t->row_sum[r])));

#define TILE(n)                                                \
    static void tile_##n(const struct qc_tile_s8 *t)           \
    {                                                          \
        const __m512i bias0 = _mm512_loadu_si512(t->bias);     \
        const __m512i bias1 = _mm512_loadu_si512(t->bias + 16); \
        const int8_t *w = t->weights;                          \
        const ptrdiff_t channels = t->channels;                \
        ROWS_##n(ACC)                                          \
        if (t->row_sum != NULL) {                              \
            const __m512i z0 = _mm512_loadu_si512(t->w_zero_point);      \
            const __m512i z1 = _mm512_loadu_si512(t->w_zero_point + 16); \
            ROWS_##n(OFFSET)                                   \
        }                                                      \
        for (int tap = 0; tap < t->n_taps; tap++) {            \
            ROWS_##n(POINT)                                    \
            for (ptrdiff_t c = 0; c < channels; c += 4) {      \
                const __m512i w0 = _mm512_loadu_si512(w);      \
                const __m512i w1 = _mm512_loadu_si512(w + 64); \
                w += 4 * QC_NR;                                \
                ROWS_##n(STEP)                                 \
            }                                                  \
        }                                                      \
        struct finish f;                                       \
        finish_init(&f, t);                                    \
        ROWS_##n(STORE)                                        \
    }                                                          \
    static void half_##n(const struct qc_tile_s8 *t)           \
    {                                                          \
        const __m512i bias0 = _mm512_loadu_si512(t->bias);     \
        const int8_t *w = t->weights;                          \
        const ptrdiff_t channels = t->channels;                \
        ROWS_##n(HALF_ACC)                                     \
        if (t->row_sum != NULL) {                              \
            const __m512i z0 = _mm512_loadu_si512(t->w_zero_point); \
            ROWS_##n(HALF_OFFSET)                              \
        }                                                      \
        for (int tap = 0; tap < t->n_taps; tap++) {            \
            ROWS_##n(POINT)                                    \
            for (ptrdiff_t c = 0; c < channels; c += 4) {      \
                const __m512i w0 = _mm512_loadu_si512(w);      \
                w += 4 * QC_NR;                                \
                ROWS_##n(HALF_STEP)                            \
            }                                                  \
        }                                                      \
        struct finish f;                                       \
        finish_init(&f, t);                                    \
        ROWS_##n(HALF_STORE)                                   \
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

void qc_tile_s8__avx512(const struct qc_tile_s8 *t)
{
    static qc_tile_s8_fn *const by_rows[2][QC_MAX_ROWS] = {
        {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8, tile_9, tile_10, tile_11,
         tile_12},
        {half_1, half_2, half_3, half_4, half_5, half_6, half_7, half_8, half_9, half_10, half_11,
         half_12}};
    by_rows[t->n_out <= 16][t->n_rows - 1](t);
}
