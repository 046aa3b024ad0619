/* Models are built with protobuf-c's own structs, so that the bytes are another writer's. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/onnx/onnx_scan.h"
#include "quantcore/onnx/onnx_upgrade.h"

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

static Onnx__ValueInfoProto *add_io(const char *name)
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

static void add_input(const char *name)
{
    b.inputs[b.graph.n_input++] = add_io(name);
}

static void start(int64_t opset)
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
static Onnx__NodeProto *add_node(const char *name, const char *op, const char *spec)
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

static Onnx__AttributeProto *add_attr(Onnx__NodeProto *n, const char *name)
{
    Onnx__AttributeProto *a = &b.attr[b.n_attrs++];
    onnx__attribute_proto__init(a);
    a->name = (char *)name;
    a->has_type = 1;
    n->attribute[n->n_attribute++] = a;
    return a;
}

static void add_int(Onnx__NodeProto *n, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->has_i = 1;
    a->i = v;
}

static void add_float(Onnx__NodeProto *n, const char *name, float v)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    a->has_f = 1;
    a->f = v;
}

static void add_ints(Onnx__NodeProto *n, const char *name, int64_t *v, size_t count)
{
    Onnx__AttributeProto *a = add_attr(n, name);
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    a->ints = v;
    a->n_ints = count;
}

static Onnx__TensorProto *add_initializer(const char *name)
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

static enum qd_code import_bytes(struct qd_bytes bytes)
{
    g = NULL;
    memset(&err, 0, sizeof(err));
    return qc_onnx_import(bytes, &arena, &g, &err);
}

static enum qd_code import_built(void)
{
    size_t size = onnx__model_proto__get_packed_size(&b.model);
    uint8_t *data = malloc(size);
    onnx__model_proto__pack(&b.model, data);
    enum qd_code code = import_bytes((struct qd_bytes){data, size});
    free(data); /* the graph borrows nothing */
    return code;
}

static void expect(enum qd_code code, const char *part)
{
    ck_assert_msg(import_built() == code, "%s: %s", qd_code_name(err.code), err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s' lacks '%s'", err.message, part);
    ck_assert_ptr_null(g);
}

static void expect_ok(void)
{
    ck_assert_msg(import_built() == QD_OK, "%s: %s", qd_code_name(err.code), err.message);
}

static void setup(void)
{
    qd_arena_init(&arena, (size_t)64 << 20);
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

/* --- good models ----------------------------------------------------------------------------- */

START_TEST(import__small_model__everything_arrives)
{
    Onnx__StringStringEntryProto entry = ONNX__STRING_STRING_ENTRY_PROTO__INIT;
    Onnx__StringStringEntryProto *entries[1] = {&entry};
    start(13);
    entry.key = (char *)"author";
    entry.value = (char *)"somebody";
    b.model.n_metadata_props = 1;
    b.model.metadata_props = entries;
    b.model.producer_name = (char *)"unit";
    add_input("w"); /* an initializer listed as an input is no input */
    add_initializer("w");
    add_node("add", "Add", "x w > s");
    add_node(NULL, "Relu", "s > y");
    expect_ok();
    ck_assert_int_eq(g->n_nodes, 2);
    ck_assert_int_eq(g->n_inputs, 1);
    ck_assert_int_eq(g->inputs[0].dim[0], -1);
    ck_assert_str_eq(g->inputs[0].dim_param[0], "N");
    ck_assert_int_eq(g->inputs[0].dim[1], 3);
    ck_assert_int_eq(g->values[g->inputs[0].value].dtype, QC_F32);
    const struct qc_tensor *w = qc_node_constant(g, &g->nodes[0], 1);
    ck_assert_ptr_nonnull(w);
    ck_assert_float_eq(((float *)w->data)[2], 3.0f);
    ck_assert_int_eq(g->nodes[1].op, QC_OP_RELU);
    ck_assert_str_ne(g->nodes[1].name, "");
    ck_assert_str_eq(g->metadata[0], "author");
    ck_assert_str_eq(g->metadata[1], "somebody");
    ck_assert_str_eq(g->producer_name, "unit");
    ck_assert_int_eq(g->values[g->outputs[0].value].producer, 1);
}
END_TEST

START_TEST(import__nodes_out_of_order__sorted)
{
    start(13);
    add_node("c", "Relu", "b > y");
    add_node("b", "Relu", "a > b");
    add_node("a", "Relu", "x > a");
    expect_ok();
    ck_assert_str_eq(g->nodes[0].name, "a");
    ck_assert_str_eq(g->nodes[1].name, "b");
    ck_assert_str_eq(g->nodes[2].name, "c");
}
END_TEST

START_TEST(import__same_node_name_twice__made_unique)
{
    start(13);
    add_node("n", "Relu", "x > a");
    add_node("n", "Relu", "a > y");
    expect_ok();
    ck_assert_str_eq(g->nodes[0].name, "n");
    ck_assert_str_ne(g->nodes[1].name, "n");
}
END_TEST

START_TEST(import__unknown_fields__kept)
{
    static uint8_t data[3] = {2, 'h', 'i'};
    ProtobufCMessageUnknownField u = {.tag = 99,
                                      .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
                                      .len = 3,
                                      .data = data};
    start(13);
    add_node("n", "Relu", "x > y");
    b.node[0].base.n_unknown_fields = 1;
    b.node[0].base.unknown_fields = &u;
    b.model.base.n_unknown_fields = 1;
    b.model.base.unknown_fields = &u;
    expect_ok();
    static const uint8_t wire[] = {0x9a, 0x06, 2, 'h', 'i'};
    ck_assert_uint_eq(g->unknown_model.size, sizeof(wire));
    ck_assert_mem_eq(g->unknown_model.data, wire, sizeof(wire));
    ck_assert_uint_eq(g->nodes[0].unknown.size, sizeof(wire));
    ck_assert_mem_eq(g->nodes[0].unknown.data, wire, sizeof(wire));
    ck_assert_uint_eq(g->unknown_graph.size, 0);
}
END_TEST

/* --- upgrades -------------------------------------------------------------------------------- */

static const struct qc_tensor *input_constant(int i)
{
    const struct qc_tensor *t = qc_node_constant(g, &g->nodes[0], i);
    ck_assert_ptr_nonnull(t);
    return t;
}

START_TEST(upgrade__clip_6__bounds_are_inputs)
{
    start(7);
    Onnx__NodeProto *n = add_node("n", "Clip", "x > y");
    add_float(n, "min", 0.0f);
    add_float(n, "max", 6.0f);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 3);
    ck_assert_int_eq(g->nodes[0].n_attrs, 0);
    ck_assert_int_eq(input_constant(1)->shape.rank, 0);
    ck_assert_double_eq(qc_tensor_f64(input_constant(1), 0), 0.0);
    ck_assert_double_eq(qc_tensor_f64(input_constant(2), 0), 6.0);
}
END_TEST

START_TEST(upgrade__clip_6_only_max__min_absent)
{
    start(10);
    add_float(add_node("n", "Clip", "x > y"), "max", 6.0f);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 3);
    ck_assert_int_eq(g->nodes[0].inputs[1], -1);
    ck_assert_double_eq(qc_tensor_f64(input_constant(2), 0), 6.0);
}
END_TEST

START_TEST(upgrade__pad_2__pads_and_value_are_inputs)
{
    static int64_t pads[4] = {0, 1, 0, 2};
    start(10);
    Onnx__NodeProto *n = add_node("n", "Pad", "x > y");
    add_ints(n, "pads", pads, 4);
    add_float(n, "value", 1.5f);
    expect_ok();
    ck_assert_int_eq(input_constant(1)->dtype, QC_S64);
    ck_assert_int_eq(qc_tensor_s64(input_constant(1), 3), 2);
    ck_assert_double_eq(qc_tensor_f64(input_constant(2), 0), 1.5);
}
END_TEST

START_TEST(upgrade__squeeze_unsqueeze_1__axes_are_inputs)
{
    static int64_t axes[1] = {1};
    static const char *const ops[2] = {"Squeeze", "Unsqueeze"};
    for (int i = 0; i < 2; i++) {
        start(12);
        add_ints(add_node("n", ops[i], "x > y"), "axes", axes, 1);
        expect_ok();
        ck_assert_int_eq(g->nodes[0].n_inputs, 2);
        ck_assert_int_eq(qc_tensor_s64(input_constant(1), 0), 1);
        ck_assert_ptr_null(qc_node_attr(&g->nodes[0], "axes"));
    }
}
END_TEST

START_TEST(upgrade__slice_1__starts_ends_axes_are_inputs)
{
    static int64_t starts[1] = {1}, ends[1] = {2}, axes[1] = {1};
    start(9);
    Onnx__NodeProto *n = add_node("n", "Slice", "x > y");
    add_ints(n, "starts", starts, 1);
    add_ints(n, "axes", axes, 1);
    add_ints(n, "ends", ends, 1);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 4);
    ck_assert_int_eq(qc_tensor_s64(input_constant(1), 0), 1);
    ck_assert_int_eq(qc_tensor_s64(input_constant(2), 0), 2);
    ck_assert_int_eq(qc_tensor_s64(input_constant(3), 0), 1);
}
END_TEST

START_TEST(upgrade__upsample_7_and_9__resize_asymmetric_floor)
{
    static float scales[2] = {1, 2};
    for (int opset = 7; opset <= 9; opset += 2) {
        start(opset);
        Onnx__NodeProto *n = add_node("n", "Upsample", opset == 7 ? "x > y" : "x s > y");
        if (opset == 7) {
            Onnx__AttributeProto *a = add_attr(n, "scales");
            a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS;
            a->n_floats = 2;
            a->floats = scales;
        } else {
            add_initializer("s");
        }
        expect_ok();
        const struct qc_node *r = &g->nodes[0];
        ck_assert_int_eq(r->op, QC_OP_RESIZE);
        ck_assert_str_eq(r->op_type, "Resize");
        ck_assert_int_eq(r->n_inputs, 3);
        ck_assert_int_eq(r->inputs[1], -1);
        ck_assert_double_eq(qc_tensor_f64(input_constant(2), 1), 2.0);
        ck_assert_str_eq(qc_node_string(r, "nearest_mode", ""), "floor");
        ck_assert_str_eq(qc_node_string(r, "coordinate_transformation_mode", ""), "asymmetric");
        ck_assert_ptr_null(qc_node_attr(r, "scales"));
    }
}
END_TEST

START_TEST(upgrade__resize_10__scales_move_to_input_2)
{
    start(10);
    add_initializer("s");
    add_node("n", "Resize", "x s > y");
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_inputs, 3);
    ck_assert_ptr_nonnull(input_constant(2));
    ck_assert_str_eq(qc_node_string(&g->nodes[0], "nearest_mode", ""), "floor");

    static float shrink[3] = {1, 0.5f, 0.25f}, mixed[3] = {1, 2, 0.5f};
    start(10);
    add_initializer("s")->float_data = shrink;
    add_node("n", "Resize", "x s > y");
    expect_ok();
    ck_assert_str_eq(qc_node_string(&g->nodes[0], "nearest_mode", ""), "ceil");
    start(10);
    add_initializer("s")->float_data = mixed;
    add_node("n", "Resize", "x s > y");
    expect(QD_UNSUPPORTED, "node 'n': Resize of opset 10 in mode nearest");
}
END_TEST

START_TEST(upgrade__softmax_1__axis_written_and_flatten_marked)
{
    static const struct {
        int64_t axis; /* 99: no attribute */
        const char *input;
        int64_t want_axis, want_flatten;
    } cases[] = {
        {99, "x", 1, 0}, /* rank 2, default 1: the last dim */
        {0, "x", 0, 1},
        {1, "h", 1, 1}, /* unknown rank */
        {-1, "h", -1, 0},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        start(12);
        add_node("r", "Relu", "x > h");
        Onnx__NodeProto *n = add_node("n", "Softmax", cases[i].input[0] == 'x' ? "x > y" : "h > y");
        if (cases[i].axis != 99) {
            add_int(n, "axis", cases[i].axis);
        }
        expect_ok();
        ck_assert_int_eq(qc_node_int(&g->nodes[1], "axis", 77), cases[i].want_axis);
        ck_assert_int_eq(qc_node_int(&g->nodes[1], QC_ONNX_FLATTEN, 0), cases[i].want_flatten);
    }
}
END_TEST

START_TEST(upgrade__softmax_13__untouched)
{
    start(13);
    add_node("n", "Softmax", "x > y");
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_attrs, 0);
}
END_TEST

START_TEST(upgrade__dropout_7__ratio_is_an_input)
{
    start(11);
    add_float(add_node("n", "Dropout", "x > y -"), "ratio", 0.25f);
    expect_ok();
    ck_assert_int_eq(g->nodes[0].n_outputs, 1);
    ck_assert_double_eq(qc_tensor_f64(input_constant(1), 0), 0.25);
}
END_TEST

/* --- must fail ------------------------------------------------------------------------------- */

START_TEST(import__unknown_operator__unsupported_with_node_and_opset)
{
    start(13);
    add_node("x1", "Foo", "x > y");
    expect(QD_UNSUPPORTED,
           "node 'x1': operator Foo of domain 'ai.onnx' in opset 13 is not supported");
    ck_assert_str_eq(err.subject, "x1");
    start(13);
    add_node("x1", "Relu", "x > y")->domain = (char *)"com.acme";
    expect(QD_UNSUPPORTED, "operator Relu of domain 'com.acme'");
    start(13);
    add_node("x1", "HardSwish", "x > y"); /* opset 14 */
    expect(QD_UNSUPPORTED, "HardSwish");
}
END_TEST

START_TEST(import__opset_out_of_range__unsupported)
{
    start(QC_OPSET_MAX + 1);
    add_node("n", "Relu", "x > y");
    expect(QD_UNSUPPORTED, "opset 18");
    start(QC_OPSET_MIN - 1);
    add_node("n", "Relu", "x > y");
    expect(QD_UNSUPPORTED, "opset 6");
    start(13);
    add_node("n", "Relu", "x > y");
    b.model.n_opset_import = 0;
    expect(QD_INVALID, "imports no opset");
}
END_TEST

START_TEST(import__undefined_input__invalid_with_names)
{
    start(13);
    add_node("n", "Add", "x nowhere > y");
    expect(QD_INVALID, "node 'n': input 'nowhere' is not defined");
}
END_TEST

START_TEST(import__duplicate_producer__invalid_with_name)
{
    start(13);
    add_node("n", "Relu", "x > y");
    add_node("m", "Relu", "x > y");
    expect(QD_INVALID, "node 'm': value 'y' is defined twice");
    start(13);
    add_initializer("y");
    add_node("n", "Relu", "x > y");
    expect(QD_INVALID, "value 'y' is defined twice");
    start(13);
    add_initializer("w");
    add_initializer("w");
    add_node("n", "Relu", "x > y");
    expect(QD_INVALID, "value 'w' is defined twice");
    start(13);
    add_input("x");
    add_node("n", "Relu", "x > y");
    expect(QD_INVALID, "value 'x' is defined twice");
}
END_TEST

START_TEST(import__cycle__invalid)
{
    start(13);
    add_node("n", "Add", "x b > a");
    add_node("m", "Relu", "a > b");
    add_node("o", "Relu", "a > y");
    expect(QD_INVALID, "depends on its own output");
}
END_TEST

START_TEST(import__undefined_output_or_nothing__invalid)
{
    start(13);
    add_node("n", "Relu", "x > z");
    expect(QD_INVALID, "graph output 'y'");
    start(13);
    expect(QD_INVALID, "graph output 'y'");
    start(13);
    b.model.graph = NULL;
    expect(QD_INVALID, "no graph");
}
END_TEST

START_TEST(import__wrong_arity__invalid)
{
    start(13);
    add_node("n", "Add", "x > y");
    expect(QD_INVALID, "Add has 1 inputs");
    start(13);
    add_node("n", "Add", "- x > y");
    expect(QD_INVALID, "required");
    start(13);
    add_node("n", "Relu", "x x > y");
    expect(QD_INVALID, "Relu has 2 inputs");
    start(13);
    add_node("n", "Relu", "x > y z");
    expect(QD_INVALID, "Relu has 2 outputs");
}
END_TEST

START_TEST(import__subgraph_function_sparse__unsupported)
{
    Onnx__GraphProto sub = ONNX__GRAPH_PROTO__INIT;
    start(13);
    Onnx__AttributeProto *a = add_attr(add_node("n", "Relu", "x > y"), "then_branch");
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
    a->g = &sub;
    expect(QD_UNSUPPORTED, "node 'n': attribute 'then_branch' is a subgraph");

    Onnx__FunctionProto f = ONNX__FUNCTION_PROTO__INIT, *fs[1] = {&f};
    start(13);
    add_node("n", "Relu", "x > y");
    f.name = (char *)"MyFunction";
    b.model.n_functions = 1;
    b.model.functions = fs;
    expect(QD_UNSUPPORTED, "MyFunction");

    Onnx__SparseTensorProto s = ONNX__SPARSE_TENSOR_PROTO__INIT, *ss[1] = {&s};
    start(13);
    add_node("n", "Relu", "x > y");
    b.graph.n_sparse_initializer = 1;
    b.graph.sparse_initializer = ss;
    expect(QD_UNSUPPORTED, "sparse");
}
END_TEST

START_TEST(import__attribute_twice_or_reserved__invalid)
{
    start(13);
    Onnx__NodeProto *n = add_node("n", "Softmax", "x > y");
    add_int(n, "axis", 1);
    add_int(n, "axis", 0);
    expect(QD_INVALID, "attribute 'axis' stands twice");
    start(13);
    add_int(add_node("n", "Softmax", "x > y"), QC_ONNX_FLATTEN, 1);
    expect(QD_INVALID, "reserved");
}
END_TEST

START_TEST(import__wrong_type_in_upgrade__invalid)
{
    start(7);
    add_int(add_node("n", "Clip", "x > y"), "max", 6);
    expect(QD_INVALID, "node 'n': attribute 'max' has the wrong type");
    start(7);
    add_node("n", "Pad", "x > y");
    expect(QD_INVALID, "without attribute 'pads'");
}
END_TEST

START_TEST(import__every_prefix__fails_cleanly)
{
    start(13);
    add_initializer("w");
    add_node("n", "Add", "x w > y");
    size_t size = onnx__model_proto__get_packed_size(&b.model);
    uint8_t *data = malloc(size);
    onnx__model_proto__pack(&b.model, data);
    for (size_t n = 0; n < size; n++) {
        uint8_t *cut = malloc(n > 0 ? n : 1); /* exact, for the sanitizer */
        memcpy(cut, data, n);
        enum qd_code code = import_bytes((struct qd_bytes){cut, n});
        /* the last field of the model is its opset: without it, or cut in it, nothing works */
        ck_assert_msg(code == QD_INVALID, "%zu of %zu: %s", n, size, qd_code_name(code));
        ck_assert_str_ne(err.message, "");
        free(cut);
    }
    ck_assert_int_eq(import_bytes((struct qd_bytes){data, size}), QD_OK);
    free(data);
}
END_TEST

START_TEST(import__every_bit_flipped__no_crash)
{
    start(9);
    add_initializer("w");
    add_node("n", "Add", "x w > h");
    add_float(add_node("c", "Clip", "h > y"), "max", 6);
    size_t size = onnx__model_proto__get_packed_size(&b.model);
    uint8_t *data = malloc(size);
    onnx__model_proto__pack(&b.model, data);
    size_t failed = 0;
    for (size_t bit = 0; bit < size * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum qd_code code = import_bytes((struct qd_bytes){data, size});
        ck_assert(code == QD_OK ? g != NULL : err.message[0] != '\0');
        failed += code != QD_OK;
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        qd_arena_done(&arena);
        setup();
    }
    ck_assert_uint_gt(failed, size * 4); /* most flips are noticed */
    free(data);
}
END_TEST

START_TEST(import__small_arena__limit_exceeded)
{
    start(13);
    add_node("n", "Relu", "x > y");
    qd_arena_done(&arena);
    qd_arena_init(&arena, 1000);
    expect(QD_LIMIT_EXCEEDED, "1000");
}
END_TEST

START_TEST(import__every_allocation_fails_once__no_memory)
{
    start(9);
    add_initializer("w");
    add_node("n", "Add", "x w > h");
    add_float(add_node("c", "Clip", "h > y"), "max", 6);
    for (int k = 1;; k++) {
        ck_assert_int_lt(k, 1000);
        qd_arena_done(&arena);
        setup();
        arena.fail_after = k;
        if (import_built() == QD_OK) {
            ck_assert_int_gt(k, 20); /* the import does allocate */
            break;
        }
        ck_assert_int_eq(err.code, QD_NO_MEMORY);
        ck_assert_ptr_null(g);
    }
}
END_TEST

Suite *test_onnx_import_suite(void)
{
    Suite *s = suite_create("onnx_import");
    TCase *good = tcase_create("good");
    tcase_add_checked_fixture(good, setup, teardown);
    tcase_add_test(good, import__small_model__everything_arrives);
    tcase_add_test(good, import__nodes_out_of_order__sorted);
    tcase_add_test(good, import__same_node_name_twice__made_unique);
    tcase_add_test(good, import__unknown_fields__kept);
    suite_add_tcase(s, good);
    TCase *upgrade = tcase_create("upgrade");
    tcase_add_checked_fixture(upgrade, setup, teardown);
    tcase_add_test(upgrade, upgrade__clip_6__bounds_are_inputs);
    tcase_add_test(upgrade, upgrade__clip_6_only_max__min_absent);
    tcase_add_test(upgrade, upgrade__pad_2__pads_and_value_are_inputs);
    tcase_add_test(upgrade, upgrade__squeeze_unsqueeze_1__axes_are_inputs);
    tcase_add_test(upgrade, upgrade__slice_1__starts_ends_axes_are_inputs);
    tcase_add_test(upgrade, upgrade__upsample_7_and_9__resize_asymmetric_floor);
    tcase_add_test(upgrade, upgrade__resize_10__scales_move_to_input_2);
    tcase_add_test(upgrade, upgrade__softmax_1__axis_written_and_flatten_marked);
    tcase_add_test(upgrade, upgrade__softmax_13__untouched);
    tcase_add_test(upgrade, upgrade__dropout_7__ratio_is_an_input);
    suite_add_tcase(s, upgrade);
    TCase *bad = tcase_create("bad");
    tcase_add_checked_fixture(bad, setup, teardown);
    tcase_add_test(bad, import__unknown_operator__unsupported_with_node_and_opset);
    tcase_add_test(bad, import__opset_out_of_range__unsupported);
    tcase_add_test(bad, import__undefined_input__invalid_with_names);
    tcase_add_test(bad, import__duplicate_producer__invalid_with_name);
    tcase_add_test(bad, import__cycle__invalid);
    tcase_add_test(bad, import__undefined_output_or_nothing__invalid);
    tcase_add_test(bad, import__wrong_arity__invalid);
    tcase_add_test(bad, import__subgraph_function_sparse__unsupported);
    tcase_add_test(bad, import__attribute_twice_or_reserved__invalid);
    tcase_add_test(bad, import__wrong_type_in_upgrade__invalid);
    tcase_add_test(bad, import__every_prefix__fails_cleanly);
    tcase_add_test(bad, import__every_bit_flipped__no_crash);
    tcase_add_test(bad, import__small_arena__limit_exceeded);
    tcase_add_test(bad, import__every_allocation_fails_once__no_memory);
    suite_add_tcase(s, bad);
    return s;
}
