/* Jobs as records. Every change of a job raises its rev; every change of state or phase is an
 * event in the same transaction. store_queue.h moves them from state to state. */
#ifndef STORE_JOBS_H
#define STORE_JOBS_H

#include "store/store.h"

#define STORE_ID_LENGTH 28   /* "j_" + 26 lower-case base32 digits, sorted by time */
#define STORE_NAME_MAX  200
/* Files of a job. Each is an open descriptor of its process: below the usual limit of 1,024. */
#define STORE_INPUTS_MAX 512
#define STORE_KEY_LIFETIME_MS (24 * 3600 * 1000LL)

const char *store_state_name(enum store_state state);
/* False for an unknown name. */
bool store_state_from_name(const char *name, enum store_state *ret);
/* succeeded, failed and canceled are final. */
bool store_state_is_final(enum store_state state);

struct store_job_new {
    const char *name, *config, *tags; /* tags NULL: [] */
    int priority;
    const char *idempotency_key, *request_hash; /* both or none */
    const struct store_input *inputs; /* exactly one of role model */
    size_t n_inputs;
    const char *derived_from; /* id of a job, or NULL */
};

/* Queue a job. Same key and hash within 24 h: the existing job and *ret_existing true. Same key,
 * other hash: QD_CONFLICT. */
QD_MUST_CHECK enum qd_code store_job_create(struct store *store, const struct store_job_new *job,
                                            struct qd_arena *arena, struct store_job *ret,
                                            bool *ret_existing, struct qd_error *err);
QD_MUST_CHECK enum qd_code store_job_get(struct store *store, const char *id,
                                         struct qd_arena *arena, struct store_job *ret,
                                         struct qd_error *err);
QD_MUST_CHECK enum qd_code store_job_inputs(struct store *store, const char *id,
                                            struct qd_arena *arena, struct store_input **ret,
                                            size_t *ret_n, struct qd_error *err);

struct store_job_filter {
    unsigned states;        /* bit 1u << enum store_state; 0: all */
    const char *name;       /* exact; NULL: all */
    const char *query;      /* part of name or id; NULL: all */
    const char *tag;        /* one of its tags; NULL: all */
    int64_t created_after_ms;
    bool ascending;         /* oldest first; default newest first */
    const char *cursor;     /* id of the last job of the page before; NULL: first page */
    size_t limit;           /* 1..STORE_LIST_MAX */
};
struct store_job_page {
    struct store_job *jobs;
    size_t n;
    bool has_more; /* the next cursor is jobs[n - 1].id */
};
QD_MUST_CHECK enum qd_code store_job_list(struct store *store,
                                          const struct store_job_filter *filter,
                                          struct qd_arena *arena, struct store_job_page *ret,
                                          struct qd_error *err);
/* Jobs in each state. */
QD_MUST_CHECK enum qd_code store_job_counts(struct store *store,
                                            int64_t ret_counts[STORE_STATE_COUNT],
                                            struct qd_error *err);
/* Place in the queue, 1 = next; 0 when not queued. */
QD_MUST_CHECK enum qd_code store_job_queue_position(struct store *store, const char *id,
                                                    int64_t *ret, struct qd_error *err);

/* NULL leaves a field as it is. */
QD_MUST_CHECK enum qd_code store_job_update(struct store *store, const char *id,
                                            const char *name, const char *tags,
                                            const int *priority, struct qd_error *err);
/* Rows of a final job and its events but the last; its blobs go with store_remove_unused or
 * the next store_gc unless another job names them. QD_CONFLICT while it is not final. */
QD_MUST_CHECK enum qd_code store_job_delete(struct store *store, const char *id,
                                            struct qd_error *err);

#endif
