#include "api/api_connection.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "api/api_respond.h"

int64_t api_clock_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t api_clock_ms(void)
{
    return api_clock_us() / 1000;
}

#define STREAMS_MAX  128
#define STREAM_BLOCK 8192 /* bytes of one chunk at most */

/* --- connections ------------------------------------------------------------------------------
 */

static void name_client(struct api_connection *c)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    char host[NI_MAXHOST];
    (void)snprintf(c->client, sizeof(c->client), "?");
    if (getpeername(c->fd, (struct sockaddr *)&address, &size) == 0 &&
        getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), NULL, 0,
                    NI_NUMERICHOST) == 0) {
        (void)snprintf(c->client, sizeof(c->client), "%.63s", host);
    }
}

void api_connection_notify(void *cls, struct MHD_Connection *connection, void **socket_context,
                           enum MHD_ConnectionNotificationCode what)
{
    struct api_server *server = cls;
    struct api_connection *c = *socket_context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = calloc(1, sizeof(*c));
        if (c == NULL || info == NULL) {
            free(c); /* its requests are refused in on_request */
            return;
        }
        c->server = server;
        c->fd = info->connect_fd;
        c->deadline_ms = api_clock_ms() + 1000LL * server->settings.header_timeout_s;
        name_client(c);
        c->next = server->connections;
        if (c->next != NULL) {
            c->next->prev = c;
        }
        server->connections = c;
        server->counters.connections++;
        server->counters.open_connections++;
        *socket_context = c;
    } else if (c != NULL) {
        if (c->prev != NULL) {
            c->prev->next = c->next;
        } else {
            server->connections = c->next;
        }
        if (c->next != NULL) {
            c->next->prev = c->prev;
        }
        server->counters.open_connections--;
        *socket_context = NULL;
        free(c);
    }
}

/* --- requests that wait -----------------------------------------------------------------------
 */

void api_server_suspend(struct api_request *request, int64_t timeout_ms)
{
    request->suspended = true;
    request->on->wake_ms = timeout_ms > 0 ? api_clock_ms() + timeout_ms : 0;
    request->server->counters.suspended++;
    MHD_suspend_connection(request->connection);
}

static ssize_t pull(void *cls, uint64_t position, char *buffer, size_t size)
{
    struct api_request *request = cls;
    (void)position;
    request->on->deadline_ms = api_clock_ms() + API_BODY_GRACE_MS;
    ptrdiff_t n = request->reader(request, buffer, size);
    request->sent_size += n > 0 ? (size_t)n : 0;
    return n == API_STREAM_END ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

enum qd_code api_server_stream(struct api_request *request, const char *type, api_reader *read,
                               struct qd_error *err)
{
    /* A proxy that collects a stream before it passes it on would turn it into silence. */
    const struct api_header headers[] = {{"Content-Type", type},
                                         {"Cache-Control", "no-store"},
                                         {"X-Accel-Buffering", "no"},
                                         {NULL, NULL}};
    struct api_server *server = request->server;
    unsigned limit = server->settings.connections_max / 2;
    limit = limit > STREAMS_MAX ? STREAMS_MAX : limit < 1 ? 1 : limit;
    if (server->counters.streams >= limit) {
        return api_request_fail(request, err, 503, "too_many_streams", QD_LIMIT_EXCEEDED,
                                "%u streams are open, the limit", limit);
    }
    struct MHD_Response *response =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, pull, request, NULL);
    request->reader = read;
    server->counters.streams++; /* until the request ends */
    return api_respond_queue(request, 200, response, headers, err);
}

void api_server_wake(struct api_request *request)
{
    if (request->suspended) {
        request->suspended = false;
        request->resumes++;
        request->on->wake_ms = 0;
        request->server->counters.suspended--;
        MHD_resume_connection(request->connection);
    }
}

void api_server_wake_all(struct api_server *server)
{
    for (struct api_connection *c = server->connections; c != NULL; c = c->next) {
        if (c->request != NULL) {
            api_server_wake(c->request);
        }
    }
}
