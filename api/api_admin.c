#include "api/api_admin.h"

#include <nettle/sha2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "api/api_app.h"
#include "api/api_respond.h"
#include "api/api_server.h"
#include "quantcore/base/qd_embedded.h"

static const struct api_header no_store[] = {{"Cache-Control", "no-store"}, {NULL, NULL}};

/* --- health ----------------------------------------------------------------------------------- */

/* The process answers: nothing else is looked at, so that a full disk restarts nobody. */
static enum qd_code livez(struct api_request *request, struct qd_error *err)
{
    return api_respond_text(request, 200, "text/plain; charset=utf-8", "ok\n", 3, no_store, err);
}

static enum qd_code readyz(struct api_request *request, struct qd_error *err)
{
    const struct api_server_settings *settings = api_server_settings_of(request->server);
    char text[4096], detail[200];
    size_t used = 0;
    bool ready = !api_server_is_draining(request->server), verbose;
    QD_TRY(api_request_flag(request, "verbose", &verbose, err));
    used += (size_t)snprintf(text, sizeof(text), "[%c] serving%s\n", ready ? '+' : '-',
                             ready ? "" : ": the daemon is stopping");
    for (size_t i = 0; i < settings->n_checks && used < sizeof(text) - 300; i++) {
        const struct api_check *check = &settings->checks[i];
        detail[0] = '\0';
        bool ok = check->fn(check->context, detail, sizeof(detail));
        ready = ready && ok;
        used += (size_t)snprintf(text + used, sizeof(text) - used, "[%c] %.60s%s%.200s\n",
                                 ok ? '+' : '-', check->name, detail[0] != '\0' ? ": " : "",
                                 detail);
    }
    if (!verbose && ready) {
        used = 0;
    }
    used += (size_t)snprintf(text + used, sizeof(text) - used, "%s\n",
                             ready ? "ready" : "not ready");
    return api_respond_text(request, ready ? 200 : 503, "text/plain; charset=utf-8", text, used,
                            no_store, err);
}

/* --- metrics ---------------------------------------------------------------------------------- */

struct page {
    char text[8192];
    size_t used;
};

static void put(struct page *page, const char *format, ...) QD_PRINTF(2, 3);
static void put(struct page *page, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(page->text + page->used, sizeof(page->text) - page->used, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < sizeof(page->text) - page->used) {
        page->used += (size_t)n;
    }
}

static void put_metric(struct page *page, const char *name, const char *type, const char *help,
                       double value)
{
    put(page, "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name, type, name, value);
}

static void put_http(struct page *page, const struct api_server_counters *n)
{
    put_metric(page, "quantd_http_connections_total", "counter", "Connections accepted.",
               (double)n->connections);
    put_metric(page, "quantd_http_connections", "gauge", "Connections that are open.",
               n->open_connections);
    put_metric(page, "quantd_http_slow_connections_closed_total", "counter",
               "Connections shut because they were too slow.", (double)n->slow_closed);
    put_metric(page, "quantd_http_requests_in_flight", "gauge",
               "Requests that have begun and not ended.", n->in_flight);
    put_metric(page, "quantd_http_requests_waiting", "gauge", "Long polls and event streams.",
               n->suspended);
    put_metric(page, "quantd_http_event_streams", "gauge", "Event streams that are open.",
               n->streams);
    put_metric(page, "quantd_http_request_bytes_total", "counter", "Body bytes received.",
               (double)n->received);
    put_metric(page, "quantd_http_response_bytes_total", "counter",
               "Body bytes of answers that were queued.", (double)n->sent);
    put(page, "# HELP quantd_http_requests_total Requests that have ended, by class of status.\n"
              "# TYPE quantd_http_requests_total counter\n");
    for (int i = 0; i < 6; i++) {
        put(page, "quantd_http_requests_total{class=\"%s\"} %llu\n",
            ((const char *[]){"none", "1xx", "2xx", "3xx", "4xx", "5xx"})[i],
            (unsigned long long)n->by_status[i]);
    }
    put(page, "# HELP quantd_http_request_duration_seconds Time from the headers to the end of "
              "the answer.\n# TYPE quantd_http_request_duration_seconds histogram\n");
    for (size_t i = 0; i < QD_COUNT_OF(n->seconds_buckets); i++) {
        put(page, "quantd_http_request_duration_seconds_bucket{le=\"%g\"} %llu\n",
            api_server_bucket_bounds[i], (unsigned long long)n->seconds_buckets[i]);
    }
    put(page,
        "quantd_http_request_duration_seconds_bucket{le=\"+Inf\"} %llu\n"
        "quantd_http_request_duration_seconds_sum %.9g\n"
        "quantd_http_request_duration_seconds_count %llu\n",
        (unsigned long long)n->requests, n->seconds_sum, (unsigned long long)n->requests);
}

static void put_process(struct page *page, const struct api_app *app)
{
    struct rusage use;
    long pages = 0;
    if (getrusage(RUSAGE_SELF, &use) == 0) {
        put_metric(page, "process_cpu_seconds_total", "counter", "CPU time of the daemon.",
                   (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                       1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec));
    }
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL) {
        if (fscanf(file, "%*s %ld", &pages) == 1) {
            put_metric(page, "process_resident_memory_bytes", "gauge",
                       "Resident memory of the daemon.",
                       (double)pages * (double)sysconf(_SC_PAGESIZE));
        }
        (void)fclose(file);
    }
    put_metric(page, "process_start_time_seconds", "gauge",
               "Start of the daemon, seconds since the Unix epoch.",
               (double)app->started_ms * 1e-3);
}

/* Without the numbers rather than without the page: a failing store shows in /readyz. */
static void put_jobs(struct page *page, struct store *store)
{
    int64_t counts[STORE_STATE_COUNT];
    struct qd_error ignored;
    if (store == NULL || store_job_counts(store, counts, &ignored) != QD_OK) {
        return;
    }
    put(page, "# HELP quantd_jobs Jobs by state.\n# TYPE quantd_jobs gauge\n");
    for (enum store_state state = STORE_QUEUED; state < STORE_STATE_COUNT; state++) {
        put(page, "quantd_jobs{state=\"%s\"} %lld\n", store_state_name(state),
            (long long)counts[state]);
    }
}

static enum qd_code metrics(struct api_request *request, struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    struct page page = {.used = 0};
    put(&page,
        "# HELP quantd_build_info Version of the daemon.\n# TYPE quantd_build_info gauge\n"
        "quantd_build_info{version=\"%s\"} 1\n",
        app->version);
    put_http(&page, api_server_counters_of(request->server));
    put_jobs(&page, app->store);
    put_process(&page, app);
    return api_respond_text(request, 200, "text/plain; version=0.0.4; charset=utf-8", page.text,
                            page.used, no_store, err);
}

/* --- info, embedded files --------------------------------------------------------------------- */

static enum qd_code info(struct api_request *request, struct qd_error *err)
{
    const struct api_app *app = api_server_app(request->server);
    char started[40];
    time_t seconds = (time_t)(app->started_ms / 1000);
    struct tm utc;
    (void)gmtime_r(&seconds, &utc);
    size_t n = strftime(started, sizeof(started), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(started + n, sizeof(started) - n, ".%03dZ", (int)(app->started_ms % 1000));
    return api_respond_json(
        request, 200,
        json_pack("{ss, ss, ss, sb, s{sI}}", "name", "quantd", "version", app->version,
                  "started_at", started, "draining", api_server_is_draining(request->server),
                  "limits", "body_bytes", (json_int_t)app->body_max),
        no_store, err);
}

static const struct qd_embedded *find_file(const char *path)
{
    for (const struct qd_embedded *f = qd_embedded_files; f->path != NULL; f++) {
        if (strcmp(f->path, path) == 0) {
            return f;
        }
    }
    return NULL;
}

static enum qd_code serve_file(struct api_request *request, const char *path, const char *type,
                               struct qd_error *err)
{
    /* Nothing inline, nothing from elsewhere: names of models and layers are hostile. */
    static const struct api_header headers[] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
         "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Frame-Options", "DENY"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-cache"},
        {NULL, NULL},
    };
    const struct qd_embedded *file = find_file(path);
    if (file == NULL) {
        return qd_fail(err, QD_NOT_FOUND, "nothing is at '%.300s'", request->raw_path);
    }
    struct sha256_ctx hash;
    unsigned char digest[SHA256_DIGEST_SIZE];
    char etag[2 * SHA256_DIGEST_SIZE + 16] = "\"sha256:";
    size_t at = strlen(etag);
    sha256_init(&hash);
    sha256_update(&hash, file->size, file->data);
    sha256_digest(&hash, sizeof(digest), digest);
    for (size_t i = 0; i < sizeof(digest); i++) {
        at += (size_t)snprintf(etag + at, sizeof(etag) - at, "%02x", digest[i]);
    }
    (void)snprintf(etag + at, sizeof(etag) - at, "\"");
    struct api_content content = {.data = file->data,
                                  .fd = -1,
                                  .size = file->size,
                                  .type = type,
                                  .etag = etag,
                                  .headers = headers};
    return api_respond_content(request, &content, err);
}

static enum qd_code openapi(struct api_request *request, struct qd_error *err)
{
    return serve_file(request, "api/openapi.json", "application/json", err);
}

static enum qd_code dashboard_index(struct api_request *request, struct qd_error *err)
{
    return serve_file(request, "api/dashboard/index.html", "text/html; charset=utf-8", err);
}

static enum qd_code dashboard_file(struct api_request *request, struct qd_error *err)
{
    static const struct {
        const char *suffix, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
    };
    const char *name = api_request_param(request, "file");
    const char *dot = strrchr(name, '.');
    char path[128];
    for (size_t i = 0; dot != NULL && i < QD_COUNT_OF(types); i++) {
        /* The name is only compared with the table of embedded files, never opened. */
        if (strcmp(dot, types[i].suffix) == 0 && strlen(name) < 100) {
            (void)snprintf(path, sizeof(path), "api/dashboard/%s", name);
            return serve_file(request, path, types[i].type, err);
        }
    }
    return qd_fail(err, QD_NOT_FOUND, "nothing is at '%.300s'", request->raw_path);
}

struct api_route_table api_admin_routes(void)
{
    static const struct api_route routes[] = {
        {.method = API_GET, .pattern = "/livez", .handle = livez},
        {.method = API_GET, .pattern = "/readyz", .query = "verbose", .handle = readyz},
        {.method = API_GET, .pattern = "/metrics", .handle = metrics},
        {.method = API_GET, .pattern = "/v1/info", .handle = info},
        {.method = API_GET, .pattern = "/openapi.json", .handle = openapi},
    };
    return (struct api_route_table){routes, QD_COUNT_OF(routes)};
}

struct api_route_table api_dashboard_routes(void)
{
    static const struct api_route routes[] = {
        {.method = API_GET, .pattern = "/", .handle = dashboard_index},
        {.method = API_GET, .pattern = "/dashboard/{file}", .handle = dashboard_file},
    };
    return (struct api_route_table){routes, QD_COUNT_OF(routes)};
}
