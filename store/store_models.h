/* Models: every succeeded job of a name is the name's next version. */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include "store/store.h"

struct store_version {
    const char *model, *job;
    int64_t version; /* from 1, never reused */
    bool passed;     /* its gate */
    int64_t created_ms;
};

struct store_model {
    const char *name;
    int64_t newest;     /* the highest version that is there */
    int64_t latest;     /* the highest one that passed its gate, 0: none */
    int64_t n_versions; /* at least 1: a name whose versions were all deleted is no model */
    int64_t updated_ms; /* when the newest was made */
};

/* By name, at most limit (1..STORE_LIST_MAX); after: last name of the page before, or NULL. */
QD_MUST_CHECK enum qd_code store_models(struct store *store, const char *after, size_t limit,
                                        struct qd_arena *arena, struct store_model **ret,
                                        size_t *ret_n, bool *ret_more, struct qd_error *err);
QD_MUST_CHECK enum qd_code store_model_get(struct store *store, const char *name,
                                           struct qd_arena *arena, struct store_model *ret,
                                           struct qd_error *err);
/* Newest first, at most limit (1..STORE_LIST_MAX), those below `before` (0: all). */
QD_MUST_CHECK enum qd_code store_model_versions(struct store *store, const char *model,
                                                int64_t before, size_t limit,
                                                struct qd_arena *arena,
                                                struct store_version **ret, size_t *ret_n,
                                                bool *ret_more, struct qd_error *err);
/* version 0: the newest that passed its gate. */
QD_MUST_CHECK enum qd_code store_model_version(struct store *store, const char *model,
                                               int64_t version, struct qd_arena *arena,
                                               struct store_version *ret, struct qd_error *err);

#endif
