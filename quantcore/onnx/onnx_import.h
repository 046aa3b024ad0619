/* ModelProto → qc_graph in canonical form. */
#ifndef QC_ONNX_IMPORT_H
#define QC_ONNX_IMPORT_H

#include "quantcore/graph/graph.h"
#include "quantcore/onnx/onnx_external.h"

#define QC_ONNX_MAX_IO 1024 /* real inputs, and outputs, of a graph */

/* Import a whole model out of untrusted bytes, with the files that its initializers have their
 * data in (external may be NULL: a self-contained model). The graph lives in the arena and borrows
 * nothing of either; what unpacking takes is freed before the return.
 *
 * Kept: names, declared input and output shapes, metadata, opsets of other domains, and fields
 * of the model, the graph and its nodes that quantd does not know. Dropped: value_info (stale
 * after any pass), quantization annotations, training info.
 * Nodes are sorted when they are not in topological order. Initializers are constants, also
 * when they are listed as inputs. Nodes without a name, or with a name that is taken, get one.
 *
 * QD_INVALID: malformed bytes, undefined inputs, values with two producers, cycles, external data
 * that are not as onnx_external.h wants them, a file that no initializer names.
 * QD_UNSUPPORTED: operators, domains and opsets outside the table, values of attributes and types
 * of tensors that quantd has no form of, subgraphs, local functions, sparse initializers, external
 * data of attributes. QD_LIMIT_EXCEEDED: see onnx_scan.h, and the arena. */
QD_MUST_CHECK enum qd_code qc_onnx_import(struct qd_bytes model,
                                          const struct qc_external *external,
                                          struct qd_arena *arena, struct qc_graph **ret, struct qd_error *err);

#endif
