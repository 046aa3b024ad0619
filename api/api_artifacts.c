#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_jobs.h"
#include "api/api_respond.h"

static const char *job_id(const struct api_request *request)
{
    return api_request_param(request, "id");
}

/* 404 for a job that does not exist; rows of an unknown job would be an empty list. */
static enum qd_code require_job(struct api_request *request, struct qd_error *err)
{
    struct store_job job;
    return store_job_get(api_store_of(request), job_id(request), &request->arena, &job, err);
}

enum qd_code api_artifacts_json(struct api_request *request, const char *job, json_t **ret,
                                struct qd_error *err)
{
    struct store_artifact *rows;
    size_t n;
    QD_TRY(store_artifacts(api_store_of(request), job, &request->arena, &rows, &n, err));
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(data,
                                    json_pack("{ss, ss, sI, ss}", "name", rows[i].name, "sha256",
                                              rows[i].blob, "size", (json_int_t)rows[i].size,
                                              "content_type", rows[i].content_type));
    }
    *ret = data;
    return QD_OK;
}

enum qd_code api_job_artifacts(struct api_request *request, struct qd_error *err)
{
    json_t *data;
    QD_TRY(require_job(request, err));
    QD_TRY(api_artifacts_json(request, job_id(request), &data, err));
    return api_respond_json(request, 200, json_pack("{so}", "data", data), NULL, err);
}

/* RFC 9530: the digest of the whole representation in base64 between colons. */
static void digest_header(const char *sha256, char ret[96])
{
    uint8_t bytes[32];
    char base64[BASE64_ENCODE_RAW_LENGTH(sizeof(bytes)) + 1];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        char pair[3] = {sha256[2 * i], sha256[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    base64_encode_raw(base64, sizeof(bytes), bytes);
    base64[sizeof(base64) - 1] = '\0';
    (void)snprintf(ret, 96, "sha-256=:%s:", base64);
}

/* What a header may hold of a name that a child chose. */
static void disposition(const char *name, char *ret, size_t size)
{
    char safe[160];
    size_t n = 0;
    for (; *name != '\0' && n < sizeof(safe) - 1; name++) {
        bool plain = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-",
                            *name) != NULL;
        safe[n++] = plain ? *name : '_';
    }
    safe[n] = '\0';
    (void)snprintf(ret, size, "attachment; filename=\"%s\"", safe);
}

enum qd_code api_artifact_send(struct api_request *request, const char *job, const char *name,
                               const struct api_artifact_options *options, struct qd_error *err)
{
    struct store *store = api_store_of(request);
    struct store_artifact artifact;
    int fd;
    uint64_t size;
    char etag[96], digest[96], file[200];
    QD_TRY(store_artifact_get(store, job, name, &request->arena, &artifact, err));
    if (!store_sha256_valid(artifact.blob)) {
        return qd_fail(err, QD_INTERNAL, "artifact '%s' has no valid address", name);
    }
    QD_TRY(store_blob_open(store_blobs_of(store), artifact.blob, &fd, &size, err));
    (void)snprintf(etag, sizeof(etag), "\"sha256:%.64s\"", artifact.blob);
    digest_header(artifact.blob, digest);
    disposition(artifact.name, file, sizeof(file));
    struct api_header headers[6] = {
        {"Repr-Digest", digest},
        {"Cache-Control", options->cache_control != NULL
                              ? options->cache_control
                              : "private, max-age=31536000, immutable"},
        {"Content-Security-Policy", "sandbox; default-src 'none'"},
    };
    size_t n = 3;
    if (options->download) {
        headers[n++] = (struct api_header){"Content-Disposition", file};
    }
    if (options->location != NULL) {
        headers[n++] = (struct api_header){"Content-Location", options->location};
    }
    const struct api_content content = {
        .fd = fd, .size = size, .type = artifact.content_type, .etag = etag, .headers = headers};
    return api_respond_content(request, &content, err);
}

enum qd_code api_job_artifact(struct api_request *request, struct qd_error *err)
{
    static const struct api_artifact_options options = {.download = true};
    QD_TRY(require_job(request, err));
    return api_artifact_send(request, job_id(request), api_request_param(request, "name"),
                             &options, err);
}

enum qd_code api_job_report(struct api_request *request, struct qd_error *err)
{
    static const struct api_artifact_options options = {.download = false};
    const char *format = api_request_query(request, "format");
    bool text = format != NULL && strcmp(format, "text") == 0;
    if (format == NULL || text || strcmp(format, "json") == 0) {
        QD_TRY(require_job(request, err));
        return api_artifact_send(request, job_id(request), text ? "report.txt" : "report.json",
                                 &options, err);
    }
    return qd_fail_on(err, QD_INVALID, "format",
                      "query parameter 'format' is '%s', not json or text", format);
}
