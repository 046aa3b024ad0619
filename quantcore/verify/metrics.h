/* Metrics of an approximation, the one place where they are defined.
 *
 * Sums are doubles over one sample in an order that its layout alone decides (eight partial sums,
 * qc_kernels.h); samples are merged in their order. So instruction sets, threads and batches
 * change no bit. */
#ifndef QC_METRICS_H
#define QC_METRICS_H

#include "quantcore/affine/qparams.h"
#include "quantcore/exec/exec.h"

struct qc_metric {
    double signal;    /* sum of x^2 */
    double noise;     /* sum of (x - y)^2 */
    double dot;       /* sum of x*y */
    double energy;    /* sum of y^2 */
    double max_error; /* max |x - y| */
    uint64_t n;
    uint64_t saturated; /* u8 codes 0 and 255 whose real value lies beyond the range by more than
                           half a step */
};

/* Add the difference between x (f32) and y: f32, or u8 with its parameters. Same shape, any
 * layouts. */
void qc_metric_add(struct qc_metric *m, const struct qc_kernels *kernels, const struct qc_view *x,
                   const struct qc_view *y, const struct qc_qparams *params);
/* The same on dense f32 arrays, summed in their order. */
void qc_metric_add_dense(struct qc_metric *m, const float *x, const float *y, size_t n);
void qc_metric_merge(struct qc_metric *into, const struct qc_metric *from);

/* 10 log10(signal / noise); INFINITY without noise, NAN when nothing was measured or the signal
 * is zero but the noise is not. */
double qc_metric_sqnr_db(const struct qc_metric *m);
/* dot / sqrt(signal * energy); 1 when both are zero, NAN when nothing was measured. */
double qc_metric_cosine(const struct qc_metric *m);
double qc_metric_saturated_share(const struct qc_metric *m);

/* Index of the largest of n > 0 values; the first among equals. */
size_t qc_top1(const float *x, size_t n);
/* Is class `c` among the k largest of n values; equals before it count as larger. */
bool qc_in_topk(const float *x, size_t n, size_t c, size_t k);

/* Half width of the 95 % Wilson score interval of `hits` out of n trials; NAN for n = 0. */
double qc_wilson95(uint64_t hits, uint64_t n);

/* Entropy of a classifier's output as a share of the most possible, ln n: 1 when all n >= 2 classes
 * are equally likely. The output is taken as probabilities when it looks like them (none negative,
 * sum within 1e-3 of 1), else as logits. */
double qc_entropy_share(const float *x, size_t n);

#endif
