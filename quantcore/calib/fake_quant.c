#include "quantcore/calib/fake_quant.h"

#include <math.h>

enum { CHUNK = 4096 };

struct fake {
    const struct qc_kernels *kernels;
    struct qc_qparams pair;
    float min, max;
    bool finite;
};

static void find_range(struct fake *f, float *x, size_t n)
{
    float lo = 0, hi = 0;
    bool finite = false;
    f->kernels->minmax_f32(x, n, &lo, &hi, &finite);
    f->min = lo < f->min ? lo : f->min;
    f->max = hi > f->max ? hi : f->max;
    f->finite = f->finite && finite;
}

static void round_values(struct fake *f, float *x, size_t n)
{
    uint8_t codes[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t part = n - at < CHUNK ? n - at : CHUNK;
        f->kernels->quantize_u8(x + at, f->pair.scale, f->pair.zero_point, codes, part);
        f->kernels->dequantize_u8(codes, f->pair.scale, f->pair.zero_point, x + at, part);
    }
}

/* Contiguous runs of the interior: a border's zeros are not data. */
static void for_each_run(const struct qc_view *v, void (*fn)(struct fake *, float *, size_t),
                         struct fake *f)
{
    float *data = v->data;
    if (v->layout == QC_PLAIN) {
        fn(f, data, qc_shape_elements(&v->shape));
        return;
    }
    for (int64_t n = 0; n < v->shape.dim[0]; n++) {
        for (int64_t h = 0; h < v->shape.dim[2]; h++) {
            for (int64_t w = 0; w < v->shape.dim[3]; w++) {
                fn(f, data + n * v->image_stride + h * v->row_stride + w * v->pixel_stride,
                   (size_t)v->shape.dim[1]);
            }
        }
    }
}

void qc_fake_quant_view(const struct qc_kernels *kernels, struct qc_scheme scheme,
                        const struct qc_view *view)
{
    struct fake f = {.kernels = kernels, .min = INFINITY, .max = -INFINITY, .finite = true};
    for_each_run(view, find_range, &f);
    if (!f.finite || f.min > f.max) {
        return;
    }
    /* s8 codes are u8 codes minus 128: the same values. */
    scheme.is_s8 = false;
    qc_qparams_choose(scheme, (double)f.min, (double)f.max, &f.pair);
    for_each_run(view, round_values, &f);
}
