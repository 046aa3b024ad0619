/* The prepare functions behind qc_exec_rows, by file. */
#ifndef QC_EXEC_OPS_H
#define QC_EXEC_OPS_H

#include "quantcore/exec/exec_step.h"

/* exec_conv.c */
qc_prepare_fn qc_prepare_conv;
void qc_border_conv(const struct qc_graph *g, const struct qc_node *n, int ret_pad[4]);
/* exec_conv_transpose.c */
qc_prepare_fn qc_prepare_conv_transpose;
/* exec_gemm.c */
qc_prepare_fn qc_prepare_gemm, qc_prepare_matmul;
/* exec_binary.c */
qc_prepare_fn qc_prepare_binary;
/* exec_clip.c: Clip of integers */
qc_prepare_fn qc_prepare_clip;
/* exec_unary.c, exec_batch_norm.c */
qc_prepare_fn qc_prepare_unary, qc_prepare_batch_normalization;
/* exec_pool.c */
qc_prepare_fn qc_prepare_max_pool, qc_prepare_average_pool, qc_prepare_global_average_pool;
qc_prepare_fn qc_prepare_global_max_pool;
/* exec_shape.c, exec_slice.c */
qc_prepare_fn qc_prepare_reshape, qc_prepare_identity, qc_prepare_transpose, qc_prepare_concat;
qc_prepare_fn qc_prepare_gather, qc_prepare_cast, qc_prepare_shape, qc_prepare_constant_of_shape;
qc_prepare_fn qc_prepare_constant, qc_prepare_slice, qc_prepare_pad;
/* exec_select.c: Where, Not; Expand, Tile */
qc_prepare_fn qc_prepare_where, qc_prepare_not, qc_prepare_expand, qc_prepare_tile;
/* exec_parts.c: Split; DepthToSpace and SpaceToDepth */
qc_prepare_fn qc_prepare_split, qc_prepare_depth_to_space;
/* exec_resize.c */
qc_prepare_fn qc_prepare_resize;
/* exec_reduce.c */
qc_prepare_fn qc_prepare_reduce, qc_prepare_softmax;
/* exec_norm.c: LayerNormalization; InstanceNormalization and GroupNormalization; LRN */
qc_prepare_fn qc_prepare_layer_norm, qc_prepare_channel_norm, qc_prepare_lrn;
/* exec_quantize.c */
qc_prepare_fn qc_prepare_quantize, qc_prepare_dequantize;
/* exec_dynamic.c: quantization at run time, products of integers with 32-bit results */
qc_prepare_fn qc_prepare_dynamic_quantize, qc_prepare_conv_integer, qc_prepare_matmul_integer;

#endif
