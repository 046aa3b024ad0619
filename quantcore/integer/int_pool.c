/* Q_AVERAGE_POOL and Q_GLOBAL_AVERAGE_POOL: exact s32 sums, one requantization.
 *     q = clamp(rne((sum - n * z_x) * (s_x / (s_y * n))) + z_y) */
#include <string.h>

#include "quantcore/affine/requant.h"
#include "quantcore/integer/int_ops.h"

struct int_pool {
    struct qc_window window;
    bool count_pads;
    struct qc_qparams x;
    struct qc_unit_output out;
};

/* Sums of the window [h0,h1) x [w0,w1) of one image into acc[channels]. */
static void sum_window(const struct qc_step *step, const struct qc_view *x, int64_t image,
                       const int64_t range[4], int32_t *acc)
{
    size_t channels = (size_t)x->shape.dim[1];
    memset(acc, 0, channels * sizeof(*acc));
    for (int64_t h = range[0]; h < range[1]; h++) {
        for (int64_t w = range[2]; w < range[3]; w++) {
            step->kernels->sum_u8((const uint8_t *)x->data + image * x->image_stride +
                                      h * x->row_stride + w * x->pixel_stride,
                                  acc, channels);
        }
    }
}

static void store_pixel(const struct int_pool *c, const int32_t *acc, int64_t summed,
                        int64_t divisor, uint8_t *y, int64_t channels)
{
    float multiplier = c->x.scale / (c->out.y.scale * (float)divisor);
    int32_t shift = (int32_t)summed * c->x.zero_point;
    for (int64_t i = 0; i < channels; i++) {
        y[i] = (uint8_t)qc_requantize(acc[i] - shift, multiplier, c->out.y.zero_point,
                                      c->out.y_min, c->out.y_max);
    }
}

static int64_t clip(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : (v > hi ? hi : v);
}

static void pool_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    const struct int_pool *c = step->params;
    const struct qc_window *win = &c->window;
    const int64_t *xd = in[0].shape.dim, *yd = out[0].shape.dim;
    for (int64_t n = 0; n < yd[0]; n++) {
        for (int64_t oh = 0; oh < yd[2]; oh++) {
            for (int64_t ow = 0; ow < yd[3]; ow++) {
                int64_t h = oh * win->stride[0] - win->pad[0];
                int64_t w = ow * win->stride[1] - win->pad[1];
                int64_t range[4] = {clip(h, 0, xd[2]), clip(h + win->kernel[0], 0, xd[2]),
                                    clip(w, 0, xd[3]), clip(w + win->kernel[1], 0, xd[3])};
                int64_t summed = (range[1] - range[0]) * (range[3] - range[2]);
                /* pads count, but a window never reaches past them */
                int64_t high = clip(h + win->kernel[0], 0, xd[2] + win->pad[2]) - h;
                int64_t wide = clip(w + win->kernel[1], 0, xd[3] + win->pad[3]) - w;
                uint8_t *y = (uint8_t *)out[0].data + n * out[0].image_stride +
                             oh * out[0].row_stride + ow * out[0].pixel_stride;
                sum_window(step, &in[0], n, range, scratch);
                store_pixel(c, scratch, summed, c->count_pads ? high * wide : summed, y, yd[1]);
            }
        }
    }
}

static enum qd_code prepare_pool(const struct qc_prepare *p, struct qc_step *step,
                                 struct int_pool **ret, struct qd_error *err)
{
    struct int_pool *c = NULL;
    const struct qc_view *x = &p->in[0];
    if (x->dtype != QC_U8 || x->layout != QC_NHWC || p->out[0].layout != QC_NHWC) {
        return qc_prepare_refuse(p, err, "u8 data with two spatial dims are needed");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    QD_TRY(qc_unit_params(p, 1, 2, &c->x, err));
    QD_TRY(qc_unit_output(p, 3, 4, &c->out, err));
    step->params = c;
    step->run = pool_run;
    step->scratch_size = (size_t)x->shape.dim[1] * sizeof(int32_t) + QD_ARENA_TAIL;
    *ret = c;
    return QD_OK;
}

/* Sums stay within s32 for windows up to this many elements. */
#define MAX_WINDOW (1 << 23)

enum qd_code qc_prepare_q_average_pool(const struct qc_prepare *p, struct qc_step *step,
                                       struct qd_error *err)
{
    struct int_pool *c = NULL;
    int64_t kernel[2] = {0, 0};
    if (p->in[0].shape.rank != 4 || qc_node_ints(p->node, "kernel_shape", kernel, 2) != 2 ||
        kernel[0] < 1 || kernel[1] < 1 || kernel[0] > MAX_WINDOW / kernel[1]) {
        return qc_prepare_refuse(p, err, "kernel_shape of two dims is needed");
    }
    QD_TRY(prepare_pool(p, step, &c, err));
    qc_window_resolve(p->node, 2, kernel, p->in[0].shape.dim + 2, p->out[0].shape.dim + 2,
                      &c->window);
    c->count_pads = qc_node_int(p->node, "count_include_pad", 0) != 0;
    return QD_OK;
}

enum qd_code qc_prepare_q_global_average_pool(const struct qc_prepare *p, struct qc_step *step,
                                              struct qd_error *err)
{
    struct int_pool *c = NULL;
    const int64_t *d = p->in[0].shape.dim;
    if (p->in[0].shape.rank != 4 || d[2] * d[3] > MAX_WINDOW) {
        return qc_prepare_refuse(p, err, "the image is too large, or not two-dimensional");
    }
    QD_TRY(prepare_pool(p, step, &c, err));
    c->window = (struct qc_window){.kernel = {(int)d[2], (int)d[3]}, .stride = {1, 1}};
    return QD_OK;
}
