#include "quantcore/calib/counting.h"

#include <float.h>
#include <string.h>

/* What one thread counts. In the same memory: all values, or the table of distinct ones, or (once
 * those are too many) the counts of bins. These are of 32 bits, of which less falls out of the
 * caches than of 64. */
struct partial {
    float *all;
    uint64_t n_all; /* seen: kept are the first `room` */
    struct qc_value_table table;
    struct qc_histogram edges; /* n_bins is 0 until the table is given up; no counts */
    double lo, hi;             /* the range of its bins */
    uint32_t *counts;
    uint64_t n;     /* in counts */
    uint64_t *wide; /* what counts held before they were full; NULL: they never are */
};

struct qc_counting {
    qc_histogram_f32_fn *histogram;
    struct qc_histogram edges; /* when they are fixed */
    bool is_fixed;
    uint64_t room; /* for all values; 0: they are too many to be kept */
    int n_partials;
    struct partial *partials;
};

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

static enum qd_code new_partial(const struct qc_counting *c, uint64_t count, struct partial *p,
                                struct qd_arena *arena, struct qd_error *err)
{
    void *memory = NULL;
    size_t size = c->room > 0 ? (size_t)c->room * sizeof(*p->all)
                              : largest(QC_FINE_BINS * sizeof(*p->counts),
                                        QC_VALUES_SLOTS * sizeof(struct qc_value_slot));
    QD_TRY(qd_arena_array(arena, size, 1, &memory, err));
    if (c->room > 0) {
        p->all = memory;
        return QD_OK;
    }
    p->counts = memory;
    p->table = (struct qc_value_table){memory, 0, 0, -FLT_MAX, FLT_MAX};
    if (count > UINT32_MAX) {
        QD_TRY(qd_arena_array(arena, QC_FINE_BINS, sizeof(*p->wide), &p->wide, err));
    }
    return QD_OK;
}

enum qd_code qc_counting_new(uint64_t count, int n_threads, const struct qc_kernels *kernels,
                             struct qd_arena *arena, struct qc_counting **ret,
                             struct qd_error *err)
{
    struct qc_counting *c = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*c), &c, err));
    *c = (struct qc_counting){.histogram = kernels->histogram_f32,
                              .room = count <= QC_VALUES_ALL ? count : 0,
                              .n_partials = n_threads};
    QD_TRY(qd_arena_array(arena, (size_t)n_threads, sizeof(*c->partials), &c->partials, err));
    for (int i = 0; i < n_threads; i++) {
        QD_TRY(new_partial(c, count, &c->partials[i], arena, err));
    }
    *ret = c;
    return QD_OK;
}

enum qd_code qc_counting_fix(struct qc_counting *c, double lo, double hi, struct qd_error *err)
{
    c->is_fixed = true;
    for (int i = 0; i < c->n_partials; i++) {
        c->partials[i].table.lo = (float)lo;
        c->partials[i].table.hi = (float)hi;
    }
    return qc_histogram_edges(&c->edges, lo, hi, QC_FINE_BINS, err);
}

/* ---- all values --------------------------------------------------------------------------- */

static void keep(struct partial *p, uint64_t room, const float *x, size_t n)
{
    if (p->n_all < room) {
        uint64_t left = room - p->n_all;
        memcpy(p->all + p->n_all, x, (n < left ? n : (size_t)left) * sizeof(*x));
    }
    p->n_all += n;
}

/* All threads' values in one list. Gives how many they saw. */
static enum qd_code end_all(const struct qc_counting *c, struct qd_arena *arena,
                            struct qc_tensor_statistics *s, uint64_t *ret_n, struct qd_error *err)
{
    float *all = NULL;
    size_t n = 0;
    *ret_n = 0;
    QD_TRY(qd_arena_array(arena, (size_t)c->room, sizeof(*all), &all, err));
    for (int i = 0; i < c->n_partials; i++) {
        const struct partial *p = &c->partials[i];
        uint64_t left = c->room - n;
        size_t part = (size_t)(p->n_all < left ? p->n_all : left);
        memcpy(all + n, p->all, part * sizeof(*all));
        n += part;
        *ret_n += p->n_all;
    }
    if (n == 0) {
        return QD_OK;
    }
    QD_TRY(qc_values_of(all, n, (float)s->min, (float)s->max, arena, &s->values, err));
    for (int i = 0; i < s->values.n; i++) {
        const struct qc_value_count *v = &s->values.entries[i];
        s->fine.counts[qc_histogram_bin(&s->fine, v->value)] += v->count;
    }
    return QD_OK;
}

/* ---- distinct values, then bins ----------------------------------------------------------- */

/* All counts so far: gone from p. */
static void take_counts(struct partial *p, uint64_t *counts)
{
    size_t n = (size_t)p->edges.n_bins;
    for (size_t k = 0; k < n; k++) {
        counts[k] = p->counts[k] + (p->wide != NULL ? p->wide[k] : 0);
    }
    memset(p->counts, 0, n * sizeof(*p->counts));
    if (p->wide != NULL) {
        memset(p->wide, 0, n * sizeof(*p->wide));
    }
    p->n = 0;
}

static void put_count(struct partial *p, int bin, uint64_t count)
{
    if (p->wide != NULL) {
        p->wide[bin] += count;
    } else {
        p->counts[bin] += (uint32_t)count; /* no more are seen than fit */
        p->n += count;
    }
}

static void count(const struct qc_counting *c, struct partial *p, const float *x, size_t n)
{
    if (p->wide != NULL && p->n + n > UINT32_MAX) {
        for (int k = 0; k < p->edges.n_bins; k++) {
            p->wide[k] += p->counts[k];
        }
        memset(p->counts, 0, QC_FINE_BINS * sizeof(*p->counts));
        p->n = 0;
    }
    c->histogram(x, n, p->edges.first, p->edges.inv_width, p->edges.n_bins, p->counts);
    p->n += n;
}

/* The counts so far in other bins, which hold all of them. */
static void move_bins(struct partial *p, const struct qc_histogram *edges)
{
    uint64_t counts[QC_FINE_BINS];
    struct qc_histogram old = p->edges;
    if (edges->exponent == old.exponent && edges->first == old.first) {
        p->edges = *edges; /* more of the same width behind the last */
        return;
    }
    take_counts(p, counts);
    p->edges = *edges;
    for (int k = 0; k < old.n_bins; k++) {
        if (counts[k] > 0) {
            put_count(p, qc_histogram_moved_bin(&p->edges, &old, k), counts[k]);
        }
    }
}

static void give_up_table(struct partial *p)
{
    uint64_t counts[QC_FINE_BINS] = {0};
    qc_value_table_give_up(&p->table, &p->edges, counts);
    for (int k = 0; k < p->edges.n_bins; k++) {
        put_count(p, k, counts[k]);
    }
}

/* The bins of all that this thread has seen; false: there are none, which _end finds too. */
static bool follow_range(const struct qc_counting *c, struct partial *p, double lo, double hi)
{
    struct qc_histogram edges = c->edges;
    bool has_bins = p->edges.n_bins > 0;
    if (has_bins && (c->is_fixed || (p->lo <= lo && hi <= p->hi))) {
        return true;
    }
    if (!c->is_fixed && qc_histogram_edges(&edges, lo, hi, QC_FINE_BINS, NULL) != QD_OK) {
        return false;
    }
    p->lo = lo;
    p->hi = hi;
    if (has_bins) {
        move_bins(p, &edges);
    } else {
        p->edges = edges;
    }
    return true;
}

void qc_counting_add(struct qc_counting *c, int thread, const float *x, size_t n, double lo,
                     double hi)
{
    struct partial *p = &c->partials[thread];
    size_t taken = 0;
    if (c->room > 0) {
        keep(p, c->room, x, n);
        return;
    }
    if (p->table.slots != NULL) {
        taken = qc_value_table_add(&p->table, x, n);
        if (taken == n) {
            return;
        }
    }
    if (!follow_range(c, p, lo, hi)) {
        return;
    }
    if (p->table.slots != NULL) {
        give_up_table(p);
    }
    count(c, p, x + taken, n - taken);
}

void qc_counting_fetch(const struct qc_counting *c, int thread)
{
    const struct partial *p = &c->partials[thread];
    for (int k = 0; k < p->edges.n_bins; k += 16) {
        __builtin_prefetch(p->counts + k, 1);
    }
}

/* All threads' values into the first one's table, or nothing when they are too many together. */
static enum qd_code end_table(struct qc_counting *c, struct qd_arena *arena,
                              struct qc_tensor_statistics *s, struct qd_error *err)
{
    struct qc_value_table *first = &c->partials[0].table;
    for (int i = 0; i < c->n_partials; i++) {
        if (c->partials[i].table.slots == NULL) {
            return QD_OK;
        }
    }
    for (int i = 1; i < c->n_partials; i++) {
        if (!qc_value_table_take(first, &c->partials[i].table)) {
            return QD_OK;
        }
    }
    return qc_value_table_finish(first, arena, &s->values, err);
}

/* All threads' counts in the bins of s. */
static void end_bins(struct qc_counting *c, struct qc_tensor_statistics *s)
{
    uint64_t counts[QC_FINE_BINS];
    for (int i = 0; i < c->n_partials; i++) {
        struct partial *p = &c->partials[i];
        if (p->table.slots != NULL) {
            qc_value_table_give_up(&p->table, &s->fine, s->fine.counts);
            continue;
        }
        struct qc_histogram part = p->edges;
        part.counts = counts;
        take_counts(p, counts);
        qc_histogram_add(&s->fine, &part);
    }
}

enum qd_code qc_counting_end(struct qc_counting *c, struct qd_arena *arena,
                             struct qc_tensor_statistics *s, struct qd_error *err)
{
    uint64_t n = 0;
    QD_TRY(qc_histogram_edges(&s->fine, s->min, s->max, QC_FINE_BINS, err));
    QD_TRY(qd_arena_array(arena, (size_t)s->fine.n_bins, sizeof(*s->fine.counts), &s->fine.counts,
                          err));
    if (c->room > 0) {
        QD_TRY(end_all(c, arena, s, &n, err));
    } else {
        QD_TRY(end_table(c, arena, s, err));
        end_bins(c, s);
        n = qc_histogram_total(&s->fine);
    }
    return n == s->count ? QD_OK
                         : qd_fail_on(err, QD_INTERNAL, s->name,
                                      "%llu values of '%s' were counted, %llu were seen",
                                      (unsigned long long)n, s->name,
                                      (unsigned long long)s->count);
}
