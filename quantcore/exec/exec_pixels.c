#include "quantcore/exec/exec_pixels.h"

#include <string.h>

/* Input of a block, so that it stays in the second cache beside the weights. */
enum { BLOCK_BYTES = 192 * 1024 };
/* Rows of a band that is divided: the least pixels of a tile at the border. */
enum { DIVIDED_ROWS = 5 };

void qc_pixels_init(struct qc_pixels *p, const struct qc_view *in, const struct qc_view *out,
                    const struct qc_window *window, const struct qc_taps *taps, int rows,
                    size_t element)
{
    const int64_t *y = out->shape.dim;
    const int *stride = window->stride;
    *p = (struct qc_pixels){.window = *window,
                            .taps = taps,
                            .images = y[0],
                            .height = y[2],
                            .width = y[3],
                            .in_height = in->shape.dim[2],
                            .in_image = in->image_stride,
                            .in_row = stride[0] * in->row_stride,
                            .in_pixel = stride[1] * in->pixel_stride,
                            .out_image = out->image_stride,
                            .out_row = out->row_stride,
                            .out_pixel = out->pixel_stride,
                            .rows = rows};
    /* Divided one by one: the strides are the model's, and their product may be anything. */
    int64_t bytes = in->pixel_stride * (int64_t)element;
    int64_t tiles = BLOCK_BYTES / (bytes > 0 ? bytes : 1) / stride[0] / stride[1] / rows;
    p->block_tiles = tiles < 1 ? 1 : (tiles > QC_BLOCK_TILES ? QC_BLOCK_TILES : (int)tiles);
}

int64_t qc_depthwise_rows(int64_t in_row)
{
    int64_t rows = BLOCK_BYTES / (in_row > 0 ? in_row : 1);
    return rows < 1 ? 1 : rows;
}

/* The part that begins with run `run` of the band: b->row and those below it. */
static void begin_part(const struct qc_pixels *p, struct qc_block *b, const struct qc_run *run)
{
    b->run = run;
    b->next_tile = 0;
    b->n_part_tiles = (b->n_rows * run->n + p->rows - 1) / p->rows;
}

static void begin_band(const struct qc_pixels *p, struct qc_block *b)
{
    int first, n;
    qc_window_seen(&p->window, 0, p->in_height, b->row, &b->kernel_row, &b->n_kernel_rows);
    for (b->n_rows = 1; b->row + b->n_rows < p->height; b->n_rows++) {
        qc_window_seen(&p->window, 0, p->in_height, b->row + b->n_rows, &first, &n);
        if (first != b->kernel_row || n != b->n_kernel_rows) {
            break;
        }
    }
    bool divided = p->taps->n_runs > 0 && b->n_rows >= DIVIDED_ROWS;
    begin_part(p, b, divided ? p->taps->run : &p->taps->all);
}

static void end_part(const struct qc_pixels *p, struct qc_block *b)
{
    const struct qc_taps *taps = p->taps;
    if (b->run != &taps->all && b->run + 1 < taps->run + taps->n_runs) {
        begin_part(p, b, b->run + 1);
        return;
    }
    b->row += b->n_rows;
    if (b->row == p->height) {
        b->row = 0;
        b->image++;
    }
    if (b->image < p->images) {
        begin_band(p, b);
    }
}

/* The pixels from..end of the part, at places at, at + 1, … of the block. */
static void add_pixels(const struct qc_pixels *p, struct qc_block *b, int64_t from, int64_t end,
                       int at)
{
    const int64_t width = b->run->n;
    while (from < end) { /* a row of the part or a piece of it */
        int64_t row = b->row + from / width, column = b->run->first + from % width;
        int64_t in = b->image * p->in_image + row * p->in_row + column * p->in_pixel;
        int64_t out = b->image * p->out_image + row * p->out_row + column * p->out_pixel;
        int64_t n = width - from % width < end - from ? width - from % width : end - from;
        from += n;
        for (; n > 0; n--, at++, in += p->in_pixel, out += p->out_pixel) {
            b->in[at] = in;
            b->out[at] = out;
        }
    }
}

static void add_tile(const struct qc_pixels *p, struct qc_block *b, int at, int n)
{
    int skipped = b->kernel_row * b->run->n_columns;
    int first_tap = b->kernel_row * p->taps->columns + b->run->kernel_column;
    b->tile[b->n_tiles++] = (struct qc_block_tile){.first = at,
                                                   .n = n,
                                                   .kernel_row = b->kernel_row,
                                                   .n_kernel_rows = b->n_kernel_rows,
                                                   .n_taps = b->n_kernel_rows * b->run->n_columns,
                                                   .first_tap = first_tap,
                                                   .tap = b->run->tap + skipped,
                                                   .gap = b->run->gap + skipped};
}

void qc_block_init(const struct qc_pixels *p, struct qc_block *b)
{
    memset(b->in, 0, sizeof(b->in));
    memset(b->out, 0, sizeof(b->out));
    b->image = p->height == 0 || p->width == 0 ? p->images : 0;
    b->row = 0;
    if (b->image < p->images) {
        begin_band(p, b);
    }
}

bool qc_block_next(const struct qc_pixels *p, struct qc_block *b)
{
    int at = 0;
    b->n_tiles = 0;
    while (b->n_tiles < p->block_tiles && b->image < p->images) {
        int64_t n_pixels = b->n_rows * b->run->n;
        int64_t first = b->next_tile * n_pixels / b->n_part_tiles, from = first;
        int start = at;
        while (b->n_tiles < p->block_tiles && b->next_tile < b->n_part_tiles) {
            int64_t end = ++b->next_tile * n_pixels / b->n_part_tiles;
            add_tile(p, b, at, (int)(end - from));
            at += (int)(end - from);
            from = end;
        }
        add_pixels(p, b, first, from, start);
        if (b->next_tile == b->n_part_tiles) {
            end_part(p, b);
        }
    }
    b->n_pixels = at;
    return b->n_tiles > 0;
}
