#include "store/store_events.h"

#include "store/store_db.h"

enum qd_code store_event_add(struct store *store, const char *job, const char *type,
                             struct qd_error *err)
{
    struct store_query q;
    store_query_init(&q, store,
                     "INSERT INTO events(job_id,type,data,time_ms) SELECT id,?2,"
                     "json_object('id',id,'name',name,'state',state,'phase',phase,"
                     "'attempt',attempt,'rev',rev,'version',version,"
                     "'error_code',error_code,'error_class',error_class,"
                     "'error_message',error_message),?3 FROM jobs WHERE id=?1",
                     err);
    store_bind_text(&q, job);
    store_bind_text(&q, type);
    store_bind_int(&q, store->now_ms());
    QD_TRY(store_query_run(&q));
    /* Ids only grow, so that a difference of ids bounds the rows between them. */
    store_query_init(&q, store, "DELETE FROM events WHERE id<=last_insert_rowid()-?1", err);
    store_bind_int(&q, store->events_max);
    return store_query_run(&q);
}

enum qd_code store_events_of_deleted(struct store *store, const char *job, struct qd_error *err)
{
    struct store_query q;
    store_query_init(&q, store, "DELETE FROM events WHERE job_id=?1 AND type<>'job.deleted'", err);
    store_bind_text(&q, job);
    return store_query_run(&q);
}

enum qd_code store_events(struct store *store, const char *job, int64_t after, size_t limit,
                          struct qd_arena *arena, struct store_event **ret, size_t *ret_n,
                          struct qd_error *err)
{
    struct store_query q;
    struct store_event *rows = NULL;
    size_t n = 0;
    bool row = false;
    if (limit < 1 || limit > STORE_LIST_MAX) {
        return qd_fail(err, QD_INVALID, "limit %zu, allowed are 1 to %d", limit, STORE_LIST_MAX);
    }
    store_query_init(&q, store,
                     job != NULL ? "SELECT id,job_id,type,data,time_ms FROM events "
                                   "WHERE id>?1 AND job_id=?3 ORDER BY id LIMIT ?2"
                                 : "SELECT id,job_id,type,data,time_ms FROM events "
                                   "WHERE id>?1 ORDER BY id LIMIT ?2",
                     err);
    store_bind_int(&q, after);
    store_bind_int(&q, (int64_t)limit);
    if (job != NULL) {
        store_bind_text(&q, job);
    }
    while (store_query_step(&q, &row) == QD_OK && row) {
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_event){.id = store_column_int(&q, 0),
                                             .job = store_column_text(&q, 1, arena),
                                             .type = store_column_text(&q, 2, arena),
                                             .data = store_column_text(&q, 3, arena),
                                             .time_ms = store_column_int(&q, 4)};
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}

enum qd_code store_events_progress(struct store *store, const char *job, struct qd_arena *arena,
                                   struct store_progress **ret, size_t *ret_n,
                                   struct qd_error *err)
{
    struct store_query q;
    struct store_progress *rows = NULL;
    size_t n = 0;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT id,name,phase,unit,attempt,rev,done,total FROM jobs "
                     "WHERE state='running' AND total>0 AND (?1 IS NULL OR id=?1) "
                     "ORDER BY id LIMIT ?2",
                     err);
    store_bind_text(&q, job);
    store_bind_int(&q, STORE_LIST_MAX);
    while (store_query_step(&q, &row) == QD_OK && row) {
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_progress){.job = store_column_text(&q, 0, arena),
                                                .name = store_column_text(&q, 1, arena),
                                                .phase = store_column_text(&q, 2, arena),
                                                .unit = store_column_text(&q, 3, arena),
                                                .attempt = (int)store_column_int(&q, 4),
                                                .rev = store_column_int(&q, 5),
                                                .done = store_column_int(&q, 6),
                                                .total = store_column_int(&q, 7)};
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}

enum qd_code store_events_last(struct store *store, int64_t *ret, struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store, "SELECT coalesce(max(id),0) FROM events", err);
    enum qd_code code = store_query_step(&q, &row);
    if (code == QD_OK) {
        *ret = store_column_int(&q, 0);
    }
    store_query_done(&q);
    return code;
}
