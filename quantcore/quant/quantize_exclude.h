/* Which operators the user keeps in f32, and which never leave it. */
#ifndef QC_QUANTIZE_EXCLUDE_H
#define QC_QUANTIZE_EXCLUDE_H

#include "quantcore/base/qd_arena.h"

struct qc_graph;
struct qc_node;

/* All operators on any path from one node to another, both included. */
struct qc_exclude_range {
    const char *from, *to; /* node names */
};

/* Names are those of the folded and fused network (`quantd inspect` lists them): an operator that
 * was fused into another is none of its own. Everything is borrowed. */
struct qc_exclude {
    const char *const *nodes; /* exact node names */
    int n_nodes;
    const char *const *types; /* operator types */
    int n_types;
    const char *const *patterns; /* of node names, see qc_glob_match */
    int n_patterns;
    const struct qc_exclude_range *ranges;
    int n_ranges;
};

/* "*" is any number of characters, "?" is one; everything else is itself. Quadratic at worst. */
bool qc_glob_match(const char *pattern, const char *text);

/* reason[i]: why node i of a linked graph is excluded, or NULL; has room for all nodes.
 * QD_INVALID names an entry that matches nothing, and a range without a path. */
QD_MUST_CHECK enum qd_code qc_exclude_nodes(const struct qc_exclude *e, const struct qc_graph *g,
                                            struct qd_arena *arena, const char **reason,
                                            struct qd_error *err);

/* Why an operator without an integer form stays in f32 by itself: softmax, normalisation,
 * decoding arithmetic …; NULL when there is no such reason. */
const char *qc_automatic_exclusion(const struct qc_node *n);

#endif
