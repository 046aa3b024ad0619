/* From the statistics of a tensor to the range [lo, hi] that its 256 codes cover.
 *
 * A calibrator needs no run of the network: any of them is derived in milliseconds from what
 * pass 1 and pass 2 left behind (statistics.h), as often as wanted. Deterministic: a pure
 * function of the statistics. */
#ifndef QC_CALIBRATOR_H
#define QC_CALIBRATOR_H

#include "quantcore/affine/qparams.h"
#include "quantcore/calib/statistics.h"

enum qc_calibrator {
    QC_CALIB_MSE, /* least expected squared error, lo and hi searched; the default */
    QC_CALIB_MINMAX,
    QC_CALIB_PERCENTILE,
    QC_CALIB_KL,           /* KL(P||Q) over `bins` coarse bins */
    QC_CALIB_SYMMETRIC_KL, /* (KL(P||Q) + KL(Q||P)) / 2 */
    QC_CALIB_JS,           /* Jensen-Shannon */
    QC_CALIB_ENTROPY,      /* threshold search over 2,048 bins or more: others' KL */
    QC_CALIB_AUTO,         /* a list of recipes for the whole network: calib_auto.h */
    QC_CALIB_COUNT
};
const char *qc_calibrator_name(enum qc_calibrator c); /* "mse", "minmax", "percentile", "kl", … */
bool qc_calibrator_from_name(const char *name, enum qc_calibrator *ret);
/* False for minmax and percentile, which take extremes and exact tails. */
bool qc_calibrator_needs_histogram(enum qc_calibrator c);

/* How the divergences see quantized data. */
enum qc_divergence_form {
    QC_FORM_LEVELS, /* as they are: each code's mass in the coarse bin of its level */
    QC_FORM_SPREAD, /* each code's mass spread over its step, in fine bins: no aliasing */
    QC_FORM_COUNT
};
const char *qc_divergence_form_name(enum qc_divergence_form f); /* "levels", "spread" */
bool qc_divergence_form_from_name(const char *name, enum qc_divergence_form *ret);

/* The knobs of a search. Percentiles cut the ends of the range that all calibrators but minmax
 * start from (1: the plain minimum and maximum). */
struct qc_search {
    double min_percentile, max_percentile; /* (0.5, 1] */
    double start, end, step; /* candidates r = start, start + step, … end, of the base range */
    int bins;                /* coarse bins of the divergences, 8..QC_FINE_BINS */
    enum qc_divergence_form form;
    bool symmetric; /* the range is [-hi, hi]: zero in the middle of the codes */
};

struct qc_range {
    double lo, hi;        /* lo <= 0 <= hi, real units; symmetric: lo = -hi */
    double ratio;         /* chosen candidate r; 1 when nothing was searched. mse: of hi - lo */
    double score;         /* the calibrator's own measure at the choice; 0 for minmax and
                             percentile. mse: expected squared error a value */
    double clipped_share; /* of the values outside [lo, hi], by the fine histogram; NAN when
                             some are and there is none */
    bool exact_tails;     /* false: a percentile came from the histogram, within one bin */
};

/* Symmetric: the base range is [-M, M], M the larger of the two ends' distances from 0 (of the
 * percentiles too: the caller asked for it), and the candidates are [-r M, r M].
 * QD_INVALID names the tensor, the value and the limit; QC_CALIB_AUTO is QD_INVALID, its recipes
 * are calibrated one by one. */
QD_MUST_CHECK enum qd_code qc_calibrate(const struct qc_tensor_statistics *t,
                                        enum qc_calibrator calibrator,
                                        const struct qc_search *search, struct qc_range *ret,
                                        struct qd_error *err);

/* What qc_calibrate refuses for want of a histogram: a calibrator that needs one, a percentile
 * beyond the exact tails. Of t it reads name, count, the tails' n and fine.n_bins, so that it can be
 * asked before there are statistics. QD_INVALID names calibrator or percentile, and the tensor. */
QD_MUST_CHECK enum qd_code qc_calibrate_check(const struct qc_tensor_statistics *t,
                                              enum qc_calibrator calibrator,
                                              const struct qc_search *search,
                                              struct qd_error *err);

/* Candidates start, start + step, …, end counted in integers (a millionth is the unit), so that
 * no end point is lost to rounding: 0.8, 1.2, 0.01 are 41, 0.3, 1.7, 0.01 are 141. */
int qc_search_count(const struct qc_search *search);
double qc_search_ratio(const struct qc_search *search, int i);

/* The u8 parameters that a candidate range is judged by. Symmetric: scale = hi / 127 and zero
 * point 128, of which codes 1..255 are used. A runtime that saturates at s8's -128 may leave
 * a value below -127.5 steps one step nearer than that: the error is never larger than judged. */
void qc_candidate_qparams(bool symmetric, double lo, double hi, struct qc_qparams *ret);
/* The lowest code of that: 0, symmetric 1. */
static inline int qc_candidate_first_code(bool symmetric)
{
    return symmetric ? 1 : 0;
}

#endif
