#include "store/store_calibration.h"

#include "store/store_db.h"

static enum qd_code insert_artifacts(struct store *store, const char *id,
                                     const struct store_result *r, struct qd_error *err)
{
    for (size_t i = 0; i < r->n_artifacts; i++) {
        const struct store_artifact *a = &r->artifacts[i];
        struct store_query q;
        store_query_init(&q, store, "INSERT INTO artifacts VALUES(?,?,?,?,?,?)", err);
        store_bind_text(&q, id);
        store_bind_text(&q, a->name);
        store_bind_text(&q, a->blob);
        store_bind_int(&q, (int64_t)a->size);
        store_bind_text(&q, a->content_type);
        store_bind_int(&q, store->now_ms());
        enum qd_code code = store_query_run(&q);
        if (code != QD_OK) {
            return qd_wrap(err, code, "artifact '%.100s'", a->name);
        }
    }
    return QD_OK;
}

static enum qd_code insert_calibration(struct store *store, const char *id,
                                       const struct store_result *r, struct qd_error *err)
{
    for (size_t i = 0; i < r->n_calibration; i++) {
        const struct store_calibration *c = &r->calibration[i];
        struct store_query q;
        QD_TRY(store_check_json(store, "extra", c->extra, err));
        store_query_init(&q, store, "INSERT INTO calibration VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                         err);
        store_bind_text(&q, id);
        store_bind_int(&q, (int64_t)i);
        store_bind_text(&q, c->tensor);
        store_bind_text(&q, c->op);
        store_bind_text(&q, c->dtype);
        store_bind_real(&q, c->scale);
        store_bind_int(&q, c->zero_point);
        store_bind_real(&q, c->lo);
        store_bind_real(&q, c->hi);
        store_bind_real(&q, c->min);
        store_bind_real(&q, c->max);
        store_bind_int(&q, c->count);
        store_bind_real(&q, c->saturated);
        store_bind_text(&q, c->extra);
        enum qd_code code = store_query_run(&q);
        if (code != QD_OK) {
            return qd_wrap(err, code, "calibration of tensor '%.100s'", c->tensor);
        }
    }
    return QD_OK;
}

static enum qd_code insert_layers(struct store *store, const char *id,
                                  const struct store_result *r, struct qd_error *err)
{
    for (size_t i = 0; i < r->n_layers; i++) {
        const struct store_layer *l = &r->layers[i];
        struct store_query q;
        QD_TRY(store_check_json(store, "extra", l->extra, err));
        store_query_init(&q, store, "INSERT INTO layers VALUES(?,?,?,?,?,?,?,?,?,?,?)", err);
        store_bind_text(&q, id);
        store_bind_int(&q, (int64_t)i);
        store_bind_text(&q, l->node);
        store_bind_text(&q, l->op);
        store_bind_text(&q, l->precision);
        store_bind_text(&q, l->reason);
        store_bind_real(&q, l->local_sqnr_db);
        store_bind_real(&q, l->cumulative_sqnr_db);
        store_bind_real(&q, l->cosine);
        store_bind_real(&q, l->max_abs_error);
        store_bind_text(&q, l->extra);
        enum qd_code code = store_query_run(&q);
        if (code != QD_OK) {
            return qd_wrap(err, code, "layer of node '%.100s'", l->node);
        }
    }
    return QD_OK;
}

static enum qd_code add_version(struct store *store, const char *id, bool passed,
                                int64_t *ret_version, struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store,
                     "INSERT INTO models SELECT name,1 FROM jobs WHERE id=? "
                     "ON CONFLICT(name) DO UPDATE SET last_version=last_version+1 "
                     "RETURNING last_version",
                     err);
    store_bind_text(&q, id);
    if (store_query_step(&q, &row) == QD_OK && row) {
        *ret_version = store_column_int(&q, 0);
    }
    store_query_done(&q);
    QD_TRY(q.code);
    store_query_init(&q, store,
                     "INSERT INTO versions SELECT name,?2,id,?3,?4 FROM jobs WHERE id=?1", err);
    store_bind_text(&q, id);
    store_bind_int(&q, *ret_version);
    store_bind_int(&q, passed);
    store_bind_int(&q, store->now_ms());
    QD_TRY(store_query_run(&q));
    store_query_init(&q, store, "UPDATE jobs SET version=?2 WHERE id=?1", err);
    store_bind_text(&q, id);
    store_bind_int(&q, *ret_version);
    return store_query_run(&q);
}

static enum qd_code set_succeeded(struct store *store, const char *id, int attempt,
                                  const char *summary, struct qd_error *err)
{
    struct store_query q;
    int64_t changed = 0;
    QD_TRY(store_check_json(store, "summary", summary, err));
    store_query_init(&q, store,
                     "UPDATE jobs SET state='succeeded',finished_ms=?4,updated_ms=?4,rev=rev+1,"
                     "summary=?5 WHERE id=?1 AND attempt=?2 AND instance=?3 AND state='running'",
                     err);
    store_bind_text(&q, id);
    store_bind_int(&q, attempt);
    store_bind_text(&q, store->instance);
    store_bind_int(&q, store->now_ms());
    store_bind_text(&q, summary);
    QD_TRY(store_query_change(&q, &changed));
    return changed == 1 ? QD_OK
                        : qd_fail(err, QD_CONFLICT,
                                  "attempt %d of this daemon does not run any more", attempt);
}

enum qd_code store_job_publish(struct store *store, const char *id, int attempt,
                               const struct store_result *result, int64_t *ret_version,
                               struct qd_error *err)
{
    int64_t version = 0;
    QD_TRY(store_begin(store, err));
    enum qd_code code = set_succeeded(store, id, attempt, result->summary, err);
    code = code == QD_OK ? insert_artifacts(store, id, result, err) : code;
    code = code == QD_OK ? insert_calibration(store, id, result, err) : code;
    code = code == QD_OK ? insert_layers(store, id, result, err) : code;
    code = code == QD_OK ? add_version(store, id, result->passed, &version, err) : code;
    code = code == QD_OK ? store_event_add(store, id, "job.succeeded", err) : code;
    code = store_end(store, code, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "publish job %s", id);
    }
    *ret_version = version;
    return QD_OK;
}

enum qd_code store_artifacts(struct store *store, const char *job, struct qd_arena *arena,
                             struct store_artifact **ret, size_t *ret_n, struct qd_error *err)
{
    struct store_query q;
    struct store_artifact *rows = NULL;
    size_t n = 0;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT name,blob,content_type,size FROM artifacts WHERE job_id=? "
                     "ORDER BY name",
                     err);
    store_bind_text(&q, job);
    while (store_query_step(&q, &row) == QD_OK && row) {
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_artifact){.name = store_column_text(&q, 0, arena),
                                                .blob = store_column_text(&q, 1, arena),
                                                .content_type = store_column_text(&q, 2, arena),
                                                .size = (uint64_t)store_column_int(&q, 3)};
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}

enum qd_code store_artifact_get(struct store *store, const char *job, const char *name,
                                struct qd_arena *arena, struct store_artifact *ret,
                                struct qd_error *err)
{
    struct store_query q;
    struct store_artifact a = {0};
    bool row = false;
    store_query_init(&q, store,
                     "SELECT name,blob,content_type,size FROM artifacts WHERE job_id=? AND name=?",
                     err);
    store_bind_text(&q, job);
    store_bind_text(&q, name);
    if (store_query_step(&q, &row) == QD_OK && row) {
        a = (struct store_artifact){.name = store_column_text(&q, 0, arena),
                                    .blob = store_column_text(&q, 1, arena),
                                    .content_type = store_column_text(&q, 2, arena),
                                    .size = (uint64_t)store_column_int(&q, 3)};
    }
    store_query_done(&q);
    QD_TRY(q.code);
    if (!row) {
        return qd_fail(err, QD_NOT_FOUND, "job %.100s has no artifact '%.200s'", job, name);
    }
    *ret = a;
    return QD_OK;
}

enum qd_code store_calibration_list(struct store *store, const char *job, struct qd_arena *arena,
                                    struct store_calibration **ret, size_t *ret_n,
                                    struct qd_error *err)
{
    struct store_query q;
    struct store_calibration *rows = NULL;
    size_t n = 0;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT tensor,operator,dtype,scale,zero_point,lo,hi,min,max,count,saturated,"
                     "extra FROM calibration WHERE job_id=? ORDER BY position",
                     err);
    store_bind_text(&q, job);
    while (store_query_step(&q, &row) == QD_OK && row) {
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_calibration){.tensor = store_column_text(&q, 0, arena),
                                                   .op = store_column_text(&q, 1, arena),
                                                   .dtype = store_column_text(&q, 2, arena),
                                                   .scale = store_column_real(&q, 3),
                                                   .zero_point = store_column_int(&q, 4),
                                                   .lo = store_column_real(&q, 5),
                                                   .hi = store_column_real(&q, 6),
                                                   .min = store_column_real(&q, 7),
                                                   .max = store_column_real(&q, 8),
                                                   .count = store_column_int(&q, 9),
                                                   .saturated = store_column_real(&q, 10),
                                                   .extra = store_column_text(&q, 11, arena)};
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}

enum qd_code store_layers(struct store *store, const char *job, struct qd_arena *arena,
                          struct store_layer **ret, size_t *ret_n, struct qd_error *err)
{
    struct store_query q;
    struct store_layer *rows = NULL;
    size_t n = 0;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT node,op,precision,reason,local_sqnr_db,cumulative_sqnr_db,cosine,"
                     "max_abs_error,extra FROM layers WHERE job_id=? ORDER BY position",
                     err);
    store_bind_text(&q, job);
    while (store_query_step(&q, &row) == QD_OK && row) {
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_layer){.node = store_column_text(&q, 0, arena),
                                             .op = store_column_text(&q, 1, arena),
                                             .precision = store_column_text(&q, 2, arena),
                                             .reason = store_column_text(&q, 3, arena),
                                             .local_sqnr_db = store_column_real(&q, 4),
                                             .cumulative_sqnr_db = store_column_real(&q, 5),
                                             .cosine = store_column_real(&q, 6),
                                             .max_abs_error = store_column_real(&q, 7),
                                             .extra = store_column_text(&q, 8, arena)};
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}
