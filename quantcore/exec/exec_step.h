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
    QC_WANT_ANY    /* all data inputs and outputs alike, NHWC if input 0 is; but QuantizeLinear makes
                      NHWC of an image at once */
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

/* Input, weights and output of a Conv or ConvTranspose are f32 of rank 3 or 4, its bias is f32 with
 * one value an output channel; refused otherwise. */
QD_MUST_CHECK enum qd_code qc_conv_check_f32(const struct qc_prepare *p, struct qd_error *err);
/* kernel, stride, dilation and pads of a Conv or pool node whose kernel is kernel[0..n-1] (n = 1
 * or 2 spatial dims; one dim becomes H = 1). in and out: the spatial dims. auto_pad resolved. */
void qc_window_resolve(const struct qc_node *n, int n_spatial, const int64_t *kernel,
                       const int64_t *in, const int64_t *out, struct qc_window *ret);

/* Zero point of an 8-bit value, found at the quantized operators that consume or produce it
 * (through operators that pass elements on); 0 when there is none. */
int qc_exec_zero_point(const struct qc_graph *g, int value);

/* NHWC strides of a view (dtype, shape of rank 4 set) with a border of pad {top, left, bottom,
 * right} pixels: pixel stride rounded up to 16 f32, 16 (up to 32 channels) or 64 8-bit elements;
 * up to 4 channels are not rounded. *ret_lead:
 * bytes from the start of the storage to element [0,0,0,0]; *ret_size: bytes of the storage. */
void qc_view_nhwc_strides(struct qc_view *view, const int pad[4], size_t *ret_lead,
                          size_t *ret_size);
/* Write `zero` (f32: 0.0f) into the border. */
void qc_view_fill_border(const struct qc_view *view, const int pad[4], int zero);
/* Copy between any two layouts of equal shape and dtype. */
void qc_view_copy(const struct qc_view *from, const struct qc_view *to);
/* [N,C,W] as [N,C,1,W]; rank 4 stays. Plain views only change their shape. */
struct qc_view qc_view_as_2d(const struct qc_view *view);

/* For each of n matrices of a product whose leading dims are `batch`, the index of the operand's
 * matrix (numpy broadcasting). */
QD_MUST_CHECK enum qd_code qc_matmul_batches(const struct qc_prepare *p,
                                             const struct qc_shape *operand,
                                             const struct qc_shape *batch, int64_t n,
                                             const int64_t **ret, struct qd_error *err);

/* QD_UNSUPPORTED "Op 'node' (f32[1,3,8,8]): reason", naming the first input's type. */
enum qd_code qc_prepare_refuse(const struct qc_prepare *p, struct qd_error *err,
                               const char *reason);

#endif
