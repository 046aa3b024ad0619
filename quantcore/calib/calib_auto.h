/* `auto`: whole-network recipes that are tried on the same statistics.
 *
 * The caller derives every tensor's range by a recipe, quantizes, verifies on samples that no
 * statistic has seen, and keeps the recipe with the best metric; an earlier recipe wins a tie.
 * One recipe holds for all tensors: choosing a tensor's calibrator by its own error is `mse`
 * again, and searching ranges against the network's output fits the calibration samples and loses
 * on others.
 *
 * The recipes, the likely best first (measured on six networks: after bias correction mse is best
 * or within noise; percentiles follow; plain extremes win where channels were equalized):
 * mse, percentile 0.99999, percentile 0.999999, minmax; then, when the job's own percentiles
 * cut something, percentile with those and mse within them. */
#ifndef QC_CALIB_AUTO_H
#define QC_CALIB_AUTO_H

#include "quantcore/calib/calibrator.h"

enum { QC_MAX_RECIPES = 6 };

struct qc_recipe {
    enum qc_calibrator calibrator; /* never QC_CALIB_AUTO */
    struct qc_search search;       /* the job's own but for the percentiles */
};

/* What `calibrator` means for a job: one recipe, or the list of QC_CALIB_AUTO. Gives how many
 * (1..QC_MAX_RECIPES). */
int qc_recipes(enum qc_calibrator calibrator, const struct qc_search *search,
               struct qc_recipe ret[QC_MAX_RECIPES]);
/* The smallest percentiles among them: what pass 1 must keep tails for. */
void qc_recipes_percentiles(const struct qc_recipe *recipes, int n, double *ret_min,
                            double *ret_max);
/* "mse", "percentile 0.99999", "percentile 0.999 0.9999" (min, max): for reports, cut to size. */
void qc_recipe_label(const struct qc_recipe *recipe, char *ret, size_t size);

#endif
