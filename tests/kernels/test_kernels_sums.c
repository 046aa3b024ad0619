/* Kernels that sum in double, of every instruction set that this CPU has, against `_ref`: the
 * same bits for every length. What they read ends where an unmapped page begins, so that a read
 * beyond the last element ends the test; what they write has guards. */
#include <check.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "quantcore/kernels/qc_kernels.h"
#include "tests/kernels/kernel_data.h"

static struct qc_kernels ref, k;

static void prepare(int isa)
{
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, (enum qc_isa)isa);
}

/* The end of a page behind which nothing may be read. */
static void *new_end(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(p != MAP_FAILED);
    ck_assert_int_eq(mprotect(p + page, page, PROT_NONE), 0);
    return p + page;
}

static void same_f64(const double *got, const double *want, size_t n, const char *what, size_t at)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof(*got)) != 0 && !(isnan(got[i]) && isnan(want[i]))) {
            ck_abort_msg("%s, case %zu: sum %zu is %a, not %a", what, at, i, got[i], want[i]);
        }
    }
}

/* ---- error ---------------------------------------------------------------------------------- */

struct guarded_sums {
    double before;
    struct qc_error_sums sums;
    double after;
};

static struct guarded_sums new_sums(void)
{
    struct guarded_sums s = {.before = 1.25, .after = 2.5, .sums = {.saturated = 7}};
    for (int i = 0; i < QC_SUM_LANES; i++) {
        s.sums.signal[i] = 1.0 + i;
        s.sums.noise[i] = 0.1 * i;
        s.sums.dot[i] = 3.0 - i;
        s.sums.max_error[i] = 0.25 * i;
    }
    return s;
}

static void check_error(const struct qc_error *e, bool is_u8, size_t at)
{
    struct guarded_sums want = new_sums(), got = want;
    (is_u8 ? ref.error_u8 : ref.error_f32)(e, &want.sums);
    (is_u8 ? k.error_u8 : k.error_f32)(e, &got.sums);
    same_f64(got.sums.signal, want.sums.signal, QC_SUM_LANES, "signal", at);
    same_f64(got.sums.noise, want.sums.noise, QC_SUM_LANES, "noise", at);
    same_f64(got.sums.dot, want.sums.dot, QC_SUM_LANES, "dot", at);
    same_f64(got.sums.energy, want.sums.energy, QC_SUM_LANES, "energy", at);
    same_f64(got.sums.max_error, want.sums.max_error, QC_SUM_LANES, "max_error", at);
    ck_assert_uint_eq(got.sums.saturated, want.sums.saturated);
    ck_assert(got.before == 1.25 && got.after == 2.5);
}

enum { ROWS = 4, LONGEST = 45, GAP = 3 };

/* Both operands end at their pages' ends. */
static struct qc_error rows_of(float *x_end, void *y_end, size_t n, size_t n_rows, bool is_u8)
{
    size_t x_step = n + n % GAP, y_step = n + n_rows % GAP;
    struct qc_error e = {
        .x_step = (int64_t)x_step, .y_step = (int64_t)y_step, .n_rows = n_rows, .n = n};
    e.x = x_end - (n_rows > 0 ? x_step * (n_rows - 1) + n : 0);
    size_t y_size = n_rows > 0 ? y_step * (n_rows - 1) + n : 0;
    if (is_u8) {
        e.y_u8 = (uint8_t *)y_end - y_size;
    } else {
        e.y_f32 = (float *)y_end - y_size;
    }
    return e;
}

START_TEST(error_f32__every_length_and_rows__same_bits_as_ref)
{
    enum { SIZE = ROWS * (LONGEST + GAP) };
    float *x = new_end(), *y = new_end();
    prepare(_i);
    for (size_t n = 0; n <= LONGEST; n++) {
        for (size_t rows = 0; rows <= ROWS; rows++) {
            enum data_kind kind = (n + rows) % 4 == 3 ? DATA_SPECIAL : DATA_PLAIN;
            data_f32(x - SIZE, SIZE, kind);
            data_f32(y - SIZE, SIZE, kind);
            struct qc_error e = rows_of(x, y, n, rows, false);
            check_error(&e, false, n);
        }
    }
}
END_TEST

START_TEST(error_u8__every_length_and_saturation__same_bits_as_ref)
{
    enum { SIZE = ROWS * (LONGEST + GAP) };
    static const int32_t zero_points[] = {0, 1, 128, 254, 255};
    float *x = new_end();
    uint8_t *q = new_end();
    uint64_t saturated = 0;
    prepare(_i);
    for (size_t n = 0; n <= LONGEST; n++) {
        for (size_t rows = 0; rows <= ROWS; rows++) {
            data_f32(x - SIZE, SIZE, (n + rows) % 4 == 3 ? DATA_SPECIAL : DATA_PLAIN);
            data_u8(q - SIZE, SIZE, n % 2 ? DATA_EXTREME : DATA_PLAIN);
            struct qc_error e = rows_of(x, q, n, rows, true);
            e.scale = n % 3 == 0 ? 0.0123f : 1e-30f;
            e.zero_point = zero_points[(n + rows) % QD_COUNT_OF(zero_points)];
            e.lo = n % 5 == 0 ? -1e30f : -0.5f;
            e.hi = n % 7 == 0 ? 1e30f : 1.5f;
            check_error(&e, true, n);
            struct qc_error_sums s = {.saturated = 0};
            ref.error_u8(&e, &s);
            saturated += s.saturated;
        }
    }
    ck_assert_uint_gt(saturated, 100); /* or nothing was tested there */
}
END_TEST

START_TEST(error_u8__known_values__sums_as_defined)
{
    static const float x[10] = {0, 1, -2, 3, -4, 5, -6, 7, 10, -9};
    static const uint8_t q[10] = {100, 102, 96, 106, 0, 255, 88, 114, 120, 255};
    struct qc_error e = {.x = x,
                         .y_u8 = q,
                         .n_rows = 1,
                         .n = 10,
                         .scale = 0.5f,
                         .zero_point = 100,
                         .lo = -3.5f,
                         .hi = 4.5f};
    struct qc_error_sums s = {.saturated = 0};
    prepare(_i);
    k.error_u8(&e, &s);
    ck_assert_double_eq(s.signal[0], 100.0); /* 0 and 10 */
    ck_assert_double_eq(s.signal[1], 82.0);  /* 1 and -9 */
    ck_assert_double_eq(s.noise[0], 0.0);
    ck_assert_double_eq(s.noise[1], 86.5 * 86.5);
    ck_assert_double_eq(s.dot[0], 200.0);
    ck_assert_double_eq(s.energy[1], 4.0 + 155.0 * 155.0);
    ck_assert_double_eq(s.max_error[4], 46.0); /* -4 and -50 */
    ck_assert_double_eq(s.max_error[5], 72.5); /* 5 and 77.5 */
    ck_assert_uint_eq(s.saturated, 2);         /* -4 at code 0, 5 at 255; -9 at 255 is no end */
}
END_TEST

/* ---- channels ------------------------------------------------------------------------------- */

enum { CHANNELS = LONGEST, M_GUARD = 3, M_SIZE = CHANNELS + 2 * M_GUARD };

/* Arrays of every channel with guards on both sides; what is in them is part of the result. */
struct channel_data {
    double sum[M_SIZE], squares[M_SIZE];
    uint64_t n_nonzero[M_SIZE];
    float min[M_SIZE], max[M_SIZE];
};

static void start_channels(struct channel_data *d, bool fresh)
{
    for (int i = 0; i < M_SIZE; i++) {
        d->sum[i] = fresh ? 0.0 : 0.3 * i;
        d->squares[i] = fresh ? 0.0 : 1.0 / (1 + i);
        d->n_nonzero[i] = fresh ? 0 : (uint64_t)i << 40;
        d->min[i] = fresh ? INFINITY : -0.01f * (float)i;
        d->max[i] = fresh ? -INFINITY : 0.02f * (float)i;
    }
}

static struct qc_channel_sums channels_of(struct channel_data *d)
{
    return (struct qc_channel_sums){d->sum + M_GUARD, d->squares + M_GUARD,
                                    d->n_nonzero + M_GUARD, d->min + M_GUARD, d->max + M_GUARD};
}

static void same_channels(const struct channel_data *got, const struct channel_data *want,
                          const char *what, size_t n)
{
    same_f64(got->sum, want->sum, M_SIZE, what, n);
    same_f64(got->squares, want->squares, M_SIZE, what, n);
    data_same_u8((const uint8_t *)got->n_nonzero, (const uint8_t *)want->n_nonzero,
                 sizeof(want->n_nonzero), "%s: n_nonzero, n %zu", what, n);
    data_same_f32(got->min, want->min, M_SIZE, "%s: min, n %zu", what, n);
    data_same_f32(got->max, want->max, M_SIZE, "%s: max, n %zu", what, n);
}

/* The rows end at the page's end. */
static void check_channels(const float *end, size_t n, size_t rows, bool fresh)
{
    static struct channel_data want, got;
    struct qc_channel_sums w = channels_of(&want), g = channels_of(&got);
    size_t step = n + n % GAP;
    const float *x = end - (rows > 0 ? step * (rows - 1) + n : 0);
    start_channels(&want, fresh);
    start_channels(&got, fresh);
    ref.channels_across_f32(x, (int64_t)step, rows, n, &w);
    k.channels_across_f32(x, (int64_t)step, rows, n, &g);
    same_channels(&got, &want, "across", n);
    start_channels(&want, fresh);
    start_channels(&got, fresh);
    ref.channels_along_f32(x, (int64_t)step, rows, n, &w);
    k.channels_along_f32(x, (int64_t)step, rows, n, &g);
    same_channels(&got, &want, "along", n);
}

START_TEST(channels_f32__every_length_and_rows__same_bits_as_ref)
{
    enum { SIZE = ROWS * (LONGEST + GAP) };
    float *x = new_end();
    prepare(_i);
    for (size_t n = 0; n <= LONGEST; n++) {
        for (size_t rows = 0; rows <= ROWS; rows++) {
            data_f32(x - SIZE, SIZE, (n + rows) % 4 == 3 ? DATA_SPECIAL : DATA_PLAIN);
            check_channels(x, n, rows, n % 2 == 0);
            for (int i = -SIZE; i < 0; i++) { /* as after a ReLU, with both zeros */
                x[i] = x[i] > 0.0f ? x[i] : i % 3 ? 0.0f : -0.0f;
            }
            check_channels(x, n, rows, rows % 2 == 0);
            for (int i = -SIZE; i < 0; i++) {
                x[i] = i % 5 ? -0.0f : 0.0f;
            }
            check_channels(x, n, rows, true);
        }
    }
}
END_TEST

START_TEST(channels_f32__one_value_not_finite__sum_not_finite)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static struct channel_data d;
    struct qc_channel_sums m = channels_of(&d);
    float x[LONGEST];
    prepare(_i);
    for (size_t at = 0; at < LONGEST; at++) {
        data_f32(x, LONGEST, DATA_PLAIN);
        start_channels(&d, true);
        k.channels_along_f32(x, LONGEST, 1, LONGEST, &m);
        ck_assert(isfinite(m.sum[0]));
        x[at] = bad[at % QD_COUNT_OF(bad)];
        start_channels(&d, true);
        k.channels_along_f32(x, LONGEST, 1, LONGEST, &m);
        ck_assert(!isfinite(m.sum[0]));
        start_channels(&d, true);
        k.channels_across_f32(x, LONGEST, 1, LONGEST, &m);
        for (size_t c = 0; c < LONGEST; c++) {
            ck_assert((isfinite(m.sum[c]) != 0) == (c != at));
        }
    }
}
END_TEST

START_TEST(channels_f32__known_values__as_defined)
{
    static const float x[12] = {1, -2, 0, 4, 5, 6, 1e8f, 8, -9, -0.0f, 3, -1e8f};
    static struct channel_data d;
    struct qc_channel_sums m = channels_of(&d);
    prepare(_i);
    start_channels(&d, true);
    k.channels_across_f32(x, 4, 3, 3, &m); /* the fourth of each row belongs to nobody */
    ck_assert(m.sum[0] == -3.0 && m.squares[0] == 107.0 && m.n_nonzero[0] == 3);
    ck_assert(m.min[0] == -9.0f && m.max[0] == 5.0f && m.min[1] == -2.0f && m.max[1] == 6.0f);
    ck_assert(m.n_nonzero[1] == 2 && m.n_nonzero[2] == 2 && m.sum[2] == 1e8 + 3.0);
    ck_assert(m.min[2] == 0.0f && !signbit(m.min[2]) && m.sum[3] == 0.0);
    start_channels(&d, true);
    k.channels_along_f32(x, 12, 1, 12, &m);
    ck_assert(m.sum[0] == 16.0 && m.squares[0] == 2e16 + 236.0 && m.n_nonzero[0] == 10);
    ck_assert(m.min[0] == -1e8f && m.max[0] == 1e8f && m.n_nonzero[1] == 0);
}
END_TEST

START_TEST(kernels_init__each_isa__no_ref_left)
{
    prepare(_i);
    ck_assert(k.channels_across_f32 != ref.channels_across_f32);
    ck_assert(k.channels_along_f32 != ref.channels_along_f32);
    ck_assert(k.error_f32 != ref.error_f32);
    ck_assert(k.error_u8 != ref.error_u8);
}
END_TEST

Suite *test_kernels_sums_suite(void);
Suite *test_kernels_sums_suite(void)
{
    Suite *suite = suite_create("kernels_sums");
    TCase *tc = tcase_create("against_ref");
    tcase_set_timeout(tc, 60);
    data_against_ref(tc, error_f32__every_length_and_rows__same_bits_as_ref);
    data_against_ref(tc, error_u8__every_length_and_saturation__same_bits_as_ref);
    data_every_isa(tc, error_u8__known_values__sums_as_defined);
    data_against_ref(tc, channels_f32__every_length_and_rows__same_bits_as_ref);
    data_every_isa(tc, channels_f32__one_value_not_finite__sum_not_finite);
    data_every_isa(tc, channels_f32__known_values__as_defined);
    data_against_ref(tc, kernels_init__each_isa__no_ref_left);
    suite_add_tcase(suite, tc);
    return suite;
}
