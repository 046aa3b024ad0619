/* The ends of the range at the percentiles: exact from the tails, or from the fine histogram
 * within one bin when a tail is longer than was kept. */
#ifndef QC_CALIB_PERCENTILE_H
#define QC_CALIB_PERCENTILE_H

#include "quantcore/calib/calibrator.h"

/* *ret_lo, *ret_hi: observed ends, not yet stretched to contain 0. The two tails are independent,
 * never symmetrised. scratch: QC_TAIL_MAX floats. */
void qc_calib_percentile(const struct qc_tensor_statistics *t, double min_percentile,
                         double max_percentile, float *scratch, double *ret_lo, double *ret_hi,
                         bool *ret_exact);

#endif
