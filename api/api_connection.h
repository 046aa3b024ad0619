/* Inside api/ only: the server's own struct, its connections and their clocks, requests that wait
 * or are answered piece by piece. */
#ifndef API_CONNECTION_H
#define API_CONNECTION_H

#include <microhttpd.h>

#include "api/api_server.h"

#define API_BODY_GRACE_MS 30000 /* every body may take this long, whatever its rate */

/* A connection's age bookkeeping: libmicrohttpd's own timeout only sees inactivity. */
struct api_connection {
    struct api_server *server;
    struct api_connection *prev, *next;
    struct api_request *request; /* the one under way, NULL between two */
    int fd;
    int64_t deadline_ms; /* shut after this; 0: no limit */
    int64_t wake_ms;     /* of a suspended request; 0: no limit */
    bool doomed;
    char client[64];
};

struct api_server {
    struct api_server_settings settings;
    struct api_route_table tables[API_TABLES_MAX];
    struct MHD_Daemon *mhd;
    int epoll_fd;
    unsigned port;
    char url[96];
    struct api_connection *connections;
    struct api_server_counters counters;
    bool draining, stopping;
};

/* Monotonic. */
int64_t api_clock_us(void);
int64_t api_clock_ms(void);

/* libmicrohttpd's callback of connections that begin and end. */
void api_connection_notify(void *cls, struct MHD_Connection *connection, void **socket_context,
                           enum MHD_ConnectionNotificationCode what);

#endif
