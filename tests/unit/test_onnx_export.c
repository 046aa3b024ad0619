/* Graphs built by hand are exported and looked at twice: as protobuf, and imported again. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.pb-c.h"
#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_export.h"
#include "quantcore/onnx/onnx_import.h"
#include "quantcore/onnx/onnx_upgrade.h"

static struct qd_arena arena;
static struct qd_error err;
static struct qc_graph *g;
static struct qd_bytes bytes;
static Onnx__ModelProto *m;

static void ok(enum qd_code code)
{
    ck_assert_msg(code == QD_OK, "%s: %s", qd_code_name(code), err.message);
}

static int value(const char *name, int64_t rank)
{
    int v = -1;
    ok(qc_graph_add_value(g, name, &v, &err));
    g->values[v].dtype = QC_F32;
    g->values[v].shape_known = rank >= 0;
    g->values[v].shape = (struct qc_shape){rank < 0 ? 0 : (int)rank, {1, 3, 4, 5}};
    return v;
}

static int constant(const char *name, float x)
{
    struct qc_shape scalar = {0};
    struct qc_tensor *t;
    int v = -1;
    ok(qc_tensor_new(&arena, QC_F32, &scalar, &t, &err));
    *(float *)t->data = x;
    ok(qc_graph_add_constant(g, name, t, &v, &err));
    return v;
}

static struct qc_node *node(const char *name, int op, int in0, int in1, int out)
{
    struct qc_node *n = NULL;
    ok(qc_graph_add_node(g, name, op, in1 >= 0 ? 2 : 1, 1, &n, &err));
    n->inputs[0] = in0;
    if (in1 >= 0) {
        n->inputs[1] = in1;
    }
    n->outputs[0] = out;
    return n;
}

static void io(int in, int out)
{
    static struct qc_io input, output;
    input = (struct qc_io){.value = in, .has_shape = true, .rank = 2, .dim = {-1, 3},
                           .dim_param = {"N"}};
    output = (struct qc_io){.value = out};
    g->inputs = &input;
    g->outputs = &output;
    g->n_inputs = g->n_outputs = 1;
    g->values[out].symbolic_dims = 1;
}

static void unpack(void)
{
    if (m != NULL) {
        onnx__model_proto__free_unpacked(m, NULL);
    }
    m = onnx__model_proto__unpack(NULL, bytes.size, bytes.data);
    ck_assert_ptr_nonnull(m);
}

static void export(void)
{
    ok(qc_graph_link(g, &err));
    ok(qc_onnx_export(g, &arena, &bytes, &err));
    unpack();
}

static void setup(void)
{
    qd_arena_init(&arena, (size_t)256 << 20);
    memset(&err, 0, sizeof(err));
    ok(qc_graph_new(&arena, &g, &err));
    g->opset = 9;
    g->ir_version = 3;
    m = NULL;
}

static void teardown(void)
{
    if (m != NULL) {
        onnx__model_proto__free_unpacked(m, NULL);
    }
    qd_arena_done(&arena);
}

START_TEST(export__header__opsets_metadata_versions)
{
    static const struct qc_opset opsets[] = {{"com.acme", 2}, {"quantd", 1}, {"", 9}};
    static const char *const metadata[] = {"key", "value"};
    int x = value("x", 2), y = value("y", 2);
    node("n", QC_OP_RELU, x, -1, y);
    io(x, y);
    g->opsets = opsets;
    g->n_opsets = 3;
    g->metadata = metadata;
    g->n_metadata = 1;
    g->producer_name = "unit";
    g->model_version = 5;
    export();
    ck_assert_int_eq(m->ir_version, 7);
    ck_assert_int_eq(m->model_version, 5);
    ck_assert_uint_eq(m->n_opset_import, 2);
    ck_assert_str_eq(m->opset_import[0]->domain, "");
    ck_assert_int_eq(m->opset_import[0]->version, 13);
    ck_assert_str_eq(m->opset_import[1]->domain, "com.acme");
    ck_assert_str_eq(m->metadata_props[0]->value, "value");
    ck_assert_str_eq(m->producer_name, "unit");
    g->opset = 17;
    g->ir_version = 9;
    export();
    ck_assert_int_eq(m->ir_version, 9);
    ck_assert_int_eq(m->opset_import[0]->version, 17);
}
END_TEST

static const struct {
    int64_t opset, least, want, ir;
} opsets[] = {{9, 0, 13, 7},  {13, 0, 13, 7},  {17, 0, 17, 8},  {18, 0, 18, 8},
              {20, 0, 20, 9}, {9, 21, 21, 10}, {23, 21, 23, 11}, {24, 0, 24, 12},
              {27, 0, 27, 13}};

START_TEST(export__opset__highest_of_models_and_least_with_its_ir)
{
    int x = value("x", 2), y = value("y", 2);
    node("n", QC_OP_RELU, x, -1, y);
    io(x, y);
    g->opset = opsets[_i].opset;
    g->least_opset = opsets[_i].least;
    export();
    ck_assert_int_eq(m->opset_import[0]->version, opsets[_i].want);
    ck_assert_int_eq(qc_onnx_export_opset(g), opsets[_i].want);
    ck_assert_int_eq(m->ir_version, opsets[_i].ir);
}
END_TEST

/* The graph has the input; opsets below 18 want the attribute, and nobody reads the constant. What
 * comes back from either is the graph again. */
START_TEST(export__reduce_mean__axes_in_the_form_of_the_opset)
{
    static const int64_t axes[2] = {1, -1};
    struct qc_shape shape = {1, {2}};
    struct qc_tensor *t;
    int x = value("x", 4), y = value("y", 4), a = -1;
    ok(qc_tensor_new(&arena, QC_S64, &shape, &t, &err));
    memcpy(t->data, axes, sizeof(axes));
    ok(qc_graph_add_constant(g, "axes", t, &a, &err));
    node("n", QC_OP_REDUCE_MEAN, x, a, y);
    io(x, y);
    g->opset = opsets[_i].opset;
    g->least_opset = opsets[_i].least;
    export();
    const Onnx__NodeProto *n = m->graph->node[0];
    if (opsets[_i].want < 18) {
        ck_assert_uint_eq(n->n_input, 1);
        ck_assert_uint_eq(m->graph->n_initializer, 0);
        ck_assert_uint_eq(n->n_attribute, 1);
        ck_assert_str_eq(n->attribute[0]->name, "axes");
        ck_assert_uint_eq(n->attribute[0]->n_ints, 2);
        ck_assert_mem_eq(n->attribute[0]->ints, axes, sizeof(axes));
    } else {
        ck_assert_uint_eq(n->n_input, 2);
        ck_assert_uint_eq(n->n_attribute, 0);
        ck_assert_str_eq(m->graph->initializer[0]->name, n->input[1]);
    }
    struct qd_bytes first = bytes;
    ok(qc_onnx_import(first, NULL, &arena, &g, &err));
    ck_assert_int_eq(g->opset, opsets[_i].want);
    ck_assert_int_eq(g->nodes[0].n_inputs, 2);
    ck_assert_mem_eq(qc_node_constant(g, &g->nodes[0], 1)->data, axes, sizeof(axes));
    export();
    ck_assert_uint_eq(bytes.size, first.size);
    ck_assert_mem_eq(bytes.data, first.data, first.size);
}
END_TEST

/* Models below 14 may name outputs of training that nobody reads. */
START_TEST(export__batch_normalization__one_output)
{
    int x = value("x", 4), y = value("y", 4), c = constant("c", 1);
    struct qc_node *n = NULL;
    ok(qc_graph_add_node(g, "n", QC_OP_BATCH_NORMALIZATION, 5, 3, &n, &err));
    for (int i = 0; i < 5; i++) {
        n->inputs[i] = i == 0 ? x : c;
    }
    n->outputs[0] = y;
    n->outputs[1] = value("mean", 1);
    n->outputs[2] = value("var", 1);
    io(x, y);
    g->least_opset = 21;
    export();
    ck_assert_uint_eq(m->graph->node[0]->n_input, 5);
    ck_assert_uint_eq(m->graph->node[0]->n_output, 1);
}
END_TEST

START_TEST(export__shapes__declared_or_inferred_with_open_batch)
{
    int x = value("x", 2), y = value("y", 2);
    node("n", QC_OP_RELU, x, -1, y);
    io(x, y);
    export();
    const Onnx__TensorShapeProto *in = m->graph->input[0]->type->tensor_type->shape;
    const Onnx__TensorShapeProto *out = m->graph->output[0]->type->tensor_type->shape;
    ck_assert_str_eq(in->dim[0]->dim_param, "N");
    ck_assert_int_eq(in->dim[1]->dim_value, 3);
    ck_assert_uint_eq(out->n_dim, 2);
    ck_assert_int_eq(out->dim[0]->value_case, ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE__NOT_SET);
    ck_assert_int_eq(out->dim[1]->dim_value, 3);
    ck_assert_int_eq(m->graph->output[0]->type->tensor_type->elem_type, 1);
}
END_TEST

START_TEST(export__unused_parts__not_written)
{
    int x = value("x", 2), y = value("y", 2), dead = value("dead", 2);
    int used = constant("used", 1), unused = constant("unused", 2);
    node("n", QC_OP_ADD, x, used, y);
    node("d", QC_OP_ADD, x, unused, dead);
    io(x, y);
    export();
    ck_assert_uint_eq(m->graph->n_node, 1);
    ck_assert_uint_eq(m->graph->n_initializer, 1);
    ck_assert_str_eq(m->graph->initializer[0]->name, "used");
    ck_assert_uint_eq(m->graph->initializer[0]->raw_data.len, 4);
}
END_TEST

START_TEST(export__folded_constants__initializer_unless_batch_dependent)
{
    for (int symbolic = 0; symbolic < 2; symbolic++) {
        ok(qc_graph_new(&arena, &g, &err));
        int x = value("x", 2), y = value("y", 2), shape = constant("s", 3);
        node("shape", QC_OP_SHAPE, x, -1, shape);
        node("n", QC_OP_RESHAPE, x, shape, y);
        g->values[shape].symbolic_elements = (uint64_t)symbolic;
        io(x, y);
        export();
        ck_assert_uint_eq(m->graph->n_node, symbolic ? 2 : 1);
        ck_assert_uint_eq(m->graph->n_initializer, symbolic ? 0 : 1);
    }
}
END_TEST

START_TEST(export__clamps__relu_or_clip_and_names_unique)
{
    static const struct {
        float lo, hi;
        const char *op;
        size_t inputs;
    } cases[] = {
        {0, INFINITY, "Relu", 1},
        {0, 6, "Clip", 3},
        {-1, INFINITY, "Clip", 2},
        {-INFINITY, 6, "Clip", 3},
        {-INFINITY, INFINITY, NULL, 0},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        ok(qc_graph_new(&arena, &g, &err));
        int x = value("x", 2), y = value("y", 2), other = value("y_unclamped", 2);
        /* the names that the clamp would take are there */
        node(i == 0 ? "n_Relu" : "n_Clip", QC_OP_EXP, x, -1, other);
        struct qc_node *n = node("n", QC_OP_ADD, x, other, y);
        n->clamp = (struct qc_clamp){true, cases[i].lo, cases[i].hi};
        io(x, y);
        export();
        Onnx__GraphProto *out = m->graph;
        ck_assert_uint_eq(out->n_node, cases[i].op != NULL ? 3 : 2);
        ck_assert_str_eq(out->node[out->n_node - 1]->output[0], "y");
        if (cases[i].op == NULL) {
            continue;
        }
        ck_assert_str_eq(out->node[1]->name, "n");
        ck_assert_str_eq(out->node[0]->name, cases[i].inputs == 1 ? "n_Relu" : "n_Clip");
        ck_assert_str_ne(out->node[2]->name, out->node[0]->name);
        ck_assert_str_eq(out->node[2]->op_type, cases[i].op);
        ck_assert_uint_eq(out->node[2]->n_input, cases[i].inputs);
        ck_assert_str_eq(out->node[2]->input[0], out->node[1]->output[0]);
        ck_assert_str_ne(out->node[1]->output[0], "y_unclamped");
        struct qc_graph *again;
        ok(qc_onnx_import(bytes, NULL, &arena, &again, &err));
        const struct qc_node *c = &again->nodes[2];
        for (int k = 1; k < c->n_inputs; k++) {
            float want = k == 1 ? cases[i].lo : cases[i].hi;
            ck_assert_int_eq(c->inputs[k] < 0, isinf(want) != 0);
            ck_assert(isinf(want) ||
                      qc_tensor_f64(qc_node_constant(again, c, k), 0) == (double)want);
        }
    }
}
END_TEST

START_TEST(export__old_softmax__flattened_unless_last_axis)
{
    static const struct {
        int64_t rank, axis;
        size_t nodes;
    } cases[] = {{4, 1, 4}, {4, 3, 1}, {2, 1, 1}, {-1, 1, 4}};
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        ok(qc_graph_new(&arena, &g, &err));
        const struct qc_attr attrs[] = {
            {.name = "axis", .type = QC_ATTR_INT, .i = cases[i].axis},
            {.name = QC_ONNX_FLATTEN, .type = QC_ATTR_INT, .i = 1},
        };
        int x = value("x", cases[i].rank), y = value("y", 2);
        struct qc_node *n = node("n", QC_OP_SOFTMAX, x, -1, y);
        n->attrs = attrs;
        n->n_attrs = 2;
        io(x, y);
        export();
        ck_assert_uint_eq(m->graph->n_node, cases[i].nodes);
        ck_assert_str_eq(m->graph->node[m->graph->n_node - 1]->output[0], "y");
        for (size_t k = 0; k < m->graph->n_node; k++) {
            for (size_t a = 0; a < m->graph->node[k]->n_attribute; a++) {
                ck_assert_str_ne(m->graph->node[k]->attribute[a]->name, QC_ONNX_FLATTEN);
            }
        }
        struct qc_graph *again;
        ok(qc_onnx_import(bytes, NULL, &arena, &again, &err));
    }
}
END_TEST

START_TEST(export__attributes_and_unknown_fields__come_back)
{
    static const uint8_t wire[] = {0x9a, 0x06, 2, 'h', 'i', 0x98, 0x06, 0x07};
    static const float floats[2] = {1, 2.5f};
    static const int64_t ints[3] = {-1, 2, INT64_MAX};
    static const struct qd_bytes strings[1] = {{(const uint8_t *)"s\0t", 3}};
    const struct qc_attr attrs[] = {
        {.name = "f", .type = QC_ATTR_FLOAT, .f = 0.5f},
        {.name = "s", .type = QC_ATTR_STRING, .s = {(const uint8_t *)"text", 4}},
        {.name = "fs", .type = QC_ATTR_FLOATS, .n = 2, .floats = floats},
        {.name = "is", .type = QC_ATTR_INTS, .n = 3, .ints = ints},
        {.name = "ss", .type = QC_ATTR_STRINGS, .n = 1, .strings = strings},
        {.name = "none", .type = QC_ATTR_INTS},
    };
    int x = value("x", 2), y = value("y", 2);
    struct qc_node *n = node("n", QC_OP_RELU, x, -1, y);
    n->attrs = attrs;
    n->n_attrs = 6;
    n->unknown = g->unknown_graph = g->unknown_model = (struct qd_bytes){wire, sizeof(wire)};
    io(x, y);
    export();
    struct qc_graph *again;
    ok(qc_onnx_import(bytes, NULL, &arena, &again, &err));
    n = &again->nodes[0];
    ck_assert_int_eq(n->n_attrs, 6);
    ck_assert_float_eq(qc_node_float(n, "f", 0), 0.5f);
    ck_assert_str_eq(qc_node_string(n, "s", ""), "text");
    ck_assert_float_eq(qc_node_attr(n, "fs")->floats[1], 2.5f);
    ck_assert_int_eq(qc_node_attr(n, "is")->ints[2], INT64_MAX);
    ck_assert_uint_eq(qc_node_attr(n, "ss")->strings[0].size, 3);
    ck_assert_uint_eq(qc_node_attr(n, "none")->n, 0);
    ck_assert_mem_eq(n->unknown.data, wire, sizeof(wire));
    ck_assert_uint_eq(again->unknown_graph.size, sizeof(wire));
    ck_assert_mem_eq(again->unknown_model.data, wire, sizeof(wire));
}
END_TEST

START_TEST(export__integer_unit__internal_error)
{
    int x = value("x", 2), y = value("y", 2);
    node("n", QC_OP_Q_TABLE, x, x, y);
    io(x, y);
    ck_assert_int_eq(qc_onnx_export(g, &arena, &bytes, &err), QD_INTERNAL);
    ck_assert_ptr_nonnull(strstr(err.message, "node 'n': QTable"));
}
END_TEST

/* import → export → import → export: the second and the first export are the same bytes. */
START_TEST(export__golden_models__stable)
{
    static const char *const names[] = {
        "efficientnet_lite0", "kws_dscnn", "mobilenetv1_025_vww", "resnet20_cifar10",
        "resnet8_cifar10", "resnet8_int8qdq", "squeezenet10_dc_imagenet", "ultraface_rfb320",
        "vww_int8qdq"};
    static uint8_t data[32 << 20];
    char path[128];
    snprintf(path, sizeof(path), "../shared/data/golden/%s/model.onnx", names[_i]);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        printf("onnx_export: %s is absent, its case is not run\n", path);
        return;
    }
    struct qd_bytes in = {data, fread(data, 1, sizeof(data), f)}, first, second;
    fclose(f);
    ok(qc_onnx_import(in, NULL, &arena, &g, &err));
    ok(qc_onnx_export(g, &arena, &first, &err));
    ok(qc_onnx_import(first, NULL, &arena, &g, &err));
    ok(qc_onnx_export(g, &arena, &second, &err));
    ck_assert_uint_eq(first.size, second.size);
    ck_assert_mem_eq(first.data, second.data, first.size);
}
END_TEST

Suite *test_onnx_export_suite(void)
{
    Suite *s = suite_create("onnx_export");
    TCase *t = tcase_create("export");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, export__header__opsets_metadata_versions);
    tcase_add_loop_test(t, export__opset__highest_of_models_and_least_with_its_ir, 0,
                        (int)QD_COUNT_OF(opsets));
    tcase_add_loop_test(t, export__reduce_mean__axes_in_the_form_of_the_opset, 0,
                        (int)QD_COUNT_OF(opsets));
    tcase_add_test(t, export__batch_normalization__one_output);
    tcase_add_test(t, export__shapes__declared_or_inferred_with_open_batch);
    tcase_add_test(t, export__unused_parts__not_written);
    tcase_add_test(t, export__folded_constants__initializer_unless_batch_dependent);
    tcase_add_test(t, export__clamps__relu_or_clip_and_names_unique);
    tcase_add_test(t, export__old_softmax__flattened_unless_last_axis);
    tcase_add_test(t, export__attributes_and_unknown_fields__come_back);
    tcase_add_test(t, export__integer_unit__internal_error);
    tcase_add_loop_test(t, export__golden_models__stable, 0, 9);
    suite_add_tcase(s, t);
    return s;
}
