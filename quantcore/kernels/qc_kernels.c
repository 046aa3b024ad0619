#include "quantcore/kernels/kernels_decl.h"

#include <string.h>

static const char *const isa_names[QC_ISA_COUNT] = {
    [QC_ISA_REF] = "ref", [QC_ISA_NEON] = "neon", [QC_ISA_AVX2] = "avx2",
    [QC_ISA_AVXVNNI] = "avxvnni", [QC_ISA_AVX512] = "avx512"};

const char *qc_isa_name(enum qc_isa isa)
{
    return isa_names[isa];
}

bool qc_isa_from_name(const char *name, enum qc_isa *ret)
{
    for (int i = 0; i < QC_ISA_COUNT; i++) {
        if (strcmp(isa_names[i], name) == 0) {
            *ret = (enum qc_isa)i;
            return true;
        }
    }
    return false;
}

/* The highest that is not above `isa`. */
static enum qc_isa highest(enum qc_isa isa)
{
    while (!qc_isa_supported(isa)) {
        isa = (enum qc_isa)(isa - 1);
    }
    return isa;
}

enum qc_isa qc_isa_detect(void)
{
    return highest((enum qc_isa)(QC_ISA_COUNT - 1));
}

static void use_ref(struct qc_kernels *k)
{
    *k = (struct qc_kernels){
        .isa = QC_ISA_REF,
        .tile_rows_f32 = 4,
        .tile_rows_s8 = 4,
        .panel_f32 = QC_NR,
        .s8_together = 4,
        .tile_f32 = qc_tile_f32__ref,
        .winograd_in_f32 = qc_winograd_in_f32__ref,
        .winograd_out_f32 = qc_winograd_out_f32__ref,
        .tile_s8 = qc_tile_s8__ref,
        .sum_taps_u8 = qc_sum_taps_u8__ref,
        .depthwise_f32 = qc_depthwise_f32__ref,
        .depthwise_s8 = qc_depthwise_s8__ref,
        .add_f32 = qc_add_f32__ref,
        .mul_f32 = qc_mul_f32__ref,
        .clamp_f32 = qc_clamp_f32__ref,
        .quantize_u8 = qc_quantize_u8__ref,
        .quantize_pixels_u8 = qc_quantize_pixels_u8__ref,
        .dequantize_u8 = qc_dequantize_u8__ref,
        .lut_u8 = qc_lut_u8__ref,
        .add_u8 = qc_add_u8__ref,
        .mul_u8 = qc_mul_u8__ref,
        .max_taps_f32 = qc_max_taps_f32__ref,
        .max_taps_u8 = qc_max_taps_u8__ref,
        .sum_f32 = qc_sum_f32__ref,
        .sum_u8 = qc_sum_u8__ref,
        .minmax_f32 = qc_minmax_f32__ref,
        .histogram_f32 = qc_histogram_f32__ref,
        .channels_across_f32 = qc_channels_across_f32__ref,
        .channels_along_f32 = qc_channels_along_f32__ref,
        .error_f32 = qc_error_f32__ref,
        .error_u8 = qc_error_u8__ref,
    };
}

void qc_kernels_init(struct qc_kernels *kernels, enum qc_isa isa)
{
    enum qc_isa best = highest(isa);
    use_ref(kernels);
    qc_table_use(kernels, best);
}
