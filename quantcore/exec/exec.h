/* Running a graph, f32 and integer alike.
 *
 * qc_exec_build turns a shape-inferred graph into a program: steps in order, packed weights, and
 * a buffer plan (offsets into one buffer, chosen by liveness). The program is immutable and
 * shared by threads; each thread has a state with its own buffer and runs one sample at a time.
 *
 * Layout: every value has a logical ONNX shape and a physical layout. QC_PLAIN is row-major.
 * QC_NHWC is for rank-4 values [N,C,H,W]: stored N,H,W,C with a border of `pad` pixels that the
 * producer fills with real zero (0.0f or the zero point) for the convolutions that follow, and a
 * pixel stride rounded up (f32: to 16 elements, 8-bit: to 64) with readable tails. Convolution,
 * pools, Resize and BatchNormalization want NHWC; elementwise operators take what their inputs
 * have; the rest wants PLAIN. The planner inserts conversions; where C*1*1 makes both the same,
 * none is needed. */
#ifndef QC_EXEC_H
#define QC_EXEC_H

#include "quantcore/graph/op_table.h"
#include "quantcore/kernels/qc_kernels.h"

enum qc_layout { QC_PLAIN, QC_NHWC };

/* Where a value lies during a run. */
struct qc_view {
    void *data;              /* element [0,0,0,0], inside the border */
    enum qc_dtype dtype;
    enum qc_layout layout;
    struct qc_shape shape;   /* logical ONNX shape */
    /* QC_NHWC, in elements: */
    int64_t pixel_stride, row_stride, image_stride;
    bool owns_pixels; /* what lies between the channels and the pixel stride may be written */
};

struct qc_exec;       /* a program: lives in the arena it was built in */
struct qc_exec_state; /* one thread's buffer: heap */

struct qc_exec_options {
    const struct qc_kernels *kernels;
    /* Keep the value alive until the end of the run (verification reads it): may be NULL. */
    const bool *keep; /* [n_values] */
    /* Read inputs that are only quantized where the caller has them, until the run ends: no
     * observer may overwrite them. */
    bool borrow_inputs;
};

/* The graph must be linked and inferred and must outlive the program. QD_UNSUPPORTED names node
 * and operator when there is no implementation for its types; QD_LIMIT_EXCEEDED when a thread's
 * buffer or scratch would pass 4 GiB. */
QD_MUST_CHECK enum qd_code qc_exec_build(const struct qc_graph *g,
                                         const struct qc_exec_options *options,
                                         struct qd_arena *arena, struct qc_exec **ret,
                                         struct qd_error *err);
/* Bytes of the buffer that a state needs. */
size_t qc_exec_buffer_size(const struct qc_exec *exec);

QD_MUST_CHECK enum qd_code qc_exec_state_new(const struct qc_exec *exec,
                                             struct qc_exec_state **ret, struct qd_error *err);
void qc_exec_state_free(struct qc_exec_state *state);

/* Called right after a step produced `value` (a graph value index) and for every graph input
 * after it was stored, while it is still in cache. The callback may overwrite the interior. */
typedef void qc_observe_fn(void *ctx, int value, const struct qc_view *view);

/* Run one sample: inputs[i] is dense row-major data of graph input i in its dtype. Outputs are
 * read with qc_exec_output afterwards. */
QD_MUST_CHECK enum qd_code qc_exec_run(const struct qc_exec *exec, struct qc_exec_state *state,
                                       const void *const *inputs, qc_observe_fn *observe,
                                       void *observe_ctx, struct qd_error *err);
/* Dense row-major copy of graph output i into out (qc_shape_elements of its shape). */
void qc_exec_output(const struct qc_exec *exec, const struct qc_exec_state *state, int output,
                    void *out);

/* Step by step, for lockstep comparison of two programs: begin stores the inputs, advance runs
 * steps until `value` has been produced (no-op if it already was), view tells where it lies. */
QD_MUST_CHECK enum qd_code qc_exec_begin(const struct qc_exec *exec, struct qc_exec_state *state,
                                         const void *const *inputs, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_exec_advance(const struct qc_exec *exec,
                                           struct qc_exec_state *state, int value,
                                           struct qd_error *err);
/* false when the value is not stored by this program (constant, fused away). */
bool qc_exec_view(const struct qc_exec *exec, const struct qc_exec_state *state, int value,
                  struct qc_view *ret);

/* Copy a view to / from dense row-major storage (same dtype). */
void qc_view_to_dense(const struct qc_view *view, void *out);
void qc_view_from_dense(const struct qc_view *view, const void *in);

/* Evaluate one node on constants (constant folding, tests): inputs must all be constants or
 * absent; results are new tensors in the arena, one an output. */
QD_MUST_CHECK enum qd_code qc_exec_eval_node(struct qc_graph *g, int node, struct qd_arena *arena,
                                             const struct qc_tensor **ret_outputs,
                                             struct qd_error *err);

#endif
