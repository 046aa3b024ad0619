#include "quantcore/quant/quantize_exclude.h"

#include <string.h>

#include "quantcore/graph/op_table.h"

bool qc_glob_match(const char *pattern, const char *text)
{
    const char *star = NULL; /* behind the last "*", and where its match would end */
    const char *end = NULL;
    while (*text != '\0') {
        if (*pattern == '*') {
            star = ++pattern;
            end = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL) {
            pattern = star;
            text = ++end;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == '\0';
}

static bool same(const char *wanted, const char *text)
{
    return strcmp(wanted, text) == 0;
}

/* One of the lists: what it is compared with, and how. */
struct name_list {
    const char *const *names;
    int n;
    bool of_types;
    bool (*match)(const char *wanted, const char *text);
    const char *what;   /* for the error */
    const char *reason; /* printf: the entry */
};

static enum qd_code mark_list(const struct name_list *list, const struct qc_graph *g,
                              struct qd_arena *arena, const char **reason, struct qd_error *err)
{
    for (int k = 0; k < list->n; k++) {
        const char *why = NULL;
        for (int i = 0; i < g->n_nodes; i++) {
            const struct qc_node *n = &g->nodes[i];
            if (!list->match(list->names[k], list->of_types ? n->op_type : n->name)) {
                continue;
            }
            if (why == NULL) {
                QD_TRY(qd_arena_printf(arena, &why, err, "%s '%.100s'", list->reason,
                                       list->names[k]));
            }
            reason[i] = reason[i] != NULL ? reason[i] : why;
        }
        if (why == NULL) {
            return qd_fail_on(err, QD_INVALID, list->names[k],
                              "excluded %s '%.200s': the network has none, folded and fused",
                              list->what, list->names[k]);
        }
    }
    return QD_OK;
}

/* ---- ranges ------------------------------------------------------------------------------- */

static enum qd_code find_end(const struct qc_graph *g, const char *name, int *ret,
                             struct qd_error *err)
{
    for (int i = 0; i < g->n_nodes; i++) {
        if (strcmp(g->nodes[i].name, name) == 0) {
            *ret = i;
            return QD_OK;
        }
    }
    return qd_fail_on(err, QD_INVALID, name,
                      "excluded range: the network has no node '%.200s', folded and fused", name);
}

static bool any_marked(const bool *marked, const int *values, int n)
{
    for (int k = 0; k < n; k++) {
        if (values[k] >= 0 && marked[values[k]]) {
            return true;
        }
    }
    return false;
}

static void mark_all(bool *marked, const int *values, int n)
{
    for (int k = 0; k < n; k++) {
        if (values[k] >= 0) {
            marked[values[k]] = true;
        }
    }
}

/* A node is on a path when it can be reached from one end and reaches the other; nodes stand in
 * topological order, so that one pass along and one against it suffice. */
static enum qd_code mark_range(const struct qc_exclude_range *range, const struct qc_graph *g,
                               struct qd_arena *arena, const char **reason, struct qd_error *err)
{
    int from = 0, to = 0;
    bool *ahead = NULL, *behind = NULL, *reached = NULL;
    const char *why = NULL;
    QD_TRY(find_end(g, range->from, &from, err));
    QD_TRY(find_end(g, range->to, &to, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(bool), &ahead, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(bool), &behind, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_nodes, sizeof(bool), &reached, err));
    for (int i = from; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        reached[i] = i == from || any_marked(ahead, n->inputs, n->n_inputs);
        if (reached[i]) {
            mark_all(ahead, n->outputs, n->n_outputs);
        }
    }
    if (!reached[to]) {
        return qd_fail_on(err, QD_INVALID, range->from,
                          "excluded range: no path leads from node '%.200s' to node '%.200s'",
                          range->from, range->to);
    }
    QD_TRY(qd_arena_printf(arena, &why, err, "excluded by range '%.100s' to '%.100s'",
                           range->from, range->to));
    for (int i = to; i >= from; i--) {
        const struct qc_node *n = &g->nodes[i];
        if (!reached[i] || (i != to && !any_marked(behind, n->outputs, n->n_outputs))) {
            continue;
        }
        mark_all(behind, n->inputs, n->n_inputs);
        reason[i] = reason[i] != NULL ? reason[i] : why;
    }
    return QD_OK;
}

enum qd_code qc_exclude_nodes(const struct qc_exclude *e, const struct qc_graph *g,
                              struct qd_arena *arena, const char **reason, struct qd_error *err)
{
    const struct name_list lists[] = {
        {e->nodes, e->n_nodes, false, same, "node", "excluded by name"},
        {e->types, e->n_types, true, same, "operator type", "excluded by operator type"},
        {e->patterns, e->n_patterns, false, qc_glob_match, "pattern", "excluded by pattern"},
    };
    for (int i = 0; i < g->n_nodes; i++) {
        reason[i] = NULL;
    }
    for (size_t i = 0; i < QD_COUNT_OF(lists); i++) {
        QD_TRY(mark_list(&lists[i], g, arena, reason, err));
    }
    for (int i = 0; i < e->n_ranges; i++) {
        QD_TRY(mark_range(&e->ranges[i], g, arena, reason, err));
    }
    return QD_OK;
}

/* ---- what stays in f32 by itself ---------------------------------------------------------- */

const char *qc_automatic_exclusion(const struct qc_node *n)
{
    static const struct {
        const char *type, *why;
    } rows[] = {
        {"Softmax", "automatic: softmax, its output needs more than 256 steps"},
        {"LogSoftmax", "automatic: softmax, its output needs more than 256 steps"},
        {"BatchNormalization",
         "automatic: normalisation (no Conv or Gemm before it to fold it into)"},
        {"LayerNormalization", "automatic: normalisation"},
        {"InstanceNormalization", "automatic: normalisation"},
        {"GroupNormalization", "automatic: normalisation"},
        {"LpNormalization", "automatic: normalisation"},
        {"LRN", "automatic: normalisation"},
        {"ReduceL2", "automatic: normalisation"},
        {"ReduceSum", "automatic: normalisation or pooling over free axes"},
        {"ReduceMax", "automatic: normalisation or pooling over free axes"},
        {"ReduceMin", "automatic: normalisation or pooling over free axes"},
        {"ReduceMean", "automatic: normalisation or pooling over free axes"},
        {"Exp", "automatic: arithmetic of box and score decoding"},
        {"Log", "automatic: arithmetic of box and score decoding"},
        {"Pow", "automatic: arithmetic of box and score decoding"},
        {"Sqrt", "automatic: arithmetic of box and score decoding"},
        {"Reciprocal", "automatic: arithmetic of box and score decoding"},
        {"Sub", "automatic: arithmetic of box and score decoding"},
        {"Div", "automatic: arithmetic of box and score decoding"},
        {"Min", "automatic: arithmetic of box and score decoding"},
        {"Max", "automatic: arithmetic of box and score decoding"},
        {"PRelu", "automatic: runtimes have no 8-bit form of it"},
        {"Where", "automatic: selection by conditions"},
        {"TopK", "automatic: box decoding"},
        {"NonMaxSuppression", "automatic: box decoding"},
        {"Cast", "automatic: conversion of types"},
    };
    for (size_t i = 0; i < QD_COUNT_OF(rows); i++) {
        if (strcmp(n->op_type, rows[i].type) == 0) {
            return rows[i].why;
        }
    }
    return NULL;
}
