/* The durable stream of what happened to jobs; an event's id only grows. The newest
 * store_settings.events_max are kept, of a deleted job only that it was deleted: who asks for
 * what follows an older id gets what follows the oldest that is kept. */
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
/* How far jobs that run are. Not durable events: each progress only replaces the one before. */
struct store_progress {
    const char *job, *name, *phase, *unit;
    int attempt;
    int64_t rev, done, total; /* total > 0 */
};
/* Of one job or (NULL) of all; none for a job that does not run or has not begun to count. At
 * most STORE_LIST_MAX. */
QD_MUST_CHECK enum qd_code store_events_progress(struct store *store, const char *job,
                                                 struct qd_arena *arena,
                                                 struct store_progress **ret, size_t *ret_n,
                                                 struct qd_error *err);
/* Id of the newest event, 0 when there is none. */
QD_MUST_CHECK enum qd_code store_events_last(struct store *store, int64_t *ret,
                                             struct qd_error *err);

#endif
