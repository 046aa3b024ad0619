/* Calibration tables that are broken, hostile or too large. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/worker_table_read.h"

static struct qd_arena arena;
static struct qd_error err;

static void setup(void)
{
    qd_arena_init(&arena, 1u << 28);
}

static void teardown(void)
{
    qd_arena_done(&arena);
}

static enum qd_code read_text(const char *text, struct worker_table *ret)
{
    return worker_table_read((struct qd_bytes){(const uint8_t *)text, strlen(text)}, "t", &arena,
                             ret, &err);
}

/* --- bad input --------------------------------------------------------------------------------
 */

#define ROW(more)                                                                                \
    "{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\",\"scale\":1,\"zero_point\":0" more "}]}"
#define AIMET(encoding) "{\"activation_encodings\":{\"x\":[" encoding "]}}"
#define LAYER(more)                                                                              \
    "{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\",\"scale\":1,\"zero_point\":0}],"           \
    "\"layers\":[{\"node\":\"n\"" more "}]}"

static const struct {
    const char *text, *says;
    enum qd_code code;
} wrong[] = {
    {"", "is empty", QD_INVALID},
    {"\n\n", "no scale", QD_INVALID},
    {"TRT-8501-EntropyCalibration2\n", "no scale", QD_INVALID},
    {"TRT-1-E\nx 3f800000\n", "line 2: 'x 3f800000' is not", QD_INVALID},
    {"TRT-1-E\nx: 3f80000\n", "line 2: scale '3f80000' is not 8 hex", QD_INVALID},
    {"TRT-1-E\nx: 3f8000000\n", "line 2: scale '3f8000000' is not 8 hex", QD_INVALID},
    {"TRT-1-E\nx: 3f80000g\n", "is not 8 hex", QD_INVALID},
    {"TRT-1-E\nx: 00000000\n", "line 2: scale 00000000 is 0, allowed", QD_INVALID},
    {"TRT-1-E\nx: bf800000\n", "is -1, allowed", QD_INVALID},
    {"TRT-1-E\nx: 7f800000\n", "is inf, allowed", QD_INVALID},
    {"TRT-1-E\nx: 7fc00000\n", "nan, allowed", QD_INVALID},
    {"TRT-1-E\nx: 00000001\n", "allowed: 1.17549e-38", QD_INVALID},
    {"TRT-1-E\n: 3f800000\n", "line 2: a tensor has an empty name", QD_INVALID},
    {"TRT-1-E\nx: 3f800000\ny: 3f800000\nx: 3f800000\n",
     "line 4: tensor 'x' stands in line 2 already", QD_INVALID},
    {"TRT-1-E\na\x01: 3f800000\n", "byte 0x01", QD_INVALID},
    {"TRT-1-E\na\xc0\xaf: 3f800000\n", "byte 0xc0", QD_INVALID},
    {"TRT-1-E\na\xed\xa0\x80: 3f800000\n", "byte 0xed", QD_INVALID},
    {"conv_param_0 1 2\nconv\n", "line 2: '' is not a number", QD_INVALID},
    {"conv 1 2\n", "more than one scale", QD_INVALID},
    {"conv 0x10\n", "'0x10' is not a number", QD_INVALID},
    {"conv inf\n", "'inf' is not a number", QD_INVALID},
    {"conv 1e\n", "'1e' is not a number", QD_INVALID},
    {"conv 0\n", "scale 0, allowed", QD_INVALID},
    {"conv -3\n", "scale -3, allowed", QD_INVALID},
    {"conv 1e300\n", "scale 1e+300, allowed", QD_INVALID},
    {"conv_param_0 1 nan\nconv 1\n", "line 1: 'nan' is not", QD_INVALID},
    {"conv_param_0\nconv 1\n", "line 1: layer 'conv' has no scale", QD_INVALID},
    {"conv_param_0 1\nconv_param_0 1\nconv 1\n", "line 2: layer 'conv' stands in line 1",
     QD_INVALID},
    {"conv 1\nconv 1\n", "line 2: layer 'conv' stands in line 1", QD_INVALID},
    {"_param_0 1\nconv 1\n", "line 1: a layer has an empty name", QD_INVALID},
    {"lstm_param_1 1\n", "only layers with one matrix", QD_UNSUPPORTED},
    {"conv_param_00 1\n", "only layers with one matrix", QD_UNSUPPORTED},
    {"{", "line 1, column 1", QD_INVALID},
    {"{\"tensors\":[],\n\"tensors\":[]}", "line 2", QD_INVALID},
    {"{}", "no scale", QD_INVALID},
    {"{\"format\":\"x\"}", "'x', allowed: quantd-calibration-1", QD_INVALID},
    {"{\"format\":1}", "not a string", QD_INVALID},
    {"{\"tensors\":{}}", "'tensors' is not a list", QD_INVALID},
    {"{\"tensors\":[1]}", "tensors/0/tensor is not a string", QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"\"}]}", "tensors/0: a tensor has an empty name", QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"f32\"}]}", "'f32', allowed: u8, s8",
     QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\"}]}", "tensors/0/scale is not a number",
     QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\",\"scale\":-1}]}",
     "tensors/0/scale is -1, allowed", QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\",\"scale\":1e39}]}", "1e+39, allowed",
     QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\",\"scale\":1,\"zero_point\":256}]}",
     "zero_point is 256, allowed: 0 to 255", QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"s8\",\"scale\":1,\"zero_point\":128}]}",
     "zero_point is 128, allowed: -128 to 127", QD_INVALID},
    {"{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"s8\",\"scale\":1,\"zero_point\":0.5}]}",
     "zero_point is not an integer", QD_INVALID},
    {ROW(",\"lo\":\"1\""), "tensors/0/lo is not a number or null", QD_INVALID},
    {ROW(",\"count\":-2"), "count is -2", QD_INVALID},
    {ROW(",\"shared\":\"y\""), "tensors/0/shared is not a list", QD_INVALID},
    {ROW(",\"shared\":[1]"), "a list of strings", QD_INVALID},
    {ROW(",\"shared\":[\"\"]"), "empty name", QD_INVALID},
    {ROW(",\"shared\":[\"x\"]"), "tensor 'x' appears twice", QD_INVALID},
    {"{\"activation_encodings\":[]}", "version 1.0.0", QD_UNSUPPORTED},
    {"{\"activation_encodings\":1}", "'activation_encodings' is not an object", QD_INVALID},
    {"{\"activation_encodings\":{}}", "no scale", QD_INVALID},
    {"{\"activation_encodings\":{\"x\":{}}}", "'x' is not a list", QD_INVALID},
    {"{\"activation_encodings\":{\"\":[1]}}", "empty name", QD_INVALID},
    {AIMET(""), "'x' is not a list", QD_INVALID},
    {AIMET("1"), "'x' lacks", QD_INVALID},
    {AIMET("{},{}"), "'x' has one a channel", QD_UNSUPPORTED},
    {AIMET("{\"dtype\":\"float\",\"bitwidth\":16}"), "not of integers", QD_UNSUPPORTED},
    {AIMET("{\"bitwidth\":16,\"scale\":1,\"offset\":0}"), "16 bits, supported: 8",
     QD_UNSUPPORTED},
    {AIMET("{\"bitwidth\":8,\"scale\":0,\"offset\":0}"), "scale 0 of tensor 'x'", QD_INVALID},
    {AIMET("{\"bitwidth\":8,\"scale\":1,\"offset\":1}"), "offset 1 of tensor 'x'", QD_INVALID},
    {AIMET("{\"bitwidth\":8,\"scale\":1,\"offset\":-256}"), "-255 to 0", QD_INVALID},
    {LAYER(""), "layers/0/channels is not an integer", QD_INVALID},
    {LAYER(",\"channels\":0"), "channels is 0, allowed: 1 to 16777216", QD_INVALID},
    {LAYER(",\"channels\":2,\"groups\":3"), "groups is 3, allowed: 1 to 2", QD_INVALID},
    {LAYER(",\"channels\":3,\"groups\":2,\"scales\":[1]"), "3 channels in 2 groups", QD_INVALID},
    {LAYER(",\"channels\":3,\"scales\":[1,1]"), "2 scales for 3 channels", QD_INVALID},
    {LAYER(",\"channels\":3"), "0 scales for 3 channels", QD_INVALID},
    {LAYER(",\"channels\":1,\"scales\":[0]"), "layers/0/scales is 0, allowed", QD_INVALID},
};

START_TEST(read__bad_input__named_with_its_place)
{
    struct worker_table back = {.n_rows = 77};
    enum qd_code code = read_text(wrong[_i].text, &back);
    ck_assert_msg(code == wrong[_i].code, "%s: %s", wrong[_i].text, qd_code_name(code));
    ck_assert_msg(strstr(err.message, wrong[_i].says) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.message, "calibration table 't'") == err.message, "%s", err.message);
    ck_assert_uint_eq(back.n_rows, 77);
}
END_TEST

static enum qd_code read_repeated(const char *start, const char *piece, size_t times,
                                  const char *end)
{
    size_t n = strlen(start) + strlen(piece) * times + strlen(end);
    char *text = malloc(n + 1);
    struct worker_table back;
    char *at = stpcpy(text, start);
    for (size_t i = 0; i < times; i++) {
        at = stpcpy(at, piece);
    }
    stpcpy(at, end);
    enum qd_code code = read_text(text, &back);
    free(text);
    return code;
}

START_TEST(read__over_a_limit__refused)
{
    ck_assert_int_eq(read_repeated("", "x", WORKER_TABLE_MAX_BYTES + 1, ""), QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(read_repeated("", "x\n", WORKER_TABLE_MAX_ROWS + 1, ""), QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(read_repeated("", "x", WORKER_TABLE_MAX_NAME + 1, " 1"), QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(read_repeated("", "x", WORKER_TABLE_MAX_NAME, " 1"), QD_OK);
    ck_assert_int_eq(read_repeated("{\"tensors\":[", "1,", WORKER_TABLE_MAX_ROWS, "1]}"),
                     QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(read_repeated("{\"tensors\":[{\"tensor\":\"x\",\"dtype\":\"u8\",\"scale\":1,"
                                   "\"zero_point\":0,\"shared\":[",
                                   "\"y\",", WORKER_TABLE_MAX_ROWS, "\"z\"]}]}"),
                     QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(read_repeated("{\"tensors\":", "[", 5000, ""), QD_INVALID);
}
END_TEST

START_TEST(read__memory_runs_out__says_so)
{
    static const char *const texts[] = {ROW(",\"shared\":[\"y\"]"),
                                        LAYER(",\"channels\":2,\"scales\":[1,2]"),
                                        "conv_param_0 1 2\nconv 3\n", "TRT-1-E\nx: 3f800000\n"};
    for (size_t i = 0; i < QD_COUNT_OF(texts); i++) {
        for (int n = 1;; n++) {
            struct qd_arena small;
            struct worker_table back;
            qd_arena_init(&small, 0);
            small.fail_after = n;
            enum qd_code code =
                worker_table_read((struct qd_bytes){(const uint8_t *)texts[i], strlen(texts[i])},
                                  "t", &small, &back, &err);
            qd_arena_done(&small);
            if (code == QD_OK) {
                ck_assert_int_gt(n, 3);
                break;
            }
            ck_assert_int_eq(code, QD_NO_MEMORY);
        }
    }
}
END_TEST

START_TEST(read_file__missing_folder_too_large__refused)
{
    struct worker_table back;
    char path[] = "/tmp/qd-table-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "conv 4\n", 7), 7);
    ck_assert_int_eq(worker_table_read_file(path, "t", &arena, &back, &err), QD_OK);
    ck_assert(back.rows[0].scale == 0.25f);
    ck_assert_int_eq(ftruncate(fd, (off_t)WORKER_TABLE_MAX_BYTES + 1), 0);
    ck_assert_int_eq(worker_table_read_file(path, "t", &arena, &back, &err), QD_LIMIT_EXCEEDED);
    close(fd);
    unlink(path);
    ck_assert_int_eq(worker_table_read_file(path, "t", &arena, &back, &err), QD_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(err.message, "calibration table 't'"));
    ck_assert_int_eq(worker_table_read_file("/tmp", "t", &arena, &back, &err), QD_INVALID);
}
END_TEST

Suite *test_tables_bad_suite(void)
{
    Suite *s = suite_create("tables_bad");
    TCase *t = tcase_create("read");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, read__bad_input__named_with_its_place, 0, QD_COUNT_OF(wrong));
    tcase_add_test(t, read__over_a_limit__refused);
    tcase_add_test(t, read_file__missing_folder_too_large__refused);
    tcase_add_test(t, read__memory_runs_out__says_so);
    suite_add_tcase(s, t);
    return s;
}
