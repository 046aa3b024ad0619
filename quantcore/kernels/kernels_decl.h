/* Declarations of every kernel of every instruction set. qc_kernels.c puts `_ref` in the table,
 * the table_*.c of the processor what it has instead. */
#ifndef QC_KERNELS_DECL_H
#define QC_KERNELS_DECL_H

#include "quantcore/kernels/qc_kernels.h"

#define QC_KERNELS_OF(isa)                            \
    qc_tile_f32_fn qc_tile_f32__##isa;                \
    qc_winograd_in_f32_fn qc_winograd_in_f32__##isa;  \
    qc_winograd_out_f32_fn qc_winograd_out_f32__##isa; \
    qc_tile_s8_fn qc_tile_s8__##isa;                  \
    qc_sum_taps_u8_fn qc_sum_taps_u8__##isa;          \
    qc_depthwise_f32_fn qc_depthwise_f32__##isa;      \
    qc_depthwise_s8_fn qc_depthwise_s8__##isa;        \
    qc_binary_f32_fn qc_add_f32__##isa;               \
    qc_binary_f32_fn qc_mul_f32__##isa;               \
    qc_clamp_f32_fn qc_clamp_f32__##isa;              \
    qc_quantize_u8_fn qc_quantize_u8__##isa;          \
    qc_quantize_pixels_u8_fn qc_quantize_pixels_u8__##isa; \
    qc_dequantize_u8_fn qc_dequantize_u8__##isa;      \
    qc_lut_u8_fn qc_lut_u8__##isa;                    \
    qc_add_u8_fn qc_add_u8__##isa;                    \
    qc_mul_u8_fn qc_mul_u8__##isa;                    \
    qc_max_taps_f32_fn qc_max_taps_f32__##isa;                  \
    qc_max_taps_u8_fn qc_max_taps_u8__##isa;                    \
    qc_sum_f32_fn qc_sum_f32__##isa;                  \
    qc_sum_u8_fn qc_sum_u8__##isa;                    \
    qc_minmax_f32_fn qc_minmax_f32__##isa;            \
    qc_histogram_f32_fn qc_histogram_f32__##isa;      \
    qc_channels_f32_fn qc_channels_across_f32__##isa; \
    qc_channels_f32_fn qc_channels_along_f32__##isa;  \
    qc_error_fn qc_error_f32__##isa;                  \
    qc_error_fn qc_error_u8__##isa

QC_KERNELS_OF(ref);
QC_KERNELS_OF(neon);
QC_KERNELS_OF(avx2);
QC_KERNELS_OF(avx512);
/* AVX2 has no bytes to multiply. */
qc_widen_u8_fn qc_widen_u8__avx2;
/* What 256-bit vpdpbusd adds to AVX2. */
qc_tile_s8_fn qc_tile_s8__avxvnni;
qc_depthwise_s8_fn qc_depthwise_s8__avxvnni;

/* Overrides the kernels that `isa`, a supported one, has. */
void qc_table_use(struct qc_kernels *k, enum qc_isa isa);

#endif
