/* Sums of channels in plain C. */
#include "quantcore/kernels/kernels_decl.h"

/* + 0.0f: which of -0 and 0 came first must not show */
static void add_extremes(const struct qc_channel_sums *m, size_t c, float x)
{
    m->min[c] = x < m->min[c] ? x + 0.0f : m->min[c];
    m->max[c] = x > m->max[c] ? x + 0.0f : m->max[c];
    m->n_nonzero[c] += x != 0.0f;
}

void qc_channels_across_f32__ref(const float *x, int64_t step, size_t n_rows, size_t n,
                                 const struct qc_channel_sums *m)
{
    for (size_t r = 0; r < n_rows; r++, x += step) {
        for (size_t i = 0; i < n; i++) {
            double v = (double)x[i];
            m->sum[i] += v;
            m->squares[i] += v * v;
            add_extremes(m, i, x[i]);
        }
    }
}

static double total(const double s[QC_SUM_LANES])
{
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

void qc_channels_along_f32__ref(const float *x, int64_t step, size_t n_rows, size_t n,
                                const struct qc_channel_sums *m)
{
    double s[QC_SUM_LANES] = {0}, q[QC_SUM_LANES] = {0};
    for (size_t r = 0; r < n_rows; r++, x += step) {
        for (size_t i = 0; i < n; i++) {
            double v = (double)x[i];
            s[i % QC_SUM_LANES] += v;
            q[i % QC_SUM_LANES] += v * v;
            add_extremes(m, 0, x[i]);
        }
    }
    m->sum[0] += total(s);
    m->squares[0] += total(q);
}
