/* Archives of images and arrays: one member a sample, in the order of the names. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quantcore/data/member_list.h"
#include "quantcore/data/reader.h"
#include "tests/lib/data_files.h"

#define W      6
#define H      4
#define PIXELS (W * H * 3)
#define N      4

static struct qc_reader_input input_image = {.name = "x", .rank = 3, .dim = {3, H, W}};
static struct qc_reader_options options_image = {.inputs = &input_image, .n_inputs = 1};
static const char *const format_names[] = {"a.tar", "a.tar.gz", "a.tar.zst", "a.zip", "s.zip"};

static void fill(uint8_t *pixels, int sample)
{
    for (int i = 0; i < PIXELS; i++) {
        pixels[i] = (uint8_t)(sample * 50 + i * 3);
    }
}

/* Samples 0..N-1 in name order under names that sort so. */
static struct test_bytes samples[N];
static void make_samples(bool npy)
{
    uint8_t pixels[PIXELS];
    uint8_t chw[PIXELS];
    for (int n = 0; n < N; n++) {
        fill(pixels, n);
        for (int i = 0; i < PIXELS; i++) {
            chw[i % 3 * W * H + i / 3] = pixels[i];
        }
        samples[n] =
            npy ? test_npy("|u1", "False", n % 2 == 0 ? "(3, 4, 6)" : "(1, 3, 4, 6)", chw, PIXELS)
                : test_png(pixels, W, H, 3);
    }
}

static void drop_samples(void)
{
    for (int n = 0; n < N; n++) {
        free(samples[n].data);
    }
    test_files_done();
}

static void check_delivers(const char *path, const struct qc_reader_options *options)
{
    struct qc_reader *reader = NULL;
    struct qd_error err = {0};
    float sample[PIXELS];
    float *out[] = {sample};
    bool end = false;
    uint8_t pixels[PIXELS];
    ck_assert_msg(qc_reader_open(path, "data", options, &reader, &err) == QD_OK, "%s: %s", path,
                  err.message);
    ck_assert_int_eq(qc_reader_count(reader), N);
    ck_assert_uint_eq(qc_reader_elements(reader, 0), PIXELS);
    for (int pass = 0; pass < 3; pass++) {
        int first = pass == 1 ? 2 : 0;
        ck_assert_int_eq(qc_reader_skip(reader, first, &err), QD_OK);
        for (int n = first; n < N; n++) {
            ck_assert_msg(qc_reader_next(reader, out, &end, &err) == QD_OK, "%s", err.message);
            ck_assert(!end);
            fill(pixels, n);
            for (int i = 0; i < PIXELS; i++) {
                ck_assert_float_eq(sample[i % 3 * W * H + i / 3], (float)pixels[i]);
            }
        }
        ck_assert_int_eq(qc_reader_next(reader, out, &end, &err), QD_OK);
        ck_assert(end);
        ck_assert_int_eq(qc_reader_rewind(reader, &err), QD_OK);
    }
    qc_reader_free(reader);
}

static void expect_open(const char *path, const struct qc_reader_options *options,
                        enum qd_code wanted, const char *needle)
{
    struct qc_reader *reader = NULL;
    struct qd_error err = {0};
    enum qd_code code = qc_reader_open(path, "data", options, &reader, &err);
    float *sample = calloc(1 << 20, sizeof(float));
    float *out[] = {sample};
    bool end = false;
    while (code == QD_OK && !end) {
        code = qc_reader_next(reader, out, &end, &err);
    }
    ck_assert_msg(code == wanted, "%s: %s", qd_code_name(code), err.message);
    ck_assert_msg(strstr(err.message, needle) != NULL, "'%s' not in: %s", needle, err.message);
    qc_reader_free(reader);
    free(sample);
}

START_TEST(archive__every_format_sorted_and_not__same_samples)
{
    for (int npy = 0; npy < 2; npy++) {
        make_samples(npy != 0);
        for (int format = TEST_TAR; format <= TEST_ZIP_STORED; format++) {
            struct test_member sorted[N + 1] = {
                {"./.hidden", "junk", 4, NULL},
                {"a/1", samples[0].data, samples[0].size, NULL},
                {"a/10", samples[1].data, samples[1].size, NULL},
                {"a/2", samples[2].data, samples[2].size, NULL},
                {"b", samples[3].data, samples[3].size, NULL},
            };
            struct test_member mixed[N] = {sorted[3], sorted[1], sorted[4], sorted[2]};
            char *path = test_write_archive(format_names[format], format, sorted, N + 1);
            check_delivers(path, &options_image);
            free(path);
            path = test_write_archive(format_names[format], format, mixed, N);
            check_delivers(path, &options_image);
            free(path);
        }
        drop_samples();
    }
}
END_TEST

START_TEST(member_list__sorted__streams_unsorted_spools)
{
    struct qc_member_list *list = NULL;
    make_samples(false);
    struct test_member m[] = {{"a", samples[0].data, samples[0].size, NULL},
                              {"b", samples[1].data, samples[1].size, NULL}};
    struct test_member r[] = {m[1], m[0]};
    char *path = test_write_archive("s.tar", TEST_TAR, m, 2);
    ck_assert_int_eq(qc_member_list_open(path, "s", false, NULL, &list, NULL), QD_OK);
    ck_assert_int_eq(qc_member_list_sort(list, NULL), QD_OK);
    ck_assert_uint_eq(qc_member_list_spooled(list), 0);
    qc_member_list_free(list);
    free(path);
    path = test_write_archive("r.tar", TEST_TAR, r, 2);
    ck_assert_int_eq(qc_member_list_open(path, "r", false, NULL, &list, NULL), QD_OK);
    ck_assert_int_eq(qc_member_list_sort(list, NULL), QD_OK);
    ck_assert_uint_eq(qc_member_list_spooled(list), samples[0].size + samples[1].size);
    ck_assert_str_eq(qc_member_list_name(list, 0), "a");
    qc_member_list_free(list);
    free(path);
    drop_samples();
}
END_TEST

START_TEST(archive__hostile_names__are_only_names)
{
    make_samples(false);
    struct test_member m[] = {
        {"../../escape-0.png", samples[0].data, samples[0].size, NULL},
        {"../escape-1.png", samples[1].data, samples[1].size, NULL},
        {"/escape-2.png", samples[2].data, samples[2].size, NULL},
        {"escape-3.png", samples[3].data, samples[3].size, NULL},
    };
    struct test_member mixed[] = {m[3], m[2], m[1], m[0]};
    for (int format = TEST_TAR; format <= TEST_ZIP_STORED; format++) {
        char *path = test_write_archive("names", format, mixed, N);
        char *folder = strdup(path);
        *strrchr(folder, '/') = '\0';
        check_delivers(path, &options_image);
        ck_assert_int_ne(access("/escape-2.png", F_OK), 0);
        ck_assert_int_ne(access("/tmp/escape-1.png", F_OK), 0);
        DIR *dir = opendir(folder);
        int files = 0;
        for (struct dirent *e; (e = readdir(dir)) != NULL;) {
            files += e->d_name[0] != '.';
        }
        closedir(dir);
        ck_assert_int_eq(files, 1); /* the archive alone */
        free(folder);
        free(path);
    }
    drop_samples();
}
END_TEST

START_TEST(archive__links_foreign_nested_twice_mixed__refused)
{
    make_samples(false);
    struct test_bytes npy = test_npy("|u1", "False", "(3, 4, 6)", samples[0].data, PIXELS);
    struct test_member link[] = {{"a", "", 0, "/etc/passwd"}};
    struct test_member foreign[] = {{"a.png", "not an image", 12, NULL}};
    struct test_member twice[] = {{"b", samples[0].data, samples[0].size, NULL},
                                  {"b", samples[1].data, samples[1].size, NULL}};
    struct test_member mixed[] = {{"a", samples[0].data, samples[0].size, NULL},
                                  {"b", npy.data, npy.size, NULL}};
    for (int format = TEST_TAR; format <= TEST_ZIP_STORED; format++) {
        char *path = test_write_archive("l", format, link, 1);
        expect_open(path, &options_image, QD_INVALID, "member a is a link");
        free(path);
        path = test_write_archive("f", format, foreign, 1);
        expect_open(path, &options_image, QD_UNSUPPORTED, "member a.png is neither");
        free(path);
        path = test_write_archive("t", format, twice, 2);
        expect_open(path, &options_image, QD_INVALID, "member b occurs twice");
        free(path);
        path = test_write_archive("m", format, mixed, 2);
        expect_open(path, &options_image, QD_INVALID, "mixed");
        free(path);
        path = test_write_archive("e", format, NULL, 0);
        bool plain = format == TEST_TAR || format == TEST_TAR_GZ; /* nothing but zeros */
        expect_open(path, &options_image, plain ? QD_UNSUPPORTED : QD_INVALID,
                    plain                    ? "begins with 00000000"
                    : format == TEST_TAR_ZST ? "holds no samples"
                                             : "zip archive after 0 members");
        free(path);
    }
    free(npy.data);
    drop_samples();
}
END_TEST

START_TEST(archive__limits__named_with_their_values)
{
    /* A bomb: .npy of zeros, 8 MiB from a few KiB. */
    size_t size = (size_t)8 << 20;
    uint8_t *zeros = calloc(1, size);
    struct test_bytes npy = test_npy("|u1", "False", "(8388608,)", zeros, size);
    struct test_member bomb[] = {{"b.npy", npy.data, npy.size, NULL},
                                 {"a.npy", npy.data, npy.size, NULL}};
    struct qc_reader_input input = {.name = "x", .rank = 1, .dim = {-1}};
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    for (int format = TEST_TAR_GZ; format <= TEST_ZIP; format++) {
        char *path = test_write_archive("bomb", format, bomb, 2);
        expect_open(path, &options, QD_LIMIT_EXCEEDED, "max_ratio");
        options.limits.max_ratio = 1000000;
        options.limits.max_member_bytes = 1 << 20;
        expect_open(path, &options, QD_LIMIT_EXCEEDED, "max_member_bytes 1048576");
        options.limits.max_member_bytes = 0;
        options.limits.max_total_bytes = 9 << 20;
        expect_open(path, &options, QD_LIMIT_EXCEEDED, "9437184");
        options.limits = (struct qc_reader_limits){.max_members = 1, .max_ratio = 1000000};
        expect_open(path, &options, QD_LIMIT_EXCEEDED, "more than 1 members");
        options.limits = (struct qc_reader_limits){0};
        free(path);
    }
    free(npy.data);
    free(zeros);
    char *name = calloc(1, 2000);
    memset(name, 'n', 1999);
    struct test_member named[] = {{name, "x", 1, NULL}};
    char *path = test_write_archive("name", TEST_TAR, named, 1);
    expect_open(path, &options, QD_LIMIT_EXCEEDED, "1999 bytes (1 to 1024)");
    free(name);
    free(path);
    test_files_done();
}
END_TEST

START_TEST(archive__cut_anywhere__error_or_all_samples_never_a_crash)
{
    make_samples(false);
    struct test_member m[] = {{"b", samples[1].data, samples[1].size, NULL},
                              {"a", samples[0].data, samples[0].size, NULL}};
    for (int format = TEST_TAR; format <= TEST_ZIP_STORED; format++) {
        char *path = test_write_archive("whole", format, m, 2);
        uint8_t bytes[16384];
        FILE *f = fopen(path, "rb");
        size_t size = fread(bytes, 1, sizeof(bytes), f);
        fclose(f);
        for (size_t n = 0; n < size; n += 41) {
            struct qc_reader *reader = NULL;
            struct qd_error err = {0};
            char *cut = test_write("cut", bytes, n);
            enum qd_code code = qc_reader_open(cut, "cut", &options_image, &reader, &err);
            ck_assert(code != QD_OK || qc_reader_count(reader) >= 1);
            ck_assert(code == QD_OK || strlen(err.message) > 0);
            /* A zip's directory is at its end: without it nothing is read. */
            ck_assert(format < TEST_ZIP || code != QD_OK);
            qc_reader_free(reader);
            free(cut);
        }
        free(path);
    }
    drop_samples();
}
END_TEST

START_TEST(image__single_file_with_preprocessing__by_definition)
{
    uint8_t pixels[PIXELS];
    struct qd_error err = {0};
    fill(pixels, 1);
    struct test_bytes png = test_png(pixels, W, H, 3);
    char *path = test_write("one.png", png.data, png.size);
    struct qc_reader_input input = {.name = "x", .rank = 3, .dim = {2, 3, 3}}; /* HWC */
    struct qc_reader_options options = {.inputs = &input, .n_inputs = 1};
    options.preprocess = (struct qc_preprocess){.crop_height = 2,
                                                .crop_width = 3,
                                                .to_hwc = true,
                                                .bgr = true,
                                                .n_mean = 3,
                                                .mean = {1, 2, 3}};
    struct qc_reader *reader = NULL;
    float out[18];
    float *outs[] = {out};
    bool end = false;
    ck_assert_msg(qc_reader_open(path, "one", &options, &reader, &err) == QD_OK, "%s",
                  err.message);
    ck_assert_int_eq(qc_reader_next(reader, outs, &end, &err), QD_OK);
    for (int y = 0; y < 2; y++) {
        for (int x = 0; x < 3; x++) {
            for (int c = 0; c < 3; c++) {
                int from = ((y + 1) * W + x + 1) * 3 + 2 - c; /* crop at (4-2)/2, (6-3)/2 */
                ck_assert_float_eq(out[(y * 3 + x) * 3 + c],
                                   (float)pixels[from] - options.preprocess.mean[c]);
            }
        }
    }
    qc_reader_free(reader);
    options.preprocess.grayscale = true;
    options.preprocess.bgr = false;
    options.preprocess.n_mean = 0;
    expect_open(path, &options, QD_INVALID, "[2,3,1]");
    options.preprocess.grayscale = false;
    options.preprocess.crop_width = 0;
    expect_open(path, &options, QD_INVALID, "crop");
    options.preprocess.crop_height = 0;
    expect_open(path, &options, QD_INVALID, "[4,6,3]");
    options.preprocess.resize = QC_RESIZE_STRETCH;
    options.preprocess.resize_height = 2;
    options.preprocess.resize_width = 3;
    struct qc_reader *stretched = NULL;
    ck_assert_int_eq(qc_reader_open(path, "one", &options, &stretched, &err), QD_OK);
    ck_assert_int_eq(qc_reader_next(stretched, outs, &end, &err), QD_OK);
    qc_reader_free(stretched);
    free(path);
    free(png.data);
    test_files_done();
}
END_TEST

/* Sets the bit "names are UTF-8" (11) in all of a zip's headers. */
static void say_utf8(const char *path)
{
    static uint8_t bytes[65536];
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(bytes, 1, sizeof(bytes), f);
    ck_assert(n > 4 && n < sizeof(bytes));
    for (size_t i = 0; i + 10 < n; i++) {
        if (memcmp(bytes + i, "PK\3\4", 4) == 0) {
            bytes[i + 7] |= 8;
        } else if (memcmp(bytes + i, "PK\1\2", 4) == 0) {
            bytes[i + 9] |= 8;
        }
    }
    rewind(f);
    ck_assert_uint_eq(fwrite(bytes, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(archive__zip_of_utf8_names__read_and_named)
{
    make_samples(false);
    struct test_member members[N + 1] = {
        {"\xc3\xa4 b/1.png", samples[0].data, samples[0].size, NULL},
        {"\xc3\xa4 b/2.png", samples[1].data, samples[1].size, NULL},
        {"\xe5\x9b\xbe/1.png", samples[2].data, samples[2].size, NULL},
        {"\xe5\x9b\xbe/2.png", samples[3].data, samples[3].size, NULL},
        {"\xe5\x9b\xbe/3.txt", "junk", 4, NULL},
    };
    char *good = test_write_archive("u.zip", TEST_ZIP, members, N);
    char *bad = test_write_archive("v.zip", TEST_ZIP, members, N + 1);
    say_utf8(good);
    say_utf8(bad);
    check_delivers(good, &options_image);
    expect_open(bad, &options_image, QD_UNSUPPORTED, "\xe5\x9b\xbe/3.txt");
    free(good);
    free(bad);
    drop_samples();
}
END_TEST

Suite *test_reader_archive_suite(void)
{
    Suite *s = suite_create("reader_archive");
    TCase *c = tcase_create("archives");
    tcase_add_test(c, archive__every_format_sorted_and_not__same_samples);
    tcase_add_test(c, member_list__sorted__streams_unsorted_spools);
    tcase_add_test(c, archive__hostile_names__are_only_names);
    tcase_add_test(c, archive__links_foreign_nested_twice_mixed__refused);
    tcase_add_test(c, archive__limits__named_with_their_values);
    tcase_add_test(c, archive__zip_of_utf8_names__read_and_named);
    tcase_add_test(c, archive__cut_anywhere__error_or_all_samples_never_a_crash);
    tcase_add_test(c, image__single_file_with_preprocessing__by_definition);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}
