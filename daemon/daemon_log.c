#include "daemon/daemon_log.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

static const char *const level_names[DAEMON_LEVEL_COUNT] = {"debug", "info", "warn", "error"};

const char *daemon_level_name(enum daemon_level level)
{
    return level < DAEMON_LEVEL_COUNT ? level_names[level] : "error";
}

bool daemon_level_from_name(const char *name, enum daemon_level *ret)
{
    for (enum daemon_level l = DAEMON_DEBUG; l < DAEMON_LEVEL_COUNT; l++) {
        if (strcmp(name, level_names[l]) == 0) {
            *ret = l;
            return true;
        }
    }
    return false;
}

struct line {
    char text[4096];
    size_t used;
};

static void put_char(struct line *line, char c)
{
    if (line->used < sizeof(line->text) - 8) { /* room for the end of the line */
        line->text[line->used++] = c;
    }
}

static void put_raw(struct line *line, const char *text)
{
    while (*text != '\0') {
        put_char(line, *text++);
    }
}

/* Quoted text; the escapes are those of JSON and good for logfmt too. Bytes above 127 become
 * "\u00xx", which keeps a line valid JSON whatever the encoding of the name was. Text that does
 * not fit ends in "~" inside its quotes. */
static void put_quoted(struct line *line, const char *text)
{
    put_char(line, '"');
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        char escape[8];
        if (line->used > sizeof(line->text) - 400) {
            put_char(line, '~');
            break;
        }
        if (c == '"' || c == '\\') {
            put_char(line, '\\');
            put_char(line, (char)c);
        } else if (c < 0x20 || c >= 0x7f) {
            (void)snprintf(escape, sizeof(escape), "\\u%04x", c);
            put_raw(line, escape);
        } else {
            put_char(line, (char)c);
        }
    }
    put_char(line, '"');
}

static void put_name(struct line *line, const struct daemon_log *log, const char *name)
{
    if (log->json) {
        put_char(line, line->used > 0 ? ',' : '{');
        put_quoted(line, name);
        put_char(line, ':');
    } else {
        if (line->used > 0) {
            put_char(line, ' ');
        }
        put_raw(line, name);
        put_char(line, '=');
    }
}

static void put_time(struct line *line)
{
    struct timespec now;
    struct tm utc;
    char text[48];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    (void)snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    put_quoted(line, text);
}

void daemon_log_write(const struct daemon_log *log, enum daemon_level level, const char *message,
                      const struct daemon_field *fields, size_t n_fields)
{
    struct line line = {.used = 0};
    if (level < log->level) {
        return;
    }
    put_name(&line, log, "time");
    put_time(&line);
    put_name(&line, log, "level");
    put_quoted(&line, daemon_level_name(level));
    put_name(&line, log, "message");
    put_quoted(&line, message);
    for (size_t i = 0; i < n_fields && line.used < sizeof(line.text) - 500; i++) {
        char number[40];
        put_name(&line, log, fields[i].name);
        if (fields[i].text != NULL) {
            put_quoted(&line, fields[i].text);
        } else if (isfinite(fields[i].number)) {
            (void)snprintf(number, sizeof(number), "%.15g", fields[i].number);
            put_raw(&line, number);
        } else {
            put_raw(&line, "null");
        }
    }
    if (log->json) {
        line.text[line.used++] = '}';
    }
    line.text[line.used++] = '\n';
    (void)fwrite(line.text, 1, line.used, log->out);
    (void)fflush(log->out);
}

void daemon_log_print(const struct daemon_log *log, enum daemon_level level, const char *format,
                      ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    daemon_log_write(log, level, text, NULL, 0);
}
