#include "api/api_server.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_connection.h"
#include "api/api_exchange.h"

/* The path is decoded by us, once for each segment: decoded here, "%2F" would be a separator
 * and "%00" would cut it. */
static size_t keep_escapes(void *cls, struct MHD_Connection *connection, char *text)
{
    (void)cls;
    (void)connection;
    return strlen(text);
}

static void on_message(void *cls, const char *format, va_list args)
{
    struct api_server *server = cls;
    char text[512];
    (void)vsnprintf(text, sizeof(text), format, args);
    text[strcspn(text, "\n")] = '\0';
    if (server->settings.on_message != NULL) {
        server->settings.on_message(server->settings.context, text);
    }
}

static enum qd_code listen_on(struct api_server *server, int *ret_fd, struct qd_error *err)
{
    const struct api_server_settings *s = &server->settings;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *address = NULL;
    struct sockaddr_storage bound;
    socklen_t size = sizeof(bound);
    char port[16], number[NI_MAXSERV];
    int one = 1;
    (void)snprintf(port, sizeof(port), "%u", s->port);
    if (getaddrinfo(s->host, port, &hints, &address) != 0) {
        return qd_fail_on(err, QD_INVALID, "listen", "'%s' is not a numeric address", s->host);
    }
    int family = address->ai_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
              bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 511) == 0 &&
              getsockname(fd, (struct sockaddr *)&bound, &size) == 0;
    int errnum = errno;
    freeaddrinfo(address);
    if (!ok || getnameinfo((struct sockaddr *)&bound, size, NULL, 0, number, sizeof(number),
                           NI_NUMERICSERV) != 0) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return qd_fail_errno(err, errnum, "listen on %s port %u", s->host, s->port);
    }
    server->port = (unsigned)strtoul(number, NULL, 10);
    (void)snprintf(server->url, sizeof(server->url),
                   family == AF_INET6 ? "http://[%.60s]:%u" : "http://%.60s:%u", s->host,
                   server->port);
    *ret_fd = fd;
    return QD_OK;
}

static enum qd_code start_mhd(struct api_server *server, int fd, struct qd_error *err)
{
    server->mhd = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
        api_exchange_run, server, MHD_OPTION_EXTERNAL_LOGGER, on_message, server,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, api_exchange_completed, server,
        MHD_OPTION_NOTIFY_CONNECTION, api_connection_notify, server, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_escapes, NULL, MHD_OPTION_CONNECTION_LIMIT, server->settings.connections_max,
        MHD_OPTION_CONNECTION_TIMEOUT, server->settings.idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)512 * 1024, MHD_OPTION_SIGPIPE_HANDLED_BY_APP,
        1, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (server->mhd == NULL) {
        (void)close(fd);
        return qd_fail(err, QD_INTERNAL, "libmicrohttpd did not start");
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->mhd, MHD_DAEMON_INFO_EPOLL_FD);
    server->epoll_fd = info != NULL ? info->epoll_fd : -1;
    return server->epoll_fd >= 0 ? QD_OK
                                 : qd_fail(err, QD_INTERNAL, "libmicrohttpd has no epoll");
}

enum qd_code api_server_new(const struct api_server_settings *settings, struct api_server **ret,
                            struct qd_error *err)
{
    struct api_server *server = calloc(1, sizeof(*server));
    int fd = -1;
    if (server == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the server");
    }
    server->settings = *settings;
    server->epoll_fd = -1;
    enum qd_code code = QD_OK;
    if (settings->n_tables > API_TABLES_MAX || settings->body_rate_min == 0) {
        code = qd_fail(err, QD_INTERNAL, "%zu route tables, minimum rate %u", settings->n_tables,
                       settings->body_rate_min);
    }
    for (size_t i = 0; code == QD_OK && i < settings->n_tables; i++) {
        server->tables[i] = settings->tables[i];
    }
    code = code == QD_OK ? listen_on(server, &fd, err) : code;
    code = code == QD_OK ? start_mhd(server, fd, err) : code;
    if (code != QD_OK) {
        api_server_free(server);
        return code;
    }
    *ret = server;
    return QD_OK;
}

void api_server_free(struct api_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->mhd != NULL) {
        server->stopping = true;
        server->draining = true;
        /* libmicrohttpd aborts the process when it is stopped with a suspended connection. */
        api_server_wake_all(server);
        (void)MHD_run(server->mhd);
        MHD_stop_daemon(server->mhd);
    }
    free(server);
}

int64_t api_server_run(struct api_server *server)
{
    MHD_UNSIGNED_LONG_LONG timeout = 0;
    (void)MHD_run(server->mhd);
    if (MHD_get_timeout(server->mhd, &timeout) != MHD_YES) {
        return -1;
    }
    return timeout > 3600000 ? 3600000 : (int64_t)timeout;
}

void api_server_tick(struct api_server *server)
{
    int64_t now = api_clock_ms();
    for (struct api_connection *c = server->connections; c != NULL; c = c->next) {
        struct api_request *request = c->request;
        if (request != NULL && request->suspended) {
            if (c->wake_ms != 0 && now >= c->wake_ms) {
                api_server_wake(request);
            }
        } else if (c->deadline_ms != 0 && now >= c->deadline_ms && !c->doomed) {
            /* Reading and writing fail from now on; libmicrohttpd then closes it itself. */
            (void)shutdown(c->fd, SHUT_RDWR);
            c->doomed = true;
            server->counters.slow_closed++;
        }
    }
}

void api_server_drain(struct api_server *server)
{
    if (!server->draining) {
        server->draining = true;
        int fd = MHD_quiesce_daemon(server->mhd);
        if (fd >= 0) {
            (void)close(fd);
        }
        api_server_wake_all(server);
    }
}

bool api_server_is_draining(const struct api_server *server)
{
    return server->draining;
}

void api_server_count_submission(struct api_server *server, int by)
{
    server->counters.submissions += (unsigned)by;
}

unsigned api_server_in_flight(const struct api_server *server)
{
    return server->counters.in_flight;
}

int api_server_fd(const struct api_server *server)
{
    return server->epoll_fd;
}

unsigned api_server_port(const struct api_server *server)
{
    return server->port;
}

const char *api_server_url(const struct api_server *server)
{
    return server->url;
}

void *api_server_app(const struct api_server *server)
{
    return server->settings.app;
}

const struct api_server_settings *api_server_settings_of(const struct api_server *server)
{
    return &server->settings;
}

const struct api_server_counters *api_server_counters_of(const struct api_server *server)
{
    return &server->counters;
}
