#include "quantcore/onnx/onnx_attrs.h"

#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/onnx/onnx_tensor.h"

#define KIND(k) ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__##k

/* Files of the first IR versions have no type field: the field that is there decides. */
static int kind_of(const Onnx__AttributeProto *p)
{
    if (p->has_type && p->type != KIND(UNDEFINED)) {
        return (int)p->type;
    }
    return p->has_f                   ? (int)KIND(FLOAT)
           : p->has_i                 ? (int)KIND(INT)
           : p->has_s                 ? (int)KIND(STRING)
           : p->t != NULL             ? (int)KIND(TENSOR)
           : p->g != NULL             ? (int)KIND(GRAPH)
           : p->n_floats > 0          ? (int)KIND(FLOATS)
           : p->n_ints > 0            ? (int)KIND(INTS)
           : p->n_strings > 0         ? (int)KIND(STRINGS)
           : p->n_tensors > 0         ? (int)KIND(TENSORS)
           : p->n_graphs > 0          ? (int)KIND(GRAPHS)
           : p->n_sparse_tensors > 0  ? (int)KIND(SPARSE_TENSORS)
           : p->sparse_tensor != NULL ? (int)KIND(SPARSE_TENSOR)
                                      : (int)KIND(UNDEFINED);
}

static enum qd_code copy_string(struct qd_arena *arena, const ProtobufCBinaryData *from,
                                struct qd_bytes *ret, struct qd_error *err)
{
    const char *text;
    QD_TRY(qd_arena_string(arena, from->len > 0 ? (const char *)from->data : "", from->len, &text,
                           err));
    *ret = (struct qd_bytes){(const uint8_t *)text, from->len};
    return QD_OK;
}

static enum qd_code import_lists(const Onnx__AttributeProto *p, struct qd_arena *arena,
                                 struct qc_attr *a, struct qd_error *err)
{
    static const uint8_t none[8];
    struct qd_bytes *strings;
    if (a->type == QC_ATTR_FLOATS) {
        a->n = p->n_floats;
        return qd_arena_copy(arena, a->n > 0 ? (const void *)p->floats : none,
                             a->n * sizeof(float), &a->floats, err);
    }
    if (a->type == QC_ATTR_INTS) {
        a->n = p->n_ints;
        return qd_arena_copy(arena, a->n > 0 ? (const void *)p->ints : none,
                             a->n * sizeof(int64_t), &a->ints, err);
    }
    a->n = p->n_strings;
    QD_TRY(qd_arena_array(arena, a->n, sizeof(*strings), &strings, err));
    for (size_t i = 0; i < a->n; i++) {
        QD_TRY(copy_string(arena, &p->strings[i], &strings[i], err));
    }
    a->strings = strings;
    return QD_OK;
}

static enum qd_code import_one(const Onnx__AttributeProto *p, struct qd_arena *arena,
                               struct qc_attr *a, struct qd_error *err)
{
    static const enum qc_attr_type types[] = {
        [KIND(FLOAT)] = QC_ATTR_FLOAT,   [KIND(INT)] = QC_ATTR_INT,
        [KIND(STRING)] = QC_ATTR_STRING, [KIND(TENSOR)] = QC_ATTR_TENSOR,
        [KIND(FLOATS)] = QC_ATTR_FLOATS, [KIND(INTS)] = QC_ATTR_INTS,
        [KIND(STRINGS)] = QC_ATTR_STRINGS,
    };
    int kind = kind_of(p);
    struct qc_tensor *tensor;
    QD_TRY(qd_arena_string(arena, p->name, strlen(p->name), &a->name, err));
    if (kind == (int)KIND(GRAPH) || kind == (int)KIND(GRAPHS)) {
        return qd_fail(err, QD_UNSUPPORTED, "attribute '%s' is a subgraph, which is not supported",
                       p->name);
    }
    bool known = kind == (int)KIND(FLOAT) || kind == (int)KIND(INT) ||
                 kind == (int)KIND(STRING) || kind == (int)KIND(TENSOR) ||
                 kind == (int)KIND(FLOATS) || kind == (int)KIND(INTS) ||
                 kind == (int)KIND(STRINGS);
    if (!known || p->ref_attr_name != NULL) {
        return qd_fail(err, QD_UNSUPPORTED, "attribute '%s' of type %d%s is not supported",
                       p->name, kind, p->ref_attr_name != NULL ? ", a reference," : "");
    }
    if (kind == (int)KIND(TENSOR) && p->t == NULL) {
        return qd_fail(err, QD_INVALID, "attribute '%s' of type TENSOR has no tensor", p->name);
    }
    a->type = types[kind];
    a->f = p->f;
    a->i = p->i;
    switch (a->type) {
    case QC_ATTR_STRING:
        return copy_string(arena, &p->s, &a->s, err);
    case QC_ATTR_TENSOR:
        QD_TRY(qc_onnx_tensor_import(p->t, "tensor of an attribute", NULL, arena, &tensor, err));
        a->tensor = tensor;
        return QD_OK;
    case QC_ATTR_FLOATS:
    case QC_ATTR_INTS:
    case QC_ATTR_STRINGS:
        return import_lists(p, arena, a, err);
    case QC_ATTR_FLOAT:
    case QC_ATTR_INT:
    case QC_ATTR_TYPE_COUNT:
        break;
    }
    return QD_OK;
}

enum qd_code qc_onnx_attrs_import(const Onnx__NodeProto *proto, struct qd_arena *arena,
                                  struct qc_node *node, struct qd_error *err)
{
    enum { MAX_ATTRS = 64 }; /* no operator has a quarter of that; bounds the search below */
    struct qc_attr *attrs;
    if (proto->n_attribute > MAX_ATTRS) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu attributes, the limit is %d",
                       proto->n_attribute, MAX_ATTRS);
    }
    QD_TRY(qd_arena_array(arena, proto->n_attribute, sizeof(*attrs), &attrs, err));
    for (size_t i = 0; i < proto->n_attribute; i++) {
        const Onnx__AttributeProto *p = proto->attribute[i];
        if (p->name == NULL || p->name[0] == '\0') {
            return qd_fail(err, QD_INVALID, "attribute %zu has no name", i);
        }
        if (strncmp(p->name, "quantd_", 7) == 0) {
            return qd_fail(err, QD_INVALID, "attribute name '%s' is reserved", p->name);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(attrs[j].name, p->name) == 0) {
                return qd_fail(err, QD_INVALID, "attribute '%s' stands twice", p->name);
            }
        }
        QD_TRY(import_one(p, arena, &attrs[i], err));
    }
    node->attrs = attrs;
    node->n_attrs = (int)proto->n_attribute;
    return QD_OK;
}

static enum qd_code export_one(const struct qc_attr *a, struct qd_arena *arena,
                               Onnx__AttributeProto *p, struct qd_error *err)
{
    static const Onnx__AttributeProto__AttributeType kinds[QC_ATTR_TYPE_COUNT] = {
        [QC_ATTR_FLOAT] = KIND(FLOAT),   [QC_ATTR_INT] = KIND(INT),
        [QC_ATTR_STRING] = KIND(STRING), [QC_ATTR_TENSOR] = KIND(TENSOR),
        [QC_ATTR_FLOATS] = KIND(FLOATS), [QC_ATTR_INTS] = KIND(INTS),
        [QC_ATTR_STRINGS] = KIND(STRINGS),
    };
    onnx__attribute_proto__init(p);
    /* protobuf-c's structs are not const-correct; packing only reads */
    p->name = (char *)(uintptr_t)a->name;
    p->has_type = 1;
    p->type = kinds[a->type];
    p->has_f = a->type == QC_ATTR_FLOAT;
    p->f = a->f;
    p->has_i = a->type == QC_ATTR_INT;
    p->i = a->i;
    p->has_s = a->type == QC_ATTR_STRING;
    p->s = (ProtobufCBinaryData){a->s.size, (uint8_t *)(uintptr_t)a->s.data};
    if (a->type == QC_ATTR_TENSOR) {
        return qc_onnx_tensor_export(a->tensor, "", arena, &p->t, err);
    }
    if (a->type == QC_ATTR_FLOATS) {
        p->n_floats = a->n;
        p->floats = (float *)(uintptr_t)a->floats;
    } else if (a->type == QC_ATTR_INTS) {
        p->n_ints = a->n;
        p->ints = (int64_t *)(uintptr_t)a->ints;
    } else if (a->type == QC_ATTR_STRINGS) {
        p->n_strings = a->n;
        QD_TRY(qd_arena_array(arena, a->n, sizeof(*p->strings), &p->strings, err));
        for (size_t i = 0; i < a->n; i++) {
            p->strings[i] = (ProtobufCBinaryData){a->strings[i].size,
                                                  (uint8_t *)(uintptr_t)a->strings[i].data};
        }
    }
    return QD_OK;
}

enum qd_code qc_onnx_attrs_export(const struct qc_node *node, struct qd_arena *arena,
                                  Onnx__NodeProto *proto, struct qd_error *err)
{
    size_t n = (size_t)node->n_attrs;
    Onnx__AttributeProto *attrs;
    QD_TRY(qd_arena_array(arena, n, sizeof(*attrs), &attrs, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*proto->attribute), &proto->attribute, err));
    for (size_t i = 0; i < n; i++) {
        if (strncmp(node->attrs[i].name, "quantd_", 7) == 0) {
            continue; /* notes between passes */
        }
        Onnx__AttributeProto *p = &attrs[proto->n_attribute];
        QD_TRY(export_one(&node->attrs[i], arena, p, err));
        proto->attribute[proto->n_attribute++] = p;
    }
    return QD_OK;
}

enum qd_code qc_onnx_attrs_drop(struct qd_arena *arena, struct qc_node *node, const char *name,
                                struct qd_error *err)
{
    if (qc_node_attr(node, name) == NULL) {
        return QD_OK;
    }
    struct qc_attr *attrs;
    int n = 0;
    QD_TRY(qd_arena_array(arena, (size_t)node->n_attrs, sizeof(*attrs), &attrs, err));
    for (int i = 0; i < node->n_attrs; i++) {
        if (strcmp(node->attrs[i].name, name) != 0) {
            attrs[n++] = node->attrs[i];
        }
    }
    node->attrs = attrs;
    node->n_attrs = n;
    return QD_OK;
}

enum qd_code qc_onnx_attrs_set(struct qd_arena *arena, struct qc_node *node, struct qc_attr attr,
                               struct qd_error *err)
{
    struct qc_attr *attrs;
    QD_TRY(qc_onnx_attrs_drop(arena, node, attr.name, err));
    QD_TRY(qd_arena_array(arena, (size_t)node->n_attrs + 1, sizeof(*attrs), &attrs, err));
    for (int i = 0; i < node->n_attrs; i++) {
        attrs[i] = node->attrs[i];
    }
    attrs[node->n_attrs] = attr;
    node->attrs = attrs;
    node->n_attrs++;
    return QD_OK;
}
