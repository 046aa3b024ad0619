#include "quantcore/exec/exec_pixels.h"

/* Input of a block, so that it stays in the second cache beside the weights. */
enum { BLOCK_BYTES = 192 * 1024 };

void qc_pixels_init(struct qc_pixels *p, const struct qc_view *in, const struct qc_view *out,
                    const int stride[2], int rows)
{
    const int64_t *y = out->shape.dim;
    *p = (struct qc_pixels){.n_pixels = y[0] * y[2] * y[3],
                            .height = y[2],
                            .width = y[3],
                            .in_image = in->image_stride,
                            .in_row = stride[0] * in->row_stride,
                            .in_pixel = stride[1] * in->pixel_stride,
                            .out_image = out->image_stride,
                            .out_row = out->row_stride,
                            .out_pixel = out->pixel_stride};
    p->n_tiles = (p->n_pixels + rows - 1) / rows;
    int64_t pixel_bytes =
        stride[0] * stride[1] * in->pixel_stride * (int64_t)qc_dtype_size(in->dtype);
    int64_t tiles = BLOCK_BYTES / (pixel_bytes * rows);
    p->block_tiles = tiles < 1 ? 1 : (tiles > QC_BLOCK_TILES ? QC_BLOCK_TILES : (int)tiles);
}

bool qc_pixels_next(const struct qc_pixels *p, struct qc_block *b)
{
    int64_t tile = b->first_tile + b->n_tiles, left = p->n_tiles - tile;
    b->first_tile = tile;
    b->n_tiles = left < p->block_tiles ? (int)left : p->block_tiles;
    if (b->n_tiles <= 0) {
        return false;
    }
    int64_t first = tile * p->n_pixels / p->n_tiles;
    for (int i = 0; i <= b->n_tiles; i++) {
        b->tile[i] = (int)((tile + i) * p->n_pixels / p->n_tiles - first);
    }
    for (int i = 0, n = b->tile[b->n_tiles]; i < n;) { /* a row of the output or its part */
        int64_t pixel = first + i, ow = pixel % p->width, oh = pixel / p->width % p->height;
        int64_t image = pixel / p->width / p->height;
        int64_t in = image * p->in_image + oh * p->in_row + ow * p->in_pixel;
        int64_t out = image * p->out_image + oh * p->out_row + ow * p->out_pixel;
        int end = p->width - ow < n - i ? i + (int)(p->width - ow) : n;
        for (; i < end; i++, in += p->in_pixel, out += p->out_pixel) {
            b->in[i] = in;
            b->out[i] = out;
        }
    }
    return true;
}
