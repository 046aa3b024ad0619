/* One file, or one member of an archive, a sample: PNG, JPEG or .npy, for networks with a
 * single input. */
#ifndef QC_SAMPLE_SET_H
#define QC_SAMPLE_SET_H

#include "quantcore/data/member_list.h"
#include "quantcore/data/preprocess.h"

struct qc_sample_set;

/* Takes ownership of the list, on failure too. The first member's header is checked here; label
 * and options->inputs are borrowed. */
QD_MUST_CHECK enum qd_code qc_sample_set_new_take(struct qc_member_list *list, const char *label,
                                                  const struct qc_reader_options *options,
                                                  struct qc_sample_set **ret,
                                                  struct qd_error *err);
void qc_sample_set_free(struct qc_sample_set *set);

int64_t qc_sample_set_count(const struct qc_sample_set *set);
size_t qc_sample_set_elements(const struct qc_sample_set *set);
/* The caller keeps the index and stops at the count. */
QD_MUST_CHECK enum qd_code qc_sample_set_next(struct qc_sample_set *set, float *out,
                                              struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_sample_set_skip(struct qc_sample_set *set, int64_t n,
                                              struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_sample_set_rewind(struct qc_sample_set *set, struct qd_error *err);

#endif
