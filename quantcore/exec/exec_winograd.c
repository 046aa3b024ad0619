#include "quantcore/exec/exec_winograd.h"

#include <math.h>

enum {
    PRODUCTS = 16,    /* of a tile */
    LEAST = 32,       /* channels on either side: with fewer the transforms cost what they save */
    MOST = 1 << 16,   /* offsets are 32 bits */
    BLOCK_TILES = 48, /* 0.4 MB of transformed values with 64 channels on both sides */
    LINE = 16         /* floats of a cache line */
};

struct qc_winograd {
    int channels, outputs, panel, panels;
    int64_t height, width; /* of the output, in tiles */
    int block;         /* tiles of one, at most */
    /* Floats from a tile's values to the next one's, and from a product's to the next one's. The
     * latter are odd numbers of lines: 16 of them that were a power of two apart would share a set
     * of the first cache. */
    size_t in_row, out_row, in_plane, out_plane;
    float *weights; /* [PRODUCTS][panels] packed panels */
    float *bias;    /* [panels * panel], zero padded */
    float *zeros;   /* the products' bias */
};

bool qc_winograd_suits(const struct qc_window *window, int channels, int outputs, int group,
                       const struct qc_shape *out)
{
    for (int d = 0; d < 2; d++) {
        if (window->kernel[d] != 3 || window->stride[d] != 1 || window->dilation[d] != 1) {
            return false;
        }
    }
    return group == 1 && channels >= LEAST && channels <= MOST && outputs >= LEAST &&
           outputs <= MOST && out->dim[2] > 1 && out->dim[3] > 1;
}

/* U = G g G^T in double, rounded once: g is [3][3], ret [PRODUCTS]. */
static void transform(const float *g, float ret[PRODUCTS])
{
    static const double to[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    double rows[4][3];
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++) {
            rows[i][k] = to[i][0] * (double)g[k] + to[i][1] * (double)g[3 + k] +
                         to[i][2] * (double)g[6 + k];
        }
        for (int j = 0; j < 4; j++) {
            ret[4 * i + j] = (float)(rows[i][0] * to[j][0] + rows[i][1] * to[j][1] +
                                     rows[i][2] * to[j][2]);
        }
    }
}

static enum qd_code pack(struct qc_winograd *w, const float *from, struct qd_error *err)
{
    size_t n = (size_t)w->outputs * (size_t)w->channels;
    size_t size = (size_t)w->panels * qc_packed_panel_f32(1, w->channels, w->panel);
    struct qd_arena scratch;
    float *all = NULL, u[PRODUCTS];
    qd_arena_init(&scratch, 0);
    enum qd_code code = qd_arena_array(&scratch, PRODUCTS * n, sizeof(*all), &all, err);
    for (size_t i = 0; code == QD_OK && i < n; i++) {
        transform(from + 9 * i, u);
        for (size_t k = 0; k < PRODUCTS; k++) {
            all[k * n + i] = u[k];
        }
    }
    for (size_t k = 0; code == QD_OK && k < PRODUCTS; k++) {
        qc_pack_f32(all + k * n, w->outputs, w->channels, 1, w->panel, w->weights + k * size);
    }
    qd_arena_done(&scratch);
    return code;
}

static size_t odd_lines(size_t floats)
{
    return (qd_align_up(floats, LINE) / LINE | 1) * LINE;
}

enum qd_code qc_winograd_new(const struct qc_kernels *kernels, const float *w, const float *bias,
                             int channels, int outputs, const struct qc_shape *out,
                             struct qd_arena *arena, struct qc_winograd **ret,
                             struct qd_error *err)
{
    struct qc_winograd *made = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*made), &made, err));
    int panel = kernels->panel_f32, panels = (outputs + panel - 1) / panel;
    int64_t height = (out->dim[2] + 1) / 2, width = (out->dim[3] + 1) / 2;
    int64_t all = height * width;
    int64_t blocks = (all + BLOCK_TILES - 1) / BLOCK_TILES;
    *made = (struct qc_winograd){.channels = channels,
                                 .outputs = outputs,
                                 .panel = panel,
                                 .panels = panels,
                                 .height = height,
                                 .width = width,
                                 .block = (int)((all + blocks - 1) / blocks),
                                 .in_row = qd_align_up((size_t)channels, LINE),
                                 .out_row = qd_align_up((size_t)outputs, LINE)};
    made->in_plane = odd_lines((size_t)made->block * made->in_row);
    made->out_plane = odd_lines((size_t)made->block * made->out_row);
    size_t packed = (size_t)panels * qc_packed_panel_f32(1, channels, panel);
    size_t padded = (size_t)panels * (size_t)panel;
    QD_TRY(qd_arena_array(arena, PRODUCTS * packed, sizeof(float), &made->weights, err));
    QD_TRY(qd_arena_array(arena, padded, sizeof(float), &made->bias, err));
    QD_TRY(qd_arena_array(arena, (size_t)panel, sizeof(float), &made->zeros, err));
    for (int o = 0; bias != NULL && o < outputs; o++) {
        made->bias[o] = bias[o];
    }
    *ret = made;
    return pack(made, w, err);
}

size_t qc_winograd_scratch(const struct qc_winograd *w)
{
    return (PRODUCTS * (w->in_plane + w->out_plane) + w->out_row) * sizeof(float);
}

/* ---- running ------------------------------------------------------------------------------ */

struct run {
    const struct qc_winograd *w;
    const struct qc_kernels *kernels;
    const struct qc_view *x, *y;
    const float *first; /* of this image */
    float *out;
    float lo, hi;
    float *v, *m, *beyond; /* transformed inputs, sums of products, what no output pixel takes */
};

/* Tiles of the last row and column may reach a line beyond the border; what they read there only
 * enters output pixels that do not exist, so that any pixel will do. */
static void transform_in(const struct run *r, int64_t from, int n)
{
    const struct qc_winograd *w = r->w;
    const int64_t rows = r->y->shape.dim[2] + 2, columns = r->y->shape.dim[3] + 2;
    const float *pixel[PRODUCTS];
    for (int i = 0; i < n; i++) {
        int64_t top = (from + i) / w->width * 2, left = (from + i) % w->width * 2;
        for (int k = 0; k < PRODUCTS; k++) {
            int64_t row = top + k / 4 < rows ? top + k / 4 : rows - 1;
            int64_t column = left + k % 4 < columns ? left + k % 4 : columns - 1;
            pixel[k] = r->first + row * r->x->row_stride + column * r->x->pixel_stride;
        }
        r->kernels->winograd_in_f32(pixel, w->channels, r->v + (size_t)i * w->in_row,
                                    w->in_plane);
    }
}

static void transform_out(const struct run *r, int64_t from, int n)
{
    const struct qc_winograd *w = r->w;
    const int64_t *dim = r->y->shape.dim;
    float *pixel[4];
    for (int i = 0; i < n; i++) {
        int64_t top = (from + i) / w->width * 2, left = (from + i) % w->width * 2;
        for (int k = 0; k < 4; k++) {
            int64_t row = top + k / 2, column = left + k % 2;
            bool inside = row < dim[2] && column < dim[3];
            pixel[k] = inside ? r->out + row * r->y->row_stride + column * r->y->pixel_stride
                              : r->beyond;
        }
        r->kernels->winograd_out_f32(r->m + (size_t)i * w->out_row, w->out_plane, w->bias,
                                     w->outputs, r->lo, r->hi, pixel);
    }
}

/* One product: the rows of a block times the weights, in tiles of nearly equal size. */
static void multiply(const struct run *r, int product, int n, const float *const *in,
                     float *const *out)
{
    const struct qc_winograd *w = r->w;
    const int32_t tap = (int32_t)((size_t)product * w->in_plane), gap = 0;
    const size_t panel_size = qc_packed_panel_f32(1, w->channels, w->panel);
    const float *weights = w->weights + (size_t)(product * w->panels) * panel_size;
    int tiles = (n + r->kernels->tile_rows_f32 - 1) / r->kernels->tile_rows_f32;
    for (int p = 0; p < w->panels; p++) {
        int left = w->outputs - p * w->panel;
        struct qc_tile_f32 tile = {
            .first = (int64_t)((size_t)product * w->out_plane) + p * w->panel,
            .tap = &tap,
            .gap = &gap,
            .n_taps = 1,
            .channels = w->channels,
            .panel = w->panel,
            .weights = weights + (size_t)p * panel_size,
            .bias = w->zeros,
            .n_out = left < w->panel ? left : w->panel,
            .lo = -INFINITY,
            .hi = INFINITY};
        for (int i = 0; i < tiles; i++) {
            int from = n * i / tiles;
            tile.row = in + from;
            tile.out = out + from;
            tile.n_rows = n * (i + 1) / tiles - from;
            r->kernels->tile_f32(&tile);
        }
    }
}

static void run_image(const struct run *r)
{
    const struct qc_winograd *w = r->w;
    const float *in[BLOCK_TILES];
    float *out[BLOCK_TILES];
    for (int i = 0; i < w->block; i++) {
        in[i] = r->v + (size_t)i * w->in_row;
        out[i] = r->m + (size_t)i * w->out_row;
    }
    int64_t all = w->height * w->width;
    for (int64_t from = 0; from < all; from += w->block) {
        int n = (int)(all - from < w->block ? all - from : w->block);
        transform_in(r, from, n);
        for (int product = 0; product < PRODUCTS; product++) {
            multiply(r, product, n, in, out);
        }
        transform_out(r, from, n);
    }
}

void qc_winograd_run(const struct qc_winograd *w, const struct qc_kernels *kernels,
                     const struct qc_view *x, const float *first, const struct qc_view *y,
                     float lo, float hi, void *scratch)
{
    float *v = scratch, *m = v + PRODUCTS * w->in_plane;
    for (int64_t n = 0; n < y->shape.dim[0]; n++) {
        struct run r = {.w = w,
                        .kernels = kernels,
                        .x = x,
                        .y = y,
                        .first = first + n * x->image_stride,
                        .out = (float *)y->data + n * y->image_stride,
                        .lo = lo,
                        .hi = hi,
                        .v = v,
                        .m = m,
                        .beyond = m + PRODUCTS * w->out_plane};
        run_image(&r);
    }
}
