/* A real server with a route of the test's own, driven by poll; the client is a socket. */
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/api_respond.h"
#include "api/api_server.h"
#include "api/api_upload.h"

Suite *test_api_upload_suite(void);

static char trace[65536]; /* what the sink was told */
static int waits;

static enum qd_code sink_begin(void *arg, const struct api_part *part, struct qd_error *err)
{
    (void)arg;
    (void)err;
    snprintf(trace + strlen(trace), 400, "<%s %u %s>", part->rule->name, part->index,
             part->file_name);
    return QD_OK;
}
static enum qd_code sink_data(void *arg, const char *bytes, size_t size, struct qd_error *err)
{
    (void)arg;
    (void)err;
    ck_assert_uint_lt(strlen(trace) + size, sizeof(trace) - 500);
    strncat(trace, bytes, size);
    return QD_OK;
}
static enum qd_code sink_end(void *arg, struct qd_error *err)
{
    (void)arg;
    (void)err;
    strcat(trace, "|");
    return QD_OK;
}

static const struct api_part_rule rules[] = {{"config", 1, 20}, {"file", 2, 40000}};

static enum qd_code begin(struct api_request *request, struct qd_error *err)
{
    const struct api_sink sink = {sink_begin, sink_data, sink_end, NULL};
    struct api_upload *upload = NULL;
    QD_TRY(api_upload_new(request, rules, 2, &sink, &upload, err));
    request->state = upload;
    return QD_OK;
}
static enum qd_code data(struct api_request *request, const char *bytes, size_t size,
                         struct qd_error *err)
{
    return api_upload_feed(request->state, bytes, size, err);
}
static enum qd_code handle(struct api_request *request, struct qd_error *err)
{
    QD_TRY(api_upload_finish(request->state, err));
    return api_respond_text(request, 200, "text/plain", "done", 4, NULL, err);
}
static void done(struct api_request *request)
{
    api_upload_free(request->state);
}
static enum qd_code wait_long(struct api_request *request, struct qd_error *err)
{
    if (request->resumes == 0 && !api_server_is_draining(request->server)) {
        waits++;
        api_server_suspend(request, 600000);
        return QD_OK;
    }
    return api_respond_text(request, 200, "text/plain", "woken", 5, NULL, err);
}

static const struct api_route routes[] = {
    {.method = API_POST,
     .pattern = "/up",
     .body = API_BODY_STREAM,
     .body_max = 60000,
     .begin = begin,
     .data = data,
     .handle = handle,
     .done = done},
    {.method = API_GET, .pattern = "/wait", .handle = wait_long},
};

static struct api_server *server_new(void)
{
    static const struct api_route_table table = {routes, QD_COUNT_OF(routes)};
    const struct api_server_settings settings = {.host = "127.0.0.1",
                                                 .connections_max = 8,
                                                 .idle_timeout_s = 10,
                                                 .header_timeout_s = 10,
                                                 .body_rate_min = 1024,
                                                 .tables = &table,
                                                 .n_tables = 1};
    struct api_server *server = NULL;
    struct qd_error err;
    signal(SIGPIPE, SIG_IGN);
    ck_assert_msg(api_server_new(&settings, &server, &err) == QD_OK, "%s", err.message);
    return server;
}

static int connect_to(const struct api_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)api_server_port(server)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Send the text `step` bytes at a time while the server runs; returns the answer's status. */
static int exchange(struct api_server *server, const char *text, size_t size, size_t step)
{
    static char answer[8192];
    size_t sent = 0, got = 0;
    int fd = connect_to(server);
    memset(answer, 0, sizeof(answer));
    for (int turn = 0; turn < 20000; turn++) {
        size_t n = size - sent < step ? size - sent : step;
        ssize_t w = n > 0 ? send(fd, text + sent, n, 0) : 0;
        sent += w > 0 ? (size_t)w : 0;
        int64_t next_ms = api_server_run(server);
        ssize_t r = recv(fd, answer + got, sizeof(answer) - 1 - got, 0);
        got += r > 0 ? (size_t)r : 0;
        if (r == 0 || strstr(answer, "done") != NULL || strstr(answer, "request_id") != NULL) {
            break;
        }
        if (n == 0 && next_ms != 0) {
            struct pollfd wait_for = {.fd = api_server_fd(server), .events = POLLIN};
            poll(&wait_for, 1, 5);
        }
    }
    close(fd);
    api_server_run(server);
    int status = 0;
    sscanf(answer, "HTTP/1.1 %d", &status);
    return status;
}

/* One request whose parts are given as text of the body. */
static int post(const char *body, size_t step)
{
    static char text[70000];
    struct api_server *server = server_new();
    trace[0] = '\0';
    int n = snprintf(text, sizeof(text),
                     "POST /up HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; "
                     "boundary=xYz\r\nContent-Length: %zu\r\n\r\n%s",
                     strlen(body), body);
    int status = exchange(server, text, (size_t)n, step);
    api_server_free(server);
    return status;
}

#define PART(name, rest) "--xYz\r\nContent-Disposition: form-data; name=\"" name "\"" rest "\r\n\r\n"
#define END "--xYz--\r\n"

START_TEST(api_upload__parts_in_any_pieces__sink_sees_the_same)
{
    const char *body = PART("config", "") "{\"a\": 1}\r\n" PART("file", "; filename=\"a b.npy\"")
        "one\r\n--xY\r\n" PART("file", "; filename=\"\xc3\xa9\"") "two\r\n" END;
    static const size_t steps[] = {1, 2, 3, 7, 64, 100000};
    for (size_t i = 0; i < QD_COUNT_OF(steps); i++) {
        ck_assert_int_eq(post(body, steps[i]), 200);
        ck_assert_str_eq(trace, "<config 0 >{\"a\": 1}|<file 0 a b.npy>one\r\n--xY|"
                                "<file 1 \xc3\xa9>two|");
    }
}
END_TEST

START_TEST(api_upload__what_no_rule_allows__refused)
{
    ck_assert_int_eq(post(PART("colour", "") "x\r\n" END, 1000), 400);
    ck_assert_int_eq(post(PART("config", "") "123456789012345678901\r\n" END, 1000), 413);
    ck_assert_int_eq(post(PART("config", "") "12345678901234567890\r\n" END, 1000), 200);
    ck_assert_int_eq(post(PART("config", "") "1\r\n" PART("config", "") "2\r\n" END, 1000), 413);
    ck_assert_int_eq(post(PART("file", "; filename=\"../x\"") "1\r\n" END, 1000), 400);
    ck_assert_int_eq(post(PART("file", "; filename=\"..\"") "1\r\n" END, 1000), 400);
    ck_assert_int_eq(post(PART("file", "; filename=\"\xff\"") "1\r\n" END, 1000), 400);
    ck_assert_int_eq(post(PART("file", "") "1\r\n", 1000), 400);
    ck_assert_int_eq(post("nothing of the kind", 1000), 400);
}
END_TEST

START_TEST(api_upload__large_part__limit_kept)
{
    static char body[60001];
    size_t head = strlen(PART("file", ""));
    memcpy(body, PART("file", ""), head);
    memset(body + head, 'z', 40000);
    strcpy(body + head + 40000, "\r\n" END);
    ck_assert_int_eq(post(body, 5000), 200);
    ck_assert_uint_eq(strlen(trace), 40000 + strlen("<file 0 >|"));
    memset(body + head, 'z', 40001);
    strcpy(body + head + 40001, "\r\n" END);
    ck_assert_int_eq(post(body, 5000), 413);
    memset(body, 'z', 60000);
    body[60000] = '\0';
    ck_assert_int_eq(post(body, 5000), 400);
}
END_TEST

START_TEST(api_server_free__suspended_request__no_abort)
{
    struct api_server *server = server_new();
    int fd = connect_to(server);
    const char *text = "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";
    waits = 0;
    ck_assert_int_eq(send(fd, text, strlen(text), 0), (ssize_t)strlen(text));
    for (int i = 0; i < 1000 && waits == 0; i++) {
        struct pollfd wait_for = {.fd = api_server_fd(server), .events = POLLIN};
        poll(&wait_for, 1, 5);
        api_server_run(server);
    }
    ck_assert_int_eq(waits, 1);
    ck_assert_uint_eq(api_server_counters_of(server)->suspended, 1);
    ck_assert_uint_eq(api_server_in_flight(server), 1);
    api_server_free(server);
    close(fd);
}
END_TEST

Suite *test_api_upload_suite(void)
{
    Suite *suite = suite_create("test_api_upload");
    TCase *tests = tcase_create("all");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, api_upload__parts_in_any_pieces__sink_sees_the_same);
    tcase_add_test(tests, api_upload__what_no_rule_allows__refused);
    tcase_add_test(tests, api_upload__large_part__limit_kept);
    tcase_add_test(tests, api_server_free__suspended_request__no_abort);
    suite_add_tcase(suite, tests);
    return suite;
}
