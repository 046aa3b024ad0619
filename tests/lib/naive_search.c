#include "tests/lib/naive_search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double EPSILON = 1e-6;

static double grid_of(double min, double max)
{
    double grid = 0x1p-126;
    while (fmax(fabs(min), fabs(max)) / grid > 0x1p23 ||
           floor(max / grid) - floor(min / grid) >= 16384) {
        grid *= 2;
    }
    return grid;
}

void naive_init(struct naive *s, const float *x, size_t n, const struct qc_search *search)
{
    double min = INFINITY, max = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        min = fmin(min, (double)x[i]);
        max = fmax(max, (double)x[i]);
    }
    double lo = fmin(min, 0), hi = fmax(max, 0);
    if (search->symmetric) {
        hi = fmax(hi, -lo);
        lo = -hi;
    }
    *s = (struct naive){.x = x,
                        .n = n,
                        .symmetric = search->symmetric,
                        .lo = lo,
                        .hi = hi,
                        .grid = grid_of(min, max),
                        .start = search->start,
                        .step = search->step,
                        .bins = search->bins};
    s->n_candidates = (int)lround((search->end - search->start) / search->step) + 1;
}

double naive_ratio(const struct naive *s, int i)
{
    return round((s->start + i * s->step) * 1e6) / 1e6;
}

/* The codes of a range: s8 -127..127 with zero point 0, or u8. */
struct codes {
    float scale;
    int32_t zero_point, lo, hi;
};

static struct codes codes_of(bool symmetric, double lo, double hi)
{
    struct codes c = {(float)(hi / 127.0), 0, -127, 127};
    if (!symmetric) {
        c.scale = (float)((fmax(hi, 0) - fmin(lo, 0)) / 255.0);
        c.zero_point = (int32_t)fmin(fmax(rint(-fmin(lo, 0) / (double)c.scale), 0), 255);
        c.lo = 0;
        c.hi = 255;
    }
    return c;
}

static float fake_quant(const struct codes *c, float x)
{
    int32_t q = qc_quantize_value(x, c->scale, c->zero_point, c->lo, c->hi);
    return (float)(q - c->zero_point) * c->scale;
}

/* The coarse bins: where each begins, and an end that nothing reaches. */
struct coarse {
    double from, width;
    double edge[16385];
};

static void coarse_init(struct coarse *c, const struct naive *s)
{
    c->from = s->symmetric ? 0 : s->lo;
    c->width = 2 * (s->symmetric ? s->hi : s->hi - s->lo) / s->bins;
    for (int b = 0; b < s->bins; b++) {
        c->edge[b] = s->grid * rint((c->from + c->width * b) / s->grid);
    }
    c->edge[s->bins] = INFINITY;
}

/* The last whose edge is not above x. Of |x|: [from, to) on both sides of 0, so that a negative x
 * on an edge belongs to the bin nearer to 0. */
static int bin_of(const struct naive *s, const struct coarse *c, float x)
{
    double at = s->symmetric ? fabs((double)x) : (double)x;
    bool mirrored = s->symmetric && x < 0;
    int b = (int)fmin(fmax((at - c->from) / c->width, 0), s->bins - 1);
    while (b > 0 && (mirrored ? at <= c->edge[b] : at < c->edge[b])) {
        b--;
    }
    while (mirrored ? at > c->edge[b + 1] : at >= c->edge[b + 1]) {
        b++;
    }
    return b;
}

/* ---- divergences -----------------------------------------------------------------------------
 */

static double kl(const double *p, const double *q, int n)
{
    double sum = 0, total = 0;
    for (int i = 0; i < n; i++) {
        total += p[i] > 0 && q[i] <= 0 ? EPSILON : q[i];
    }
    for (int i = 0; i < n; i++) {
        if (p[i] > 0) {
            sum += p[i] * log(p[i] * total / (q[i] > 0 ? q[i] : EPSILON));
        }
    }
    return fmax(sum, 0);
}

static double js(const double *p, const double *q, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double m = 0.5 * (p[i] + q[i]);
        sum += p[i] > 0 ? 0.5 * p[i] * log(p[i] / m) : 0;
        sum += q[i] > 0 ? 0.5 * q[i] * log(q[i] / m) : 0;
    }
    return sum;
}

static void histogram(const struct naive *s, const struct codes *c, const struct coarse *coarse,
                      double *ret)
{
    uint64_t *count = calloc((size_t)s->bins, sizeof(*count));
    for (size_t i = 0; i < s->n; i++) {
        count[bin_of(s, coarse, c != NULL ? fake_quant(c, s->x[i]) : s->x[i])]++;
    }
    for (int b = 0; b < s->bins; b++) {
        ret[b] = (double)count[b] / (double)s->n;
    }
    free(count);
}

void naive_divergences(const struct naive *s, double *const ret[3])
{
    double *p = calloc(2 * (size_t)s->bins, sizeof(*p));
    double *q = p + s->bins;
    struct coarse *coarse = calloc(1, sizeof(*coarse));
    coarse_init(coarse, s);
    histogram(s, NULL, coarse, p);
    for (int i = 0; i < s->n_candidates; i++) {
        double r = naive_ratio(s, i);
        double hi = s->symmetric ? r * s->hi : s->lo + r * (s->hi - s->lo);
        struct codes c = codes_of(s->symmetric, s->lo, hi);
        histogram(s, &c, coarse, q);
        ret[0][i] = kl(p, q, s->bins);
        ret[1][i] = 0.5 * (ret[0][i] + kl(q, p, s->bins));
        ret[2][i] = js(p, q, s->bins);
    }
    free(coarse);
    free(p);
}

int naive_best(const struct naive *s, const double *divergence)
{
    int best = s->n_candidates - 1;
    for (int i = s->n_candidates - 2; i >= 0; i--) {
        double nearer = round(1e6 * fabs(naive_ratio(s, best) - 1)) -
                        round(1e6 * fabs(naive_ratio(s, i) - 1));
        if (divergence[i] < divergence[best] ||
            (divergence[i] <= divergence[best] && nearer > 0)) {
            best = i;
        }
    }
    return best;
}

/* ---- squared error ---------------------------------------------------------------------------
 */

double naive_error(const struct naive *s, double lo, double hi)
{
    struct codes c = codes_of(s->symmetric, lo, hi);
    double sum = 0;
    for (size_t i = 0; i < s->n; i++) {
        double d = (double)s->x[i] - (double)fake_quant(&c, s->x[i]);
        sum += d * d;
    }
    return sum / (double)s->n;
}

struct mse {
    const struct naive *s;
    int a, b; /* in 1024ths of the ends */
    double error;
};

static void try_ends(struct mse *m, int a, int b)
{
    if (a < 1 || b < 1 || a > 1024 || b > 1024) {
        return;
    }
    double e = naive_error(m->s, m->s->lo * a / 1024, m->s->hi * b / 1024);
    if (e < m->error || (e <= m->error && a + b > m->a + m->b)) {
        *m = (struct mse){m->s, a, b, e};
    }
}

void naive_mse(const struct naive *s, double *ret_lo, double *ret_hi, double *ret_error)
{
    struct mse m = {s, 0, 0, INFINITY};
    bool two = !s->symmetric && s->lo < 0 && s->hi > 0;
    for (int a = 16; a <= 1024; a += 16) {
        for (int b = two ? 16 : a; b <= (two ? 1024 : a); b += 16) {
            try_ends(&m, a, b);
        }
    }
    for (int step = 8; step >= 1; step /= 2) {
        struct mse c = m;
        for (int i = -2; i <= 2; i++) {
            for (int j = two ? -2 : i; j <= (two ? 2 : i); j++) {
                try_ends(&m, c.a + i * step, c.b + j * step);
            }
        }
    }
    *ret_lo = s->lo * m.a / 1024;
    *ret_hi = s->hi * m.b / 1024;
    *ret_error = m.error;
}

/* ---- thresholds ------------------------------------------------------------------------------
 */

static double threshold_kl(const double *bins, int n, int i, int levels)
{
    double p[4096], q[4096], mass[256] = {0}, in = 0, all = 0, sum = 0;
    int filled[256] = {0};
    for (int k = 0; k < n; k++) {
        all += bins[k];
        in += k < i ? bins[k] : 0;
    }
    if (in <= 0) {
        return INFINITY;
    }
    for (int k = 0; k < i; k++) {
        int level = (int)((int64_t)k * levels / i);
        p[k] = bins[k] + (k == i - 1 ? all - in : 0);
        mass[level] += bins[k];
        filled[level] += bins[k] > 0;
    }
    for (int k = 0; k < i; k++) {
        int level = (int)((int64_t)k * levels / i);
        q[k] = bins[k] > 0 ? mass[level] / filled[level] : 0;
        if (p[k] > 0) {
            sum += p[k] / all * log(p[k] / all / (q[k] > 0 ? q[k] / in : EPSILON));
        }
    }
    return fmax(sum, 0);
}

int naive_entropy(const struct naive *s, double *ret, double *ret_width)
{
    double bins[4096] = {0}, m = fmax(-s->lo, s->hi), width = 0x1p-126;
    int levels = !s->symmetric && (s->lo >= 0 || s->hi <= 0) ? 256 : 128;
    while (m / width >= 4096) {
        width *= 2;
    }
    int n = (int)floor(m / width) + 1, best = n;
    for (size_t i = 0; i < s->n; i++) {
        double k = floor((double)s->x[i] / width);
        bins[(int)(k < 0 ? -k - 1 : k)]++;
    }
    bins[0] = fmin(bins[0], bins[1]);
    int first = (n * levels + 2047) / 2048;
    for (int i = n; i >= (first > levels ? first : levels); i--) {
        ret[i] = threshold_kl(bins, n, i, levels);
        best = ret[i] < ret[best] ? i : best;
    }
    *ret_width = width;
    return best;
}
