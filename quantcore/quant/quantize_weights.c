#include "quantcore/quant/quantize_weights.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quantcore/affine/half.h"
#include "quantcore/affine/qparams.h"
#include "quantcore/affine/scale_search.h"

int qc_weights_axis(const struct qc_node *node, const struct qc_tensor *weights)
{
    return qc_node_weights_axis(node, weights->shape.rank);
}

int qc_weights_input_axis(const struct qc_node *node, const struct qc_tensor *weights)
{
    if (node->op == QC_OP_MATMUL) {
        return weights->shape.rank - 2;
    }
    return 1 - qc_weights_axis(node, weights);
}

size_t qc_weights_inner(const struct qc_tensor *weights, int axis)
{
    size_t inner = 1;
    for (int i = axis + 1; i < weights->shape.rank; i++) {
        inner *= (size_t)weights->shape.dim[i];
    }
    return inner;
}

/* ---- which weights share a scale ------------------------------------------------------------- */

struct layout {
    size_t inner, channels;       /* without blocks */
    size_t block, length, blocks; /* block 0: without */
};

static struct layout layout_of(const struct qc_quantized_weights *w)
{
    struct layout l = {.inner = 1, .channels = (size_t)w->n_scales};
    if (w->format.block > 0) {
        l.block = (size_t)w->format.block;
        l.inner = qc_weights_inner(w->source, w->format.block_axis);
        l.length = (size_t)w->source->shape.dim[w->format.block_axis];
        l.blocks = (l.length + l.block - 1) / l.block;
    } else if (w->axis >= 0) {
        l.inner = qc_weights_inner(w->source, w->axis);
    }
    return l;
}

/* Index of the scale of element i. */
static size_t scale_at(const struct layout *l, size_t i)
{
    size_t outer = i / l->inner;
    if (l->block == 0) {
        return outer % l->channels;
    }
    return (outer / l->length * l->blocks + outer % l->length / l->block) * l->inner + i % l->inner;
}

struct qc_shape qc_weights_scale_shape(const struct qc_quantized_weights *w)
{
    struct qc_shape shape = {.rank = w->axis >= 0 ? 1 : 0, .dim = {w->n_scales}};
    if (w->format.block > 0) {
        shape = w->source->shape;
        shape.dim[w->format.block_axis] = (int64_t)layout_of(w).blocks;
    }
    return shape;
}

/* ---- codes ----------------------------------------------------------------------------------- */

static int32_t code_max(const struct qc_weight_format *f)
{
    return f->bits == 1 ? 1 : (1 << (f->bits - 1)) - 1;
}

static int32_t code_min(const struct qc_weight_format *f)
{
    return f->form == QC_WEIGHTS_NARROW ? -code_max(f) : -code_max(f) - 1;
}

static int32_t zero_point_of(const struct qc_weight_format *f, double lo, double scale)
{
    int32_t least = code_min(f), most = code_max(f);
    double z = rint(least - lo / scale);
    return z < least ? least : (z > most ? most : (int32_t)z);
}

void qc_quantized_weights_update(struct qc_quantized_weights *w)
{
    const float *x = w->source->data;
    int8_t *q = w->q->data;
    struct layout l = layout_of(w);
    size_t n = qc_shape_elements(&w->source->shape);
    int32_t least = code_min(&w->format), most = code_max(&w->format);
    for (int c = 0; c < w->n_scales && w->format.form == QC_WEIGHTS_ASYMMETRIC; c++) {
        w->zero_point[c] = zero_point_of(&w->format, w->lo[c], (double)w->scale[c]);
    }
    if (w->format.bits == 1) {
        for (size_t i = 0; i < n; i++) {
            q[i] = x[i] >= 0.0f ? 1 : -1;
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t c = scale_at(&l, i);
        int32_t z = w->zero_point != NULL ? w->zero_point[c] : 0;
        q[i] = (int8_t)qc_quantize_value(x[i], w->scale[c], z, least, most);
    }
}

double qc_quantized_weights_value(const struct qc_quantized_weights *w, size_t i)
{
    if (w->q->dtype == QC_F16) {
        return qc_tensor_f64(w->q, i);
    }
    struct layout l = layout_of(w);
    size_t c = scale_at(&l, i);
    bool is_unsigned = w->q->dtype == QC_U8 || w->q->dtype == QC_U4;
    int q = is_unsigned ? ((const uint8_t *)w->q->data)[i] : ((const int8_t *)w->q->data)[i];
    return (double)w->scale[c] * (double)(q - (w->zero_point != NULL ? w->zero_point[c] : 0));
}

/* ---- scales ---------------------------------------------------------------------------------- */

/* The smallest and largest weights of each scale, widened to 0: lo and hi come as zeros. */
static enum qd_code find_ranges(const struct qc_quantized_weights *w, double *lo, double *hi,
                                struct qd_error *err)
{
    const float *x = w->source->data;
    struct layout l = layout_of(w);
    size_t n = qc_shape_elements(&w->source->shape);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            return qd_fail(err, QD_INVALID, "weight %zu is %g, not a finite number", i,
                           (double)x[i]);
        }
        size_t c = scale_at(&l, i);
        lo[c] = fmin(lo[c], (double)x[i]);
        hi[c] = fmax(hi[c], (double)x[i]);
    }
    return QD_OK;
}

/* What a channel's codes have to reach: the span, or the larger of both ends. */
static double reach(const struct qc_quantized_weights *w, double lo, double hi)
{
    return w->format.form == QC_WEIGHTS_ASYMMETRIC ? hi - lo : fmax(-lo, hi);
}

/* The steps that reach has to be divided into, so that nothing saturates (full: hardly anything). */
static double steps_of(const struct qc_weight_format *f)
{
    double most = code_max(f);
    return f->form == QC_WEIGHTS_ASYMMETRIC ? 2 * most + 1
           : f->form == QC_WEIGHTS_FULL     ? most + 0.5
                                            : most;
}

static float scale_of(const struct qc_weight_format *f, double reached)
{
    bool none = f->form != QC_WEIGHTS_ASYMMETRIC && !(reached > 0);
    return none ? 1.0f : (float)(reached / steps_of(f));
}

/* The least range that a channel's scale is made for; with 4 bits and fewer, that of 8 bits. */
static double least_reach(const struct qc_quantized_weights *w, const double *lo, const double *hi)
{
    double largest = 0;
    for (int c = 0; c < w->n_scales; c++) {
        largest = fmax(largest, reach(w, lo[c], hi[c]));
    }
    double floor = largest > 0 ? fmin(8e-5, 0.1 * largest) : 8e-5;
    return fmax(0.01 * largest, floor);
}

static void choose_scales(struct qc_quantized_weights *w, const double *lo, const double *hi)
{
    double least = least_reach(w, lo, hi);
    for (int c = 0; c < w->n_scales; c++) {
        double here = reach(w, lo[c], hi[c]);
        w->n_dead += w->format.block == 0 && here < least;
        w->scale[c] = w->format.block > 0
                          ? fmaxf(scale_of(&w->format, here), FLT_MIN)
                          : scale_of(&w->format, fmax(here, least));
    }
}

/* The weights of each scale side by side, in their own order: those of scale c begin at start[c]
 * and end at start[c + 1]. */
static enum qd_code sort_by_scale(const struct qc_quantized_weights *w, struct qd_arena *arena,
                                  float **ret_sorted, size_t **ret_start, struct qd_error *err)
{
    const float *x = w->source->data;
    struct layout l = layout_of(w);
    size_t n = qc_shape_elements(&w->source->shape), n_scales = (size_t)w->n_scales;
    size_t *start = NULL, *next = NULL;
    float *sorted = NULL;
    QD_TRY(qd_arena_array(arena, n, sizeof(*sorted), &sorted, err));
    QD_TRY(qd_arena_array(arena, n_scales + 1, sizeof(*start), &start, err));
    QD_TRY(qd_arena_array(arena, n_scales, sizeof(*next), &next, err));
    for (size_t i = 0; i < n; i++) {
        start[scale_at(&l, i) + 1]++;
    }
    for (size_t c = 0; c < n_scales; c++) {
        start[c + 1] += start[c];
        next[c] = start[c];
    }
    for (size_t i = 0; i < n; i++) {
        sorted[next[scale_at(&l, i)]++] = x[i];
    }
    *ret_sorted = sorted;
    *ret_start = start;
    return QD_OK;
}

static float mean_of_magnitudes(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += fabs((double)x[i]);
    }
    return n > 0 ? fmaxf((float)(sum / (double)n), FLT_MIN) : FLT_MIN;
}

/* Scale c of the weights x, with 4, 3 or 2 bits; lo becomes the end that the codes reach. */
static float search(struct qc_quantized_weights *w, int c, const float *x, size_t n, double hi)
{
    const struct qc_weight_format *f = &w->format;
    bool asymmetric = f->form == QC_WEIGHTS_ASYMMETRIC;
    double full = reach(w, w->lo[c], hi) / steps_of(f);
    if (!(full > 0)) {
        return FLT_MIN;
    }
    int32_t z = asymmetric ? zero_point_of(f, w->lo[c], full) : 0;
    double part = qc_scale_search(x, n, full, z, code_min(f), code_max(f));
    w->lo[c] *= part;
    return fmaxf((float)(full * part), FLT_MIN);
}

/* Scales of 4 bits and fewer. */
static enum qd_code choose_low_scales(struct qc_quantized_weights *w, const double *hi,
                                      struct qd_arena *arena, struct qd_error *err)
{
    float *sorted = NULL;
    size_t *start = NULL;
    bool floored = w->format.bits > 1 && w->format.block == 0;
    const struct qc_weight_format of_8_bits = {.form = w->format.form, .bits = QC_WEIGHT_BITS};
    float floor = floored ? scale_of(&of_8_bits, least_reach(w, w->lo, hi)) : FLT_MIN;
    QD_TRY(sort_by_scale(w, arena, &sorted, &start, err));
    for (int c = 0; c < w->n_scales; c++) {
        const float *x = sorted + start[c];
        size_t n = start[c + 1] - start[c];
        w->scale[c] =
            w->format.bits == 1 ? mean_of_magnitudes(x, n) : search(w, c, x, n, hi[c]);
        if (w->scale[c] < floor) {
            w->scale[c] = floor;
            w->n_dead++;
        }
    }
    return QD_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum qd_code to_float16(const struct qc_tensor *weights, struct qd_arena *arena,
                               struct qc_quantized_weights *ret, struct qd_error *err)
{
    const float *x = weights->data;
    struct qc_tensor *q = NULL;
    QD_TRY(qc_tensor_new(arena, QC_F16, &weights->shape, &q, err));
    for (size_t i = 0; i < qc_shape_elements(&weights->shape); i++) {
        uint16_t h = qc_half_from_f32(x[i]);
        if (!isfinite(qc_half_to_f32(h))) {
            return qd_fail(err, QD_INVALID,
                           "weight %zu is %g, float16 holds finite numbers up to %g", i,
                           (double)x[i], (double)QC_HALF_MAX);
        }
        ((uint16_t *)q->data)[i] = h;
    }
    ret->q = q;
    ret->axis = -1;
    return QD_OK;
}

/* Blocks only where there are more inputs than one holds. */
static enum qd_code count_scales(struct qc_quantized_weights *w, struct qd_error *err)
{
    const struct qc_shape *s = &w->source->shape;
    struct qc_weight_format *f = &w->format;
    w->n_scales = w->axis >= 0 ? (int)s->dim[w->axis] : 1;
    if (f->block > 0 && (w->axis < 0 || s->dim[f->block_axis] <= f->block)) {
        f->block = 0;
    }
    if (f->block > 0) {
        struct qc_shape scales = qc_weights_scale_shape(w);
        size_t n = qc_shape_elements(&scales);
        if (n > INT32_MAX) {
            return qd_fail(err, QD_LIMIT_EXCEEDED, "weights in %zu blocks of %d, at most %d", n,
                           f->block, INT32_MAX);
        }
        w->n_scales = (int)n;
    }
    return QD_OK;
}

static enum qd_code to_codes(struct qc_quantized_weights *w, struct qd_arena *arena,
                             struct qd_error *err)
{
    double *hi = NULL;
    struct qc_tensor *q = NULL;
    bool low = w->format.bits <= 4;
    QD_TRY(count_scales(w, err));
    size_t n = (size_t)w->n_scales;
    QD_TRY(qd_arena_array(arena, n, sizeof(*w->lo), &w->lo, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*hi), &hi, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*w->scale), &w->scale, err));
    if (w->format.form == QC_WEIGHTS_ASYMMETRIC) {
        QD_TRY(qd_arena_array(arena, n, sizeof(*w->zero_point), &w->zero_point, err));
    }
    QD_TRY(qc_tensor_new(arena, low && w->format.packed ? QC_S4 : QC_S8, &w->source->shape, &q,
                         err));
    w->q = q;
    QD_TRY(find_ranges(w, w->lo, hi, err));
    if (low) {
        struct qd_arena scratch;
        qd_arena_init_inside(&scratch, arena);
        enum qd_code code = choose_low_scales(w, hi, &scratch, err);
        qd_arena_done(&scratch);
        QD_TRY(code);
    } else {
        choose_scales(w, w->lo, hi);
    }
    qc_quantized_weights_update(w);
    return QD_OK;
}

enum qd_code qc_quantize_weights(const struct qc_tensor *weights, int axis,
                                 const struct qc_weight_format *format, struct qd_arena *arena,
                                 struct qc_quantized_weights *ret, struct qd_error *err)
{
    struct qc_quantized_weights w = {.source = weights, .axis = axis, .format = *format};
    if (weights->dtype != QC_F32 || axis >= weights->shape.rank ||
        (axis >= 0 && (weights->shape.dim[axis] < 1 || weights->shape.dim[axis] > INT32_MAX))) {
        return qd_fail(err, QD_INVALID, "weights of type %s and rank %d have no channels on %d",
                       qc_dtype_name(weights->dtype), weights->shape.rank, axis);
    }
    QD_TRY(format->bits == QC_FLOAT16_BITS ? to_float16(weights, arena, &w, err)
                                           : to_codes(&w, arena, err));
    *ret = w;
    return QD_OK;
}

enum qd_code qc_weights_zero_points(const struct qc_quantized_weights *w, struct qd_arena *arena,
                                    int8_t **ret, struct qd_error *err)
{
    int8_t *z = NULL;
    *ret = NULL;
    if (w->zero_point == NULL) {
        return QD_OK;
    }
    QD_TRY(qd_arena_array(arena, (size_t)w->n_scales, sizeof(*z), &z, err));
    for (int c = 0; c < w->n_scales; c++) {
        z[c] = (int8_t)w->zero_point[c];
    }
    *ret = z;
    return QD_OK;
}
