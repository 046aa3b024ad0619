/* MaxPool, AveragePool, GlobalAveragePool over [N,C,H,W] (or [N,C,W]) in either layout. Windows
 * are clipped to the input, so that no border is read. */
#include <string.h>

#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

struct pool {
    struct qc_window window;
    struct qc_shape in, out; /* rank 4 */
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    enum qc_dtype dtype;
    bool average, include_pad;
    int32_t *tap; /* a maximum over dense channels: max_row; else NULL */
    bool clamp;
    float lo, hi;
};

/* One tap: all channels of an input pixel into the output pixel. */
static void tap_first(const struct pool *p, const void *x, void *y)
{
    int64_t n = p->in.dim[1], sx = p->xs[1], sy = p->ys[1];
    size_t size = qc_dtype_size(p->dtype);
    if (sx == 1 && sy == 1) {
        memcpy(y, x, (size_t)n * size);
        return;
    }
    for (int64_t c = 0; c < n; c++) {
        memcpy((char *)y + c * sy * (int64_t)size, (const char *)x + c * sx * (int64_t)size,
               size);
    }
}

#define TAP_LOOP(type, combine)                                                                  \
    do {                                                                                         \
        const type *px = x;                                                                      \
        type *py = y;                                                                            \
        for (int64_t c = 0; c < n; c++) {                                                        \
            type a = py[c * sy], b = px[c * sx];                                                 \
            py[c * sy] = (combine);                                                              \
        }                                                                                        \
    } while (0)

static void tap_more(const struct qc_step *step, const struct pool *p, const void *x, void *y)
{
    int64_t n = p->in.dim[1], sx = p->xs[1], sy = p->ys[1];
    bool dense = sx == 1 && sy == 1;
    if (p->average) {
        if (dense) {
            step->kernels->sum_f32(x, y, (size_t)n);
        } else {
            TAP_LOOP(float, a + b);
        }
    } else if (p->dtype == QC_F32) {
        TAP_LOOP(float, b > a ? b : a);
    } else if (p->dtype == QC_U8) {
        TAP_LOOP(uint8_t, b > a ? b : a);
    } else {
        TAP_LOOP(int8_t, b > a ? b : a);
    }
}

static void pool_finish(const struct pool *p, float *y, int64_t count)
{
    for (int64_t c = 0; c < p->in.dim[1]; c++) {
        float v = y[c * p->ys[1]];
        v = p->average ? v / (float)count : v;
        y[c * p->ys[1]] = p->clamp ? qc_clamp(v, p->lo, p->hi) : v;
    }
}

/* First and one-past-last tap of dim d that lie inside the input; *ret_start: where tap 0 is. */
static void clip_window(const struct pool *p, int d, int64_t at, int64_t *ret_start,
                        int64_t *ret_begin, int64_t *ret_end)
{
    int64_t start = at * p->window.stride[d] - p->window.pad[d], step = p->window.dilation[d];
    int64_t size = p->in.dim[2 + d], begin = 0, end = p->window.kernel[d];
    if (start < 0) {
        begin = (-start + step - 1) / step;
    }
    int64_t reach = start < size ? (size - 1 - start) / step + 1 : 0; /* taps before the end */
    end = reach < end ? reach : end;
    *ret_start = start;
    *ret_begin = begin;
    *ret_end = end;
}

/* Taps of dim d inside the padded input: what counts when the padding is included. */
static int64_t padded_taps(const struct pool *p, int d, int64_t start)
{
    int64_t left = p->in.dim[2 + d] + p->window.pad[2 + d] - start, step = p->window.dilation[d];
    int64_t n = left > 0 ? (left - 1) / step + 1 : 0;
    return n < p->window.kernel[d] ? n : p->window.kernel[d];
}

static void pool_pixel(const struct qc_step *step, const struct pool *p, const char *image,
                       int64_t oh, int64_t ow, char *y)
{
    int64_t size = (int64_t)qc_dtype_size(p->dtype), count = 0;
    int64_t h0, hb, he, w0, wb, we;
    clip_window(p, 0, oh, &h0, &hb, &he);
    clip_window(p, 1, ow, &w0, &wb, &we);
    for (int64_t h = hb; h < he; h++) {
        for (int64_t w = wb; w < we; w++) {
            int64_t ih = h0 + h * p->window.dilation[0], iw = w0 + w * p->window.dilation[1];
            const char *x = image + (ih * p->xs[2] + iw * p->xs[3]) * size;
            if (count++ == 0) {
                tap_first(p, x, y);
            } else {
                tap_more(step, p, x, y);
            }
        }
    }
    if (p->average && p->include_pad) {
        count = padded_taps(p, 0, h0) * padded_taps(p, 1, w0);
    }
    if (p->average || p->clamp) {
        pool_finish(p, (float *)(void *)y, count);
    }
}

/* The taps of rows x columns of the kernel from its first one on. */
static int list_taps(const struct pool *p, int64_t rows, int64_t columns, int32_t *ret)
{
    int n = 0;
    for (int64_t h = 0; h < rows; h++) {
        for (int64_t w = 0; w < columns; w++) {
            ret[n++] = (int32_t)(h * p->window.dilation[0] * p->xs[2] +
                                 w * p->window.dilation[1] * p->xs[3]);
        }
    }
    return n;
}

/* A row of a maximum over dense channels: the windows inside the input share their taps. */
static void max_row(const struct qc_step *step, const struct pool *p, const char *image,
                    int64_t oh, char *y, int32_t *clipped)
{
    int64_t size = (int64_t)qc_dtype_size(p->dtype), h0, hb, he, w0, wb, we;
    clip_window(p, 0, oh, &h0, &hb, &he);
    image += (h0 + hb * p->window.dilation[0]) * p->xs[2] * size;
    for (int64_t ow = 0; ow < p->out.dim[3]; ow++, y += p->ys[3] * size) {
        const int32_t *tap = p->tap;
        clip_window(p, 1, ow, &w0, &wb, &we);
        int n_taps = (int)((he - hb) * (we - wb));
        if (we - wb < p->window.kernel[1]) {
            n_taps = list_taps(p, he - hb, we - wb, clipped);
            tap = clipped;
        }
        const char *x = image + (w0 + wb * p->window.dilation[1]) * p->xs[3] * size;
        size_t n = (size_t)p->in.dim[1];
        if (p->dtype == QC_F32) {
            step->kernels->max_taps_f32((const void *)x, tap, n_taps, (void *)y, n);
        } else {
            step->kernels->max_taps_u8((const void *)x, tap, n_taps, (void *)y, n);
        }
        if (p->clamp) {
            pool_finish(p, (float *)(void *)y, 1);
        }
    }
}

static void pool_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    const struct pool *p = step->params;
    int64_t size = (int64_t)qc_dtype_size(p->dtype);
    for (int64_t n = 0; n < p->out.dim[0]; n++) {
        const char *image = (const char *)in[0].data + n * p->xs[0] * size;
        for (int64_t h = 0; h < p->out.dim[2]; h++) {
            char *y = (char *)out[0].data + (n * p->ys[0] + h * p->ys[2]) * size;
            if (p->tap != NULL) {
                max_row(step, p, image, h, y, scratch);
                continue;
            }
            for (int64_t w = 0; w < p->out.dim[3]; w++) {
                pool_pixel(step, p, image, h, w, y + w * p->ys[3] * size);
            }
        }
    }
}

static enum qd_code pool_new(const struct qc_prepare *p, struct qc_step *step, bool average,
                             struct pool **ret, struct qd_error *err)
{
    struct qc_view x = qc_view_as_2d(&p->in[0]), y = qc_view_as_2d(&p->out[0]);
    struct pool *pool;
    bool bytes = x.dtype == QC_U8 || x.dtype == QC_S8;
    if (x.dtype != y.dtype || !(x.dtype == QC_F32 || (bytes && !average))) {
        return qc_prepare_refuse(p, err, "implemented for f32 (MaxPool: u8 and s8 too)");
    }
    if (x.shape.rank != 4 || y.shape.rank != 4 || x.shape.dim[0] != y.shape.dim[0] ||
        x.shape.dim[1] != y.shape.dim[1]) {
        return qc_prepare_refuse(p, err, "only one or two spatial dims are implemented");
    }
    if (p->node->clamp.present && bytes) {
        return qc_prepare_refuse(p, err, "a fused activation needs f32");
    }
    if (p->node->n_outputs > 1 && p->node->outputs[1] >= 0) {
        return qc_prepare_refuse(p, err, "the output Indices is not implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*pool), &pool, err));
    pool->in = x.shape;
    pool->out = y.shape;
    qc_view_strides(&x, pool->xs);
    qc_view_strides(&y, pool->ys);
    pool->dtype = x.dtype;
    pool->average = average;
    pool->clamp = p->node->clamp.present;
    pool->lo = p->node->clamp.lo;
    pool->hi = p->node->clamp.hi;
    step->params = pool;
    step->run = pool_run;
    *ret = pool;
    return QD_OK;
}

/* Every window must hold at least one pixel, and none start behind the padded input. */
static bool pool_window_fits(const struct pool *p)
{
    for (int d = 0; d < 2; d++) {
        if (p->window.kernel[d] < 1 || p->window.stride[d] < 1 || p->window.dilation[d] < 1 ||
            p->window.pad[d] < 0 || p->window.pad[d + 2] < 0) {
            return false;
        }
        for (int64_t at = 0; at < p->out.dim[2 + d]; at++) {
            int64_t start, begin, end;
            clip_window(p, d, at, &start, &begin, &end);
            if (begin >= end) {
                return false;
            }
        }
    }
    return true;
}

/* Taps of the kernel; 0 when the offset of the last one does not fit 32 bits. */
static int64_t kernel_taps(const struct pool *p)
{
    const struct qc_window *w = &p->window;
    int64_t rows = (int64_t)(w->kernel[0] - 1) * w->dilation[0];
    int64_t columns = (int64_t)(w->kernel[1] - 1) * w->dilation[1];
    bool fits = rows <= INT32_MAX / (p->xs[2] + 1) && columns <= INT32_MAX / (p->xs[3] + 1) &&
                rows * p->xs[2] + columns * p->xs[3] <= INT32_MAX;
    return fits ? (int64_t)w->kernel[0] * w->kernel[1] : 0;
}

static enum qd_code pool_windowed(const struct qc_prepare *p, struct qc_step *step, bool average,
                                  struct qd_error *err)
{
    struct pool *pool;
    int64_t kernel[2];
    int n_spatial = p->in[0].shape.rank - 2;
    QD_TRY(pool_new(p, step, average, &pool, err));
    if (qc_node_ints(p->node, "kernel_shape", kernel, 2) != n_spatial) {
        return qc_prepare_refuse(p, err, "kernel_shape must have one value a spatial dim");
    }
    qc_window_resolve(p->node, n_spatial, kernel, p->in[0].shape.dim + 2, p->out[0].shape.dim + 2,
                      &pool->window);
    if (!pool_window_fits(pool)) {
        return qc_prepare_refuse(p, err, "a window lies outside the input");
    }
    int64_t taps = kernel_taps(pool);
    if (!average && pool->dtype != QC_S8 && p->in[0].layout == QC_NHWC && taps > 0) {
        QD_TRY(qd_arena_array(p->arena, (size_t)taps, sizeof(int32_t), &pool->tap, err));
        (void)list_taps(pool, pool->window.kernel[0], pool->window.kernel[1], pool->tap);
        step->scratch_size = (size_t)taps * sizeof(int32_t);
    }
    pool->include_pad = qc_node_int(p->node, "count_include_pad", 0) != 0;
    return QD_OK;
}

enum qd_code qc_prepare_max_pool(const struct qc_prepare *p, struct qc_step *step,
                                 struct qd_error *err)
{
    return pool_windowed(p, step, false, err);
}

enum qd_code qc_prepare_average_pool(const struct qc_prepare *p, struct qc_step *step,
                                     struct qd_error *err)
{
    return pool_windowed(p, step, true, err);
}

static enum qd_code pool_global(const struct qc_prepare *p, struct qc_step *step, bool average,
                                struct qd_error *err)
{
    struct pool *pool;
    QD_TRY(pool_new(p, step, average, &pool, err));
    pool->window = (struct qc_window){.stride = {1, 1}, .dilation = {1, 1}};
    for (int d = 0; d < 2; d++) {
        pool->window.kernel[d] = (int)pool->in.dim[2 + d];
    }
    return pool_window_fits(pool) ? QD_OK : qc_prepare_refuse(p, err, "the input is empty");
}

enum qd_code qc_prepare_global_average_pool(const struct qc_prepare *p, struct qc_step *step,
                                            struct qd_error *err)
{
    return pool_global(p, step, true, err);
}

enum qd_code qc_prepare_global_max_pool(const struct qc_prepare *p, struct qc_step *step,
                                        struct qd_error *err)
{
    return pool_global(p, step, false, err);
}
