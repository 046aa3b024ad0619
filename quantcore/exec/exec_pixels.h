/* The output pixels of a convolution, in tiles of nearly equal size, blocks of tiles and parts.
 *
 * 49 pixels are five tiles of 10 and 9 rows, not four of 12 and one of 1: a tile costs its weights
 * whatever its rows. All panels of output channels pass over one block before the next, so that
 * its input is read from the cache; the offsets are computed once a block.
 *
 * A band is rows of the output that see the same rows of the kernel inside the input: the others
 * would multiply the border, in a 3 x 3 convolution of 7 x 7 pixels one row in ten. A band of
 * enough rows is divided by columns likewise (the runs of exec_taps.h): each part of it is a
 * rectangle of pixels that see the same taps. In a low band a run of one column would make a
 * tile of few pixels, which costs more than it leaves out. */
#ifndef QC_EXEC_PIXELS_H
#define QC_EXEC_PIXELS_H

#include "quantcore/exec/exec_taps.h"

#define QC_BLOCK_TILES  32
#define QC_BLOCK_PIXELS ((QC_BLOCK_TILES + 1) * QC_MAX_ROWS)

struct qc_pixels {
    struct qc_window window;
    const struct qc_taps *taps;
    int64_t images, height, width;         /* of the output */
    int64_t in_height;
    int64_t in_image, in_row, in_pixel;    /* elements from one output's input to the next one's */
    int64_t out_image, out_row, out_pixel; /* elements */
    int rows;                              /* the most a tile takes */
    int block_tiles;                       /* 1..QC_BLOCK_TILES */
};

struct qc_block_tile {
    int first, n;                  /* pixels */
    int kernel_row, n_kernel_rows; /* what of the kernel they see; n may be 0 */
    /* The taps of that; first_tap: of the kernel. */
    int n_taps, first_tap;
    const int32_t *tap, *gap;
};

struct qc_block {
    int n_tiles, n_pixels;
    struct qc_block_tile tile[QC_BLOCK_TILES];
    /* Where each pixel reads (tap 0) and writes, in elements from those of output [0,0,0,0]. From
     * any tile's first pixel on QC_MAX_ROWS of them can be used: a loop of fixed length is fast. */
    int64_t in[QC_BLOCK_PIXELS], out[QC_BLOCK_PIXELS];
    /* The part where the next block begins, and the tile in it. */
    int64_t image, row, n_rows;
    int kernel_row, n_kernel_rows;
    const struct qc_run *run;
    int64_t next_tile, n_part_tiles;
};

/* rows: the most a tile takes, 1..QC_MAX_ROWS; element: bytes of an input as it reads it. Both views are NHWC. taps stay the caller's. */
void qc_pixels_init(struct qc_pixels *p, const struct qc_view *in, const struct qc_view *out,
                    const struct qc_window *window, const struct qc_taps *taps, int rows,
                    size_t element);
/* Rows of a depthwise convolution that are done at once, of which each needs in_row more bytes of
 * the input: they stay in the second cache for all channels. */
int64_t qc_depthwise_rows(int64_t in_row);
/* Before the first block; then the next one, false after the last. */
void qc_block_init(const struct qc_pixels *p, struct qc_block *b);
bool qc_block_next(const struct qc_pixels *p, struct qc_block *b);

#endif
