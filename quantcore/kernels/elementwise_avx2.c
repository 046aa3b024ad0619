/* Elementwise kernels, AVX2 + FMA: whole vectors; the rest goes to `_ref`, whose result is the
 * same by contract. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_pixels.h"

enum { LANES = 8 };

static inline __m256i load_u8(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

static inline __m256 load_u8_f32(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(load_u8(p));
}

/* Values are in 0..255, so that packing never saturates. */
static inline void store_u8(uint8_t *p, __m256i v)
{
    __m128i s16 = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(s16, s16));
}

static inline __m256i load_i(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

static inline void store_i(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* lo for NaN, as in `_ref`; rounds half to even. */
static inline __m256i clamp_round(__m256 y, __m256 lo, __m256 hi)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(y, lo), hi));
}

void qc_add_f32__avx2(const float *a, const float *b, float *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    }
    qc_add_f32__ref(a + i, b + i, out + i, n - i);
}

void qc_mul_f32__avx2(const float *a, const float *b, float *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i)));
    }
    qc_mul_f32__ref(a + i, b + i, out + i, n - i);
}

void qc_clamp_f32__avx2(const float *x, float lo, float hi, float *out, size_t n)
{
    const __m256 l = _mm256_set1_ps(lo), h = _mm256_set1_ps(hi);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        _mm256_storeu_ps(out + i, _mm256_min_ps(h, _mm256_max_ps(l, _mm256_loadu_ps(x + i))));
    }
    qc_clamp_f32__ref(x + i, lo, hi, out + i, n - i);
}

void qc_max_taps_f32__avx2(const float *x, const int32_t *tap, int n_taps, float *out, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 most = _mm256_loadu_ps(x + i + tap[0]);
        for (int t = 1; t < n_taps; t++) {
            most = _mm256_max_ps(_mm256_loadu_ps(x + i + tap[t]), most);
        }
        _mm256_storeu_ps(out + i, most);
    }
    qc_max_taps_f32__ref(x + i, tap, n_taps, out + i, n - i);
}

void qc_sum_f32__avx2(const float *x, float *inout, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 old = _mm256_loadu_ps(inout + i);
        _mm256_storeu_ps(inout + i, _mm256_add_ps(old, _mm256_loadu_ps(x + i)));
    }
    qc_sum_f32__ref(x + i, inout + i, n - i);
}

void qc_quantize_u8__avx2(const float *x, float scale, int32_t zero_point, uint8_t *out, size_t n)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256 lo = _mm256_set1_ps((float)(0 - zero_point));
    const __m256 hi = _mm256_set1_ps((float)(255 - zero_point));
    const __m256i zp = _mm256_set1_epi32(zero_point);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256i q = clamp_round(_mm256_div_ps(_mm256_loadu_ps(x + i), s), lo, hi);
        store_u8(out + i, _mm256_add_epi32(q, zp));
    }
    qc_quantize_u8__ref(x + i, scale, zero_point, out + i, n - i);
}

/* Each store writes a whole vector, of which the next one overwrites what does not count. */
void qc_quantize_pixels_u8__avx2(const float *x, int64_t plane, int channels, float scale,
                                 int32_t zero_point, uint8_t *out, size_t n)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256 lo = _mm256_set1_ps((float)(0 - zero_point));
    const __m256 hi = _mm256_set1_ps((float)(255 - zero_point));
    const __m256i zp = _mm256_set1_epi32(zero_point);
    const __m128i order = qc_load_pixel_order(channels);
    const __m256i bytes = _mm256_broadcastsi128_si256(order), words = _mm256_cvtepu8_epi32(order);
    size_t i = 0, size = (size_t)channels;
    for (; (n - i) * size >= 32; i += LANES) {
        __m256i pixels = _mm256_setzero_si256();
        for (int c = channels - 1; c >= 0; c--) {
            __m256 v = _mm256_loadu_ps(x + c * plane + i);
            __m256i q = _mm256_add_epi32(clamp_round(_mm256_div_ps(v, s), lo, hi), zp);
            pixels = _mm256_or_si256(_mm256_slli_epi32(pixels, 8), q);
        }
        pixels = _mm256_shuffle_epi8(pixels, bytes);
        store_i(out + i * size, _mm256_permutevar8x32_epi32(pixels, words));
    }
    qc_quantize_pixels_u8__ref(x + i, plane, channels, scale, zero_point, out + i * size, n - i);
}

void qc_dequantize_u8__avx2(const uint8_t *q, float scale, int32_t zero_point, float *out,
                            size_t n)
{
    const __m256 s = _mm256_set1_ps(scale);
    const __m256i zp = _mm256_set1_epi32(zero_point);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256i v = _mm256_sub_epi32(load_u8(q + i), zp);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_cvtepi32_ps(v), s));
    }
    qc_dequantize_u8__ref(q + i, scale, zero_point, out + i, n - i);
}

void qc_add_u8__avx2(const uint8_t *a, const uint8_t *b, const struct qc_add_u8 *p, uint8_t *out,
                     size_t n)
{
    const __m256 ra = _mm256_set1_ps(p->ra), rb = _mm256_set1_ps(p->rb);
    const __m256 k = _mm256_set1_ps(p->k);
    const __m256 lo = _mm256_set1_ps((float)(p->y_min - p->offset));
    const __m256 hi = _mm256_set1_ps((float)(p->y_max - p->offset));
    const __m256i offset = _mm256_set1_epi32(p->offset);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 fa = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_u8(a + i), offset));
        __m256 fb = _mm256_cvtepi32_ps(_mm256_sub_epi32(load_u8(b + i), offset));
        __m256 y = _mm256_fmadd_ps(fa, ra, _mm256_fmadd_ps(fb, rb, k));
        store_u8(out + i, _mm256_add_epi32(clamp_round(y, lo, hi), offset));
    }
    qc_add_u8__ref(a + i, b + i, p, out + i, n - i);
}

void qc_mul_u8__avx2(const uint8_t *a, const uint8_t *b, const struct qc_mul_u8 *p, uint8_t *out,
                     size_t n)
{
    const __m256i za = _mm256_set1_epi32(p->a_zero_point);
    const __m256i zb = _mm256_set1_epi32(p->b_zero_point);
    const __m256 m = _mm256_set1_ps(p->multiplier);
    const __m256 zy = _mm256_set1_ps((float)p->y_zero_point);
    const __m256 lo = _mm256_set1_ps((float)p->y_min), hi = _mm256_set1_ps((float)p->y_max);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256i product = _mm256_mullo_epi32(_mm256_sub_epi32(load_u8(a + i), za),
                                             _mm256_sub_epi32(load_u8(b + i), zb));
        __m256 y = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(product), m), zy);
        store_u8(out + i, clamp_round(y, lo, hi));
    }
    qc_mul_u8__ref(a + i, b + i, p, out + i, n - i);
}

/* Sixteen tables of sixteen bytes. vpshufb gives 0 where bit 7 of the index is set: after 16 k is
 * subtracted with saturation, in every signed byte below 16 k. All tables up to the right one give
 * something then, so each is kept as its difference from the one before. Bytes from 128 on are
 * negative and wait for the second half, where the others are. */
void qc_lut_u8__avx2(const uint8_t *x, const uint8_t table[256], uint8_t *out, size_t n)
{
    __m256i change[16];
    for (int k = 0; k < 16; k++) {
        __m128i part = _mm_loadu_si128((const __m128i *)(const void *)(table + 16 * k));
        __m128i last = _mm_loadu_si128((const __m128i *)(const void *)(table + (16 * k + 240) % 256));
        change[k] = _mm256_broadcastsi128_si256(k % 8 == 0 ? part : _mm_xor_si128(part, last));
    }
    const __m256i next = _mm256_set1_epi8(16), flip = _mm256_set1_epi8(INT8_MIN);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i low = load_i(x + i), high = _mm256_xor_si256(low, flip);
        __m256i y = _mm256_setzero_si256();
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) {
            y = _mm256_xor_si256(y, _mm256_shuffle_epi8(change[k], low));
            y = _mm256_xor_si256(y, _mm256_shuffle_epi8(change[8 + k], high));
            low = _mm256_subs_epi8(low, next);
            high = _mm256_subs_epi8(high, next);
        }
        store_i(out + i, y);
    }
    qc_lut_u8__ref(x + i, table, out + i, n - i);
}

void qc_max_taps_u8__avx2(const uint8_t *x, const int32_t *tap, int n_taps, uint8_t *out,
                          size_t n)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i most = load_i(x + i + tap[0]);
        for (int t = 1; t < n_taps; t++) {
            most = _mm256_max_epu8(most, load_i(x + i + tap[t]));
        }
        store_i(out + i, most);
    }
    qc_max_taps_u8__ref(x + i, tap, n_taps, out + i, n - i);
}

void qc_sum_u8__avx2(const uint8_t *x, int32_t *inout, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        store_i(inout + i, _mm256_add_epi32(load_i(inout + i), load_u8(x + i)));
    }
    qc_sum_u8__ref(x + i, inout + i, n - i);
}
