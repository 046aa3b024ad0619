/* Q_GEMM: rows of u8 times constant s8 weights. */
#include "quantcore/integer/int_ops.h"

struct int_gemm {
    int64_t n_rows;
    int depth, n_out, panels;
    int8_t *packed;
    int32_t *bias;
    float *multiplier;
    int32_t *w_zero_point; /* NULL: none */
    struct qc_unit_output out;
};

static void q_gemm_run(const struct qc_step *step, const struct qc_view *in,
                       const struct qc_view *out, void *scratch)
{
    static const int32_t no_tap[1] = {0};
    const struct int_gemm *c = step->params;
    const uint8_t *row[QC_MAX_ROWS];
    uint8_t *to_u8[QC_MAX_ROWS];
    float *to_f32[QC_MAX_ROWS];
    size_t panel_size = qc_packed_panel_s8(1, c->depth);
    for (int p = 0; p < c->panels; p++) {
        int left = c->n_out - p * QC_NR;
        struct qc_tile_s8 tile = {
            .row = row,
            .tap = no_tap,
            .n_taps = 1,
            .channels = (c->depth + 3) / 4 * 4,
            .weights = c->packed + (size_t)p * panel_size,
            .bias = c->bias + p * QC_NR,
            .w_zero_point = c->w_zero_point != NULL ? c->w_zero_point + p * QC_NR : NULL,
            .n_out = left < QC_NR ? left : QC_NR,
            .out_u8 = c->out.is_u8 ? to_u8 : NULL,
            .out_f32 = c->out.is_u8 ? NULL : to_f32,
            .multiplier = c->multiplier + p * QC_NR,
            .y_zero_point = c->out.y.zero_point,
            .y_min = c->out.y_min,
            .y_max = c->out.y_max,
            .lo = c->out.lo,
            .hi = c->out.hi};
        for (int64_t r = 0; r < c->n_rows;) {
            int n = 0;
            int32_t *sums = c->w_zero_point != NULL ? (int32_t *)scratch + r : NULL;
            for (; n < step->kernels->tile_rows_s8 && r < c->n_rows; n++, r++) {
                int64_t to = r * c->n_out + p * QC_NR;
                row[n] = (const uint8_t *)in[0].data + r * c->depth;
                if (c->out.is_u8) {
                    to_u8[n] = (uint8_t *)out[0].data + to;
                } else {
                    to_f32[n] = (float *)out[0].data + to;
                }
            }
            if (sums != NULL && p == 0) { /* the other panels read the same rows */
                step->kernels->sum_taps_u8(row, n, no_tap, 1, c->depth, sums);
            }
            tile.row_sum = sums;
            tile.n_rows = n;
            step->kernels->tile_s8(&tile);
        }
    }
}

/* [N][K] whatever the model stores. */
static enum qd_code gemm_weights(const struct qc_prepare *p, bool transposed, size_t n_out,
                                 size_t depth, const int8_t **ret, struct qd_error *err)
{
    const int8_t *w = p->in[3].data;
    if (transposed) {
        *ret = w;
        return QD_OK;
    }
    int8_t *t = NULL;
    QD_TRY(qd_arena_array(p->arena, n_out, depth, &t, err));
    for (size_t k = 0; k < depth; k++) {
        for (size_t o = 0; o < n_out; o++) {
            t[o * depth + k] = w[k * n_out + o];
        }
    }
    *ret = t;
    return QD_OK;
}

enum qd_code qc_prepare_q_gemm(const struct qc_prepare *p, struct qc_step *step,
                               struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *w = &p->in[3];
    if (x->dtype != QC_U8 || x->layout != QC_PLAIN || p->out[0].layout != QC_PLAIN ||
        w->dtype != QC_S8 || w->data == NULL || w->shape.rank != 2 || x->shape.rank < 2) {
        return qc_prepare_refuse(p, err, "plain u8 input and constant s8 [K,N] are needed");
    }
    bool transposed = qc_node_int(p->node, "transB", 0) != 0;
    int64_t n_out = w->shape.dim[transposed ? 0 : 1], depth = w->shape.dim[transposed ? 1 : 0];
    if (x->shape.dim[x->shape.rank - 1] != depth || depth < 1 || n_out < 1) {
        return qc_prepare_refuse(p, err, "the inner dims differ");
    }
    struct int_gemm *c = NULL;
    struct qc_unit_weights u;
    const int8_t *rows = NULL;
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    QD_TRY(qc_unit_output(p, 6, 7, &c->out, err));
    QD_TRY(gemm_weights(p, transposed, (size_t)n_out, (size_t)depth, &rows, err));
    QD_TRY(qc_unit_weights(p, rows, (int)n_out, (size_t)depth, &u, err));
    c->n_rows = (int64_t)(qc_shape_elements(&x->shape) / (size_t)depth);
    c->depth = (int)depth;
    c->n_out = (int)n_out;
    c->panels = (c->n_out + QC_NR - 1) / QC_NR;
    size_t lanes = (size_t)c->panels * QC_NR;
    QD_TRY(qd_arena_array(p->arena, (size_t)c->panels, qc_packed_panel_s8(1, c->depth),
                          &c->packed, err));
    QD_TRY(qd_arena_array(p->arena, lanes, sizeof(int32_t), &c->bias, err));
    QD_TRY(qd_arena_array(p->arena, lanes, sizeof(float), &c->multiplier, err));
    if (u.zero_point != NULL) {
        QD_TRY(qd_arena_array(p->arena, lanes, sizeof(int32_t), &c->w_zero_point, err));
        step->scratch_size = (size_t)c->n_rows * sizeof(int32_t);
    }
    qc_pack_s8(rows, c->n_out, c->depth, 1, p->kernels->s8_together, c->packed);
    for (int o = 0; o < c->n_out; o++) {
        if (u.zero_point != NULL) {
            c->w_zero_point[o] = u.zero_point[o];
        }
        c->bias[o] = u.bias[o];
        c->multiplier[o] = u.multiplier[o];
    }
    step->params = c;
    step->run = q_gemm_run;
    return QD_OK;
}
