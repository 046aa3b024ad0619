#include "worker/worker_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/worker_progress.h"

static enum qd_code make_first_frame(const struct worker_spawn *s, uint8_t **ret, size_t *ret_size,
                                     struct qd_error *err)
{
    json_t *list = json_array(), *config = json_loads(s->config, 0, NULL);
    for (size_t i = 0; i < s->n_inputs; i++) {
        const struct store_input *in = &s->inputs[i];
        json_array_append_new(list, json_pack("{s:s,s:i,s:s,s:I,s:s}", "role", in->role, "fd",
                                              WORKER_FIRST_INPUT_FD + (int)i, "name", in->name,
                                              "size", (json_int_t)in->size, "sha256", in->blob));
    }
    json_t *frame = json_pack("{s:s,s:s,s:s,s:i,s:o,s:o,s:s,s:i,s:I}", "type", s->type, "job",
                              s->job, "name", s->name, "attempt", s->attempt, "config",
                              config != NULL ? config : json_null(), "inputs", list, "scratch",
                              s->scratch, "threads", (int)s->settings->threads, "memory_limit",
                              (json_int_t)s->settings->memory_limit);
    if (frame == NULL || json_array_size(list) != s->n_inputs) {
        json_decref(frame);
        return qd_fail(err, QD_INTERNAL, "job does not fit into a frame");
    }
    enum qd_code code = worker_frame_encode(frame, ret, ret_size, err);
    json_decref(frame);
    return code;
}

/* stdio[0..3 + n]; descriptors of inputs are opened here and closed by the caller. */
static enum qd_code open_stdio(const struct worker_spawn *s, uv_stdio_container_t *stdio,
                               struct qd_error *err)
{
    uint64_t size = 0;
    int log_fd = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0) {
        return qd_fail_errno(err, errno, "open the log '%s'", s->log);
    }
    stdio[0].flags = UV_IGNORE;
    stdio[1].flags = stdio[2].flags = UV_INHERIT_FD;
    stdio[1].data.fd = stdio[2].data.fd = log_fd;
    stdio[3].flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE;
    stdio[3].data.stream = (uv_stream_t *)s->control;
    for (size_t i = 0; i < s->n_inputs; i++) {
        int fd = -1;
        enum qd_code code = store_blob_open(s->blobs, s->inputs[i].blob, &fd, &size, err);
        if (code != QD_OK) {
            return qd_wrap(err, code, "input '%.100s'", s->inputs[i].name);
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

static enum qd_code start(const struct worker_spawn *s, struct qd_arena *arena,
                          uv_stdio_container_t *stdio, size_t n, struct qd_error *err)
{
    const struct worker_settings *set = s->settings;
    char *args[16] = {0};
    char *env[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"LC_ALL=C.UTF-8"}, NULL};
    char exe[] = "/proc/self/exe", worker[] = "worker";
    args[0] = exe;
    args[1] = worker;
    if (set->exe != NULL) {
        QD_TRY(qd_arena_copy(arena, set->exe, strlen(set->exe) + 1, &args[0], err));
    }
    for (size_t i = 0; set->args != NULL && set->args[i] != NULL && i < QD_COUNT_OF(args) - 2;
         i++) {
        QD_TRY(qd_arena_copy(arena, set->args[i], strlen(set->args[i]) + 1, &args[1 + i], err));
    }
    uv_process_options_t options = {.exit_cb = s->on_exit,
                                    .file = args[0],
                                    .args = args,
                                    .env = env,
                                    .cwd = s->scratch,
                                    .flags = UV_PROCESS_DETACHED,
                                    .stdio_count = (int)n,
                                    .stdio = stdio};
    int rc = uv_spawn(s->loop, s->process, &options);
    if (rc != 0) {
        return qd_fail(err, QD_INTERNAL, "start worker process '%s': %s", args[0],
                       uv_strerror(rc));
    }
    return QD_OK;
}

enum qd_code worker_spawn(const struct worker_spawn *s, struct qd_arena *arena,
                          uint8_t **ret_frame, size_t *ret_size, bool *ret_handle,
                          struct qd_error *err)
{
    uv_stdio_container_t *stdio = NULL;
    size_t n = s->n_inputs + WORKER_FIRST_INPUT_FD;
    *ret_handle = false;
    if (mkdir(s->scratch, 0700) != 0) {
        return qd_fail_errno(err, errno, "create scratch folder '%s'", s->scratch);
    }
    QD_TRY(qd_arena_array(arena, n, sizeof(*stdio), &stdio, err));
    enum qd_code code = open_stdio(s, stdio, err);
    code = code == QD_OK ? make_first_frame(s, ret_frame, ret_size, err) : code;
    if (code == QD_OK) {
        code = start(s, arena, stdio, n, err);
        /* Also a failed uv_spawn leaves a handle that must be closed. */
        *ret_handle = uv_handle_get_type((uv_handle_t *)s->process) == UV_PROCESS;
        if (code != QD_OK) {
            free(*ret_frame);
            *ret_frame = NULL;
        }
    }
    close_stdio(stdio, n);
    return code;
}
