/* Pixels of four bytes, of which some count, close up: byte j comes from byte j / channels * 4 +
 * j % channels. The same order closes up what is left in each quarter of a vector: double word j
 * comes from double word [j]. */
#ifndef QC_KERNELS_PIXELS_H
#define QC_KERNELS_PIXELS_H

#include <immintrin.h>

/* For 2, 3 and 4 channels; what follows 4 * channels entries is of no use. */
static const uint8_t qc_pixel_order[3][16] = {
    {0, 1, 4, 5, 8, 9, 12, 13},
    {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

static inline __m128i qc_load_pixel_order(int channels)
{
    return _mm_loadu_si128((const __m128i *)(const void *)qc_pixel_order[channels - 2]);
}

#endif
