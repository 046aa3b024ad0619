/* Every convolution kernel of every instruction set that this CPU has, against `_ref`: the whole
 * output buffer must be the same, thus also the guard bytes around each result. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "quantcore/kernels/qc_kernels.h"
#include "tests/kernels/kernel_data.h"

enum { MAX_TAPS = 9, MAX_CHANNELS = 76, PIXELS = 64, STRIDE = 48, GUARD = 8 };
enum { IN = PIXELS * MAX_CHANNELS + 64, W = MAX_TAPS * MAX_CHANNELS * QC_NR };
enum { OUT = GUARD + (QC_MAX_ROWS + 1) * STRIDE };

struct shape {
    int n_taps, channels;
};
static const struct shape shapes[] = {{1, 1}, {1, 4}, {1, 13}, {9, 3}, {4, 16}, {9, 40}, {2, 33}, {9, 76}};
static const int32_t no_gap[MAX_TAPS];
static const int out_counts[] = {1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32};

/* Pixels start anywhere, so that loads are misaligned; taps stay inside the buffer. */
static void make_addresses(int n_taps, int channels, int32_t *tap, size_t *start)
{
    for (int t = 0; t < n_taps; t++) {
        tap[t] = (int32_t)(data_next() % (PIXELS / 2)) * channels;
    }
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        start[r] = data_next() % (size_t)(PIXELS / 2 * channels - channels + 1);
    }
}

/* Some of the taps in their order, at least one, as at a border: compacts tap and gives their
 * number, the first of them and what lies between their weights. */
static int some_taps(int n_taps, int tap_size, int32_t *tap, int32_t *gap, int *ret_first)
{
    int n = 0, last = 0, kept = (int)(data_next() % (uint64_t)n_taps);
    bool all = data_next() % 2 == 0;
    for (int t = 0; t < n_taps; t++) {
        if (!all && t != kept && data_next() % 2 == 0) {
            continue;
        }
        if (n == 0) {
            *ret_first = t;
        } else {
            gap[n - 1] = (t - last - 1) * tap_size;
        }
        last = t;
        gap[n] = 0;
        tap[n++] = tap[t];
    }
    return n;
}

static void run_f32(qc_tile_f32_fn *fn, struct qc_tile_f32 t, float *out, const float *expected)
{
    float *rows[QC_MAX_ROWS];
    for (int i = 0; i < OUT; i++) {
        out[i] = -77.25f;
    }
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = out + GUARD + r * STRIDE;
    }
    t.out = rows;
    fn(&t);
    if (expected != NULL) {
        data_same_f32(out, expected, OUT, "tile_f32 rows %d, taps %d, channels %d, n_out %d",
                      t.n_rows, t.n_taps, t.channels, t.n_out);
    }
}

static void check_tile_f32(enum qc_isa isa, const struct shape *s, int n_rows, int n_out,
                           enum data_kind kind, float lo, float hi)
{
    static float in[IN], w[W], packed[W], bias[QC_NR], want[OUT], got[OUT];
    int32_t tap[MAX_TAPS], gap[MAX_TAPS];
    size_t start[QC_MAX_ROWS];
    const float *rows[QC_MAX_ROWS];
    struct qc_kernels ref, k;
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, isa);
    n_out = n_out < k.panel_f32 ? n_out : k.panel_f32;
    data_f32(in, IN, kind);
    data_f32(w, W, DATA_PLAIN);
    memset(bias, 0, sizeof(bias));
    data_f32(bias, (size_t)n_out, DATA_PLAIN);
    make_addresses(s->n_taps, s->channels, tap, start);
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = in + start[r];
    }
    qc_pack_f32(w, n_out, s->channels, s->n_taps, k.panel_f32, packed);
    int first = 0, tap_size = s->channels * k.panel_f32;
    int n_taps = some_taps(s->n_taps, tap_size, tap, gap, &first);
    struct qc_tile_f32 t = {.row = rows, .n_rows = n_rows, .tap = tap, .gap = gap,
                            .n_taps = n_taps, .channels = s->channels,
                            .panel = k.panel_f32, .weights = packed + first * tap_size,
                            .bias = bias, .n_out = n_out,
                            .lo = lo, .hi = hi, .far = data_next() % 2 == 0};
    run_f32(ref.tile_f32, t, want, NULL);
    run_f32(k.tile_f32, t, got, want);
}

START_TEST(tile_f32__every_row_count_and_width__same_bits_as_ref)
{
    for (size_t s = 0; s < QD_COUNT_OF(shapes); s++) {
        for (size_t o = 0; o < QD_COUNT_OF(out_counts); o++) {
            for (int r = 1; r <= QC_MAX_ROWS; r++) {
                bool relu6 = data_next() % 2 == 0;
                check_tile_f32((enum qc_isa)_i, &shapes[s], r, out_counts[o], DATA_PLAIN,
                               relu6 ? 0.0f : -INFINITY, relu6 ? 6.0f : INFINITY);
            }
        }
    }
}
END_TEST

START_TEST(tile_f32__nan_inf_denormal__same_as_ref)
{
    for (int r = 1; r <= QC_MAX_ROWS; r++) {
        check_tile_f32((enum qc_isa)_i, &shapes[1], r, 32, DATA_SPECIAL, -INFINITY, INFINITY);
        check_tile_f32((enum qc_isa)_i, &shapes[0], r, 19, DATA_SPECIAL, 0.0f, 6.0f);
    }
}
END_TEST

static void run_s8(qc_tile_s8_fn *fn, struct qc_tile_s8 t, bool to_u8, uint8_t *out,
                   const uint8_t *expected)
{
    uint8_t *rows_u8[QC_MAX_ROWS];
    float *rows_f32[QC_MAX_ROWS];
    memset(out, 0xa5, OUT * sizeof(float));
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows_u8[r] = out + GUARD + r * STRIDE;
        rows_f32[r] = (float *)out + GUARD + r * STRIDE;
    }
    t.out_u8 = to_u8 ? rows_u8 : NULL;
    t.out_f32 = to_u8 ? NULL : rows_f32;
    fn(&t);
    if (expected != NULL) {
        data_same_u8(out, expected, OUT * sizeof(float),
                     "tile_s8 rows %d, taps %d, channels %d, n_out %d", t.n_rows, t.n_taps,
                     t.channels, t.n_out);
    }
}

/* What one s8 case varies beside its shape. */
struct s8_case {
    enum data_kind kind;
    bool to_u8, ties;
    int32_t zero_point, y_min, y_max;
};

/* As k's tile takes them, from the tap `first` on. */
static void pack_taps(const struct qc_kernels *k, const int8_t *w, int n_out, const struct shape *s,
                      int first, int8_t *packed, struct qc_tile_s8 *t)
{
    qc_pack_s8(w, n_out, s->channels, s->n_taps, k->s8_together, packed);
    t->channels = (s->channels + k->s8_together - 1) / k->s8_together * k->s8_together;
    t->weights = packed + first * t->channels * QC_NR;
}

static void check_tile_s8(enum qc_isa isa, const struct shape *s, int n_rows, int n_out,
                          const struct s8_case *sc)
{
    static uint8_t in[IN];
    static int8_t w[W], packed[W + 4 * MAX_TAPS * QC_NR];
    static int16_t wide[IN];
    static float want[OUT], got[OUT];
    float multiplier[QC_NR];
    int32_t tap[MAX_TAPS], bias[QC_NR];
    size_t start[QC_MAX_ROWS];
    const uint8_t *rows[QC_MAX_ROWS];
    const int16_t *wide_rows[QC_MAX_ROWS];
    struct qc_kernels ref, k;
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, isa);
    data_u8(in, IN, sc->kind);
    data_u8((uint8_t *)w, W, sc->kind);
    data_requant(multiplier, bias, QC_NR, sc->ties);
    make_addresses(s->n_taps, s->channels, tap, start);
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = in + start[r];
        wide_rows[r] = wide + start[r];
    }
    struct qc_tile_s8 t = {.row = rows, .n_rows = n_rows, .tap = tap, .n_taps = s->n_taps,
                           .weights = packed,
                           .bias = bias, .n_out = n_out, .multiplier = multiplier,
                           .y_zero_point = sc->zero_point, .y_min = sc->y_min,
                           .y_max = sc->y_max, .lo = sc->ties ? 0.0f : -INFINITY,
                           .hi = sc->ties ? 6.0f : INFINITY};
    int32_t sums[QC_MAX_ROWS], zero_points[QC_NR];
    for (int i = 0; i < QC_NR; i++) {
        zero_points[i] = (int32_t)(data_next() % 256) - 128;
        sums[i % QC_MAX_ROWS] = (int32_t)(uint32_t)data_next();
    }
    int first = 0;
    if (data_next() % 2 == 0) { /* part of the taps, as at a border */
        first = (int)(data_next() % (uint64_t)s->n_taps);
        t.n_taps = 1 + (int)(data_next() % (uint64_t)(s->n_taps - first));
        t.tap += first;
    }
    bool asymmetric = data_next() % 2 == 0;
    t.row_sum = asymmetric ? sums : NULL;
    t.w_zero_point = asymmetric ? zero_points : NULL;
    pack_taps(&ref, w, n_out, s, first, packed, &t);
    run_s8(ref.tile_s8, t, sc->to_u8, (uint8_t *)want, NULL);
    pack_taps(&k, w, n_out, s, first, packed, &t);
    run_s8(k.tile_s8, t, sc->to_u8, (uint8_t *)got, (uint8_t *)want);
    if (k.widen_u8 != NULL) {
        k.widen_u8(in, wide, IN);
        t.wide_row = wide_rows;
        t.row = NULL;
        run_s8(k.tile_s8, t, sc->to_u8, (uint8_t *)got, (uint8_t *)want);
    }
}

static const struct s8_case s8_cases[] = {
    {DATA_PLAIN, true, false, 128, 0, 255},  {DATA_EXTREME, true, false, 3, 0, 255},
    {DATA_PLAIN, true, true, 128, 0, 255},   {DATA_PLAIN, true, true, 0, 0, 255},
    {DATA_PLAIN, true, true, 100, 100, 255}, {DATA_EXTREME, true, false, 255, 17, 201},
    {DATA_PLAIN, false, false, 0, 0, 0},     {DATA_EXTREME, false, true, 0, 0, 0},
    {DATA_EXTREME, true, false, 0, 0, 255},  {DATA_PLAIN, true, false, 0, 0, 254},
};

START_TEST(tile_s8__every_row_count_and_width__same_bytes_as_ref)
{
    for (size_t s = 0; s < QD_COUNT_OF(shapes); s++) {
        for (size_t o = 0; o < QD_COUNT_OF(out_counts); o++) {
            for (int r = 1; r <= QC_MAX_ROWS; r++) {
                size_t c = data_next() % QD_COUNT_OF(s8_cases);
                check_tile_s8((enum qc_isa)_i, &shapes[s], r, out_counts[o], &s8_cases[c]);
            }
        }
    }
}
END_TEST

START_TEST(tile_s8__every_output_form__same_bytes_as_ref)
{
    for (size_t c = 0; c < QD_COUNT_OF(s8_cases); c++) {
        for (int r = 1; r <= QC_MAX_ROWS; r++) {
            check_tile_s8((enum qc_isa)_i, &shapes[1], r, 32, &s8_cases[c]);
            check_tile_s8((enum qc_isa)_i, &shapes[5], r, 21, &s8_cases[c]);
        }
    }
}
END_TEST

/* Packing and `_ref` against sums written down directly from ONNX's [n_out][channels][taps]. */
START_TEST(pack_s8__every_shape__tile_is_the_direct_convolution)
{
    static uint8_t in[IN];
    static int8_t w[2 * W], packed[2 * W + 8 * MAX_TAPS * QC_NR];
    enum { N_OUT = 45 };
    struct qc_kernels k;
    qc_kernels_init(&k, (enum qc_isa)_i);
    for (size_t s = 0; s < QD_COUNT_OF(shapes); s++) {
        int n_taps = shapes[s].n_taps, channels = shapes[s].channels;
        int32_t tap[MAX_TAPS], bias[QC_NR] = {0};
        size_t start[QC_MAX_ROWS];
        float one[QC_NR], y[QC_NR];
        data_u8(in, IN, DATA_PLAIN);
        data_u8((uint8_t *)w, sizeof(w), DATA_PLAIN);
        make_addresses(n_taps, channels, tap, start);
        qc_pack_s8(w, N_OUT, channels, n_taps, k.s8_together, packed);
        for (int o = 0; o < QC_NR; o++) {
            one[o] = 1.0f;
        }
        for (int o = 0; o < N_OUT; o++) {
            const uint8_t *row = in + start[0];
            float *out = y;
            int panel = o / QC_NR;
            struct qc_tile_s8 t = {.row = &row, .n_rows = 1, .tap = tap, .n_taps = n_taps,
                                   .channels = (channels + k.s8_together - 1) / k.s8_together * k.s8_together,
                                   .bias = bias,
                                   .n_out = panel == 0 ? QC_NR : N_OUT - QC_NR, .out_f32 = &out,
                                   .multiplier = one, .lo = -INFINITY, .hi = INFINITY};
            int32_t sums, zero_point[QC_NR];
            for (int i = 0; i < QC_NR; i++) {
                zero_point[i] = 8 * i - 128;
            }
            k.sum_taps_u8(&row, 1, tap, n_taps, channels, &sums);
            t.row_sum = o % 2 == 0 ? NULL : &sums;
            t.w_zero_point = o % 2 == 0 ? NULL : zero_point;
            t.weights = packed + (size_t)panel * qc_packed_panel_s8(n_taps, channels);
            k.tile_s8(&t);
            long sum = 0;
            for (int c = 0; c < channels; c++) {
                for (int i = 0; i < n_taps; i++) {
                    int z = o % 2 == 0 ? 0 : zero_point[o % QC_NR];
                    sum += row[tap[i] + c] * (w[(o * channels + c) * n_taps + i] - z);
                }
            }
            if (y[o % QC_NR] != (float)sum) {
                ck_abort_msg("channel %d of shape %zu: %g, not %ld", o, s,
                             (double)y[o % QC_NR], sum);
            }
        }
    }
}
END_TEST

START_TEST(pack_f32__every_shape__tile_is_the_direct_convolution)
{
    static float in[IN], w[2 * W], packed[2 * W];
    enum { N_OUT = 45 };
    struct qc_kernels k;
    qc_kernels_init(&k, (enum qc_isa)_i);
    for (size_t s = 0; s < QD_COUNT_OF(shapes); s++) {
        int n_taps = shapes[s].n_taps, channels = shapes[s].channels;
        int32_t tap[MAX_TAPS];
        size_t start[QC_MAX_ROWS];
        float bias[QC_NR], y[QC_NR];
        data_f32(in, IN, DATA_PLAIN);
        data_f32(w, 2 * W, DATA_PLAIN);
        data_f32(bias, QC_NR, DATA_PLAIN);
        make_addresses(n_taps, channels, tap, start);
        qc_pack_f32(w, N_OUT, channels, n_taps, k.panel_f32, packed);
        for (int o = 0; o < N_OUT; o++) {
            const float *row = in + start[0];
            float *out = y;
            int panel = o / k.panel_f32, left = N_OUT - panel * k.panel_f32;
            struct qc_tile_f32 t = {.row = &row, .n_rows = 1, .tap = tap,
                                    .gap = no_gap, .n_taps = n_taps,
                                    .channels = channels, .panel = k.panel_f32, .bias = bias,
                                    .out = &out,
                                    .n_out = left < k.panel_f32 ? left : k.panel_f32,
                                    .lo = -INFINITY, .hi = INFINITY};
            t.weights = packed + (size_t)panel * qc_packed_panel_f32(n_taps, channels, k.panel_f32);
            k.tile_f32(&t);
            /* in the order that the header promises: to the bit */
            float sum = bias[o % k.panel_f32];
            for (int i = 0; i < n_taps; i++) {
                for (int c = 0; c < channels; c++) {
                    sum = fmaf(row[tap[i] + c], w[(o * channels + c) * n_taps + i], sum);
                }
            }
            if (y[o % k.panel_f32] != sum) {
                ck_abort_msg("channel %d of shape %zu: %a, not %a", o, s,
                             (double)y[o % k.panel_f32], (double)sum);
            }
        }
    }
}
END_TEST

START_TEST(isa_from_name__names_and_others__found_or_refused)
{
    enum qc_isa isa = QC_ISA_COUNT;
    for (int i = 0; i < QC_ISA_COUNT; i++) {
        ck_assert(qc_isa_from_name(qc_isa_name((enum qc_isa)i), &isa));
        ck_assert_int_eq(isa, i);
    }
    isa = QC_ISA_AVX2;
    ck_assert(!qc_isa_from_name("", &isa));
    ck_assert(!qc_isa_from_name("avx", &isa));
    ck_assert(!qc_isa_from_name("avx5122", &isa));
    ck_assert_int_eq(isa, QC_ISA_AVX2);
}
END_TEST

START_TEST(kernels_init__isa_that_is_not_there__next_lower_one)
{
    for (int i = 0, below = 0; i < QC_ISA_COUNT; i++) {
        struct qc_kernels k;
        below = qc_isa_supported((enum qc_isa)i) ? i : below;
        qc_kernels_init(&k, (enum qc_isa)i);
        ck_assert_int_eq(k.isa, below);
        ck_assert(i < QC_ISA_COUNT - 1 || (int)qc_isa_detect() == below);
    }
}
END_TEST

Suite *test_kernels_suite(void);
Suite *test_kernels_suite(void)
{
    Suite *suite = suite_create("kernels");
    TCase *tc = tcase_create("against_ref");
    tcase_set_timeout(tc, 60);
    data_against_ref(tc, tile_f32__every_row_count_and_width__same_bits_as_ref);
    data_against_ref(tc, tile_f32__nan_inf_denormal__same_as_ref);
    data_against_ref(tc, tile_s8__every_row_count_and_width__same_bytes_as_ref);
    data_against_ref(tc, tile_s8__every_output_form__same_bytes_as_ref);
    data_every_isa(tc, pack_s8__every_shape__tile_is_the_direct_convolution);
    data_every_isa(tc, pack_f32__every_shape__tile_is_the_direct_convolution);
    tcase_add_test(tc, kernels_init__isa_that_is_not_there__next_lower_one);
    tcase_add_test(tc, isa_from_name__names_and_others__found_or_refused);
    suite_add_tcase(suite, tc);
    return suite;
}
