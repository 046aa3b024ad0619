/* A view in strips and runs, and counts beyond 32 bits. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/counting.h"
#include "quantcore/calib/view_runs.h"

/* ---- strips and runs ---------------------------------------------------------------------- */

struct layout {
    int channels, height, width, pad, pixel_stride;
};

static const struct layout layouts[] = {
    {96, 30, 40, 0, 96},    /* one run: rows lie one behind the other */
    {96, 7, 112, 1, 96},    /* a border */
    {24, 9, 500, 1, 32},    /* padding between the pixels: packed, in several parts */
    {3, 1, 6000, 0, 3},     /* more pixels than a strip has */
    {9000, 3, 20, 0, 9008}, /* more channels than are packed, more pixels than 16 */
    {1, 1, 1, 2, 1},
};

/* Element i of the interior, in the order of memory, is i; all others are NaN. */
static float *fill(const struct layout *l, struct qc_view *view)
{
    int row = (l->width + 2 * l->pad) * l->pixel_stride, rows = l->height + 2 * l->pad;
    float *store = malloc((size_t)(rows * row) * sizeof(*store)), next = 0;
    ck_assert_ptr_nonnull(store);
    for (int i = 0; i < rows * row; i++) {
        store[i] = NAN;
    }
    *view = (struct qc_view){.dtype = QC_F32, .layout = QC_NHWC,
                             .shape = {4, {1, l->channels, l->height, l->width}},
                             .pixel_stride = l->pixel_stride, .row_stride = row,
                             .image_stride = rows * row};
    view->data = store + l->pad * row + l->pad * l->pixel_stride;
    for (int h = 0; h < l->height; h++) {
        for (int w = 0; w < l->width; w++) {
            for (int c = 0; c < l->channels; c++) {
                ((float *)view->data)[h * row + w * l->pixel_stride + c] = next++;
            }
        }
    }
    return store;
}

struct seen {
    size_t channels, n, largest;
};

static void see_run(void *ctx, const float *x, size_t n)
{
    struct seen *s = ctx;
    for (size_t i = 0; i < n; i++, s->n++) {
        ck_assert_msg(x[i] == (float)s->n, "value %zu is %g", s->n, (double)x[i]);
    }
}

static void see_strip(void *ctx, const float *x, int64_t step, size_t n_pixels)
{
    struct seen *s = ctx;
    s->largest = n_pixels > s->largest ? n_pixels : s->largest;
    for (size_t p = 0; p < n_pixels; p++) {
        see_run(ctx, x + (int64_t)p * step, s->channels);
    }
}

START_TEST(strips_and_runs__each_layout__every_value_once_in_order)
{
    const struct layout *l = &layouts[_i];
    struct qc_view view;
    float *store = fill(l, &view);
    struct seen strips = {(size_t)l->channels, 0, 0}, runs = {0};
    size_t all = (size_t)(l->channels * l->height * l->width);
    qc_view_for_each_strip(&view, see_strip, &strips);
    qc_view_for_each_run(&view, see_run, &runs);
    ck_assert_uint_eq(strips.n, all);
    ck_assert_uint_eq(runs.n, all);
    ck_assert_msg(strips.largest <= 16 || strips.largest * (size_t)l->channels <= 8192,
                  "%zu pixels of %d channels", strips.largest, l->channels);
    free(store);
}
END_TEST

/* ---- counts ------------------------------------------------------------------------------- */

static struct qc_kernels plain;

/* Many values of bin 0 without having them. */
static void pretend_histogram(const float *x, size_t n, int32_t first, float inv_width, int n_bins,
                              uint32_t *counts)
{
    if (n <= QC_VALUES_SLOTS) {
        plain.histogram_f32(x, n, first, inv_width, n_bins, counts);
    } else {
        counts[0] += (uint32_t)n;
    }
}

START_TEST(counting__more_of_a_bin_than_32_bits_count__all_of_them)
{
    static float ramp[QC_VALUES_SLOTS];
    const uint64_t times = 5, part = (uint64_t)1 << 31, all = times * part + 2 * QC_VALUES_SLOTS;
    struct qd_arena arena;
    struct qc_counting *c = NULL;
    struct qd_error err;
    struct qc_kernels kernels;
    struct qc_tensor_statistics s = {.name = "x", .min = 0, .max = QC_VALUES_SLOTS, .count = all};
    qd_arena_init(&arena, 0);
    qc_kernels_init(&plain, QC_ISA_REF);
    kernels = plain;
    kernels.histogram_f32 = pretend_histogram;
    ck_assert_int_eq(qc_counting_new(all, 1, &kernels, &arena, &c, &err), QD_OK);
    for (int i = 0; i < QC_VALUES_SLOTS; i++) {
        ramp[i] = (float)i;
    }
    qc_counting_add(c, 0, ramp, QC_VALUES_SLOTS, 0, QC_VALUES_SLOTS - 1);
    for (uint64_t i = 0; i < times; i++) {
        qc_counting_add(c, 0, ramp, part, 0, QC_VALUES_SLOTS - 1);
    }
    /* and once more after the bins have become wider */
    qc_counting_add(c, 0, ramp, QC_VALUES_SLOTS, 0, 4 * QC_VALUES_SLOTS);
    s.max = 4 * QC_VALUES_SLOTS;
    ck_assert_msg(qc_counting_end(c, &arena, &s, &err) == QD_OK, "%s", err.message);
    ck_assert_uint_eq(qc_histogram_total(&s.fine), all);
    ck_assert_uint_eq(s.fine.counts[0], times * part + 2 * (uint64_t)s.fine.width);
    qd_arena_done(&arena);
}
END_TEST

Suite *test_counting_suite(void);
Suite *test_counting_suite(void)
{
    Suite *s = suite_create("test_counting");
    TCase *c = tcase_create("counting");
    tcase_add_loop_test(c, strips_and_runs__each_layout__every_value_once_in_order, 0,
                        (int)QD_COUNT_OF(layouts));
    tcase_add_test(c, counting__more_of_a_bin_than_32_bits_count__all_of_them);
    suite_add_tcase(s, c);
    return s;
}
