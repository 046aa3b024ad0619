/* Which products would saturate where bytes are multiplied in pairs: without VNNI, x86 runtimes
 * multiply u8 by s8 with vpmaddubsw, which adds two products in 16 bits. With codes of up to 255 the
 * sum leaves them when two neighbouring weights add up to 129 or more, or to -129 or less
 * (255 * 129 > 2^15). quantd's own kernels are exact everywhere; a deployment on such a CPU may
 * not be. */
#ifndef QC_SATURATING_PAIRS_H
#define QC_SATURATING_PAIRS_H

#include "quantcore/quant/quantize_weights.h"

/* Of a Conv, Gemm or MatMul (0 of others): pairs of weights that could saturate, of n_weights / 2: weights 2j and 2j + 1 of an output channel
 * in the order in which they are multiplied (of a Conv by taps, a tap's input channels together).
 * 0 for depthwise Convs, which runtimes multiply one by one. What a Conv's data do decides
 * whether a pair saturates in fact. */
int64_t qc_saturating_pairs(const struct qc_node *node, const struct qc_quantized_weights *w);

#endif
