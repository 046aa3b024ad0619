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
    if (node->op == QC_OP_CONV) {
        int64_t g = qc_node_int(node, "group", 1);
        if (g < 1 || shape->rank < 3 || shape->dim[0] % g != 0) {
            return qd_fail_on(err, QD_INVALID, node->name,
                              "node '%s': %lld groups do not divide the weights", node->name,
                              (long long)g);
        }
        groups = (size_t)g;
        n_in = groups * (size_t)shape->dim[1];
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
    } else {
        size_t n_out = (size_t)shape->dim[outputs_first ? 0 : 1];
        correct_product(w, outputs_first, n_out, n_in, mean, bias);
    }
    return QD_OK;
}
