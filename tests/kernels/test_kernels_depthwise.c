/* Depthwise kernels of every instruction set that this CPU has, against `_ref`. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "quantcore/kernels/qc_kernels.h"
#include "tests/kernels/kernel_data.h"

enum { MAX_TAPS = 25, MAX_CHANNELS = 130, PADDED = 192, MAX_PIXELS = 19, MAX_ROWS = 3, GUARD = 8 };
enum { IN = (64 + 2 * 9) * MAX_CHANNELS + 64 };
enum { OUT = GUARD + (MAX_ROWS * (MAX_PIXELS + 1) + 1) * (MAX_CHANNELS + GUARD) };

static const int channel_counts[] = {1,  3,  7,  8,  9,  15, 16, 17, 24, 31, 32,
                                     33, 47, 48, 63, 64, 65, 96, 127, 128, 129};
static const int pixel_counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 19};
static const int tap_counts[] = {1, 2, 3, 8, 9, 25};

struct geometry {
    int channels, n_rows, n_pixels, n_taps, in_pixels_step;
    bool columns; /* 3 x 3 taps, quads by columns */
    int32_t tap[MAX_TAPS];
};

static void make_geometry(struct geometry *g, int channels, int n_pixels)
{
    g->channels = channels;
    g->n_rows = 1 + (int)(data_next() % MAX_ROWS);
    g->n_pixels = n_pixels;
    g->columns = false;
    g->n_taps = tap_counts[data_next() % QD_COUNT_OF(tap_counts)];
    g->in_pixels_step = 1 + (int)(data_next() % 2);
    for (int t = 0; t < MAX_TAPS; t++) {
        g->tap[t] = (int32_t)(data_next() % 24) * channels;
    }
}

/* A kernel of 3 x 3 over rows of 7 pixels, stride 1 or 2. */
static void make_columns(struct geometry *g, int channels, int n_pixels)
{
    make_geometry(g, channels, n_pixels);
    g->columns = true;
    g->n_taps = 9;
    for (int t = 0; t < 9; t++) {
        g->tap[t] = (t / 3 * 7 + t % 3) * channels;
    }
}

static void check_f32(enum qc_isa isa, const struct geometry *g, enum data_kind kind, float lo,
                      float hi)
{
    static float in[IN], w[MAX_TAPS * PADDED], bias[PADDED], want[OUT], got[OUT];
    struct qc_kernels ref, k;
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, isa);
    data_f32(in, IN, kind);
    data_f32(w, MAX_TAPS * PADDED, DATA_PLAIN);
    data_f32(bias, PADDED, DATA_PLAIN);
    for (int i = 0; i < OUT; i++) {
        want[i] = got[i] = -77.25f;
    }
    struct qc_depthwise_f32 d = {.in = in, .n_rows = g->n_rows, .in_row = 9 * g->channels,
                                 .out_row = (MAX_PIXELS + 1) * (g->channels + GUARD),
                                 .n_pixels = g->n_pixels,
                                 .in_step = g->in_pixels_step * g->channels,
                                 .out_step = g->channels + GUARD, .tap = g->tap,
                                 .n_taps = g->n_taps, .channels = g->channels,
                                 .channels_padded = (g->channels + 63) / 64 * 64, .weights = w,
                                 .bias = bias, .lo = lo, .hi = hi};
    d.out = want + GUARD;
    ref.depthwise_f32(&d);
    d.out = got + GUARD;
    k.depthwise_f32(&d);
    data_same_f32(got, want, OUT, "depthwise_f32 pixels %d, taps %d, channels %d", g->n_pixels,
                  g->n_taps, g->channels);
}

START_TEST(depthwise_f32__every_width__same_bits_as_ref)
{
    struct geometry g;
    for (size_t c = 0; c < QD_COUNT_OF(channel_counts); c++) {
        for (size_t p = 0; p < QD_COUNT_OF(pixel_counts); p++) {
            make_geometry(&g, channel_counts[c], pixel_counts[p]);
            bool relu6 = data_next() % 2 == 0;
            check_f32((enum qc_isa)_i, &g, p % 5 == 4 ? DATA_SPECIAL : DATA_PLAIN,
                      relu6 ? 0.0f : -INFINITY, relu6 ? 6.0f : INFINITY);
        }
    }
}
END_TEST

struct s8_case {
    enum data_kind kind;
    bool to_u8, ties, narrow;
    int32_t zero_point, y_min, y_max;
};

static const struct s8_case s8_cases[] = {
    {DATA_PLAIN, true, false, false, 128, 0, 255},   {DATA_EXTREME, true, false, false, 3, 0, 255},
    {DATA_PLAIN, true, true, false, 128, 0, 255},    {DATA_PLAIN, true, true, false, 100, 100, 255},
    {DATA_EXTREME, true, true, false, 255, 17, 201}, {DATA_PLAIN, true, false, true, 128, 0, 255},
    {DATA_EXTREME, true, false, true, 3, 0, 255},    {DATA_PLAIN, true, true, true, 100, 100, 255},
    {DATA_EXTREME, true, true, true, 255, 17, 201},  {DATA_PLAIN, true, true, true, 0, 0, 255},
    {DATA_PLAIN, false, false, false, 0, 0, 0},      {DATA_EXTREME, false, true, true, 0, 0, 0},
    {DATA_EXTREME, true, false, true, 0, 0, 255},    {DATA_PLAIN, true, false, true, 0, 0, 254},
};

static void check_s8(enum qc_isa isa, const struct geometry *g, const struct s8_case *sc)
{
    static uint8_t in[IN];
    static int16_t w[MAX_TAPS * PADDED];
    static int8_t quads[(MAX_TAPS + 3) * PADDED];
    static int32_t bias[PADDED];
    static float multiplier[PADDED], want[OUT], got[OUT];
    struct qc_kernels ref, k;
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, isa);
    data_u8(in, IN, sc->kind);
    const int most = sc->narrow ? 127 : 255; /* a code, or a code minus its zero point */
    for (int i = 0; i < MAX_TAPS * PADDED; i++) {
        w[i] = (int16_t)(sc->kind == DATA_EXTREME && data_next() % 4 != 0
                             ? (data_next() % 2 == 0 ? most : -most - sc->narrow)
                             : (int)(data_next() % (unsigned)(2 * most + 1)) - most);
    }
    data_requant(multiplier, bias, PADDED, sc->ties);
    memset(want, 0xa5, sizeof(want));
    memset(got, 0xa5, sizeof(got));
    struct qc_depthwise_s8 d = {.in = in, .n_rows = g->n_rows, .in_row = 9 * g->channels,
                                .out_row = (MAX_PIXELS + 1) * (g->channels + GUARD),
                                .n_pixels = g->n_pixels,
                                .in_step = g->in_pixels_step * g->channels,
                                .out_step = g->channels + GUARD, .tap = g->tap,
                                .n_taps = g->n_taps, .channels = g->channels,
                                .channels_padded = (g->channels + 63) / 64 * 64, .weights = w,
                                .bias = bias, .multiplier = multiplier,
                                .y_zero_point = sc->zero_point, .y_min = sc->y_min,
                                .y_max = sc->y_max, .lo = sc->ties ? 0.0f : -INFINITY,
                                .hi = sc->ties ? 6.0f : INFINITY};
    d.out_u8 = sc->to_u8 ? (uint8_t *)want + GUARD : NULL;
    d.out_f32 = sc->to_u8 ? NULL : want + GUARD;
    ref.depthwise_s8(&d);
    int32_t order[MAX_TAPS + 3];
    qc_quads_order(g->n_taps, g->columns, order);
    bool fits = qc_pack_quads(w, order, qc_quads(g->n_taps), d.channels_padded, quads);
    ck_assert(fits || !sc->narrow);
    for (int i = 0; i < 4 * qc_quads(g->n_taps); i++) {
        order[i] = g->tap[order[i] < 0 ? 0 : order[i]];
    }
    d.quads = fits ? quads : NULL;
    d.quad_tap = order;
    d.n_quads = qc_quads(g->n_taps);
    d.column_step = g->columns ? g->channels : 0;
    d.out_u8 = sc->to_u8 ? (uint8_t *)got + GUARD : NULL;
    d.out_f32 = sc->to_u8 ? NULL : got + GUARD;
    k.depthwise_s8(&d);
    data_same_u8((uint8_t *)got, (uint8_t *)want, sizeof(got),
                 "depthwise_s8 pixels %d, taps %d, channels %d", g->n_pixels, g->n_taps,
                 g->channels);
}

START_TEST(depthwise_s8__every_width_and_form__same_bytes_as_ref)
{
    struct geometry g;
    for (size_t c = 0; c < QD_COUNT_OF(channel_counts); c++) {
        for (size_t p = 0; p < QD_COUNT_OF(pixel_counts); p++) {
            make_geometry(&g, channel_counts[c], pixel_counts[p]);
            check_s8((enum qc_isa)_i, &g, &s8_cases[data_next() % QD_COUNT_OF(s8_cases)]);
            make_columns(&g, channel_counts[c], pixel_counts[p]);
            check_s8((enum qc_isa)_i, &g, &s8_cases[data_next() % QD_COUNT_OF(s8_cases)]);
        }
    }
    for (size_t s = 0; s < QD_COUNT_OF(s8_cases); s++) {
        for (size_t t = 0; t < QD_COUNT_OF(tap_counts); t++) {
            make_geometry(&g, 129, 19);
            g.n_taps = tap_counts[t];
            check_s8((enum qc_isa)_i, &g, &s8_cases[s]);
        }
    }
}
END_TEST

START_TEST(qc_pack_quads__places_and_nine_bits)
{
    static int16_t w[9 * 64];
    static int8_t quads[12 * 64];
    int32_t natural[12], columns[12];
    qc_quads_order(9, false, natural);
    qc_quads_order(9, true, columns);
    ck_assert_int_eq(natural[8], 8);
    ck_assert_int_eq(natural[9], -1);
    ck_assert_int_eq(columns[4 + 2], 7); /* column 1, row 2 */
    ck_assert_int_eq(columns[4 + 3], -1);
    w[7 * 64 + 21] = -128;
    ck_assert(qc_pack_quads(w, columns, 3, 64, quads));
    ck_assert_int_eq(quads[256 + 1 * 64 + (1 * 4 + 1) * 4 + 2], -128);
    ck_assert(qc_pack_quads(w, natural, 3, 64, quads));
    ck_assert_int_eq(quads[256 + 1 * 64 + (1 * 4 + 1) * 4 + 3], -128);
    w[7 * 64 + 21] = 128;
    ck_assert(!qc_pack_quads(w, natural, 3, 64, quads));
}
END_TEST

Suite *test_kernels_depthwise_suite(void);
Suite *test_kernels_depthwise_suite(void)
{
    Suite *suite = suite_create("kernels_depthwise");
    TCase *tc = tcase_create("against_ref");
    tcase_set_timeout(tc, 60);
    data_against_ref(tc, depthwise_f32__every_width__same_bits_as_ref);
    data_against_ref(tc, depthwise_s8__every_width_and_form__same_bytes_as_ref);
    tcase_add_test(tc, qc_pack_quads__places_and_nine_bits);
    suite_add_tcase(suite, tc);
    return suite;
}
