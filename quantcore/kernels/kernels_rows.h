/* Row lists for tiles: ROWS_n(M) expands M(0) .. M(n-1). A tile has one instance per row count
 * with a named accumulator for each row: gcc keeps those in registers, an array it spills. */
#ifndef QC_KERNELS_ROWS_H
#define QC_KERNELS_ROWS_H

#include "quantcore/kernels/qc_kernels.h"

/* A kernel of one row, for each of d's. */
static inline void each_row_f32(const struct qc_depthwise_f32 *d, qc_depthwise_f32_fn *one)
{
    struct qc_depthwise_f32 row = *d;
    row.n_rows = 1;
    for (int r = 0; r < d->n_rows; r++, row.in += d->in_row, row.out += d->out_row) {
        one(&row);
    }
}

static inline void each_row_s8(const struct qc_depthwise_s8 *d, qc_depthwise_s8_fn *one)
{
    struct qc_depthwise_s8 row = *d;
    row.n_rows = 1;
    for (int r = 0; r < d->n_rows; r++, row.in += d->in_row) {
        row.out_u8 = d->out_u8 != NULL ? d->out_u8 + r * d->out_row : NULL;
        row.out_f32 = d->out_f32 != NULL ? d->out_f32 + r * d->out_row : NULL;
        one(&row);
    }
}

#define ROWS_1(M) M(0)
#define ROWS_2(M) ROWS_1(M) M(1)
#define ROWS_3(M) ROWS_2(M) M(2)
#define ROWS_4(M) ROWS_3(M) M(3)
#define ROWS_5(M) ROWS_4(M) M(4)
#define ROWS_6(M) ROWS_5(M) M(5)
#define ROWS_7(M) ROWS_6(M) M(6)
#define ROWS_8(M) ROWS_7(M) M(7)
#define ROWS_9(M) ROWS_8(M) M(8)
#define ROWS_10(M) ROWS_9(M) M(9)
#define ROWS_11(M) ROWS_10(M) M(10)
#define ROWS_12(M) ROWS_11(M) M(11)

/* A piece of a tile: where gcc finds it too often to inline, what it shares with the others goes
 * through memory (5 % of a network). */
#define TILE_INLINE static inline __attribute__((always_inline))

/* Ties an accumulator to one register: without, gcc 12 copies it around the loop and spills. */
#define KEEP_YMM(acc) __asm__("" : "+x"(acc));
#define KEEP_ZMM(acc) __asm__("" : "+v"(acc));

/* A step of twelve rows needs all their pointers in general registers: gcc 12 keeps one in a vector
 * register, and moving it at every step costs the multipliers one cycle of 25. */
#define KEEP_NOTHING()
#define KEEP_POINTERS()                                                                       \
    __asm__ volatile("" ::"r"(x0), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5), "r"(x6),      \
                     "r"(x7), "r"(x8), "r"(x9), "r"(x10), "r"(x11));

/* TILE(rows, KEEP) for every number of rows; the table of those of one width. */
#define EACH_TILE(TILE)                                                                   \
    TILE(1, KEEP_NOTHING) TILE(2, KEEP_NOTHING) TILE(3, KEEP_NOTHING) TILE(4, KEEP_NOTHING) \
    TILE(5, KEEP_NOTHING) TILE(6, KEEP_NOTHING) TILE(7, KEEP_NOTHING) TILE(8, KEEP_NOTHING) \
    TILE(9, KEEP_NOTHING) TILE(10, KEEP_NOTHING) TILE(11, KEEP_NOTHING)                     \
    TILE(12, KEEP_POINTERS)
#define TILES_OF(width)                                                              \
    {tile_1x##width, tile_2x##width, tile_3x##width, tile_4x##width,  tile_5x##width, \
     tile_6x##width, tile_7x##width, tile_8x##width, tile_9x##width,  tile_10x##width, \
     tile_11x##width, tile_12x##width}

/* No load moves across: where the weights of later steps are loaded first, gcc 12 for aarch64 runs
 * out of registers. */
#define KEEP_LOADS() __asm__ volatile("" ::: "memory");

#endif
