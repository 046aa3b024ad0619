/* Lists in a job's configuration: every combination of their values is a candidate. */
#ifndef WORKER_SPEC_GRID_H
#define WORKER_SPEC_GRID_H

#include "worker/worker_spec.h"

/* Is this field's value a list of values to try? */
bool worker_spec_is_axis(const char *pointer, const json_t *value);
/* Fills the candidates; the options are the first one's. QD_LIMIT_EXCEEDED when the lists make more
 * than WORKER_SPEC_MAX_CANDIDATES. */
QD_MUST_CHECK enum qd_code worker_spec_make_grid(struct worker_spec *s, const json_t *config,
                                                 struct qd_error *err);

#endif
