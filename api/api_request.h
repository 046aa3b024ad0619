/* What the server knows about one request while it is being answered. */
#ifndef API_REQUEST_H
#define API_REQUEST_H

#include "api/api_route.h"
#include "quantcore/base/qd_arena.h"

#define API_QUERY_MAX       32
#define API_FIELD_ERRORS_MAX 16
#define API_REQUEST_MEMORY  (32u << 20) /* limit of a request's arena, bytes */

struct MHD_Connection;
struct api_server;
struct api_connection;

/* Makes the body of a stream while it is sent: writes 1 to `size` bytes to `ret` and returns their
 * number, or suspends the request and returns 0, or returns API_STREAM_END. */
typedef ptrdiff_t api_reader(struct api_request *request, char *ret, size_t size);
#define API_STREAM_END (-1)

struct api_query {
    const char *name, *value; /* decoded; value "" for "?name" */
};

/* One entry of the `errors` list of a problem document. */
struct api_field_error {
    const char *pointer, *detail;
};

struct api_request {
    struct api_server *server;
    struct api_connection *on;
    struct MHD_Connection *connection;
    const struct api_route *route; /* NULL until found */
    const char *method;            /* as sent */
    const char *raw_path;          /* as sent, without the query */
    struct api_path path;
    struct api_query query[API_QUERY_MAX];
    size_t n_query;
    struct qd_arena arena; /* lives as long as the request */
    char id[65];           /* X-Request-Id: the client's when it is well formed, else ours */
    char traceparent[56];  /* "" when none or malformed */
    uint64_t body_size;    /* Content-Length, UINT64_MAX when chunked, 0 when none */
    uint64_t received;     /* bytes of the body seen */
    char *body;            /* API_BODY_MEMORY: received bytes, NUL added */
    api_reader *reader;    /* of a stream, NULL otherwise */
    void *state;           /* the handlers' own; route->done frees it */
    bool body_pending;     /* until its end has come */
    bool began, answered, close, suspended;
    bool lingers;          /* answered in the middle of its body, whose rest is thrown away */
    int64_t linger_until_ms;
    uint64_t linger_bytes;
    uint64_t resumes;      /* how often it was suspended and woken */
    int status;            /* of the answer; a handler may preset it with api_request_fail */
    const char *problem_code; /* overrides the name of the error code in the problem */
    uint64_t sent_size;
    int64_t started_us;
    struct qd_error failure; /* an error met while the body arrived; told when it has ended */
    struct api_field_error errors[API_FIELD_ERRORS_MAX];
    size_t n_errors;
    struct {
        const char *name; /* NULL: none */
        char value[96];
    } problem_header; /* goes with the status of a problem: Allow, Retry-After, Content-Range */
};

/* The client's header of this name (any case); NULL when absent. */
const char *api_request_header(const struct api_request *request, const char *name);
/* "{name}" of the route's pattern; never NULL for a name that the pattern has. */
const char *api_request_param(const struct api_request *request, const char *name);
/* Query parameter; NULL when absent. */
const char *api_request_query(const struct api_request *request, const char *name);
/* Boolean parameter: absent false, "" or "true" or "1" true, "false" or "0" false. */
QD_MUST_CHECK enum qd_code api_request_flag(const struct api_request *request, const char *name,
                                            bool *ret, struct qd_error *err);
/* Whole number within [low, high]; absent gives `absent`. */
QD_MUST_CHECK enum qd_code api_request_int(const struct api_request *request, const char *name,
                                           int64_t low, int64_t high, int64_t absent,
                                           int64_t *ret, struct qd_error *err);

/* A time of RFC 3339 with 0 to 9 digits of fraction, as ms since the Unix epoch. QD_INVALID for
 * other forms, dates that no month has, and times before 1970. */
QD_MUST_CHECK enum qd_code api_time_parse(const char *text, int64_t *ret_ms,
                                          struct qd_error *err);
/* The same of a query parameter; absent gives 0. */
QD_MUST_CHECK enum qd_code api_request_time(const struct api_request *request, const char *name,
                                            int64_t *ret_ms, struct qd_error *err);

/* Add to the `errors` list of the problem; strings are copied; the list is capped. */
void api_request_error(struct api_request *request, const char *pointer, const char *detail);
/* Set the header that the problem's status wants. `name` is a literal, `value` is copied. */
void api_request_problem_header(struct api_request *request, const char *name,
                                const char *value);
/* Fail with a status other than the one that the code has, and a `code` of its own (a literal,
 * NULL: the code's name): 415 unsupported_media_type, 412 precondition_failed ... */
enum qd_code api_request_fail(struct api_request *request, struct qd_error *err, int status,
                              const char *problem_code, enum qd_code code, const char *format,
                              ...) QD_PRINTF(6, 7);

/* Used by api_server: fill ids, path and query from the request line and headers. */
void api_request_identify(struct api_request *request);
QD_MUST_CHECK enum qd_code api_request_parse_path(struct api_request *request,
                                                  struct qd_error *err);
/* Refuses parameters that the route does not take, and repeated ones. */
QD_MUST_CHECK enum qd_code api_request_parse_query(struct api_request *request,
                                                   struct qd_error *err);
/* Does an Origin header name this Host header's authority? */
bool api_origin_is_host(const char *origin, const char *host);
/* Is the name in a Host header (a port may follow) one that no stranger can point at this machine:
 * an IP address, a name without a dot or below .localhost, or one of `names` (separated by
 * spaces; "*" is any)? */
bool api_host_is_known(const char *host, const char *names);
/* A page of another site can make a browser send POST, PUT, DELETE here, forms with files, too,
 * and this daemon does not ask who is there. 403 when the browser says so (Sec-Fetch-Site) or,
 * when it does not, its Origin is not this Host. Programs send neither header. A site may also
 * point its own name here (DNS rebinding), and is the same origin then: 403 for all methods. */
QD_MUST_CHECK enum qd_code api_request_check_origin(struct api_request *request,
                                                    struct qd_error *err);
/* What libmicrohttpd lets through and RFC 9112 does not: repeated Content-Length or Host,
 * Content-Length beside Transfer-Encoding, spaces in names. On failure the connection is to be
 * closed after the answer. */
QD_MUST_CHECK enum qd_code api_request_check_headers(struct api_request *request,
                                                     const char *version, struct qd_error *err);

#endif
