/* u8 x s8 convolution tile, AVX2: up to 6 pixels x 16 channels in 12 of the 16 registers.
 * vpmaddubsw would saturate, so bytes are widened to s16 first and vpmaddwd takes two input
 * channels. Products and sums are exact, as with vpdpbusd.
 *
 * The inputs are widened before: by the caller for all its panels, or here for this one, a chunk of
 * them at a time, which stays in the first cache; between chunks the sums wait in memory. The
 * weights are widened as they are loaded: s16 weights would be twice as large and are not faster. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"
#include "quantcore/kernels/kernels_s8_ymm.h"

/* ROW_STEP: rows a power of two apart would share few sets of the cache. */
enum { ROWS = 6, CHUNK = 512, ROW_STEP = CHUNK + 32 };

/* A tile, or a chunk of its inputs. */
struct part {
    const int16_t *const *row;
    const int32_t *tap;
    int n_taps, channels;
    const int8_t *weights;
    int32_t (*sum)[QC_NR]; /* between chunks */
    bool begins, ends;
};

void qc_widen_u8__avx2(const uint8_t *x, int16_t *out, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm256_cvtepu8_epi16(bytes));
    }
    for (; i + 4 <= n; i += 4) {
        __m128i bytes = _mm256_castsi256_si128(broadcast4(x + i));
        _mm_storel_epi64((__m128i *)(void *)(out + i), _mm_cvtepu8_epi16(bytes));
    }
    for (; i < n; i++) {
        out[i] = x[i];
    }
}

/* 8 output channels of two input channels. */
TILE_INLINE __m256i load_weights(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

TILE_INLINE void store_s32(int32_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
}

/* What the codes of 16 channels need, loaded once a tile. */
struct codes {
    __m256 multiplier[2];
    __m256 hi;
    __m256i zero_point, y_min, y_max, order;
    bool bare; /* zero point 0, no clamp but 0 and 255, multipliers below a half */
};

TILE_INLINE void codes_init(struct codes *q, const struct qc_tile_s8 *t, int first)
{
    const __m256 half = _mm256_set1_ps(0.5f);
    q->multiplier[0] = _mm256_loadu_ps(t->multiplier + first);
    q->multiplier[1] = _mm256_loadu_ps(t->multiplier + first + 8);
    q->hi = _mm256_set1_ps((float)(t->y_max - t->y_zero_point));
    q->zero_point = _mm256_set1_epi16((int16_t)t->y_zero_point);
    q->y_min = _mm256_set1_epi8((char)t->y_min);
    q->y_max = _mm256_set1_epi8((char)t->y_max);
    q->order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256 large = _mm256_or_ps(_mm256_cmp_ps(q->multiplier[0], half, _CMP_NLT_UQ),
                                _mm256_cmp_ps(q->multiplier[1], half, _CMP_NLT_UQ));
    q->bare = _mm256_movemask_ps(large) == 0 && t->y_zero_point == 0 && t->y_min == 0 &&
              t->y_max == 255;
}

/* Beyond 2^31 an f32 would become the smallest integer: multipliers below a half stay away. */
TILE_INLINE __m256i to_steps(const struct codes *q, __m256i acc, int half, bool bare)
{
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), q->multiplier[half]);
    return _mm256_cvtps_epi32(bare ? y : _mm256_min_ps(y, q->hi));
}

/* A row's codes as saturated 16 bits, four channels of v0 and four of v1 in each 128. */
TILE_INLINE __m256i to_codes(const struct codes *q, __m256i v0, __m256i v1, bool bare)
{
    __m256i y = _mm256_packs_epi32(to_steps(q, v0, 0, bare), to_steps(q, v1, 1, bare));
    return bare ? y : _mm256_adds_epi16(y, q->zero_point);
}

/* Nothing is written past n channels. */
TILE_INLINE void store_codes(uint8_t *out, __m128i codes, int n)
{
    if (n >= LANES) {
        _mm_storeu_si128((__m128i *)(void *)out, codes);
    } else {
        uint8_t buffer[LANES];
        _mm_storeu_si128((__m128i *)(void *)buffer, codes);
        memcpy(out, buffer, (size_t)n);
    }
}

/* Two rows at once: packing leaves dwords of both in each 128 bits, `order` sorts them. */
TILE_INLINE void store_u8(const struct qc_tile_s8 *t, const struct codes *q, int first,
                          const __m256i *rows, int n, bool bare)
{
    const int n_out = t->n_out - first;
#pragma GCC unroll 3
    for (int r = 0; r < n; r += 2) {
        int second = r + 1 < n ? r + 1 : r;
        __m256i y = _mm256_packus_epi16(rows[r], rows[second]);
        y = bare ? y : _mm256_min_epu8(_mm256_max_epu8(y, q->y_min), q->y_max);
        y = _mm256_permutevar8x32_epi32(y, q->order);
        store_codes(t->out_u8[r] + first, _mm256_castsi256_si128(y), n_out);
        store_codes(t->out_u8[second] + first, _mm256_extracti128_si256(y, 1), n_out);
    }
}

/* In assembly: where the compiler chooses the register of the sum, gcc 12 moves every second one. */
#define ADD_PRODUCT(acc, x, w)                                   \
    {                                                            \
        const __m256i product = _mm256_madd_epi16(x, w);         \
        __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(product)); \
    }
#define POINT(r)   const int16_t *x##r = p->row[r] + p->tap[tap];
#define PAIR(r, c) broadcast4((const uint8_t *)(x##r + (c)))

/* By width: a row's accumulators from the bias, from memory and into it, its offset and its step of
 * two input channels, whose weights come first. */
#define ACC_16(r)    __m256i a##r, b##r;
#define BEGIN_16(r)  a##r = load_s32(t->bias + first), b##r = load_s32(t->bias + first + 8);
#define OFFSET_16(r) OFFSET(r)
#define RESUME_16(r) a##r = load_s32(p->sum[r] + first), b##r = load_s32(p->sum[r] + first + 8);
#define KEEP_16(r)                      \
    store_s32(p->sum[r] + first, a##r); \
    store_s32(p->sum[r] + first + 8, b##r);
#define WEIGHTS_16 const __m256i w0 = load_weights(w), w1 = load_weights(w + 16);
#define STEP_16(r)                       \
    {                                    \
        const __m256i pair = PAIR(r, c); \
        ADD_PRODUCT(a##r, pair, w0)      \
        ADD_PRODUCT(b##r, pair, w1)      \
    }
#define STORE_16(r)      store_row(t, &f, r, first, a##r, b##r);
#define CODES_16(r)      to_codes(&q, a##r, b##r, false),
#define BARE_CODES_16(r) to_codes(&q, a##r, b##r, true),

#define ACC_8(r)   __m256i a##r;
#define BEGIN_8(r) a##r = load_s32(t->bias + first);
#define OFFSET_8(r) \
    a##r = _mm256_sub_epi32(a##r, _mm256_mullo_epi32(z0, _mm256_set1_epi32(t->row_sum[r])));
#define RESUME_8(r) a##r = load_s32(p->sum[r] + first);
#define KEEP_8(r)   store_s32(p->sum[r] + first, a##r);
#define WEIGHTS_8   const __m256i w0 = load_weights(w);
#define STEP_8(r)   ADD_PRODUCT(a##r, PAIR(r, c), w0)
#define STORE_8(r)  store_row(t, &f, r, first, a##r, a##r);
#define CODES_8(r)      to_codes(&q, a##r, a##r, false),
#define BARE_CODES_8(r) to_codes(&q, a##r, a##r, true),

#define TILE_OF(n, width)                                                                       \
    static void tile_##n##x##width(const struct qc_tile_s8 *t, const struct part *p, int first) \
    {                                                                                           \
        const int8_t *w = p->weights + 2 * first;                                               \
        const ptrdiff_t channels = p->channels;                                                 \
        ROWS_##n(ACC_##width)                                                                   \
        if (!p->begins) {                                                                       \
            ROWS_##n(RESUME_##width)                                                            \
        } else {                                                                                \
            ROWS_##n(BEGIN_##width)                                                             \
        }                                                                                       \
        if (p->begins && t->row_sum != NULL) {                                                  \
            const __m256i z0 = load_s32(t->w_zero_point + first);                               \
            const __m256i z1 = load_s32(t->w_zero_point + first + (width) - 8);                 \
            (void)z1; /* of 16 */                                                               \
            ROWS_##n(OFFSET_##width)                                                            \
        }                                                                                       \
        for (int tap = 0; tap < p->n_taps; tap++) {                                             \
            ROWS_##n(POINT)                                                                     \
            for (ptrdiff_t c = 0; c < channels; c += 2, w += 2 * QC_NR) {                       \
                WEIGHTS_##width                                                                 \
                ROWS_##n(STEP_##width)                                                          \
            }                                                                                   \
        }                                                                                       \
        if (!p->ends) {                                                                         \
            ROWS_##n(KEEP_##width)                                                              \
            return;                                                                             \
        }                                                                                       \
        if (t->out_u8 == NULL) {                                                                \
            struct finish f;                                                                    \
            finish_init(&f, t);                                                                 \
            ROWS_##n(STORE_##width)                                                             \
            return;                                                                             \
        }                                                                                       \
        struct codes q;                                                                         \
        codes_init(&q, t, first);                                                               \
        if (q.bare) {                                                                           \
            const __m256i codes[] = {ROWS_##n(BARE_CODES_##width)};                             \
            store_u8(t, &q, first, codes, n, true);                                             \
        } else {                                                                                \
            const __m256i codes[] = {ROWS_##n(CODES_##width)};                                  \
            store_u8(t, &q, first, codes, n, false);                                            \
        }                                                                                       \
    }
#define TILE(n) TILE_OF(n, 16) TILE_OF(n, 8)

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

static void run_part(const struct qc_tile_s8 *t, const struct part *p)
{
    static void (*const tiles[2][ROWS])(const struct qc_tile_s8 *, const struct part *, int) = {
        {tile_1x16, tile_2x16, tile_3x16, tile_4x16, tile_5x16, tile_6x16},
        {tile_1x8, tile_2x8, tile_3x8, tile_4x8, tile_5x8, tile_6x8}};
    for (int first = 0; first < t->n_out; first += LANES) {
        tiles[t->n_out - first <= 8][t->n_rows - 1](t, p, first);
    }
}

/* Where the inputs that are not widened yet begin. */
struct place {
    int tap, channel;
};

/* As many inputs of all rows as a chunk takes. Returns how many. */
static int widen_chunk(const struct qc_tile_s8 *t, struct place *at, int16_t *x)
{
    int depth = 0;
    while (at->tap < t->n_taps && depth < CHUNK) {
        int left = t->channels - at->channel, room = CHUNK - depth;
        int n = left < room ? left : room;
        for (int r = 0; r < t->n_rows; r++) {
            const uint8_t *from = t->row[r] + t->tap[at->tap] + at->channel;
            qc_widen_u8__avx2(from, x + r * ROW_STEP + depth, (size_t)n);
        }
        depth += n;
        at->channel += n;
        if (at->channel == t->channels) {
            *at = (struct place){at->tap + 1, 0};
        }
    }
    return depth;
}

static void run_chunks(const struct qc_tile_s8 *t)
{
    static const int32_t no_tap[1] = {0};
    int16_t x[ROWS * ROW_STEP];
    int32_t sum[ROWS][QC_NR];
    const int16_t *row[ROWS];
    struct place at = {0, 0};
    struct part p = {.row = row, .tap = no_tap, .n_taps = 1, .weights = t->weights, .sum = sum,
                     .begins = true};
    for (int r = 0; r < ROWS; r++) {
        row[r] = x + r * ROW_STEP;
    }
    do {
        p.channels = widen_chunk(t, &at, x);
        p.ends = at.tap == t->n_taps;
        run_part(t, &p);
        p.weights += (ptrdiff_t)p.channels * QC_NR;
        p.begins = false;
    } while (!p.ends);
}

/* Up to ROWS pixels. */
static void run_rows(const struct qc_tile_s8 *t)
{
    if (t->wide_row == NULL) {
        run_chunks(t);
        return;
    }
    const struct part p = {.row = t->wide_row, .tap = t->tap, .n_taps = t->n_taps,
                           .channels = t->channels, .weights = t->weights, .begins = true,
                           .ends = true};
    run_part(t, &p);
}

void qc_tile_s8__avx2(const struct qc_tile_s8 *t)
{
    run_row_groups(t, run_rows, ROWS);
}
