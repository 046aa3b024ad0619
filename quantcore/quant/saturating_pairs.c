#include "quantcore/quant/saturating_pairs.h"

#include <stdlib.h>

enum { LARGEST_SUM = 128 };

/* Where the weights that one output sums up lie: `blocks` times `outputs` sums of taps * inputs. */
struct order {
    size_t blocks, outputs, taps, inputs;
    size_t block, output, tap, input; /* strides, in elements */
};

static struct order order_of(const struct qc_node *node, const struct qc_tensor *w)
{
    const int64_t *dim = w->shape.dim;
    size_t last = (size_t)dim[w->shape.rank - 1];
    size_t before = w->shape.rank > 1 ? (size_t)dim[w->shape.rank - 2] : 1;
    if (node->op == QC_OP_CONV) {
        size_t inputs = (size_t)dim[1];
        size_t taps = qc_weights_inner(w, 1);
        return (struct order){1, (size_t)dim[0], taps, inputs, 0, inputs * taps, 1, taps};
    }
    if (qc_weights_axis(node, w) == 0) {
        return (struct order){1, before, 1, last, 0, last, 0, 1};
    }
    size_t blocks = qc_shape_elements(&w->shape) / (before * last);
    return (struct order){blocks, last, 1, before, before * last, 1, 0, last};
}

static int64_t pairs_of(const struct order *o, const int8_t *q)
{
    int64_t found = 0;
    size_t n = o->taps * o->inputs;
    for (size_t k = 0; k + 1 < n; k += 2) {
        size_t next = k + 1;
        int sum = q[k / o->inputs * o->tap + k % o->inputs * o->input] +
                  q[next / o->inputs * o->tap + next % o->inputs * o->input];
        found += abs(sum) > LARGEST_SUM;
    }
    return found;
}

int64_t qc_saturating_pairs(const struct qc_node *node, const struct qc_quantized_weights *w)
{
    int64_t found = 0;
    bool is_product = node->op == QC_OP_CONV || node->op == QC_OP_GEMM || node->op == QC_OP_MATMUL;
    if (!is_product || w->q->dtype != QC_S8 || qc_shape_elements(&w->q->shape) == 0) {
        return 0;
    }
    struct order o = order_of(node, w->q);
    if (qc_node_int(node, "group", 1) > 1 && o.inputs == 1) {
        return 0;
    }
    for (size_t b = 0; b < o.blocks; b++) {
        for (size_t c = 0; c < o.outputs; c++) {
            found += pairs_of(&o, (const int8_t *)w->q->data + b * o.block + c * o.output);
        }
    }
    return found;
}
