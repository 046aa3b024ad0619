#include "quantcore/onnx/onnx_import.h"

#include <stdio.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_attrs.h"
#include "quantcore/onnx/onnx_names.h"
#include "quantcore/onnx/onnx_proto.h"
#include "quantcore/onnx/onnx_scan.h"
#include "quantcore/onnx/onnx_tensor.h"
#include "quantcore/onnx/onnx_upgrade.h"

struct importer {
    const Onnx__ModelProto *model;
    const Onnx__GraphProto *in;
    struct qd_arena *arena;       /* of the graph */
    struct qd_arena *scratch;     /* gone after the import */
    struct qc_graph *g;
    struct qc_onnx_names values, nodes;
    struct qc_external_use external;
    const char **node_names;      /* by index in the model */
    size_t *order;                /* indices in the model, in topological order */
    size_t n_order;
    int *ranks;                   /* by value */
    struct qd_error *err;
};

static bool is_default_domain(const char *domain)
{
    return domain == NULL || domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0;
}

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

/* Copy into the arena; NULL stays NULL. */
static enum qd_code copy_text(struct importer *im, const char *from, const char **ret)
{
    if (from == NULL) {
        *ret = NULL;
        return QD_OK;
    }
    return qd_arena_string(im->arena, from, strlen(from), ret, im->err);
}

/* --- header ---------------------------------------------------------------------------------- */

static enum qd_code import_opsets(struct importer *im)
{
    const Onnx__ModelProto *m = im->model;
    struct qc_opset *opsets;
    int n = 0;
    bool found = false;
    QD_TRY(qd_arena_array(im->arena, m->n_opset_import, sizeof(*opsets), &opsets, im->err));
    for (size_t i = 0; i < m->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *o = m->opset_import[i];
        bool own = is_default_domain(o->domain);
        if (own && found && im->g->opset != o->version) {
            return qd_fail(im->err, QD_INVALID,
                           "the model imports opsets %lld and %lld of domain 'ai.onnx'",
                           (long long)im->g->opset, (long long)o->version);
        }
        if (own && found) {
            continue;
        }
        if (own) {
            found = true;
            im->g->opset = o->version;
        }
        opsets[n].version = o->version;
        QD_TRY(copy_text(im, own ? "" : o->domain, &opsets[n].domain));
        n++;
    }
    im->g->opsets = opsets;
    im->g->n_opsets = n;
    if (!found) {
        return qd_fail(im->err, QD_INVALID, "the model imports no opset of domain 'ai.onnx'");
    }
    if (im->g->opset < QC_OPSET_MIN || im->g->opset > QC_OPSET_MAX) {
        return qd_fail(im->err, QD_UNSUPPORTED,
                       "opset %lld of domain 'ai.onnx' is not supported: %d to %d are",
                       (long long)im->g->opset, QC_OPSET_MIN, QC_OPSET_MAX);
    }
    return QD_OK;
}

static enum qd_code import_metadata(struct importer *im)
{
    const Onnx__ModelProto *m = im->model;
    const char **list;
    QD_TRY(qd_arena_array(im->arena, m->n_metadata_props, 2 * sizeof(*list), &list, im->err));
    for (size_t i = 0; i < m->n_metadata_props; i++) {
        QD_TRY(copy_text(im, or_empty(m->metadata_props[i]->key), &list[2 * i]));
        QD_TRY(copy_text(im, or_empty(m->metadata_props[i]->value), &list[2 * i + 1]));
    }
    im->g->metadata = list;
    im->g->n_metadata = (int)m->n_metadata_props;
    return QD_OK;
}

/* What is left of a message when all that the graph holds is taken out of a shallow copy:
 * fields of later ONNX versions, known to the installed .proto or not. */
static enum qd_code keep_unknown(struct importer *im)
{
    Onnx__ModelProto m = *im->model;
    m.has_ir_version = m.has_model_version = 0;
    m.n_opset_import = m.n_metadata_props = m.n_training_info = m.n_functions = 0;
    m.producer_name = m.producer_version = m.domain = m.doc_string = NULL;
    m.graph = NULL;
    QD_TRY(qc_onnx_pack(im->arena, &m.base, &im->g->unknown_model, im->err));
    Onnx__GraphProto g = *im->in;
    g.n_node = g.n_initializer = g.n_sparse_initializer = 0;
    g.n_input = g.n_output = g.n_value_info = g.n_quantization_annotation = 0;
    g.name = g.doc_string = NULL;
    return qc_onnx_pack(im->arena, &g.base, &im->g->unknown_graph, im->err);
}

static enum qd_code import_header(struct importer *im)
{
    const Onnx__ModelProto *m = im->model;
    struct qc_graph *g = im->g;
    if (!m->has_ir_version || m->ir_version < 1) {
        return qd_fail(im->err, QD_INVALID, "not an ONNX model: it has no ir_version");
    }
    if (im->in == NULL) {
        return qd_fail(im->err, QD_INVALID, "the model has no graph");
    }
    if (m->n_functions > 0) {
        return qd_fail(im->err, QD_UNSUPPORTED, "the model defines the local function '%s', "
                       "which is not supported", or_empty(m->functions[0]->name));
    }
    if (im->in->n_sparse_initializer > 0) {
        return qd_fail(im->err, QD_UNSUPPORTED, "sparse initializers are not supported");
    }
    g->ir_version = m->ir_version;
    g->model_version = m->model_version;
    QD_TRY(copy_text(im, or_empty(im->in->name), &g->name));
    QD_TRY(copy_text(im, im->in->doc_string, &g->doc_string));
    QD_TRY(copy_text(im, m->producer_name, &g->producer_name));
    QD_TRY(copy_text(im, m->producer_version, &g->producer_version));
    QD_TRY(copy_text(im, m->domain, &g->model_domain));
    QD_TRY(copy_text(im, m->doc_string, &g->model_doc_string));
    QD_TRY(import_opsets(im));
    QD_TRY(import_metadata(im));
    return keep_unknown(im);
}

/* --- values ---------------------------------------------------------------------------------- */

/* A new name; a taken one is two definitions of a value. */
static enum qd_code define(struct importer *im, const char *what, const char *name,
                           const char **ret)
{
    if (name == NULL || name[0] == '\0') {
        return qd_fail(im->err, QD_INVALID, "an %s has no name", what);
    }
    if (qc_onnx_names_find(&im->values, name) >= 0) {
        return qd_fail_on(im->err, QD_INVALID, name,
                          "value '%s' is defined twice, the second time as %s", name, what);
    }
    QD_TRY(copy_text(im, name, ret));
    return qc_onnx_names_add(&im->values, *ret, im->g->n_values, im->err);
}

static enum qd_code import_initializers(struct importer *im)
{
    for (size_t i = 0; i < im->in->n_initializer; i++) {
        const Onnx__TensorProto *t = im->in->initializer[i];
        struct qc_tensor *tensor;
        const char *name;
        int value;
        QD_TRY(define(im, "initializer", t->name, &name));
        QD_TRY(qc_onnx_tensor_import(t, "initializer", &im->external, im->arena, &tensor,
                                     im->err));
        QD_TRY(qc_graph_add_constant(im->g, name, tensor, &value, im->err));
    }
    return qc_onnx_external_check_used(&im->external, im->err);
}

static enum qd_code import_dim(struct importer *im, const Onnx__TensorShapeProto__Dimension *d,
                               const char *name, int i, struct qc_io *io)
{
    io->dim[i] = -1;
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM) {
        bool anonymous = d->dim_param == NULL || d->dim_param[0] == '\0';
        return anonymous ? QD_OK : copy_text(im, d->dim_param, &io->dim_param[i]);
    }
    if (d->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
        return QD_OK;
    }
    if (d->dim_value < -1) { /* -1: written by some exporters for an open dim */
        return qd_fail_on(im->err, QD_INVALID, name, "value '%s': dim %d is %lld", name, i,
                          (long long)d->dim_value);
    }
    io->dim[i] = d->dim_value;
    return QD_OK;
}

/* Declared shape and type of an input or output. */
static enum qd_code import_io(struct importer *im, const Onnx__ValueInfoProto *v,
                              struct qc_io *io, enum qc_dtype *ret_dtype)
{
    const char *name = or_empty(v->name);
    QD_TRY(copy_text(im, v->doc_string, &io->doc_string));
    *ret_dtype = QC_UNKNOWN;
    if (v->type == NULL || v->type->value_case == ONNX__TYPE_PROTO__VALUE__NOT_SET) {
        return QD_OK;
    }
    if (v->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        return qd_fail_on(im->err, QD_UNSUPPORTED, name,
                          "value '%s' is not a tensor: sequences, maps, optional and sparse values "
                          "are not supported", name);
    }
    const Onnx__TypeProto__Tensor *t = v->type->tensor_type;
    *ret_dtype = qc_onnx_dtype(t->elem_type);
    if (t->elem_type != 0 && (*ret_dtype == QC_UNKNOWN || *ret_dtype == QC_STRING)) {
        return qd_fail_on(im->err, QD_UNSUPPORTED, name,
                          "value '%s' has data type %d (%s), which is not supported", name,
                          t->elem_type, qc_onnx_data_type_name(t->elem_type));
    }
    io->has_shape = t->shape != NULL;
    io->rank = io->has_shape ? (int)t->shape->n_dim : 0; /* scanned: at most QC_MAX_RANK */
    for (int i = 0; i < io->rank; i++) {
        QD_TRY(import_dim(im, t->shape->dim[i], name, i, io));
    }
    return QD_OK;
}

static enum qd_code check_io_count(struct importer *im, const char *what, size_t n)
{
    return n <= QC_ONNX_MAX_IO
               ? QD_OK
               : qd_fail(im->err, QD_LIMIT_EXCEEDED, "the graph has %zu %s, the limit is %d", n,
                         what, QC_ONNX_MAX_IO);
}

static enum qd_code import_inputs(struct importer *im)
{
    const Onnx__GraphProto *in = im->in;
    struct qc_graph *g = im->g;
    size_t real = 0;
    for (size_t i = 0; i < in->n_input; i++) {
        int value = qc_onnx_names_find(&im->values, or_empty(in->input[i]->name));
        real += value < 0;
    }
    QD_TRY(check_io_count(im, "inputs", real));
    QD_TRY(qd_arena_array(im->arena, real, sizeof(*g->inputs), &g->inputs, im->err));
    for (size_t i = 0; i < in->n_input; i++) {
        const Onnx__ValueInfoProto *v = in->input[i];
        int known = qc_onnx_names_find(&im->values, or_empty(v->name));
        if (known >= 0 && g->values[known].constant != NULL) {
            continue; /* an initializer's default, never overridden by quantd */
        }
        struct qc_io *io = &g->inputs[g->n_inputs];
        enum qc_dtype dtype;
        const char *name;
        QD_TRY(define(im, "input", v->name, &name));
        QD_TRY(qc_graph_add_value(g, name, &io->value, im->err));
        QD_TRY(import_io(im, v, io, &dtype));
        if (dtype == QC_UNKNOWN) {
            return qd_fail_on(im->err, QD_INVALID, name, "input '%s' has no data type", name);
        }
        g->values[io->value].dtype = dtype;
        g->n_inputs++;
    }
    return QD_OK;
}

/* Names in messages; made up like the graph's when the model has none. */
static enum qd_code name_nodes(struct importer *im)
{
    const Onnx__GraphProto *in = im->in;
    QD_TRY(qd_arena_array(im->scratch, in->n_node, sizeof(*im->node_names), &im->node_names,
                          im->err));
    for (size_t pass = 0; pass < 2; pass++) { /* given names first: they stay as they are */
        for (size_t i = 0; i < in->n_node; i++) {
            const char *name = or_empty(in->node[i]->name);
            if ((name[0] != '\0') != (pass == 0)) {
                continue;
            }
            if (pass == 1) {
                QD_TRY(qd_arena_printf(im->scratch, &name, im->err, "%s_%zu",
                                       or_empty(in->node[i]->op_type), i));
            }
            QD_TRY(qc_onnx_names_make(&im->nodes, im->arena, name, 0, &im->node_names[i],
                                      im->err));
        }
    }
    return QD_OK;
}

static enum qd_code define_node_outputs(struct importer *im)
{
    for (size_t i = 0; i < im->in->n_node; i++) {
        const Onnx__NodeProto *n = im->in->node[i];
        for (size_t o = 0; o < n->n_output; o++) {
            const char *name;
            int value;
            if (n->output[o][0] == '\0') {
                continue; /* optional, not wanted */
            }
            enum qd_code code = define(im, "output", n->output[o], &name);
            if (code != QD_OK) {
                return qd_wrap(im->err, code, "node '%s'", im->node_names[i]);
            }
            QD_TRY(qc_graph_add_value(im->g, name, &value, im->err));
            im->g->values[value].producer = (int)i; /* in the model's order until linked */
        }
    }
    return QD_OK;
}

static enum qd_code import_outputs(struct importer *im)
{
    const Onnx__GraphProto *in = im->in;
    struct qc_graph *g = im->g;
    if (in->n_output == 0) {
        return qd_fail(im->err, QD_INVALID, "the graph has no outputs");
    }
    QD_TRY(check_io_count(im, "outputs", in->n_output));
    QD_TRY(qd_arena_array(im->arena, in->n_output, sizeof(*g->outputs), &g->outputs, im->err));
    for (size_t i = 0; i < in->n_output; i++) {
        const char *name = or_empty(in->output[i]->name);
        struct qc_io *io = &g->outputs[i];
        enum qc_dtype dtype;
        io->value = qc_onnx_names_find(&im->values, name);
        if (io->value < 0) {
            return qd_fail_on(im->err, QD_INVALID, name,
                              "graph output '%s' is not produced by any node", name);
        }
        for (int k = 0; k < g->n_outputs; k++) {
            if (g->outputs[k].value == io->value) {
                return qd_fail_on(im->err, QD_INVALID, name, "graph output '%s' is listed twice",
                                  name);
            }
        }
        QD_TRY(import_io(im, in->output[i], io, &dtype));
        if (g->values[io->value].dtype == QC_UNKNOWN) {
            g->values[io->value].dtype = dtype;
        }
        g->n_outputs++;
    }
    return QD_OK;
}

/* --- order ----------------------------------------------------------------------------------- */

struct visit {
    size_t node, next; /* next input to look at */
};

enum { UNSEEN, OPEN, DONE };

/* Depth first from one node: producers are placed before it. Sorted models keep their order. */
static enum qd_code place_node(struct importer *im, struct visit *stack, uint8_t *state,
                               size_t first)
{
    size_t depth = 1;
    stack[0] = (struct visit){first, 0};
    state[first] = OPEN;
    while (depth > 0) {
        struct visit *top = &stack[depth - 1];
        const Onnx__NodeProto *n = im->in->node[top->node];
        if (top->next == n->n_input) {
            state[top->node] = DONE;
            im->order[im->n_order++] = top->node;
            depth--;
            continue;
        }
        const char *input = n->input[top->next++];
        int value = qc_onnx_names_find(&im->values, input);
        if (input[0] != '\0' && value < 0) {
            return qd_fail_on(im->err, QD_INVALID, im->node_names[top->node],
                              "node '%s': input '%s' is not defined", im->node_names[top->node],
                              input);
        }
        int producer = value >= 0 ? im->g->values[value].producer : -1;
        if (producer < 0 || state[producer] == DONE) {
            continue;
        }
        if (state[producer] == OPEN) {
            return qd_fail_on(im->err, QD_INVALID, im->node_names[top->node],
                              "node '%s' depends on its own output, through input '%s'",
                              im->node_names[top->node], input);
        }
        state[producer] = OPEN;
        stack[depth++] = (struct visit){(size_t)producer, 0};
    }
    return QD_OK;
}

static enum qd_code sort_nodes(struct importer *im)
{
    size_t n = im->in->n_node;
    struct visit *stack;
    uint8_t *state;
    QD_TRY(qd_arena_array(im->scratch, n, sizeof(*stack), &stack, im->err));
    QD_TRY(qd_arena_array(im->scratch, n, sizeof(*state), &state, im->err));
    QD_TRY(qd_arena_array(im->scratch, n, sizeof(*im->order), &im->order, im->err));
    for (size_t i = 0; i < n; i++) {
        if (state[i] == UNSEEN) {
            QD_TRY(place_node(im, stack, state, i));
        }
    }
    return QD_OK;
}

/* --- nodes ----------------------------------------------------------------------------------- */

/* Number of names without the absent ones at the end. */
static size_t trim(char *const *names, size_t n)
{
    while (n > 0 && names[n - 1][0] == '\0') {
        n--;
    }
    return n;
}

static enum qd_code find_op(struct importer *im, const Onnx__NodeProto *n, int *ret_op)
{
    bool own = is_default_domain(n->domain);
    int op = qc_op_find(or_empty(n->op_type), own ? "" : n->domain);
    int since = op >= 0 ? qc_op_rows[op].since : 0;
    if (op < 0 || (own && since > im->g->opset) ||
        (op == QC_OP_UPSAMPLE && im->g->opset >= 10)) {
        int64_t opset = own ? im->g->opset : 0;
        for (int i = 0; !own && i < im->g->n_opsets; i++) {
            if (strcmp(im->g->opsets[i].domain, n->domain) == 0) {
                opset = im->g->opsets[i].version;
            }
        }
        return qd_fail(im->err, QD_UNSUPPORTED,
                       "operator %s of domain '%s' in opset %lld is not supported",
                       or_empty(n->op_type), own ? "ai.onnx" : n->domain, (long long)opset);
    }
    *ret_op = op;
    return QD_OK;
}

static enum qd_code check_arity(struct importer *im, const struct qc_op_row *row, const int *in,
                                size_t n_in, size_t n_out)
{
    bool missing = n_in < (size_t)row->min_inputs;
    for (int i = 0; !missing && i < row->min_inputs; i++) {
        missing = in[i] < 0;
    }
    if (missing || n_in > (size_t)row->max_inputs) {
        return qd_fail(im->err, QD_INVALID, "%s has %zu inputs%s, it takes %d to %d", row->type,
                       n_in, missing ? ", a required one is missing" : "", row->min_inputs,
                       row->max_inputs);
    }
    if (n_out == 0 || n_out > (size_t)row->max_outputs) {
        return qd_fail(im->err, QD_INVALID, "%s has %zu outputs, it gives 1 to %d", row->type,
                       n_out, row->max_outputs);
    }
    return QD_OK;
}

static enum qd_code keep_unknown_of_node(struct importer *im, const Onnx__NodeProto *proto,
                                         struct qc_node *node)
{
    Onnx__NodeProto rest = *proto;
    rest.n_input = rest.n_output = rest.n_attribute = 0;
    rest.name = rest.op_type = rest.domain = rest.doc_string = NULL;
    QD_TRY(copy_text(im, proto->doc_string, &node->doc_string));
    return protobuf_c_message_get_packed_size(&rest.base) == 0
               ? QD_OK
               : qc_onnx_pack(im->arena, &rest.base, &node->unknown, im->err);
}

static enum qd_code import_node(struct importer *im, struct qc_onnx_upgrade *up,
                                const Onnx__NodeProto *proto, const char *name)
{
    int op = -1;
    size_t n_in = trim(proto->input, proto->n_input);
    size_t n_out = trim(proto->output, proto->n_output);
    int *inputs;
    struct qc_node *node;
    QD_TRY(find_op(im, proto, &op));
    QD_TRY(qd_arena_array(im->scratch, n_in, sizeof(*inputs), &inputs, im->err));
    for (size_t i = 0; i < n_in; i++) {
        inputs[i] = qc_onnx_names_find(&im->values, proto->input[i]);
    }
    QD_TRY(check_arity(im, &qc_op_rows[op], inputs, n_in, n_out));
    QD_TRY(qc_graph_add_node(im->g, name, op, (int)n_in, (int)n_out, &node, im->err));
    for (size_t i = 0; i < n_in; i++) {
        node->inputs[i] = inputs[i];
    }
    for (size_t i = 0; i < n_out; i++) {
        node->outputs[i] = qc_onnx_names_find(&im->values, proto->output[i]);
    }
    QD_TRY(qc_onnx_attrs_import(proto, im->arena, node, im->err));
    QD_TRY(keep_unknown_of_node(im, proto, node));
    return qc_onnx_upgrade_node(up, node, im->err);
}

static enum qd_code import_nodes(struct importer *im)
{
    int n_ranks = im->g->n_values;
    struct qc_onnx_upgrade up = {im->g, &im->values, im->g->opset, im->ranks, n_ranks};
    for (size_t i = 0; i < im->n_order; i++) {
        size_t index = im->order[i];
        const char *name = im->node_names[index];
        enum qd_code code = import_node(im, &up, im->in->node[index], name);
        if (code != QD_OK) {
            qd_wrap(im->err, code, "node '%s'", name);
            if (im->err != NULL && im->err->subject[0] == '\0') {
                snprintf(im->err->subject, sizeof(im->err->subject), "%s", name);
            }
            return code;
        }
    }
    return QD_OK;
}

/* Ranks that the model declares, for the rules that depend on one. */
static enum qd_code collect_ranks(struct importer *im)
{
    const Onnx__GraphProto *in = im->in;
    Onnx__ValueInfoProto **const lists[] = {in->input, in->output, in->value_info};
    const size_t sizes[] = {in->n_input, in->n_output, in->n_value_info};
    size_t n = (size_t)im->g->n_values;
    QD_TRY(qd_arena_array(im->scratch, n, sizeof(*im->ranks), &im->ranks, im->err));
    for (size_t i = 0; i < n; i++) {
        const struct qc_value *v = &im->g->values[i];
        im->ranks[i] = v->constant != NULL ? v->constant->shape.rank : -1;
    }
    for (size_t k = 0; k < QD_COUNT_OF(lists); k++) {
        for (size_t i = 0; i < sizes[k]; i++) {
            const Onnx__TypeProto *t = lists[k][i]->type;
            int value = qc_onnx_names_find(&im->values, or_empty(lists[k][i]->name));
            if (value >= 0 && t != NULL &&
                t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE &&
                t->tensor_type->shape != NULL) {
                im->ranks[value] = (int)t->tensor_type->shape->n_dim;
            }
        }
    }
    return QD_OK;
}

static enum qd_code import_graph(struct importer *im)
{
    QD_TRY(import_header(im));
    QD_TRY(import_initializers(im));
    QD_TRY(import_inputs(im));
    QD_TRY(name_nodes(im));
    QD_TRY(define_node_outputs(im));
    QD_TRY(import_outputs(im));
    QD_TRY(collect_ranks(im));
    QD_TRY(sort_nodes(im));
    QD_TRY(import_nodes(im));
    return qc_graph_link(im->g, im->err);
}

enum qd_code qc_onnx_import(struct qd_bytes model, const struct qc_external *external,
                            struct qd_arena *arena, struct qc_graph **ret, struct qd_error *err)
{
    struct qd_arena scratch;
    struct qc_onnx_pool pool = {.limit = QC_ONNX_POOL_LIMIT(model.size)};
    struct importer im = {.arena = arena, .scratch = &scratch, .err = err,
                          .values.arena = &scratch, .nodes.arena = &scratch,
                          .external.external = external};
    ProtobufCMessage *message;
    qd_arena_init(&scratch, pool.limit);
    enum qd_code code = qc_onnx_scan(model, err);
    if (code == QD_OK) {
        code = qc_onnx_unpack(&pool, &onnx__model_proto__descriptor, model, &message, err);
    }
    if (code == QD_OK) {
        im.model = (const Onnx__ModelProto *)(const void *)message;
        im.in = im.model->graph;
        code = qc_graph_new(arena, &im.g, err);
    }
    if (code == QD_OK) {
        code = import_graph(&im);
    }
    if (code == QD_OK) {
        *ret = im.g;
    } else {
        qd_wrap(err, code, "import");
    }
    qd_arena_done(&scratch);
    qc_onnx_pool_done(&pool);
    return code;
}
