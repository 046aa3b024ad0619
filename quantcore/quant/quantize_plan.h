/* What of a network becomes integers: decided from the graph alone, before calibration, so that
 * the observers know what to look at.
 *
 * Nodes. An operator runs on integers when it has an integer form (QC_IS_QUANT), is not excluded,
 * and fits it: Conv, Gemm and MatMul with constant weights, Add, Mul and Concat of data tensors.
 * So does ConvTranspose, which runtimes with 8-bit products run on integers; ONNX Runtime and this
 * engine compute it in f32, from the dequantized input and weights.
 * Operators that move elements (QC_IS_PASS) follow their tensors, and so do functions that runtimes
 * have in f32 only (QC_IS_TABLE): where both of their tensors are quantized for the sake of others
 * they are integer too. The rest stays f32, with the reason in words. Behind the last Conv, Gemm
 * or MatMul everything stays f32 and that node gives f32 itself, unless quantize_last_output: INT8
 * gains nothing there and costs accuracy. (This engine runs such a node in INT8; ONNX Runtime does
 * so for Gemm and MatMul, and computes a Conv in f32 from the dequantized tensors.)
 *
 * Tensors. Quantized are the data inputs and the outputs of integer operators. All tensors that
 * an element-moving operator joins are one group with one pair (scale, zero point): kernels then
 * move bytes. A group's range is that of its root, the tensor that the others' elements are
 * taken from.
 *
 * Imported pairs. A tensor that the model had quantized already stays quantized, with the pair it
 * has there, whatever stands around it. Where an element-moving operator joins tensors of two
 * pairs, the group ends there. A tensor without a pair that is read by one element-moving operator
 * alone takes over the pair behind it: the same elements are rounded, only earlier. */
#ifndef QC_QUANTIZE_PLAN_H
#define QC_QUANTIZE_PLAN_H

#include "quantcore/affine/qparams.h"
#include "quantcore/calib/calibrator.h"
#include "quantcore/graph/op_table.h"
#include "quantcore/passes/pass_import_qdq.h"
#include "quantcore/quant/quantize_exclude.h"

struct qc_quantize_options {
    bool weights_per_channel;    /* of a Conv; else one scale a tensor */
    bool dense_per_channel;      /* the same of a Gemm or MatMul */
    bool weights_full_range;     /* [-128, 127], else [-127, 127] */
    bool weights_asymmetric;     /* a zero point beside each scale */
    int weight_bits;             /* 8, 4, 3, 2 or 1, in s8; 0 stands for 8 */
    struct qc_scheme activations;
    bool bias_correction;
    bool quantize_last_output;
    struct qc_exclude exclude;   /* lists are borrowed */
    const struct qc_import *import; /* what the model carried, borrowed; may be NULL */
};

struct qc_quantize_plan {
    const struct qc_graph *graph; /* borrowed: linked, inferred, folded and fused */
    struct qc_quantize_options options;
    bool *integer;        /* [n_nodes] runs on integers (element-moving ones included) */
    const char **reason;  /* [n_nodes] why not; "" for integer nodes */
    bool *excluded;       /* [n_nodes] by the user */
    bool *keeps_f32;      /* [n_nodes] an integer Conv, Gemm or MatMul that gives f32 */
    int *group;           /* [n_values] root of the value's group; -1: not quantized */
    struct qc_qparams *imported; /* [n_values] the model's own pair; scale 0: none */
    bool *observe;        /* [n_values] needs statistics: every group's root, and the inputs of
                             integer products whose bias can be corrected, for their means */
    int *channel_axis;    /* [n_values] for the channel means; -1 where none are needed */
    int n_integer, n_f32; /* nodes that execute */
};

/* QD_INVALID as qc_exclude_nodes. */
QD_MUST_CHECK enum qd_code qc_quantize_plan_new(const struct qc_graph *g,
                                                const struct qc_quantize_options *options,
                                                struct qd_arena *arena,
                                                struct qc_quantize_plan **ret,
                                                struct qd_error *err);

/* Pairs of all quantized values (others: scale 0): the model's own, else from the calibrated ranges,
 * which are read at the roots. The inputs and the output of a Concat get the union of their ranges, and so one
 * pair, when none of them reaches 10 % of its span less far than the union (and none is imported);
 * else each keeps its own and the Concat requantizes. ret: [n_values]. */
QD_MUST_CHECK enum qd_code qc_quantize_plan_pairs(const struct qc_quantize_plan *plan,
                                                  const struct qc_range *ranges,
                                                  struct qd_arena *arena,
                                                  struct qc_qparams **ret, struct qd_error *err);

/* Marks what integer products read whose bias (or Add, of a MatMul) can be corrected: observe and
 * channel_axis, dim 1 or a MatMul's last. Part of qc_quantize_plan_new; import may be NULL. */
void qc_plan_observe_means(struct qc_quantize_plan *plan, const struct qc_import *import);

/* Is the value's pair the model's own. */
bool qc_plan_is_imported(const struct qc_quantize_plan *plan, int value);

/* Conv, ConvTranspose, Gemm or MatMul. */
bool qc_is_product(const struct qc_node *node);
/* Conv or ConvTranspose. */
bool qc_is_convolution(const struct qc_node *node);

#endif
