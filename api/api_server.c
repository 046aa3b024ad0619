#include "api/api_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/api_respond.h"

#define BODY_GRACE_MS 30000 /* every body may take this long, whatever its rate */
#define DRAIN_MAX     (64u << 20) /* bytes of a refused body that are read to answer politely */

const double api_server_bucket_bounds[8] = {0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0};

/* A connection's age bookkeeping: libmicrohttpd's own timeout only sees inactivity. */
struct api_connection {
    struct api_server *server;
    struct api_connection *prev, *next;
    struct api_request *request; /* the one under way, NULL between two */
    int fd;
    int64_t deadline_ms; /* shut after this; 0: no limit */
    int64_t wake_ms;     /* of a suspended request; 0: no limit */
    bool doomed;
    char client[64];
};

struct api_server {
    struct api_server_settings settings;
    struct api_route_table tables[API_TABLES_MAX];
    struct MHD_Daemon *mhd;
    int epoll_fd;
    unsigned port;
    char url[96];
    struct api_connection *connections;
    struct api_server_counters counters;
    bool draining, stopping;
};

static int64_t clock_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* --- connections ------------------------------------------------------------------------------ */

static void name_client(struct api_connection *c)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[NI_MAXHOST];
    (void)snprintf(c->client, sizeof(c->client), "?");
    if (getpeername(c->fd, (struct sockaddr *)&address, &size) == 0 &&
        getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) == 0) {
        (void)snprintf(c->client, sizeof(c->client), "%.63s", host);
    }
}

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct api_server *server = cls;
    struct api_connection *c = *socket_context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = calloc(1, sizeof(*c));
        if (c == NULL || info == NULL) {
            free(c); /* its requests are refused in on_request */
            return;
        }
        c->server = server;
        c->fd = info->connect_fd;
        c->deadline_ms = clock_us() / 1000 + 1000LL * server->settings.header_timeout_s;
        name_client(c);
        c->next = server->connections;
        if (c->next != NULL) {
            c->next->prev = c;
        }
        server->connections = c;
        server->counters.connections++;
        server->counters.open_connections++;
        *socket_context = c;
    } else if (c != NULL) {
        if (c->prev != NULL) {
            c->prev->next = c->next;
        } else {
            server->connections = c->next;
        }
        if (c->next != NULL) {
            c->next->prev = c->prev;
        }
        server->counters.open_connections--;
        *socket_context = NULL;
        free(c);
    }
}

/* --- one request ------------------------------------------------------------------------------ */

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
    request->started_us = clock_us();
    request->close = server->draining;
    c->request = request;
    c->deadline_ms = request->started_us / 1000 + BODY_GRACE_MS;
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

static void on_completed(void *cls, struct MHD_Connection *connection, void **request_context,
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
    int64_t now = clock_us();
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
    free(request->body);
    qd_arena_done(&request->arena);
    free(request);
}

/* Answer with a problem. When the body has not been read yet this also refuses the body. */
static enum MHD_Result answer_problem(struct api_request *request, const struct qd_error *err,
                                      const struct api_header *headers)
{
    request->failure = *err;
    return api_respond_problem(request, err, headers) ? MHD_YES : MHD_NO;
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
                                       : clock_us() / 1000 + BODY_GRACE_MS +
                                             (int64_t)(request->sent_size / rate) * 1000;
        return MHD_YES;
    }
    static const struct api_header retry[] = {{"Retry-After", "5"}, {NULL, NULL}};
    int status = request->status >= 400 ? request->status : api_status_of(code);
    return answer_problem(request, &err, status == 503 ? retry : NULL);
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
        *ret_result = answer_problem(request, &err, NULL);
        return false;
    }
    enum api_match match =
        everything ? API_MATCH_NO_METHOD
                   : api_route_find(server->tables, server->settings.n_tables, &request->path,
                                    api_method_from_name(request->method), &request->route,
                                    allow, sizeof(allow));
    if (match == API_MATCH_FOUND) {
        return true;
    }
    if (match == API_MATCH_NO_PATH) {
        (void)qd_fail(&err, QD_NOT_FOUND, "nothing is at '%.300s'", request->raw_path);
        *ret_result = answer_problem(request, &err, NULL);
    } else if (options) {
        *ret_result =
            api_respond_empty(request, 204, headers, &err) == QD_OK ? MHD_YES : MHD_NO;
    } else {
        (void)api_request_fail(request, &err, 405, "method_not_allowed", QD_INVALID,
                               "'%.300s' does not take %.20s; it takes %s", request->raw_path,
                               request->method, allow);
        *ret_result = answer_problem(request, &err, headers);
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
        return answer_problem(request, &err, NULL);
    }
    if (request->route->begin != NULL) {
        return run_handler(request, request->route->begin);
    }
    return MHD_YES;
}

/* First call of a request: the headers are there. What is answered here is answered before the
 * body is read (a client that waits for "100 Continue" then sends none) and closes the
 * connection; so a request without a body waits for the second call. */
static enum MHD_Result on_headers(struct api_request *request, const char *version)
{
    struct qd_error err = {.code = QD_OK};
    api_request_identify(request);
    if (api_request_check_headers(request, version, &err) != QD_OK) {
        request->close = true;
        return answer_problem(request, &err, NULL);
    }
    return request->body_size > 0 ? begin_request(request) : MHD_YES;
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

/* A piece of the body. An answer cannot be queued here: an error waits for the body's end. */
static enum MHD_Result on_body(struct api_request *request, const char *bytes, size_t size)
{
    const struct api_route *route = request->route;
    struct qd_error *err = &request->failure;
    request->received += size;
    uint64_t rate = request->server->settings.body_rate_min;
    request->on->deadline_ms = request->started_us / 1000 + BODY_GRACE_MS +
                               (int64_t)(request->received / rate) * 1000;
    if (err->code != QD_OK || request->answered || route == NULL) {
        request->close = true;
        return request->received <= DRAIN_MAX + (route != NULL ? route->body_max : 0) ? MHD_YES
                                                                                      : MHD_NO;
    }
    if (request->received > route->body_max) {
        request->close = true;
        (void)qd_fail(err, QD_LIMIT_EXCEEDED, "the body has more than %llu bytes, the limit",
                      (unsigned long long)route->body_max);
    } else if (route->body == API_BODY_MEMORY) {
        (void)keep_body(request, bytes, size, err);
    } else if (route->data != NULL) {
        (void)route->data(request, bytes, size, err);
    }
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
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
    if (!request->began) {
        enum MHD_Result result = begin_request(request);
        if (result != MHD_YES) {
            return result;
        }
    }
    if (request->answered || request->suspended) {
        return MHD_YES;
    }
    if (request->failure.code != QD_OK) {
        struct qd_error err = request->failure;
        return answer_problem(request, &err, NULL);
    }
    return run_handler(request, request->route->handle);
}

/* --- suspended requests ----------------------------------------------------------------------- */

void api_server_suspend(struct api_request *request, int64_t timeout_ms)
{
    request->suspended = true;
    request->on->wake_ms = timeout_ms > 0 ? clock_us() / 1000 + timeout_ms : 0;
    request->server->counters.suspended++;
    MHD_suspend_connection(request->connection);
}

static void wake(struct api_request *request)
{
    if (request->suspended) {
        request->suspended = false;
        request->resumes++;
        request->on->wake_ms = 0;
        request->server->counters.suspended--;
        MHD_resume_connection(request->connection);
    }
}

void api_server_wake_all(struct api_server *server)
{
    for (struct api_connection *c = server->connections; c != NULL; c = c->next) {
        if (c->request != NULL) {
            wake(c->request);
        }
    }
}

/* --- the server ------------------------------------------------------------------------------- */

/* The path is decoded by us, once for each segment: decoded here, "%2F" would be a separator
 * and "%00" would cut it. */
static size_t keep_escapes(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

static void on_message(void *cls, const char *format, va_list args)
{
    struct api_server *server = cls;
    char text[512];
    (void)vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    if (server->settings.on_message != NULL) {
        server->settings.on_message(server->settings.context, text);
    }
}

static enum qd_code listen_on(struct api_server *server, int *ret_fd, struct qd_error *err)
{
    const struct api_server_settings *s = &server->settings;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    char port[16], number[NI_MAXSERV];
    int one = 1;
    (void)snprintf(port, sizeof(port), "%u", s->port);
    if (getaddrinfo(s->host, port, &hints, &address) != 0) {
        return qd_fail_on(err, QD_INVALID, "listen", "'%s' is not a numeric address", s->host);
    }
    int family = address->ai_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
              bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 511) == 0 &&
              getsockname(fd, (struct sockaddr *)&bound, &size) == 0;
    int errnum = errno;
    freeaddrinfo(address);
    if (!ok || getnameinfo((struct sockaddr *)&bound, size, NULL, 0, number, sizeof(number),
                           NI_NUMERICSERV) != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return qd_fail_errno(err, errnum, "listen on %s port %u", s->host, s->port);
    }
    server->port = (unsigned)strtoul(number, NULL, 10);
    (void)snprintf(server->url, sizeof(server->url),
                   family == AF_INET6 ? "http://[%.60s]:%u" : "http://%.60s:%u", s->host,
                   server->port);
    *ret_fd = fd;
    return QD_OK;
}

static enum qd_code start_mhd(struct api_server *server, int fd, struct qd_error *err)
{
    server->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
        server, MHD_OPTION_EXTERNAL_LOGGER, on_message, server, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL,
        MHD_OPTION_CONNECTION_LIMIT, server->settings.connections_max,
        MHD_OPTION_CONNECTION_TIMEOUT, server->settings.idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)512 * 1024,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (server->mhd == NULL) {
        (void)close(fd);
        return qd_fail(err, QD_INTERNAL, "libmicrohttpd did not start");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    server->epoll_fd = info != NULL ? info->epoll_fd : -1;
    return server->epoll_fd >= 0 ? QD_OK
                                 : qd_fail(err, QD_INTERNAL, "libmicrohttpd has no epoll");
}

enum qd_code api_server_new(const struct api_server_settings *settings, struct api_server **ret,
                            struct qd_error *err)
{
    struct api_server *server = calloc(1, sizeof(*server));
    int fd = -1;
    if (server == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the server");
    }
    server->settings = *settings;
    server->epoll_fd = -1;
    enum qd_code code = QD_OK;
    if (settings->n_tables > API_TABLES_MAX || settings->body_rate_min == 0) {
        code = qd_fail(err, QD_INTERNAL, "%zu route tables, minimum rate %u", settings->n_tables,
                       settings->body_rate_min);
    }
    for (size_t i = 0; code == QD_OK && i < settings->n_tables; i++) {
        server->tables[i] = settings->tables[i];
    }
    code = code == QD_OK ? listen_on(server, &fd, err) : code;
    code = code == QD_OK ? start_mhd(server, fd, err) : code;
    if (code != QD_OK) {
        api_server_free(server);
        return code;
    }
    *ret = server;
    return QD_OK;
}

void api_server_free(struct api_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->mhd != NULL) {
        server->stopping = true;
        server->draining = true;
        /* libmicrohttpd aborts the process when it is stopped with a suspended connection. */
        api_server_wake_all(server);
        (void)MHD_run(server->mhd);
        MHD_stop_daemon(server->mhd);
    }
    free(server);
}

int64_t api_server_run(struct api_server *server)
{
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    (void)MHD_run(server->mhd);
    if (MHD_get_timeout(server->mhd, &timeout) != MHD_YES) {
        return -1;
    }
    return timeout > 3600000 ? 3600000 : (int64_t)timeout;
}

void api_server_tick(struct api_server *server)
{
    int64_t now = clock_us() / 1000;
    for (struct api_connection *c = server->connections; c != NULL; c = c->next) {
        struct api_request *request = c->request;
        if (request != NULL && request->suspended) {
            if (c->wake_ms != 0 && now >= c->wake_ms) {
                wake(request);
            }
        } else if (c->deadline_ms != 0 && now >= c->deadline_ms && !c->doomed) {
            /* Reading and writing fail from now on; libmicrohttpd then closes it itself. */
            (void)shutdown(c->fd, SHUT_RDWR);
            c->doomed = true;
            server->counters.slow_closed++;
        }
    }
}

void api_server_drain(struct api_server *server)
{
    if (!server->draining) {
        server->draining = true;
        int fd = MHD_quiesce_daemon(server->mhd);
        if (fd >= 0) {
            (void)close(fd);
        }
        api_server_wake_all(server);
    }
}

bool api_server_is_draining(const struct api_server *server)
{
    return server->draining;
}

unsigned api_server_in_flight(const struct api_server *server)
{
    return server->counters.in_flight;
}

int api_server_fd(const struct api_server *server)
{
    return server->epoll_fd;
}

unsigned api_server_port(const struct api_server *server)
{
    return server->port;
}

const char *api_server_url(const struct api_server *server)
{
    return server->url;
}

void *api_server_app(const struct api_server *server)
{
    return server->settings.app;
}

const struct api_server_settings *api_server_settings_of(const struct api_server *server)
{
    return &server->settings;
}

const struct api_server_counters *api_server_counters_of(const struct api_server *server)
{
    return &server->counters;
}
