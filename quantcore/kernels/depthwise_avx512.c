/* Depthwise convolution, AVX-512: 16 channels x 8 pixels, so that a weight is loaded once for
 * eight multiply-adds. Channels beyond a multiple of 16 are masked: no byte past them is read
 * from the input or written. */
#include <immintrin.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 16, PIXELS = 8 };

static inline __mmask16 lanes_of(int n)
{
    return (__mmask16)(n >= LANES ? 0xffffU : (1U << n) - 1);
}

static inline void store_f32(float *out, __mmask16 lanes, __m512 y, __m512 lo, __m512 hi)
{
    _mm512_mask_storeu_ps(out, lanes, _mm512_min_ps(hi, _mm512_max_ps(lo, y)));
}

/* Pixels from i on, channels from c on. */
typedef void segment_f32_fn(const struct qc_depthwise_f32 *d, int i, int c, __mmask16 lanes);

#define ACC(r)  __m512 a##r = bias;
/* Three pixels a pointer: the others are one and two steps away, which an address can hold. */
#define AT(p, r, step) (p[(r) / 3] + (r) % 3 * step)
#define STEP(r) a##r = _mm512_fmadd_ps(LOAD(AT(x, r, in_step)), w, a##r);
#define STORE(r) store_f32(AT(y, r, out_step), lanes, a##r, lo, hi);

#define SEGMENT(name, n)                                                                     \
    static void name##_##n(const struct qc_depthwise_f32 *d, int i, int c, __mmask16 lanes)  \
    {                                                                                        \
        const __m512 bias = _mm512_loadu_ps(d->bias + c);                                    \
        const __m512 lo = _mm512_set1_ps(d->lo), hi = _mm512_set1_ps(d->hi);                 \
        const float *weights = d->weights + c;                                               \
        const ptrdiff_t in_step = d->in_step, out_step = d->out_step;                        \
        const float *in = d->in + i * in_step + c;                                           \
        ROWS_##n(ACC) for (int t = 0; t < d->n_taps; t++)                                    \
        {                                                                                    \
            const float *x0 = in + d->tap[t];                                                \
            const float *const x[3] = {x0, x0 + 3 * in_step, x0 + 6 * in_step};              \
            const __m512 w = _mm512_loadu_ps(weights);                                       \
            weights += d->channels_padded;                                                   \
            ROWS_##n(STEP)                                                                   \
        }                                                                                    \
        float *out = d->out + i * out_step + c;                                              \
        float *const y[3] = {out, out + 3 * out_step, out + 6 * out_step};                   \
        ROWS_##n(STORE)                                                                      \
    }
#define SEGMENTS(name)                                                          \
    SEGMENT(name, 1) SEGMENT(name, 2) SEGMENT(name, 3) SEGMENT(name, 4)         \
    SEGMENT(name, 5) SEGMENT(name, 6) SEGMENT(name, 7) SEGMENT(name, 8)         \
    static segment_f32_fn *const name[PIXELS] = {name##_1, name##_2, name##_3, name##_4, \
                                                 name##_5, name##_6, name##_7, name##_8};

#define LOAD(x) _mm512_loadu_ps(x)
SEGMENTS(whole_f32)
#undef LOAD
#define LOAD(x) _mm512_maskz_loadu_ps(lanes, x)
SEGMENTS(part_f32)
#undef LOAD

#undef ACC
#undef AT
#undef STEP
#undef STORE
#undef SEGMENT

/* 14 pixels are two segments of 7, not one of 8 and six of 1. */
static void one_row_f32(const struct qc_depthwise_f32 *d)
{
    int n = (d->n_pixels + PIXELS - 1) / PIXELS;
    for (int c = 0; c < d->channels; c += LANES) {
        __mmask16 lanes = lanes_of(d->channels - c);
        segment_f32_fn *const *by_pixels = d->channels - c >= LANES ? whole_f32 : part_f32;
        for (int k = 0; k < n; k++) {
            int first = k * d->n_pixels / n, end = (k + 1) * d->n_pixels / n;
            by_pixels[end - first - 1](d, first, c, lanes);
        }
    }
}

void qc_depthwise_f32__avx512(const struct qc_depthwise_f32 *d)
{
    each_row_f32(d, one_row_f32);
}

/* A zero-extended byte is the s16 pair (x, 0), a sign-extended weight (w, sign): vpdpwssd of
 * both is the exact product in one instruction, where vpmulld takes several. */
static inline __m512i load_u8(const uint8_t *x, __mmask16 lanes)
{
    return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, x));
}

static inline void store_s8(const struct qc_depthwise_s8 *d, int64_t at, int c, __mmask16 lanes,
                            __m512i acc)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(d->multiplier + c));
    if (d->out_u8 != NULL) {
        y = _mm512_max_ps(y, _mm512_set1_ps((float)(d->y_min - d->y_zero_point)));
        y = _mm512_min_ps(y, _mm512_set1_ps((float)(d->y_max - d->y_zero_point)));
        __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(y), _mm512_set1_epi32(d->y_zero_point));
        _mm_mask_storeu_epi8(d->out_u8 + at, lanes, _mm512_cvtepi32_epi8(q));
    } else {
        store_f32(d->out_f32 + at, lanes, y, _mm512_set1_ps(d->lo), _mm512_set1_ps(d->hi));
    }
}

#define ACC(r)   __m512i a##r = bias;
#define POINT(r) const uint8_t *x##r = d->in + (i + r) * d->in_step + c;
#define STEP(r)  a##r = _mm512_dpwssd_epi32(a##r, load_u8(x##r + tap, lanes), w);
#define STORE(r) store_s8(d, (i + r) * d->out_step + c, c, lanes, a##r);

#define SEGMENT(n)                                                                               \
    static void segment_s8_##n(const struct qc_depthwise_s8 *d, int i, int c, __mmask16 lanes)   \
    {                                                                                            \
        const __m512i bias = _mm512_loadu_si512(d->bias + c);                                    \
        const int16_t *weights = d->weights + c;                                                 \
        ROWS_##n(ACC) ROWS_##n(POINT) for (int t = 0; t < d->n_taps; t++)                        \
        {                                                                                        \
            const ptrdiff_t tap = d->tap[t];                                                     \
            const __m512i w = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)weights));  \
            weights += d->channels_padded;                                                       \
            ROWS_##n(STEP)                                                                       \
        }                                                                                        \
        ROWS_##n(STORE)                                                                          \
    }

SEGMENT(1)
SEGMENT(2)
SEGMENT(3)
SEGMENT(4)
SEGMENT(5)
SEGMENT(6)
SEGMENT(7)
SEGMENT(8)

static void depthwise_segments(const struct qc_depthwise_s8 *d)
{
    static void (*const by_pixels[PIXELS])(const struct qc_depthwise_s8 *, int, int,
                                           __mmask16) = {
        segment_s8_1, segment_s8_2, segment_s8_3, segment_s8_4,
        segment_s8_5, segment_s8_6, segment_s8_7, segment_s8_8,
    };
    int n = (d->n_pixels + PIXELS - 1) / PIXELS;
    for (int c = 0; c < d->channels; c += LANES) {
        __mmask16 lanes = lanes_of(d->channels - c);
        for (int k = 0; k < n; k++) {
            int first = k * d->n_pixels / n, end = (k + 1) * d->n_pixels / n;
            by_pixels[end - first - 1](d, first, c, lanes);
        }
    }
}

/* ---- weights of eight bits: four taps a multiply-add ----------------------------------------
 * The bytes of four taps are interleaved within 128-bit lanes, which leaves quad k with channels
 * 16 lane + 4 k + 0..3: weights, bias and multiplier are brought into that order, and packing the
 * results brings them back. */
/* Interleaved bytes of up to four taps, in the order of the quads. */
struct four {
    __m512i q0, q1, q2, q3;
};

static inline struct four interleave(__m512i x0, __m512i x1, __m512i x2, __m512i x3)
{
    __m512i l01 = _mm512_unpacklo_epi8(x0, x1), l23 = _mm512_unpacklo_epi8(x2, x3);
    __m512i h01 = _mm512_unpackhi_epi8(x0, x1), h23 = _mm512_unpackhi_epi8(x2, x3);
    return (struct four){_mm512_unpacklo_epi16(l01, l23), _mm512_unpackhi_epi16(l01, l23),
                         _mm512_unpacklo_epi16(h01, h23), _mm512_unpackhi_epi16(h01, h23)};
}

static inline struct four multiply_add(struct four acc, struct four x, struct four w)
{
    return (struct four){
        _mm512_dpbusd_epi32(acc.q0, x.q0, w.q0), _mm512_dpbusd_epi32(acc.q1, x.q1, w.q1),
        _mm512_dpbusd_epi32(acc.q2, x.q2, w.q2), _mm512_dpbusd_epi32(acc.q3, x.q3, w.q3)};
}

static inline struct four load_four(const void *x)
{
    const __m512i *v = x;
    return (struct four){_mm512_loadu_si512(v), _mm512_loadu_si512(v + 1),
                         _mm512_loadu_si512(v + 2), _mm512_loadu_si512(v + 3)};
}

struct quads {
    const int8_t *w; /* of these 64 channels: 256 bytes a group of four taps */
    struct four bias;
    __m512 multiplier[4];
    __m512 hi;
    __m512i zero_point, y_min, y_max;
    __mmask64 lanes;
    /* Packing alone gives the codes: the zero point is 0, they are not clamped any further, and
     * no multiplier reaches a half. */
    bool bare;
};

/* Blocks of 128 bits, 4 x 4 transposed: natural order of channels to that of quads. */
static inline void to_quads(const void *natural, __m512i ret[4])
{
    const __m512i *x = natural;
    __m512i a = _mm512_loadu_si512(x), b = _mm512_loadu_si512(x + 1);
    __m512i c = _mm512_loadu_si512(x + 2), d = _mm512_loadu_si512(x + 3);
    __m512i ab = _mm512_shuffle_i32x4(a, b, 0x44), cd = _mm512_shuffle_i32x4(c, d, 0x44);
    ret[0] = _mm512_shuffle_i32x4(ab, cd, 0x88);
    ret[1] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
    ab = _mm512_shuffle_i32x4(a, b, 0xee);
    cd = _mm512_shuffle_i32x4(c, d, 0xee);
    ret[2] = _mm512_shuffle_i32x4(ab, cd, 0x88);
    ret[3] = _mm512_shuffle_i32x4(ab, cd, 0xdd);
}

static void quads_init(struct quads *q, const struct qc_depthwise_s8 *d, int c)
{
    __m512i bias[4], multiplier[4];
    to_quads(d->bias + c, bias);
    q->bias = (struct four){bias[0], bias[1], bias[2], bias[3]};
    to_quads(d->multiplier + c, multiplier);
    q->bare = d->y_zero_point == 0 && d->y_min == 0 && d->y_max == 255;
    for (int k = 0; k < 4; k++) {
        q->multiplier[k] = _mm512_castsi512_ps(multiplier[k]);
        q->bare = q->bare && _mm512_cmp_ps_mask(q->multiplier[k], _mm512_set1_ps(0.5f),
                                                _CMP_NLT_UQ) == 0;
    }
    q->w = d->quads + (size_t)c * 4;
    q->hi = _mm512_set1_ps((float)(d->y_max - d->y_zero_point));
    q->zero_point = _mm512_set1_epi16((int16_t)d->y_zero_point);
    q->y_min = _mm512_set1_epi8((char)d->y_min);
    q->y_max = _mm512_set1_epi8((char)d->y_max);
    q->lanes = d->channels - c >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (d->channels - c)) - 1;
}

/* Below y_min the conversions and packs saturate, above y_max the f32 minimum comes first: an f32
 * beyond 2^31 would become the smallest integer. */
static inline __m512i quad_round(__m512i acc, __m512 multiplier, __m512 hi, bool bare)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), multiplier);
    return _mm512_cvtps_epi32(bare ? y : _mm512_min_ps(y, hi));
}

static inline void quads_store(const struct quads *q, uint8_t *out, struct four a, bool bare)
{
    __m512i lo = _mm512_packs_epi32(quad_round(a.q0, q->multiplier[0], q->hi, bare),
                                    quad_round(a.q1, q->multiplier[1], q->hi, bare));
    __m512i hi = _mm512_packs_epi32(quad_round(a.q2, q->multiplier[2], q->hi, bare),
                                    quad_round(a.q3, q->multiplier[3], q->hi, bare));
    __m512i y;
    if (bare) {
        y = _mm512_packus_epi16(lo, hi);
    } else {
        y = _mm512_packus_epi16(_mm512_adds_epi16(lo, q->zero_point),
                                _mm512_adds_epi16(hi, q->zero_point));
        y = _mm512_min_epu8(_mm512_max_epu8(y, q->y_min), q->y_max);
    }
    _mm512_mask_storeu_epi8(out, q->lanes, y);
}

static inline void quads_pixel(const struct qc_depthwise_s8 *d, const struct quads *q,
                               const uint8_t *in, uint8_t *out)
{
    const ptrdiff_t group = (ptrdiff_t)d->channels_padded * 4;
    const int8_t *w = q->w;
    const int32_t *tap = d->quad_tap;
    struct four acc = q->bias;
    for (int g = 0; g < d->n_quads; g++, w += group, tap += 4) {
        __m512i x0 = _mm512_maskz_loadu_epi8(q->lanes, in + tap[0]);
        __m512i x1 = _mm512_maskz_loadu_epi8(q->lanes, in + tap[1]);
        __m512i x2 = _mm512_maskz_loadu_epi8(q->lanes, in + tap[2]);
        __m512i x3 = _mm512_maskz_loadu_epi8(q->lanes, in + tap[3]);
        acc = multiply_add(acc, interleave(x0, x1, x2, x3), load_four(w));
    }
    quads_store(q, out, acc, false);
}

/* One column of a 3 x 3 kernel's input: its three rows are a quad, interleaved once for the two or
 * three outputs that use it. */
static inline struct four column(const struct qc_depthwise_s8 *d, const struct quads *q,
                                 const uint8_t *in)
{
    __m512i x0 = _mm512_maskz_loadu_epi8(q->lanes, in + d->quad_tap[0]);
    __m512i x1 = _mm512_maskz_loadu_epi8(q->lanes, in + d->quad_tap[1]);
    __m512i x2 = _mm512_maskz_loadu_epi8(q->lanes, in + d->quad_tap[2]);
    return interleave(x0, x1, x2, x2);
}

/* Stride 1: column j begins output j, goes on with j - 1 and ends j - 2. */
#define COLUMN(begun, middle, ended)                                           \
    {                                                                          \
        const struct four x = column(d, q, in + j * d->column_step);           \
        begun = multiply_add(q->bias, x, w0);                                  \
        middle = multiply_add(middle, x, w1);                                  \
        ended = multiply_add(ended, x, w2);                                    \
        if (j >= 2) {                                                          \
            quads_store(q, out + (j - 2) * d->out_step, ended, bare);          \
        }                                                                      \
        if (++j == d->n_pixels + 2) {                                          \
            break;                                                             \
        }                                                                      \
    }

static inline void columns_stride_1(const struct qc_depthwise_s8 *d, const struct quads *q,
                                    const uint8_t *in, uint8_t *out, bool bare)
{
    const ptrdiff_t group = (ptrdiff_t)d->channels_padded * 4;
    const struct four w0 = load_four(q->w), w1 = load_four(q->w + group);
    const struct four w2 = load_four(q->w + 2 * group);
    struct four a = q->bias, b = a, c = a;
    for (int j = 0;;) {
        COLUMN(a, c, b)
        COLUMN(b, a, c)
        COLUMN(c, b, a)
    }
}

static inline void columns_stride_2(const struct qc_depthwise_s8 *d, const struct quads *q,
                                    const uint8_t *in, uint8_t *out, bool bare)
{
    const ptrdiff_t group = (ptrdiff_t)d->channels_padded * 4;
    const struct four w0 = load_four(q->w), w1 = load_four(q->w + group);
    const struct four w2 = load_four(q->w + 2 * group);
    struct four acc = multiply_add(q->bias, column(d, q, in), w0);
    for (int i = 0; i < d->n_pixels; i++, in += d->in_step, out += d->out_step) {
        const struct four last = column(d, q, in + 2 * d->column_step);
        acc = multiply_add(acc, column(d, q, in + d->column_step), w1);
        quads_store(q, out, multiply_add(acc, last, w2), bare);
        acc = multiply_add(q->bias, last, w0);
    }
}

static void columns(const struct qc_depthwise_s8 *d, const struct quads *q, const uint8_t *in,
                    uint8_t *out)
{
    if (d->in_step == d->column_step && q->bare) {
        columns_stride_1(d, q, in, out, true);
    } else if (d->in_step == d->column_step) {
        columns_stride_1(d, q, in, out, false);
    } else if (q->bare) {
        columns_stride_2(d, q, in, out, true);
    } else {
        columns_stride_2(d, q, in, out, false);
    }
}

static void depthwise_quads(const struct qc_depthwise_s8 *d)
{
    for (int c = 0; c < d->channels; c += 64) {
        /* All rows of these channels, before the next: what two of them share is in the first
         * cache. (In f32, four times as much, that was slower.) */
        struct quads q;
        const uint8_t *in = d->in + c;
        uint8_t *out = d->out_u8 + c;
        quads_init(&q, d, c);
        for (int r = 0; r < d->n_rows; r++, in += d->in_row, out += d->out_row) {
            if (d->column_step > 0) {
                columns(d, &q, in, out);
                continue;
            }
            for (int i = 0; i < d->n_pixels; i++) {
                quads_pixel(d, &q, in + i * d->in_step, out + i * d->out_step);
            }
        }
    }
}

/* Few channels would leave most lanes of the quads empty. */
enum { QUADS_FROM = 17 };

void qc_depthwise_s8__avx512(const struct qc_depthwise_s8 *d)
{
    if (d->quads != NULL && d->out_u8 != NULL && d->channels >= QUADS_FROM) {
        depthwise_quads(d);
    } else {
        each_row_s8(d, depthwise_segments);
    }
}
