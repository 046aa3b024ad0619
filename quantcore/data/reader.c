#include "quantcore/data/reader.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/data/array_set.h"
#include "quantcore/data/idx.h"
#include "quantcore/data/labels.h"
#include "quantcore/data/member_list.h"
#include "quantcore/data/npy.h"
#include "quantcore/data/sample_set.h"

#define SNIFF 512 /* bytes that tell the formats apart: one tar block */

/* Exactly one of arrays, samples and parts is set. */
struct qc_reader {
    char *path, *label;
    struct qc_reader_options options;                    /* inputs points to `inputs` */
    struct qc_reader_input inputs[QC_READER_MAX_INPUTS]; /* names are owned */
    struct qc_array_set *arrays;
    struct qc_sample_set *samples;
    struct qc_reader **parts;
    int n_parts, part;
    int64_t count, index;
    int32_t *labels;
};

void qc_reader_free(struct qc_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    qc_array_set_free(reader->arrays);
    qc_sample_set_free(reader->samples);
    for (int i = 0; i < reader->n_parts; i++) {
        qc_reader_free(reader->parts[i]);
    }
    for (int i = 0; i < QC_READER_MAX_INPUTS; i++) {
        free((void *)(uintptr_t)reader->inputs[i].name);
    }
    free(reader->parts);
    free(reader->labels);
    free(reader->path);
    free(reader->label);
    free(reader);
}

static enum qd_code check_options(const struct qc_reader_options *options, const char *label,
                                  struct qd_error *err)
{
    if (options->n_inputs < 1 || options->n_inputs > QC_READER_MAX_INPUTS) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label, "%s: data for %d inputs (1 to %d)",
                          label, options->n_inputs, QC_READER_MAX_INPUTS);
    }
    for (int i = 0; i < options->n_inputs; i++) {
        const struct qc_reader_input *input = &options->inputs[i];
        if (input->rank < 0 || input->rank > QC_READER_MAX_RANK) {
            return qd_fail_on(err, QD_LIMIT_EXCEEDED, input->name,
                              "%s: input %s has rank %d without the sample axis (0 to %d)", label,
                              input->name, input->rank, QC_READER_MAX_RANK);
        }
    }
    const struct qc_preprocess *p = &options->preprocess;
    if (p->n_mean < 0 || p->n_mean > 16 || p->n_std < 0 || p->n_std > 16) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, label,
                          "%s: preprocess has %d means and %d deviations (0 to 16)", label,
                          p->n_mean, p->n_std);
    }
    return QD_OK;
}

static enum qd_code reader_new(const char *path, const char *label,
                               const struct qc_reader_options *options, struct qc_reader **ret,
                               struct qd_error *err)
{
    struct qc_reader *reader = calloc(1, sizeof(*reader));
    bool ok = reader != NULL;
    if (ok) {
        reader->path = strdup(path);
        reader->label = strdup(label);
        reader->options = *options;
        reader->options.inputs = reader->inputs;
        ok = reader->path != NULL && reader->label != NULL;
        for (int i = 0; i < options->n_inputs; i++) {
            reader->inputs[i] = options->inputs[i];
            reader->inputs[i].name = strdup(options->inputs[i].name);
            ok = ok && reader->inputs[i].name != NULL;
        }
    }
    if (!ok) {
        qc_reader_free(reader);
        return qd_fail(err, QD_NO_MEMORY, "%s: cannot open", label);
    }
    *ret = reader;
    return QD_OK;
}

/* --- formats ----------------------------------------------------------------------------------
 */

static bool is_tar(const uint8_t *bytes, size_t n)
{
    return n >= 262 && memcmp(bytes + 257, "ustar", 5) == 0;
}

static bool is_idx(const uint8_t *bytes, size_t n)
{
    return n >= 4 && bytes[0] == 0 && bytes[1] == 0 && bytes[2] >= 8 && bytes[2] <= 14 &&
           bytes[3] >= 1;
}

static enum qd_code sniff_file(const struct qc_reader *reader, bool gz, uint8_t *out,
                               size_t *ret_got, struct qd_error *err)
{
    struct qc_source *source = NULL;
    enum qd_code code =
        gz ? qc_source_open_gz(reader->path, reader->label, &reader->options.limits, &source, err)
           : qc_source_open_file(reader->path, reader->label, &source, err);
    if (code == QD_OK) {
        code = qc_source_read_some(source, out, SNIFF, ret_got, err);
    }
    qc_source_free(source);
    return code;
}

/* A single array for a single input. */
static enum qd_code open_array(struct qc_reader *reader, bool gz, bool npy, struct qd_error *err)
{
    struct qc_source *source = NULL;
    struct qc_array_header header = {0};
    if (reader->options.n_inputs != 1) {
        return qd_fail_on(err, QD_INVALID, reader->label,
                          "%s: a single array fills one input, the network has %d; use .npz",
                          reader->label, reader->options.n_inputs);
    }
    QD_TRY(
        gz ? qc_source_open_gz(reader->path, reader->label, &reader->options.limits, &source, err)
           : qc_source_open_file(reader->path, reader->label, &source, err));
    enum qd_code code =
        npy ? qc_npy_read_header(source, &header, err) : qc_idx_read_header(source, &header, err);
    if (code == QD_OK) {
        code = qc_array_set_new(&reader->options, &reader->arrays, err);
    }
    if (code != QD_OK) {
        qc_source_free(source);
        return code;
    }
    return qc_array_set_add_take(reader->arrays, &reader->options, source, &header, err);
}

static bool is_array_name(const char *member, const char *name)
{
    size_t n = strlen(name);
    return strncmp(member, name, n) == 0 &&
           (member[n] == '\0' || strcmp(member + n, ".npy") == 0);
}

/* The member that holds `name`, or -1. */
static int64_t find_array(const struct qc_member_list *list, const char *name)
{
    for (size_t i = 0; i < qc_member_list_count(list); i++) {
        if (is_array_name(qc_member_list_name(list, i), name)) {
            return (int64_t)i;
        }
    }
    return -1;
}

static bool is_labels_name(const char *member)
{
    return is_array_name(member, "labels") || is_array_name(member, "label");
}

/* The only array beside labels, or -1. */
static int64_t find_only_array(const struct qc_member_list *list)
{
    int64_t found = -1;
    for (size_t i = 0; i < qc_member_list_count(list); i++) {
        if (!is_labels_name(qc_member_list_name(list, i))) {
            if (found >= 0) {
                return -1;
            }
            found = (int64_t)i;
        }
    }
    return found;
}

static enum qd_code open_npz_array(const struct qc_reader *reader,
                                   const struct qc_member_list *list, size_t member,
                                   struct qc_source **ret, struct qc_array_header *ret_header,
                                   struct qd_error *err)
{
    const char *name = qc_member_list_name(list, member);
    struct qc_source *source = NULL;
    for (size_t i = 0; i < qc_member_list_count(list); i++) {
        if (i != member && strcmp(qc_member_list_name(list, i), name) == 0) {
            return qd_fail_on(err, QD_INVALID, name, "%s: array %s occurs twice", reader->label,
                              name);
        }
    }
    QD_TRY(qc_source_open_zip_member(reader->path, reader->label, name, &reader->options.limits,
                                     &source, err));
    enum qd_code code = qc_npy_read_header(source, ret_header, err);
    if (code != QD_OK) {
        qc_source_free(source);
        return qd_wrap(err, code, "array %s", name);
    }
    *ret = source;
    return QD_OK;
}

static enum qd_code open_npz_labels(struct qc_reader *reader, const struct qc_member_list *list,
                                    struct qd_error *err)
{
    int64_t member = find_array(list, "labels");
    struct qc_source *source = NULL;
    struct qc_array_header header = {0};
    if (member < 0) {
        member = find_array(list, "label");
    }
    for (int i = 0; i < reader->options.n_inputs && member >= 0; i++) {
        if (is_array_name(qc_member_list_name(list, (size_t)member), reader->inputs[i].name)) {
            return QD_OK; /* the network has an input of that name */
        }
    }
    if (member < 0 || reader->options.labels_path != NULL) {
        return QD_OK;
    }
    QD_TRY(open_npz_array(reader, list, (size_t)member, &source, &header, err));
    enum qd_code code =
        qc_labels_read(source, &header, qc_array_set_count(reader->arrays), &reader->labels, err);
    qc_source_free(source);
    return code;
}

static enum qd_code fail_no_array(const struct qc_reader *reader,
                                  const struct qc_member_list *list, const char *name,
                                  struct qd_error *err)
{
    char names[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < qc_member_list_count(list) && i < 8; i++) {
        const char *member = qc_member_list_name(list, i);
        size_t n = strlen(member);
        if (used + n + 3 > sizeof(names)) {
            break;
        }
        if (i > 0) {
            memcpy(names + used, ", ", 2);
            used += 2;
        }
        memcpy(names + used, member, n + 1);
        used += n;
    }
    return qd_fail_on(err, QD_INVALID, name, "%s: no array for input %s; the file holds %zu: %s",
                      reader->label, name, qc_member_list_count(list), names);
}

static enum qd_code open_npz(struct qc_reader *reader, const struct qc_member_list *list,
                             struct qd_error *err)
{
    QD_TRY(qc_array_set_new(&reader->options, &reader->arrays, err));
    for (int i = 0; i < reader->options.n_inputs; i++) {
        const char *name = reader->inputs[i].name;
        int64_t member = find_array(list, name);
        struct qc_source *source = NULL;
        struct qc_array_header header = {0};
        if (member < 0 && reader->options.n_inputs == 1) {
            member = find_only_array(list);
        }
        if (member < 0) {
            return fail_no_array(reader, list, name, err);
        }
        QD_TRY(open_npz_array(reader, list, (size_t)member, &source, &header, err));
        QD_TRY(qc_array_set_add_take(reader->arrays, &reader->options, source, &header, err));
    }
    return open_npz_labels(reader, list, err);
}

/* A zip of .npy members is an .npz when a name is that of an input, or there is one array; else
 * its members are samples. */
static bool is_npz(const struct qc_reader *reader, const struct qc_member_list *list)
{
    for (size_t i = 0; i < qc_member_list_count(list); i++) {
        if (qc_member_list_kind(list, i) != QC_MEMBER_NPY) {
            return false;
        }
    }
    for (int i = 0; i < reader->options.n_inputs; i++) {
        if (find_array(list, reader->inputs[i].name) >= 0) {
            return true;
        }
    }
    return reader->options.n_inputs > 1 || find_only_array(list) >= 0;
}

static enum qd_code open_samples_take(struct qc_reader *reader, struct qc_member_list *list,
                                      struct qd_error *err)
{
    return qc_sample_set_new_take(list, reader->label, &reader->options, &reader->samples, err);
}

static enum qd_code open_archive(struct qc_reader *reader, bool is_zip, struct qd_error *err)
{
    struct qc_member_list *list = NULL;
    QD_TRY(qc_member_list_open(reader->path, reader->label, is_zip, &reader->options.limits,
                               &list, err));
    if (is_zip && is_npz(reader, list)) {
        enum qd_code code = open_npz(reader, list, err);
        qc_member_list_free(list);
        return code;
    }
    return open_samples_take(reader, list, err);
}

static enum qd_code open_format(struct qc_reader *reader, struct qd_error *err)
{
    uint8_t bytes[SNIFF] = {0};
    size_t n = 0;
    QD_TRY(sniff_file(reader, false, bytes, &n, err));
    bool gz = n >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
    if (n >= 4 && memcmp(bytes, "\x28\xb5\x2f\xfd", 4) == 0) {
        return open_archive(reader, false, err);
    }
    if (n >= 4 && (memcmp(bytes, "PK\x03\x04", 4) == 0 || memcmp(bytes, "PK\x05\x06", 4) == 0)) {
        return open_archive(reader, true, err);
    }
    if (gz) {
        QD_TRY(sniff_file(reader, true, bytes, &n, err));
    }
    if (is_tar(bytes, n)) {
        return open_archive(reader, false, err);
    }
    enum qc_member_kind kind = qc_member_kind_of(bytes, n);
    if (kind == QC_MEMBER_NPY || is_idx(bytes, n)) {
        return open_array(reader, gz, kind == QC_MEMBER_NPY, err);
    }
    if (!gz && kind != QC_MEMBER_KIND_COUNT) {
        struct qc_member_list *list = NULL;
        QD_TRY(qc_member_list_open_single(reader->path, reader->label, kind,
                                          &reader->options.limits, &list, err));
        return open_samples_take(reader, list, err);
    }
    return qd_fail_on(err, QD_UNSUPPORTED, reader->label,
                      "%s: begins with %02x%02x%02x%02x%s: none of .npy, .npz, IDX, tar, "
                      "tar.gz, tar.zst, zip, PNG, JPEG",
                      reader->label, bytes[0], bytes[1], bytes[2], bytes[3],
                      gz ? " inside gzip" : "");
}

enum qd_code qc_reader_open(const char *path, const char *label,
                            const struct qc_reader_options *options, struct qc_reader **ret,
                            struct qd_error *err)
{
    struct qc_reader *reader = NULL;
    QD_TRY(check_options(options, label, err));
    QD_TRY(reader_new(path, label, options, &reader, err));
    enum qd_code code = open_format(reader, err);
    if (code == QD_OK) {
        reader->count = reader->arrays != NULL ? qc_array_set_count(reader->arrays)
                                               : qc_sample_set_count(reader->samples);
    }
    if (code == QD_OK && options->labels_path != NULL) {
        code = qc_reader_read_labels(reader, options->labels_path, err);
    }
    reader->options.labels_path = NULL; /* borrowed for this call only */
    if (code != QD_OK) {
        qc_reader_free(reader);
        return code;
    }
    *ret = reader;
    return QD_OK;
}

enum qd_code qc_reader_read_labels(struct qc_reader *reader, const char *path,
                                   struct qd_error *err)
{
    int32_t *labels = NULL;
    QD_TRY(qc_labels_open(path, reader->count, &reader->options.limits, &labels, err));
    free(reader->labels);
    reader->labels = labels;
    return QD_OK;
}

/* --- several files ----------------------------------------------------------------------------
 */

static enum qd_code check_parts(const struct qc_reader *reader, struct qd_error *err)
{
    const struct qc_reader *first = reader->parts[0];
    for (int p = 1; p < reader->n_parts; p++) {
        const struct qc_reader *part = reader->parts[p];
        if (part->options.n_inputs != first->options.n_inputs) {
            return qd_fail_on(err, QD_INVALID, part->label, "%s: fills %d inputs, %s fills %d",
                              part->label, part->options.n_inputs, first->label,
                              first->options.n_inputs);
        }
        for (int i = 0; i < first->options.n_inputs; i++) {
            if (qc_reader_elements(part, i) != qc_reader_elements(first, i)) {
                return qd_fail_on(err, QD_INVALID, part->label,
                                  "%s: samples for input %s have %zu elements, those of %s %zu",
                                  part->label, part->inputs[i].name, qc_reader_elements(part, i),
                                  first->label, qc_reader_elements(first, i));
            }
        }
        if ((part->labels != NULL) != (first->labels != NULL)) {
            return qd_fail_on(err, QD_INVALID, part->label,
                              "%s: %s labels, unlike the first file %s", part->label,
                              part->labels != NULL ? "has" : "has no", first->label);
        }
    }
    return QD_OK;
}

static enum qd_code join_labels(struct qc_reader *reader, struct qd_error *err)
{
    int64_t at = 0;
    if (reader->parts[0]->labels == NULL) {
        return QD_OK;
    }
    reader->labels = calloc((size_t)reader->count, sizeof(*reader->labels));
    if (reader->labels == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for %" PRId64 " labels", reader->count);
    }
    for (int p = 0; p < reader->n_parts; p++) {
        const struct qc_reader *part = reader->parts[p];
        memcpy(reader->labels + at, part->labels, (size_t)part->count * sizeof(*part->labels));
        at += part->count;
    }
    return QD_OK;
}

enum qd_code qc_reader_concat_take(struct qc_reader **parts, int n, struct qc_reader **ret,
                                   struct qd_error *err)
{
    struct qc_reader *reader = NULL;
    enum qd_code code = QD_OK;
    if (n < 1) {
        return qd_fail(err, QD_INVALID, "no data files");
    }
    code = reader_new("", parts[0]->label, &parts[0]->options, &reader, err);
    if (code == QD_OK) {
        reader->parts = calloc((size_t)n, sizeof(struct qc_reader *));
        code = reader->parts != NULL ? QD_OK : qd_fail(err, QD_NO_MEMORY, "%d data files", n);
    }
    if (code != QD_OK) {
        for (int i = 0; i < n; i++) {
            qc_reader_free(parts[i]);
        }
        qc_reader_free(reader);
        return code;
    }
    reader->n_parts = n;
    for (int i = 0; i < n; i++) {
        reader->parts[i] = parts[i];
        reader->count += parts[i]->count;
    }
    code = check_parts(reader, err);
    if (code == QD_OK) {
        code = join_labels(reader, err);
    }
    if (code != QD_OK) {
        qc_reader_free(reader);
        return code;
    }
    *ret = reader;
    return QD_OK;
}

/* --- samples ----------------------------------------------------------------------------------
 */

int64_t qc_reader_count(const struct qc_reader *reader)
{
    return reader->count;
}

size_t qc_reader_elements(const struct qc_reader *reader, int input)
{
    if (reader->parts != NULL) {
        return qc_reader_elements(reader->parts[0], input);
    }
    return reader->arrays != NULL ? qc_array_set_elements(reader->arrays, input)
                                  : qc_sample_set_elements(reader->samples);
}

const int32_t *qc_reader_labels(const struct qc_reader *reader)
{
    return reader->labels;
}

static enum qd_code check_finite(const struct qc_reader *reader, float *const *out,
                                 struct qd_error *err)
{
    for (int i = 0; i < reader->options.n_inputs; i++) {
        size_t n = qc_reader_elements(reader, i);
        for (size_t e = 0; e < n; e++) {
            if (!isfinite(out[i][e])) {
                return qd_fail_on(err, QD_INVALID, reader->inputs[i].name,
                                  "%s: input %s, sample %" PRId64 ", element %zu is %s",
                                  reader->label, reader->inputs[i].name, reader->index, e,
                                  isnan(out[i][e]) ? "NaN"
                                  : out[i][e] > 0  ? "+Inf"
                                                   : "-Inf");
            }
        }
    }
    return QD_OK;
}

static enum qd_code next_of_parts(struct qc_reader *reader, float *const *out, bool *ret_end,
                                  struct qd_error *err)
{
    for (; reader->part < reader->n_parts; reader->part++) {
        bool end = false;
        QD_TRY(qc_reader_next(reader->parts[reader->part], out, &end, err));
        if (!end) {
            reader->index++;
            *ret_end = false;
            return QD_OK;
        }
    }
    *ret_end = true;
    return QD_OK;
}

enum qd_code qc_reader_next(struct qc_reader *reader, float *const *out, bool *ret_end,
                            struct qd_error *err)
{
    if (reader->parts != NULL) {
        return next_of_parts(reader, out, ret_end, err);
    }
    if (reader->index >= reader->count) {
        *ret_end = true;
        return QD_OK;
    }
    enum qd_code code = reader->arrays != NULL ? qc_array_set_next(reader->arrays, out, err)
                                               : qc_sample_set_next(reader->samples, out[0], err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "sample %" PRId64, reader->index);
    }
    QD_TRY(check_finite(reader, out, err));
    reader->index++;
    *ret_end = false;
    return QD_OK;
}

enum qd_code qc_reader_rewind(struct qc_reader *reader, struct qd_error *err)
{
    reader->index = 0;
    reader->part = 0;
    for (int p = 0; p < reader->n_parts; p++) {
        QD_TRY(qc_reader_rewind(reader->parts[p], err));
    }
    if (reader->arrays != NULL) {
        return qc_array_set_rewind(reader->arrays, err);
    }
    return reader->samples != NULL ? qc_sample_set_rewind(reader->samples, err) : QD_OK;
}

enum qd_code qc_reader_skip(struct qc_reader *reader, int64_t n, struct qd_error *err)
{
    if (n < 0 || n > reader->count - reader->index) {
        return qd_fail_on(err, QD_INVALID, reader->label,
                          "%s: %" PRId64 " samples to skip, %" PRId64 " are left", reader->label,
                          n, reader->count - reader->index);
    }
    reader->index += n;
    if (reader->arrays != NULL) {
        return qc_array_set_skip(reader->arrays, n, err);
    }
    if (reader->samples != NULL) {
        return qc_sample_set_skip(reader->samples, n, err);
    }
    while (n > 0) {
        struct qc_reader *part = reader->parts[reader->part];
        int64_t left = part->count - part->index;
        int64_t step = n < left ? n : left;
        QD_TRY(qc_reader_skip(part, step, err));
        n -= step;
        reader->part += n > 0 ? 1 : 0;
    }
    return QD_OK;
}
