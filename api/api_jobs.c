#include "api/api_jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_app.h"
#include "api/api_requantize.h"
#include "api/api_respond.h"
#include "api/api_server.h"

#define WAIT_MAX_S 300

struct store *api_store_of(const struct api_request *request)
{
    const struct api_app *app = api_server_app(request->server);
    return app->store;
}

json_t *api_time_json(int64_t ms)
{
    char text[48];
    struct tm utc;
    time_t seconds = (time_t)(ms / 1000);
    if (ms <= 0 || gmtime_r(&seconds, &utc) == NULL) {
        return json_null();
    }
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(ms % 1000));
    return json_string(text);
}

static json_t *text_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? json_string(text) : json_null();
}

/* JSON that the store keeps as text; null when there is none. */
static json_t *parsed(const char *text)
{
    json_t *json = text != NULL ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
    return json != NULL ? json : json_null();
}

static json_t *progress_json(const struct store_job *job)
{
    double fraction = job->total > 0 ? (double)job->done / (double)job->total : 0.0;
    return json_pack("{sf, sI, sI, so}", "fraction", fraction > 1.0 ? 1.0 : fraction, "done",
                     (json_int_t)job->done, "total", (json_int_t)job->total, "unit",
                     text_or_null(job->unit));
}

static json_t *error_json(const struct store_job *job)
{
    if (job->error_code == NULL || job->error_code[0] == '\0') {
        return json_null();
    }
    return json_pack("{ss, so, so, so}", "code", job->error_code, "class",
                     text_or_null(job->error_class), "message", text_or_null(job->error_message),
                     "subject", text_or_null(job->error_subject));
}

json_t *api_job_json(struct store *store, const struct store_job *job)
{
    int64_t position = 0;
    struct qd_error ignored;
    if (job->state == STORE_QUEUED &&
        store_job_queue_position(store, job->id, &position, &ignored) != QD_OK) {
        position = 0; /* it has just left the queue */
    }
    return json_pack(
        "{ss, ss, ss, so, so, si, sI, si, so, so, so, ss, so, so, so, so, sI, so, so, so}", "id",
        job->id, "name", job->name, "state", store_state_name(job->state), "phase",
        text_or_null(job->phase), "progress", progress_json(job), "attempt", job->attempt, "rev",
        (json_int_t)job->rev, "priority", job->priority, "tags", parsed(job->tags), "config",
        parsed(job->config), "queue_position",
        position > 0 ? json_integer((json_int_t)position) : json_null(), "model_sha256",
        job->model_sha256, "created_at", api_time_json(job->created_ms), "started_at",
        api_time_json(job->started_ms), "finished_at", api_time_json(job->finished_ms),
        "updated_at", api_time_json(job->updated_ms), "version", (json_int_t)job->version,
        "error", error_json(job), "derived_from", text_or_null(job->derived_from), "summary",
        parsed(job->summary));
}

static enum qd_code respond_job(struct api_request *request, const struct store_job *job,
                                int status, struct qd_error *err)
{
    static const struct api_header headers[] = {{"Cache-Control", "no-store"}, {NULL, NULL}};
    return api_respond_json(request, status, api_job_json(api_store_of(request), job), headers,
                            err);
}

static enum qd_code load_job(struct api_request *request, struct store_job *ret,
                             struct qd_error *err)
{
    return store_job_get(api_store_of(request), api_request_param(request, "id"),
                         &request->arena, ret, err);
}

/* --- status, long poll ------------------------------------------------------------------------ */

/* "30s", "30" or "1500ms" -> ms, at most WAIT_MAX_S. */
static enum qd_code parse_wait(const char *text, int64_t *ret_ms, struct qd_error *err)
{
    char *end = NULL;
    errno = 0;
    long number = strtol(text, &end, 10);
    bool ms = strcmp(end, "ms") == 0;
    if (end == text || text[0] < '0' || text[0] > '9' || errno != 0 ||
        (!ms && strcmp(end, "s") != 0 && *end != '\0') ||
        number > (ms ? WAIT_MAX_S * 1000L : WAIT_MAX_S)) {
        return qd_fail_on(err, QD_INVALID, "wait",
                          "query parameter 'wait' is '%s', not a time such as 30s or 1500ms, at "
                          "most %ds",
                          text, WAIT_MAX_S);
    }
    *ret_ms = ms ? number : number * 1000;
    return QD_OK;
}

struct wait {
    int64_t until_ms, rev;
};

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void free_state(struct api_request *request)
{
    free(request->state);
    request->state = NULL;
}

/* Called once, and again each time that some job has changed or the time is up. */
static enum qd_code get_job(struct api_request *request, struct qd_error *err)
{
    struct wait *wait = request->state;
    struct store_job job;
    QD_TRY(load_job(request, &job, err));
    const char *wait_text = api_request_query(request, "wait");
    if (wait == NULL && wait_text != NULL) {
        int64_t ms = 0, after = 0;
        QD_TRY(parse_wait(wait_text, &ms, err));
        QD_TRY(api_request_int(request, "after", 0, INT64_MAX, job.rev, &after, err));
        wait = calloc(1, sizeof(*wait));
        if (wait == NULL) {
            return qd_fail(err, QD_NO_MEMORY, "no memory to wait");
        }
        *wait = (struct wait){.until_ms = monotonic_ms() + ms, .rev = after};
        request->state = wait;
    }
    if (wait != NULL && job.rev == wait->rev && !store_state_is_final(job.state) &&
        !api_server_is_draining(request->server)) {
        int64_t left = wait->until_ms - monotonic_ms();
        if (left > 0) {
            api_server_suspend(request, left);
            return QD_OK;
        }
    }
    return respond_job(request, &job, 200, err);
}

/* --- list ------------------------------------------------------------------------------------- */

static enum qd_code parse_states(const char *text, unsigned *ret, struct qd_error *err)
{
    char name[32];
    unsigned states = 0;
    for (const char *at = text; at != NULL && *at != '\0';) {
        size_t n = strcspn(at, ",");
        enum store_state state;
        (void)snprintf(name, sizeof(name), "%.*s", (int)(n < sizeof(name) ? n : sizeof(name)),
                       at);
        if (!store_state_from_name(name, &state)) {
            return qd_fail_on(err, QD_INVALID, "state",
                              "query parameter 'state' names '%s', not queued, running, "
                              "canceling, succeeded, failed or canceled",
                              name);
        }
        states |= 1u << state;
        at += n;
        at += *at == ',';
    }
    *ret = states;
    return QD_OK;
}

/* Any job's id will do, also of one that is deleted. */
static enum qd_code parse_cursor(const char *text, const char **ret, struct qd_error *err)
{
    size_t n = text != NULL ? strlen(text) : STORE_ID_LENGTH;
    if (n != STORE_ID_LENGTH ||
        (text != NULL && (strncmp(text, "j_", 2) != 0 ||
                          strspn(text + 2, "0123456789abcdefghjkmnpqrstvwxyz") != n - 2))) {
        return qd_fail_on(err, QD_INVALID, "cursor",
                          "query parameter 'cursor' is '%.100s', not the next_cursor of a page",
                          text);
    }
    *ret = text;
    return QD_OK;
}

static enum qd_code parse_filter(struct api_request *request, struct store_job_filter *ret,
                                 struct qd_error *err)
{
    int64_t limit;
    const char *sort = api_request_query(request, "sort");
    QD_TRY(api_request_int(request, "limit", 1, STORE_LIST_MAX, 50, &limit, err));
    QD_TRY(parse_states(api_request_query(request, "state"), &ret->states, err));
    if (sort != NULL && strcmp(sort, "created_at") != 0 && strcmp(sort, "-created_at") != 0) {
        return qd_fail_on(err, QD_INVALID, "sort",
                          "query parameter 'sort' is '%s', not created_at or -created_at", sort);
    }
    QD_TRY(api_request_time(request, "created_after", &ret->created_after_ms, err));
    ret->limit = (size_t)limit;
    ret->name = api_request_query(request, "model");
    ret->tag = api_request_query(request, "tag");
    ret->query = api_request_query(request, "q");
    QD_TRY(parse_cursor(api_request_query(request, "cursor"), &ret->cursor, err));
    ret->ascending = sort != NULL && sort[0] == 'c';
    return QD_OK;
}

static enum qd_code list_jobs(struct api_request *request, struct qd_error *err)
{
    struct store_job_filter filter = {.states = 0};
    struct store_job_page page = {.n = 0};
    QD_TRY(parse_filter(request, &filter, err));
    QD_TRY(store_job_list(api_store_of(request), &filter, &request->arena, &page, err));
    json_t *data = json_array();
    for (size_t i = 0; i < page.n; i++) {
        if (json_array_append_new(data, api_job_json(api_store_of(request), &page.jobs[i])) !=
            0) {
            json_decref(data);
            return qd_fail(err, QD_NO_MEMORY, "no memory for a list of %zu jobs", page.n);
        }
    }
    const char *cursor = page.has_more ? page.jobs[page.n - 1].id : NULL;
    return api_respond_page(request, data, cursor, err);
}

/* --- cancel, retry, delete -------------------------------------------------------------------- */

static enum qd_code cancel_job(struct api_request *request, struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    struct store_job job;
    enum store_state state = STORE_CANCELED;
    QD_TRY(store_job_cancel(app->store, api_request_param(request, "id"), &state, err));
    QD_TRY(load_job(request, &job, err));
    if (state == STORE_CANCELING && app->on_cancel != NULL) {
        app->on_cancel(app->context, job.id);
    }
    return respond_job(request, &job, state == STORE_CANCELING ? 202 : 200, err);
}

static enum qd_code retry_job(struct api_request *request, struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    struct store_job job;
    QD_TRY(store_job_retry(app->store, api_request_param(request, "id"), err));
    QD_TRY(load_job(request, &job, err));
    if (app->on_queued != NULL) {
        app->on_queued(app->context);
    }
    return respond_job(request, &job, 200, err);
}

/* A blob this young may be an artifact whose rows are still to be written. */
#define BLOB_GRACE_MS 60000

/* Who deletes jobs wants their room: what no other job names goes at once. What cannot go now, as a
 * submission may be about to name it, goes with the next collection. */
static enum qd_code delete_job(struct api_request *request, struct qd_error *err)
{
    struct store *store = api_store_of(request);
    const char *id = api_request_param(request, "id");
    const struct api_server_counters *n = api_server_counters_of(request->server);
    struct store_input *inputs = NULL;
    struct store_artifact *artifacts = NULL;
    size_t n_inputs = 0, n_artifacts = 0;
    struct qd_error later;
    QD_TRY(store_job_inputs(store, id, &request->arena, &inputs, &n_inputs, err));
    QD_TRY(store_artifacts(store, id, &request->arena, &artifacts, &n_artifacts, err));
    QD_TRY(store_job_delete(store, id, err));
    for (size_t i = 0; n->submissions == 0 && i < n_inputs + n_artifacts; i++) {
        const char *blob = i < n_inputs ? inputs[i].blob : artifacts[i - n_inputs].blob;
        if (store_remove_unused(store, blob, BLOB_GRACE_MS, &later) != QD_OK) {
            break;
        }
    }
    return api_respond_empty(request, 204, NULL, err);
}

struct api_route_table api_jobs_routes(uint64_t body_max)
{
    static struct api_route routes[] = {
        {.method = API_POST,
         .pattern = "/v1/jobs",
         .query = "dry_run",
         .body = API_BODY_STREAM,
         .begin = api_submit_begin,
         .data = api_submit_data,
         .handle = api_submit_handle,
         .done = api_submit_done},
        {.method = API_GET,
         .pattern = "/v1/jobs",
         .query = "limit cursor state model tag created_after q sort",
         .handle = list_jobs},
        {.method = API_GET,
         .pattern = "/v1/jobs/{id}",
         .query = "wait after",
         .handle = get_job,
         .done = free_state},
        {.method = API_DELETE, .pattern = "/v1/jobs/{id}", .handle = delete_job},
        {.method = API_POST, .pattern = "/v1/jobs/{id}/cancel", .handle = cancel_job},
        {.method = API_POST, .pattern = "/v1/jobs/{id}/retry", .handle = retry_job},
        {.method = API_POST,
         .pattern = "/v1/jobs/{id}/requantize",
         .query = "dry_run",
         .body = API_BODY_MEMORY,
         .body_max = WORKER_SPEC_MAX_BYTES,
         .begin = api_requantize_begin,
         .handle = api_requantize_handle,
         .done = api_requantize_done},
        {.method = API_GET, .pattern = "/v1/jobs/{id}/artifacts", .handle = api_job_artifacts},
        {.method = API_GET,
         .pattern = "/v1/jobs/{id}/artifacts/{name}",
         .handle = api_job_artifact},
        {.method = API_GET,
         .pattern = "/v1/jobs/{id}/calibration",
         .query = "format",
         .handle = api_job_calibration},
        {.method = API_GET, .pattern = "/v1/jobs/{id}/layers", .handle = api_job_layers},
        {.method = API_GET,
         .pattern = "/v1/jobs/{id}/report",
         .query = "format",
         .handle = api_job_report},
    };
    routes[0].body_max = body_max;
    return (struct api_route_table){routes, QD_COUNT_OF(routes)};
}
