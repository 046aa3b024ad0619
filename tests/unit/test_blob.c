#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_blob.h"

static char dir[64];
static struct store_blobs *blobs;
static struct qd_error err;
#define OK(expr) ck_assert_msg((expr) == QD_OK, "%s: %s", #expr, err.message)
#define SHA_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/qd-blob-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    OK(store_blobs_open(dir, 0, &blobs, &err));
}

static void teardown(void)
{
    char command[96];
    store_blobs_close(blobs);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static int count_files(void)
{
    char command[128];
    int n = -1;
    snprintf(command, sizeof(command), "find %s -type f | wc -l", dir);
    FILE *f = popen(command, "r");
    ck_assert_int_eq(fscanf(f, "%d", &n), 1);
    pclose(f);
    return n;
}

static enum qd_code put(const char *text, const char *expected, char sha[STORE_SHA256_SIZE])
{
    struct store_blob_writer *w = NULL;
    uint64_t size = 0;
    enum qd_code code = store_blob_writer_new(blobs, 0, 1000, &w, &err);
    /* In two pieces: the hash runs over both. */
    code = code == QD_OK ? store_blob_write(w, text, 1, &err) : code;
    code = code == QD_OK ? store_blob_write(w, text + 1, strlen(text) - 1, &err) : code;
    code = code == QD_OK ? store_blob_commit(w, expected, sha, &size, &err) : code;
    if (code == QD_OK) {
        ck_assert_uint_eq(size, strlen(text));
    }
    store_blob_writer_free(w);
    return code;
}

START_TEST(commit__known_text__known_address_read_only)
{
    char sha[STORE_SHA256_SIZE], text[8] = {0}, path[256];
    struct stat st;
    uint64_t size;
    int fd;
    OK(put("abc", SHA_ABC, sha));
    ck_assert_str_eq(sha, SHA_ABC);
    snprintf(path, sizeof(path), "%s/blobs/ba/%s", dir, SHA_ABC);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0400);
    ck_assert_uint_eq(st.st_nlink, 1);
    OK(store_blob_open(blobs, SHA_ABC, &fd, &size, &err));
    ck_assert_uint_eq(size, 3);
    ck_assert_int_eq(read(fd, text, 8), 3);
    ck_assert_str_eq(text, "abc");
    close(fd);
    OK(put("abc", NULL, sha));
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(commit__other_hash_announced__invalid_and_nothing_kept)
{
    char sha[STORE_SHA256_SIZE];
    ck_assert_int_eq(put("abd", SHA_ABC, sha), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, SHA_ABC));
    ck_assert_int_eq(count_files(), 0);
}
END_TEST

START_TEST(write__past_limit__limit_exceeded)
{
    struct store_blob_writer *w;
    char sha[STORE_SHA256_SIZE];
    uint64_t size;
    ck_assert_int_eq(store_blob_writer_new(blobs, 11, 10, &w, &err), QD_LIMIT_EXCEEDED);
    OK(store_blob_writer_new(blobs, 0, 10, &w, &err));
    OK(store_blob_write(w, "0123456789", 10, &err));
    ck_assert_int_eq(store_blob_write(w, "x", 1, &err), QD_LIMIT_EXCEEDED);
    ck_assert_ptr_nonnull(strstr(err.message, "10"));
    ck_assert_int_eq(store_blob_commit(w, NULL, sha, &size, &err), QD_IO);
    store_blob_writer_free(w);
    ck_assert_int_eq(count_files(), 0);
}
END_TEST

/* write, write, fsync, link, fsync of the folder: each fails once, none leaves a temporary. */
START_TEST(commit__fault_at_every_step__reported_and_clean)
{
    char sha[STORE_SHA256_SIZE];
    for (int n = 1; n <= 5; n++) {
        store_blobs_fail_after(blobs, n, n % 2 ? ENOSPC : EIO);
        ck_assert_int_eq(put("abc", NULL, sha), n % 2 ? QD_NO_SPACE : QD_IO);
        ck_assert_int_eq(count_files(), n == 5); /* linked, but not known to be durable */
    }
    store_blobs_fail_after(blobs, 0, 0);
    OK(put("abc", NULL, sha));
}
END_TEST

START_TEST(writer_new__below_floor__no_space)
{
    struct store_blob_writer *w;
    store_blobs_close(blobs);
    OK(store_blobs_open(dir, UINT64_MAX / 2, &blobs, &err));
    ck_assert_int_eq(store_blob_writer_new(blobs, 0, 10, &w, &err), QD_NO_SPACE);
    ck_assert_ptr_nonnull(strstr(err.message, "floor"));
}
END_TEST

START_TEST(open__bad_and_absent_names__refused)
{
    uint64_t size;
    int fd;
    ck_assert_int_eq(store_blob_open(blobs, "../../etc/passwd", &fd, &size, &err), QD_INVALID);
    ck_assert_int_eq(store_blob_open(blobs, "", &fd, &size, &err), QD_INVALID);
    ck_assert_int_eq(store_blob_open(blobs, SHA_ABC, &fd, &size, &err), QD_NOT_FOUND);
}
END_TEST

START_TEST(open__stale_temporary__removed)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/blobs/tmp/left", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    ck_assert_int_eq(count_files(), 1);
    store_blobs_close(blobs);
    OK(store_blobs_open(dir, 0, &blobs, &err));
    ck_assert_int_eq(count_files(), 0);
}
END_TEST

static enum qd_code is_abc(void *arg, const char *sha256, bool *ret, struct qd_error *e)
{
    (void)arg;
    (void)e;
    *ret = strcmp(sha256, SHA_ABC) == 0;
    return QD_OK;
}

START_TEST(gc__old_and_unused__removed_only)
{
    struct store_gc_result r;
    char sha[STORE_SHA256_SIZE];
    OK(put("abc", NULL, sha));
    OK(put("unused", NULL, sha));
    OK(store_blobs_gc(blobs, 3600 * 1000, is_abc, NULL, &r, &err));
    ck_assert_uint_eq(r.removed, 0);
    ck_assert_uint_eq(r.kept, 2);
    OK(store_blobs_gc(blobs, -1000, is_abc, NULL, &r, &err));
    ck_assert_uint_eq(r.removed, 1);
    ck_assert_uint_eq(r.removed_bytes, 6);
    ck_assert_uint_eq(r.kept, 1);
    ck_assert_int_eq(count_files(), 1);
}
END_TEST

START_TEST(remove__old_and_unused__that_one_alone)
{
    char unused[STORE_SHA256_SIZE], other[STORE_SHA256_SIZE], used[STORE_SHA256_SIZE];
    OK(put("abc", NULL, used));
    OK(put("unused", NULL, unused));
    OK(put("other", NULL, other));
    OK(store_blobs_remove(blobs, used, -1000, is_abc, NULL, &err));
    OK(store_blobs_remove(blobs, unused, 3600 * 1000, is_abc, NULL, &err)); /* too young */
    OK(store_blobs_remove(blobs, "../../etc", -1000, is_abc, NULL, &err));  /* no address */
    ck_assert_int_eq(count_files(), 3);
    OK(store_blobs_remove(blobs, unused, -1000, is_abc, NULL, &err));
    OK(store_blobs_remove(blobs, unused, -1000, is_abc, NULL, &err)); /* gone: nothing to do */
    ck_assert_int_eq(count_files(), 2);
}
END_TEST

static struct store_blob_mark put_marked(const char *text)
{
    struct store_blob_writer *w = NULL;
    char sha[STORE_SHA256_SIZE];
    uint64_t size = 0;
    OK(store_blob_writer_new(blobs, 0, 1000, &w, &err));
    OK(store_blob_write(w, text, strlen(text), &err));
    OK(store_blob_commit(w, NULL, sha, &size, &err));
    struct store_blob_mark mark = store_blob_mark_of(w);
    store_blob_writer_free(w);
    return mark;
}

static enum qd_code is_used(void *arg, const char *sha256, bool *ret, struct qd_error *e)
{
    (void)sha256;
    (void)e;
    *ret = *(const bool *)arg;
    return QD_OK;
}

START_TEST(discard__unused_and_ours__removed_else_kept)
{
    bool no = false, yes = true;
    struct store_blob_mark first = put_marked("abc");
    ck_assert(first.created);
    OK(store_blobs_discard(blobs, SHA_ABC, first, is_used, &yes, &err));
    ck_assert_int_eq(count_files(), 1);
    /* A second commit of the same content in the meantime keeps it, and has no right to it. */
    struct store_blob_mark second = put_marked("abc");
    ck_assert(!second.created);
    ck_assert_int_ne(first.time_ns, second.time_ns);
    OK(store_blobs_discard(blobs, SHA_ABC, first, is_used, &no, &err));
    OK(store_blobs_discard(blobs, SHA_ABC, second, is_used, &no, &err));
    ck_assert_int_eq(count_files(), 1);
    struct store_gc_result r;
    OK(store_blobs_gc(blobs, -1000, is_used, &no, &r, &err));
    first = put_marked("abc");
    OK(store_blobs_discard(blobs, SHA_ABC, first, is_used, &no, &err));
    ck_assert_int_eq(count_files(), 0);
}
END_TEST

Suite *test_blob_suite(void)
{
    Suite *s = suite_create("blob");
    TCase *t = tcase_create("blob");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, commit__known_text__known_address_read_only);
    tcase_add_test(t, commit__other_hash_announced__invalid_and_nothing_kept);
    tcase_add_test(t, write__past_limit__limit_exceeded);
    tcase_add_test(t, commit__fault_at_every_step__reported_and_clean);
    tcase_add_test(t, writer_new__below_floor__no_space);
    tcase_add_test(t, open__bad_and_absent_names__refused);
    tcase_add_test(t, open__stale_temporary__removed);
    tcase_add_test(t, gc__old_and_unused__removed_only);
    tcase_add_test(t, remove__old_and_unused__that_one_alone);
    tcase_add_test(t, discard__unused_and_ours__removed_else_kept);
    suite_add_tcase(s, t);
    return s;
}
