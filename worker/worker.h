/* A pool of child processes that run the queued jobs, on the event loop's thread.
 *
 * A child gets its job as the first frame on descriptor 3, its inputs as descriptors from 4 on
 * and a scratch folder <data>/scratch/<job>-<attempt> that is removed afterwards; what it prints
 * goes to <data>/logs/<job>-<attempt>.log. Its end, however it comes, becomes the job's state:
 *   result and exit 0        succeeded
 *   error frame              failed, class from the code (user | resource | internal)
 *   crash, exit, bad frames  internal: again after a back-off, at most STORE_MAX_FAILURES times
 *   silence                  lost: the same
 *   SIGKILL from elsewhere, deadline, memory    failed, class resource
 * After its last frame a child has five graces to exit. The program must ignore SIGPIPE. */
#ifndef WORKER_H
#define WORKER_H

#include <uv.h>

#include "store/store.h"

struct worker_pool;

struct worker_settings {
    unsigned n_workers;          /* 1..64 children at a time */
    unsigned threads;            /* of one job; told to the child; >= 1 */
    const char *exe;             /* NULL: /proc/self/exe */
    const char *const *args;     /* after argv[0], ends with NULL; NULL: {"worker"} */
    unsigned deadline_s;         /* wall time of one attempt, 0: none */
    unsigned heartbeat_timeout_s; /* silence that ends a child, 0: never */
    unsigned check_deadline_s;   /* wall time of a check (worker_check.h), 0: 20 s */
    unsigned kill_grace_ms;      /* SIGTERM to SIGKILL, 0: 2 s */
    unsigned retry_delay_ms;     /* doubled for each failure, 0: 10 s */
    uint64_t memory_limit;       /* told to the child for its RLIMIT_AS, 0: none */
    uint64_t max_artifact_bytes; /* 0: 16 GiB */
    /* A job changed, or (job NULL) a check ended: wake those who wait for it. May be NULL. */
    void (*on_change)(void *arg, const char *job);
    /* A line for the log: what a child said or why it ended. May be NULL. */
    void (*on_log)(void *arg, const char *job, const char *message);
    void *arg;
};

/* The strings of settings are borrowed until _free. Creates <data>/scratch (emptied) and
 * <data>/logs. Nothing runs before worker_pool_kick. */
QD_MUST_CHECK enum qd_code worker_pool_new(uv_loop_t *loop, struct store *store,
                                           const struct worker_settings *settings,
                                           struct worker_pool **ret, struct qd_error *err);
/* Something was queued, or a slot may take more. */
void worker_pool_kick(struct worker_pool *pool);
/* store_job_cancel has made it canceling: end its child. No child of it: nothing happens. */
void worker_pool_cancel(struct worker_pool *pool, const char *job);
/* Remove the logs of jobs that are no more. */
void worker_pool_sweep(struct worker_pool *pool);
/* Take no new jobs (paused true) or go on. */
void worker_pool_pause(struct worker_pool *pool, bool paused);
/* End: no new jobs; running ones may finish (now false) or are stopped and go back to the queue
 * without a failure (now true; may follow the former). on_idle once, when no child is left and
 * the pool's timer is closed: then it may be freed. */
void worker_pool_drain(struct worker_pool *pool, bool now, void (*on_idle)(void *arg), void *arg);
/* Only after on_idle, or before the loop ran at all. */
void worker_pool_free(struct worker_pool *pool);

struct worker_status {
    unsigned slot;
    const char *job; /* NULL: idle */
    int attempt;
    int pid;
    const char *stage;
    int64_t running_ms, peak_bytes;
};
/* Writes up to n entries, returns the number of slots. Texts are valid until the loop turns. */
unsigned worker_pool_status(const struct worker_pool *pool, struct worker_status *ret, unsigned n);

#endif
