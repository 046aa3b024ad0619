/* Shape inference interleaved with constant folding, so that shapes computed from shapes become
 * known; then removal of what does nothing. */
#ifndef QC_PASS_SIMPLIFY_H
#define QC_PASS_SIMPLIFY_H

#include "quantcore/graph/op_table.h"

/* Evaluates a node whose inputs are all constants, see qc_exec_eval_node. */
typedef enum qd_code qc_eval_fn(struct qc_graph *g, int node, struct qd_arena *arena,
                                const struct qc_tensor **ret_outputs, struct qd_error *err);

/* Binds the graph's inputs for a batch of 1 and infers every node. A node of constants becomes a
 * constant; if an element of it follows the batch, or it is a graph output, the node stays and is
 * marked shape_only (its outputs are known for this batch, an artifact keeps the computation).
 * Identity and Dropout vanish (a graph output keeps its name), a Pad with zeros on height and
 * width joins the Conv behind it, unused nodes are swept.
 * QD_INVALID / QD_UNSUPPORTED as qc_graph_infer_node. */
QD_MUST_CHECK enum qd_code qc_pass_simplify(struct qc_graph *g, struct qd_error *err);
/* The same with another evaluator. One that answers QD_UNSUPPORTED leaves the node as it is. */
QD_MUST_CHECK enum qd_code qc_pass_simplify_with(struct qc_graph *g, qc_eval_fn *eval,
                                                 struct qd_error *err);

#endif
