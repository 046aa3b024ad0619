/* POST /v1/jobs/{id}/requantize: a new job with the statistics of a succeeded one. */
#ifndef API_REQUANTIZE_H
#define API_REQUANTIZE_H

#include <jansson.h>

#include "api/api_route.h"
#include "worker/worker_spec.h"

/* The body, at most WORKER_SPEC_MAX_BYTES, is a JSON Merge Patch for the configuration of job
 * {id}; none is {}. The new job has that job's inputs, and its statistics.qds as an input of role
 * validation named "statistics/statistics.qds". 404, 409 not_succeeded or no_statistics, 422. */
api_handler api_requantize_begin, api_requantize_handle;
void api_requantize_done(struct api_request *request);

/* RFC 7396: what `patch` makes of `target` (NULL: of nothing). A new value, NULL when memory
 * ends; shares nothing with the two. */
json_t *api_requantize_merge(const json_t *target, const json_t *patch);

/* QD_INVALID, with the pointer, where `wanted` changes what statistics were taken with: the
 * preprocessing, which samples, how many values at the ends. */
QD_MUST_CHECK enum qd_code api_requantize_check(const struct worker_spec *taken,
                                                const struct worker_spec *wanted,
                                                struct qd_error *err);

#endif
