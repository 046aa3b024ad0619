/* Resize and Upsample of the spatial dims, nearest and linear (ONNX Resize, opset 19). */
#include <string.h>

#include "quantcore/exec/exec_math.h"
#include "quantcore/exec/exec_nd.h"
#include "quantcore/exec/exec_ops.h"

/* Sources of one output row or column: x = low * (1 - f) + high * f, as element offsets. */
struct sample {
    int64_t low, high;
    float f;
};

struct resize {
    struct sample *at[2];  /* [out h], [out w] */
    struct qc_shape shape; /* rank 4, of the output */
    int64_t xs[QC_MAX_RANK], ys[QC_MAX_RANK];
    size_t size;
    bool linear, clamp;
    float lo, hi;
};

static void resize_nearest(const struct resize *r, const char *x, char *y)
{
    int64_t size = (int64_t)r->size, n = r->shape.dim[1];
    if (r->xs[1] == 1 && r->ys[1] == 1) {
        memcpy(y, x, (size_t)n * r->size);
        return;
    }
    for (int64_t c = 0; c < n; c++) {
        memcpy(y + c * r->ys[1] * size, x + c * r->xs[1] * size, r->size);
    }
}

static void resize_linear(const struct resize *r, const float *x, const struct sample *h,
                          const struct sample *w, float *y)
{
    for (int64_t c = 0; c < r->shape.dim[1]; c++) {
        const float *p = x + c * r->xs[1];
        float top = fmaf(p[h->low + w->high] - p[h->low + w->low], w->f, p[h->low + w->low]);
        float bottom =
            fmaf(p[h->high + w->high] - p[h->high + w->low], w->f, p[h->high + w->low]);
        y[c * r->ys[1]] = fmaf(bottom - top, h->f, top);
    }
}

static void resize_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    (void)scratch;
    const struct resize *r = step->params;
    const int64_t *dim = r->shape.dim;
    int64_t size = (int64_t)r->size;
    for (int64_t n = 0; n < dim[0]; n++) {
        const char *image = (const char *)in[0].data + n * r->xs[0] * size;
        for (int64_t h = 0; h < dim[2]; h++) {
            for (int64_t w = 0; w < dim[3]; w++) {
                const struct sample *sh = &r->at[0][h], *sw = &r->at[1][w];
                char *y =
                    (char *)out[0].data + (n * r->ys[0] + h * r->ys[2] + w * r->ys[3]) * size;
                if (r->linear) {
                    resize_linear(r, (const float *)(const void *)image, sh, sw,
                                  (float *)(void *)y);
                } else {
                    resize_nearest(r, image + (sh->low + sw->low) * size, y);
                }
                for (int64_t c = 0; r->clamp && c < dim[1]; c++) {
                    float *v = (float *)(void *)y + c * r->ys[1];
                    *v = qc_clamp(*v, r->lo, r->hi);
                }
            }
        }
    }
}

/* Position in the input of output index i (coordinate_transformation_mode). */
static float source_position(const char *mode, float i, float scale, int64_t in, int64_t out)
{
    if (strcmp(mode, "align_corners") == 0) {
        return out == 1 ? 0.0f : i * (float)(in - 1) / (float)(out - 1);
    }
    if (strcmp(mode, "asymmetric") == 0) {
        return i / scale;
    }
    if (strcmp(mode, "pytorch_half_pixel") == 0 && out == 1) {
        return 0.0f;
    }
    float half_pixel = (i + 0.5f) / scale - 0.5f;
    if (strcmp(mode, "half_pixel_symmetric") == 0) { /* what the rounded length lost, on both ends */
        float kept = (float)out / (scale * (float)in);
        return (float)in * 0.5f * (1.0f - kept) + half_pixel;
    }
    return half_pixel;
}

static int64_t nearest_index(const char *mode, float x)
{
    if (strcmp(mode, "floor") == 0) {
        return (int64_t)floorf(x);
    }
    if (strcmp(mode, "ceil") == 0) {
        return (int64_t)ceilf(x);
    }
    /* round_prefer_floor and round_prefer_ceil differ at halves alone */
    return strcmp(mode, "round_prefer_ceil") == 0 ? (int64_t)floorf(x + 0.5f)
                                                  : (int64_t)ceilf(x - 0.5f);
}

static int64_t inside(int64_t i, int64_t dim)
{
    return i < 0 ? 0 : (i >= dim ? dim - 1 : i);
}

static enum qd_code resize_axis(const struct qc_prepare *p, struct resize *r, int axis,
                                float scale, int64_t in, struct qd_error *err)
{
    bool old = p->node->op == QC_OP_UPSAMPLE;
    const char *coordinate = qc_node_string(p->node, "coordinate_transformation_mode",
                                            old ? "asymmetric" : "half_pixel");
    const char *nearest =
        qc_node_string(p->node, "nearest_mode", old ? "floor" : "round_prefer_floor");
    int64_t out = r->shape.dim[2 + axis], stride = r->xs[2 + axis];
    QD_TRY(qd_arena_array(p->arena, (size_t)out, sizeof(struct sample), &r->at[axis], err));
    for (int64_t i = 0; i < out; i++) {
        struct sample *s = &r->at[axis][i];
        float x = source_position(coordinate, (float)i, scale, in, out);
        if (!r->linear) {
            s->low = inside(nearest_index(nearest, x), in) * stride;
            continue;
        }
        x = x < 0.0f ? 0.0f : (x > (float)(in - 1) ? (float)(in - 1) : x);
        int64_t low = (int64_t)x;
        s->f = x - (float)low;
        s->low = inside(low, in) * stride;
        s->high = inside(low + 1, in) * stride;
    }
    return QD_OK;
}

/* scales, when they are given (then they decide, not the ratio of the sizes). */
static const float *constant_scales(const struct qc_prepare *p)
{
    int i = p->node->op == QC_OP_UPSAMPLE ? 1 : p->node->n_inputs > 2 ? 2 : 1;
    if (i >= p->node->n_inputs || p->node->inputs[i] < 0 || p->in[i].dtype != QC_F32 ||
        p->in[i].data == NULL ||
        qc_shape_elements(&p->in[i].shape) != (size_t)p->in[0].shape.rank) {
        return NULL;
    }
    return p->in[i].data;
}

static enum qd_code resize_check(const struct qc_prepare *p, struct qd_error *err)
{
    static const char *const coordinates[] = {"half_pixel", "half_pixel_symmetric",
                                              "pytorch_half_pixel", "align_corners",
                                              "asymmetric"};
    const char *mode = qc_node_string(p->node, "mode", "nearest");
    const char *coordinate =
        qc_node_string(p->node, "coordinate_transformation_mode", "half_pixel");
    const struct qc_view *x = &p->in[0], *y = &p->out[0];
    bool known = false, linear = strcmp(mode, "linear") == 0;
    for (size_t i = 0; i < QD_COUNT_OF(coordinates); i++) {
        known = known || strcmp(coordinate, coordinates[i]) == 0;
    }
    if (!known) {
        return qc_prepare_refuse(p, err, "coordinate_transformation_mode is not implemented");
    }
    if (!linear && strcmp(mode, "nearest") != 0) {
        return qc_prepare_refuse(p, err, "only the modes nearest and linear are implemented");
    }
    if (qc_node_attr(p->node, "axes") != NULL) { /* left by pass_axes.c */
        return qc_prepare_refuse(p, err, "sizes of axes are not implemented where they follow the "
                                         "batch or have no f32 scale");
    }
    if (qc_dtype_size(x->dtype) == 0 || x->dtype != y->dtype ||
        ((linear || p->node->clamp.present) && x->dtype != QC_F32)) {
        return qc_prepare_refuse(p, err, "not implemented for this type");
    }
    if ((x->shape.rank != 3 && x->shape.rank != 4) || y->shape.rank != x->shape.rank ||
        x->shape.dim[0] != y->shape.dim[0] || x->shape.dim[1] != y->shape.dim[1] ||
        qc_shape_elements(&x->shape) == 0) {
        return qc_prepare_refuse(p, err, "only spatial dims can be resized");
    }
    return QD_OK;
}

enum qd_code qc_prepare_resize(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    struct resize *r;
    QD_TRY(resize_check(p, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*r), &r, err));
    struct qc_view x = qc_view_as_2d(&p->in[0]), y = qc_view_as_2d(&p->out[0]);
    const float *scales = constant_scales(p);
    int rank = p->in[0].shape.rank;
    qc_view_strides(&x, r->xs);
    qc_view_strides(&y, r->ys);
    r->shape = y.shape;
    r->size = qc_dtype_size(y.dtype);
    r->linear = strcmp(qc_node_string(p->node, "mode", "nearest"), "linear") == 0;
    r->clamp = p->node->clamp.present;
    r->lo = p->node->clamp.lo;
    r->hi = p->node->clamp.hi;
    for (int axis = 0; axis < 2; axis++) {
        int64_t in = x.shape.dim[2 + axis];
        float scale = (float)y.shape.dim[2 + axis] / (float)in;
        int own = rank - 2 + axis; /* a missing H has no scale */
        if (scales != NULL && own >= 2) {
            scale = scales[own];
        }
        if (!(scale > 0.0f) || !isfinite(scale)) {
            return qc_prepare_refuse(p, err, "a scale is not a positive number");
        }
        QD_TRY(resize_axis(p, r, axis, scale, in, err));
    }
    step->params = r;
    step->run = resize_run;
    return QD_OK;
}
