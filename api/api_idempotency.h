/* Idempotency-Key: the key of a request names it while it is received and worked on; what came of
 * it is kept with the job for 24 h (store_job_create). */
#ifndef API_IDEMPOTENCY_H
#define API_IDEMPOTENCY_H

#include "api/api_request.h"

#define API_IDEMPOTENCY_KEY_MAX 200 /* bytes */

/* The header's value, quoted or not: 1 to 200 visible ASCII bytes. QD_INVALID. */
QD_MUST_CHECK enum qd_code api_idempotency_parse(const char *text,
                                                 char ret[API_IDEMPOTENCY_KEY_MAX + 1],
                                                 struct qd_error *err);
/* The request's key, in its arena; NULL when it has none. */
QD_MUST_CHECK enum qd_code api_idempotency_key(struct api_request *request, const char **ret,
                                               struct qd_error *err);
/* Take the request's key until _leave; without a key nothing is taken. QD_CONFLICT (409,
 * idempotency_in_progress) while another request has it. */
QD_MUST_CHECK enum qd_code api_idempotency_enter(struct api_request *request,
                                                 struct qd_error *err);
/* Give it back; also for a request that never had one. */
void api_idempotency_leave(struct api_request *request);

#endif
