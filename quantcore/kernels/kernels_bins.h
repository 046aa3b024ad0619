/* Counting for histograms. After a ReLU most values fall into one bin, and a counter that is
 * incremented each time waits for its own store; four tables take turns instead. */
#ifndef QC_KERNELS_BINS_H
#define QC_KERNELS_BINS_H

#include <string.h>

#include "quantcore/base/qd_base.h"

enum { BINS_TABLES = 4, BINS_MAX = 2048 };

struct bins {
    uint32_t table[BINS_TABLES][BINS_MAX]; /* 32 KiB: fits the stack and the first-level cache */
};

/* Values that go into one set of tables before it must be merged: no counter can overflow. */
#define BINS_ROUND ((size_t)1 << 30)

/* Whether clearing and merging the tables is worth it. */
static inline bool bins_useful(size_t n, int n_bins)
{
    return n_bins <= BINS_MAX && n >= (size_t)n_bins * 4;
}

static inline void bins_clear(struct bins *b, int n_bins)
{
    for (int t = 0; t < BINS_TABLES; t++) {
        memset(b->table[t], 0, (size_t)n_bins * sizeof(b->table[t][0]));
    }
}

/* Four bins of 16 bits in one register: cheaper than a detour through memory. */
static inline void bins_add4(struct bins *b, uint64_t four)
{
    b->table[0][four & 0xffff]++;
    b->table[1][four >> 16 & 0xffff]++;
    b->table[2][four >> 32 & 0xffff]++;
    b->table[3][four >> 48]++;
}

/* The same without tables. */
static inline void counts_add4(uint32_t *counts, uint64_t four)
{
    counts[four & 0xffff]++;
    counts[four >> 16 & 0xffff]++;
    counts[four >> 32 & 0xffff]++;
    counts[four >> 48]++;
}

static inline void bins_merge(const struct bins *b, int n_bins, uint32_t *counts)
{
    for (int i = 0; i < n_bins; i++) {
        for (int t = 0; t < BINS_TABLES; t++) {
            counts[i] += b->table[t][i];
        }
    }
}

#endif
