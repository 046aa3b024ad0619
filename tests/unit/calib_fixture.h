/* Data and statistics without an observer, for the tests of calibrators. */
#ifndef TEST_CALIB_FIXTURE_H
#define TEST_CALIB_FIXTURE_H

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/calib/calibrator.h"

static const struct qc_search DEFAULTS = {.min_percentile = 1,
                                          .max_percentile = 1,
                                          .start = 0.3,
                                          .end = 1.7,
                                          .step = 0.01,
                                          .bins = 150};

/* Deterministic noise: uniform in [0, 1), and something bell-shaped. */
static uint32_t seed;
static inline float uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(seed >> 8) / 16777216.0f;
}
static inline float bell(void)
{
    float s = 0;
    for (int i = 0; i < 6; i++) {
        s += uniform() - 0.5f;
    }
    return s;
}

enum shape { GAUSSIAN, RELU, BIMODAL, SPIKE, HEAVY, SHAPE_COUNT };
static const char *const shape_names[SHAPE_COUNT] QD_UNUSED = {
    "gaussian", "one-sided relu", "bimodal", "spike at 0", "heavy tail"};

static inline float draw(enum shape shape)
{
    float v = bell();
    if (shape == GAUSSIAN) {
        return v;
    } else if (shape == RELU) {
        return v > 0 ? v : 0;
    } else if (shape == BIMODAL) {
        return 0.3f * v + (uniform() < 0.3f ? -2.0f : 1.5f);
    } else if (shape == SPIKE) {
        return uniform() < 0.7f ? 0 : 1.5f * v;
    }
    return -logf(1.0f - uniform()) - 0.4f;
}
static inline void fill(float *x, size_t n, enum shape shape, uint32_t with_seed)
{
    seed = with_seed;
    for (size_t i = 0; i < n; i++) {
        x[i] = draw(shape);
    }
}

/* Statistics of n values, tails of length k. */
static inline void describe(struct qc_tensor_statistics *t, const float *x, size_t n, uint64_t k,
                            struct qd_arena *arena)
{
    memset(t, 0, sizeof(*t));
    t->name = "t";
    t->min = INFINITY;
    t->max = -INFINITY;
    t->count = n;
    for (size_t i = 0; i < n; i++) {
        double v = (double)x[i]; /* fmin is an internal error of gcc 12 for aarch64 */
        t->min = v < t->min ? v : t->min;
        t->max = v > t->max ? v : t->max;
    }
    ck_assert_int_eq(qc_tail_init(&t->smallest, true, k, arena, NULL), QD_OK);
    ck_assert_int_eq(qc_tail_init(&t->largest, false, k, arena, NULL), QD_OK);
    qc_tail_add(&t->smallest, x, n);
    qc_tail_add(&t->largest, x, n);
    ck_assert_int_eq(qc_histogram_init(&t->fine, t->min, t->max, QC_FINE_BINS, arena, NULL),
                     QD_OK);
    qc_histogram_count(&t->fine, x, n);
}

static inline struct qc_range calibrate(const struct qc_tensor_statistics *t,
                                        enum qc_calibrator c, const struct qc_search *search)
{
    struct qc_range range;
    struct qd_error err;
    ck_assert_msg(qc_calibrate(t, c, search, &range, &err) == QD_OK, "%s", err.message);
    return range;
}

#endif
