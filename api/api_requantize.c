#include "api/api_requantize.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/api_create.h"
#include "api/api_jobs.h"

#define STATISTICS_FILE  "statistics.qds"
#define STATISTICS_INPUT "statistics/" /* worker_child.c knows the input by it */

/* Between two calls of the handler. */
struct requantization {
    struct api_creation creation;
    bool ready;
    json_t *config; /* merged */
    struct worker_spec taken, wanted;
    struct store_job_new job; /* in the request's arena */
};

/* --- merge patch ------------------------------------------------------------------------------
 */

static bool merge_into(json_t *target, const json_t *patch)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        json_t *child = json_object_get(target, key);
        if (json_is_null(value)) {
            (void)json_object_del(target, key);
        } else if (!json_is_object(value)) {
            if (json_object_set_new(target, key, json_deep_copy(value)) != 0) {
                return false;
            }
        } else {
            if (!json_is_object(child)) {
                child = json_object();
                if (json_object_set_new(target, key, child) != 0) {
                    return false;
                }
            }
            if (!merge_into(child, value)) {
                return false;
            }
        }
    }
    return true;
}

json_t *api_requantize_merge(const json_t *target, const json_t *patch)
{
    if (!json_is_object(patch)) {
        return json_deep_copy(patch);
    }
    json_t *merged = json_is_object(target) ? json_deep_copy(target) : json_object();
    if (merged == NULL || !merge_into(merged, patch)) {
        json_decref(merged);
        return NULL;
    }
    return merged;
}

/* --- configuration ----------------------------------------------------------------------------
 */

enum qd_code api_requantize_check(const struct worker_spec *taken,
                                  const struct worker_spec *wanted, struct qd_error *err)
{
    const struct qc_options *from = &taken->options, *to = &wanted->options;
    static const char hint[] = "the statistics were taken with";
    /* Both were zeroed before they were filled. */
    if (memcmp(&taken->preprocess, &wanted->preprocess, sizeof(taken->preprocess)) != 0) {
        return qd_fail_on(err, QD_INVALID, "/preprocess",
                          "/preprocess is not what %s: submit the data anew", hint);
    }
    if (from->holdout != to->holdout) {
        return qd_fail_on(err, QD_INVALID, "/calibration/holdout",
                          "/calibration/holdout is %g, %s %g", to->holdout, hint, from->holdout);
    }
    const struct {
        const char *pointer;
        int64_t from, to;
    } counts[] = {
        {"/calibration/max_samples", from->max_samples, to->max_samples},
        {"/calibration/tail_length", from->tail_length, to->tail_length},
    };
    if (from->histograms != to->histograms) {
        return qd_fail_on(err, QD_INVALID, "/calibration/histograms",
                          "/calibration/histograms is %s, %s %s", to->histograms ? "true" : "false",
                          hint, from->histograms ? "true" : "false");
    }
    for (size_t i = 0; i < QD_COUNT_OF(counts); i++) {
        if (counts[i].from != counts[i].to) {
            return qd_fail_on(err, QD_INVALID, counts[i].pointer, "%s is %lld, %s %lld",
                              counts[i].pointer, (long long)counts[i].to, hint,
                              (long long)counts[i].from);
        }
    }
    return QD_OK;
}

static enum qd_code merge_config(struct api_request *request, struct requantization *r,
                                 const char *base, struct qd_error *err)
{
    json_t *taken = NULL, *patch = NULL;
    enum qd_code code = worker_spec_load(base, strlen(base), &taken, err);
    if (code == QD_OK) {
        code = worker_spec_parse(taken, &r->taken, err);
    }
    if (code != QD_OK) { /* accepted once: by a quantd that knew other fields */
        qd_wrap(err, code, "the configuration of the former job");
        request->status = 422;
        goto out;
    }
    const char *body = request->body != NULL ? request->body : "{}";
    code = worker_spec_load(body, request->body != NULL ? (size_t)request->received : 2, &patch,
                            err);
    if (code != QD_OK) {
        goto out;
    }
    r->config = api_requantize_merge(taken, patch);
    if (r->config == NULL) {
        code = qd_fail(err, QD_NO_MEMORY, "no memory for the configuration");
        goto out;
    }
    code = worker_spec_parse(r->config, &r->wanted, err);
    if (code == QD_OK) {
        code = api_requantize_check(&r->taken, &r->wanted, err);
    }
    request->status = code != QD_OK ? 422 : request->status;
out:
    json_decref(taken);
    json_decref(patch);
    return code;
}

/* --- inputs -----------------------------------------------------------------------------------
 */

/* Those of the former job. Its own statistics input, if it has one, is what it published. */
static enum qd_code take_inputs(struct api_request *request, const struct store_job *origin,
                                const struct store_artifact *statistics,
                                struct store_job_new *ret, struct qd_error *err)
{
    struct store_input *theirs = NULL, *inputs = NULL;
    size_t n_theirs = 0, n = 0;
    QD_TRY(store_job_inputs(api_store_of(request), origin->id, &request->arena, &theirs,
                            &n_theirs, err));
    QD_TRY(qd_arena_array(&request->arena, n_theirs + 1, sizeof(*inputs), &inputs, err));
    for (size_t i = 0; i < n_theirs; i++) {
        if (strncmp(theirs[i].name, STATISTICS_INPUT, strlen(STATISTICS_INPUT)) != 0) {
            inputs[n++] = theirs[i];
        }
    }
    inputs[n++] = (struct store_input){.role = "validation",
                                       .blob = statistics->blob,
                                       .size = statistics->size,
                                       .name = STATISTICS_INPUT STATISTICS_FILE};
    ret->inputs = inputs;
    ret->n_inputs = n;
    return QD_OK;
}

static enum qd_code make_ready(struct api_request *request, struct requantization *r,
                               const struct store_job *origin, struct qd_error *err)
{
    struct store_artifact statistics;
    if (origin->state != STORE_SUCCEEDED) {
        return api_request_fail(request, err, 409, "not_succeeded", QD_CONFLICT,
                                "job %s is %s: only a succeeded job has statistics", origin->id,
                                store_state_name(origin->state));
    }
    enum qd_code code = store_artifact_get(api_store_of(request), origin->id, STATISTICS_FILE,
                                           &request->arena, &statistics, err);
    if (code == QD_NOT_FOUND) {
        return api_request_fail(request, err, 409, "no_statistics", QD_CONFLICT,
                                "job %s has no " STATISTICS_FILE ": it ran without calibration",
                                origin->id);
    }
    QD_TRY(code);
    QD_TRY(merge_config(request, r, origin->config, err));
    QD_TRY(api_create_config(request, r->config, &r->job.config, err));
    if (strlen(r->job.config) > WORKER_SPEC_MAX_BYTES) {
        request->status = 422;
        return qd_fail(err, QD_LIMIT_EXCEEDED,
                       "the merged configuration has %zu bytes, the limit is %d",
                       strlen(r->job.config), WORKER_SPEC_MAX_BYTES);
    }
    r->job.name = r->wanted.name[0] != '\0' ? r->wanted.name : origin->name;
    r->job.derived_from = origin->id;
    QD_TRY(take_inputs(request, origin, &statistics, &r->job, err));
    r->ready = true;
    return QD_OK;
}

/* --- handlers ---------------------------------------------------------------------------------
 */

static bool is_json_type(const char *type)
{
    static const char *const types[] = {"application/json", "application/merge-patch+json"};
    size_t n = strcspn(type, "; \t");
    for (size_t i = 0; i < QD_COUNT_OF(types); i++) {
        if (n == strlen(types[i]) && strncasecmp(type, types[i], n) == 0) {
            return true;
        }
    }
    return false;
}

enum qd_code api_requantize_begin(struct api_request *request, struct qd_error *err)
{
    const char *type = api_request_header(request, "Content-Type");
    if (request->body_size > 0 && type != NULL && !is_json_type(type)) {
        return api_request_fail(request, err, 415, "unsupported_media_type", QD_INVALID,
                                "Content-Type is '%.100s', not application/json or "
                                "application/merge-patch+json",
                                type);
    }
    QD_TRY(api_create_begin(request, err));
    request->state = calloc(1, sizeof(struct requantization));
    return request->state != NULL ? QD_OK
                                  : qd_fail(err, QD_NO_MEMORY, "no memory for a requantization");
}

/* Called again after the check. The former job is asked for each time: while it is there, so are
 * the blobs that the new one takes over. */
enum qd_code api_requantize_handle(struct api_request *request, struct qd_error *err)
{
    struct requantization *r = request->state;
    struct store_job origin;
    const json_t *summary = NULL;
    bool wait = false, dry_run = false, created = false;
    char hash[STORE_SHA256_SIZE];
    QD_TRY(api_request_flag(request, "dry_run", &dry_run, err));
    QD_TRY(store_job_get(api_store_of(request), api_request_param(request, "id"), &request->arena,
                         &origin, err));
    if (!r->ready) {
        QD_TRY(make_ready(request, r, &origin, err));
    }
    QD_TRY(api_create_check(request, &r->creation, &r->job, &summary, &wait, err));
    if (wait) {
        return QD_OK;
    }
    if (dry_run) {
        return api_create_dry_run(request, r->job.name, r->config, summary, err);
    }
    const char *texts[] = {"requantize", origin.id, request->body != NULL ? request->body : ""};
    api_create_hash(texts, QD_COUNT_OF(texts), hash);
    return api_create_job(request, &r->job, hash, &created, err);
}

void api_requantize_done(struct api_request *request)
{
    struct requantization *r = request->state;
    api_create_done(request, r != NULL ? &r->creation : NULL);
    if (r != NULL) {
        json_decref(r->config);
        free(r);
        request->state = NULL;
    }
}
