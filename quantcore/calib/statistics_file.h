/* Statistics as bytes: what is stored with a job and what `quantd statistics merge` reads.
 *
 * Little-endian, no padding; the same statistics are the same bytes:
 *   "quantd statistics 2\n"            20 bytes; 3 without histograms
 *   model_sha256[32]  n_samples u64  n_tensors u32
 *   each tensor:
 *     name u16 + bytes   min f64  max f64  count u64  sum i128  squares i128
 *     n_channels u32, each: sum i128  squares i128  n_nonzero u64  max_abs f32
 *     two tails (smallest, largest): k u32  n u32  n f32, from the end inwards
 *     in version 2 alone:
 *     histogram: exponent i32  first i32  n_bins u32, each count a LEB128 of at most 10 bytes
 *     n_values u32 (0: too many to be kept), each, ascending: f32  count as above
 *   n_moments u32, each: node u16 + bytes  n_groups u32  n_columns u32  n_positions u64
 *     entries i128: [n_groups][n_columns (n_columns + 1) / 2], see moments.h
 * Sums are in units of 2^-48 (qd_exact.h).
 * Version 3 holds what was taken with the option histograms = false. With histograms it is still
 * version 2 that is written, which older readers know; of 3 they say that they do not know it.
 * Version 1 had no values; it is read as if they had been too many. */
#ifndef QC_STATISTICS_FILE_H
#define QC_STATISTICS_FILE_H

#include "quantcore/calib/statistics.h"

#define QC_STATISTICS_MAX_TENSORS  65536
#define QC_STATISTICS_MAX_CHANNELS 1048576

/* *ret in the arena. */
QD_MUST_CHECK enum qd_code qc_statistics_write(const struct qc_statistics *s,
                                               struct qd_arena *arena, struct qd_bytes *ret,
                                               struct qd_error *err);
/* From untrusted bytes: QD_INVALID names the tensor and what is wrong; every allocation is below
 * a constant times the bytes. Names are copied. mean, std and channel_mean are computed. */
QD_MUST_CHECK enum qd_code qc_statistics_read(struct qd_bytes bytes, struct qd_arena *arena,
                                              struct qc_statistics **ret, struct qd_error *err);

#endif
