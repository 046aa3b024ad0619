/* Answers: JSON, problem documents (RFC 9457), and immutable content with ETag and ranges.
 *
 * Each function queues one answer on the request; a second one is a bug. What an answer points
 * to is copied unless said otherwise. */
#ifndef API_RESPOND_H
#define API_RESPOND_H

#include <jansson.h>

#include "api/api_request.h"

struct MHD_Response;

/* Name and value of one more header; an array of them ends with a NULL name. */
struct api_header {
    const char *name, *value;
};

/* The one map from error codes to HTTP status. */
int api_status_of(enum qd_code code);
const char *api_status_title(int status);

/* Body made of `json`, whose reference is taken over (also on failure). NULL json: no memory. */
QD_MUST_CHECK enum qd_code api_respond_json(struct api_request *request, int status, json_t *json,
                                            const struct api_header *headers,
                                            struct qd_error *err);
/* A page of a list: {data, next_cursor, has_more} and Link: rel="next" with the request's own
 * query; `data` is taken over. cursor NULL: the last page. */
QD_MUST_CHECK enum qd_code api_respond_page(struct api_request *request, json_t *data,
                                            const char *cursor, struct qd_error *err);
/* Text of `size` bytes with a content type. */
QD_MUST_CHECK enum qd_code api_respond_text(struct api_request *request, int status,
                                            const char *type, const char *text, size_t size,
                                            const struct api_header *headers,
                                            struct qd_error *err);
/* No body: 204, 303, 304 ... */
QD_MUST_CHECK enum qd_code api_respond_empty(struct api_request *request, int status,
                                             const struct api_header *headers,
                                             struct qd_error *err);

/* application/problem+json made of err, request->status (0: api_status_of), problem_code and
 * errors. The text of an internal error stays in the log. Never fails: without memory the
 * connection is closed, and false says so. */
bool api_respond_problem(struct api_request *request, const struct qd_error *err);

/* The same, written to the socket past libmicrohttpd, which takes no answer in the middle of a
 * body. The connection is to be closed afterwards. False: nothing, or not all, could be sent. */
bool api_respond_problem_now(struct api_request *request, int fd, const struct qd_error *err);

/* Bytes that never change under their ETag: embedded files and artifacts. */
struct api_content {
    const void *data;   /* static bytes; NULL: `fd` */
    int fd;             /* taken over, also on failure */
    uint64_t size;
    const char *type;
    const char *etag;   /* with its quotes, strong */
    const struct api_header *headers;
};
/* 200, 206, 304 or 416 by If-None-Match, Range and If-Range (RFC 9110 13, 14). */
QD_MUST_CHECK enum qd_code api_respond_content(struct api_request *request,
                                               const struct api_content *content,
                                               struct qd_error *err);

enum api_range {
    API_RANGE_WHOLE = 0, /* no range, or one that is to be ignored */
    API_RANGE_PART,
    API_RANGE_NOT_SATISFIABLE,
    API_RANGE_COUNT
};
/* One byte range of a Range header ("bytes=0-99", "bytes=100-", "bytes=-5"); several ranges or
 * another unit are ignored, as RFC 9110 allows. `text` may be NULL. */
enum api_range api_range_parse(const char *text, uint64_t size, uint64_t *ret_first,
                               uint64_t *ret_length);
/* Is `etag` in a list of entity tags ("*", W/ prefixes count as equal when weak is set)? */
bool api_etag_matches(const char *list, const char *etag, bool weak);

/* Queue a response made elsewhere; its reference is taken over. */
QD_MUST_CHECK enum qd_code api_respond_queue(struct api_request *request, int status,
                                             struct MHD_Response *response,
                                             const struct api_header *headers,
                                             struct qd_error *err);

#endif
