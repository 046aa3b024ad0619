/* Throughput of the kernels of every instruction set that this CPU has. Tiles stand beside the
 * peak: multiply-adds on registers alone, with the same instructions. One core, best of several
 * rounds. Usage: bench_kernels */
#include <immintrin.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "quantcore/kernels/kernels_rows.h"
#include "quantcore/kernels/qc_kernels.h"

enum { TAPS = 9, CHANNELS = 64, PIXELS = 64, N = 4096, BINS = 2048, PEAK_STEPS = 20000 };

static volatile float sink;
#define ALIGNED static _Alignas(64)
ALIGNED float f32_in[PIXELS * CHANNELS];
ALIGNED float f32_w[TAPS * CHANNELS * QC_NR];
ALIGNED float f32_out[PIXELS * CHANNELS];
ALIGNED uint8_t u8_in[PIXELS * CHANNELS];
ALIGNED uint8_t u8_out[PIXELS * CHANNELS];
ALIGNED int8_t s8_w[TAPS * CHANNELS * QC_NR];
ALIGNED int16_t s16_w[TAPS * CHANNELS];
ALIGNED float f32_bias[CHANNELS];
ALIGNED float multiplier[CHANNELS];
ALIGNED int32_t s32_bias[CHANNELS];
static int32_t taps[TAPS] = {0, CHANNELS, 2 * CHANNELS, 8 * CHANNELS, 9 * CHANNELS, 10 * CHANNELS,
                             16 * CHANNELS, 17 * CHANNELS, 18 * CHANNELS};
ALIGNED float fa[N], fb[N];
ALIGNED uint8_t ua[N], ub[N], table[256];
static uint64_t counts[BINS];

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of one call: the best of 7 rounds of at least 10 ms. */
static double time_of(void (*fn)(const struct qc_kernels *), const struct qc_kernels *k)
{
    double best = INFINITY;
    for (int round = 0; round < 7; round++) {
        double start = now(), spent = 0.0;
        long calls = 0;
        while (spent < 0.01) {
            for (int i = 0; i < 8; i++) {
                fn(k);
            }
            calls += 8;
            spent = now() - start;
        }
        best = fmin(best, spent / (double)calls);
    }
    return best;
}

/* ---- peaks: 12 independent chains, enough for two units of latency 5 ------------------------- */
#define F512(r) a##r = _mm512_fmadd_ps(a##r, x, x);
#define F256(r) a##r = _mm256_fmadd_ps(a##r, x, x);
#define I512(r) a##r = _mm512_dpbusd_epi32(a##r, x, x);
#define HIDE(r) __asm__ volatile("" : "+v"(a##r));
#define SET512(r) __m512 a##r = x;
#define SET256(r) __m256 a##r = x;
#define SETI512(r) __m512i a##r = x;
#define SETI256(r) __m256i a##r = x;
#define PEAK(name, isa, type, start, set, step)                                  \
    __attribute__((target(isa))) static void name(const struct qc_kernels *k)    \
    {                                                                            \
        (void)k;                                                                 \
        type x = start;                                                          \
        ROWS_12(set)                                                             \
        /* equal chains would be computed once */                                \
        ROWS_12(HIDE)                                                            \
        for (int i = 0; i < PEAK_STEPS; i++) {                                   \
            ROWS_12(step)                                                        \
        }                                                                        \
        ROWS_12(HIDE)                                                            \
    }

PEAK(peak_f32_avx512, "avx512f", __m512, _mm512_set1_ps(0.5f), SET512, F512)
PEAK(peak_f32_avx2, "avx2,fma", __m256, _mm256_set1_ps(0.5f), SET256, F256)
PEAK(peak_s8_avx512, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32(1), SETI512, I512)

/* Without VNNI: vpmaddwd and vpaddd on bytes that were widened before. */
#define I256(r)                                                                        \
    {                                                                                  \
        __m256i y; /* in assembly, or the product is taken out of the loop */          \
        __asm__ volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0"                    \
                         : "+x"(a##r), "=&x"(y)                                        \
                         : "x"(x));                                                    \
    }
PEAK(peak_s8_avx2, "avx2", __m256i, _mm256_set1_epi32(1), SETI256, I256)

/* GOP/s (a multiply-add is two), 0 where there is no such loop. */
static double peak(enum qc_isa isa, bool s8)
{
    double lanes = 0.0;
    void (*fn)(const struct qc_kernels *) = NULL;
    switch (isa) {
    case QC_ISA_AVX512:
        fn = s8 ? peak_s8_avx512 : peak_f32_avx512;
        lanes = s8 ? 64.0 : 16.0;
        break;
    case QC_ISA_AVX2:
        fn = s8 ? peak_s8_avx2 : peak_f32_avx2;
        lanes = s8 ? 16.0 : 8.0;
        break;
    case QC_ISA_REF:
    case QC_ISA_COUNT:
        return 0.0;
    }
    return 2.0 * lanes * 12.0 * PEAK_STEPS / time_of(fn, NULL) * 1e-9;
}

/* ---- kernels -------------------------------------------------------------------------------- */
static void run_tile_f32(const struct qc_kernels *k)
{
    const float *rows[QC_MAX_ROWS];
    float *out[QC_MAX_ROWS];
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = f32_in + r * CHANNELS;
        out[r] = f32_out + r * CHANNELS;
    }
    struct qc_tile_f32 t = {.row = rows, .out = out, .n_rows = k->tile_rows_f32, .tap = taps,
                            .n_taps = TAPS, .channels = CHANNELS, .weights = f32_w,
                            .bias = f32_bias, .n_out = QC_NR, .lo = 0.0f, .hi = INFINITY};
    k->tile_f32(&t);
}

static void run_tile_s8(const struct qc_kernels *k)
{
    const uint8_t *rows[QC_MAX_ROWS];
    uint8_t *out[QC_MAX_ROWS];
    for (int r = 0; r < QC_MAX_ROWS; r++) {
        rows[r] = u8_in + r * CHANNELS;
        out[r] = u8_out + r * CHANNELS;
    }
    struct qc_tile_s8 t = {.row = rows, .n_rows = k->tile_rows_s8, .tap = taps, .n_taps = TAPS,
                           .channels = CHANNELS, .weights = s8_w, .bias = s32_bias,
                           .n_out = QC_NR, .out_u8 = out, .multiplier = multiplier,
                           .y_zero_point = 100, .y_min = 100, .y_max = 255};
    k->tile_s8(&t);
}

static void run_depthwise_f32(const struct qc_kernels *k)
{
    struct qc_depthwise_f32 d = {.in = f32_in, .out = f32_out, .n_pixels = 32,
                                 .in_step = CHANNELS, .out_step = CHANNELS, .tap = taps,
                                 .n_taps = TAPS, .channels = CHANNELS,
                                 .channels_padded = CHANNELS, .weights = f32_w,
                                 .bias = f32_bias, .lo = 0.0f, .hi = INFINITY};
    k->depthwise_f32(&d);
}

static void run_depthwise_s8(const struct qc_kernels *k)
{
    struct qc_depthwise_s8 d = {.in = u8_in, .out_u8 = u8_out, .n_pixels = 32,
                                .in_step = CHANNELS, .out_step = CHANNELS, .tap = taps,
                                .n_taps = TAPS, .channels = CHANNELS,
                                .channels_padded = CHANNELS, .weights = s16_w, .bias = s32_bias,
                                .multiplier = multiplier, .y_zero_point = 100, .y_max = 255};
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
    static const struct qc_add_u8 p = {0.7f, 0.4f, -10.0f, 0, 255};
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

static void run_max_u8(const struct qc_kernels *k)
{
    k->max_u8(ua, u8_out, N);
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
    memcpy(f32_in, fa, sizeof(f32_in));
    memcpy(u8_in, ua, sizeof(u8_in));
    for (int i = 0; i < CHANNELS; i++) {
        multiplier[i] = 0.0001f;
    }
}

static void report_tile(const struct qc_kernels *k, bool s8)
{
    int rows = s8 ? k->tile_rows_s8 : k->tile_rows_f32;
    double ops = 2.0 * TAPS * CHANNELS * QC_NR * rows;
    double gops = ops / time_of(s8 ? run_tile_s8 : run_tile_f32, k) * 1e-9;
    double best = peak(k->isa, s8);
    printf("  tile_%s        %8.1f GOP/s", s8 ? "s8 " : "f32", gops);
    if (best > 0.0) {
        printf("  %3.0f %% of %.1f", 100.0 * gops / best, best);
    }
    printf("\n");
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct qc_kernels *);
    } streams[] = {{"quantize_u8", run_quantize}, {"dequantize_u8", run_dequantize},
                   {"lut_u8", run_lut},           {"add_u8", run_add_u8},
                   {"mul_u8", run_mul_u8},        {"add_f32", run_add_f32},
                   {"max_u8", run_max_u8},        {"minmax_f32", run_minmax},
                   {"histogram_f32", run_histogram}};
    double depthwise_ops = 2.0 * TAPS * CHANNELS * 32;
    fill();
    for (int isa = QC_ISA_REF; isa <= (int)qc_isa_detect(); isa++) {
        struct qc_kernels k;
        qc_kernels_init(&k, (enum qc_isa)isa);
        printf("%s\n", qc_isa_name(k.isa));
        report_tile(&k, false);
        report_tile(&k, true);
        printf("  depthwise_f32   %8.1f GOP/s\n",
               depthwise_ops / time_of(run_depthwise_f32, &k) * 1e-9);
        printf("  depthwise_s8    %8.1f GOP/s\n",
               depthwise_ops / time_of(run_depthwise_s8, &k) * 1e-9);
        for (size_t s = 0; s < QD_COUNT_OF(streams); s++) {
            printf("  %-15s %8.2f elements/ns\n", streams[s].name,
                   N / time_of(streams[s].run, &k) * 1e-9);
        }
    }
    return 0;
}
