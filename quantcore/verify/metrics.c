#include "quantcore/verify/metrics.h"

#include <math.h>

#include "quantcore/exec/exec_nd.h"

struct metric_walk {
    qc_error_fn *add;
    struct qc_error block;
    const float *x;
    const void *y;
    bool is_u8;
    int64_t n; /* elements of a row */
    struct qc_error_sums sums;
};

/* The nearest f32 towards infinity: x < up(a) if and only if x < a, for every f32 x. */
static float up(double a)
{
    float f = (float)a;
    return (double)f < a ? nextafterf(f, INFINITY) : f;
}

static void metric_block(const struct qc_nd *rows, const int64_t *off, void *ctx)
{
    struct metric_walk *w = ctx;
    struct qc_error *b = &w->block;
    int last = rows->rank - 1;
    b->x = w->x + off[0];
    if (w->is_u8) {
        b->y_u8 = (const uint8_t *)w->y + off[1];
    } else {
        b->y_f32 = (const float *)w->y + off[1];
    }
    b->x_step = rows->stride[0][last];
    b->y_step = rows->stride[1][last];
    b->n_rows = (size_t)rows->dim[last];
    b->n = (size_t)w->n;
    w->add(b, &w->sums);
}

static double total(const double s[QC_SUM_LANES])
{
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));
}

/* scale: of y as the kernel saw it. */
static void take_sums(struct qc_metric *m, const struct qc_error_sums *s, double scale, size_t n)
{
    m->signal += total(s->signal);
    m->noise += total(s->noise);
    m->dot += scale * total(s->dot);
    m->energy += scale * scale * total(s->energy);
    for (int i = 0; i < QC_SUM_LANES; i++) {
        m->max_error = s->max_error[i] > m->max_error ? s->max_error[i] : m->max_error;
    }
    m->n += n;
    m->saturated += s->saturated;
}

void qc_metric_add(struct qc_metric *m, const struct qc_kernels *kernels, const struct qc_view *x,
                   const struct qc_view *y, const struct qc_qparams *params)
{
    struct qc_nd rows;
    const struct qc_view *views[2] = {x, y};
    bool is_u8 = y->dtype == QC_U8;
    struct metric_walk walk = {.add = is_u8 ? kernels->error_u8 : kernels->error_f32,
                               .x = x->data,
                               .y = y->data,
                               .is_u8 = is_u8};
    if (is_u8) {
        double scale = (double)params->scale;
        walk.block.scale = params->scale;
        walk.block.zero_point = params->zero_point;
        walk.block.lo = up(scale * (-params->zero_point - 0.5));
        walk.block.hi = -up(-scale * (255 - params->zero_point + 0.5));
    }
    qc_nd_init(&rows, &x->shape, 2, views);
    walk.n = qc_nd_take_row(&rows);
    qc_nd_walk(&rows, metric_block, &walk);
    take_sums(m, &walk.sums, is_u8 ? (double)params->scale : 1.0, qc_shape_elements(&x->shape));
}

void qc_metric_add_dense(struct qc_metric *m, const float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double a = (double)x[i], b = (double)y[i], e = a - b;
        m->signal += a * a;
        m->noise += e * e;
        m->dot += a * b;
        m->energy += b * b;
        m->max_error = fabs(e) > m->max_error ? fabs(e) : m->max_error;
    }
    m->n += n;
}

void qc_metric_merge(struct qc_metric *into, const struct qc_metric *from)
{
    into->signal += from->signal;
    into->noise += from->noise;
    into->dot += from->dot;
    into->energy += from->energy;
    into->max_error = from->max_error > into->max_error ? from->max_error : into->max_error;
    into->n += from->n;
    into->saturated += from->saturated;
}

double qc_metric_sqnr_db(const struct qc_metric *m)
{
    if (m->n == 0 || (m->signal <= 0 && m->noise > 0)) {
        return NAN;
    }
    return m->noise <= 0 ? INFINITY : 10 * log10(m->signal / m->noise);
}

double qc_metric_cosine(const struct qc_metric *m)
{
    if (m->n == 0) {
        return NAN;
    }
    if (m->signal <= 0 && m->energy <= 0) {
        return 1;
    }
    double norm = sqrt(m->signal) * sqrt(m->energy);
    return norm > 0 ? m->dot / norm : 0;
}

double qc_metric_saturated_share(const struct qc_metric *m)
{
    return m->n == 0 ? (double)NAN : (double)m->saturated / (double)m->n;
}

size_t qc_top1(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = x[i] > x[best] ? i : best;
    }
    return best;
}

bool qc_in_topk(const float *x, size_t n, size_t c, size_t k)
{
    size_t before = 0;
    for (size_t i = 0; i < n; i++) {
        before += x[i] > x[c] || (i < c && x[i] >= x[c]) ? 1 : 0;
    }
    return before < k;
}

double qc_wilson95(uint64_t hits, uint64_t n)
{
    const double z = 1.959963984540054; /* 97.5 % quantile of the normal distribution */
    if (n == 0) {
        return NAN;
    }
    double count = (double)n, p = (double)hits / count;
    return z / (1 + z * z / count) * sqrt(p * (1 - p) / count + z * z / (4 * count * count));
}

double qc_entropy_share(const float *x, size_t n)
{
    double sum = 0, most = -INFINITY, entropy = 0;
    bool probabilities = true;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        most = fmax(most, (double)x[i]);
        probabilities = probabilities && x[i] >= 0;
    }
    probabilities = probabilities && fabs(sum - 1) < 1e-3;
    double total = 0;
    for (size_t i = 0; !probabilities && i < n; i++) {
        total += exp((double)x[i] - most);
    }
    for (size_t i = 0; i < n; i++) {
        double p = probabilities ? (double)x[i] / sum : exp((double)x[i] - most) / total;
        entropy -= p > 0 ? p * log(p) : 0;
    }
    return entropy / log((double)n);
}
