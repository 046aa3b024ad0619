#include "quantcore/data/npy_write.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX 512

struct qc_npy_writer {
    FILE *file;
    char *path;
    struct qc_array_header header;
    uint64_t written; /* elements */
};

/* Header text as NumPy writes it: padded with spaces to a multiple of 64, ended by a newline. */
static enum qd_code make_header(const char *path, enum qc_element element, const int64_t *shape,
                                int rank, struct qc_array_header *header, char *out,
                                struct qd_error *err)
{
    static const char *const descr[QC_ELEMENT_COUNT] = {"<f2", "<f4", "<f8", "|u1", "|i1",
                                                        "<i2", "<i4", "<i8", "|b1"};
    if (rank < 0 || rank > QC_READER_MAX_RANK + 1) {
        return qd_fail(err, QD_INVALID, "%s: rank %d (0 to %d)", path, rank,
                       QC_READER_MAX_RANK + 1);
    }
    *header = (struct qc_array_header){.element = element, .rank = rank};
    int n = snprintf(out + 10, HEADER_MAX - 10,
                     "{'descr': '%s', 'fortran_order': False, 'shape': (", descr[element]);
    for (int i = 0; i < rank; i++) {
        header->dim[i] = shape[i];
        n += snprintf(out + 10 + n, (size_t)(HEADER_MAX - 10 - n), "%" PRId64 "%s", shape[i],
                      i + 1 < rank ? ", "
                      : rank == 1  ? ","
                                   : "");
    }
    n += snprintf(out + 10 + n, (size_t)(HEADER_MAX - 10 - n), "), }");
    int total = (10 + n + 1 + 63) / 64 * 64;
    memset(out + 10 + n, ' ', (size_t)(total - 10 - n));
    out[total - 1] = '\n';
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)((total - 10) & 0xff);
    out[9] = (char)((total - 10) >> 8);
    header->data_offset = (uint64_t)total;
    return qc_array_header_finish(header, QC_SOURCE_UNKNOWN, path, err);
}

void qc_npy_writer_free(struct qc_npy_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    if (writer->file != NULL) {
        fclose(writer->file);
    }
    free(writer->path);
    free(writer);
}

enum qd_code qc_npy_writer_open(const char *path, enum qc_element element, const int64_t *shape,
                                int rank, struct qc_npy_writer **ret, struct qd_error *err)
{
    char header[HEADER_MAX];
    struct qc_npy_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL || (writer->path = strdup(path)) == NULL) {
        free(writer);
        return qd_fail(err, QD_NO_MEMORY, "%s: cannot create", path);
    }
    enum qd_code code = make_header(path, element, shape, rank, &writer->header, header, err);
    if (code == QD_OK && (writer->file = fopen(path, "wbe")) == NULL) {
        code = qd_fail_errno(err, errno, "%s: cannot create", path);
    }
    if (code == QD_OK &&
        fwrite(header, (size_t)writer->header.data_offset, 1, writer->file) != 1) {
        code = qd_fail_errno(err, errno, "%s: cannot write", path);
    }
    if (code != QD_OK) {
        qc_npy_writer_free(writer);
        return code;
    }
    *ret = writer;
    return QD_OK;
}

enum qd_code qc_npy_writer_append(struct qc_npy_writer *writer, const void *data, size_t n,
                                  struct qd_error *err)
{
    if (n > writer->header.elements - writer->written) {
        return qd_fail(err, QD_INVALID,
                       "%s: %zu elements more than its shape of %" PRIu64 " takes", writer->path,
                       n, writer->header.elements);
    }
    if (n > 0 && fwrite(data, qc_element_size(writer->header.element), n, writer->file) != n) {
        return qd_fail_errno(err, errno, "%s: cannot write", writer->path);
    }
    writer->written += n;
    return QD_OK;
}

enum qd_code qc_npy_writer_close(struct qc_npy_writer *writer, struct qd_error *err)
{
    enum qd_code code = QD_OK;
    int rc = fclose(writer->file);
    writer->file = NULL;
    if (rc != 0) {
        code = qd_fail_errno(err, errno, "%s: cannot write", writer->path);
    } else if (writer->written != writer->header.elements) {
        code = qd_fail(err, QD_INVALID, "%s: %" PRIu64 " elements written of %" PRIu64,
                       writer->path, writer->written, writer->header.elements);
    }
    qc_npy_writer_free(writer);
    return code;
}

static enum qd_code fail_zip(struct archive *zip, const char *path, struct qd_error *err)
{
    int errnum = archive_errno(zip);
    const char *text = archive_error_string(zip);
    if (errnum == ENOSPC) {
        return qd_fail_errno(err, errnum, "%s: cannot write", path);
    }
    return qd_fail(err, QD_IO, "%s: cannot write: %s", path, text != NULL ? text : "unknown");
}

static enum qd_code write_member(struct archive *zip, struct archive_entry *entry,
                                 const char *path, const struct qc_npz_array *array,
                                 struct qd_error *err)
{
    char text[HEADER_MAX];
    char name[QC_MEMBER_NAME_MAX];
    struct qc_array_header header;
    int n = snprintf(name, sizeof(name), "%s.npy", array->name);
    if (n < 0 || (size_t)n >= sizeof(name)) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%s: name of an array has over %d bytes", path,
                       QC_MEMBER_NAME_MAX - 5);
    }
    QD_TRY(make_header(path, array->element, array->shape, array->rank, &header, text, err));
    archive_entry_clear(entry);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)(header.data_offset + header.data_bytes));
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    /* A fixed time (1980-01-01, the earliest of zip): equal arrays give equal files. */
    archive_entry_set_mtime(entry, 315532800, 0);
    if (archive_write_header(zip, entry) != ARCHIVE_OK ||
        archive_write_data(zip, text, (size_t)header.data_offset) < 0) {
        return fail_zip(zip, path, err);
    }
    for (size_t done = 0; done < header.data_bytes;) {
        la_ssize_t w = archive_write_data(zip, (const char *)array->data + done,
                                          (size_t)header.data_bytes - done);
        if (w <= 0) {
            return fail_zip(zip, path, err);
        }
        done += (size_t)w;
    }
    return QD_OK;
}

enum qd_code qc_npz_write(const char *path, const struct qc_npz_array *arrays, int n,
                          struct qd_error *err)
{
    enum qd_code code = QD_OK;
    struct archive *zip = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    if (zip == NULL || entry == NULL) {
        code = qd_fail(err, QD_NO_MEMORY, "%s: cannot create", path);
        goto out;
    }
    if (archive_write_set_format_zip(zip) != ARCHIVE_OK ||
        archive_write_set_options(zip, "zip:compression=store") != ARCHIVE_OK ||
        archive_write_open_filename(zip, path) != ARCHIVE_OK) {
        code = fail_zip(zip, path, err);
        goto out;
    }
    for (int i = 0; i < n && code == QD_OK; i++) {
        code = write_member(zip, entry, path, &arrays[i], err);
    }
    if (code == QD_OK && archive_write_close(zip) != ARCHIVE_OK) {
        code = fail_zip(zip, path, err);
    }
out:
    if (entry != NULL) {
        archive_entry_free(entry);
    }
    if (zip != NULL) {
        archive_write_free(zip);
    }
    return code;
}
