#include "quantcore/kernels/kernels_winograd.h"

WINOGRAD_KERNELS(neon, 4)
