/* Readers for a model's inputs: what the service's jobs and `quantd quantize` share. */
#ifndef WORKER_INPUTS_H
#define WORKER_INPUTS_H

#include "quantcore/quantcore.h"

struct worker_file {
    const char *path, *label; /* label: the name in messages */
};

/* Opens n files as one stream of samples for the model's inputs (their first dim is the sample).
 * labels_path may be NULL; it has one label a sample of all files. The caller frees *ret. */
QD_MUST_CHECK enum qd_code worker_inputs_open(const struct qc_model_info *info,
                                              const struct qc_preprocess *preprocess,
                                              const struct worker_file *files, int n,
                                              const char *labels_path, struct qc_reader **ret,
                                              struct qd_error *err);

#endif
