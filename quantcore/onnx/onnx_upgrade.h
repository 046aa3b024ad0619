/* Nodes of all opsets brought to the canonical form, that of opset 18: attributes that became
 * inputs are inputs, changed defaults are written out, Upsample is Resize, and attributes that came
 * later are gone. Private to quantcore/onnx. */
#ifndef QC_ONNX_UPGRADE_H
#define QC_ONNX_UPGRADE_H

#include "quantcore/graph/graph.h"
#include "quantcore/onnx/onnx_names.h"

struct qc_onnx_upgrade {
    struct qc_graph *graph;
    struct qc_onnx_names *names; /* of values: the constants that are added */
    int64_t opset;               /* of the model */
    const int *ranks;            /* declared rank of a value, -1 unknown */
    int n_ranks;
};

/* A Softmax of opset < 13 flattens from `axis` on; this attribute (1) marks one whose axis is
 * not known to be the last dim. Attributes named quantd_* never come from a model, and are
 * not exported. */
#define QC_ONNX_FLATTEN "quantd_flatten"

/* Rewrites the node in place. QD_UNSUPPORTED / QD_INVALID without the node's name. */
QD_MUST_CHECK enum qd_code qc_onnx_upgrade_node(struct qc_onnx_upgrade *up, struct qc_node *node,
                                                struct qd_error *err);

#endif
