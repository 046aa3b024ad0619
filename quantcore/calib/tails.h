/* The k largest values of a stream, exact, in memory of k floats, whatever the order: what a
 * percentile of an unbounded number of values needs.
 *
 * The k smallest are the k largest of the negated values (negation is exact). */
#ifndef QC_TAILS_H
#define QC_TAILS_H

#include "quantcore/base/qd_arena.h"

/* Longest tail kept exactly; beyond it the fine histogram answers, within one bin. */
#define QC_TAIL_MAX 65536

struct qc_tail {
    bool smallest;   /* keep the smallest instead: values are stored negated */
    size_t k;        /* room: 1..QC_TAIL_MAX */
    size_t n;        /* held, <= k */
    float *heap;     /* a min-heap over the held (perhaps negated) values */
};

/* k = max(1, N - floor(N p)) for the share p of N values: the end of the range at percentile p
 * is the k-th largest. p in (0.5, 1]; p = 1 gives 1, the plain maximum. */
uint64_t qc_tail_length(uint64_t n_values, double p);

/* k is cut to QC_TAIL_MAX. */
QD_MUST_CHECK enum qd_code qc_tail_init(struct qc_tail *t, bool smallest, uint64_t k,
                                        struct qd_arena *arena, struct qd_error *err);
/* Values must not be NaN. */
void qc_tail_add(struct qc_tail *t, const float *x, size_t n);
/* Add all that b holds; b keeps its own. Same `smallest`; a's k decides what stays. */
void qc_tail_merge(struct qc_tail *a, const struct qc_tail *b);
/* The i-th largest (smallest), i = 1..n. O(n log n) in a caller's scratch of n floats. */
float qc_tail_at(const struct qc_tail *t, size_t i, float *scratch);

#endif
