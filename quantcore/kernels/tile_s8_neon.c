/* u8 x s8 convolution tile, NEON with dot product: up to 8 pixels x 8 channels in 16 of the 32
 * registers. SDOT multiplies signed bytes: it gets x - 128, and the sum of 128 w is added at the
 * end, counted in two more registers (an eighth of the work: a tile may take part of the taps, so
 * that no sum can be packed with the weights). All sums are modulo 2^32: exact. */
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 8, ROWS = 8 };

struct finish {
    float32x4_t lo, hi;
    int32x4_t zero_point;
};

static inline void finish_init(struct finish *f, const struct qc_tile_s8 *t)
{
    bool u8 = t->out_u8 != NULL;
    f->lo = vdupq_n_f32(u8 ? (float)(t->y_min - t->y_zero_point) : t->lo);
    f->hi = vdupq_n_f32(u8 ? (float)(t->y_max - t->y_zero_point) : t->hi);
    f->zero_point = vdupq_n_s32(t->y_zero_point);
}

static inline int32x4_t requantize(const struct finish *f, float32x4_t y)
{
    return vaddq_s32(clamp_round4(y, f->lo, f->hi), f->zero_point);
}

static inline void store_row(const struct qc_tile_s8 *t, const struct finish *f, int r, int first,
                             int32x4_t v0, int32x4_t v1)
{
    int n = t->n_out - first < LANES ? t->n_out - first : LANES;
    float32x4_t y0 = vmulq_f32(vcvtq_f32_s32(v0), vld1q_f32(t->multiplier + first));
    float32x4_t y1 = vmulq_f32(vcvtq_f32_s32(v1), vld1q_f32(t->multiplier + first + 4));
    float buffer[LANES]; /* a partial panel goes through it: nothing is written past n */
    if (t->out_u8 != NULL) {
        uint8_t *out = n == LANES ? t->out_u8[r] + first : (uint8_t *)buffer;
        vst1_u8(out, narrow8(requantize(f, y0), requantize(f, y1)));
        if (n < LANES) {
            memcpy(t->out_u8[r] + first, buffer, (size_t)n);
        }
    } else {
        float *out = n == LANES ? t->out_f32[r] + first : buffer;
        vst1q_f32(out, clamp4(y0, f->lo, f->hi));
        vst1q_f32(out + 4, clamp4(y1, f->lo, f->hi));
        if (n < LANES) {
            memcpy(t->out_f32[r] + first, buffer, (size_t)n * sizeof(*buffer));
        }
    }
}

/* x - 128 in eight bits. */
static inline int8x16_t load16(const uint8_t *x)
{
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x), vdupq_n_u8(0x80)));
}

static inline int8x16_t broadcast4(const uint8_t *x)
{
    uint32_t four;
    memcpy(&four, x, sizeof(four));
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080U));
}

#define ACC(r)   int32x4_t a##r = bias0, b##r = bias1;
#define POINT(r) const uint8_t *p##r = t->row[r] + t->tap[tap];
#define LOAD(r)  const int8x16_t x##r = load16(p##r + c);
#define LANE(r, i)                             \
    a##r = vdotq_laneq_s32(a##r, w0, x##r, i); \
    b##r = vdotq_laneq_s32(b##r, w1, x##r, i);
#define LANE0(r) LANE(r, 0)
#define LANE1(r) LANE(r, 1)
#define LANE2(r) LANE(r, 2)
#define LANE3(r) LANE(r, 3)
#define ONE(r)                                      \
    {                                               \
        const int8x16_t x = broadcast4(p##r + c);   \
        a##r = vdotq_s32(a##r, w0, x);              \
        b##r = vdotq_s32(b##r, w1, x);              \
    }
/* Four input channels: the weights of eight output channels and a step of every row. */
#define CHANNELS(rows, step)                                        \
    {                                                               \
        const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);    \
        w += 4 * QC_NR;                                             \
        s0 = vdotq_s32(s0, w0, ones);                               \
        s1 = vdotq_s32(s1, w1, ones);                               \
        rows(step)                                                  \
        KEEP_LOADS()                    \
    }
#define STORE(r) \
    store_row(t, &f, r, first, vaddq_s32(a##r, shift0), vaddq_s32(b##r, shift1));
/* The weights' zero points, once a tile: acc -= zero_point * sum of the row's inputs. */
#define OFFSET(r)                                   \
    a##r = vmlsq_n_s32(a##r, z0, t->row_sum[r]);    \
    b##r = vmlsq_n_s32(b##r, z1, t->row_sum[r]);

#define TILE(n)                                                                            \
    static void tile_##n(const struct qc_tile_s8 *t, int first)                            \
    {                                                                                      \
        const int32x4_t bias0 = vld1q_s32(t->bias + first);                                \
        const int32x4_t bias1 = vld1q_s32(t->bias + first + 4);                            \
        const int8x16_t ones = vdupq_n_s8(1);                                              \
        int32x4_t s0 = vdupq_n_s32(0), s1 = s0;                                            \
        const int8_t *w = t->weights + 4 * first;                                          \
        const ptrdiff_t channels = t->channels;                                            \
        ROWS_##n(ACC)                                                                      \
        if (t->row_sum != NULL) {                                                          \
            const int32x4_t z0 = vld1q_s32(t->w_zero_point + first);                       \
            const int32x4_t z1 = vld1q_s32(t->w_zero_point + first + 4);                   \
            ROWS_##n(OFFSET)                                                               \
        }                                                                                  \
        for (int tap = 0; tap < t->n_taps; tap++) {                                        \
            ROWS_##n(POINT)                                                                \
            ptrdiff_t c = 0;                                                               \
            for (; c + 16 <= channels; c += 16) {                                          \
                ROWS_##n(LOAD)                                                             \
                CHANNELS(ROWS_##n, LANE0)                                                  \
                CHANNELS(ROWS_##n, LANE1)                                                  \
                CHANNELS(ROWS_##n, LANE2)                                                  \
                CHANNELS(ROWS_##n, LANE3)                                                  \
            }                                                                              \
            for (; c < channels; c += 4) {                                                 \
                CHANNELS(ROWS_##n, ONE)                                                    \
            }                                                                              \
        }                                                                                  \
        const int32x4_t shift0 = vshlq_n_s32(s0, 7), shift1 = vshlq_n_s32(s1, 7);          \
        struct finish f;                                                                   \
        finish_init(&f, t);                                                                \
        ROWS_##n(STORE)                                                                    \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)

void qc_tile_s8__neon(const struct qc_tile_s8 *t)
{
    static void (*const by_rows[ROWS])(const struct qc_tile_s8 *, int) = {
        tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8,
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
