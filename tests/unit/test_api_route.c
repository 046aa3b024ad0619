#include <check.h>
#include <string.h>

#include "api/api_respond.h"
#include "api/api_route.h"

Suite *test_api_route_suite(void);

START_TEST(api_decode__escapes__decoded_once)
{
    char out[64];
    struct qd_error err;
    ck_assert_int_eq(api_decode("a%2Fb%252F%c3%A9", 16, out, &err), QD_OK);
    ck_assert_str_eq(out, "a/b%2F\xc3\xa9");
    ck_assert_int_eq(api_decode("", 0, out, &err), QD_OK);
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(api_decode__bad_bytes__refused)
{
    static const char *const bad[] = {"%",      "%4",        "%zz",          "a%0",     "%00",
                                      "%1f",    "%7f",       "\x01",         "\xff",    "%ff",
                                      "%c0%af", "%ed%a0%80", "%f4%90%80%80", "%e2%82", "\xc3"};
    char out[64];
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        struct qd_error err = {.code = QD_OK};
        ck_assert_msg(api_decode(bad[i], strlen(bad[i]), out, &err) == QD_INVALID, "%s", bad[i]);
        ck_assert(err.message[0] != '\0');
    }
    /* The length ends the text: the second digit of the escape is outside. */
    ck_assert_int_eq(api_decode("%41", 2, out, NULL), QD_INVALID);
}
END_TEST

START_TEST(api_path_split__slashes__segments)
{
    char buffer[128];
    struct api_path path;
    struct qd_error err;
    ck_assert_int_eq(api_path_split("/", buffer, &path, &err), QD_OK);
    ck_assert_uint_eq(path.n, 0);
    ck_assert_int_eq(api_path_split("/v1/a%2Fb", buffer, &path, &err), QD_OK);
    ck_assert_uint_eq(path.n, 2);
    ck_assert_str_eq(path.segments[1], "a/b");
    ck_assert_int_eq(api_path_split("/v1/", buffer, &path, &err), QD_OK);
    ck_assert_uint_eq(path.n, 2);
    ck_assert_str_eq(path.segments[1], "");
    ck_assert_int_eq(api_path_split("v1", buffer, &path, &err), QD_INVALID);
    ck_assert_int_eq(api_path_split("/1/2/3/4/5/6/7/8/9/a/b/c", buffer, &path, &err), QD_OK);
    ck_assert_uint_eq(path.n, API_SEGMENTS_MAX);
    ck_assert_int_eq(api_path_split("/1/2/3/4/5/6/7/8/9/a/b/c/", buffer, &path, &err),
                     QD_LIMIT_EXCEEDED);
    ck_assert_int_eq(api_path_split("/1/2/3/4/5/6/7/8/9/a/b/c/d", buffer, &path, &err),
                     QD_LIMIT_EXCEEDED);
}
END_TEST

static const struct api_route routes[] = {
    {.method = API_GET, .pattern = "/v1/jobs", .query = "limit cursor"},
    {.method = API_POST, .pattern = "/v1/jobs"},
    {.method = API_GET, .pattern = "/v1/jobs/{id}"},
    {.method = API_DELETE, .pattern = "/v1/jobs/{id}/x/{name}"},
    {.method = API_GET, .pattern = "/"},
};
static const struct api_route_table table = {routes, QD_COUNT_OF(routes)};

static enum api_match find(const char *text, enum api_method method, struct api_path *path,
                           const struct api_route **ret, char *allow)
{
    static char buffer[256];
    struct qd_error err;
    ck_assert_int_eq(api_path_split(text, buffer, path, &err), QD_OK);
    return api_route_find(&table, 1, path, method, ret, allow, 64);
}

START_TEST(api_route_find__paths_and_methods__route_or_reason)
{
    const struct api_route *route = NULL;
    struct api_path path;
    char allow[64];
    ck_assert_int_eq(find("/v1/jobs", API_POST, &path, &route, allow), API_MATCH_FOUND);
    ck_assert_ptr_eq(route, &routes[1]);
    ck_assert_str_eq(allow, "GET, HEAD, POST, OPTIONS");
    ck_assert_int_eq(find("/v1/jobs/7", API_GET, &path, &route, allow), API_MATCH_FOUND);
    ck_assert_str_eq(api_route_param(route, &path, "id"), "7");
    ck_assert_ptr_null(api_route_param(route, &path, "name"));
    ck_assert_int_eq(find("/v1/jobs/7/x/n%2Fm", API_DELETE, &path, &route, allow),
                     API_MATCH_FOUND);
    ck_assert_str_eq(api_route_param(route, &path, "name"), "n/m");
    ck_assert_int_eq(find("/v1/jobs/7/x/y", API_GET, &path, &route, allow),
                     API_MATCH_NO_METHOD);
    ck_assert_str_eq(allow, "DELETE, OPTIONS");
    ck_assert_int_eq(find("/", API_GET, &path, &route, allow), API_MATCH_FOUND);
    ck_assert_int_eq(find("/v1/jobs/", API_GET, &path, &route, allow), API_MATCH_NO_PATH);
    ck_assert_int_eq(find("/v1//7", API_GET, &path, &route, allow), API_MATCH_NO_PATH);
    ck_assert_int_eq(find("/v1/job", API_GET, &path, &route, allow), API_MATCH_NO_PATH);
    ck_assert_int_eq(find("/v1%2Fjobs", API_GET, &path, &route, allow), API_MATCH_NO_PATH);
    ck_assert_int_eq(find("/v1/jobs", API_METHOD_COUNT, &path, &route, allow),
                     API_MATCH_NO_METHOD);
}
END_TEST

START_TEST(api_route_takes_query__names__whole_words)
{
    ck_assert(api_route_takes_query(&routes[0], "limit"));
    ck_assert(api_route_takes_query(&routes[0], "cursor"));
    ck_assert(!api_route_takes_query(&routes[0], "lim"));
    ck_assert(!api_route_takes_query(&routes[0], ""));
    ck_assert(!api_route_takes_query(&routes[0], "limit cursor"));
    ck_assert(!api_route_takes_query(&routes[1], "limit"));
}
END_TEST

START_TEST(api_method_from_name__names__method)
{
    ck_assert_int_eq(api_method_from_name("HEAD"), API_GET);
    ck_assert_int_eq(api_method_from_name("PATCH"), API_PATCH);
    ck_assert_int_eq(api_method_from_name("get"), API_METHOD_COUNT);
}
END_TEST

START_TEST(api_text_clean__bad_bytes__question_marks)
{
    char text[] = "a\xff\xc3\xa9\xc3z";
    api_text_clean(text);
    ck_assert_str_eq(text, "a?\xc3\xa9?z");
}
END_TEST

START_TEST(api_range_parse__headers__ranges)
{
    static const struct {
        const char *text;
        uint64_t size;
        enum api_range want;
        uint64_t first, length;
    } rows[] = {
        {"bytes=0-0", 10, API_RANGE_PART, 0, 1},
        {"bytes=2-", 10, API_RANGE_PART, 2, 8},
        {"bytes=2-99", 10, API_RANGE_PART, 2, 8},
        {"bytes=9-18446744073709551615", 10, API_RANGE_PART, 9, 1},
        {"bytes=-3", 10, API_RANGE_PART, 7, 3},
        {"bytes=-30", 10, API_RANGE_PART, 0, 10},
        {"bytes=-0", 10, API_RANGE_NOT_SATISFIABLE, 0, 0},
        {"bytes=10-", 10, API_RANGE_NOT_SATISFIABLE, 0, 0},
        {"bytes=0-", 0, API_RANGE_NOT_SATISFIABLE, 0, 0},
        {"bytes=-1", 0, API_RANGE_NOT_SATISFIABLE, 0, 0},
        {"bytes=5-4", 10, API_RANGE_WHOLE, 0, 0},
        {"bytes=-", 10, API_RANGE_WHOLE, 0, 0},
        {"bytes=", 10, API_RANGE_WHOLE, 0, 0},
        {"bytes=0-1,4-5", 10, API_RANGE_WHOLE, 0, 0},
        {"bytes=99999999999999999999-", 10, API_RANGE_WHOLE, 0, 0},
        {"lines=0-1", 10, API_RANGE_WHOLE, 0, 0},
        {NULL, 10, API_RANGE_WHOLE, 0, 0},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        uint64_t first = 0, length = 0;
        enum api_range got = api_range_parse(rows[i].text, rows[i].size, &first, &length);
        ck_assert_msg(got == rows[i].want, "%s: %d", rows[i].text, (int)got);
        ck_assert_uint_eq(first, rows[i].first);
        ck_assert_uint_eq(length, rows[i].length);
    }
}
END_TEST

START_TEST(api_etag_matches__lists__strong_and_weak)
{
    ck_assert(api_etag_matches("\"a\"", "\"a\"", false));
    ck_assert(api_etag_matches("\"b\", \"a\"", "\"a\"", false));
    ck_assert(api_etag_matches("*", "\"a\"", false));
    ck_assert(api_etag_matches("W/\"a\"", "\"a\"", true));
    ck_assert(!api_etag_matches("W/\"a\"", "\"a\"", false));
    ck_assert(!api_etag_matches("\"ab\"", "\"a\"", true));
    ck_assert(!api_etag_matches("a", "\"a\"", true));
    ck_assert(!api_etag_matches("\"a", "\"a\"", true));
    ck_assert(!api_etag_matches("", "\"a\"", true));
    ck_assert(!api_etag_matches(" , ", "\"a\"", true));
}
END_TEST

START_TEST(api_status_of__every_code__status_with_title)
{
    for (enum qd_code code = QD_INVALID; code < QD_CODE_COUNT; code++) {
        int status = api_status_of(code);
        ck_assert_int_ge(status, 400);
        ck_assert_int_lt(status, 600);
        ck_assert_str_ne(api_status_title(status), "Error");
    }
    ck_assert_int_eq(api_status_of(QD_NO_SPACE), 507);
    ck_assert_int_eq(api_status_of(QD_UNSUPPORTED), 422);
}
END_TEST

Suite *test_api_route_suite(void)
{
    Suite *suite = suite_create("test_api_route");
    TCase *tests = tcase_create("all");
    tcase_add_test(tests, api_decode__escapes__decoded_once);
    tcase_add_test(tests, api_decode__bad_bytes__refused);
    tcase_add_test(tests, api_path_split__slashes__segments);
    tcase_add_test(tests, api_route_find__paths_and_methods__route_or_reason);
    tcase_add_test(tests, api_route_takes_query__names__whole_words);
    tcase_add_test(tests, api_method_from_name__names__method);
    tcase_add_test(tests, api_text_clean__bad_bytes__question_marks);
    tcase_add_test(tests, api_range_parse__headers__ranges);
    tcase_add_test(tests, api_etag_matches__lists__strong_and_weak);
    tcase_add_test(tests, api_status_of__every_code__status_with_title);
    suite_add_tcase(suite, tests);
    return suite;
}
