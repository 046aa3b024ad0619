#include <math.h>
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

/* Reals that were not measured are null: JSON has no NaN. */
static json_t *real_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *text_json(const char *text)
{
    return text != NULL ? json_string(text) : json_null();
}

/* 404 for a job that does not exist; rows of an unknown job would be an empty list. */
static enum qd_code require_job(struct api_request *request, struct qd_error *err)
{
    struct store_job job;
    return store_job_get(api_store_of(request), job_id(request), &request->arena, &job, err);
}

static enum qd_code respond_list(struct api_request *request, json_t *data, struct qd_error *err)
{
    return api_respond_json(request, 200, json_pack("{so}", "data", data), NULL, err);
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
    return respond_list(request, data, err);
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

/* --- calibration table ------------------------------------------------------------------------
 */

static json_t *calibration_json(const struct store_calibration *row)
{
    return json_pack("{ss, so, ss, so, sI, so, so, so, so, sI, so}", "tensor", row->tensor, "op",
                     text_json(row->op), "dtype", row->dtype, "scale", real_json(row->scale),
                     "zero_point", (json_int_t)row->zero_point, "lo", real_json(row->lo), "hi",
                     real_json(row->hi), "min", real_json(row->min), "max", real_json(row->max),
                     "count", (json_int_t)row->count, "saturated", real_json(row->saturated));
}

/* A CSV field by RFC 4180. A leading '=', '+', '-' or '@' gets a quote in front: a spreadsheet
 * would run a tensor's name as a formula. */
static void put_csv_text(FILE *out, const char *text)
{
    (void)fputc('"', out);
    if (text[0] != '\0' && strchr("=+-@", text[0]) != NULL) {
        (void)fputc('\'', out);
    }
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            (void)fputc('"', out);
        }
        (void)fputc(*text, out);
    }
    (void)fputs("\",", out);
}

static void put_csv_real(FILE *out, double value)
{
    if (isfinite(value)) {
        (void)fprintf(out, "%.17g", value);
    }
    (void)fputc(',', out);
}

static enum qd_code respond_csv(struct api_request *request, const struct store_calibration *rows,
                                size_t n, struct qd_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a table of %zu rows", n);
    }
    (void)fputs("tensor,op,dtype,scale,zero_point,lo,hi,min,max,count,saturated\r\n", out);
    for (size_t i = 0; i < n; i++) {
        put_csv_text(out, rows[i].tensor);
        put_csv_text(out, rows[i].op != NULL ? rows[i].op : "");
        put_csv_text(out, rows[i].dtype);
        put_csv_real(out, rows[i].scale);
        (void)fprintf(out, "%lld,", (long long)rows[i].zero_point);
        put_csv_real(out, rows[i].lo);
        put_csv_real(out, rows[i].hi);
        put_csv_real(out, rows[i].min);
        put_csv_real(out, rows[i].max);
        (void)fprintf(out, "%lld,", (long long)rows[i].count);
        if (isfinite(rows[i].saturated)) {
            (void)fprintf(out, "%.17g", rows[i].saturated);
        }
        (void)fputs("\r\n", out);
    }
    bool ok = ferror(out) == 0;
    ok = fclose(out) == 0 && ok;
    enum qd_code code =
        ok ? api_respond_text(request, 200, "text/csv; charset=utf-8", text, size, NULL, err)
           : qd_fail(err, QD_NO_MEMORY, "no memory for a table of %zu rows", n);
    free(text);
    return code;
}

enum qd_code api_job_calibration(struct api_request *request, struct qd_error *err)
{
    struct store_calibration *rows;
    size_t n;
    const char *format = api_request_query(request, "format");
    bool csv = format != NULL && strcmp(format, "csv") == 0;
    if (format != NULL && !csv && strcmp(format, "json") != 0) {
        return qd_fail_on(err, QD_INVALID, "format",
                          "query parameter 'format' is '%s', not json or csv", format);
    }
    QD_TRY(require_job(request, err));
    QD_TRY(store_calibration_list(api_store_of(request), job_id(request), &request->arena, &rows,
                                  &n, err));
    if (csv) {
        return respond_csv(request, rows, n, err);
    }
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(data, calibration_json(&rows[i]));
    }
    return respond_list(request, data, err);
}

enum qd_code api_job_layers(struct api_request *request, struct qd_error *err)
{
    struct store_layer *rows;
    size_t n;
    QD_TRY(require_job(request, err));
    QD_TRY(store_layers(api_store_of(request), job_id(request), &request->arena, &rows, &n, err));
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct store_layer *row = &rows[i];
        (void)json_array_append_new(
            data,
            json_pack("{ss, so, so, so, so, so, so, so}", "node", row->node, "op",
                      text_json(row->op), "precision", text_json(row->precision), "reason",
                      text_json(row->reason), "local_sqnr_db", real_json(row->local_sqnr_db),
                      "cumulative_sqnr_db", real_json(row->cumulative_sqnr_db), "cosine",
                      real_json(row->cosine), "max_abs_error", real_json(row->max_abs_error)));
    }
    return respond_list(request, data, err);
}
