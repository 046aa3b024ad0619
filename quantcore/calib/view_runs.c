#include "quantcore/calib/view_runs.h"

void qc_view_for_each_run(const struct qc_view *view, qc_view_run_fn *fn, void *ctx)
{
    const float *data = view->data;
    if (view->layout == QC_PLAIN) {
        fn(ctx, data, qc_shape_elements(&view->shape));
        return;
    }
    const int64_t *dim = view->shape.dim;
    bool dense = view->pixel_stride == dim[1];
    for (int64_t n = 0; n < dim[0]; n++) {
        for (int64_t h = 0; h < dim[2]; h++) {
            const float *row = data + n * view->image_stride + h * view->row_stride;
            if (dense) {
                fn(ctx, row, (size_t)(dim[3] * dim[1]));
                continue;
            }
            for (int64_t w = 0; w < dim[3]; w++) {
                fn(ctx, row + w * view->pixel_stride, (size_t)dim[1]);
            }
        }
    }
}
