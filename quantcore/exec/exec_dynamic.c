/* What a network with scales of its own run is made of: DynamicQuantizeLinear, and ConvInteger
 * and MatMulInteger, whose results are plain 32-bit sums. Codes become 16-bit differences from
 * their zero point, so that padding is 0 and all four pairs of 8-bit types are one loop. */
#include <math.h>
#include <string.h>

#include "quantcore/affine/qparams.h"
#include "quantcore/exec/exec_ops.h"

/* ---- DynamicQuantizeLinear ------------------------------------------------------------------
 */

/* https://onnx.ai/onnx/operators/onnx__DynamicQuantizeLinear.html; a tensor of zeros gets scale
 * 1, as in ONNX Runtime, where the formula divides by 0. */
static void choose_pair(float lo, float hi, struct qc_qparams *ret)
{
    lo = lo < 0 ? lo : 0;
    hi = hi > 0 ? hi : 0;
    ret->is_s8 = false;
    ret->scale = lo < hi ? (hi - lo) / 255.0f : 1.0f;
    float z = 0.0f - lo / ret->scale;
    z = z > 0.0f ? z : 0.0f; /* NaN too */
    z = z < 255.0f ? z : 255.0f;
    ret->zero_point = (int32_t)rintf(z);
}

static void dynamic_quantize_run(const struct qc_step *step, const struct qc_view *in,
                                 const struct qc_view *out, void *scratch)
{
    size_t n = qc_shape_elements(&in[0].shape);
    float lo = 0.0f, hi = 0.0f;
    bool finite;
    struct qc_qparams q;
    (void)scratch;
    if (n > 0) {
        step->kernels->minmax_f32(in[0].data, n, &lo, &hi, &finite);
    }
    choose_pair(lo, hi, &q);
    if (out[0].data != NULL) {
        step->kernels->quantize_u8(in[0].data, q.scale, q.zero_point, out[0].data, n);
    }
    if (step->n_outputs > 1 && out[1].data != NULL) {
        *(float *)out[1].data = q.scale;
    }
    if (step->n_outputs > 2 && out[2].data != NULL) {
        *(uint8_t *)out[2].data = (uint8_t)q.zero_point;
    }
}

enum qd_code qc_prepare_dynamic_quantize(const struct qc_prepare *p, struct qc_step *step,
                                         struct qd_error *err)
{
    if (p->in[0].dtype != QC_F32) {
        return qc_prepare_refuse(p, err, "only f32 to u8 is implemented");
    }
    step->run = dynamic_quantize_run;
    return QD_OK;
}

/* ---- 16-bit differences times 16-bit differences --------------------------------------------
 */

/* Constant weights of one matrix: panels of `lanes` output channels, [panel][k][lane], zero
 * padded. Few outputs are single lanes: most of a panel would be zeros. */
struct weights {
    int64_t depth;
    int n_out, lanes, panels;
    int16_t *packed;
};

static int32_t code_at(const void *data, enum qc_dtype dtype, int64_t i)
{
    return dtype == QC_U8 ? ((const uint8_t *)data)[i] : ((const int8_t *)data)[i];
}

static void weights_shape(struct weights *w, int64_t depth, int n_out)
{
    w->depth = depth;
    w->n_out = n_out;
    w->lanes = n_out < 8 ? 1 : QC_NR;
    w->panels = (n_out + w->lanes - 1) / w->lanes;
}

/* Elements of the packed matrix; 0: too many. */
static size_t weights_size(const struct weights *w)
{
    size_t size = (size_t)w->panels * (size_t)w->lanes;
    return qd_mul_size(size, (size_t)w->depth, &size) && size < (size_t)1 << 40 ? size : 0;
}

/* Where the codes of one matrix lie: element (k, o) at first + k * row + o * col. */
struct source {
    const void *data, *zero_point; /* zero_point NULL: 0 */
    enum qc_dtype dtype;
    int64_t first, row, col;
    int64_t zero_first; /* zero point of output 0 */
    bool zero_each;     /* one zero point an output */
};

static void weights_pack(const struct weights *w, const struct source *s, int16_t *out)
{
    for (int p = 0; p < w->panels; p++) {
        for (int64_t k = 0; k < w->depth; k++) {
            for (int j = 0; j < w->lanes; j++) {
                int o = p * w->lanes + j;
                int32_t x = 0;
                if (o < w->n_out) {
                    x = code_at(s->data, s->dtype, s->first + k * s->row + o * s->col);
                }
                if (o < w->n_out && s->zero_point != NULL) {
                    x -= code_at(s->zero_point, s->dtype, s->zero_each ? s->zero_first + o : 0);
                }
                *out++ = (int16_t)x;
            }
        }
    }
}

/* sum[j] = row times column j of panel p, modulo 2^32 (as every implementation wraps). */
static void multiply(const struct weights *w, const int16_t *packed, int p, const int16_t *row,
                     uint32_t sum[QC_NR])
{
    const int16_t *at = packed + (int64_t)p * w->depth * w->lanes;
    memset(sum, 0, QC_NR * sizeof(*sum));
    if (w->lanes == 1) {
        for (int64_t k = 0; k < w->depth; k++) {
            sum[0] += (uint32_t)(row[k] * at[k]);
        }
        return;
    }
    for (int64_t k = 0; k < w->depth; k++) {
        for (int j = 0; j < QC_NR; j++) {
            sum[j] += (uint32_t)(row[k] * at[k * QC_NR + j]);
        }
    }
}

static bool is_8_bit(const struct qc_view *v)
{
    return v->dtype == QC_U8 || v->dtype == QC_S8;
}

/* Zero point i of the node, of operand i - 2: absent, of its type, and one or `each` numbers. */
static bool zero_point_fits(const struct qc_prepare *p, int i, int64_t each)
{
    if (i >= p->node->n_inputs || p->node->inputs[i] < 0) {
        return true;
    }
    int64_t n = (int64_t)qc_shape_elements(&p->in[i].shape);
    return p->in[i].dtype == p->in[i - 2].dtype && (n == 1 || n == each);
}

static bool has_input(const struct qc_prepare *p, int i)
{
    return i < p->node->n_inputs && p->node->inputs[i] >= 0;
}

static enum qd_code check_operands(const struct qc_prepare *p, struct qd_error *err)
{
    if (!is_8_bit(&p->in[0]) || !is_8_bit(&p->in[1]) || p->out[0].dtype != QC_S32) {
        return qc_prepare_refuse(p, err, "only u8 and s8 to s32 is implemented");
    }
    if (p->in[1].data == NULL || (has_input(p, 3) && p->in[3].data == NULL)) {
        return qc_prepare_refuse(p, err, "the weights and their zero point must be constants");
    }
    if (p->node->clamp.present) {
        return qc_prepare_refuse(p, err, "a fused activation is not implemented");
    }
    return QD_OK;
}

/* ---- ConvInteger ----------------------------------------------------------------------------
 */

struct conv {
    struct qc_window window;
    int group, channels; /* channels: input channels of one group */
    int64_t in[2], out[2];
    struct weights w;  /* of one group */
    size_t group_size; /* elements of one group's packed weights */
};

/* One row of output pixels: [pixel][channel][tap] differences from the zero point; padding is 0.
 */
static void gather_row(const struct conv *c, const struct qc_view *x, int64_t first_channel,
                       int64_t oh, int32_t zero_point, int16_t *out)
{
    const struct qc_window *w = &c->window;
    int64_t plane = c->in[0] * c->in[1];
    for (int64_t ow = 0; ow < c->out[1]; ow++) {
        for (int64_t ch = first_channel; ch < first_channel + c->channels; ch++) {
            for (int h = 0; h < w->kernel[0]; h++) {
                int64_t ih = oh * w->stride[0] + (int64_t)h * w->dilation[0] - w->pad[0];
                bool row_inside = ih >= 0 && ih < c->in[0];
                for (int v = 0; v < w->kernel[1]; v++) {
                    int64_t iw = ow * w->stride[1] + (int64_t)v * w->dilation[1] - w->pad[1];
                    bool inside = row_inside && iw >= 0 && iw < c->in[1];
                    int64_t at = ch * plane + ih * c->in[1] + iw;
                    *out++ = inside ? (int16_t)(code_at(x->data, x->dtype, at) - zero_point) : 0;
                }
            }
        }
    }
}

static void conv_row(const struct conv *c, const int16_t *packed, const int16_t *rows, int32_t *y)
{
    int64_t plane = c->out[0] * c->out[1];
    uint32_t sum[QC_NR];
    for (int p = 0; p < c->w.panels; p++) {
        int left = c->w.n_out - p * c->w.lanes;
        int n = left < c->w.lanes ? left : c->w.lanes;
        for (int64_t ow = 0; ow < c->out[1]; ow++) {
            multiply(&c->w, packed, p, rows + ow * c->w.depth, sum);
            for (int j = 0; j < n; j++) {
                y[(int64_t)(p * c->w.lanes + j) * plane + ow] = (int32_t)sum[j];
            }
        }
    }
}

static void conv_integer_run(const struct qc_step *step, const struct qc_view *in,
                             const struct qc_view *out, void *scratch)
{
    const struct conv *c = step->params;
    bool has_zero = step->n_inputs > 2 && in[2].data != NULL;
    int32_t zero_point = has_zero ? code_at(in[2].data, in[2].dtype, 0) : 0;
    int64_t plane = c->out[0] * c->out[1];
    int32_t *y = out[0].data;
    for (int64_t n = 0; n < in[0].shape.dim[0]; n++) {
        for (int g = 0; g < c->group; g++) {
            const int16_t *packed = c->w.packed + (size_t)g * c->group_size;
            for (int64_t oh = 0; oh < c->out[0]; oh++) {
                gather_row(c, &in[0], (n * c->group + g) * c->channels, oh, zero_point, scratch);
                conv_row(c, packed, scratch, y + oh * c->out[1]);
            }
            y += c->w.n_out * plane;
        }
    }
}

static enum qd_code conv_integer_check(const struct qc_prepare *p, struct qd_error *err)
{
    const struct qc_view *x = &p->in[0], *w = &p->in[1], *y = &p->out[0];
    QD_TRY(check_operands(p, err));
    if ((x->shape.rank != 3 && x->shape.rank != 4) || w->shape.rank != x->shape.rank ||
        y->shape.rank != x->shape.rank) {
        return qc_prepare_refuse(p, err, "only one or two spatial dims are implemented");
    }
    int64_t group = qc_node_int(p->node, "group", 1), n_out = w->shape.dim[0];
    if (group < 1 || group > x->shape.dim[1] || n_out < 1 || n_out > INT32_MAX / 2 ||
        n_out % group != 0 || w->shape.dim[1] * group != x->shape.dim[1] ||
        y->shape.dim[1] != n_out || x->shape.dim[1] > INT32_MAX) {
        return qc_prepare_refuse(p, err, "group, weights and channels do not fit together");
    }
    if (!zero_point_fits(p, 2, 1) || !zero_point_fits(p, 3, n_out)) {
        return qc_prepare_refuse(p, err, "a zero point has another type or shape");
    }
    return QD_OK;
}

static enum qd_code conv_integer_pack(const struct qc_prepare *p, struct conv *c,
                                      struct qd_error *err)
{
    const struct qc_view *w = &p->in[1];
    size_t total;
    c->group_size = weights_size(&c->w);
    if (c->group_size == 0 || !qd_mul_size(c->group_size, (size_t)c->group, &total)) {
        return qc_prepare_refuse(p, err, "the weights are too large");
    }
    QD_TRY(qd_arena_array(p->arena, total, sizeof(int16_t), &c->w.packed, err));
    for (int g = 0; g < c->group; g++) {
        int64_t first = (int64_t)g * c->w.n_out;
        struct source s = {.data = w->data,
                           .dtype = w->dtype,
                           .first = first * c->w.depth,
                           .row = 1,
                           .col = c->w.depth,
                           .zero_first = first};
        if (has_input(p, 3)) {
            s.zero_point = p->in[3].data;
            s.zero_each = qc_shape_elements(&p->in[3].shape) > 1;
        }
        weights_pack(&c->w, &s, c->w.packed + (size_t)g * c->group_size);
    }
    return QD_OK;
}

enum qd_code qc_prepare_conv_integer(const struct qc_prepare *p, struct qc_step *step,
                                     struct qd_error *err)
{
    struct conv *c;
    size_t scratch;
    QD_TRY(conv_integer_check(p, err));
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    struct qc_view x = qc_view_as_2d(&p->in[0]), y = qc_view_as_2d(&p->out[0]);
    qc_window_resolve(p->node, p->in[0].shape.rank - 2, p->in[1].shape.dim + 2,
                      p->in[0].shape.dim + 2, p->out[0].shape.dim + 2, &c->window);
    for (int d = 0; d < 2; d++) {
        c->in[d] = x.shape.dim[2 + d];
        c->out[d] = y.shape.dim[2 + d];
    }
    c->group = (int)qc_node_int(p->node, "group", 1);
    c->channels = (int)p->in[1].shape.dim[1];
    size_t weights = qc_shape_elements(&p->in[1].shape);
    weights_shape(&c->w, (int64_t)(weights / (size_t)p->in[1].shape.dim[0]),
                  (int)p->in[1].shape.dim[0] / c->group);
    QD_TRY(conv_integer_pack(p, c, err));
    if (!qd_mul_size((size_t)c->out[1] * sizeof(int16_t), (size_t)c->w.depth, &scratch)) {
        return qc_prepare_refuse(p, err, "a row of the output is too large");
    }
    step->scratch_size = scratch;
    step->params = c;
    step->run = conv_integer_run;
    return QD_OK;
}

/* ---- MatMulInteger --------------------------------------------------------------------------
 */

struct matmul {
    int64_t m, n_batches;
    const int64_t *a_batch, *b_batch; /* [n_batches] index of the matrix of A / B */
    bool zero_each;                   /* A has a zero point a row */
    struct weights w;                 /* of one matrix of B */
    size_t matrix_size;
};

static void matmul_integer_run(const struct qc_step *step, const struct qc_view *in,
                               const struct qc_view *out, void *scratch)
{
    const struct matmul *c = step->params;
    const void *zero = step->n_inputs > 2 ? in[2].data : NULL;
    int16_t *row = scratch;
    int32_t *y = out[0].data;
    uint32_t sum[QC_NR];
    for (int64_t r = 0; r < c->n_batches * c->m; r++, y += c->w.n_out) {
        int64_t batch = r / c->m, m = r % c->m;
        int64_t first = (c->a_batch[batch] * c->m + m) * c->w.depth;
        int32_t z = zero != NULL ? code_at(zero, in[2].dtype, c->zero_each ? m : 0) : 0;
        for (int64_t k = 0; k < c->w.depth; k++) {
            row[k] = (int16_t)(code_at(in[0].data, in[0].dtype, first + k) - z);
        }
        for (int p = 0; p < c->w.panels; p++) {
            int left = c->w.n_out - p * c->w.lanes;
            multiply(&c->w, c->w.packed + (size_t)c->b_batch[batch] * c->matrix_size, p, row,
                     sum);
            memcpy(y + p * c->w.lanes, sum,
                   (size_t)(left < c->w.lanes ? left : c->w.lanes) * sizeof(*sum));
        }
    }
}

static enum qd_code matmul_integer_pack(const struct qc_prepare *p, struct matmul *c,
                                        int64_t n_matrices, struct qd_error *err)
{
    const struct qc_view *b = &p->in[1];
    size_t total;
    c->matrix_size = weights_size(&c->w);
    if (c->matrix_size == 0 || !qd_mul_size(c->matrix_size, (size_t)n_matrices, &total)) {
        return qc_prepare_refuse(p, err, "the weights are too large");
    }
    QD_TRY(qd_arena_array(p->arena, total, sizeof(int16_t), &c->w.packed, err));
    for (int64_t i = 0; i < n_matrices; i++) {
        struct source s = {.data = b->data,
                           .dtype = b->dtype,
                           .first = i * c->w.depth * c->w.n_out,
                           .row = c->w.n_out,
                           .col = 1};
        if (has_input(p, 3)) {
            s.zero_point = p->in[3].data;
            s.zero_each = qc_shape_elements(&p->in[3].shape) > 1;
        }
        weights_pack(&c->w, &s, c->w.packed + (size_t)i * c->matrix_size);
    }
    return QD_OK;
}

enum qd_code qc_prepare_matmul_integer(const struct qc_prepare *p, struct qc_step *step,
                                       struct qd_error *err)
{
    const struct qc_shape *a = &p->in[0].shape, *b = &p->in[1].shape;
    struct matmul *c;
    QD_TRY(check_operands(p, err));
    if (a->rank < 1 || b->rank < 1) {
        return qc_prepare_refuse(p, err, "a scalar cannot be multiplied");
    }
    QD_TRY(qd_arena_alloc(p->arena, sizeof(*c), &c, err));
    struct qc_shape lead_a = *a, lead_b = *b, batch;
    lead_a.rank = a->rank > 2 ? a->rank - 2 : 0;
    lead_b.rank = b->rank > 2 ? b->rank - 2 : 0;
    int64_t depth = a->dim[a->rank - 1], n = b->rank > 1 ? b->dim[b->rank - 1] : 1;
    c->m = a->rank > 1 ? a->dim[a->rank - 2] : 1;
    if (b->dim[b->rank > 1 ? b->rank - 2 : 0] != depth || depth < 1 ||
        depth > INT32_MAX / QC_NR || n < 1 || n > INT32_MAX / 2 ||
        !qc_shape_broadcast(&lead_a, &lead_b, &batch)) {
        return qc_prepare_refuse(p, err, "the shapes of A and B do not fit");
    }
    /* A zero point a row or column of one matrix; which of several is meant is not clear. */
    if (!zero_point_fits(p, 2, lead_a.rank == 0 ? c->m : 1) || !zero_point_fits(p, 3, n)) {
        return qc_prepare_refuse(p, err, "a zero point has another type or shape");
    }
    c->zero_each = has_input(p, 2) && qc_shape_elements(&p->in[2].shape) > 1;
    c->n_batches = (int64_t)qc_shape_elements(&batch);
    weights_shape(&c->w, depth, (int)n);
    QD_TRY(qc_matmul_batches(p, a, &batch, c->n_batches, &c->a_batch, err));
    QD_TRY(qc_matmul_batches(p, b, &batch, c->n_batches, &c->b_batch, err));
    QD_TRY(matmul_integer_pack(p, c, (int64_t)qc_shape_elements(&lead_b), err));
    step->scratch_size = (size_t)depth * sizeof(int16_t);
    step->params = c;
    step->run = matmul_integer_run;
    return QD_OK;
}
