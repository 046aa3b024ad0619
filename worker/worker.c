#include "worker/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/worker_check.h"
#include "worker/worker_process.h"

#define TICK_MS      200
#define MAX_WORKERS  64
#define MAX_DEPTH    16
#define ARENA_LIMIT  (512u * 1024 * 1024)

void worker_log(struct worker_pool *pool, const char *job, const char *format, ...)
{
    struct qd_error text; /* makes the line printable */
    char line[700];
    va_list args;
    if (pool->settings.on_log == NULL) {
        return;
    }
    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    qd_fail(&text, QD_INTERNAL, "%s", line);
    pool->settings.on_log(pool->settings.arg, job, text.message);
}

static void remove_below(int parent_fd, const char *name, int depth)
{
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT || depth > MAX_DEPTH) {
        return;
    }
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            remove_below(fd, e->d_name, depth + 1);
        }
    }
    closedir(dir);
    unlinkat(parent_fd, name, AT_REMOVEDIR);
}

void worker_remove_tree(const char *path)
{
    remove_below(AT_FDCWD, path, 0);
}

static enum qd_code make_folder(const char *data_dir, const char *name, bool empty,
                                struct qd_error *err)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", data_dir, name);
    if (empty) {
        worker_remove_tree(path);
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return qd_fail_errno(err, errno, "create folder '%s'", path);
    }
    return QD_OK;
}

static bool all_idle(const struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->settings.n_workers; i++) {
        if (pool->slots[i].stage != WORKER_IDLE) {
            return false;
        }
    }
    return pool->checks == NULL;
}

static void on_tick_closed(uv_handle_t *handle)
{
    struct worker_pool *pool = handle->data;
    if (pool->on_idle != NULL) {
        pool->on_idle(pool->idle_arg);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct worker_pool *pool = timer->data;
    for (unsigned i = 0; i < pool->settings.n_workers; i++) {
        worker_process_tick(&pool->slots[i]);
    }
    worker_checks_tick(pool);
    if (pool->next_due_ms != 0 && pool->next_due_ms <= store_now_ms(pool->store)) {
        worker_pool_kick(pool);
    }
    if (pool->draining && !pool->closing && all_idle(pool)) {
        pool->closing = true;
        uv_close((uv_handle_t *)&pool->tick, on_tick_closed);
    }
}

static void set_defaults(struct worker_settings *s)
{
    s->threads = s->threads > 0 ? s->threads : 1;
    s->check_deadline_s = s->check_deadline_s > 0 ? s->check_deadline_s : 20;
    s->kill_grace_ms = s->kill_grace_ms > 0 ? s->kill_grace_ms : 2000;
    s->retry_delay_ms = s->retry_delay_ms > 0 ? s->retry_delay_ms : 10000;
    s->max_artifact_bytes = s->max_artifact_bytes > 0 ? s->max_artifact_bytes : 1ull << 34;
}

enum qd_code worker_pool_new(uv_loop_t *loop, struct store *store,
                             const struct worker_settings *settings, struct worker_pool **ret,
                             struct qd_error *err)
{
    if (settings->n_workers < 1 || settings->n_workers > MAX_WORKERS) {
        return qd_fail(err, QD_INVALID, "%u workers, allowed are 1 to %d", settings->n_workers,
                       MAX_WORKERS);
    }
    QD_TRY(make_folder(store_data_dir(store), "scratch", true, err));
    QD_TRY(make_folder(store_data_dir(store), "logs", false, err));
    struct worker_pool *pool = calloc(1, sizeof(*pool));
    struct worker_process *slots = calloc(settings->n_workers, sizeof(*slots));
    if (pool == NULL || slots == NULL) {
        free(pool);
        free(slots);
        return qd_fail(err, QD_NO_MEMORY, "no memory for %u workers", settings->n_workers);
    }
    pool->loop = loop;
    pool->store = store;
    pool->settings = *settings;
    pool->slots = slots;
    set_defaults(&pool->settings);
    for (unsigned i = 0; i < settings->n_workers; i++) {
        slots[i].pool = pool;
        slots[i].slot = i;
    }
    uv_timer_init(loop, &pool->tick);
    pool->tick.data = pool;
    uv_timer_start(&pool->tick, on_tick, TICK_MS, TICK_MS);
    *ret = pool;
    return QD_OK;
}

/* False: nothing is due or the store cannot be asked. */
static bool claim_into(struct worker_pool *pool, struct worker_process *p)
{
    struct qd_error err;
    bool found = false;
    int64_t next = 0;
    qd_arena_init(&p->arena, ARENA_LIMIT);
    if (store_job_claim(pool->store, &p->arena, &p->job, &found, &next, &err) != QD_OK) {
        worker_log(pool, NULL, "%s", err.message);
        next = store_now_ms(pool->store) + 1000; /* a full disk: ask again */
    }
    pool->next_due_ms = next;
    if (!found) {
        qd_arena_done(&p->arena);
        return false;
    }
    worker_process_start(p);
    if (pool->settings.on_change != NULL) {
        pool->settings.on_change(pool->settings.arg, p->job.id);
    }
    return true;
}

void worker_pool_kick(struct worker_pool *pool)
{
    for (unsigned i = 0; i < pool->settings.n_workers; i++) {
        if (pool->paused || pool->draining) {
            return;
        }
        if (pool->slots[i].stage == WORKER_IDLE && !claim_into(pool, &pool->slots[i])) {
            return;
        }
    }
}

/* "<job>-<attempt>.log" */
static bool log_is_used(struct worker_pool *pool, const char *file)
{
    char id[64];
    struct qd_arena arena;
    struct store_job job;
    struct qd_error err;
    size_t n = strcspn(file, "-");
    if (file[n] != '-' || n >= sizeof(id)) {
        return true; /* not ours */
    }
    snprintf(id, sizeof(id), "%.*s", (int)n, file);
    qd_arena_init(&arena, ARENA_LIMIT);
    enum qd_code code = store_job_get(pool->store, id, &arena, &job, &err);
    qd_arena_done(&arena);
    return code != QD_NOT_FOUND;
}

void worker_pool_sweep(struct worker_pool *pool)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/logs", store_data_dir(pool->store));
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return;
    }
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.' && !log_is_used(pool, e->d_name)) {
            unlinkat(dirfd(dir), e->d_name, 0);
        }
    }
    closedir(dir);
}

void worker_pool_cancel(struct worker_pool *pool, const char *job)
{
    for (unsigned i = 0; i < pool->settings.n_workers; i++) {
        struct worker_process *p = &pool->slots[i];
        if (p->stage != WORKER_IDLE && strcmp(p->job.id, job) == 0) {
            worker_process_stop(p, WORKER_REASON_CANCEL);
        }
    }
}

void worker_pool_pause(struct worker_pool *pool, bool paused)
{
    pool->paused = paused;
    worker_pool_kick(pool);
}

void worker_pool_drain(struct worker_pool *pool, bool now, void (*on_idle)(void *arg), void *arg)
{
    pool->draining = true;
    pool->drain_ms = uv_now(pool->loop);
    pool->on_idle = on_idle;
    pool->idle_arg = arg;
    worker_checks_stop(pool);
    for (unsigned i = 0; now && i < pool->settings.n_workers; i++) {
        /* A result that is being taken in is not thrown away. */
        if (pool->slots[i].stage == WORKER_RUNNING) {
            worker_process_stop(&pool->slots[i], WORKER_REASON_DRAIN);
        }
    }
}

void worker_pool_free(struct worker_pool *pool)
{
    if (pool != NULL) {
        free(pool->slots);
        free(pool);
    }
}

unsigned worker_pool_status(const struct worker_pool *pool, struct worker_status *ret, unsigned n)
{
    for (unsigned i = 0; i < pool->settings.n_workers && i < n; i++) {
        const struct worker_process *p = &pool->slots[i];
        ret[i] = (struct worker_status){.slot = i, .stage = worker_stage_name(p->stage)};
        if (p->stage != WORKER_IDLE) {
            ret[i].job = p->job.id;
            ret[i].attempt = p->job.attempt;
            ret[i].pid = p->process.pid;
            ret[i].running_ms = (int64_t)(uv_now(pool->loop) - p->started_ms);
            ret[i].peak_bytes = p->peak_bytes;
        }
    }
    return pool->settings.n_workers;
}
