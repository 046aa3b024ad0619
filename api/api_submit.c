#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_app.h"
#include "api/api_idempotency.h"
#include "api/api_jobs.h"
#include "api/api_respond.h"
#include "api/api_server.h"
#include "api/api_upload.h"
#include "worker/worker_check.h"
#include "worker/worker_spec.h"
#include "worker/worker_table_read.h"

#define CHECK_WAIT_S 60 /* for a free child that checks */

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
    bool ready;                 /* the parts are complete, the configuration is valid */
    struct worker_spec spec;
    json_t *json;               /* the configuration; spec borrows from it */
    const char *text;           /* as it is stored */
    struct worker_check *check; /* NULL before it started */
    int64_t wait_until_ms;
    bool kept; /* the blobs belong to a job */
};

static const struct api_part_rule base_rules[] = {
    {"config", 1, WORKER_SPEC_MAX_BYTES}, {"model", 1, UINT64_MAX},
    {"model.data", 16, UINT64_MAX},       {"calibration", 2048, UINT64_MAX},
    {"validation", 1024, UINT64_MAX},     {"labels", 1, UINT64_MAX},
    {"table", 1, WORKER_TABLE_MAX_BYTES},
};

static enum qd_code begin_part(void *arg, const struct api_part *part, struct qd_error *err)
{
    struct submission *s = arg;
    const char *prefix = strcmp(part->rule->name, "labels") == 0  ? "labels/"
                         : strcmp(part->rule->name, "table") == 0 ? "table/"
                                                                  : "";
    s->role = prefix[0] != '\0' ? "validation" : part->rule->name;
    if (strcmp(s->role, "config") == 0) {
        return QD_OK;
    }
    if (s->n_inputs == STORE_INPUTS_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "more than %d files", STORE_INPUTS_MAX);
    }
    QD_TRY(qd_arena_printf(s->arena, &s->name, err, "%s%s", prefix,
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
    if (api_server_is_draining(request->server)) {
        return api_request_fail(request, err, 503, "draining", QD_TIMED_OUT,
                                "the daemon is stopping");
    }
    QD_TRY(api_idempotency_enter(request, err));
    QD_TRY(store_blobs_check_space(
        blobs, request->body_size != UINT64_MAX ? request->body_size : 0, err));
    struct submission *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a submission");
    }
    request->state = s;
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
    api_idempotency_leave(request);
    if (s != NULL) {
        store_blob_writer_free(s->writer);
        api_upload_free(s->upload);
        worker_check_free(s->check);
        if (!s->kept) {
            discard_blobs(request, s);
        }
        json_decref(s->json);
        free(s);
        request->state = NULL;
    }
}

/* What makes two submissions the same request: configuration, roles, names and contents. */
static void hash_request(const struct submission *s, char ret[STORE_SHA256_SIZE])
{
    struct sha256_ctx hash;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&hash);
    sha256_update(&hash, s->config_size, (const uint8_t *)s->config);
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct store_input *in = &s->inputs[i];
        const char *texts[] = {in->role, in->name, in->blob};
        for (size_t t = 0; t < QD_COUNT_OF(texts); t++) {
            sha256_update(&hash, strlen(texts[t]) + 1, (const uint8_t *)texts[t]);
        }
    }
    sha256_digest(&hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        (void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
    }
}

static enum qd_code check_parts(const struct submission *s, struct qd_error *err)
{
    size_t models = 0, calibrations = 0;
    for (size_t i = 0; i < s->n_inputs; i++) {
        models += strcmp(s->inputs[i].role, "model") == 0;
        calibrations += strcmp(s->inputs[i].role, "calibration") == 0;
    }
    bool calibrated = s->spec.options.mode == QC_MODE_STATIC;
    if (models == 0 || (calibrated && calibrations == 0)) {
        const char *missing = models == 0 ? "model" : "calibration";
        return qd_fail_on(err, QD_INVALID, missing, "the part '%s' is missing", missing);
    }
    return QD_OK;
}

static enum qd_code create(struct api_request *request, const struct submission *s,
                           const char *config, const char *name, struct store_job *ret,
                           bool *ret_existing, struct qd_error *err)
{
    char hash[STORE_SHA256_SIZE];
    struct store_job_new job = {.name = name[0] != '\0' ? name : "model",
                                .config = config,
                                .inputs = s->inputs,
                                .n_inputs = s->n_inputs};
    QD_TRY(api_idempotency_key(request, &job.idempotency_key, err));
    hash_request(s, hash);
    job.request_hash = job.idempotency_key != NULL ? hash : NULL;
    enum qd_code code = store_job_create(api_store_of(request), &job, &request->arena, ret,
                                         ret_existing, err);
    if (code == QD_CONFLICT) {
        request->status = 422;
        request->problem_code = "idempotency_key_reused";
    }
    return code;
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
    char *text = json_dumps(s->json, JSON_COMPACT);
    if (text == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the configuration");
    }
    code = qd_arena_string(&request->arena, text, strlen(text), &s->text, err);
    free(text);
    s->ready = code == QD_OK;
    s->wait_until_ms = store_now_ms(api_store_of(request)) + 1000 * CHECK_WAIT_S;
    return code;
}

/* --- check ------------------------------------------------------------------------------------ */

/* *ret_wait: the request was suspended and the handler comes again. */
static enum qd_code start_check(struct api_request *request, struct submission *s, bool *ret_wait,
                                struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    if (app->pool == NULL) {
        *ret_wait = false;
        return QD_OK;
    }
    if (!worker_check_may_start(app->pool)) {
        if (api_server_is_draining(request->server) ||
            store_now_ms(app->store) >= s->wait_until_ms) {
            return api_request_fail(request, err, 503, "busy", QD_TIMED_OUT,
                                    "no process was free to check the submission in %d s",
                                    CHECK_WAIT_S);
        }
    } else {
        QD_TRY(worker_check_new(app->pool, s->spec.name, s->text, s->inputs, s->n_inputs,
                                &s->check, err));
    }
    *ret_wait = true;
    api_server_suspend(request, 1000);
    return QD_OK;
}

static enum qd_code check_failed(struct api_request *request, enum qd_code code,
                                 struct qd_error *err)
{
    switch (code) {
    case QD_OK:
    case QD_TIMED_OUT: /* found nothing in its time: the job looks at all of it */
        return QD_OK;
    case QD_CANCELED:
        return api_request_fail(request, err, 503, "draining", QD_TIMED_OUT,
                                "the daemon is stopping");
    case QD_NO_SPACE:
    case QD_IO:
    case QD_CODE_COUNT:
        return code;
    case QD_INTERNAL: /* a crash over these bytes is told to who sent them */
        request->problem_code = "check_failed";
        break;
    case QD_INVALID:
    case QD_UNSUPPORTED:
    case QD_LIMIT_EXCEEDED:
    case QD_NOT_FOUND:
    case QD_CONFLICT:
    case QD_NO_MEMORY:
        break;
    }
    request->status = 422;
    return code;
}

static enum qd_code check_submission(struct api_request *request, struct submission *s,
                                     const json_t **ret_summary, bool *ret_wait,
                                     struct qd_error *err)
{
    *ret_wait = false;
    if (s->check == NULL) {
        return start_check(request, s, ret_wait, err);
    }
    if (!worker_check_is_done(s->check)) {
        *ret_wait = true;
        api_server_suspend(request, 1000);
        return QD_OK;
    }
    return check_failed(request, worker_check_result(s->check, ret_summary, err), err);
}

/* --- answer ----------------------------------------------------------------------------------- */

static enum qd_code respond_created(struct api_request *request, struct submission *s,
                                    struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    struct store_job job;
    bool existing = false;
    char location[64];
    QD_TRY(create(request, s, s->text, s->spec.name, &job, &existing, err));
    s->kept = !existing;
    (void)snprintf(location, sizeof(location), "/v1/jobs/%.40s", job.id);
    const struct api_header headers[] = {{"Location", location}, {NULL, NULL}};
    if (!existing && app->on_queued != NULL) {
        app->on_queued(app->context);
    }
    return api_respond_json(request, existing ? 200 : 201, api_job_json(app->store, &job),
                            headers, err);
}

static enum qd_code respond_dry_run(struct api_request *request, const struct submission *s,
                                    const json_t *summary, struct qd_error *err)
{
    json_t *json = json_pack("{s:b, s:s, s:O, s:O?}", "dry_run", true, "name", s->spec.name,
                             "config", s->json, "check", summary);
    return api_respond_json(request, 200, json, NULL, err);
}

enum qd_code api_submit_handle(struct api_request *request, struct qd_error *err)
{
    struct submission *s = request->state;
    const json_t *summary = NULL;
    bool wait = false, dry_run = false;
    if (s == NULL || s->upload == NULL) {
        return qd_fail(err, QD_INVALID, "the body is empty; multipart/form-data is expected");
    }
    QD_TRY(api_request_flag(request, "dry_run", &dry_run, err));
    if (!s->ready) {
        QD_TRY(make_ready(request, s, err));
    }
    QD_TRY(check_submission(request, s, &summary, &wait, err));
    if (wait) {
        return QD_OK;
    }
    return dry_run ? respond_dry_run(request, s, summary, err) : respond_created(request, s, err);
}
