/* The scale of a few codes. With 8 bits the largest value decides; with 4 and fewer a step that is
 * right for it is far too wide for the others (on the weights of resnet20 it costs 1.5 dB at 4 bits,
 * 3.2 at 3 bits, 5.3 at 2 bits), and it pays to let the largest values saturate.
 *
 * What is least is the sum of |error|^3, not of its square: least squares takes the largest weights
 * further in, thus some of each product's gain away, and every layer behind takes more. Judged on
 * calibration samples alone (weight_only, bias corrected, each quarter held back in turn, seven
 * networks), the cube is better by 0.4 dB in the mean at 4 bits (-0.5 to +1.9), 0.5 when asymmetric
 * (-0.1 to +1.5) and 0.4 at 3 bits (-1.0 to +2.7). A gain restored behind least squares was
 * better at 4 bits still, but lost 18 dB on one network at 3.
 */
#ifndef QC_SCALE_SEARCH_H
#define QC_SCALE_SEARCH_H

#include "quantcore/base/qd_base.h"

/* Tried are QC_SCALE_PARTS-ths of the full scale, from all of it down to QC_SCALE_LEAST of them. */
#define QC_SCALE_PARTS 64
#define QC_SCALE_LEAST 4

/* sum |x - s q|^3 with q = clamp(rne(x / s) + z, q_min, q_max) - z: what qc_quantize_value makes of
 * each value. |q| at most 255. Added up in eight lanes in double, then from the first lane to the
 * last: the same on every machine. */
double qc_rounding_error(const float *x, size_t n, float scale, int32_t zero_point, int32_t q_min,
                         int32_t q_max);

/* The f = i / 64 with the least rounding error for scale float32(f full), 4 <= i <= 64, never below
 * FLT_MIN; of equal ones the largest. Returns f. full: the scale without saturation, > 0. */
double qc_scale_search(const float *x, size_t n, double full, int32_t zero_point, int32_t q_min,
                       int32_t q_max);

#endif
