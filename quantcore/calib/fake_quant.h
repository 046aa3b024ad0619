/* x -> dequantize(quantize(x)) in place: what a quantized tensor would have held. */
#ifndef QC_FAKE_QUANT_H
#define QC_FAKE_QUANT_H

#include "quantcore/affine/qparams.h"
#include "quantcore/exec/exec.h"

/* The interior of an f32 view, by the range of its own values (a batch is one sample here, so
 * that the result does not depend on how samples are handed out) in the scheme. Does nothing when
 * a value is not finite. */
void qc_fake_quant_view(const struct qc_kernels *kernels, struct qc_scheme scheme,
                        const struct qc_view *view);

#endif
