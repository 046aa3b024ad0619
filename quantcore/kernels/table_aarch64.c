/* The instruction sets of 64-bit ARM: NEON belongs to every CPU, its dot product is asked for. */
#include <sys/auxv.h>

#include "quantcore/kernels/kernels_decl.h"

bool qc_isa_supported(enum qc_isa isa)
{
    return isa == QC_ISA_REF || (isa == QC_ISA_NEON && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0);
}

void qc_table_use(struct qc_kernels *k, enum qc_isa isa)
{
    if (isa != QC_ISA_NEON) {
        return;
    }
    k->isa = QC_ISA_NEON;
    k->tile_rows_f32 = 8;
    k->tile_rows_s8 = 8;
    k->tile_f32 = qc_tile_f32__neon;
    k->winograd_in_f32 = qc_winograd_in_f32__neon;
    k->winograd_out_f32 = qc_winograd_out_f32__neon;
    k->tile_s8 = qc_tile_s8__neon;
    k->sum_taps_u8 = qc_sum_taps_u8__neon;
    k->depthwise_f32 = qc_depthwise_f32__neon;
    k->depthwise_s8 = qc_depthwise_s8__neon;
    k->add_f32 = qc_add_f32__neon;
    k->mul_f32 = qc_mul_f32__neon;
    k->clamp_f32 = qc_clamp_f32__neon;
    k->quantize_u8 = qc_quantize_u8__neon;
    k->quantize_pixels_u8 = qc_quantize_pixels_u8__neon;
    k->dequantize_u8 = qc_dequantize_u8__neon;
    k->lut_u8 = qc_lut_u8__neon;
    k->add_u8 = qc_add_u8__neon;
    k->mul_u8 = qc_mul_u8__neon;
    k->max_taps_f32 = qc_max_taps_f32__neon;
    k->max_taps_u8 = qc_max_taps_u8__neon;
    k->sum_f32 = qc_sum_f32__neon;
    k->sum_u8 = qc_sum_u8__neon;
    k->minmax_f32 = qc_minmax_f32__neon;
    k->histogram_f32 = qc_histogram_f32__neon;
    k->channels_across_f32 = qc_channels_across_f32__neon;
    k->channels_along_f32 = qc_channels_along_f32__neon;
    k->error_f32 = qc_error_f32__neon;
    k->error_u8 = qc_error_u8__neon;
}
