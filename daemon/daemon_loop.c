#include "daemon/daemon_loop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "api/api_admin.h"
#include "api/api_app.h"
#include "api/api_events.h"
#include "api/api_jobs.h"
#include "api/api_models.h"
#include "api/api_server.h"
#include "daemon/daemon_log.h"
#include "worker/worker.h"

#define SWEEP_EVERY_MS 600000
#define SWEEP_GRACE_MS 3600000 /* an upload holds its first parts without a row */

struct daemon {
    const struct daemon_config *config;
    struct daemon_log log;
    struct api_app app;
    struct store *store;
    struct worker_pool *pool;
    struct api_server *server;
    uv_loop_t loop;
    uv_poll_t poll;     /* the server's epoll descriptor */
    uv_timer_t timer;   /* what the server asked for */
    uv_timer_t tick;    /* every second */
    uv_signal_t sigint, sigterm;
    int64_t drain_until_ms;
    uint64_t swept_ms; /* uv_now */
    bool draining, stopping;
    bool pool_idle;     /* no child is left: the pool may be freed */
    bool hurry;         /* do not wait for requests any more */
};

static void stop(struct daemon *d)
{
    if (d->stopping) {
        return;
    }
    d->stopping = true;
    /* The descriptor is libmicrohttpd's: it must leave our poll before it is closed. */
    (void)uv_poll_stop(&d->poll);
    uv_close((uv_handle_t *)&d->poll, NULL);
    uv_close((uv_handle_t *)&d->timer, NULL);
    uv_close((uv_handle_t *)&d->tick, NULL);
    uv_close((uv_handle_t *)&d->sigint, NULL);
    uv_close((uv_handle_t *)&d->sigterm, NULL);
}

static void on_timer(uv_timer_t *timer);

static void run_server(struct daemon *d)
{
    int64_t again_ms = api_server_run(d->server);
    if (again_ms < 0) {
        (void)uv_timer_stop(&d->timer);
    } else {
        (void)uv_timer_start(&d->timer, on_timer, (uint64_t)again_ms, 0);
    }
    if (d->draining && d->pool_idle && (d->hurry || api_server_in_flight(d->server) == 0)) {
        stop(d);
    }
}

static void on_timer(uv_timer_t *timer)
{
    run_server(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status; /* run anyway: libmicrohttpd looks at its sockets itself */
    (void)events;
    run_server(poll->data);
}

/* Blobs that no job names (uploads cut off by a crash, deleted jobs) and their logs. */
static void sweep(struct daemon *d)
{
    struct store_gc_result removed = {.removed = 0};
    struct qd_error err;
    d->swept_ms = uv_now(&d->loop);
    worker_pool_sweep(d->pool);
    if (store_gc(d->store, SWEEP_GRACE_MS, &removed, &err) != QD_OK) {
        daemon_log_print(&d->log, DAEMON_WARN, "unused blobs: %s", err.message);
    } else if (removed.removed > 0) {
        daemon_log_print(&d->log, DAEMON_INFO, "%llu unused blobs of %llu bytes removed",
                         (unsigned long long)removed.removed,
                         (unsigned long long)removed.removed_bytes);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct daemon *d = timer->data;
    api_server_tick(d->server);
    if (uv_now(&d->loop) - d->swept_ms >= SWEEP_EVERY_MS) {
        sweep(d);
    }
    if (d->draining && !d->hurry && (int64_t)uv_now(&d->loop) >= d->drain_until_ms) {
        daemon_log_print(&d->log, DAEMON_WARN, "%u requests did not end in %llu s",
                         api_server_in_flight(d->server),
                         (unsigned long long)d->config->drain_timeout);
        d->hurry = true;
    }
    run_server(d);
}

static void on_pool_idle(void *arg)
{
    struct daemon *d = arg;
    d->pool_idle = true;
    /* Not here: the server runs from the top level of the loop only. */
    (void)uv_timer_start(&d->timer, on_timer, 0, 0);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct daemon *d = handle->data;
    daemon_log_print(&d->log, DAEMON_INFO, "%s: %s",
                     number == SIGINT ? "SIGINT" : "SIGTERM",
                     d->draining ? "stopping at once" : "draining");
    if (d->draining) {
        d->hurry = true;
        run_server(d);
        return;
    }
    d->draining = true;
    d->drain_until_ms = (int64_t)uv_now(&d->loop) + 1000 * (int64_t)d->config->drain_timeout;
    api_server_drain(d->server);
    /* Running jobs are stopped and go back to the queue: the next start takes them up again. */
    worker_pool_drain(d->pool, true, on_pool_idle, d);
    run_server(d);
}

static void on_access(void *context, const struct api_access *a)
{
    const struct daemon *d = context;
    const struct daemon_field fields[] = {
        {"request_id", a->request_id, 0}, {"method", a->method, 0},
        {"path", a->path, 0},             {"route", a->route, 0},
        {"status", NULL, a->status},      {"seconds", NULL, a->seconds},
        {"received", NULL, (double)a->received}, {"sent", NULL, (double)a->sent},
        {"client", a->client, 0},         {"traceparent", a->traceparent, 0},
        {"error", a->error != NULL ? a->error->message : "", 0},
    };
    daemon_log_write(&d->log, a->status >= 500 ? DAEMON_ERROR : DAEMON_INFO, "request", fields,
                     QD_COUNT_OF(fields) - (a->error == NULL));
}

static void on_message(void *context, const char *message)
{
    const struct daemon *d = context;
    const struct daemon_field fields[] = {{"text", message, 0}};
    daemon_log_write(&d->log, DAEMON_WARN, "http server", fields, 1);
}

static bool check_data(void *context, char *ret_detail, size_t size)
{
    const struct daemon *d = context;
    if (access(d->config->data, R_OK | W_OK | X_OK) == 0) {
        return true;
    }
    (void)snprintf(ret_detail, size, "folder of the state: %s", strerror(errno));
    return false;
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void on_job_change(void *arg, const char *job)
{
    struct daemon *d = arg;
    (void)job;
    if (d->server != NULL && !d->stopping) {
        api_server_wake_all(d->server);
        (void)uv_timer_start(&d->timer, on_timer, 0, 0);
    }
}

static void on_job_log(void *arg, const char *job, const char *message)
{
    const struct daemon *d = arg;
    const struct daemon_field fields[] = {{"job", job, 0}, {"text", message, 0}};
    daemon_log_write(&d->log, DAEMON_INFO, "job", fields, 2);
}

static void on_queued(void *context)
{
    struct daemon *d = context;
    worker_pool_kick(d->pool);
}

static void on_cancel(void *context, const char *job)
{
    struct daemon *d = context;
    worker_pool_cancel(d->pool, job);
}

static enum qd_code start_pool(struct daemon *d, struct qd_error *err)
{
    const struct worker_settings settings = {
        .n_workers = (unsigned)d->config->workers,
        .threads = (unsigned)d->config->job_threads,
        .exe = d->config->worker_program,
        .deadline_s = (unsigned)d->config->job_deadline,
        .heartbeat_timeout_s = 60,
        .memory_limit = d->config->job_memory,
        .on_change = on_job_change,
        .on_log = on_job_log,
        .arg = d,
    };
    d->app.on_queued = on_queued;
    d->app.on_cancel = on_cancel;
    d->app.context = d;
    QD_TRY(worker_pool_new(&d->loop, d->store, &settings, &d->pool, err));
    d->app.pool = d->pool;
    return QD_OK;
}

static enum qd_code open_store(struct daemon *d, struct qd_error *err)
{
    const struct store_settings settings = {.data_dir = d->config->data,
                                            .min_free_bytes = d->config->min_free};
    struct store_recovered recovered = {.requeued = 0};
    QD_TRY(store_open(&settings, &d->store, err));
    d->app.store = d->store;
    QD_TRY(store_recover(d->store, &recovered, err));
    if (recovered.requeued + recovered.lost + recovered.canceled > 0) {
        daemon_log_print(&d->log, DAEMON_WARN,
                         "a former run left jobs: %lld queued again, %lld lost, %lld canceled",
                         (long long)recovered.requeued, (long long)recovered.lost,
                         (long long)recovered.canceled);
    }
    return QD_OK;
}

static enum qd_code start_server(struct daemon *d, const char *host, unsigned port,
                                 struct qd_error *err)
{
    const struct api_route_table tables[] = {api_admin_routes(), api_dashboard_routes(),
                                             api_jobs_routes(d->config->body_max),
                                             api_events_routes(), api_models_routes()};
    static struct api_check checks[1];
    checks[0] = (struct api_check){"data", check_data, d};
    const struct api_server_settings settings = {
        .host = host,
        .port = port,
        .hosts = d->config->hosts,
        .connections_max = (unsigned)d->config->connections_max,
        .idle_timeout_s = (unsigned)d->config->idle_timeout,
        .header_timeout_s = (unsigned)d->config->header_timeout,
        .body_rate_min = (unsigned)d->config->body_rate_min,
        .heartbeat_s = (unsigned)d->config->event_heartbeat,
        .tables = tables,
        .n_tables = QD_COUNT_OF(tables),
        .checks = checks,
        .n_checks = QD_COUNT_OF(checks),
        .on_access = on_access,
        .on_message = on_message,
        .context = d,
        .app = &d->app,
    };
    return api_server_new(&settings, &d->server, err);
}

static enum qd_code start_loop(struct daemon *d, struct qd_error *err)
{
    int rc = uv_poll_init(&d->loop, &d->poll, api_server_fd(d->server));
    if (rc != 0) {
        return qd_fail(err, QD_INTERNAL, "watch the HTTP server: %s", uv_strerror(rc));
    }
    (void)uv_timer_init(&d->loop, &d->timer);
    (void)uv_timer_init(&d->loop, &d->tick);
    (void)uv_signal_init(&d->loop, &d->sigint);
    (void)uv_signal_init(&d->loop, &d->sigterm);
    d->poll.data = d->timer.data = d->tick.data = d->sigint.data = d->sigterm.data = d;
    rc = uv_poll_start(&d->poll, UV_READABLE, on_poll);
    rc = rc != 0 ? rc : uv_timer_start(&d->timer, on_timer, 0, 0);
    rc = rc != 0 ? rc : uv_timer_start(&d->tick, on_tick, 1000, 1000);
    rc = rc != 0 ? rc : uv_signal_start(&d->sigint, on_signal, SIGINT);
    rc = rc != 0 ? rc : uv_signal_start(&d->sigterm, on_signal, SIGTERM);
    if (rc != 0) {
        stop(d);
        return qd_fail(err, QD_INTERNAL, "start the event loop: %s", uv_strerror(rc));
    }
    return QD_OK;
}

enum qd_code daemon_serve(const struct daemon_config *config, struct qd_error *err)
{
    struct timespec now;
    struct daemon d = {.config = config};
    char host[DAEMON_TEXT_MAX];
    unsigned port = 0;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    d.log = (struct daemon_log){.out = stderr, .json = strcmp(config->log_format, "json") == 0};
    (void)daemon_level_from_name(config->log_level, &d.log.level);
    d.app = (struct api_app){.version = DAEMON_VERSION,
                             .started_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
                             .body_max = config->body_max};
    /* A client that goes away must not end the daemon; libmicrohttpd is told so as well. */
    (void)signal(SIGPIPE, SIG_IGN);
    int rc = uv_loop_init(&d.loop);
    if (rc != 0) {
        return qd_fail(err, QD_INTERNAL, "start the event loop: %s", uv_strerror(rc));
    }
    enum qd_code code = daemon_config_listen(config, host, &port, err);
    code = code == QD_OK ? open_store(&d, err) : code;
    code = code == QD_OK ? start_pool(&d, err) : code;
    code = code == QD_OK ? start_server(&d, host, port, err) : code;
    code = code == QD_OK ? start_loop(&d, err) : code;
    if (code == QD_OK) {
        (void)printf("quantd listening on %s\n", api_server_url(d.server));
        (void)fflush(stdout);
        daemon_log_print(&d.log, DAEMON_INFO, "quantd %s listening on %s", DAEMON_VERSION,
                         api_server_url(d.server));
        sweep(&d);
        worker_pool_kick(d.pool);
        (void)uv_run(&d.loop, UV_RUN_DEFAULT);
    } else if (d.pool != NULL) {
        worker_pool_drain(d.pool, true, NULL, NULL); /* closes its timer, which the loop holds */
        (void)uv_run(&d.loop, UV_RUN_DEFAULT);
    }
    worker_pool_free(d.pool);
    api_server_free(d.server);
    store_close(d.store);
    (void)uv_loop_close(&d.loop);
    if (code == QD_OK) {
        daemon_log_print(&d.log, DAEMON_INFO, "stopped");
    }
    return code;
}
