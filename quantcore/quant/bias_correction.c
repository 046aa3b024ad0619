#include "quantcore/quant/bias_correction.h"

static double weight_error(const struct qc_quantized_weights *w, size_t i)
{
    return qc_quantized_weights_value(w, i) - (double)((const float *)w->source->data)[i];
}

/* W is [O][C / groups][taps]; output channel o sees the input channels of its group. */
static void correct_conv(const struct qc_quantized_weights *w, size_t groups, const double *mean,
                         double *bias)
{
    size_t n_out = (size_t)w->source->shape.dim[0];
    size_t per_group = (size_t)w->source->shape.dim[1];
    size_t taps = qc_weights_inner(w->source, 1);
    for (size_t o = 0; o < n_out; o++) {
        size_t first = o / (n_out / groups) * per_group;
        double shift = 0;
        for (size_t c = 0; c < per_group; c++) {
            double error = 0;
            for (size_t t = 0; t < taps; t++) {
                error += weight_error(w, (o * per_group + c) * taps + t);
            }
            shift += error * mean[first + c];
        }
        bias[o] -= shift;
    }
}

/* W is [C][O / groups][taps]; input channel c goes into the output channels of its group. Every tap
 * of every input pixel reaches one output pixel, and of those there are `stride` as many (what the
 * border takes away is left out): the mean error of an output is that part of the taps' sum. */
static void correct_transposed(const struct qc_quantized_weights *w, size_t groups, double stride,
                               const double *mean, double *bias)
{
    size_t n_in = (size_t)w->source->shape.dim[0];
    size_t per_group = (size_t)w->source->shape.dim[1];
    size_t taps = qc_weights_inner(w->source, 1);
    for (size_t c = 0; c < n_in; c++) {
        size_t first = c / (n_in / groups) * per_group;
        for (size_t o = 0; o < per_group; o++) {
            double error = 0;
            for (size_t t = 0; t < taps; t++) {
                error += weight_error(w, (c * per_group + o) * taps + t);
            }
            bias[first + o] -= error * mean[c] / stride;
        }
    }
}

static double stride_of(const struct qc_node *node)
{
    int64_t strides[QC_MAX_RANK];
    double product = 1;
    int n = qc_node_ints(node, "strides", strides, QC_MAX_RANK);
    for (int i = 0; i < n; i++) {
        product *= (double)strides[i];
    }
    return product;
}

static void correct_product(const struct qc_quantized_weights *w, bool outputs_first, size_t n_out,
                            size_t n_in, const double *mean, double *bias)
{
    for (size_t o = 0; o < n_out; o++) {
        double shift = 0;
        for (size_t k = 0; k < n_in; k++) {
            size_t i = outputs_first ? o * n_in + k : k * n_out + o;
            shift += weight_error(w, i) * mean[k];
        }
        bias[o] -= shift;
    }
}

enum qd_code qc_bias_correct(const struct qc_node *node, const struct qc_quantized_weights *w,
                             const double *mean, size_t n_means, double *bias,
                             struct qd_error *err)
{
    const struct qc_shape *shape = &w->source->shape;
    size_t groups = 1;
    size_t n_in;
    bool outputs_first = qc_weights_axis(node, w->source) == 0;
    bool transposed = node->op == QC_OP_CONV_TRANSPOSE;
    if (node->op == QC_OP_CONV || transposed) {
        int64_t g = qc_node_int(node, "group", 1);
        if (g < 1 || shape->rank < 3 || shape->dim[0] % g != 0) {
            return qd_fail_on(err, QD_INVALID, node->name,
                              "node '%s': %lld groups do not divide the weights", node->name,
                              (long long)g);
        }
        groups = (size_t)g;
        n_in = transposed ? (size_t)shape->dim[0] : groups * (size_t)shape->dim[1];
    } else {
        n_in = shape->rank == 2 ? (size_t)shape->dim[outputs_first ? 1 : 0] : 0;
    }
    if (n_in != n_means) {
        return qd_fail_on(err, QD_INVALID, node->name,
                          "node '%s': %zu channel means for %zu input channels", node->name,
                          n_means, n_in);
    }
    if (node->op == QC_OP_CONV) {
        correct_conv(w, groups, mean, bias);
    } else if (transposed) {
        correct_transposed(w, groups, stride_of(node), mean, bias);
    } else {
        size_t n_out = (size_t)shape->dim[outputs_first ? 0 : 1];
        correct_product(w, outputs_first, n_out, n_in, mean, bias);
    }
    return QD_OK;
}

/* ---- a MatMul and the Add behind it -------------------------------------------------------- */

/* The node that reads the value, if one does, once, and nobody outside. */
static const struct qc_node *sole_reader(const struct qc_graph *g, int value)
{
    const struct qc_node *reader = NULL;
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < g->nodes[i].n_inputs; k++) {
            if (g->nodes[i].inputs[k] == value) {
                if (reader != NULL) {
                    return NULL;
                }
                reader = &g->nodes[i];
            }
        }
    }
    return qc_graph_is_output(g, value) ? NULL : reader;
}

static bool read_by_conv(const struct qc_graph *g, int value)
{
    for (int i = 0; i < g->n_nodes; i++) {
        if (g->nodes[i].op == QC_OP_CONV && g->nodes[i].inputs[0] == value) {
            return true;
        }
    }
    return false;
}

static bool is_row(const struct qc_value *v, int64_t n)
{
    const struct qc_tensor *t = v->constant;
    return t != NULL && v->producer < 0 && t->dtype == QC_F32 && v->symbolic_elements == 0 &&
           t->shape.rank > 0 && t->shape.dim[t->shape.rank - 1] == n &&
           qc_shape_elements(&t->shape) == (size_t)n;
}

int qc_matmul_addend(const struct qc_graph *g, const struct qc_import *import,
                     const struct qc_node *node)
{
    if (node->op != QC_OP_MATMUL || node->clamp.present || node->inputs[0] < 0) {
        return -1;
    }
    const struct qc_tensor *w = qc_node_constant(g, node, 1);
    const struct qc_value *x = &g->values[node->inputs[0]];
    const struct qc_node *add = sole_reader(g, node->outputs[0]);
    if (w == NULL || w->shape.rank != 2 || !x->shape_known || x->shape.rank < 2 || add == NULL ||
        add->op != QC_OP_ADD || read_by_conv(g, node->inputs[0])) {
        return -1;
    }
    int addend = add->inputs[add->inputs[0] == node->outputs[0]];
    bool fits = is_row(&g->values[addend], w->shape.dim[1]) && sole_reader(g, addend) == add &&
                qc_import_constant(import, g, addend) == NULL;
    return fits ? addend : -1;
}

enum qd_code qc_bias_correct_addend(const struct qc_node *node,
                                    const struct qc_quantized_weights *w, const double *mean,
                                    size_t n_means, const struct qc_tensor *addend,
                                    struct qd_arena *arena, const struct qc_tensor **ret,
                                    struct qd_error *err)
{
    size_t n = qc_shape_elements(&addend->shape);
    struct qc_tensor *t = NULL;
    double *bias = NULL;
    QD_TRY(qd_arena_array(arena, n, sizeof(*bias), &bias, err));
    for (size_t c = 0; c < n; c++) {
        bias[c] = qc_tensor_f64(addend, c);
    }
    QD_TRY(qc_bias_correct(node, w, mean, n_means, bias, err));
    QD_TRY(qc_tensor_new(arena, QC_F32, &addend->shape, &t, err));
    for (size_t c = 0; c < n; c++) {
        ((float *)t->data)[c] = (float)bias[c];
    }
    *ret = t;
    return QD_OK;
}
