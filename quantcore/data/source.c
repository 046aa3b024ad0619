#include "quantcore/data/source.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define BLOCK (64 * 1024)
#define MIB   (1024 * 1024)

enum source_kind { SOURCE_FILE, SOURCE_GZ, SOURCE_ZIP, SOURCE_BYTES };

struct qc_source {
    enum source_kind kind;
    const char *label;
    uint64_t size;     /* or QC_SOURCE_UNKNOWN */
    uint64_t position; /* bytes delivered or skipped since the start */
    int fd;            /* SOURCE_FILE */
    uint8_t *block;    /* SOURCE_FILE: bytes block_start .. block_start + block_size */
    uint64_t block_start;
    size_t block_size;
    struct qd_bytes bytes; /* SOURCE_BYTES */
    gzFile gz;
    struct archive *zip;
    char *path; /* for reopening: SOURCE_GZ, SOURCE_ZIP */
    char *member;
    struct qc_budget budget;
};

struct qc_reader_limits qc_limits_resolve(const struct qc_reader_limits *limits)
{
    struct qc_reader_limits r = {0};
    if (limits != NULL) {
        r = *limits;
    }
    r.max_member_bytes = r.max_member_bytes != 0 ? r.max_member_bytes : (uint64_t)1 << 30;
    r.max_total_bytes = r.max_total_bytes != 0 ? r.max_total_bytes : (uint64_t)64 << 30;
    r.max_ratio = r.max_ratio != 0 ? r.max_ratio : 200;
    r.max_members = r.max_members != 0 ? r.max_members : 1000000;
    r.max_image_side = r.max_image_side != 0 ? r.max_image_side : 16384;
    return r;
}

enum qd_code qc_budget_add(struct qc_budget *budget, const char *label, const char *member,
                           size_t n, struct qd_error *err)
{
    const struct qc_reader_limits *limits = &budget->limits;
    const char *of = member[0] != '\0' ? "member " : "";
    budget->member_bytes += n;
    budget->total_bytes += n;
    if (budget->member_bytes > limits->max_member_bytes) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: %s%s decompresses to more than %" PRIu64
                          " bytes (limit max_member_bytes)",
                          label, of, member, limits->max_member_bytes);
    }
    if (budget->total_bytes > limits->max_total_bytes) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: decompresses to more than %" PRIu64
                          " bytes in all (limit max_total_bytes)",
                          label, limits->max_total_bytes);
    }
    if (budget->check_ratio && budget->total_bytes > MIB &&
        budget->total_bytes / limits->max_ratio > budget->stored_bytes) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: %" PRIu64 " bytes came out of %" PRIu64 ", more than %" PRIu64
                          " to 1 (limit max_ratio)",
                          label, budget->total_bytes, budget->stored_bytes, limits->max_ratio);
    }
    return QD_OK;
}

static locale_t utf8;

static void make_utf8(void)
{
    utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
}

int qc_next_entry(struct archive *archive, struct archive_entry **ret, const char **ret_name)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_utf8);
    /* Names of a zip that says they are UTF-8 are turned into the thread's locale, and lost where
     * that is plain C. */
    locale_t before = utf8 != (locale_t)0 ? uselocale(utf8) : (locale_t)0;
    int rc = archive_read_next_header(archive, ret);
    const char *name = NULL;
    if (rc == ARCHIVE_OK || rc == ARCHIVE_WARN) {
        name = archive_entry_pathname(*ret);
        name = name != NULL ? name : archive_entry_pathname_utf8(*ret);
    }
    if (before != (locale_t)0) {
        (void)uselocale(before);
    }
    *ret_name = name != NULL ? name : "";
    return rc;
}

static enum qd_code source_new(enum source_kind kind, const char *label, struct qc_source **ret,
                               struct qd_error *err)
{
    struct qc_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return qd_fail_errno(err, ENOMEM, "%s: cannot open", label);
    }
    source->kind = kind;
    source->label = label;
    source->size = QC_SOURCE_UNKNOWN;
    source->fd = -1;
    *ret = source;
    return QD_OK;
}

void qc_source_free(struct qc_source *source)
{
    if (source == NULL) {
        return;
    }
    if (source->fd >= 0) {
        close(source->fd);
    }
    if (source->gz != NULL) {
        gzclose_r(source->gz);
    }
    if (source->zip != NULL) {
        archive_read_free(source->zip);
    }
    free(source->block);
    free(source->path);
    free(source->member);
    free(source);
}

enum qd_code qc_source_open_file(const char *path, const char *label, struct qc_source **ret,
                                 struct qd_error *err)
{
    struct qc_source *source = NULL;
    struct stat st;
    QD_TRY(source_new(SOURCE_FILE, label, &source, err));
    enum qd_code code = QD_OK;
    source->block = malloc(BLOCK);
    if (source->block == NULL) {
        code = qd_fail_errno(err, ENOMEM, "%s: cannot open", label);
    } else if ((source->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0 ||
               fstat(source->fd, &st) != 0) {
        code = qd_fail_errno(err, errno, "%s: cannot open", label);
    } else if (!S_ISREG(st.st_mode)) {
        code = qd_fail_on(err, QD_INVALID, label, "%s: %s", label,
                          S_ISDIR(st.st_mode) ? "is a folder; its files go into a tar or zip"
                                              : "not a regular file");
    }
    if (code != QD_OK) {
        qc_source_free(source);
        return code;
    }
    source->size = (uint64_t)st.st_size;
    *ret = source;
    return QD_OK;
}

enum qd_code qc_source_open_bytes(struct qd_bytes bytes, const char *label,
                                  struct qc_source **ret, struct qd_error *err)
{
    QD_TRY(source_new(SOURCE_BYTES, label, ret, err));
    qc_source_set_bytes(*ret, bytes);
    return QD_OK;
}

void qc_source_set_bytes(struct qc_source *source, struct qd_bytes bytes)
{
    source->bytes = bytes;
    source->size = bytes.size;
    source->position = 0;
}

static enum qd_code gz_start(struct qc_source *source, struct qd_error *err)
{
    if (source->gz != NULL) {
        gzclose_r(source->gz);
    }
    errno = 0;
    source->gz = gzopen(source->path, "rbe");
    if (source->gz == NULL) {
        return qd_fail_errno(err, errno != 0 ? errno : ENOMEM, "%s: cannot open", source->label);
    }
    return QD_OK;
}

static enum qd_code zip_fail(const struct qc_source *source, struct qd_error *err)
{
    const char *text = source->zip != NULL ? archive_error_string(source->zip) : NULL;
    return qd_fail_on(err, QD_INVALID, source->label, "%s: member %s: %s", source->label,
                      source->member, text != NULL ? text : "cannot be read");
}

static enum qd_code zip_start(struct qc_source *source, struct qd_error *err)
{
    struct archive_entry *entry;
    if (source->zip != NULL) {
        archive_read_free(source->zip);
    }
    source->zip = archive_read_new();
    if (source->zip == NULL) {
        return qd_fail_errno(err, ENOMEM, "%s: cannot open", source->label);
    }
    if (archive_read_support_format_zip_seekable(source->zip) != ARCHIVE_OK ||
        archive_read_open_filename(source->zip, source->path, BLOCK) != ARCHIVE_OK) {
        return zip_fail(source, err);
    }
    for (uint32_t i = 0; i <= source->budget.limits.max_members; i++) {
        const char *name = NULL;
        int rc = qc_next_entry(source->zip, &entry, &name);
        if (rc == ARCHIVE_EOF) {
            break;
        }
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
            return zip_fail(source, err);
        }
        if (strcmp(name, source->member) == 0) {
            return QD_OK;
        }
    }
    return qd_fail_on(err, QD_NOT_FOUND, source->label, "%s: no member is called %s",
                      source->label, source->member);
}

static enum qd_code open_packed(enum source_kind kind, const char *path, const char *label,
                                const char *member, const struct qc_reader_limits *limits,
                                struct qc_source **ret, struct qd_error *err)
{
    struct qc_source *source = NULL;
    struct stat st;
    if (stat(path, &st) != 0) {
        return qd_fail_errno(err, errno, "%s: cannot open", label);
    }
    QD_TRY(source_new(kind, label, &source, err));
    source->budget.limits = qc_limits_resolve(limits);
    source->budget.stored_bytes = (uint64_t)st.st_size;
    source->budget.check_ratio = true;
    source->path = strdup(path);
    source->member = strdup(member);
    enum qd_code code = QD_OK;
    if (source->path == NULL || source->member == NULL) {
        code = qd_fail_errno(err, ENOMEM, "%s: cannot open", label);
    } else {
        code = kind == SOURCE_GZ ? gz_start(source, err) : zip_start(source, err);
    }
    if (code != QD_OK) {
        qc_source_free(source);
        return code;
    }
    *ret = source;
    return QD_OK;
}

enum qd_code qc_source_open_gz(const char *path, const char *label,
                               const struct qc_reader_limits *limits, struct qc_source **ret,
                               struct qd_error *err)
{
    return open_packed(SOURCE_GZ, path, label, "", limits, ret, err);
}

enum qd_code qc_source_open_zip_member(const char *path, const char *label, const char *member,
                                       const struct qc_reader_limits *limits,
                                       struct qc_source **ret, struct qd_error *err)
{
    return open_packed(SOURCE_ZIP, path, label, member, limits, ret, err);
}

const char *qc_source_label(const struct qc_source *source)
{
    return source->label;
}

uint64_t qc_source_size(const struct qc_source *source)
{
    return source->size;
}

/* pread() into `out` until n bytes or the end of the file. */
static enum qd_code file_pread(const struct qc_source *source, uint8_t *out, size_t n,
                               uint64_t at, size_t *ret_got, struct qd_error *err)
{
    size_t got = 0;
    while (got < n) {
        ssize_t r = pread(source->fd, out + got, n - got, (off_t)(at + got));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return qd_fail_errno(err, errno, "%s: reading at byte %" PRIu64, source->label, at);
        }
        if (r == 0) {
            break;
        }
        got += (size_t)r;
    }
    *ret_got = got;
    return QD_OK;
}

static enum qd_code file_read(struct qc_source *source, uint8_t *out, size_t n, size_t *ret_got,
                              struct qd_error *err)
{
    size_t done = 0;
    while (done < n) {
        uint64_t at = source->position + done;
        if (at >= source->block_start && at < source->block_start + source->block_size) {
            size_t skip = (size_t)(at - source->block_start);
            size_t take = source->block_size - skip;
            take = take < n - done ? take : n - done;
            memcpy(out + done, source->block + skip, take);
            done += take;
        } else if (n - done >= BLOCK) {
            size_t got = 0;
            QD_TRY(file_pread(source, out + done, n - done, at, &got, err));
            done += got;
            break;
        } else {
            source->block_size = 0;
            source->block_start = at;
            QD_TRY(file_pread(source, source->block, BLOCK, at, &source->block_size, err));
            if (source->block_size == 0) {
                break;
            }
        }
    }
    *ret_got = done;
    return QD_OK;
}

static enum qd_code gz_read(struct qc_source *source, uint8_t *out, size_t n, size_t *ret_got,
                            struct qd_error *err)
{
    size_t done = 0;
    while (done < n) {
        unsigned want = (unsigned)(n - done < BLOCK ? n - done : BLOCK);
        int got = gzread(source->gz, out + done, want);
        int status = Z_OK;
        const char *text = gzerror(source->gz, &status);
        if (got < 0 || (status != Z_OK && status != Z_STREAM_END)) {
            return qd_fail_on(err, QD_INVALID, source->label, "%s: gzip stream damaged: %s",
                              source->label, status == Z_BUF_ERROR ? "it ends too early" : text);
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
        QD_TRY(qc_budget_add(&source->budget, source->label, "", (size_t)got, err));
    }
    *ret_got = done;
    return QD_OK;
}

static enum qd_code zip_read(struct qc_source *source, uint8_t *out, size_t n, size_t *ret_got,
                             struct qd_error *err)
{
    size_t done = 0;
    while (done < n) {
        la_ssize_t got =
            archive_read_data(source->zip, out + done, n - done < BLOCK ? n - done : BLOCK);
        if (got < 0) {
            return zip_fail(source, err);
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
        QD_TRY(qc_budget_add(&source->budget, source->label, source->member, (size_t)got, err));
    }
    *ret_got = done;
    return QD_OK;
}

enum qd_code qc_source_read_some(struct qc_source *source, void *out, size_t n, size_t *ret_got,
                                 struct qd_error *err)
{
    size_t got = 0;
    switch (source->kind) {
    case SOURCE_FILE:
        QD_TRY(file_read(source, out, n, &got, err));
        break;
    case SOURCE_GZ:
        QD_TRY(gz_read(source, out, n, &got, err));
        break;
    case SOURCE_ZIP:
        QD_TRY(zip_read(source, out, n, &got, err));
        break;
    case SOURCE_BYTES:
        if (source->position < source->bytes.size) {
            got = source->bytes.size - (size_t)source->position;
            got = got < n ? got : n;
            memcpy(out, source->bytes.data + source->position, got);
        }
        break;
    }
    source->position += got;
    *ret_got = got;
    return QD_OK;
}

static enum qd_code fail_short(const struct qc_source *source, uint64_t missing,
                               struct qd_error *err)
{
    return qd_fail_on(err, QD_INVALID, source->label,
                      "%s: truncated: ends after %" PRIu64 " bytes, %" PRIu64 " more expected",
                      source->label, source->position, missing);
}

enum qd_code qc_source_read(struct qc_source *source, void *out, size_t n, struct qd_error *err)
{
    size_t got = 0;
    QD_TRY(qc_source_read_some(source, out, n, &got, err));
    if (got != n) {
        return fail_short(source, n - got, err);
    }
    return QD_OK;
}

enum qd_code qc_source_skip(struct qc_source *source, uint64_t n, struct qd_error *err)
{
    if (source->size != QC_SOURCE_UNKNOWN) {
        uint64_t left = source->position < source->size ? source->size - source->position : 0;
        source->position += n < left ? n : left;
        return n <= left ? QD_OK : fail_short(source, n - left, err);
    }
    uint8_t dropped[4096];
    while (n > 0) {
        size_t step = n < sizeof(dropped) ? (size_t)n : sizeof(dropped);
        QD_TRY(qc_source_read(source, dropped, step, err));
        n -= step;
    }
    return QD_OK;
}

enum qd_code qc_source_expect_end(struct qc_source *source, struct qd_error *err)
{
    uint8_t byte;
    size_t got = 0;
    uint64_t end = source->position;
    QD_TRY(qc_source_read_some(source, &byte, 1, &got, err));
    if (got != 0) {
        return qd_fail_on(err, QD_INVALID, source->label,
                          "%s: bytes follow the last element, which ends at byte %" PRIu64,
                          source->label, end);
    }
    return QD_OK;
}

enum qd_code qc_source_rewind(struct qc_source *source, struct qd_error *err)
{
    if (source->position == 0) {
        return QD_OK;
    }
    source->position = 0;
    source->budget.member_bytes = source->budget.total_bytes = 0;
    switch (source->kind) {
    case SOURCE_GZ:
        return gz_start(source, err);
    case SOURCE_ZIP:
        return zip_start(source, err);
    case SOURCE_FILE:
    case SOURCE_BYTES:
        break;
    }
    return QD_OK;
}
