/* u8 x s8 convolution tile, AVX2: up to 6 pixels x 16 channels in 12 of the 16 registers.
 * vpmaddubsw would saturate, so bytes are widened to s16 first: of each group of four input
 * channels, vpmaddwd takes 0 and 2, then 1 and 3. Products and sums are exact, as with vpdpbusd.
 *
 * Widening the inputs in every step would cost as much as a fourth of the multiplications: that is
 * done before, for a chunk of them and for all channels of the panel. Their place is small enough
 * for the first cache; with more than one chunk the sums wait in memory in between. */
#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_rows.h"
#include "quantcore/kernels/kernels_s8_ymm.h"

/* ROW_STEP: rows are not a power of two apart, which would put them into few sets of the cache. */
enum { ROWS = 6, CHUNK = 512, ROW_STEP = CHUNK + 32 };

/* What a tile multiplies: `depth` of its inputs, widened, and the sums so far. */
struct chunk {
    int16_t x[ROWS * ROW_STEP]; /* of each four channels 0, 2, 1, 3 */
    int32_t sum[ROWS][QC_NR];
    const int8_t *weights;
    int depth;
    bool begins, ends; /* with the first, the last inputs */
};

/* n is a multiple of 4; up to 12 values behind are overwritten. */
TILE_INLINE void widen(const uint8_t *x, int n, int16_t *out)
{
    const __m256i order = _mm256_setr_epi8(0, -1, 2, -1, 1, -1, 3, -1, 4, -1, 6, -1, 5, -1, 7, -1,
                                           8, -1, 10, -1, 9, -1, 11, -1, 12, -1, 14, -1, 13, -1,
                                           15, -1);
    const __m128i half = _mm256_castsi256_si128(order);
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        __m256i wide = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), order);
        _mm256_storeu_si256((__m256i *)(void *)(out + i), wide);
    }
    for (; i + 8 <= n; i += 8) {
        __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(x + i));
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm_shuffle_epi8(bytes, half));
    }
    if (i < n) {
        __m128i bytes = _mm256_castsi256_si128(broadcast4(x + i));
        _mm_storeu_si128((__m128i *)(void *)(out + i), _mm_shuffle_epi8(bytes, half));
    }
}

static inline void store_s32(int32_t *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v);
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

/* In assembly: where the compiler chooses the register of the sum, gcc 12 moves every second one. */
#define ADD_PRODUCT(acc, x, w)                                       \
    {                                                                \
        const __m256i product = _mm256_madd_epi16(x, w);             \
        __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(product));     \
    }
/* Two channels of a row. */
#define PAIR(r, at) broadcast4((const uint8_t *)(x + (r) * ROW_STEP + (at)))

/* By width: a row's accumulators from the bias, from memory and into it, its offset and step; the
 * second half of what all rows use. */
#define ACC_16(r)    __m256i a##r, b##r;
#define BEGIN_16(r)  a##r = load_s32(t->bias + first), b##r = load_s32(t->bias + first + 8);
#define OFFSET_16(r) OFFSET(r)
#define RESUME_16(r) a##r = load_s32(c->sum[r] + first), b##r = load_s32(c->sum[r] + first + 8);
#define KEEP_16(r)                       \
    store_s32(c->sum[r] + first, a##r);  \
    store_s32(c->sum[r] + first + 8, b##r);
#define STEP_16(r)                       \
    {                                    \
        const __m256i pair = PAIR(r, 0); \
        ADD_PRODUCT(a##r, pair, even0)   \
        ADD_PRODUCT(b##r, pair, even1)   \
    }
#define ODD_STEP_16(r)                   \
    {                                    \
        const __m256i pair = PAIR(r, 2); \
        ADD_PRODUCT(a##r, pair, odd0)    \
        ADD_PRODUCT(b##r, pair, odd1)    \
    }
#define EVEN_WEIGHTS_16 const __m256i even1 = even_s16(load32(w + 32));
#define ODD_WEIGHTS_16  const __m256i odd1 = odd_s16(load32(w + 32));
#define STORE_16(r)     store_row(t, &f, r, first, a##r, b##r);

#define ACC_8(r)    __m256i a##r;
#define BEGIN_8(r)  a##r = load_s32(t->bias + first);
#define OFFSET_8(r) \
    a##r = _mm256_sub_epi32(a##r, _mm256_mullo_epi32(z0, _mm256_set1_epi32(t->row_sum[r])));
#define RESUME_8(r)   a##r = load_s32(c->sum[r] + first);
#define KEEP_8(r)     store_s32(c->sum[r] + first, a##r);
#define STEP_8(r)     ADD_PRODUCT(a##r, PAIR(r, 0), even0)
#define ODD_STEP_8(r) ADD_PRODUCT(a##r, PAIR(r, 2), odd0)
#define EVEN_WEIGHTS_8
#define ODD_WEIGHTS_8
#define STORE_8(r) store_row(t, &f, r, first, a##r, a##r);

#define TILE_OF(n, width)                                                                        \
    static void tile_##n##x##width(const struct qc_tile_s8 *t, struct chunk *c, int first)       \
    {                                                                                            \
        const int8_t *w = c->weights + 4 * first;                                                \
        ROWS_##n(ACC_##width)                                                                    \
        if (!c->begins) {                                                                        \
            ROWS_##n(RESUME_##width)                                                             \
        } else {                                                                                 \
            ROWS_##n(BEGIN_##width)                                                              \
            if (t->row_sum != NULL) {                                                            \
                const __m256i z0 = load_s32(t->w_zero_point + first);                            \
                const __m256i z1 = load_s32(t->w_zero_point + first + (width) - 8);              \
                (void)z1;                                                                        \
                ROWS_##n(OFFSET_##width)                                                         \
            }                                                                                    \
        }                                                                                        \
        for (const int16_t *x = c->x, *end = x + c->depth; x < end; x += 4, w += 4 * QC_NR) {    \
            {                                                                                    \
                const __m256i even0 = even_s16(load32(w));                                       \
                EVEN_WEIGHTS_##width                                                             \
                ROWS_##n(STEP_##width)                                                           \
            }                                                                                    \
            const __m256i odd0 = odd_s16(load32(w));                                             \
            ODD_WEIGHTS_##width                                                                  \
            ROWS_##n(ODD_STEP_##width)                                                           \
        }                                                                                        \
        if (!c->ends) {                                                                          \
            ROWS_##n(KEEP_##width)                                                               \
            return;                                                                              \
        }                                                                                        \
        struct finish f;                                                                         \
        finish_init(&f, t);                                                                      \
        ROWS_##n(STORE_##width)                                                                  \
    }
#define TILE(n) TILE_OF(n, 16) TILE_OF(n, 8)

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

typedef void tile_fn(const struct qc_tile_s8 *t, struct chunk *c, int first);

/* Where the inputs that are not widened yet begin. */
struct place {
    int tap, channel;
};

/* The next inputs of all rows into the chunk, as many as it takes. */
static void fill(const struct qc_tile_s8 *t, struct place *at, struct chunk *c)
{
    c->depth = 0;
    while (at->tap < t->n_taps && c->depth < CHUNK) {
        int left = t->channels - at->channel, room = CHUNK - c->depth;
        int n = left < room ? left : room;
        for (int r = 0; r < t->n_rows; r++) {
            widen(t->row[r] + t->tap[at->tap] + at->channel, n,
                  c->x + r * ROW_STEP + c->depth);
        }
        c->depth += n;
        at->channel += n;
        if (at->channel == t->channels) {
            *at = (struct place){at->tap + 1, 0};
        }
    }
    c->ends = at->tap == t->n_taps;
}

/* Up to ROWS pixels. */
static void run_rows(const struct qc_tile_s8 *t)
{
    static tile_fn *const tiles[2][ROWS] = {
        {tile_1x16, tile_2x16, tile_3x16, tile_4x16, tile_5x16, tile_6x16},
        {tile_1x8, tile_2x8, tile_3x8, tile_4x8, tile_5x8, tile_6x8}};
    struct place at = {0, 0};
    struct chunk c;
    c.weights = t->weights;
    c.begins = true;
    do {
        fill(t, &at, &c);
        for (int first = 0; first < t->n_out; first += LANES) {
            tiles[t->n_out - first <= 8][t->n_rows - 1](t, &c, first);
        }
        c.weights += (ptrdiff_t)c.depth * QC_NR;
        c.begins = false;
    } while (!c.ends);
}

void qc_tile_s8__avx2(const struct qc_tile_s8 *t)
{
    run_row_groups(t, run_rows, ROWS);
}
