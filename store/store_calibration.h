/* What a succeeded job leaves: artifacts, the calibration table, the report of its layers. */
#ifndef STORE_CALIBRATION_H
#define STORE_CALIBRATION_H

#include "store/store.h"

struct store_artifact {
    const char *name, *blob, *content_type;
    uint64_t size;
};

struct store_calibration {
    const char *tensor, *op, *dtype; /* dtype s8 | u8 | ... ; op: operator that makes the tensor */
    double scale;                    /* real units a step, > 0 */
    int64_t zero_point;
    double lo, hi, min, max; /* chosen and seen range */
    int64_t count;           /* values seen */
    double saturated;        /* fraction outside the chosen range */
    const char *extra;       /* JSON or NULL */
};

struct store_layer {
    const char *node, *op, *precision, *reason; /* reason: why it stayed in f32, or NULL */
    double local_sqnr_db, cumulative_sqnr_db, cosine, max_abs_error;
    const char *extra; /* JSON or NULL */
};

struct store_result {
    const struct store_artifact *artifacts;
    size_t n_artifacts;
    const struct store_calibration *calibration;
    size_t n_calibration;
    const struct store_layer *layers;
    size_t n_layers;
    const char *summary; /* JSON or NULL */
    bool passed;         /* its gate: only then may it be its model's latest */
};

/* running -> succeeded, all rows, the next version of its name and the event, in one
 * transaction. The blobs must be committed before. QD_CONFLICT: not this attempt's any more. */
QD_MUST_CHECK enum qd_code store_job_publish(struct store *store, const char *id, int attempt,
                                             const struct store_result *result,
                                             int64_t *ret_version, struct qd_error *err);

/* Empty for a job without rows and for an unknown one. */
QD_MUST_CHECK enum qd_code store_artifacts(struct store *store, const char *job,
                                           struct qd_arena *arena, struct store_artifact **ret,
                                           size_t *ret_n, struct qd_error *err);
QD_MUST_CHECK enum qd_code store_artifact_get(struct store *store, const char *job,
                                              const char *name, struct qd_arena *arena,
                                              struct store_artifact *ret, struct qd_error *err);
QD_MUST_CHECK enum qd_code store_calibration_list(struct store *store, const char *job,
                                                  struct qd_arena *arena,
                                                  struct store_calibration **ret, size_t *ret_n,
                                                  struct qd_error *err);
QD_MUST_CHECK enum qd_code store_layers(struct store *store, const char *job,
                                        struct qd_arena *arena, struct store_layer **ret,
                                        size_t *ret_n, struct qd_error *err);

#endif
