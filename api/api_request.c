#include "api/api_request.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "api/api_server.h"

const char *api_request_header(const struct api_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *api_request_param(const struct api_request *request, const char *name)
{
    return api_route_param(request->route, &request->path, name);
}

const char *api_request_query(const struct api_request *request, const char *name)
{
    for (size_t i = 0; i < request->n_query; i++) {
        if (strcmp(request->query[i].name, name) == 0) {
            return request->query[i].value;
        }
    }
    return NULL;
}

enum qd_code api_request_flag(const struct api_request *request, const char *name, bool *ret,
                              struct qd_error *err)
{
    const char *value = api_request_query(request, name);
    if (value == NULL || strcmp(value, "false") == 0 || strcmp(value, "0") == 0) {
        *ret = false;
    } else if (value[0] == '\0' || strcmp(value, "true") == 0 || strcmp(value, "1") == 0) {
        *ret = true;
    } else {
        return qd_fail_on(err, QD_INVALID, name,
                          "query parameter '%s' is '%s', not true or false", name, value);
    }
    return QD_OK;
}

enum qd_code api_request_int(const struct api_request *request, const char *name, int64_t low,
                             int64_t high, int64_t absent, int64_t *ret, struct qd_error *err)
{
    const char *value = api_request_query(request, name);
    if (value == NULL) {
        *ret = absent;
        return QD_OK;
    }
    char *end = NULL;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (value[0] == '\0' || value[0] == ' ' || value[0] == '+' || *end != '\0' || errno != 0 ||
        number < low || number > high) {
        return qd_fail_on(err, QD_INVALID, name,
                          "query parameter '%s' is '%s', not a whole number from %lld to %lld",
                          name, value, (long long)low, (long long)high);
    }
    *ret = number;
    return QD_OK;
}

/* "+02:00", "-00:30" or "Z" at the end: minutes east. */
static bool parse_zone(const char *text, int *ret_minutes)
{
    int hours = 0, minutes = 0, end = 0;
    if ((text[0] == 'Z' || text[0] == 'z') && text[1] == '\0') {
        *ret_minutes = 0;
        return true;
    }
    bool shape = (text[0] == '+' || text[0] == '-') && strlen(text) == 6 &&
                 strspn(text + 1, "0123456789") == 2 && text[3] == ':' &&
                 strspn(text + 4, "0123456789") == 2;
    if (!shape || sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &end) != 2 || hours > 23 ||
        minutes > 59) {
        return false;
    }
    *ret_minutes = (text[0] == '-' ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

static bool parse_time(const char *text, int64_t *ret_ms)
{
    static const char shape[] = "0000-00-00T00:00:00";
    struct tm t = {0}, back;
    int zone = 0;
    int64_t ms = 0;
    for (size_t i = 0; shape[i] != '\0'; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        bool same = text[i] == shape[i] || (shape[i] == 'T' && text[i] == 't');
        if (shape[i] == '0' ? !digit : !same) { /* also where the text ends */
            return false;
        }
    }
    if (sscanf(text, "%4d-%2d-%2d%*1[Tt]%2d:%2d:%2d", &t.tm_year, &t.tm_mon, &t.tm_mday,
               &t.tm_hour, &t.tm_min, &t.tm_sec) != 6) {
        return false;
    }
    text += sizeof(shape) - 1;
    if (*text == '.') {
        size_t n = strspn(++text, "0123456789");
        if (n < 1 || n > 9) {
            return false;
        }
        for (size_t i = 0; i < 3; i++) {
            ms = ms * 10 + (i < n ? text[i] - '0' : 0);
        }
        text += n;
    }
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    const struct tm asked = t;
    time_t seconds = timegm(&t);
    if (!parse_zone(text, &zone) || gmtime_r(&seconds, &back) == NULL ||
        back.tm_mon != asked.tm_mon || back.tm_mday != asked.tm_mday ||
        back.tm_hour != asked.tm_hour || back.tm_min != asked.tm_min ||
        back.tm_sec != asked.tm_sec) {
        return false; /* 31 April became 1 May, 24:00 the next day */
    }
    *ret_ms = ((int64_t)seconds - 60LL * zone) * 1000 + ms;
    return *ret_ms >= 0;
}

enum qd_code api_time_parse(const char *text, int64_t *ret_ms, struct qd_error *err)
{
    int64_t ms = 0;
    if (!parse_time(text, &ms)) {
        return qd_fail(err, QD_INVALID,
                       "'%.100s' is not a time such as 2026-01-31T12:00:00Z since 1970", text);
    }
    *ret_ms = ms;
    return QD_OK;
}

enum qd_code api_request_time(const struct api_request *request, const char *name,
                              int64_t *ret_ms, struct qd_error *err)
{
    const char *value = api_request_query(request, name);
    if (value == NULL) {
        *ret_ms = 0;
        return QD_OK;
    }
    enum qd_code code = api_time_parse(value, ret_ms, err);
    return code == QD_OK ? QD_OK : qd_wrap(err, code, "query parameter '%s'", name);
}

void api_request_error(struct api_request *request, const char *pointer, const char *detail)
{
    struct api_field_error entry;
    if (request->n_errors < API_FIELD_ERRORS_MAX &&
        qd_arena_string(&request->arena, pointer, strlen(pointer), &entry.pointer, NULL) ==
            QD_OK &&
        qd_arena_string(&request->arena, detail, strlen(detail), &entry.detail, NULL) == QD_OK) {
        request->errors[request->n_errors++] = entry;
    }
}

void api_request_problem_header(struct api_request *request, const char *name, const char *value)
{
    request->problem_header.name = name;
    (void)snprintf(request->problem_header.value, sizeof(request->problem_header.value), "%s",
                   value);
}

enum qd_code api_request_fail(struct api_request *request, struct qd_error *err, int status,
                              const char *problem_code, enum qd_code code, const char *format,
                              ...)
{
    char text[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    request->status = status;
    request->problem_code = problem_code;
    return qd_fail(err, code, "%s", text);
}

static bool is_request_id(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n <= 64 && text[n] == '\0';
}

/* W3C trace context, version 00: 00-<32 hex>-<16 hex>-<2 hex>, lower case. */
static bool is_traceparent(const char *text)
{
    static const char shape[] = "00-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    if (strlen(text) != sizeof(shape) - 1) {
        return false;
    }
    for (size_t i = 0; shape[i] != '\0'; i++) {
        bool hex = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        if (shape[i] == 'x' ? !hex : text[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

void api_request_identify(struct api_request *request)
{
    const char *id = api_request_header(request, "X-Request-Id");
    if (id != NULL && is_request_id(id)) {
        (void)snprintf(request->id, sizeof(request->id), "%s", id);
    } else {
        static uint64_t fallback; /* getrandom of 16 bytes fails only before the pool is ready */
        unsigned char bytes[16] = {0};
        if (getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != (ssize_t)sizeof(bytes)) {
            fallback++;
            memcpy(bytes, &fallback, sizeof(fallback));
        }
        for (size_t i = 0; i < sizeof(bytes); i++) {
            (void)snprintf(request->id + 2 * i, 3, "%02x", bytes[i]);
        }
    }
    const char *trace = api_request_header(request, "traceparent");
    if (trace != NULL && is_traceparent(trace)) {
        (void)snprintf(request->traceparent, sizeof(request->traceparent), "%s", trace);
    }
}

enum qd_code api_request_parse_path(struct api_request *request, struct qd_error *err)
{
    char *buffer;
    QD_TRY(qd_arena_alloc(&request->arena, strlen(request->raw_path) + 1, &buffer, err));
    return api_path_split(request->raw_path, buffer, &request->path, err);
}

struct query_walk {
    struct api_request *request;
    struct qd_error *err;
    enum qd_code code;
};

static enum qd_code add_query(struct api_request *request, const char *raw_name,
                              const char *raw_value, struct qd_error *err)
{
    char *name, *value;
    size_t name_length = strlen(raw_name);
    size_t value_length = raw_value != NULL ? strlen(raw_value) : 0;
    if (request->n_query == API_QUERY_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "more than %d query parameters", API_QUERY_MAX);
    }
    QD_TRY(qd_arena_alloc(&request->arena, name_length + 1, &name, err));
    QD_TRY(qd_arena_alloc(&request->arena, value_length + 1, &value, err));
    QD_TRY(api_decode(raw_name, name_length, name, err));
    QD_TRY(api_decode(raw_value != NULL ? raw_value : "", value_length, value, err));
    if (!api_route_takes_query(request->route, name)) {
        api_request_error(request, name, "unknown query parameter");
        return qd_fail_on(err, QD_INVALID, name, "unknown query parameter '%s'; known here: %s",
                          name, request->route->query != NULL ? request->route->query : "none");
    }
    if (api_request_query(request, name) != NULL) {
        return qd_fail_on(err, QD_INVALID, name, "query parameter '%s' is given twice", name);
    }
    request->query[request->n_query++] = (struct api_query){name, value};
    return QD_OK;
}

static enum MHD_Result on_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                const char *value)
{
    struct query_walk *walk = cls;
    (void)kind;
    if (name[0] == '\0' && value == NULL) {
        return MHD_YES; /* "?" or "a=1&&b=2" */
    }
    walk->code = add_query(walk->request, name, value, walk->err);
    return walk->code == QD_OK ? MHD_YES : MHD_NO;
}

enum qd_code api_request_parse_query(struct api_request *request, struct qd_error *err)
{
    struct query_walk walk = {.request = request, .err = err, .code = QD_OK};
    (void)MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, on_query, &walk);
    return walk.code;
}

struct header_walk {
    unsigned lengths, encodings, hosts;
    size_t bytes;
    bool bad_name, chunked, bad_length;
    uint64_t length;
};

static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                 size_t name_size, const char *value, size_t value_size)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    struct header_walk *walk = cls;
    (void)kind;
    walk->bytes += name_size + value_size + 4;
    walk->bad_name |= name_size == 0 || strspn(name, token) != name_size;
    if (strncasecmp(name, "Content-Length", 14) == 0 && name_size == 14) {
        walk->lengths++;
        uint64_t number = 0;
        walk->bad_length |= value_size == 0;
        for (size_t i = 0; i < value_size; i++) {
            unsigned digit = (unsigned)(value[i] - '0');
            walk->bad_length |= digit > 9 || __builtin_mul_overflow(number, 10u, &number) ||
                                __builtin_add_overflow(number, digit, &number);
        }
        walk->length = number;
    } else if (strncasecmp(name, "Transfer-Encoding", 17) == 0 && name_size == 17) {
        walk->encodings++;
        walk->chunked = value != NULL && strcasecmp(value, "chunked") == 0;
    } else if (strncasecmp(name, "Host", 4) == 0 && name_size == 4) {
        walk->hosts++;
    }
    return MHD_YES;
}

enum qd_code api_request_check_headers(struct api_request *request, const char *version,
                                       struct qd_error *err)
{
    struct header_walk walk = {.lengths = 0};
    (void)MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, on_header, &walk);
    const char *problem = walk.bad_name        ? "a header name is empty or has a character that"
                                                 " is not a token, such as a space before ':'"
                          : walk.lengths > 1   ? "Content-Length is given more than once"
                          : walk.encodings > 1 ? "Transfer-Encoding is given more than once"
                          : walk.lengths > 0 && walk.encodings > 0
                              ? "Content-Length and Transfer-Encoding are both given"
                          : walk.bad_length ? "Content-Length is not a number of bytes"
                          : walk.encodings > 0 && !walk.chunked
                              ? "Transfer-Encoding is something other than chunked"
                          : walk.hosts > 1 ? "Host is given more than once"
                          : walk.hosts == 0 && strcmp(version, "HTTP/1.1") == 0
                              ? "Host is missing"
                              : NULL;
    if (problem != NULL) {
        return qd_fail(err, QD_INVALID, "%s", problem);
    }
    if (walk.bytes > 16384) {
        return api_request_fail(request, err, 431, "header_fields_too_large", QD_LIMIT_EXCEEDED,
                                "the header fields are %zu bytes, the limit is 16384",
                                walk.bytes);
    }
    request->body_size = walk.encodings > 0 ? UINT64_MAX : walk.length;
    return QD_OK;
}

/* Is `origin` the scheme and authority that `host` names? Ports 80 and 443 may be left out. */
bool api_origin_is_host(const char *origin, const char *host)
{
    static const struct {
        const char *scheme, *port;
    } schemes[] = {{"http://", ":80"}, {"https://", ":443"}};
    for (size_t i = 0; i < QD_COUNT_OF(schemes); i++) {
        size_t n = strlen(schemes[i].scheme), length = strlen(host);
        size_t port = strlen(schemes[i].port);
        if (length > port && strcmp(host + length - port, schemes[i].port) == 0) {
            length -= port;
        }
        if (strncasecmp(origin, schemes[i].scheme, n) == 0 && length > 0 &&
            strncasecmp(origin + n, host, length) == 0 &&
            (origin[n + length] == '\0' || strcmp(origin + n + length, schemes[i].port) == 0)) {
            return true;
        }
    }
    return false;
}

static bool in_list(const char *name, size_t length, const char *names)
{
    for (const char *at = names + strspn(names, " "); *at != '\0'; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if ((n == 1 && *at == '*') || (n == length && strncasecmp(at, name, n) == 0)) {
            return true;
        }
        at += n;
    }
    return false;
}

bool api_host_is_known(const char *host, const char *names)
{
    static const char below[] = ".localhost";
    const size_t n_below = sizeof(below) - 1;
    size_t n = strcspn(host, ":"), last = 0; /* "[::1]": no name */
    n -= n > 0 && host[n - 1] == '.' ? 1 : 0;
    const char *dot = memrchr(host, '.', n);
    if (dot == NULL || host[0] == '[') {
        return true;
    }
    /* Whose last label is a number is an IPv4 address, in every browser. */
    last = (size_t)(host + n - (dot + 1));
    return strspn(dot + 1, "0123456789") >= last ||
           (n > n_below && strncasecmp(host + n - n_below, below, n_below) == 0) ||
           in_list(host, n, names);
}

enum qd_code api_request_check_origin(struct api_request *request, struct qd_error *err)
{
    const char *hosts = api_server_settings_of(request->server)->hosts;
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS"};
    const char *site = api_request_header(request, "Sec-Fetch-Site");
    const char *origin = api_request_header(request, "Origin");
    const char *host = api_request_header(request, "Host");
    if (host != NULL && hosts != NULL && !api_host_is_known(host, hosts)) {
        return api_request_fail(request, err, 403, "unknown_host", QD_INVALID,
                                "Host '%.200s' is no name of this daemon: when a proxy passes it "
                                "on, give it to the setting 'hosts'", host);
    }
    for (size_t i = 0; i < QD_COUNT_OF(safe); i++) {
        if (strcmp(request->method, safe[i]) == 0) {
            return QD_OK;
        }
    }
    bool foreign = site != NULL
                       ? strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0
                       : origin != NULL && !api_origin_is_host(origin, host != NULL ? host : "");
    if (foreign) {
        return api_request_fail(request, err, 403, "cross_origin", QD_INVALID,
                                "a page of another site (Origin '%.200s') may not send %.20s",
                                origin != NULL ? origin : "", request->method);
    }
    return QD_OK;
}
