#include <string.h>

#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_step.h"

void qc_view_copy(const struct qc_view *from, const struct qc_view *to)
{
    const struct qc_view *views[2] = {from, to};
    struct qc_nd nd;
    qc_nd_init(&nd, &to->shape, 2, views);
    qc_nd_copy(&nd, qc_dtype_size(to->dtype), from->data, to->data);
}

void qc_view_to_dense(const struct qc_view *view, void *out)
{
    struct qc_view dense = {
        .data = out, .dtype = view->dtype, .layout = QC_PLAIN, .shape = view->shape};
    qc_view_copy(view, &dense);
}

void qc_view_from_dense(const struct qc_view *view, const void *in)
{
    struct qc_view dense = {.dtype = view->dtype, .layout = QC_PLAIN, .shape = view->shape};
    const struct qc_view *views[2] = {&dense, view};
    struct qc_nd nd;
    qc_nd_init(&nd, &view->shape, 2, views);
    qc_nd_copy(&nd, qc_dtype_size(view->dtype), in, view->data);
}

/* What a pixel's channels are rounded up to. Few channels (images) stay together: a sixteenth of
 * a cache line a pixel would be read otherwise. */
static size_t pixel_unit(int64_t channels, size_t size)
{
    if (channels <= 4) {
        return 1;
    }
    return size == 1 && channels > 32 ? 64 : 16;
}

void qc_view_nhwc_strides(struct qc_view *view, const int pad[4], size_t *ret_lead,
                          size_t *ret_size)
{
    size_t size = qc_dtype_size(view->dtype);
    const int64_t *dim = view->shape.dim;
    view->layout = QC_NHWC;
    view->owns_pixels = true;
    view->pixel_stride = (int64_t)qd_align_up((size_t)dim[1], pixel_unit(dim[1], size));
    view->row_stride = (pad[1] + dim[3] + pad[3]) * view->pixel_stride;
    view->image_stride = (pad[0] + dim[2] + pad[2]) * view->row_stride;
    *ret_lead = (size_t)(pad[0] * view->row_stride + pad[1] * view->pixel_stride) * size;
    *ret_size = (size_t)(dim[0] * view->image_stride) * size;
}

static void fill(const struct qc_view *v, int64_t offset, int64_t n, int zero)
{
    size_t size = qc_dtype_size(v->dtype);
    memset((char *)v->data + offset * (int64_t)size, v->dtype == QC_F32 ? 0 : zero,
           (size_t)n * size);
}

void qc_view_fill_border(const struct qc_view *view, const int pad[4], int zero)
{
    const int64_t *dim = view->shape.dim;
    int64_t row = view->row_stride, pixel = view->pixel_stride;
    for (int64_t n = 0; n < dim[0]; n++) {
        int64_t image = n * view->image_stride - pad[1] * pixel;
        fill(view, image - pad[0] * row, pad[0] * row, zero);
        fill(view, image + dim[2] * row, pad[2] * row, zero);
        for (int64_t h = 0; h < dim[2]; h++) {
            fill(view, image + h * row, pad[1] * pixel, zero);
            fill(view, image + h * row + (pad[1] + dim[3]) * pixel, pad[3] * pixel, zero);
        }
    }
}

struct qc_view qc_view_as_2d(const struct qc_view *view)
{
    struct qc_view v = *view;
    if (v.shape.rank == 3) {
        v.shape.rank = 4;
        v.shape.dim[3] = v.shape.dim[2];
        v.shape.dim[2] = 1;
    }
    return v;
}
