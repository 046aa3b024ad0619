/* What handlers need beyond the request; api_server_settings.app points to one. */
#ifndef API_APP_H
#define API_APP_H

#include "quantcore/base/qd_base.h"

struct api_app {
    const char *version;     /* of quantd */
    int64_t started_ms;      /* wall clock, ms since the Unix epoch */
    unsigned workers;        /* jobs that run at the same time; 0: this daemon runs none */
    uint64_t body_max;       /* bytes of one upload */
};

#endif
