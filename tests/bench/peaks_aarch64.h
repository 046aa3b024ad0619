/* Multiply-adds of 64-bit ARM on registers alone. */
#ifndef BENCH_PEAKS_AARCH64_H
#define BENCH_PEAKS_AARCH64_H

#include <arm_neon.h>

/* 12 independent chains; in assembly, so that no flag of the compiler's is needed and equal chains
 * are not computed once. */
#define SET(r)  uint32x4_t a##r = x;
#define FMLA(r) __asm__ volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(a##r) : "w"(x));
#define SDOT(r)                                                                   \
    __asm__ volatile(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %1.16b"      \
                     : "+w"(a##r)                                                 \
                     : "w"(x));
#define PEAK(name, step)                              \
    static void name(const struct qc_kernels *k)      \
    {                                                 \
        (void)k;                                      \
        uint32x4_t x = vdupq_n_u32(1);                \
        ROWS_12(SET)                                  \
        for (int i = 0; i < PEAK_STEPS; i++) {        \
            ROWS_12(step)                             \
        }                                             \
    }

PEAK(peak_f32_neon, FMLA)
PEAK(peak_s8_neon, SDOT)

/* GOP/s (a multiply-add is two), 0 where there is no such loop. */
static inline double bench_peak(enum qc_isa isa, bool s8)
{
    if (isa != QC_ISA_NEON) {
        return 0.0;
    }
    double seconds = bench_time_of(s8 ? peak_s8_neon : peak_f32_neon, NULL);
    return 2.0 * (s8 ? 16.0 : 4.0) * 12.0 * PEAK_STEPS / seconds * 1e-9;
}

#endif
