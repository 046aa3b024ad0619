/* Multiply-adds of x86-64 on registers alone. */
#ifndef BENCH_PEAKS_X86_H
#define BENCH_PEAKS_X86_H

#include <immintrin.h>

/* 12 independent chains, enough for two units of latency 5. */
#define F512(r)    a##r = _mm512_fmadd_ps(a##r, x, x);
#define F256(r)    a##r = _mm256_fmadd_ps(a##r, x, x);
#define I512(r)    a##r = _mm512_dpbusd_epi32(a##r, x, x);
#define HIDE(r)    __asm__ volatile("" : "+v"(a##r));
#define SET512(r)  __m512 a##r = x;
#define SET256(r)  __m256 a##r = x;
#define SETI512(r) __m512i a##r = x;
#define SETI256(r) __m256i a##r = x;
#define PEAK(name, isa, type, start, set, step)                                                  \
    __attribute__((target(isa))) static void name(const struct qc_kernels *k)                    \
    {                                                                                            \
        (void)k;                                                                                 \
        type x = start;                                                                          \
        ROWS_12(set)                                                                             \
        /* equal chains would be computed once */                                                \
        ROWS_12(HIDE)                                                                            \
        for (int i = 0; i < PEAK_STEPS; i++) {                                                   \
            ROWS_12(step)                                                                        \
        }                                                                                        \
        ROWS_12(HIDE)                                                                            \
    }

PEAK(peak_f32_avx512, "avx512f", __m512, _mm512_set1_ps(0.5f), SET512, F512)
PEAK(peak_f32_avx2, "avx2,fma", __m256, _mm256_set1_ps(0.5f), SET256, F256)
PEAK(peak_s8_avx512, "avx512f,avx512vnni", __m512i, _mm512_set1_epi32(1), SETI512, I512)

/* Without VNNI: vpmaddwd and vpaddd on bytes that were widened before. */
#define I256(r)                                                                                  \
    {                                                                                            \
        __m256i y; /* in assembly, or the product is taken out of the loop */                    \
        __asm__ volatile("vpmaddwd %2, %2, %1\n\tvpaddd %1, %0, %0"                              \
                         : "+x"(a##r), "=&x"(y)                                                  \
                         : "x"(x));                                                              \
    }
PEAK(peak_s8_avx2, "avx2", __m256i, _mm256_set1_epi32(1), SETI256, I256)

/* In assembly: the intrinsic's accumulators are copied around the loop by gcc 12. */
#define V256(r) __asm__ volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(a##r) : "x"(x));
PEAK(peak_s8_avxvnni, "avx2", __m256i, _mm256_set1_epi32(1), SETI256, V256)

/* GOP/s (a multiply-add is two), 0 where there is no such loop. */
static inline double bench_peak(enum qc_isa isa, bool s8)
{
    double lanes = 0.0;
    void (*fn)(const struct qc_kernels *) = NULL;
    switch (isa) {
    case QC_ISA_AVX512:
        fn = s8 ? peak_s8_avx512 : peak_f32_avx512;
        lanes = s8 ? 64.0 : 16.0;
        break;
    case QC_ISA_AVXVNNI:
        fn = s8 ? peak_s8_avxvnni : peak_f32_avx2;
        lanes = s8 ? 32.0 : 8.0;
        break;
    case QC_ISA_AVX2:
        fn = s8 ? peak_s8_avx2 : peak_f32_avx2;
        lanes = s8 ? 16.0 : 8.0;
        break;
    case QC_ISA_NEON:
    case QC_ISA_REF:
    case QC_ISA_COUNT:
        return 0.0;
    }
    return 2.0 * lanes * 12.0 * PEAK_STEPS / bench_time_of(fn, NULL) * 1e-9;
}

#endif
