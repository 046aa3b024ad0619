#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/observer.h"
#include "quantcore/calib/statistics_file.h"

static struct qc_kernels kernels; /* the best that this CPU has */

enum { SAMPLES = 21, C = 5, H = 3, W = 4, STRIDE = 16, PAD = 1 };
enum { N = C * H * W, STORED = (H + 2 * PAD) * (W + 2 * PAD) * STRIDE };

static float value(int sample, int i)
{
    uint32_t h = (uint32_t)(sample * 1009 + i) * 2654435761u;
    return (float)(h >> 8) / 16777216.0f * 3.0f - 1.0f + 0.25f * (float)(i % C);
}

/* A view with a border and stride padding full of NaN: whoever reads them is found. */
static void nhwc(int sample, float *store, struct qc_view *view)
{
    for (int i = 0; i < STORED; i++) {
        store[i] = NAN;
    }
    *view = (struct qc_view){.dtype = QC_F32, .layout = QC_NHWC, .shape = {4, {1, C, H, W}},
                             .pixel_stride = STRIDE, .row_stride = (W + 2 * PAD) * STRIDE,
                             .image_stride = STORED};
    view->data = store + PAD * view->row_stride + PAD * STRIDE;
    for (int i = 0; i < N; i++) {
        int c = i % C, w = i / C % W, h = i / C / W;
        ((float *)view->data)[h * view->row_stride + w * STRIDE + c] = value(sample, i);
    }
}

static struct qc_observer *last_observer; /* of observe() */
static bool counts_at_once, no_histograms;

static struct qc_statistics *observe(struct qd_arena *arena, int threads, int batch, int first,
                                     int count, double percentile)
{
    static float store[STORED];
    struct qc_observed tensors[2] = {{"image", {4, {1, C, H, W}}, 1}, {"row", {2, {1, C}}, 1}};
    struct qc_observer_options options = {threads, batch, count, percentile, percentile, 16,
                                          &kernels, counts_at_once, no_histograms};
    struct qc_observer *o = NULL;
    struct qc_statistics *s = NULL;
    struct qc_view view;
    struct qc_view row = {.dtype = QC_F32, .layout = QC_PLAIN, .shape = {2, {1, C}}};
    ck_assert_int_eq(qc_observer_new(tensors, 2, &options, arena, &o, NULL), QD_OK);
    for (int pass = 1; pass <= 2; pass++) {
        for (int at = 0; at < count; at += batch) {
            int n = count - at < batch ? count - at : batch;
            /* backwards, on changing threads: the order of work must not matter */
            for (int i = n - 1; i >= 0; i--) {
                nhwc(first + at + i, store, &view);
                row.data = view.data;
                if (pass == 1) {
                    qc_observer_pass1(o, 0, (i * 7 + at) % threads, i, &view);
                    qc_observer_pass1(o, 1, i % threads, i, &row);
                } else if (!counts_at_once && !no_histograms) {
                    qc_observer_pass2(o, 0, i % threads, &view);
                    qc_observer_pass2(o, 1, i % threads, &row);
                }
            }
            if (pass == 1) {
                ck_assert_int_eq(qc_observer_end_batch(o, n, at, NULL), QD_OK);
            }
        }
        if (pass == 1) {
            ck_assert_int_eq(qc_observer_end_pass1(o, NULL), QD_OK);
        }
    }
    ck_assert_int_eq(qc_observer_end_pass2(o, &s, NULL), QD_OK);
    last_observer = o;
    return s;
}

START_TEST(observe__border_and_padding__never_read_and_sums_right)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 0);
    struct qc_statistics *s = observe(&arena, 2, 4, 0, SAMPLES, 1.0);
    double sum = 0, squares = 0, lo = INFINITY, hi = -INFINITY, channel[C] = {0};
    for (int k = 0; k < SAMPLES; k++) {
        for (int i = 0; i < N; i++) {
            double v = (double)value(k, i);
            sum += v;
            squares += v * v;
            lo = fmin(lo, v);
            hi = fmax(hi, v);
            channel[i % C] += v;
        }
    }
    struct qc_tensor_statistics *t = &s->tensors[0];
    double n = (double)SAMPLES * N;
    ck_assert_int_eq(s->n_samples, SAMPLES);
    ck_assert_uint_eq(t->count, SAMPLES * N);
    ck_assert_double_eq(t->min, lo);
    ck_assert_double_eq(t->max, hi);
    ck_assert_double_eq_tol(t->mean, sum / n, 1e-12);
    ck_assert_double_eq_tol(t->std, sqrt(squares / n - sum / n * (sum / n)), 1e-12);
    for (int c = 0; c < C; c++) {
        ck_assert_double_eq_tol(t->channel_mean[c], channel[c] / (SAMPLES * H * W), 1e-12);
    }
    ck_assert_uint_eq(qc_histogram_total(&t->fine), SAMPLES * N);
    ck_assert_int_eq(qc_statistics_find(s, "row"), 1);
    ck_assert_int_eq(qc_statistics_find(s, "column"), -1);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(drop_counts__after_pass_2__memory_returned_means_stay)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 0);
    struct qc_statistics *s = observe(&arena, 2, 4, 0, SAMPLES, 0.9);
    double mean = s->tensors[0].mean, channel = s->tensors[0].channel_mean[C - 1];
    double max = s->tensors[0].max;
    size_t before = arena.used;
    qc_observer_drop_counts(last_observer);
    /* two tensors, two threads, a histogram each */
    ck_assert_uint_le(arena.used + 4 * QC_FINE_BINS / 2 * sizeof(uint64_t), before);
    ck_assert_double_eq(s->tensors[0].mean, mean);
    ck_assert_double_eq(s->tensors[0].channel_mean[C - 1], channel);
    ck_assert_double_eq(s->tensors[0].max, max);
    ck_assert_uint_eq(qc_histogram_total(&s->tensors[0].fine), 0);
    qc_observer_drop_counts(last_observer);
    qd_arena_done(&arena);
}
END_TEST

/* All of them: the file holds every field, in one order. */
static void same_bytes(struct qd_arena *arena, const struct qc_statistics *a,
                       const struct qc_statistics *b)
{
    struct qd_bytes x, y;
    ck_assert_int_eq(qc_statistics_write(a, arena, &x, NULL), QD_OK);
    ck_assert_int_eq(qc_statistics_write(b, arena, &y, NULL), QD_OK);
    ck_assert_uint_eq(x.size, y.size);
    ck_assert(memcmp(x.data, y.data, x.size) == 0);
}

START_TEST(observe__any_threads_and_batch__same_bytes)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 0);
    struct qc_statistics *want = observe(&arena, 1, 1, 0, SAMPLES, 0.99);
    const int setups[][2] = {{1, 8}, {2, 3}, {5, 21}, {4, 64}};
    ck_assert_uint_eq(want->tensors[0].largest.n, 16);
    for (size_t i = 0; i < QD_COUNT_OF(setups); i++) {
        counts_at_once = i % 2 == 0;
        same_bytes(&arena, want, observe(&arena, setups[i][0], setups[i][1], 0, SAMPLES, 0.99));
    }
    counts_at_once = false;
    qd_arena_done(&arena);
}
END_TEST

START_TEST(observe__channels__maximum_squares_and_non_zeros)
{
    struct qd_arena arena;
    qd_arena_init(&arena, 0);
    struct qc_statistics *s = observe(&arena, 2, 4, 0, SAMPLES, 1.0);
    for (int c = 0; c < C; c++) {
        double squares = 0, most = 0;
        uint64_t nonzero = 0;
        for (int k = 0; k < SAMPLES; k++) {
            for (int i = c; i < N; i += C) {
                double v = (double)value(k, i);
                squares += v * v;
                most = fmax(most, fabs(v));
                nonzero += v != 0.0;
            }
        }
        const struct qc_channel_statistics *channel = &s->tensors[0].channels[c];
        ck_assert_double_eq_tol(qd_exact_value(&channel->squares), squares, 1e-9);
        ck_assert_double_eq((double)channel->max_abs, most);
        ck_assert_uint_eq(channel->n_nonzero, nonzero);
    }
    qd_arena_done(&arena);
}
END_TEST

START_TEST(merge__parts_of_any_size__bytes_of_the_whole)
{
    struct qd_arena arena;
    struct qc_statistics *both = NULL, *all = NULL;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    struct qc_statistics *whole = observe(&arena, 1, 4, 0, SAMPLES, 1.0);
    const int cuts[][2] = {{1, 2}, {10, 15}, {7, 20}};
    for (size_t i = 0; i < QD_COUNT_OF(cuts); i++) {
        int x = cuts[i][0], y = cuts[i][1];
        struct qc_statistics *a = observe(&arena, 1, 4, 0, x, 1.0);
        struct qc_statistics *b = observe(&arena, 2, 3, x, y - x, 1.0);
        struct qc_statistics *c = observe(&arena, 3, 5, y, SAMPLES - y, 1.0);
        ck_assert_int_eq(qc_statistics_merge(c, a, &arena, &both, NULL), QD_OK);
        ck_assert_int_eq(qc_statistics_merge(both, b, &arena, &all, NULL), QD_OK);
        same_bytes(&arena, all, whole);
        ck_assert_double_eq(all->tensors[0].mean, whole->tensors[0].mean);
        ck_assert_double_eq(all->tensors[0].std, whole->tensors[0].std);
    }
    struct qc_statistics other = *whole;
    other.model_sha256[3] = 1;
    ck_assert_int_eq(qc_statistics_merge(whole, &other, &arena, &both, &err), QD_INVALID);
    struct qc_tensor_statistics renamed[2] = {whole->tensors[0], whole->tensors[1]};
    renamed[1].name = "column";
    other = *whole;
    other.tensors = renamed;
    ck_assert_int_eq(qc_statistics_merge(whole, &other, &arena, &both, &err), QD_INVALID);
    ck_assert_ptr_nonnull(strstr(err.message, "column"));
    other.n = 1;
    ck_assert_int_eq(qc_statistics_merge(whole, &other, &arena, &both, &err), QD_INVALID);
    qd_arena_done(&arena);
}
END_TEST

/* Each prefix is refused and each flipped byte refused or read, never worse. */
static void read_spoiled(struct qd_bytes bytes)
{
    struct qc_statistics *read = NULL;
    struct qd_error err;
    uint8_t *copy = malloc(bytes.size);
    for (size_t i = 0; i < bytes.size; i += i < 2000 ? 1 : 97) {
        struct qd_arena small;
        qd_arena_init(&small, 0);
        memcpy(copy, bytes.data, bytes.size);
        ck_assert_int_eq(qc_statistics_read((struct qd_bytes){copy, i}, &small, &read, &err),
                         QD_INVALID);
        copy[i] ^= (uint8_t)(1u << (i % 8));
        enum qd_code code = qc_statistics_read((struct qd_bytes){copy, bytes.size}, &small, &read,
                                               &err);
        ck_assert(code == QD_OK || err.message[0] != '\0');
        qd_arena_done(&small);
    }
    free(copy);
}

START_TEST(read__written_statistics__the_same_again)
{
    struct qd_arena arena;
    struct qd_bytes bytes;
    struct qc_statistics *read = NULL;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    struct qc_statistics *s = observe(&arena, 1, 4, 0, SAMPLES, 0.99);
    s->model_sha256[31] = 7;
    ck_assert_int_eq(qc_statistics_write(s, &arena, &bytes, NULL), QD_OK);
    ck_assert_int_eq(qc_statistics_read(bytes, &arena, &read, &err), QD_OK);
    same_bytes(&arena, s, read);
    ck_assert_double_eq(read->tensors[1].std, s->tensors[1].std);
    read_spoiled(bytes);
    qd_arena_done(&arena);
}
END_TEST

static void same_tails(const struct qc_tail *a, const struct qc_tail *b)
{
    float scratch[32];
    ck_assert_uint_eq(a->n, b->n);
    for (size_t i = 1; i <= a->n; i++) {
        float x = qc_tail_at(a, i, scratch);
        ck_assert_float_eq(x, qc_tail_at(b, i, scratch));
    }
}

START_TEST(observe__no_histograms__the_rest_is_the_same)
{
    struct qd_arena arena, plain;
    qd_arena_init(&arena, 0);
    qd_arena_init(&plain, 0);
    for (int i = 0; i < 2; i++) {
        counts_at_once = i == 1;
        struct qc_statistics *a = observe(&arena, 2, 4, 0, SAMPLES, 0.99);
        no_histograms = true;
        struct qc_statistics *b = observe(&plain, 3, 5, 0, SAMPLES, 0.99);
        no_histograms = false;
        ck_assert(qc_statistics_have_histograms(a) && !qc_statistics_have_histograms(b));
        ck_assert_int_eq(b->n_samples, SAMPLES);
        for (int k = 0; k < a->n; k++) {
            const struct qc_tensor_statistics *x = &a->tensors[k], *y = &b->tensors[k];
            ck_assert_int_eq(y->fine.n_bins, 0);
            ck_assert_ptr_null(y->fine.counts);
            ck_assert_int_eq(y->values.n, 0);
            ck_assert_double_eq(x->min, y->min);
            ck_assert_double_eq(x->max, y->max);
            ck_assert_double_eq(x->mean, y->mean);
            ck_assert_double_eq(x->std, y->std);
            ck_assert_uint_eq(x->count, y->count);
            same_tails(&x->smallest, &y->smallest);
            same_tails(&x->largest, &y->largest);
            for (int c = 0; c < C; c++) {
                ck_assert_double_eq(x->channel_mean[c], y->channel_mean[c]);
            }
        }
    }
    counts_at_once = false;
    ck_assert_uint_lt(plain.peak, arena.peak / 4); /* what it counts is most of the memory */
    qc_observer_drop_counts(last_observer);
    qd_arena_done(&plain);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(merge__no_histograms__bytes_of_the_whole_and_never_with_some)
{
    struct qd_arena arena;
    struct qc_statistics *both = NULL;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    struct qc_statistics *counted = observe(&arena, 1, 4, 9, SAMPLES - 9, 1.0);
    no_histograms = true;
    struct qc_statistics *whole = observe(&arena, 1, 4, 0, SAMPLES, 1.0);
    struct qc_statistics *a = observe(&arena, 2, 3, 0, 9, 1.0);
    struct qc_statistics *b = observe(&arena, 3, 5, 9, SAMPLES - 9, 1.0);
    no_histograms = false;
    ck_assert_int_eq(qc_statistics_merge(b, a, &arena, &both, NULL), QD_OK);
    same_bytes(&arena, both, whole);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(qc_statistics_merge(i == 0 ? a : counted, i == 0 ? counted : a, &arena,
                                             &both, &err),
                         QD_INVALID);
        ck_assert_str_eq(err.subject, "image");
        ck_assert_ptr_nonnull(strstr(err.message, "with a histogram and without one"));
    }
    qd_arena_done(&arena);
}
END_TEST

START_TEST(read__written_without_histograms__the_same_again)
{
    struct qd_arena arena;
    struct qd_bytes bytes;
    struct qc_statistics *read = NULL;
    struct qd_error err;
    qd_arena_init(&arena, 0);
    no_histograms = true;
    struct qc_statistics *s = observe(&arena, 2, 4, 0, SAMPLES, 0.99);
    no_histograms = false;
    ck_assert_int_eq(qc_statistics_write(s, &arena, &bytes, NULL), QD_OK);
    ck_assert(memcmp(bytes.data, "quantd statistics 3\n", 20) == 0);
    ck_assert_msg(qc_statistics_read(bytes, &arena, &read, &err) == QD_OK, "%s", err.message);
    same_bytes(&arena, s, read);
    ck_assert(!qc_statistics_have_histograms(read));
    read_spoiled(bytes);
    uint8_t *copy = malloc(bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    for (char version = '1'; version <= '2'; version++) { /* what follows is no histogram */
        copy[18] = (uint8_t)version;
        ck_assert_int_eq(qc_statistics_read((struct qd_bytes){copy, bytes.size}, &arena, &read,
                                            &err),
                         QD_INVALID);
    }
    free(copy);
    qd_arena_done(&arena);
}
END_TEST

START_TEST(end_batch__nan__names_tensor_and_sample)
{
    struct qd_arena arena;
    struct qd_error err;
    struct qc_observed tensor = {"x", {1, {3}}, -1};
    struct qc_observer_options options = {1, 2, 2, 1, 1, 0, &kernels, false, false};
    struct qc_observer *o = NULL;
    float good[3] = {1, 2, 3}, bad[3] = {1, NAN, 3};
    struct qc_view view = {.data = good, .dtype = QC_F32, .shape = {1, {3}}};
    qd_arena_init(&arena, 0);
    ck_assert_int_eq(qc_observer_new(&tensor, 1, &options, &arena, &o, NULL), QD_OK);
    ck_assert_int_eq(qc_observer_end_pass1(o, &err), QD_INVALID);
    qc_observer_pass1(o, 0, 0, 0, &view);
    view.data = bad;
    qc_observer_pass1(o, 0, 0, 1, &view);
    ck_assert_int_eq(qc_observer_end_batch(o, 2, 40, &err), QD_INVALID);
    ck_assert_str_eq(err.subject, "x");
    ck_assert_ptr_nonnull(strstr(err.message, "sample 41"));
    qd_arena_done(&arena);
}
END_TEST

START_TEST(observe__any_channel_axis__sums_of_that_axis)
{
    static float store[STORED];
    static const int dims[4] = {1, C, H, W};
    int axis = _i - 1; /* -1: none */
    struct qc_observed tensor = {"image", {4, {1, C, H, W}}, axis};
    struct qc_observer_options options = {1, 1, 1, 1, 1, 0, &kernels, false, false};
    struct qd_arena arena;
    struct qc_observer *o = NULL;
    struct qc_statistics *s = NULL;
    struct qc_view view;
    double sum = 0, channel[8] = {0};
    for (int i = 0; i < N; i++) {
        int at[4] = {0, i % C, i / C / W, i / C % W};
        sum += (double)value(0, i);
        channel[axis < 0 ? 0 : at[axis]] += (double)value(0, i);
    }
    qd_arena_init(&arena, 0);
    nhwc(0, store, &view);
    ck_assert_int_eq(qc_observer_new(&tensor, 1, &options, &arena, &o, NULL), QD_OK);
    qc_observer_pass1(o, 0, 0, 0, &view);
    ck_assert_int_eq(qc_observer_end_batch(o, 1, 0, NULL), QD_OK);
    ck_assert_int_eq(qc_observer_end_pass1(o, NULL), QD_OK);
    qc_observer_pass2(o, 0, 0, &view);
    ck_assert_int_eq(qc_observer_end_pass2(o, &s, NULL), QD_OK);
    ck_assert_double_eq_tol(s->tensors[0].mean, sum / N, 1e-12);
    ck_assert_int_eq(s->tensors[0].n_channels, axis < 0 ? 0 : dims[axis]);
    for (int c = 0; c < s->tensors[0].n_channels; c++) {
        ck_assert_double_eq_tol(s->tensors[0].channel_mean[c], channel[c] * dims[axis] / N, 1e-12);
    }
    qd_arena_done(&arena);
}
END_TEST

Suite *test_calib_observer_suite(void);
Suite *test_calib_observer_suite(void)
{
    Suite *s = suite_create("test_calib_observer");
    TCase *c = tcase_create("observer");
    qc_kernels_init(&kernels, qc_isa_detect());
    tcase_add_test(c, observe__border_and_padding__never_read_and_sums_right);
    tcase_add_test(c, observe__any_threads_and_batch__same_bytes);
    tcase_add_loop_test(c, observe__any_channel_axis__sums_of_that_axis, 0, 5);
    tcase_add_test(c, observe__channels__maximum_squares_and_non_zeros);
    tcase_add_test(c, drop_counts__after_pass_2__memory_returned_means_stay);
    tcase_add_test(c, merge__parts_of_any_size__bytes_of_the_whole);
    tcase_add_test(c, read__written_statistics__the_same_again);
    tcase_add_test(c, observe__no_histograms__the_rest_is_the_same);
    tcase_add_test(c, merge__no_histograms__bytes_of_the_whole_and_never_with_some);
    tcase_add_test(c, read__written_without_histograms__the_same_again);
    tcase_add_test(c, end_batch__nan__names_tensor_and_sample);
    suite_add_tcase(s, c);
    return s;
}
