#include "api/api_models.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_jobs.h"
#include "api/api_respond.h"

static const struct api_header no_store[] = {{"Cache-Control", "no-store"}, {NULL, NULL}};

enum qd_code api_version_parse(const char *text, int64_t *ret, struct qd_error *err)
{
    size_t n = strspn(text, "0123456789");
    int64_t version = n >= 1 && n <= 18 && text[n] == '\0' ? strtoll(text, NULL, 10) : 0;
    if (version == 0) {
        return qd_fail_on(err, QD_INVALID, "version",
                          "version '%.100s' is not a number from 1 on", text);
    }
    *ret = version;
    return QD_OK;
}

static json_t *model_json(const struct store_model *model)
{
    return json_pack("{ss, sI, so, sI, so}", "name", model->name, "newest",
                     (json_int_t)model->newest, "latest",
                     model->latest > 0 ? json_integer((json_int_t)model->latest) : json_null(),
                     "n_versions", (json_int_t)model->n_versions, "updated_at",
                     api_time_json(model->updated_ms));
}

static json_t *version_json(const struct store_version *version)
{
    return json_pack("{ss, sI, ss, sb, so}", "model", version->model, "version",
                     (json_int_t)version->version, "job_id", version->job, "passed",
                     version->passed, "created_at", api_time_json(version->created_ms));
}

static enum qd_code list_models(struct api_request *request, struct qd_error *err)
{
    struct store_model *rows;
    size_t n;
    bool more;
    int64_t limit;
    QD_TRY(api_request_int(request, "limit", 1, STORE_LIST_MAX, 50, &limit, err));
    QD_TRY(store_models(api_store_of(request), api_request_query(request, "cursor"),
                        (size_t)limit, &request->arena, &rows, &n, &more, err));
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(data, model_json(&rows[i]));
    }
    return api_respond_page(request, data, more ? rows[n - 1].name : NULL, err);
}

static enum qd_code get_model(struct api_request *request, struct qd_error *err)
{
    struct store_model model;
    QD_TRY(store_model_get(api_store_of(request), api_request_param(request, "name"),
                           &request->arena, &model, err));
    return api_respond_json(request, 200, model_json(&model), no_store, err);
}

static enum qd_code list_versions(struct api_request *request, struct qd_error *err)
{
    struct store *store = api_store_of(request);
    const char *name = api_request_param(request, "name"), *cursor = NULL;
    const char *before_text = api_request_query(request, "cursor");
    struct store_model model;
    struct store_version *rows;
    size_t n;
    bool more;
    int64_t limit, before = 0;
    QD_TRY(api_request_int(request, "limit", 1, STORE_LIST_MAX, 50, &limit, err));
    if (before_text != NULL) {
        QD_TRY(api_version_parse(before_text, &before, err));
    }
    QD_TRY(store_model_get(store, name, &request->arena, &model, err));
    QD_TRY(store_model_versions(store, name, before, (size_t)limit, &request->arena, &rows, &n,
                                &more, err));
    if (more) {
        QD_TRY(qd_arena_printf(&request->arena, &cursor, err, "%lld",
                               (long long)rows[n - 1].version));
    }
    json_t *data = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(data, version_json(&rows[i]));
    }
    return api_respond_page(request, data, cursor, err);
}

/* The version that the path names: "{n}" or, without one, the latest. */
static enum qd_code load_version(struct api_request *request, struct store_version *ret,
                                 struct qd_error *err)
{
    const char *text = api_request_param(request, "n");
    int64_t version = 0;
    if (text != NULL) {
        QD_TRY(api_version_parse(text, &version, err));
    }
    return store_model_version(api_store_of(request), api_request_param(request, "name"), version,
                               &request->arena, ret, err);
}

/* A version with what its job says and the files that it left. */
static enum qd_code get_version(struct api_request *request, struct qd_error *err)
{
    struct store_version version;
    struct store_job job;
    json_t *artifacts;
    QD_TRY(load_version(request, &version, err));
    QD_TRY(store_job_get(api_store_of(request), version.job, &request->arena, &job, err));
    QD_TRY(api_artifacts_json(request, version.job, &artifacts, err));
    json_t *summary = job.summary != NULL ? json_loads(job.summary, 0, NULL) : NULL;
    json_t *json = version_json(&version);
    if (json == NULL || json_object_set_new(json, "artifacts", artifacts) != 0 ||
        json_object_set_new(json, "summary", summary != NULL ? summary : json_null()) != 0) {
        json_decref(json);
        return qd_fail(err, QD_NO_MEMORY, "no memory for a version");
    }
    return api_respond_json(request, 200, json, no_store, err);
}

/* The URL whose content never changes, for a header; the caller frees it. NULL: no memory. */
static char *version_url(const struct store_version *version, const char *file)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    (void)fputs("/v1/models/", out);
    api_encode(out, version->model);
    (void)fprintf(out, "/versions/%lld/artifacts/", (long long)version->version);
    api_encode(out, file);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static enum qd_code get_artifact(struct api_request *request, struct qd_error *err)
{
    const char *file = api_request_param(request, "file");
    bool moves = api_request_param(request, "n") == NULL;
    struct store_version version;
    QD_TRY(load_version(request, &version, err));
    char *url = version_url(&version, file);
    if (url == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for an URL");
    }
    /* `latest` is another content tomorrow: caches ask, and the ETag saves the bytes. */
    const struct api_artifact_options options = {
        .download = true, .cache_control = moves ? "private, no-cache" : NULL, .location = url};
    enum qd_code code = api_artifact_send(request, version.job, file, &options, err);
    free(url);
    return code;
}

struct api_route_table api_models_routes(void)
{
    static const struct api_route routes[] = {
        {.method = API_GET,
         .pattern = "/v1/models",
         .query = "limit cursor",
         .handle = list_models},
        {.method = API_GET, .pattern = "/v1/models/{name}", .handle = get_model},
        {.method = API_GET,
         .pattern = "/v1/models/{name}/versions",
         .query = "limit cursor",
         .handle = list_versions},
        {.method = API_GET, .pattern = "/v1/models/{name}/versions/{n}", .handle = get_version},
        {.method = API_GET,
         .pattern = "/v1/models/{name}/versions/{n}/artifacts/{file}",
         .handle = get_artifact},
        {.method = API_GET, .pattern = "/v1/models/{name}/latest", .handle = get_version},
        {.method = API_GET,
         .pattern = "/v1/models/{name}/latest/artifacts/{file}",
         .handle = get_artifact},
    };
    return (struct api_route_table){routes, QD_COUNT_OF(routes)};
}
