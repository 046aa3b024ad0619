/* Scales that the user brings along: the calibration table of another tool, or of another run.
 *
 * A row is for a tensor, by the name that it has in the f32 network after folding and fusing, or
 * for the first input of a node (ncnn names layers). Rows count only where the plan quantizes the
 * tensor anyway, so that a table never quantizes more than the calibration would; other rows are
 * counted. A group of tensors (quantize_plan.h) takes its root's row, else the row of its member
 * that comes first in the table. Weights are not in it: their scales need no calibration. */
#ifndef QC_QUANTIZE_TABLE_H
#define QC_QUANTIZE_TABLE_H

#include "quantcore/base/qd_arena.h"

struct qc_quantize_plan;
struct qc_import;

struct qc_table_row {
    const char *tensor; /* NULL: the first input of `layer` */
    const char *layer;  /* a node's name */
    float scale;        /* > 0, finite */
    int32_t zero_point; /* 0..255, or -128..127 with is_s8 */
    bool is_s8;
};

/* *ret has the pairs for a second plan of the same graph (qc_quantize_options.import); the plan
 * given was made without any. *ret_unused: rows that no quantized tensor took. QD_INVALID when
 * none was taken, or a pair is out of its range (the row is named). */
QD_MUST_CHECK enum qd_code qc_table_import(const struct qc_quantize_plan *plan,
                                           const struct qc_table_row *rows, size_t n_rows,
                                           struct qd_arena *arena, struct qc_import **ret,
                                           size_t *ret_unused, struct qd_error *err);

#endif
