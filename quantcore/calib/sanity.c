#include "quantcore/calib/sanity.h"

#include <math.h>
#include <stdlib.h>

#include "quantcore/graph/op_table.h"

#define LEAST_GAMMA 0.01 /* of the largest: channels that training switched off */

struct first_conv {
    const struct qc_graph *g;
    int node, input; /* index of the node; of the graph's input that it reads */
    int n_channels;
    double *sum, *squares;
    uint64_t count; /* a channel */
    double min, max;
    double input_sum, input_squares;
    uint64_t n_input;
};

struct qc_sanity {
    struct qd_arena *arena;
    int n_samples, n;
    struct first_conv *convs;
};

static int graph_input(const struct qc_graph *g, int value)
{
    for (int i = 0; i < g->n_inputs; i++) {
        if (g->inputs[i].value == value) {
            return i;
        }
    }
    return -1;
}

enum qd_code qc_sanity_new(const struct qc_graph *g, struct qd_arena *arena,
                           struct qc_sanity **ret, struct qd_error *err)
{
    struct qc_sanity *s = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*s), &s, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_nodes, sizeof(*s->convs), &s->convs, err));
    s->arena = arena;
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &g->nodes[i];
        int input = n->op == QC_OP_CONV ? graph_input(g, n->inputs[0]) : -1;
        if (input < 0 || qc_node_constant(g, n, 1) == NULL) {
            continue;
        }
        struct first_conv *c = &s->convs[s->n++];
        size_t channels = (size_t)g->values[n->inputs[1]].shape.dim[0];
        *c = (struct first_conv){.g = g, .node = i, .input = input, .n_channels = (int)channels,
                                 .min = INFINITY, .max = -INFINITY};
        QD_TRY(qd_arena_array(arena, channels, sizeof(double), &c->sum, err));
        QD_TRY(qd_arena_array(arena, channels, sizeof(double), &c->squares, err));
    }
    *ret = s;
    return QD_OK;
}

/* The convolution alone, without what was fused behind it, on one sample. */
static enum qd_code evaluate(const struct first_conv *c, const float *x, struct qd_arena *arena,
                             const struct qc_tensor **ret, struct qd_error *err)
{
    const struct qc_node *n = &c->g->nodes[c->node];
    const struct qc_value *in = &c->g->values[n->inputs[0]];
    struct qc_graph *g = NULL;
    struct qc_node *copy = NULL;
    struct qc_tensor *sample = NULL;
    int inputs[3] = {-1, -1, -1}, output = -1;
    QD_TRY(qc_graph_new(arena, &g, err));
    g->opset = c->g->opset;
    QD_TRY(qd_arena_alloc(arena, sizeof(*sample), &sample, err));
    *sample = (struct qc_tensor){.dtype = QC_F32, .shape = in->shape};
    QD_TRY(qd_arena_copy(arena, x, qc_shape_elements(&in->shape) * sizeof(float), &sample->data,
                         err));
    QD_TRY(qc_graph_add_constant(g, "x", sample, &inputs[0], err));
    for (int i = 1; i < n->n_inputs && i < 3; i++) {
        const struct qc_tensor *t = qc_node_constant(c->g, n, i);
        if (t != NULL) {
            QD_TRY(qc_graph_add_constant(g, i == 1 ? "w" : "b", t, &inputs[i], err));
        }
    }
    QD_TRY(qc_graph_add_value(g, "y", &output, err));
    QD_TRY(qc_graph_add_node(g, n->name, QC_OP_CONV, n->n_inputs, 1, &copy, err));
    for (int i = 0; i < n->n_inputs && i < 3; i++) {
        copy->inputs[i] = inputs[i];
    }
    copy->outputs[0] = output;
    copy->n_attrs = n->n_attrs;
    copy->attrs = n->attrs;
    return qc_exec_eval_node(g, 0, arena, ret, err);
}

static enum qd_code add_sample(struct first_conv *c, const float *x, struct qd_arena *arena,
                               struct qd_error *err)
{
    const struct qc_tensor *y = NULL;
    size_t n = qc_shape_elements(&c->g->values[c->g->inputs[c->input].value].shape);
    for (size_t i = 0; i < n; i++) {
        c->min = fmin(c->min, (double)x[i]);
        c->max = fmax(c->max, (double)x[i]);
        c->input_sum += (double)x[i];
        c->input_squares += (double)x[i] * (double)x[i];
    }
    c->n_input += n;
    QD_TRY(evaluate(c, x, arena, &y, err));
    const float *data = y->data;
    size_t inner = qc_shape_elements(&y->shape) / (size_t)c->n_channels;
    for (int k = 0; k < c->n_channels; k++) {
        for (size_t i = 0; i < inner; i++) {
            double v = (double)data[(size_t)k * inner + i];
            c->sum[k] += v;
            c->squares[k] += v * v;
        }
    }
    c->count += inner;
    return QD_OK;
}

enum qd_code qc_sanity_sample(struct qc_sanity *s, const float *const *inputs,
                              struct qd_error *err)
{
    if (s->n_samples >= QC_SANITY_SAMPLES) {
        return QD_OK;
    }
    s->n_samples++;
    for (int i = 0; i < s->n; i++) {
        struct qd_arena inner;
        qd_arena_init_inside(&inner, s->arena);
        enum qd_code code = add_sample(&s->convs[i], inputs[s->convs[i].input], &inner, err);
        qd_arena_done(&inner);
        if (code != QD_OK) {
            return qd_wrap(err, code, "look at the calibration data");
        }
    }
    return QD_OK;
}

int qc_sanity_count(const struct qc_sanity *s)
{
    return s->n;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof(*x), ascending);
    return n > 0 ? x[n / 2] : 0;
}

/* Standard deviation of channel k's response. */
static double deviation(const struct first_conv *c, int k, double *ret_mean)
{
    double count = (double)c->count;
    *ret_mean = c->sum[k] / count;
    return sqrt(fmax(c->squares[k] / count - *ret_mean * *ret_mean, 0));
}

/* shift[] and spread[] of the channels that count; returns their number. */
static int compare(const struct first_conv *c, double *shift, double *spread)
{
    const struct qc_node *n = &c->g->nodes[c->node];
    double largest = 0, mean = 0;
    int used = 0;
    for (int k = 0; k < c->n_channels; k++) {
        largest = fmax(largest, (double)n->trained_std[k]);
    }
    for (int k = 0; k < c->n_channels; k++) {
        double gamma = (double)n->trained_std[k], std = deviation(c, k, &mean);
        if (gamma > LEAST_GAMMA * largest) {
            shift[used] = fabs(mean - (double)n->trained_mean[k]) / gamma;
            spread[used] = fabs(log2(std / gamma + 1e-9));
            used++;
        }
    }
    return used;
}

static void look_at_bias(const struct first_conv *c, double *room, struct qc_sanity_row *row)
{
    const struct qc_tensor *bias = qc_node_constant(c->g, &c->g->nodes[c->node], 2);
    double n = (double)c->n_input, mean = c->input_sum / n, ignored = 0;
    for (int k = 0; k < c->n_channels; k++) {
        double b = bias != NULL ? fabs(qc_tensor_f64(bias, (size_t)k)) : 0;
        room[k] = b / (deviation(c, k, &ignored) + 1e-30);
    }
    row->bias = median(room, c->n_channels);
    row->offset = fabs(mean) / (sqrt(fmax(c->input_squares / n - mean * mean, 0)) + 1e-30);
    row->suspicious = bias != NULL && row->bias < QC_SANITY_BIAS &&
                      row->offset > QC_SANITY_OFFSET;
}

struct qc_sanity_row qc_sanity_row_at(const struct qc_sanity *s, int i)
{
    const struct first_conv *c = &s->convs[i];
    const struct qc_graph *g = c->g;
    struct qc_sanity_row row = {.input = g->values[g->inputs[c->input].value].name,
                                .node = g->nodes[c->node].name,
                                .trained = g->nodes[c->node].trained_mean != NULL,
                                .min = c->min,
                                .max = c->max};
    double *room = calloc(2 * (size_t)c->n_channels, sizeof(*room));
    if (room != NULL && s->n_samples >= QC_SANITY_LEAST && row.trained) {
        int used = compare(c, room, room + c->n_channels);
        row.shift = median(room, used);
        row.spread = median(room + c->n_channels, used);
        row.suspicious = row.shift > QC_SANITY_SHIFT || row.spread > QC_SANITY_SPREAD;
    } else if (room != NULL && s->n_samples >= QC_SANITY_LEAST) {
        look_at_bias(c, room, &row);
    }
    free(room);
    return row;
}
