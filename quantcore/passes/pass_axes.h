/* Pad and Resize of some axes written as those of all. */
#ifndef QC_PASS_AXES_H
#define QC_PASS_AXES_H

#include "quantcore/passes/pass_edit.h"

/* Nothing behind this has to know of axes, and artifacts have none: ONNX Runtime's optimizer
 * permutes a Resize's scales without a look at its axes, and then fails while it runs. Sizes of axes
 * become scales, the same f32 quotient that engines make of sizes; those that this quotient does not
 * give back, and what follows the batch, stay, and have no execution. For nodes with inferred
 * shapes; others of them are left alone. */
QD_MUST_CHECK enum qd_code qc_pass_all_axes(const struct qc_edit *e, struct qc_node *n,
                                            struct qd_error *err);

#endif
