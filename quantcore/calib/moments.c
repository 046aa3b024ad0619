#include "quantcore/calib/moments.h"

#include <string.h>

#include "quantcore/exec/exec_step.h"

/* How the columns of one product lie in its input. */
struct product {
    int node, value;
    int n_groups, n_columns;
    bool is_conv;
    int64_t channels, out[2]; /* Conv: of a group; H and W of the output */
    struct qc_window window;
    struct qc_moment *moments;        /* a thread each */
};

struct qc_moments {
    const struct qc_graph *g;
    int n, n_threads;
    struct product *products;
    struct qc_moment *result;
    double **scratch; /* a thread each: a triangle of the most columns */
    float **column;   /* a thread each */
};

void qc_moment_merge(struct qc_moment *to, const struct qc_moment *from)
{
    size_t n = (size_t)to->n_groups * qc_moment_entries(to->n_columns);
    to->n_positions += from->n_positions;
    to->overflow |= from->overflow;
    for (size_t i = 0; i < n; i++) {
        to->overflow |= __builtin_add_overflow(to->lower[i], from->lower[i], &to->lower[i]);
    }
}

/* ---- what a product reads ------------------------------------------------------------------ */

static bool describe_conv(const struct qc_graph *g, const struct qc_node *n, struct product *p)
{
    const struct qc_shape *x = &g->values[n->inputs[0]].shape;
    const struct qc_shape *w = &g->values[n->inputs[1]].shape;
    const struct qc_shape *y = &g->values[n->outputs[0]].shape;
    if (x->rank != 4 || w->rank != 4 || y->rank != 4) {
        return false;
    }
    p->is_conv = true;
    p->n_groups = (int)qc_node_int(n, "group", 1);
    p->channels = w->dim[1];
    p->out[0] = y->dim[2];
    p->out[1] = y->dim[3];
    qc_window_resolve(n, 2, &w->dim[2], &x->dim[2], &y->dim[2], &p->window);
    int64_t columns = w->dim[1] * w->dim[2] * w->dim[3];
    p->n_columns = columns <= QC_MOMENTS_MAX_COLUMNS ? (int)columns : 0;
    return p->n_columns > 0;
}

static bool describe(const struct qc_graph *g, int node, const bool *wanted, struct product *p)
{
    const struct qc_node *n = &g->nodes[node];
    bool product = n->op == QC_OP_CONV || n->op == QC_OP_GEMM || n->op == QC_OP_MATMUL;
    if (!wanted[node] || !product || qc_node_constant(g, n, 1) == NULL || n->inputs[0] < 0) {
        return false;
    }
    *p = (struct product){.node = node, .value = n->inputs[0], .n_groups = 1};
    if (n->op == QC_OP_CONV) {
        return describe_conv(g, n, p);
    }
    const struct qc_shape *x = &g->values[n->inputs[0]].shape;
    int64_t columns = x->rank > 0 ? x->dim[x->rank - 1] : 0;
    bool transposed = n->op == QC_OP_GEMM && qc_node_int(n, "transA", 0) != 0;
    p->n_columns = !transposed && columns <= QC_MOMENTS_MAX_COLUMNS ? (int)columns : 0;
    return p->n_columns > 0;
}

size_t qc_moments_bytes(const struct qc_graph *g, const bool *wanted, int n_threads)
{
    size_t bytes = 0, most = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        struct product p;
        if (describe(g, i, wanted, &p)) {
            size_t n = qc_moment_entries(p.n_columns);
            most = n > most ? n : most;
            bytes += (size_t)n_threads * (size_t)p.n_groups * n * sizeof(qd_int128);
        }
    }
    return bytes + (size_t)n_threads * most * sizeof(double);
}

static enum qd_code new_sums(const struct qc_moments *m, struct product *p, struct qd_arena *arena,
                             struct qd_error *err)
{
    size_t n = (size_t)p->n_groups * qc_moment_entries(p->n_columns);
    QD_TRY(qd_arena_array(arena, (size_t)m->n_threads, sizeof(*p->moments), &p->moments, err));
    for (int t = 0; t < m->n_threads; t++) {
        p->moments[t] = (struct qc_moment){.node = m->g->nodes[p->node].name,
                                           .n_groups = p->n_groups,
                                           .n_columns = p->n_columns};
        QD_TRY(qd_arena_array(arena, n, sizeof(qd_int128), &p->moments[t].lower, err));
    }
    return QD_OK;
}

enum qd_code qc_moments_new(const struct qc_graph *g, const bool *wanted, int n_threads,
                            struct qd_arena *arena, struct qc_moments **ret, struct qd_error *err)
{
    struct qc_moments *m = NULL;
    size_t most = 1, threads = (size_t)n_threads;
    QD_TRY(qd_arena_alloc(arena, sizeof(*m), &m, err));
    QD_TRY(qd_arena_array(arena, (size_t)g->n_nodes, sizeof(*m->products), &m->products, err));
    *m = (struct qc_moments){.g = g, .n_threads = n_threads, .products = m->products};
    for (int i = 0; i < g->n_nodes; i++) {
        struct product *p = &m->products[m->n];
        if (!describe(g, i, wanted, p)) {
            continue;
        }
        enum qd_code code = new_sums(m, p, arena, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "second moments of '%s', %d columns", g->nodes[i].name,
                           p->n_columns);
        }
        most = (size_t)p->n_columns > most ? (size_t)p->n_columns : most;
        m->n++;
    }
    QD_TRY(qd_arena_array(arena, (size_t)m->n, sizeof(*m->result), &m->result, err));
    QD_TRY(qd_arena_array(arena, threads, sizeof(double *), &m->scratch, err));
    QD_TRY(qd_arena_array(arena, threads, sizeof(float *), &m->column, err));
    for (size_t t = 0; t < threads; t++) {
        QD_TRY(qd_arena_array(arena, most * (most + 1) / 2, sizeof(double), &m->scratch[t], err));
        QD_TRY(qd_arena_array(arena, most, sizeof(float), &m->column[t], err));
    }
    *ret = m;
    return QD_OK;
}

/* ---- adding a sample ----------------------------------------------------------------------- */

static float element(const struct qc_view *v, int64_t image, int64_t c, int64_t h, int64_t w)
{
    const int64_t *dim = v->shape.dim;
    if (h < 0 || w < 0 || h >= dim[2] || w >= dim[3]) {
        return 0;
    }
    const float *x = v->data;
    return v->layout == QC_PLAIN
               ? x[((image * dim[1] + c) * dim[2] + h) * dim[3] + w]
               : x[image * v->image_stride + h * v->row_stride + w * v->pixel_stride + c];
}

static void conv_column(const struct product *p, const struct qc_view *v, int64_t image, int group,
                        int64_t oh, int64_t ow, float *column)
{
    const struct qc_window *win = &p->window;
    int at = 0;
    for (int64_t c = 0; c < p->channels; c++) {
        for (int kh = 0; kh < win->kernel[0]; kh++) {
            for (int kw = 0; kw < win->kernel[1]; kw++) {
                column[at++] = element(v, image, group * p->channels + c,
                                       oh * win->stride[0] + kh * win->dilation[0] - win->pad[0],
                                       ow * win->stride[1] + kw * win->dilation[1] - win->pad[1]);
            }
        }
    }
}

static void add_column(const float *x, int n, double *lower)
{
    for (int i = 0; i < n; i++) {
        double xi = (double)x[i];
        double *row = lower + qc_moment_entries(i);
        if (x[i] == 0) {
            continue; /* after a ReLU: most of them */
        }
        for (int j = 0; j <= i; j++) {
            row[j] += xi * (double)x[j];
        }
    }
}

/* The rows of a MatMul's input that lies as pixels. */
static uint64_t add_rows(const struct product *p, const struct qc_view *v, float *column,
                         double *lower)
{
    const int64_t *dim = v->shape.dim;
    int64_t n = dim[0] * dim[1] * dim[2];
    for (int64_t i = 0; i < n; i++) {
        for (int w = 0; w < p->n_columns; w++) {
            column[w] = element(v, i / dim[2] / dim[1], i / dim[2] % dim[1], i % dim[2], w);
        }
        add_column(column, p->n_columns, lower);
    }
    return (uint64_t)n;
}

/* Positions of a group in order; returns their number. A sample may be several images inside. */
static uint64_t add_positions(const struct product *p, const struct qc_view *v, int group,
                              float *column, double *lower)
{
    uint64_t n = 0;
    if (!p->is_conv && v->layout == QC_NHWC) {
        return add_rows(p, v, column, lower);
    }
    if (!p->is_conv) {
        size_t rows = qc_shape_elements(&v->shape) / (size_t)p->n_columns;
        for (size_t r = 0; r < rows; r++) {
            add_column((const float *)v->data + r * (size_t)p->n_columns, p->n_columns, lower);
        }
        return rows;
    }
    for (int64_t image = 0; image < v->shape.dim[0]; image++) {
        for (int64_t oh = 0; oh < p->out[0]; oh++) {
            for (int64_t ow = 0; ow < p->out[1]; ow++, n++) {
                conv_column(p, v, image, group, oh, ow, column);
                add_column(column, p->n_columns, lower);
            }
        }
    }
    return n;
}

void qc_moments_add(struct qc_moments *m, int thread, int value, const struct qc_view *view)
{
    for (int i = 0; i < m->n; i++) {
        struct product *p = &m->products[i];
        struct qc_moment *sum = &p->moments[thread];
        size_t n = qc_moment_entries(p->n_columns);
        uint64_t positions = 0;
        if (p->value != value) {
            continue;
        }
        for (int group = 0; group < p->n_groups; group++) {
            double *lower = m->scratch[thread];
            memset(lower, 0, n * sizeof(*lower));
            positions = add_positions(p, view, group, m->column[thread], lower);
            for (size_t k = 0; k < n; k++) {
                qd_exact_add_units(&sum->lower[(size_t)group * n + k], &sum->overflow, lower[k]);
            }
        }
        sum->n_positions += positions;
    }
}

void qc_moments_end(struct qc_moments *m, struct qc_moment **ret, int *ret_n)
{
    for (int i = 0; i < m->n; i++) {
        m->result[i] = m->products[i].moments[0];
        for (int t = 1; t < m->n_threads; t++) {
            qc_moment_merge(&m->result[i], &m->products[i].moments[t]);
        }
    }
    *ret = m->result;
    *ret_n = m->n;
}
