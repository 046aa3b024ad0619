/* The durable stream of what happened to jobs; an event's id only grows. */
#ifndef STORE_EVENTS_H
#define STORE_EVENTS_H

#include "store/store.h"

struct store_event {
    int64_t id;
    const char *job, *type; /* job.queued, job.running, job.phase, job.succeeded, job.deleted ... */
    const char *data;       /* JSON object: state, rev, attempt, phase, error of that moment */
    int64_t time_ms;
};

/* At most limit (1..STORE_LIST_MAX) events with id > after, of one job or (NULL) of all. */
QD_MUST_CHECK enum qd_code store_events(struct store *store, const char *job, int64_t after,
                                        size_t limit, struct qd_arena *arena,
                                        struct store_event **ret, size_t *ret_n,
                                        struct qd_error *err);
/* Id of the newest event, 0 when there is none. */
QD_MUST_CHECK enum qd_code store_events_last(struct store *store, int64_t *ret,
                                             struct qd_error *err);

#endif
