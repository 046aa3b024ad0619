/* A report in the forms that people and programs read: JSON, CSV and text. */
#ifndef WORKER_REPORT_H
#define WORKER_REPORT_H

#include <jansson.h>

#include "worker/worker_table.h"

/* New references, NULL when memory runs out. NAN becomes null: JSON has no word for it. */
json_t *worker_report_json(const struct qc_report *report);
/* Rows of the calibration table for frames: [{tensor, op_type, dtype, scale, zero_point, lo, hi,
 * min, max, …}] */
json_t *worker_report_calibration(const struct qc_report *report);
json_t *worker_report_layers(const struct qc_report *report);

/* The calibration table as a text that the caller frees; worker_table.h describes the formats. */
QD_MUST_CHECK enum qd_code worker_report_table(const struct qc_report *report,
                                               enum worker_table_format format, char **ret_text,
                                               size_t *ret_size, struct qd_error *err);
/* malloc'ed text, NULL when memory runs out. What somebody at a terminal wants to know: accuracy, sizes, worst layers, times. */
char *worker_report_text(const struct qc_report *report);

#endif
