/* Shape inference, inside: what the files graph_shapes*.c share. The entry points are declared in
 * op_table.h. One function an operator, named by the table in graph_shapes.c. */
#ifndef QC_GRAPH_SHAPES_H
#define QC_GRAPH_SHAPES_H

#include "quantcore/graph/op_table.h"

struct qc_infer {
    struct qc_graph *g;
    const struct qc_node *n;
    struct qd_error *err;
};

typedef enum qd_code qc_infer_fn(struct qc_infer *c);

/* Fails with "Conv 'name': …", the node as subject. */
enum qd_code qc_infer_fail(struct qc_infer *c, enum qd_code code, const char *format, ...)
    QD_PRINTF(3, 4);
/* Input i, whose shape and type must be known. */
QD_MUST_CHECK enum qd_code qc_infer_input(struct qc_infer *c, int i, const struct qc_value **ret);
/* Input i, NULL when absent. */
const struct qc_value *qc_infer_optional(const struct qc_infer *c, int i);
/* The constant of input i as int64 (at most max; QD_UNSUPPORTED when it is not a constant,
 * QD_INVALID when it is no vector or scalar of integers). bits: symbolic_elements. */
QD_MUST_CHECK enum qd_code qc_infer_ints(struct qc_infer *c, int i, const char *what, int max,
                                         int64_t *ret, int *ret_count, uint64_t *ret_bits);
/* Output i gets type, shape (checked for size) and symbolic dims; an absent output is skipped. */
QD_MUST_CHECK enum qd_code qc_infer_output(struct qc_infer *c, int i, enum qc_dtype dtype,
                                           const struct qc_shape *shape, unsigned symbolic);
/* axis of -rank..rank-1 to 0..rank-1. */
QD_MUST_CHECK enum qd_code qc_infer_axis(struct qc_infer *c, int64_t axis, int rank, int *ret);

/* Inputs first..last are of rank 1 with a value a channel. */
QD_MUST_CHECK enum qd_code qc_infer_channel_parameters(struct qc_infer *c, int first, int last,
                                                       int64_t channels);

/* graph_shapes_elementwise.c: operators of several tensors, element by element. */
qc_infer_fn qc_infer_broadcast, qc_infer_pow, qc_infer_compare, qc_infer_min_max, qc_infer_where,
    qc_infer_prelu, qc_infer_q_broadcast, qc_infer_q_table;
/* graph_shapes_conv.c: convolution, pools, matrix products, the integer units. */
qc_infer_fn qc_infer_conv, qc_infer_conv_transpose, qc_infer_pool, qc_infer_gemm, qc_infer_matmul, qc_infer_global_pool,
    qc_infer_batch_norm, qc_infer_q_conv, qc_infer_q_gemm, qc_infer_conv_integer,
    qc_infer_matmul_integer;
/* graph_shapes_view.c: operators that move elements. */
qc_infer_fn qc_infer_flatten, qc_infer_reshape, qc_infer_transpose, qc_infer_squeeze,
    qc_infer_unsqueeze, qc_infer_slice, qc_infer_pad, qc_infer_gather, qc_infer_concat,
    qc_infer_resize, qc_infer_q_concat;
/* graph_shapes_parts.c: operators that cut a tensor up, or its dims, or repeat it. */
qc_infer_fn qc_infer_split, qc_infer_depth_to_space, qc_infer_space_to_depth, qc_infer_expand,
    qc_infer_tile;
/* graph_shapes_norm.c: normalisations */
qc_infer_fn qc_infer_layer_norm, qc_infer_channel_norm, qc_infer_lrn;

#endif
