/* The table of distinct values beside the histogram: kept or not by their number alone. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/observer.h"
#include "quantcore/calib/statistics_file.h"

enum { PER_SAMPLE = 300, SAMPLES = 20, MANY_SAMPLES = 450, MOST = PER_SAMPLE * MANY_SAMPLES };
_Static_assert(MOST > QC_VALUES_ALL, "not all values are kept");

static struct qc_kernels kernels;
static float data[MOST];
static int n_samples = SAMPLES; /* of data */

/* Fills data with values of which n are distinct, -0 and 0 among them as one. */
static void fill(int n)
{
    uint32_t count = (uint32_t)(n_samples * PER_SAMPLE);
    for (int i = 0; i < (int)count; i++) {
        int k = (int)((uint32_t)i * 7919u % count) % n;
        data[i] = (float)(k - n / 3) / 1000.0f;
        data[i] = k == n / 3 && i % 2 == 1 ? -0.0f : data[i];
    }
}

static float times = 1;   /* what pass 2 sees of pass 1's values */
static bool counts_at_once;

static struct qc_statistics *observe(struct qd_arena *arena, int threads, int first, int count)
{
    static float sample[PER_SAMPLE];
    struct qc_observed tensor = {"x", {2, {1, PER_SAMPLE}}, -1};
    struct qc_observer_options options = {threads, 1, count, 1, 1, 16, &kernels, counts_at_once,
                                          false};
    struct qc_view view = {.dtype = QC_F32, .layout = QC_PLAIN, .shape = tensor.shape};
    struct qc_observer *o = NULL;
    struct qc_statistics *s = NULL;
    ck_assert_int_eq(qc_observer_new(&tensor, 1, &options, arena, &o, NULL), QD_OK);
    for (int pass = 1; pass <= 2; pass++) {
        for (int i = 0; i < count; i++) {
            view.data = sample;
            for (int k = 0; k < PER_SAMPLE; k++) {
                sample[k] = data[(first + i) * PER_SAMPLE + k] * (pass == 1 ? 1 : times);
            }
            if (pass == 1) {
                qc_observer_pass1(o, 0, i % threads, 0, &view);
                ck_assert_int_eq(qc_observer_end_batch(o, 1, i, NULL), QD_OK);
            } else if (!counts_at_once) {
                qc_observer_pass2(o, 0, i * 3 % threads, &view);
            }
        }
        ck_assert_int_eq(
            pass == 1 ? qc_observer_end_pass1(o, NULL) : qc_observer_end_pass2(o, &s, NULL),
            QD_OK);
    }
    return s;
}

static void same_bytes(struct qd_arena *arena, const struct qc_statistics *a,
                       const struct qc_statistics *b)
{
    struct qd_bytes x, y;
    ck_assert_int_eq(qc_statistics_write(a, arena, &x, NULL), QD_OK);
    ck_assert_int_eq(qc_statistics_write(b, arena, &y, NULL), QD_OK);
    ck_assert_uint_eq(x.size, y.size);
    ck_assert_mem_eq(x.data, y.data, x.size);
}

static void same_histogram(struct qd_arena *arena, const struct qc_histogram *h)
{
    struct qc_histogram want;
    float lo = data[0], hi = data[0];
    for (int i = 0; i < n_samples * PER_SAMPLE; i++) {
        lo = data[i] < lo ? data[i] : lo;
        hi = data[i] > hi ? data[i] : hi;
    }
    ck_assert_int_eq(qc_histogram_init(&want, (double)lo, (double)hi, QC_FINE_BINS, arena, NULL),
                     QD_OK);
    qc_histogram_count(&want, data, (size_t)n_samples * PER_SAMPLE);
    ck_assert_int_eq(h->n_bins, want.n_bins);
    ck_assert_mem_eq(h->counts, want.counts, (size_t)want.n_bins * sizeof(*want.counts));
}

static const struct {
    int samples, distinct;
    bool kept;
} cases[] = {
    {SAMPLES, 1, true},
    {SAMPLES, QC_VALUES_MAX + 1, true},
    {SAMPLES, SAMPLES * PER_SAMPLE, true},
    {MANY_SAMPLES, 1, true},
    {MANY_SAMPLES, 256, true},
    {MANY_SAMPLES, QC_VALUES_MAX, true},
    {MANY_SAMPLES, QC_VALUES_MAX + 1, false},
    {MANY_SAMPLES, MOST, false},
};

/* As many as fit, one more, far more; any threads, any parts: of many values that are not kept, the
 * first of two parts is so few that its own are. */
START_TEST(observe__values_around_the_limits__kept_by_their_number)
{
    int n = cases[_i].distinct;
    struct qd_arena arena;
    struct qc_statistics *merged = NULL;
    qd_arena_init(&arena, 0);
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    n_samples = cases[_i].samples;
    fill(n);
    struct qc_statistics *whole = observe(&arena, 1, 0, n_samples);
    const struct qc_values *v = &whole->tensors[0].values;
    ck_assert_int_eq(v->n, cases[_i].kept ? n : 0);
    uint64_t total = 0;
    for (int i = 0; i < v->n; i++) {
        ck_assert(i == 0 || v->entries[i - 1].value < v->entries[i].value);
        ck_assert(!signbit(v->entries[i].value) || v->entries[i].value < 0);
        total += v->entries[i].count;
    }
    ck_assert_uint_eq(total, v->n > 0 ? n_samples * PER_SAMPLE : 0);
    same_histogram(&arena, &whole->tensors[0].fine);
    for (int threads = 2; threads <= 7; threads += 2) {
        counts_at_once = threads != 4;
        same_bytes(&arena, observe(&arena, threads, 0, n_samples), whole);
    }
    for (int cut = 1; cut < n_samples; cut += n_samples / 3) {
        struct qc_statistics *a = observe(&arena, 2, 0, cut);
        counts_at_once = !counts_at_once;
        struct qc_statistics *b = observe(&arena, 3, cut, n_samples - cut);
        ck_assert_int_eq(qc_statistics_merge(b, a, &arena, &merged, NULL), QD_OK);
        same_bytes(&arena, merged, whole);
    }
    counts_at_once = false;
    n_samples = SAMPLES;
    qd_arena_done(&arena);
}
END_TEST

/* Ranges that grow on either side, by a little and by much, from one value on: counted at once they
 * are what two passes count. */
START_TEST(observe__range_that_grows__same_bytes_as_two_passes)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 0);
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    n_samples = MANY_SAMPLES;
    for (int i = 0; i < MOST; i++) {
        float scale = ldexpf(1.0f, i / (MOST / 40) - 20);
        int k = (int)((uint32_t)i * 7919u % 20011u);
        data[i] = _i == 0   ? scale * (float)(k - 6000)       /* both ends, 2^40 in all */
                  : _i == 1 ? scale * (float)(-k)             /* one end */
                  : _i == 2 ? (i < MOST / 2 ? 3.0f : (float)k) /* one value for long */
                            : 1000.0f + scale * (float)k;      /* far from 0 */
    }
    for (int threads = 1; threads <= 3; threads++) {
        counts_at_once = false;
        struct qc_statistics *two = observe(&arena, threads, 0, n_samples);
        counts_at_once = true;
        ck_assert_int_eq(two->tensors[0].values.n, 0);
        same_bytes(&arena, observe(&arena, threads, 0, n_samples), two);
    }
    counts_at_once = false;
    n_samples = SAMPLES;
    qd_arena_done(&arena);
}
END_TEST

/* `inference: quantized`: pass 2 sees other values, beyond the range of pass 1 too. Table and
 * histogram stay alike, which reading checks, also after a merge into a wider range. */
START_TEST(observe__pass_2_beyond_the_range__counts_as_the_ends)
{
    struct qd_arena arena;
    struct qd_bytes bytes;
    struct qc_statistics *read = NULL, *merged = NULL;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    fill(300);
    times = 1.5f;
    struct qc_statistics *a = observe(&arena, 2, 0, 3);
    fill(3000);
    struct qc_statistics *b = observe(&arena, 2, 0, SAMPLES);
    times = 1;
    const struct qc_tensor_statistics *t = &a->tensors[0];
    ck_assert_int_gt(t->values.n, 100);
    ck_assert_double_eq((double)t->values.entries[t->values.n - 1].value, t->max);
    ck_assert_uint_gt(t->values.entries[t->values.n - 1].count, 100);
    ck_assert_int_eq(qc_statistics_merge(a, b, &arena, &merged, NULL), QD_OK);
    struct qc_statistics *const all[] = {a, b, merged};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(qc_statistics_write(all[i], &arena, &bytes, NULL), QD_OK);
        ck_assert_msg(qc_statistics_read(bytes, &arena, &read, &err) == QD_OK, "%s", err.message);
        ck_assert_int_gt(read->tensors[0].values.n, 100);
    }
    qd_arena_done(&arena);
}
END_TEST

/* A sample more, or less, than in pass 1: with all values kept, with bins. */
START_TEST(observe__pass_2_sees_another_number__internal_error)
{
    static const struct {
        int64_t per_sample;
        int samples;
    } rows[] = {{PER_SAMPLE, 1}, {PER_SAMPLE, 3}, {QC_VALUES_ALL, 1}, {QC_VALUES_ALL, 3}};
    struct qd_arena arena;
    struct qd_error err;
    struct qc_observed tensor = {"x", {2, {1, rows[_i].per_sample}}, -1};
    struct qc_observer_options options = {1, 1, 2, 1, 1, 16, &kernels, false, false};
    struct qc_view view = {.data = data, .dtype = QC_F32, .layout = QC_PLAIN, .shape = tensor.shape};
    struct qc_observer *o = NULL;
    struct qc_statistics *s = NULL;
    qd_arena_init(&arena, 0);
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    n_samples = MANY_SAMPLES;
    fill(QC_VALUES_MAX + 1);
    n_samples = SAMPLES;
    ck_assert_int_eq(qc_observer_new(&tensor, 1, &options, &arena, &o, NULL), QD_OK);
    for (int i = 0; i < 2; i++) {
        qc_observer_pass1(o, 0, 0, 0, &view);
        ck_assert_int_eq(qc_observer_end_batch(o, 1, i, NULL), QD_OK);
    }
    ck_assert_int_eq(qc_observer_end_pass1(o, NULL), QD_OK);
    for (int i = 0; i < rows[_i].samples; i++) {
        qc_observer_pass2(o, 0, 0, &view);
    }
    ck_assert_int_eq(qc_observer_end_pass2(o, &s, &err), QD_INTERNAL);
    ck_assert_ptr_nonnull(strstr(err.message, "were counted"));
    qd_arena_done(&arena);
}
END_TEST

/* More of one value than 32 bits count; outside counts as the end. */
START_TEST(table__count_above_32_bits__one_entry)
{
    struct qd_arena arena;
    struct qc_values v;
    struct qc_value_table t = {.lo = -1, .hi = 2};
    const float beyond[] = {3, -7, NAN};
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qd_arena_array(&arena, QC_VALUES_SLOTS, sizeof(*t.slots), &t.slots, NULL),
                     QD_OK);
    ck_assert(qc_value_table_add_count(&t, 0.5f, 3 * (uint64_t)UINT32_MAX));
    ck_assert(qc_value_table_add_count(&t, 0.5f, 10));
    ck_assert_int_eq(t.n_distinct, 1);
    ck_assert_uint_eq(qc_value_table_add(&t, beyond, 3), 3);
    ck_assert_int_eq(qc_value_table_finish(&t, &arena, &v, NULL), QD_OK);
    ck_assert_int_eq(v.n, 3);
    ck_assert_float_eq(v.entries[0].value, -1);
    ck_assert_uint_eq(v.entries[0].count, 2);
    ck_assert_float_eq(v.entries[1].value, 0.5f);
    ck_assert_uint_eq(v.entries[1].count, 3 * (uint64_t)UINT32_MAX + 10);
    ck_assert_float_eq(v.entries[2].value, 2);
    qd_arena_done(&arena);
}
END_TEST

static enum qd_code read_changed(struct qd_arena *arena, const struct qd_bytes *bytes, size_t at,
                                 uint8_t with, struct qd_error *err)
{
    struct qc_statistics *s = NULL;
    uint8_t *copy = malloc(bytes->size);
    memcpy(copy, bytes->data, bytes->size);
    copy[at] ^= with;
    enum qd_code code = qc_statistics_read((struct qd_bytes){copy, bytes->size}, arena, &s, err);
    free(copy);
    return code;
}

/* A file of version 1 ends where the tables of values begin: one tensor, no moments. */
START_TEST(read__version_1__as_if_values_had_been_too_many)
{
    struct qd_arena arena;
    struct qd_bytes bytes;
    struct qc_statistics *old = NULL, *merged = NULL;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    fill(100);
    struct qc_statistics *s = observe(&arena, 1, 0, SAMPLES);
    ck_assert_int_eq(qc_statistics_write(s, &arena, &bytes, NULL), QD_OK);
    size_t table = 4;
    for (int i = 0; i < s->tensors[0].values.n; i++) {
        table += 4 + (s->tensors[0].values.entries[i].count > 127 ? 2 : 1);
    }
    uint8_t *v1 = malloc(bytes.size);
    memcpy(v1, bytes.data, bytes.size);
    v1[18] = '1';
    memset(v1 + bytes.size - table - 4, 0, 4); /* no moments */
    struct qd_bytes old_bytes = {v1, bytes.size - table};
    ck_assert_msg(qc_statistics_read(old_bytes, &arena, &old, &err) == QD_OK, "%s", err.message);
    ck_assert_int_eq(old->tensors[0].values.n, 0);
    ck_assert_mem_eq(old->tensors[0].fine.counts, s->tensors[0].fine.counts,
                     (size_t)s->tensors[0].fine.n_bins * sizeof(uint64_t));
    ck_assert_int_eq(qc_statistics_merge(old, s, &arena, &merged, NULL), QD_OK);
    ck_assert_int_eq(merged->tensors[0].values.n, 0);
    v1[18] = '4';
    ck_assert_int_eq(qc_statistics_read(old_bytes, &arena, &old, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "statistics 3"));
    free(v1);
    qd_arena_done(&arena);
}
END_TEST

/* Values that do not add up to the bins, or do not ascend. */
START_TEST(read__table_unlike_the_histogram__refused)
{
    struct qd_arena arena;
    struct qd_bytes bytes;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    qc_kernels_init(&kernels, QC_ISA_AVX512);
    fill(SAMPLES * PER_SAMPLE / 100); /* each value 100 times: a byte each count */
    struct qc_statistics *s = observe(&arena, 1, 0, SAMPLES);
    ck_assert_int_eq(qc_statistics_write(s, &arena, &bytes, NULL), QD_OK);
    size_t first = bytes.size - 4 - 60 * 5;
    ck_assert_int_eq(s->tensors[0].values.n, 60);
    ck_assert_int_eq(read_changed(&arena, &bytes, first + 4, 1, &err), QD_INVALID); /* a count */
    ck_assert_ptr_nonnull(strstr(err.message, "histogram"));
    ck_assert_int_eq(read_changed(&arena, &bytes, first + 5 * 59 + 4, 1, &err), QD_INVALID);
    ck_assert_int_eq(read_changed(&arena, &bytes, first + 5 * 30 + 3, 128, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "ascend")); /* another sign */
    ck_assert_int_eq(read_changed(&arena, &bytes, first - 4, 1, &err), QD_INVALID); /* 61 */
    ck_assert_int_eq(read_changed(&arena, &bytes, first - 3, 64, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "table holds"));
    qd_arena_done(&arena);
}
END_TEST

Suite *test_values_suite(void);
Suite *test_values_suite(void)
{
    Suite *s = suite_create("test_values");
    TCase *c = tcase_create("values");
    tcase_add_loop_test(c, observe__range_that_grows__same_bytes_as_two_passes, 0, 4);
    tcase_add_loop_test(c, observe__pass_2_sees_another_number__internal_error, 0, 4);
    tcase_add_loop_test(c, observe__values_around_the_limits__kept_by_their_number, 0,
                        (int)QD_COUNT_OF(cases));
    tcase_add_test(c, observe__pass_2_beyond_the_range__counts_as_the_ends);
    tcase_add_test(c, table__count_above_32_bits__one_entry);
    tcase_add_test(c, read__version_1__as_if_values_had_been_too_many);
    tcase_add_test(c, read__table_unlike_the_histogram__refused);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}
