#include "quantcore/calib/counting.h"

#include <float.h>
#include <string.h>

#include "quantcore/calib/view_runs.h"

/* What one thread counts. In the same memory: all values, or the table of distinct ones, or (once
 * those are too many) the counts of bins. */
struct partial {
    float *all;
    uint64_t n_all; /* seen: kept are the first `room` */
    struct qc_value_table table;
    struct qc_histogram fine; /* n_bins is 0 until the table is given up */
    double lo, hi;            /* the range of its bins */
    uint64_t *memory;
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
    size_t size = QC_FINE_BINS * sizeof(uint64_t);
    size = c->room > 0 ? largest(size, (size_t)c->room * sizeof(float))
                       : largest(size, QC_VALUES_SLOTS * sizeof(struct qc_value_slot));
    for (int i = 0; i < n_threads; i++) {
        struct partial *p = &c->partials[i];
        uint64_t *memory = NULL;
        QD_TRY(qd_arena_array(arena, size / sizeof(*memory) + 1, sizeof(*memory), &memory, err));
        p->memory = memory;
        p->all = c->room > 0 ? (float *)memory : NULL;
        p->table = (struct qc_value_table){
            c->room > 0 ? NULL : (struct qc_value_slot *)memory, 0, 0, -FLT_MAX, FLT_MAX};
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

struct keeping {
    struct partial *p;
    uint64_t room;
};

static void run_keep(void *ctx, const float *x, size_t n)
{
    struct keeping *k = ctx;
    struct partial *p = k->p;
    if (p->n_all < k->room) {
        uint64_t left = k->room - p->n_all;
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
    memset(s->fine.counts, 0, (size_t)s->fine.n_bins * sizeof(*s->fine.counts));
    QD_TRY(qc_values_of(all, n, (float)s->min, (float)s->max, arena, &s->values, err));
    for (int i = 0; i < s->values.n; i++) {
        const struct qc_value_count *v = &s->values.entries[i];
        s->fine.counts[qc_histogram_bin(&s->fine, v->value)] += v->count;
    }
    return QD_OK;
}

/* ---- distinct values, then bins ----------------------------------------------------------- */

/* Bins of one tensor of one sample: half of the histogram with its 64 bits, of which less falls
 * out of the first cache. */
struct binning {
    qc_histogram_f32_fn *histogram;
    const struct qc_histogram *fine;
    uint64_t *total;
    size_t n; /* in counts so far */
    size_t skip; /* values that are counted already */
    uint32_t counts[QC_FINE_BINS]; /* of the first n_bins */
};

static void add_counts(const struct binning *c)
{
    size_t n = (size_t)c->fine->n_bins, b = 0;
    for (; b + 8 <= n; b += 8) { /* of fixed length: in vectors */
        for (size_t i = 0; i < 8; i++) {
            c->total[b + i] += c->counts[b + i];
        }
    }
    for (; b < n; b++) {
        c->total[b] += c->counts[b];
    }
}

static void clear_counts(struct binning *c)
{
    memset(c->counts, 0, (size_t)c->fine->n_bins * sizeof(*c->counts));
    c->n = 0;
}

static void run_count(void *ctx, const float *x, size_t n)
{
    struct binning *c = ctx;
    for (size_t part; n > 0; x += part, n -= part) {
        if (c->n >= UINT32_MAX / 2) {
            add_counts(c);
            clear_counts(c);
        }
        part = n < UINT32_MAX / 2 ? n : UINT32_MAX / 2;
        c->histogram(x, part, c->fine->first, c->fine->inv_width, c->fine->n_bins, c->counts);
        c->n += part;
    }
}

struct tabulating {
    struct qc_value_table *table;
    size_t taken;
    bool full;
};

static void run_tabulate(void *ctx, const float *x, size_t n)
{
    struct tabulating *t = ctx;
    if (!t->full) {
        size_t taken = qc_value_table_add(t->table, x, n);
        t->taken += taken;
        t->full = taken < n;
    }
}

static void run_count_rest(void *ctx, const float *x, size_t n)
{
    struct binning *c = ctx;
    size_t skip = c->skip < n ? c->skip : n;
    c->skip -= skip;
    run_count(c, x + skip, n - skip);
}

/* All but the first `skip` values. */
static void count_view(const struct qc_counting *c, struct partial *p, const struct qc_view *view,
                       size_t skip)
{
    struct binning b; /* most of it is cleared as far as there are bins */
    b.histogram = c->histogram;
    b.fine = &p->fine;
    b.total = p->fine.counts;
    b.skip = skip;
    clear_counts(&b);
    qc_view_for_each_run(view, skip > 0 ? run_count_rest : run_count, &b);
    add_counts(&b);
}

/* The counts so far in other bins, which hold all of them. */
static void move_bins(struct partial *p, const struct qc_histogram *edges)
{
    uint64_t counts[QC_FINE_BINS];
    struct qc_histogram old = p->fine;
    memcpy(counts, p->memory, (size_t)old.n_bins * sizeof(*counts));
    memset(p->memory, 0, (size_t)old.n_bins * sizeof(*counts));
    old.counts = counts;
    p->fine = *edges;
    p->fine.counts = p->memory;
    qc_histogram_add(&p->fine, &old);
}

/* The bins of all that this thread has seen; false: there are none, which _end finds too. */
static bool follow_range(const struct qc_counting *c, struct partial *p, double lo, double hi)
{
    struct qc_histogram edges = c->edges;
    bool has_bins = p->fine.n_bins > 0;
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
        p->fine = edges;
        p->fine.counts = p->memory;
    }
    return true;
}

void qc_counting_add(struct qc_counting *c, int thread, const struct qc_view *view, double lo,
                     double hi)
{
    struct partial *p = &c->partials[thread];
    struct keeping keeping = {p, c->room};
    struct tabulating t = {&p->table, 0, false};
    if (c->room > 0) {
        qc_view_for_each_run(view, run_keep, &keeping);
        return;
    }
    if (p->table.slots != NULL) {
        qc_view_for_each_run(view, run_tabulate, &t);
        if (!t.full) {
            return;
        }
    }
    if (!follow_range(c, p, lo, hi)) {
        return;
    }
    if (p->table.slots != NULL) {
        qc_value_table_give_up(&p->table, &p->fine, p->memory);
    }
    count_view(c, p, view, t.taken);
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

/* All threads' counts in the bins of s, in the first one's memory. */
static void end_bins(struct qc_counting *c, struct qc_tensor_statistics *s)
{
    for (int i = 0; i < c->n_partials; i++) {
        struct partial *p = &c->partials[i];
        if (p->table.slots != NULL) {
            qc_value_table_give_up(&p->table, &s->fine, s->fine.counts);
        } else if (i == 0) {
            move_bins(p, &s->fine);
        } else {
            qc_histogram_add(&s->fine, &p->fine);
        }
    }
}

enum qd_code qc_counting_end(struct qc_counting *c, struct qd_arena *arena,
                             struct qc_tensor_statistics *s, struct qd_error *err)
{
    uint64_t n = 0;
    QD_TRY(qc_histogram_edges(&s->fine, s->min, s->max, QC_FINE_BINS, err));
    s->fine.counts = c->partials[0].memory;
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
