/* The result that a child sent, checked and turned into rows. The child is not trusted. */
#ifndef WORKER_RESULT_H
#define WORKER_RESULT_H

#include <jansson.h>

#include "store/store.h"

#define WORKER_MAX_ROWS      100000
#define WORKER_MAX_ARTIFACTS 64

struct worker_result {
    json_t *calibration, *layers; /* arrays that grew with each frame of rows */
    json_t *final;                /* the result frame, NULL before it came */
};
void worker_result_init(struct worker_result *result);
void worker_result_done(struct worker_result *result);

/* Take the rows of a frame of type rows or result (the latter also ends the result). */
QD_MUST_CHECK enum qd_code worker_result_add(struct worker_result *result, const char *type,
                                             json_t *frame, struct qd_error *err);
/* Turn the artifacts' files below the scratch folder into blobs and everything into rows that
 * live in the arena. Blocking, any thread. QD_INVALID for what a child may not send. */
QD_MUST_CHECK enum qd_code worker_result_ingest(const struct worker_result *result,
                                                const char *scratch, struct store_blobs *blobs,
                                                uint64_t max_bytes, struct qd_arena *arena,
                                                struct store_result *ret, struct qd_error *err);

#endif
