/* Inside store/ only: statements with sticky errors, transactions, the store's own struct. */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <sqlite3.h>

#include "store/store.h"

struct store {
    sqlite3 *db;
    struct store_blobs *blobs;
    int lock_fd;
    int fail_after; /* fault injection, 0: off */
    int64_t (*now_ms)(void);
    int64_t events_max;
    char data_dir[4000];
    char instance[33];
    uint64_t id_ms, id_random; /* of the last job id: ids of one millisecond still ascend */
    uint16_t id_random_high;
};

/* One statement. Binds go left to right; the first error sticks and comes out of _step. */
struct store_query {
    struct store *store;
    sqlite3_stmt *stmt;
    struct qd_error *err;
    enum qd_code code;
    int n_bound;
};
void store_query_init(struct store_query *query, struct store *store, const char *sql,
                      struct qd_error *err);
void store_query_done(struct store_query *query);
void store_bind_text(struct store_query *query, const char *value); /* NULL: null */
void store_bind_int(struct store_query *query, int64_t value);
void store_bind_real(struct store_query *query, double value); /* NaN: null */
/* *ret_row: is there a row? */
QD_MUST_CHECK enum qd_code store_query_step(struct store_query *query, bool *ret_row);
/* Step a statement that gives no row, then _done. */
QD_MUST_CHECK enum qd_code store_query_run(struct store_query *query);
/* The same; *ret_changed rows were changed. */
QD_MUST_CHECK enum qd_code store_query_change(struct store_query *query, int64_t *ret_changed);
/* Columns of the present row; texts are copied into the arena, the error sticks. */
const char *store_column_text(struct store_query *query, int column, struct qd_arena *arena);
int64_t store_column_int(struct store_query *query, int column);
double store_column_real(struct store_query *query, int column);
/* Next element of an array that grows in the arena; NULL when it failed (code in query). */
void *store_grow(struct store_query *query, struct qd_arena *arena, void *array, size_t n,
                 size_t size);

QD_MUST_CHECK enum qd_code store_exec(struct store *store, const char *sql, struct qd_error *err);
QD_MUST_CHECK enum qd_code store_begin(struct store *store, struct qd_error *err);
/* COMMIT when code is QD_OK, else ROLLBACK; returns what is left: code or the commit's failure. */
QD_MUST_CHECK enum qd_code store_end(struct store *store, enum qd_code code,
                                     struct qd_error *err);
enum qd_code store_fail_sql(struct store *store, int rc, const char *what, struct qd_error *err);

/* QD_INVALID unless text is NULL or JSON. */
QD_MUST_CHECK enum qd_code store_check_json(struct store *store, const char *what,
                                            const char *text, struct qd_error *err);

/* Event of the job as it is now (inside a transaction); the oldest go beyond events_max. */
QD_MUST_CHECK enum qd_code store_event_add(struct store *store, const char *job, const char *type,
                                           struct qd_error *err);
/* A job is deleted: what is left of its events is that one (inside a transaction). */
QD_MUST_CHECK enum qd_code store_events_of_deleted(struct store *store, const char *job,
                                                   struct qd_error *err);

/* Columns of a job in the order that store_read_job reads. */
#define STORE_JOB_COLUMNS                                                                  \
    "id,name,state,phase,done,total,unit,attempt,failures,rev,priority,tags,config,"       \
    "model_sha256,created_ms,started_ms,finished_ms,updated_ms,run_after_ms,"              \
    "idempotency_key,request_hash,error_code,error_class,error_message,error_subject,"     \
    "instance,version,summary,derived_from"
void store_read_job(struct store_query *query, struct qd_arena *arena, struct store_job *ret);

#endif
