#include "quantcore/passes/pass_fuse_bias.h"

#include "quantcore/graph/op_table.h"
#include "quantcore/passes/pass_edit.h"

/* Does t add the same to every position of a channel: all dims are 1, except perhaps the one
 * `behind` dims from the end, which then has the channels. */
static bool is_per_channel(const struct qc_tensor *t, int behind, int rank, int64_t channels)
{
    if (t->shape.rank > rank) {
        return false;
    }
    for (int i = 0; i < t->shape.rank; i++) {
        int64_t dim = t->shape.dim[i];
        if (dim != 1 && (i != t->shape.rank - 1 - behind || dim != channels)) {
            return false;
        }
    }
    return true;
}

/* Channels of the linear node's output, and how many dims stand behind them. */
static bool output_channels(const struct qc_graph *g, const struct qc_node *n, int *ret_behind,
                            int *ret_rank, int64_t *ret_channels)
{
    const struct qc_tensor *weights = qc_edit_initializer(g, n, 1);
    if (weights == NULL || n->clamp.present) {
        return false;
    }
    const struct qc_shape *w = &weights->shape;
    *ret_behind = 0;
    *ret_rank = 2;
    if ((n->op == QC_OP_CONV || n->op == QC_OP_CONV_TRANSPOSE) && w->rank >= 3) {
        *ret_behind = w->rank - 2;
        *ret_rank = w->rank;
        *ret_channels = qc_node_channels(n, w);
        return true;
    }
    if (n->op == QC_OP_GEMM && w->rank == 2) {
        *ret_channels = w->dim[!qc_node_int(n, "transB", 0)];
        return n->n_inputs < 3 || n->inputs[2] < 0;
    }
    if (n->op == QC_OP_MATMUL && w->rank == 2 && n->inputs[0] >= 0) {
        const struct qc_value *a = &g->values[n->inputs[0]];
        *ret_channels = w->dim[1];
        return a->shape_known && a->shape.rank == 2 && a->dtype == QC_F32;
    }
    return false;
}

static enum qd_code set_bias(const struct qc_edit *e, struct qc_node *n,
                             const struct qc_tensor *added, int64_t channels,
                             struct qd_error *err)
{
    const struct qc_tensor *old = qc_edit_initializer(e->g, n, 2);
    struct qc_shape shape = {.rank = 1, .dim = {channels}};
    struct qc_tensor *t;
    QD_TRY(qc_tensor_new(e->g->arena, QC_F32, &shape, &t, err));
    bool single = qc_shape_elements(&added->shape) == 1;
    for (int64_t c = 0; c < channels; c++) {
        double b = qc_tensor_f64(added, single ? 0 : (size_t)c);
        ((float *)t->data)[c] = (float)(old ? b + qc_tensor_f64(old, (size_t)c) : b);
    }
    return qc_edit_set_initializer(e, n, 2, t, n->name, "bias", err);
}

static enum qd_code fuse(const struct qc_edit *e, struct qc_node *add, struct qd_error *err)
{
    for (int side = 0; side < 2; side++) {
        struct qc_node *n = qc_edit_sole_producer(e, add, side);
        const struct qc_tensor *added = qc_edit_initializer(e->g, add, !side);
        int behind = 0, rank = 0;
        int64_t channels = 0;
        if (n == NULL || added == NULL || !output_channels(e->g, n, &behind, &rank, &channels) ||
            !is_per_channel(added, behind, rank, channels)) {
            continue;
        }
        bool has_bias = n->n_inputs > 2 && n->inputs[2] >= 0;
        if (has_bias && qc_edit_initializer(e->g, n, 2) == NULL) {
            continue;
        }
        QD_TRY(set_bias(e, n, added, channels, err));
        if (n->op == QC_OP_GEMM && qc_node_attr(n, "beta") != NULL) {
            const struct qc_attr one = {.name = "beta", .type = QC_ATTR_FLOAT, .f = 1.0f};
            QD_TRY(qc_edit_set_attr(e->g, n, &one, err));
        }
        if (n->op == QC_OP_MATMUL) {
            n->op = QC_OP_GEMM;
            n->op_type = qc_op_rows[QC_OP_GEMM].type;
        }
        n->clamp = add->clamp;
        n->trained_mean = n->trained_std = NULL; /* of the result before */
        qc_edit_merge(e->g, n, add);
        return QD_OK;
    }
    return QD_OK;
}

enum qd_code qc_pass_fuse_bias(struct qc_graph *g, struct qd_error *err)
{
    struct qc_edit edit;
    QD_TRY(qc_edit_init(&edit, g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        if (n->op == QC_OP_ADD && n->n_outputs > 0) {
            QD_TRY(fuse(&edit, n, err));
        }
    }
    return qc_graph_sweep(g, err);
}
