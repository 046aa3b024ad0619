/* What this CPU can do at most: multiply-adds on registers alone, with the instructions that the
 * tiles use. Benchmarks are compared with it, because it moves with the clock as they do. */
#ifndef BENCH_PEAKS_H
#define BENCH_PEAKS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "quantcore/kernels/kernels_rows.h"
#include "quantcore/kernels/qc_kernels.h"

enum { PEAK_STEPS = 20000 };

/* CPU seconds of this thread: what others on the machine take is not counted. */
static inline double bench_cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Seconds of one call: the best of 15 rounds of at least 4 ms. */
static inline double bench_time_of(void (*fn)(const struct qc_kernels *),
                                   const struct qc_kernels *k)
{
    double best = INFINITY;
    for (int round = 0; round < 15; round++) {
        double start = bench_cpu_now(), spent = 0.0;
        long calls = 0;
        while (spent < 0.004) {
            for (int i = 0; i < 8; i++) {
                fn(k);
            }
            calls += 8;
            spent = bench_cpu_now() - start;
        }
        best = fmin(best, spent / (double)calls);
    }
    return best;
}

#if defined(__x86_64__)
#include "tests/bench/peaks_x86.h"
#define ADD "add $1, %0\n\t"
#elif defined(__aarch64__)
#include "tests/bench/peaks_aarch64.h"
#define ADD "add %0, %0, #1\n\t"
#endif

/* Additions that wait for each other: one a clock on every CPU of today. */
static void clock_chain(const struct qc_kernels *k)
{
    (void)k;
    size_t a = 1;
    for (int i = 0; i < PEAK_STEPS; i++) {
        __asm__ volatile(ADD ADD ADD ADD ADD ADD ADD ADD : "+r"(a));
    }
}

static inline double bench_ghz(void)
{
    return 8.0 * PEAK_STEPS / bench_time_of(clock_chain, NULL) * 1e-9;
}

#endif
