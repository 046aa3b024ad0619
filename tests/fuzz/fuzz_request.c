/* The pieces of an HTTP request: path, escapes, a byte range, lists of entity tags. The input is
 * a text of lines, one piece each. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_respond.h"
#include "api/api_route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

/* What was decoded is text that JSON can carry, and never longer than what was sent. */
static void check_text(const char *text, size_t longest)
{
    char *copy = strdup(text);
    check(copy != NULL && strlen(text) <= longest);
    api_text_clean(copy);
    check(strcmp(copy, text) == 0);
    for (; *text != '\0'; text++) {
        check((unsigned char)*text >= 0x20 && *text != 0x7f);
    }
    free(copy);
}

static void run_path(const char *line, char *buffer)
{
    static const struct api_route routes[] = {
        {.method = API_GET, .pattern = "/v1/jobs", .query = "limit cursor"},
        {.method = API_DELETE, .pattern = "/v1/jobs/{id}/x/{name}"},
        {.method = API_GET, .pattern = "/"}};
    static const struct api_route_table table = {routes, QD_COUNT_OF(routes)};
    const struct api_route *route = NULL;
    struct qd_error err = {.code = QD_OK};
    struct api_path path;
    char allow[64];
    if (api_path_split(line, buffer, &path, &err) != QD_OK) {
        check(err.message[0] != '\0');
        return;
    }
    check(path.n <= API_SEGMENTS_MAX);
    for (size_t i = 0; i < path.n; i++) {
        check_text(path.segments[i], strlen(line));
    }
    enum api_match match =
        api_route_find(&table, 1, &path, API_DELETE, &route, allow, sizeof(allow));
    check(match != API_MATCH_FOUND || api_route_param(route, &path, "id")[0] != '\0');
    (void)api_route_takes_query(&routes[0], line);
}

static void run_range(const char *line)
{
    static const uint64_t sizes[] = {0, 1, 10, 1000, UINT64_MAX};
    for (size_t i = 0; i < QD_COUNT_OF(sizes); i++) {
        uint64_t first = 0, length = 0;
        if (api_range_parse(line, sizes[i], &first, &length) == API_RANGE_PART) {
            check(length > 0 && first < sizes[i] && length <= sizes[i] - first);
        }
    }
}

static void run_line(const char *line)
{
    size_t n = strlen(line);
    char *buffer = malloc(n + 1); /* exact, for the sanitizer */
    struct qd_error err = {.code = QD_OK};
    check(buffer != NULL);
    if (api_decode(line, n, buffer, &err) == QD_OK) {
        check_text(buffer, n);
    } else {
        check(err.message[0] != '\0');
    }
    run_path(line, buffer);
    run_range(line);
    check(!api_etag_matches(line, "\"a\"", false) || api_etag_matches(line, "\"a\"", true));
    check(api_method_from_name(line) <= API_METHOD_COUNT);
    memcpy(buffer, line, n + 1);
    api_text_clean(buffer);
    check(strlen(buffer) == n);
    free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *rest = text;
    check(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *exact = strdup(line);
        check(exact != NULL);
        run_line(exact);
        free(exact);
    }
    free(text);
    return 0;
}
