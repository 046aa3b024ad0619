#include "api/api_route.h"

#include <stdio.h>
#include <string.h>

#include "quantcore/base/qd_utf8.h"

static const char *const method_names[API_METHOD_COUNT] = {"GET", "POST", "PUT", "PATCH",
                                                           "DELETE"};

enum api_method api_method_from_name(const char *name)
{
    if (strcmp(name, "HEAD") == 0) {
        return API_GET;
    }
    enum api_method method = API_GET;
    while (method < API_METHOD_COUNT && strcmp(name, method_names[method]) != 0) {
        method++;
    }
    return method;
}

const char *api_method_name(enum api_method method)
{
    return method < API_METHOD_COUNT ? method_names[method] : "OTHER";
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

enum qd_code api_decode(const char *text, size_t length, char *ret, struct qd_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            bool whole = length - i > 2;
            int high = whole ? hex_value(text[i + 1]) : -1;
            int low = whole ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return qd_fail(err, QD_INVALID, "broken percent escape at byte %zu of '%.*s'", i,
                               (int)(length < 200 ? length : 200), text);
            }
            c = (unsigned char)(high * 16 + low);
            i += 2;
        }
        if (c < 0x20 || c == 0x7f) {
            return qd_fail(err, QD_INVALID, "control character 0x%02x in '%.*s'", c,
                           (int)(length < 200 ? length : 200), text);
        }
        ret[n++] = (char)c;
    }
    ret[n] = '\0';
    for (size_t i = 0; i < n;) {
        size_t step = qd_utf8_length((const unsigned char *)ret + i, n - i);
        if (step == 0) {
            return qd_fail(err, QD_INVALID, "byte %zu of '%.*s' is not UTF-8 after decoding", i,
                           (int)(length < 200 ? length : 200), text);
        }
        i += step;
    }
    return QD_OK;
}

void api_encode(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", *text) !=
            NULL) {
            (void)fputc(*text, out);
        } else {
            (void)fprintf(out, "%%%02X", (unsigned)(unsigned char)*text);
        }
    }
}

void api_text_clean(char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t step = qd_utf8_length((const unsigned char *)text, left);
        if (step == 0) {
            *text = '?';
            step = 1;
        }
        text += step;
        left -= step;
    }
}

enum qd_code api_path_split(const char *path, char *buffer, struct api_path *ret,
                            struct qd_error *err)
{
    struct api_path out = {.n = 0};
    if (path[0] != '/') {
        return qd_fail(err, QD_INVALID, "the path does not start with '/'");
    }
    const char *at = path + 1;
    while (*at != '\0') {
        size_t length = strcspn(at, "/");
        if (out.n == API_SEGMENTS_MAX) {
            return qd_fail(err, QD_LIMIT_EXCEEDED, "the path has more than %d segments",
                           API_SEGMENTS_MAX);
        }
        QD_TRY(api_decode(at, length, buffer, err));
        out.segments[out.n++] = buffer;
        buffer += strlen(buffer) + 1;
        at += length;
        if (*at == '/') {
            at++;
            if (*at == '\0') { /* "/a/" is not "/a": an empty last segment matches nothing */
                if (out.n == API_SEGMENTS_MAX) {
                    return qd_fail(err, QD_LIMIT_EXCEEDED, "the path has more than %d segments",
                                   API_SEGMENTS_MAX);
                }
                out.segments[out.n++] = "";
            }
        }
    }
    *ret = out;
    return QD_OK;
}

/* Compare a pattern with a path; *ret_index gets the segment of "{name}" when name is given. */
static bool pattern_matches(const char *pattern, const struct api_path *path, const char *name,
                            size_t *ret_index)
{
    const char *at = pattern + 1;
    size_t i = 0;
    while (*at != '\0') {
        size_t length = strcspn(at, "/");
        if (i == path->n || path->segments[i][0] == '\0') {
            return false;
        }
        if (at[0] == '{') {
            if (name != NULL && strlen(name) == length - 2 &&
                strncmp(at + 1, name, length - 2) == 0) {
                *ret_index = i;
            }
        } else if (strlen(path->segments[i]) != length ||
                   memcmp(path->segments[i], at, length) != 0) {
            return false;
        }
        i++;
        at += length;
        at += *at == '/';
    }
    return i == path->n;
}

static void write_allow(unsigned methods, char *allow, size_t size)
{
    size_t used = 0;
    allow[0] = '\0';
    for (enum api_method m = API_GET; m < API_METHOD_COUNT; m++) {
        if ((methods & (1u << m)) != 0 && used < size) {
            int n = snprintf(allow + used, size - used, "%s, %s", method_names[m],
                             m == API_GET ? "HEAD, " : "");
            used += n > 0 ? (size_t)n : 0;
        }
    }
    if (used < size) {
        (void)snprintf(allow + used, size - used, "OPTIONS");
    }
}

enum api_match api_route_find(const struct api_route_table *tables, size_t n_tables,
                              const struct api_path *path, enum api_method method,
                              const struct api_route **ret, char *allow, size_t allow_size)
{
    unsigned methods = 0;
    const struct api_route *found = NULL;
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t r = 0; r < tables[t].n; r++) {
            const struct api_route *route = &tables[t].routes[r];
            if (pattern_matches(route->pattern, path, NULL, NULL)) {
                methods |= 1u << route->method;
                found = found == NULL && route->method == method ? route : found;
            }
        }
    }
    if (methods == 0) {
        return API_MATCH_NO_PATH;
    }
    write_allow(methods, allow, allow_size);
    if (found == NULL) {
        return API_MATCH_NO_METHOD;
    }
    *ret = found;
    return API_MATCH_FOUND;
}

const char *api_route_param(const struct api_route *route, const struct api_path *path,
                            const char *name)
{
    size_t index = API_SEGMENTS_MAX;
    if (!pattern_matches(route->pattern, path, name, &index) || index >= path->n) {
        return NULL;
    }
    return path->segments[index];
}

bool api_route_takes_query(const struct api_route *route, const char *name)
{
    size_t length = strlen(name);
    const char *at = route->query;
    while (at != NULL && *at != '\0') {
        size_t n = strcspn(at, " ");
        if (n == length && memcmp(at, name, n) == 0) {
            return true;
        }
        at += n;
        at += strspn(at, " ");
    }
    return false;
}
