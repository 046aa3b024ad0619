#include "store/store_db.h"

#include <math.h>
#include <string.h>

static enum qd_code code_of_sqlite(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return QD_NO_MEMORY;
    case SQLITE_FULL:
        return QD_NO_SPACE;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return QD_INVALID;
    case SQLITE_TOOBIG:
        return QD_LIMIT_EXCEEDED;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return QD_CONFLICT;
    case SQLITE_MISUSE:
    case SQLITE_ERROR:
    case SQLITE_RANGE:
        return QD_INTERNAL;
    default:
        return QD_IO;
    }
}

enum qd_code store_fail_sql(struct store *store, int rc, const char *what, struct qd_error *err)
{
    const char *text = rc == SQLITE_FULL ? sqlite3_errstr(rc) : sqlite3_errmsg(store->db);
    return qd_fail(err, code_of_sqlite(rc), "database: %.60s: %s (%d)", what, text, rc);
}

static bool fault(struct store *store)
{
    return store->fail_after > 0 && --store->fail_after == 0;
}

void store_query_init(struct store_query *query, struct store *store, const char *sql,
                      struct qd_error *err)
{
    *query = (struct store_query){.store = store, .err = err};
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &query->stmt, NULL);
    if (rc != SQLITE_OK) {
        query->code = store_fail_sql(store, rc, "prepare", err);
    }
}

void store_query_done(struct store_query *query)
{
    sqlite3_finalize(query->stmt);
    query->stmt = NULL;
}

static void bound(struct store_query *query, int rc)
{
    if (rc != SQLITE_OK) {
        query->code = store_fail_sql(query->store, rc, "bind", query->err);
    }
}

void store_bind_text(struct store_query *query, const char *value)
{
    query->n_bound++;
    if (query->code == QD_OK) {
        bound(query, sqlite3_bind_text(query->stmt, query->n_bound, value, -1, SQLITE_STATIC));
    }
}

void store_bind_int(struct store_query *query, int64_t value)
{
    query->n_bound++;
    if (query->code == QD_OK) {
        bound(query, sqlite3_bind_int64(query->stmt, query->n_bound, value));
    }
}

void store_bind_real(struct store_query *query, double value)
{
    query->n_bound++;
    if (query->code == QD_OK) {
        bound(query, isnan(value) ? sqlite3_bind_null(query->stmt, query->n_bound)
                                  : sqlite3_bind_double(query->stmt, query->n_bound, value));
    }
}

enum qd_code store_query_step(struct store_query *query, bool *ret_row)
{
    QD_TRY(query->code);
    int rc = fault(query->store) ? SQLITE_FULL : sqlite3_step(query->stmt);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        query->code = store_fail_sql(query->store, rc, "step", query->err);
        return query->code;
    }
    *ret_row = rc == SQLITE_ROW;
    return QD_OK;
}

enum qd_code store_query_change(struct store_query *query, int64_t *ret_changed)
{
    bool row = false;
    enum qd_code code = store_query_step(query, &row);
    if (code == QD_OK) {
        *ret_changed = sqlite3_changes64(query->store->db);
    }
    store_query_done(query);
    return code;
}

enum qd_code store_query_run(struct store_query *query)
{
    int64_t ignored = 0;
    return store_query_change(query, &ignored);
}

const char *store_column_text(struct store_query *query, int column, struct qd_arena *arena)
{
    const char *copy = NULL;
    if (query->code != QD_OK || sqlite3_column_type(query->stmt, column) == SQLITE_NULL) {
        return NULL;
    }
    const unsigned char *text = sqlite3_column_text(query->stmt, column);
    if (text == NULL) {
        query->code = qd_fail(query->err, QD_NO_MEMORY, "database: no memory for a text");
        return NULL;
    }
    size_t size = (size_t)sqlite3_column_bytes(query->stmt, column);
    query->code = qd_arena_string(arena, (const char *)text, size, &copy, query->err);
    return copy;
}

int64_t store_column_int(struct store_query *query, int column)
{
    return sqlite3_column_int64(query->stmt, column);
}

double store_column_real(struct store_query *query, int column)
{
    return sqlite3_column_type(query->stmt, column) == SQLITE_NULL
               ? (double)NAN
               : sqlite3_column_double(query->stmt, column);
}

void *store_grow(struct store_query *query, struct qd_arena *arena, void *array, size_t n,
                 size_t size)
{
    if (query->code != QD_OK) {
        return NULL;
    }
    /* Room doubles at powers of two from 16 on: n tells the capacity. */
    if (n != 0 && (n < 16 || (n & (n - 1)) != 0)) {
        return array;
    }
    void *larger = NULL;
    query->code = qd_arena_array(arena, n < 16 ? 16 : n * 2, size, &larger, query->err);
    if (query->code == QD_OK && n > 0) {
        memcpy(larger, array, n * size);
    }
    return larger;
}

enum qd_code store_exec(struct store *store, const char *sql, struct qd_error *err)
{
    int rc = fault(store) ? SQLITE_FULL : sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? QD_OK : store_fail_sql(store, rc, sql, err);
}

enum qd_code store_begin(struct store *store, struct qd_error *err)
{
    return store_exec(store, "BEGIN IMMEDIATE", err);
}

enum qd_code store_end(struct store *store, enum qd_code code, struct qd_error *err)
{
    if (code == QD_OK) {
        code = store_exec(store, "COMMIT", err);
    }
    /* Some failures have rolled back already. */
    if (code != QD_OK && !sqlite3_get_autocommit(store->db)) {
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return code;
}

enum qd_code store_check_json(struct store *store, const char *what, const char *text,
                              struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store, "SELECT json_valid(?)", err);
    store_bind_text(&q, text);
    enum qd_code code = store_query_step(&q, &row);
    if (code == QD_OK && text != NULL && store_column_int(&q, 0) == 0) {
        code = qd_fail_on(err, QD_INVALID, what, "%s is not JSON: '%.60s'", what, text);
    }
    store_query_done(&q);
    return code;
}
