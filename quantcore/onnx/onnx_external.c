#include "quantcore/onnx/onnx_external.h"

#include <stdio.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/onnx/onnx_proto.h"
#include "quantcore/onnx/onnx_scan.h"

/* What external_data says; NULL where it says nothing. */
struct place {
    const char *tensor, *location, *offset, *length;
};

bool qc_onnx_is_external(const Onnx__TensorProto *proto)
{
    return proto->has_data_location &&
           proto->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
}

static enum qd_code read_place(const Onnx__TensorProto *proto, struct place *ret,
                               struct qd_error *err)
{
    *ret = (struct place){.tensor = proto->name != NULL ? proto->name : ""};
    const struct {
        const char *key;
        const char **value;
    } known[] = {
        {"location", &ret->location}, {"offset", &ret->offset}, {"length", &ret->length}};
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const Onnx__StringStringEntryProto *e = proto->external_data[i];
        const char *key = e->key != NULL ? e->key : "";
        for (size_t k = 0; k < QD_COUNT_OF(known); k++) {
            if (strcmp(key, known[k].key) != 0) {
                continue; /* a checksum, or what later versions add */
            }
            if (*known[k].value != NULL) {
                return qd_fail_on(err, QD_INVALID, ret->tensor,
                                  "initializer '%s': its external data have two values of '%s'",
                                  ret->tensor, key);
            }
            *known[k].value = e->value != NULL ? e->value : "";
        }
    }
    return ret->location != NULL
               ? QD_OK
               : qd_fail_on(err, QD_INVALID, ret->tensor,
                            "initializer '%s': its external data have no location", ret->tensor);
}

/* Digits alone: strtoull would take signs and blanks. */
static enum qd_code read_number(const struct place *place, const char *key, const char *text,
                                uint64_t *ret, struct qd_error *err)
{
    uint64_t v = 0;
    bool good = text[0] != '\0';
    for (const char *c = text; good && *c != '\0'; c++) {
        good = *c >= '0' && *c <= '9' && !__builtin_mul_overflow(v, 10u, &v) &&
               !__builtin_add_overflow(v, (uint64_t)(*c - '0'), &v);
    }
    *ret = v;
    return good ? QD_OK
                : qd_fail_on(err, QD_INVALID, place->tensor,
                             "initializer '%s' in '%.100s': %s '%.40s' is no number of bytes up "
                             "to 18446744073709551615", place->tensor, place->location, key, text);
}

static enum qd_code fail_absent(const struct qc_external *external, const struct place *place,
                                struct qd_error *err)
{
    char list[512] = "";
    size_t at = 0;
    for (int i = 0; external != NULL && i < external->n && at < sizeof(list); i++) {
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s'%.64s'", i > 0 ? ", " : "",
                               external->files[i].name);
    }
    return qd_fail_on(err, QD_INVALID, place->tensor,
                      "initializer '%s' has its data in '%.100s', which is not among the files "
                      "given: %s", place->tensor, place->location, at > 0 ? list : "none");
}

static bool has_own_data(const Onnx__TensorProto *p)
{
    return p->raw_data.len > 0 || p->n_float_data > 0 || p->n_double_data > 0 ||
           p->n_int32_data > 0 || p->n_int64_data > 0 || p->n_uint64_data > 0 ||
           p->n_string_data > 0;
}

enum qd_code qc_onnx_external_find(struct qc_external_use *use, const Onnx__TensorProto *proto,
                                   size_t size, struct qd_bytes *ret, struct qd_error *err)
{
    const struct qc_external *external = use->external;
    struct place place;
    uint64_t offset = 0, length = size;
    int i = 0;
    QD_TRY(read_place(proto, &place, err));
    if (has_own_data(proto)) {
        return qd_fail_on(err, QD_INVALID, place.tensor,
                          "initializer '%s' has data of its own and in '%.100s' too",
                          place.tensor, place.location);
    }
    while (external != NULL && i < external->n &&
           strcmp(external->files[i].name, place.location) != 0) {
        i++;
    }
    if (external == NULL || i == external->n) {
        return fail_absent(external, &place, err);
    }
    use->used[i] = true;
    if (place.offset != NULL) {
        QD_TRY(read_number(&place, "offset", place.offset, &offset, err));
    }
    if (place.length != NULL) {
        QD_TRY(read_number(&place, "length", place.length, &length, err));
    }
    if (length != size) {
        return qd_fail_on(err, QD_INVALID, place.tensor,
                          "initializer '%s' in '%.100s': its dims want %zu bytes of data, its "
                          "length is %llu", place.tensor, place.location, size,
                          (unsigned long long)length);
    }
    struct qd_bytes file = external->files[i].bytes;
    if (offset > file.size || size > file.size - (size_t)offset) {
        return qd_fail_on(err, QD_INVALID, place.tensor,
                          "initializer '%s' in '%.100s': %zu bytes at offset %llu, the file has "
                          "%zu", place.tensor, place.location, size, (unsigned long long)offset,
                          file.size);
    }
    *ret = (struct qd_bytes){size > 0 ? (const uint8_t *)file.data + offset : NULL, size};
    return QD_OK;
}

enum qd_code qc_onnx_external_check_used(const struct qc_external_use *use, struct qd_error *err)
{
    for (int i = 0; use->external != NULL && i < use->external->n; i++) {
        if (!use->used[i]) {
            return qd_fail_on(err, QD_INVALID, use->external->files[i].name,
                              "no initializer has its data in the file '%.100s' that was given",
                              use->external->files[i].name);
        }
    }
    return QD_OK;
}

static enum qd_code add_name(const Onnx__TensorProto *proto, struct qd_arena *arena,
                             struct qc_external *names, struct qd_error *err)
{
    struct place place;
    if (!qc_onnx_is_external(proto)) {
        return QD_OK;
    }
    QD_TRY(read_place(proto, &place, err));
    for (int i = 0; i < names->n; i++) {
        if (strcmp(names->files[i].name, place.location) == 0) {
            return QD_OK;
        }
    }
    if (names->n == QC_EXTERNAL_MAX) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, place.tensor,
                          "the data of initializer '%s' are in file number %d, '%.100s', the "
                          "limit is %d", place.tensor, QC_EXTERNAL_MAX + 1, place.location,
                          QC_EXTERNAL_MAX);
    }
    return qd_arena_string(arena, place.location, strlen(place.location),
                           &names->files[names->n++].name, err);
}

enum qd_code qc_onnx_external_names(struct qd_bytes model, struct qd_arena *arena,
                                    struct qc_external *ret, struct qd_error *err)
{
    ProtobufCMessage *message;
    struct qc_onnx_pool pool = {.limit = QC_ONNX_POOL_LIMIT(model.size)};
    struct qc_external names = {.n = 0};
    QD_TRY(qc_onnx_scan(model, err));
    enum qd_code code =
        qc_onnx_unpack(&pool, &onnx__model_proto__descriptor, model, &message, err);
    if (code == QD_OK) {
        const Onnx__GraphProto *g = ((const Onnx__ModelProto *)(const void *)message)->graph;
        for (size_t i = 0; code == QD_OK && g != NULL && i < g->n_initializer; i++) {
            code = add_name(g->initializer[i], arena, &names, err);
        }
    }
    qc_onnx_pool_done(&pool);
    if (code == QD_OK) {
        *ret = names;
    }
    return code;
}
