/* Calibration tables in JSON, from untrusted bytes: quantd's own, or AIMET's by
 * worker_table_read_aimet.h when there is a member "activation_encodings". */
#ifndef WORKER_TABLE_READ_JSON_H
#define WORKER_TABLE_READ_JSON_H

#include "worker/worker_table.h"

/* text: at most WORKER_TABLE_MAX_BYTES. Missing members of a row other than tensor, dtype, scale
 * and zero_point count as not known; unknown members are ignored, so that later versions may add
 * some. QD_INVALID names the line of broken JSON, or the row ("tensors/3/scale"). */
QD_MUST_CHECK enum qd_code worker_table_read_json(struct qd_bytes text, struct qd_arena *arena,
                                                  struct worker_table *ret, struct qd_error *err);

#endif
