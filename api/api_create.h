/* What every new job goes through, submitted or derived from another: a confined child looks at
 * it (worker_check.h), then it becomes a row, once for an Idempotency-Key. */
#ifndef API_CREATE_H
#define API_CREATE_H

#include <jansson.h>

#include "api/api_request.h"
#include "store/store.h"

struct worker_check;

/* Between two calls of a handler; begins as zeros. */
struct api_creation {
    struct worker_check *check; /* NULL before it started */
    int64_t wait_until_ms;      /* 0: not yet waiting for a free child */
};

/* Refuse new work: 503 while draining, 409 while the request's Idempotency-Key is in use. */
QD_MUST_CHECK enum qd_code api_create_begin(struct api_request *request, struct qd_error *err);
/* *ret_wait: the request was suspended, return and call again. Else *ret_summary (borrowed) is
 * what the check found, NULL when nobody checks or it found nothing wrong in its time. 422, 503.
 */
QD_MUST_CHECK enum qd_code api_create_check(struct api_request *request,
                                            struct api_creation *creation,
                                            const struct store_job_new *job,
                                            const json_t **ret_summary, bool *ret_wait,
                                            struct qd_error *err);
/* Queue and answer 201, or 200 with the job that the key and the same hash made before, 422 for a
 * key with another one. `job` has no key yet; hash: of everything in the request, hex.
 * *ret_created: a new job holds the blobs. */
QD_MUST_CHECK enum qd_code api_create_job(struct api_request *request,
                                          const struct store_job_new *job, const char *hash,
                                          bool *ret_created, struct qd_error *err);
/* 200 with what would have become a job. */
QD_MUST_CHECK enum qd_code api_create_dry_run(struct api_request *request, const char *name,
                                              json_t *config, const json_t *summary,
                                              struct qd_error *err);
/* For route.done; frees what api_create_begin and _check made, not the struct. */
void api_create_done(struct api_request *request, struct api_creation *creation);

/* The configuration as it is stored. */
QD_MUST_CHECK enum qd_code api_create_config(struct api_request *request, const json_t *config,
                                             const char **ret, struct qd_error *err);
/* sha256 of `n` texts, each with its NUL, as 64 hex digits. */
void api_create_hash(const char *const *texts, size_t n, char ret[STORE_SHA256_SIZE]);

#endif
