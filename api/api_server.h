/* The HTTP server: libmicrohttpd in external epoll mode, driven by its owner's event loop.
 *
 * All functions are called on one thread, from the top level of that loop and never from a
 * handler, api_server_wake excepted. The owner watches api_server_fd() for reading, calls
 * api_server_run() when it is readable or when the time that the last call returned is over
 * (libmicrohttpd's inner epoll is edge-triggered: without the timer an upload stalls), and
 * api_server_tick() about once a second. SIGPIPE must be ignored by the process. */
#ifndef API_SERVER_H
#define API_SERVER_H

#include "api/api_request.h"

#define API_TABLES_MAX 16

struct api_server;

/* One finished request, for the log. */
struct api_access {
    const char *request_id, *traceparent, *method, *path, *route, *client;
    int status; /* 0: the connection ended before an answer */
    uint64_t received, sent;
    double seconds;
    const struct qd_error *error; /* of a 5xx answer; NULL otherwise */
};

/* A condition of /readyz. Writes a short reason to `ret_detail` and returns whether it is met. */
struct api_check {
    const char *name;
    bool (*fn)(void *context, char *ret_detail, size_t size);
    void *context;
};

struct api_server_settings {
    const char *host; /* numeric IPv4 or IPv6 address */
    unsigned port;    /* 0: a free one */
    const char *hosts; /* see api_host_is_known; borrowed; NULL: any */
    unsigned connections_max;
    unsigned idle_timeout_s;   /* of a connection without a byte in either direction */
    unsigned header_timeout_s; /* from the connection's birth, or the last answer, to the end of
                                  the headers */
    unsigned body_rate_min;    /* bytes a second that an upload must keep up with after 30 s */
    unsigned heartbeat_s;      /* silence after which an event stream gets a comment; 0: 15 */
    const struct api_route_table *tables; /* at most API_TABLES_MAX, copied; routes borrowed */
    size_t n_tables;
    const struct api_check *checks;
    size_t n_checks;
    void (*on_access)(void *context, const struct api_access *access);
    void (*on_message)(void *context, const char *message); /* libmicrohttpd's complaints */
    void *context; /* of both */
    void *app;     /* what handlers find with api_server_app */
};

QD_MUST_CHECK enum qd_code api_server_new(const struct api_server_settings *settings,
                                          struct api_server **ret, struct qd_error *err);
/* Wakes and ends every request, closes every connection. Takes NULL. */
void api_server_free(struct api_server *server);

int api_server_fd(const struct api_server *server);
unsigned api_server_port(const struct api_server *server);
const char *api_server_url(const struct api_server *server); /* "http://127.0.0.1:8080" */
void *api_server_app(const struct api_server *server);
const struct api_server_settings *api_server_settings_of(const struct api_server *server);

/* Do what can be done; returns the milliseconds until it is to be called again, -1: only when
 * the descriptor is readable. */
int64_t api_server_run(struct api_server *server);
/* Shut connections that are too slow, wake long polls whose time is up. */
void api_server_tick(struct api_server *server);

/* Accept no further connection, answer with Connection: close, fail /readyz. */
void api_server_drain(struct api_server *server);
bool api_server_is_draining(const struct api_server *server);
/* Requests that have begun and not ended. */
unsigned api_server_in_flight(const struct api_server *server);

/* From a handler: do not answer yet. The route's `handle` is called again after
 * api_server_wake, after timeout_ms, or when the server stops. */
void api_server_suspend(struct api_request *request, int64_t timeout_ms);
/* Wake one request, if it is suspended, or all; takes effect in the next api_server_run. */
void api_server_wake(struct api_request *request);
void api_server_wake_all(struct api_server *server);

/* Answer 200 with a body that `read` makes; the length is not known before. The client has 30 s
 * to take what read has made. read ends the stream when the server is draining.
 * 503 above the number of streams that may be open: half of connections_max, at most 128. */
QD_MUST_CHECK enum qd_code api_server_stream(struct api_request *request, const char *type,
                                             api_reader *read, struct qd_error *err);

struct api_server_counters {
    uint64_t connections, requests, slow_closed, received, sent;
    unsigned open_connections, in_flight, suspended, streams;
    unsigned submissions; /* begun and not ended: no row names their blobs yet */
    uint64_t by_status[6]; /* [2]: 2xx; [0]: no answer */
    double seconds_sum;
    uint64_t seconds_buckets[8]; /* cumulative, bounds in api_server_bucket_bounds */
};
extern const double api_server_bucket_bounds[8];
/* +1 when one begins, -1 when it has ended. */
void api_server_count_submission(struct api_server *server, int by);
const struct api_server_counters *api_server_counters_of(const struct api_server *server);

#endif
