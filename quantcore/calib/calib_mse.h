/* The range with the least expected squared error, lo and hi both searched. */
#ifndef QC_CALIB_MSE_H
#define QC_CALIB_MSE_H

#include "quantcore/calib/calibrator.h"
#include "quantcore/calib/histogram_prefix.h"

/* Inside [lo, hi] (lo <= 0 <= hi, lo < hi): candidates [a lo, b hi] with a and b from 1/64 to 1.
 * First all multiples of 1/64 (the error has several minima, so nothing smarter is safe), then
 * steps halved down to 1/1024 around the best. Symmetric (lo = -hi): a = b. Ties go to the wider
 * range. Fills lo, hi, ratio and score. */
void qc_calib_mse(const struct qc_histogram_prefix *p, bool symmetric, double lo, double hi,
                  struct qc_range *ret);

#endif
