#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/cmd.h"

int cmd_report_error(const char *command, enum qd_code code, const struct qd_error *err)
{
    if (code == QD_OK) {
        return CMD_OK;
    }
    (void)fprintf(stderr, "quantd %s: %s\n", command, err->message);
    bool input = code == QD_INVALID || code == QD_UNSUPPORTED || code == QD_LIMIT_EXCEEDED ||
                 code == QD_NOT_FOUND;
    return input ? CMD_INPUT : CMD_FAILED;
}

bool cmd_asks_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

static enum qd_code read_all(int fd, const char *path, size_t size, struct qd_arena *arena,
                             struct qd_bytes *ret, struct qd_error *err)
{
    uint8_t *data = NULL;
    QD_TRY(qd_arena_alloc(arena, size, &data, err));
    for (size_t at = 0; at < size;) {
        ssize_t n = read(fd, data + at, size - at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? qd_fail_errno(err, errno, "read '%s'", path)
                         : qd_fail(err, QD_IO, "'%s' became shorter while it was read", path);
        }
        at += (size_t)n;
    }
    *ret = (struct qd_bytes){data, size};
    return QD_OK;
}

/* Takes the descriptor. */
static enum qd_code read_open(int fd, const char *path, struct qd_arena *arena,
                              struct qd_bytes *ret, struct qd_error *err)
{
    struct stat st;
    if (fd < 0) {
        return qd_fail_errno(err, errno, "open '%s'", path);
    }
    enum qd_code code = QD_OK;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        code = qd_fail(err, QD_INVALID, "'%s' is not a regular file", path);
    } else if (st.st_size >= (int64_t)1 << 31) {
        code = qd_fail(err, QD_LIMIT_EXCEEDED, "'%s' has %lld bytes, limit 2147483647", path,
                       (long long)st.st_size);
    } else {
        code = read_all(fd, path, (size_t)st.st_size, arena, ret, err);
    }
    (void)close(fd);
    return code;
}

enum qd_code cmd_read_file(const char *path, struct qd_arena *arena, struct qd_bytes *ret,
                           struct qd_error *err)
{
    return read_open(open(path, O_RDONLY | O_CLOEXEC), path, arena, ret, err);
}

enum qd_code cmd_read_beside(int folder, const char *name, struct qd_arena *arena,
                             struct qd_bytes *ret, struct qd_error *err)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ELOOP) {
        return qd_fail(err, QD_INVALID, "'%s' is a symbolic link, which is not followed", name);
    }
    return read_open(fd, name, arena, ret, err);
}

enum qd_code cmd_write_tmp(const char *path, const void *data, size_t size, struct qd_error *err)
{
    char tmp[4096];
    if (snprintf(tmp, sizeof(tmp), "%s.tmp", path) >= (int)sizeof(tmp)) {
        return qd_fail(err, QD_INVALID, "the path '%.64s…' is too long", path);
    }
    FILE *f = fopen(tmp, "we");
    if (f == NULL) {
        return qd_fail_errno(err, errno, "create '%s'", tmp);
    }
    bool written = fwrite(data, 1, size, f) == size && fflush(f) == 0 && fsync(fileno(f)) == 0;
    int cause = errno;
    if (fclose(f) != 0 && written) {
        written = false;
        cause = errno;
    }
    if (!written) {
        (void)unlink(tmp);
        return qd_fail_errno(err, cause, "write '%s'", path);
    }
    return QD_OK;
}

/* Both paths of a file; the folder's was short enough when the file was written. */
static void paths_of(const char *folder, const char *name, char path[4096], char tmp[4096])
{
    (void)snprintf(path, 4096, "%s/%s", folder, name);
    (void)snprintf(tmp, 4096, "%s/%s.tmp", folder, name);
}

void cmd_discard(const char *folder, const char *const *names, int n)
{
    char path[4096], tmp[4096];
    for (int i = 0; i < n; i++) {
        paths_of(folder, names[i], path, tmp);
        (void)unlink(tmp);
    }
}

enum qd_code cmd_publish(const char *folder, const char *const *names, int n,
                         struct qd_error *err)
{
    char path[4096], tmp[4096];
    struct stat st;
    enum qd_code code = QD_OK;
    /* What can be seen beforehand must not stop halfway. */
    for (int i = 0; i < n && code == QD_OK; i++) {
        paths_of(folder, names[i], path, tmp);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            code = qd_fail_errno(err, EISDIR, "write '%s'", path);
        }
    }
    for (int i = 0; i < n && code == QD_OK; i++) {
        paths_of(folder, names[i], path, tmp);
        if (rename(tmp, path) != 0) {
            code = qd_fail_errno(err, errno, "write '%s'", path);
        }
    }
    if (code != QD_OK) {
        cmd_discard(folder, names, n);
    }
    return code;
}

void cmd_sha256_bytes(const void *data, size_t size, uint8_t ret[32])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, size, data);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, ret);
}

void cmd_sha256(const void *data, size_t size, char ret_hex[65])
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    cmd_sha256_bytes(data, size, digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) {
        (void)snprintf(ret_hex + (ptrdiff_t)2 * i, 3, "%02x", digest[i]);
    }
}
