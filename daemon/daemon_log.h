/* The daemon's log on stderr: one line an event, as JSON or as logfmt. */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdio.h>

#include "quantcore/base/qd_base.h"

enum daemon_level {
    DAEMON_DEBUG = 0,
    DAEMON_INFO,
    DAEMON_WARN,
    DAEMON_ERROR,
    DAEMON_LEVEL_COUNT
};

struct daemon_log {
    FILE *out; /* borrowed */
    enum daemon_level level; /* less important lines are left out */
    bool json; /* false: logfmt */
};

/* A field of a line: text, or with text NULL the number. */
struct daemon_field {
    const char *name;
    const char *text;
    double number;
};

const char *daemon_level_name(enum daemon_level level);
/* False for an unknown name. */
bool daemon_level_from_name(const char *name, enum daemon_level *ret);

/* One line: time (RFC 3339 UTC with ms), level, message, fields; written by one write, so that
 * lines of several processes do not mix. Control characters and bytes that are not ASCII are
 * escaped: names in a request cannot forge lines or move a terminal's cursor. */
void daemon_log_write(const struct daemon_log *log, enum daemon_level level, const char *message,
                      const struct daemon_field *fields, size_t n_fields);
/* The same without fields. */
void daemon_log_print(const struct daemon_log *log, enum daemon_level level, const char *format,
                      ...) QD_PRINTF(3, 4);

#endif
