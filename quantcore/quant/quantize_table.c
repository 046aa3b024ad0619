#include "quantcore/quant/quantize_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/quant/quantize_plan.h"

/* A name of the graph and the value that it stands for. */
struct named {
    const char *name;
    int value;
};

struct table_index {
    struct named *values, *layers; /* sorted by name */
    size_t n_values, n_layers;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Quantized values; nodes with their first input, when that is one. */
static enum qd_code build_index(const struct qc_quantize_plan *plan, struct qd_arena *arena,
                                struct table_index *ret, struct qd_error *err)
{
    const struct qc_graph *g = plan->graph;
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(*ret->values), &ret->values, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_nodes, sizeof(*ret->layers), &ret->layers, err));
    for (int v = 0; v < g->n_values; v++) {
        if (plan->group[v] >= 0) {
            ret->values[ret->n_values++] = (struct named){g->values[v].name, v};
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (n->n_inputs > 0 && n->inputs[0] >= 0 && plan->group[n->inputs[0]] >= 0) {
            ret->layers[ret->n_layers++] = (struct named){n->name, n->inputs[0]};
        }
    }
    qsort(ret->values, ret->n_values, sizeof(struct named), by_name);
    qsort(ret->layers, ret->n_layers, sizeof(struct named), by_name);
    return QD_OK;
}

/* -1: nothing that is quantized. */
static int find_value(const struct table_index *index, const struct qc_table_row *row)
{
    struct named key = {.name = row->tensor != NULL ? row->tensor : row->layer};
    const struct named *found =
        row->tensor != NULL ? bsearch(&key, index->values, index->n_values, sizeof(key), by_name)
                            : bsearch(&key, index->layers, index->n_layers, sizeof(key), by_name);
    return found != NULL ? found->value : -1;
}

static enum qd_code check_row(const struct qc_table_row *row, struct qd_error *err)
{
    const char *name = row->tensor != NULL ? row->tensor : row->layer;
    int lo = row->is_s8 ? -128 : 0, hi = row->is_s8 ? 127 : 255;
    if (name == NULL) {
        return qd_fail(err, QD_INVALID, "a row of the calibration table names nothing");
    }
    if (!isnormal(row->scale) || row->scale < 0) {
        return qd_fail_on(err, QD_INVALID, name,
                          "calibration table: scale %g of '%.200s' is not a positive number",
                          (double)row->scale, name);
    }
    if (row->zero_point < lo || row->zero_point > hi) {
        return qd_fail_on(err, QD_INVALID, name,
                          "calibration table: zero point %d of '%.200s', allowed: %d to %d",
                          (int)row->zero_point, name, lo, hi);
    }
    return QD_OK;
}

enum qd_code qc_table_import(const struct qc_quantize_plan *plan, const struct qc_table_row *rows,
                             size_t n_rows, struct qd_arena *arena, struct qc_import **ret,
                             size_t *ret_unused, struct qd_error *err)
{
    struct qc_import *import = NULL;
    struct table_index index = {0};
    bool *by_root = NULL; /* [n_values] the pair came from the root's own row */
    size_t n_values = (size_t)plan->graph->n_values, unused = 0;
    QD_TRY(qd_arena_alloc(arena, sizeof(*import), &import, err));
    QD_TRY(qd_arena_array(arena, n_values, sizeof(*import->pair), &import->pair, err));
    QD_TRY(qd_arena_array(arena, n_values, sizeof(*by_root), &by_root, err));
    QD_TRY(build_index(plan, arena, &index, err));
    import->n_pair_values = plan->graph->n_values;
    for (size_t i = 0; i < n_rows; i++) {
        QD_TRY(check_row(&rows[i], err));
        int v = find_value(&index, &rows[i]);
        int root = v >= 0 ? plan->group[v] : -1;
        if (root < 0) {
            unused++;
            continue;
        }
        bool first = import->pair[root].scale == 0;
        if (first || (v == root && !by_root[root])) {
            import->pair[root] =
                (struct qc_qparams){rows[i].scale, rows[i].zero_point, rows[i].is_s8};
            by_root[root] = v == root;
            import->n_pairs += first;
        }
    }
    if (import->n_pairs == 0) {
        return qd_fail(err, QD_INVALID,
                       "none of the %zu scales of the calibration table is for a tensor that is "
                       "quantized (the first names '%.200s')",
                       n_rows,
                       n_rows == 0              ? ""
                       : rows[0].tensor != NULL ? rows[0].tensor
                                                : rows[0].layer);
    }
    *ret = import;
    *ret_unused = unused;
    return QD_OK;
}
