/* Verification: the artifact, read back from its bytes, against the f32 network.
 *
 * Two integer runs go beside one f32 run, layer by layer:
 *   cumulative  the artifact as it will be used: every error adds up
 *   local       each layer gets the quantized f32 values of its inputs, so that only its own
 *               error shows
 * Nothing is stored between layers: all three programs advance in lockstep and a value is
 * compared while it is still in its buffer. Sums are kept per sample and merged in the samples'
 * order: threads and batches change no bit. */
#ifndef QC_VERIFY_H
#define QC_VERIFY_H

#include "quantcore/verify/metrics.h"

/* One f32 value and its counterpart in the artifact. */
struct qc_verify_layer {
    int f32_node;               /* index in the f32 graph, -1: a graph input */
    int f32_value, int_value;   /* value indices in either graph */
    bool is_u8;
    struct qc_qparams params;   /* is_u8 only */
    struct qc_metric local, cumulative;
};

struct qc_verify_output {
    int output;                 /* graph output index */
    struct qc_metric metric;
    bool is_classifier;         /* [1, classes], classes >= 2 */
    uint64_t n, agree1, agree5; /* samples; same class first / artifact's first among f32's 5 */
    double entropy;             /* sum over samples of f32's qc_entropy_share */
    uint64_t n_labelled, right_f32, right_int8;
    uint64_t n_beyond;          /* labels that are no class */
    int32_t largest_label;
};

struct qc_verify; /* in the arena */

struct qc_verify_options {
    const struct qc_graph *f32_graph;
    const struct qc_exec *f32_exec;
    /* The artifact: `codes` must have been taken with qc_verify_codes before int_plan. */
    const struct qc_graph *int_graph;
    const struct qc_exec *int_exec;
    const struct qc_verify_codes *codes;
    const struct qc_kernels *kernels; /* must outlive the verification */
    int n_threads, n_slots;     /* slots: samples of a batch */
};

/* Which 8-bit values of an imported QDQ graph stand for which f32 tensor: one entry for every
 * QuantizeLinear of an activation with constant u8 or s8 parameters (s8 as the u8 that int_plan
 * makes of it). The tensor's name is that of the
 * QuantizeLinear's input without the suffix "_float" (which export gives to a graph output's
 * tensor before it is quantized). Call before int_plan removes the QuantizeLinear nodes. */
struct qc_verify_code {
    const char *tensor;
    int value;
    struct qc_qparams params;
};
struct qc_verify_codes {
    int n;
    struct qc_verify_code *code;
};
QD_MUST_CHECK enum qd_code qc_verify_find_codes(const struct qc_graph *g,
                                                struct qc_verify_codes *ret,
                                                struct qd_error *err);

QD_MUST_CHECK enum qd_code qc_verify_new(const struct qc_verify_options *options,
                                         struct qd_arena *arena, struct qc_verify **ret,
                                         struct qd_error *err);
/* Run sample `slot` of a batch on a thread: inputs are dense f32. label < 0: none. Errors of
 * threads are kept for end_batch. */
void qc_verify_sample(struct qc_verify *v, int thread, int slot, const void *const *inputs,
                      int32_t label);
/* Merge slots 0..n_used-1 in order. */
QD_MUST_CHECK enum qd_code qc_verify_end_batch(struct qc_verify *v, int n_used,
                                               struct qd_error *err);
const struct qc_verify_layer *qc_verify_layers(const struct qc_verify *v, int *ret_n);
const struct qc_verify_output *qc_verify_outputs(const struct qc_verify *v, int *ret_n);

#endif
