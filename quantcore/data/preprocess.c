#include "quantcore/data/preprocess.h"

#include <inttypes.h>
#include <math.h>

static enum qd_code check_count(const char *what, int n, size_t channels, const char *name,
                                struct qd_error *err)
{
    if (n == 0 || n == 1 || (n > 0 && n <= 16 && (size_t)n == channels)) {
        return QD_OK;
    }
    return qd_fail_on(err, QD_INVALID, name,
                      "input %s: preprocess.%s has %d values, the data has %zu channels", name,
                      what, n, channels);
}

static enum qd_code check_values(const struct qc_preprocess *options, const char *name,
                                 struct qd_error *err)
{
    if (options->has_scale && (!isfinite(options->scale) || options->scale == 0)) {
        return qd_fail_on(err, QD_INVALID, name,
                          "input %s: preprocess.scale is %g, must be finite and not 0", name,
                          (double)options->scale);
    }
    for (int i = 0; i < options->n_mean; i++) {
        if (!isfinite(options->mean[i])) {
            return qd_fail_on(err, QD_INVALID, name,
                              "input %s: preprocess.mean[%d] is %g, must be finite", name, i,
                              (double)options->mean[i]);
        }
    }
    for (int i = 0; i < options->n_std; i++) {
        if (!isfinite(options->std[i]) || options->std[i] == 0) {
            return qd_fail_on(err, QD_INVALID, name,
                              "input %s: preprocess.std[%d] is %g, must be finite and not 0",
                              name, i, (double)options->std[i]);
        }
    }
    return QD_OK;
}

enum qd_code qc_prep_init(struct qc_prep *prep, const struct qc_preprocess *options,
                          bool from_hwc, const int64_t *dim, int rank, const char *name,
                          struct qd_error *err)
{
    size_t elements = 1;
    for (int i = 0; i < rank; i++) {
        if (dim[i] <= 0 || !qd_mul_size(elements, (size_t)dim[i], &elements)) {
            return qd_fail_on(err, QD_INVALID, name, "input %s: dimension %d is %" PRId64, name,
                              i, dim[i]);
        }
    }
    struct qc_prep p = {.channels = 1, .from_hwc = from_hwc, .to_hwc = options->to_hwc};
    if (rank > 0) {
        p.channels = (size_t)(from_hwc ? dim[rank - 1] : dim[0]);
    }
    p.inner = elements / p.channels;
    QD_TRY(check_count("mean", options->n_mean, p.channels, name, err));
    QD_TRY(check_count("std", options->n_std, p.channels, name, err));
    QD_TRY(check_values(options, name, err));
    if (options->bgr && p.channels < 3) {
        return qd_fail_on(err, QD_INVALID, name,
                          "input %s: channel order BGR needs 3 channels, the data has %zu", name,
                          p.channels);
    }
    p.bgr = options->bgr;
    p.has_scale = options->has_scale;
    p.scale = options->scale;
    p.has_mean = options->n_mean > 0;
    p.has_std = options->n_std > 0;
    p.arithmetic = p.has_scale || p.has_mean || p.has_std;
    for (size_t c = 0; c < 16; c++) {
        p.mean[c] = options->mean[options->n_mean > 1 ? c : 0];
        p.std[c] = options->std[options->n_std > 1 ? c : 0];
    }
    *prep = p;
    return QD_OK;
}

bool qc_prep_moves(const struct qc_prep *prep)
{
    bool transposes = prep->from_hwc != prep->to_hwc && prep->channels > 1 && prep->inner > 1;
    return transposes || prep->bgr;
}

void qc_prep_apply(const struct qc_prep *prep, const float *in, float *out)
{
    bool moves = qc_prep_moves(prep);
    if (!moves && !prep->arithmetic && in == out) {
        return;
    }
    for (size_t c = 0; c < prep->channels; c++) {
        size_t from = prep->bgr && (c == 0 || c == 2) ? 2 - c : c;
        /* With more than 16 channels there is a single mean and a single deviation. */
        float mean = prep->mean[c < 16 ? c : 0];
        float std = prep->std[c < 16 ? c : 0];
        for (size_t i = 0; i < prep->inner; i++) {
            float x = in[prep->from_hwc ? i * prep->channels + from : from * prep->inner + i];
            x = prep->has_scale ? x * prep->scale : x;
            x = prep->has_mean ? x - mean : x;
            x = prep->has_std ? x / std : x;
            /* Without a move both layouts are the same bytes: keep the stored index. */
            bool last = moves ? prep->to_hwc : prep->from_hwc;
            out[last ? i * prep->channels + c : c * prep->inner + i] = x;
        }
    }
}

static enum qd_code check_side(const char *what, int64_t side, uint32_t max_side,
                               const char *label, struct qd_error *err)
{
    if (side < 1) {
        return qd_fail_on(err, QD_INVALID, label, "%s: %s is %" PRId64 ", must be at least 1",
                          label, what, side);
    }
    if (side > (int64_t)max_side) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: %s is %" PRId64 " pixels (limit max_image_side %" PRIu32 ")",
                          label, what, side, max_side);
    }
    return QD_OK;
}

static enum qd_code resized_size(const struct qc_preprocess *options, int64_t *width,
                                 int64_t *height, uint32_t max_side, const char *label,
                                 struct qd_error *err)
{
    int64_t side = options->resize_height;
    switch (options->resize) {
    case QC_RESIZE_NONE:
        return QD_OK;
    case QC_RESIZE_STRETCH:
        *width = options->resize_width;
        *height = options->resize_height;
        break;
    case QC_RESIZE_SHORTER:
        QD_TRY(check_side("resize_height", side, max_side, label, err));
        if (*width <= *height) {
            *height = side * *height / *width;
            *width = side;
        } else {
            *width = side * *width / *height;
            *height = side;
        }
        break;
    }
    QD_TRY(check_side("width after resize", *width, max_side, label, err));
    return check_side("height after resize", *height, max_side, label, err);
}

enum qd_code qc_image_geometry(const struct qc_preprocess *options, int width, int height,
                               uint32_t max_side, const char *label,
                               struct qc_image_geometry *ret, struct qd_error *err)
{
    int64_t w = width;
    int64_t h = height;
    QD_TRY(check_side("image width", w, max_side, label, err));
    QD_TRY(check_side("image height", h, max_side, label, err));
    QD_TRY(resized_size(options, &w, &h, max_side, label, err));
    struct qc_image_geometry g = {
        .resized_width = (int)w, .resized_height = (int)h, .width = (int)w, .height = (int)h};
    if (options->crop_width != 0 || options->crop_height != 0) {
        if (options->crop_width < 1 || options->crop_height < 1 || options->crop_width > w ||
            options->crop_height > h) {
            return qd_fail_on(err, QD_INVALID, label,
                              "%s: crop of %dx%d (width x height) from an image of %" PRId64
                              "x%" PRId64,
                              label, options->crop_width, options->crop_height, w, h);
        }
        g.crop_x = ((int)w - options->crop_width) / 2;
        g.crop_y = ((int)h - options->crop_height) / 2;
        g.width = options->crop_width;
        g.height = options->crop_height;
    }
    *ret = g;
    return QD_OK;
}
