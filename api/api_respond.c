#include "api/api_respond.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int api_status_of(enum qd_code code)
{
    switch (code) {
    case QD_OK:
        return 200;
    case QD_INVALID:
        return 400;
    case QD_UNSUPPORTED:
        return 422;
    case QD_LIMIT_EXCEEDED:
        return 413;
    case QD_NOT_FOUND:
        return 404;
    case QD_CONFLICT:
    case QD_CANCELED:
        return 409;
    case QD_NO_MEMORY:
    case QD_TIMED_OUT:
        return 503;
    case QD_NO_SPACE:
        return 507;
    case QD_IO:
    case QD_INTERNAL:
    case QD_CODE_COUNT:
        break;
    }
    return 500;
}

const char *api_status_title(int status)
{
    static const struct {
        int status;
        const char *title;
    } rows[] = {
        {400, "Bad request"},
        {401, "Not authenticated"},
        {403, "Not allowed"},
        {404, "Not found"},
        {405, "Method not allowed"},
        {406, "Not acceptable"},
        {408, "Request took too long"},
        {409, "Conflict with the current state"},
        {410, "Gone"},
        {412, "Precondition failed"},
        {413, "Too large"},
        {415, "Unsupported media type"},
        {416, "Range not satisfiable"},
        {422, "Well formed but not acceptable"},
        {428, "Precondition required"},
        {429, "Too many requests"},
        {431, "Header fields too large"},
        {500, "Internal error"},
        {503, "Not available at the moment"},
        {507, "Not enough disk space"},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        if (rows[i].status == status) {
            return rows[i].title;
        }
    }
    return "Error";
}

static bool add_headers(struct api_request *request, struct MHD_Response *response,
                        const struct api_header *headers)
{
    bool ok = MHD_add_response_header(response, "X-Request-Id", request->id) == MHD_YES;
    ok &= MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES;
    if (request->traceparent[0] != '\0') {
        ok &= MHD_add_response_header(response, "traceparent", request->traceparent) == MHD_YES;
    }
    if (request->close) {
        ok &= MHD_add_response_header(response, "Connection", "close") == MHD_YES;
    }
    for (; headers != NULL && headers->name != NULL; headers++) {
        ok &= MHD_add_response_header(response, headers->name, headers->value) == MHD_YES;
    }
    return ok;
}

enum qd_code api_respond_queue(struct api_request *request, int status,
                               struct MHD_Response *response, const struct api_header *headers,
                               struct qd_error *err)
{
    if (response == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the answer");
    }
    bool ok = add_headers(request, response, headers) &&
              MHD_queue_response(request->connection, (unsigned)status, response) == MHD_YES;
    MHD_destroy_response(response);
    if (!ok) {
        return qd_fail(err, QD_INTERNAL, "the answer %d could not be queued", status);
    }
    request->answered = true;
    request->status = status;
    return QD_OK;
}

enum qd_code api_respond_text(struct api_request *request, int status, const char *type,
                              const char *text, size_t size, const struct api_header *headers,
                              struct qd_error *err)
{
    /* libmicrohttpd's copying constructor takes a pointer to writable bytes and writes none. */
    union {
        const char *in;
        void *out;
    } bytes = {.in = text};
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, bytes.out, MHD_RESPMEM_MUST_COPY);
    if (response != NULL && MHD_add_response_header(response, "Content-Type", type) != MHD_YES) {
        MHD_destroy_response(response);
        response = NULL;
    }
    request->sent_size = size;
    return api_respond_queue(request, status, response, headers, err);
}

static enum qd_code respond_json_as(struct api_request *request, int status, const char *type,
                                    json_t *json, const struct api_header *headers,
                                    struct qd_error *err)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (text == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the JSON answer");
    }
    enum qd_code code = api_respond_text(request, status, type, text, strlen(text), headers, err);
    free(text);
    return code;
}

enum qd_code api_respond_json(struct api_request *request, int status, json_t *json,
                              const struct api_header *headers, struct qd_error *err)
{
    return respond_json_as(request, status, "application/json", json, headers, err);
}

/* </v1/jobs?state=failed&cursor=…>; rel="next"; the caller frees it. NULL: no memory. */
static char *next_link(const struct api_request *request, const char *cursor)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    (void)fputc('<', out);
    for (size_t i = 0; i < request->path.n; i++) {
        (void)fputc('/', out);
        api_encode(out, request->path.segments[i]);
    }
    (void)fputc('?', out);
    for (size_t i = 0; i < request->n_query; i++) {
        if (strcmp(request->query[i].name, "cursor") != 0) {
            (void)fprintf(out, "%s=", request->query[i].name);
            api_encode(out, request->query[i].value);
            (void)fputc('&', out);
        }
    }
    (void)fputs("cursor=", out);
    api_encode(out, cursor);
    (void)fputs(">; rel=\"next\"", out);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

enum qd_code api_respond_page(struct api_request *request, json_t *data, const char *cursor,
                              struct qd_error *err)
{
    char *link = cursor != NULL ? next_link(request, cursor) : NULL;
    if (cursor != NULL && link == NULL) {
        json_decref(data);
        return qd_fail(err, QD_NO_MEMORY, "no memory for a link");
    }
    const struct api_header headers[] = {
        {"Cache-Control", "no-store"}, {link != NULL ? "Link" : NULL, link}, {NULL, NULL}};
    json_t *json =
        json_pack("{so, so, sb}", "data", data, "next_cursor",
                  cursor != NULL ? json_string(cursor) : json_null(), "has_more", cursor != NULL);
    enum qd_code code = api_respond_json(request, 200, json, headers, err);
    free(link);
    return code;
}

enum qd_code api_respond_empty(struct api_request *request, int status,
                               const struct api_header *headers, struct qd_error *err)
{
    char nothing[1] = "";
    request->sent_size = 0;
    return api_respond_queue(request, status,
                             MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_MUST_COPY),
                             headers, err);
}

static json_t *field_errors(const struct api_request *request)
{
    json_t *list = json_array();
    for (size_t i = 0; i < request->n_errors; i++) {
        /* An entry that is not UTF-8 gives NULL, which the array does not take. */
        json_array_append_new(list, json_pack("{ss, ss}", "pointer", request->errors[i].pointer,
                                              "detail", request->errors[i].detail));
    }
    return list;
}

static json_t *problem_json(struct api_request *request, const struct qd_error *err,
                            int *ret_status)
{
    bool ours = request->status >= 400;
    int status = ours ? request->status : api_status_of(err->code);
    const char *code =
        request->problem_code != NULL ? request->problem_code : qd_code_name(err->code);
    const char *detail =
        status == 500 ? "the daemon's log says more under this request_id" : err->message;
    char text[sizeof(err->message)];
    (void)snprintf(text, sizeof(text), "%s", detail);
    api_text_clean(text);
    if (err->subject[0] != '\0' && request->n_errors == 0 && status != 500) {
        api_request_error(request, err->subject, text);
    }
    char type[96];
    (void)snprintf(type, sizeof(type), "urn:quantd:problem:%s", code);
    /* Paths are as the client sent them: percent-encoded, thus ASCII, or else left out. */
    json_t *instance = json_string(request->raw_path != NULL ? request->raw_path : "");
    json_t *json = json_pack("{ss, ss, si, ss, so*, ss, ss, so}", "type", type, "title",
                             api_status_title(status), "status", status, "detail", text,
                             "instance", instance, "code", code, "request_id", request->id,
                             "errors", field_errors(request));
    *ret_status = status;
    return json;
}

bool api_respond_problem(struct api_request *request, const struct qd_error *err)
{
    const struct api_header headers[] = {
        {request->problem_header.name, request->problem_header.value}, {NULL, NULL}};
    struct qd_error ignored;
    int status;
    json_t *json = problem_json(request, err, &status);
    return respond_json_as(request, status, "application/problem+json", json, headers,
                           &ignored) == QD_OK;
}

bool api_respond_problem_now(struct api_request *request, int fd, const struct qd_error *err)
{
    char date[48] = "", *text = NULL;
    struct tm utc;
    time_t now = time(NULL);
    size_t size = 0;
    int status;
    json_t *json = problem_json(request, err, &status);
    char *body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    FILE *out = body != NULL ? open_memstream(&text, &size) : NULL;
    if (out == NULL) {
        free(body);
        return false;
    }
    if (gmtime_r(&now, &utc) != NULL) {
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
    }
    (void)fprintf(out,
                  "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\n"
                  "Content-Type: application/problem+json\r\nX-Request-Id: %s\r\n"
                  "X-Content-Type-Options: nosniff\r\n",
                  status, MHD_get_reason_phrase_for((unsigned)status), date, request->id);
    if (request->problem_header.name != NULL) {
        (void)fprintf(out, "%s: %s\r\n", request->problem_header.name,
                      request->problem_header.value);
    }
    (void)fprintf(out, "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    bool ok = fclose(out) == 0;
    /* Nothing was sent on this request before: the socket's buffer takes some hundred bytes. */
    ok = ok && send(fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
    request->answered = ok;
    request->status = status;
    request->sent_size = ok ? strlen(body) : 0;
    free(text);
    free(body);
    return ok;
}

enum api_range api_range_parse(const char *text, uint64_t size, uint64_t *ret_first,
                               uint64_t *ret_length)
{
    uint64_t numbers[2] = {0, 0};
    bool present[2] = {false, false};
    if (text == NULL || strncmp(text, "bytes=", 6) != 0) {
        return API_RANGE_WHOLE;
    }
    const char *at = text + 6;
    for (int i = 0; i < 2; i++) {
        for (; *at >= '0' && *at <= '9'; at++) {
            present[i] = true;
            if (__builtin_mul_overflow(numbers[i], 10u, &numbers[i]) ||
                __builtin_add_overflow(numbers[i], (uint64_t)(*at - '0'), &numbers[i])) {
                return API_RANGE_WHOLE;
            }
        }
        if (*at != (i == 0 ? '-' : '\0')) {
            return API_RANGE_WHOLE;
        }
        at++;
    }
    if ((!present[0] && !present[1]) || (present[0] && present[1] && numbers[1] < numbers[0])) {
        return API_RANGE_WHOLE;
    }
    uint64_t first = numbers[0];
    uint64_t last = present[1] && numbers[1] < size ? numbers[1] : size - 1;
    if (!present[0]) { /* the last n bytes */
        if (numbers[1] == 0) {
            return API_RANGE_NOT_SATISFIABLE;
        }
        first = numbers[1] < size ? size - numbers[1] : 0;
        last = size - 1;
    }
    if (size == 0 || first >= size) {
        return API_RANGE_NOT_SATISFIABLE;
    }
    *ret_first = first;
    *ret_length = last - first + 1;
    return API_RANGE_PART;
}

bool api_etag_matches(const char *list, const char *etag, bool weak)
{
    size_t length = strlen(etag);
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, " \t,");
        if (*at == '*') {
            return true;
        }
        bool is_weak = strncmp(at, "W/", 2) == 0;
        at += is_weak ? 2 : 0;
        if (*at != '"') {
            return false;
        }
        size_t n = strcspn(at + 1, "\"") + 2;
        if ((weak || !is_weak) && n == length && strncmp(at, etag, n) == 0) {
            return true;
        }
        if (strnlen(at, n) < n) {
            return false;
        }
        at += n;
    }
    return false;
}

static struct MHD_Response *content_response(const struct api_content *content, uint64_t first,
                                             uint64_t length)
{
    if (content->data == NULL) {
        return MHD_create_response_from_fd_at_offset64(length, content->fd, first);
    }
    union {
        const unsigned char *in;
        void *out;
    } bytes = {.in = (const unsigned char *)content->data + first};
    return MHD_create_response_from_buffer(length, bytes.out, MHD_RESPMEM_PERSISTENT);
}

/* The headers that every answer about this content has, then those of the caller. */
static bool content_headers(struct MHD_Response *response, const struct api_content *content)
{
    bool ok = MHD_add_response_header(response, "ETag", content->etag) == MHD_YES;
    ok &= MHD_add_response_header(response, "Accept-Ranges", "bytes") == MHD_YES;
    for (const struct api_header *h = content->headers; h != NULL && h->name != NULL; h++) {
        ok &= MHD_add_response_header(response, h->name, h->value) == MHD_YES;
    }
    return ok;
}

enum qd_code api_respond_content(struct api_request *request, const struct api_content *content,
                                 struct qd_error *err)
{
    uint64_t first = 0, length = content->size;
    int status = 200;
    char range_text[80] = "";
    const char *none_match = api_request_header(request, "If-None-Match");
    const char *if_range = api_request_header(request, "If-Range");
    if (none_match != NULL && api_etag_matches(none_match, content->etag, true)) {
        status = 304;
    } else if (strcmp(request->method, "GET") == 0 &&
               (if_range == NULL || api_etag_matches(if_range, content->etag, false))) {
        enum api_range range =
            api_range_parse(api_request_header(request, "Range"), content->size, &first, &length);
        if (range == API_RANGE_NOT_SATISFIABLE) {
            status = 416;
            (void)snprintf(range_text, sizeof(range_text), "bytes */%llu",
                           (unsigned long long)content->size);
        } else if (range == API_RANGE_PART) {
            status = 206;
            (void)snprintf(range_text, sizeof(range_text), "bytes %llu-%llu/%llu",
                           (unsigned long long)first, (unsigned long long)(first + length - 1),
                           (unsigned long long)content->size);
        }
    }
    bool bodiless = status == 304 || status == 416;
    if (bodiless && content->data == NULL) {
        (void)close(content->fd);
    }
    if (status == 416) {
        api_request_problem_header(request, "Content-Range", range_text);
        (void)api_request_fail(request, err, 416, "range_not_satisfiable", QD_INVALID,
                               "range '%s' is outside of %llu bytes",
                               api_request_header(request, "Range"),
                               (unsigned long long)content->size);
        return api_respond_problem(request, err)
                   ? QD_OK
                   : qd_fail(err, QD_NO_MEMORY, "no memory for the answer");
    }
    char nothing[1] = "";
    struct MHD_Response *response =
        bodiless ? MHD_create_response_from_buffer(0, nothing, MHD_RESPMEM_MUST_COPY)
                 : content_response(content, first, length);
    bool ok = response != NULL && content_headers(response, content);
    if (ok && !bodiless) {
        ok = MHD_add_response_header(response, "Content-Type", content->type) == MHD_YES;
    }
    if (ok && status == 206) {
        ok = MHD_add_response_header(response, "Content-Range", range_text) == MHD_YES;
    }
    if (!ok) {
        if (response != NULL) {
            MHD_destroy_response(response);
        } else if (content->data == NULL) {
            (void)close(content->fd);
        }
        return qd_fail(err, QD_NO_MEMORY, "no memory for the answer");
    }
    request->sent_size = bodiless ? 0 : length;
    return api_respond_queue(request, status, response, NULL, err);
}
