/* The forms of a calibration table that are JSON: quantd's own, ONNX Runtime's, AIMET's. */
#ifndef WORKER_TABLE_JSON_H
#define WORKER_TABLE_JSON_H

#include <jansson.h>
#include <stdio.h>

#include "worker/worker_table.h"

/* One row of "tensors": {tensor, op_type, dtype, scale, zero_point, lo, hi, min, max, …}; null
 * for what is not known. New reference; NULL when memory runs out or a name is not UTF-8. */
json_t *worker_table_row_json(const struct worker_table_row *row);

/* format is one of WORKER_TABLE_JSON, _ORT, _AIMET. QD_INVALID: a name is not UTF-8.
 * quantd's form: {"format": "quantd-calibration-1",
 *   "tensors": [{"tensor", …, "shared": [other tensors with the same pair]}],
 *   "layers": [{"node", "op_type", "input", "weights", "channels", "groups", "scales": […]}]} */
QD_MUST_CHECK enum qd_code worker_table_put_json(FILE *out, const struct worker_table *table,
                                                 enum worker_table_format format,
                                                 struct qd_error *err);

#endif
