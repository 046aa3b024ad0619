#include "worker/worker_settle.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

const char *worker_error_class(enum qd_code code)
{
    switch (code) {
    case QD_INVALID:
    case QD_UNSUPPORTED:
    case QD_LIMIT_EXCEEDED:
    case QD_NOT_FOUND:
    case QD_CONFLICT:
        return "user";
    case QD_NO_MEMORY:
    case QD_NO_SPACE:
    case QD_TIMED_OUT:
        return "resource";
    case QD_OK:
    case QD_IO:
    case QD_CANCELED:
    case QD_INTERNAL:
    case QD_CODE_COUNT:
        return "internal";
    }
    return "internal";
}

static void explain_signal(struct worker_process *p)
{
    const char *abbreviation = sigabbrev_np(p->signal);
    long long mib = (long long)(p->peak_bytes >> 20);
    abbreviation = abbreviation != NULL ? abbreviation : "?";
    if (p->signal == SIGKILL) {
        qd_fail(&p->error, QD_NO_MEMORY,
                "the worker process was killed (SIGKILL), most likely by the kernel for lack of "
                "memory; it had used %lld MiB when last seen",
                mib);
        p->error_class = "resource";
    } else if (p->signal == SIGXFSZ) {
        qd_fail(&p->error, QD_LIMIT_EXCEEDED,
                "the worker process wrote a file larger than its limit (SIGXFSZ)");
        p->error_class = "resource";
    } else {
        qd_fail(&p->error, QD_INTERNAL,
                "the worker process crashed with signal %d (SIG%s); it had used %lld MiB when "
                "last seen",
                p->signal, abbreviation, mib);
        p->error_class = "internal";
    }
}

/* Fill error and error_class for a child without a usable result. */
static void explain(struct worker_process *p)
{
    const struct worker_settings *s = &p->pool->settings;
    if (p->reason == WORKER_REASON_DEADLINE) {
        qd_fail(&p->error, QD_TIMED_OUT, "the job ran longer than its deadline of %u s",
                s->deadline_s);
        p->error_class = "resource";
    } else if (p->reason == WORKER_REASON_SILENT) {
        qd_fail(&p->error, QD_INTERNAL,
                "the worker process gave no sign of life for %u s and was ended",
                s->heartbeat_timeout_s);
        p->error_class = "lost";
    } else if (p->has_error) {
        p->error_class =
            p->error_class != NULL ? p->error_class : worker_error_class(p->error.code);
    } else if (p->signal != 0) {
        explain_signal(p);
    } else if (p->result.final != NULL) {
        qd_fail(&p->error, QD_INTERNAL, "the worker process sent a result but exited with %lld",
                (long long)p->exit_status);
        p->error_class = "internal";
    } else {
        qd_fail(&p->error, QD_INTERNAL, "the worker process exited with %lld and without a result",
                (long long)p->exit_status);
        p->error_class = "internal";
    }
}

static enum qd_code write_failure(struct worker_process *p, struct qd_error *err)
{
    const struct worker_settings *s = &p->pool->settings;
    if (p->n_unwritten == 0) {
        explain(p);
    }
    struct store_failure f = {.code = qd_code_name(p->error.code),
                              .error_class = p->error_class,
                              .message = p->error.message,
                              .subject = p->error.subject[0] != '\0' ? p->error.subject : NULL};
    bool again = strcmp(f.error_class, "internal") == 0 || strcmp(f.error_class, "lost") == 0;
    if (p->n_unwritten == 0) {
        worker_log(p->pool, p->job.id, "attempt %d: %s", p->job.attempt, p->error.message);
    }
    if (again && p->job.failures + 1 < STORE_MAX_FAILURES) {
        return store_job_requeue(p->pool->store, p->job.id, p->job.attempt,
                                 (int64_t)s->retry_delay_ms << p->job.failures, &f, err);
    }
    return store_job_fail(p->pool->store, p->job.id, p->job.attempt, &f, err);
}

static enum qd_code write_outcome(struct worker_process *p, struct qd_error *err)
{
    struct store *store = p->pool->store;
    int64_t version = 0;
    enum qd_code code = QD_OK;
    switch (p->reason) {
    case WORKER_REASON_FENCED:
    case WORKER_REASON_CANCEL:
        /* Canceled while the store says so; an attempt that is not ours has nothing to write. */
        return store_job_canceled(store, p->job.id, p->job.attempt, err);
    case WORKER_REASON_DRAIN:
        code = store_job_requeue(store, p->job.id, p->job.attempt, 0, NULL, err);
        break;
    case WORKER_REASON_NONE:
        if (!p->has_error && p->result.final != NULL && p->exit_status == 0 && p->signal == 0) {
            code = store_job_publish(store, p->job.id, p->job.attempt, &p->rows, &version, err);
            if (code == QD_INVALID || code == QD_LIMIT_EXCEEDED) {
                p->error = *err; /* rows that the schema refuses */
                p->has_error = true;
                p->error_class = "internal";
                code = write_failure(p, err);
            }
        } else {
            code = write_failure(p, err);
        }
        break;
    case WORKER_REASON_DEADLINE:
    case WORKER_REASON_SILENT:
    case WORKER_REASON_PROTOCOL:
    case WORKER_REASON_COUNT:
        code = write_failure(p, err);
        break;
    }
    if (code == QD_CONFLICT) { /* perhaps canceled since */
        code = store_job_canceled(store, p->job.id, p->job.attempt, err);
    }
    return code;
}

void worker_settle(struct worker_process *p)
{
    struct worker_pool *pool = p->pool;
    struct qd_error err;
    char id[STORE_ID_LENGTH + 1];
    unsigned slot = p->slot;
    enum qd_code code = write_outcome(p, &err);
    snprintf(id, sizeof(id), "%s", p->job.id);
    if (code != QD_OK && code != QD_CONFLICT) {
        bool again = !pool->draining ||
                     uv_now(pool->loop) - pool->drain_ms < pool->settings.kill_grace_ms;
        unsigned n = p->n_unwritten++;
        if (!again || (n & (n - 1)) == 0) { /* powers of two: a full disk may last */
            worker_log(pool, id, "outcome not written, %s: %s",
                       again ? "tried again soon" : "left to the next start", err.message);
        }
        if (again) {
            return;
        }
    }
    worker_remove_tree(p->scratch);
    worker_result_done(&p->result);
    qd_arena_done(&p->arena);
    worker_stage_move(&p->stage, WORKER_IDLE);
    memset(p, 0, sizeof(*p));
    p->pool = pool;
    p->slot = slot;
    if (pool->settings.on_change != NULL) {
        pool->settings.on_change(pool->settings.arg, id);
    }
    worker_pool_kick(pool);
}
