/* A processor without kernels of its own runs plain C. */
#include "quantcore/kernels/kernels_decl.h"

bool qc_isa_supported(enum qc_isa isa)
{
    return isa == QC_ISA_REF;
}

void qc_table_use(struct qc_kernels *k, enum qc_isa isa)
{
    (void)k;
    (void)isa;
}
