/* What the two passes over the data leave behind, a tensor each: enough for any calibrator,
 * percentile and bias correction without running the network again.
 *
 * Statistics of two sample sets merge. Counts, extremes and tails are order-free; float sums are
 * added in the order of the samples, so that neither threads nor batches change a bit. */
#ifndef QC_STATISTICS_H
#define QC_STATISTICS_H

#include "quantcore/calib/histogram.h"
#include "quantcore/calib/tails.h"

struct qc_tensor_statistics {
    const char *name;
    double min, max;            /* exact */
    uint64_t count;             /* elements seen */
    double sum, sum_squares;
    double mean, std;           /* std: of the population, sqrt(E[x^2] - E[x]^2), >= 0 */
    int n_channels;             /* 0: no channel axis */
    double *channel_sum;        /* n_channels */
    double *channel_mean;       /* n_channels: over samples and positions */
    struct qc_tail smallest, largest; /* as long as the percentiles of pass 1 needed */
    struct qc_histogram fine;   /* counts empty before pass 2 */
};

struct qc_statistics {
    int64_t n_samples;
    int n;
    struct qc_tensor_statistics *tensors;
};

/* mean, std and channel_mean from the sums. */
void qc_tensor_statistics_finish(struct qc_tensor_statistics *t);
/* Index by name, -1 if absent. */
int qc_statistics_find(const struct qc_statistics *s, const char *name);
/* a then b, as one set: same tensors with the same channels in the same order, else QD_INVALID
 * naming the first that differs. Sums are a's plus b's. Tails keep a's length. */
QD_MUST_CHECK enum qd_code qc_statistics_merge(const struct qc_statistics *a,
                                               const struct qc_statistics *b,
                                               struct qd_arena *arena, struct qc_statistics **ret,
                                               struct qd_error *err);

#endif
