/* Cast, Shape, ConstantOfShape, Constant. */
#include <math.h>
#include <string.h>

#include "quantcore/affine/half.h"
#include "quantcore/exec/exec_ops.h"

/* Real → integer truncates toward zero and saturates (ONNX leaves out-of-range open; C's
 * conversion would be undefined). Integer → narrower integer wraps. */
#define CAST_TO_INT(type, lo, hi)                                                                \
    do {                                                                                         \
        type *to = (type *)out + i;                                                              \
        if (real) {                                                                              \
            *to = isnan(d) ? 0 : d <= (double)(lo) ? (lo) : d >= (double)(hi) ? (hi) : (type)d;  \
        } else {                                                                                 \
            *to = (type)s;                                                                       \
        }                                                                                        \
        return;                                                                                  \
    } while (0)

static void store(void *out, enum qc_dtype dtype, size_t i, bool real, double d, int64_t s)
{
    if (dtype == QC_F32) {
        ((float *)out)[i] = real ? (float)d : (float)s;
    } else if (dtype == QC_F64) {
        ((double *)out)[i] = real ? d : (double)s;
    } else if (dtype == QC_BOOL) {
        ((uint8_t *)out)[i] = real ? !(d == 0.0) : s != 0;
    } else if (dtype == QC_U8) {
        CAST_TO_INT(uint8_t, 0, UINT8_MAX);
    } else if (dtype == QC_S8) {
        CAST_TO_INT(int8_t, INT8_MIN, INT8_MAX);
    } else if (dtype == QC_S32) {
        CAST_TO_INT(int32_t, INT32_MIN, INT32_MAX);
    } else {
        CAST_TO_INT(int64_t, INT64_MIN, INT64_MAX);
    }
}

static void cast_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    (void)step;
    (void)scratch;
    size_t n = qc_shape_elements(&out[0].shape);
    const void *x = in[0].data;
    enum qc_dtype from = in[0].dtype;
    for (size_t i = 0; i < n; i++) {
        double d = 0.0;
        int64_t s = 0;
        if (from == QC_F32) {
            d = (double)((const float *)x)[i];
        } else if (from == QC_F64) {
            d = ((const double *)x)[i];
        } else if (from == QC_F16) {
            d = (double)qc_half_to_f32(((const uint16_t *)x)[i]);
        } else if (from == QC_U8 || from == QC_BOOL) {
            s = ((const uint8_t *)x)[i];
        } else if (from == QC_S8) {
            s = ((const int8_t *)x)[i];
        } else if (from == QC_S32) {
            s = ((const int32_t *)x)[i];
        } else {
            s = ((const int64_t *)x)[i];
        }
        bool real = from == QC_F32 || from == QC_F64 || from == QC_F16;
        store(out[0].data, out[0].dtype, i, real, d, s);
    }
}

static bool castable(enum qc_dtype d)
{
    return d == QC_F32 || d == QC_F64 || d == QC_BOOL || d == QC_U8 || d == QC_S8 ||
           d == QC_S32 || d == QC_S64;
}

enum qd_code qc_prepare_cast(const struct qc_prepare *p, struct qc_step *step,
                             struct qd_error *err)
{
    if ((!castable(p->in[0].dtype) && p->in[0].dtype != QC_F16) || !castable(p->out[0].dtype) ||
        p->node->clamp.present) {
        return qc_prepare_refuse(p, err, "implemented for f32, f64, bool, u8, s8, s32, s64, and "
                                         "from f16");
    }
    if (!qc_shape_equal(&p->in[0].shape, &p->out[0].shape)) {
        return qc_prepare_refuse(p, err, "input and output differ in shape");
    }
    step->run = cast_run;
    return QD_OK;
}

/* ---- results known when the program is built ---- */

struct known {
    const void *data; /* NULL: `value` repeated */
    size_t size;      /* bytes of one element */
    uint64_t value;
};

static void known_run(const struct qc_step *step, const struct qc_view *in,
                      const struct qc_view *out, void *scratch)
{
    (void)in;
    (void)scratch;
    const struct known *k = step->params;
    size_t n = qc_shape_elements(&out[0].shape);
    if (k->data != NULL) {
        memcpy(out[0].data, k->data, n * k->size);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy((char *)out[0].data + i * k->size, &k->value, k->size);
    }
}

static enum qd_code known_new(const struct qc_prepare *p, struct qc_step *step,
                              struct known **ret, struct qd_error *err)
{
    struct known *k;
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*k), &k, err));
    k->size = qc_dtype_size(p->out[0].dtype);
    if (k->size == 0) {
        return qc_prepare_refuse(p, err, "not implemented for this type");
    }
    step->params = k;
    step->run = known_run;
    *ret = k;
    return QD_OK;
}

enum qd_code qc_prepare_shape(const struct qc_prepare *p, struct qc_step *step,
                              struct qd_error *err)
{
    struct known *k;
    int64_t *dims, rank = p->in[0].shape.rank;
    int64_t start = qc_node_int(p->node, "start", 0), end = qc_node_int(p->node, "end", rank);
    start = start < 0 ? start + rank : start;
    end = end < 0 ? end + rank : end;
    start = start < 0 ? 0 : (start > rank ? rank : start);
    end = end < start ? start : (end > rank ? rank : end);
    QD_TRY(known_new(p, step, &k, err));
    if (p->out[0].dtype != QC_S64 ||
        qc_shape_elements(&p->out[0].shape) != (size_t)(end - start)) {
        return qc_prepare_refuse(p, err, "the output must be s64, one value a dim");
    }
    QD_TRY(qd_arena_copy(p->arena, p->in[0].shape.dim + start,
                         (size_t)(end - start) * sizeof(int64_t), &dims, err));
    k->data = dims;
    return QD_OK;
}

enum qd_code qc_prepare_constant_of_shape(const struct qc_prepare *p, struct qc_step *step,
                                          struct qd_error *err)
{
    const struct qc_attr *value = qc_node_attr(p->node, "value");
    struct known *k;
    QD_TRY(known_new(p, step, &k, err));
    if (value == NULL) {
        return p->out[0].dtype == QC_F32
                   ? QD_OK
                   : qc_prepare_refuse(p, err, "without a value the output must be f32");
    }
    if (value->type != QC_ATTR_TENSOR || value->tensor == NULL ||
        value->tensor->dtype != p->out[0].dtype ||
        qc_shape_elements(&value->tensor->shape) != 1) {
        return qc_prepare_refuse(p, err, "value must be one element of the output's type");
    }
    memcpy(&k->value, value->tensor->data, k->size);
    return QD_OK;
}

enum qd_code qc_prepare_constant(const struct qc_prepare *p, struct qc_step *step,
                                 struct qd_error *err)
{
    const struct qc_attr *a;
    struct known *k;
    size_t n = qc_shape_elements(&p->out[0].shape);
    QD_TRY(known_new(p, step, &k, err));
    if ((a = qc_node_attr(p->node, "value")) != NULL && a->type == QC_ATTR_TENSOR &&
        a->tensor != NULL && a->tensor->dtype == p->out[0].dtype &&
        qc_shape_equal(&a->tensor->shape, &p->out[0].shape)) {
        k->data = a->tensor->data;
    } else if ((a = qc_node_attr(p->node, "value_float")) != NULL && n == 1 && k->size == 4) {
        memcpy(&k->value, &a->f, sizeof(a->f));
    } else if ((a = qc_node_attr(p->node, "value_int")) != NULL && n == 1 && k->size == 8) {
        memcpy(&k->value, &a->i, sizeof(a->i));
    } else if ((a = qc_node_attr(p->node, "value_floats")) != NULL && n == a->n && k->size == 4) {
        k->data = a->floats;
    } else if ((a = qc_node_attr(p->node, "value_ints")) != NULL && n == a->n && k->size == 8) {
        k->data = a->ints;
    } else {
        return qc_prepare_refuse(p, err, "no value that fits the output's type and shape");
    }
    return QD_OK;
}
