#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/data_files.h"
#include "worker/worker_inputs.h"

static const struct qc_preprocess plain; /* nothing is done */
static struct qd_error err;
static struct qc_reader *reader;

static void teardown(void)
{
    qc_reader_free(reader);
    reader = NULL;
    test_files_done();
}

/* n samples of two values: 10 * k, 10 * k + 1 for k from `first`. */
static char *make_npy(const char *name, int first, int n)
{
    float values[64];
    char shape[32];
    for (int i = 0; i < n; i++) {
        values[2 * i] = (float)(10 * (first + i));
        values[2 * i + 1] = values[2 * i] + 1.0f;
    }
    snprintf(shape, sizeof(shape), "(%d, 2)", n);
    struct test_bytes b =
        test_npy("<f4", "False", shape, values, 2 * (size_t)n * sizeof(*values));
    char *path = test_write(name, b.data, b.size);
    free(b.data);
    return path;
}

static enum qd_code open_files(const struct qc_io_info *inputs, int n_inputs,
                               const struct worker_file *files, int n, const char *labels)
{
    const struct qc_model_info info = {.n_inputs = n_inputs, .inputs = inputs};
    err = (struct qd_error){.code = QD_OK};
    return worker_inputs_open(&info, &plain, files, n, labels, &reader, &err);
}

static const struct qc_io_info pair = {.name = "x", .dtype = "f32", .rank = 2, .dim = {-1, 2}};

START_TEST(worker_inputs_open__several_files__one_stream_in_their_order)
{
    char *a = make_npy("a.npy", 0, 3), *b = make_npy("b.npy", 3, 1), *c = make_npy("c.npy", 4, 2);
    const struct worker_file files[] = {{a, "a"}, {b, "b"}, {c, "c"}};
    ck_assert_msg(open_files(&pair, 1, files, 3, NULL) == QD_OK, "%s", err.message);
    ck_assert_int_eq(qc_reader_count(reader), 6);
    ck_assert_uint_eq(qc_reader_elements(reader, 0), 2);
    for (int pass = 0; pass < 2; pass++) {
        float x[2];
        bool end = false;
        for (int k = 0; k < 6; k++) {
            ck_assert_int_eq(qc_reader_next(reader, (float *[]){x}, &end, &err), QD_OK);
            ck_assert(!end && x[0] == (float)(10 * k) && x[1] == (float)(10 * k + 1));
        }
        ck_assert_int_eq(qc_reader_next(reader, (float *[]){x}, &end, &err), QD_OK);
        ck_assert(end);
        ck_assert_int_eq(qc_reader_rewind(reader, &err), QD_OK);
    }
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(worker_inputs_open__one_file_is_bad__its_label_and_no_leak)
{
    char *a = make_npy("a.npy", 0, 3);
    char *text = test_write("text", "this is no array", 16);
    const struct worker_file files[] = {{a, "good"}, {text, "the bad one"}, {a, "never opened"}};
    ck_assert_int_ne(open_files(&pair, 1, files, 3, NULL), QD_OK);
    ck_assert_msg(strstr(err.message, "the bad one") != NULL, "%s", err.message);
    ck_assert_ptr_null(reader);
    const struct worker_file missing[] = {{"/nonexistent/x.npy", "gone"}};
    ck_assert_int_eq(open_files(&pair, 1, missing, 1, NULL), QD_NOT_FOUND);
    free(a);
    free(text);
}
END_TEST

START_TEST(worker_inputs_open__labels__with_the_samples)
{
    char *a = make_npy("a.npy", 0, 3);
    struct test_bytes b = test_npy("|u1", "False", "(3,)", "\7\0\3", 3);
    char *labels = test_write("labels.npy", b.data, b.size);
    const struct worker_file file = {a, "a"};
    ck_assert_msg(open_files(&pair, 1, &file, 1, labels) == QD_OK, "%s", err.message);
    ck_assert_ptr_nonnull(qc_reader_labels(reader));
    ck_assert_int_eq(qc_reader_labels(reader)[0], 7);
    ck_assert_int_eq(qc_reader_labels(reader)[2], 3);
    free(b.data);
    free(labels);
    free(a);
}
END_TEST

START_TEST(worker_inputs_open__labels_of_several_files__of_all_their_samples)
{
    char *a = make_npy("a.npy", 0, 2), *b = make_npy("b.npy", 2, 1);
    struct test_bytes good = test_npy("|u1", "False", "(3,)", "\7\0\3", 3);
    struct test_bytes few = test_npy("|u1", "False", "(2,)", "\7\0", 2);
    char *labels = test_write("labels.npy", good.data, good.size);
    char *too_few = test_write("few.npy", few.data, few.size);
    const struct worker_file files[] = {{a, "a"}, {b, "b"}};
    ck_assert_int_eq(open_files(&pair, 1, files, 2, too_few), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "shape [2], the data has 3 samples"));
    ck_assert_ptr_null(reader);
    ck_assert_msg(open_files(&pair, 1, files, 2, labels) == QD_OK, "%s", err.message);
    ck_assert_ptr_nonnull(qc_reader_labels(reader));
    ck_assert_int_eq(qc_reader_labels(reader)[0], 7);
    ck_assert_int_eq(qc_reader_labels(reader)[2], 3);
    free(good.data);
    free(few.data);
    free(labels);
    free(too_few);
    free(a);
    free(b);
}
END_TEST

START_TEST(worker_inputs_open__other_shape__refused_with_both_shapes)
{
    static const struct qc_io_info wide = {.name = "x", .rank = 2, .dim = {-1, 3}};
    char *a = make_npy("a.npy", 0, 3);
    const struct worker_file file = {a, "a.npy"};
    ck_assert_int_eq(open_files(&wide, 1, &file, 1, NULL), QD_INVALID);
    ck_assert_msg(strstr(err.message, "[3,2]") != NULL && strstr(err.message, "[3]") != NULL,
                  "%s", err.message);
    free(a);
}
END_TEST

static const struct qc_io_info scalar = {.name = "s", .rank = 0},
                               batch = {.name = "b", .rank = 2, .dim = {4, 2}},
                               fixed_one = {.name = "x", .rank = 2, .dim = {1, 2}};

START_TEST(worker_inputs_open__inputs_of_the_model__what_is_supported)
{
    static struct qc_io_info many[QC_READER_MAX_INPUTS + 1];
    char *a = make_npy("a.npy", 0, 1);
    const struct worker_file file = {a, "a"};
    ck_assert_int_eq(open_files(&pair, 0, &file, 1, NULL), QD_UNSUPPORTED);
    ck_assert_int_eq(open_files(many, QC_READER_MAX_INPUTS + 1, &file, 1, NULL), QD_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.message, "17 inputs"));
    ck_assert_int_eq(open_files(&scalar, 1, &file, 1, NULL), QD_UNSUPPORTED);
    ck_assert_str_eq(err.subject, "s");
    ck_assert_int_eq(open_files(&batch, 1, &file, 1, NULL), QD_UNSUPPORTED);
    ck_assert_str_eq(err.subject, "b");
    ck_assert_ptr_nonnull(strstr(err.message, "batch of 4"));
    ck_assert_ptr_null(reader);
    ck_assert_msg(open_files(&fixed_one, 1, &file, 1, NULL) == QD_OK, "%s", err.message);
    free(a);
}
END_TEST

Suite *test_worker_inputs_suite(void)
{
    Suite *s = suite_create("worker_inputs");
    TCase *t = tcase_create("worker_inputs");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, worker_inputs_open__several_files__one_stream_in_their_order);
    tcase_add_test(t, worker_inputs_open__one_file_is_bad__its_label_and_no_leak);
    tcase_add_test(t, worker_inputs_open__labels__with_the_samples);
    tcase_add_test(t, worker_inputs_open__labels_of_several_files__of_all_their_samples);
    tcase_add_test(t, worker_inputs_open__other_shape__refused_with_both_shapes);
    tcase_add_test(t, worker_inputs_open__inputs_of_the_model__what_is_supported);
    suite_add_tcase(s, t);
    return s;
}
