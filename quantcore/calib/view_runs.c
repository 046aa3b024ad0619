#include "quantcore/calib/view_runs.h"

#include <string.h>

/* Values of a strip, about: the first cache. But enough pixels that what is held a channel costs
 * little beside them. */
enum { STRIP = 8192, PIXELS_LEAST = 16 };

void qc_view_for_each_strip(const struct qc_view *view, qc_view_strip_fn *fn, void *ctx)
{
    const int64_t *dim = view->shape.dim;
    int64_t step = view->pixel_stride, row = dim[3], rows = dim[2];
    if (view->row_stride == row * step) { /* no border: rows lie one behind the other */
        row *= rows;
        rows = 1;
    }
    int64_t most = STRIP / dim[1];
    most = most > PIXELS_LEAST ? most : PIXELS_LEAST;
    for (int64_t n = 0; n < dim[0]; n++) {
        for (int64_t h = 0; h < rows; h++) {
            const float *x =
                (const float *)view->data + n * view->image_stride + h * view->row_stride;
            for (int64_t part, left = row; left > 0; left -= part, x += part * step) {
                part = left < most ? left : most;
                fn(ctx, x, step, (size_t)part);
            }
        }
    }
}

void qc_strip_for_each_run(const float *x, int64_t step, size_t n_pixels, size_t channels,
                           qc_view_run_fn *fn, void *ctx)
{
    if (step == (int64_t)channels) {
        fn(ctx, x, n_pixels * channels);
        return;
    }
    float packed[STRIP];
    size_t n = 0;
    for (size_t p = 0; p < n_pixels; p++, x += step) {
        if (channels > STRIP) {
            fn(ctx, x, channels);
            continue;
        }
        if (n + channels > STRIP) {
            fn(ctx, packed, n);
            n = 0;
        }
        memcpy(packed + n, x, channels * sizeof(*packed));
        n += channels;
    }
    if (n > 0) {
        fn(ctx, packed, n);
    }
}

struct runs {
    size_t channels;
    qc_view_run_fn *fn;
    void *ctx;
};

static void strip_runs(void *ctx, const float *x, int64_t step, size_t n_pixels)
{
    const struct runs *r = ctx;
    qc_strip_for_each_run(x, step, n_pixels, r->channels, r->fn, r->ctx);
}

void qc_view_for_each_run(const struct qc_view *view, qc_view_run_fn *fn, void *ctx)
{
    if (view->layout == QC_PLAIN) {
        fn(ctx, view->data, qc_shape_elements(&view->shape));
        return;
    }
    struct runs r = {(size_t)view->shape.dim[1], fn, ctx};
    qc_view_for_each_strip(view, strip_runs, &r);
}
