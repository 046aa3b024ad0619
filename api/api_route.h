/* The tables of endpoints: method and path pattern -> handler.
 *
 * A pattern is a path whose segments are text or "{name}"; "{name}" takes one non-empty
 * segment, already percent-decoded once, so a "%2F" inside it is data and never a separator. */
#ifndef API_ROUTE_H
#define API_ROUTE_H

#include <stdio.h>

#include "quantcore/base/qd_error.h"

#define API_SEGMENTS_MAX 12

struct api_request;

enum api_method {
    API_GET = 0,
    API_POST,
    API_PUT,
    API_PATCH,
    API_DELETE,
    API_METHOD_COUNT
};

enum api_body {
    API_BODY_NONE = 0, /* a body is refused with 413 */
    API_BODY_MEMORY,   /* collected in request->body, at most body_max bytes */
    API_BODY_STREAM,   /* given to `data` piece by piece */
    API_BODY_COUNT
};

/* On QD_OK the handler has answered (api_respond.h) or suspended the request; on any other
 * code the server answers with the problem document made of err. */
typedef enum qd_code api_handler(struct api_request *request, struct qd_error *err);

struct api_route {
    enum api_method method;
    const char *pattern;
    const char *query;   /* names of the query parameters it takes, space separated; NULL: none */
    enum api_body body;
    uint64_t body_max;   /* bytes; checked at the headers and again while reading */
    api_handler *begin;  /* headers are there, the body is not; answering here refuses the body */
    enum qd_code (*data)(struct api_request *request, const char *bytes, size_t size,
                         struct qd_error *err);
    api_handler *handle; /* the body is complete */
    void (*done)(struct api_request *request); /* request->state is to be freed */
};

struct api_route_table {
    const struct api_route *routes;
    size_t n;
};

/* A path cut into decoded segments; storage is the caller's buffer. */
struct api_path {
    const char *segments[API_SEGMENTS_MAX];
    size_t n;
};

enum api_match {
    API_MATCH_FOUND = 0,
    API_MATCH_NO_PATH,   /* 404 */
    API_MATCH_NO_METHOD, /* 405: the path exists with other methods */
    API_MATCH_COUNT
};

/* GET for both "GET" and "HEAD"; API_METHOD_COUNT for a method that no route can have. */
enum api_method api_method_from_name(const char *name);
const char *api_method_name(enum api_method method);

/* Decode %XX once; refuses broken escapes, NUL, control characters and bytes that are not
 * UTF-8. `ret` holds at least strlen(text) + 1 bytes. QD_INVALID. */
QD_MUST_CHECK enum qd_code api_decode(const char *text, size_t length, char *ret,
                                      struct qd_error *err);
/* The inverse, for a segment of a path or a value of a query: bytes other than RFC 3986's
 * unreserved characters become %XX. */
void api_encode(FILE *out, const char *text);
/* Replace every byte that is no part of well-formed UTF-8 by '?': texts that quote a request go
 * into JSON. */
void api_text_clean(char *text);
/* Split "/a/b%20c" at its slashes and decode each segment once. `buffer` has at least
 * strlen(path) + 1 bytes. QD_INVALID, QD_LIMIT_EXCEEDED. */
QD_MUST_CHECK enum qd_code api_path_split(const char *path, char *buffer, struct api_path *ret,
                                          struct qd_error *err);

/* The first route with this path and method. `allow` gets the methods of the path ("GET, HEAD,
 * OPTIONS") unless no route has it. */
enum api_match api_route_find(const struct api_route_table *tables, size_t n_tables,
                              const struct api_path *path, enum api_method method,
                              const struct api_route **ret, char *allow, size_t allow_size);
/* The segment of `path` at "{name}" in the pattern of the route; NULL when there is none. */
const char *api_route_param(const struct api_route *route, const struct api_path *path,
                            const char *name);
/* Is `name` one of the route's query parameters? */
bool api_route_takes_query(const struct api_route *route, const char *name);

#endif
