/* Whole arrays whose first axis is the sample: one stream of elements for each network input
 * (.npy and IDX have one, .npz has as many as the network has inputs). */
#ifndef QC_ARRAY_SET_H
#define QC_ARRAY_SET_H

#include "quantcore/data/elements.h"
#include "quantcore/data/preprocess.h"

/* Does a stored sample of shape dim[0..rank) fill the expected shape? Dimensions of 1 may be
 * missing or extra; -1 in `want` takes any. ret_dim gets the full shape of rank want_rank. */
bool qc_shape_match(const int64_t *dim, int rank, const int64_t *want, int want_rank,
                    int64_t *ret_dim);
/* The shape in which an input's samples are stored: `input->dim` with the channels moved where
 * the preprocessing says that they are (channels first in the network, last in the data). */
void qc_stored_shape(const struct qc_reader_input *input, const struct qc_preprocess *options,
                     int64_t *ret_dim);
/* The preprocessing that input i takes: with several inputs the images among them (rank 3)
 * alone, since a scale for pixels means nothing to the others. */
struct qc_preprocess qc_preprocess_of(const struct qc_reader_options *options, int i);

struct qc_array_set;

/* Add the array behind `source` as the next input (inputs come in order). Takes ownership of
 * the source, on failure too; its header has been read and is given. */
QD_MUST_CHECK enum qd_code qc_array_set_new(const struct qc_reader_options *options,
                                            struct qc_array_set **ret, struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_array_set_add_take(struct qc_array_set *set,
                                                 const struct qc_reader_options *options,
                                                 struct qc_source *source,
                                                 const struct qc_array_header *header,
                                                 struct qd_error *err);
void qc_array_set_free(struct qc_array_set *set);

int64_t qc_array_set_count(const struct qc_array_set *set);
size_t qc_array_set_elements(const struct qc_array_set *set, int input);
/* The caller keeps the index and stops at the count. */
QD_MUST_CHECK enum qd_code qc_array_set_next(struct qc_array_set *set, float *const *out,
                                             struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_array_set_skip(struct qc_array_set *set, int64_t n,
                                             struct qd_error *err);
QD_MUST_CHECK enum qd_code qc_array_set_rewind(struct qc_array_set *set, struct qd_error *err);

#endif
