#include "quantcore/data/resize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FRACTION_BITS 22 /* 8 bits of pixel, 22 of weight and 2 of overshoot in 32 */

void qc_resizer_done(struct qc_resizer *resizer)
{
    qc_image_done(&resizer->columns);
    free(resizer->weights);
    free(resizer->first);
    free(resizer->taken);
    *resizer = (struct qc_resizer){0};
}

static double kernel(enum qc_image_filter filter, double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (filter == QC_FILTER_BILINEAR) {
        return x < 1 ? 1 - x : 0;
    }
    if (x < 1) {
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static enum qd_code reserve(struct qc_resizer *r, size_t out, size_t taps, const char *label,
                            struct qd_error *err)
{
    size_t weights = 0;
    if (!qd_mul_size(out, taps, &weights) || weights > (size_t)1 << 28) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: resize to %zu pixels with %zu weights each (limit %zu in all)",
                          label, out, taps, (size_t)1 << 28);
    }
    if (weights > r->weights_capacity) {
        int32_t *grown = realloc(r->weights, weights * sizeof(*grown));
        if (grown == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "%s: no memory to resize", label);
        }
        r->weights = grown;
        r->weights_capacity = weights;
    }
    if (out > r->pixels_capacity) {
        int *first = realloc(r->first, out * sizeof(*first));
        r->first = first != NULL ? first : r->first;
        int *taken = realloc(r->taken, out * sizeof(*taken));
        r->taken = taken != NULL ? taken : r->taken;
        if (first == NULL || taken == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "%s: no memory to resize", label);
        }
        r->pixels_capacity = out;
    }
    return QD_OK;
}

/* Weights for in -> out pixels along one axis; *ret_taps is the row length of `weights`. */
static enum qd_code plan_axis(struct qc_resizer *r, int in, int out, enum qc_image_filter filter,
                              const char *label, int *ret_taps, struct qd_error *err)
{
    double scale = (double)in / out;
    double stretch = scale > 1 ? scale : 1;
    double support = (filter == QC_FILTER_BILINEAR ? 1.0 : 2.0) * stretch;
    double inv_stretch = 1.0 / stretch;
    int taps = (int)ceil(support) * 2 + 1;
    QD_TRY(reserve(r, (size_t)out, (size_t)taps, label, err));
    for (int o = 0; o < out; o++) {
        double centre = (o + 0.5) * scale;
        int first = (int)(centre - support + 0.5);
        int end = (int)(centre + support + 0.5);
        first = first < 0 ? 0 : first;
        end = end > in ? in : end;
        int32_t *weights = r->weights + (size_t)o * (size_t)taps;
        double sum = 0;
        for (int i = first; i < end; i++) {
            sum += kernel(filter, (i - centre + 0.5) * inv_stretch);
        }
        for (int i = first; i < end; i++) {
            double w = kernel(filter, (i - centre + 0.5) * inv_stretch);
            w = (sum != 0 ? w / sum : w) * (1 << FRACTION_BITS);
            weights[i - first] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        r->first[o] = first;
        r->taken[o] = end - first;
    }
    *ret_taps = taps;
    return QD_OK;
}

static uint8_t weighted(const uint8_t *in, size_t step, const int32_t *weights, int n)
{
    int64_t sum = 1 << (FRACTION_BITS - 1);
    for (int i = 0; i < n; i++) {
        sum += (int64_t)in[(size_t)i * step] * weights[i];
    }
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

static void resample_columns(const struct qc_resizer *r, const struct qc_image *in,
                             struct qc_image *out, int taps)
{
    size_t channels = (size_t)in->channels;
    for (int y = 0; y < in->height; y++) {
        const uint8_t *row = in->pixels + (size_t)y * (size_t)in->width * channels;
        uint8_t *to = out->pixels + (size_t)y * (size_t)out->width * channels;
        for (int x = 0; x < out->width; x++) {
            const int32_t *weights = r->weights + (size_t)x * (size_t)taps;
            for (size_t c = 0; c < channels; c++) {
                *to++ = weighted(row + (size_t)r->first[x] * channels + c, channels, weights,
                                 r->taken[x]);
            }
        }
    }
}

static void resample_rows(const struct qc_resizer *r, const struct qc_image *in,
                          struct qc_image *out, int taps)
{
    size_t stride = (size_t)in->width * (size_t)in->channels;
    for (int y = 0; y < out->height; y++) {
        const uint8_t *from = in->pixels + (size_t)r->first[y] * stride;
        const int32_t *weights = r->weights + (size_t)y * (size_t)taps;
        uint8_t *to = out->pixels + (size_t)y * stride;
        for (size_t x = 0; x < stride; x++) {
            to[x] = weighted(from + x, stride, weights, r->taken[y]);
        }
    }
}

enum qd_code qc_resize(struct qc_resizer *r, const struct qc_image *in, int width, int height,
                       enum qc_image_filter filter, uint64_t max_bytes, const char *label,
                       struct qc_image *out, struct qd_error *err)
{
    int taps = 0;
    const struct qc_image *from = in;
    if (width != in->width) {
        struct qc_image *to = height != in->height ? &r->columns : out;
        QD_TRY(qc_image_reserve(to, width, in->height, in->channels, max_bytes, label, err));
        QD_TRY(plan_axis(r, in->width, width, filter, label, &taps, err));
        resample_columns(r, in, to, taps);
        from = to;
    }
    if (height != in->height) {
        QD_TRY(qc_image_reserve(out, width, height, in->channels, max_bytes, label, err));
        QD_TRY(plan_axis(r, in->height, height, filter, label, &taps, err));
        resample_rows(r, from, out, taps);
    } else if (from == in) {
        QD_TRY(qc_image_reserve(out, width, height, in->channels, max_bytes, label, err));
        memcpy(out->pixels, in->pixels, (size_t)width * (size_t)height * (size_t)in->channels);
    }
    return QD_OK;
}
