/* The check of a submission before it becomes a job: a confined child reads the configuration,
 * imports the model, opens the data and reads the first samples (qc_check). The daemon itself
 * never parses a byte of it. On the event loop's thread. */
#ifndef WORKER_CHECK_H
#define WORKER_CHECK_H

#include <jansson.h>

#include "store/store.h"

#define WORKER_CHECKS_MAX 2 /* children at a time, beside the jobs' */

struct worker_pool;
struct worker_check;

/* Is there room for another one? on_change tells when one ended. */
bool worker_check_may_start(const struct worker_pool *pool);
/* Start the child. Texts are copied. worker_settings.on_change is called with job NULL when it is
 * done, never from within this call. The caller owns *ret. */
QD_MUST_CHECK enum qd_code worker_check_new(struct worker_pool *pool, const char *name,
                                            const char *config, const struct store_input *inputs,
                                            size_t n_inputs, struct worker_check **ret,
                                            struct qd_error *err);
bool worker_check_is_done(const struct worker_check *check);
/* Of a check that is done. QD_OK: *ret_summary (borrowed) has n_calibration, n_verification,
 * n_nodes_int8 and n_nodes_f32. QD_TIMED_OUT: nothing wrong was found within check_deadline_s.
 * QD_CANCELED: the pool drains. QD_INTERNAL: the child crashed. Else what is wrong. */
QD_MUST_CHECK enum qd_code worker_check_result(const struct worker_check *check,
                                               const json_t **ret_summary, struct qd_error *err);
/* Ends the child of one that is not done. Takes NULL. */
void worker_check_free(struct worker_check *check);

/* Inside worker/ only: the clock of the pool, and its end. */
void worker_checks_tick(struct worker_pool *pool);
void worker_checks_stop(struct worker_pool *pool);

#endif
