#include "quantcore/kernels/kernels_winograd.h"

WINOGRAD_KERNELS(avx512, 16)
