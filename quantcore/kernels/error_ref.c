/* Sums of an approximation's error in plain C. */
#include "quantcore/kernels/kernels_decl.h"

#include <math.h>

static void add(struct qc_error_sums *s, size_t i, double x, double y, double e)
{
    size_t l = i % QC_SUM_LANES;
    double size = fabs(e);
    s->signal[l] += x * x;
    s->noise[l] = fma(e, e, s->noise[l]);
    s->dot[l] += x * y;
    s->energy[l] += y * y;
    s->max_error[l] = size > s->max_error[l] ? size : s->max_error[l];
}

void qc_error_f32__ref(const struct qc_error *p, struct qc_error_sums *sums)
{
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const float *y = p->y_f32 + (int64_t)r * p->y_step;
        for (size_t i = 0; i < p->n; i++) {
            add(sums, i, (double)x[i], (double)y[i], (double)x[i] - (double)y[i]);
        }
    }
}

void qc_error_u8__ref(const struct qc_error *p, struct qc_error_sums *sums)
{
    for (size_t r = 0; r < p->n_rows; r++) {
        const float *x = p->x + (int64_t)r * p->x_step;
        const uint8_t *q = p->y_u8 + (int64_t)r * p->y_step;
        for (size_t i = 0; i < p->n; i++) {
            double y = (double)(q[i] - p->zero_point);
            bool beyond = (q[i] == 0 && x[i] < p->lo) || (q[i] == 255 && x[i] > p->hi);
            sums->saturated += beyond ? 1 : 0;
            add(sums, i, (double)x[i], y, (double)x[i] - (double)p->scale * y);
        }
    }
}
