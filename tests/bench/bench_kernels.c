/* Throughput of the kernels of every instruction set that this CPU has. Tiles stand beside the
 * peak: multiply-adds on registers alone, with the same instructions. One core, best of several
 * rounds. Usage: bench_kernels [--check]: tiles alone, 1 when one is below its floor. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/kernels/qc_kernels.h"
#include "tests/bench/peaks.h"

enum { TAPS = 9, CHANNELS = 64, PIXELS = 64, N = 4096, BINS = 2048 };

static volatile float sink;
#define ALIGNED static _Alignas(64)
ALIGNED float f32_in[PIXELS * CHANNELS];
ALIGNED float f32_w[TAPS * CHANNELS * QC_NR];
ALIGNED float f32_out[PIXELS * CHANNELS];
ALIGNED uint8_t u8_in[PIXELS * CHANNELS];
ALIGNED uint8_t u8_out[PIXELS * CHANNELS];
ALIGNED int16_t s16_in[PIXELS * CHANNELS];
ALIGNED int8_t s8_w[TAPS * CHANNELS * QC_NR];
ALIGNED int16_t s16_w[TAPS * CHANNELS];
ALIGNED int8_t quads[12 * CHANNELS];
static int32_t quad_taps[12]; /* three columns */
ALIGNED float f32_bias[CHANNELS];
ALIGNED float multiplier[CHANNELS];
ALIGNED int32_t s32_bias[CHANNELS];
static const int32_t no_gap[TAPS];
static int32_t taps[TAPS] = {0,
                             CHANNELS,
                             2 * CHANNELS,
                             8 * CHANNELS,
                             9 * CHANNELS,
                             10 * CHANNELS,
                             16 * CHANNELS,
                             17 * CHANNELS,
                             18 * CHANNELS};
ALIGNED float fa[N], fb[N];
ALIGNED uint8_t ua[N], ub[N], table[256];
static uint32_t counts[BINS];

/* ---- kernels --------------------------------------------------------------------------------
 */
static void run_tile_f32(const struct qc_kernels *k)
{
    const float *rows[QC_MAX_ROWS];
    float *out[QC_MAX_ROWS];
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = f32_in + r * CHANNELS;
        out[r] = f32_out + r * CHANNELS;
    }
    struct qc_tile_f32 t = {.row = rows,
                            .out = out,
                            .n_rows = k->tile_rows_f32,
                            .tap = taps,
                            .gap = no_gap,
                            .n_taps = TAPS,
                            .channels = CHANNELS,
                            .panel = k->panel_f32,
                            .weights = f32_w,
                            .bias = f32_bias,
                            .n_out = k->panel_f32,
                            .lo = 0.0f,
                            .hi = INFINITY};
    k->tile_f32(&t);
}

static void run_tile_s8(const struct qc_kernels *k)
{
    const uint8_t *rows[QC_MAX_ROWS];
    const int16_t *wide_rows[QC_MAX_ROWS];
    uint8_t *out[QC_MAX_ROWS];
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = u8_in + r * CHANNELS;
        wide_rows[r] = s16_in + r * CHANNELS;
        out[r] = u8_out + r * CHANNELS;
    }
    struct qc_tile_s8 t = {.row = rows,
                           .wide_row = k->widen_u8 != NULL ? wide_rows : NULL,
                           .n_rows = k->tile_rows_s8,
                           .tap = taps,
                           .n_taps = TAPS,
                           .channels = CHANNELS,
                           .weights = s8_w,
                           .bias = s32_bias,
                           .n_out = QC_NR,
                           .out_u8 = out,
                           .multiplier = multiplier,
                           .y_zero_point = 100,
                           .y_min = 100,
                           .y_max = 255};
    k->tile_s8(&t);
}

static void run_depthwise_f32(const struct qc_kernels *k)
{
    struct qc_depthwise_f32 d = {.in = f32_in,
                                 .out = f32_out,
                                 .n_rows = 1,
                                 .n_pixels = 32,
                                 .in_step = CHANNELS,
                                 .out_step = CHANNELS,
                                 .tap = taps,
                                 .n_taps = TAPS,
                                 .channels = CHANNELS,
                                 .channels_padded = CHANNELS,
                                 .weights = f32_w,
                                 .bias = f32_bias,
                                 .lo = 0.0f,
                                 .hi = INFINITY};
    k->depthwise_f32(&d);
}

static void run_depthwise_s8(const struct qc_kernels *k)
{
    struct qc_depthwise_s8 d = {.in = u8_in,
                                .out_u8 = u8_out,
                                .n_rows = 1,
                                .n_pixels = 32,
                                .in_step = CHANNELS,
                                .out_step = CHANNELS,
                                .tap = taps,
                                .n_taps = TAPS,
                                .channels = CHANNELS,
                                .channels_padded = CHANNELS,
                                .weights = s16_w,
                                .quads = quads,
                                .quad_tap = quad_taps,
                                .n_quads = qc_quads(TAPS),
                                .column_step = CHANNELS,
                                .bias = s32_bias,
                                .multiplier = multiplier,
                                .y_zero_point = 100,
                                .y_max = 255};
    k->depthwise_s8(&d);
}

static void run_quantize(const struct qc_kernels *k)
{
    k->quantize_u8(fa, 0.03f, 100, u8_out, N);
}

static void run_dequantize(const struct qc_kernels *k)
{
    k->dequantize_u8(ua, 0.03f, 100, f32_out, N);
}

static void run_lut(const struct qc_kernels *k)
{
    k->lut_u8(ua, table, u8_out, N);
}

static void run_add_u8(const struct qc_kernels *k)
{
    static const struct qc_add_u8 p = {0.7f, 0.4f, -10.0f, 0, 0, 255};
    k->add_u8(ua, ub, &p, u8_out, N);
}

static void run_mul_u8(const struct qc_kernels *k)
{
    static const struct qc_mul_u8 p = {100, 3, 0.01f, 128, 0, 255};
    k->mul_u8(ua, ub, &p, u8_out, N);
}

static void run_add_f32(const struct qc_kernels *k)
{
    k->add_f32(fa, fb, f32_out, N);
}

static void run_max_taps_u8(const struct qc_kernels *k)
{
    k->max_taps_u8(u8_in, taps, TAPS, u8_out, CHANNELS);
}

static void run_minmax(const struct qc_kernels *k)
{
    float lo, hi;
    bool finite;
    k->minmax_f32(fa, N, &lo, &hi, &finite);
    sink = lo + hi;
}

static void run_histogram(const struct qc_kernels *k)
{
    k->histogram_f32(fa, N, -BINS / 8, BINS / 32.0f, BINS / 4, counts);
}

static void fill(void)
{
    uint32_t state = 12345;
    for (int i = 0; i < N; i++) {
        state = state * 1664525U + 1013904223U;
        fa[i] = (float)(state >> 8) / 2097152.0f - 4.0f;
        fb[i] = -fa[i];
        ua[i] = (uint8_t)(state >> 24);
        ub[i] = (uint8_t)(state >> 16);
    }
    for (int i = 0; i < 256; i++) {
        table[i] = (uint8_t)(255 - i);
    }
    for (int i = 0; i < TAPS * CHANNELS * QC_NR; i++) {
        f32_w[i] = fa[i % N] * 0.1f;
        s8_w[i] = (int8_t)ua[i % N];
        s16_w[i % (TAPS * CHANNELS)] = s8_w[i];
    }
    qc_quads_order(TAPS, true, quad_taps);
    if (!qc_pack_quads(s16_w, quad_taps, qc_quads(TAPS), CHANNELS, quads)) {
        abort(); /* they are s8 */
    }
    for (int i = 0; i < 12; i++) {
        quad_taps[i] = taps[quad_taps[i] < 0 ? 0 : quad_taps[i]];
    }
    memcpy(f32_in, fa, sizeof(f32_in));
    memcpy(u8_in, ua, sizeof(u8_in));
    for (int i = 0; i < PIXELS * CHANNELS; i++) {
        s16_in[i] = u8_in[i];
    }
    for (int i = 0; i < CHANNELS; i++) {
        multiplier[i] = 0.0001f;
    }
}

/* The share of its CPU's peak below which a tile is broken: a compiler that spills accumulators
 * costs half. On a quiet machine they reach 0.83 to 0.95. */
static const double floor_f32[QC_ISA_COUNT] = {
    [QC_ISA_AVX2] = 0.75, [QC_ISA_AVXVNNI] = 0.75, [QC_ISA_AVX512] = 0.75};
static const double floor_s8[QC_ISA_COUNT] = {
    [QC_ISA_AVX2] = 0.70, [QC_ISA_AVXVNNI] = 0.70, [QC_ISA_AVX512] = 0.75};
enum { ATTEMPTS = 5 };

/* Measured again when it is low: something else may have taken the CPU's clock or caches. */
static bool report_tile(const struct qc_kernels *k, bool s8)
{
    int rows = s8 ? k->tile_rows_s8 : k->tile_rows_f32;
    double ops = 2.0 * TAPS * CHANNELS * (s8 ? QC_NR : k->panel_f32) * rows;
    double least = (s8 ? floor_s8 : floor_f32)[k->isa], gops = 0.0, best = 0.0;
    for (int i = 0; i < ATTEMPTS && (i == 0 || gops < least * best); i++) {
        best = bench_peak(k->isa, s8);
        gops = ops / bench_time_of(s8 ? run_tile_s8 : run_tile_f32, k) * 1e-9;
    }
    printf("  tile_%s        %8.1f GOP/s", s8 ? "s8 " : "f32", gops);
    if (best > 0.0) {
        printf("  %3.0f %% of %.1f, floor %.0f %%", 100.0 * gops / best, best, 100.0 * least);
    }
    printf("\n");
    return gops >= least * best;
}

static void report_others(const struct qc_kernels *k)
{
    static const struct {
        const char *name;
        void (*run)(const struct qc_kernels *);
    } streams[] = {{"quantize_u8", run_quantize},
                   {"dequantize_u8", run_dequantize},
                   {"lut_u8", run_lut},
                   {"add_u8", run_add_u8},
                   {"mul_u8", run_mul_u8},
                   {"add_f32", run_add_f32},
                   {"max_taps_u8", run_max_taps_u8},
                   {"minmax_f32", run_minmax},
                   {"histogram_f32", run_histogram}};
    double depthwise_ops = 2.0 * TAPS * CHANNELS * 32;
    printf("  depthwise_f32   %8.1f GOP/s\n",
           depthwise_ops / bench_time_of(run_depthwise_f32, k) * 1e-9);
    printf("  depthwise_s8    %8.1f GOP/s\n",
           depthwise_ops / bench_time_of(run_depthwise_s8, k) * 1e-9);
    for (size_t s = 0; s < QD_COUNT_OF(streams); s++) {
        printf("  %-15s %8.2f elements/ns\n", streams[s].name,
               N / bench_time_of(streams[s].run, k) * 1e-9);
    }
}

int main(int argc, char **argv)
{
    bool check = argc > 1 && strcmp(argv[1], "--check") == 0, good = true;
    fill();
    for (int isa = QC_ISA_REF; isa < QC_ISA_COUNT; isa++) {
        struct qc_kernels k;
        if (!qc_isa_supported((enum qc_isa)isa)) {
            continue;
        }
        qc_kernels_init(&k, (enum qc_isa)isa);
        printf("%s\n", qc_isa_name(k.isa));
        good &= report_tile(&k, false);
        good &= report_tile(&k, true);
        if (!check) {
            report_others(&k);
        }
    }
    if (check && !good) {
        (void)fprintf(stderr, "bench_kernels: a tile is below its floor\n");
    }
    return check && !good;
}
