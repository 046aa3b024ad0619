#include "quantcore/calib/calib_mse.h"

#include <math.h>

enum { UNIT = 1024, COARSE = UNIT / 64 };

struct mse_search {
    const struct qc_histogram_prefix *p;
    bool symmetric;
    double lo, hi; /* of the base range */
    /* the best so far: a and b count in 1/UNIT of lo and hi */
    int a, b;
    double error;
};

static void try_range(struct mse_search *s, int a, int b)
{
    struct qc_qparams params;
    if (a < 1 || b < 1 || a > UNIT || b > UNIT) {
        return;
    }
    qc_candidate_qparams(s->symmetric, s->lo * a / UNIT, s->hi * b / UNIT, &params);
    double error =
        qc_histogram_prefix_error(s->p, &params, qc_candidate_first_code(s->symmetric));
    bool wider = a + b > s->a + s->b;
    if (error < s->error || (error <= s->error && wider)) {
        s->a = a;
        s->b = b;
        s->error = error;
    }
}

static void search_both(struct mse_search *s)
{
    /* An end at 0 has nothing to search. */
    int lo_from = s->lo < 0 ? COARSE : UNIT;
    int hi_from = s->hi > 0 ? COARSE : UNIT;
    for (int a = UNIT; a >= lo_from; a -= COARSE) {
        for (int b = UNIT; b >= hi_from; b -= COARSE) {
            try_range(s, a, b);
        }
    }
    int lo_reach = s->lo < 0 ? 2 : 0;
    int hi_reach = s->hi > 0 ? 2 : 0;
    for (int step = COARSE / 2; step >= 1; step /= 2) {
        int a = s->a;
        int b = s->b;
        for (int i = lo_reach; i >= -lo_reach; i--) {
            for (int j = hi_reach; j >= -hi_reach; j--) {
                try_range(s, a + i * step, b + j * step);
            }
        }
    }
}

static void search_symmetric(struct mse_search *s)
{
    for (int a = UNIT; a >= COARSE; a -= COARSE) {
        try_range(s, a, a);
    }
    for (int step = COARSE / 2; step >= 1; step /= 2) {
        int a = s->a;
        for (int i = 2; i >= -2; i--) {
            try_range(s, a + i * step, a + i * step);
        }
    }
}

void qc_calib_mse(const struct qc_histogram_prefix *p, bool symmetric, double lo, double hi,
                  struct qc_range *ret)
{
    struct mse_search s = {.p = p, .symmetric = symmetric, .lo = lo, .hi = hi, .error = INFINITY};
    if (symmetric) {
        search_symmetric(&s);
    } else {
        search_both(&s);
    }
    ret->lo = lo * s.a / UNIT;
    ret->hi = hi * s.b / UNIT;
    ret->ratio = (ret->hi - ret->lo) / (hi - lo);
    ret->score = s.error;
}
