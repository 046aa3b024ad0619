/* ConvTranspose: one product a row of input pixels, [W][channels] x [channels][taps * outputs],
 * whose pieces of `outputs` values are added to the output pixels that the taps reach. */
#include <math.h>
#include <string.h>

#include "quantcore/affine/requant.h"
#include "quantcore/exec/exec_ops.h"

struct transposed {
    int64_t group, channels, outputs; /* channels, outputs: of one group */
    int64_t kernel[2], stride[2], dilation[2], pad[2];
    int64_t columns;                  /* taps * outputs */
    bool depthwise;                   /* a channel and an output a group */
    int panel;
    int64_t panels;
    size_t packed_size;               /* floats of all groups */
    float *packed;                    /* NULL: packed into scratch at every run */
    const float *zeros;               /* [panel] the tiles' bias */
    size_t in_size, out_size, row_size; /* bytes: staged input and output (0: not), the product */
    struct qc_view in, out;           /* NHWC, staged or not; data is set by run */
    float lo, hi;
};

/* ---- geometry ---- */

/* Pads at the beginning: as given, or what is left over where the output's size was asked for.
 * Of an odd rest the smaller half stands first with SAME_UPPER, else last. */
static int64_t first_pad(const struct qc_node *n, int spatial, int i, int64_t full, int64_t out)
{
    int64_t pads[2 * QC_MAX_RANK] = {0};
    const char *auto_pad = qc_node_string(n, "auto_pad", "NOTSET");
    const struct qc_attr *asked = qc_node_attr(n, "output_shape");
    bool upper = strcmp(auto_pad, "SAME_UPPER") == 0;
    if (upper || strcmp(auto_pad, "SAME_LOWER") == 0 || (asked != NULL && asked->n > 0)) {
        int64_t total = full > out ? full - out : 0;
        return upper ? total / 2 : total - total / 2;
    }
    if (strcmp(auto_pad, "VALID") == 0 || qc_node_ints(n, "pads", pads, 2 * spatial) == 0) {
        return 0;
    }
    return pads[i];
}

static void resolve_window(const struct qc_prepare *p, struct transposed *t)
{
    int spatial = p->in[0].shape.rank - 2;
    int64_t stride[2] = {1, 1}, dilation[2] = {1, 1}, added[2] = {0, 0};
    (void)qc_node_ints(p->node, "strides", stride, 2);
    (void)qc_node_ints(p->node, "dilations", dilation, 2);
    (void)qc_node_ints(p->node, "output_padding", added, 2);
    for (int d = 0; d < 2; d++) {
        t->kernel[d] = t->stride[d] = t->dilation[d] = 1;
    }
    for (int i = 0; i < spatial; i++) {
        int d = 2 - spatial + i;
        t->kernel[d] = p->in[1].shape.dim[2 + i];
        t->stride[d] = stride[i];
        t->dilation[d] = dilation[i];
        int64_t full = (p->in[0].shape.dim[2 + i] - 1) * stride[i] + added[i] +
                       (t->kernel[d] - 1) * dilation[i] + 1;
        t->pad[d] = first_pad(p->node, spatial, i, full, p->out[0].shape.dim[2 + i]);
    }
}

/* ---- weights ---- */

/* [channels of all groups][outputs][taps] → a group's [channels][taps][outputs] in panels. */
static void pack(const struct transposed *t, const float *w, float *out)
{
    int64_t taps = t->kernel[0] * t->kernel[1];
    if (t->depthwise) { /* [taps][groups] */
        for (int64_t i = 0; i < taps * t->group; i++) {
            out[i] = w[i % t->group * taps + i / t->group];
        }
        return;
    }
    for (int64_t g = 0; g < t->group; g++) {
        for (int64_t p = 0; p < t->panels; p++) {
            for (int64_t k = 0; k < t->channels; k++) {
                const float *from = w + (g * t->channels + k) * t->columns;
                for (int64_t j = 0; j < t->panel; j++) {
                    int64_t column = p * t->panel + j;
                    int64_t tap = column / t->outputs, o = column % t->outputs;
                    *out++ = column < t->columns ? from[o * taps + tap] : 0.0f;
                }
            }
        }
    }
}

/* ---- running ---- */

/* product[i] = pixels[i] x the group's weights, for a row of n pixels. */
static void multiply_row(const struct qc_step *step, const struct transposed *t, const float *x,
                         int64_t n, const float *packed, float *product)
{
    static const int32_t tap[1] = {0};
    const float *row[QC_MAX_ROWS];
    float *to[QC_MAX_ROWS];
    for (int64_t p = 0; p < t->panels; p++) {
        int64_t left = t->columns - p * t->panel;
        struct qc_tile_f32 tile = {.row = row,
                                   .out = to,
                                   .first = p * t->panel,
                                   .tap = tap,
                                   .gap = tap,
                                   .n_taps = 1,
                                   .channels = (int)t->channels,
                                   .panel = t->panel,
                                   .weights = packed + p * t->panel * t->channels,
                                   .bias = t->zeros,
                                   .n_out = left < t->panel ? (int)left : t->panel,
                                   .lo = -INFINITY,
                                   .hi = INFINITY};
        for (int64_t i = 0; i < n; i += tile.n_rows) {
            int64_t rows = n - i;
            rows = rows < step->kernels->tile_rows_f32 ? rows : step->kernels->tile_rows_f32;
            for (int64_t k = 0; k < rows; k++) {
                row[k] = x + (i + k) * t->in.pixel_stride;
                to[k] = product + (i + k) * t->columns;
            }
            tile.n_rows = (int)rows;
            step->kernels->tile_f32(&tile);
        }
    }
}

/* Where tap k of input i lies in the output, -1 outside. */
static int64_t reached(const struct transposed *t, int d, int64_t i, int64_t k)
{
    int64_t at = i * t->stride[d] + k * t->dilation[d] - t->pad[d];
    return at >= 0 && at < t->out.shape.dim[2 + d] ? at : -1;
}

static void multiply_add(const float *x, const float *w, float *y, int64_t n)
{
    for (int64_t c = 0; c < n; c++) {
        y[c] += x[c] * w[c];
    }
}

/* A row of the product of one group, or of the input when depthwise, into the output's image. */
static void add_row(const struct qc_step *step, const struct transposed *t, const float *from,
                    const float *weights, int64_t ih, float *image)
{
    for (int64_t kh = 0; kh < t->kernel[0]; kh++) {
        int64_t oh = reached(t, 0, ih, kh);
        for (int64_t iw = 0; oh >= 0 && iw < t->in.shape.dim[3]; iw++) {
            for (int64_t kw = 0; kw < t->kernel[1]; kw++) {
                int64_t ow = reached(t, 1, iw, kw), tap = kh * t->kernel[1] + kw;
                float *y = image + oh * t->out.row_stride + ow * t->out.pixel_stride;
                if (ow < 0) {
                    continue;
                }
                if (t->depthwise) {
                    multiply_add(from + iw * t->in.pixel_stride, weights + tap * t->group, y,
                                 t->group);
                } else {
                    step->kernels->sum_f32(from + iw * t->columns + tap * t->outputs, y,
                                           (size_t)t->outputs);
                }
            }
        }
    }
}

static void run_image(const struct qc_step *step, const struct transposed *t, const float *x,
                      const float *packed, float *product, float *image)
{
    for (int64_t ih = 0; ih < t->in.shape.dim[2]; ih++, x += t->in.row_stride) {
        if (t->depthwise) {
            add_row(step, t, x, packed, ih, image);
            continue;
        }
        for (int64_t g = 0; g < t->group; g++) {
            const float *weights = packed + (size_t)g * (t->packed_size / (size_t)t->group);
            multiply_row(step, t, x + g * t->channels, t->in.shape.dim[3], weights, product);
            add_row(step, t, product, NULL, ih, image + g * t->outputs);
        }
    }
}

/* Every pixel of an image: the bias before, the clamp after. */
static void fill_image(const struct transposed *t, const float *bias, float *image)
{
    int64_t n = t->group * t->outputs;
    for (int64_t h = 0; h < t->out.shape.dim[2]; h++) {
        for (int64_t w = 0; w < t->out.shape.dim[3]; w++) {
            float *y = image + h * t->out.row_stride + w * t->out.pixel_stride;
            if (bias != NULL) {
                memcpy(y, bias, (size_t)n * sizeof(float));
            } else {
                memset(y, 0, (size_t)n * sizeof(float));
            }
        }
    }
}

static void clamp_image(const struct qc_step *step, const struct transposed *t, float *image)
{
    for (int64_t h = 0; h < t->out.shape.dim[2]; h++) {
        for (int64_t w = 0; w < t->out.shape.dim[3]; w++) {
            float *y = image + h * t->out.row_stride + w * t->out.pixel_stride;
            step->kernels->clamp_f32(y, t->lo, t->hi, y, (size_t)(t->group * t->outputs));
        }
    }
}

static void transposed_run(const struct qc_step *step, const struct qc_view *in,
                           const struct qc_view *out, void *scratch)
{
    const struct transposed *t = step->params;
    char *at = scratch;
    struct qc_view x = t->in, y = t->out;
    x.data = in[0].data;
    y.data = out[0].data;
    if (t->in_size > 0) {
        struct qc_view plain = qc_view_as_2d(&in[0]);
        x.data = at;
        at += t->in_size;
        qc_view_copy(&plain, &x);
    }
    if (t->out_size > 0) {
        y.data = at;
        at += t->out_size;
    }
    float *product = (float *)(void *)at, *packed = (float *)(void *)(at + t->row_size);
    if (t->packed == NULL) {
        pack(t, in[1].data, packed);
    }
    const float *bias = step->n_inputs > 2 ? in[2].data : NULL;
    for (int64_t n = 0; n < t->out.shape.dim[0]; n++) {
        float *image = (float *)y.data + n * t->out.image_stride;
        fill_image(t, bias, image);
        run_image(step, t, (const float *)x.data + n * t->in.image_stride,
                  t->packed != NULL ? t->packed : packed, product, image);
        if (t->lo > -INFINITY || t->hi < INFINITY) {
            clamp_image(step, t, image);
        }
    }
    if (t->out_size > 0) {
        struct qc_view plain = qc_view_as_2d(&out[0]);
        qc_view_copy(&y, &plain);
    }
}

/* ---- building ---- */

static enum qd_code check(const struct qc_prepare *p, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *w = &p->in[1], *y = &p->out[0];
    QD_TRY(qc_conv_check_f32(p, err));
    int64_t group = qc_node_int(p->node, "group", 1);
    if (group < 1 || x->shape.dim[1] % group != 0 || w->shape.dim[0] != x->shape.dim[1] ||
        w->shape.dim[1] > INT32_MAX || group > INT32_MAX ||
        w->shape.dim[1] * group != y->shape.dim[1] || x->shape.dim[1] > INT32_MAX / QC_NR) {
        return qc_prepare_refuse(p, err, "group, weights and channels do not fit together");
    }
    return QD_OK;
}

static size_t staged_size(const struct qc_view *view, struct qc_view *ret)
{
    const int none[4] = {0};
    size_t lead, size = 0;
    *ret = qc_view_as_2d(view);
    if (view->layout != QC_PLAIN) {
        return 0;
    }
    qc_view_nhwc_strides(ret, none, &lead, &size);
    return qd_align_up(size + QD_ARENA_TAIL, QD_ARENA_ALIGN);
}

/* Sizes of the packed weights and of a row's product; false when they do not fit. */
static bool set_sizes(struct transposed *t, size_t weights)
{
    size_t row = 0;
    t->depthwise = t->group > 1 && t->channels == 1 && t->outputs == 1;
    t->packed_size = weights;
    if (t->depthwise) {
        return true;
    }
    t->panels = (t->columns + t->panel - 1) / t->panel;
    bool fits = qd_mul_size((size_t)t->group * (size_t)t->channels,
                            (size_t)t->panels * (size_t)t->panel, &t->packed_size) &&
                qd_mul_size((size_t)t->in.shape.dim[3], (size_t)t->columns, &row) &&
                row < SIZE_MAX / 8 && t->packed_size < SIZE_MAX / 8;
    t->row_size = qd_align_up(row * sizeof(float) + QD_ARENA_TAIL, QD_ARENA_ALIGN);
    return fits;
}

enum qd_code qc_prepare_conv_transpose(const struct qc_prepare *p, struct qc_step *step,
                                       struct qd_error *err)
{
    struct transposed *t;
    float *zeros = NULL;
    QD_TRY(check(p, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*t), &t, err));
    resolve_window(p, t);
    t->group = qc_node_int(p->node, "group", 1);
    t->channels = p->in[0].shape.dim[1] / t->group;
    t->outputs = p->in[1].shape.dim[1];
    t->columns = t->outputs * t->kernel[0] * t->kernel[1];
    t->panel = p->kernels->panel_f32;
    t->in_size = staged_size(&p->in[0], &t->in);
    t->out_size = staged_size(&p->out[0], &t->out);
    if (!set_sizes(t, qc_shape_elements(&p->in[1].shape))) {
        return qc_prepare_refuse(p, err, "the weights are too large");
    }
    t->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    t->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    QD_TRY(qd_arena_array(p->arena, (size_t)t->panel, sizeof(float), &zeros, err));
    t->zeros = zeros;
    step->scratch_size = t->in_size + t->out_size + t->row_size;
    if (p->in[1].data != NULL) {
        QD_TRY(qd_arena_array(p->arena, t->packed_size, sizeof(float), &t->packed, err));
        pack(t, p->in[1].data, t->packed);
    } else {
        step->scratch_size += t->packed_size * sizeof(float) + QD_ARENA_TAIL;
    }
    step->params = t;
    step->run = transposed_run;
    return QD_OK;
}
