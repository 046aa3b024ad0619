#include "store/store_models.h"

#include "store/store_db.h"

static enum qd_code check_limit(size_t limit, struct qd_error *err)
{
    return limit >= 1 && limit <= STORE_LIST_MAX
               ? QD_OK
               : qd_fail_on(err, QD_INVALID, "limit", "limit %zu, allowed are 1 to %d", limit,
                            STORE_LIST_MAX);
}

/* At most `limit` rows; *ret_more: there was another one. */
static enum qd_code read_models(struct store_query *q, size_t limit, struct qd_arena *arena,
                                struct store_model **ret, size_t *ret_n, bool *ret_more)
{
    struct store_model *rows = NULL;
    size_t n = 0;
    bool row = false;
    while (store_query_step(q, &row) == QD_OK && row && n < limit) {
        rows = store_grow(q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_model){.name = store_column_text(q, 0, arena),
                                             .newest = store_column_int(q, 1),
                                             .latest = store_column_int(q, 2),
                                             .n_versions = store_column_int(q, 3),
                                             .updated_ms = store_column_int(q, 4)};
        }
    }
    store_query_done(q);
    QD_TRY(q->code);
    *ret = rows;
    *ret_n = n;
    *ret_more = row;
    return QD_OK;
}

static enum qd_code read_versions(struct store_query *q, size_t limit, struct qd_arena *arena,
                                  struct store_version **ret, size_t *ret_n, bool *ret_more)
{
    struct store_version *rows = NULL;
    size_t n = 0;
    bool row = false;
    while (store_query_step(q, &row) == QD_OK && row && n < limit) {
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
    *ret_more = row;
    return QD_OK;
}

#define MODEL_COLUMNS                                                                            \
    "SELECT model,max(version),coalesce(max(CASE WHEN passed=1 THEN version END),0),"            \
    "count(*),max(created_ms) FROM versions "

enum qd_code store_models(struct store *store, const char *after, size_t limit,
                          struct qd_arena *arena, struct store_model **ret, size_t *ret_n,
                          bool *ret_more, struct qd_error *err)
{
    struct store_query q;
    QD_TRY(check_limit(limit, err));
    store_query_init(&q, store,
                     MODEL_COLUMNS "WHERE model>?1 GROUP BY model ORDER BY model LIMIT ?2", err);
    store_bind_text(&q, after != NULL ? after : "");
    store_bind_int(&q, (int64_t)limit + 1);
    return read_models(&q, limit, arena, ret, ret_n, ret_more);
}

enum qd_code store_model_get(struct store *store, const char *name, struct qd_arena *arena,
                             struct store_model *ret, struct qd_error *err)
{
    struct store_query q;
    struct store_model *rows = NULL;
    size_t n = 0;
    bool more;
    store_query_init(&q, store, MODEL_COLUMNS "WHERE model=?1 GROUP BY model", err);
    store_bind_text(&q, name);
    QD_TRY(read_models(&q, 1, arena, &rows, &n, &more));
    if (n == 0) {
        return qd_fail(err, QD_NOT_FOUND, "no model '%.200s'", name);
    }
    *ret = rows[0];
    return QD_OK;
}

enum qd_code store_model_versions(struct store *store, const char *model, int64_t before,
                                  size_t limit, struct qd_arena *arena,
                                  struct store_version **ret, size_t *ret_n, bool *ret_more,
                                  struct qd_error *err)
{
    struct store_query q;
    QD_TRY(check_limit(limit, err));
    store_query_init(&q, store,
                     "SELECT model,version,job_id,passed,created_ms FROM versions "
                     "WHERE model=?1 AND (?2=0 OR version<?2) ORDER BY version DESC LIMIT ?3",
                     err);
    store_bind_text(&q, model);
    store_bind_int(&q, before);
    store_bind_int(&q, (int64_t)limit + 1);
    return read_versions(&q, limit, arena, ret, ret_n, ret_more);
}

enum qd_code store_model_version(struct store *store, const char *model, int64_t version,
                                 struct qd_arena *arena, struct store_version *ret,
                                 struct qd_error *err)
{
    struct store_query q;
    struct store_version *rows = NULL;
    size_t n = 0;
    bool more;
    store_query_init(&q, store,
                     "SELECT model,version,job_id,passed,created_ms FROM versions WHERE model=?1 "
                     "AND ((?2=0 AND passed=1) OR version=?2) ORDER BY version DESC LIMIT 1",
                     err);
    store_bind_text(&q, model);
    store_bind_int(&q, version);
    QD_TRY(read_versions(&q, 1, arena, &rows, &n, &more));
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
