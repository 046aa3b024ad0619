/* A job's configuration: the JSON that the service and `quantd quantize --config` take, turned
 * into quantcore's options. One table in worker_spec_fields.c lists every field. */
#ifndef WORKER_SPEC_H
#define WORKER_SPEC_H

#include <jansson.h>

#include "quantcore/quantcore.h"

#define WORKER_SPEC_MAX_BYTES (64 * 1024)
#define WORKER_SPEC_MAX_NAMES 256
#define WORKER_SPEC_MAX_CANDIDATES 64
#define WORKER_SPEC_LABEL 192

struct worker_spec {
    char name[129];              /* of the model, "" when not given; [A-Za-z0-9._-] */
    struct qc_options options;
    /* Lists in the configuration, as the product of their values; 0: there are none. */
    struct qc_candidate candidates[WORKER_SPEC_MAX_CANDIDATES];
    char labels[WORKER_SPEC_MAX_CANDIDATES][WORKER_SPEC_LABEL];
    size_t n_candidates;
    struct qc_preprocess preprocess;
    const char *exclude_nodes[WORKER_SPEC_MAX_NAMES]; /* borrowed from the JSON value */
    const char *exclude_types[WORKER_SPEC_MAX_NAMES];
    const char *exclude_patterns[WORKER_SPEC_MAX_NAMES];
    struct qc_exclude_range exclude_ranges[WORKER_SPEC_MAX_NAMES];
};

/* Defaults plus what `config` (an object, may be NULL) says. The spec borrows strings of config,
 * which must outlive it. QD_INVALID names the JSON pointer, the value and what is allowed; an
 * unknown field is an error. Range checks of options are qc_options_check's, called here. */
QD_MUST_CHECK enum qd_code worker_spec_parse(const json_t *config, struct worker_spec *ret,
                                             struct qd_error *err);

/* Bytes to a JSON object with limits on size and depth; the caller decrefs. */
QD_MUST_CHECK enum qd_code worker_spec_load(const char *text, size_t size, json_t **ret,
                                            struct qd_error *err);

#endif
