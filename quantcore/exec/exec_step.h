/* The inside of the executor: what an operator's implementation provides.
 *
 * An operator is one row in exec_table.c: the layout it wants and a prepare function. prepare
 * runs once at build time: it checks types, packs weights and precomputes offsets into `params`
 * (any struct, in the arena), and sets step->run. run is called per sample and may not allocate
 * or fail: everything that can be wrong was found by prepare. */
#ifndef QC_EXEC_STEP_H
#define QC_EXEC_STEP_H

#include "quantcore/exec/exec.h"

struct qc_step;

/* in[i].data is NULL for an absent input; constants are dense plain views. */
typedef void qc_step_run_fn(const struct qc_step *step, const struct qc_view *in,
                            const struct qc_view *out, void *scratch);

struct qc_step {
    int node;               /* index in the graph, -1 for a layout conversion */
    qc_step_run_fn *run;
    void *params;
    int n_inputs, n_outputs;
    int *inputs, *outputs;  /* storage slots of the program, -1 absent */
    size_t scratch_size;    /* bytes of per-thread scratch that run needs */
    const struct qc_kernels *kernels;
};

struct qc_prepare {
    const struct qc_graph *graph;
    const struct qc_node *node;
    const struct qc_kernels *kernels;
    struct qd_arena *arena;
    const struct qc_view *in, *out; /* data pointers are NULL except for constants; strides are
                                       final, so offsets can be computed from them */
};

/* Fills step->run, params, scratch_size. */
typedef enum qd_code qc_prepare_fn(const struct qc_prepare *p, struct qc_step *step,
                                   struct qd_error *err);

enum qc_layout_need {
    QC_WANT_PLAIN, /* inputs and outputs row-major */
    QC_WANT_NHWC,  /* data inputs (input 0; all non-constant ones of Concat) and outputs NHWC */
    QC_WANT_ANY    /* all data inputs and outputs alike, NHWC if input 0 is */
};

struct qc_exec_row {
    enum qc_layout_need layout;
    /* Pixels of border {top, left, bottom, right} that the operator reads around input 0; NULL
     * for none. */
    void (*border)(const struct qc_graph *g, const struct qc_node *n, int ret_pad[4]);
    qc_prepare_fn *prepare;
};
extern const struct qc_exec_row qc_exec_rows[QC_OP_COUNT]; /* prepare NULL: not executable */

/* Geometry of Conv and pools, auto_pad resolved; shared by shape inference's callers. */
struct qc_window {
    int kernel[2], stride[2], dilation[2], pad[4]; /* h, w; pad: top, left, bottom, right */
};

#endif
