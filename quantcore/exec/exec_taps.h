/* The taps of a convolution as tiles take them, for every part of the kernel that pixels see.
 *
 * A window that reaches over the border multiplies what is known beforehand. Columns of the output
 * whose windows see the same columns of the kernel form a run: of a 3 x 3 kernel with pads of 1
 * the first, the last and all between them. Rows are told apart in exec_pixels.h. */
#ifndef QC_EXEC_TAPS_H
#define QC_EXEC_TAPS_H

#include "quantcore/exec/exec_step.h"

struct qc_run {
    int64_t first, n;             /* columns of the output */
    int kernel_column, n_columns; /* what of the kernel they see, n_columns may be 0 */
    int32_t *tap;                 /* [rows][n_columns] offsets, elements from the window's first */
    int32_t *gap;                 /* [rows][n_columns] weights between a tap's and the next's */
};

struct qc_taps {
    int rows, columns; /* of the kernel; 1 column when a row of it is one tap */
    int tap_size;      /* a packed panel's weights of a tap */
    struct qc_run all; /* every column of the output, every tap of the kernel */
    struct qc_run *run;
    int n_runs; /* 0: they are not told apart */
};

/* What of the kernel the window of output `at` sees along dimension d (0 or 1) of an input of
 * `size`. */
void qc_window_seen(const struct qc_window *w, int d, int64_t size, int64_t at, int *ret_first,
                    int *ret_n);

/* Whether tiles of their own are worth it for the columns at the border: of a wide output they are
 * few, and of few channels a row of the kernel had better be one tap. */
bool qc_taps_worth_runs(const struct qc_window *w, int channels, const struct qc_view *out);
/* Both views are NHWC; channels: of a tap, as packed; panel: output channels of one. merged: a row of the kernel is one tap;
 * divided: columns are told apart (not both). QD_UNSUPPORTED when an offset does not fit 32 bits. */
QD_MUST_CHECK enum qd_code qc_taps_init(const struct qc_prepare *p, const struct qc_window *w,
                                        const struct qc_view *in, const struct qc_view *out,
                                        int channels, int panel, bool merged,
                                        bool divided, struct qc_taps *ret, struct qd_error *err);

#endif
