/* QDQ graphs made by hand and run twice: as they are, in f32, and planned to integers.
 *
 * With scales that are powers of two every f32 step is exact (sums stay below 2^24 steps), so
 * both runs must give the same codes; other scales round differently on the way and are compared
 * with integers computed here, or within one step, each test saying why. */
#ifndef INT_FIXTURE_H
#define INT_FIXTURE_H

#include "exec_fixture.h"
#include "quantcore/integer/int_plan.h"

/* Parameters of one 8-bit tensor. */
struct int_q {
    float scale;
    int zero_point;
    enum qc_dtype dtype; /* QC_U8 or QC_S8 */
};
#define U8(scale, zp) ((struct int_q){scale, zp, QC_U8})
#define S8(scale, zp) ((struct int_q){scale, zp, QC_S8})

/* A value whose type and shape int_io infers. */
static inline int int_value(struct fixture *f)
{
    const char *name = NULL;
    int v = -1;
    OK(qd_arena_printf(&f->arena, &name, &f->err, "v%d", f->g->n_values));
    OK(qc_graph_add_value(f->g, name, &v, &f->err));
    return v;
}

static inline int int_scalar(struct fixture *f, enum qc_dtype dtype, const void *data)
{
    return constant_new(f, dtype, (struct qc_shape){.rank = 0}, data);
}

static inline int int_f32(struct fixture *f, float x)
{
    return int_scalar(f, QC_F32, &x);
}

static inline int int_zero_point(struct fixture *f, struct int_q q)
{
    int8_t byte = (int8_t)q.zero_point; /* the same bits for u8 */
    return int_scalar(f, q.dtype, &byte);
}

static inline int quantize_new(struct fixture *f, int x, struct int_q q)
{
    int y = int_value(f);
    NODE(f, QC_OP_QUANTIZE_LINEAR, y, x, int_f32(f, q.scale), int_zero_point(f, q));
    return y;
}

static inline int dequantize_new(struct fixture *f, int x, struct int_q q)
{
    int y = int_value(f);
    NODE(f, QC_OP_DEQUANTIZE_LINEAR, y, x, int_f32(f, q.scale), int_zero_point(f, q));
    return y;
}

static inline int qdq_new(struct fixture *f, int x, struct int_q q)
{
    return dequantize_new(f, quantize_new(f, x, q), q);
}

static inline int int_random(struct fixture *f, int lo, int hi)
{
    (void)fixture_random(f);
    return lo + (int)((f->random >> 8) % (uint32_t)(hi - lo + 1));
}

/* DequantizeLinear of random integers lo..hi; n scales along axis (n = 1: a scalar). The sevenths
 * of base's exponent: base, base/2, base/4, base, … */
static inline int constant_q_new(struct fixture *f, enum qc_dtype dtype, struct qc_shape shape,
                                 int lo, int hi, float base, int n, int axis)
{
    struct qc_tensor *t = NULL, *scale = NULL;
    struct qc_shape vector = SHAPE1(n);
    int y = int_value(f), q = -1, s = -1;
    vector.rank = n > 1 ? 1 : 0;
    OK(qc_tensor_new(&f->arena, dtype, &shape, &t, &f->err));
    OK(qc_tensor_new(&f->arena, QC_F32, &vector, &scale, &f->err));
    for (size_t i = 0; i < qc_shape_elements(&shape); i++) {
        int x = int_random(f, lo, hi);
        if (dtype == QC_S32) {
            ((int32_t *)t->data)[i] = x;
        } else {
            ((int8_t *)t->data)[i] = (int8_t)x;
        }
    }
    for (int i = 0; i < n; i++) {
        ((float *)scale->data)[i] = base / (float)(1 << i % 3);
    }
    OK(qc_graph_add_constant(f->g, "w", t, &q, &f->err));
    OK(qc_graph_add_constant(f->g, "w_scale", scale, &s, &f->err));
    struct qc_node *node = NODE(f, QC_OP_DEQUANTIZE_LINEAR, y, q, s);
    attr_int(f, node, "axis", axis);
    return y;
}

/* Random zero points lo..hi for the DequantizeLinear that constant_q_new made just now, as many
 * as it has scales. */
static inline void int_zero_points(struct fixture *f, int lo, int hi)
{
    struct qc_node *dq = &f->g->nodes[f->g->n_nodes - 1];
    const struct qc_tensor *scale = f->g->values[dq->inputs[1]].constant;
    int8_t zp[256];
    int *in = NULL;
    ck_assert_uint_le(qc_shape_elements(&scale->shape), sizeof(zp));
    for (size_t i = 0; i < qc_shape_elements(&scale->shape); i++) {
        zp[i] = (int8_t)int_random(f, lo, hi); /* the same bits for u8 */
    }
    OK(qd_arena_array(&f->arena, 3, sizeof(*in), &in, &f->err));
    in[0] = dq->inputs[0];
    in[1] = dq->inputs[1];
    in[2] = constant_new(f, f->g->values[in[0]].constant->dtype, scale->shape, zp);
    dq->inputs = in;
    dq->n_inputs = 3;
}

/* Input and output, types and shapes of everything. */
static inline void int_io(struct fixture *f, int input, int output)
{
    graph_io(f, 1, &input, 1, &output);
    for (int i = 0; i < f->g->n_nodes; i++) {
        OK(qc_graph_infer_node(f->g, i, &f->err));
    }
}

/* Makes the graph and calls int_io. */
typedef void int_build(struct fixture *f, const void *arg);

static inline size_t int_elements(const struct fixture *f, int value)
{
    return qc_shape_elements(&f->g->values[value].shape);
}

/* Every code of q in each 256 elements, shuffled, as exact real numbers. */
static inline float *int_samples(struct fixture *f, size_t n, struct int_q q)
{
    float *x = NULL;
    int code[256], lo = q.dtype == QC_U8 ? 0 : -128;
    OK(qd_arena_array(&f->arena, n + 1, sizeof(*x), &x, &f->err));
    for (int i = 0; i < 256; i++) {
        code[i] = i + lo;
    }
    for (size_t i = 0; i < n; i++) {
        int at = (int)(i % 256), other = int_random(f, at, 255);
        int drawn = code[other];
        code[other] = code[at];
        code[at] = drawn;
        x[i] = (float)(drawn - q.zero_point) * q.scale;
    }
    return x;
}

/* Bytes of output 0 after a run with the kernels of `isa`; *ret_size. */
static inline void *int_run(struct fixture *f, enum qc_isa isa, const float *x, size_t *ret_size)
{
    struct qc_kernels kernels;
    struct qc_exec *exec = NULL;
    struct qc_exec_state *state = NULL;
    const void *inputs[1] = {x};
    int value = f->g->outputs[0].value;
    void *y = NULL;
    *ret_size = int_elements(f, value) * qc_dtype_size(f->g->values[value].dtype);
    OK(qd_arena_array(&f->arena, *ret_size + 1, 1, &y, &f->err));
    qc_kernels_init(&kernels, isa);
    struct qc_exec_options options = {.kernels = &kernels};
    OK(qc_exec_build(f->g, &options, &f->arena, &exec, &f->err));
    OK(qc_exec_state_new(exec, &state, &f->err));
    for (int twice = 0; twice < 2; twice++) { /* a used buffer must not change the result */
        OK(qc_exec_run(exec, state, inputs, NULL, NULL, &f->err));
    }
    qc_exec_output(exec, state, 0, y);
    qc_exec_state_free(state);
    return y;
}

/* What a comparison expects. */
struct int_want {
    struct int_q in; /* parameters of the graph's input: what the samples cover */
    float step;      /* of the output, when steps > 0 */
    int steps;       /* most steps that an output may differ by; 0: equal bits */
    int units, islands;
    bool may_saturate; /* otherwise the output must have several different bytes */
};

static inline void int_expect_near(const float *got, const float *want, size_t n,
                                   const struct int_want *w, const char *isa)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(fabsf(got[i] - want[i]) <= 1.001f * (float)w->steps * w->step,
                      "%s: element %zu: %g, f32 gives %g, step %g", isa, i, (double)got[i],
                      (double)want[i], (double)w->step);
    }
}

/* A result that is saturated everywhere would prove nothing. */
static inline void int_expect_varied(const uint8_t *bytes, size_t n)
{
    bool seen[256] = {false};
    int distinct = 0;
    for (size_t i = 0; i < n; i++) {
        distinct += !seen[bytes[i]];
        seen[bytes[i]] = true;
    }
    ck_assert_int_gt(distinct, 4);
}

/* The f32 run and the integer runs with every instruction set of this CPU. */
static inline void int_expect(int_build *build, const void *arg, const struct int_want *w)
{
    struct fixture plain, planned, *f = &plain;
    size_t n = 0, n_f32 = 0;
    struct qc_int_counts counts;
    fixture_init(f);
    build(f, arg);
    const float *x = int_samples(f, int_elements(f, f->g->inputs[0].value), w->in);
    const uint8_t *want = int_run(f, QC_ISA_REF, x, &n_f32);
    if (!w->may_saturate) {
        int_expect_varied(want, n_f32);
    }
    f = &planned;
    fixture_init(f);
    build(f, arg);
    OK(qc_int_plan(f->g, &counts, &f->err));
    ck_assert_int_eq(counts.n_units, w->units);
    ck_assert_int_eq(counts.n_f32_islands, w->islands);
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        const char *name = qc_isa_name((enum qc_isa)isa);
        const uint8_t *got = int_run(f, (enum qc_isa)isa, x, &n);
        ck_assert_uint_eq(n, n_f32);
        if (w->steps > 0) {
            int_expect_near((const void *)got, (const void *)want, n / 4, w, name);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            ck_assert_msg(got[i] == want[i], "%s: byte %zu of %zu: %d, f32 gives %d", name, i, n,
                          got[i], want[i]);
        }
    }
    fixture_done(&planned);
    fixture_done(&plain);
}

/* Number of nodes of an operator in the planned graph. */
static inline int int_count_ops(const struct qc_graph *g, int op)
{
    int n = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        n += g->nodes[i].op == op;
    }
    return n;
}

#endif
