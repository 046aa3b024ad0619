#include "quantcore/quant/quantize_bias.h"

#include <float.h>
#include <math.h>

#define MAX_CODE 2147483647.0

int qc_bias_make_room(const double *bias, size_t n, float s_x, struct qc_quantized_weights *w)
{
    int raised = 0;
    for (int k = 0; k < w->n_scales; k++) {
        double largest = 0;
        for (size_t c = (size_t)k; c < n; c += (size_t)w->n_scales) {
            largest = fmax(largest, fabs(bias[c]));
        }
        float scale = w->scale[k];
        /* The quotient's float32 neighbour may be a hair short: step up until it fits, and keep
         * the product a normal number. */
        double want = fmax(largest / MAX_CODE, (double)FLT_MIN) / (double)s_x;
        if ((double)scale < want) {
            scale = (float)want;
        }
        while (scale < FLT_MAX &&
               (s_x * scale < FLT_MIN || largest / (double)(s_x * scale) > MAX_CODE)) {
            scale = nextafterf(scale, FLT_MAX);
        }
        if (scale > w->scale[k]) {
            w->scale[k] = scale;
            raised++;
        }
    }
    if (raised > 0) {
        qc_quantized_weights_update(w);
    }
    return raised;
}

bool qc_bias_has_room(const double *bias, size_t n, float s_x,
                      const struct qc_quantized_weights *w)
{
    for (size_t c = 0; c < n; c++) {
        float scale = s_x * w->scale[c % (size_t)w->n_scales];
        if (!(scale >= FLT_MIN) || !(fabs(bias[c]) / (double)scale <= MAX_CODE)) {
            return false;
        }
    }
    return true;
}

enum qd_code qc_quantize_bias(const double *bias, size_t n, float s_x,
                              const struct qc_quantized_weights *w, struct qd_arena *arena,
                              struct qc_quantized_bias *ret, struct qd_error *err)
{
    struct qc_quantized_bias b = {.n_scales = w->axis >= 0 ? (int)n : 1};
    struct qc_shape shape = {.rank = 1, .dim = {(int64_t)n}};
    QD_TRY(qd_arena_array(arena, (size_t)b.n_scales, sizeof(*b.scale), &b.scale, err));
    QD_TRY(qc_tensor_new(arena, QC_S32, &shape, &b.q, err));
    for (int k = 0; k < b.n_scales; k++) {
        b.scale[k] = s_x * w->scale[k % w->n_scales];
    }
    int32_t *q = b.q->data;
    for (size_t c = 0; c < n; c++) {
        if (!isfinite(bias[c])) {
            return qd_fail(err, QD_INVALID, "bias %zu is %g, not a finite number", c, bias[c]);
        }
        double code = rint(bias[c] / (double)b.scale[b.n_scales == 1 ? 0 : c]);
        code = code > MAX_CODE ? MAX_CODE : code < -MAX_CODE ? -MAX_CODE : code;
        q[c] = (int32_t)code;
    }
    *ret = b;
    return QD_OK;
}
