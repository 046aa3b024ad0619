/* Q_CONV: the twin of exec_conv.c on u8 activations and s8 weights. */
#include <string.h>

#include "quantcore/exec/exec_pixels.h"
#include "quantcore/integer/int_ops.h"

struct int_conv {
    struct qc_window window;
    int group, channels, outputs; /* channels, outputs: of one group */
    int n_taps, panels;
    bool depthwise;
    int packed_pixels; /* depthwise: pixels beside each other that are taken as one of 64 channels */
    int padded;        /* depthwise: the channels of those rounded up to 64 */
    int tile_taps, tile_depth; /* as the tiles see them: taps, and channels of a tap */
    int tile_channels;         /* as many as are packed */
    bool merged;               /* a tap is a row of the kernel: q_conv_merge */
    struct qc_taps taps;
    int8_t *packed;
    int16_t *tap_weights; /* depthwise: [n_taps][padded] */
    int8_t *quads;  /* the same by qc_pack_quads; NULL: they do not fit */
    int32_t *quad_tap;
    bool columns;   /* the quads are columns of 3 x 3 */
    int32_t *bias;
    int32_t *row_bias; /* [kernel rows][lanes]: what a row of the kernel adds when it sees the border */
    float *multiplier;
    int32_t *w_zero_point; /* as bias; NULL: none, or depthwise */
    int64_t wide; /* inputs that the scratch takes as s16; 0: the tiles take bytes */
    struct qc_unit_output out;
};

void qc_border_q_conv(const struct qc_graph *g, const struct qc_node *n, int ret_pad[4])
{
    const struct qc_shape *x = &g->values[n->inputs[0]].shape;
    const struct qc_shape *w = &g->values[n->inputs[3]].shape;
    const struct qc_shape *y = &g->values[n->outputs[0]].shape;
    struct qc_window window;
    qc_window_resolve(n, x->rank - 2, w->dim + 2, x->dim + 2, y->dim + 2, &window);
    memcpy(ret_pad, window.pad, sizeof(window.pad));
}

/* Element offset of output pixel 0's first tap relative to element [0,0,0,0] of the input. */
static int64_t first_tap(const struct int_conv *c, const struct qc_view *x)
{
    return -c->window.pad[0] * x->row_stride - c->window.pad[1] * x->pixel_stride;
}

/* The rows of the kernel that a tile does not see lie on the border, whose value is the input's
 * zero point: a constant a channel. first: the panel's first lane. */
static const int32_t *tile_bias(const struct int_conv *c, const struct qc_block_tile *t,
                                size_t first, int32_t *room)
{
    size_t lanes = (size_t)(c->group * c->panels) * QC_NR;
    if (t->n_kernel_rows == c->window.kernel[0]) {
        return c->bias + first;
    }
    memcpy(room, c->bias + first, QC_NR * sizeof(*room));
    for (int h = 0; h < c->window.kernel[0]; h++) {
        bool seen = h >= t->kernel_row && h < t->kernel_row + t->n_kernel_rows;
        for (size_t o = 0; !seen && o < QC_NR; o++) {
            uint32_t more = (uint32_t)c->row_bias[(size_t)h * lanes + first + o];
            room[o] = (int32_t)((uint32_t)room[o] + more);
        }
    }
    return room;
}

struct panel {
    size_t index; /* of all groups' panels */
    const uint8_t *in;
    const int16_t *wide; /* what the block's first pixel reads, or NULL */
    int64_t out;   /* element of output pixel [0,0,0] */
    int32_t *sums; /* one a pixel of the block, or NULL; the first panel of a group fills them */
    bool first;
};

static void run_panel(const struct qc_step *step, const struct int_conv *c,
                      const struct qc_block *block, struct qc_tile_s8 *tile,
                      const struct panel *panel, const struct qc_view *y)
{
    const uint8_t *row[QC_MAX_ROWS];
    const int16_t *wide_row[QC_MAX_ROWS];
    uint8_t *to_u8[QC_MAX_ROWS];
    float *to_f32[QC_MAX_ROWS];
    int32_t bias[QC_NR];
    const int8_t *weights =
        c->packed + panel->index * qc_packed_panel_s8(c->tile_taps, c->tile_depth);
    const bool wide = panel->wide != NULL, bytes = !wide || panel->sums != NULL;
    tile->row = bytes ? row : NULL;
    tile->wide_row = wide ? wide_row : NULL;
    tile->out_u8 = c->out.is_u8 ? to_u8 : NULL;
    tile->out_f32 = c->out.is_u8 ? NULL : to_f32;
    for (int i = 0; i < block->n_tiles; i++) {
        const struct qc_block_tile *t = &block->tile[i];
        tile->n_rows = t->n;
        for (int r = 0; bytes && r < QC_MAX_ROWS; r++) {
            row[r] = panel->in + block->in[t->first + r];
        }
        for (int r = 0; wide && r < QC_MAX_ROWS; r++) {
            wide_row[r] = panel->wide + (block->in[t->first + r] - block->in[0]);
        }
        for (int r = 0; c->out.is_u8 && r < QC_MAX_ROWS; r++) {
            to_u8[r] = (uint8_t *)y->data + panel->out + block->out[t->first + r];
        }
        for (int r = 0; !c->out.is_u8 && r < QC_MAX_ROWS; r++) {
            to_f32[r] = (float *)y->data + panel->out + block->out[t->first + r];
        }
        tile->tap = t->tap;
        tile->n_taps = t->n_taps;
        tile->weights = weights + (int64_t)t->first_tap * c->tile_channels * QC_NR;
        tile->bias = tile_bias(c, t, panel->index * QC_NR, bias);
        if (panel->sums != NULL) {
            tile->row_sum = panel->sums + t->first;
        }
        if (panel->sums != NULL && panel->first) {
            step->kernels->sum_taps_u8(row, t->n, tile->tap, tile->n_taps, c->channels,
                                       panel->sums + t->first);
        }
        step->kernels->tile_s8(tile);
    }
}

/* The inputs of a block as s16 for all panels, or NULL: they do not fit, or are more than the tiles
 * would widen for themselves. in: of output pixel [0,0,0]. */
static const int16_t *widen_block(const struct qc_step *step, const struct int_conv *c,
                                  const struct qc_block *block, const uint8_t *in, int16_t *wide)
{
    const struct qc_block_tile *last = &block->tile[block->n_tiles - 1];
    int64_t pixels = last->first + last->n, depth = c->tile_taps * (int64_t)c->tile_channels;
    if (c->wide == 0 || pixels == 0) {
        return NULL;
    }
    int64_t n = block->in[pixels - 1] - block->in[0] + c->taps.all.tap[c->tile_taps - 1] +
                (c->group - 1) * (int64_t)c->channels + c->tile_channels;
    if (n > c->wide || n > pixels * depth * c->group * c->panels) {
        return NULL;
    }
    step->kernels->widen_u8(in + block->in[0], wide, (size_t)n);
    return wide;
}

static void run_block(const struct qc_step *step, const struct int_conv *c,
                      const struct qc_block *block, const struct qc_view *x,
                      const struct qc_view *y, void *scratch)
{
    int32_t room[QC_BLOCK_TILES * QC_MAX_ROWS];
    int32_t *sums = c->w_zero_point != NULL ? room : NULL;
    const uint8_t *in = (const uint8_t *)x->data + first_tap(c, x);
    const int16_t *wide = widen_block(step, c, block, in, scratch);
    for (int g = 0; g < c->group; g++) {
        for (int p = 0; p < c->panels; p++) {
            size_t index = (size_t)(g * c->panels + p);
            int left = c->outputs - p * QC_NR;
            struct qc_tile_s8 tile = {.channels = c->tile_channels,
                                      .w_zero_point =
                                          sums != NULL ? c->w_zero_point + index * QC_NR : NULL,
                                      .n_out = left < QC_NR ? left : QC_NR,
                                      .multiplier = c->multiplier + index * QC_NR,
                                      .y_zero_point = c->out.y.zero_point,
                                      .y_min = c->out.y_min,
                                      .y_max = c->out.y_max,
                                      .lo = c->out.lo,
                                      .hi = c->out.hi};
            struct panel panel = {.index = index,
                                  .in = in + g * c->channels,
                                  .wide = wide != NULL ? wide + g * c->channels : NULL,
                                  .out = g * c->outputs + p * QC_NR,
                                  .sums = sums,
                                  .first = p == 0};
            run_panel(step, c, block, &tile, &panel, y);
        }
    }
}

static void run_groups(const struct qc_step *step, const struct int_conv *c,
                       const struct qc_view *x, const struct qc_view *y, void *scratch)
{
    struct qc_pixels pixels;
    struct qc_block block;
    qc_pixels_init(&pixels, x, y, &c->window, &c->taps, step->kernels->tile_rows_s8,
                   c->wide > 0 ? sizeof(int16_t) : sizeof(uint8_t));
    qc_block_init(&pixels, &block);
    while (qc_block_next(&pixels, &block)) {
        run_block(step, c, &block, x, y, scratch);
    }
}

static void run_depthwise(const struct qc_step *step, const struct int_conv *c,
                          const struct qc_view *x, const struct qc_view *y)
{
    const int64_t *d = y->shape.dim, in_row = c->window.stride[0] * x->row_stride;
    const int64_t rows = qc_depthwise_rows(in_row);
    for (int64_t n = 0; n < d[0]; n++) {
        for (int64_t oh = 0; oh < d[2]; oh += rows) {
            int64_t to = n * y->image_stride + oh * y->row_stride;
            struct qc_depthwise_s8 dw = {.in = (const uint8_t *)x->data + first_tap(c, x) +
                                               n * x->image_stride + oh * in_row,
                                         .out_u8 = c->out.is_u8 ? (uint8_t *)y->data + to : NULL,
                                         .out_f32 = c->out.is_u8 ? NULL : (float *)y->data + to,
                                         .n_rows = (int)(d[2] - oh < rows ? d[2] - oh : rows),
                                         .in_row = in_row,
                                         .out_row = y->row_stride,
                                         .n_pixels = (int)d[3] / c->packed_pixels,
                                         .in_step = c->packed_pixels * c->window.stride[1] *
                                                    x->pixel_stride,
                                         .out_step = c->packed_pixels * y->pixel_stride,
                                         .tap = c->taps.all.tap,
                                         .n_taps = c->n_taps,
                                         .channels = c->packed_pixels * c->group,
                                         .channels_padded = c->padded,
                                         .weights = c->tap_weights,
                                         .quads = c->quads,
                                         .quad_tap = c->quad_tap,
                                         .n_quads = qc_quads(c->n_taps),
                                         .column_step = c->columns ? c->taps.all.tap[1] : 0,
                                         .bias = c->bias,
                                         .multiplier = c->multiplier,
                                         .y_zero_point = c->out.y.zero_point,
                                         .y_min = c->out.y_min,
                                         .y_max = c->out.y_max,
                                         .lo = c->out.lo,
                                         .hi = c->out.hi};
            step->kernels->depthwise_s8(&dw);
        }
    }
}

static void q_conv_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    const struct int_conv *c = step->params;
    if (c->depthwise) {
        run_depthwise(step, c, &in[0], &out[0]);
    } else {
        run_groups(step, c, &in[0], &out[0], scratch);
    }
}

static enum qd_code q_conv_check(const struct qc_prepare *p, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *w = &p->in[3], *y = &p->out[0];
    if (x->dtype != QC_U8 || w->dtype != QC_S8 || w->data == NULL) {
        return qc_prepare_refuse(p, err, "u8 input and constant s8 weights are needed");
    }
    if (x->layout != QC_NHWC || y->layout != QC_NHWC || w->shape.rank != 4) {
        return qc_prepare_refuse(p, err, "two spatial dims are needed");
    }
    int64_t group = qc_node_int(p->node, "group", 1);
    if (group < 1 || w->shape.dim[0] % group != 0 || w->shape.dim[1] * group != x->shape.dim[1] ||
        w->shape.dim[0] != y->shape.dim[1]) {
        return qc_prepare_refuse(p, err, "group, weights and channels do not fit together");
    }
    return QD_OK;
}

static enum qd_code q_conv_window(const struct qc_prepare *p, struct int_conv *c,
                                struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    qc_window_resolve(p->node, 2, p->in[3].shape.dim + 2, x->shape.dim + 2, y->shape.dim + 2,
                      &c->window);
    for (int d = 0; d < 2; d++) {
        int64_t reach = (y->shape.dim[2 + d] - 1) * c->window.stride[d] +
                        (int64_t)(c->window.kernel[d] - 1) * c->window.dilation[d] + 1;
        if (reach > x->shape.dim[2 + d] + c->window.pad[d] + c->window.pad[d + 2]) {
            return qc_prepare_refuse(p, err, "the window does not fit into the padded input");
        }
    }
    c->n_taps = c->window.kernel[0] * c->window.kernel[1];
    return QD_OK;
}

/* How the tiles see the taps: a row of them is one when it is contiguous. Sums of the input must
 * not count what is behind the channels. */
static enum qd_code q_conv_merge(const struct qc_prepare *p, struct int_conv *c, bool sums,
                                 struct qd_error *err)
{
    const struct qc_view *x = &p->in[0];
    c->merged = !c->depthwise && c->group == 1 && x->pixel_stride == c->channels &&
                c->window.dilation[1] == 1 && !sums;
    c->tile_taps = c->merged ? c->window.kernel[0] : c->n_taps;
    c->tile_depth = c->merged ? c->window.kernel[1] * c->channels : c->channels;
    const int together = p->kernels->s8_together;
    c->tile_channels = (c->tile_depth + together - 1) / together * together;
    /* Columns at the border are not told apart: that gained nothing here. */
    return qc_taps_init(p, &c->window, x, &p->out[0], c->tile_channels, QC_NR, c->merged, false,
                        &c->taps,
                        err);
}

/* The weights of a merged convolution: [output][kernel column][channel][kernel row]. */
static enum qd_code merged_weights(struct qd_arena *arena, const struct int_conv *c,
                                   const int8_t *w, const int8_t **ret, struct qd_error *err)
{
    size_t rows = (size_t)c->window.kernel[0], columns = (size_t)c->window.kernel[1];
    size_t channels = (size_t)c->channels, outputs = (size_t)c->outputs;
    int8_t *to = NULL;
    QD_TRY(qd_arena_array(arena, outputs * channels, rows * columns, &to, err));
    for (size_t o = 0; o < outputs; o++, w += channels * rows * columns) {
        for (size_t i = 0; i < channels * rows * columns; i++) {
            size_t channel = i / (rows * columns), row = i / columns % rows, column = i % columns;
            to[((o * columns + column) * channels + channel) * rows + row] = w[i];
        }
    }
    *ret = to;
    return QD_OK;
}

static enum qd_code pack_quads(struct qd_arena *arena, struct int_conv *c, struct qd_error *err)
{
    const struct qc_window *w = &c->window;
    int n_quads = qc_quads(c->n_taps);
    int8_t *quads = NULL;
    int32_t *order = NULL;
    QD_TRY(qd_arena_array(arena, (size_t)n_quads * 4, sizeof(*order), &order, err));
    QD_TRY(qd_arena_array(arena, (size_t)n_quads * 4, (size_t)c->padded, &quads, err));
    int step = c->packed_pixels * w->stride[1];
    c->columns = w->kernel[0] == 3 && w->kernel[1] == 3 &&
                 (step == w->dilation[1] || step == 2 * w->dilation[1]);
    qc_quads_order(c->n_taps, c->columns, order);
    bool fits = qc_pack_quads(c->tap_weights, order, n_quads, c->padded, quads);
    c->quads = fits ? quads : NULL;
    for (int i = 0; i < 4 * n_quads; i++) {
        order[i] = c->taps.all.tap[order[i] < 0 ? 0 : order[i]];
    }
    c->quad_tap = order;
    return QD_OK;
}

static enum qd_code pack_depthwise(const struct qc_prepare *prepare, struct int_conv *c,
                                   const struct qc_unit_weights *u, struct qd_error *err)
{
    struct qd_arena *arena = prepare->arena;
    size_t n = (size_t)c->n_taps * (size_t)c->padded;
    QD_TRY(qd_arena_array(arena, n, sizeof(int16_t), &c->tap_weights, err));
    for (size_t lane = 0; lane < (size_t)(c->packed_pixels * c->group); lane++) {
        size_t o = lane % (size_t)c->group;
        for (size_t t = 0; t < u->depth; t++) {
            int zero_point = u->zero_point != NULL ? u->zero_point[o] : 0;
            c->tap_weights[t * (size_t)c->padded + lane] =
                (int16_t)(u->w[o * u->depth + t] - zero_point);
        }
        c->bias[lane] = u->bias[o];
        c->multiplier[lane] = u->multiplier[o];
    }
    return pack_quads(arena, c, err);
}

static void pack_row_bias(struct int_conv *c, const struct qc_unit_weights *u, int output,
                          size_t lane)
{
    size_t lanes = (size_t)(c->group * c->panels) * QC_NR, width = (size_t)c->window.kernel[1];
    const int8_t *w = u->w + (size_t)output * u->depth;
    int zero_point = u->zero_point != NULL ? u->zero_point[output] : 0;
    for (size_t k = 0; k < u->depth; k++) {
        size_t row = k / width % (size_t)c->window.kernel[0];
        c->row_bias[row * lanes + lane] += u->x_zero_point * (w[k] - zero_point);
    }
}

static enum qd_code pack_groups(const struct qc_prepare *prepare, struct int_conv *c,
                                const struct qc_unit_weights *u, struct qd_error *err)
{
    struct qd_arena *arena = prepare->arena;
    size_t panel_size = qc_packed_panel_s8(c->tile_taps, c->tile_depth);
    size_t panels = (size_t)(c->group * c->panels);
    const int8_t *w = u->w;
    QD_TRY(qd_arena_array(arena, panels, panel_size, &c->packed, err));
    QD_TRY(qd_arena_array(arena, panels * QC_NR * (size_t)c->window.kernel[0], sizeof(int32_t),
                          &c->row_bias, err));
    if (c->merged) {
        QD_TRY(merged_weights(arena, c, u->w, &w, err));
    }
    for (int g = 0; g < c->group; g++) {
        size_t first = (size_t)(g * c->panels);
        qc_pack_s8(w + (size_t)(g * c->outputs) * u->depth, c->outputs, c->tile_depth,
                   c->tile_taps, prepare->kernels->s8_together, c->packed + first * panel_size);
        for (int o = 0; o < c->outputs; o++) {
            c->bias[first * QC_NR + (size_t)o] = u->bias[g * c->outputs + o];
            pack_row_bias(c, u, g * c->outputs + o, first * QC_NR + (size_t)o);
            if (u->zero_point != NULL) {
                c->w_zero_point[first * QC_NR + (size_t)o] = u->zero_point[g * c->outputs + o];
            }
            c->multiplier[first * QC_NR + (size_t)o] = u->multiplier[g * c->outputs + o];
        }
    }
    return QD_OK;
}

/* With stride 1, pixels of 16 or 32 channels that lie beside each other in the input and in the
 * output fill the lanes that one would leave empty: each tap of theirs is one offset for all. */
static int packed_pixels(const struct int_conv *c, const struct qc_view *x,
                         const struct qc_view *y)
{
    enum { LANES = 64 };
    if (c->group >= LANES || LANES % c->group != 0 || c->window.stride[1] != 1 ||
        x->pixel_stride != c->group || y->pixel_stride != c->group ||
        y->shape.dim[3] % (LANES / c->group) != 0) {
        return 1;
    }
    return LANES / c->group;
}

/* Room for a block's inputs as s16. Blocks are made for half of the second cache; those of wide
 * windows may take more and are then left to the tiles. */
static void q_conv_wide(const struct qc_prepare *p, struct int_conv *c, struct qc_step *step)
{
    enum { MOST = 128 * 1024 };
    const struct qc_view *x = &p->in[0];
    if (c->depthwise || p->kernels->widen_u8 == NULL) {
        return;
    }
    int64_t all = x->image_stride * x->shape.dim[0] + 4; /* the last pixel's padding */
    c->wide = all < MOST ? all : MOST;
    step->scratch_size = (size_t)c->wide * sizeof(int16_t) + QD_ARENA_TAIL;
}

enum qd_code qc_prepare_q_conv(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    struct int_conv *c = NULL;
    struct qc_unit_weights u;
    QD_TRY(q_conv_check(p, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    QD_TRY(q_conv_window(p, c, err));
    const int64_t *w = p->in[3].shape.dim;
    c->group = (int)qc_node_int(p->node, "group", 1);
    c->channels = (int)w[1];
    c->outputs = (int)w[0] / c->group;
    c->panels = (c->outputs + QC_NR - 1) / QC_NR;
    c->depthwise = c->group > 1 && c->channels == 1 && c->outputs == 1;
    c->packed_pixels = c->depthwise ? packed_pixels(c, &p->in[0], &p->out[0]) : 1;
    c->padded = (int)qd_align_up((size_t)(c->packed_pixels * c->group), 64);
    QD_TRY(qc_unit_output(p, 6, 7, &c->out, err));
    QD_TRY(qc_unit_weights(p, p->in[3].data, (int)w[0], (size_t)(w[1] * c->n_taps), &u, err));
    size_t lanes =
        c->depthwise ? (size_t)c->padded : (size_t)c->group * (size_t)c->panels * QC_NR;
    if (!c->depthwise && u.zero_point != NULL) {
        QD_TRY(qd_arena_array(p->arena, lanes, sizeof(int32_t), &c->w_zero_point, err));
    }
    QD_TRY(q_conv_merge(p, c, c->w_zero_point != NULL, err));
    QD_TRY(qd_arena_array(p->arena, lanes, sizeof(int32_t), &c->bias, err));
    QD_TRY(qd_arena_array(p->arena, lanes, sizeof(float), &c->multiplier, err));
    QD_TRY((c->depthwise ? pack_depthwise : pack_groups)(p, c, &u, err));
    q_conv_wide(p, c, step);
    step->params = c;
    step->run = q_conv_run;
    return QD_OK;
}
