#include "quantcore/kernels/kernels_winograd.h"

WINOGRAD_KERNELS(avx2, 8)
