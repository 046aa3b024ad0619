#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_events.h"
#include "api/api_request.h"

static char *text;
static size_t size;

static const char *format(int64_t id, const char *type, const char *data)
{
    free(text);
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    api_event_format(out, id, type, data);
    ck_assert_int_eq(fclose(out), 0);
    return text;
}

static void teardown(void)
{
    free(text);
    text = NULL;
}

START_TEST(api_event_format__plain__fields)
{
    ck_assert_str_eq(format(17, "job.phase", "{\"a\":1}"),
                     "id: 17\nevent: job.phase\ndata: {\"a\":1}\n\n");
    ck_assert_str_eq(format(0, "job.progress", "{}"), "event: job.progress\ndata: {}\n\n");
    ck_assert_str_eq(format(INT64_MAX, "x", ""),
                     "id: 9223372036854775807\nevent: x\ndata: \n\n");
}
END_TEST

START_TEST(api_event_format__line_ends__no_event_ends_early)
{
    ck_assert_str_eq(format(1, "a\nid: 9\rb", "one\ntwo\r\nthree\rid: 5"),
                     "id: 1\nevent: a id: 9 b\ndata: one\ndata: two\ndata: three\ndata: id: 5\n\n");
    ck_assert_str_eq(format(1, "a", "\n\nevent: forged"),
                     "id: 1\nevent: a\ndata: \ndata: \ndata: event: forged\n\n");
}
END_TEST

START_TEST(api_event_id_parse__digits__number)
{
    static const struct {
        const char *text;
        int64_t id;
    } good[] = {{"0", 0}, {"7", 7}, {"007", 7}, {"9223372036854775807", INT64_MAX}};
    struct qd_error err;
    for (size_t i = 0; i < QD_COUNT_OF(good); i++) {
        int64_t id = -1;
        ck_assert_int_eq(api_event_id_parse(good[i].text, "after", &id, &err), QD_OK);
        ck_assert_int_eq(id, good[i].id);
    }
}
END_TEST

START_TEST(api_event_id_parse__other_texts__refused_and_named)
{
    static const char *const bad[] = {"",   "-1", "+1", " 1", "1 ", "1x",
                                      "x",  "0x1", "1.0", "9223372036854775808",
                                      "99999999999999999999"};
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        struct qd_error err = {.code = QD_OK};
        int64_t id = -1;
        ck_assert_int_eq(api_event_id_parse(bad[i], "Last-Event-ID", &id, &err), QD_INVALID);
        ck_assert_int_eq(id, -1);
        ck_assert_str_eq(err.subject, "Last-Event-ID");
        ck_assert_ptr_nonnull(strstr(err.message, bad[i]));
    }
}
END_TEST

START_TEST(api_origin_is_host__pairs__same_authority)
{
    static const struct {
        const char *origin, *host;
        bool same;
    } rows[] = {
        {"http://127.0.0.1:8080", "127.0.0.1:8080", true},
        {"http://LOCALHOST:8080", "localhost:8080", true},
        {"http://[::1]:8080", "[::1]:8080", true},
        {"http://quantd", "quantd:80", true},
        {"http://quantd:80", "quantd", true},
        {"https://quantd", "quantd:443", true},
        {"https://quantd.example", "quantd.example", true},
        {"http://127.0.0.1:8081", "127.0.0.1:8080", false},
        {"http://127.0.0.1:80800", "127.0.0.1:8080", false},
        {"http://127.0.0.1:8080.evil", "127.0.0.1:8080", false},
        {"http://evil", "127.0.0.1:8080", false},
        {"http://evil/127.0.0.1:8080", "127.0.0.1:8080", false},
        {"null", "127.0.0.1:8080", false},
        {"", "", false},
        {"http://", "", false},
        {"ftp://quantd", "quantd", false},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        ck_assert_msg(api_origin_is_host(rows[i].origin, rows[i].host) == rows[i].same, "%s %s",
                      rows[i].origin, rows[i].host);
    }
}
END_TEST

START_TEST(api_host_is_known__names__only_those_nobody_else_can_own)
{
    static const struct {
        const char *host, *names;
        bool known;
    } rows[] = {
        {"127.0.0.1:8080", "localhost", true},
        {"127.0.0.1", "localhost", true},
        {"[::1]:8080", "localhost", true},
        {"192.168.0.7:80", "localhost", true},
        {"localhost:8080", "localhost", true},
        {"LOCALHOST", "localhost", true},
        {"quantd.localhost:1", "localhost", true},
        {"quantd:8080", "localhost", true}, /* no dot: no public name */
        {"", "localhost", true},
        {"evil.example", "localhost", false},
        {"evil.example:8080", "localhost", false},
        {"evil.example.:8080", "localhost", false},
        {"127.0.0.1.evil.example", "localhost", false},
        {"localhost.evil.example:8080", "localhost", false},
        {"evillocalhost.example", "localhost", false},
        {"127.0.0.1.example1", "localhost", false},
        {"evil.xlocalhost", "localhost", false},
        {"Quantd.Example:443", "a.example quantd.example", true},
        {"quantd.example.", "quantd.example", true},
        {"quantd.example", "quantd.exampl", false},
        {"quantd.exampl", "quantd.example", false},
        {"evil.example", "*", true},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        ck_assert_msg(api_host_is_known(rows[i].host, rows[i].names) == rows[i].known, "%s %s",
                      rows[i].host, rows[i].names);
    }
}
END_TEST

START_TEST(api_time_parse__forms__ms_since_the_epoch)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-24T08:15:32.657Z", 1795508132657},
        {"2026-11-24t08:15:32z", 1795508132000},
        {"2026-11-24T10:15:32.6+02:00", 1795508132600},
        {"2026-11-24T07:45:32.123456789-00:30", 1795508132123},
        {"2024-02-29T00:00:00Z", 1709164800000},
    };
    static const char *const bad[] = {
        "", "now", "2026-11-24", "2026-11-24T08:15:32", "2026-11-24 08:15:32Z",
        "2026-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z", "2026-11-24T24:00:00Z", "2026-11-24T08:60:00Z",
        "2026-11-24T08:15:32.Z", "2026-11-24T08:15:32.1234567890Z", "2026-11-24T08:15:32+2:00",
        "2026-11-24T08:15:32+24:00", "2026-11-24T08:15:32Zx", "1969-12-31T23:59:59Z",
        "+026-11-24T08:15:32Z", "2026-11-24T08:15:32+0200", "2026-1-24T08:15:32Z"};
    struct qd_error err;
    int64_t ms;
    for (size_t i = 0; i < QD_COUNT_OF(good); i++) {
        ck_assert_msg(api_time_parse(good[i].text, &ms, &err) == QD_OK, "%s", good[i].text);
        ck_assert_int_eq(ms, good[i].ms);
    }
    for (size_t i = 0; i < QD_COUNT_OF(bad); i++) {
        ck_assert_msg(api_time_parse(bad[i], &ms, &err) == QD_INVALID, "%s", bad[i]);
    }
}
END_TEST

Suite *test_api_events_suite(void)
{
    Suite *suite = suite_create("test_api_events");
    TCase *c = tcase_create("events");
    tcase_add_checked_fixture(c, NULL, teardown);
    tcase_add_test(c, api_event_format__plain__fields);
    tcase_add_test(c, api_event_format__line_ends__no_event_ends_early);
    tcase_add_test(c, api_event_id_parse__digits__number);
    tcase_add_test(c, api_event_id_parse__other_texts__refused_and_named);
    tcase_add_test(c, api_origin_is_host__pairs__same_authority);
    tcase_add_test(c, api_host_is_known__names__only_those_nobody_else_can_own);
    tcase_add_test(c, api_time_parse__forms__ms_since_the_epoch);
    suite_add_tcase(suite, c);
    return suite;
}
