/* Graphs made by hand, for the executor's tests. */
#ifndef EXEC_FIXTURE_H
#define EXEC_FIXTURE_H

#include <check.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec.h"

struct fixture {
    struct qd_arena arena;
    struct qc_graph *g;
    struct qd_error err;
    uint32_t random;
};

#define OK(expr)                                                                                 \
    do {                                                                                         \
        enum qd_code ok_code = (expr);                                                           \
        ck_assert_msg(ok_code == QD_OK, "%s", f->err.message);                                   \
    } while (0)

static inline void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->random = 12345;
    qd_arena_init(&f->arena, 0);
    OK(qc_graph_new(&f->arena, &f->g, &f->err));
}

static inline void fixture_done(struct fixture *f)
{
    qd_arena_done(&f->arena);
}

static inline float fixture_random(struct fixture *f)
{
    f->random = f->random * 1664525u + 1013904223u;
    return (float)(int32_t)(f->random >> 8) / (float)(1 << 23) - 1.0f; /* [-1, 1) */
}

static inline struct qc_shape shape_of(int rank, ...)
{
    struct qc_shape s = {.rank = rank};
    va_list args;
    va_start(args, rank);
    for (int i = 0; i < rank; i++) {
        s.dim[i] = va_arg(args, int);
    }
    va_end(args);
    return s;
}
#define SHAPE1(a)          shape_of(1, (int)(a))
#define SHAPE2(a, b)       shape_of(2, (int)(a), (int)(b))
#define SHAPE3(a, b, c)    shape_of(3, (int)(a), (int)(b), (int)(c))
#define SHAPE4(a, b, c, d) shape_of(4, (int)(a), (int)(b), (int)(c), (int)(d))

/* A value of known type and shape. */
static inline int value_new(struct fixture *f, enum qc_dtype dtype, struct qc_shape shape)
{
    const char *name = NULL;
    int v = -1;
    OK(qd_arena_printf(&f->arena, &name, &f->err, "v%d", f->g->n_values));
    OK(qc_graph_add_value(f->g, name, &v, &f->err));
    f->g->values[v].dtype = dtype;
    f->g->values[v].shape = shape;
    f->g->values[v].shape_known = true;
    return v;
}

static inline struct qc_tensor *tensor_new(struct fixture *f, enum qc_dtype dtype,
                                           struct qc_shape shape, const void *data)
{
    struct qc_tensor *t = NULL;
    OK(qc_tensor_new(&f->arena, dtype, &shape, &t, &f->err));
    size_t n = qc_shape_elements(&shape);
    if (data != NULL) {
        memcpy(t->data, data, n * qc_dtype_size(dtype));
    } else {
        ck_assert_int_eq(dtype, QC_F32);
        for (size_t i = 0; i < n; i++) {
            ((float *)t->data)[i] = fixture_random(f);
        }
    }
    return t;
}

/* A constant; data NULL: random f32. */
static inline int constant_new(struct fixture *f, enum qc_dtype dtype, struct qc_shape shape,
                               const void *data)
{
    int v = -1;
    const char *name = NULL;
    struct qc_tensor *t = tensor_new(f, dtype, shape, data);
    OK(qd_arena_printf(&f->arena, &name, &f->err, "c%d", f->g->n_values));
    OK(qc_graph_add_constant(f->g, name, t, &v, &f->err));
    f->g->values[v].shape_known = true;
    return v;
}

static inline const float *constant_f32(const struct fixture *f, int value)
{
    return f->g->values[value].constant->data;
}

static inline struct qc_node *node_new(struct fixture *f, int op, int n_inputs, const int *inputs,
                                       int output)
{
    struct qc_node *n = NULL;
    const char *name = NULL;
    OK(qd_arena_printf(&f->arena, &name, &f->err, "n%d", f->g->n_nodes));
    OK(qc_graph_add_node(f->g, name, op, n_inputs, 1, &n, &f->err));
    memcpy(n->inputs, inputs, (size_t)n_inputs * sizeof(int));
    n->outputs[0] = output;
    return n;
}
#define NODE(f, op, output, ...)                                                                 \
    node_new(f, op, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), (int[]){__VA_ARGS__},     \
             output)

static inline struct qc_attr *attr_add(struct fixture *f, struct qc_node *n, const char *name,
                                       enum qc_attr_type type)
{
    struct qc_attr *all = NULL;
    OK(qd_arena_array(&f->arena, (size_t)n->n_attrs + 1, sizeof(*all), &all, &f->err));
    if (n->n_attrs > 0) {
        memcpy(all, n->attrs, (size_t)n->n_attrs * sizeof(*all));
    }
    n->attrs = all;
    all[n->n_attrs].name = name;
    all[n->n_attrs].type = type;
    return &all[n->n_attrs++];
}

static inline void attr_int(struct fixture *f, struct qc_node *n, const char *name, int64_t i)
{
    attr_add(f, n, name, QC_ATTR_INT)->i = i;
}

static inline void attr_float(struct fixture *f, struct qc_node *n, const char *name, float x)
{
    attr_add(f, n, name, QC_ATTR_FLOAT)->f = x;
}

static inline void attr_string(struct fixture *f, struct qc_node *n, const char *name,
                               const char *s)
{
    struct qc_attr *a = attr_add(f, n, name, QC_ATTR_STRING);
    a->s.data = (const uint8_t *)s;
    a->s.size = strlen(s);
}

static inline void attr_ints(struct fixture *f, struct qc_node *n, const char *name, int count,
                             const int64_t *values)
{
    struct qc_attr *a = attr_add(f, n, name, QC_ATTR_INTS);
    int64_t *copy = NULL;
    OK(qd_arena_copy(&f->arena, values, (size_t)count * sizeof(int64_t), &copy, &f->err));
    a->ints = copy;
    a->n = (size_t)count;
}
#define INTS(f, n, name, ...)                                                                    \
    attr_ints(f, n, name, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),             \
              (int64_t[]){__VA_ARGS__})

static inline void graph_io(struct fixture *f, int n_inputs, const int *inputs, int n_outputs,
                            const int *outputs)
{
    OK(qd_arena_array(&f->arena, (size_t)n_inputs, sizeof(struct qc_io), &f->g->inputs, &f->err));
    OK(qd_arena_array(&f->arena, (size_t)n_outputs, sizeof(struct qc_io), &f->g->outputs,
                      &f->err));
    f->g->n_inputs = n_inputs;
    f->g->n_outputs = n_outputs;
    for (int i = 0; i < n_inputs; i++) {
        f->g->inputs[i].value = inputs[i];
    }
    for (int i = 0; i < n_outputs; i++) {
        f->g->outputs[i].value = outputs[i];
    }
    OK(qc_graph_link(f->g, &f->err));
}

/* Build, run once with an instruction set, copy output 0 into `out`. */
static inline void run_graph_on(struct fixture *f, enum qc_isa isa, const void *const *inputs,
                                void *out)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    qc_kernels_init(&kernels, isa);
    struct qc_exec_options options = {.kernels = &kernels};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    OK(qc_exec_state_new(exec, &state, &f->err));
    for (int twice = 0; twice < 2; twice++) { /* a used buffer must not change the result */
        OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
    }
    qc_exec_output(exec, state, 0, out);
    qc_exec_state_free(state);
}

static inline void run_graph(struct fixture *f, const void *const *inputs, void *out)
{
    run_graph_on(f, qc_isa_detect(), inputs, out);
}

/* One input, the last node's output. */
static inline float *run_one(struct fixture *f, int input, int output, const void *x)
{
    float *y = NULL;
    graph_io(f, 1, &input, 1, &output);
    OK(qd_arena_array(&f->arena, qc_shape_elements(&f->g->values[output].shape) + 1, 8, &y,
                      &f->err));
    run_graph(f, &x, y);
    return y;
}

#endif
