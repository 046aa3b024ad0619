/* Second moments H = sum of x x^T over the input columns x of each product (Conv, Gemm, MatMul):
 * what rounding of weights by their effect on the output needs (GPTQ and its kin), from pass 1.
 *
 * A column is what meets one output channel's weights at one position: [C / group][kh][kw] of a
 * Conv in the order of its weights, padding as 0, one matrix a group; the K inputs of a Gemm or
 * MatMul. Stored is the lower triangle, row by row: entry (i, j <= i) at i (i + 1) / 2 + j. A
 * sample's part is summed in double over its positions in order and added exactly (qd_exact.h),
 * so that parts, threads and batches merge to the same bytes. */
#ifndef QC_MOMENTS_H
#define QC_MOMENTS_H

#include "quantcore/base/qd_exact.h"
#include "quantcore/exec/exec.h"

#define QC_MOMENTS_MAX_COLUMNS 8192

struct qc_moment {
    const char *node;
    int n_groups, n_columns; /* K */
    uint64_t n_positions;    /* columns summed, a group */
    qd_int128 *lower;        /* [n_groups][K (K + 1) / 2], in units of 2^-48 */
    bool overflow;           /* a sum was too large: the values mean nothing */
};

/* Entries of the triangle. */
static inline size_t qc_moment_entries(int n_columns)
{
    return (size_t)n_columns * ((size_t)n_columns + 1) / 2;
}
/* Add from's sums to to's: the same node, groups and columns. */
void qc_moment_merge(struct qc_moment *to, const struct qc_moment *from);

struct qc_moments; /* in the arena */

/* wanted: [n_nodes]; products without constant weights and those with more than
 * QC_MOMENTS_MAX_COLUMNS columns are left out. QD_LIMIT_EXCEEDED by the arena's limit. */
QD_MUST_CHECK enum qd_code qc_moments_new(const struct qc_graph *g, const bool *wanted,
                                          int n_threads, struct qd_arena *arena,
                                          struct qc_moments **ret, struct qd_error *err);
/* Bytes that qc_moments_new would take. */
size_t qc_moments_bytes(const struct qc_graph *g, const bool *wanted, int n_threads);
/* A value of a sample, as an observer sees it. */
void qc_moments_add(struct qc_moments *m, int thread, int value, const struct qc_view *view);
/* All threads' sums; the moments live in the arena of _new. */
void qc_moments_end(struct qc_moments *m, struct qc_moment **ret, int *ret_n);

#endif
