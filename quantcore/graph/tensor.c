#include "quantcore/graph/tensor.h"

#include <inttypes.h>
#include <stdio.h>

#include "quantcore/affine/half.h"

/* Far above any network, far below what makes an addition of sizes wrap. */
#define MAX_TENSOR_BYTES ((size_t)1 << 40)

static const struct {
    const char *name;
    size_t size;
} dtypes[QC_DTYPE_COUNT] = {
    [QC_UNKNOWN] = {"unknown", 0}, [QC_F32] = {"f32", 4},       [QC_F64] = {"f64", 8},
    [QC_F16] = {"f16", 2},         [QC_U8] = {"u8", 1},         [QC_S8] = {"s8", 1},
    [QC_U16] = {"u16", 2},         [QC_S16] = {"s16", 2},       [QC_S32] = {"s32", 4},
    [QC_S64] = {"s64", 8},         [QC_U32] = {"u32", 4},       [QC_U64] = {"u64", 8},
    [QC_BOOL] = {"bool", 1},       [QC_STRING] = {"string", 0}, [QC_S4] = {"s4", 1},
    [QC_U4] = {"u4", 1},
};

size_t qc_dtype_size(enum qc_dtype dtype)
{
    return (unsigned)dtype < QC_DTYPE_COUNT ? dtypes[dtype].size : 0;
}

const char *qc_dtype_name(enum qc_dtype dtype)
{
    return (unsigned)dtype < QC_DTYPE_COUNT ? dtypes[dtype].name : "unknown";
}

size_t qc_shape_elements(const struct qc_shape *shape)
{
    size_t n = 1;
    for (int i = 0; i < shape->rank; i++) {
        n *= (size_t)shape->dim[i];
    }
    return n;
}

bool qc_shape_elements_checked(const struct qc_shape *shape, size_t element_size, size_t *ret)
{
    if (shape->rank < 0 || shape->rank > QC_MAX_RANK) {
        return false;
    }
    /* Zeros are left out of the product that is checked: [2^62,2^62,0] has no elements, yet a
     * loop that multiplies its strides would overflow. */
    size_t bytes = element_size ? element_size : 1;
    bool empty = false;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] < 0) {
            return false;
        }
        empty = empty || shape->dim[i] == 0;
        size_t dim = shape->dim[i] ? (size_t)shape->dim[i] : 1;
        if (!qd_mul_size(bytes, dim, &bytes) || bytes > MAX_TENSOR_BYTES) {
            return false;
        }
    }
    *ret = empty ? 0 : qc_shape_elements(shape);
    return true;
}

bool qc_shape_equal(const struct qc_shape *a, const struct qc_shape *b)
{
    if (a->rank != b->rank) {
        return false;
    }
    for (int i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) {
            return false;
        }
    }
    return true;
}

const char *qc_shape_format(const struct qc_shape *shape, char *buf, size_t size)
{
    size_t used = 0;
    for (int i = 0; i <= shape->rank && used < size; i++) {
        int n;
        if (i == shape->rank) {
            n = snprintf(buf + used, size - used, i ? "]" : "[]");
        } else {
            n = snprintf(buf + used, size - used, "%s%" PRId64, i ? "," : "[", shape->dim[i]);
        }
        used += n > 0 ? (size_t)n : 0;
    }
    return buf;
}

bool qc_shape_broadcast(const struct qc_shape *a, const struct qc_shape *b, struct qc_shape *ret)
{
    struct qc_shape out = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (int i = 1; i <= out.rank; i++) {
        int64_t da = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t db = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (da != db && da != 1 && db != 1) {
            return false;
        }
        out.dim[out.rank - i] = da == 1 ? db : da;
    }
    *ret = out;
    return true;
}

enum qd_code qc_tensor_new(struct qd_arena *arena, enum qc_dtype dtype,
                           const struct qc_shape *shape, struct qc_tensor **ret,
                           struct qd_error *err)
{
    size_t element = qc_dtype_size(dtype);
    if (element == 0) {
        return qd_fail(err, QD_UNSUPPORTED, "tensor of type %s has no storage",
                       qc_dtype_name(dtype));
    }
    size_t count;
    if (!qc_shape_elements_checked(shape, element, &count)) {
        char text[192];
        return qd_fail(err, QD_LIMIT_EXCEEDED, "tensor %s%s: over rank %d or over %zu bytes",
                       shape->rank >= 0 && shape->rank <= QC_MAX_RANK
                           ? qc_shape_format(shape, text, sizeof text)
                           : "of bad rank ",
                       qc_dtype_name(dtype), QC_MAX_RANK, MAX_TENSOR_BYTES);
    }
    struct qc_tensor *t;
    QD_TRY(qd_arena_alloc(arena, sizeof *t, &t, err));
    t->dtype = dtype;
    t->shape = *shape;
    QD_TRY(qd_arena_array(arena, count, element, &t->data, err));
    *ret = t;
    return QD_OK;
}

/* Saturates: a float that does not fit would be undefined behaviour. NaN gives 0. */
static int64_t f64_to_s64(double v)
{
    if (!(v == v)) {
        return 0;
    }
    if (v >= 0x1p63) {
        return INT64_MAX;
    }
    return v < -0x1p63 ? INT64_MIN : (int64_t)v;
}

int64_t qc_tensor_s64(const struct qc_tensor *t, size_t i)
{
    switch (t->dtype) {
    case QC_U8:
    case QC_U4:
        return ((const uint8_t *)t->data)[i];
    case QC_S8:
    case QC_S4:
        return ((const int8_t *)t->data)[i];
    case QC_U16:
        return ((const uint16_t *)t->data)[i];
    case QC_S16:
        return ((const int16_t *)t->data)[i];
    case QC_S32:
        return ((const int32_t *)t->data)[i];
    case QC_U32:
        return ((const uint32_t *)t->data)[i];
    case QC_S64:
        return ((const int64_t *)t->data)[i];
    case QC_U64: {
        uint64_t v = ((const uint64_t *)t->data)[i];
        return v > INT64_MAX ? INT64_MAX : (int64_t)v;
    }
    case QC_BOOL:
        return ((const uint8_t *)t->data)[i] != 0;
    case QC_F32:
    case QC_F64:
    case QC_F16:
        return f64_to_s64(qc_tensor_f64(t, i));
    case QC_UNKNOWN:
    case QC_STRING:
    case QC_DTYPE_COUNT:
        break;
    }
    return 0;
}

double qc_tensor_f64(const struct qc_tensor *t, size_t i)
{
    switch (t->dtype) {
    case QC_F32:
        return (double)((const float *)t->data)[i];
    case QC_F64:
        return ((const double *)t->data)[i];
    case QC_F16:
        return (double)qc_half_to_f32(((const uint16_t *)t->data)[i]);
    case QC_U64:
        return (double)((const uint64_t *)t->data)[i];
    case QC_U8:
    case QC_S8:
    case QC_U16:
    case QC_S16:
    case QC_S32:
    case QC_U32:
    case QC_S64:
    case QC_BOOL:
    case QC_S4:
    case QC_U4:
        return (double)qc_tensor_s64(t, i);
    case QC_UNKNOWN:
    case QC_STRING:
    case QC_DTYPE_COUNT:
        break;
    }
    return 0;
}
