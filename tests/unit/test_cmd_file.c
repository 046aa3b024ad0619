#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/cmd.h"
#include "tests/lib/data_files.h"

static struct qd_arena arena;
static struct qd_error err;
static char folder[64];

static void setup(void)
{
    qd_arena_init(&arena, 0);
    err = (struct qd_error){.code = QD_OK};
    snprintf(folder, sizeof(folder), "/tmp/quantd-cmd-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static const char *in_folder(const char *name)
{
    static char path[4][512];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof(path[next]), "%s/%s", folder, name);
    return path[next];
}

/* Names in the folder, one behind the other; takes files away when `clear`. */
static const char *list(bool clear)
{
    static char names[1024];
    struct dirent **entries;
    names[0] = '\0';
    int n = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        if (entries[i]->d_name[0] != '.') {
            snprintf(names + strlen(names), 64, "%.60s ", entries[i]->d_name);
            if (clear && remove(in_folder(entries[i]->d_name)) != 0) {
                perror(entries[i]->d_name);
            }
        }
        free(entries[i]);
    }
    free(entries);
    return names;
}

static void teardown(void)
{
    qd_arena_done(&arena);
    (void)list(true);
    ck_assert_int_eq(rmdir(folder), 0);
    test_files_done();
}

static void write_tmp(const char *name, const char *text)
{
    ck_assert_msg(cmd_write_tmp(in_folder(name), text, strlen(text), &err) == QD_OK, "%s",
                  err.message);
}

static void holds(const char *name, const char *text)
{
    struct qd_bytes bytes;
    ck_assert_msg(cmd_read_file(in_folder(name), &arena, &bytes, &err) == QD_OK, "%s",
                  err.message);
    ck_assert_uint_eq(bytes.size, strlen(text));
    ck_assert_mem_eq(bytes.data, text, bytes.size);
}

START_TEST(cmd_publish__files_and_older_ones__replaced_together)
{
    static const char *const names[] = {"a", "b"};
    write_tmp("a", "old");
    ck_assert_int_eq(cmd_publish(folder, names, 1, &err), QD_OK);
    holds("a", "old");
    write_tmp("a", "new");
    write_tmp("b", "");
    ck_assert_str_eq(list(false), "a a.tmp b.tmp ");
    holds("a", "old"); /* until all are there */
    ck_assert_int_eq(cmd_publish(folder, names, 2, &err), QD_OK);
    ck_assert_str_eq(list(false), "a b ");
    holds("a", "new");
    holds("b", "");
}
END_TEST

START_TEST(cmd_publish__a_name_is_a_folder__nothing_changes)
{
    static const char *const names[] = {"a", "b"};
    write_tmp("a", "1");
    write_tmp("b", "2");
    ck_assert_int_eq(mkdir(in_folder("b"), 0700), 0);
    ck_assert_int_eq(cmd_publish(folder, names, 2, &err), QD_IO);
    ck_assert_msg(strstr(err.message, in_folder("b")) != NULL, "%s", err.message);
    ck_assert_str_eq(list(false), "b ");
}
END_TEST

START_TEST(cmd_publish__a_file_is_missing__the_others_are_removed)
{
    static const char *const names[] = {"a", "b"};
    write_tmp("b", "2");
    ck_assert_int_ne(cmd_publish(folder, names, 2, &err), QD_OK);
    ck_assert_str_eq(list(false), "");
}
END_TEST

START_TEST(cmd_write_tmp__no_folder_or_no_space__error_and_no_file)
{
    char path[5000];
    ck_assert_int_eq(cmd_write_tmp(in_folder("none/a"), "x", 1, &err), QD_NOT_FOUND);
    memset(path, 'a', sizeof(path));
    path[sizeof(path) - 1] = '\0';
    ck_assert_int_eq(cmd_write_tmp(path, "x", 1, &err), QD_INVALID);
    /* /dev/full takes no byte. */
    ck_assert_int_eq(symlink("/dev/full", in_folder("a.tmp")), 0);
    ck_assert_int_eq(cmd_write_tmp(in_folder("a"), "x", 1, &err), QD_NO_SPACE);
    ck_assert_str_eq(list(false), "");
}
END_TEST

START_TEST(cmd_read_file__what_is_no_file__names_it)
{
    struct qd_bytes bytes = {NULL, 7};
    ck_assert_int_eq(cmd_read_file(in_folder("none"), &arena, &bytes, &err), QD_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(err.message, in_folder("none")));
    ck_assert_int_eq(cmd_read_file(folder, &arena, &bytes, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "not a regular file"));
    /* 2 GiB that take no room on the disk. */
    write_tmp("large", "");
    ck_assert_int_eq(truncate(in_folder("large.tmp"), (off_t)1 << 31), 0);
    ck_assert_int_eq(cmd_read_file(in_folder("large.tmp"), &arena, &bytes, &err),
                     QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "2147483648 bytes, limit 2147483647"));
    ck_assert_uint_eq(bytes.size, 7);
}
END_TEST

START_TEST(cmd_sha256__known_texts__known_digests)
{
    char hex[65];
    cmd_sha256("", 0, hex);
    ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    cmd_sha256("abc", 3, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
END_TEST

START_TEST(cmd_report_error__codes__exit_codes)
{
    static const enum qd_code input[] = {QD_INVALID, QD_UNSUPPORTED, QD_LIMIT_EXCEEDED,
                                         QD_NOT_FOUND};
    ck_assert_ptr_nonnull(freopen("/dev/null", "w", stderr)); /* this test has its own process */
    ck_assert_int_eq(cmd_report_error("x", QD_OK, &err), CMD_OK);
    for (enum qd_code code = QD_INVALID; code < QD_CODE_COUNT; code++) {
        bool is_input = false;
        for (size_t i = 0; i < QD_COUNT_OF(input); i++) {
            is_input |= code == input[i];
        }
        ck_assert_int_eq(cmd_report_error("x", code, &err), is_input ? CMD_INPUT : CMD_FAILED);
    }
}
END_TEST

Suite *test_cmd_file_suite(void)
{
    Suite *s = suite_create("cmd_file");
    TCase *t = tcase_create("cmd_file");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, cmd_publish__files_and_older_ones__replaced_together);
    tcase_add_test(t, cmd_publish__a_name_is_a_folder__nothing_changes);
    tcase_add_test(t, cmd_publish__a_file_is_missing__the_others_are_removed);
    tcase_add_test(t, cmd_write_tmp__no_folder_or_no_space__error_and_no_file);
    tcase_add_test(t, cmd_read_file__what_is_no_file__names_it);
    tcase_add_test(t, cmd_sha256__known_texts__known_digests);
    tcase_add_test(t, cmd_report_error__codes__exit_codes);
    suite_add_tcase(s, t);
    return s;
}
