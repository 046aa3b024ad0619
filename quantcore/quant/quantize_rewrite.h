/* A new graph beside the f32 one, for the modes that need no calibration: the same header, values
 * and names, its nodes copied or replaced one by one. Weights become codes here; what is done
 * with them is the business of quantize_weight_only.c and quantize_dynamic.c. */
#ifndef QC_QUANTIZE_REWRITE_H
#define QC_QUANTIZE_REWRITE_H

#include "quantcore/passes/pass_import_qdq.h"
#include "quantcore/quant/quantize_exclude.h"
#include "quantcore/quant/quantize_names.h"
#include "quantcore/quant/quantize_weights.h"

struct qc_rewrite_options {
    bool weights_per_channel;          /* of a Conv; else one scale a tensor */
    bool dense_per_channel;            /* of a Gemm or MatMul */
    bool weights_full_range;           /* codes down to -128 */
    bool weights_asymmetric;           /* a zero point beside each scale; not for dynamic */
    int weight_bits;                   /* 8, 4, 3, 2, 1, or 16: float16, which is not for dynamic; 0
                                          stands for 8 */
    int block_size;                    /* weights along the inputs that share a scale; 0: all; not for
                                          dynamic */
    struct qc_exclude exclude;         /* lists are borrowed */
    const double *const *channel_mean; /* [n_values] E[x] along dim 1 of the input of a Conv or
                                          Gemm, along the last of a MatMul's, for its bias; NULL
                                          entries, or NULL: unknown */
    const int *n_channels;             /* [n_values] of them */
    const struct qc_import *import;    /* codes that the model has already stay, borrowed; may be
                                          NULL */
};

struct qc_rewrite {
    struct qc_graph *graph; /* the result; values 0..n_values-1 are those of the old graph */
    const struct qc_graph *old;
    const char **reason; /* [old n_nodes] why it keeps f32 weights; "" when they are integers */
    struct qc_quantized_weights **weights; /* [old n_nodes] NULL where there are none */
    int n_quantized, n_f32;                /* nodes that execute */
    /* inside */
    struct qc_rewrite_options options;
    struct qd_arena *arena;
    struct qc_name_set names;
};

/* Both borrow from old, which must be linked, inferred, folded and fused. QD_INVALID as
 * qc_exclude_nodes. */
QD_MUST_CHECK enum qd_code qc_rewrite_new(const struct qc_graph *old,
                                          const struct qc_rewrite_options *options,
                                          struct qd_arena *arena, struct qc_rewrite **ret,
                                          struct qd_error *err);
/* Why node i cannot have integer weights whatever the mode: it is excluded, no Conv, Gemm or
 * MatMul, or its weights are no f32 constant of rank 2 or more; NULL when it can. */
const char *qc_rewrite_obstacle(const struct qc_rewrite *r, int i);
/* The weights of node i as codes: the model's own where it had symmetric s8 ones with the scales
 * this node can use, else quantized; those of 4 bits and fewer as s4 where packed, else as s8.
 * factor: of the f32 weights (a Gemm's alpha). Sets r->weights[i]. Errors name node and weights. */
QD_MUST_CHECK enum qd_code qc_rewrite_quantize(struct qc_rewrite *r, int i, float factor,
                                               bool packed, struct qd_error *err);
/* The bias of node i, whose weights are codes, corrected for their rounding where the means of
 * its input are known: f32, one an output channel. *ret NULL: none is, it stays as it was (so of
 * a MatMul, whose Add takes the correction where it can, of a Gemm with alpha or beta, with
 * imported weights, and of a bias that is no constant a channel). */
QD_MUST_CHECK enum qd_code qc_rewrite_correct(const struct qc_rewrite *r, int i,
                                              const struct qc_tensor **ret, struct qd_error *err);
/* A constant "<base><suffix>" with the tensor, borrowed from the arena. */
QD_MUST_CHECK enum qd_code qc_rewrite_constant(struct qc_rewrite *r, const char *base,
                                               const char *suffix, const struct qc_tensor *tensor,
                                               int *ret, struct qd_error *err);
/* The same of a copy of numbers. */
QD_MUST_CHECK enum qd_code qc_rewrite_numbers(struct qc_rewrite *r, const char *base,
                                              const char *suffix, enum qc_dtype dtype,
                                              const struct qc_shape *shape, const void *data,
                                              int *ret, struct qd_error *err);
/* A node between values; name NULL: that of the first output, "": made up. outputs: existing
 * values, or -1, which becomes a new value "<base><suffix[k]>". ret_node is valid until the next.
 */
struct qc_rewrite_step {
    int op;
    const char *name, *base;
    int n_inputs, n_outputs;
    int inputs[4], outputs[3];
    const char *suffix[3];
};
QD_MUST_CHECK enum qd_code qc_rewrite_add(struct qc_rewrite *r, struct qc_rewrite_step *step,
                                          struct qc_node **ret_node, struct qd_error *err);
/* An integer attribute more. */
QD_MUST_CHECK enum qd_code qc_rewrite_set_int(struct qc_rewrite *r, struct qc_node *node,
                                              const char *name, int64_t value,
                                              struct qd_error *err);
/* Node i as it was, reading other values. Constants that the model had behind a DequantizeLinear
 * get it back. */
QD_MUST_CHECK enum qd_code qc_rewrite_copy(struct qc_rewrite *r, int i, const int *inputs,
                                           int n_inputs, struct qd_error *err);
/* Counts and links. */
QD_MUST_CHECK enum qd_code qc_rewrite_finish(struct qc_rewrite *r, struct qd_error *err);

#endif
