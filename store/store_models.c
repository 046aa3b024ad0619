#include "store/store_models.h"

#include "store/store_db.h"

static enum qd_code read_versions(struct store_query *q, struct qd_arena *arena,
                                  struct store_version **ret, size_t *ret_n)
{
    struct store_version *rows = NULL;
    size_t n = 0;
    bool row = false;
    while (store_query_step(q, &row) == QD_OK && row) {
        rows = store_grow(q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_version){.model = store_column_text(q, 0, arena),
                                               .version = store_column_int(q, 1),
                                               .job = store_column_text(q, 2, arena),
                                               .passed = store_column_int(q, 3) != 0,
                                               .created_ms = store_column_int(q, 4)};
        }
    }
    store_query_done(q);
    QD_TRY(q->code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}

enum qd_code store_models(struct store *store, const char *after, size_t limit,
                          struct qd_arena *arena, struct store_version **ret, size_t *ret_n,
                          struct qd_error *err)
{
    struct store_query q;
    if (limit < 1 || limit > STORE_LIST_MAX) {
        return qd_fail(err, QD_INVALID, "limit %zu, allowed are 1 to %d", limit, STORE_LIST_MAX);
    }
    store_query_init(&q, store,
                     "SELECT model,max(version),job_id,passed,created_ms FROM versions "
                     "WHERE model>?1 GROUP BY model ORDER BY model LIMIT ?2",
                     err);
    store_bind_text(&q, after != NULL ? after : "");
    store_bind_int(&q, (int64_t)limit);
    return read_versions(&q, arena, ret, ret_n);
}

enum qd_code store_model_versions(struct store *store, const char *model, struct qd_arena *arena,
                                  struct store_version **ret, size_t *ret_n,
                                  struct qd_error *err)
{
    struct store_query q;
    store_query_init(&q, store,
                     "SELECT model,version,job_id,passed,created_ms FROM versions "
                     "WHERE model=?1 ORDER BY version DESC",
                     err);
    store_bind_text(&q, model);
    return read_versions(&q, arena, ret, ret_n);
}

enum qd_code store_model_version(struct store *store, const char *model, int64_t version,
                                 struct qd_arena *arena, struct store_version *ret,
                                 struct qd_error *err)
{
    struct store_query q;
    struct store_version *rows = NULL;
    size_t n = 0;
    store_query_init(&q, store,
                     "SELECT model,version,job_id,passed,created_ms FROM versions WHERE model=?1 "
                     "AND ((?2=0 AND passed=1) OR version=?2) ORDER BY version DESC LIMIT 1",
                     err);
    store_bind_text(&q, model);
    store_bind_int(&q, version);
    QD_TRY(read_versions(&q, arena, &rows, &n));
    if (n == 0 && version == 0) {
        return qd_fail(err, QD_NOT_FOUND, "model '%.200s' has no version that passed its gate",
                       model);
    }
    if (n == 0) {
        return qd_fail(err, QD_NOT_FOUND, "model '%.200s' has no version %lld", model,
                       (long long)version);
    }
    *ret = rows[0];
    return QD_OK;
}
