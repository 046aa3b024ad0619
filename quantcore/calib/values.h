/* The distinct values of a tensor and how often each occurs, as long as they are few: all values
 * where these are at most QC_VALUES_ALL (pooled outputs; any tensor of few samples), else at most
 * QC_VALUES_MAX distinct ones: pixels of 8-bit images behind a normalisation (at most 256 a
 * channel), sparse tensors. What is derived from them is exact; a bin of the histogram does not tell on
 * which side of an edge its values lie, and such values often lie on edges.
 *
 * Of others nothing is kept. Which it is depends on the values alone, not on the order, the threads or the parts they came in. */
#ifndef QC_VALUES_H
#define QC_VALUES_H

#include <string.h>

#include "quantcore/calib/histogram.h"

#define QC_VALUES_ALL   16384
#define QC_VALUES_MAX   4096
#define QC_VALUES_SLOTS 8192

struct qc_value_count {
    float value;    /* never -0 */
    uint64_t count; /* >= 1 */
};

int qc_value_count_compare(const void *a, const void *b); /* by value, for qsort */

/* The finished table. */
struct qc_values {
    int n;                          /* 0: not kept */
    struct qc_value_count *entries; /* ascending, in the arena */
};

/* Of n values, n > 0, which are sorted; those outside [lo, hi] count as these. */
QD_MUST_CHECK enum qd_code qc_values_of(float *x, size_t n, float lo, float hi,
                                        struct qd_arena *arena, struct qc_values *ret,
                                        struct qd_error *err);
/* Of both tensors, which have `count` values together. */
QD_MUST_CHECK enum qd_code qc_values_merge(const struct qc_values *a, const struct qc_values *b,
                                           uint64_t count, struct qd_arena *arena, struct qc_values *ret,
                                           struct qd_error *err);

/* ---- while counting -----------------------------------------------------------------------
 *
 * Open addressing at half load at most. A value whose 32 bits of count are full has a further
 * slot. */
struct qc_value_slot {
    uint32_t bits;  /* of a float that is not -0: compared as they are */
    uint32_t count; /* 0: free */
};
static inline float qc_value_of(const struct qc_value_slot *s)
{
    float value;
    memcpy(&value, &s->bits, sizeof(value));
    return value;
}
struct qc_value_table {
    struct qc_value_slot *slots; /* QC_VALUES_SLOTS, zero at first; NULL: given up */
    int n_used, n_distinct;
    float lo, hi; /* values outside count as these, as they do in the histogram's end bins */
};

/* Count x, up to the first that is a value too many: gives how many were counted. */
size_t qc_value_table_add(struct qc_value_table *t, const float *x, size_t n);
/* The same of one value, count times. */
bool qc_value_table_add_count(struct qc_value_table *t, float x, uint64_t count);
/* Move from's values into t until one is too many (false): both together hold all of them. */
bool qc_value_table_take(struct qc_value_table *t, struct qc_value_table *from);
/* From values to counts of h's bins, which may be in the slots' own memory. */
void qc_value_table_give_up(struct qc_value_table *t, const struct qc_histogram *h,
                            uint64_t *counts);
/* Ascending, in the arena. */
QD_MUST_CHECK enum qd_code qc_value_table_finish(const struct qc_value_table *t,
                                                 struct qd_arena *arena, struct qc_values *ret,
                                                 struct qd_error *err);

#endif
