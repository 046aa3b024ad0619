/* From bytes to programs: the steps that inspect, run and the pipeline share. */
#ifndef QC_MODEL_H
#define QC_MODEL_H

#include "quantcore/exec/exec.h"
#include "quantcore/quantcore.h"
#include "quantcore/verify/verify.h"

/* Import and run all passes: folded, fused, linked, inferred for a batch of 1. external may
 * be NULL: see qc_onnx_import. */
QD_MUST_CHECK enum qd_code qc_model_load(struct qd_bytes model,
                                         const struct qc_external *external,
                                         struct qd_arena *arena, struct qc_graph **ret,
                                         struct qd_error *err);

/* The same, with constants behind a DequantizeLinear as what they stand for: weights are unpacked
 * once, not in each run. */
QD_MUST_CHECK enum qd_code qc_model_load_f32(struct qd_bytes model,
                                             const struct qc_external *external,
                                             struct qd_arena *arena, struct qc_graph **ret,
                                             struct qd_error *err);

/* Inputs and outputs as declared. */
QD_MUST_CHECK enum qd_code qc_model_info_new(const struct qc_graph *g, struct qd_arena *arena,
                                             struct qc_model_info **ret, struct qd_error *err);

/* A QDQ model's bytes as an integer program. codes may be NULL. */
QD_MUST_CHECK enum qd_code qc_model_load_int8(struct qd_bytes model,
                                              const struct qc_external *external,
                                              const struct qc_kernels *kernels,
                                              struct qd_arena *arena, struct qc_graph **ret_graph,
                                              struct qc_exec **ret_exec,
                                              struct qc_verify_codes *codes,
                                              struct qd_error *err);

#endif
