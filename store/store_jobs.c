#include "store/store_jobs.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>

#include "store/store_db.h"

static const char *const state_names[STORE_STATE_COUNT] = {
    [STORE_QUEUED] = "queued",       [STORE_RUNNING] = "running", [STORE_CANCELING] = "canceling",
    [STORE_SUCCEEDED] = "succeeded", [STORE_FAILED] = "failed",   [STORE_CANCELED] = "canceled",
};

const char *store_state_name(enum store_state state)
{
    return (unsigned)state < STORE_STATE_COUNT ? state_names[state] : "unknown";
}

bool store_state_from_name(const char *name, enum store_state *ret)
{
    for (unsigned i = 0; i < STORE_STATE_COUNT; i++) {
        if (strcmp(name, state_names[i]) == 0) {
            *ret = (enum store_state)i;
            return true;
        }
    }
    return false;
}

bool store_state_is_final(enum store_state state)
{
    return state == STORE_SUCCEEDED || state == STORE_FAILED || state == STORE_CANCELED;
}

void store_read_job(struct store_query *q, struct qd_arena *arena, struct store_job *ret)
{
    struct store_job j = {0};
    const char *state = store_column_text(q, 2, arena);
    if (state == NULL || !store_state_from_name(state, &j.state)) {
        q->code = q->code != QD_OK ? q->code
                                   : qd_fail(q->err, QD_INTERNAL, "job in an unknown state");
        return;
    }
    j.id = store_column_text(q, 0, arena);
    j.name = store_column_text(q, 1, arena);
    j.phase = store_column_text(q, 3, arena);
    j.done = store_column_int(q, 4);
    j.total = store_column_int(q, 5);
    j.unit = store_column_text(q, 6, arena);
    j.attempt = (int)store_column_int(q, 7);
    j.failures = (int)store_column_int(q, 8);
    j.rev = store_column_int(q, 9);
    j.priority = (int)store_column_int(q, 10);
    j.tags = store_column_text(q, 11, arena);
    j.config = store_column_text(q, 12, arena);
    j.model_sha256 = store_column_text(q, 13, arena);
    j.created_ms = store_column_int(q, 14);
    j.started_ms = store_column_int(q, 15);
    j.finished_ms = store_column_int(q, 16);
    j.updated_ms = store_column_int(q, 17);
    j.run_after_ms = store_column_int(q, 18);
    j.idempotency_key = store_column_text(q, 19, arena);
    j.request_hash = store_column_text(q, 20, arena);
    j.error_code = store_column_text(q, 21, arena);
    j.error_class = store_column_text(q, 22, arena);
    j.error_message = store_column_text(q, 23, arena);
    j.error_subject = store_column_text(q, 24, arena);
    j.instance = store_column_text(q, 25, arena);
    j.version = store_column_int(q, 26);
    j.summary = store_column_text(q, 27, arena);
    j.derived_from = store_column_text(q, 28, arena);
    *ret = j;
}

/* A ULID in lower case: 48 bits of milliseconds, 80 random bits; the random part counts up
 * within one millisecond, so that ids ascend in the order of creation. */
static enum qd_code new_id(struct store *store, char ret[STORE_ID_LENGTH + 1],
                           struct qd_error *err)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";
    uint64_t now = (uint64_t)store->now_ms();
    if (now <= store->id_ms) {
        store->id_random++;
        store->id_random_high = (uint16_t)(store->id_random_high + (store->id_random == 0));
    } else {
        unsigned char random[10];
        if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
            return qd_fail_errno(err, errno, "read random bytes");
        }
        memcpy(&store->id_random, random, 8);
        memcpy(&store->id_random_high, random + 8, 2);
        store->id_random_high &= 0x7fff; /* room to count up */
        store->id_ms = now;
    }
    ret[0] = 'j';
    ret[1] = '_';
    for (unsigned i = 0; i < 10; i++) {
        ret[2 + i] = digits[(store->id_ms >> (5 * (9 - i))) & 31];
    }
    uint64_t low = store->id_random, high = store->id_random_high;
    for (unsigned i = 0; i < 16; i++) {
        ret[27 - i] = digits[low & 31];
        low = low >> 5 | high << 59;
        high >>= 5;
    }
    ret[STORE_ID_LENGTH] = '\0';
    return QD_OK;
}

static enum qd_code check_new(const struct store_job_new *job, const char **ret_model,
                              struct qd_error *err)
{
    size_t n_models = 0, length = strlen(job->name);
    if (length < 1 || length > STORE_NAME_MAX) {
        return qd_fail_on(err, QD_INVALID, "name", "name has %zu bytes, allowed are 1 to %d",
                          length, STORE_NAME_MAX);
    }
    if (job->n_inputs > STORE_INPUTS_MAX) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "%zu inputs, the limit is %d", job->n_inputs,
                       STORE_INPUTS_MAX);
    }
    for (size_t i = 0; i < job->n_inputs; i++) {
        const struct store_input *in = &job->inputs[i];
        if (!store_sha256_valid(in->blob)) {
            return qd_fail_on(err, QD_INVALID, in->name, "input '%s': '%.80s' is not a sha256",
                              in->name, in->blob);
        }
        if (strcmp(in->role, "model") == 0) {
            *ret_model = in->blob;
            n_models++;
        }
    }
    if (n_models != 1) {
        return qd_fail(err, QD_INVALID, "%zu inputs of role model, exactly 1 is needed", n_models);
    }
    if ((job->idempotency_key == NULL) != (job->request_hash == NULL)) {
        return qd_fail(err, QD_INVALID, "an idempotency key needs the hash of its request");
    }
    return QD_OK;
}

static enum qd_code insert_inputs(struct store *store, const char *id,
                                  const struct store_job_new *job, struct qd_error *err)
{
    for (size_t i = 0; i < job->n_inputs; i++) {
        const struct store_input *in = &job->inputs[i];
        struct store_query q;
        store_query_init(&q, store, "INSERT INTO job_inputs VALUES(?,?,?,?,?,?)", err);
        store_bind_text(&q, id);
        store_bind_int(&q, (int64_t)i);
        store_bind_text(&q, in->role);
        store_bind_text(&q, in->blob);
        store_bind_int(&q, (int64_t)in->size);
        store_bind_text(&q, in->name);
        enum qd_code code = store_query_run(&q);
        if (code != QD_OK) {
            return qd_wrap(err, code, "input %zu '%.100s'", i, in->name);
        }
    }
    return QD_OK;
}

/* ret_id "" when the key is free; a key older than its lifetime is given up. */
static enum qd_code find_key(struct store *store, const struct store_job_new *job,
                             char ret_id[STORE_ID_LENGTH + 1], struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store,
                     "UPDATE jobs SET idempotency_key=NULL WHERE idempotency_key=? "
                     "AND created_ms<?",
                     err);
    store_bind_text(&q, job->idempotency_key);
    store_bind_int(&q, store->now_ms() - STORE_KEY_LIFETIME_MS);
    QD_TRY(store_query_run(&q));
    store_query_init(&q, store, "SELECT id,request_hash=?2 FROM jobs WHERE idempotency_key=?1",
                     err);
    store_bind_text(&q, job->idempotency_key);
    store_bind_text(&q, job->request_hash);
    enum qd_code code = store_query_step(&q, &row);
    if (code == QD_OK && row && store_column_int(&q, 1) == 0) {
        code = qd_fail_on(err, QD_CONFLICT, "idempotency_key",
                          "idempotency key '%.200s' was used for another request",
                          job->idempotency_key);
    } else if (code == QD_OK && row) {
        memcpy(ret_id, sqlite3_column_text(q.stmt, 0), STORE_ID_LENGTH + 1);
    }
    store_query_done(&q);
    return code;
}

static enum qd_code insert_job(struct store *store, const struct store_job_new *job,
                               const char *model, const char *id, struct qd_error *err)
{
    struct store_query q;
    int64_t now = store->now_ms();
    QD_TRY(store_check_json(store, "config", job->config, err));
    QD_TRY(store_check_json(store, "tags", job->tags, err));
    store_query_init(&q, store,
                     "INSERT INTO jobs(id,name,state,priority,tags,config,model_sha256,created_ms,"
                     "updated_ms,idempotency_key,request_hash,derived_from) "
                     "VALUES(?,?,'queued',?,?,?,?,?,?,?,?,?)",
                     err);
    store_bind_text(&q, id);
    store_bind_text(&q, job->name);
    store_bind_int(&q, job->priority);
    store_bind_text(&q, job->tags != NULL ? job->tags : "[]");
    store_bind_text(&q, job->config);
    store_bind_text(&q, model);
    store_bind_int(&q, now);
    store_bind_int(&q, now);
    store_bind_text(&q, job->idempotency_key);
    store_bind_text(&q, job->request_hash);
    store_bind_text(&q, job->derived_from);
    QD_TRY(store_query_run(&q));
    QD_TRY(insert_inputs(store, id, job, err));
    return store_event_add(store, id, "job.queued", err);
}

enum qd_code store_job_create(struct store *store, const struct store_job_new *job,
                              struct qd_arena *arena, struct store_job *ret, bool *ret_existing,
                              struct qd_error *err)
{
    const char *model = NULL;
    char id[STORE_ID_LENGTH + 1] = "";
    bool existing = false;
    QD_TRY(check_new(job, &model, err));
    QD_TRY(store_begin(store, err));
    enum qd_code code = QD_OK;
    if (job->idempotency_key != NULL) {
        code = find_key(store, job, id, err);
        existing = id[0] != '\0';
    }
    if (code == QD_OK && !existing) {
        code = new_id(store, id, err);
        if (code == QD_OK) {
            code = insert_job(store, job, model, id, err);
        }
    }
    code = store_end(store, code, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "create job");
    }
    QD_TRY(store_job_get(store, id, arena, ret, err));
    *ret_existing = existing;
    return QD_OK;
}

enum qd_code store_job_get(struct store *store, const char *id, struct qd_arena *arena,
                           struct store_job *ret, struct qd_error *err)
{
    struct store_query q;
    struct store_job job = {0};
    bool row = false;
    store_query_init(&q, store, "SELECT " STORE_JOB_COLUMNS " FROM jobs WHERE id=?", err);
    store_bind_text(&q, id);
    if (store_query_step(&q, &row) == QD_OK && row) {
        store_read_job(&q, arena, &job);
    }
    store_query_done(&q);
    QD_TRY(q.code);
    if (!row) {
        return qd_fail(err, QD_NOT_FOUND, "no job '%.100s'", id);
    }
    *ret = job;
    return QD_OK;
}

enum qd_code store_job_inputs(struct store *store, const char *id, struct qd_arena *arena,
                              struct store_input **ret, size_t *ret_n, struct qd_error *err)
{
    struct store_query q;
    struct store_input *rows = NULL;
    size_t n = 0;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT role,blob,size,name FROM job_inputs WHERE job_id=? ORDER BY position",
                     err);
    store_bind_text(&q, id);
    while (store_query_step(&q, &row) == QD_OK && row) {
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            rows[n++] = (struct store_input){.role = store_column_text(&q, 0, arena),
                                             .blob = store_column_text(&q, 1, arena),
                                             .size = (uint64_t)store_column_int(&q, 2),
                                             .name = store_column_text(&q, 3, arena)};
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = rows;
    *ret_n = n;
    return QD_OK;
}

/* One text for each direction; a NULL parameter switches its condition off. */
#define LIST_WHERE                                                                            \
    "SELECT " STORE_JOB_COLUMNS " FROM jobs WHERE (?1=0 OR (?1 >> (CASE state "              \
    "WHEN 'queued' THEN 0 WHEN 'running' THEN 1 WHEN 'canceling' THEN 2 "                     \
    "WHEN 'succeeded' THEN 3 WHEN 'failed' THEN 4 ELSE 5 END)) & 1) "                         \
    "AND (?2 IS NULL OR name=?2) "                                                            \
    "AND (?3 IS NULL OR instr(lower(name),lower(?3)) OR instr(id,lower(?3))) "                \
    "AND (?4 IS NULL OR EXISTS(SELECT 1 FROM json_each(tags) WHERE value=?4)) "               \
    "AND created_ms>?5 "

enum qd_code store_job_list(struct store *store, const struct store_job_filter *filter,
                            struct qd_arena *arena, struct store_job_page *ret,
                            struct qd_error *err)
{
    struct store_query q;
    struct store_job *rows = NULL;
    size_t n = 0;
    bool row = false;
    if (filter->limit < 1 || filter->limit > STORE_LIST_MAX) {
        return qd_fail_on(err, QD_INVALID, "limit", "limit %zu, allowed are 1 to %d",
                          filter->limit, STORE_LIST_MAX);
    }
    store_query_init(&q, store,
                     filter->ascending
                         ? LIST_WHERE "AND (?6 IS NULL OR id>?6) ORDER BY id LIMIT ?7"
                         : LIST_WHERE "AND (?6 IS NULL OR id<?6) ORDER BY id DESC LIMIT ?7",
                     err);
    store_bind_int(&q, filter->states);
    store_bind_text(&q, filter->name);
    store_bind_text(&q, filter->query);
    store_bind_text(&q, filter->tag);
    store_bind_int(&q, filter->created_after_ms > 0 ? filter->created_after_ms : INT64_MIN);
    store_bind_text(&q, filter->cursor);
    store_bind_int(&q, (int64_t)filter->limit + 1);
    while (store_query_step(&q, &row) == QD_OK && row) {
        if (n == filter->limit) {
            break;
        }
        rows = store_grow(&q, arena, rows, n, sizeof(*rows));
        if (rows != NULL) {
            store_read_job(&q, arena, &rows[n++]);
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    *ret = (struct store_job_page){.jobs = rows, .n = n, .has_more = row};
    return QD_OK;
}

enum qd_code store_job_counts(struct store *store, int64_t ret_counts[STORE_STATE_COUNT],
                              struct qd_error *err)
{
    struct store_query q;
    int64_t counts[STORE_STATE_COUNT] = {0};
    bool row = false;
    store_query_init(&q, store, "SELECT state,count(*) FROM jobs GROUP BY state", err);
    while (store_query_step(&q, &row) == QD_OK && row) {
        enum store_state state;
        if (store_state_from_name((const char *)sqlite3_column_text(q.stmt, 0), &state)) {
            counts[state] = store_column_int(&q, 1);
        }
    }
    store_query_done(&q);
    QD_TRY(q.code);
    memcpy(ret_counts, counts, sizeof(counts));
    return QD_OK;
}

enum qd_code store_job_queue_position(struct store *store, const char *id, int64_t *ret,
                                      struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT count(*) FROM jobs j, jobs o WHERE j.id=? AND j.state='queued' AND "
                     "o.state='queued' AND (o.priority>j.priority OR "
                     "(o.priority=j.priority AND o.id<=j.id))",
                     err);
    store_bind_text(&q, id);
    enum qd_code code = store_query_step(&q, &row);
    if (code == QD_OK) {
        *ret = store_column_int(&q, 0);
    }
    store_query_done(&q);
    return code;
}

enum qd_code store_job_update(struct store *store, const char *id, const char *name,
                              const char *tags, const int *priority, struct qd_error *err)
{
    struct store_query q;
    int64_t changed = 0;
    QD_TRY(store_check_json(store, "tags", tags, err));
    QD_TRY(store_begin(store, err));
    /* A version keeps the name that it was published under. */
    store_query_init(&q, store,
                     "UPDATE jobs SET name=coalesce(?2,name),tags=coalesce(?3,tags),"
                     "priority=CASE WHEN ?4 THEN ?5 ELSE priority END,rev=rev+1,updated_ms=?6 "
                     "WHERE id=?1",
                     err);
    store_bind_text(&q, id);
    store_bind_text(&q, name);
    store_bind_text(&q, tags);
    store_bind_int(&q, priority != NULL);
    store_bind_int(&q, priority != NULL ? *priority : 0);
    store_bind_int(&q, store->now_ms());
    enum qd_code code = store_query_change(&q, &changed);
    if (code == QD_OK && changed == 0) {
        code = qd_fail(err, QD_NOT_FOUND, "no job '%.100s'", id);
    }
    if (code == QD_OK) {
        code = store_event_add(store, id, "job.updated", err);
    }
    return store_end(store, code, err);
}

enum qd_code store_job_delete(struct store *store, const char *id, struct qd_error *err)
{
    struct store_query q;
    struct qd_arena arena;
    struct store_job job;
    qd_arena_init(&arena, 0);
    enum qd_code code = store_begin(store, err);
    if (code != QD_OK) {
        goto out;
    }
    code = store_job_get(store, id, &arena, &job, err);
    if (code == QD_OK && !store_state_is_final(job.state)) {
        code = qd_fail(err, QD_CONFLICT, "job %s is %s: cancel it before it is deleted", id,
                       store_state_name(job.state));
    }
    if (code == QD_OK) {
        code = store_event_add(store, id, "job.deleted", err);
    }
    if (code == QD_OK) {
        code = store_events_of_deleted(store, id, err);
    }
    if (code == QD_OK) {
        store_query_init(&q, store, "DELETE FROM jobs WHERE id=?", err);
        store_bind_text(&q, id);
        code = store_query_run(&q);
    }
    code = store_end(store, code, err);
out:
    qd_arena_done(&arena);
    return code;
}
