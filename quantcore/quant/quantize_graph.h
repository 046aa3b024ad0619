/* The QDQ graph: the f32 network with QuantizeLinear and DequantizeLinear around what runs on
 * integers, in the form that runtimes recognise.
 *
 *   - u8 activations (s8 where the model had them so), per tensor, scale and zero point of rank 0; one QuantizeLinear a value, the
 *     only reader of an integer node's output; one DequantizeLinear a use (x + x has two)
 *   - s8 weights behind a DequantizeLinear with the output channels' axis, per use; s32 bias
 *     behind a DequantizeLinear with axis 0 and scale s_x * s_w
 *   - weights, biases and other constants that the model had behind a DequantizeLinear keep their
 *     codes, scales and zero points to the byte, and their names; such a bias is quantized anew when
 *     its scale is not s_x * s_w, and never corrected
 *   - a fused clamp is dropped when the first and last code already stand for its ends
 *   - tensors joined by an element-moving operator share one pair
 *   - a graph output keeps its name and stays f32: the node gives "<name>_float", then
 *     "<name>_quantized", then "<name>"
 *   - f32 nodes read the f32 tensor where another f32 node (or the network's input) made it, else
 *     a DequantizeLinear of their own. Exception: an f32 Conv, Gemm or MatMul, or an excluded
 *     operator that has an integer form, never stands between a DequantizeLinear and a
 *     QuantizeLinear: runtimes would take it for an integer unit, and ONNX Runtime quantizes f32
 *     weights there unasked. It reads the f32 result of the node before. Where that node has
 *     other readers too, runtimes (this one as well) compute it in f32 between its
 *     DequantizeLinear and QuantizeLinear: the price is speed, never accuracy.
 *
 * Names, all deterministic: "<tensor>_quantized", "<tensor>_dequantized" ("_dequantized_2", …
 * for further uses), "<tensor>_scale", "<tensor>_zero_point"; weights that several nodes
 * share are "<tensor>_<node>_quantized" and so on from the second on. A name that is taken gets
 * "_2", "_3", … */
#ifndef QC_QUANTIZE_GRAPH_H
#define QC_QUANTIZE_GRAPH_H

#include "quantcore/quant/quantize_plan.h"
#include "quantcore/quant/quantize_weights.h"

struct qc_quantized_graph {
    struct qc_graph *graph;  /* linked; values 0..n_values-1 are those of the f32 graph, with
                                their indices (a renamed output's is the "_float" one) */
    int *node;               /* [f32 n_nodes] index of the same node here */
    int *quantized;          /* [f32 n_values] index of the u8 value, -1 if nobody reads one */
    struct qc_quantized_weights **weights; /* [f32 n_nodes] NULL for nodes without */
};

/* pairs: [n_values] from qc_quantize_plan_pairs. channel_mean[v], n_channels[v]: E[x] along
 * plan->channel_axis[v]; NULL entries (or channel_mean NULL) leave that bias uncorrected. The
 * correction of a MatMul goes into the constant of the Add behind it (qc_matmul_addend), where
 * there is one. Errors name the node. The new graph borrows from the old one. */
QD_MUST_CHECK enum qd_code qc_quantize_graph(const struct qc_quantize_plan *plan,
                                             const struct qc_qparams *pairs,
                                             const double *const *channel_mean,
                                             const int *n_channels, struct qd_arena *arena,
                                             struct qc_quantized_graph **ret,
                                             struct qd_error *err);

#endif
