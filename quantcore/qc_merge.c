#include "quantcore/calib/statistics_file.h"
#include "quantcore/quantcore.h"

enum qd_code qc_merge_statistics(const struct qd_bytes *parts, int n, struct qd_arena *arena,
                                 struct qd_bytes *ret, struct qc_statistics_info *ret_info,
                                 struct qd_error *err)
{
    struct qc_statistics *all = NULL;
    for (int i = 0; i < n; i++) {
        struct qc_statistics *part = NULL;
        enum qd_code code = qc_statistics_read(parts[i], arena, &part, err);
        if (code == QD_OK && all != NULL) {
            code = qc_statistics_merge(all, part, arena, &part, err);
        }
        if (code != QD_OK) {
            return qd_wrap(err, code, "statistics %d of %d", i + 1, n);
        }
        all = part;
    }
    if (all == NULL) {
        return qd_fail(err, QD_INVALID, "there are no statistics to merge");
    }
    QD_TRY(qc_statistics_write(all, arena, ret, err));
    *ret_info = (struct qc_statistics_info){all->model_sha256, all->n_samples, all->n,
                                             qc_statistics_have_histograms(all)};
    return QD_OK;
}
