/* /v1/jobs/{id}/events and /v1/events: what happens to jobs as server-sent events (HTML 9.2).
 *
 * A durable event is a row of the store and has its number as `id:`; the number resumes a stream
 * (Last-Event-ID, ?after=). Progress is sent live as `job.progress` without an id: a client that
 * comes back sees the present progress and misses only older ones. */
#ifndef API_EVENTS_H
#define API_EVENTS_H

#include <stdio.h>

#include "api/api_route.h"

struct api_route_table api_events_routes(void);

/* Number of an event: digits alone, 0 to INT64_MAX. `what` names its source in the message.
 * QD_INVALID. */
QD_MUST_CHECK enum qd_code api_event_id_parse(const char *text, const char *what, int64_t *ret,
                                              struct qd_error *err);
/* One event; id 0: no `id:` line. Line ends in `data` begin a further data line, those in `type`
 * become spaces: nothing that a model is called can end an event. */
void api_event_format(FILE *out, int64_t id, const char *type, const char *data);

#endif
