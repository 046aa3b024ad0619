/* Whole arrays: .npy, .npz, IDX, labels, preprocessing, streams of several files. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quantcore/data/npy_write.h"
#include "quantcore/data/reader.h"
#include "tests/lib/data_files.h"

#define N        5
#define ELEMENTS 12 /* [1,3,4] */

static struct qc_reader_input input_134 = {.name = "x", .rank = 3, .dim = {1, 3, 4}};
static struct qc_reader_options options_134 = {.inputs = &input_134, .n_inputs = 1};

static uint8_t pixel(int i)
{
    return (uint8_t)(i * 37 + 11);
}

/* Read everything twice, once skipping; each sample must be pixel(0), pixel(1), ... */
static void check_delivers(const char *path, const struct qc_reader_options *options)
{
    struct qc_reader *reader = NULL;
    struct qd_error err = {0};
    float sample[ELEMENTS];
    float *out[1] = {sample};
    bool end = false;
    ck_assert_msg(qc_reader_open(path, "data", options, &reader, &err) == QD_OK, "%s",
                  err.message);
    ck_assert_int_eq(qc_reader_count(reader), N);
    ck_assert_uint_eq(qc_reader_elements(reader, 0), ELEMENTS);
    for (int pass = 0; pass < 3; pass++) {
        int first = 0;
        if (pass == 2) {
            first = 3;
            ck_assert_int_eq(qc_reader_skip(reader, 3, &err), QD_OK);
            ck_assert_int_eq(qc_reader_skip(reader, 3, &err), QD_INVALID);
        }
        for (int n = first; n < N; n++) {
            ck_assert_msg(qc_reader_next(reader, out, &end, &err) == QD_OK, "%s", err.message);
            ck_assert(!end);
            for (int i = 0; i < ELEMENTS; i++) {
                ck_assert_float_eq(sample[i], (float)pixel(n * ELEMENTS + i));
            }
        }
        ck_assert_int_eq(qc_reader_next(reader, out, &end, &err), QD_OK);
        ck_assert(end);
        ck_assert_int_eq(qc_reader_rewind(reader, &err), QD_OK);
    }
    qc_reader_free(reader);
}

static enum qd_code try_open(const char *path, const struct qc_reader_options *options,
                             struct qd_error *err)
{
    struct qc_reader *reader = NULL;
    enum qd_code code = qc_reader_open(path, "data", options, &reader, err);
    qc_reader_free(reader);
    return code;
}

/* Open and read to the end. */
static enum qd_code try_read(const char *path, const struct qc_reader_options *options,
                             struct qd_error *err)
{
    struct qc_reader *reader = NULL;
    enum qd_code code = qc_reader_open(path, "data", options, &reader, err);
    if (code != QD_OK) {
        return code;
    }
    float *out[QC_READER_MAX_INPUTS];
    bool end = false;
    for (int i = 0; i < options->n_inputs; i++) {
        out[i] = malloc(qc_reader_elements(reader, i) * sizeof(float));
    }
    while (code == QD_OK && !end) {
        code = qc_reader_next(reader, out, &end, err);
    }
    for (int i = 0; i < options->n_inputs; i++) {
        free(out[i]);
    }
    qc_reader_free(reader);
    return code;
}

static void expect(enum qd_code code, enum qd_code wanted, const struct qd_error *err,
                   const char *needle)
{
    ck_assert_msg(code == wanted, "%s: %s", qd_code_name(code), err->message);
    ck_assert_msg(strstr(err->message, needle) != NULL, "'%s' not in: %s", needle, err->message);
}

static struct test_bytes u8_npy(const char *shape)
{
    uint8_t data[N * ELEMENTS];
    for (int i = 0; i < N * ELEMENTS; i++) {
        data[i] = pixel(i);
    }
    return test_npy("|u1", "False", shape, data, sizeof(data));
}

START_TEST(open__every_array_format__same_floats)
{
    float f[N * ELEMENTS];
    uint8_t idx[16 + N * ELEMENTS] = {0, 0, 8, 3, 0, 0, 0, N, 0, 0, 0, 3, 0, 0, 0, 4};
    for (int i = 0; i < N * ELEMENTS; i++) {
        f[i] = (float)pixel(i);
        idx[16 + i] = pixel(i);
    }
    struct test_bytes u8 = u8_npy("(5, 1, 3, 4)");
    struct test_bytes f4 = test_npy("<f4", "False", "(5, 3, 4)", f, sizeof(f));
    struct test_member one[] = {{"x.npy", f4.data, f4.size, NULL}};
    struct test_member other[] = {{"arr_0.npy", u8.data, u8.size, NULL}};
    struct test_member both[] = {{"z.npy", f4.data, 3, NULL}, {"x.npy", u8.data, u8.size, NULL}};
    struct test_bytes padded = {0};
    test_bytes_add(&padded, f4.data, f4.size);
    test_bytes_add(&padded, "\x93NUMPY", 6);
    both[0].data = padded.data + f4.size;
    both[0].size = 6; /* damaged, but nobody's input */
    char *paths[] = {
        test_write("u8.npy", u8.data, u8.size),
        test_write("f4.npy", f4.data, f4.size),
        test_write("idx", idx, sizeof(idx)),
        test_write_gz("idx.gz", idx, sizeof(idx)),
        test_write_archive("stored.npz", TEST_ZIP_STORED, one, 1),
        test_write_archive("deflated.npz", TEST_ZIP, other, 1),
        test_write_archive("two.npz", TEST_ZIP, both, 2),
    };
    for (size_t i = 0; i < QD_COUNT_OF(paths); i++) {
        check_delivers(paths[i], &options_134);
        free(paths[i]);
    }
    free(u8.data);
    free(f4.data);
    free(padded.data);
    test_files_done();
}
END_TEST

START_TEST(open__shapes__ones_may_differ_the_rest_may_not)
{
    static const struct {
        const char *shape;
        bool ok;
    } cases[] = {
        {"(5, 1, 3, 4)", true},     {"(5, 3, 4)", true},  {"(5, 1, 1, 3, 4)", true},
        {"(5, 3, 4, 1)", true},     {"(5, 4, 3)", false}, {"(5, 12)", false},
        {"(5, 2, 6)", false},       {"(60,)", false},     {"(5, 3, 1, 4)", true},
        {"(5, 1, 3, 2, 2)", false},
    };
    for (size_t i = 0; i < QD_COUNT_OF(cases); i++) {
        struct qd_error err = {0};
        struct test_bytes b = u8_npy(cases[i].shape);
        char *path = test_write("s.npy", b.data, b.size);
        enum qd_code code = try_open(path, &options_134, &err);
        ck_assert_msg((code == QD_OK) == cases[i].ok, "%s: %s", cases[i].shape, err.message);
        if (!cases[i].ok) {
            expect(code, QD_INVALID, &err, "[1,3,4]");
        }
        free(path);
        free(b.data);
    }
    struct qc_reader_input any = {.name = "x", .rank = 3, .dim = {1, -1, -1}};
    struct qc_reader_options options = {.inputs = &any, .n_inputs = 1};
    struct test_bytes b = u8_npy("(5, 3, 4)");
    char *path = test_write("any.npy", b.data, b.size);
    check_delivers(path, &options);
    free(path);
    free(b.data);
    test_files_done();
}
END_TEST

START_TEST(open__damaged_or_foreign_files__refused_with_a_reason)
{
    struct qd_error err = {0};
    struct test_bytes b = u8_npy("(5, 3, 4)");
    char *path = test_write("cut.npy", b.data, b.size - 1);
    expect(try_open(path, &options_134, &err), QD_INVALID, &err, "truncated");
    free(path);
    path = test_write("empty", "", 0);
    expect(try_open(path, &options_134, &err), QD_UNSUPPORTED, &err, "none of .npy");
    free(path);
    path = test_write("text", "hello, world", 12);
    expect(try_open(path, &options_134, &err), QD_UNSUPPORTED, &err, "68656c6c");
    free(path);
    expect(try_open("/nonexistent", &options_134, &err), QD_NOT_FOUND, &err, "data");
    expect(try_open("/tmp", &options_134, &err), QD_INVALID, &err, "is a folder");
    free(b.data);
    b = test_npy("|u1", "False", "(0, 3, 4)", "", 0);
    path = test_write("none.npy", b.data, b.size);
    expect(try_open(path, &options_134, &err), QD_INVALID, &err, "no samples");
    free(path);
    free(b.data);
    test_files_done();
}
END_TEST

START_TEST(next__file_truncated_after_open__error_not_signal)
{
    enum { SIDE = 128, SAMPLES = 20 };
    struct qd_error err = {0};
    struct qc_reader_input input = {.name = "x", .rank = 2, .dim = {SIDE, SIDE}};
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    uint8_t *data = calloc(SAMPLES, SIDE * SIDE);
    float *sample = calloc(SIDE * SIDE, sizeof(float));
    struct test_bytes b = test_npy("|u1", "False", "(20, 128, 128)", data, SAMPLES * SIDE * SIDE);
    struct qc_reader *reader = NULL;
    float *out[1] = {sample};
    bool end = false;
    char *path = test_write("shrinks.npy", b.data, b.size);
    ck_assert_int_eq(qc_reader_open(path, "data", &options, &reader, &err), QD_OK);
    ck_assert_int_eq(truncate(path, (off_t)(b.size - 9 * SIDE * SIDE - SIDE)), 0);
    enum qd_code code = QD_OK;
    int delivered = -1;
    for (; code == QD_OK && !end; delivered++) {
        code = qc_reader_next(reader, out, &end, &err);
    }
    ck_assert_int_eq(delivered, 10);
    expect(code, QD_INVALID, &err, "sample 10");
    qc_reader_free(reader);
    free(path);
    free(b.data);
    free(data);
    free(sample);
    test_files_done();
}
END_TEST

START_TEST(next__nan_and_inf__input_sample_element_named)
{
    float f[N * ELEMENTS] = {0};
    struct qd_error err = {0};
    f[2 * ELEMENTS + 7] = NAN;
    struct test_bytes b = test_npy("<f4", "False", "(5, 3, 4)", f, sizeof(f));
    char *path = test_write("nan.npy", b.data, b.size);
    expect(try_read(path, &options_134, &err), QD_INVALID, &err,
           "input x, sample 2, element 7 is NaN");
    free(path);
    free(b.data);
    f[2 * ELEMENTS + 7] = 0;
    f[N * ELEMENTS - 1] = -INFINITY;
    b = test_npy("<f4", "False", "(5, 3, 4)", f, sizeof(f));
    path = test_write("inf.npy", b.data, b.size);
    expect(try_read(path, &options_134, &err), QD_INVALID, &err,
           "input x, sample 4, element 11 is -Inf");
    free(path);
    free(b.data);
    test_files_done();
}
END_TEST

START_TEST(gz__damaged_or_bomb__refused)
{
    struct qd_error err = {0};
    size_t size = 16 + (size_t)4 * 1024 * 1024;
    uint8_t *idx = calloc(1, size + 1);
    memcpy(idx, (uint8_t[]){0, 0, 8, 3, 0, 0, 4, 0, 0, 0, 0, 64, 0, 0, 0, 64}, 16);
    struct qc_reader_input input = {.name = "x", .rank = 2, .dim = {64, 64}};
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    char *path = test_write_gz("bomb.gz", idx, size);
    expect(try_read(path, &options, &err), QD_LIMIT_EXCEEDED, &err, "max_ratio");
    options.limits.max_ratio = 100000;
    ck_assert_int_eq(try_read(path, &options, &err), QD_OK);
    options.limits.max_member_bytes = 1024 * 1024;
    expect(try_read(path, &options, &err), QD_LIMIT_EXCEEDED, &err, "max_member_bytes");
    free(path);
    options.limits.max_member_bytes = 0;
    path = test_write_gz("long.gz", idx, size + 1);
    expect(try_read(path, &options, &err), QD_INVALID, &err, "bytes follow");
    free(path);
    path = test_write_gz("short.gz", idx, size - 1);
    expect(try_read(path, &options, &err), QD_INVALID, &err, "truncated");
    free(path);
    free(idx);
    uint8_t small[16 + 4096] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 64, 0, 0, 0, 64};
    for (size_t i = 16; i < sizeof(small); i++) {
        small[i] = pixel((int)(i * i));
    }
    path = test_write_gz("cut.gz", small, sizeof(small));
    FILE *f = fopen(path, "r+b");
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    ck_assert_int_eq(ftruncate(fileno(f), ftell(f) - 9), 0);
    fclose(f);
    expect(try_read(path, &options, &err), QD_INVALID, &err, "gzip stream damaged");
    free(path);
    test_files_done();
}
END_TEST

START_TEST(npz__two_inputs_and_labels__matched_by_name)
{
    int64_t shape_a[] = {3, 2};
    int64_t shape_b[] = {3, 1, 2, 2};
    int64_t shape_l[] = {3};
    int16_t a[] = {1, 2, 3, 4, 5, 6};
    uint8_t b[] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};
    int64_t l[] = {7, -1, 2};
    struct qc_npz_array arrays[] = {
        {"image", QC_ELEMENT_U8, shape_b, 4, b},
        {"ids", QC_ELEMENT_S16, shape_a, 2, a},
        {"labels", QC_ELEMENT_S64, shape_l, 1, l},
    };
    struct qc_reader_input inputs[] = {
        {.name = "ids", .rank = 1, .dim = {2}},
        {.name = "image", .rank = 3, .dim = {1, 2, 2}},
    };
    struct qc_reader_options options = {.inputs = inputs, .n_inputs = 2};
    options.preprocess.has_scale = true;
    options.preprocess.scale = 0.5F;
    struct qc_reader *reader = NULL;
    struct qd_error err = {0};
    float ids[2];
    float image[4];
    float *out[] = {ids, image};
    bool end = false;
    char *path = test_path("two.npz");
    ck_assert_int_eq(qc_npz_write(path, arrays, 3, &err), QD_OK);
    ck_assert_msg(qc_reader_open(path, "two", &options, &reader, &err) == QD_OK, "%s",
                  err.message);
    for (int n = 0; n < 3; n++) {
        ck_assert_int_eq(qc_reader_next(reader, out, &end, &err), QD_OK);
        ck_assert_float_eq(ids[1], (float)a[2 * n + 1]); /* not an image: not scaled */
        ck_assert_float_eq(image[3], (float)b[4 * n + 3] * 0.5F);
        ck_assert_int_eq(qc_reader_labels(reader)[n], (int)l[n]);
    }
    qc_reader_free(reader);
    inputs[0].name = "missing";
    expect(try_open(path, &options, &err), QD_INVALID, &err, "no array for input missing");
    ck_assert_ptr_nonnull(strstr(err.message, "ids.npy"));
    inputs[0].name = "labels";
    inputs[0].rank = 0;
    ck_assert_int_eq(try_read(path, &options, &err), QD_OK);
    arrays[1].shape = (int64_t[]){2, 3};
    inputs[0] = (struct qc_reader_input){.name = "ids", .rank = 1, .dim = {3}};
    ck_assert_int_eq(qc_npz_write(path, arrays, 3, &err), QD_OK);
    expect(try_open(path, &options, &err), QD_INVALID, &err, "3 samples");
    free(path);
    test_files_done();
}
END_TEST

START_TEST(labels__of_their_own_file__count_and_range_checked)
{
    struct qd_error err = {0};
    struct qc_reader_options options = options_134;
    struct qc_reader *reader = NULL;
    struct test_bytes b = u8_npy("(5, 3, 4)");
    char *path = test_write("d.npy", b.data, b.size);
    uint8_t idx[] = {0, 0, 8, 1, 0, 0, 0, 5, 9, 8, 7, 6, 5};
    char *labels = test_write_gz("l.gz", idx, sizeof(idx));
    options.labels_path = labels;
    ck_assert_msg(qc_reader_open(path, "data", &options, &reader, &err) == QD_OK, "%s",
                  err.message);
    ck_assert_int_eq(qc_reader_labels(reader)[4], 5);
    qc_reader_free(reader);
    free(labels);
    idx[7] = 4;
    options.labels_path = labels = test_write("l4", idx, sizeof(idx) - 1);
    expect(try_open(path, &options, &err), QD_INVALID, &err, "[5] expected");
    free(labels);
    int64_t big[] = {0, 1, (int64_t)1 << 40, 3, 4};
    struct test_bytes l = test_npy("<i8", "False", "(5,)", big, sizeof(big));
    options.labels_path = labels = test_write("big.npy", l.data, l.size);
    expect(try_open(path, &options, &err), QD_INVALID, &err, "1099511627776");
    free(labels);
    free(l.data);
    float f[5] = {0};
    l = test_npy("<f4", "False", "(5,)", f, sizeof(f));
    options.labels_path = labels = test_write("f.npy", l.data, l.size);
    expect(try_open(path, &options, &err), QD_INVALID, &err, "integers");
    free(labels);
    free(l.data);
    free(path);
    free(b.data);
    test_files_done();
}
END_TEST

START_TEST(preprocess__layouts_order_and_arithmetic__by_definition)
{
    uint8_t hwc[2 * 2 * 3]; /* H=2 W=2 C=3 */
    for (int i = 0; i < 12; i++) {
        hwc[i] = (uint8_t)(10 * i);
    }
    struct test_bytes b = test_npy("|u1", "False", "(1, 2, 2, 3)", hwc, sizeof(hwc));
    char *path = test_write("hwc.npy", b.data, b.size);
    static const float mean[3] = {0.5F, 0.25F, 0.125F};
    static const float std[3] = {0.5F, 2.0F, 3.0F};
    for (int mask = 0; mask < 4; mask++) {
        bool to_hwc = (mask & 1) != 0;
        bool bgr = (mask & 2) != 0;
        struct qc_reader_input input = {.name = "x", .rank = 3, .dim = {3, 2, 2}};
        if (to_hwc) {
            memcpy(input.dim, (int64_t[]){2, 2, 3}, 3 * sizeof(int64_t));
        }
        struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
        options.preprocess = (struct qc_preprocess){.source_is_hwc = true,
                                                    .to_hwc = to_hwc,
                                                    .bgr = bgr,
                                                    .has_scale = true,
                                                    .scale = 1.0F / 255,
                                                    .n_mean = 3,
                                                    .n_std = 3};
        memcpy(options.preprocess.mean, mean, sizeof(mean));
        memcpy(options.preprocess.std, std, sizeof(std));
        struct qc_reader *reader = NULL;
        struct qd_error err = {0};
        float out[12];
        float *outs[] = {out};
        bool end = false;
        ck_assert_msg(qc_reader_open(path, "hwc", &options, &reader, &err) == QD_OK, "%s",
                      err.message);
        ck_assert_int_eq(qc_reader_next(reader, outs, &end, &err), QD_OK);
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < 4; i++) {
                float x = (float)hwc[i * 3 + (bgr ? 2 - c : c)] * (1.0F / 255);
                float want = (x - mean[c]) / std[c];
                ck_assert_float_eq(out[to_hwc ? i * 3 + c : c * 4 + i], want);
            }
        }
        qc_reader_free(reader);
    }
    free(path);
    free(b.data);
    test_files_done();
}
END_TEST

START_TEST(preprocess__bad_options__named)
{
    struct qd_error err = {0};
    struct test_bytes b = u8_npy("(5, 3, 4)");
    char *path = test_write("p.npy", b.data, b.size);
    struct qc_reader_options options = options_134;
    options.preprocess = (struct qc_preprocess){.n_std = 1, .std = {0}};
    expect(try_open(path, &options, &err), QD_INVALID, &err, "std[0] is 0");
    options.preprocess = (struct qc_preprocess){.n_mean = 3};
    expect(try_open(path, &options, &err), QD_INVALID, &err, "mean has 3 values");
    options.preprocess = (struct qc_preprocess){.n_mean = 17};
    expect(try_open(path, &options, &err), QD_LIMIT_EXCEEDED, &err, "17 means");
    options.preprocess = (struct qc_preprocess){.bgr = true};
    expect(try_open(path, &options, &err), QD_INVALID, &err, "BGR");
    options.preprocess = (struct qc_preprocess){.has_scale = true, .scale = NAN};
    expect(try_open(path, &options, &err), QD_INVALID, &err, "scale");
    options.preprocess = (struct qc_preprocess){.has_scale = true, .scale = 3e38F};
    expect(try_read(path, &options, &err), QD_INVALID, &err, "+Inf");
    free(path);
    free(b.data);
    test_files_done();
}
END_TEST

START_TEST(concat__two_files__one_stream_with_skips)
{
    uint8_t data[24];
    for (int i = 0; i < 24; i++) {
        data[i] = (uint8_t)i;
    }
    struct test_bytes a = test_npy("|u1", "False", "(1, 3, 4)", data, 12);
    struct test_bytes b = test_npy("|u1", "False", "(2, 3, 4)", data, 24);
    char *path_a = test_write("a.npy", a.data, a.size);
    char *path_b = test_write("b.npy", b.data, b.size);
    struct qc_reader *parts[2];
    struct qc_reader *reader = NULL;
    struct qd_error err = {0};
    float sample[ELEMENTS];
    float *out[] = {sample};
    bool end = false;
    ck_assert_int_eq(qc_reader_open(path_a, "a", &options_134, &parts[0], &err), QD_OK);
    ck_assert_int_eq(qc_reader_open(path_b, "b", &options_134, &parts[1], &err), QD_OK);
    ck_assert_int_eq(qc_reader_concat_take(parts, 2, &reader, &err), QD_OK);
    ck_assert_int_eq(qc_reader_count(reader), 3);
    for (int skip = 0; skip <= 3; skip++) {
        ck_assert_int_eq(qc_reader_rewind(reader, &err), QD_OK);
        ck_assert_int_eq(qc_reader_skip(reader, skip, &err), QD_OK);
        for (int n = skip; n < 3; n++) {
            ck_assert_int_eq(qc_reader_next(reader, out, &end, &err), QD_OK);
            ck_assert_float_eq(sample[0], n == 2 ? 12.0F : 0.0F);
        }
        ck_assert_int_eq(qc_reader_next(reader, out, &end, &err), QD_OK);
        ck_assert(end);
    }
    qc_reader_free(reader);
    free(path_a);
    free(path_b);
    free(a.data);
    free(b.data);
    test_files_done();
}
END_TEST

Suite *test_reader_suite(void)
{
    Suite *s = suite_create("reader");
    TCase *c = tcase_create("arrays");
    tcase_add_test(c, open__every_array_format__same_floats);
    tcase_add_test(c, open__shapes__ones_may_differ_the_rest_may_not);
    tcase_add_test(c, open__damaged_or_foreign_files__refused_with_a_reason);
    tcase_add_test(c, next__file_truncated_after_open__error_not_signal);
    tcase_add_test(c, next__nan_and_inf__input_sample_element_named);
    tcase_add_test(c, gz__damaged_or_bomb__refused);
    tcase_add_test(c, npz__two_inputs_and_labels__matched_by_name);
    tcase_add_test(c, labels__of_their_own_file__count_and_range_checked);
    tcase_add_test(c, preprocess__layouts_order_and_arithmetic__by_definition);
    tcase_add_test(c, preprocess__bad_options__named);
    tcase_add_test(c, concat__two_files__one_stream_with_skips);
    suite_add_tcase(s, c);
    return s;
}
