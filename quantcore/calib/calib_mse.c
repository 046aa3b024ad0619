#include "quantcore/calib/calib_mse.h"

#include <math.h>

enum { UNIT = 1024, COARSE = UNIT / 64 };

/* a and b count in 1/UNIT of lo and hi. */
struct best {
    int a, b;
    double error;
};

static void try_range(const struct qc_histogram_prefix *p, double lo, double hi, int a, int b,
                      struct best *best)
{
    struct qc_qparams params;
    if (a < 1 || b < 1 || a > UNIT || b > UNIT) {
        return;
    }
    qc_qparams_asymmetric_u8(lo * a / UNIT, hi * b / UNIT, &params);
    double error = qc_histogram_prefix_error(p, &params);
    bool wider = a + b > best->a + best->b;
    if (error < best->error || (error <= best->error && wider)) {
        *best = (struct best){a, b, error};
    }
}

void qc_calib_mse(const struct qc_histogram_prefix *p, double lo, double hi, struct qc_range *ret)
{
    struct best best = {0, 0, INFINITY};
    /* An end at 0 has nothing to search. */
    int lo_from = lo < 0 ? COARSE : UNIT;
    int hi_from = hi > 0 ? COARSE : UNIT;
    for (int a = UNIT; a >= lo_from; a -= COARSE) {
        for (int b = UNIT; b >= hi_from; b -= COARSE) {
            try_range(p, lo, hi, a, b, &best);
        }
    }
    for (int step = COARSE / 2; step >= 1; step /= 2) {
        struct best centre = best;
        int lo_reach = lo < 0 ? 2 : 0;
        int hi_reach = hi > 0 ? 2 : 0;
        for (int i = lo_reach; i >= -lo_reach; i--) {
            for (int j = hi_reach; j >= -hi_reach; j--) {
                try_range(p, lo, hi, centre.a + i * step, centre.b + j * step, &best);
            }
        }
    }
    ret->lo = lo * best.a / UNIT;
    ret->hi = hi * best.b / UNIT;
    ret->ratio = (ret->hi - ret->lo) / (hi - lo);
    ret->score = best.error;
}
