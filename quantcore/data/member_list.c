#include "quantcore/data/member_list.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK          (64 * 1024)
#define MAX_NAME_BYTES ((size_t)256 << 20) /* all names together */

struct member {
    size_t name_at;        /* in names */
    uint64_t offset, size; /* in the spool file */
    enum qc_member_kind kind;
};

struct qc_member_list {
    char *path;
    const char *label;
    bool is_zip;
    bool sorted; /* the archive's own order is that of the names */
    struct qc_budget budget;
    struct member *members;
    size_t count, capacity;
    char *names;
    size_t names_used, names_capacity;
    int spool; /* file with the decoded members, or -1: streaming */
    uint64_t spooled;
    struct archive *archive; /* streaming: stands before member `index` */
    size_t index;
    uint8_t *bytes; /* the current member, grows to the largest */
    size_t bytes_capacity;
};

enum qc_member_kind qc_member_kind_of(const uint8_t *bytes, size_t n)
{
    if (n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) {
        return QC_MEMBER_PNG;
    }
    if (n >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0) {
        return QC_MEMBER_JPEG;
    }
    if (n >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0) {
        return QC_MEMBER_NPY;
    }
    return QC_MEMBER_KIND_COUNT;
}

size_t qc_member_list_count(const struct qc_member_list *list)
{
    return list->count;
}

const char *qc_member_list_name(const struct qc_member_list *list, size_t i)
{
    return list->names + list->members[i].name_at;
}

enum qc_member_kind qc_member_list_kind(const struct qc_member_list *list, size_t i)
{
    return list->members[i].kind;
}

uint64_t qc_member_list_spooled(const struct qc_member_list *list)
{
    return list->spooled;
}

void qc_member_list_free(struct qc_member_list *list)
{
    if (list == NULL) {
        return;
    }
    if (list->archive != NULL) {
        archive_read_free(list->archive);
    }
    if (list->spool >= 0) {
        close(list->spool);
    }
    free(list->bytes);
    free(list->members);
    free(list->names);
    free(list->path);
    free(list);
}

static enum qd_code fail_archive(const struct qc_member_list *list, struct qd_error *err)
{
    const char *text = list->archive != NULL ? archive_error_string(list->archive) : NULL;
    return qd_fail_on(err, QD_INVALID, list->label, "%s: %s after %zu members: %s", list->label,
                      list->is_zip ? "zip archive" : "tar archive", list->index,
                      text != NULL ? text : "cannot be read");
}

static enum qd_code fail_memory(const struct qc_member_list *list, size_t bytes,
                                struct qd_error *err)
{
    return qd_fail(err, QD_NO_MEMORY, "%s: no memory for %zu bytes", list->label, bytes);
}

/* A fresh libarchive handle before the first member. Only the wanted format is enabled: bytes
 * never choose among libarchive's many others, and no filter starts a program. */
static enum qd_code start(struct qc_member_list *list, struct qd_error *err)
{
    if (list->archive != NULL) {
        archive_read_free(list->archive);
    }
    list->index = 0;
    list->budget.member_bytes = list->budget.total_bytes = 0;
    list->archive = archive_read_new();
    if (list->archive == NULL) {
        return fail_memory(list, 0, err);
    }
    bool ok = list->is_zip ? archive_read_support_format_zip_seekable(list->archive) == ARCHIVE_OK
                           : archive_read_support_format_tar(list->archive) == ARCHIVE_OK &&
                                 archive_read_support_filter_gzip(list->archive) == ARCHIVE_OK &&
                                 archive_read_support_filter_zstd(list->archive) == ARCHIVE_OK;
    if (!ok || archive_read_open_filename(list->archive, list->path, BLOCK) != ARCHIVE_OK) {
        return fail_archive(list, err);
    }
    return QD_OK;
}

static bool is_hidden(const char *name)
{
    const char *slash = strrchr(name, '/');
    return (slash != NULL ? slash[1] : name[0]) == '.';
}

/* Advance to the next member that is a sample. *ret_name is NULL at the end. */
static enum qd_code next_entry(struct qc_member_list *list, const char **ret_name,
                               struct qd_error *err)
{
    struct archive_entry *entry;
    list->budget.member_bytes = 0;
    /* Folders and hidden files count, too: an archive of nothing else must end. */
    for (uint64_t seen = 0; seen <= 2 * (uint64_t)list->budget.limits.max_members; seen++) {
        const char *name = NULL;
        int rc = qc_next_entry(list->archive, &entry, &name);
        if (rc == ARCHIVE_EOF) {
            *ret_name = NULL;
            return QD_OK;
        }
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) {
            return fail_archive(list, err);
        }
        size_t length = strlen(name);
        if (length == 0 || length > QC_MEMBER_NAME_MAX) {
            return qd_fail_on(err, QD_LIMIT_EXCEEDED, list->label,
                              "%s: member %zu has a name of %zu bytes (1 to %d)", list->label,
                              list->index, length, QC_MEMBER_NAME_MAX);
        }
        unsigned type = archive_entry_filetype(entry);
        if (archive_entry_hardlink(entry) != NULL || archive_entry_symlink(entry) != NULL ||
            (type != AE_IFREG && type != AE_IFDIR)) {
            return qd_fail_on(err, QD_INVALID, list->label,
                              "%s: member %s is a link or a device; only regular files are read",
                              list->label, name);
        }
        if (archive_entry_size_is_set(entry) &&
            (uint64_t)archive_entry_size(entry) > list->budget.limits.max_member_bytes) {
            return qd_fail_on(err, QD_LIMIT_EXCEEDED, list->label,
                              "%s: member %s has %" PRId64
                              " bytes (limit max_member_bytes %" PRIu64 ")",
                              list->label, name, (int64_t)archive_entry_size(entry),
                              list->budget.limits.max_member_bytes);
        }
        if (type == AE_IFREG && !is_hidden(name)) {
            *ret_name = name;
            return QD_OK;
        }
    }
    return qd_fail_on(err, QD_LIMIT_EXCEEDED, list->label,
                      "%s: more than %" PRIu32 " members (limit max_members)", list->label,
                      list->budget.limits.max_members);
}

/* Up to n decoded bytes of the current member, counted. */
static enum qd_code read_entry(struct qc_member_list *list, const char *name, uint8_t *out,
                               size_t n, size_t *ret_got, struct qd_error *err)
{
    size_t done = 0;
    while (done < n) {
        size_t want = n - done < BLOCK ? n - done : BLOCK;
        la_ssize_t got = archive_read_data(list->archive, out + done, want);
        if (got < 0) {
            return fail_archive(list, err);
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
        QD_TRY(qc_budget_add(&list->budget, list->label, name, (size_t)got, err));
    }
    *ret_got = done;
    return QD_OK;
}

static bool grow(void **data, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity) {
        return true;
    }
    size_t wanted = *capacity < 32 ? 64 : *capacity * 2;
    wanted = wanted < need ? need : wanted;
    size_t bytes;
    if (!qd_mul_size(wanted, size, &bytes)) {
        return false;
    }
    void *grown = realloc(*data, bytes);
    if (grown == NULL) {
        return false;
    }
    *data = grown;
    *capacity = wanted;
    return true;
}

static enum qd_code append_member(struct qc_member_list *list, const char *name,
                                  enum qc_member_kind kind, struct qd_error *err)
{
    size_t length = strlen(name) + 1;
    if (list->count >= list->budget.limits.max_members) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, list->label,
                          "%s: more than %" PRIu32 " members (limit max_members)", list->label,
                          list->budget.limits.max_members);
    }
    if (list->names_used + length > MAX_NAME_BYTES) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, list->label,
                          "%s: names of members take more than %zu bytes", list->label,
                          MAX_NAME_BYTES);
    }
    void *members = list->members;
    void *names = list->names;
    bool ok = grow(&members, &list->capacity, list->count + 1, sizeof(*list->members));
    list->members = members;
    ok = ok && grow(&names, &list->names_capacity, list->names_used + length, 1);
    list->names = names;
    if (!ok) {
        return fail_memory(list, list->names_used + length, err);
    }
    memcpy(list->names + list->names_used, name, length);
    list->members[list->count++] = (struct member){.name_at = list->names_used, .kind = kind};
    list->names_used += length;
    return QD_OK;
}

/* First pass: names and kinds. A tar is read through, so that its limits are met here. */
static enum qd_code list_members(struct qc_member_list *list, struct qd_error *err)
{
    const char *name = NULL;
    list->sorted = true;
    QD_TRY(start(list, err));
    for (;;) {
        uint8_t block[4096];
        size_t got = 0;
        QD_TRY(next_entry(list, &name, err));
        if (name == NULL) {
            break;
        }
        QD_TRY(read_entry(list, name, block, 16, &got, err));
        enum qc_member_kind kind = qc_member_kind_of(block, got);
        if (kind == QC_MEMBER_KIND_COUNT) {
            return qd_fail_on(err, QD_UNSUPPORTED, list->label,
                              "%s: member %s is neither PNG, JPEG nor .npy by its content",
                              list->label, name);
        }
        QD_TRY(append_member(list, name, kind, err));
        while (!list->is_zip && got > 0) {
            QD_TRY(read_entry(list, name, block, sizeof(block), &got, err));
        }
        list->index++;
        if (list->count > 1) {
            list->sorted = list->sorted && strcmp(qc_member_list_name(list, list->count - 2),
                                                  qc_member_list_name(list, list->count - 1)) < 0;
        }
    }
    if (list->count == 0) {
        return qd_fail_on(err, QD_INVALID, list->label, "%s: the archive holds no samples",
                          list->label);
    }
    return QD_OK;
}

/* A temporary file without a name. */
static enum qd_code open_spool(struct qc_member_list *list, struct qd_error *err)
{
    const char *folder = getenv("TMPDIR");
    char name[4096];
    folder = folder != NULL && folder[0] == '/' ? folder : "/tmp";
    list->spool = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (list->spool >= 0) {
        return QD_OK;
    }
    int n = snprintf(name, sizeof(name), "%s/quantd-XXXXXX", folder);
    if (n < 0 || (size_t)n >= sizeof(name)) {
        return qd_fail(err, QD_INVALID, "TMPDIR is too long");
    }
    list->spool = mkostemp(name, O_CLOEXEC);
    if (list->spool < 0) {
        return qd_fail_errno(err, errno, "%s: temporary file in %s", list->label, folder);
    }
    unlink(name);
    return QD_OK;
}

static enum qd_code write_all(const struct qc_member_list *list, const uint8_t *data, size_t n,
                              struct qd_error *err)
{
    while (n > 0) {
        ssize_t written = write(list->spool, data, n);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            return qd_fail_errno(err, errno, "%s: temporary file of %" PRIu64 " bytes",
                                 list->label, list->spooled);
        }
        data += written;
        n -= (size_t)written;
    }
    return QD_OK;
}

/* The file may have been changed between two passes: same names, or an error. */
static enum qd_code next_known(struct qc_member_list *list, const char **ret_name,
                               struct qd_error *err)
{
    QD_TRY(next_entry(list, ret_name, err));
    if (list->index >= list->count || *ret_name == NULL ||
        strcmp(*ret_name, qc_member_list_name(list, list->index)) != 0) {
        return qd_fail_on(err, QD_INVALID, list->label,
                          "%s: the archive changed while it was read (member %zu)", list->label,
                          list->index);
    }
    return QD_OK;
}

/* Second pass for unsorted archives: decode every member into the spool file. */
static enum qd_code spool_members(struct qc_member_list *list, struct qd_error *err)
{
    uint8_t block[4096];
    QD_TRY(open_spool(list, err));
    QD_TRY(start(list, err));
    while (list->index < list->count) {
        const char *name = NULL;
        size_t got = 0;
        QD_TRY(next_known(list, &name, err));
        struct member *member = &list->members[list->index];
        member->offset = list->spooled;
        do {
            QD_TRY(read_entry(list, name, block, sizeof(block), &got, err));
            QD_TRY(write_all(list, block, got, err));
            list->spooled += got;
        } while (got > 0);
        member->size = list->spooled - member->offset;
        list->index++;
    }
    return QD_OK;
}

static int compare_names(const void *a, const void *b, void *names)
{
    const struct member *x = a;
    const struct member *y = b;
    return strcmp((const char *)names + x->name_at, (const char *)names + y->name_at);
}

static enum qd_code sort_members(struct qc_member_list *list, struct qd_error *err)
{
    qsort_r(list->members, list->count, sizeof(*list->members), compare_names, list->names);
    for (size_t i = 1; i < list->count; i++) {
        if (strcmp(qc_member_list_name(list, i - 1), qc_member_list_name(list, i)) == 0) {
            return qd_fail_on(err, QD_INVALID, list->label, "%s: member %s occurs twice",
                              list->label, qc_member_list_name(list, i));
        }
    }
    return QD_OK;
}

static enum qd_code list_new(const char *path, const char *label,
                             const struct qc_reader_limits *limits, struct qc_member_list **ret,
                             struct qd_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        return qd_fail_errno(err, errno, "%s: cannot open", label);
    }
    struct qc_member_list *list = calloc(1, sizeof(*list));
    if (list == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: cannot open", label);
    }
    list->spool = -1;
    list->label = label;
    list->budget.limits = qc_limits_resolve(limits);
    list->budget.stored_bytes = (uint64_t)st.st_size;
    list->budget.check_ratio = true;
    list->path = strdup(path);
    if (list->path == NULL) {
        free(list);
        return qd_fail(err, QD_NO_MEMORY, "%s: cannot open", label);
    }
    *ret = list;
    return QD_OK;
}

enum qd_code qc_member_list_open(const char *path, const char *label, bool is_zip,
                                 const struct qc_reader_limits *limits,
                                 struct qc_member_list **ret, struct qd_error *err)
{
    struct qc_member_list *list = NULL;
    QD_TRY(list_new(path, label, limits, &list, err));
    list->is_zip = is_zip;
    enum qd_code code = list_members(list, err);
    if (code != QD_OK) {
        qc_member_list_free(list);
        return code;
    }
    *ret = list;
    return QD_OK;
}

enum qd_code qc_member_list_sort(struct qc_member_list *list, struct qd_error *err)
{
    if (list->spool < 0 && !list->sorted) {
        QD_TRY(spool_members(list, err));
        QD_TRY(sort_members(list, err));
    }
    return qc_member_list_rewind(list, err);
}

enum qd_code qc_member_list_open_single(const char *path, const char *label,
                                        enum qc_member_kind kind,
                                        const struct qc_reader_limits *limits,
                                        struct qc_member_list **ret, struct qd_error *err)
{
    struct qc_member_list *list = NULL;
    QD_TRY(list_new(path, label, limits, &list, err));
    enum qd_code code = append_member(list, label, kind, err);
    if (code == QD_OK) {
        list->members[0].size = list->budget.stored_bytes;
        list->spool = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (list->spool < 0) {
            code = qd_fail_errno(err, errno, "%s: cannot open", label);
        } else if (list->members[0].size > list->budget.limits.max_member_bytes) {
            code = qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                              "%s: %" PRIu64 " bytes (limit max_member_bytes %" PRIu64 ")", label,
                              list->members[0].size, list->budget.limits.max_member_bytes);
        }
    }
    if (code != QD_OK) {
        qc_member_list_free(list);
        return code;
    }
    *ret = list;
    return QD_OK;
}

static enum qd_code reserve_bytes(struct qc_member_list *list, size_t need, struct qd_error *err)
{
    void *bytes = list->bytes;
    bool ok = grow(&bytes, &list->bytes_capacity, need, 1);
    list->bytes = bytes;
    return ok ? QD_OK : fail_memory(list, need, err);
}

static enum qd_code read_spooled(struct qc_member_list *list, struct qd_bytes *ret,
                                 struct qd_error *err)
{
    const struct member *member = &list->members[list->index];
    size_t got = 0;
    QD_TRY(reserve_bytes(list, (size_t)member->size + 1, err));
    while (got < member->size) {
        ssize_t r = pread(list->spool, list->bytes + got, (size_t)member->size - got,
                          (off_t)(member->offset + got));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r <= 0) {
            return qd_fail_errno(err, r < 0 ? errno : EIO, "%s: reading member %s", list->label,
                                 qc_member_list_name(list, list->index));
        }
        got += (size_t)r;
    }
    *ret = (struct qd_bytes){list->bytes, got};
    return QD_OK;
}

static enum qd_code read_streamed(struct qc_member_list *list, struct qd_bytes *ret,
                                  struct qd_error *err)
{
    const char *name = NULL;
    size_t size = 0;
    size_t got = 0;
    QD_TRY(next_known(list, &name, err));
    do {
        QD_TRY(reserve_bytes(list, size + BLOCK, err));
        QD_TRY(read_entry(list, name, list->bytes + size, BLOCK, &got, err));
        size += got;
    } while (got == BLOCK);
    *ret = (struct qd_bytes){list->bytes, size};
    return QD_OK;
}

enum qd_code qc_member_list_next(struct qc_member_list *list, struct qd_bytes *ret,
                                 struct qd_error *err)
{
    if (list->spool >= 0) {
        QD_TRY(read_spooled(list, ret, err));
    } else {
        QD_TRY(read_streamed(list, ret, err));
    }
    list->index++;
    return QD_OK;
}

enum qd_code qc_member_list_skip(struct qc_member_list *list, size_t n, struct qd_error *err)
{
    if (list->spool >= 0) {
        list->index += n;
        return QD_OK;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = NULL;
        size_t got = 1;
        uint8_t block[4096];
        QD_TRY(next_known(list, &name, err));
        while (!list->is_zip && got > 0) {
            QD_TRY(read_entry(list, name, block, sizeof(block), &got, err));
        }
        list->index++;
    }
    return QD_OK;
}

enum qd_code qc_member_list_rewind(struct qc_member_list *list, struct qd_error *err)
{
    if (list->spool >= 0) {
        if (list->archive != NULL) {
            archive_read_free(list->archive);
            list->archive = NULL;
        }
        list->index = 0;
        return QD_OK;
    }
    return start(list, err);
}
