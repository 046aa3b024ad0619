/* The instruction sets of x86-64: which ones this CPU has, and their kernels. */
#include <cpuid.h>

#include "quantcore/kernels/kernels_decl.h"

/* Leaf 7.1, EAX bit 4: compilers of today do not all know its name. */
static bool has_avxvnni(void)
{
    unsigned last = 0, eax = 0, ebx, ecx, edx;
    return __get_cpuid_count(7, 0, &last, &ebx, &ecx, &edx) != 0 && last >= 1 &&
           __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}

bool qc_isa_supported(enum qc_isa isa)
{
    switch (isa) {
    case QC_ISA_REF:
        return true;
    case QC_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case QC_ISA_AVXVNNI:
        return qc_isa_supported(QC_ISA_AVX2) && has_avxvnni();
    case QC_ISA_AVX512:
        return qc_isa_supported(QC_ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    case QC_ISA_NEON:
    case QC_ISA_COUNT:
        break;
    }
    return false;
}

/* Each step of the ladder overrides what its instruction set has. */
static void use_avx2(struct qc_kernels *k)
{
    k->isa = QC_ISA_AVX2;
    k->tile_rows_f32 = 6;
    k->tile_rows_s8 = 6;
    k->panel_f32 = 16;
    k->tile_f32 = qc_tile_f32__avx2;
    k->winograd_in_f32 = qc_winograd_in_f32__avx2;
    k->winograd_out_f32 = qc_winograd_out_f32__avx2;
    k->s8_together = 2;
    k->widen_u8 = qc_widen_u8__avx2;
    k->tile_s8 = qc_tile_s8__avx2;
    k->sum_taps_u8 = qc_sum_taps_u8__avx2;
    k->depthwise_f32 = qc_depthwise_f32__avx2;
    k->depthwise_s8 = qc_depthwise_s8__avx2;
    k->add_f32 = qc_add_f32__avx2;
    k->mul_f32 = qc_mul_f32__avx2;
    k->clamp_f32 = qc_clamp_f32__avx2;
    k->quantize_u8 = qc_quantize_u8__avx2;
    k->quantize_pixels_u8 = qc_quantize_pixels_u8__avx2;
    k->dequantize_u8 = qc_dequantize_u8__avx2;
    k->lut_u8 = qc_lut_u8__avx2;
    k->add_u8 = qc_add_u8__avx2;
    k->mul_u8 = qc_mul_u8__avx2;
    k->max_taps_f32 = qc_max_taps_f32__avx2;
    k->max_taps_u8 = qc_max_taps_u8__avx2;
    k->sum_f32 = qc_sum_f32__avx2;
    k->sum_u8 = qc_sum_u8__avx2;
    k->minmax_f32 = qc_minmax_f32__avx2;
    k->histogram_f32 = qc_histogram_f32__avx2;
    k->channels_across_f32 = qc_channels_across_f32__avx2;
    k->channels_along_f32 = qc_channels_along_f32__avx2;
    k->error_f32 = qc_error_f32__avx2;
    k->error_u8 = qc_error_u8__avx2;
}

/* vpdpbusd takes bytes, four at once. */
static void use_bytes(struct qc_kernels *k)
{
    k->s8_together = 4;
    k->widen_u8 = NULL;
}

static void use_avxvnni(struct qc_kernels *k)
{
    k->isa = QC_ISA_AVXVNNI;
    use_bytes(k);
    k->tile_rows_s8 = 6;
    k->tile_s8 = qc_tile_s8__avxvnni;
    k->depthwise_s8 = qc_depthwise_s8__avxvnni;
}

static void use_avx512(struct qc_kernels *k)
{
    k->isa = QC_ISA_AVX512;
    use_bytes(k);
    k->tile_rows_f32 = 12;
    k->tile_rows_s8 = 12;
    k->panel_f32 = 32;
    k->tile_f32 = qc_tile_f32__avx512;
    k->winograd_in_f32 = qc_winograd_in_f32__avx512;
    k->winograd_out_f32 = qc_winograd_out_f32__avx512;
    k->tile_s8 = qc_tile_s8__avx512;
    k->sum_taps_u8 = qc_sum_taps_u8__avx512;
    k->depthwise_f32 = qc_depthwise_f32__avx512;
    k->depthwise_s8 = qc_depthwise_s8__avx512;
    k->add_f32 = qc_add_f32__avx512;
    k->mul_f32 = qc_mul_f32__avx512;
    k->clamp_f32 = qc_clamp_f32__avx512;
    k->quantize_u8 = qc_quantize_u8__avx512;
    k->quantize_pixels_u8 = qc_quantize_pixels_u8__avx512;
    k->dequantize_u8 = qc_dequantize_u8__avx512;
    k->lut_u8 = qc_lut_u8__avx512;
    k->add_u8 = qc_add_u8__avx512;
    k->mul_u8 = qc_mul_u8__avx512;
    k->max_taps_f32 = qc_max_taps_f32__avx512;
    k->max_taps_u8 = qc_max_taps_u8__avx512;
    k->sum_f32 = qc_sum_f32__avx512;
    k->sum_u8 = qc_sum_u8__avx512;
    k->minmax_f32 = qc_minmax_f32__avx512;
    k->histogram_f32 = qc_histogram_f32__avx512;
    k->channels_across_f32 = qc_channels_across_f32__avx512;
    k->channels_along_f32 = qc_channels_along_f32__avx512;
    k->error_f32 = qc_error_f32__avx512;
    k->error_u8 = qc_error_u8__avx512;
}

void qc_table_use(struct qc_kernels *k, enum qc_isa isa)
{
    if (isa >= QC_ISA_AVX2) {
        use_avx2(k);
    }
    if (isa == QC_ISA_AVXVNNI) {
        use_avxvnni(k);
    }
    if (isa >= QC_ISA_AVX512) {
        use_avx512(k);
    }
}
