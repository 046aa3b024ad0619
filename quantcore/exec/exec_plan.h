/* The inside of a program: where every value lies, and when. */
#ifndef QC_EXEC_PLAN_H
#define QC_EXEC_PLAN_H

#include "quantcore/exec/exec_step.h"

/* A value in one layout. Constants point into the graph's tensors and take no room. */
struct qc_slot {
    int value;
    struct qc_view view; /* data: constants only */
    bool borrowed;     /* an input that is read where the caller has it; size is 0 */
    bool bordered;
    int border[4];     /* top, left, bottom, right */
    int zero;          /* what the border holds (8-bit: the zero point) */
    size_t lead, size; /* bytes: before element 0; with lead and tail, a multiple of 64 */
    size_t offset;     /* into the buffer, a multiple of 64 */
    int whole;         /* the slot of a Concat that this one is some channels of, -1; size is 0 */
    int first, last;   /* steps during which it must stay: -1 before the first step,
                          INT_MAX to the end */
};

struct qc_exec {
    const struct qc_graph *graph;
    struct qc_kernels kernels;
    int n_values; /* of the graph when it was built */
    int n_slots, n_steps;
    struct qc_slot *slots;
    struct qc_step *steps;
    int *first_arg; /* [n_steps] index of the step's first view: inputs, then outputs */
    int n_args;
    int *slot_of[2]; /* by enum qc_layout: [n_values], -1 none */
    int *home;       /* [n_values] the slot a value is produced in, -1 none */
    int *step_of;    /* [n_values] the step that produces it, -1 inputs and constants */
    size_t buffer_size, scratch_size;
};

/* Slots and steps with final strides; then offsets. */
QD_MUST_CHECK enum qd_code qc_exec_plan(struct qc_exec *exec,
                                        const struct qc_exec_options *options,
                                        struct qd_arena *arena, struct qd_error *err);

#endif
