/* Jobs in motion: claims, the writes of an attempt, cancel, retry, recovery. Writes of an attempt
 * are fenced: they name the attempt that they belong to, and QD_CONFLICT says that it is no
 * longer the job's (the caller's child is a zombie: end it, throw its output away). */
#ifndef STORE_QUEUE_H
#define STORE_QUEUE_H

#include "store/store.h"

/* Take the next due job: running, attempt + 1, this instance. *ret_found false: none is due and
 * *ret_next_ms is when one will be (0: never). */
QD_MUST_CHECK enum qd_code store_job_claim(struct store *store, struct qd_arena *arena,
                                           struct store_job *ret, bool *ret_found,
                                           int64_t *ret_next_ms, struct qd_error *err);
/* Not an event; the caller throttles. */
QD_MUST_CHECK enum qd_code store_job_progress(struct store *store, const char *id, int attempt,
                                              int64_t done, int64_t total, const char *unit,
                                              struct qd_error *err);
QD_MUST_CHECK enum qd_code store_job_phase(struct store *store, const char *id, int attempt,
                                           const char *phase, struct qd_error *err);

struct store_failure {
    const char *code, *error_class, *message, *subject; /* class user|resource|internal|lost */
};
/* running -> failed. */
QD_MUST_CHECK enum qd_code store_job_fail(struct store *store, const char *id, int attempt,
                                          const struct store_failure *failure,
                                          struct qd_error *err);
/* running -> queued, due after delay_ms. failure NULL: the drain of a daemon, counts no failure;
 * otherwise failures + 1 and the error stays readable until the next claim. */
QD_MUST_CHECK enum qd_code store_job_requeue(struct store *store, const char *id, int attempt,
                                             int64_t delay_ms,
                                             const struct store_failure *failure,
                                             struct qd_error *err);
/* queued -> canceled, running -> canceling, canceling and canceled stay; else QD_CONFLICT. */
QD_MUST_CHECK enum qd_code store_job_cancel(struct store *store, const char *id,
                                            enum store_state *ret, struct qd_error *err);
/* canceling -> canceled, when the child is gone. */
QD_MUST_CHECK enum qd_code store_job_canceled(struct store *store, const char *id, int attempt,
                                              struct qd_error *err);
/* failed or canceled -> queued with failures 0; else QD_CONFLICT. */
QD_MUST_CHECK enum qd_code store_job_retry(struct store *store, const char *id,
                                           struct qd_error *err);
struct store_recovered {
    int64_t requeued, lost, canceled;
};
/* Start-up, before the first claim: running jobs of former instances go back to the queue or,
 * after STORE_MAX_FAILURES, fail as lost; canceling ones are canceled. */
QD_MUST_CHECK enum qd_code store_recover(struct store *store, struct store_recovered *ret,
                                         struct qd_error *err);

#endif
