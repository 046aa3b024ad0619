/* The tables of a job: calibration in each of its forms, and what became of the layers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api_jobs.h"
#include "api/api_respond.h"
#include "worker/worker_table_read.h"

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
static enum qd_code require_job(struct api_request *request, const char **ret_id,
                                struct qd_error *err)
{
    struct store_job job;
    *ret_id = api_request_param(request, "id");
    return store_job_get(api_store_of(request), *ret_id, &request->arena, &job, err);
}

/* --- calibration ------------------------------------------------------------------------------
 */

static json_t *calibration_json(const struct store_calibration *row)
{
    return json_pack("{ss, so, ss, so, sI, so, so, so, so, sI, so}", "tensor", row->tensor, "op",
                     text_json(row->op), "dtype", row->dtype, "scale", real_json(row->scale),
                     "zero_point", (json_int_t)row->zero_point, "lo", real_json(row->lo), "hi",
                     real_json(row->hi), "min", real_json(row->min), "max", real_json(row->max),
                     "count", (json_int_t)row->count, "saturated", real_json(row->saturated));
}

static enum qd_code respond_rows(struct api_request *request, const char *id,
                                 struct qd_error *err)
{
    struct store_calibration *rows;
    size_t n;
    QD_TRY(store_calibration_list(api_store_of(request), id, &request->arena, &rows, &n, err));
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(data, calibration_json(&rows[i]));
    }
    return api_respond_json(request, 200, json_pack("{so}", "data", data), NULL, err);
}

/* The other forms are made of the artifact calibration.json, which has what no column holds: the
 * scales of the weights. A child wrote it, so it is read like a stranger's. */
static enum qd_code load_table(struct api_request *request, const char *id,
                               struct worker_table *ret, struct qd_error *err)
{
    struct store *store = api_store_of(request);
    struct store_artifact artifact;
    int fd;
    uint64_t size;
    QD_TRY(store_artifact_get(store, id, worker_table_form(WORKER_TABLE_JSON)->file,
                              &request->arena, &artifact, err));
    if (!store_sha256_valid(artifact.blob)) {
        return qd_fail(err, QD_INTERNAL, "artifact '%s' has no valid address", artifact.name);
    }
    QD_TRY(store_blob_open(store_blobs_of(store), artifact.blob, &fd, &size, err));
    enum qd_code code = worker_table_read_fd(fd, artifact.name, &request->arena, ret, err);
    (void)close(fd);
    if (code == QD_INVALID || code == QD_UNSUPPORTED) { /* not the client's fault */
        return qd_fail(err, QD_INTERNAL, "job %.100s: %.500s", id, err->message);
    }
    return code;
}

static enum qd_code respond_table(struct api_request *request, const char *id,
                                  enum worker_table_format format, struct qd_error *err)
{
    const struct worker_table_form *form = worker_table_form(format);
    struct worker_table table;
    char *text = NULL, file[96];
    size_t size = 0;
    QD_TRY(load_table(request, id, &table, err));
    enum qd_code code = worker_table_write(&table, format, &text, &size, err);
    if (code == QD_INVALID) {
        struct qd_error cause = *err;
        code = api_request_fail(request, err, 422, "not_representable", QD_INVALID, "%s",
                                cause.message);
        memcpy(err->subject, cause.subject, sizeof(err->subject));
        return code;
    }
    QD_TRY(code);
    (void)snprintf(file, sizeof(file), "attachment; filename=\"%s\"", form->file);
    const struct api_header headers[] = {{"Content-Disposition", file}, {NULL, NULL}};
    code = api_respond_text(request, 200, form->content_type, text, size, headers, err);
    free(text);
    return code;
}

enum qd_code api_job_calibration(struct api_request *request, struct qd_error *err)
{
    const char *id;
    const char *name = api_request_query(request, "format");
    enum worker_table_format format = WORKER_TABLE_JSON;
    if (name != NULL) {
        QD_TRY(worker_table_format_from_name(name, &format, err));
    }
    QD_TRY(require_job(request, &id, err));
    return format == WORKER_TABLE_JSON ? respond_rows(request, id, err)
                                       : respond_table(request, id, format, err);
}

/* --- layers -----------------------------------------------------------------------------------
 */

static json_t *layer_json(const struct store_layer *row)
{
    return json_pack("{ss, so, so, so, so, so, so, so}", "node", row->node, "op",
                     text_json(row->op), "precision", text_json(row->precision), "reason",
                     text_json(row->reason), "local_sqnr_db", real_json(row->local_sqnr_db),
                     "cumulative_sqnr_db", real_json(row->cumulative_sqnr_db), "cosine",
                     real_json(row->cosine), "max_abs_error", real_json(row->max_abs_error));
}

enum qd_code api_job_layers(struct api_request *request, struct qd_error *err)
{
    struct store_layer *rows;
    const char *id;
    size_t n;
    QD_TRY(require_job(request, &id, err));
    QD_TRY(store_layers(api_store_of(request), id, &request->arena, &rows, &n, err));
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(data, layer_json(&rows[i]));
    }
    return api_respond_json(request, 200, json_pack("{so}", "data", data), NULL, err);
}
