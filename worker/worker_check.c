#include "worker/worker_check.h"

#include <assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/worker_process.h"
#include "worker/worker_spawn.h"

#define ARENA_LIMIT  (4u * 1024 * 1024) /* names of inputs */
#define MAX_RECEIVED (2u * WORKER_FRAME_MAX)

struct worker_check {
    struct worker_pool *pool;
    struct worker_check *next; /* of those that run */
    struct qd_arena arena;
    char scratch[4096];
    uv_process_t process;
    uv_pipe_t control;
    uv_write_t write;
    uint8_t *first_frame;
    struct worker_decoder decoder;
    char read_buffer[16384];
    uint64_t received, started_ms, exited_ms;
    bool process_closed, control_closed, done;
    bool unowned; /* freed by its owner: goes when its handles are closed */
    bool exited, killed;
    int64_t exit_status;
    int signal;
    enum qd_code code; /* why it failed, QD_OK: not yet */
    struct qd_error error;
    json_t *summary;
};

static unsigned count(const struct worker_pool *pool)
{
    unsigned n = 0;
    for (const struct worker_check *c = pool->checks; c != NULL; c = c->next) {
        n++;
    }
    return n;
}

bool worker_check_may_start(const struct worker_pool *pool)
{
    return !pool->draining && count(pool) < WORKER_CHECKS_MAX;
}

static void destroy(struct worker_check *c)
{
    worker_decoder_done(&c->decoder);
    free(c->first_frame);
    json_decref(c->summary);
    qd_arena_done(&c->arena);
    free(c);
}

/* The first failure counts; the child ends at once. */
static void end_child(struct worker_check *c, enum qd_code code)
{
    c->code = c->code != QD_OK ? c->code : code;
    if (!c->exited && c->process.pid > 0) {
        c->killed = true;
        kill(-c->process.pid, SIGKILL); /* it leads a session of its own */
    }
}

/* --- end ------------------------------------------------------------------------------------ */

static void conclude(struct worker_check *c)
{
    struct worker_pool *pool = c->pool;
    for (struct worker_check **at = &pool->checks; *at != NULL; at = &(*at)->next) {
        if (*at == c) {
            *at = c->next;
            break;
        }
    }
    worker_remove_tree(c->scratch);
    if (c->code == QD_OK && c->signal != 0) {
        c->code = qd_fail(&c->error, QD_INTERNAL, "the check of the submission crashed with "
                          "signal %d (SIG%s)", c->signal, sigabbrev_np(c->signal));
    } else if (c->code == QD_OK && c->summary == NULL) {
        c->code = qd_fail(&c->error, QD_INTERNAL, "the check of the submission ended with status "
                          "%lld and without a result", (long long)c->exit_status);
    }
    c->done = true;
    if (c->unowned) {
        destroy(c);
    }
    if (pool->settings.on_change != NULL) {
        pool->settings.on_change(pool->settings.arg, NULL);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct worker_check *c = handle->data;
    bool process = handle == (uv_handle_t *)&c->process;
    *(process ? &c->process_closed : &c->control_closed) = true;
    if (c->process_closed && c->control_closed) {
        conclude(c);
    }
}

static void close_control(struct worker_check *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->control)) {
        uv_close((uv_handle_t *)&c->control, on_closed);
    }
}

static void on_exit_of_child(uv_process_t *process, int64_t status, int signum)
{
    struct worker_check *c = process->data;
    kill(-process->pid, SIGKILL); /* what it may have left behind */
    c->exited = true;
    c->exited_ms = uv_now(c->pool->loop);
    c->exit_status = status;
    c->signal = signum;
    uv_close((uv_handle_t *)process, on_closed);
}

/* --- frames --------------------------------------------------------------------------------- */

static enum qd_code on_frame(void *arg, const char *type, json_t *frame, struct qd_error *err)
{
    struct worker_check *c = arg;
    (void)err;
    if (c->code != QD_OK || c->summary != NULL) {
        return QD_OK;
    }
    if (strcmp(type, "result") == 0) {
        c->summary = json_incref(json_object_get(frame, "summary"));
    } else if (strcmp(type, "error") == 0) {
        const char *subject = json_string_value(json_object_get(frame, "subject"));
        const char *message = json_string_value(json_object_get(frame, "message"));
        const char *code = json_string_value(json_object_get(frame, "code"));
        c->code = qd_code_from_name(code != NULL ? code : "");
        c->code = c->code == QD_OK ? QD_INTERNAL : c->code;
        qd_fail_on(&c->error, c->code, subject != NULL ? subject : "", "%s",
                   message != NULL ? message : "the check failed without a message");
    }
    return QD_OK; /* phases, heartbeats */
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct worker_check *c = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(c->read_buffer, sizeof(c->read_buffer));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct worker_check *c = stream->data;
    struct qd_error err;
    if (n < 0) {
        close_control(c);
        return;
    }
    c->received += (uint64_t)n;
    enum qd_code code = c->received > MAX_RECEIVED
                            ? qd_fail(&err, QD_LIMIT_EXCEEDED, "more than %u bytes of frames",
                                      MAX_RECEIVED)
                            : worker_decoder_feed(&c->decoder, buffer->base, (size_t)n, on_frame,
                                                  c, &err);
    if (code != QD_OK && c->code == QD_OK) {
        c->code = QD_INTERNAL;
        c->error = err;
        qd_wrap(&c->error, QD_INTERNAL, "the check of the submission broke the protocol");
    }
    if (code != QD_OK) {
        end_child(c, QD_INTERNAL);
        close_control(c);
    }
}

static void on_written(uv_write_t *write, int status)
{
    (void)write; /* a child that is gone tells so by its exit */
    (void)status;
}

/* --- start ---------------------------------------------------------------------------------- */

static enum qd_code copy_inputs(struct qd_arena *arena, const struct store_input *inputs, size_t n,
                                struct store_input **ret, struct qd_error *err)
{
    struct store_input *copy = NULL;
    QD_TRY(qd_arena_array(arena, n, sizeof(*copy), &copy, err));
    for (size_t i = 0; i < n; i++) {
        copy[i].size = inputs[i].size;
        QD_TRY(qd_arena_string(arena, inputs[i].role, strlen(inputs[i].role), &copy[i].role, err));
        QD_TRY(qd_arena_string(arena, inputs[i].name, strlen(inputs[i].name), &copy[i].name, err));
        QD_TRY(qd_arena_string(arena, inputs[i].blob, strlen(inputs[i].blob), &copy[i].blob, err));
    }
    *ret = copy;
    return QD_OK;
}

static enum qd_code spawn(struct worker_check *c, const char *name, const char *config,
                          const struct store_input *inputs, size_t n, size_t *ret_size,
                          bool *ret_handle, struct qd_error *err)
{
    struct worker_pool *pool = c->pool;
    char log[4096 + 32];
    snprintf(c->scratch, sizeof(c->scratch), "%s/scratch/check-%llu",
             store_data_dir(pool->store), (unsigned long long)++pool->n_checked);
    snprintf(log, sizeof(log), "%s.log", c->scratch);
    const struct worker_spawn spawn = {.loop = pool->loop,
                                       .blobs = store_blobs_of(pool->store),
                                       .settings = &pool->settings,
                                       .type = "check",
                                       .job = "",
                                       .name = name,
                                       .config = config,
                                       .inputs = inputs,
                                       .n_inputs = n,
                                       .scratch = c->scratch,
                                       .log = log,
                                       .on_exit = on_exit_of_child,
                                       .process = &c->process,
                                       .control = &c->control};
    enum qd_code code = worker_spawn(&spawn, &c->arena, &c->first_frame, ret_size, ret_handle, err);
    remove(log); /* the child has it open; nobody reads it */
    return code;
}

enum qd_code worker_check_new(struct worker_pool *pool, const char *name, const char *config,
                              const struct store_input *inputs, size_t n_inputs,
                              struct worker_check **ret, struct qd_error *err)
{
    struct worker_check *c = calloc(1, sizeof(*c));
    struct store_input *copy = NULL;
    size_t size = 0;
    bool handle = false;
    if (c == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for the check of the submission");
    }
    c->pool = pool;
    c->started_ms = uv_now(pool->loop);
    qd_arena_init(&c->arena, ARENA_LIMIT);
    worker_decoder_init(&c->decoder);
    uv_pipe_init(pool->loop, &c->control, 0);
    c->control.data = c->process.data = c;
    enum qd_code code = copy_inputs(&c->arena, inputs, n_inputs, &copy, err);
    code = code == QD_OK ? spawn(c, name, config, copy, n_inputs, &size, &handle, err) : code;
    c->next = pool->checks;
    pool->checks = c;
    if (code != QD_OK) {
        c->unowned = true;
        c->code = code;
        c->process_closed = !handle;
        if (handle) {
            uv_close((uv_handle_t *)&c->process, on_closed);
        }
        close_control(c);
        return code;
    }
    uv_buf_t buffer = uv_buf_init((char *)c->first_frame, (unsigned)size);
    uv_write(&c->write, (uv_stream_t *)&c->control, &buffer, 1, on_written);
    uv_read_start((uv_stream_t *)&c->control, on_alloc, on_read);
    *ret = c;
    return QD_OK;
}

bool worker_check_is_done(const struct worker_check *check)
{
    return check->done;
}

enum qd_code worker_check_result(const struct worker_check *check, const json_t **ret_summary,
                                 struct qd_error *err)
{
    assert(check->done);
    if (check->code != QD_OK) {
        if (err != NULL) {
            *err = check->error;
        }
        return check->code;
    }
    *ret_summary = check->summary;
    return QD_OK;
}

void worker_check_free(struct worker_check *check)
{
    if (check == NULL) {
        return;
    }
    if (check->done) {
        destroy(check);
        return;
    }
    check->unowned = true;
    end_child(check, qd_fail(&check->error, QD_CANCELED, "the check is not wanted any more"));
}

/* --- clock ---------------------------------------------------------------------------------- */

void worker_checks_tick(struct worker_pool *pool)
{
    uint64_t now = uv_now(pool->loop);
    for (struct worker_check *c = pool->checks; c != NULL; c = c->next) {
        unsigned limit = pool->settings.check_deadline_s;
        if (!c->exited && !c->killed && now - c->started_ms >= 1000ull * limit) {
            end_child(c, qd_fail(&c->error, QD_TIMED_OUT, "the check took longer than %u s",
                                 limit));
        } else if (c->exited && now - c->exited_ms >= 2000) {
            close_control(c); /* somebody else still holds its other end */
        }
    }
}

void worker_checks_stop(struct worker_pool *pool)
{
    for (struct worker_check *c = pool->checks; c != NULL; c = c->next) {
        end_child(c, qd_fail(&c->error, QD_CANCELED, "the daemon is stopping"));
    }
}
