#include "store/store_queue.h"

#include <string.h>

#include "store/store_db.h"

static enum qd_code no_longer_yours(const char *id, int attempt, struct qd_error *err)
{
    return qd_fail(err, QD_CONFLICT, "job %s: attempt %d of this daemon does not run any more", id,
                   attempt);
}

/* Run an UPDATE with ?1 id, ?2 attempt, ?3 instance already bound; then add the event. */
static enum qd_code change_fenced(struct store_query *q, const char *id, int attempt,
                                  const char *event)
{
    int64_t changed = 0;
    enum qd_code code = store_query_change(q, &changed);
    if (code == QD_OK && changed == 0) {
        code = no_longer_yours(id, attempt, q->err);
    }
    if (code == QD_OK && event != NULL) {
        code = store_event_add(q->store, id, event, q->err);
    }
    return code;
}

static void fenced_init(struct store_query *q, struct store *store, const char *sql,
                        const char *id, int attempt, struct qd_error *err)
{
    store_query_init(q, store, sql, err);
    store_bind_text(q, id);
    store_bind_int(q, attempt);
    store_bind_text(q, store->instance);
}

#define FENCE "WHERE id=?1 AND attempt=?2 AND instance=?3 "

static enum qd_code next_due(struct store *store, int64_t *ret, struct qd_error *err)
{
    struct store_query q;
    bool row = false;
    store_query_init(&q, store,
                     "SELECT coalesce(min(run_after_ms),0) FROM jobs WHERE state='queued'", err);
    enum qd_code code = store_query_step(&q, &row);
    if (code == QD_OK) {
        *ret = store_column_int(&q, 0);
    }
    store_query_done(&q);
    return code;
}

static enum qd_code claim_row(struct store *store, struct qd_arena *arena, struct store_job *ret,
                              bool *ret_found, struct qd_error *err)
{
    struct store_query q;
    bool row = false, more = false;
    store_query_init(&q, store,
                     "UPDATE jobs SET state='running',attempt=attempt+1,instance=?2,started_ms=?1,"
                     "updated_ms=?1,phase='',done=0,total=0,unit='',rev=rev+1,error_code=NULL,"
                     "error_class=NULL,error_message=NULL,error_subject=NULL WHERE id="
                     "(SELECT id FROM jobs WHERE state='queued' AND run_after_ms<=?1 "
                     "ORDER BY priority DESC,id LIMIT 1) RETURNING " STORE_JOB_COLUMNS,
                     err);
    store_bind_int(&q, store->now_ms());
    store_bind_text(&q, store->instance);
    if (store_query_step(&q, &row) == QD_OK && row) {
        store_read_job(&q, arena, ret);
        /* RETURNING is complete only after the last step. */
        if (q.code == QD_OK && store_query_step(&q, &more) == QD_OK && more) {
            q.code = qd_fail(err, QD_INTERNAL, "one claim took several jobs");
        }
    }
    store_query_done(&q);
    *ret_found = row;
    return q.code;
}

enum qd_code store_job_claim(struct store *store, struct qd_arena *arena, struct store_job *ret,
                             bool *ret_found, int64_t *ret_next_ms, struct qd_error *err)
{
    struct store_job job = {0};
    bool found = false;
    int64_t next = 0;
    QD_TRY(store_begin(store, err));
    enum qd_code code = claim_row(store, arena, &job, &found, err);
    if (code == QD_OK && found) {
        code = store_event_add(store, job.id, "job.running", err);
    } else if (code == QD_OK) {
        code = next_due(store, &next, err);
    }
    code = store_end(store, code, err);
    if (code != QD_OK) {
        return qd_wrap(err, code, "claim a job");
    }
    if (found) {
        *ret = job;
    }
    *ret_found = found;
    *ret_next_ms = next;
    return QD_OK;
}

enum qd_code store_job_progress(struct store *store, const char *id, int attempt, int64_t done,
                                int64_t total, const char *unit, struct qd_error *err)
{
    struct store_query q;
    fenced_init(&q, store,
                "UPDATE jobs SET done=?4,total=?5,unit=?6,updated_ms=?7,rev=rev+1 " FENCE
                "AND state='running'",
                id, attempt, err);
    store_bind_int(&q, done);
    store_bind_int(&q, total);
    store_bind_text(&q, unit);
    store_bind_int(&q, store->now_ms());
    return change_fenced(&q, id, attempt, NULL);
}

enum qd_code store_job_phase(struct store *store, const char *id, int attempt, const char *phase,
                             struct qd_error *err)
{
    struct store_query q;
    QD_TRY(store_begin(store, err));
    fenced_init(&q, store,
                "UPDATE jobs SET phase=?4,done=0,total=0,unit='',updated_ms=?5,rev=rev+1 " FENCE
                "AND state='running'",
                id, attempt, err);
    store_bind_text(&q, phase);
    store_bind_int(&q, store->now_ms());
    return store_end(store, change_fenced(&q, id, attempt, "job.phase"), err);
}

enum qd_code store_job_fail(struct store *store, const char *id, int attempt,
                            const struct store_failure *failure, struct qd_error *err)
{
    struct store_query q;
    QD_TRY(store_begin(store, err));
    fenced_init(&q, store,
                "UPDATE jobs SET state='failed',finished_ms=?4,updated_ms=?4,rev=rev+1,"
                "failures=failures+(?6 IN ('internal','lost')),error_code=?5,error_class=?6,"
                "error_message=?7,error_subject=?8 " FENCE "AND state='running'",
                id, attempt, err);
    store_bind_int(&q, store->now_ms());
    store_bind_text(&q, failure->code);
    store_bind_text(&q, failure->error_class);
    store_bind_text(&q, failure->message);
    store_bind_text(&q, failure->subject);
    return store_end(store, change_fenced(&q, id, attempt, "job.failed"), err);
}

enum qd_code store_job_requeue(struct store *store, const char *id, int attempt,
                               int64_t delay_ms, const struct store_failure *failure,
                               struct qd_error *err)
{
    static const struct store_failure none = {0};
    const struct store_failure *f = failure != NULL ? failure : &none;
    struct store_query q;
    QD_TRY(store_begin(store, err));
    fenced_init(&q, store,
                "UPDATE jobs SET state='queued',run_after_ms=?5,updated_ms=?4,rev=rev+1,"
                "failures=failures+?6,error_code=?7,error_class=?8,error_message=?9,"
                "error_subject=?10,instance=NULL,phase='',done=0,total=0,unit='' " FENCE
                "AND state='running'",
                id, attempt, err);
    int64_t now = store->now_ms();
    store_bind_int(&q, now);
    store_bind_int(&q, delay_ms > 0 ? now + delay_ms : 0);
    store_bind_int(&q, failure != NULL);
    store_bind_text(&q, f->code);
    store_bind_text(&q, f->error_class);
    store_bind_text(&q, f->message);
    store_bind_text(&q, f->subject);
    return store_end(store, change_fenced(&q, id, attempt, "job.queued"), err);
}

enum qd_code store_job_canceled(struct store *store, const char *id, int attempt,
                                struct qd_error *err)
{
    struct store_query q;
    QD_TRY(store_begin(store, err));
    fenced_init(&q, store,
                "UPDATE jobs SET state='canceled',finished_ms=?4,updated_ms=?4,rev=rev+1 " FENCE
                "AND state='canceling'",
                id, attempt, err);
    store_bind_int(&q, store->now_ms());
    return store_end(store, change_fenced(&q, id, attempt, "job.canceled"), err);
}

/* Move a job that nobody's attempt owns; inside a transaction. */
static enum qd_code move(struct store *store, const char *id, const char *sql, const char *event,
                         struct qd_error *err)
{
    struct store_query q;
    store_query_init(&q, store, sql, err);
    store_bind_text(&q, id);
    store_bind_int(&q, store->now_ms());
    QD_TRY(store_query_run(&q));
    return store_event_add(store, id, event, err);
}

enum qd_code store_job_cancel(struct store *store, const char *id, enum store_state *ret,
                              struct qd_error *err)
{
    struct qd_arena arena;
    struct store_job job = {0};
    qd_arena_init(&arena, 0);
    enum qd_code code = store_begin(store, err);
    if (code != QD_OK) {
        goto out;
    }
    code = store_job_get(store, id, &arena, &job, err);
    if (code == QD_OK && job.state == STORE_QUEUED) {
        job.state = STORE_CANCELED;
        code = move(store, id,
                    "UPDATE jobs SET state='canceled',finished_ms=?2,updated_ms=?2,rev=rev+1 "
                    "WHERE id=?1",
                    "job.canceled", err);
    } else if (code == QD_OK && job.state == STORE_RUNNING) {
        job.state = STORE_CANCELING;
        code = move(store, id,
                    "UPDATE jobs SET state='canceling',updated_ms=?2,rev=rev+1 WHERE id=?1",
                    "job.canceling", err);
    } else if (code == QD_OK && (job.state == STORE_SUCCEEDED || job.state == STORE_FAILED)) {
        code = qd_fail(err, QD_CONFLICT, "job %s has already %s", id, store_state_name(job.state));
    }
    code = store_end(store, code, err);
    if (code == QD_OK) {
        *ret = job.state;
    }
out:
    qd_arena_done(&arena);
    return code;
}

enum qd_code store_job_retry(struct store *store, const char *id, struct qd_error *err)
{
    struct qd_arena arena;
    struct store_job job = {0};
    qd_arena_init(&arena, 0);
    enum qd_code code = store_begin(store, err);
    if (code != QD_OK) {
        goto out;
    }
    code = store_job_get(store, id, &arena, &job, err);
    if (code == QD_OK && job.state != STORE_FAILED && job.state != STORE_CANCELED) {
        code = qd_fail(err, QD_CONFLICT, "job %s is %s: only failed and canceled jobs run again",
                       id, store_state_name(job.state));
    }
    if (code == QD_OK) {
        code = move(store, id,
                    "UPDATE jobs SET state='queued',failures=0,run_after_ms=0,finished_ms=0,"
                    "updated_ms=?2,rev=rev+1,phase='',done=0,total=0,unit='',error_code=NULL,"
                    "error_class=NULL,error_message=NULL,error_subject=NULL,instance=NULL "
                    "WHERE id=?1",
                    "job.queued", err);
    }
    code = store_end(store, code, err);
out:
    qd_arena_done(&arena);
    return code;
}

static enum qd_code recover_one(struct store *store, const struct store_job *job,
                                struct store_recovered *counts, struct qd_error *err)
{
    if (job->state == STORE_CANCELING) {
        counts->canceled++;
        return move(store, job->id,
                    "UPDATE jobs SET state='canceled',finished_ms=?2,updated_ms=?2,rev=rev+1 "
                    "WHERE id=?1",
                    "job.canceled", err);
    }
    if (job->failures + 1 >= STORE_MAX_FAILURES) {
        counts->lost++;
        return move(store, job->id,
                    "UPDATE jobs SET state='failed',failures=failures+1,finished_ms=?2,"
                    "updated_ms=?2,rev=rev+1,error_code='internal',error_class='lost',"
                    "error_message='the daemon ended while attempt '||attempt||' of the job ran; "
                    "'||(failures+1)||' attempts were lost' WHERE id=?1",
                    "job.failed", err);
    }
    counts->requeued++;
    return move(store, job->id,
                "UPDATE jobs SET state='queued',failures=failures+1,run_after_ms=0,updated_ms=?2,"
                "rev=rev+1,phase='',done=0,total=0,unit='',instance=NULL WHERE id=?1",
                "job.queued", err);
}

enum qd_code store_recover(struct store *store, struct store_recovered *ret, struct qd_error *err)
{
    struct qd_arena arena;
    struct store_query q;
    struct store_job *jobs = NULL;
    struct store_recovered counts = {0};
    size_t n = 0;
    bool row = false;
    qd_arena_init(&arena, 0);
    enum qd_code code = store_begin(store, err);
    if (code != QD_OK) {
        goto out;
    }
    store_query_init(&q, store,
                     "SELECT " STORE_JOB_COLUMNS " FROM jobs WHERE state IN "
                     "('running','canceling') AND instance IS NOT ?1",
                     err);
    store_bind_text(&q, store->instance);
    while (store_query_step(&q, &row) == QD_OK && row) {
        jobs = store_grow(&q, &arena, jobs, n, sizeof(*jobs));
        if (jobs != NULL) {
            store_read_job(&q, &arena, &jobs[n++]);
        }
    }
    store_query_done(&q);
    code = q.code;
    for (size_t i = 0; i < n && code == QD_OK; i++) {
        code = recover_one(store, &jobs[i], &counts, err);
    }
    code = store_end(store, code, err);
    if (code == QD_OK) {
        *ret = counts;
    } else {
        qd_wrap(err, code, "recover the jobs of a former run");
    }
out:
    qd_arena_done(&arena);
    return code;
}
