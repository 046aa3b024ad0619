/* Gemm and MatMul: the convolution tile with one tap. */
#include <math.h>
#include <string.h>

#include "quantcore/exec/exec_ops.h"

struct gemm {
    int64_t m, n, k;
    int64_t n_batches;
    const int64_t *a_batch, *b_batch; /* [n_batches] index of the matrix of A / B */
    int64_t b_matrices;
    bool trans_a, trans_b;
    float alpha, beta;
    int panel;            /* columns of one */
    size_t panels;
    size_t matrix_size;   /* floats of one packed matrix */
    float *packed;        /* [b_matrices] packed; NULL: packed into scratch at every run */
    float *bias;          /* [panels * panel]: zeros, or beta * C when C is a constant row */
    bool add_c;           /* C is added after the product */
    int64_t c_row, c_col; /* strides of C, 0 where it is broadcast */
    float lo, hi;
};

/* B, times alpha, into panels [k][panel]. */
static void gemm_pack(const struct gemm *g, const float *b, float *out)
{
    int64_t row = g->trans_b ? 1 : g->n, col = g->trans_b ? g->k : 1;
    for (int64_t p = 0; p < (int64_t)g->panels; p++) {
        for (int64_t k = 0; k < g->k; k++) {
            for (int64_t j = 0; j < g->panel; j++) {
                int64_t n = p * g->panel + j;
                *out++ = n < g->n ? g->alpha * b[k * row + n * col] : 0.0f;
            }
        }
    }
}

static void gemm_product(const struct qc_step *step, const struct gemm *g, const float *a,
                         const float *packed, float *out)
{
    static const int32_t tap[1] = {0};
    const float *row[QC_MAX_ROWS];
    float *to[QC_MAX_ROWS];
    for (int64_t p = 0; p < (int64_t)g->panels; p++) {
        int64_t left = g->n - p * g->panel;
        struct qc_tile_f32 tile = {.row = row,
                                   .out = to,
                                   .first = p * g->panel,
                                   .tap = tap,
                                   .gap = tap,
                                   .n_taps = 1,
                                   .channels = (int)g->k,
                                   .panel = g->panel,
                                   .weights = packed + p * g->panel * g->k,
                                   .bias = g->bias + p * g->panel,
                                   .n_out = left < g->panel ? (int)left : g->panel,
                                   .lo = g->add_c ? -INFINITY : g->lo,
                                   .hi = g->add_c ? INFINITY : g->hi};
        for (int64_t m = 0; m < g->m; m += tile.n_rows) {
            int64_t rows = g->m - m;
            rows = rows < step->kernels->tile_rows_f32 ? rows : step->kernels->tile_rows_f32;
            for (int64_t i = 0; i < rows; i++) {
                row[i] = a + (m + i) * g->k;
                to[i] = out + (m + i) * g->n;
            }
            tile.n_rows = (int)rows;
            step->kernels->tile_f32(&tile);
        }
    }
}

static void gemm_add_c(const struct gemm *g, const float *c, float *out)
{
    for (int64_t m = 0; m < g->m; m++) {
        for (int64_t n = 0; n < g->n; n++) {
            float x = fmaf(g->beta, c[m * g->c_row + n * g->c_col], out[m * g->n + n]);
            out[m * g->n + n] = x < g->lo ? g->lo : (x > g->hi ? g->hi : x);
        }
    }
}

static void gemm_run(const struct qc_step *step, const struct qc_view *in,
                     const struct qc_view *out, void *scratch)
{
    const struct gemm *g = step->params;
    float *at = scratch;
    const float *a = in[0].data;
    float *y = out[0].data;
    if (g->trans_a) {
        for (int64_t m = 0; m < g->m; m++) {
            for (int64_t k = 0; k < g->k; k++) {
                at[m * g->k + k] = a[k * g->m + m];
            }
        }
        a = at;
        at += g->m * g->k;
    }
    for (int64_t i = 0; i < g->n_batches; i++) {
        const float *packed = at;
        if (g->packed != NULL) {
            packed = g->packed + (size_t)g->b_batch[i] * g->matrix_size;
        } else {
            gemm_pack(g, (const float *)in[1].data + g->b_batch[i] * g->k * g->n, at);
        }
        gemm_product(step, g, a + g->a_batch[i] * g->m * g->k, packed, y + i * g->m * g->n);
    }
    if (g->add_c) {
        gemm_add_c(g, in[2].data, y);
    }
}

static void gemm_set_panels(const struct qc_prepare *p, struct gemm *g)
{
    g->panel = p->kernels->panel_f32;
    g->panels = (size_t)((g->n + g->panel - 1) / g->panel);
}

/* What Gemm and MatMul have in common once m, n, k, the panels and the batches are known. */
static enum qd_code gemm_finish(const struct qc_prepare *p, struct gemm *g, struct qc_step *step,
                                struct qd_error *err)
{
    if (g->k > INT32_MAX / QC_NR) {
        return qc_prepare_refuse(p, err, "the inner dim is too large");
    }
    g->matrix_size = g->panels * (size_t)g->panel * (size_t)g->k;
    g->lo = p->node->clamp.present ? p->node->clamp.lo : -INFINITY;
    g->hi = p->node->clamp.present ? p->node->clamp.hi : INFINITY;
    if (g->bias == NULL) {
        QD_TRY(qd_arena_array(p->arena, g->panels * (size_t)g->panel, sizeof(float), &g->bias, err));
    }
    if (p->in[1].data != NULL) {
        size_t total;
        if (!qd_mul_size(g->matrix_size, (size_t)g->b_matrices, &total)) {
            return qc_prepare_refuse(p, err, "the weights are too large");
        }
        QD_TRY(qd_arena_array(p->arena, total, sizeof(float), &g->packed, err));
        for (int64_t i = 0; i < g->b_matrices; i++) {
            gemm_pack(g, (const float *)p->in[1].data + i * g->k * g->n,
                      g->packed + (size_t)i * g->matrix_size);
        }
    } else {
        step->scratch_size += g->matrix_size * sizeof(float) + QD_ARENA_TAIL;
    }
    if (g->trans_a) {
        step->scratch_size += (size_t)(g->m * g->k) * sizeof(float);
    }
    step->params = g;
    step->run = gemm_run;
    return QD_OK;
}

/* C broadcasts to [m,n]: a constant row becomes the tile's bias, the rest is added afterwards. */
static enum qd_code gemm_prepare_c(const struct qc_prepare *p, struct gemm *g,
                                   struct qd_error *err)
{
    const struct qc_view *c = &p->in[2];
    int rank = c->shape.rank;
    int64_t cols = rank > 0 ? c->shape.dim[rank - 1] : 1;
    int64_t rows = rank > 1 ? c->shape.dim[rank - 2] : 1;
    if (c->dtype != QC_F32 || rank > 2 || (cols != 1 && cols != g->n) ||
        (rows != 1 && rows != g->m)) {
        return qc_prepare_refuse(p, err, "C must be f32 and broadcast to the result");
    }
    g->c_col = cols == 1 ? 0 : 1;
    g->c_row = rows == 1 ? 0 : cols;
    g->add_c = c->data == NULL || g->c_row != 0;
    if (!g->add_c) {
        size_t n = g->panels * (size_t)g->panel;
        QD_TRY(qd_arena_array(p->arena, n, sizeof(float), &g->bias, err));
        for (int64_t i = 0; i < g->n; i++) {
            g->bias[i] = g->beta * ((const float *)c->data)[i * g->c_col];
        }
    }
    return QD_OK;
}

enum qd_code qc_prepare_gemm(const struct qc_prepare *p, struct qc_step *step,
                             struct qd_error *err)
{
    static const int64_t first[1] = {0};
    const struct qc_view *a = &p->in[0], *b = &p->in[1];
    struct gemm *g;
    if (a->dtype != QC_F32 || b->dtype != QC_F32 || a->shape.rank != 2 || b->shape.rank != 2) {
        return qc_prepare_refuse(p, err, "only f32 matrices are implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*g), &g, err));
    g->trans_a = qc_node_int(p->node, "transA", 0) != 0;
    g->trans_b = qc_node_int(p->node, "transB", 0) != 0;
    g->alpha = qc_node_float(p->node, "alpha", 1.0f);
    g->beta = qc_node_float(p->node, "beta", 1.0f);
    g->m = a->shape.dim[g->trans_a ? 1 : 0];
    g->k = a->shape.dim[g->trans_a ? 0 : 1];
    g->n = b->shape.dim[g->trans_b ? 0 : 1];
    gemm_set_panels(p, g);
    g->n_batches = g->b_matrices = 1;
    g->a_batch = g->b_batch = first;
    if (b->shape.dim[g->trans_b ? 1 : 0] != g->k) {
        return qc_prepare_refuse(p, err, "the inner dims of A and B differ");
    }
    if (p->node->n_inputs > 2 && p->node->inputs[2] >= 0) {
        QD_TRY(gemm_prepare_c(p, g, err));
    }
    return gemm_finish(p, g, step, err);
}

enum qd_code qc_matmul_batches(const struct qc_prepare *p, const struct qc_shape *operand,
                               const struct qc_shape *batch, int64_t n, const int64_t **ret,
                               struct qd_error *err)
{
    int64_t *index;
    int rank = operand->rank > 2 ? operand->rank - 2 : 0;
    QD_TRY(qd_arena_array(p->arena, (size_t)n, sizeof(int64_t), &index, err));
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i, stride = 1;
        for (int d = batch->rank - 1; d >= 0; d--) {
            int own = d - (batch->rank - rank);
            int64_t at = rest % batch->dim[d];
            rest /= batch->dim[d];
            if (own >= 0) {
                index[i] += (operand->dim[own] == 1 ? 0 : at) * stride;
                stride *= operand->dim[own];
            }
        }
    }
    *ret = index;
    return QD_OK;
}

enum qd_code qc_prepare_matmul(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *a = &p->in[0], *b = &p->in[1];
    const struct qc_shape *as = &a->shape, *bs = &b->shape;
    struct gemm *g;
    if (a->dtype != QC_F32 || b->dtype != QC_F32 || as->rank < 1 || bs->rank < 1) {
        return qc_prepare_refuse(p, err, "only f32 is implemented");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*g), &g, err));
    g->m = as->rank > 1 ? as->dim[as->rank - 2] : 1;
    g->k = as->dim[as->rank - 1];
    g->n = bs->rank > 1 ? bs->dim[bs->rank - 1] : 1;
    g->alpha = 1.0f;
    gemm_set_panels(p, g);
    struct qc_shape ab = {.rank = as->rank > 2 ? as->rank - 2 : 0}, bb = ab, batch;
    memcpy(ab.dim, as->dim, sizeof(ab.dim));
    memcpy(bb.dim, bs->dim, sizeof(bb.dim));
    bb.rank = bs->rank > 2 ? bs->rank - 2 : 0;
    if (bs->dim[bs->rank > 1 ? bs->rank - 2 : 0] != g->k ||
        !qc_shape_broadcast(&ab, &bb, &batch)) {
        return qc_prepare_refuse(p, err, "the shapes of A and B do not fit");
    }
    g->n_batches = (int64_t)qc_shape_elements(&batch);
    g->b_matrices = (int64_t)qc_shape_elements(&bb);
    QD_TRY(qc_matmul_batches(p, as, &batch, g->n_batches, &g->a_batch, err));
    QD_TRY(qc_matmul_batches(p, bs, &batch, g->n_batches, &g->b_batch, err));
    return gemm_finish(p, g, step, err);
}
