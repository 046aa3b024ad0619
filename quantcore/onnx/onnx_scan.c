#include "quantcore/onnx/onnx_scan.h"

#include <protobuf-c/protobuf-c.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/graph/tensor.h"

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LEN = 2, WIRE_32 = 5 };

struct scan {
    const uint8_t *start; /* of all bytes, for offsets in messages */
    size_t nodes, initializers;
    struct qd_error *err;
};

struct cursor {
    const uint8_t *at, *end;
};

struct frame {
    const ProtobufCMessageDescriptor *type;
    struct cursor c;
    int depth;
    uint64_t seen; /* singular messages: bit = index of the field, 63 = any member of a oneof */
    size_t rank;
};

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

static enum qd_code bad(const struct scan *s, const struct frame *f, const uint8_t *at,
                        const char *what)
{
    return qd_fail(s->err, QD_INVALID, "malformed ONNX: %s in %s at byte %zu", what,
                   f->type->short_name, (size_t)(at - s->start));
}

static bool read_varint(struct cursor *c, unsigned max_bytes, uint64_t *ret)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < max_bytes && c->at < c->end; i++) {
        uint8_t b = *c->at++;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *ret = v;
            return true;
        }
    }
    return false;
}

/* Length of the UTF-8 sequence at p, 0 when it is none (overlong forms, surrogates, NUL too:
 * a NUL would cut the string short in C). */
static size_t utf8_length(const uint8_t *p, size_t n)
{
    static const uint32_t least[5] = {0, 1, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80 ? 1 : (p[0] >> 5) == 6 ? 2 : (p[0] >> 4) == 14 ? 3
               : (p[0] >> 3) == 30 ? 4 : 0;
    if (len == 0 || len > n) {
        return 0;
    }
    uint32_t v = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        v = v << 6 | (p[i] & 0x3fu);
    }
    return v < least[len] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000) ? 0 : len;
}

static bool is_utf8(const uint8_t *p, size_t n)
{
    while (n > 0) {
        size_t len = utf8_length(p, n);
        if (len == 0) {
            return false;
        }
        p += len;
        n -= len;
    }
    return true;
}

static unsigned wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LEN;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return WIRE_32;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return WIRE_64;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return WIRE_VARINT;
}

static enum qd_code too_many(struct scan *s, const char *what, size_t limit)
{
    return qd_fail(s->err, QD_LIMIT_EXCEEDED, "the model has more than %zu %s", limit, what);
}

/* Counts that the importer relies on. `n` elements of the field arrived. */
static enum qd_code count_field(struct scan *s, struct frame *f, uint32_t id, size_t n)
{
    bool graph = f->type == &onnx__graph_proto__descriptor;
    if (graph && id == 1 && ++s->nodes > QC_ONNX_MAX_NODES) {
        return too_many(s, "nodes", QC_ONNX_MAX_NODES);
    }
    if (graph && id == 5 && ++s->initializers > QC_ONNX_MAX_INITIALIZERS) {
        return too_many(s, "initializers", QC_ONNX_MAX_INITIALIZERS);
    }
    bool dims = f->type == &onnx__tensor_proto__descriptor ||
                f->type == &onnx__tensor_shape_proto__descriptor;
    if (dims && id == 1) {
        f->rank += n;
        if (f->rank > QC_MAX_RANK) {
            return qd_fail(s->err, QD_LIMIT_EXCEEDED,
                           "a %s at byte %zu has more than %d dims", f->type->short_name,
                           (size_t)(f->c.at - s->start), QC_MAX_RANK);
        }
    }
    return QD_OK;
}

static enum qd_code scan_packed(struct scan *s, struct frame *f,
                                const ProtobufCFieldDescriptor *field, struct cursor c)
{
    const uint8_t *from = c.at;
    unsigned wire = wire_of(field->type);
    size_t n = 0;
    if (wire == WIRE_LEN || field->label != PROTOBUF_C_LABEL_REPEATED) {
        return bad(s, f, from, "a field with the wrong wire type");
    }
    if (wire != WIRE_VARINT) {
        size_t size = wire == WIRE_32 ? 4 : 8;
        if (left(&c) % size != 0) {
            return bad(s, f, from, "a packed field that ends inside an element");
        }
        n = left(&c) / size;
    }
    while (wire == WIRE_VARINT && c.at < c.end) {
        uint64_t v;
        if (!read_varint(&c, 10, &v)) {
            return bad(s, f, from, "a packed field with a broken varint");
        }
        n++;
    }
    return count_field(s, f, field->id, n);
}

static enum qd_code scan_message(struct scan *s, struct frame *f);

static enum qd_code scan_submessage(struct scan *s, struct frame *f,
                                    const ProtobufCFieldDescriptor *field, struct cursor c)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        /* protobuf would merge the two; no writer means that */
        bool oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        uint64_t bit = oneof ? UINT64_C(1) << 63
                             : UINT64_C(1) << ((field - f->type->fields) & 63);
        if ((f->seen & bit) != 0) {
            return bad(s, f, c.at, "a message that may stand once and stands twice");
        }
        f->seen |= bit;
    }
    struct frame inner = {.type = field->descriptor, .c = c, .depth = f->depth + 1};
    return scan_message(s, &inner);
}

static enum qd_code scan_length(struct scan *s, struct frame *f,
                                const ProtobufCFieldDescriptor *field)
{
    const uint8_t *from = f->c.at;
    uint64_t size;
    if (!read_varint(&f->c, 5, &size)) {
        return bad(s, f, from, "a broken or truncated field length");
    }
    if (size > left(&f->c)) {
        return qd_fail(s->err, QD_INVALID,
                       "truncated ONNX: field '%s' of %s at byte %zu wants %llu bytes, "
                       "%zu are left",
                       field != NULL ? field->name : "(unknown)", f->type->short_name,
                       (size_t)(from - s->start), (unsigned long long)size, left(&f->c));
    }
    struct cursor c = {f->c.at, f->c.at + size};
    f->c.at = c.end;
    if (field == NULL || field->type == PROTOBUF_C_TYPE_BYTES) {
        return QD_OK;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        return is_utf8(c.at, left(&c)) ? QD_OK
                                       : bad(s, f, from, "a string that is not UTF-8");
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        QD_TRY(count_field(s, f, field->id, 1));
        return scan_submessage(s, f, field, c);
    }
    return scan_packed(s, f, field, c);
}

static enum qd_code scan_field(struct scan *s, struct frame *f)
{
    const uint8_t *from = f->c.at;
    uint64_t tag, v;
    if (!read_varint(&f->c, 5, &tag) || tag > UINT32_MAX || tag < 8) {
        return bad(s, f, from, "a broken field tag");
    }
    unsigned wire = (unsigned)(tag & 7);
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(f->type, (unsigned)(tag >> 3));
    if (wire == WIRE_LEN) {
        return scan_length(s, f, field);
    }
    if (field != NULL && wire != wire_of(field->type)) {
        return bad(s, f, from, "a field with the wrong wire type");
    }
    size_t fixed = wire == WIRE_32 ? 4 : 8;
    switch (wire) {
    case WIRE_VARINT:
        if (!read_varint(&f->c, 10, &v)) {
            return bad(s, f, from, "a broken or truncated varint");
        }
        break;
    case WIRE_32:
    case WIRE_64:
        if (left(&f->c) < fixed) {
            return bad(s, f, from, "a truncated number");
        }
        f->c.at += fixed;
        break;
    default:
        return bad(s, f, from, "a field of an unknown wire type");
    }
    return field != NULL ? count_field(s, f, field->id, 1) : QD_OK;
}

static enum qd_code scan_message(struct scan *s, struct frame *f)
{
    if (f->depth > QC_ONNX_MAX_NESTING) {
        return qd_fail(s->err, QD_LIMIT_EXCEEDED,
                       "messages are nested deeper than %d levels at byte %zu",
                       QC_ONNX_MAX_NESTING, (size_t)(f->c.at - s->start));
    }
    while (f->c.at < f->c.end) {
        QD_TRY(scan_field(s, f));
    }
    return QD_OK;
}

static enum qd_code scan_root(const ProtobufCMessageDescriptor *type, struct qd_bytes bytes,
                              struct qd_error *err)
{
    if (bytes.size == 0) {
        return qd_fail(err, QD_INVALID, "empty input where an ONNX %s is expected",
                       type->short_name);
    }
    struct scan s = {.start = bytes.data, .err = err};
    struct frame f = {.type = type, .c = {bytes.data, bytes.data + bytes.size}, .depth = 1};
    return scan_message(&s, &f);
}

enum qd_code qc_onnx_scan(struct qd_bytes model, struct qd_error *err)
{
    return scan_root(&onnx__model_proto__descriptor, model, err);
}

enum qd_code qc_onnx_scan_tensor(struct qd_bytes tensor, struct qd_error *err)
{
    return scan_root(&onnx__tensor_proto__descriptor, tensor, err);
}
