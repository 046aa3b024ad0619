/* Do the calibration data look like what the network was trained on?
 *
 * A BatchNormalization that was folded into the first convolution remembers the statistics of
 * training: its result had mean beta and standard deviation |gamma| in each channel. The same
 * convolution on the first calibration samples is compared with that. Medians over the channels
 * whose gamma is not negligible, measured on eight networks (40 photographs each):
 *     shift  = |mean - beta| / |gamma|          right preprocessing <= 0.12, wrong up to 198
 *     spread = |log2(deviation / |gamma|)|      right preprocessing <= 0.30, wrong 0.87 to 7.9
 * (0..255 for 0..1, 0..1 for -1..1, mean or deviation of another recipe). Swapped colours stay
 * below both limits: nothing here sees them.
 *
 * A first convolution without a BatchNormalization tells less. If its bias is next to nothing
 * beside its response, it was trained on data around zero (squeezenet: 0.006); an input whose mean
 * lies more than a deviation from zero then lacks the subtraction of a mean. */
#ifndef QC_SANITY_H
#define QC_SANITY_H

#include "quantcore/exec/exec.h"

#define QC_SANITY_SAMPLES 16   /* looked at */
#define QC_SANITY_LEAST   8    /* below, nothing is said */
#define QC_SANITY_SHIFT   0.5
#define QC_SANITY_SPREAD  0.7
#define QC_SANITY_BIAS    0.02 /* median |bias| / deviation of the response */
#define QC_SANITY_OFFSET  1.0  /* |mean| / deviation of the input */

struct qc_sanity; /* in the arena */

/* QD_OK also when the network has nothing to compare with. */
QD_MUST_CHECK enum qd_code qc_sanity_new(const struct qc_graph *g, struct qd_arena *arena,
                                         struct qc_sanity **ret, struct qd_error *err);
/* One sample, row-major, a pointer each graph input; does nothing after QC_SANITY_SAMPLES. */
QD_MUST_CHECK enum qd_code qc_sanity_sample(struct qc_sanity *s, const float *const *inputs,
                                            struct qd_error *err);
int qc_sanity_count(const struct qc_sanity *s); /* convolutions compared */
struct qc_sanity_row {
    const char *input, *node;
    bool trained;         /* there is a BatchNormalization to compare with */
    double shift, spread; /* medians, see above; 0 before QC_SANITY_LEAST samples */
    double bias, offset;  /* without one */
    double min, max;      /* of the input in these samples */
    bool suspicious;
};
struct qc_sanity_row qc_sanity_row_at(const struct qc_sanity *s, int i);

#endif
