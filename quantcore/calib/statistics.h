/* What calibration leaves behind, a tensor each: enough for any calibrator,
 * percentile and bias correction without running the network again. Without histograms (of all
 * tensors or of none) it is enough for minmax, percentiles within the tails, and bias correction.
 *
 * Statistics of two sample sets merge to those of both, to the bit: counts, extremes and
 * histograms are integers or order-free, the table of values is kept or not by their number, sums are exact (qd_exact.h), tails too when they were
 * asked for in the same length. */
#ifndef QC_STATISTICS_H
#define QC_STATISTICS_H

#include "quantcore/base/qd_exact.h"
#include "quantcore/calib/histogram.h"
#include "quantcore/calib/moments.h"
#include "quantcore/calib/tails.h"
#include "quantcore/calib/values.h"

/* Of one channel, over samples and positions. */
struct qc_channel_statistics {
    struct qd_exact sum, squares;
    uint64_t n_nonzero;
    float max_abs;
};

/* Add from's values to to's. */
void qc_channel_statistics_merge(struct qc_channel_statistics *to,
                                 const struct qc_channel_statistics *from);

struct qc_tensor_statistics {
    const char *name;
    double min, max;            /* exact */
    uint64_t count;             /* elements seen */
    struct qd_exact sum, squares;
    double mean, std;           /* std: of the population, sqrt(E[x^2] - E[x]^2), >= 0 */
    int n_channels;             /* 0: no channel axis */
    struct qc_channel_statistics *channels; /* n_channels */
    double *channel_mean;       /* n_channels: E[x] */
    struct qc_tail smallest, largest; /* as long as the percentiles of pass 1 needed */
    struct qc_histogram fine;   /* counts empty before the end of pass 2; no bins: not taken */
    struct qc_values values;    /* while they are few */
};

struct qc_statistics {
    uint8_t model_sha256[32]; /* of the model's bytes; zeros when nobody said */
    int64_t n_samples;
    int n;
    struct qc_tensor_statistics *tensors;
    int n_moments; /* 0: not asked for */
    struct qc_moment *moments;
};

/* mean, std and channel_mean from the sums. QD_LIMIT_EXCEEDED when a sum overflowed. */
QD_MUST_CHECK enum qd_code qc_tensor_statistics_finish(struct qc_tensor_statistics *t,
                                                       struct qd_error *err);
/* Index by name, -1 if absent. */
int qc_statistics_find(const struct qc_statistics *s, const char *name);
/* True without any tensor. */
bool qc_statistics_have_histograms(const struct qc_statistics *s);
/* Both as one set, in either order: same model, same tensors with the same channels in the same
 * order, both with histograms or both without, else QD_INVALID naming the first that differs. Tails keep the shorter length. */
QD_MUST_CHECK enum qd_code qc_statistics_merge(const struct qc_statistics *a,
                                               const struct qc_statistics *b,
                                               struct qd_arena *arena, struct qc_statistics **ret,
                                               struct qd_error *err);

#endif
