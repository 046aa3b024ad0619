#include "api/api_create.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_app.h"
#include "api/api_idempotency.h"
#include "api/api_jobs.h"
#include "api/api_respond.h"
#include "api/api_server.h"
#include "worker/worker_check.h"

#define CHECK_WAIT_S 60 /* for a free child that checks */

enum qd_code api_create_begin(struct api_request *request, struct qd_error *err)
{
    if (api_server_is_draining(request->server)) {
        return api_request_fail(request, err, 503, "draining", QD_TIMED_OUT,
                                "the daemon is stopping");
    }
    return api_idempotency_enter(request, err);
}

void api_create_done(struct api_request *request, struct api_creation *creation)
{
    api_idempotency_leave(request);
    if (creation != NULL) {
        worker_check_free(creation->check);
        creation->check = NULL;
    }
}

enum qd_code api_create_config(struct api_request *request, const json_t *config,
                               const char **ret, struct qd_error *err)
{
    char *text = json_dumps(config, JSON_COMPACT);
    if (text == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the configuration");
    }
    enum qd_code code = qd_arena_string(&request->arena, text, strlen(text), ret, err);
    free(text);
    return code;
}

void api_create_hash(const char *const *texts, size_t n, char ret[STORE_SHA256_SIZE])
{
    struct sha256_ctx hash;
    unsigned char digest[SHA256_DIGEST_SIZE];
    sha256_init(&hash);
    for (size_t i = 0; i < n; i++) {
        sha256_update(&hash, strlen(texts[i]) + 1, (const uint8_t *)texts[i]);
    }
    sha256_digest(&hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        (void)snprintf(ret + 2 * i, 3, "%02x", digest[i]);
    }
}

/* --- check ------------------------------------------------------------------------------------
 */

/* *ret_wait: the request was suspended and the handler comes again. */
static enum qd_code start_check(struct api_request *request, struct api_creation *c,
                                const struct store_job_new *job, bool *ret_wait,
                                struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    if (app->pool == NULL) {
        *ret_wait = false;
        return QD_OK;
    }
    int64_t now = store_now_ms(app->store);
    if (c->wait_until_ms == 0) {
        c->wait_until_ms = now + 1000 * CHECK_WAIT_S;
    }
    if (!worker_check_may_start(app->pool)) {
        if (api_server_is_draining(request->server) || now >= c->wait_until_ms) {
            return api_request_fail(request, err, 503, "busy", QD_TIMED_OUT,
                                    "no process was free to check the submission in %d s",
                                    CHECK_WAIT_S);
        }
    } else {
        QD_TRY(worker_check_new(app->pool, job->name, job->config, job->inputs, job->n_inputs,
                                &c->check, err));
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

enum qd_code api_create_check(struct api_request *request, struct api_creation *creation,
                              const struct store_job_new *job, const json_t **ret_summary,
                              bool *ret_wait, struct qd_error *err)
{
    *ret_wait = false;
    *ret_summary = NULL;
    if (creation->check == NULL) {
        return start_check(request, creation, job, ret_wait, err);
    }
    if (!worker_check_is_done(creation->check)) {
        *ret_wait = true;
        api_server_suspend(request, 1000);
        return QD_OK;
    }
    return check_failed(request, worker_check_result(creation->check, ret_summary, err), err);
}

/* --- answer -----------------------------------------------------------------------------------
 */

enum qd_code api_create_job(struct api_request *request, const struct store_job_new *job,
                            const char *hash, bool *ret_created, struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    struct store_job_new new = *job;
    struct store_job made;
    bool existing = false;
    char location[64];
    QD_TRY(api_idempotency_key(request, &new.idempotency_key, err));
    new.request_hash = new.idempotency_key != NULL ? hash : NULL;
    enum qd_code code =
        store_job_create(app->store, &new, &request->arena, &made, &existing, err);
    if (code == QD_CONFLICT) {
        request->status = 422;
        request->problem_code = "idempotency_key_reused";
    }
    QD_TRY(code);
    *ret_created = !existing;
    (void)snprintf(location, sizeof(location), "/v1/jobs/%.40s", made.id);
    const struct api_header headers[] = {{"Location", location}, {NULL, NULL}};
    if (!existing && app->on_queued != NULL) {
        app->on_queued(app->context);
    }
    return api_respond_json(request, existing ? 200 : 201, api_job_json(app->store, &made),
                            headers, err);
}

enum qd_code api_create_dry_run(struct api_request *request, const char *name, json_t *config,
                                const json_t *summary, struct qd_error *err)
{
    json_t *json = json_pack("{s:b, s:s, s:O, s:O?}", "dry_run", true, "name", name, "config",
                             config, "check", summary);
    return api_respond_json(request, 200, json, NULL, err);
}
