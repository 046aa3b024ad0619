/* Builder of small models for the tests of the import, made with protobuf-c's own structs, so
 * that the bytes are another writer's. One test at a time: everything is static storage. */
#ifndef TEST_ONNX_BUILD_H
#define TEST_ONNX_BUILD_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/onnx/onnx_import.h"

enum { MAX = 16 };

/* A model x[N,3] -> … -> y that tests fill in; everything is static storage. */
static struct {
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
    Onnx__OperatorSetIdProto opset, *opsets[1];
    Onnx__NodeProto node[MAX], *nodes[MAX];
    Onnx__AttributeProto attr[MAX], *attrs[MAX][4];
    Onnx__TensorProto tensor[MAX], *tensors[MAX];
    Onnx__ValueInfoProto value[MAX], *inputs[MAX], *outputs[MAX];
    Onnx__TypeProto type[MAX];
    Onnx__TypeProto__Tensor ttype[MAX];
    Onnx__TensorShapeProto shape[MAX];
    Onnx__TensorShapeProto__Dimension dim[MAX][2], *dims[MAX][2];
    char *text[MAX][8];
    size_t n_values, n_attrs;
} b;

static struct qd_arena arena;
static struct qd_error err;
static struct qc_graph *g;

static QD_UNUSED Onnx__ValueInfoProto *add_io(const char *name)
{
    size_t i = b.n_values++;
    onnx__value_info_proto__init(&b.value[i]);
    onnx__type_proto__init(&b.type[i]);
    onnx__type_proto__tensor__init(&b.ttype[i]);
    onnx__tensor_shape_proto__init(&b.shape[i]);
    for (int d = 0; d < 2; d++) {
        onnx__tensor_shape_proto__dimension__init(&b.dim[i][d]);
        b.dims[i][d] = &b.dim[i][d];
    }
    b.dim[i][0].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    b.dim[i][0].dim_param = (char *)"N";
    b.dim[i][1].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    b.dim[i][1].dim_value = 3;
    b.shape[i].n_dim = 2;
    b.shape[i].dim = b.dims[i];
    b.ttype[i].has_elem_type = 1;
    b.ttype[i].elem_type = 1;
    b.ttype[i].shape = &b.shape[i];
    b.type[i].value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    b.type[i].tensor_type = &b.ttype[i];
    b.value[i].name = (char *)name;
    b.value[i].type = &b.type[i];
    return &b.value[i];
}

static QD_UNUSED void add_input(const char *name)
{
    b.inputs[b.graph.n_input++] = add_io(name);
}

static QD_UNUSED void start(int64_t opset)
{
    memset(&b, 0, sizeof(b));
    onnx__model_proto__init(&b.model);
    onnx__graph_proto__init(&b.graph);
    onnx__operator_set_id_proto__init(&b.opset);
    b.opsets[0] = &b.opset;
    b.opset.has_version = 1;
    b.opset.version = opset;
    b.model.has_ir_version = 1;
    b.model.ir_version = 7;
    b.model.n_opset_import = 1;
    b.model.opset_import = b.opsets;
    b.model.graph = &b.graph;
    b.graph.name = (char *)"test";
    b.graph.node = b.nodes;
    b.graph.initializer = b.tensors;
    b.graph.input = b.inputs;
    b.graph.output = b.outputs;
    add_input("x");
    b.outputs[b.graph.n_output++] = add_io("y");
}

/* "Op in1,in2 > out1,out2", names without spaces; "-" is an absent name. */
static QD_UNUSED Onnx__NodeProto *add_node(const char *name, const char *op, const char *spec)
{
    static char copy[MAX][128];
    size_t i = b.graph.n_node++;
    Onnx__NodeProto *n = &b.node[i];
    onnx__node_proto__init(n);
    b.nodes[i] = n;
    n->name = (char *)name;
    n->op_type = (char *)op;
    strcpy(copy[i], spec);
    bool out = false;
    size_t k = 0;
    n->input = b.text[i];
    for (char *t = strtok(copy[i], " "); t != NULL; t = strtok(NULL, " ")) {
        if (strcmp(t, ">") == 0) {
            out = true;
            n->output = &b.text[i][k];
            continue;
        }
        b.text[i][k++] = strcmp(t, "-") == 0 ? (char *)"" : t;
        *(out ? &n->n_output : &n->n_input) += 1;
    }
    n->attribute = b.attrs[i];
    return n;
}

static QD_UNUSED Onnx__AttributeProto *add_attr(Onnx__NodeProto *n, const char *name)
{
    Onnx__AttributeProto *a = &b.attr[b.n_attrs++];
    onnx__attribute_proto__init(a);
    a->name = (char *)name;
    a->has_type = 1;
    n->attribute[n->n_attribute++] = a;
    return a;
}

static QD_UNUSED void add_int(Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->has_i = 1;
    a->i = v;
}

static QD_UNUSED void add_string(Onnx__NodeProto *n, const char *name, const char *text)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
    a->has_s = 1;
    a->s = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static QD_UNUSED void add_float(Onnx__NodeProto *n, const char *name, float v)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    a->has_f = 1;
    a->f = v;
}

static QD_UNUSED void add_ints(Onnx__NodeProto *n, const char *name, int64_t *v, size_t count)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    a->ints = v;
    a->n_ints = count;
}

static QD_UNUSED Onnx__TensorProto *add_initializer(const char *name)
{
    static int64_t dims[1] = {3};
    static float data[3] = {1, 2, 3};
    size_t i = b.graph.n_initializer++;
    Onnx__TensorProto *t = &b.tensor[i];
    onnx__tensor_proto__init(t);
    b.tensors[i] = t;
    t->name = (char *)name;
    t->has_data_type = 1;
    t->data_type = 1;
    t->n_dims = 1;
    t->dims = dims;
    t->n_float_data = 3;
    t->float_data = data;
    return t;
}

static QD_UNUSED enum qd_code import_bytes(struct qd_bytes bytes)
{
    g = NULL;
    memset(&err, 0, sizeof(err));
    return qc_onnx_import(bytes, NULL, &arena, &g, &err);
}

static QD_UNUSED enum qd_code import_built(void)
{
    size_t size = onnx__model_proto__get_packed_size(&b.model);
    uint8_t *data = malloc(size);
    onnx__model_proto__pack(&b.model, data);
    enum qd_code code = import_bytes((struct qd_bytes){data, size});
    free(data); /* the graph borrows nothing */
    return code;
}

static QD_UNUSED void expect(enum qd_code code, const char *part)
{
    ck_assert_msg(import_built() == code, "%s: %s", qd_code_name(err.code), err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s' lacks '%s'", err.message, part);
    ck_assert_ptr_null(g);
}

static QD_UNUSED void expect_ok(void)
{
    ck_assert_msg(import_built() == QD_OK, "%s: %s", qd_code_name(err.code), err.message);
}

static QD_UNUSED void setup(void)
{
    qd_arena_init(&arena, (size_t)64 << 20);
}

static QD_UNUSED void teardown(void)
{
    qd_arena_done(&arena);
}

#endif
