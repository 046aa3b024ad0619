/* From a stored sample to the network's input: channel order, arithmetic, layout; for images
 * also the geometry of resize and crop. */
#ifndef QC_PREPROCESS_H
#define QC_PREPROCESS_H

#include "quantcore/data/reader.h"

/* What is done to one input's samples; plain data, nothing to free. */
struct qc_prep {
    size_t channels, inner; /* a sample is [channels, inner] or [inner, channels] */
    bool from_hwc, to_hwc;  /* channels last in the stored sample / in the network's input */
    bool bgr, has_scale, arithmetic;
    float scale;
    bool has_mean, has_std;
    float mean[16], std[16]; /* by channel of the network's order, after bgr */
};

/* A sample of shape dim[0..rank) as stored. QD_INVALID: number of means or deviations neither 0,
 * 1 nor the channels; a deviation or scale that is 0 or not finite; bgr with under 3 channels.
 * `name` is the input in messages. from_hwc is stated by the caller (images always). */
QD_MUST_CHECK enum qd_code qc_prep_init(struct qc_prep *prep, const struct qc_preprocess *options,
                                        bool from_hwc, const int64_t *dim, int rank,
                                        const char *name, struct qd_error *err);
/* Whether in and out of qc_prep_apply must be different buffers. */
bool qc_prep_moves(const struct qc_prep *prep);
/* y = (x * scale - mean[c]) / std[c], each step rounded to f32; channels * inner elements. */
void qc_prep_apply(const struct qc_prep *prep, const float *in, float *out);

/* Size of an image after resize, then after the crop. QD_INVALID: options out of range or an
 * image smaller than the crop; QD_LIMIT_EXCEEDED: a side over max_side.
 * SHORTER: the other side is floor(long * resize_height / short), as torchvision has it. */
struct qc_image_geometry {
    int resized_width, resized_height;
    int crop_x, crop_y; /* (w - cw) / 2 */
    int width, height;  /* final */
};
QD_MUST_CHECK enum qd_code qc_image_geometry(const struct qc_preprocess *options, int width,
                                             int height, uint32_t max_side, const char *label,
                                             struct qc_image_geometry *ret, struct qd_error *err);

#endif
