#include "quantcore/onnx/onnx_export.h"

#include <math.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_attrs.h"
#include "quantcore/onnx/onnx_names.h"
#include "quantcore/onnx/onnx_proto.h"
#include "quantcore/onnx/onnx_tensor.h"
#include "quantcore/onnx/onnx_upgrade.h"

enum { OLDEST_OPSET = 13, NODES_A_NODE = 5, CONSTANTS_A_NODE = 2 };

struct exporter {
    const struct qc_graph *g;
    int64_t opset;              /* of the default domain, as written */
    struct qd_arena *scratch;   /* of the messages; only the packed bytes outlive the export */
    struct qc_onnx_names values, nodes;
    const char **value_names;   /* by value; NULL: not needed */
    const char **node_names;    /* by node; NULL: not live */
    bool *needed;               /* by value */
    bool *live;                 /* by node */
    Onnx__GraphProto graph;     /* lists have room for everything */
    struct qd_error *err;
};

/* protobuf-c's structs are not const-correct; packing only reads. */
static char *mutable(const char *text)
{
    return (char *)(uintptr_t)text;
}

/* --- opsets ---------------------------------------------------------------------------------- */

/* Inputs that were an attribute of ints below `since`: import's rules of opsets after the oldest
 * one that is written, the other way round. */
static const struct {
    int op, input;
    const char *attr;
    int64_t since;
} moved[] = {
    {QC_OP_REDUCE_MEAN, 1, "axes", 18},
    {QC_OP_REDUCE_MAX, 1, "axes", 18},
    {QC_OP_REDUCE_MIN, 1, "axes", 18},
    {QC_OP_REDUCE_L2, 1, "axes", 18},
};

int64_t qc_onnx_export_opset(const struct qc_graph *g)
{
    int64_t opset = g->opset > g->least_opset ? g->opset : g->least_opset;
    return opset > OLDEST_OPSET ? opset : OLDEST_OPSET;
}

/* The IR version that came with an opset. */
static int64_t ir_of(int64_t opset)
{
    static const struct {
        int64_t opset, ir;
    } releases[] = {{25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9}, {15, 8}};
    for (size_t i = 0; i < QD_COUNT_OF(releases); i++) {
        if (opset >= releases[i].opset) {
            return releases[i].ir;
        }
    }
    return 7;
}

/* The attribute that input i of a node is in the written opset, NULL when it is an input there. */
static const char *attribute_of(const struct exporter *ex, const struct qc_node *n, int i)
{
    for (size_t k = 0; k < QD_COUNT_OF(moved); k++) {
        if (moved[k].op == n->op && moved[k].input == i && ex->opset < moved[k].since) {
            return moved[k].attr;
        }
    }
    return NULL;
}

/* Inputs that are attributes in the written opset become that. Their values are constant: they
 * come from attributes, since no model of a later opset is written in an older one. */
static enum qd_code restore_attributes(struct exporter *ex, struct qc_node *n)
{
    for (int i = 0; i < n->n_inputs; i++) {
        const char *name = attribute_of(ex, n, i);
        const struct qc_tensor *t = qc_node_constant(ex->g, n, i);
        if (name == NULL || n->inputs[i] < 0) {
            continue;
        }
        if (t == NULL || t->dtype != QC_S64) {
            return qd_fail_on(ex->err, QD_INTERNAL, n->name,
                              "node '%s': input %d of %s in opset %lld must be constant s64",
                              n->name, i, n->op_type, (long long)ex->opset);
        }
        struct qc_attr attr = {.name = name, .type = QC_ATTR_INTS, .ints = t->data,
                               .n = qc_shape_elements(&t->shape)};
        QD_TRY(qc_onnx_attrs_set(ex->scratch, n, attr, ex->err));
    }
    return QD_OK;
}

/* --- what is written ------------------------------------------------------------------------- */

/* A constant that may be written as it is: not one that follows the batch. */
static bool is_plain_constant(const struct qc_value *v)
{
    return v->constant != NULL && (v->symbolic_elements == 0 || v->producer < 0);
}

static void mark_live(struct exporter *ex)
{
    const struct qc_graph *g = ex->g;
    for (int i = 0; i < g->n_outputs; i++) {
        ex->needed[g->outputs[i].value] = true;
    }
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct qc_node *n = &g->nodes[i];
        for (int o = 0; o < n->n_outputs; o++) {
            int v = n->outputs[o];
            ex->live[i] |= v >= 0 && ex->needed[v] && !is_plain_constant(&g->values[v]);
        }
        for (int k = 0; ex->live[i] && k < n->n_inputs; k++) {
            if (n->inputs[k] >= 0 && attribute_of(ex, n, k) == NULL) {
                ex->needed[n->inputs[k]] = true;
            }
        }
        for (int o = 0; ex->live[i] && o < n->n_outputs; o++) {
            if (n->outputs[o] >= 0) {
                ex->needed[n->outputs[o]] = true; /* has a name, even when nobody reads it */
            }
        }
    }
}

static enum qd_code name_value(struct exporter *ex, int v)
{
    const char *name = ex->g->values[v].name;
    if (ex->value_names[v] != NULL) {
        return QD_OK;
    }
    if (name == NULL || name[0] == '\0') {
        QD_TRY(qd_arena_printf(ex->scratch, &name, ex->err, "value_%d", v));
    }
    return qc_onnx_names_make(&ex->values, ex->scratch, name, v, &ex->value_names[v], ex->err);
}

/* The names of inputs and outputs are promised to the outside: they come first, and names that
 * the graph has before those that the export makes up. */
static enum qd_code name_all(struct exporter *ex)
{
    const struct qc_graph *g = ex->g;
    for (int i = 0; i < g->n_inputs; i++) {
        QD_TRY(name_value(ex, g->inputs[i].value));
    }
    for (int i = 0; i < g->n_outputs; i++) {
        QD_TRY(name_value(ex, g->outputs[i].value));
    }
    for (int v = 0; v < g->n_values; v++) {
        if (ex->needed[v]) {
            QD_TRY(name_value(ex, v));
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (ex->live[i]) {
            QD_TRY(qc_onnx_names_make(&ex->nodes, ex->scratch, g->nodes[i].name, i,
                                      &ex->node_names[i], ex->err));
        }
    }
    return QD_OK;
}

/* --- nodes ----------------------------------------------------------------------------------- */

static enum qd_code new_value_name(struct exporter *ex, const char *of, const char *what,
                                   const char **ret)
{
    const char *base;
    QD_TRY(qd_arena_printf(ex->scratch, &base, ex->err, "%s_%s", of, what));
    return qc_onnx_names_make(&ex->values, ex->scratch, base, 0, ret, ex->err);
}

/* Append a node of a unique name with room for its inputs and outputs. */
static enum qd_code add_node(struct exporter *ex, const char *name, const char *op_type, int n_in,
                             int n_out, Onnx__NodeProto **ret)
{
    Onnx__NodeProto *p;
    QD_TRY(qd_arena_alloc(ex->scratch, sizeof(*p), &p, ex->err));
    onnx__node_proto__init(p);
    p->name = mutable(name);
    p->op_type = mutable(op_type);
    p->n_input = (size_t)n_in;
    p->n_output = (size_t)n_out;
    QD_TRY(qd_arena_array(ex->scratch, p->n_input, sizeof(char *), &p->input, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, p->n_output, sizeof(char *), &p->output, ex->err));
    ex->graph.node[ex->graph.n_node++] = p;
    *ret = p;
    return QD_OK;
}

/* Append a node called <of>_<op_type>, an addition of the export. */
static enum qd_code add_extra(struct exporter *ex, const char *of, const char *op_type, int n_in,
                              Onnx__NodeProto **ret)
{
    const char *base, *name;
    QD_TRY(qd_arena_printf(ex->scratch, &base, ex->err, "%s_%s", of, op_type));
    QD_TRY(qc_onnx_names_make(&ex->nodes, ex->scratch, base, 0, &name, ex->err));
    return add_node(ex, name, op_type, n_in, 1, ret);
}

static enum qd_code add_int_attr(struct exporter *ex, Onnx__NodeProto *p, const char *name,
                                 int64_t v)
{
    struct qc_attr attr = {.name = name, .type = QC_ATTR_INT, .i = v};
    struct qc_node node = {.n_attrs = 1, .attrs = &attr};
    return qc_onnx_attrs_export(&node, ex->scratch, p, ex->err);
}

/* A node of one input and one output between two names; *ret_out is made up when it is NULL. */
static enum qd_code add_step(struct exporter *ex, const char *op_type, const char *node,
                             const char *in, const char **ret_out, Onnx__NodeProto **ret)
{
    if (*ret_out == NULL) {
        QD_TRY(new_value_name(ex, node, op_type, ret_out));
    }
    QD_TRY(add_extra(ex, node, op_type, 1, ret));
    (*ret)->input[0] = mutable(in);
    (*ret)->output[0] = mutable(*ret_out);
    return QD_OK;
}

/* The Softmax of opset < 13 over all dims from `axis` on, whatever the batch is. */
static enum qd_code export_flat_softmax(struct exporter *ex, const struct qc_node *n,
                                        const char *name)
{
    const char *x = ex->value_names[n->inputs[0]], *y = ex->value_names[n->outputs[0]];
    const char *shape = NULL, *flat = NULL, *result = NULL;
    Onnx__NodeProto *p;
    QD_TRY(add_step(ex, "Shape", n->name, x, &shape, &p));
    QD_TRY(add_step(ex, "Flatten", n->name, x, &flat, &p));
    QD_TRY(add_int_attr(ex, p, "axis", qc_node_int(n, "axis", 1)));
    QD_TRY(new_value_name(ex, n->name, "flat_result", &result));
    QD_TRY(add_node(ex, name, n->op_type, 1, 1, &p));
    p->input[0] = mutable(flat);
    p->output[0] = mutable(result);
    QD_TRY(add_int_attr(ex, p, "axis", -1));
    QD_TRY(add_extra(ex, n->name, "Reshape", 2, &p));
    p->input[0] = mutable(result);
    p->input[1] = mutable(shape);
    p->output[0] = mutable(y);
    return QD_OK;
}

static bool is_flat_softmax(const struct qc_graph *g, const struct qc_node *n)
{
    if ((n->op != QC_OP_SOFTMAX && n->op != QC_OP_LOG_SOFTMAX) ||
        qc_node_int(n, QC_ONNX_FLATTEN, 0) == 0) {
        return false;
    }
    const struct qc_value *x = &g->values[n->inputs[0]];
    int64_t axis = qc_node_int(n, "axis", 1);
    return !x->shape_known || (axis != x->shape.rank - 1 && axis != -1);
}

static enum qd_code add_bound(struct exporter *ex, const char *name, float bound, char **ret)
{
    struct qc_tensor *t;
    struct qc_shape scalar = {0};
    const char *unique;
    Onnx__TensorProto *p;
    *ret = mutable("");
    if (isinf(bound)) {
        return QD_OK;
    }
    QD_TRY(qc_tensor_new(ex->scratch, QC_F32, &scalar, &t, ex->err));
    memcpy(t->data, &bound, sizeof(bound));
    QD_TRY(new_value_name(ex, name, "bound", &unique));
    QD_TRY(qc_onnx_tensor_export(t, unique, ex->scratch, &p, ex->err));
    ex->graph.initializer[ex->graph.n_initializer++] = p;
    *ret = mutable(unique);
    return QD_OK;
}

static bool has_clamp(const struct qc_clamp *c)
{
    return c->present && !(isinf(c->lo) && c->lo < 0 && isinf(c->hi) && c->hi > 0);
}

/* The node's own result got the name `from`; the clamped one keeps the value's. */
static enum qd_code export_clamp(struct exporter *ex, const struct qc_node *n, const char *from)
{
    const struct qc_value *y = &ex->g->values[n->outputs[0]];
    const char *out = ex->value_names[n->outputs[0]];
    Onnx__NodeProto *p;
    if (y->dtype != QC_F32 && y->dtype != QC_UNKNOWN) {
        return qd_fail_on(ex->err, QD_INTERNAL, n->name,
                          "node '%s': a clamp of %s cannot be exported", n->name,
                          qc_dtype_name(y->dtype));
    }
    if (n->clamp.lo == 0.0f && isinf(n->clamp.hi)) {
        return add_step(ex, "Relu", n->name, from, &out, &p);
    }
    char *lo, *hi;
    QD_TRY(add_bound(ex, n->name, n->clamp.lo, &lo));
    QD_TRY(add_bound(ex, n->name, n->clamp.hi, &hi));
    QD_TRY(add_extra(ex, n->name, "Clip", hi[0] != '\0' ? 3 : 2, &p));
    p->input[0] = mutable(from);
    p->input[1] = lo;
    if (p->n_input == 3) {
        p->input[2] = hi;
    }
    p->output[0] = mutable(out);
    return QD_OK;
}

static enum qd_code export_node(struct exporter *ex, const struct qc_node *n, const char *name)
{
    Onnx__NodeProto *p;
    if (n->op < 0 || n->op >= QC_OP_COUNT || (qc_op_rows[n->op].flags & QC_IS_INTERNAL) != 0) {
        return qd_fail_on(ex->err, QD_INTERNAL, n->name, "node '%s': %s cannot be exported",
                          n->name, n->op_type);
    }
    if (is_flat_softmax(ex->g, n)) {
        return export_flat_softmax(ex, n, name);
    }
    struct qc_node written = *n;
    QD_TRY(restore_attributes(ex, &written));
    int n_in = n->n_inputs;
    while (n_in > 0 && (n->inputs[n_in - 1] < 0 || attribute_of(ex, n, n_in - 1) != NULL)) {
        n_in--;
    }
    /* BatchNormalization's others are of training: nobody reads them, opset 14 forbids them. */
    int n_out = n->op == QC_OP_BATCH_NORMALIZATION ? 1 : n->n_outputs;
    QD_TRY(add_node(ex, name, n->op_type, n_in, n_out, &p));
    p->domain = n->domain != NULL && n->domain[0] != '\0' ? mutable(n->domain) : NULL;
    p->doc_string = mutable(n->doc_string);
    for (int i = 0; i < n_in; i++) {
        p->input[i] = mutable(n->inputs[i] >= 0 ? ex->value_names[n->inputs[i]] : "");
    }
    for (int i = 0; i < n_out; i++) {
        p->output[i] = mutable(n->outputs[i] >= 0 ? ex->value_names[n->outputs[i]] : "");
    }
    QD_TRY(qc_onnx_attrs_export(&written, ex->scratch, p, ex->err));
    QD_TRY(qc_onnx_attach(ex->scratch, n->unknown, &p->base, ex->err));
    if (!has_clamp(&n->clamp)) {
        return QD_OK;
    }
    const char *before;
    QD_TRY(new_value_name(ex, ex->value_names[n->outputs[0]], "unclamped", &before));
    p->output[0] = mutable(before);
    return export_clamp(ex, n, before);
}

static enum qd_code export_nodes(struct exporter *ex)
{
    const struct qc_graph *g = ex->g;
    size_t n = (size_t)g->n_nodes;
    Onnx__GraphProto *out = &ex->graph;
    QD_TRY(qd_arena_array(ex->scratch, n * NODES_A_NODE, sizeof(*out->node), &out->node, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, (size_t)g->n_values + n * CONSTANTS_A_NODE,
                          sizeof(*out->initializer), &out->initializer, ex->err));
    for (int v = 0; v < g->n_values; v++) {
        const struct qc_value *value = &g->values[v];
        bool made = value->producer >= 0 && ex->live[value->producer];
        if (ex->needed[v] && value->constant != NULL && !made) {
            QD_TRY(qc_onnx_tensor_export(value->constant, ex->value_names[v], ex->scratch,
                                         &out->initializer[out->n_initializer], ex->err));
            out->n_initializer++;
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (ex->live[i]) {
            QD_TRY(export_node(ex, &g->nodes[i], ex->node_names[i]));
        }
    }
    return QD_OK;
}

/* --- inputs, outputs, header ----------------------------------------------------------------- */

static enum qd_code export_dims(struct exporter *ex, const struct qc_io *io, bool is_output,
                                Onnx__TensorShapeProto **ret)
{
    const struct qc_value *v = &ex->g->values[io->value];
    bool inferred = is_output && !io->has_shape && v->shape_known;
    Onnx__TensorShapeProto *shape;
    Onnx__TensorShapeProto__Dimension *d;
    if (!io->has_shape && !inferred) {
        return QD_OK;
    }
    size_t rank = (size_t)(inferred ? v->shape.rank : io->rank);
    QD_TRY(qd_arena_alloc(ex->scratch, sizeof(*shape), &shape, ex->err));
    onnx__tensor_shape_proto__init(shape);
    QD_TRY(qd_arena_array(ex->scratch, rank, sizeof(*d), &d, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, rank, sizeof(*shape->dim), &shape->dim, ex->err));
    for (size_t i = 0; i < rank; i++, d++) {
        onnx__tensor_shape_proto__dimension__init(d);
        bool follows_batch = (v->symbolic_dims >> i & 1) != 0;
        int64_t dim = !inferred ? io->dim[i] : follows_batch ? -1 : v->shape.dim[i];
        if (dim >= 0) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = dim;
        } else if (!inferred && io->dim_param[i] != NULL) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = mutable(io->dim_param[i]);
        }
        shape->dim[i] = d;
    }
    shape->n_dim = rank;
    *ret = shape;
    return QD_OK;
}

static enum qd_code export_io(struct exporter *ex, const struct qc_io *io, bool is_output,
                              Onnx__ValueInfoProto **ret)
{
    struct {
        Onnx__ValueInfoProto info;
        Onnx__TypeProto type;
        Onnx__TypeProto__Tensor tensor;
    } *p;
    QD_TRY(qd_arena_alloc(ex->scratch, sizeof(*p), &p, ex->err));
    onnx__value_info_proto__init(&p->info);
    onnx__type_proto__init(&p->type);
    onnx__type_proto__tensor__init(&p->tensor);
    p->info.name = mutable(ex->value_names[io->value]);
    p->info.doc_string = mutable(io->doc_string);
    p->info.type = &p->type;
    p->type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    p->type.tensor_type = &p->tensor;
    p->tensor.elem_type = qc_onnx_data_type(ex->g->values[io->value].dtype);
    p->tensor.has_elem_type = p->tensor.elem_type != 0;
    QD_TRY(export_dims(ex, io, is_output, &p->tensor.shape));
    *ret = &p->info;
    return QD_OK;
}

static enum qd_code export_ios(struct exporter *ex)
{
    const struct qc_graph *g = ex->g;
    Onnx__GraphProto *out = &ex->graph;
    out->n_input = (size_t)g->n_inputs;
    out->n_output = (size_t)g->n_outputs;
    QD_TRY(qd_arena_array(ex->scratch, out->n_input, sizeof(*out->input), &out->input, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, out->n_output, sizeof(*out->output), &out->output,
                          ex->err));
    for (int i = 0; i < g->n_inputs; i++) {
        QD_TRY(export_io(ex, &g->inputs[i], false, &out->input[i]));
    }
    for (int i = 0; i < g->n_outputs; i++) {
        QD_TRY(export_io(ex, &g->outputs[i], true, &out->output[i]));
    }
    return QD_OK;
}

static enum qd_code export_opsets(struct exporter *ex, Onnx__ModelProto *m)
{
    const struct qc_graph *g = ex->g;
    size_t room = (size_t)g->n_opsets + 1;
    Onnx__OperatorSetIdProto *list;
    QD_TRY(qd_arena_array(ex->scratch, room, sizeof(*list), &list, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, room, sizeof(*m->opset_import), &m->opset_import, ex->err));
    for (int i = -1; i < g->n_opsets; i++) {
        const char *domain = i < 0 ? "" : g->opsets[i].domain;
        if (i >= 0 && (domain[0] == '\0' || strcmp(domain, "quantd") == 0)) {
            continue;
        }
        onnx__operator_set_id_proto__init(list);
        list->domain = mutable(domain);
        list->has_version = 1;
        list->version = i < 0 ? ex->opset : g->opsets[i].version;
        m->opset_import[m->n_opset_import++] = list++;
    }
    return QD_OK;
}

static enum qd_code export_metadata(struct exporter *ex, Onnx__ModelProto *m)
{
    size_t n = (size_t)ex->g->n_metadata;
    Onnx__StringStringEntryProto *list;
    QD_TRY(qd_arena_array(ex->scratch, n, sizeof(*list), &list, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, n, sizeof(*m->metadata_props), &m->metadata_props,
                          ex->err));
    for (size_t i = 0; i < n; i++) {
        onnx__string_string_entry_proto__init(&list[i]);
        list[i].key = mutable(ex->g->metadata[2 * i]);
        list[i].value = mutable(ex->g->metadata[2 * i + 1]);
        m->metadata_props[i] = &list[i];
    }
    m->n_metadata_props = n;
    return QD_OK;
}

static enum qd_code export_model(struct exporter *ex, struct qd_arena *arena,
                                 struct qd_bytes *ret)
{
    const struct qc_graph *g = ex->g;
    Onnx__ModelProto m;
    onnx__model_proto__init(&m);
    int64_t ir = ir_of(ex->opset);
    m.has_ir_version = 1;
    m.ir_version = g->ir_version > ir ? g->ir_version : ir;
    m.has_model_version = g->model_version != 0;
    m.model_version = g->model_version;
    m.producer_name = mutable(g->producer_name);
    m.producer_version = mutable(g->producer_version);
    m.domain = mutable(g->model_domain);
    m.doc_string = mutable(g->model_doc_string);
    ex->graph.name = mutable(g->name != NULL && g->name[0] != '\0' ? g->name : "graph");
    ex->graph.doc_string = mutable(g->doc_string);
    m.graph = &ex->graph;
    QD_TRY(export_nodes(ex));
    QD_TRY(export_ios(ex));
    QD_TRY(export_opsets(ex, &m));
    QD_TRY(export_metadata(ex, &m));
    QD_TRY(qc_onnx_attach(ex->scratch, g->unknown_graph, &ex->graph.base, ex->err));
    QD_TRY(qc_onnx_attach(ex->scratch, g->unknown_model, &m.base, ex->err));
    return qc_onnx_pack(arena, &m.base, ret, ex->err);
}

static enum qd_code export_graph(struct exporter *ex, struct qd_arena *arena,
                                 struct qd_bytes *ret)
{
    size_t n_values = (size_t)ex->g->n_values, n_nodes = (size_t)ex->g->n_nodes;
    onnx__graph_proto__init(&ex->graph);
    QD_TRY(qd_arena_array(ex->scratch, n_values, sizeof(*ex->value_names), &ex->value_names,
                          ex->err));
    QD_TRY(qd_arena_array(ex->scratch, n_values, sizeof(*ex->needed), &ex->needed, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, n_nodes, sizeof(*ex->live), &ex->live, ex->err));
    QD_TRY(qd_arena_array(ex->scratch, n_nodes, sizeof(*ex->node_names), &ex->node_names,
                          ex->err));
    mark_live(ex);
    QD_TRY(name_all(ex));
    return export_model(ex, arena, ret);
}

enum qd_code qc_onnx_export(const struct qc_graph *g, struct qd_arena *arena, struct qd_bytes *ret,
                            struct qd_error *err)
{
    struct qd_arena scratch;
    qd_arena_init(&scratch, 0);
    struct exporter ex = {.g = g, .opset = qc_onnx_export_opset(g), .scratch = &scratch, .err = err, .values.arena = &scratch,
                          .nodes.arena = &scratch};
    enum qd_code code = export_graph(&ex, arena, ret);
    if (code != QD_OK) {
        qd_wrap(err, code, "export");
    }
    qd_arena_done(&scratch);
    return code;
}
