/* Which names of a graph are taken: a hash set, because a model with many nodes would make a
 * linear search for each of its new names quadratic. */
#ifndef QC_QUANTIZE_NAMES_H
#define QC_QUANTIZE_NAMES_H

#include "quantcore/base/qd_arena.h"

struct qc_name_set {
    const char **slot; /* in the arena, NULL where empty; at most half full */
    size_t n_slots;    /* a power of two */
    size_t n;
};

/* An empty set; grows by itself. */
QD_MUST_CHECK enum qd_code qc_name_set_init(struct qc_name_set *s, size_t expected,
                                            struct qd_arena *arena, struct qd_error *err);
bool qc_name_set_has(const struct qc_name_set *s, const char *name);
/* name is borrowed; adding it twice is no error. */
QD_MUST_CHECK enum qd_code qc_name_set_add(struct qc_name_set *s, const char *name,
                                           struct qd_arena *arena, struct qd_error *err);
/* "<base><suffix>", with underscores until nobody has it; added to the set. */
QD_MUST_CHECK enum qd_code qc_name_set_make(struct qc_name_set *s, const char *base,
                                            const char *suffix, struct qd_arena *arena,
                                            const char **ret, struct qd_error *err);

#endif
