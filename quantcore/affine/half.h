/* IEEE 754 binary16, of float16 weights: a bit pattern, computed with in float. */
#ifndef QC_HALF_H
#define QC_HALF_H

#include "quantcore/base/qd_base.h"

#define QC_HALF_MAX 65504.0f /* the largest finite one */

float qc_half_to_f32(uint16_t h);
/* Rounds half to even; 65520 and more become infinity, NaN stays NaN. */
uint16_t qc_half_from_f32(float x);

#endif
