#include "quantcore/passes/pass_bn_fold.h"

#include <inttypes.h>
#include <math.h>

#include "quantcore/graph/op_table.h"
#include "quantcore/passes/pass_edit.h"

/* One BatchNormalization and the Conv, ConvTranspose or Gemm in front of it. */
struct fold {
    const struct qc_edit *edit;
    struct qc_node *linear, *bn;
    const struct qc_tensor *weights, *bias; /* bias NULL when absent */
    const struct qc_tensor *param[5];       /* gamma, beta, mean, var at 1..4 */
    int axis;                               /* of the output channel in weights */
    int64_t channels, groups;               /* groups: along axis 0 of a ConvTranspose, else 1 */
    double weight_scale, bias_scale; /* alpha and beta of Gemm */
};

/* Is the bias one number for all channels or one for each. */
static bool is_channel_vector(const struct qc_tensor *t, int64_t channels)
{
    int64_t last = t->shape.rank ? t->shape.dim[t->shape.rank - 1] : 1;
    return qc_shape_elements(&t->shape) == (size_t)last && (last == 1 || last == channels);
}

static bool match(struct fold *f, struct qc_node *bn)
{
    const struct qc_graph *g = f->edit->g;
    f->bn = bn;
    f->linear = qc_edit_sole_producer(f->edit, bn, 0);
    if (f->linear == NULL || f->linear->clamp.present ||
        (f->linear->op != QC_OP_CONV && f->linear->op != QC_OP_GEMM &&
         f->linear->op != QC_OP_CONV_TRANSPOSE)) {
        return false;
    }
    bool gemm = f->linear->op == QC_OP_GEMM, transposed = f->linear->op == QC_OP_CONV_TRANSPOSE;
    f->weights = qc_edit_initializer(g, f->linear, 1);
    f->bias = qc_edit_initializer(g, f->linear, 2);
    bool has_bias = f->linear->n_inputs > 2 && f->linear->inputs[2] >= 0;
    if (f->weights == NULL || f->weights->shape.rank < 2 || (has_bias && f->bias == NULL)) {
        return false;
    }
    f->axis = qc_node_weights_axis(f->linear, f->weights->shape.rank);
    f->channels = qc_node_channels(f->linear, &f->weights->shape);
    f->groups = transposed ? qc_node_int(f->linear, "group", 1) : 1;
    f->weight_scale = gemm ? (double)qc_node_float(f->linear, "alpha", 1.0f) : 1.0;
    f->bias_scale = gemm ? (double)qc_node_float(f->linear, "beta", 1.0f) : 1.0;
    for (int i = 1; i < 5; i++) {
        f->param[i] = qc_edit_initializer(g, bn, i);
        if (f->param[i] == NULL || f->param[i]->shape.rank != 1 ||
            f->param[i]->shape.dim[0] != f->channels) {
            return false;
        }
    }
    return f->bias == NULL || is_channel_vector(f->bias, f->channels);
}

static double param(const struct fold *f, int i, int64_t c)
{
    return qc_tensor_f64(f->param[i], (size_t)c);
}

/* gamma / sqrt(var + epsilon) of every channel. */
static enum qd_code channel_gains(const struct fold *f, double *gain, struct qd_error *err)
{
    double epsilon = (double)qc_node_float(f->bn, "epsilon", 1e-5f);
    for (int64_t c = 0; c < f->channels; c++) {
        double var = param(f, 4, c) + epsilon;
        if (!(var > 0)) {
            return qd_fail_on(err, QD_INVALID, f->bn->name,
                              "BatchNormalization '%s': variance + epsilon of channel %" PRId64
                              " is %g, must be positive",
                              f->bn->name, c, var);
        }
        gain[c] = param(f, 1, c) / sqrt(var);
    }
    return QD_OK;
}

static enum qd_code not_finite(const struct fold *f, const char *what, int64_t channel,
                               struct qd_error *err)
{
    return qd_fail_on(err, QD_INVALID, f->bn->name,
                      "BatchNormalization '%s': folded %s of channel %" PRId64 " is not finite",
                      f->bn->name, what, channel);
}

/* Room for the folded weights: weights of this node alone are written over, they are most of what
 * a network takes. The tensor is a new one nevertheless: who remembers the old one sees that a
 * pass changed it. */
static enum qd_code new_weights(const struct fold *f, struct qc_tensor **ret, struct qd_error *err)
{
    struct qd_arena *arena = f->edit->g->arena;
    return qc_edit_owns_initializer(f->edit, f->linear, 1)
               ? qd_arena_copy(arena, f->weights, sizeof *f->weights, ret, err)
               : qc_tensor_new(arena, QC_F32, &f->weights->shape, ret, err);
}

/* The output channel of weight i; inner: weights behind the channel's axis. */
static int64_t channel_of(const struct fold *f, size_t i, size_t inner)
{
    int64_t own = f->weights->shape.dim[f->axis];
    int64_t row = (int64_t)(i / inner), channel = row % own;
    return f->groups > 1 ? row / own / (f->weights->shape.dim[0] / f->groups) * own + channel
                         : channel;
}

static enum qd_code fold_weights(const struct fold *f, const double *gain, struct qd_error *err)
{
    struct qc_tensor *t;
    QD_TRY(new_weights(f, &t, err));
    const float *in = f->weights->data;
    float *out = t->data;
    size_t count = qc_shape_elements(&t->shape), inner = 1;
    for (int i = f->axis + 1; i < t->shape.rank; i++) {
        inner *= (size_t)t->shape.dim[i];
    }
    for (size_t i = 0; i < count; i++) {
        int64_t c = channel_of(f, i, inner);
        out[i] = (float)((double)in[i] * gain[c] * f->weight_scale);
        if (!isfinite(out[i])) {
            return not_finite(f, "weight", c, err);
        }
    }
    return qc_edit_set_initializer(f->edit, f->linear, 1, t, f->linear->name, "weight", err);
}

static enum qd_code fold_bias(const struct fold *f, const double *gain, struct qd_error *err)
{
    struct qc_tensor *t;
    struct qc_shape shape = {.rank = 1, .dim = {f->channels}};
    QD_TRY(qc_tensor_new(f->edit->g->arena, QC_F32, &shape, &t, err));
    bool single = f->bias != NULL && qc_shape_elements(&f->bias->shape) == 1;
    for (int64_t c = 0; c < f->channels; c++) {
        double b = f->bias ? qc_tensor_f64(f->bias, single ? 0 : (size_t)c) * f->bias_scale : 0;
        float folded = (float)(param(f, 2, c) + gain[c] * (b - param(f, 3, c)));
        if (!isfinite(folded)) {
            return not_finite(f, "bias", c, err);
        }
        ((float *)t->data)[c] = folded;
    }
    return qc_edit_set_initializer(f->edit, f->linear, 2, t, f->linear->name, "bias", err);
}

static enum qd_code keep_training(const struct fold *f, struct qd_error *err)
{
    float *mean = NULL, *std = NULL;
    struct qd_arena *arena = f->edit->g->arena;
    QD_TRY(qd_arena_array(arena, (size_t)f->channels, sizeof(float), &mean, err));
    QD_TRY(qd_arena_array(arena, (size_t)f->channels, sizeof(float), &std, err));
    for (int64_t c = 0; c < f->channels; c++) {
        mean[c] = (float)param(f, 2, c);
        std[c] = (float)fabs(param(f, 1, c));
    }
    f->linear->trained_mean = mean;
    f->linear->trained_std = std;
    return QD_OK;
}

static enum qd_code apply(const struct fold *f, struct qd_error *err)
{
    static const char *const scales[] = {"alpha", "beta"};
    struct qc_graph *g = f->edit->g;
    double *gain;
    QD_TRY(qd_arena_array(g->arena, (size_t)f->channels, sizeof *gain, &gain, err));
    QD_TRY(channel_gains(f, gain, err));
    QD_TRY(fold_weights(f, gain, err));
    QD_TRY(fold_bias(f, gain, err));
    QD_TRY(keep_training(f, err));
    for (size_t i = 0; i < QD_COUNT_OF(scales) && f->linear->op == QC_OP_GEMM; i++) {
        if (qc_node_attr(f->linear, scales[i]) != NULL) {
            const struct qc_attr one = {.name = scales[i], .type = QC_ATTR_FLOAT, .f = 1.0f};
            QD_TRY(qc_edit_set_attr(g, f->linear, &one, err));
        }
    }
    qc_edit_merge(g, f->linear, f->bn);
    return QD_OK;
}

enum qd_code qc_pass_bn_fold(struct qc_graph *g, struct qd_error *err)
{
    struct qc_edit edit;
    QD_TRY(qc_edit_init(&edit, g, err));
    for (int i = 0; i < g->n_nodes; i++) {
        struct qc_node *n = &g->nodes[i];
        struct fold f = {.edit = &edit};
        if (n->op == QC_OP_BATCH_NORMALIZATION && n->n_outputs > 0 && match(&f, n)) {
            QD_TRY(apply(&f, err));
        }
    }
    return qc_graph_sweep(g, err);
}
