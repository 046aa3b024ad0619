/* What handlers need beyond the request; api_server_settings.app points to one. */
#ifndef API_APP_H
#define API_APP_H

#include "store/store.h"

struct worker_pool;

struct api_app {
    const char *version; /* of quantd */
    int64_t started_ms;  /* wall clock, ms since the Unix epoch */
    uint64_t body_max;   /* bytes of one upload */
    struct store *store;
    struct api_idempotency *in_progress; /* requests that have a key; NULL at first */
    struct worker_pool *pool; /* its children check submissions; NULL: nobody checks */
    /* A job was queued; a job became canceling and its child is to end. May be NULL. */
    void (*on_queued)(void *context);
    void (*on_cancel)(void *context, const char *job);
    void *context;
};

#endif
