#include "quantcore/verify/metrics.h"

#include <math.h>

#include "quantcore/exec/exec_nd.h"

struct metric_walk {
    struct qc_metric *m;
    const float *x;
    const void *y;
    const struct qc_qparams *params; /* NULL: y is f32 */
};

static void add_pair(struct qc_metric *m, double x, double y)
{
    double e = x - y;
    m->signal += x * x;
    m->noise += e * e;
    m->dot += x * y;
    m->energy += y * y;
    m->max_error = fabs(e) > m->max_error ? fabs(e) : m->max_error;
    m->n++;
}

static void add_code(struct qc_metric *m, double x, uint8_t q, const struct qc_qparams *p)
{
    double y = (double)p->scale * (q - p->zero_point);
    bool beyond = (q == 0 && x < y - 0.5 * (double)p->scale) ||
                  (q == 255 && x > y + 0.5 * (double)p->scale);
    m->saturated += beyond ? 1 : 0;
    add_pair(m, x, y);
}

static void metric_run(const struct qc_nd *nd, const int64_t *off, void *ctx)
{
    const struct metric_walk *w = ctx;
    int last = nd->rank - 1;
    int64_t sx = nd->stride[0][last], sy = nd->stride[1][last];
    for (int64_t i = 0; i < nd->dim[last]; i++) {
        double x = (double)w->x[off[0] + i * sx];
        int64_t at = off[1] + i * sy;
        if (w->params != NULL) {
            add_code(w->m, x, ((const uint8_t *)w->y)[at], w->params);
        } else {
            add_pair(w->m, x, (double)((const float *)w->y)[at]);
        }
    }
}

void qc_metric_add(struct qc_metric *m, const struct qc_view *x, const struct qc_view *y,
                   const struct qc_qparams *params)
{
    struct qc_nd nd;
    const struct qc_view *views[2] = {x, y};
    struct metric_walk walk = {m, x->data, y->data, y->dtype == QC_U8 ? params : NULL};
    qc_nd_init(&nd, &x->shape, 2, views);
    qc_nd_walk(&nd, metric_run, &walk);
}

void qc_metric_add_dense(struct qc_metric *m, const float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add_pair(m, (double)x[i], (double)y[i]);
    }
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
