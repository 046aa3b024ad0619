#include "api/api_events.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_jobs.h"
#include "api/api_respond.h"
#include "api/api_server.h"

#define BATCH    50 /* durable events that are read at once */
#define SEEN_MAX 64 /* as many as there can be children */

/* A stream between two calls of its reader. */
struct stream {
    const char *job; /* NULL: all */
    int64_t after;   /* id of the last durable event that went out */
    int64_t written_ms;
    char *text; /* made and not yet taken: text[sent .. size) */
    size_t size, sent;
    struct {
        char job[STORE_ID_LENGTH + 1];
        int64_t rev;
    } seen[SEEN_MAX]; /* progress that went out */
    size_t n_seen;
};

enum qd_code api_event_id_parse(const char *text, const char *what, int64_t *ret,
                                struct qd_error *err)
{
    int64_t id = 0;
    bool bad = text[0] == '\0';
    for (const char *at = text; *at != '\0' && !bad; at++) {
        bad = *at < '0' || *at > '9' || __builtin_mul_overflow(id, 10, &id) ||
              __builtin_add_overflow(id, *at - '0', &id);
    }
    if (bad) {
        return qd_fail_on(err, QD_INVALID, what, "%s is '%.100s', not the id of an event", what,
                          text);
    }
    *ret = id;
    return QD_OK;
}

void api_event_format(FILE *out, int64_t id, const char *type, const char *data)
{
    if (id > 0) {
        (void)fprintf(out, "id: %lld\n", (long long)id);
    }
    (void)fputs("event: ", out);
    for (; *type != '\0'; type++) {
        (void)fputc(*type == '\n' || *type == '\r' ? ' ' : *type, out);
    }
    do {
        size_t n = strcspn(data, "\r\n");
        (void)fprintf(out, "\ndata: %.*s", (int)n, data);
        data += n;
        data += strncmp(data, "\r\n", 2) == 0 ? 2 : *data != '\0';
    } while (*data != '\0');
    (void)fputs("\n\n", out);
}

/* --- what goes out ----------------------------------------------------------------------------
 */

/* The row's data with its time. */
static void put_durable(FILE *out, const struct store_event *event)
{
    json_t *json = json_loads(event->data, 0, NULL);
    if (json != NULL) {
        (void)json_object_set_new(json, "time", api_time_json(event->time_ms));
    }
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    api_event_format(out, event->id, event->type, text != NULL ? text : event->data);
    free(text);
    json_decref(json);
}

static void put_progress(FILE *out, const struct store_progress *p)
{
    double fraction = p->done < p->total ? (double)p->done / (double)p->total : 1.0;
    json_t *json =
        json_pack("{ss, ss, ss, ss, si, sI, s{sf, sI, sI, ss}}", "id", p->job, "name", p->name,
                  "state", "running", "phase", p->phase, "attempt", p->attempt, "rev",
                  (json_int_t)p->rev, "progress", "fraction", fraction, "done",
                  (json_int_t)p->done, "total", (json_int_t)p->total, "unit", p->unit);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    if (text != NULL) {
        api_event_format(out, 0, "job.progress", text);
    }
    free(text);
    json_decref(json);
}

static bool was_seen(const struct stream *stream, const struct store_progress *p)
{
    for (size_t i = 0; i < stream->n_seen; i++) {
        if (strcmp(stream->seen[i].job, p->job) == 0) {
            return stream->seen[i].rev == p->rev;
        }
    }
    return false;
}

/* Progress that differs from what went out; what is seen afterwards is what runs now. */
static void put_changes(struct stream *stream, FILE *out, const struct store_progress *rows,
                        size_t n)
{
    n = n < SEEN_MAX ? n : SEEN_MAX;
    for (size_t i = 0; i < n; i++) {
        if (!was_seen(stream, &rows[i])) {
            put_progress(out, &rows[i]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(stream->seen[i].job, sizeof(stream->seen[i].job), "%s", rows[i].job);
        stream->seen[i].rev = rows[i].rev;
    }
    stream->n_seen = n;
}

/* Does nothing follow? Then a job that has ended will have no further event, unless it is run
 * again: a client that wants to see that asks again. */
static enum qd_code job_ended(struct store *store, const char *job, struct qd_arena *arena,
                              bool *ret, struct qd_error *err)
{
    struct store_job row;
    enum qd_code code = store_job_get(store, job, arena, &row, err);
    if (code != QD_OK && code != QD_NOT_FOUND) {
        return code;
    }
    *ret = code == QD_NOT_FOUND || store_state_is_final(row.state);
    return QD_OK;
}

/* Write what has happened since; *ret_ended: nothing has and nothing will. */
static enum qd_code put_news(struct stream *stream, struct store *store, FILE *out,
                             struct qd_arena *arena, bool *ret_ended, struct qd_error *err)
{
    struct store_event *events;
    struct store_progress *progress;
    size_t n_events, n_progress = 0;
    QD_TRY(
        store_events(store, stream->job, stream->after, BATCH, arena, &events, &n_events, err));
    for (size_t i = 0; i < n_events; i++) {
        put_durable(out, &events[i]);
        stream->after = events[i].id;
    }
    if (n_events < BATCH) { /* else progress would overtake what led to it */
        QD_TRY(store_events_progress(store, stream->job, arena, &progress, &n_progress, err));
        put_changes(stream, out, progress, n_progress);
    }
    if (stream->job != NULL && n_events == 0) {
        QD_TRY(job_ended(store, stream->job, arena, ret_ended, err));
    }
    return QD_OK;
}

/* --- the stream -------------------------------------------------------------------------------
 */

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ms until the silence has lasted long enough. */
static int64_t heartbeat_due(const struct api_request *request, const struct stream *stream)
{
    unsigned silence_s = api_server_settings_of(request->server)->heartbeat_s;
    return stream->written_ms + 1000LL * (silence_s > 0 ? silence_s : 15) - monotonic_ms();
}

/* Make the next text; it is empty when there is nothing to say. */
static enum qd_code refill(struct api_request *request, struct stream *stream, bool *ret_ended,
                           struct qd_error *err)
{
    struct qd_arena arena;
    free(stream->text);
    stream->text = NULL;
    stream->size = stream->sent = 0;
    FILE *out = open_memstream(&stream->text, &stream->size);
    if (out == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for events");
    }
    if (stream->written_ms == 0) {
        (void)fputs("retry: 2000\n\n", out); /* sent at once, so that the client sees it open */
    }
    qd_arena_init(&arena, API_REQUEST_MEMORY);
    enum qd_code code = put_news(stream, api_store_of(request), out, &arena, ret_ended, err);
    qd_arena_done(&arena);
    if (ftell(out) == 0 && heartbeat_due(request, stream) <= 0) {
        /* Also the only way to notice that the client is gone: writing to it. */
        (void)fputs(": heartbeat\n\n", out);
    }
    bool ok = ferror(out) == 0;
    ok = fclose(out) == 0 && ok;
    return ok || code != QD_OK ? code : qd_fail(err, QD_NO_MEMORY, "no memory for events");
}

/* Called when the client can take more: at first, after a piece went out, after a wake. */
static ptrdiff_t read_stream(struct api_request *request, char *ret, size_t size)
{
    struct stream *stream = request->state;
    bool ended = false;
    if (stream->sent == stream->size) {
        if (api_server_is_draining(request->server) && stream->written_ms != 0) {
            return API_STREAM_END;
        }
        if (refill(request, stream, &ended, &request->failure) != QD_OK) {
            return API_STREAM_END; /* the client comes back and resumes */
        }
    }
    size_t left = stream->size - stream->sent;
    if (left == 0 && ended) {
        return API_STREAM_END;
    }
    if (left == 0) {
        int64_t due = heartbeat_due(request, stream);
        api_server_suspend(request, due > 1 ? due : 1);
        return 0;
    }
    size_t n = left < size ? left : size;
    memcpy(ret, stream->text + stream->sent, n);
    stream->sent += n;
    stream->written_ms = monotonic_ms();
    return (ptrdiff_t)n;
}

/* Where the stream begins: Last-Event-ID (sent by a client that lost its stream, thus newer than
 * its URL), ?after=, or `absent`. Beyond the newest event (the state came from a backup): there.
 */
static enum qd_code parse_after(struct api_request *request, int64_t newest, int64_t absent,
                                int64_t *ret, struct qd_error *err)
{
    const char *last = api_request_header(request, "Last-Event-ID");
    const char *after = api_request_query(request, "after");
    int64_t id = absent;
    if (last != NULL && last[0] != '\0') {
        QD_TRY(api_event_id_parse(last, "Last-Event-ID", &id, err));
    } else if (after != NULL) {
        QD_TRY(api_event_id_parse(after, "after", &id, err));
    }
    *ret = id < newest ? id : newest;
    return QD_OK;
}

static enum qd_code open_stream(struct api_request *request, const char *job, int64_t after,
                                struct qd_error *err)
{
    struct stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for a stream");
    }
    stream->job = job;
    stream->after = after;
    request->state = stream;
    return api_server_stream(request, "text/event-stream", read_stream, err);
}

static void close_stream(struct api_request *request)
{
    struct stream *stream = request->state;
    if (stream != NULL) {
        free(stream->text);
        free(stream);
        request->state = NULL;
    }
}

static enum qd_code all_events(struct api_request *request, struct qd_error *err)
{
    int64_t newest, after;
    QD_TRY(store_events_last(api_store_of(request), &newest, err));
    QD_TRY(parse_after(request, newest, newest, &after, err));
    return open_stream(request, NULL, after, err);
}

static enum qd_code job_events(struct api_request *request, struct qd_error *err)
{
    struct store *store = api_store_of(request);
    struct store_job job;
    struct store_event *events;
    int64_t newest, after;
    size_t n;
    QD_TRY(store_job_get(store, api_request_param(request, "id"), &request->arena, &job, err));
    QD_TRY(store_events_last(store, &newest, err));
    QD_TRY(parse_after(request, newest, 0, &after, err));
    if (store_state_is_final(job.state)) {
        QD_TRY(store_events(store, job.id, after, 1, &request->arena, &events, &n, err));
        if (n == 0) {
            /* An EventSource stops only for this: a stream that ends is opened again. */
            return api_respond_empty(request, 204, NULL, err);
        }
    }
    return open_stream(request, job.id, after, err);
}

struct api_route_table api_events_routes(void)
{
    static const struct api_route routes[] = {
        {.method = API_GET,
         .pattern = "/v1/events",
         .query = "after",
         .handle = all_events,
         .done = close_stream},
        {.method = API_GET,
         .pattern = "/v1/jobs/{id}/events",
         .query = "after",
         .handle = job_events,
         .done = close_stream},
    };
    return (struct api_route_table){routes, QD_COUNT_OF(routes)};
}
