/* Conv: taps of an NHWC input with border, panels of output channels, no im2col. */
#include <math.h>
#include <string.h>

#include "quantcore/exec/exec_ops.h"
#include "quantcore/exec/exec_pixels.h"
#include "quantcore/exec/exec_winograd.h"

/* Half of a second cache: of an output beyond, most lines lie in the third when they are written. */
#define FAR_BYTES ((size_t)512 << 10)

struct conv {
    struct qc_window window;
    int group, channels, outputs, n_taps; /* channels, outputs: of one group */
    int panel, panels;                    /* output channels of one; of one group */
    bool depthwise;
    int padded; /* depthwise: channels rounded up to 64 */
    int tile_channels; /* of a tap as the tiles see it */
    struct qc_taps taps;
    struct qc_winograd *winograd;      /* NULL: tap by tap */
    float *packed, *bias;              /* NULL: packed into scratch at every run */
    size_t packed_size, bias_size;     /* floats */
    size_t in_lead, in_size, out_size; /* bytes of the staged input / output, 0: not staged */
    struct qc_view in, out;            /* NHWC, staged or not; data is set by run */
    float lo, hi;
    bool far; /* the output is larger than what the second cache keeps of it */
};

void qc_window_resolve(const struct qc_node *n, int n_spatial, const int64_t *kernel,
                       const int64_t *in, const int64_t *out, struct qc_window *ret)
{
    int64_t stride[2] = {1, 1}, dilation[2] = {1, 1}, pads[4] = {0};
    const char *auto_pad = qc_node_string(n, "auto_pad", "NOTSET");
    (void)qc_node_ints(n, "strides", stride, 2);
    (void)qc_node_ints(n, "dilations", dilation, 2);
    (void)qc_node_ints(n, "pads", pads, 4);
    *ret = (struct qc_window){.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}};
    for (int i = 0; i < n_spatial; i++) {
        int d = 2 - n_spatial + i;
        ret->kernel[d] = (int)kernel[i];
        ret->stride[d] = (int)stride[i];
        ret->dilation[d] = (int)dilation[i];
        int64_t begin = pads[i], end = pads[i + n_spatial];
        if (strcmp(auto_pad, "SAME_UPPER") == 0 || strcmp(auto_pad, "SAME_LOWER") == 0) {
            int64_t total = (out[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - in[i];
            total = total > 0 ? total : 0;
            begin = auto_pad[5] == 'U' ? total / 2 : total - total / 2;
            end = total - begin;
        } else if (strcmp(auto_pad, "VALID") == 0) {
            begin = end = 0;
        }
        ret->pad[d] = (int)begin;
        ret->pad[d + 2] = (int)end;
    }
}

void qc_border_conv(const struct qc_graph *g, const struct qc_node *n, int ret_pad[4])
{
    const struct qc_shape *x = &g->values[n->inputs[0]].shape;
    const struct qc_shape *w = &g->values[n->inputs[1]].shape;
    const struct qc_shape *y = &g->values[n->outputs[0]].shape;
    struct qc_window window;
    qc_window_resolve(n, x->rank - 2, w->dim + 2, x->dim + 2, y->dim + 2, &window);
    memcpy(ret_pad, window.pad, sizeof(window.pad));
}

/* Weights OIHW → panels, bias → padded with zeros. */
static void conv_pack(const struct conv *c, const float *w, const float *bias, float *packed,
                      float *out_bias)
{
    memset(out_bias, 0, c->bias_size * sizeof(float));
    if (c->depthwise) {
        memset(packed, 0, c->packed_size * sizeof(float));
        for (int o = 0; o < c->group; o++) {
            for (int t = 0; t < c->n_taps; t++) {
                packed[(size_t)t * (size_t)c->padded + (size_t)o] = w[o * c->n_taps + t];
            }
            out_bias[o] = bias != NULL ? bias[o] : 0.0f;
        }
        return;
    }
    size_t one = c->packed_size / (size_t)c->group;
    size_t source = (size_t)c->outputs * (size_t)c->channels * (size_t)c->n_taps;
    for (int g = 0; g < c->group; g++) {
        qc_pack_f32(w + (size_t)g * source, c->outputs, c->channels, c->n_taps,
                    c->panel, packed + (size_t)g * one);
        for (int o = 0; bias != NULL && o < c->outputs; o++) {
            out_bias[g * c->panels * c->panel + o] = bias[g * c->outputs + o];
        }
    }
}

/* The pixels of a block, in the input and the output of one group. */
struct pointers {
    const float *in[QC_BLOCK_PIXELS];
    float *out[QC_BLOCK_PIXELS];
};

static void run_panel(const struct qc_step *step, const struct qc_block *block,
                      const struct pointers *at, struct qc_tile_f32 *tile)
{
    const float *weights = tile->weights;
    for (int i = 0; i < block->n_tiles; i++) {
        const struct qc_block_tile *t = &block->tile[i];
        tile->row = at->in + t->first;
        tile->out = at->out + t->first;
        tile->n_rows = t->n;
        tile->tap = t->tap;
        tile->gap = t->gap;
        tile->n_taps = t->n_taps;
        tile->weights = weights + (int64_t)t->first_tap * tile->channels * tile->panel;
        step->kernels->tile_f32(tile);
    }
}

static void run_block(const struct qc_step *step, const struct conv *c,
                      const struct qc_block *block, const float *in, float *out,
                      const float *packed, const float *bias)
{
    size_t panel_size = qc_packed_panel_f32(c->n_taps, c->channels, c->panel);
    struct pointers at;
    for (int g = 0; g < c->group; g++) {
        for (int i = 0; i < block->n_pixels; i++) {
            at.in[i] = in + g * c->channels + block->in[i];
            at.out[i] = out + g * c->outputs + block->out[i];
        }
        for (int p = 0; p < c->panels; p++) {
            size_t index = (size_t)(g * c->panels + p);
            int left = c->outputs - p * c->panel;
            struct qc_tile_f32 tile = {.first = p * c->panel,
                                       .channels = c->tile_channels,
                                       .panel = c->panel,
                                       .weights = packed + index * panel_size,
                                       .bias = bias + index * (size_t)c->panel,
                                       .n_out = left < c->panel ? left : c->panel,
                                       .lo = c->lo,
                                       .hi = c->hi,
                                       .far = c->far};
            run_panel(step, block, &at, &tile);
        }
    }
}

static void run_groups(const struct qc_step *step, const struct conv *c, const float *in,
                       float *out, const float *packed, const float *bias)
{
    struct qc_pixels pixels;
    struct qc_block block;
    qc_pixels_init(&pixels, &c->in, &c->out, &c->window, &c->taps,
                   step->kernels->tile_rows_f32,
                   sizeof(float));
    qc_block_init(&pixels, &block);
    while (qc_block_next(&pixels, &block)) {
        run_block(step, c, &block, in, out, packed, bias);
    }
}

static void run_depthwise(const struct qc_step *step, const struct conv *c, const float *in,
                          float *out, const float *packed, const float *bias)
{
    const int64_t *y = c->out.shape.dim, in_row = c->window.stride[0] * c->in.row_stride;
    const int64_t rows = qc_depthwise_rows(in_row * (int64_t)sizeof(float));
    for (int64_t n = 0; n < y[0]; n++) {
        for (int64_t oh = 0; oh < y[2]; oh += rows) {
            struct qc_depthwise_f32 d = {
                .in = in + n * c->in.image_stride + oh * in_row,
                .out = out + n * c->out.image_stride + oh * c->out.row_stride,
                .n_rows = (int)(y[2] - oh < rows ? y[2] - oh : rows),
                .in_row = in_row,
                .out_row = c->out.row_stride,
                .n_pixels = (int)y[3],
                .in_step = c->window.stride[1] * c->in.pixel_stride,
                .out_step = c->out.pixel_stride,
                .tap = c->taps.all.tap,
                .n_taps = c->n_taps,
                .channels = c->group,
                .channels_padded = c->padded,
                .weights = packed,
                .bias = bias,
                .lo = c->lo,
                .hi = c->hi};
            step->kernels->depthwise_f32(&d);
        }
    }
}

static void conv_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    const struct conv *c = step->params;
    char *at = scratch;
    struct qc_view x = c->in, y = c->out;
    x.data = in[0].data;
    y.data = out[0].data;
    if (c->in_size > 0) {
        struct qc_view plain = qc_view_as_2d(&in[0]);
        x.data = at + c->in_lead;
        at += c->in_size;
        qc_view_copy(&plain, &x);
        qc_view_fill_border(&x, c->window.pad, 0);
    }
    if (c->out_size > 0) {
        y.data = at;
        at += c->out_size;
    }
    const float *packed = c->packed, *bias = c->bias;
    if (packed == NULL && c->winograd == NULL) {
        float *to_bias = (float *)(void *)at, *to = to_bias + c->bias_size;
        conv_pack(c, in[1].data, step->n_inputs > 2 ? in[2].data : NULL, to, to_bias);
        packed = to;
        bias = to_bias;
    }
    const float *first = (const float *)x.data - c->window.pad[0] * x.row_stride -
                         c->window.pad[1] * x.pixel_stride;
    if (c->winograd != NULL) {
        qc_winograd_run(c->winograd, step->kernels, &x, first, &y, c->lo, c->hi, at);
    } else {
        (c->depthwise ? run_depthwise : run_groups)(step, c, first, y.data, packed, bias);
    }
    if (c->out_size > 0) {
        struct qc_view plain = qc_view_as_2d(&out[0]);
        qc_view_copy(&y, &plain);
    }
}

enum qd_code qc_conv_check_f32(const struct qc_prepare *p, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *w = &p->in[1], *y = &p->out[0];
    if (x->dtype != QC_F32 || w->dtype != QC_F32 || y->dtype != QC_F32) {
        return qc_prepare_refuse(p, err, "only f32 is implemented");
    }
    if ((x->shape.rank != 3 && x->shape.rank != 4) || w->shape.rank != x->shape.rank ||
        y->shape.rank != x->shape.rank) {
        return qc_prepare_refuse(p, err, "only one or two spatial dims are implemented");
    }
    if (p->node->n_inputs > 2 && p->node->inputs[2] >= 0 &&
        (p->in[2].dtype != QC_F32 ||
         qc_shape_elements(&p->in[2].shape) != (size_t)y->shape.dim[1])) {
        return qc_prepare_refuse(p, err, "the bias must be f32, one value an output channel");
    }
    return QD_OK;
}

static enum qd_code conv_check(const struct qc_prepare *p, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *w = &p->in[1], *y = &p->out[0];
    QD_TRY(qc_conv_check_f32(p, err));
    int64_t group = qc_node_int(p->node, "group", 1);
    if (group < 1 || group > x->shape.dim[1] || w->shape.dim[0] % group != 0 ||
        w->shape.dim[1] * group != x->shape.dim[1] || w->shape.dim[0] != y->shape.dim[1]) {
        return qc_prepare_refuse(p, err, "group, weights and channels do not fit together");
    }
    return QD_OK;
}

/* The last window must end inside the border, whoever computed the output shape. */
static enum qd_code conv_check_window(const struct qc_prepare *p, const struct conv *c,
                                      struct qd_error *err)
{
    for (int d = 0; d < 2; d++) {
        int64_t reach = (c->out.shape.dim[2 + d] - 1) * c->window.stride[d] +
                        (int64_t)(c->window.kernel[d] - 1) * c->window.dilation[d] + 1;
        if (c->window.kernel[d] < 1 || c->window.stride[d] < 1 || c->window.dilation[d] < 1 ||
            c->window.pad[d] < 0 || c->window.pad[d + 2] < 0 ||
            reach > c->in.shape.dim[2 + d] + c->window.pad[d] + c->window.pad[d + 2]) {
            return qc_prepare_refuse(p, err, "the window does not fit into the padded input");
        }
    }
    return QD_OK;
}

/* The staged copy's size must not overflow, whatever the pads are. */
static bool staging_fits(const struct qc_view *x, const int pad[4])
{
    size_t size = 256;
    for (int i = 0; i < 4; i++) {
        int64_t border = i >= 2 ? (int64_t)pad[i - 2] + pad[i] : 0;
        if (border < 0 || !qd_mul_size(size, (size_t)(x->shape.dim[i] + border), &size) ||
            size > (size_t)1 << 40) {
            return false;
        }
    }
    return true;
}

static enum qd_code conv_geometry(const struct qc_prepare *p, struct conv *c,
                                  struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    const int none[4] = {0};
    size_t lead;
    c->in = qc_view_as_2d(x);
    c->out = qc_view_as_2d(y);
    qc_window_resolve(p->node, x->shape.rank - 2, p->in[1].shape.dim + 2, x->shape.dim + 2,
                      y->shape.dim + 2, &c->window);
    if (!staging_fits(&c->in, c->window.pad) || !staging_fits(&c->out, none)) {
        return qc_prepare_refuse(p, err, "the padded input is too large");
    }
    if (x->layout == QC_PLAIN) {
        qc_view_nhwc_strides(&c->in, c->window.pad, &c->in_lead, &c->in_size);
        c->in_size = qd_align_up(c->in_size + QD_ARENA_TAIL, QD_ARENA_ALIGN);
    }
    if (y->layout == QC_PLAIN) {
        qc_view_nhwc_strides(&c->out, none, &lead, &c->out_size);
        c->out_size = qd_align_up(c->out_size + QD_ARENA_TAIL, QD_ARENA_ALIGN);
    }
    c->group = (int)qc_node_int(p->node, "group", 1);
    c->channels = (int)p->in[1].shape.dim[1];
    c->outputs = (int)p->in[1].shape.dim[0] / c->group;
    c->n_taps = c->window.kernel[0] * c->window.kernel[1];
    c->depthwise = c->group > 1 && c->channels == 1 && c->outputs == 1;
    c->padded = (int)qd_align_up((size_t)c->group, 64);
    c->panel = p->kernels->panel_f32;
    c->panels = (c->outputs + c->panel - 1) / c->panel;
    if (c->depthwise) {
        c->packed_size = (size_t)c->n_taps * (size_t)c->padded;
        c->bias_size = (size_t)c->padded;
    } else {
        size_t panels = (size_t)c->group * (size_t)c->panels;
        c->packed_size = panels * qc_packed_panel_f32(c->n_taps, c->channels, c->panel);
        c->bias_size = panels * (size_t)c->panel;
    }
    return QD_OK;
}

static enum qd_code conv_pack_now(const struct qc_prepare *p, struct conv *c,
                                  struct qc_step *step, struct qd_error *err)
{
    bool has_bias = p->node->n_inputs > 2 && p->node->inputs[2] >= 0;
    if (p->in[1].data == NULL || (has_bias && p->in[2].data == NULL)) {
        step->scratch_size += (c->packed_size + c->bias_size) * sizeof(float) + QD_ARENA_TAIL;
        return QD_OK;
    }
    const float *w = p->in[1].data, *bias = has_bias ? p->in[2].data : NULL;
    if (qc_winograd_suits(&c->window, c->channels, c->outputs, c->group, &c->out.shape)) {
        QD_TRY(qc_winograd_new(p->kernels, w, bias, c->channels, c->outputs, &c->out.shape, p->arena,
                               &c->winograd, err));
        step->scratch_size += qc_winograd_scratch(c->winograd);
        return QD_OK;
    }
    QD_TRY(qd_arena_array(p->arena, c->packed_size, sizeof(float), &c->packed, err));
    QD_TRY(qd_arena_array(p->arena, c->bias_size, sizeof(float), &c->bias, err));
    conv_pack(c, w, bias, c->packed, c->bias);
    return QD_OK;
}

enum qd_code qc_prepare_conv(const struct qc_prepare *p, struct qc_step *step,
                             struct qd_error *err)
{
    struct conv *c;
    QD_TRY(conv_check(p, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    QD_TRY(conv_geometry(p, c, err));
    QD_TRY(conv_check_window(p, c, err));
    bool divided = !c->depthwise && qc_taps_worth_runs(&c->window, c->channels, &c->out);
    bool merged = !c->depthwise && !divided && c->group == 1 && c->in.pixel_stride == c->channels &&
                  c->window.dilation[1] == 1;
    /* merged: a row of taps is contiguous, and so are its weights */
    c->tile_channels = (merged ? c->window.kernel[1] : 1) * c->channels;
    QD_TRY(qc_taps_init(p, &c->window, &c->in, &c->out, c->tile_channels, c->panel, merged, divided,
                        &c->taps, err));
    c->far = qc_shape_elements(&c->out.shape) * sizeof(float) > FAR_BYTES;
    c->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    c->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    step->scratch_size = c->in_size + c->out_size;
    QD_TRY(conv_pack_now(p, c, step, err));
    step->params = c;
    step->run = conv_run;
    return QD_OK;
}
