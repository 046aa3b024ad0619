#include "api/api_upload.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define RULES_MAX   16
#define BUFFER_SIZE 65536

struct api_upload {
    struct MHD_PostProcessor *processor;
    const struct api_part_rule *rules;
    size_t n_rules;
    struct api_sink sink;
    unsigned counts[RULES_MAX];
    const struct api_part_rule *rule; /* of the open part, NULL between two */
    char file_name[API_UPLOAD_NAME_MAX + 1];
    uint64_t part_size;
    struct qd_error *err; /* of the call under way */
    enum qd_code code;
};

static enum qd_code check_file_name(const char *name, struct qd_error *err)
{
    char decoded[API_UPLOAD_NAME_MAX + 1];
    size_t n = strlen(name);
    if (n > API_UPLOAD_NAME_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "a file name has %zu bytes, the limit is %d", n,
                       API_UPLOAD_NAME_MAX);
    }
    memcpy(decoded, name, n + 1);
    api_text_clean(decoded);
    bool bad = strcmp(decoded, name) != 0 || strpbrk(name, "/\\") != NULL ||
               strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    for (size_t i = 0; i < n; i++) {
        bad |= (unsigned char)name[i] < 0x20 || name[i] == 0x7f;
    }
    return bad ? qd_fail(err, QD_INVALID,
                         "file name '%s' holds a slash, a control character or bytes that are "
                         "not UTF-8",
                         decoded)
               : QD_OK;
}

static enum qd_code end_part(struct api_upload *upload, struct qd_error *err)
{
    const struct api_part_rule *rule = upload->rule;
    upload->rule = NULL;
    return rule != NULL ? upload->sink.end(upload->sink.arg, err) : QD_OK;
}

static enum qd_code begin_part(struct api_upload *upload, const char *name,
                               const char *file_name, struct qd_error *err)
{
    struct api_part part = {.file_name = file_name != NULL ? file_name : ""};
    size_t r = 0;
    QD_TRY(end_part(upload, err));
    while (r < upload->n_rules && (name == NULL || strcmp(upload->rules[r].name, name) != 0)) {
        r++;
    }
    if (r == upload->n_rules) {
        return qd_fail_on(err, QD_INVALID, name, "unknown part '%.100s'",
                          name != NULL ? name : "");
    }
    if (upload->counts[r] == upload->rules[r].max_count) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, name, "more than %u parts are named '%s'",
                          upload->rules[r].max_count, name);
    }
    QD_TRY(check_file_name(part.file_name, err));
    part.rule = &upload->rules[r];
    part.index = upload->counts[r]++;
    upload->part_size = 0;
    QD_TRY(upload->sink.begin(upload->sink.arg, &part, err));
    upload->rule = part.rule;
    (void)snprintf(upload->file_name, sizeof(upload->file_name), "%s", part.file_name);
    return QD_OK;
}

/* libmicrohttpd says where a part begins by offset 0 alone, and may say it several times before
 * the first byte: that is still the same part while its names are. */
static bool is_new_part(const struct api_upload *upload, const char *name, const char *file_name,
                        uint64_t offset)
{
    return upload->rule == NULL ||
           (offset == 0 && (upload->part_size > 0 || name == NULL ||
                            strcmp(name, upload->rule->name) != 0 ||
                            strcmp(file_name != NULL ? file_name : "", upload->file_name) != 0));
}

static enum qd_code take(struct api_upload *upload, const char *name, const char *file_name,
                         const char *data, uint64_t offset, size_t size, struct qd_error *err)
{
    if (is_new_part(upload, name, file_name, offset)) {
        QD_TRY(begin_part(upload, name, file_name, err));
    }
    upload->part_size += size;
    if (upload->part_size > upload->rule->max_bytes) {
        return qd_fail_on(err, QD_LIMIT_EXCEEDED, upload->rule->name,
                          "part '%s' has more than %llu bytes, the limit", upload->rule->name,
                          (unsigned long long)upload->rule->max_bytes);
    }
    return size > 0 ? upload->sink.data(upload->sink.arg, data, size, err) : QD_OK;
}

static enum MHD_Result on_part(void *cls, enum MHD_ValueKind kind, const char *name,
                               const char *file_name, const char *content_type,
                               const char *transfer_encoding, const char *data, uint64_t offset,
                               size_t size)
{
    struct api_upload *upload = cls;
    (void)kind;
    (void)content_type;
    (void)transfer_encoding;
    upload->code = take(upload, name, file_name, data, offset, size, upload->err);
    return upload->code == QD_OK ? MHD_YES : MHD_NO;
}

enum qd_code api_upload_new(struct api_request *request, const struct api_part_rule *rules,
                            size_t n_rules, const struct api_sink *sink, struct api_upload **ret,
                            struct qd_error *err)
{
    const char *type = api_request_header(request, "Content-Type");
    if (type == NULL || strncasecmp(type, "multipart/form-data", 19) != 0) {
        return api_request_fail(request, err, 415, "unsupported_media_type", QD_INVALID,
                                "Content-Type is '%.100s', not multipart/form-data",
                                type != NULL ? type : "");
    }
    struct api_upload *upload = n_rules <= RULES_MAX ? calloc(1, sizeof(*upload)) : NULL;
    if (upload == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for an upload");
    }
    upload->rules = rules;
    upload->n_rules = n_rules;
    upload->sink = *sink;
    upload->processor =
        MHD_create_post_processor(request->connection, BUFFER_SIZE, on_part, upload);
    if (upload->processor == NULL) {
        free(upload);
        return qd_fail(err, QD_INVALID, "Content-Type '%.100s' has no usable boundary", type);
    }
    *ret = upload;
    return QD_OK;
}

void api_upload_free(struct api_upload *upload)
{
    if (upload != NULL) {
        if (upload->processor != NULL) {
            struct qd_error ignored;
            upload->err = &ignored;
            (void)MHD_destroy_post_processor(upload->processor);
        }
        free(upload);
    }
}

enum qd_code api_upload_feed(struct api_upload *upload, const char *bytes, size_t size,
                             struct qd_error *err)
{
    upload->err = err;
    if (upload->code == QD_OK && MHD_post_process(upload->processor, bytes, size) != MHD_YES &&
        upload->code == QD_OK) {
        upload->code = qd_fail(err, QD_INVALID, "the multipart body is malformed");
    }
    return upload->code;
}

enum qd_code api_upload_finish(struct api_upload *upload, struct qd_error *err)
{
    upload->err = err;
    enum MHD_Result complete = MHD_destroy_post_processor(upload->processor);
    upload->processor = NULL;
    if (upload->code != QD_OK) {
        return upload->code;
    }
    unsigned n_parts = 0;
    for (size_t r = 0; r < upload->n_rules; r++) {
        n_parts += upload->counts[r];
    }
    if (n_parts == 0) {
        return qd_fail(err, QD_INVALID, "the multipart body has no part");
    }
    if (complete != MHD_YES) {
        return qd_fail(err, QD_INVALID, "the multipart body ends before its closing boundary");
    }
    return end_part(upload, err);
}
