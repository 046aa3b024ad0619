/* Resampling of 8-bit images, in the arithmetic of Pillow's Image.resize (BILINEAR, BICUBIC):
 * the filter's support grows with the scale when an image shrinks, weights are normalised per
 * output pixel and rounded to 22 fraction bits, columns are resampled first and rounded to
 * 8 bits, then rows. (Pillow, src/libImaging/Resample.c, describes the method.) Bicubic: Keys'
 * kernel with a = -0.5.
 * Measured against Pillow 13.0.0: the same bytes, except where it takes rows first (height
 * shrinks while width grows, or an image over about twice as high as wide shrinks): there the
 * rounding between the passes differs, by up to 21 levels on noise. */
#ifndef QC_RESIZE_H
#define QC_RESIZE_H

#include "quantcore/data/image.h"

/* Buffers that are reused between images. Zeroed = empty. */
struct qc_resizer {
    struct qc_image columns; /* between the two passes */
    int32_t *weights;        /* [out][taps] */
    int *first, *taken;      /* for each output pixel: first input pixel, how many */
    size_t weights_capacity, pixels_capacity;
};

void qc_resizer_done(struct qc_resizer *resizer);
/* in -> out of width x height, same channels; different objects. Sizes are at least 1. */
QD_MUST_CHECK enum qd_code qc_resize(struct qc_resizer *resizer, const struct qc_image *in,
                                     int width, int height, enum qc_image_filter filter,
                                     uint64_t max_bytes, const char *label, struct qc_image *out,
                                     struct qd_error *err);

#endif
