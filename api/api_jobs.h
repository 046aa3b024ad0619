/* /v1/jobs: submit, list, status with long poll, cancel, retry, delete, what a job leaves. */
#ifndef API_JOBS_H
#define API_JOBS_H

#include <jansson.h>

#include "api/api_route.h"
#include "store/store.h"

/* body_max: bytes of one submission; taken when it is called first. */
struct api_route_table api_jobs_routes(uint64_t body_max);

/* POST /v1/jobs, in api_submit.c: multipart parts config, model, model.data, calibration,
 * validation, labels, table, statistics. The last three become inputs of role validation whose names
 * are "labels/", "table/" and "statistics/" before the file's name (no other input's name holds a
 * slash). */
api_handler api_submit_begin, api_submit_handle;
enum qd_code api_submit_data(struct api_request *request, const char *bytes, size_t size,
                             struct qd_error *err);
void api_submit_done(struct api_request *request);

/* In api_artifacts.c. */
api_handler api_job_artifacts, api_job_artifact, api_job_report;
/* In api_tables.c. calibration?format= json (rows of the store), csv, ncnn, tensorrt, ort, aimet
 * (made of the artifact calibration.json; 422 not_representable when a name cannot be held). */
api_handler api_job_calibration, api_job_layers;

struct api_artifact_options {
    bool download;             /* Content-Disposition: attachment */
    const char *cache_control; /* NULL: immutable, the URL names one content */
    const char *location;      /* Content-Location, or NULL */
};
/* Answer with a job's file: ETag, conditions, ranges. QD_NOT_FOUND. */
QD_MUST_CHECK enum qd_code api_artifact_send(struct api_request *request, const char *job,
                                             const char *name,
                                             const struct api_artifact_options *options,
                                             struct qd_error *err);
/* List of a job's files; the caller owns *ret. */
QD_MUST_CHECK enum qd_code api_artifacts_json(struct api_request *request, const char *job,
                                              json_t **ret, struct qd_error *err);

/* RFC 3339 UTC with ms; null for 0. A new reference. */
json_t *api_time_json(int64_t ms);
/* The job as clients see it; a new reference, NULL when memory ends. */
json_t *api_job_json(struct store *store, const struct store_job *job);
/* The store of the daemon that answers this request. */
struct store *api_store_of(const struct api_request *request);

#endif
