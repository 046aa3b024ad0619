/* The output pixels of a convolution, in tiles of nearly equal size and blocks of tiles.
 *
 * 49 pixels are five tiles of 10 and 9 rows, not four of 12 and one of 1: a tile costs its weights
 * whatever its rows. All panels of output channels pass over one block before the next, so that
 * its input is read from the cache; the offsets are computed once a block. */
#ifndef QC_EXEC_PIXELS_H
#define QC_EXEC_PIXELS_H

#include "quantcore/exec/exec_step.h"

#define QC_BLOCK_TILES 32

struct qc_pixels {
    int64_t n_pixels, height, width;       /* of the output; n_pixels counts all images */
    int64_t in_image, in_row, in_pixel;    /* elements from one output's input to the next one's */
    int64_t out_image, out_row, out_pixel; /* elements */
    int64_t n_tiles;
    int block_tiles; /* 1..QC_BLOCK_TILES */
};

/* Where the pixels of a block read (their first tap) and write, in elements from those of output
 * [0,0,0,0]. Tile i has the pixels tile[i] .. tile[i + 1] - 1. */
struct qc_block {
    int64_t first_tile;
    int n_tiles, tile[QC_BLOCK_TILES + 1];
    int64_t in[QC_BLOCK_TILES * QC_MAX_ROWS], out[QC_BLOCK_TILES * QC_MAX_ROWS];
};

/* rows: the most a tile takes. Both views are NHWC. */
void qc_pixels_init(struct qc_pixels *p, const struct qc_view *in, const struct qc_view *out,
                    const int stride[2], int rows);
/* The block that begins at b->first_tile + b->n_tiles (both 0 at first); false after the last. */
bool qc_pixels_next(const struct qc_pixels *p, struct qc_block *b);

#endif
