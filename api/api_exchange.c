#include "api/api_exchange.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/api_connection.h"
#include "api/api_respond.h"

/* A refused body: answered at its end when at most LINGER_BODY bytes are left, otherwise at once;
 * then bytes are thrown away until none has come for LINGER_MS, at most as said here. */
#define LINGER_BODY   (1u << 20)
#define LINGER_MS     2000
#define LINGER_MAX_MS 20000
#define DRAIN_MAX     (64u << 20)

const double api_server_bucket_bounds[8] = {0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0};

static struct api_request *request_new(struct api_server *server,
                                       struct MHD_Connection *connection, const char *url,
                                       const char *method)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct api_connection *c = info != NULL ? info->socket_context : NULL;
    struct api_request *request = c != NULL ? calloc(1, sizeof(*request)) : NULL;
    if (request == NULL) {
        return NULL;
    }
    qd_arena_init(&request->arena, API_REQUEST_MEMORY);
    request->server = server;
    request->on = c;
    request->connection = connection;
    request->method = method;
    request->raw_path = url;
    request->started_us = api_clock_us();
    request->close = server->draining;
    c->request = request;
    c->deadline_ms = request->started_us / 1000 + API_BODY_GRACE_MS;
    server->counters.in_flight++;
    return request;
}

static void count_request(struct api_server *server, const struct api_request *request,
                          double seconds)
{
    struct api_server_counters *n = &server->counters;
    int class = request->answered ? request->status / 100 : 0;
    n->requests++;
    n->by_status[class >= 0 && class <= 5 ? class : 0]++;
    n->received += request->received;
    n->sent += request->sent_size;
    n->seconds_sum += seconds;
    for (size_t i = 0; i < QD_COUNT_OF(api_server_bucket_bounds); i++) {
        n->seconds_buckets[i] += seconds <= api_server_bucket_bounds[i];
    }
}

void api_exchange_completed(void *cls, struct MHD_Connection *connection, void **request_context,
                            enum MHD_RequestTerminationCode why)
{
    struct api_server *server = cls;
    struct api_request *request = *request_context;
    (void)connection;
    (void)why;
    if (request == NULL) {
        return;
    }
    *request_context = NULL;
    int64_t now = api_clock_us();
    double seconds = (double)(now - request->started_us) * 1e-6;
    count_request(server, request, seconds);
    if (server->settings.on_access != NULL) {
        struct api_access access = {
            .request_id = request->id,
            .traceparent = request->traceparent,
            .method = request->method,
            .path = request->raw_path,
            .route = request->route != NULL ? request->route->pattern : "",
            .client = request->on->client,
            .status = request->answered ? request->status : 0,
            .received = request->received,
            .sent = request->sent_size,
            .seconds = seconds,
            .error = request->failure.code != QD_OK && request->status >= 500 ? &request->failure
                                                                              : NULL,
        };
        server->settings.on_access(server->settings.context, &access);
    }
    if (request->route != NULL && request->route->done != NULL) {
        request->route->done(request);
    }
    request->on->request = NULL;
    request->on->deadline_ms = now / 1000 + 1000LL * server->settings.header_timeout_s;
    server->counters.in_flight--;
    server->counters.streams -= request->reader != NULL;
    free(request->body);
    qd_arena_done(&request->arena);
    free(request);
}

/* Answer while the body still arrives: its end is far or may never come. What follows is thrown
 * away for a moment, since a socket that is closed with unread bytes is reset, and a reset takes
 * the answer away from a client that has not read it yet. */
static enum MHD_Result answer_early(struct api_request *request)
{
    struct qd_error err = request->failure;
    int fd = request->on->fd;
    if (!api_respond_problem_now(request, fd, &err)) {
        return MHD_NO;
    }
    (void)shutdown(fd, SHUT_WR);
    request->lingers = true;
    request->linger_until_ms = api_clock_ms() + LINGER_MAX_MS;
    request->linger_bytes = request->received + DRAIN_MAX;
    request->on->deadline_ms = api_clock_ms() + LINGER_MS;
    return MHD_YES;
}

/* Keep what is wrong: libmicrohttpd takes no answer while a body arrives. A near end is awaited. */
static enum MHD_Result refuse_body(struct api_request *request)
{
    bool chunked = request->body_size == UINT64_MAX;
    request->close = true;
    if (chunked || request->body_size - request->received > LINGER_BODY) {
        return answer_early(request);
    }
    return MHD_YES;
}

/* Answer with a problem, after the body unless its client waits for "100 Continue", which then
 * sends none. */
static enum MHD_Result answer_problem(struct api_request *request, const struct qd_error *err)
{
    request->failure = *err;
    if (!request->body_pending || api_request_header(request, "Expect") != NULL) {
        return api_respond_problem(request, err) ? MHD_YES : MHD_NO;
    }
    return refuse_body(request);
}

static enum MHD_Result run_handler(struct api_request *request, api_handler *handler)
{
    struct qd_error err = {.code = QD_OK};
    enum qd_code code = handler(request, &err);
    if (code == QD_OK || request->answered) {
        /* The answer may take as long as its size needs at the minimum rate. */
        uint64_t rate = request->server->settings.body_rate_min;
        request->on->deadline_ms = request->suspended
                                       ? 0
                                       : api_clock_us() / 1000 + API_BODY_GRACE_MS +
                                             (int64_t)(request->sent_size / rate) * 1000;
        return MHD_YES;
    }
    int status = request->status >= 400 ? request->status : api_status_of(code);
    if (status == 503) {
        api_request_problem_header(request, "Retry-After", "5");
    }
    return answer_problem(request, &err);
}

static enum qd_code check_body(struct api_request *request, struct qd_error *err)
{
    const struct api_route *route = request->route;
    if (route->body == API_BODY_NONE && request->body_size != 0) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%s %s takes no body", request->method,
                       route->pattern);
    }
    if (request->body_size != UINT64_MAX && request->body_size > route->body_max) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "the body has %llu bytes, the limit is %llu",
                       (unsigned long long)request->body_size,
                       (unsigned long long)route->body_max);
    }
    return QD_OK;
}

/* Find the route. 404, 405 and OPTIONS are answered here: *ret_result is then valid. */
static bool route_request(struct api_request *request, enum MHD_Result *ret_result)
{
    struct api_server *server = request->server;
    struct qd_error err = {.code = QD_OK};
    char allow[96] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    const struct api_header headers[] = {{"Allow", allow}, {NULL, NULL}};
    bool options = strcmp(request->method, "OPTIONS") == 0;
    bool everything = options && strcmp(request->raw_path, "*") == 0;
    if (!everything && api_request_parse_path(request, &err) != QD_OK) {
        *ret_result = answer_problem(request, &err);
        return false;
    }
    enum api_match match =
        everything ? API_MATCH_NO_METHOD
                   : api_route_find(server->tables, server->settings.n_tables, &request->path,
                                    api_method_from_name(request->method), &request->route, allow,
                                    sizeof(allow));
    if (match == API_MATCH_FOUND) {
        return true;
    }
    if (match == API_MATCH_NO_PATH) {
        (void)qd_fail(&err, QD_NOT_FOUND, "nothing is at '%.300s'", request->raw_path);
        *ret_result = answer_problem(request, &err);
    } else if (options) {
        *ret_result = api_respond_empty(request, 204, headers, &err) == QD_OK ? MHD_YES : MHD_NO;
    } else {
        (void)api_request_fail(request, &err, 405, "method_not_allowed", QD_INVALID,
                               "'%.300s' does not take %.20s; it takes %s", request->raw_path,
                               request->method, allow);
        api_request_problem_header(request, "Allow", allow);
        *ret_result = answer_problem(request, &err);
    }
    return false;
}

/* Route the request and look at its query and its announced body. */
static enum MHD_Result begin_request(struct api_request *request)
{
    struct qd_error err = {.code = QD_OK};
    enum MHD_Result result = MHD_NO;
    request->began = true;
    if (!route_request(request, &result)) {
        return result;
    }
    if (api_request_parse_query(request, &err) != QD_OK || check_body(request, &err) != QD_OK) {
        return answer_problem(request, &err);
    }
    if (request->route->begin != NULL) {
        return run_handler(request, request->route->begin);
    }
    return MHD_YES;
}

/* First call of a request: the headers are there. What is answered here closes the connection; so
 * a request without a body waits for the second call. */
static enum MHD_Result on_headers(struct api_request *request, const char *version)
{
    struct qd_error err = {.code = QD_OK};
    api_request_identify(request);
    enum qd_code code = api_request_check_headers(request, version, &err);
    request->body_pending = request->body_size > 0;
    if (code != QD_OK || api_request_check_origin(request, &err) != QD_OK) {
        request->close = true;
        return answer_problem(request, &err);
    }
    return request->body_pending ? begin_request(request) : MHD_YES;
}

static enum qd_code keep_body(struct api_request *request, const char *bytes, size_t size,
                              struct qd_error *err)
{
    size_t have = (size_t)request->received - size; /* body_max bounds it: checked before */
    char *grown = realloc(request->body, have + size + 1);
    if (grown == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a body of %zu bytes", have + size);
    }
    memcpy(grown + have, bytes, size);
    grown[have + size] = '\0';
    request->body = grown;
    return QD_OK;
}

/* The rest of a body that was refused. MHD_NO closes the connection. */
static enum MHD_Result throw_away(struct api_request *request)
{
    int64_t soon = api_clock_ms() + LINGER_MS;
    int64_t until = request->linger_until_ms;
    request->on->deadline_ms = soon < until ? soon : until;
    return request->received <= request->linger_bytes ? MHD_YES : MHD_NO;
}

static enum qd_code take_body(struct api_request *request, const char *bytes, size_t size,
                              struct qd_error *err)
{
    const struct api_route *route = request->route;
    if (request->received > route->body_max) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "the body has more than %llu bytes, the limit",
                       (unsigned long long)route->body_max);
    }
    if (route->body == API_BODY_MEMORY) {
        return keep_body(request, bytes, size, err);
    }
    return route->data != NULL ? route->data(request, bytes, size, err) : QD_OK;
}

/* A piece of the body. */
static enum MHD_Result on_body(struct api_request *request, const char *bytes, size_t size)
{
    struct qd_error *err = &request->failure;
    request->received += size;
    if (request->lingers) {
        return throw_away(request);
    }
    uint64_t rate = request->server->settings.body_rate_min;
    request->on->deadline_ms = request->started_us / 1000 + API_BODY_GRACE_MS +
                               (int64_t)(request->received / rate) * 1000;
    if (err->code == QD_OK && !request->answered && request->route != NULL &&
        take_body(request, bytes, size, err) == QD_OK) {
        return MHD_YES;
    }
    return err->code != QD_OK ? refuse_body(request) : MHD_YES;
}

enum MHD_Result api_exchange_run(void *cls, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_size, void **request_context)
{
    struct api_request *request = *request_context;
    if (request == NULL) {
        request = request_new(cls, connection, url, method);
        *request_context = request;
        return request != NULL ? on_headers(request, version) : MHD_NO;
    }
    if (*upload_size > 0) {
        size_t size = *upload_size;
        *upload_size = 0;
        return on_body(request, upload, size);
    }
    request->body_pending = false;
    if (!request->began && request->failure.code == QD_OK) {
        enum MHD_Result result = begin_request(request);
        if (result != MHD_YES) {
            return result;
        }
    }
    if (request->lingers) {
        return MHD_NO; /* the answer has gone out: close */
    }
    if (request->answered || request->suspended) {
        return MHD_YES;
    }
    if (request->failure.code != QD_OK) {
        struct qd_error err = request->failure;
        return answer_problem(request, &err);
    }
    return run_handler(request, request->route->handle);
}
