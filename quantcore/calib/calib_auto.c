#include "quantcore/calib/calib_auto.h"

#include <math.h>
#include <stdio.h>

int qc_recipes(enum qc_calibrator calibrator, const struct qc_search *search,
               struct qc_recipe ret[QC_MAX_RECIPES])
{
    static const struct {
        enum qc_calibrator calibrator;
        double percentile;
    } automatic[] = {{QC_CALIB_MSE, 1},
                     {QC_CALIB_PERCENTILE, 0.99999},
                     {QC_CALIB_PERCENTILE, 0.999999},
                     {QC_CALIB_MINMAX, 1}};
    int n = 0;
    if (calibrator != QC_CALIB_AUTO) {
        ret[0] = (struct qc_recipe){calibrator, *search};
        return 1;
    }
    for (size_t i = 0; i < QD_COUNT_OF(automatic); i++) {
        ret[n] = (struct qc_recipe){automatic[i].calibrator, *search};
        ret[n].search.min_percentile = automatic[i].percentile;
        ret[n].search.max_percentile = automatic[i].percentile;
        n++;
    }
    if (search->min_percentile < 1 || search->max_percentile < 1) {
        ret[n++] = (struct qc_recipe){QC_CALIB_PERCENTILE, *search};
        ret[n++] = (struct qc_recipe){QC_CALIB_MSE, *search};
    }
    return n;
}

void qc_recipes_percentiles(const struct qc_recipe *recipes, int n, double *ret_min,
                            double *ret_max)
{
    double lowest_min = 1;
    double lowest_max = 1;
    for (int i = 0; i < n; i++) {
        lowest_min = fmin(lowest_min, recipes[i].search.min_percentile);
        lowest_max = fmin(lowest_max, recipes[i].search.max_percentile);
    }
    *ret_min = lowest_min;
    *ret_max = lowest_max;
}

void qc_recipe_label(const struct qc_recipe *recipe, char *ret, size_t size)
{
    const char *name = qc_calibrator_name(recipe->calibrator);
    double lo = recipe->search.min_percentile;
    double hi = recipe->search.max_percentile;
    bool cut = recipe->calibrator != QC_CALIB_MINMAX && (lo < 1 || hi < 1);
    if (!cut) {
        snprintf(ret, size, "%s", name);
    } else if (lo >= hi && lo <= hi) {
        snprintf(ret, size, "%s %.10g", name, hi);
    } else {
        snprintf(ret, size, "%s %.10g %.10g", name, lo, hi);
    }
}
