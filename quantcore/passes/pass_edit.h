/* What passes share: questions about uses, and edits of nodes. */
#ifndef QC_PASS_EDIT_H
#define QC_PASS_EDIT_H

#include "quantcore/graph/graph.h"

/* A snapshot of how often each value is used (graph outputs count). Values appended later have
 * no count and are taken for shared. */
struct qc_edit {
    struct qc_graph *g;
    int n_values;
    const int *uses; /* [n_values] */
};

QD_MUST_CHECK enum qd_code qc_edit_init(struct qc_edit *e, struct qc_graph *g,
                                        struct qd_error *err);
/* The node whose output 0 is input i of n, if that is the value's only use; else NULL. */
struct qc_node *qc_edit_sole_producer(const struct qc_edit *e, const struct qc_node *n, int i);
/* Input i as an f32 initializer; NULL when it is absent, data, of another type, or computed from
 * the shape of data. */
const struct qc_tensor *qc_edit_initializer(const struct qc_graph *g, const struct qc_node *n,
                                            int i);
/* Is input i a constant that nothing else reads: may it be written over? */
bool qc_edit_owns_initializer(const struct qc_edit *e, const struct qc_node *n, int i);
/* Input i (which may be beyond the present ones) becomes tensor: in place when the value has no
 * other use, else as a new value called "<base>_<suffix>". */
QD_MUST_CHECK enum qd_code qc_edit_set_initializer(const struct qc_edit *e, struct qc_node *n,
                                                   int i, const struct qc_tensor *tensor,
                                                   const char *base, const char *suffix,
                                                   struct qd_error *err);
/* Replace or append an attribute (its contents are borrowed from the arena). */
QD_MUST_CHECK enum qd_code qc_edit_set_attr(struct qc_graph *g, struct qc_node *n,
                                            const struct qc_attr *attr, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_edit_drop_attr(struct qc_graph *g, struct qc_node *n,
                                             const char *name, struct qd_error *err);
/* producer computes what n computed: it takes over output 0 of n, and n is marked removed. */
void qc_edit_merge(struct qc_graph *g, struct qc_node *producer, struct qc_node *n);

#endif
