/* What an operator is: one row an operator. What is done with it lives with the doer, in
 * functions found by the same index (shape inference below, execution in exec/exec_table.c). */
#ifndef QC_OP_TABLE_H
#define QC_OP_TABLE_H

#include "quantcore/graph/graph.h"

#define QC_MAX_PARTS 1024    /* outputs of a Split */
#define QC_MAX_OPERANDS 1024 /* inputs of a Min or Max */

/* X(enum suffix, "OpType", "domain", first opset, min inputs, max inputs, max outputs, flags)
 * Flags: PASS   the output's elements are input 0's (one scale for both; 8-bit as it is)
 *        PARTS  PASS of all outputs, not only of the first
 *        QUANT  has an integer form
 *        UNARY  elementwise function of one tensor (8-bit: a table of 256)
 *        TABLE  is that table where both of its tensors are quantized anyway, and never the reason
 *               to quantize one: runtimes have no 8-bit form, so a pair of its own would cost
 *               accuracy and time there and save nothing here
 *        SHAPE  shape arithmetic, usually folded
 *        NOQ    never quantized by default (softmax, decoding arithmetic)
 *        INTERNAL made by quantcore only, never imported */
#define QC_OPS(X)                                                                        \
    X(CONV, "Conv", "", 1, 2, 3, 1, QC_IS_QUANT)                                         \
    X(CONV_TRANSPOSE, "ConvTranspose", "", 1, 2, 3, 1, QC_IS_QUANT)                      \
    X(GEMM, "Gemm", "", 7, 2, 3, 1, QC_IS_QUANT)                                         \
    X(MATMUL, "MatMul", "", 1, 2, 2, 1, QC_IS_QUANT)                                     \
    X(BATCH_NORMALIZATION, "BatchNormalization", "", 7, 5, 5, 5, QC_IS_NOQ)              \
    X(RELU, "Relu", "", 6, 1, 1, 1, QC_IS_QUANT | QC_IS_UNARY)                           \
    X(CLIP, "Clip", "", 6, 1, 3, 1, QC_IS_QUANT | QC_IS_UNARY)                           \
    X(LEAKY_RELU, "LeakyRelu", "", 6, 1, 1, 1, QC_IS_QUANT | QC_IS_UNARY)                \
    X(SIGMOID, "Sigmoid", "", 6, 1, 1, 1, QC_IS_QUANT | QC_IS_UNARY)                     \
    X(HARD_SIGMOID, "HardSigmoid", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)            \
    X(HARD_SWISH, "HardSwish", "", 14, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)               \
    X(TANH, "Tanh", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                           \
    X(EXP, "Exp", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_NOQ)                               \
    X(SQRT, "Sqrt", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_NOQ)                             \
    X(LOG, "Log", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_NOQ)                               \
    X(RECIPROCAL, "Reciprocal", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_NOQ)                 \
    X(NEG, "Neg", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                             \
    X(ABS, "Abs", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                             \
    X(ERF, "Erf", "", 9, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                             \
    X(GELU, "Gelu", "", 20, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                          \
    X(ELU, "Elu", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                             \
    X(SELU, "Selu", "", 6, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                           \
    X(SOFTPLUS, "Softplus", "", 1, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                   \
    X(SOFTSIGN, "Softsign", "", 1, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                   \
    X(MISH, "Mish", "", 18, 1, 1, 1, QC_IS_UNARY | QC_IS_TABLE)                          \
    X(ADD, "Add", "", 7, 2, 2, 1, QC_IS_QUANT)                                           \
    X(SUB, "Sub", "", 7, 2, 2, 1, QC_IS_NOQ)                                             \
    X(MUL, "Mul", "", 7, 2, 2, 1, QC_IS_QUANT)                                           \
    X(DIV, "Div", "", 7, 2, 2, 1, QC_IS_NOQ)                                             \
    X(POW, "Pow", "", 7, 2, 2, 1, QC_IS_NOQ)                                             \
    X(MIN, "Min", "", 6, 1, QC_MAX_OPERANDS, 1, QC_IS_NOQ)                               \
    X(MAX, "Max", "", 6, 1, QC_MAX_OPERANDS, 1, QC_IS_NOQ)                               \
    X(PRELU, "PRelu", "", 7, 2, 2, 1, QC_IS_NOQ)                                         \
    X(EQUAL, "Equal", "", 7, 2, 2, 1, QC_IS_NOQ)                                         \
    X(LESS, "Less", "", 7, 2, 2, 1, QC_IS_NOQ)                                           \
    X(GREATER, "Greater", "", 7, 2, 2, 1, QC_IS_NOQ)                                     \
    X(LESS_OR_EQUAL, "LessOrEqual", "", 12, 2, 2, 1, QC_IS_NOQ)                          \
    X(GREATER_OR_EQUAL, "GreaterOrEqual", "", 12, 2, 2, 1, QC_IS_NOQ)                    \
    X(AND, "And", "", 7, 2, 2, 1, QC_IS_NOQ)                                             \
    X(OR, "Or", "", 7, 2, 2, 1, QC_IS_NOQ)                                               \
    X(NOT, "Not", "", 1, 1, 1, 1, QC_IS_NOQ)                                             \
    X(WHERE, "Where", "", 9, 3, 3, 1, QC_IS_NOQ)                                         \
    X(CONCAT, "Concat", "", 4, 1, 4096, 1, QC_IS_QUANT)                                  \
    X(MAX_POOL, "MaxPool", "", 1, 1, 1, 2, QC_IS_PASS)                                   \
    X(AVERAGE_POOL, "AveragePool", "", 7, 1, 1, 1, QC_IS_QUANT)                          \
    X(GLOBAL_AVERAGE_POOL, "GlobalAveragePool", "", 1, 1, 1, 1, QC_IS_QUANT)             \
    X(GLOBAL_MAX_POOL, "GlobalMaxPool", "", 1, 1, 1, 1, QC_IS_PASS)                      \
    X(FLATTEN, "Flatten", "", 1, 1, 1, 1, QC_IS_PASS)                                    \
    X(RESHAPE, "Reshape", "", 5, 2, 2, 1, QC_IS_PASS)                                    \
    X(TRANSPOSE, "Transpose", "", 1, 1, 1, 1, QC_IS_PASS)                                \
    X(SQUEEZE, "Squeeze", "", 1, 1, 2, 1, QC_IS_PASS)                                    \
    X(UNSQUEEZE, "Unsqueeze", "", 1, 1, 2, 1, QC_IS_PASS)                                \
    X(SLICE, "Slice", "", 1, 1, 5, 1, QC_IS_PASS)                                        \
    X(PAD, "Pad", "", 2, 1, 4, 1, QC_IS_PASS)                                            \
    X(SPLIT, "Split", "", 2, 1, 2, QC_MAX_PARTS, QC_IS_PASS | QC_IS_PARTS)               \
    X(DEPTH_TO_SPACE, "DepthToSpace", "", 1, 1, 1, 1, QC_IS_PASS)                        \
    X(EXPAND, "Expand", "", 8, 2, 2, 1, QC_IS_PASS)                                      \
    X(TILE, "Tile", "", 6, 2, 2, 1, QC_IS_PASS)                                          \
    X(SPACE_TO_DEPTH, "SpaceToDepth", "", 1, 1, 1, 1, QC_IS_PASS)                        \
    X(SOFTMAX, "Softmax", "", 1, 1, 1, 1, QC_IS_NOQ)                                     \
    X(LOG_SOFTMAX, "LogSoftmax", "", 1, 1, 1, 1, QC_IS_NOQ)                              \
    X(IDENTITY, "Identity", "", 1, 1, 1, 1, QC_IS_PASS)                                  \
    X(CONSTANT, "Constant", "", 1, 0, 0, 1, QC_IS_SHAPE)                                 \
    X(CONSTANT_OF_SHAPE, "ConstantOfShape", "", 9, 1, 1, 1, QC_IS_SHAPE)                 \
    X(DROPOUT, "Dropout", "", 7, 1, 3, 2, QC_IS_PASS)                                    \
    X(SHAPE, "Shape", "", 1, 1, 1, 1, QC_IS_SHAPE)                                       \
    X(GATHER, "Gather", "", 1, 2, 2, 1, QC_IS_PASS)                                      \
    X(CAST, "Cast", "", 6, 1, 1, 1, QC_IS_NOQ)                                           \
    X(RESIZE, "Resize", "", 10, 1, 4, 1, QC_IS_PASS)                                     \
    X(UPSAMPLE, "Upsample", "", 7, 1, 2, 1, QC_IS_PASS)                                  \
    X(REDUCE_MEAN, "ReduceMean", "", 1, 1, 2, 1, QC_IS_NOQ)                              \
    X(REDUCE_SUM, "ReduceSum", "", 1, 1, 2, 1, QC_IS_NOQ)                                \
    X(REDUCE_MAX, "ReduceMax", "", 1, 1, 2, 1, QC_IS_NOQ)                                \
    X(REDUCE_MIN, "ReduceMin", "", 1, 1, 2, 1, QC_IS_NOQ)                                \
    X(REDUCE_L2, "ReduceL2", "", 1, 1, 2, 1, QC_IS_NOQ)                                  \
    X(LAYER_NORMALIZATION, "LayerNormalization", "", 17, 2, 3, 3, QC_IS_NOQ)             \
    X(INSTANCE_NORMALIZATION, "InstanceNormalization", "", 6, 3, 3, 1, QC_IS_NOQ)        \
    X(GROUP_NORMALIZATION, "GroupNormalization", "", 21, 3, 3, 1, QC_IS_NOQ)             \
    X(LRN, "LRN", "", 1, 1, 1, 1, QC_IS_NOQ)                                             \
    X(QUANTIZE_LINEAR, "QuantizeLinear", "", 10, 2, 3, 1, 0)                             \
    X(DEQUANTIZE_LINEAR, "DequantizeLinear", "", 10, 2, 3, 1, 0)                         \
    X(DYNAMIC_QUANTIZE_LINEAR, "DynamicQuantizeLinear", "", 11, 1, 1, 3, 0)              \
    X(CONV_INTEGER, "ConvInteger", "", 10, 2, 4, 1, 0)                                   \
    X(MATMUL_INTEGER, "MatMulInteger", "", 10, 2, 4, 1, 0)                               \
    /* integer units made by integer/int_plan.c out of DequantizeLinear → op →           \
     * QuantizeLinear; inputs and attributes as ONNX's QLinear operators; a missing      \
     * output scale means f32 output */                                                  \
    X(Q_CONV, "QLinearConv", "quantd", 1, 8, 9, 1, QC_IS_INTERNAL)                       \
    X(Q_GEMM, "QGemm", "quantd", 1, 8, 9, 1, QC_IS_INTERNAL)                             \
    X(Q_ADD, "QLinearAdd", "quantd", 1, 8, 8, 1, QC_IS_INTERNAL)                         \
    X(Q_MUL, "QLinearMul", "quantd", 1, 8, 8, 1, QC_IS_INTERNAL)                         \
    X(Q_CONCAT, "QLinearConcat", "quantd", 1, 5, 12290, 1, QC_IS_INTERNAL)               \
    X(Q_TABLE, "QTable", "quantd", 1, 2, 2, 1, QC_IS_INTERNAL)                           \
    X(Q_AVERAGE_POOL, "QLinearAveragePool", "quantd", 1, 5, 5, 1, QC_IS_INTERNAL)        \
    X(Q_GLOBAL_AVERAGE_POOL, "QLinearGlobalAveragePool", "quantd", 1, 5, 5, 1, QC_IS_INTERNAL)

enum {
    QC_IS_PASS = 1, QC_IS_QUANT = 2, QC_IS_UNARY = 4, QC_IS_SHAPE = 8, QC_IS_NOQ = 16,
    QC_IS_INTERNAL = 32, QC_IS_TABLE = 64, QC_IS_PARTS = 128
};

enum qc_op {
#define X(id, type, domain, since, min_in, max_in, max_out, flags) QC_OP_##id,
    QC_OPS(X)
#undef X
    QC_OP_COUNT
};

/* From one opset to the next, operators of the table got types that no tensor has here, attributes
 * and inputs that import knows (onnx_upgrade.c), and no other meaning. A newer one has to be
 * compared first; and ONNX Runtime 1.32 has no QuantizeLinear of 28, so no artifact of it runs. */
#define QC_OPSET_MIN 7
#define QC_OPSET_MAX 27

struct qc_op_row {
    const char *type, *domain;
    int since, min_inputs, max_inputs, max_outputs;
    unsigned flags;
};
extern const struct qc_op_row qc_op_rows[QC_OP_COUNT];

/* Index of the importable operator, or -1. domain NULL, "" and "ai.onnx" are ONNX's own. */
int qc_op_find(const char *type, const char *domain);

/* How many outputs of the node, from the first on, hold elements of input 0: none unless it is
 * QC_IS_PASS. */
int qc_node_passed(const struct qc_node *n);

/* The axis of the output channels in weights of this rank of a Conv, Gemm, MatMul or ConvTranspose:
 * 0; 0 with transB, else 1; the last; 1, those of one group, channel g * M + m of group g. */
int qc_node_weights_axis(const struct qc_node *n, int rank);
/* Number of output channels of such a node: the dim of that axis, of a ConvTranspose that of one
 * group times the groups. */
int64_t qc_node_channels(const struct qc_node *n, const struct qc_shape *weights);

/* graph_shapes.c: dtype, shape and symbolic dims of the outputs of node i from its inputs
 * (constants of inputs such as Reshape's shape are used). QD_INVALID / QD_UNSUPPORTED name the
 * node, the values and the limit. */
QD_MUST_CHECK enum qd_code qc_graph_infer_node(struct qc_graph *g, int node, struct qd_error *err);
/* Bind input shapes: a symbolic leading dim becomes `batch`; another symbolic dim is
 * QD_UNSUPPORTED and named. */
QD_MUST_CHECK enum qd_code qc_graph_bind_shapes(struct qc_graph *g, int64_t batch,
                                                struct qd_error *err);
/* The same, then all nodes in order. Does not fold: passes/pass_simplify.c interleaves folding
 * with inference. */
QD_MUST_CHECK enum qd_code qc_graph_bind_inputs(struct qc_graph *g, int64_t batch,
                                                struct qd_error *err);

/* graph_dump.c: one line a node, stable, for golden tests: "conv1 Conv(x[1,3,8,8]f32, w, b) ->
 * y[1,4,8,8]f32 clamp[0,6] {pads=[1,1,1,1]}". Caller frees *ret (malloc). */
QD_MUST_CHECK enum qd_code qc_graph_dump(const struct qc_graph *g, char **ret,
                                         struct qd_error *err);

#endif
