#include "quantcore/calib/statistics_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* 1 is read and no longer written. */
enum { VERSION_COUNTED = 2, VERSION_UNCOUNTED = 3, VERSION_LAST = VERSION_UNCOUNTED };
static const char *const magic[VERSION_LAST + 1] = {[1] = "quantd statistics 1\n",
                                                    [VERSION_COUNTED] = "quantd statistics 2\n",
                                                    [VERSION_UNCOUNTED] = "quantd statistics 3\n"};
#define MAGIC_SIZE 20
#define TENSOR_LEAST 78 /* bytes */

/* ---- writing ------------------------------------------------------------------------------ */

struct writer {
    uint8_t *data; /* NULL: only count */
    size_t size;
};

static void put(struct writer *w, const void *bytes, size_t n)
{
    if (w->data != NULL) {
        memcpy(w->data + w->size, bytes, n);
    }
    w->size += n;
}

static void put_u64(struct writer *w, uint64_t value, size_t n_bytes)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n_bytes; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    put(w, bytes, n_bytes);
}

static void put_f64(struct writer *w, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof(bits));
    put_u64(w, bits, 8);
}

static void put_f32(struct writer *w, float x)
{
    uint32_t bits;
    float plain = x + 0.0f; /* one zero */
    memcpy(&bits, &plain, sizeof(bits));
    put_u64(w, bits, 4);
}

static void put_int128(struct writer *w, qd_int128 units)
{
    put_u64(w, (uint64_t)units, 8);
    put_u64(w, (uint64_t)(units >> 64), 8);
}

static void put_exact(struct writer *w, const struct qd_exact *sum)
{
    put_int128(w, sum->units);
}

static void put_count(struct writer *w, uint64_t value)
{
    do {
        uint8_t byte = (uint8_t)((value & 127) | (value > 127 ? 128 : 0));
        put(w, &byte, 1);
        value >>= 7;
    } while (value > 0);
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* A heap's order depends on how it grew; the file's does not. */
static enum qd_code put_tail(struct writer *w, const struct qc_tail *t, struct qd_error *err)
{
    float *sorted = malloc((t->n + 1) * sizeof(*sorted));
    if (sorted == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a tail of %zu values", t->n);
    }
    if (t->n > 0) {
        memcpy(sorted, t->heap, t->n * sizeof(*sorted));
        qsort(sorted, t->n, sizeof(*sorted), descending);
    }
    put_u64(w, t->k, 4);
    put_u64(w, t->n, 4);
    for (size_t i = 0; i < t->n; i++) {
        put_f32(w, t->smallest ? -sorted[i] : sorted[i]);
    }
    free(sorted);
    return QD_OK;
}

static enum qd_code put_name(struct writer *w, const char *name, struct qd_error *err)
{
    size_t length = strlen(name);
    if (length > UINT16_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "a name has %zu bytes, at most %d", length,
                       UINT16_MAX);
    }
    put_u64(w, length, 2);
    put(w, name, length);
    return QD_OK;
}

static enum qd_code put_moment(struct writer *w, const struct qc_moment *m, struct qd_error *err)
{
    size_t n = (size_t)m->n_groups * qc_moment_entries(m->n_columns);
    QD_TRY(put_name(w, m->node, err));
    put_u64(w, (uint64_t)m->n_groups, 4);
    put_u64(w, (uint64_t)m->n_columns, 4);
    put_u64(w, m->n_positions, 8);
    for (size_t i = 0; i < n; i++) {
        put_int128(w, m->lower[i]);
    }
    return QD_OK;
}

static void put_counts(struct writer *w, const struct qc_tensor_statistics *t)
{
    put_u64(w, (uint32_t)t->fine.exponent, 4);
    put_u64(w, (uint32_t)t->fine.first, 4);
    put_u64(w, (uint64_t)t->fine.n_bins, 4);
    for (int k = 0; k < t->fine.n_bins; k++) {
        put_count(w, t->fine.counts[k]);
    }
    put_u64(w, (uint64_t)t->values.n, 4);
    for (int i = 0; i < t->values.n; i++) {
        put_f32(w, t->values.entries[i].value);
        put_count(w, t->values.entries[i].count);
    }
}

static enum qd_code put_tensor(struct writer *w, const struct qc_tensor_statistics *t,
                               struct qd_error *err)
{
    QD_TRY(put_name(w, t->name, err));
    put_f64(w, t->min);
    put_f64(w, t->max);
    put_u64(w, t->count, 8);
    put_exact(w, &t->sum);
    put_exact(w, &t->squares);
    put_u64(w, (uint64_t)t->n_channels, 4);
    for (int c = 0; c < t->n_channels; c++) {
        const struct qc_channel_statistics *channel = &t->channels[c];
        put_exact(w, &channel->sum);
        put_exact(w, &channel->squares);
        put_u64(w, channel->n_nonzero, 8);
        put_f32(w, channel->max_abs);
    }
    QD_TRY(put_tail(w, &t->smallest, err));
    return put_tail(w, &t->largest, err);
}

static enum qd_code put_all(struct writer *w, const struct qc_statistics *s, struct qd_error *err)
{
    bool counted = qc_statistics_have_histograms(s);
    put(w, magic[counted ? VERSION_COUNTED : VERSION_UNCOUNTED], MAGIC_SIZE);
    put(w, s->model_sha256, sizeof(s->model_sha256));
    put_u64(w, (uint64_t)s->n_samples, 8);
    put_u64(w, (uint64_t)s->n, 4);
    for (int i = 0; i < s->n; i++) {
        assert((s->tensors[i].fine.n_bins > 0) == counted);
        QD_TRY(put_tensor(w, &s->tensors[i], err));
        if (counted) {
            put_counts(w, &s->tensors[i]);
        }
    }
    put_u64(w, (uint64_t)s->n_moments, 4);
    for (int i = 0; i < s->n_moments; i++) {
        QD_TRY(put_moment(w, &s->moments[i], err));
    }
    return QD_OK;
}

enum qd_code qc_statistics_write(const struct qc_statistics *s, struct qd_arena *arena,
                                 struct qd_bytes *ret, struct qd_error *err)
{
    struct writer w = {NULL, 0};
    QD_TRY(put_all(&w, s, err));
    size_t size = w.size;
    QD_TRY(qd_arena_array(arena, size, 1, &w.data, err));
    w.size = 0;
    QD_TRY(put_all(&w, s, err));
    *ret = (struct qd_bytes){w.data, size};
    return QD_OK;
}

/* ---- reading ------------------------------------------------------------------------------ */

struct cursor {
    const uint8_t *at;
    size_t left;
    const char *name; /* of the tensor */
    struct qd_arena *arena;
    int version;
};

static enum qd_code bad(const struct cursor *c, struct qd_error *err, const char *what)
{
    return qd_fail_on(err, QD_INVALID, c->name, "statistics%s%s%s: %s", c->name[0] ? " of '" : "",
                      c->name, c->name[0] ? "'" : "", what);
}

static enum qd_code take(struct cursor *c, size_t n, const uint8_t **ret, struct qd_error *err)
{
    if (n > c->left) {
        return bad(c, err, "the file ends early");
    }
    *ret = c->at;
    c->at += n;
    c->left -= n;
    return QD_OK;
}

static enum qd_code take_u64(struct cursor *c, size_t n_bytes, uint64_t *ret,
                             struct qd_error *err)
{
    const uint8_t *bytes = NULL;
    QD_TRY(take(c, n_bytes, &bytes, err));
    *ret = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        *ret |= (uint64_t)bytes[i] << (8 * i);
    }
    return QD_OK;
}

static enum qd_code take_f64(struct cursor *c, double *ret, struct qd_error *err)
{
    uint64_t bits = 0;
    QD_TRY(take_u64(c, 8, &bits, err));
    memcpy(ret, &bits, sizeof(*ret));
    return isfinite(*ret) && fabs(*ret) < 0x1p128 ? QD_OK
                                                  : bad(c, err, "a range end is no float32");
}

static enum qd_code take_f32(struct cursor *c, float *ret, struct qd_error *err)
{
    uint64_t bits = 0;
    QD_TRY(take_u64(c, 4, &bits, err));
    uint32_t word = (uint32_t)bits;
    memcpy(ret, &word, sizeof(*ret));
    return isfinite(*ret) ? QD_OK : bad(c, err, "a value is not finite");
}

static enum qd_code take_int128(struct cursor *c, qd_int128 *ret, struct qd_error *err)
{
    uint64_t low = 0, high = 0;
    QD_TRY(take_u64(c, 8, &low, err));
    QD_TRY(take_u64(c, 8, &high, err));
    int64_t top = 0;
    memcpy(&top, &high, sizeof(top));
    *ret = (qd_int128)top * ((qd_int128)1 << 64) + (qd_int128)low;
    return QD_OK;
}

static enum qd_code take_exact(struct cursor *c, struct qd_exact *ret, struct qd_error *err)
{
    return take_int128(c, &ret->units, err);
}

static enum qd_code take_count(struct cursor *c, uint64_t *ret, struct qd_error *err)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        const uint8_t *byte = NULL;
        QD_TRY(take(c, 1, &byte, err));
        if (shift == 63 && *byte > 1) {
            break;
        }
        value |= (uint64_t)(*byte & 127) << shift;
        if (*byte < 128) {
            *ret = value;
            return QD_OK;
        }
    }
    return bad(c, err, "a count has more than 64 bits");
}

static enum qd_code take_tail(struct cursor *c, bool smallest,
                              const struct qc_tensor_statistics *t, struct qc_tail *ret,
                              struct qd_error *err)
{
    uint64_t k = 0, n = 0;
    QD_TRY(take_u64(c, 4, &k, err));
    QD_TRY(take_u64(c, 4, &n, err));
    if (k < 1 || k > QC_TAIL_MAX || n > k || n > t->count || n > c->left / 4) {
        return bad(c, err, "a tail is longer than it can be");
    }
    /* Room for what is there: k is only a number. */
    QD_TRY(qc_tail_init(ret, smallest, n, c->arena, err));
    for (uint64_t i = 0; i < n; i++) {
        float x = 0;
        QD_TRY(take_f32(c, &x, err));
        if ((double)x < t->min || (double)x > t->max) {
            return bad(c, err, "a tail holds a value outside the range");
        }
        qc_tail_add(ret, &x, 1);
    }
    ret->k = (size_t)k;
    return QD_OK;
}

static enum qd_code take_histogram(struct cursor *c, struct qc_tensor_statistics *t,
                                   struct qd_error *err)
{
    uint64_t exponent = 0, first = 0, n_bins = 0, total = 0;
    struct qc_histogram *h = &t->fine;
    QD_TRY(take_u64(c, 4, &exponent, err));
    QD_TRY(take_u64(c, 4, &first, err));
    QD_TRY(take_u64(c, 4, &n_bins, err));
    QD_TRY(qc_histogram_edges(h, t->min, t->max, QC_FINE_BINS, err));
    if ((int32_t)(uint32_t)exponent != h->exponent || (int32_t)(uint32_t)first != h->first ||
        n_bins != (uint64_t)h->n_bins) {
        return bad(c, err, "the histogram's edges are not those of its range");
    }
    if (n_bins > c->left) {
        return bad(c, err, "the file ends early");
    }
    QD_TRY(qd_arena_array(c->arena, (size_t)n_bins, sizeof(*h->counts), &h->counts, err));
    for (uint64_t i = 0; i < n_bins; i++) {
        QD_TRY(take_count(c, &h->counts[i], err));
        if (__builtin_add_overflow(total, h->counts[i], &total)) {
            return bad(c, err, "the counts overflow");
        }
    }
    return total == t->count ? QD_OK : bad(c, err, "the histogram counts other values");
}

static enum qd_code take_channels(struct cursor *c, struct qc_tensor_statistics *t,
                                  struct qd_error *err)
{
    uint64_t n = 0;
    QD_TRY(take_u64(c, 4, &n, err));
    if (n > QC_STATISTICS_MAX_CHANNELS || n > c->left / 44 || (n > 0 && t->count % n != 0)) {
        return bad(c, err, "the number of channels does not fit");
    }
    t->n_channels = (int)n;
    QD_TRY(qd_arena_array(c->arena, (size_t)n, sizeof(*t->channels), &t->channels, err));
    QD_TRY(qd_arena_array(c->arena, (size_t)n, sizeof(double), &t->channel_mean, err));
    for (uint64_t i = 0; i < n; i++) {
        struct qc_channel_statistics *channel = &t->channels[i];
        QD_TRY(take_exact(c, &channel->sum, err));
        QD_TRY(take_exact(c, &channel->squares, err));
        QD_TRY(take_u64(c, 8, &channel->n_nonzero, err));
        QD_TRY(take_f32(c, &channel->max_abs, err));
    }
    return QD_OK;
}

/* Also what later messages are about. */
static enum qd_code take_name(struct cursor *c, const char **ret, struct qd_error *err)
{
    uint64_t length = 0;
    const uint8_t *name = NULL;
    c->name = "";
    QD_TRY(take_u64(c, 2, &length, err));
    QD_TRY(take(c, (size_t)length, &name, err));
    if (memchr(name, 0, (size_t)length) != NULL) {
        return bad(c, err, "a name has a NUL");
    }
    QD_TRY(qd_arena_string(c->arena, (const char *)name, (size_t)length, ret, err));
    c->name = *ret;
    return QD_OK;
}

static enum qd_code take_moment(struct cursor *c, struct qc_moment *m, struct qd_error *err)
{
    uint64_t groups = 0, columns = 0;
    QD_TRY(take_name(c, &m->node, err));
    QD_TRY(take_u64(c, 4, &groups, err));
    QD_TRY(take_u64(c, 4, &columns, err));
    QD_TRY(take_u64(c, 8, &m->n_positions, err));
    if (groups < 1 || columns < 1 || columns > QC_MOMENTS_MAX_COLUMNS ||
        groups > c->left / (16 * qc_moment_entries((int)columns))) {
        return bad(c, err, "the second moments do not fit");
    }
    size_t n = (size_t)groups * qc_moment_entries((int)columns);
    m->n_groups = (int)groups;
    m->n_columns = (int)columns;
    QD_TRY(qd_arena_array(c->arena, n, sizeof(*m->lower), &m->lower, err));
    for (size_t i = 0; i < n; i++) {
        QD_TRY(take_int128(c, &m->lower[i], err));
    }
    return QD_OK;
}

static enum qd_code take_moments(struct cursor *c, struct qc_statistics *s, struct qd_error *err)
{
    uint64_t n = 0;
    c->name = "";
    QD_TRY(take_u64(c, 4, &n, err));
    if (n > QC_STATISTICS_MAX_TENSORS || n > c->left / 34) {
        return bad(c, err, "there are more second moments than bytes for them");
    }
    QD_TRY(qd_arena_array(c->arena, (size_t)n, sizeof(*s->moments), &s->moments, err));
    s->n_moments = (int)n;
    for (int i = 0; i < s->n_moments; i++) {
        QD_TRY(take_moment(c, &s->moments[i], err));
    }
    return QD_OK;
}

/* The counts of bins again, value by value. */
static enum qd_code take_values(struct cursor *c, struct qc_tensor_statistics *t,
                                struct qd_error *err)
{
    uint64_t n = 0, in_bin = 0;
    int bin = 0;
    QD_TRY(take_u64(c, 4, &n, err));
    uint64_t most = t->count <= QC_VALUES_ALL ? t->count : QC_VALUES_MAX;
    if (n > most || n > c->left / 5) {
        return bad(c, err, "there are more values than a table holds");
    }
    QD_TRY(qd_arena_array(c->arena, (size_t)n, sizeof(*t->values.entries), &t->values.entries,
                          err));
    for (uint64_t i = 0; i < n; i++) {
        struct qc_value_count *e = &t->values.entries[i];
        QD_TRY(take_f32(c, &e->value, err));
        QD_TRY(take_count(c, &e->count, err));
        bool inside = (double)e->value >= t->min && (double)e->value <= t->max; /* no NaN is */
        if (!inside || e->count == 0 || (i > 0 && e->value <= e[-1].value)) {
            return bad(c, err, "the values do not ascend within the range");
        }
        int k = qc_histogram_bin(&t->fine, e->value);
        for (; bin < k; bin++, in_bin = 0) {
            if (t->fine.counts[bin] != in_bin) {
                return bad(c, err, "the values are not those of the histogram");
            }
        }
        if (__builtin_add_overflow(in_bin, e->count, &in_bin) || in_bin > t->fine.counts[k]) {
            return bad(c, err, "the values are not those of the histogram");
        }
    }
    for (; n > 0 && bin < t->fine.n_bins; bin++, in_bin = 0) {
        if (t->fine.counts[bin] != in_bin) {
            return bad(c, err, "the values are not those of the histogram");
        }
    }
    t->values.n = (int)n;
    return QD_OK;
}

static enum qd_code take_tensor(struct cursor *c, struct qc_tensor_statistics *t,
                                struct qd_error *err)
{
    QD_TRY(take_name(c, &t->name, err));
    QD_TRY(take_f64(c, &t->min, err));
    QD_TRY(take_f64(c, &t->max, err));
    QD_TRY(take_u64(c, 8, &t->count, err));
    if (t->count == 0 || t->min > t->max) {
        return bad(c, err, "there are no values, or the range is upside down");
    }
    QD_TRY(take_exact(c, &t->sum, err));
    QD_TRY(take_exact(c, &t->squares, err));
    QD_TRY(take_channels(c, t, err));
    QD_TRY(take_tail(c, true, t, &t->smallest, err));
    QD_TRY(take_tail(c, false, t, &t->largest, err));
    if (c->version == VERSION_UNCOUNTED) {
        struct qc_histogram edges; /* a range that no histogram has is refused alike */
        QD_TRY(qc_histogram_edges(&edges, t->min, t->max, QC_FINE_BINS, err));
    } else {
        QD_TRY(take_histogram(c, t, err));
    }
    if (c->version == VERSION_COUNTED) {
        QD_TRY(take_values(c, t, err));
    }
    return qc_tensor_statistics_finish(t, err);
}

static enum qd_code take_version(struct cursor *c, struct qd_error *err)
{
    const uint8_t *head = NULL;
    QD_TRY(take(c, MAGIC_SIZE, &head, err));
    for (c->version = 1; c->version <= VERSION_LAST; c->version++) {
        if (memcmp(head, magic[c->version], MAGIC_SIZE) == 0) {
            return QD_OK;
        }
    }
    return bad(c, err, "the file does not begin with 'quantd statistics 3' (or 2, or 1)");
}

enum qd_code qc_statistics_read(struct qd_bytes bytes, struct qd_arena *arena,
                                struct qc_statistics **ret, struct qd_error *err)
{
    struct cursor c = {bytes.data, bytes.size, "", arena, 0};
    struct qc_statistics *s = NULL;
    const uint8_t *head = NULL;
    uint64_t n = 0, n_samples = 0;
    QD_TRY(take_version(&c, err));
    QD_TRY(qd_arena_alloc(arena, sizeof(*s), &s, err));
    QD_TRY(take(&c, sizeof(s->model_sha256), &head, err));
    memcpy(s->model_sha256, head, sizeof(s->model_sha256));
    QD_TRY(take_u64(&c, 8, &n_samples, err));
    QD_TRY(take_u64(&c, 4, &n, err));
    if (n_samples < 1 || n_samples > INT64_MAX) {
        return bad(&c, err, "the number of samples is not 1 to 2^63 - 1");
    }
    if (n > QC_STATISTICS_MAX_TENSORS || n > c.left / TENSOR_LEAST) {
        return bad(&c, err, "there are more tensors than bytes for them");
    }
    QD_TRY(qd_arena_array(arena, (size_t)n, sizeof(*s->tensors), &s->tensors, err));
    s->n_samples = (int64_t)n_samples;
    s->n = (int)n;
    for (int i = 0; i < s->n; i++) {
        QD_TRY(take_tensor(&c, &s->tensors[i], err));
    }
    QD_TRY(take_moments(&c, s, err));
    c.name = "";
    if (c.left != 0) {
        return bad(&c, err, "bytes follow the end");
    }
    *ret = s;
    return QD_OK;
}
