#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/data/idx.h"
#include "quantcore/data/npy.h"
#include "quantcore/data/npy_write.h"
#include "tests/lib/data_files.h"

/* Header of bytes in memory. */
static enum qd_code parse(const void *data, size_t n, bool idx, struct qc_array_header *h,
                          struct qd_error *err)
{
    struct qc_source *source = NULL;
    enum qd_code code =
        qc_source_open_bytes((struct qd_bytes){data, n}, "file.npy", &source, err);
    ck_assert_int_eq(code, QD_OK);
    code = idx ? qc_idx_read_header(source, h, err) : qc_npy_read_header(source, h, err);
    qc_source_free(source);
    return code;
}

/* An .npy of version `major` around any header text. */
static struct test_bytes wrap(int major, const char *text, const void *data, size_t n)
{
    struct test_bytes b = {0};
    size_t length = strlen(text);
    uint8_t head[12] = {
        0x93, 'N', 'U', 'M', 'P', 'Y', (uint8_t)major, 0, (uint8_t)length, (uint8_t)(length >> 8),
        0,    0};
    test_bytes_add(&b, head, major == 1 ? 10 : 12);
    test_bytes_add(&b, text, length);
    test_bytes_add(&b, data, n);
    return b;
}

#define DICT(descr, order, shape)                                                                \
    "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }\n"

static void check_refused(const char *text, size_t n, enum qd_code code, const char *needle)
{
    uint8_t data[64] = {0};
    struct qd_error err = {0};
    struct qc_array_header h = {0};
    struct test_bytes b = wrap(1, text, data, n);
    ck_assert_msg(parse(b.data, b.size, false, &h, &err) == code, "%s: %s: %s", text,
                  qd_code_name(err.code), err.message);
    ck_assert_msg(strstr(err.message, needle) != NULL, "'%s' not in: %s", needle, err.message);
    ck_assert_ptr_nonnull(strstr(err.message, "file.npy"));
    free(b.data);
}

START_TEST(npy_header__three_versions__same_result)
{
    uint8_t data[24] = {0};
    for (int major = 1; major <= 3; major++) {
        struct qc_array_header h = {0};
        struct test_bytes b = wrap(major, DICT("<f4", "False", "(2, 3)"), data, 24);
        ck_assert_int_eq(parse(b.data, b.size, false, &h, NULL), QD_OK);
        ck_assert_int_eq(h.element, QC_ELEMENT_F32);
        ck_assert_int_eq(h.rank, 2);
        ck_assert_int_eq(h.dim[0], 2);
        ck_assert_int_eq(h.dim[1], 3);
        ck_assert_uint_eq(h.elements, 6);
        ck_assert_uint_eq(h.data_offset + 24, b.size);
        free(b.data);
    }
}
END_TEST

START_TEST(npy_header__spellings_of_the_dictionary__read)
{
    static const char *const texts[] = {
        "{\"shape\":(6,),\"descr\":\"<i4\",\"fortran_order\":False}",
        "{'descr': '<i4', 'fortran_order': True, 'shape': (6L,), }          \n",
        " { 'fortran_order' : False , 'shape' : ( 6 , ) , 'descr' : '=i4' } ",
    };
    uint8_t data[24] = {0};
    for (size_t i = 0; i < QD_COUNT_OF(texts); i++) {
        struct qc_array_header h = {0};
        struct qd_error err = {0};
        struct test_bytes b = wrap(1, texts[i], data, 24);
        ck_assert_msg(parse(b.data, b.size, false, &h, &err) == QD_OK, "%s", err.message);
        ck_assert_int_eq(h.element, QC_ELEMENT_S32);
        ck_assert_int_eq(h.rank, 1);
        free(b.data);
    }
}
END_TEST

START_TEST(npy_header__malformed__invalid)
{
    static const char *const texts[] = {
        "",
        "{",
        "{}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} x",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (6,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [6]}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,,3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1,6)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}",
        "{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (6,)}",
        "__import__('os').system('true')",
    };
    for (size_t i = 0; i < QD_COUNT_OF(texts); i++) {
        check_refused(texts[i], 24, QD_INVALID, "malformed at its byte");
    }
}
END_TEST

START_TEST(npy_header__what_is_not_supported__named)
{
    check_refused(DICT("|O", "False", "(6,)"), 24, QD_UNSUPPORTED, "pickle");
    check_refused(DICT("<c8", "False", "(3,)"), 24, QD_UNSUPPORTED, "'<c8'");
    check_refused(DICT("<U2", "False", "(3,)"), 24, QD_UNSUPPORTED, "'<U2'");
    check_refused("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", 24,
                  QD_UNSUPPORTED, "structured");
    check_refused(DICT("<f4", "True", "(2, 3)"), 24, QD_UNSUPPORTED, "fortran_order");
}
END_TEST

START_TEST(npy_header__size_differs__both_sizes_named)
{
    check_refused(DICT("<f4", "False", "(2, 3)"), 23, QD_INVALID, "truncated");
    check_refused(DICT("<f4", "False", "(2, 3)"), 25, QD_INVALID, "too long");
    check_refused(DICT("<f4", "False", "(4294967296, 4294967296)"), 8, QD_INVALID, "overflows");
    check_refused(DICT("<f8", "False", "(2305843009213693952,)"), 0, QD_INVALID, "overflows");
    check_refused(DICT("<f4", "False", "(0, 9223372036854775807, 4)"), 0, QD_INVALID,
                  "overflows");
}
END_TEST

START_TEST(npy_header__every_truncation__error_without_reading_past)
{
    uint8_t data[24] = {0};
    struct test_bytes b = wrap(2, DICT("<f4", "False", "(2, 3)"), data, 24);
    for (size_t n = 0; n < b.size; n++) {
        struct qc_array_header h = {0};
        struct qd_error err = {0};
        uint8_t *exact = malloc(n + (n == 0)); /* so that sanitizers see a read past the end */
        memcpy(exact, b.data, n);
        ck_assert_int_ne(parse(exact, n, false, &h, &err), QD_OK);
        ck_assert_int_gt((int)strlen(err.message), 0);
        free(exact);
    }
    free(b.data);
}
END_TEST

START_TEST(npy_header__length_over_limit__limit_exceeded)
{
    uint8_t head[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, 0xff, 0xff, 0xff, 0xff};
    struct qc_array_header h = {0};
    struct qd_error err = {0};
    ck_assert_int_eq(parse(head, 12, false, &h, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "4294967295"));
    head[6] = 4;
    ck_assert_int_eq(parse(head, 12, false, &h, &err), QD_UNSUPPORTED);
}
END_TEST

START_TEST(idx_header__types_and_damage__as_specified)
{
    uint8_t good[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6};
    struct qc_array_header h = {0};
    struct qd_error err = {0};
    ck_assert_int_eq(parse(good, sizeof(good), true, &h, &err), QD_OK);
    ck_assert_int_eq(h.rank, 3);
    ck_assert_int_eq(h.dim[2], 3);
    ck_assert_uint_eq(h.data_offset, 16);
    for (size_t n = 0; n < sizeof(good); n++) {
        ck_assert_int_eq(parse(good, n, true, &h, &err), QD_INVALID);
    }
    good[2] = 0x0a;
    ck_assert_int_eq(parse(good, sizeof(good), true, &h, &err), QD_INVALID);
    good[2] = 8;
    good[3] = 0;
    ck_assert_int_eq(parse(good, sizeof(good), true, &h, &err), QD_INVALID);
    uint8_t huge[] = {0, 0, 14, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    ck_assert_int_eq(parse(huge, sizeof(huge), true, &h, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "overflows"));
}
END_TEST

START_TEST(elements__every_type_and_byte_order__exact)
{
    static const struct {
        enum qc_element element;
        uint8_t little[8];
        float value;
    } cases[] = {
        {QC_ELEMENT_F32, {0, 0, 0xc0, 0x3f}, 1.5F},
        {QC_ELEMENT_F64, {0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, 1.5F},
        {QC_ELEMENT_F16, {0x00, 0x3e}, 1.5F},
        {QC_ELEMENT_F16, {0x01, 0x00}, 0x1p-24F},
        {QC_ELEMENT_F16, {0xff, 0x83}, -0x1.ff8p-15F},
        {QC_ELEMENT_F16, {0xff, 0x7b}, 65504.0F},
        {QC_ELEMENT_U8, {0xfe}, 254.0F},
        {QC_ELEMENT_S8, {0xfe}, -2.0F},
        {QC_ELEMENT_S16, {0xfe, 0xff}, -2.0F},
        {QC_ELEMENT_S32, {0x01, 0x00, 0x00, 0x80}, -2147483648.0F},
        {QC_ELEMENT_S64, {0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, -2.0F},
        {QC_ELEMENT_BOOL, {7}, 1.0F},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        float value = 0;
        uint8_t big[8];
        size_t size = qc_element_size(cases[i].element);
        qc_elements_to_f32(cases[i].element, false, cases[i].little, 1, &value);
        ck_assert_msg(value == cases[i].value, "%zu: %a", i, (double)value);
        for (size_t j = 0; j < size; j++) {
            big[j] = cases[i].little[size - 1 - j];
        }
        value = 0;
        qc_elements_to_f32(cases[i].element, true, big, 1, &value);
        ck_assert_msg(value == cases[i].value, "%zu big: %a", i, (double)value);
    }
    uint8_t special[] = {0x00, 0x7c, 0x00, 0xfc, 0x01, 0x7e};
    float f[3];
    qc_elements_to_f32(QC_ELEMENT_F16, false, special, 3, f);
    ck_assert(f[0] == INFINITY && f[1] == -INFINITY && isnan(f[2]));
}
END_TEST

START_TEST(npy_writer__written_then_parsed__same_and_complete)
{
    char *path = test_path("w.npy");
    int64_t shape[] = {2, 3};
    float data[] = {1, 2, 3, 4, 5, 6};
    float back[6];
    struct qc_npy_writer *writer = NULL;
    struct qc_source *source = NULL;
    struct qc_array_header h = {0};
    struct qd_error err = {0};
    ck_assert_int_eq(qc_npy_writer_open(path, QC_ELEMENT_F32, shape, 2, &writer, NULL), QD_OK);
    ck_assert_int_eq(qc_npy_writer_append(writer, data, 2, NULL), QD_OK);
    ck_assert_int_eq(qc_npy_writer_append(writer, data + 2, 4, NULL), QD_OK);
    ck_assert_int_eq(qc_npy_writer_append(writer, data, 1, &err), QD_INVALID);
    ck_assert_int_eq(qc_npy_writer_close(writer, NULL), QD_OK);
    ck_assert_int_eq(qc_source_open_file(path, "w.npy", &source, NULL), QD_OK);
    ck_assert_int_eq(qc_npy_read_header(source, &h, NULL), QD_OK);
    ck_assert_uint_eq(h.data_offset % 64, 0);
    ck_assert_int_eq(h.dim[1], 3);
    ck_assert_int_eq(qc_source_read(source, back, sizeof(back), NULL), QD_OK);
    ck_assert_mem_eq(back, data, sizeof(back));
    qc_source_free(source);
    ck_assert_int_eq(qc_npy_writer_open(path, QC_ELEMENT_F32, shape, 2, &writer, NULL), QD_OK);
    ck_assert_int_eq(qc_npy_writer_close(writer, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "0 elements written of 6"));
    ck_assert_int_eq(
        qc_npy_writer_open("/nonexistent/x.npy", QC_ELEMENT_F32, shape, 2, &writer, &err),
        QD_NOT_FOUND);
    free(path);
    test_files_done();
}
END_TEST

Suite *test_npy_suite(void)
{
    Suite *s = suite_create("npy");
    TCase *c = tcase_create("npy");
    tcase_add_test(c, npy_header__three_versions__same_result);
    tcase_add_test(c, npy_header__spellings_of_the_dictionary__read);
    tcase_add_test(c, npy_header__malformed__invalid);
    tcase_add_test(c, npy_header__what_is_not_supported__named);
    tcase_add_test(c, npy_header__size_differs__both_sizes_named);
    tcase_add_test(c, npy_header__every_truncation__error_without_reading_past);
    tcase_add_test(c, npy_header__length_over_limit__limit_exceeded);
    tcase_add_test(c, idx_header__types_and_damage__as_specified);
    tcase_add_test(c, elements__every_type_and_byte_order__exact);
    tcase_add_test(c, npy_writer__written_then_parsed__same_and_complete);
    suite_add_tcase(s, c);
    return s;
}
