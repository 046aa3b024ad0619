/* Sums of doubles whose result does not depend on the order or the grouping of the terms.
 *
 * Each term is cut to units of 2^-48 and added as a 128-bit integer. So statistics of parts add
 * up to the statistics of the whole, to the bit, whatever the parts, threads and batches. A term
 * below 2^-49 counts as nothing; the terms are sums over one sample, where that is no loss. */
#ifndef QD_EXACT_H
#define QD_EXACT_H

#include <math.h>

#include "quantcore/base/qd_base.h"

__extension__ typedef __int128 qd_int128;

#define QD_EXACT_MAX 0x1p76 /* of a term; 2^3 of them fit, and far more of any other */

struct qd_exact {
    qd_int128 units;
    bool overflow; /* a term or the sum was too large: the value means nothing */
};

/* x in units, towards zero: in two parts that an int64_t holds, each of them exact. */
static inline qd_int128 qd_exact_units(double x)
{
    double units = x * 0x1p48;
    int64_t high = (int64_t)(units * 0x1p-62);
    int64_t low = (int64_t)(units - (double)high * 0x1p62);
    return (qd_int128)high * ((qd_int128)1 << 62) + low;
}

/* For arrays of sums that share one flag. */
static inline void qd_exact_add_units(qd_int128 *units, bool *overflow, double x)
{
    if (!(x <= QD_EXACT_MAX && x >= -QD_EXACT_MAX)) {
        *overflow = true;
        return;
    }
    *overflow |= __builtin_add_overflow(*units, qd_exact_units(x), units);
}

static inline void qd_exact_add(struct qd_exact *sum, double x)
{
    qd_exact_add_units(&sum->units, &sum->overflow, x);
}

static inline void qd_exact_merge(struct qd_exact *sum, const struct qd_exact *other)
{
    sum->overflow |= other->overflow;
    sum->overflow |= __builtin_add_overflow(sum->units, other->units, &sum->units);
}

static inline double qd_exact_value(const struct qd_exact *sum)
{
    return ldexp((double)sum->units, -48);
}

#endif
