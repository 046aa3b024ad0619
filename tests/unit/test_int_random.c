/* Random quantized networks: layouts, borders and buffers of whole plans. Every scale is a power
 * of two and every zero point even, so that f32 is exact and breaks ties alike (see
 * test_int_elementwise.c): the codes of every output must be equal. */
#include "int_fixture.h"

#define MAX_TENSORS 24
#define N_OPS       14

/* A quantized tensor [n, c, h, w] of the network. */
struct tensor {
    int value; /* behind its DequantizeLinear */
    struct int_q q;
    int n, c, h, w;
};

struct net {
    struct fixture *f;
    int count;
    struct tensor t[MAX_TENSORS];
};

static int even_zero_point(struct fixture *f)
{
    return 2 * int_random(f, 20, 107);
}

static void push(struct net *net, int y, struct tensor t)
{
    if (net->count < MAX_TENSORS) {
        t.value = qdq_new(net->f, y, t.q);
        net->t[net->count++] = t;
    }
}

static void add_conv(struct net *net, const struct tensor *x, bool depthwise)
{
    struct fixture *f = net->f;
    int group = depthwise ? x->c : (x->c % 2 == 0 && int_random(f, 0, 2) == 0 ? 2 : 1);
    int out = depthwise ? x->c : group * int_random(f, 1, 12), kh = int_random(f, 1, 3);
    int kw = int_random(f, 1, 3), pads[4], dilation[2] = {int_random(f, 1, 2), 1};
    int stride[2] = {int_random(f, 1, 2), int_random(f, 1, 2)};
    int reach[2] = {(kh - 1) * dilation[0] + 1, kw};
    for (int i = 0; i < 4; i++) {
        pads[i] = int_random(f, 0, 2);
    }
    struct tensor t = *x;
    t.c = out;
    t.h = (x->h + pads[0] + pads[2] - reach[0]) / stride[0] + 1;
    t.w = (x->w + pads[1] + pads[3] - reach[1]) / stride[1] + 1;
    if (x->h + pads[0] + pads[2] < reach[0] || x->w + pads[1] + pads[3] < reach[1]) {
        return;
    }
    float depth = (float)(x->c / group * kh * kw);
    float step = 0.5f / x->q.scale / exp2f(rintf(log2f(5000.0f * sqrtf(depth) / 50.0f)));
    int w = constant_q_new(f, QC_S8, SHAPE4(out, x->c / group, kh, kw), -127, 127, step, out, 0);
    if (int_random(f, 0, 2) == 0) { /* q - z stays in the exact range, but not in s8 */
        int_zero_points(f, -60, 60);
    }
    int b = constant_q_new(f, QC_S32, SHAPE1(out), -9999, 9999, x->q.scale * step, out, 0);
    int y = int_value(f);
    struct qc_node *n = NODE(f, QC_OP_CONV, y, x->value, w, b);
    attr_int(f, n, "group", group);
    INTS(f, n, "pads", pads[0], pads[1], pads[2], pads[3]);
    INTS(f, n, "strides", stride[0], stride[1]);
    INTS(f, n, "dilations", dilation[0], dilation[1]);
    if (int_random(f, 0, 1) == 0) {
        n->clamp = (struct qc_clamp){true, -10.0f, 37.25f};
    }
    t.q = (struct int_q){0.5f, even_zero_point(f), QC_U8};
    push(net, y, t);
}

/* Another tensor of x's shape (x itself if there is none). */
static const struct tensor *partner(const struct net *net, const struct tensor *x)
{
    int start = int_random(net->f, 0, net->count - 1);
    for (int i = 0; i < net->count; i++) {
        const struct tensor *t = &net->t[(start + i) % net->count];
        if (t->n == x->n && t->c == x->c && t->h == x->h && t->w == x->w) {
            return t;
        }
    }
    return x;
}

static void add_binary(struct net *net, const struct tensor *x, int op)
{
    const struct tensor *o = partner(net, x);
    struct tensor t = *x;
    int y = int_value(net->f);
    NODE(net->f, op, y, x->value, o->value);
    float larger = x->q.scale > o->q.scale ? x->q.scale : o->q.scale;
    t.q = U8(op == QC_OP_ADD ? larger : x->q.scale * o->q.scale * 64, even_zero_point(net->f));
    push(net, y, t);
}

static void add_concat(struct net *net, const struct tensor *x)
{
    const struct tensor *o = partner(net, x);
    struct tensor t = *x;
    int y = int_value(net->f);
    struct qc_node *n = NODE(net->f, QC_OP_CONCAT, y, o->value, x->value);
    attr_int(net->f, n, "axis", 1);
    t.c *= 2;
    t.q = U8(x->q.scale * 2, even_zero_point(net->f));
    if (t.c <= 32) {
        push(net, y, t);
    }
}

static void add_pool(struct net *net, const struct tensor *x, int op)
{
    struct fixture *f = net->f;
    struct tensor t = *x;
    int k[2] = {x->h > 1 ? 2 : 1, x->w > 1 ? 2 : 1}, y = int_value(f);
    struct qc_node *n = NODE(f, op, y, x->value);
    INTS(f, n, "kernel_shape", k[0], k[1]);
    INTS(f, n, "pads", 0, 0, k[0] - 1, 0);
    t.h = x->h + k[0] - 1 - k[0] + 1;
    t.w = x->w - k[1] + 1;
    if (op == QC_OP_AVERAGE_POOL || int_random(f, 0, 1) == 0) {
        t.q = U8(x->q.scale, even_zero_point(f));
    }
    push(net, y, t);
}

static void add_function(struct net *net, const struct tensor *x)
{
    static const int ops[] = {QC_OP_SIGMOID, QC_OP_TANH, QC_OP_RELU, QC_OP_LEAKY_RELU,
                              QC_OP_HARD_SWISH};
    struct tensor t = *x;
    int at = int_random(net->f, 0, (int)QD_COUNT_OF(ops) - 1), y = int_value(net->f);
    NODE(net->f, ops[at], y, x->value);
    t.q = U8(at < 2 ? 1.0f / 128 : x->q.scale, even_zero_point(net->f));
    push(net, y, t);
}

static void add_mover(struct net *net, const struct tensor *x, int what)
{
    struct fixture *f = net->f;
    struct tensor t = *x;
    int y = int_value(f);
    if (what == 0) {
        int64_t pads[8] = {0, 0, 1, 0, 0, 0, 0, 2};
        NODE(f, QC_OP_PAD, y, x->value, constant_new(f, QC_S64, SHAPE1(8), pads));
        t.h += 1;
        t.w += 2;
    } else if (what == 1) {
        struct qc_node *n = NODE(f, QC_OP_TRANSPOSE, y, x->value);
        INTS(f, n, "perm", 0, 1, 3, 2);
        t.h = x->w;
        t.w = x->h;
    } else {
        float scales[4] = {1, 1, 2, 1};
        struct qc_node *n =
            NODE(f, QC_OP_RESIZE, y, x->value, -1, constant_new(f, QC_F32, SHAPE1(4), scales));
        attr_string(f, n, "coordinate_transformation_mode", "asymmetric");
        attr_string(f, n, "nearest_mode", "floor");
        t.h *= 2;
    }
    if (t.h <= 24 && t.w <= 24) {
        push(net, y, t);
    }
}

static void add_random(struct net *net)
{
    /* a copy: push appends to the array */
    struct tensor x =
        net->t[int_random(net->f, net->count > 4 ? net->count - 4 : 0, net->count - 1)];
    int what = int_random(net->f, 0, 11);
    if (what < 3) {
        add_conv(net, &x, what == 0);
    } else if (what < 5) {
        add_binary(net, &x, what == 3 ? QC_OP_ADD : QC_OP_MUL);
    } else if (what == 5) {
        add_concat(net, &x);
    } else if (what < 8) {
        add_pool(net, &x, what == 6 ? QC_OP_MAX_POOL : QC_OP_AVERAGE_POOL);
    } else if (what == 8) {
        add_function(net, &x);
    } else {
        add_mover(net, &x, what - 9);
    }
}

/* Values that nobody reads are outputs, all flattened and joined: one output to compare. */
static int join_loose_ends(struct net *net)
{
    struct fixture *f = net->f;
    int flat[MAX_TENSORS], n = 0, y = int_value(f);
    for (int i = 0; i < net->count; i++) {
        if (qc_graph_count_uses(f->g, net->t[i].value) > 0) {
            continue;
        }
        flat[n] = int_value(f);
        struct qc_node *node = NODE(f, QC_OP_FLATTEN, flat[n++], net->t[i].value);
        attr_int(f, node, "axis", 0);
    }
    attr_int(f, node_new(f, QC_OP_CONCAT, n, flat, y), "axis", 1);
    return y;
}

static void build_random(struct fixture *f, const void *arg)
{
    struct net net = {.f = f};
    f->random = 77u + 2654435761u * (uint32_t) * (const int *)arg;
    struct int_q q = U8(0.5f, 128);
    struct tensor t = {.q = q,
                       .n = int_random(f, 1, 2),
                       .c = int_random(f, 1, 9),
                       .h = int_random(f, 3, 10),
                       .w = int_random(f, 3, 10)};
    int x = value_new(f, QC_F32, SHAPE4(t.n, t.c, t.h, t.w));
    push(&net, x, t);
    for (int i = 0; i < N_OPS; i++) {
        add_random(&net);
    }
    int_io(f, x, join_loose_ends(&net));
}

static void count_units(int seed, struct qc_int_counts *ret)
{
    struct fixture fixture, *f = &fixture;
    fixture_init(f);
    build_random(f, &seed);
    OK(qc_int_plan(f->g, ret, &f->err));
    fixture_done(f);
}

START_TEST(int_plan__random_network__codes_of_f32)
{
    int units = 0;
    for (int seed = _i * 20; seed < _i * 20 + 20; seed++) {
        struct qc_int_counts counts;
        count_units(seed, &counts);
        units += counts.n_units;
        struct int_want w = {.in = U8(0.5f, 128),
                             .units = counts.n_units,
                             .islands = counts.n_f32_islands,
                             .may_saturate = true};
        int_expect(build_random, &seed, &w);
    }
    ck_assert_int_gt(units, 20 * N_OPS / 2); /* most operators are units */
}
END_TEST

Suite *test_int_random_suite(void);
Suite *test_int_random_suite(void)
{
    Suite *s = suite_create("int_random");
    TCase *tc = tcase_create("all");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, int_plan__random_network__codes_of_f32, 0, 10);
    suite_add_tcase(s, tc);
    return s;
}
