#include "quantcore/calib/values.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- while counting ----------------------------------------------------------------------- */

enum { HASH_BITS = 13 };
_Static_assert(1 << HASH_BITS == QC_VALUES_SLOTS, "slots are a power of two");

static inline uint32_t home_of(uint32_t bits)
{
    return bits * 2654435761u >> (32 - HASH_BITS);
}

/* What is counted for x: never a NaN, which counts as the lower end. */
static inline float inside(float x, float lo, float hi)
{
    x = x > lo ? x : lo;
    x = x < hi ? x : hi;
    return x + 0.0f; /* one zero */
}

static inline uint32_t bits_of(const struct qc_value_table *t, float x)
{
    uint32_t bits;
    x = inside(x, t->lo, t->hi);
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* The slot with room in its count, NULL when this would be a value too many. */
static struct qc_value_slot *find(struct qc_value_table *t, uint32_t bits)
{
    bool seen = false;
    for (uint32_t i = home_of(bits);; i = (i + 1) & (QC_VALUES_SLOTS - 1)) {
        struct qc_value_slot *s = &t->slots[i];
        if (s->count == 0) {
            if (t->n_used == QC_VALUES_SLOTS - 1 || (!seen && t->n_distinct == QC_VALUES_MAX)) {
                return NULL;
            }
            s->bits = bits;
            t->n_used++;
            t->n_distinct += !seen;
            return s;
        }
        if (s->bits == bits) {
            if (s->count < UINT32_MAX) {
                return s;
            }
            seen = true;
        }
    }
}

static bool add_bits(struct qc_value_table *t, uint32_t bits, uint64_t count)
{
    while (count > 0) {
        struct qc_value_slot *s = find(t, bits);
        if (s == NULL) {
            return false;
        }
        uint64_t room = UINT32_MAX - s->count;
        uint32_t part = (uint32_t)(count < room ? count : room);
        s->count += part;
        count -= part;
    }
    return true;
}

bool qc_value_table_add_count(struct qc_value_table *t, float x, uint64_t count)
{
    return add_bits(t, bits_of(t, x), count);
}

enum { BLOCK = 8 };

/* Up to the first that is a value too many. */
static inline size_t add_block(struct qc_value_table *t, const float *x, size_t n)
{
    uint32_t bits[BLOCK], home[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) { /* of fixed length: in vectors */
        bits[i] = bits_of(t, x[i]);
        home[i] = home_of(bits[i]);
    }
    for (size_t i = 0; i < n; i++) {
        struct qc_value_slot *s = &t->slots[home[i]];
        if (s->bits == bits[i] && s->count - 1 < UINT32_MAX - 1) { /* there, and not full */
            s->count++;
        } else if (!add_bits(t, bits[i], 1)) {
            return i;
        }
    }
    return n;
}

size_t qc_value_table_add(struct qc_value_table *t, const float *x, size_t n)
{
    size_t from = 0, taken = BLOCK;
    for (; from + BLOCK <= n && taken == BLOCK; from += taken) {
        taken = add_block(t, x + from, BLOCK);
    }
    if (taken < BLOCK || from == n) {
        return from;
    }
    float last[BLOCK] = {0};
    memcpy(last, x + from, (n - from) * sizeof(*last));
    return from + add_block(t, last, n - from);
}

bool qc_value_table_take(struct qc_value_table *t, struct qc_value_table *from)
{
    for (int i = 0; i < QC_VALUES_SLOTS; i++) {
        struct qc_value_slot *s = &from->slots[i];
        if (!add_bits(t, s->bits, s->count)) {
            return false;
        }
        s->count = 0;
    }
    return true;
}

void qc_value_table_give_up(struct qc_value_table *t, const struct qc_histogram *h,
                            uint64_t *counts)
{
    struct qc_value_slot slots[QC_VALUES_SLOTS];
    memcpy(slots, t->slots, sizeof(slots));
    memset(t->slots, 0, sizeof(slots));
    t->slots = NULL;
    for (int i = 0; i < QC_VALUES_SLOTS; i++) {
        if (slots[i].count > 0) {
            counts[qc_histogram_bin(h, qc_value_of(&slots[i]))] += slots[i].count;
        }
    }
}

/* ---- finished ----------------------------------------------------------------------------- */

int qc_value_count_compare(const void *a, const void *b)
{
    const struct qc_value_count *x = a, *y = b;
    return x->value < y->value ? -1 : x->value > y->value;
}

/* Equal neighbours become one; gives how many are left. */
static int join(struct qc_value_count *e, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (kept > 0 && !(e[kept - 1].value < e[i].value)) {
            e[kept - 1].count += e[i].count;
        } else {
            e[kept++] = e[i];
        }
    }
    return kept;
}

enum qd_code qc_value_table_finish(const struct qc_value_table *t, struct qd_arena *arena,
                                   struct qc_values *ret, struct qd_error *err)
{
    struct qc_values v = {0, NULL};
    QD_TRY(qd_arena_array(arena, (size_t)t->n_used, sizeof(*v.entries), &v.entries, err));
    for (int i = 0; i < QC_VALUES_SLOTS; i++) {
        if (t->slots[i].count > 0) {
            v.entries[v.n++] = (struct qc_value_count){qc_value_of(&t->slots[i]), t->slots[i].count};
        }
    }
    assert(v.n == t->n_used);
    qsort(v.entries, (size_t)v.n, sizeof(*v.entries), qc_value_count_compare);
    v.n = join(v.entries, v.n);
    *ret = v;
    return QD_OK;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

enum qd_code qc_values_of(float *x, size_t n, float lo, float hi, struct qd_arena *arena,
                          struct qc_values *ret, struct qd_error *err)
{
    struct qc_values v = {1, NULL};
    for (size_t i = 0; i < n; i++) {
        x[i] = inside(x[i], lo, hi);
    }
    qsort(x, n, sizeof(*x), compare_floats);
    for (size_t i = 1; i < n; i++) {
        v.n += x[i - 1] < x[i];
    }
    QD_TRY(qd_arena_array(arena, (size_t)v.n, sizeof(*v.entries), &v.entries, err));
    struct qc_value_count *last = v.entries;
    *last = (struct qc_value_count){x[0], 1};
    for (size_t i = 1; i < n; i++) {
        if (x[i - 1] < x[i]) {
            *++last = (struct qc_value_count){x[i], 1};
        } else {
            last->count++;
        }
    }
    *ret = v;
    return QD_OK;
}

enum qd_code qc_values_merge(const struct qc_values *a, const struct qc_values *b, uint64_t count,
                             struct qd_arena *arena, struct qc_values *ret, struct qd_error *err)
{
    struct qc_values v = {0, NULL};
    if (a->n == 0 || b->n == 0) {
        *ret = v;
        return QD_OK;
    }
    QD_TRY(qd_arena_array(arena, (size_t)a->n + (size_t)b->n, sizeof(*v.entries), &v.entries,
                          err));
    memcpy(v.entries, a->entries, (size_t)a->n * sizeof(*v.entries));
    memcpy(v.entries + a->n, b->entries, (size_t)b->n * sizeof(*v.entries));
    qsort(v.entries, (size_t)a->n + (size_t)b->n, sizeof(*v.entries), qc_value_count_compare);
    v.n = join(v.entries, a->n + b->n);
    bool few = count <= QC_VALUES_ALL || v.n <= QC_VALUES_MAX;
    *ret = few ? v : (struct qc_values){0, NULL};
    return QD_OK;
}
