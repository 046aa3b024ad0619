/* What quantize_graph.c and quantize_params.c share: the graph that is being built, and its
 * weights and biases. */
#ifndef QC_QUANTIZE_PARAMS_H
#define QC_QUANTIZE_PARAMS_H

#include "quantcore/quant/quantize_graph.h"
#include "quantcore/quant/quantize_names.h"

struct qc_builder {
    const struct qc_quantize_plan *plan;
    const struct qc_graph *old;
    const struct qc_qparams *pairs;
    const double *const *channel_mean;
    const int *n_channels;
    struct qd_arena *arena;
    struct qc_graph *g;
    struct qc_quantized_graph *result;
    int *scale, *zero_point;  /* [old n_values] constants of a quantized value, -1 before */
    int *n_uses;              /* [old n_values] DequantizeLinear nodes so far */
    struct qc_name_set names; /* all values of the old graph and of the new one */
    bool *read_as_f32;        /* [old n_values] some node reads the value before its Q */
    bool *read_as_u8;         /* [old n_values] some node reads a DequantizeLinear of it */
};

/* "<base><suffix>", or a free name like it. */
QD_MUST_CHECK enum qd_code qc_builder_name(struct qc_builder *b, const char *base,
                                           const char *suffix, const char **ret,
                                           struct qd_error *err);
/* A constant of n elements (rank 1), or one element of rank 0 when n is 0. data NULL: zeros. */
QD_MUST_CHECK enum qd_code qc_builder_constant(struct qc_builder *b, const char *base,
                                               const char *suffix, enum qc_dtype dtype, size_t n,
                                               const void *data, int *ret, struct qd_error *err);
/* One node x, scale, zero_point (-1: absent) -> a new value called `name` like x: f32, or the
 * type of zero_point. axis -1: no attribute. */
QD_MUST_CHECK enum qd_code qc_builder_convert(struct qc_builder *b, int op, const char *node_name,
                                              const char *name, int x, int scale, int zero_point,
                                              int axis, int *ret, struct qd_error *err);
/* Weights and bias of integer node i of the old graph; ret_bias -1 when it has and needs none.
 * Weights and biases that the model had as integers stay as they are; an f32 bias that is too large
 * for such weights' scales stays f32. */
QD_MUST_CHECK enum qd_code qc_builder_add_parameters(struct qc_builder *b, int i,
                                                     int *ret_weights, int *ret_bias,
                                                     struct qd_error *err);
/* Constants that the model had behind a DequantizeLinear get it back, where a node that stays in
 * f32 reads them. */
QD_MUST_CHECK enum qd_code qc_builder_restore_constants(struct qc_builder *b,
                                                        const struct qc_node *from, int *inputs,
                                                        struct qd_error *err);

#endif
