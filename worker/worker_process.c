#include "worker/worker_process.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_settle.h"
#include "worker/worker_spawn.h"

#define MAX_RECEIVED (256ull * 1024 * 1024) /* all frames of one child */
#define PROGRESS_EVERY_MS 250
#define MAX_WRITES 200    /* phases and completed progress: each is synced to the disk */
#define EXIT_AFTER_GRACES 5 /* time to exit after the last frame, in graces */

static void fail_here(struct worker_process *p, const char *error_class)
{
    p->has_error = true;
    p->error_class = error_class;
}

static void kill_group(struct worker_process *p, int signum)
{
    if (p->process.pid > 0) {
        kill(-p->process.pid, signum); /* the child leads a session of its own */
    }
}

void worker_process_stop(struct worker_process *p, enum worker_reason reason)
{
    if (p->reason == WORKER_REASON_NONE) {
        p->reason = reason;
    }
    if (p->stage != WORKER_RUNNING) {
        return;
    }
    worker_stage_move(&p->stage, WORKER_STOPPING);
    p->stopped_ms = uv_now(p->pool->loop);
    /* Only a child that may have something to tidy gets a grace. */
    kill_group(p, reason == WORKER_REASON_CANCEL || reason == WORKER_REASON_DRAIN ? SIGTERM
                                                                                  : SIGKILL);
}

/* --- end of a child ------------------------------------------------------------------------- */

static void ingest_work(uv_work_t *work)
{
    struct worker_process *p = work->data;
    p->ingest_code = worker_result_ingest(&p->result, p->scratch, store_blobs_of(p->pool->store),
                                          p->pool->settings.max_artifact_bytes, &p->arena,
                                          &p->rows, &p->error);
}

static void ingest_done(uv_work_t *work, int status)
{
    struct worker_process *p = work->data;
    if (status != 0) {
        p->ingest_code = qd_fail(&p->error, QD_INTERNAL, "taking in the results was interrupted");
    }
    if (p->ingest_code != QD_OK) {
        qd_wrap(&p->error, p->ingest_code, "result of the worker");
        /* The child made it, hence never the user's fault. */
        fail_here(p, p->ingest_code == QD_NO_SPACE || p->ingest_code == QD_NO_MEMORY
                         ? "resource"
                         : "internal");
    }
    worker_stage_move(&p->stage, WORKER_SETTLING);
    worker_settle(p);
}

static void after_all_closed(struct worker_process *p)
{
    if (!p->process_closed || !p->control_closed) {
        return;
    }
    free(p->first_frame);
    p->first_frame = NULL;
    worker_decoder_done(&p->decoder);
    bool good = p->reason == WORKER_REASON_NONE && !p->has_error && p->result.final != NULL &&
                p->signal == 0 && p->exit_status == 0;
    if (good) {
        p->work.data = p;
        worker_stage_move(&p->stage, WORKER_INGESTING);
        if (uv_queue_work(p->pool->loop, &p->work, ingest_work, ingest_done) != 0) {
            ingest_done(&p->work, UV_ECANCELED);
        }
        return;
    }
    worker_stage_move(&p->stage, WORKER_SETTLING);
    worker_settle(p);
}

static void on_control_closed(uv_handle_t *handle)
{
    struct worker_process *p = handle->data;
    p->control_closed = true;
    after_all_closed(p);
}

static void on_process_closed(uv_handle_t *handle)
{
    struct worker_process *p = handle->data;
    p->process_closed = true;
    after_all_closed(p);
}

static void close_control(struct worker_process *p)
{
    if (!uv_is_closing((uv_handle_t *)&p->control)) {
        uv_close((uv_handle_t *)&p->control, on_control_closed);
    }
}

static void on_exit_of_child(uv_process_t *process, int64_t status, int signum)
{
    struct worker_process *p = process->data;
    kill_group(p, SIGKILL); /* what it may have left behind */
    p->exited = true;
    p->exit_status = status;
    p->signal = signum;
    p->exited_ms = uv_now(p->pool->loop);
    worker_stage_move(&p->stage, WORKER_ENDED);
    uv_close((uv_handle_t *)process, on_process_closed);
    /* The pipe goes on until its end of file: the result may still be in it. */
}

/* --- frames --------------------------------------------------------------------------------- */

static int64_t get_count(const json_t *frame, const char *name)
{
    const json_t *value = json_object_get(frame, name);
    int64_t n = json_is_integer(value) ? json_integer_value(value) : 0;
    return n > 0 ? n : 0;
}

static const char *get_string(const json_t *frame, const char *name)
{
    const char *text = json_string_value(json_object_get(frame, name));
    return text != NULL ? text : "";
}

static void check_fence(struct worker_process *p, enum qd_code code, const struct qd_error *err)
{
    if (code == QD_CONFLICT) {
        worker_process_stop(p, WORKER_REASON_FENCED);
    } else if (code != QD_OK) {
        worker_log(p->pool, p->job.id, "%s", err->message);
    }
    if (code == QD_OK && p->pool->settings.on_change != NULL) {
        p->pool->settings.on_change(p->pool->settings.arg, p->job.id);
    }
}

static enum qd_code count_write(struct worker_process *p, struct qd_error *err)
{
    if (++p->n_writes > MAX_WRITES) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "more than %d frames of phase or completed progress",
                       MAX_WRITES);
    }
    return QD_OK;
}

static enum qd_code on_progress(struct worker_process *p, const json_t *frame,
                                struct qd_error *ret_err)
{
    struct qd_error err;
    char unit[33];
    int64_t done = get_count(frame, "done"), total = get_count(frame, "total");
    uint64_t now = uv_now(p->pool->loop);
    if (p->progress_ms != 0 && now - p->progress_ms < PROGRESS_EVERY_MS) {
        if (done != total) {
            return QD_OK;
        }
        QD_TRY(count_write(p, ret_err));
    }
    p->progress_ms = now;
    snprintf(unit, sizeof(unit), "%.32s", get_string(frame, "unit"));
    check_fence(p, store_job_progress(p->pool->store, p->job.id, p->job.attempt, done, total, unit,
                                      &err),
                &err);
    return QD_OK;
}

static enum qd_code on_frame(void *arg, const char *type, json_t *frame, struct qd_error *err)
{
    struct worker_process *p = arg;
    struct qd_error store_err;
    bool over = p->has_error || p->result.final != NULL || p->reason != WORKER_REASON_NONE;
    p->heard_ms = uv_now(p->pool->loop);
    if (over || strcmp(type, "heartbeat") == 0) {
        return QD_OK;
    }
    if (strcmp(type, "phase") == 0) {
        char phase[65];
        QD_TRY(count_write(p, err));
        snprintf(phase, sizeof(phase), "%.64s", get_string(frame, "phase"));
        check_fence(p, store_job_phase(p->pool->store, p->job.id, p->job.attempt, phase,
                                       &store_err),
                    &store_err);
    } else if (strcmp(type, "progress") == 0) {
        return on_progress(p, frame, err);
    } else if (strcmp(type, "log") == 0) {
        worker_log(p->pool, p->job.id, "%.500s", get_string(frame, "message"));
    } else if (strcmp(type, "rows") == 0 || strcmp(type, "result") == 0) {
        p->final_ms = uv_now(p->pool->loop);
        return worker_result_add(&p->result, type, frame, err);
    } else if (strcmp(type, "error") == 0) {
        enum qd_code code = qd_code_from_name(get_string(frame, "code"));
        code = code == QD_OK ? QD_INTERNAL : code;
        qd_fail_on(&p->error, code, get_string(frame, "subject"), "%s",
                   get_string(frame, "message"));
        fail_here(p, NULL);
        p->final_ms = uv_now(p->pool->loop);
    } else {
        return qd_fail(err, QD_INVALID, "frame of unknown type '%.40s'", type);
    }
    return QD_OK;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct worker_process *p = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(p->read_buffer, sizeof(p->read_buffer));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct worker_process *p = stream->data;
    struct qd_error err;
    enum qd_code code = QD_OK;
    if (n < 0) {
        close_control(p);
        return;
    }
    p->received += (uint64_t)n;
    if (p->received > MAX_RECEIVED) {
        code = qd_fail(&err, QD_LIMIT_EXCEEDED, "more than %llu bytes of frames", MAX_RECEIVED);
    } else {
        code = worker_decoder_feed(&p->decoder, buffer->base, (size_t)n, on_frame, p, &err);
    }
    if (code != QD_OK) {
        uv_read_stop(stream);
        if (p->reason == WORKER_REASON_NONE && !p->has_error) {
            p->error = err;
            qd_wrap(&p->error, QD_INTERNAL, "the worker process broke the protocol");
            p->error.code = QD_INTERNAL;
            fail_here(p, "internal");
        }
        worker_process_stop(p, WORKER_REASON_PROTOCOL);
        close_control(p);
    }
}

/* --- start ---------------------------------------------------------------------------------- */

static void on_written(uv_write_t *write, int status)
{
    (void)write; /* a child that is gone tells so by its exit */
    (void)status;
}

static enum qd_code spawn(struct worker_process *p, size_t *ret_frame_size, bool *ret_handle,
                          struct qd_error *err)
{
    const char *data_dir = store_data_dir(p->pool->store);
    struct store_input *inputs = NULL;
    size_t n = 0;
    char log[4096 + 64];
    snprintf(p->scratch, sizeof(p->scratch), "%s/scratch/%s-%d", data_dir, p->job.id,
             p->job.attempt);
    snprintf(log, sizeof(log), "%s/logs/%s-%d.log", data_dir, p->job.id, p->job.attempt);
    QD_TRY(store_job_inputs(p->pool->store, p->job.id, &p->arena, &inputs, &n, err));
    p->process.data = p;
    const struct worker_spawn spawn = {.loop = p->pool->loop,
                                       .blobs = store_blobs_of(p->pool->store),
                                       .settings = &p->pool->settings,
                                       .type = "job",
                                       .job = p->job.id,
                                       .name = p->job.name,
                                       .attempt = p->job.attempt,
                                       .config = p->job.config,
                                       .inputs = inputs,
                                       .n_inputs = n,
                                       .scratch = p->scratch,
                                       .log = log,
                                       .on_exit = on_exit_of_child,
                                       .process = &p->process,
                                       .control = &p->control};
    return worker_spawn(&spawn, &p->arena, &p->first_frame, ret_frame_size, ret_handle, err);
}

void worker_process_start(struct worker_process *p)
{
    size_t frame_size = 0;
    bool spawned = false;
    worker_stage_move(&p->stage, WORKER_STARTING);
    worker_decoder_init(&p->decoder);
    worker_result_init(&p->result);
    uv_pipe_init(p->pool->loop, &p->control, 0);
    p->control.data = p;
    p->started_ms = p->heard_ms = uv_now(p->pool->loop);
    enum qd_code code = spawn(p, &frame_size, &spawned, &p->error);
    if (code != QD_OK) {
        fail_here(p, code == QD_NO_SPACE || code == QD_NO_MEMORY ? "resource" : "internal");
        worker_stage_move(&p->stage, WORKER_RUNNING);
        worker_stage_move(&p->stage, WORKER_ENDED);
        p->process_closed = !spawned;
        if (spawned) {
            uv_close((uv_handle_t *)&p->process, on_process_closed);
        }
        close_control(p);
        return;
    }
    worker_stage_move(&p->stage, WORKER_RUNNING);
    uv_buf_t buffer = uv_buf_init((char *)p->first_frame, (unsigned)frame_size);
    uv_write(&p->write, (uv_stream_t *)&p->control, &buffer, 1, on_written);
    uv_read_start((uv_stream_t *)&p->control, on_alloc, on_read);
}

/* --- clock ---------------------------------------------------------------------------------- */

static void read_peak(struct worker_process *p)
{
    char path[64], line[256];
    long long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)p->process.pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "VmHWM: %lld kB", &kib) == 1) {
            p->peak_bytes = kib * 1024;
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

void worker_process_tick(struct worker_process *p)
{
    const struct worker_settings *s = &p->pool->settings;
    uint64_t now = uv_now(p->pool->loop);
    if (p->stage == WORKER_RUNNING) {
        read_peak(p);
        bool over = p->has_error || p->result.final != NULL;
        if (over && now - p->final_ms >= (uint64_t)EXIT_AFTER_GRACES * s->kill_grace_ms) {
            if (!p->has_error) {
                qd_fail(&p->error, QD_INTERNAL,
                        "the worker process sent its result but did not exit");
                fail_here(p, "internal");
            }
            worker_process_stop(p, WORKER_REASON_PROTOCOL);
        } else if (s->deadline_s > 0 && now - p->started_ms >= 1000ull * s->deadline_s) {
            worker_process_stop(p, WORKER_REASON_DEADLINE);
        } else if (s->heartbeat_timeout_s > 0 &&
                   now - p->heard_ms >= 1000ull * s->heartbeat_timeout_s) {
            worker_process_stop(p, WORKER_REASON_SILENT);
        }
    } else if (p->stage == WORKER_STOPPING && now - p->stopped_ms >= s->kill_grace_ms) {
        kill_group(p, SIGKILL);
    } else if (p->stage == WORKER_ENDED && now - p->exited_ms >= 2000) {
        close_control(p); /* somebody else still holds its other end */
    } else if (p->stage == WORKER_SETTLING) {
        worker_settle(p);
    }
}
