/* A server in this process for the targets of HTTP: routes that take an upload, queries and
 * ranges, and a client that sends bytes over loopback and waits until the server is done. */
#ifndef FUZZ_SERVER_H
#define FUZZ_SERVER_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_respond.h"
#include "api/api_server.h"
#include "api/api_upload.h"

static void check(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "fuzz_server: %s\n", what);
        abort();
    }
}

/* --- the upload's sink: parts come one at a time, within their limits --------------------------
 */

static const struct api_part_rule part_rules[] = {{"config", 1, 20}, {"file", 3, 2000}};

struct sink_state {
    struct api_upload *upload;
    const struct api_part_rule *open;
    uint64_t size;
    unsigned counts[2];
};

static enum qd_code sink_begin(void *arg, const struct api_part *part, struct qd_error *err)
{
    struct sink_state *s = arg;
    (void)err;
    check(s->open == NULL, "a part begins inside another");
    check(part->rule == &part_rules[0] || part->rule == &part_rules[1], "a part without a rule");
    check(part->index == s->counts[part->rule - part_rules]++, "parts are not counted in order");
    check(part->index < part->rule->max_count, "more parts than allowed");
    check(strlen(part->file_name) <= API_UPLOAD_NAME_MAX &&
              strpbrk(part->file_name, "/\\\n") == NULL && strcmp(part->file_name, "..") != 0,
          "a file name that is a path");
    s->open = part->rule;
    s->size = 0;
    return QD_OK;
}

static enum qd_code sink_data(void *arg, const char *bytes, size_t size, struct qd_error *err)
{
    struct sink_state *s = arg;
    static char last;
    (void)err;
    check(s->open != NULL && size > 0, "data outside of a part");
    s->size += size;
    check(s->size <= s->open->max_bytes, "a part is longer than allowed");
    last = bytes[size - 1]; /* all of it can be read */
    (void)last;
    return QD_OK;
}

static enum qd_code sink_end(void *arg, struct qd_error *err)
{
    struct sink_state *s = arg;
    (void)err;
    check(s->open != NULL, "a part ends that did not begin");
    s->open = NULL;
    return QD_OK;
}

static enum qd_code up_begin(struct api_request *request, struct qd_error *err)
{
    struct sink_state *s = calloc(1, sizeof(*s));
    check(s != NULL, "no memory");
    request->state = s;
    const struct api_sink sink = {sink_begin, sink_data, sink_end, s};
    return api_upload_new(request, part_rules, 2, &sink, &s->upload, err);
}

static enum qd_code up_data(struct api_request *request, const char *bytes, size_t size,
                            struct qd_error *err)
{
    struct sink_state *s = request->state;
    return api_upload_feed(s->upload, bytes, size, err);
}

static enum qd_code up_handle(struct api_request *request, struct qd_error *err)
{
    struct sink_state *s = request->state;
    if (s == NULL) {
        return qd_fail(err, QD_INVALID, "no body");
    }
    QD_TRY(api_upload_finish(s->upload, err));
    check(s->open == NULL, "the last part did not end");
    return api_respond_empty(request, 204, NULL, err);
}

static void up_done(struct api_request *request)
{
    struct sink_state *s = request->state;
    if (s != NULL) {
        api_upload_free(s->upload);
        free(s);
    }
    request->state = NULL;
}

/* --- other routes ------------------------------------------------------------------------------
 */

static enum qd_code get_content(struct api_request *request, struct qd_error *err)
{
    static const char bytes[] = "0123456789";
    const struct api_content content = {
        .data = bytes, .fd = -1, .size = 10, .type = "text/plain", .etag = "\"a\""};
    return api_respond_content(request, &content, err);
}

static enum qd_code get_query(struct api_request *request, struct qd_error *err)
{
    bool flag = false;
    int64_t number = 0;
    QD_TRY(api_request_flag(request, "flag", &flag, err));
    QD_TRY(api_request_int(request, "limit", 1, 100, 7, &number, err));
    check(number >= 1 && number <= 100, "a number outside of its limits");
    const char *name = api_request_param(request, "name");
    check(name != NULL && name[0] != '\0', "an empty parameter of the path");
    return api_respond_json(request, 200, json_pack("{ss}", "name", name), NULL, err);
}

static enum qd_code post_memory(struct api_request *request, struct qd_error *err)
{
    check(request->received <= 100, "a body is longer than allowed");
    check(request->received == 0 || request->body[request->received] == '\0',
          "no NUL at the end");
    return api_respond_empty(request, 204, NULL, err);
}

static const struct api_route fuzz_routes[] = {
    {.method = API_POST,
     .pattern = "/up",
     .body = API_BODY_STREAM,
     .body_max = 8000,
     .begin = up_begin,
     .data = up_data,
     .handle = up_handle,
     .done = up_done},
    {.method = API_POST,
     .pattern = "/m",
     .body = API_BODY_MEMORY,
     .body_max = 100,
     .handle = post_memory},
    {.method = API_GET, .pattern = "/c", .handle = get_content},
    {.method = API_GET, .pattern = "/q/{name}", .query = "flag limit", .handle = get_query},
};

/* --- client ------------------------------------------------------------------------------------
 */

static struct api_server *fuzz_server(void)
{
    static struct api_server *server;
    static const struct api_route_table table = {fuzz_routes, QD_COUNT_OF(fuzz_routes)};
    const struct api_server_settings settings = {.host = "127.0.0.1",
                                                 .connections_max = 8,
                                                 .idle_timeout_s = 10,
                                                 .header_timeout_s = 10,
                                                 .body_rate_min = 1,
                                                 .tables = &table,
                                                 .n_tables = 1};
    struct qd_error err;
    if (server == NULL) {
        signal(SIGPIPE, SIG_IGN);
        check(api_server_new(&settings, &server, &err) == QD_OK, "the server does not start");
    }
    return server;
}

/* Turns of the server until nothing moves any more. */
static void pump(struct api_server *server, int fd, const char *text, size_t size, char *answer,
                 size_t answer_size)
{
    size_t sent = 0, got = 0;
    for (int idle = 0; idle < 3;) {
        ssize_t w = sent < size ? send(fd, text + sent, size - sent, 0) : 0;
        sent += w > 0 ? (size_t)w : 0;
        int64_t next_ms = api_server_run(server);
        ssize_t r = recv(fd, answer + got, answer_size - 1 - got, 0);
        got += r > 0 ? (size_t)r : 0;
        if (r == 0 || got == answer_size - 1) {
            break;
        }
        idle = w > 0 || r > 0 || next_ms == 0 ? 0 : idle + 1;
    }
    answer[got] = '\0';
}

/* The fuzzer's clock sends signals; a connect that one interrupts goes on by itself and cannot be
 * called again. */
static int connect_undisturbed(int fd, const struct sockaddr_in *address)
{
    sigset_t all, old;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    int rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    sigprocmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* Send the bytes, read what comes, and leave no trace in the server. */
static void fuzz_exchange(const char *text, size_t size)
{
    static char answer[65536];
    struct api_server *server = fuzz_server();
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)api_server_port(server)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct linger reset = {1, 0}; /* else the ports run out, waiting */
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect_undisturbed(fd, &address) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) != 0) {
        perror("fuzz_server: client");
        abort();
    }
    pump(server, fd, text, size, answer, sizeof(answer));
    check(answer[0] == '\0' || strncmp(answer, "HTTP/1.1 ", 9) == 0, "no HTTP answer");
    check(strncmp(answer, "HTTP/1.1 500", 12) != 0, "an internal error");
    close(fd);
    for (int i = 0; i < 1000 && api_server_counters_of(server)->open_connections > 0; i++) {
        struct pollfd wait_for = {.fd = api_server_fd(server), .events = POLLIN};
        poll(&wait_for, 1, 1);
        api_server_run(server);
    }
    check(api_server_counters_of(server)->open_connections == 0, "a connection stays open");
    check(api_server_in_flight(server) == 0, "a request has no end");
}

#endif
