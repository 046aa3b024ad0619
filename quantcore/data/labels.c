#include "quantcore/data/labels.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/data/idx.h"
#include "quantcore/data/npy.h"

static enum qd_code check_header(const struct qc_array_header *header, int64_t n,
                                 const char *label, struct qd_error *err)
{
    char shape[128];
    bool column = header->rank == 2 && header->dim[1] == 1;
    qc_shape_text(header->dim, header->rank, shape, sizeof(shape));
    if (!qc_element_is_integer(header->element)) {
        return qd_fail_on(err, QD_INVALID, label, "%s: labels are %s, must be integers", label,
                          qc_element_name(header->element));
    }
    if ((header->rank != 1 && !column) || header->dim[0] != n) {
        return qd_fail_on(err, QD_INVALID, label,
                          "%s: labels have shape %s, the data has %" PRId64 " samples: [%" PRId64
                          "] expected",
                          label, shape, n, n);
    }
    return QD_OK;
}

static enum qd_code read_values(struct qc_source *source, const struct qc_array_header *header,
                                int64_t n, int32_t *labels, struct qd_error *err)
{
    size_t size = qc_element_size(header->element);
    for (int64_t i = 0; i < n; i++) {
        uint8_t raw[8];
        int64_t value = 0;
        QD_TRY(qc_source_read(source, raw, size, err));
        qc_elements_to_s64(header->element, header->big_endian, raw, 1, &value);
        if (value < INT32_MIN || value > INT32_MAX) {
            const char *label = qc_source_label(source);
            return qd_fail_on(err, QD_INVALID, label,
                              "%s: label of sample %" PRId64 " is %" PRId64
                              ", does not fit 32 bits",
                              label, i, value);
        }
        labels[i] = (int32_t)value;
    }
    return qc_source_expect_end(source, err);
}

enum qd_code qc_labels_read(struct qc_source *source, const struct qc_array_header *header,
                            int64_t n, int32_t **ret_labels, struct qd_error *err)
{
    const char *label = qc_source_label(source);
    QD_TRY(check_header(header, n, label, err));
    int32_t *labels = calloc(n > 0 ? (size_t)n : 1, sizeof(*labels));
    if (labels == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "%s: no memory for %" PRId64 " labels", label, n);
    }
    enum qd_code code = read_values(source, header, n, labels, err);
    if (code != QD_OK) {
        free(labels);
        return code;
    }
    *ret_labels = labels;
    return QD_OK;
}

static enum qd_code read_header(struct qc_source *source, const uint8_t *magic, size_t n,
                                struct qc_array_header *header, struct qd_error *err)
{
    const char *label = qc_source_label(source);
    if (n == 6 && memcmp(magic, "\x93NUMPY", 6) == 0) {
        return qc_npy_read_header(source, header, err);
    }
    if (n >= 4 && (magic[0] != 0 || magic[1] != 0)) {
        return qd_fail_on(err, QD_UNSUPPORTED, label,
                          "%s: begins with %02x%02x%02x%02x, neither .npy nor IDX", label,
                          magic[0], magic[1], magic[2], magic[3]);
    }
    return qc_idx_read_header(source, header, err);
}

enum qd_code qc_labels_open(const char *path, int64_t n, const struct qc_reader_limits *limits,
                            int32_t **ret_labels, struct qd_error *err)
{
    struct qc_source *source = NULL;
    struct qc_array_header header = {0};
    uint8_t magic[6];
    size_t got = 0;
    enum qd_code code = qc_source_open_file(path, "labels", &source, err);
    if (code == QD_OK) {
        code = qc_source_read_some(source, magic, sizeof(magic), &got, err);
    }
    if (code == QD_OK && got >= 2 && magic[0] == 0x1f && magic[1] == 0x8b) {
        qc_source_free(source);
        source = NULL;
        code = qc_source_open_gz(path, "labels", limits, &source, err);
        if (code == QD_OK) {
            code = qc_source_read_some(source, magic, sizeof(magic), &got, err);
        }
    }
    if (code == QD_OK) {
        code = qc_source_rewind(source, err);
    }
    if (code == QD_OK) {
        code = read_header(source, magic, got, &header, err);
    }
    if (code == QD_OK) {
        code = qc_labels_read(source, &header, n, ret_labels, err);
    }
    qc_source_free(source);
    return code;
}
