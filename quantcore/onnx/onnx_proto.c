#include "quantcore/onnx/onnx_proto.h"

#include <stdlib.h>

struct qc_onnx_chunk {
    struct qc_onnx_chunk *prev, *next;
    size_t size;
    max_align_t data[];
};

static void *pool_alloc(void *arg, size_t size)
{
    struct qc_onnx_pool *pool = arg;
    size_t total;
    if (!qd_add_size(size, sizeof(struct qc_onnx_chunk), &total) ||
        total > pool->limit - pool->used) {
        pool->over_limit = true;
        return NULL;
    }
    struct qc_onnx_chunk *chunk = malloc(total);
    if (chunk == NULL) {
        return NULL;
    }
    *chunk = (struct qc_onnx_chunk){.next = pool->chunks, .size = total};
    if (pool->chunks != NULL) {
        pool->chunks->prev = chunk;
    }
    pool->chunks = chunk;
    pool->used += total;
    return chunk->data;
}

static void pool_free(void *arg, void *data)
{
    if (data == NULL) {
        return;
    }
    struct qc_onnx_pool *pool = arg;
    struct qc_onnx_chunk *chunk =
        (struct qc_onnx_chunk *)(void *)((char *)data - offsetof(struct qc_onnx_chunk, data));
    if (chunk->prev != NULL) {
        chunk->prev->next = chunk->next;
    } else {
        pool->chunks = chunk->next;
    }
    if (chunk->next != NULL) {
        chunk->next->prev = chunk->prev;
    }
    pool->used -= chunk->size;
    free(chunk);
}

enum qd_code qc_onnx_unpack(struct qc_onnx_pool *pool, const ProtobufCMessageDescriptor *type,
                            struct qd_bytes bytes, ProtobufCMessage **ret, struct qd_error *err)
{
    ProtobufCAllocator allocator = {pool_alloc, pool_free, pool};
    pool->over_limit = false;
    ProtobufCMessage *m = protobuf_c_message_unpack(type, &allocator, bytes.size, bytes.data);
    if (m == NULL && pool->over_limit) {
        return qd_fail(err, QD_LIMIT_EXCEEDED,
                       "unpacking %zu bytes of ONNX takes more than %zu bytes of memory",
                       bytes.size, pool->limit);
    }
    if (m == NULL) {
        return qd_fail(err, QD_INVALID, "malformed ONNX: not a %s", type->short_name);
    }
    *ret = m;
    return QD_OK;
}

void qc_onnx_pool_done(struct qc_onnx_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    while (pool->chunks != NULL) {
        struct qc_onnx_chunk *next = pool->chunks->next;
        free(pool->chunks);
        pool->chunks = next;
    }
    pool->used = 0;
}

enum qd_code qc_onnx_pack(struct qd_arena *arena, const ProtobufCMessage *message,
                          struct qd_bytes *ret, struct qd_error *err)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *data;
    QD_TRY(qd_arena_alloc(arena, size, &data, err));
    if (protobuf_c_message_pack(message, data) != size) {
        return qd_fail(err, QD_INTERNAL, "packing a %s gave another size than %zu bytes",
                       message->descriptor->short_name, size);
    }
    *ret = (struct qd_bytes){data, size};
    return QD_OK;
}

/* One field at *at: tag into `field`, its data as it stands. */
static bool split_field(struct qd_bytes b, size_t *at, ProtobufCMessageUnknownField *field)
{
    uint64_t v[2] = {0, 0}; /* tag, length or value */
    size_t i = *at, start = i;
    for (int part = 0; part < 2; part++) {
        start = part == 1 ? i : start;
        if (part == 1 && (v[0] & 7) != 0 && (v[0] & 7) != 2) {
            break;
        }
        for (unsigned shift = 0;; shift += 7) {
            if (i >= b.size || shift > 63) {
                return false;
            }
            v[part] |= (uint64_t)(b.data[i] & 0x7f) << shift;
            if (b.data[i++] < 0x80) {
                break;
            }
        }
    }
    unsigned wire = (unsigned)(v[0] & 7);
    uint64_t more = wire == 1 ? 8 : wire == 5 ? 4 : wire == 2 ? v[1] : 0;
    if (wire == 3 || wire == 4 || wire > 5 || more > b.size - i) {
        return false;
    }
    i += (size_t)more;
    field->tag = (uint32_t)(v[0] >> 3);
    field->wire_type = (ProtobufCWireType)wire;
    field->len = i - start;
    /* protobuf-c's struct is not const-correct; packing only reads */
    field->data = (uint8_t *)(uintptr_t)(b.data + start);
    *at = i;
    return true;
}

enum qd_code qc_onnx_attach(struct qd_arena *arena, struct qd_bytes fields,
                            ProtobufCMessage *message, struct qd_error *err)
{
    unsigned n = 0;
    ProtobufCMessageUnknownField one, *list;
    for (size_t at = 0; at < fields.size; n++) {
        if (!split_field(fields, &at, &one)) {
            return qd_fail(err, QD_INTERNAL, "kept fields of a %s are broken at byte %zu",
                           message->descriptor->short_name, at);
        }
    }
    QD_TRY(qd_arena_array(arena, n, sizeof(*list), &list, err));
    size_t at = 0;
    for (unsigned i = 0; i < n; i++) {
        (void)split_field(fields, &at, &list[i]);
    }
    message->n_unknown_fields = n;
    message->unknown_fields = list;
    return QD_OK;
}
