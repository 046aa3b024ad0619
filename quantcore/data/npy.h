/* Header of NumPy's .npy format, versions 1.0 to 3.0 (NEP 1; numpy/lib/format.py).
 *
 * The header is a Python dictionary literal of three keys. A small grammar reads exactly that
 * and nothing is evaluated: strings, True, False, tuples of decimal integers. */
#ifndef QC_NPY_H
#define QC_NPY_H

#include "quantcore/data/elements.h"
#include "quantcore/data/source.h"

#define QC_NPY_MAX_HEADER (64 * 1024) /* NumPy itself refuses more than 10,000 by default */

/* Read the header at the source's position (its beginning). When the source's size is known it
 * must be exactly header + data. QD_UNSUPPORTED: object, string, structured and other types
 * than f2 f4 f8 u1 i1 i2 i4 i8 bool; Fortran order with rank > 1. */
QD_MUST_CHECK enum qd_code qc_npy_read_header(struct qc_source *source,
                                              struct qc_array_header *ret, struct qd_error *err);

#endif
