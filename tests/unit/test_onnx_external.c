/* Initializers whose data are in files: what is read, and every claim that is refused. */
#include <stdio.h>

#include "tests/unit/test_onnx_build.h"

static const float weights[4] = {9, 5, 6, 7};
static Onnx__StringStringEntryProto entry[MAX][3], *entries[MAX][3];

static struct qc_external files(const char *name)
{
    return (struct qc_external){
        .files = {{name, {(const uint8_t *)weights, sizeof(weights)}}}, .n = 1};
}

/* The model y = x + w, w in a file; a NULL text leaves its entry out. */
static Onnx__TensorProto *move_out(Onnx__TensorProto *t, const char *location, const char *offset,
                                   const char *length)
{
    const char *const pairs[3][2] = {
        {"location", location}, {"offset", offset}, {"length", length}};
    size_t i = (size_t)(t - b.tensor);
    t->n_float_data = 0;
    t->has_data_location = 1;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    t->external_data = entries[i];
    t->n_external_data = 0;
    for (size_t k = 0; k < 3; k++) {
        if (pairs[k][1] != NULL) {
            Onnx__StringStringEntryProto *e = &entry[i][t->n_external_data];
            onnx__string_string_entry_proto__init(e);
            e->key = (char *)(uintptr_t)pairs[k][0];
            e->value = (char *)(uintptr_t)pairs[k][1];
            entries[i][t->n_external_data++] = e;
        }
    }
    return t;
}

static Onnx__TensorProto *begin(const char *location, const char *offset, const char *length)
{
    start(13);
    add_node("add", "Add", "x w > y");
    return move_out(add_initializer("w"), location, offset, length);
}

static enum qd_code import_with(const struct qc_external *external)
{
    size_t size = onnx__model_proto__get_packed_size(&b.model);
    uint8_t *data = malloc(size);
    onnx__model_proto__pack(&b.model, data);
    g = NULL;
    memset(&err, 0, sizeof(err));
    enum qd_code code =
        qc_onnx_import((struct qd_bytes){data, size}, external, &arena, &g, &err);
    free(data);
    return code;
}

static void refused(const struct qc_external *external, enum qd_code code, const char *part)
{
    ck_assert_msg(import_with(external) == code, "%s: %s", qd_code_name(err.code), err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "'%s' lacks '%s'", err.message, part);
    ck_assert_ptr_null(g);
}

static const float *imported(const struct qc_external *external)
{
    ck_assert_msg(import_with(external) == QD_OK, "%s", err.message);
    for (int i = 0; i < g->n_values; i++) {
        if (g->values[i].constant != NULL) {
            return g->values[i].constant->data;
        }
    }
    ck_abort_msg("the graph has no constant");
}

START_TEST(import__external__bytes_at_the_offset)
{
    struct qc_external f = files("w.bin");
    begin("w.bin", "4", "12");
    ck_assert_mem_eq(imported(&f), weights + 1, 12);
    begin("w.bin", "4", NULL); /* the length is what the dims want */
    ck_assert_mem_eq(imported(&f), weights + 1, 12);
    begin("w.bin", NULL, NULL);
    ck_assert_mem_eq(imported(&f), weights, 12);
}
END_TEST

START_TEST(import__file_at_an_odd_address__same_values)
{
    static uint8_t odd[1 + sizeof(weights)];
    struct qc_external f = files("w.bin");
    memcpy(odd + 1, weights, sizeof(weights));
    f.files[0].bytes.data = odd + 1;
    begin("w.bin", "4", "12");
    const float *got = imported(&f);
    ck_assert_uint_eq((uintptr_t)got % 64, 0);
    ck_assert_mem_eq(got, weights + 1, 12);
}
END_TEST

START_TEST(import__offset_or_length_outside__invalid_with_both)
{
    static const struct {
        const char *offset, *length, *part;
    } cases[] = {
        {"5", "12", "12 bytes at offset 5, the file has 16"},
        {"17", NULL, "offset 17"},
        {"18446744073709551615", "12", "offset 18446744073709551615"},
        {"18446744073709551608", NULL, "offset 18446744073709551608"},
        {"18446744073709551616", "12", "offset '18446744073709551616' is no number"},
        {"-4", "12", "offset '-4' is no number"},
        {" 4", "12", "offset ' 4' is no number"},
        {"", "12", "offset '' is no number"},
        {"0x4", "12", "offset '0x4' is no number"},
        {"0", "16", "want 12 bytes of data, its length is 16"},
        {"0", "11", "its length is 11"},
        {"0", "18446744073709551615", "its length is 18446744073709551615"},
        {"0", "12 ", "length '12 ' is no number"},
    };
    struct qc_external f = files("w.bin");
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        begin("w.bin", cases[i].offset, cases[i].length);
        refused(&f, QD_INVALID, cases[i].part);
        ck_assert_ptr_nonnull(strstr(err.message, "'w' in 'w.bin'"));
    }
}
END_TEST

START_TEST(import__location__byte_for_byte)
{
    static const char *const others[] = {"./w.bin", "W.bin", "w.bin ", "", "/w.bin", "../w.bin"};
    struct qc_external f = files("w.bin");
    for (size_t i = 0; i < QD_COUNT_OF(others); i++) {
        begin(others[i], "0", "12");
        refused(&f, QD_INVALID, "not among the files given: 'w.bin'");
    }
    begin("w.bin", "0", "12");
    refused(NULL, QD_INVALID, "'w.bin', which is not among the files given: none");
    begin(NULL, "0", "12");
    refused(&f, QD_INVALID, "'w': its external data have no location");
}
END_TEST

START_TEST(import__contradictions__invalid)
{
    static const uint8_t raw[12] = {1};
    struct qc_external f = files("w.bin");
    Onnx__TensorProto *t = begin("w.bin", "0", "12");
    t->has_raw_data = 1;
    t->raw_data = (ProtobufCBinaryData){12, (uint8_t *)(uintptr_t)raw};
    refused(&f, QD_INVALID, "'w' has data of its own");
    t = begin("w.bin", "0", "12");
    t->n_float_data = 3;
    refused(&f, QD_INVALID, "'w' has data of its own");
    begin("w.bin", "0", "12");
    entry[0][2].key = (char *)"offset";
    refused(&f, QD_INVALID, "two values of 'offset'");
}
END_TEST

START_TEST(import__file_that_nobody_names__invalid)
{
    struct qc_external f = files("w.bin");
    f.files[1] = (struct qc_external_file){"typo.bin", f.files[0].bytes};
    f.n = 2;
    begin("w.bin", "0", "12");
    refused(&f, QD_INVALID, "the file 'typo.bin'");
    start(13);
    add_node("add", "Add", "x w > y");
    add_initializer("w");
    f.n = 1;
    refused(&f, QD_INVALID, "the file 'w.bin'");
}
END_TEST

START_TEST(import__external_attribute__unsupported)
{
    struct qc_external f = files("w.bin");
    Onnx__TensorProto *t = begin("w.bin", "0", "12");
    Onnx__AttributeProto *a = add_attr(add_node("c", "Constant", "> k"), "value");
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
    a->t = t;
    refused(&f, QD_UNSUPPORTED, "external data: only an initializer may");
}
END_TEST

START_TEST(names__distinct_in_order_up_to_the_limit)
{
    static char name[QC_EXTERNAL_MAX + 1][8], location[QC_EXTERNAL_MAX + 1][8];
    static Onnx__TensorProto tensor[QC_EXTERNAL_MAX + 1], *tensors[QC_EXTERNAL_MAX + 1];
    static Onnx__StringStringEntryProto place[QC_EXTERNAL_MAX + 1], *places[QC_EXTERNAL_MAX + 1];
    for (int n = QC_EXTERNAL_MAX; n <= QC_EXTERNAL_MAX + 1; n++) {
        start(13);
        for (int i = 0; i < n; i++) {
            onnx__tensor_proto__init(tensors[i] = &tensor[i]);
            onnx__string_string_entry_proto__init(places[i] = &place[i]);
            snprintf(name[i], sizeof(name[i]), "t%d", i);
            snprintf(location[i], sizeof(location[i]), "f%d", i);
            place[i].key = (char *)"location";
            place[i].value = location[i];
            tensor[i].name = name[i];
            tensor[i].has_data_location = 1;
            tensor[i].data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
            tensor[i].external_data = &places[i];
            tensor[i].n_external_data = 1;
        }
        snprintf(location[1], sizeof(location[1]), n > QC_EXTERNAL_MAX ? "f1" : "f0");
        b.graph.initializer = tensors;
        b.graph.n_initializer = (size_t)n;
        size_t size = onnx__model_proto__get_packed_size(&b.model);
        uint8_t *data = malloc(size);
        onnx__model_proto__pack(&b.model, data);
        struct qc_external got = {.n = -1};
        enum qd_code code =
            qc_onnx_external_names((struct qd_bytes){data, size}, &arena, &got, &err);
        free(data);
        if (n > QC_EXTERNAL_MAX) {
            ck_assert_int_eq(code, QD_LIMIT_EXCEEDED);
            ck_assert_ptr_nonnull(strstr(err.message, "'f16', the limit is 16"));
        } else {
            ck_assert_int_eq(code, QD_OK);
            ck_assert_int_eq(got.n, n - 1);
            ck_assert_str_eq(got.files[0].name, "f0");
            ck_assert_str_eq(got.files[1].name, "f2");
        }
    }
}
END_TEST

Suite *test_onnx_external_suite(void)
{
    Suite *s = suite_create("onnx_external");
    TCase *t = tcase_create("external");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, import__external__bytes_at_the_offset);
    tcase_add_test(t, import__file_at_an_odd_address__same_values);
    tcase_add_test(t, import__offset_or_length_outside__invalid_with_both);
    tcase_add_test(t, import__location__byte_for_byte);
    tcase_add_test(t, import__contradictions__invalid);
    tcase_add_test(t, import__file_that_nobody_names__invalid);
    tcase_add_test(t, import__external_attribute__unsupported);
    tcase_add_test(t, names__distinct_in_order_up_to_the_limit);
    suite_add_tcase(s, t);
    return s;
}
