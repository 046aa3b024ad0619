/* Test data for kernels: reproducible values that reach the corners, and comparisons that name
 * the first difference. */
#ifndef KERNEL_DATA_H
#define KERNEL_DATA_H

#include <check.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "quantcore/kernels/qc_kernels.h"

enum data_kind {
    DATA_PLAIN,   /* f32: about -4..4; u8: uniform */
    DATA_EXTREME, /* u8: mostly the bytes 0, 127, 128, 255 */
    DATA_SPECIAL  /* f32: NaN, infinities, denormals, both zeros, huge values */
};

/* A test with every instruction set that this CPU has, _i. */
static inline void data_every_isa(TCase *tc, const TTest *test)
{
    for (int isa = QC_ISA_REF; isa < QC_ISA_COUNT; isa++) {
        if (qc_isa_supported((enum qc_isa)isa)) {
            tcase_add_loop_test(tc, test, isa, isa + 1);
        }
    }
}

/* The same without `_ref`, with which the test compares. */
static inline void data_against_ref(TCase *tc, const TTest *test)
{
    for (int isa = QC_ISA_REF + 1; isa < QC_ISA_COUNT; isa++) {
        if (qc_isa_supported((enum qc_isa)isa)) {
            tcase_add_loop_test(tc, test, isa, isa + 1);
        }
    }
}

static uint64_t data_state = 0x9e3779b97f4a7c15U;

static inline uint64_t data_next(void)
{
    data_state ^= data_state << 13;
    data_state ^= data_state >> 7;
    data_state ^= data_state << 17;
    return data_state >> 11;
}

static inline void data_f32(float *x, size_t n, enum data_kind kind)
{
    static const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, -1e-45f,
                                    3e38f, -3e38f, 0.5f, 1.5f, 2.5f, -0.5f, 6.0f, 1e10f};
    for (size_t i = 0; i < n; i++) {
        if (kind == DATA_SPECIAL && data_next() % 2 == 0) {
            x[i] = special[data_next() % QD_COUNT_OF(special)];
        } else {
            x[i] = (float)(int64_t)(data_next() % 2000001) / 250000.0f - 4.0f;
        }
    }
}

static inline void data_u8(uint8_t *x, size_t n, enum data_kind kind)
{
    static const uint8_t extreme[] = {0, 127, 128, 255};
    for (size_t i = 0; i < n; i++) {
        bool plain = kind == DATA_PLAIN || data_next() % 8 == 0;
        x[i] = plain ? (uint8_t)data_next() : extreme[data_next() % 4];
    }
}

/* ties: multipliers that are powers of two, so that many results end in exactly .5;
 * otherwise any multiplier and a bias of the full 32-bit range, so that sums wrap. */
static inline void data_requant(float *multiplier, int32_t *bias, size_t n, bool ties)
{
    bool small = data_next() % 2 == 0; /* kernels have ways of their own below a half */
    for (size_t i = 0; i < n; i++) {
        if (ties) {
            multiplier[i] = !small && data_next() % 2 ? 0.5f : 0.0009765625f;
            bias[i] = (int32_t)(data_next() % 512) - 256;
        } else {
            multiplier[i] = ldexpf((float)(1 + data_next() % 65536), -30);
            bias[i] = (int32_t)(uint32_t)data_next();
        }
    }
}

/* The same bits; every NaN equals every other, its payload is not defined. */
__attribute__((format(printf, 4, 5))) static inline void
data_same_f32(const float *got, const float *want, size_t n, const char *format, ...)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof(*got)) != 0 &&
            !(isnan(got[i]) && isnan(want[i]))) {
            char what[256];
            va_list args;
            va_start(args, format);
            vsnprintf(what, sizeof(what), format, args);
            va_end(args);
            ck_abort_msg("%s: element %zu is %a, not %a", what, i, (double)got[i],
                         (double)want[i]);
        }
    }
}

__attribute__((format(printf, 4, 5))) static inline void
data_same_u8(const uint8_t *got, const uint8_t *want, size_t n, const char *format, ...)
{
    for (size_t i = 0; i < n; i++) {
        if (got[i] != want[i]) {
            char what[256];
            va_list args;
            va_start(args, format);
            vsnprintf(what, sizeof(what), format, args);
            va_end(args);
            ck_abort_msg("%s: byte %zu is %d, not %d", what, i, got[i], want[i]);
        }
    }
}

#endif
