/* Whole models through qc_onnx_import: what arrives, and what is refused. */
#include "tests/unit/test_onnx_build.h"

#include "quantcore/graph/op_table.h"
#include "quantcore/onnx/onnx_upgrade.h"

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
    expect(QD_UNSUPPORTED, "opset 28 of domain 'ai.onnx' is not supported: 7 to 27 are");
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
