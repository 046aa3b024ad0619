#include "worker/worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/worker_settle.h"

#define MAX_RECEIVED (256ull * 1024 * 1024) /* all frames of one child */
#define PROGRESS_EVERY_MS 250
#define MAX_WRITES 2000   /* phases and completed progress: each is synced to the disk */
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

static enum qd_code make_first_frame(struct worker_process *p, const struct store_input *inputs,
                                     size_t n, size_t *ret_size, struct qd_error *err)
{
    const struct worker_settings *s = &p->pool->settings;
    json_t *list = json_array(), *config = json_loads(p->job.config, 0, NULL);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_pack("{s:s,s:i,s:s,s:I,s:s}", "role", inputs[i].role, "fd",
                                              WORKER_FIRST_INPUT_FD + (int)i, "name",
                                              inputs[i].name, "size", (json_int_t)inputs[i].size,
                                              "sha256", inputs[i].blob));
    }
    json_t *frame = json_pack("{s:s,s:s,s:s,s:i,s:o,s:o,s:s,s:i,s:I}", "type", "job", "job",
                              p->job.id, "name", p->job.name, "attempt", p->job.attempt, "config",
                              config != NULL ? config : json_null(), "inputs", list, "scratch",
                              p->scratch, "threads", (int)s->threads, "memory_limit",
                              (json_int_t)s->memory_limit);
    if (frame == NULL || json_array_size(list) != n) {
        json_decref(frame);
        return qd_fail(err, QD_INTERNAL, "job does not fit into a frame");
    }
    enum qd_code code = worker_frame_encode(frame, &p->first_frame, ret_size, err);
    json_decref(frame);
    return code;
}

static int open_log(struct worker_process *p)
{
    char path[4096 + 64];
    snprintf(path, sizeof(path), "%s/logs/%s-%d.log", store_data_dir(p->pool->store), p->job.id,
             p->job.attempt);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* stdio[0..3 + n]; descriptors of inputs are opened here and closed by the caller. */
static enum qd_code open_stdio(struct worker_process *p, const struct store_input *inputs,
                               size_t n, uv_stdio_container_t *stdio, struct qd_error *err)
{
    uint64_t size = 0;
    int log_fd = open_log(p);
    if (log_fd < 0) {
        return qd_fail_errno(err, errno, "open the log of job %s", p->job.id);
    }
    stdio[0].flags = UV_IGNORE;
    stdio[1].flags = stdio[2].flags = UV_INHERIT_FD;
    stdio[1].data.fd = stdio[2].data.fd = log_fd;
    stdio[3].flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE;
    stdio[3].data.stream = (uv_stream_t *)&p->control;
    for (size_t i = 0; i < n; i++) {
        int fd = -1;
        enum qd_code code =
            store_blob_open(store_blobs_of(p->pool->store), inputs[i].blob, &fd, &size, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "input '%.100s'", inputs[i].name);
        }
        stdio[WORKER_FIRST_INPUT_FD + i].flags = UV_INHERIT_FD;
        stdio[WORKER_FIRST_INPUT_FD + i].data.fd = fd;
    }
    return QD_OK;
}

static void close_stdio(uv_stdio_container_t *stdio, size_t n)
{
    if (stdio[1].flags == UV_INHERIT_FD) {
        close(stdio[1].data.fd);
    }
    for (size_t i = WORKER_FIRST_INPUT_FD; i < n; i++) {
        if (stdio[i].flags == UV_INHERIT_FD) {
            close(stdio[i].data.fd);
        }
    }
}

static enum qd_code spawn(struct worker_process *p, uv_stdio_container_t *stdio, size_t n,
                          struct qd_error *err)
{
    const struct worker_settings *s = &p->pool->settings;
    char *args[16] = {0};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"LC_ALL=C.UTF-8"}, NULL};
    char exe[] = "/proc/self/exe", worker[] = "worker";
    args[0] = exe;
    args[1] = worker;
    if (s->exe != NULL) {
        QD_TRY(qd_arena_copy(&p->arena, s->exe, strlen(s->exe) + 1, &args[0], err));
    }
    for (size_t i = 0; s->args != NULL && s->args[i] != NULL && i < QD_COUNT_OF(args) - 2; i++) {
        QD_TRY(qd_arena_copy(&p->arena, s->args[i], strlen(s->args[i]) + 1, &args[1 + i], err));
    }
    uv_process_options_t options = {.exit_cb = on_exit_of_child,
                                    .file = args[0],
                                    .args = args,
                                    .env = env,
                                    .cwd = p->scratch,
                                    .flags = UV_PROCESS_DETACHED,
                                    .stdio_count = (int)n,
                                    .stdio = stdio};
    p->process.data = p;
    int rc = uv_spawn(p->pool->loop, &p->process, &options);
    if (rc != 0) {
        return qd_fail(err, QD_INTERNAL, "start worker process '%s': %s", args[0],
                       uv_strerror(rc));
    }
    return QD_OK;
}

static enum qd_code prepare(struct worker_process *p, uv_stdio_container_t **ret_stdio,
                            size_t *ret_n, size_t *ret_frame_size, struct qd_error *err)
{
    struct store_input *inputs = NULL;
    size_t n = 0;
    snprintf(p->scratch, sizeof(p->scratch), "%s/scratch/%s-%d", store_data_dir(p->pool->store),
             p->job.id, p->job.attempt);
    if (mkdir(p->scratch, 0700) != 0) {
        return qd_fail_errno(err, errno, "create scratch folder '%s'", p->scratch);
    }
    QD_TRY(store_job_inputs(p->pool->store, p->job.id, &p->arena, &inputs, &n, err));
    QD_TRY(qd_arena_array(&p->arena, n + WORKER_FIRST_INPUT_FD, sizeof(**ret_stdio), ret_stdio,
                          err));
    *ret_n = n + WORKER_FIRST_INPUT_FD;
    QD_TRY(open_stdio(p, inputs, n, *ret_stdio, err));
    return make_first_frame(p, inputs, n, ret_frame_size, err);
}

void worker_process_start(struct worker_process *p)
{
    uv_stdio_container_t *stdio = NULL;
    size_t n = 0, frame_size = 0;
    worker_stage_move(&p->stage, WORKER_STARTING);
    worker_decoder_init(&p->decoder);
    worker_result_init(&p->result);
    uv_pipe_init(p->pool->loop, &p->control, 0);
    p->control.data = p;
    p->started_ms = p->heard_ms = uv_now(p->pool->loop);
    enum qd_code code = prepare(p, &stdio, &n, &frame_size, &p->error);
    bool spawned = false;
    if (code == QD_OK) {
        code = spawn(p, stdio, n, &p->error);
        /* Also a failed uv_spawn leaves a handle that must be closed. */
        spawned = uv_handle_get_type((uv_handle_t *)&p->process) == UV_PROCESS;
    }
    if (stdio != NULL) {
        close_stdio(stdio, n);
    }
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
        if (over && now - p->final_ms >= 1000ull * EXIT_AFTER_GRACES * s->kill_grace_s) {
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
    } else if (p->stage == WORKER_STOPPING && now - p->stopped_ms >= 1000ull * s->kill_grace_s) {
        kill_group(p, SIGKILL);
    } else if (p->stage == WORKER_ENDED && now - p->exited_ms >= 2000) {
        close_control(p); /* somebody else still holds its other end */
    } else if (p->stage == WORKER_SETTLING) {
        worker_settle(p);
    }
}
