/* f32 convolution tile, NEON: up to 8 pixels x 8 channels in 16 of the 32 registers. Four input
 * channels of a pixel are one load, of which FMLA takes a lane. A panel takes four passes. (6
 * pixels x 16 channels would need all registers: gcc 12 spills a dozen.) */
#include <string.h>

#include "quantcore/kernels/kernels_decl.h"
#include "quantcore/kernels/kernels_neon.h"
#include "quantcore/kernels/kernels_rows.h"

enum { LANES = 8, ROWS = 8 };

static inline void store_row(const struct qc_tile_f32 *t, int r, int first, float32x4_t v0,
                             float32x4_t v1)
{
    float32x4_t lo = vdupq_n_f32(t->lo), hi = vdupq_n_f32(t->hi);
    float buffer[LANES]; /* a partial panel goes through it: nothing is written past n */
    int n = t->n_out - first;
    float *to = t->out[r] + t->first + first, *out = n >= LANES ? to : buffer;
    vst1q_f32(out, clamp4(v0, lo, hi));
    vst1q_f32(out + 4, clamp4(v1, lo, hi));
    if (n < LANES) {
        memcpy(to, buffer, (size_t)n * sizeof(*buffer));
    }
}

#define ACC(r)   float32x4_t a##r = bias0, b##r = bias1;
#define POINT(r) const float *p##r = t->row[r] + t->tap[tap];
#define LOAD(r)  const float32x4_t x##r = vld1q_f32(p##r + c);
#define LANE(r, i)                             \
    a##r = vfmaq_laneq_f32(a##r, w0, x##r, i); \
    b##r = vfmaq_laneq_f32(b##r, w1, x##r, i);
#define LANE0(r) LANE(r, 0)
#define LANE1(r) LANE(r, 1)
#define LANE2(r) LANE(r, 2)
#define LANE3(r) LANE(r, 3)
#define ONE(r)                               \
    a##r = vfmaq_n_f32(a##r, w0, p##r[c]);   \
    b##r = vfmaq_n_f32(b##r, w1, p##r[c]);
/* One input channel: the weights of eight output channels and a step of every row. */
#define CHANNEL(rows, step)                                             \
    {                                                                   \
        const float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4);     \
        w += QC_NR;                                                     \
        rows(step)                                                      \
        KEEP_LOADS()                    \
    }
#define STORE(r) store_row(t, r, first, a##r, b##r);

#define TILE(n)                                                      \
    static void tile_##n(const struct qc_tile_f32 *t, int first)     \
    {                                                                \
        const float32x4_t bias0 = vld1q_f32(t->bias + first);        \
        const float32x4_t bias1 = vld1q_f32(t->bias + first + 4);    \
        const float *w = t->weights + first;                         \
        const ptrdiff_t channels = t->channels;                      \
        ROWS_##n(ACC)                                                \
        for (int tap = 0; tap < t->n_taps; tap++) {                  \
            ROWS_##n(POINT)                                          \
            ptrdiff_t c = 0;                                         \
            for (; c + 4 <= channels; c += 4) {                      \
                ROWS_##n(LOAD)                                       \
                CHANNEL(ROWS_##n, LANE0)                             \
                CHANNEL(ROWS_##n, LANE1)                             \
                CHANNEL(ROWS_##n, LANE2)                             \
                CHANNEL(ROWS_##n, LANE3)                             \
            }                                                        \
            for (; c < channels; c++) {                              \
                CHANNEL(ROWS_##n, ONE)                               \
            }                                                        \
            w += t->gap[tap];                                        \
        }                                                            \
        ROWS_##n(STORE)                                              \
    }

TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
TILE(7)
TILE(8)

void qc_tile_f32__neon(const struct qc_tile_f32 *t)
{
    static void (*const by_rows[ROWS])(const struct qc_tile_f32 *, int) = {
        tile_1, tile_2, tile_3, tile_4, tile_5, tile_6, tile_7, tile_8,
    };
    for (int r = 0; r < t->n_rows; r += ROWS) {
        struct qc_tile_f32 part = *t;
        part.row += r;
        part.out += r;
        part.n_rows = t->n_rows - r < ROWS ? t->n_rows - r : ROWS;
        for (int first = 0; first < t->n_out; first += LANES) {
            by_rows[part.n_rows - 1](&part, first);
        }
    }
}
