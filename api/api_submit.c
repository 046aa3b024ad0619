#include <stdlib.h>
#include <string.h>

#include "api/api_app.h"
#include "api/api_create.h"
#include "api/api_jobs.h"
#include "api/api_server.h"
#include "api/api_upload.h"
#include "quantcore/quantcore.h"
#include "worker/worker_spec.h"
#include "worker/worker_table_read.h"

#define FILES_MAX (STORE_INPUTS_MAX - 1) /* a job derived from it adds its statistics */

/* One submission while its parts arrive. */
struct submission {
    struct api_upload *upload;
    struct store_blobs *blobs;
    struct qd_arena *arena; /* the request's */
    uint64_t body_max;
    char config[WORKER_SPEC_MAX_BYTES];
    size_t config_size;
    struct store_blob_writer *writer; /* of the open part; NULL for config */
    const char *role, *name;          /* of the open part */
    struct store_input inputs[STORE_INPUTS_MAX];
    struct store_blob_mark marks[STORE_INPUTS_MAX]; /* of the inputs' blobs */
    size_t n_inputs;
    bool ready; /* the parts are complete, the configuration is valid */
    struct worker_spec spec;
    json_t *json;     /* the configuration; spec borrows from it */
    const char *text; /* as it is stored */
    struct api_creation creation;
    bool kept; /* the blobs belong to a job */
};

static const struct api_part_rule base_rules[] = {
    {"config", 1, WORKER_SPEC_MAX_BYTES}, {"model", 1, UINT64_MAX},
    {"model.data", QC_EXTERNAL_MAX, UINT64_MAX},
    {"calibration", FILES_MAX, UINT64_MAX}, {"validation", FILES_MAX, UINT64_MAX},
    {"labels", 1, UINT64_MAX},
    {"table", 1, WORKER_TABLE_MAX_BYTES}, {"statistics", 1, UINT64_MAX},
};

/* The model finds its data by the file's name alone. */
static enum qd_code check_external(const struct submission *s, const struct api_part *part,
                                   struct qd_error *err)
{
    if (part->file_name[0] == '\0') {
        return qd_fail_on(err, QD_INVALID, "model.data",
                          "a part 'model.data' has no file name: it must be the location that the "
                          "model's initializers name");
    }
    for (size_t i = 0; i < s->n_inputs; i++) {
        if (strcmp(s->inputs[i].role, "model.data") == 0 &&
            strcmp(s->inputs[i].name, part->file_name) == 0) {
            return qd_fail_on(err, QD_INVALID, "model.data",
                              "two parts 'model.data' have the file name '%s'", part->file_name);
        }
    }
    return QD_OK;
}

static enum qd_code begin_part(void *arg, const struct api_part *part, struct qd_error *err)
{
    struct submission *s = arg;
    static const char *const named[] = {"labels", "table", "statistics"};
    const char *folder = NULL; /* of the input's name, which tells these apart */
    for (size_t i = 0; i < QD_COUNT_OF(named); i++) {
        folder = strcmp(part->rule->name, named[i]) == 0 ? named[i] : folder;
    }
    s->role = folder != NULL ? "validation" : part->rule->name;
    if (strcmp(s->role, "config") == 0) {
        return QD_OK;
    }
    if (strcmp(s->role, "model.data") == 0) {
        QD_TRY(check_external(s, part, err));
    }
    if (s->n_inputs == FILES_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED,
                       "more than %d files: put samples into an archive or an array", FILES_MAX);
    }
    QD_TRY(qd_arena_printf(s->arena, &s->name, err, "%s%s%s", folder != NULL ? folder : "",
                           folder != NULL ? "/" : "",
                           part->file_name[0] != '\0' ? part->file_name : part->rule->name));
    return store_blob_writer_new(s->blobs, 0, s->body_max, &s->writer, err);
}

static enum qd_code part_data(void *arg, const char *bytes, size_t size, struct qd_error *err)
{
    struct submission *s = arg;
    if (s->writer != NULL) {
        return store_blob_write(s->writer, bytes, size, err);
    }
    memcpy(s->config + s->config_size, bytes, size); /* the rule bounds it */
    s->config_size += size;
    return QD_OK;
}

/* The same content twice in a submission: its first part made the file, the second renewed it. */
static void take_mark(struct submission *s, const char *sha256, struct store_blob_mark mark)
{
    s->marks[s->n_inputs] = mark;
    for (size_t i = 0; i < s->n_inputs; i++) {
        if (strcmp(s->inputs[i].blob, sha256) == 0) {
            s->marks[i].time_ns = mark.time_ns;
        }
    }
}

static enum qd_code end_part(void *arg, struct qd_error *err)
{
    struct submission *s = arg;
    char sha256[STORE_SHA256_SIZE];
    struct store_input *input = &s->inputs[s->n_inputs];
    if (s->writer == NULL) {
        return QD_OK;
    }
    QD_TRY(store_blob_commit(s->writer, NULL, sha256, &input->size, err));
    take_mark(s, sha256, store_blob_mark_of(s->writer));
    store_blob_writer_free(s->writer);
    s->writer = NULL;
    QD_TRY(qd_arena_string(s->arena, sha256, strlen(sha256), &input->blob, err));
    input->role = s->role;
    input->name = s->name;
    s->n_inputs++;
    return QD_OK;
}

enum qd_code api_submit_begin(struct api_request *request, struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    struct store_blobs *blobs = store_blobs_of(app->store);
    QD_TRY(api_create_begin(request, err));
    QD_TRY(store_blobs_check_space(
        blobs, request->body_size != UINT64_MAX ? request->body_size : 0, err));
    struct submission *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a submission");
    }
    request->state = s;
    api_server_count_submission(request->server, 1);
    s->blobs = blobs;
    s->arena = &request->arena;
    s->body_max = app->body_max;
    const struct api_sink sink = {begin_part, part_data, end_part, s};
    return api_upload_new(request, base_rules, QD_COUNT_OF(base_rules), &sink, &s->upload, err);
}

enum qd_code api_submit_data(struct api_request *request, const char *bytes, size_t size,
                             struct qd_error *err)
{
    struct submission *s = request->state;
    return api_upload_feed(s->upload, bytes, size, err);
}

/* A submission that became no job leaves nothing behind. */
static void discard_blobs(struct api_request *request, const struct submission *s)
{
    struct qd_error err;
    for (size_t i = 0; i < s->n_inputs; i++) {
        if (store_discard(api_store_of(request), s->inputs[i].blob, &s->marks[i], &err) !=
            QD_OK) {
            return; /* the collection of unused blobs comes by later */
        }
    }
}

void api_submit_done(struct api_request *request)
{
    struct submission *s = request->state;
    api_create_done(request, s != NULL ? &s->creation : NULL);
    if (s != NULL) {
        store_blob_writer_free(s->writer);
        api_upload_free(s->upload);
        if (!s->kept) {
            discard_blobs(request, s);
        }
        api_server_count_submission(request->server, -1);
        json_decref(s->json);
        free(s);
        request->state = NULL;
    }
}

/* What makes two submissions the same request: configuration, roles, names and contents. */
static enum qd_code hash_request(struct api_request *request, const struct submission *s,
                                 char ret[STORE_SHA256_SIZE], struct qd_error *err)
{
    const char **texts = NULL;
    size_t n = 0;
    QD_TRY(qd_arena_array(&request->arena, 1 + 3 * s->n_inputs, sizeof(*texts), &texts, err));
    QD_TRY(qd_arena_string(&request->arena, s->config, s->config_size, &texts[n++], err));
    for (size_t i = 0; i < s->n_inputs; i++) {
        texts[n++] = s->inputs[i].role;
        texts[n++] = s->inputs[i].name;
        texts[n++] = s->inputs[i].blob;
    }
    api_create_hash(texts, n, ret);
    return QD_OK;
}

static enum qd_code check_parts(const struct submission *s, struct qd_error *err)
{
    size_t models = 0, calibrations = 0; /* or statistics, in their place */
    for (size_t i = 0; i < s->n_inputs; i++) {
        models += strcmp(s->inputs[i].role, "model") == 0;
        calibrations += strcmp(s->inputs[i].role, "calibration") == 0 ||
                        strncmp(s->inputs[i].name, "statistics/", 11) == 0;
    }
    bool calibrated = s->spec.options.mode == QC_MODE_STATIC;
    if (models == 0 || (calibrated && calibrations == 0)) {
        const char *missing = models == 0 ? "model" : "calibration";
        return qd_fail_on(err, QD_INVALID, missing, "the part '%s' is missing%s", missing,
                          models == 0 ? "" : ", or 'statistics' of another run");
    }
    return QD_OK;
}

static enum qd_code make_ready(struct api_request *request, struct submission *s,
                               struct qd_error *err)
{
    QD_TRY(api_upload_finish(s->upload, err));
    if (s->config_size == 0) {
        s->config_size = 2;
        memcpy(s->config, "{}", 2);
    }
    enum qd_code code = worker_spec_load(s->config, s->config_size, &s->json, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "config");
    }
    code = worker_spec_parse(s->json, &s->spec, err);
    if (code != QD_OK) {
        request->status = 422;
        return qd_wrap(err, code, "config");
    }
    QD_TRY(check_parts(s, err));
    QD_TRY(api_create_config(request, s->json, &s->text, err));
    s->ready = true;
    return QD_OK;
}

enum qd_code api_submit_handle(struct api_request *request, struct qd_error *err)
{
    struct submission *s = request->state;
    const json_t *summary = NULL;
    bool wait = false, dry_run = false;
    char hash[STORE_SHA256_SIZE];
    if (s == NULL || s->upload == NULL) {
        return qd_fail(err, QD_INVALID, "the body is empty; multipart/form-data is expected");
    }
    QD_TRY(api_request_flag(request, "dry_run", &dry_run, err));
    if (!s->ready) {
        QD_TRY(make_ready(request, s, err));
    }
    const struct store_job_new job = {.name = s->spec.name[0] != '\0' ? s->spec.name : "model",
                                      .config = s->text,
                                      .inputs = s->inputs,
                                      .n_inputs = s->n_inputs};
    QD_TRY(api_create_check(request, &s->creation, &job, &summary, &wait, err));
    if (wait) {
        return QD_OK;
    }
    if (dry_run) {
        return api_create_dry_run(request, s->spec.name, s->json, summary, err);
    }
    QD_TRY(hash_request(request, s, hash, err));
    return api_create_job(request, &job, hash, &s->kept, err);
}
