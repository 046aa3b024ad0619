#include "store/store_blob.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define INGEST_CHUNK (256u * 1024u)

struct store_blobs {
    int dir_fd, tmp_fd; /* blobs and blobs/tmp */
    uint64_t min_free;
    /* Held while a file gets its address and while gc looks and unlinks: a blob that is put
     * again just then must not vanish. Also guards the fault counter. */
    pthread_mutex_t lock;
    int fail_after, fail_errno;
};

struct store_blob_writer {
    struct store_blobs *blobs;
    struct sha256_ctx hash;
    int fd;
    char name[33];
    uint64_t size, max_size;
    bool spoilt;
    struct store_blob_mark mark;
};

static bool fault(struct store_blobs *blobs)
{
    pthread_mutex_lock(&blobs->lock);
    bool fails = blobs->fail_after > 0 && --blobs->fail_after == 0;
    if (fails) {
        errno = blobs->fail_errno;
    }
    pthread_mutex_unlock(&blobs->lock);
    return fails;
}

void store_blobs_fail_after(struct store_blobs *blobs, int n, int errnum)
{
    pthread_mutex_lock(&blobs->lock);
    blobs->fail_after = n;
    blobs->fail_errno = errnum;
    pthread_mutex_unlock(&blobs->lock);
}

static enum qd_code open_folder(int parent_fd, const char *name, int *ret, struct qd_error *err)
{
    if (mkdirat(parent_fd, name, 0700) != 0 && errno != EEXIST) {
        return qd_fail_errno(err, errno, "create folder '%s'", name);
    }
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return qd_fail_errno(err, errno, "open folder '%s'", name);
    }
    *ret = fd;
    return QD_OK;
}

static void remove_temporaries(int tmp_fd)
{
    int fd = dup(tmp_fd);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.') {
            unlinkat(tmp_fd, e->d_name, 0);
        }
    }
    closedir(dir);
}

enum qd_code store_blobs_open(const char *data_dir, uint64_t min_free_bytes,
                              struct store_blobs **ret, struct qd_error *err)
{
    struct store_blobs *blobs = calloc(1, sizeof(*blobs));
    int data_fd = -1;
    if (blobs == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the blob folder");
    }
    blobs->dir_fd = blobs->tmp_fd = -1;
    blobs->min_free = min_free_bytes;
    pthread_mutex_init(&blobs->lock, NULL);
    data_fd = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum qd_code code = data_fd >= 0 ? QD_OK : qd_fail_errno(err, errno, "open '%s'", data_dir);
    if (code == QD_OK) {
        code = open_folder(data_fd, "blobs", &blobs->dir_fd, err);
    }
    if (code == QD_OK) {
        code = open_folder(blobs->dir_fd, "tmp", &blobs->tmp_fd, err);
    }
    if (code == QD_OK && (fsync(data_fd) != 0 || fsync(blobs->dir_fd) != 0)) {
        code = qd_fail_errno(err, errno, "sync folder '%s'", data_dir);
    }
    if (data_fd >= 0) {
        close(data_fd);
    }
    if (code != QD_OK) {
        store_blobs_close(blobs);
        return code;
    }
    remove_temporaries(blobs->tmp_fd);
    *ret = blobs;
    return QD_OK;
}

void store_blobs_close(struct store_blobs *blobs)
{
    if (blobs == NULL) {
        return;
    }
    if (blobs->tmp_fd >= 0) {
        close(blobs->tmp_fd);
    }
    if (blobs->dir_fd >= 0) {
        close(blobs->dir_fd);
    }
    pthread_mutex_destroy(&blobs->lock);
    free(blobs);
}

bool store_sha256_valid(const char *sha256)
{
    size_t n = strspn(sha256, "0123456789abcdef");
    return n == STORE_SHA256_SIZE - 1 && sha256[n] == '\0';
}

enum qd_code store_blobs_check_space(struct store_blobs *blobs, uint64_t bytes,
                                     struct qd_error *err)
{
    struct statvfs v;
    if (fstatvfs(blobs->dir_fd, &v) != 0) {
        return qd_fail_errno(err, errno, "ask for free space");
    }
    uint64_t available = (uint64_t)v.f_bavail * v.f_frsize;
    if (available < blobs->min_free || available - blobs->min_free < bytes) {
        return qd_fail(err, QD_NO_SPACE,
                       "%llu bytes are free, %llu more would pass the floor of %llu",
                       (unsigned long long)available, (unsigned long long)bytes,
                       (unsigned long long)blobs->min_free);
    }
    return QD_OK;
}

enum qd_code store_blob_writer_new(struct store_blobs *blobs, uint64_t expected_size,
                                   uint64_t max_size, struct store_blob_writer **ret,
                                   struct qd_error *err)
{
    unsigned char random[16];
    if (expected_size > max_size) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%llu bytes announced, the limit is %llu",
                       (unsigned long long)expected_size, (unsigned long long)max_size);
    }
    QD_TRY(store_blobs_check_space(blobs, expected_size, err));
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return qd_fail_errno(err, errno, "read random bytes");
    }
    struct store_blob_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a blob writer");
    }
    writer->blobs = blobs;
    writer->max_size = max_size;
    sha256_init(&writer->hash);
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(writer->name + 2 * i, 3, "%02x", random[i]);
    }
    writer->fd = openat(blobs->tmp_fd, writer->name,
                        O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (writer->fd < 0) {
        enum qd_code code = qd_fail_errno(err, errno, "create temporary blob");
        free(writer);
        return code;
    }
    *ret = writer;
    return QD_OK;
}

enum qd_code store_blob_write(struct store_blob_writer *writer, const void *data, size_t size,
                              struct qd_error *err)
{
    const uint8_t *bytes = data;
    size_t left = size;
    if (writer->spoilt) {
        return qd_fail(err, QD_IO, "blob: written after a failure");
    }
    if (size > writer->max_size - writer->size) {
        writer->spoilt = true;
        return qd_fail(err, QD_LIMIT_EXCEEDED, "blob is larger than the limit of %llu bytes",
                       (unsigned long long)writer->max_size);
    }
    while (left > 0) {
        ssize_t n = fault(writer->blobs) ? -1 : write(writer->fd, bytes, left);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            writer->spoilt = true;
            return qd_fail_errno(err, errno, "write blob at byte %llu",
                                 (unsigned long long)(writer->size + (size - left)));
        }
        bytes += n;
        left -= (size_t)n;
    }
    sha256_update(&writer->hash, size, data);
    writer->size += size;
    return QD_OK;
}

static int64_t time_of(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* Called under the lock. An existing file has the same content and stays; its time is renewed,
 * so that the grace of gc begins anew and its first maker does not discard it. The time is given
 * explicitly: the kernel's own has the resolution of a tick. */
static int link_or_renew(struct store_blob_writer *writer, int folder_fd, const char *sha256)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = 0}};
    struct stat st;
    if (linkat(writer->blobs->tmp_fd, writer->name, folder_fd, sha256, 0) == 0) {
        writer->mark.created = fstat(writer->fd, &st) == 0;
        writer->mark.time_ns = writer->mark.created ? time_of(&st) : 0;
        return 0;
    }
    if (errno != EEXIST) {
        return -1;
    }
    clock_gettime(CLOCK_REALTIME, &times[1]);
    writer->mark.time_ns = (int64_t)times[1].tv_sec * 1000000000 + times[1].tv_nsec;
    return utimensat(folder_fd, sha256, times, AT_SYMLINK_NOFOLLOW);
}

/* Link the synced temporary to its address, durably. */
static enum qd_code link_to_address(struct store_blob_writer *writer, const char *sha256,
                                    struct qd_error *err)
{
    struct store_blobs *blobs = writer->blobs;
    char folder[3] = {sha256[0], sha256[1], '\0'};
    int folder_fd = -1;
    enum qd_code code = open_folder(blobs->dir_fd, folder, &folder_fd, err);
    if (code != QD_OK) {
        return code;
    }
    bool fails = fault(blobs);
    pthread_mutex_lock(&blobs->lock);
    int rc = fails ? -1 : link_or_renew(writer, folder_fd, sha256);
    if (rc != 0) {
        code = qd_fail_errno(err, fails ? blobs->fail_errno : errno, "link blob %s", sha256);
    }
    pthread_mutex_unlock(&blobs->lock);
    if (code == QD_OK &&
        (fault(blobs) || fsync(folder_fd) != 0 || fsync(blobs->dir_fd) != 0)) {
        code = qd_fail_errno(err, errno, "sync folder of blob %s", sha256);
    }
    close(folder_fd);
    return code;
}

enum qd_code store_blob_commit(struct store_blob_writer *writer, const char *expected_sha256,
                               char ret_sha256[STORE_SHA256_SIZE], uint64_t *ret_size,
                               struct qd_error *err)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    char sha256[STORE_SHA256_SIZE];
    if (writer->spoilt) {
        return qd_fail(err, QD_IO, "blob: committed after a failure");
    }
    writer->spoilt = true; /* whatever happens now, it happens once */
    sha256_digest(&writer->hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        snprintf(sha256 + 2 * i, 3, "%02x", digest[i]);
    }
    if (expected_sha256 != NULL && strcmp(expected_sha256, sha256) != 0) {
        return qd_fail(err, QD_INVALID, "content hashes to sha256 %s, announced was %.64s", sha256,
                       expected_sha256);
    }
    if (fchmod(writer->fd, 0400) != 0 || fault(writer->blobs) || fsync(writer->fd) != 0) {
        return qd_fail_errno(err, errno, "sync blob of %llu bytes",
                             (unsigned long long)writer->size);
    }
    QD_TRY(link_to_address(writer, sha256, err));
    memcpy(ret_sha256, sha256, sizeof(sha256));
    *ret_size = writer->size;
    return QD_OK;
}

struct store_blob_mark store_blob_mark_of(const struct store_blob_writer *writer)
{
    return writer->mark;
}

enum qd_code store_blobs_discard(struct store_blobs *blobs, const char *sha256,
                                 struct store_blob_mark mark,
                                 enum qd_code (*is_used)(void *arg, const char *sha256, bool *ret,
                                                         struct qd_error *err),
                                 void *arg, struct qd_error *err)
{
    char path[3 + STORE_SHA256_SIZE];
    struct stat st;
    bool used = true;
    enum qd_code code = QD_OK;
    if (!mark.created || !store_sha256_valid(sha256)) {
        return QD_OK;
    }
    snprintf(path, sizeof(path), "%.2s/%s", sha256, sha256);
    pthread_mutex_lock(&blobs->lock);
    if (fstatat(blobs->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        time_of(&st) == mark.time_ns) {
        code = is_used(arg, sha256, &used, err);
        if (code == QD_OK && !used && unlinkat(blobs->dir_fd, path, 0) != 0) {
            code = qd_fail_errno(err, errno, "remove blob %s", sha256);
        }
    }
    pthread_mutex_unlock(&blobs->lock);
    return code;
}

void store_blob_writer_free(struct store_blob_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    close(writer->fd);
    unlinkat(writer->blobs->tmp_fd, writer->name, 0);
    free(writer);
}

enum qd_code store_blob_ingest(struct store_blobs *blobs, int fd, uint64_t max_size,
                               char ret_sha256[STORE_SHA256_SIZE], uint64_t *ret_size,
                               struct qd_error *err)
{
    struct store_blob_writer *writer = NULL;
    uint8_t *chunk = malloc(INGEST_CHUNK);
    enum qd_code code = chunk != NULL ? store_blob_writer_new(blobs, 0, max_size, &writer, err)
                                      : qd_fail(err, QD_NO_MEMORY, "no memory to read a file");
    while (code == QD_OK) {
        ssize_t n = read(fd, chunk, INGEST_CHUNK);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            code = qd_fail_errno(err, errno, "read file");
        }
        if (n <= 0) {
            break;
        }
        code = store_blob_write(writer, chunk, (size_t)n, err);
    }
    if (code == QD_OK) {
        code = store_blob_commit(writer, NULL, ret_sha256, ret_size, err);
    }
    store_blob_writer_free(writer);
    free(chunk);
    return code;
}

enum qd_code store_blob_open(struct store_blobs *blobs, const char *sha256, int *ret_fd,
                             uint64_t *ret_size, struct qd_error *err)
{
    char path[3 + STORE_SHA256_SIZE];
    struct stat st;
    if (!store_sha256_valid(sha256)) {
        return qd_fail(err, QD_INVALID, "'%.80s' is not a sha256 of 64 lower-case hex digits",
                       sha256);
    }
    snprintf(path, sizeof(path), "%.2s/%s", sha256, sha256);
    int fd = openat(blobs->dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? qd_fail(err, QD_NOT_FOUND, "no blob sha256:%s", sha256)
                               : qd_fail_errno(err, errno, "open blob %s", sha256);
    }
    if (fstat(fd, &st) != 0) {
        enum qd_code code = qd_fail_errno(err, errno, "stat blob %s", sha256);
        close(fd);
        return code;
    }
    *ret_fd = fd;
    *ret_size = (uint64_t)st.st_size;
    return QD_OK;
}

struct gc {
    struct store_blobs *blobs;
    int64_t oldest_kept_ms;
    enum qd_code (*is_used)(void *, const char *, bool *, struct qd_error *);
    void *arg;
    struct store_gc_result result;
};

static enum qd_code gc_file(struct gc *gc, int folder_fd, const char *name, struct qd_error *err)
{
    struct stat st;
    bool used = true;
    enum qd_code code = QD_OK;
    pthread_mutex_lock(&gc->blobs->lock);
    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        goto out; /* gone: nothing to do */
    }
    int64_t time_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    if (time_ms <= gc->oldest_kept_ms) {
        code = gc->is_used(gc->arg, name, &used, err);
    }
    if (code == QD_OK && !used) {
        if (unlinkat(folder_fd, name, 0) != 0) {
            code = qd_fail_errno(err, errno, "remove blob %s", name);
            goto out;
        }
        gc->result.removed++;
        gc->result.removed_bytes += (uint64_t)st.st_size;
    } else {
        gc->result.kept++;
        gc->result.kept_bytes += (uint64_t)st.st_size;
    }
out:
    pthread_mutex_unlock(&gc->blobs->lock);
    return code;
}

static enum qd_code gc_folder(struct gc *gc, const char *folder, struct qd_error *err)
{
    enum qd_code code = QD_OK;
    int fd = openat(gc->blobs->dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT ? QD_OK : qd_fail_errno(err, errno, "open folder '%s'", folder);
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        code = qd_fail_errno(err, errno, "read folder '%s'", folder);
        close(fd);
        return code;
    }
    for (struct dirent *e = readdir(dir); e != NULL && code == QD_OK; e = readdir(dir)) {
        if (store_sha256_valid(e->d_name)) {
            code = gc_file(gc, fd, e->d_name, err);
        }
    }
    closedir(dir);
    return code;
}

static struct gc new_gc(struct store_blobs *blobs, int64_t grace_ms,
                        enum qd_code (*is_used)(void *arg, const char *sha256, bool *ret,
                                                struct qd_error *err),
                        void *arg)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now); /* file times, hence never a test's clock */
    int64_t now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    return (struct gc){
        .blobs = blobs, .is_used = is_used, .arg = arg, .oldest_kept_ms = now_ms - grace_ms};
}

enum qd_code store_blobs_gc(struct store_blobs *blobs, int64_t grace_ms,
                            enum qd_code (*is_used)(void *arg, const char *sha256, bool *ret,
                                                    struct qd_error *err),
                            void *arg, struct store_gc_result *ret, struct qd_error *err)
{
    struct gc gc = new_gc(blobs, grace_ms, is_used, arg);
    for (unsigned i = 0; i < 256; i++) {
        char folder[3];
        snprintf(folder, sizeof(folder), "%02x", i);
        QD_TRY(gc_folder(&gc, folder, err));
    }
    *ret = gc.result;
    return QD_OK;
}

enum qd_code store_blobs_remove(struct store_blobs *blobs, const char *sha256, int64_t grace_ms,
                                enum qd_code (*is_used)(void *arg, const char *sha256, bool *ret,
                                                        struct qd_error *err),
                                void *arg, struct qd_error *err)
{
    char folder[3];
    struct gc gc = new_gc(blobs, grace_ms, is_used, arg);
    if (!store_sha256_valid(sha256)) {
        return QD_OK;
    }
    snprintf(folder, sizeof(folder), "%.2s", sha256);
    int fd = openat(blobs->dir_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return qd_fail_errno(err, errno, "open folder '%s'", folder);
    }
    enum qd_code code = gc_file(&gc, fd, sha256, err);
    close(fd);
    return code;
}
