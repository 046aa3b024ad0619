/* Networks made by hand for the tests of the plan and of the quantized graph. */
#ifndef QUANT_FIXTURE_H
#define QUANT_FIXTURE_H

#include <check.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "quantcore/quant/quantize_graph.h"

static struct qd_arena arena;
static struct qc_graph *g;

static inline void setup(void)
{
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qc_graph_new(&arena, &g, NULL), QD_OK);
}

static inline void teardown(void)
{
    qd_arena_done(&arena);
}

/* A data value [1, c, 4, 4] (c > 0), or [1, -c]. */
static inline int data(const char *name, int c)
{
    int v;
    ck_assert_int_eq(qc_graph_add_value(g, name, &v, NULL), QD_OK);
    g->values[v].dtype = QC_F32;
    g->values[v].shape_known = true;
    g->values[v].shape = c > 0 ? (struct qc_shape){4, {1, c, 4, 4}}
                               : (struct qc_shape){2, {1, -c}};
    return v;
}

static inline int constant(const char *name, struct qc_shape shape)
{
    int v;
    struct qc_tensor *t = NULL;
    ck_assert_int_eq(qc_tensor_new(&arena, QC_F32, &shape, &t, NULL), QD_OK);
    for (size_t i = 0; i < qc_shape_elements(&shape); i++) {
        ((float *)t->data)[i] = sinf((float)i + 1);
    }
    ck_assert_int_eq(qc_graph_add_constant(g, name, t, &v, NULL), QD_OK);
    return v;
}

/* node(op, name, out, inputs…, -1): the pointer is valid until the next. */
static inline struct qc_node *node(int op, const char *name, int out, ...)
{
    int in[8], n = 0;
    va_list args;
    struct qc_node *ret = NULL;
    va_start(args, out);
    for (int v = va_arg(args, int); v >= 0; v = va_arg(args, int)) {
        in[n++] = v;
    }
    va_end(args);
    ck_assert_int_eq(qc_graph_add_node(g, name, op, n, 1, &ret, NULL), QD_OK);
    memcpy(ret->inputs, in, (size_t)n * sizeof(int));
    ret->outputs[0] = out;
    return ret;
}

static inline void io(int input, int n_outputs, const int *outputs)
{
    static struct qc_io in[1], out[4];
    in[0] = (struct qc_io){.value = input};
    for (int i = 0; i < n_outputs; i++) {
        out[i] = (struct qc_io){.value = outputs[i]};
    }
    g->inputs = in;
    g->n_inputs = 1;
    g->outputs = out;
    g->n_outputs = n_outputs;
    ck_assert_int_eq(qc_graph_link(g, NULL), QD_OK);
}

static struct qc_quantize_options options = {.weights_per_channel = true,
                                             .dense_per_channel = true,
                                             .bias_correction = true};

static inline struct qc_quantize_plan *plan_of(void)
{
    struct qc_quantize_plan *plan = NULL;
    ck_assert_int_eq(qc_quantize_plan_new(g, &options, &arena, &plan, NULL), QD_OK);
    return plan;
}

/* Quantize with the range [-1, 1] (or [0, 1] behind a Relu) for everything. */
static inline struct qc_quantized_graph *quantize(const struct qc_quantize_plan *plan,
                                           const double *const *means, const int *n_means)
{
    struct qc_range ranges[64];
    struct qc_qparams *pairs = NULL;
    struct qc_quantized_graph *q = NULL;
    struct qd_error err = {0};
    for (int v = 0; v < g->n_values; v++) {
        int p = g->values[v].producer;
        bool relu = p >= 0 && g->nodes[p].clamp.present;
        ranges[v] = (struct qc_range){.lo = relu ? 0 : -1, .hi = 1};
    }
    ck_assert_int_eq(qc_quantize_plan_pairs(plan, ranges, &arena, &pairs, NULL), QD_OK);
    ck_assert_msg(qc_quantize_graph(plan, pairs, means, n_means, &arena, &q, &err) == QD_OK, "%s",
                  err.message);
    return q;
}

static inline int find_node(const struct qc_graph *q, const char *name)
{
    for (int i = 0; i < q->n_nodes; i++) {
        if (strcmp(q->nodes[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static inline const struct qc_node *maker(const struct qc_graph *q, int value)
{
    return q->values[value].producer < 0 ? NULL : &q->nodes[q->values[value].producer];
}

/* What ONNX Runtime asks of a node unit, for every integer node but `but` (may be NULL). */
static inline void check_units(const struct qc_quantize_plan *plan, const struct qc_quantized_graph *r,
                        const char *but)
{
    const struct qc_graph *q = r->graph;
    for (int i = 0; i < q->n_nodes; i++) {
        if (q->nodes[i].op == QC_OP_DEQUANTIZE_LINEAR) {
            int out = q->nodes[i].outputs[0];
            int uses = qc_graph_count_uses(q, out) + qc_graph_is_output(q, out);
            ck_assert_msg(uses == 1, "%s: %d uses", q->nodes[i].name, uses);
        }
    }
    for (int i = 0; i < g->n_nodes; i++) {
        const struct qc_node *n = &q->nodes[r->node[i]];
        if (!plan->integer[i] || (but != NULL && strcmp(n->name, but) == 0)) {
            continue;
        }
        for (int k = 0; k < n->n_inputs; k++) {
            ck_assert_int_eq(maker(q, n->inputs[k])->op, QC_OP_DEQUANTIZE_LINEAR);
        }
        if (!plan->keeps_f32[i]) {
            ck_assert_int_eq(qc_graph_count_uses(q, n->outputs[0]), 1);
            ck_assert(!qc_graph_is_output(q, n->outputs[0]));
            int u8 = r->quantized[g->nodes[i].outputs[0]];
            ck_assert_int_eq(maker(q, u8)->inputs[0], n->outputs[0]);
        }
    }
}

#endif
