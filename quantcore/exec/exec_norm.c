/* LayerNormalization, InstanceNormalization, GroupNormalization, LRN: f32, row-major. */
#include <math.h>

#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_math_f64.h"
#include "quantcore/exec/exec_ops.h"

/* Rows of `length` elements are normalised each by itself. Element k of all has parameter
 * k / inner % n_params. */
struct norm {
    int64_t rows, length, inner;
    int64_t n_scale, n_bias; /* 0: none */
    double epsilon;
    float lo, hi;
};

/* Sums in double, in the order of the elements: no order of a machine's own. ret: mean and
 * 1 / deviation. */
static void norm_row(const struct norm *s, const float *x, const float *scale, const float *bias,
                     int64_t first, float *y, double ret[2])
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < s->length; i++) {
        sum += (double)x[i];
    }
    double mean = sum / (double)s->length;
    for (int64_t i = 0; i < s->length; i++) {
        double d = (double)x[i] - mean;
        squares += d * d;
    }
    double gain = 1 / sqrt(squares / (double)s->length + s->epsilon);
    for (int64_t i = 0; i < s->length; i++) {
        int64_t at = (first + i) / s->inner;
        double v = ((double)x[i] - mean) * gain;
        v *= s->n_scale > 0 ? (double)scale[at % s->n_scale] : 1;
        v += s->n_bias > 0 ? (double)bias[at % s->n_bias] : 0;
        y[i] = qc_clamp((float)v, s->lo, s->hi);
    }
    ret[0] = mean;
    ret[1] = gain;
}

static void norm_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct norm *s = step->params;
    const float *scale = step->n_inputs > 1 ? in[1].data : NULL;
    const float *bias = step->n_inputs > 2 ? in[2].data : NULL;
    for (int64_t r = 0; r < s->rows; r++) {
        double made[2]; /* outputs 1 and 2 of LayerNormalization */
        int64_t first = r * s->length;
        norm_row(s, (const float *)in[0].data + first, scale, bias, first,
                 (float *)out[0].data + first, made);
        for (int k = 1; k < step->n_outputs; k++) {
            if (out[k].data != NULL) {
                ((float *)out[k].data)[r] = (float)made[k - 1];
            }
        }
    }
}

/* Parameter i: f32, as many elements as one of the two; 0 when it is absent. */
static enum qd_code count_params(const struct qc_prepare *p, int i, int64_t one, int64_t other,
                                 int64_t *ret, struct qd_error *err)
{
    *ret = 0;
    if (i >= p->node->n_inputs || p->node->inputs[i] < 0) {
        return QD_OK;
    }
    *ret = (int64_t)qc_shape_elements(&p->in[i].shape);
    return p->in[i].dtype == QC_F32 && (*ret == one || *ret == other) && *ret > 0
               ? QD_OK
               : qc_prepare_refuse(p, err, "scale and bias must be f32, one value a normalised "
                                           "element or channel");
}

static enum qd_code norm_new(const struct qc_prepare *p, struct qc_step *step, struct norm **ret,
                             struct qd_error *err)
{
    if (p->in[0].dtype != QC_F32 || p->out[0].dtype != QC_F32 ||
        !qc_shape_equal(&p->in[0].shape, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "only f32 is implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(**ret), ret, err));
    (*ret)->epsilon = (double)qc_node_float(p->node, "epsilon", 1e-5f);
    (*ret)->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    (*ret)->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    (*ret)->rows = (*ret)->length = (*ret)->inner = 1;
    step->params = *ret;
    step->run = norm_run;
    return QD_OK;
}

enum qd_code qc_prepare_layer_norm(const struct qc_prepare *p, struct qc_step *step,
                                   struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape;
    int64_t axis = qc_node_int(p->node, "axis", -1);
    struct norm *s = NULL;
    QD_TRY(norm_new(p, step, &s, err));
    axis = axis < 0 ? axis + x->rank : axis;
    if (axis < 0 || axis >= x->rank) {
        return qc_prepare_refuse(p, err, "the axis lies outside the rank");
    }
    for (int i = 0; i < x->rank; i++) {
        *(i < axis ? &s->rows : &s->length) *= x->dim[i];
    }
    s->rows = s->length == 0 ? 0 : s->rows;
    QD_TRY(count_params(p, 1, s->length, 1, &s->n_scale, err));
    return count_params(p, 2, s->length, 1, &s->n_bias, err);
}

enum qd_code qc_prepare_channel_norm(const struct qc_prepare *p, struct qc_step *step,
                                     struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape;
    struct norm *s = NULL;
    QD_TRY(norm_new(p, step, &s, err));
    if (x->rank < 3 || x->dim[1] < 1) {
        return qc_prepare_refuse(p, err, "only [N,C,...] is implemented");
    }
    bool grouped = p->node->op == QC_OP_GROUP_NORMALIZATION;
    int64_t groups = grouped ? qc_node_int(p->node, "num_groups", 0) : x->dim[1];
    if (groups < 1 || x->dim[1] % groups != 0) {
        return qc_prepare_refuse(p, err, "num_groups does not divide the channels");
    }
    for (int i = 2; i < x->rank; i++) {
        s->inner *= x->dim[i];
    }
    s->length = s->inner * (x->dim[1] / groups);
    s->rows = s->length == 0 ? 0 : x->dim[0] * groups;
    QD_TRY(count_params(p, 1, x->dim[1], x->dim[1], &s->n_scale, err));
    return count_params(p, 2, x->dim[1], x->dim[1], &s->n_bias, err);
}

/* ---- LRN: y = x / (bias + alpha / size * sum of x^2 over `size` channels around) ^ beta ---- */

struct lrn {
    int64_t images, channels, inner, before, after;
    float alpha, beta, bias, lo, hi;
};

static void lrn_run(const struct qc_step *step, const struct qc_view *in,
                    const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct lrn *s = step->params;
    for (int64_t i = 0; i < s->images * s->channels * s->inner; i++) {
        int64_t c = i / s->inner % s->channels;
        int64_t first = c > s->before ? c - s->before : 0;
        int64_t last = c + s->after < s->channels - 1 ? c + s->after : s->channels - 1;
        const float *x = (const float *)in[0].data + i;
        float sum = 0;
        for (int64_t k = first; k <= last; k++) {
            float v = x[(k - c) * s->inner];
            sum = fmaf(v, v, sum);
        }
        ((float *)out[0].data)[i] =
            qc_clamp(*x / qc_powf(s->bias + s->alpha * sum, s->beta), s->lo, s->hi);
    }
}

enum qd_code qc_prepare_lrn(const struct qc_prepare *p, struct qc_step *step,
                            struct qd_error *err)
{
    const struct qc_shape *x = &p->in[0].shape;
    int64_t size = qc_node_int(p->node, "size", 0);
    struct lrn *s;
    if (p->in[0].dtype != QC_F32 || p->out[0].dtype != QC_F32 || x->rank < 2 || size < 1 ||
        size > INT32_MAX || !qc_shape_equal(x, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "only f32 [N,C,...] with a size is implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*s), &s, err));
    *s = (struct lrn){.images = x->dim[0],
                      .channels = x->dim[1],
                      .inner = 1,
                      .before = (size - 1) / 2,
                      .after = size / 2, /* ceil((size - 1) / 2) */
                      .alpha = qc_node_float(p->node, "alpha", 1e-4f) / (float)size,
                      .beta = qc_node_float(p->node, "beta", 0.75f),
                      .bias = qc_node_float(p->node, "bias", 1.0f),
                      .lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY,
                      .hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY};
    for (int i = 2; i < x->rank; i++) {
        s->inner *= x->dim[i];
    }
    step->params = s;
    step->run = lrn_run;
    return QD_OK;
}
