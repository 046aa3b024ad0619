#include "api/api_idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "api/api_app.h"
#include "api/api_server.h"

/* One request under way that has a key. There are at most as many as connections. */
struct api_idempotency {
    struct api_idempotency *next;
    const struct api_request *request;
    char key[API_IDEMPOTENCY_KEY_MAX + 1];
};

enum qd_code api_idempotency_parse(const char *text, char ret[API_IDEMPOTENCY_KEY_MAX + 1],
                                   struct qd_error *err)
{
    size_t n = strlen(text);
    if (n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        text++;
        n -= 2;
    }
    bool bad = n == 0 || n > API_IDEMPOTENCY_KEY_MAX;
    for (size_t i = 0; i < n; i++) {
        bad |= text[i] <= 0x20 || text[i] >= 0x7f;
    }
    if (bad) {
        return qd_fail_on(err, QD_INVALID, "Idempotency-Key",
                          "Idempotency-Key has %zu bytes or others than visible ASCII; 1 to %d "
                          "are allowed",
                          n, API_IDEMPOTENCY_KEY_MAX);
    }
    memcpy(ret, text, n);
    ret[n] = '\0';
    return QD_OK;
}

enum qd_code api_idempotency_key(struct api_request *request, const char **ret,
                                 struct qd_error *err)
{
    const char *text = api_request_header(request, "Idempotency-Key");
    char key[API_IDEMPOTENCY_KEY_MAX + 1];
    if (text == NULL) {
        *ret = NULL;
        return QD_OK;
    }
    QD_TRY(api_idempotency_parse(text, key, err));
    return qd_arena_string(&request->arena, key, strlen(key), ret, err);
}

enum qd_code api_idempotency_enter(struct api_request *request, struct qd_error *err)
{
    struct api_app *app = api_server_app(request->server);
    const char *key;
    QD_TRY(api_idempotency_key(request, &key, err));
    if (key == NULL) {
        return QD_OK;
    }
    for (const struct api_idempotency *e = app->in_progress; e != NULL; e = e->next) {
        if (strcmp(e->key, key) == 0) {
            return api_request_fail(request, err, 409, "idempotency_in_progress", QD_CONFLICT,
                                    "a request with the idempotency key '%s' is still under way",
                                    key);
        }
    }
    struct api_idempotency *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return qd_fail(err, QD_NO_MEMORY, "no memory for an idempotency key");
    }
    memcpy(entry->key, key, strlen(key) + 1);
    entry->request = request;
    entry->next = app->in_progress;
    app->in_progress = entry;
    return QD_OK;
}

void api_idempotency_leave(struct api_request *request)
{
    struct api_app *app = api_server_app(request->server);
    for (struct api_idempotency **at = &app->in_progress; *at != NULL; at = &(*at)->next) {
        if ((*at)->request == request) {
            struct api_idempotency *gone = *at;
            *at = gone->next;
            free(gone);
            return;
        }
    }
}
