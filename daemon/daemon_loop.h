/* `quantd serve`: the event loop that owns the HTTP server. */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include "daemon/daemon_config.h"

#define DAEMON_VERSION "0.1.0"

/* Serve until SIGINT or SIGTERM. The first line on stdout is
 * "quantd listening on http://HOST:PORT". The first signal drains: no new connections, requests
 * under way get drain_timeout seconds; the second one ends at once. QD_INVALID for settings
 * that cannot be served (the address is taken, the folder cannot be made). */
QD_MUST_CHECK enum qd_code daemon_serve(const struct daemon_config *config, struct qd_error *err);

#endif
