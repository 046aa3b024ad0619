/* Small graphs built by hand, for the tests of graph/ and passes/. Everything is static, so that
 * a test file uses what it needs. */
#ifndef TEST_GRAPH_BUILD_H
#define TEST_GRAPH_BUILD_H

#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/graph/op_table.h"

struct tg {
    struct qd_arena arena;
    struct qd_error err;
    struct qc_graph *g;
};

static QD_UNUSED void tg_init(struct tg *t)
{
    memset(t, 0, sizeof *t);
    qd_arena_init(&t->arena, 64 << 20);
    ck_assert_int_eq(qc_graph_new(&t->arena, &t->g, &t->err), QD_OK);
    t->g->inputs = calloc(8, sizeof *t->g->inputs);
    t->g->outputs = calloc(8, sizeof *t->g->outputs);
}

static QD_UNUSED void tg_done(struct tg *t)
{
    free(t->g->inputs);
    free(t->g->outputs);
    qd_arena_done(&t->arena);
}

/* A graph input of type f32; dim -1 is symbolic ("N"). */
static QD_UNUSED int tg_input(struct tg *t, const char *name, int rank, ...)
{
    int v;
    ck_assert_int_eq(qc_graph_add_value(t->g, name, &v, &t->err), QD_OK);
    t->g->values[v].dtype = QC_F32;
    struct qc_io *io = &t->g->inputs[t->g->n_inputs++];
    *io = (struct qc_io){.value = v, .has_shape = true, .rank = rank};
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++) {
        io->dim[i] = va_arg(ap, int);
        io->dim_param[i] = io->dim[i] < 0 ? "N" : NULL;
    }
    va_end(ap);
    return v;
}

static QD_UNUSED void tg_output(struct tg *t, int value)
{
    t->g->outputs[t->g->n_outputs++] = (struct qc_io){.value = value};
}

static QD_UNUSED struct qc_tensor *tg_tensor(struct tg *t, enum qc_dtype dtype, int rank,
                                             const int64_t *dims)
{
    struct qc_shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        shape.dim[i] = dims[i];
    }
    struct qc_tensor *tensor = NULL;
    ck_assert_int_eq(qc_tensor_new(&t->arena, dtype, &shape, &tensor, &t->err), QD_OK);
    return tensor;
}

/* An f32 initializer; elements are first, first + step, … */
static QD_UNUSED int tg_floats(struct tg *t, const char *name, float first, float step, int rank,
                               ...)
{
    int64_t dims[QC_MAX_RANK];
    va_list ap;
    va_start(ap, rank);
    for (int i = 0; i < rank; i++) {
        dims[i] = va_arg(ap, int);
    }
    va_end(ap);
    struct qc_tensor *tensor = tg_tensor(t, QC_F32, rank, dims);
    for (size_t i = 0; i < qc_shape_elements(&tensor->shape); i++) {
        ((float *)tensor->data)[i] = first + step * (float)i;
    }
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t->g, name, tensor, &v, &t->err), QD_OK);
    return v;
}

/* A vector of s64; n = -1: a scalar. */
static QD_UNUSED int tg_ints(struct tg *t, const char *name, int n, ...)
{
    int64_t dim = n < 0 ? 1 : n;
    struct qc_tensor *tensor = tg_tensor(t, QC_S64, n < 0 ? 0 : 1, &dim);
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < dim; i++) {
        ((int64_t *)tensor->data)[i] = va_arg(ap, int);
    }
    va_end(ap);
    int v;
    ck_assert_int_eq(qc_graph_add_constant(t->g, name, tensor, &v, &t->err), QD_OK);
    return v;
}

/* A node called `name` with one output "<name>_y"; -1 is an absent input. */
static QD_UNUSED int tg_node(struct tg *t, const char *name, int op, int n, ...)
{
    int y;
    const char *out;
    struct qc_node *node;
    ck_assert_int_eq(qd_arena_printf(&t->arena, &out, &t->err, "%s_y", name), QD_OK);
    ck_assert_int_eq(qc_graph_add_value(t->g, out, &y, &t->err), QD_OK);
    ck_assert_int_eq(qc_graph_add_node(t->g, name, op, n, 1, &node, &t->err), QD_OK);
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < n; i++) {
        node->inputs[i] = va_arg(ap, int);
    }
    va_end(ap);
    node->outputs[0] = y;
    return y;
}

static QD_UNUSED void tg_add_attr(struct tg *t, struct qc_attr attr)
{
    struct qc_node *n = &t->g->nodes[t->g->n_nodes - 1];
    struct qc_attr *attrs = NULL;
    ck_assert_int_eq(
        qd_arena_array(&t->arena, (size_t)n->n_attrs + 1, sizeof *attrs, &attrs, &t->err), QD_OK);
    if (n->n_attrs > 0) {
        memcpy(attrs, n->attrs, (size_t)n->n_attrs * sizeof *attrs);
    }
    attrs[n->n_attrs++] = attr;
    n->attrs = attrs;
}

/* Attributes of the last node. */
static QD_UNUSED void tg_attr_int(struct tg *t, const char *name, int64_t i)
{
    tg_add_attr(t, (struct qc_attr){.name = name, .type = QC_ATTR_INT, .i = i});
}

static QD_UNUSED void tg_attr_float(struct tg *t, const char *name, float f)
{
    tg_add_attr(t, (struct qc_attr){.name = name, .type = QC_ATTR_FLOAT, .f = f});
}

static QD_UNUSED void tg_attr_string(struct tg *t, const char *name, const char *s)
{
    tg_add_attr(t, (struct qc_attr){.name = name,
                                    .type = QC_ATTR_STRING,
                                    .s = {(const uint8_t *)s, strlen(s)}});
}

static QD_UNUSED void tg_attr_ints(struct tg *t, const char *name, int n, ...)
{
    int64_t *ints = NULL;
    ck_assert_int_eq(qd_arena_array(&t->arena, (size_t)n, sizeof *ints, &ints, &t->err), QD_OK);
    va_list ap;
    va_start(ap, n);
    for (int i = 0; i < n; i++) {
        ints[i] = va_arg(ap, int);
    }
    va_end(ap);
    tg_add_attr(
        t, (struct qc_attr){.name = name, .type = QC_ATTR_INTS, .n = (size_t)n, .ints = ints});
}

static QD_UNUSED void tg_bind(struct tg *t)
{
    ck_assert_int_eq(qc_graph_link(t->g, &t->err), QD_OK);
    enum qd_code code = qc_graph_bind_inputs(t->g, 1, &t->err);
    ck_assert_msg(code == QD_OK, "%s", t->err.message);
}

/* The dump of the graph is `want`. */
static QD_UNUSED void tg_expect(struct tg *t, const char *want)
{
    char *dump = NULL;
    ck_assert_int_eq(qc_graph_dump(t->g, &dump, &t->err), QD_OK);
    ck_assert_str_eq(dump, want);
    free(dump);
}

#endif
