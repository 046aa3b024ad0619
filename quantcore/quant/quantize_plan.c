#include "quantcore/quant/quantize_plan.h"

#include <math.h>
#include <string.h>

#include "quantcore/quant/bias_correction.h"

bool qc_is_product(const struct qc_node *node)
{
    return qc_is_convolution(node) || node->op == QC_OP_GEMM || node->op == QC_OP_MATMUL;
}

bool qc_is_convolution(const struct qc_node *node)
{
    return node->op == QC_OP_CONV || node->op == QC_OP_CONV_TRANSPOSE;
}

bool qc_plan_is_imported(const struct qc_quantize_plan *plan, int value)
{
    return value >= 0 && plan->imported[value].scale > 0;
}

static unsigned flags_of(const struct qc_node *n)
{
    return n->op >= 0 ? qc_op_rows[n->op].flags : 0;
}

static bool is_f32_data(const struct qc_graph *g, int value)
{
    return value >= 0 && g->values[value].constant == NULL && g->values[value].dtype == QC_F32;
}

/* ---- which nodes have an integer form ----------------------------------------------------- */

static const char *check_bias(const struct qc_graph *g, const struct qc_node *n, size_t n_out)
{
    if (n->n_inputs < 3 || n->inputs[2] < 0) {
        return NULL;
    }
    const struct qc_tensor *b = qc_node_constant(g, n, 2);
    if (b == NULL || b->dtype != QC_F32) {
        return "the bias is no f32 constant";
    }
    const struct qc_shape *s = &b->shape;
    size_t elements = qc_shape_elements(s);
    /* [M, 1] of a Gemm is one value a row. */
    bool fits = elements == n_out && s->rank > 0 && s->dim[s->rank - 1] == (int64_t)n_out;
    return fits || elements == 1 ? NULL : "the bias is not one value an output channel";
}

/* NULL when the node fits, else why it does not. */
static const char *check_product(const struct qc_graph *g, const struct qc_node *n)
{
    const struct qc_tensor *w = qc_node_constant(g, n, 1);
    if (!is_f32_data(g, n->inputs[0])) {
        return "the input is a constant or no f32 tensor";
    }
    if (w == NULL || w->dtype != QC_F32 || qc_shape_elements(&w->shape) == 0) {
        return "the weights are no f32 constant";
    }
    if (qc_is_convolution(n)) {
        return check_bias(g, n, (size_t)qc_node_channels(n, &w->shape));
    }
    if (w->shape.rank != 2) {
        return "the weights are no matrix";
    }
    if (n->op == QC_OP_MATMUL) {
        return NULL;
    }
    if (qc_node_int(n, "transA", 0) != 0 || qc_node_float(n, "alpha", 1.0f) != 1.0f ||
        qc_node_float(n, "beta", 1.0f) != 1.0f) {
        return "transA, alpha or beta have no integer form";
    }
    return check_bias(g, n, (size_t)w->shape.dim[qc_node_int(n, "transB", 0) != 0 ? 0 : 1]);
}

static const char *check_compute(const struct qc_graph *g, const struct qc_node *n)
{
    if (qc_is_product(n)) {
        return check_product(g, n);
    }
    bool all = n->op == QC_OP_ADD || n->op == QC_OP_MUL || n->op == QC_OP_CONCAT;
    for (int i = 0; i < (all ? n->n_inputs : 1); i++) {
        if (!is_f32_data(g, n->inputs[i])) {
            return "an input is a constant or no f32 tensor";
        }
    }
    if (n->op == QC_OP_CONCAT && n->n_inputs < 2) {
        return "a Concat of one tensor";
    }
    return NULL;
}

/* Elements of the outputs are elements of input 0, or zero. */
static bool moves_elements(const struct qc_graph *g, const struct qc_node *n)
{
    if ((flags_of(n) & QC_IS_PASS) == 0 || !is_f32_data(g, n->inputs[0]) ||
        g->values[n->outputs[0]].dtype != QC_F32 || n->clamp.present) {
        return false;
    }
    for (int i = qc_node_passed(n); i < n->n_outputs; i++) {
        if (n->outputs[i] >= 0) {
            return false; /* indices, masks */
        }
    }
    if (n->op == QC_OP_RESIZE || n->op == QC_OP_UPSAMPLE) {
        return strcmp(qc_node_string(n, "mode", "nearest"), "nearest") == 0;
    }
    if (n->op == QC_OP_PAD && n->n_inputs > 2 && n->inputs[2] >= 0) {
        const struct qc_tensor *fill = qc_node_constant(g, n, 2);
        return fill != NULL && qc_shape_elements(&fill->shape) == 1 &&
               qc_tensor_f64(fill, 0) == 0;
    }
    return true;
}

/* excluded: why the user keeps it in f32, or NULL. */
static enum qd_code first_reason(const struct qc_quantize_plan *plan, const struct qc_node *n,
                                 const char *excluded, struct qd_arena *arena, const char **ret,
                                 struct qd_error *err)
{
    const char *automatic = qc_automatic_exclusion(n);
    const char *why = NULL;
    if (n->shape_only || (flags_of(n) & QC_IS_SHAPE) != 0) {
        *ret = "automatic: shape arithmetic";
    } else if (excluded != NULL) {
        *ret = excluded;
    } else if ((flags_of(n) & QC_IS_PASS) != 0) {
        *ret = moves_elements(plan->graph, n) ? "" : "computes on the elements that it moves";
    } else if ((flags_of(n) & QC_IS_QUANT) == 0 && automatic != NULL) {
        *ret = automatic;
    } else if ((flags_of(n) & QC_IS_NOQ) != 0) {
        return qd_arena_printf(arena, ret, err, "automatic: %s is never quantized", n->op_type);
    } else if ((flags_of(n) & QC_IS_TABLE) != 0) {
        *ret = "automatic: not between integer operators"; /* until follow_tables */
    } else if ((flags_of(n) & QC_IS_QUANT) == 0) {
        return qd_arena_printf(arena, ret, err, "%s has no integer form", n->op_type);
    } else {
        why = check_compute(plan->graph, n);
        *ret = why != NULL ? why : "";
    }
    return QD_OK;
}

/* ---- the tail behind the last product ----------------------------------------------------- */

static bool is_compute(const struct qc_quantize_plan *plan, int node)
{
    return plan->reason[node][0] == '\0' &&
           (flags_of(&plan->graph->nodes[node]) & QC_IS_PASS) == 0;
}

/* reaches[v]: does an integer Conv, Gemm or MatMul read v, directly or through any nodes. */
static bool find_reach(const struct qc_quantize_plan *plan, bool *reaches)
{
    const struct qc_graph *g = plan->graph;
    bool any = false;
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct qc_node *n = &g->nodes[i];
        bool through = is_compute(plan, i) && qc_is_product(n);
        any = any || through;
        for (int k = 0; k < n->n_outputs; k++) {
            through = through || (n->outputs[k] >= 0 && reaches[n->outputs[k]]);
        }
        for (int k = 0; k < n->n_inputs; k++) {
            if (n->inputs[k] >= 0 && through) {
                reaches[n->inputs[k]] = true;
            }
        }
    }
    return any;
}

static void leave_tail(struct qc_quantize_plan *plan, const bool *reaches)
{
    const struct qc_graph *g = plan->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (!is_compute(plan, i) || reaches[n->outputs[0]] ||
            qc_plan_is_imported(plan, n->outputs[0])) {
            continue;
        }
        if (qc_is_product(n)) {
            plan->keeps_f32[i] = true;
        } else {
            plan->reason[i] = "automatic: behind the last Conv, Gemm or MatMul";
        }
    }
}

/* ---- which values are quantized ----------------------------------------------------------- */

static bool is_moving(const struct qc_quantize_plan *plan, int node)
{
    return plan->reason[node][0] == '\0' &&
           (flags_of(&plan->graph->nodes[node]) & QC_IS_PASS) != 0;
}

/* Number of leading inputs of an integer operator that are data. */
static int n_data_inputs(const struct qc_node *n)
{
    bool all = n->op == QC_OP_ADD || n->op == QC_OP_MUL || n->op == QC_OP_CONCAT;
    return all ? n->n_inputs : 1;
}

static bool other_pair(const struct qc_quantize_plan *plan, int v, int than)
{
    const struct qc_qparams *a = &plan->imported[v];
    const struct qc_qparams *b = &plan->imported[than];
    return qc_plan_is_imported(plan, v) &&
           (a->scale != b->scale || a->zero_point != b->zero_point || a->is_s8 != b->is_s8);
}

/* Have all outputs that a moving operator makes the model's own pair, and the same one? */
static bool share_imported(const struct qc_quantize_plan *plan, const struct qc_node *n)
{
    for (int k = 0; k < qc_node_passed(n); k++) {
        if (!qc_plan_is_imported(plan, n->outputs[k]) ||
            other_pair(plan, n->outputs[k], n->outputs[0])) {
            return false;
        }
    }
    return true;
}

/* The pairs of the model, and those of tensors in front of element-moving operators. */
static void take_pairs(struct qc_quantize_plan *plan, const int *uses)
{
    const struct qc_graph *g = plan->graph;
    for (int v = 0; v < g->n_values; v++) {
        const struct qc_qparams *pair = qc_import_pair(plan->options.import, v);
        if (pair != NULL) {
            plan->imported[v] = *pair;
        }
    }
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct qc_node *n = &g->nodes[i];
        if (is_moving(plan, i) && share_imported(plan, n) &&
            !qc_plan_is_imported(plan, n->inputs[0]) && uses[n->inputs[0]] == 1) {
            plan->imported[n->inputs[0]] = plan->imported[n->outputs[0]];
        }
    }
}

/* Uses by nodes; a graph output counts as one more. */
static enum qd_code count_uses(const struct qc_graph *g, struct qd_arena *arena, int **ret,
                               struct qd_error *err)
{
    int *uses = NULL;
    QD_TRY(qd_arena_array(arena, (size_t)g->n_values, sizeof(*uses), &uses, err));
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            if (g->nodes[i].inputs[k] >= 0) {
                uses[g->nodes[i].inputs[k]]++;
            }
        }
    }
    for (int i = 0; i < g->n_outputs; i++) {
        uses[g->outputs[i].value]++;
    }
    *ret = uses;
    return QD_OK;
}

static void mark_values(struct qc_quantize_plan *plan, bool *quantized)
{
    const struct qc_graph *g = plan->graph;
    for (int v = 0; v < g->n_values; v++) {
        quantized[v] = qc_plan_is_imported(plan, v);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if (!is_compute(plan, i)) {
            continue;
        }
        for (int k = 0; k < n_data_inputs(n); k++) {
            quantized[n->inputs[k]] = true;
        }
        quantized[n->outputs[0]] = quantized[n->outputs[0]] || !plan->keeps_f32[i];
    }
    /* Against the order of the nodes: what is needed quantized behind a moving node is quantized
     * before it. Along the order: what is quantized stays so. */
    for (int i = g->n_nodes - 1; i >= 0; i--) {
        const struct qc_node *n = &g->nodes[i];
        for (int k = 0; is_moving(plan, i) && k < qc_node_passed(n); k++) {
            quantized[n->inputs[0]] = quantized[n->inputs[0]] || quantized[n->outputs[k]];
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        for (int k = 0; is_moving(plan, i) && k < qc_node_passed(n); k++) {
            quantized[n->outputs[k]] = quantized[n->outputs[k]] || quantized[n->inputs[0]];
        }
    }
}

/* Functions that stand between integer operators: their tensors have pairs already. */
static void follow_tables(struct qc_quantize_plan *plan, const bool *quantized)
{
    const struct qc_graph *g = plan->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        if ((flags_of(n) & QC_IS_TABLE) == 0 || plan->excluded[i] || n->shape_only ||
            !is_f32_data(g, n->inputs[0])) {
            continue;
        }
        int maker = g->values[n->inputs[0]].producer;
        bool codes = qc_plan_is_imported(plan, n->inputs[0]) ||
                     (maker >= 0 && plan->reason[maker][0] == '\0' && quantized[n->inputs[0]]);
        if (codes && quantized[n->outputs[0]]) {
            plan->reason[i] = "";
        }
    }
}

static void form_groups(struct qc_quantize_plan *plan, const bool *quantized)
{
    const struct qc_graph *g = plan->graph;
    for (int v = 0; v < g->n_values; v++) {
        plan->group[v] = quantized[v] ? v : -1;
        plan->channel_axis[v] = -1;
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        bool moving = is_moving(plan, i);
        if (moving && quantized[n->inputs[0]]) {
            int root = plan->group[n->inputs[0]];
            for (int k = 0; k < qc_node_passed(n); k++) {
                int y = n->outputs[k];
                plan->group[y] = other_pair(plan, y, root) ? y : root;
            }
        } else if (moving) {
            plan->reason[i] = "moves the elements of an f32 tensor";
        }
    }
    for (int v = 0; v < g->n_values; v++) {
        plan->observe[v] = plan->observe[v] || plan->group[v] == v;
    }
}

static void count_nodes(struct qc_quantize_plan *plan)
{
    for (int i = 0; i < plan->graph->n_nodes; i++) {
        plan->integer[i] = plan->reason[i][0] == '\0';
        if (!plan->graph->nodes[i].shape_only) {
            plan->n_integer += plan->integer[i];
            plan->n_f32 += !plan->integer[i];
        }
    }
}

void qc_plan_observe_means(struct qc_quantize_plan *plan, const struct qc_import *import)
{
    const struct qc_graph *g = plan->graph;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        bool has_bias = qc_is_convolution(n) || n->op == QC_OP_GEMM;
        if (plan->integer[i] && (has_bias || qc_matmul_addend(g, import, n) >= 0)) {
            int x = n->inputs[0];
            plan->observe[x] = true;
            plan->channel_axis[x] = has_bias ? 1 : g->values[x].shape.rank - 1;
        }
    }
}

static enum qd_code new_plan(const struct qc_graph *g, const struct qc_quantize_options *options,
                             struct qd_arena *arena, struct qc_quantize_plan **ret,
                             struct qd_error *err)
{
    struct qc_quantize_plan *p = NULL;
    size_t nodes = (size_t)g->n_nodes;
    size_t values = (size_t)g->n_values;
    QD_TRY(qd_arena_alloc(arena, sizeof(*p), &p, err));
    p->graph = g;
    p->options = *options;
    QD_TRY(qd_arena_array(arena, nodes, sizeof(*p->integer), &p->integer, err));
    QD_TRY(qd_arena_array(arena, nodes, sizeof(*p->reason), &p->reason, err));
    QD_TRY(qd_arena_array(arena, nodes, sizeof(*p->excluded), &p->excluded, err));
    QD_TRY(qd_arena_array(arena, nodes, sizeof(*p->keeps_f32), &p->keeps_f32, err));
    QD_TRY(qd_arena_array(arena, values, sizeof(*p->group), &p->group, err));
    QD_TRY(qd_arena_array(arena, values, sizeof(*p->imported), &p->imported, err));
    QD_TRY(qd_arena_array(arena, values, sizeof(*p->observe), &p->observe, err));
    QD_TRY(qd_arena_array(arena, values, sizeof(*p->channel_axis), &p->channel_axis, err));
    *ret = p;
    return QD_OK;
}

enum qd_code qc_quantize_plan_new(const struct qc_graph *g,
                                  const struct qc_quantize_options *options,
                                  struct qd_arena *arena, struct qc_quantize_plan **ret,
                                  struct qd_error *err)
{
    struct qc_quantize_plan *plan = NULL;
    bool *reaches = NULL;
    bool *quantized = NULL;
    int *uses = NULL;
    const char **excluded = NULL;
    size_t values = (size_t)g->n_values;
    QD_TRY(new_plan(g, options, arena, &plan, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_nodes, sizeof(*excluded), &excluded, err));
    QD_TRY(qc_exclude_nodes(&options->exclude, g, arena, excluded, err));
    QD_TRY(qd_arena_array(arena, values, sizeof(*reaches), &reaches, err));
    QD_TRY(qd_arena_array(arena, values, sizeof(*quantized), &quantized, err));
    for (int i = 0; i < g->n_nodes; i++) {
        plan->excluded[i] = excluded[i] != NULL;
        QD_TRY(first_reason(plan, &g->nodes[i], excluded[i], arena, &plan->reason[i], err));
    }
    QD_TRY(count_uses(g, arena, &uses, err));
    take_pairs(plan, uses);
    if (find_reach(plan, reaches) && !options->quantize_last_output) {
        leave_tail(plan, reaches);
    }
    mark_values(plan, quantized);
    follow_tables(plan, quantized);
    form_groups(plan, quantized);
    count_nodes(plan);
    qc_plan_observe_means(plan, options->import);
    *ret = plan;
    return QD_OK;
}

/* ---- pairs -------------------------------------------------------------------------------- */

/* Roots are joined further here: root[r] == r, or the root that r was joined to. */
static int find_root(int *root, int r)
{
    while (root[r] != r) {
        root[r] = root[root[r]]; /* keeps long chains of Concat from being walked each time */
        r = root[r];
    }
    return r;
}

static void unify_concat(const struct qc_quantize_plan *plan, const struct qc_node *n, int *root,
                         double *lo, double *hi)
{
    bool imported = qc_plan_is_imported(plan, plan->group[n->outputs[0]]);
    for (int k = 0; k < n->n_inputs; k++) {
        imported = imported || qc_plan_is_imported(plan, plan->group[n->inputs[k]]);
    }
    if (imported) {
        return;
    }
    int out = find_root(root, plan->group[n->outputs[0]]);
    double low = lo[out];
    double high = hi[out];
    for (int k = 0; k < n->n_inputs; k++) {
        int r = find_root(root, plan->group[n->inputs[k]]);
        low = fmin(low, lo[r]);
        high = fmax(high, hi[r]);
    }
    double slack = 0.1 * (high - low);
    for (int k = 0; k < n->n_inputs; k++) {
        int r = find_root(root, plan->group[n->inputs[k]]);
        if (lo[r] - low > slack || high - hi[r] > slack) {
            return;
        }
    }
    for (int k = 0; k < n->n_inputs; k++) {
        int r = find_root(root, plan->group[n->inputs[k]]);
        root[r] = out; /* r == out when the same tensor comes twice: stays a root */
    }
    lo[out] = low;
    hi[out] = high;
}

enum qd_code qc_quantize_plan_pairs(const struct qc_quantize_plan *plan,
                                    const struct qc_range *ranges, struct qd_arena *arena,
                                    struct qc_qparams **ret, struct qd_error *err)
{
    const struct qc_graph *g = plan->graph;
    size_t n = (size_t)g->n_values;
    struct qc_qparams *pairs = NULL;
    int *root = NULL;
    double *lo = NULL;
    double *hi = NULL;
    QD_TRY(qd_arena_array(arena, n, sizeof(*pairs), &pairs, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*root), &root, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*lo), &lo, err));
    QD_TRY(qd_arena_array(arena, n, sizeof(*hi), &hi, err));
    for (int v = 0; v < g->n_values; v++) {
        root[v] = v;
        if (plan->group[v] != v) {
            continue;
        }
        if (!isfinite(ranges[v].lo) || !isfinite(ranges[v].hi) || ranges[v].lo > ranges[v].hi) {
            return qd_fail_on(err, QD_INVALID, g->values[v].name,
                              "tensor '%s' has no range: %g to %g", g->values[v].name,
                              ranges[v].lo, ranges[v].hi);
        }
        lo[v] = fmin(ranges[v].lo, 0);
        hi[v] = fmax(ranges[v].hi, 0);
    }
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == QC_OP_CONCAT && plan->integer[i]) {
            unify_concat(plan, &g->nodes[i], root, lo, hi);
        }
    }
    for (int v = 0; v < g->n_values; v++) {
        if (plan->group[v] >= 0) {
            int r = find_root(root, plan->group[v]);
            if (qc_plan_is_imported(plan, plan->group[v])) {
                pairs[v] = plan->imported[plan->group[v]];
            } else {
                qc_qparams_choose(plan->options.activations, lo[r], hi[r], &pairs[v]);
            }
        }
    }
    *ret = pairs;
    return QD_OK;
}
