#include "quantcore/onnx/onnx_tensor.h"

#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/onnx/onnx_proto.h"
#include "quantcore/onnx/onnx_scan.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is little endian");

/* Which repeated field holds the elements when raw_data does not. */
enum typed { TYPED_NONE, TYPED_FLOAT, TYPED_DOUBLE, TYPED_INT32, TYPED_INT64, TYPED_UINT64 };

static const struct {
    const char *name;
    enum qc_dtype dtype;
    enum typed typed;
} data_types[] = {
    [0] = {"UNDEFINED", QC_UNKNOWN, TYPED_NONE},
    [1] = {"FLOAT", QC_F32, TYPED_FLOAT},
    [2] = {"UINT8", QC_U8, TYPED_INT32},
    [3] = {"INT8", QC_S8, TYPED_INT32},
    [4] = {"UINT16", QC_U16, TYPED_INT32},
    [5] = {"INT16", QC_S16, TYPED_INT32},
    [6] = {"INT32", QC_S32, TYPED_INT32},
    [7] = {"INT64", QC_S64, TYPED_INT64},
    [8] = {"STRING", QC_STRING, TYPED_NONE},
    [9] = {"BOOL", QC_BOOL, TYPED_INT32},
    [10] = {"FLOAT16", QC_F16, TYPED_INT32},
    [11] = {"DOUBLE", QC_F64, TYPED_DOUBLE},
    [12] = {"UINT32", QC_U32, TYPED_UINT64},
    [13] = {"UINT64", QC_U64, TYPED_UINT64},
    [14] = {"COMPLEX64", QC_UNKNOWN, TYPED_NONE},
    [15] = {"COMPLEX128", QC_UNKNOWN, TYPED_NONE},
    [16] = {"BFLOAT16", QC_UNKNOWN, TYPED_NONE},
    [17] = {"FLOAT8E4M3FN", QC_UNKNOWN, TYPED_NONE},
    [18] = {"FLOAT8E4M3FNUZ", QC_UNKNOWN, TYPED_NONE},
    [19] = {"FLOAT8E5M2", QC_UNKNOWN, TYPED_NONE},
    [20] = {"FLOAT8E5M2FNUZ", QC_UNKNOWN, TYPED_NONE},
    [21] = {"UINT4", QC_U4, TYPED_INT32},
    [22] = {"INT4", QC_S4, TYPED_INT32},
    [23] = {"FLOAT4E2M1", QC_UNKNOWN, TYPED_NONE},
};

static bool is_data_type(int32_t data_type)
{
    return data_type >= 0 && (size_t)data_type < QD_COUNT_OF(data_types);
}

enum qc_dtype qc_onnx_dtype(int32_t data_type)
{
    return is_data_type(data_type) ? data_types[data_type].dtype : QC_UNKNOWN;
}

const char *qc_onnx_data_type_name(int32_t data_type)
{
    return is_data_type(data_type) ? data_types[data_type].name : "?";
}

int32_t qc_onnx_data_type(enum qc_dtype dtype)
{
    for (size_t i = 1; i < QD_COUNT_OF(data_types); i++) {
        if (data_types[i].dtype == dtype && dtype != QC_UNKNOWN) {
            return (int32_t)i;
        }
    }
    return 0;
}

/* Files have two elements of 4 bits in a byte, the first in its low half; tensors have one. */
static bool is_packed(enum qc_dtype dtype)
{
    return dtype == QC_S4 || dtype == QC_U4;
}

static size_t stored_bytes(enum qc_dtype dtype, size_t elements)
{
    return is_packed(dtype) ? elements / 2 + elements % 2 : elements * qc_dtype_size(dtype);
}

static uint8_t half_byte(enum qc_dtype dtype, unsigned byte, size_t i)
{
    unsigned v = byte >> (i % 2 * 4) & 15;
    return (uint8_t)(dtype == QC_S4 && v > 7 ? v + 0xf0 : v);
}

struct import {
    const Onnx__TensorProto *proto;
    const char *what, *name;
    struct qc_external_use *external; /* NULL: refused */
    struct qd_error *err;
};

static enum qd_code check_location(const struct import *im)
{
    const Onnx__TensorProto *p = im->proto;
    if (qc_onnx_is_external(p) && im->external == NULL) {
        return qd_fail_on(im->err, QD_UNSUPPORTED, im->name,
                          "%s '%s' has external data: only an initializer may", im->what,
                          im->name);
    }
    if (p->segment != NULL) {
        return qd_fail_on(im->err, QD_UNSUPPORTED, im->name,
                          "%s '%s' is split into segments, which is not supported", im->what,
                          im->name);
    }
    return QD_OK;
}

static enum qd_code read_shape(const struct import *im, size_t element_size,
                               struct qc_shape *shape, size_t *ret_elements)
{
    const Onnx__TensorProto *p = im->proto;
    if (p->n_dims > QC_MAX_RANK) {
        return qd_fail_on(im->err, QD_LIMIT_EXCEEDED, im->name,
                          "%s '%s' has %zu dims, the limit is %d", im->what, im->name, p->n_dims,
                          QC_MAX_RANK);
    }
    shape->rank = (int)p->n_dims;
    for (int i = 0; i < shape->rank; i++) {
        shape->dim[i] = p->dims[i];
        if (shape->dim[i] < 0) {
            return qd_fail_on(im->err, QD_INVALID, im->name, "%s '%s': dim %d is %lld", im->what,
                              im->name, i, (long long)shape->dim[i]);
        }
    }
    size_t elements = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (!qd_mul_size(elements, (size_t)shape->dim[i], &elements)) {
            return qd_fail_on(im->err, QD_INVALID, im->name,
                              "%s '%s': the product of its dims overflows", im->what, im->name);
        }
    }
    size_t bytes;
    if (!qd_mul_size(elements, element_size, &bytes)) {
        return qd_fail_on(im->err, QD_INVALID, im->name, "%s '%s': its size overflows", im->what,
                          im->name);
    }
    *ret_elements = elements;
    return QD_OK;
}

/* Elements of all typed fields: only the one of the data type may have some. */
static size_t count_typed(const Onnx__TensorProto *p, enum typed typed)
{
    switch (typed) {
    case TYPED_FLOAT:
        return p->n_float_data;
    case TYPED_DOUBLE:
        return p->n_double_data;
    case TYPED_INT32:
        return p->n_int32_data;
    case TYPED_INT64:
        return p->n_int64_data;
    case TYPED_UINT64:
        return p->n_uint64_data;
    case TYPED_NONE:
        break;
    }
    return p->n_float_data + p->n_double_data + p->n_int32_data + p->n_int64_data +
           p->n_uint64_data + p->n_string_data;
}

static enum qd_code check_count(const struct import *im, enum typed typed, enum qc_dtype dtype,
                                size_t elements)
{
    const Onnx__TensorProto *p = im->proto;
    size_t n = count_typed(p, typed);
    if (count_typed(p, TYPED_NONE) != n || (p->raw_data.len > 0 && n > 0)) {
        return qd_fail_on(im->err, QD_INVALID, im->name,
                          "%s '%s' holds data in more than one field or in one that is not of its "
                          "type %s", im->what, im->name, qc_onnx_data_type_name(p->data_type));
    }
    bool raw = p->raw_data.len > 0 || (p->has_raw_data && n == 0);
    size_t bytes = stored_bytes(dtype, elements);
    size_t typed_count = is_packed(dtype) ? bytes : elements;
    if (raw && p->raw_data.len != bytes) {
        return qd_fail_on(im->err, QD_INVALID, im->name,
                          "%s '%s': its dims want %zu bytes of data, raw_data has %zu", im->what,
                          im->name, bytes, p->raw_data.len);
    }
    if (!raw && n != typed_count) {
        return qd_fail_on(im->err, QD_INVALID, im->name,
                          "%s '%s': its dims want %zu elements, the data has %zu", im->what,
                          im->name, typed_count, n);
    }
    return QD_OK;
}

/* int32_data carries all the small types; a value that does not fit is an error. */
static bool store_small(struct qc_tensor *t, size_t i, int64_t v)
{
    int64_t lo = 0, hi = 0;
    switch (t->dtype) {
    case QC_U8:
        hi = UINT8_MAX;
        break;
    case QC_S8:
        lo = INT8_MIN;
        hi = INT8_MAX;
        break;
    case QC_BOOL:
        v = v != 0;
        hi = 1;
        break;
    case QC_F16:
    case QC_U16:
        hi = UINT16_MAX;
        break;
    case QC_S16:
        lo = INT16_MIN;
        hi = INT16_MAX;
        break;
    case QC_S32:
        lo = INT32_MIN;
        hi = INT32_MAX;
        break;
    case QC_U32:
        hi = UINT32_MAX;
        break;
    case QC_UNKNOWN:
    case QC_F32:
    case QC_F64:
    case QC_S64:
    case QC_U64:
    case QC_STRING:
    case QC_S4:
    case QC_U4:
    case QC_DTYPE_COUNT:
        return false;
    }
    size_t size = qc_dtype_size(t->dtype);
    memcpy((uint8_t *)t->data + i * size, &v, size);
    return v >= lo && v <= hi;
}

static enum qd_code fill_typed(const struct import *im, enum typed typed, size_t n,
                               struct qc_tensor *t)
{
    const Onnx__TensorProto *p = im->proto;
    const void *from = typed == TYPED_FLOAT    ? (const void *)p->float_data
                       : typed == TYPED_DOUBLE ? (const void *)p->double_data
                       : typed == TYPED_INT64  ? (const void *)p->int64_data
                                               : (const void *)p->uint64_data;
    if (n == 0) {
        return QD_OK;
    }
    if (typed != TYPED_INT32 && t->dtype != QC_U32) {
        memcpy(t->data, from, n * qc_dtype_size(t->dtype));
        return QD_OK;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t v = typed == TYPED_INT32 ? p->int32_data[i] : (int64_t)p->uint64_data[i];
        if (!store_small(t, i, v)) {
            return qd_fail_on(im->err, QD_INVALID, im->name,
                              "%s '%s': element %zu is %lld, out of range of %s", im->what,
                              im->name, i, (long long)v, qc_onnx_data_type_name(p->data_type));
        }
    }
    return QD_OK;
}

/* Two of 4 bits an int32, as in a byte. */
static enum qd_code fill_halves(const struct import *im, size_t n, struct qc_tensor *t)
{
    for (size_t i = 0; i < n; i++) {
        int32_t v = im->proto->int32_data[i / 2];
        if (v < 0 || v > UINT8_MAX) {
            return qd_fail_on(im->err, QD_INVALID, im->name,
                              "%s '%s': element %zu is %d, two %s in a byte are 0 to 255", im->what,
                              im->name, i / 2, (int)v,
                              qc_onnx_data_type_name(im->proto->data_type));
        }
        ((uint8_t *)t->data)[i] = half_byte(t->dtype, (unsigned)v, i);
    }
    return QD_OK;
}

static void fill_raw(struct qd_bytes raw, size_t n, struct qc_tensor *t)
{
    const uint8_t *from = raw.data;
    uint8_t *to = t->data;
    if (!is_packed(t->dtype)) {
        memcpy(to, from, n * qc_dtype_size(t->dtype));
    }
    for (size_t i = 0; t->dtype == QC_BOOL && i < n; i++) {
        to[i] = to[i] != 0;
    }
    for (size_t i = 0; is_packed(t->dtype) && i < n; i++) {
        to[i] = half_byte(t->dtype, from[i / 2], i);
    }
}

enum qd_code qc_onnx_tensor_import(const Onnx__TensorProto *proto, const char *what,
                                   struct qc_external_use *external, struct qd_arena *arena,
                                   struct qc_tensor **ret, struct qd_error *err)
{
    struct import im = {proto, what, proto->name != NULL ? proto->name : "", external, err};
    struct qd_bytes raw = {proto->raw_data.data, proto->raw_data.len};
    enum qc_dtype dtype = qc_onnx_dtype(proto->data_type);
    if (dtype == QC_UNKNOWN || dtype == QC_STRING) {
        bool undefined = !is_data_type(proto->data_type) || proto->data_type == 0;
        return qd_fail_on(err, undefined ? QD_INVALID : QD_UNSUPPORTED, im.name,
                          "%s '%s' has data type %d (%s), which is not supported", what, im.name,
                          proto->data_type, qc_onnx_data_type_name(proto->data_type));
    }
    enum typed typed = data_types[proto->data_type].typed;
    struct qc_shape shape = {0};
    size_t n = 0, size = qc_dtype_size(dtype);
    QD_TRY(check_location(&im));
    QD_TRY(read_shape(&im, size, &shape, &n));
    QD_TRY(qc_onnx_is_external(proto) ? qc_onnx_external_find(external, proto, stored_bytes(dtype, n),
                                                              &raw, err)
                                      : check_count(&im, typed, dtype, n));
    struct qc_tensor *t;
    QD_TRY(qc_tensor_new(arena, dtype, &shape, &t, err));
    if (raw.size > 0) {
        fill_raw(raw, n, t);
    } else {
        QD_TRY(is_packed(dtype) ? fill_halves(&im, n, t) : fill_typed(&im, typed, n, t));
    }
    *ret = t;
    return QD_OK;
}

enum qd_code qc_onnx_read_tensor(struct qd_bytes bytes, struct qd_arena *arena,
                                 struct qc_tensor **ret, struct qd_error *err)
{
    ProtobufCMessage *message;
    struct qc_onnx_pool pool = {.limit = QC_ONNX_POOL_LIMIT(bytes.size)};
    QD_TRY(qc_onnx_scan_tensor(bytes, err));
    enum qd_code code =
        qc_onnx_unpack(&pool, &onnx__tensor_proto__descriptor, bytes, &message, err);
    if (code == QD_OK) {
        const Onnx__TensorProto *proto = (const Onnx__TensorProto *)(const void *)message;
        code = qc_onnx_tensor_import(proto, "tensor", NULL, arena, ret, err);
    }
    qc_onnx_pool_done(&pool);
    return code;
}

/* Without a last second element its half stays 0. */
static enum qd_code pack(const struct qc_tensor *t, struct qd_arena *arena, uint8_t **ret,
                         struct qd_error *err)
{
    size_t n = qc_shape_elements(&t->shape);
    const uint8_t *from = t->data;
    uint8_t *to = NULL;
    QD_TRY(qd_arena_array(arena, stored_bytes(t->dtype, n), 1, &to, err));
    for (size_t i = 0; i < n; i++) {
        to[i / 2] = (uint8_t)(to[i / 2] | (unsigned)(from[i] & 15) << (i % 2 * 4));
    }
    *ret = to;
    return QD_OK;
}

enum qd_code qc_onnx_tensor_export(const struct qc_tensor *tensor, const char *name,
                                   struct qd_arena *arena, Onnx__TensorProto **ret,
                                   struct qd_error *err)
{
    Onnx__TensorProto *p;
    int32_t data_type = qc_onnx_data_type(tensor->dtype);
    if (data_type == 0 || tensor->dtype == QC_STRING) {
        return qd_fail_on(err, QD_INTERNAL, name, "tensor '%s' of type %s cannot be exported",
                          name, qc_dtype_name(tensor->dtype));
    }
    QD_TRY(qd_arena_alloc(arena, sizeof(*p), &p, err));
    onnx__tensor_proto__init(p);
    p->n_dims = (size_t)tensor->shape.rank;
    QD_TRY(qd_arena_copy(arena, tensor->shape.dim, p->n_dims * sizeof(int64_t), &p->dims, err));
    p->has_data_type = 1;
    p->data_type = data_type;
    /* protobuf-c's structs are not const-correct; packing only reads */
    p->name = (char *)(uintptr_t)name;
    p->has_raw_data = 1;
    p->raw_data.data = tensor->data;
    p->raw_data.len = stored_bytes(tensor->dtype, qc_shape_elements(&tensor->shape));
    if (is_packed(tensor->dtype)) {
        QD_TRY(pack(tensor, arena, &p->raw_data.data, err));
    }
    *ret = p;
    return QD_OK;
}
