/* A report in the forms that people and programs read: JSON, CSV and text. */
#ifndef WORKER_REPORT_H
#define WORKER_REPORT_H

#include <jansson.h>

#include "quantcore/quantcore.h"

/* New references, NULL when memory runs out. NAN becomes null: JSON has no word for it. */
json_t *worker_report_json(const struct qc_report *report);
/* {"tensors": [{tensor, op_type, dtype, scale, zero_point, lo, hi, min, max, …}]} */
json_t *worker_report_calibration(const struct qc_report *report);
json_t *worker_report_layers(const struct qc_report *report);

/* malloc'ed text, NULL when memory runs out. CSV by RFC 4180, one row a tensor; floats with the
 * digits that read back to the same value. */
char *worker_report_calibration_csv(const struct qc_report *report);
/* What somebody at a terminal wants to know: accuracy, sizes, worst layers, times. */
char *worker_report_text(const struct qc_report *report);

#endif
