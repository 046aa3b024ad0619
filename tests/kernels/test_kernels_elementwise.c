/* Elementwise and reducing kernels of every instruction set that this CPU has, against `_ref`:
 * every length up to a few vectors, misaligned, in place, with guard bytes on both sides. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/kernels/qc_kernels.h"
#include "tests/kernels/kernel_data.h"

enum { LONGEST = 200, GUARD = 8, SIZE = GUARD + LONGEST + 64 };

static float fa[SIZE], fb[SIZE], fwant[SIZE], fgot[SIZE];
static uint8_t ua[SIZE], ub[SIZE], uwant[SIZE], ugot[SIZE];
static struct qc_kernels ref, k;

static void prepare(int isa, enum data_kind f32_kind)
{
    qc_kernels_init(&ref, QC_ISA_REF);
    qc_kernels_init(&k, (enum qc_isa)isa);
    data_f32(fa, SIZE, f32_kind);
    data_f32(fb, SIZE, f32_kind);
    data_f32(fwant, SIZE, f32_kind);
    memcpy(fgot, fwant, sizeof(fgot));
    data_u8(ua, SIZE, DATA_PLAIN);
    data_u8(ub, SIZE, data_next() % 2 ? DATA_PLAIN : DATA_EXTREME);
    data_u8(uwant, SIZE, DATA_PLAIN);
    memcpy(ugot, uwant, sizeof(ugot));
}

enum { MAX_TAPS = 9 };

/* Offsets that stay inside the buffers behind which n elements are read; gives their number. */
static int make_taps(int32_t tap[MAX_TAPS], size_t n)
{
    int n_taps = 1 + (int)(data_next() % MAX_TAPS);
    for (int t = 0; t < n_taps; t++) {
        tap[t] = (int32_t)(data_next() % (LONGEST + 1 - n));
    }
    return n_taps;
}

#define SAME_F32(name) data_same_f32(fgot, fwant, SIZE, "%s, n %zu", name, n)
#define SAME_U8(name) data_same_u8(ugot, uwant, SIZE, "%s, n %zu", name, n)

START_TEST(f32_to_f32__every_length__same_bits_as_ref)
{
    int32_t tap[MAX_TAPS];
    for (size_t n = 0; n <= LONGEST; n++) {
        size_t at = GUARD - data_next() % 4;
        enum data_kind kind = n % 3 == 2 ? DATA_SPECIAL : DATA_PLAIN;
        prepare(_i, kind);
        ref.add_f32(fa + at, fb + at, fwant + at, n);
        k.add_f32(fa + at, fb + at, fgot + at, n);
        SAME_F32("add_f32");
        ref.mul_f32(fa + at, fb + at, fwant + at, n);
        k.mul_f32(fa + at, fb + at, fgot + at, n);
        SAME_F32("mul_f32");
        ref.add_f32(fwant + at, fb + at, fwant + at, n);
        k.add_f32(fgot + at, fb + at, fgot + at, n);
        SAME_F32("add_f32 in place");
        prepare(_i, kind);
        int n_taps = make_taps(tap, n);
        ref.max_taps_f32(fa + at, tap, n_taps, fwant + at, n);
        k.max_taps_f32(fa + at, tap, n_taps, fgot + at, n);
        SAME_F32("max_taps_f32");
        ref.sum_f32(fa + at, fwant + at, n);
        k.sum_f32(fa + at, fgot + at, n);
        SAME_F32("sum_f32");
        ref.clamp_f32(fa + at, -0.5f, 6.0f, fwant + at, n);
        k.clamp_f32(fa + at, -0.5f, 6.0f, fgot + at, n);
        SAME_F32("clamp_f32");
        ref.clamp_f32(fa + at, 0.0f, INFINITY, fwant + at, n);
        k.clamp_f32(fa + at, 0.0f, INFINITY, fgot + at, n);
        SAME_F32("clamp_f32 to 0 and above");
    }
}
END_TEST

START_TEST(quantize_u8__every_length_ties_and_specials__same_bytes_as_ref)
{
    static const float scales[] = {0.5f, 0.03f, 1.0f, 1e-30f, 3e30f, 0.0078125f};
    static const int32_t zero_points[] = {0, 1, 100, 128, 254, 255};
    for (size_t n = 0; n <= LONGEST; n++) {
        size_t at = GUARD - data_next() % 4;
        float scale = scales[n % 6];
        int32_t zp = zero_points[data_next() % 6];
        prepare(_i, n % 3 == 2 ? DATA_SPECIAL : DATA_PLAIN);
        for (size_t i = 0; n % 3 == 1 && i < SIZE; i++) {
            fa[i] = scale * ((float)(int)(data_next() % 600) * 0.5f - 150.0f);
        }
        ref.quantize_u8(fa + at, scale, zp, uwant + at, n);
        k.quantize_u8(fa + at, scale, zp, ugot + at, n);
        SAME_U8("quantize_u8");
        ref.dequantize_u8(ua + at, scale, zp, fwant + at, n);
        k.dequantize_u8(ua + at, scale, zp, fgot + at, n);
        SAME_F32("dequantize_u8");
    }
}
END_TEST

START_TEST(quantize_pixels_u8__channels_and_lengths__same_bytes_as_ref)
{
    for (size_t n = 0; n <= 49; n++) { /* four planes of them fit */
        for (int channels = 2; channels <= 4; channels++) {
            size_t at = GUARD - data_next() % 4;
            int64_t plane = (int64_t)(n + data_next() % 3);
            int32_t zp = (int32_t)(data_next() % 256);
            prepare(_i, n % 2 ? DATA_SPECIAL : DATA_PLAIN);
            ref.quantize_pixels_u8(fa + at, plane, channels, 0.03f, zp, uwant + at, n);
            k.quantize_pixels_u8(fa + at, plane, channels, 0.03f, zp, ugot + at, n);
            SAME_U8("quantize_pixels_u8");
        }
    }
}
END_TEST

START_TEST(add_u8_mul_u8__every_length_and_ties__same_bytes_as_ref)
{
    static const struct qc_add_u8 adds[] = {
        {0.5f, 0.5f, 0.0f, 0, 0, 255},        {0.5f, 0.25f, -20.5f, 0, 0, 255},
        {1.7f, 0.3f, -100.1f, 0, 17, 200},    {0.013f, 3.9f, 128.0f, 0, 128, 255},
        {1e20f, -1e20f, 3.0f, 128, 0, 255},   {0.5f, 0.25f, -20.5f, 128, 0, 255},
        {1.7f, 0.3f, -100.1f, 128, 17, 200}};
    static const struct qc_mul_u8 muls[] = {
        {0, 0, 0.5f, 0, 0, 255}, {128, 128, 0.0078125f, 128, 0, 255}, {3, 250, 0.01f, 77, 77, 255},
        {255, 0, 0.0039f, 255, 10, 240}, {128, 0, 1e20f, 5, 0, 255}};
    for (size_t n = 0; n <= LONGEST; n++) {
        size_t at = GUARD - data_next() % 8;
        for (size_t c = 0; c < sizeof(adds) / sizeof(*adds); c++) {
            prepare(_i, DATA_PLAIN);
            ref.add_u8(ua + at, ub + at, &adds[c], uwant + at, n);
            k.add_u8(ua + at, ub + at, &adds[c], ugot + at, n);
            SAME_U8("add_u8");
        }
        for (size_t c = 0; c < sizeof(muls) / sizeof(*muls); c++) {
            prepare(_i, DATA_PLAIN);
            ref.mul_u8(ua + at, ub + at, &muls[c], uwant + at, n);
            k.mul_u8(ua + at, ub + at, &muls[c], ugot + at, n);
            SAME_U8("mul_u8");
        }
    }
}
END_TEST

START_TEST(add_u8_mul_u8__all_pairs_of_bytes__same_bytes_as_ref)
{
    static const struct qc_add_u8 add = {0.5f, 0.25f, -10.25f, 0, 3, 250};
    static const struct qc_mul_u8 mul = {128, 100, 0.015625f, 120, 3, 250};
    uint8_t a[256], b[256], want[256], got[256];
    prepare(_i, DATA_PLAIN);
    for (int x = 0; x < 256; x++) {
        for (int y = 0; y < 256; y++) {
            a[y] = (uint8_t)x;
            b[y] = (uint8_t)y;
        }
        ref.add_u8(a, b, &add, want, 256);
        k.add_u8(a, b, &add, got, 256);
        data_same_u8(got, want, 256, "add_u8 of %d and its index", x);
        ref.mul_u8(a, b, &mul, want, 256);
        k.mul_u8(a, b, &mul, got, 256);
        data_same_u8(got, want, 256, "mul_u8 of %d and its index", x);
    }
}
END_TEST

START_TEST(u8__every_length__same_bytes_as_ref)
{
    static int32_t want[SIZE], got[SIZE];
    uint8_t table[256];
    int32_t tap[MAX_TAPS];
    for (size_t n = 0; n <= LONGEST; n++) {
        size_t at = GUARD - data_next() % 8;
        prepare(_i, DATA_PLAIN);
        data_u8(table, sizeof(table), DATA_PLAIN);
        ref.lut_u8(ua + at, table, uwant + at, n);
        k.lut_u8(ua + at, table, ugot + at, n);
        SAME_U8("lut_u8");
        ref.lut_u8(uwant + at, table, uwant + at, n);
        k.lut_u8(ugot + at, table, ugot + at, n);
        SAME_U8("lut_u8 in place");
        int n_taps = make_taps(tap, n);
        ref.max_taps_u8(ub + at, tap, n_taps, uwant + at, n);
        k.max_taps_u8(ub + at, tap, n_taps, ugot + at, n);
        SAME_U8("max_taps_u8");
        for (size_t i = 0; i < SIZE; i++) {
            want[i] = got[i] = (int32_t)(data_next() % 2000000000) - 1000000000;
        }
        ref.sum_u8(ub + at, want + at, n);
        k.sum_u8(ub + at, got + at, n);
        data_same_u8((uint8_t *)got, (uint8_t *)want, sizeof(got), "sum_u8, n %zu", n);
    }
}
END_TEST

static void check_minmax(size_t at, size_t n)
{
    float want[2], got[2];
    bool want_finite, got_finite;
    ref.minmax_f32(fa + at, n, &want[0], &want[1], &want_finite);
    k.minmax_f32(fa + at, n, &got[0], &got[1], &got_finite);
    data_same_f32(got, want, 2, "minmax_f32, n %zu", n);
    if (got_finite != want_finite) {
        ck_abort_msg("minmax_f32, n %zu: finite is %d, not %d", n, got_finite, want_finite);
    }
}

START_TEST(minmax_f32__one_special_value_at_every_place__same_as_ref)
{
    static const float special[] = {NAN, INFINITY, -INFINITY, -0.0f, 0.0f, 9.0f, -9.0f};
    for (size_t n = 1; n <= 80; n++) {
        size_t at = GUARD - data_next() % 4;
        prepare(_i, DATA_PLAIN);
        check_minmax(at, n);
        for (size_t p = 0; p < n; p++) {
            float old = fa[at + p];
            fa[at + p] = special[(n + p) % QD_COUNT_OF(special)];
            check_minmax(at, n);
            fa[at + p] = old;
        }
        prepare(_i, DATA_SPECIAL);
        check_minmax(at, n);
        for (size_t p = 0; p < SIZE; p++) {
            fa[p] = data_next() % 2 ? -0.0f : 0.0f;
        }
        check_minmax(at, n);
        for (size_t p = 0; p < SIZE; p++) {
            fa[p] = NAN;
        }
        check_minmax(at, n);
    }
}
END_TEST

static void check_histogram(const float *x, size_t n, int32_t first, float inv_width, int n_bins)
{
    static uint32_t want[65536], got[65536];
    for (int i = 0; i < 65536; i++) {
        want[i] = got[i] = (uint32_t)data_next();
    }
    ref.histogram_f32(x, n, first, inv_width, n_bins, want);
    k.histogram_f32(x, n, first, inv_width, n_bins, got);
    data_same_u8((uint8_t *)got, (uint8_t *)want, sizeof(got), "histogram_f32, n %zu, bins %d", n,
                 n_bins);
}

START_TEST(histogram_f32__lengths_bins_and_outliers__same_counts_as_ref)
{
    static const int bin_counts[] = {1, 2, 128, 2047, 2048, 2049, 65536};
    enum { LONG = 20011 };
    float *x = malloc(LONG * sizeof(*x));
    ck_assert_ptr_nonnull(x);
    prepare(_i, DATA_PLAIN);
    data_f32(x, LONG, DATA_PLAIN);
    for (int i = 0; i < LONG; i += 97) {
        x[i] = i % 2 ? INFINITY : -1e30f;
    }
    for (size_t b = 0; b < QD_COUNT_OF(bin_counts); b++) {
        float inv_width = ldexpf(1.0f, ilogbf((float)bin_counts[b]) - 3);
        check_histogram(x, LONG, -bin_counts[b] / 2, inv_width, bin_counts[b]);
        check_histogram(x + 1, LONG - 1, 0, inv_width, bin_counts[b]);
        check_histogram(x + 1, LONG - 1, 8000000, inv_width, bin_counts[b]);
    }
    for (size_t n = 0; n <= 70; n++) {
        check_histogram(x + n % 5, n, -48, 16.0f, 100);
        check_histogram(x + n % 5, n, -7, 2.0f, 5);
    }
    for (int i = 0; i < LONG; i++) {
        x[i] = x[i] > 0.0f ? x[i] : 0.0f;
    }
    check_histogram(x, LONG, 0, 512.0f, 2048);
    for (int i = 0; i < LONG; i += 31) {
        x[i] = i % 2 ? NAN : -NAN;
    }
    check_histogram(x, LONG, -700, 512.0f, 2048);
    check_histogram(x, LONG, 3, 512.0f, 60000);
    /* without tables: zeros of both signs among the values, at every place of short runs */
    for (size_t n = 0; n <= 70; n++) {
        for (int i = 0; i < 70; i++) {
            x[i] = data_next() % 3 ? (float)(data_next() % 900) / 8.0f - 50.0f
                                   : (data_next() % 2 ? 0.0f : -0.0f);
        }
        check_histogram(x + n % 5, n, -300, 4.0f, 60000);
        check_histogram(x + n % 5, n, 17, 4.0f, 60000);
        check_histogram(x + n % 5, n, -60011, 4.0f, 60000);
    }
    memset(x, 0, LONG * sizeof(*x));
    check_histogram(x, LONG, -5, 4.0f, 60000);
    free(x);
}
END_TEST

/* A kernel that the ladder forgot would pass every comparison with `_ref`. */
START_TEST(kernels_init__each_isa__no_ref_left)
{
    prepare(_i, DATA_PLAIN);
    ck_assert_int_eq(k.isa, _i);
    ck_assert(k.tile_f32 != ref.tile_f32);
    ck_assert(k.tile_s8 != ref.tile_s8);
    ck_assert(k.depthwise_f32 != ref.depthwise_f32);
    ck_assert(k.depthwise_s8 != ref.depthwise_s8);
    ck_assert(k.add_f32 != ref.add_f32);
    ck_assert(k.mul_f32 != ref.mul_f32);
    ck_assert(k.clamp_f32 != ref.clamp_f32);
    ck_assert(k.quantize_u8 != ref.quantize_u8);
    ck_assert(k.quantize_pixels_u8 != ref.quantize_pixels_u8);
    ck_assert(k.dequantize_u8 != ref.dequantize_u8);
    ck_assert(k.lut_u8 != ref.lut_u8);
    ck_assert(k.add_u8 != ref.add_u8);
    ck_assert(k.mul_u8 != ref.mul_u8);
    ck_assert(k.max_taps_f32 != ref.max_taps_f32);
    ck_assert(k.max_taps_u8 != ref.max_taps_u8);
    ck_assert(k.sum_f32 != ref.sum_f32);
    ck_assert(k.sum_u8 != ref.sum_u8);
    ck_assert(k.minmax_f32 != ref.minmax_f32);
    ck_assert(k.histogram_f32 != ref.histogram_f32);
    struct qc_kernels below;
    qc_kernels_init(&below, (enum qc_isa)(_i - 1));
    ck_assert(k.tile_s8 != below.tile_s8 && k.depthwise_s8 != below.depthwise_s8);
}
END_TEST

Suite *test_kernels_elementwise_suite(void);
Suite *test_kernels_elementwise_suite(void)
{
    Suite *suite = suite_create("kernels_elementwise");
    TCase *tc = tcase_create("against_ref");
    tcase_set_timeout(tc, 60);
    data_against_ref(tc, f32_to_f32__every_length__same_bits_as_ref);
    data_against_ref(tc, quantize_u8__every_length_ties_and_specials__same_bytes_as_ref);
    data_against_ref(tc, quantize_pixels_u8__channels_and_lengths__same_bytes_as_ref);
    data_against_ref(tc, add_u8_mul_u8__every_length_and_ties__same_bytes_as_ref);
    data_against_ref(tc, add_u8_mul_u8__all_pairs_of_bytes__same_bytes_as_ref);
    data_against_ref(tc, u8__every_length__same_bytes_as_ref);
    data_against_ref(tc, minmax_f32__one_special_value_at_every_place__same_as_ref);
    data_against_ref(tc, histogram_f32__lengths_bins_and_outliers__same_counts_as_ref);
    data_against_ref(tc, kernels_init__each_isa__no_ref_left);
    suite_add_tcase(suite, tc);
    return suite;
}
