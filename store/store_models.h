/* Models: every succeeded job of a name is the name's next version. */
#ifndef STORE_MODELS_H
#define STORE_MODELS_H

#include "store/store.h"

struct store_version {
    const char *model, *job;
    int64_t version; /* from 1, never reused */
    bool passed;
    int64_t created_ms;
};

/* The newest version of every model, by name; after: last name of the page before, or NULL. */
QD_MUST_CHECK enum qd_code store_models(struct store *store, const char *after, size_t limit,
                                        struct qd_arena *arena, struct store_version **ret,
                                        size_t *ret_n, struct qd_error *err);
/* Newest first. */
QD_MUST_CHECK enum qd_code store_model_versions(struct store *store, const char *model,
                                                struct qd_arena *arena,
                                                struct store_version **ret, size_t *ret_n,
                                                struct qd_error *err);
/* version 0: the newest that passed its gate. */
QD_MUST_CHECK enum qd_code store_model_version(struct store *store, const char *model,
                                               int64_t version, struct qd_arena *arena,
                                               struct store_version *ret, struct qd_error *err);

#endif
