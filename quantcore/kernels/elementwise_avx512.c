/* Elementwise kernels, AVX-512: whole vectors, then one masked step for the rest. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_pixels.h"

#define ALL ((__mmask16)0xffff)
#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 lanes_of(size_t n)
{
    return (__mmask16)((1U << n) - 1);
}

/* Runs `statement` for i = 0, 16, ...; it sees `lanes`, which is constant but for the last. */
#define EACH_16(n, statement)                   \
    do {                                        \
        size_t i = 0;                           \
        for (; i + 16 <= (n); i += 16) {        \
            const __mmask16 lanes = ALL;        \
            statement;                          \
        }                                       \
        if (i < (n)) {                          \
            const __mmask16 lanes = lanes_of((n) - i); \
            statement;                          \
        }                                       \
    } while (0)

/* A masked store is slower than a plain one: the mask folds away where it is constant. */
INLINE __m512 load(const float *p, __mmask16 lanes)
{
    return lanes == ALL ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(lanes, p);
}

INLINE void store(float *p, __mmask16 lanes, __m512 v)
{
    if (lanes == ALL) {
        _mm512_storeu_ps(p, v);
    } else {
        _mm512_mask_storeu_ps(p, lanes, v);
    }
}

INLINE __m512i load_u8(const uint8_t *p, __mmask16 lanes)
{
    return _mm512_cvtepu8_epi32(lanes == ALL ? _mm_loadu_si128((const __m128i *)(const void *)p)
                                             : _mm_maskz_loadu_epi8(lanes, p));
}

INLINE void store_u8(uint8_t *p, __mmask16 lanes, __m512i v)
{
    __m128i q = _mm512_cvtepi32_epi8(v);
    if (lanes == ALL) {
        _mm_storeu_si128((__m128i *)(void *)p, q);
    } else {
        _mm_mask_storeu_epi8(p, lanes, q);
    }
}

/* lo for NaN, as in `_ref`; rounds half to even. */
INLINE __m512i clamp_round(__m512 y, __m512 lo, __m512 hi)
{
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(y, lo), hi));
}

void qc_add_f32__avx512(const float *a, const float *b, float *out, size_t n)
{
    EACH_16(n, store(out + i, lanes, _mm512_add_ps(load(a + i, lanes), load(b + i, lanes))));
}

void qc_mul_f32__avx512(const float *a, const float *b, float *out, size_t n)
{
    EACH_16(n, store(out + i, lanes, _mm512_mul_ps(load(a + i, lanes), load(b + i, lanes))));
}

void qc_clamp_f32__avx512(const float *x, float lo, float hi, float *out, size_t n)
{
    const __m512 l = _mm512_set1_ps(lo), h = _mm512_set1_ps(hi);
    EACH_16(n, store(out + i, lanes, _mm512_min_ps(h, _mm512_max_ps(l, load(x + i, lanes)))));
}

void qc_max_taps_f32__avx512(const float *x, const int32_t *tap, int n_taps, float *out, size_t n)
{
    EACH_16(n, {
        __m512 most = load(x + i + tap[0], lanes);
        for (int t = 1; t < n_taps; t++) {
            most = _mm512_max_ps(load(x + i + tap[t], lanes), most);
        }
        store(out + i, lanes, most);
    });
}

void qc_sum_f32__avx512(const float *x, float *inout, size_t n)
{
    EACH_16(n, store(inout + i, lanes,
                     _mm512_add_ps(load(inout + i, lanes), load(x + i, lanes))));
}

void qc_quantize_u8__avx512(const float *x, float scale, int32_t zero_point, uint8_t *out,
                            size_t n)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512 lo = _mm512_set1_ps((float)(0 - zero_point));
    const __m512 hi = _mm512_set1_ps((float)(255 - zero_point));
    const __m512i zp = _mm512_set1_epi32(zero_point);
    EACH_16(n, {
        __m512i q = clamp_round(_mm512_div_ps(load(x + i, lanes), s), lo, hi);
        store_u8(out + i, lanes, _mm512_add_epi32(q, zp));
    });
}

/* Where there is room, a store writes a whole vector, of which the next one overwrites what does
 * not count. */
void qc_quantize_pixels_u8__avx512(const float *x, int64_t plane, int channels, float scale,
                                   int32_t zero_point, uint8_t *out, size_t n)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512 lo = _mm512_set1_ps((float)(0 - zero_point));
    const __m512 hi = _mm512_set1_ps((float)(255 - zero_point));
    const __m512i zp = _mm512_set1_epi32(zero_point);
    const __m128i order = qc_load_pixel_order(channels);
    const __m512i bytes = _mm512_broadcast_i32x4(order), words = _mm512_cvtepu8_epi32(order);
    const size_t size = (size_t)channels;
    EACH_16(n, {
        __m512i pixels = _mm512_setzero_si512();
        for (int c = channels - 1; c >= 0; c--) {
            __m512 v = load(x + c * plane + i, lanes);
            __m512i q = _mm512_add_epi32(clamp_round(_mm512_div_ps(v, s), lo, hi), zp);
            pixels = _mm512_or_si512(_mm512_slli_epi32(pixels, 8), q);
        }
        pixels = _mm512_permutexvar_epi32(words, _mm512_shuffle_epi8(pixels, bytes));
        size_t room = (n - i) * size;
        if (room >= 64) {
            _mm512_storeu_si512(out + i * size, pixels);
        } else {
            size_t used = room < 16 * size ? room : 16 * size;
            _mm512_mask_storeu_epi8(out + i * size, (1ULL << used) - 1, pixels);
        }
    });
}

void qc_dequantize_u8__avx512(const uint8_t *q, float scale, int32_t zero_point, float *out,
                              size_t n)
{
    const __m512 s = _mm512_set1_ps(scale);
    const __m512i zp = _mm512_set1_epi32(zero_point);
    EACH_16(n, {
        __m512i v = _mm512_sub_epi32(load_u8(q + i, lanes), zp);
        store(out + i, lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(v), s));
    });
}

void qc_add_u8__avx512(const uint8_t *a, const uint8_t *b, const struct qc_add_u8 *p, uint8_t *out,
                       size_t n)
{
    const __m512 ra = _mm512_set1_ps(p->ra), rb = _mm512_set1_ps(p->rb);
    const __m512 k = _mm512_set1_ps(p->k);
    const __m512 lo = _mm512_set1_ps((float)(p->y_min - p->offset));
    const __m512 hi = _mm512_set1_ps((float)(p->y_max - p->offset));
    const __m512i offset = _mm512_set1_epi32(p->offset);
    EACH_16(n, {
        __m512 fa = _mm512_cvtepi32_ps(_mm512_sub_epi32(load_u8(a + i, lanes), offset));
        __m512 fb = _mm512_cvtepi32_ps(_mm512_sub_epi32(load_u8(b + i, lanes), offset));
        __m512 y = _mm512_fmadd_ps(fa, ra, _mm512_fmadd_ps(fb, rb, k));
        store_u8(out + i, lanes, _mm512_add_epi32(clamp_round(y, lo, hi), offset));
    });
}

void qc_mul_u8__avx512(const uint8_t *a, const uint8_t *b, const struct qc_mul_u8 *p, uint8_t *out,
                       size_t n)
{
    const __m512i za = _mm512_set1_epi32(p->a_zero_point);
    const __m512i zb = _mm512_set1_epi32(p->b_zero_point);
    const __m512 m = _mm512_set1_ps(p->multiplier);
    const __m512 zy = _mm512_set1_ps((float)p->y_zero_point);
    const __m512 lo = _mm512_set1_ps((float)p->y_min), hi = _mm512_set1_ps((float)p->y_max);
    EACH_16(n, {
        __m512i product = _mm512_mullo_epi32(_mm512_sub_epi32(load_u8(a + i, lanes), za),
                                             _mm512_sub_epi32(load_u8(b + i, lanes), zb));
        __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(product), m), zy);
        store_u8(out + i, lanes, clamp_round(y, lo, hi));
    });
}

/* Sixteen tables of sixteen bytes: the high nibble selects the table, the low one the byte. */
INLINE __m512i look_up(__m512i x, const uint8_t *table)
{
    const __m512i low = _mm512_and_si512(x, _mm512_set1_epi8(15));
    const __m512i high = _mm512_sub_epi8(x, low);
    __m512i y = _mm512_setzero_si512();
    for (int k = 0; k < 16; k++) {
        __m128i part = _mm_loadu_si128((const __m128i *)(const void *)(table + 16 * k));
        __mmask64 here = _mm512_cmpeq_epi8_mask(high, _mm512_set1_epi8((char)(16 * k)));
        y = _mm512_mask_shuffle_epi8(y, here, _mm512_broadcast_i32x4(part), low);
    }
    return y;
}

void qc_lut_u8__avx512(const uint8_t *x, const uint8_t table[256], uint8_t *out, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        _mm512_storeu_si512(out + i, look_up(_mm512_loadu_si512(x + i), table));
    }
    /* for a few bytes, sixteen shuffles are more work than the loop */
    if (n - i >= 16) {
        __mmask64 lanes = (1ULL << (n - i)) - 1;
        __m512i y = look_up(_mm512_maskz_loadu_epi8(lanes, x + i), table);
        _mm512_mask_storeu_epi8(out + i, lanes, y);
    } else {
        qc_lut_u8__ref(x + i, table, out + i, n - i);
    }
}

void qc_max_taps_u8__avx512(const uint8_t *x, const int32_t *tap, int n_taps, uint8_t *out,
                            size_t n)
{
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 lanes = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        __m512i most = _mm512_maskz_loadu_epi8(lanes, x + i + tap[0]);
        for (int t = 1; t < n_taps; t++) {
            most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi8(lanes, x + i + tap[t]));
        }
        _mm512_mask_storeu_epi8(out + i, lanes, most);
    }
}

void qc_sum_u8__avx512(const uint8_t *x, int32_t *inout, size_t n)
{
    EACH_16(n, {
        __m512i sum = lanes == ALL ? _mm512_loadu_si512(inout + i)
                                   : _mm512_maskz_loadu_epi32(lanes, inout + i);
        sum = _mm512_add_epi32(sum, load_u8(x + i, lanes));
        _mm512_mask_storeu_epi32(inout + i, lanes, sum);
    });
}
