#include "quantcore/base/qd_error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const code_names[QD_CODE_COUNT] = {
    [QD_OK] = "ok",
    [QD_INVALID] = "invalid",
    [QD_UNSUPPORTED] = "unsupported",
    [QD_LIMIT_EXCEEDED] = "limit_exceeded",
    [QD_NOT_FOUND] = "not_found",
    [QD_CONFLICT] = "conflict",
    [QD_NO_MEMORY] = "no_memory",
    [QD_NO_SPACE] = "no_space",
    [QD_IO] = "io",
    [QD_CANCELED] = "canceled",
    [QD_TIMED_OUT] = "timed_out",
    [QD_INTERNAL] = "internal",
};

const char *qd_code_name(enum qd_code code)
{
    return (unsigned)code < QD_CODE_COUNT ? code_names[code] : "internal";
}

enum qd_code qd_code_from_name(const char *name)
{
    for (unsigned i = 0; i < QD_CODE_COUNT; i++) {
        if (strcmp(code_names[i], name) == 0) {
            return (enum qd_code)i;
        }
    }
    return QD_INTERNAL;
}

static void make_printable(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = '?';
        }
    }
}

/* Format into a buffer of fixed size, cutting what does not fit. */
static void format_text(char *out, size_t size, const char *format, va_list args)
{
    int n = vsnprintf(out, size, format, args);
    if (n < 0) {
        out[0] = '\0';
    }
    make_printable(out);
}

enum qd_code qd_fail(struct qd_error *err, enum qd_code code, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        err->code = code;
        err->subject[0] = '\0';
        va_start(args, format);
        format_text(err->message, sizeof(err->message), format, args);
        va_end(args);
    }
    return code;
}

enum qd_code qd_fail_on(struct qd_error *err, enum qd_code code, const char *subject,
                        const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        err->code = code;
        snprintf(err->subject, sizeof(err->subject), "%s", subject != NULL ? subject : "");
        make_printable(err->subject);
        va_start(args, format);
        format_text(err->message, sizeof(err->message), format, args);
        va_end(args);
    }
    return code;
}

static enum qd_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOMEM:
        return QD_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
        return QD_NO_SPACE;
    case ENOENT:
        return QD_NOT_FOUND;
    default:
        return QD_IO;
    }
}

enum qd_code qd_fail_errno(struct qd_error *err, int errnum, const char *format, ...)
{
    enum qd_code code = code_of_errno(errnum);
    if (err != NULL) {
        char what[512];
        va_list args;
        va_start(args, format);
        format_text(what, sizeof(what), format, args);
        va_end(args);
        return qd_fail(err, code, "%s: %s", what, strerror(errnum));
    }
    return code;
}

enum qd_code qd_wrap(struct qd_error *err, enum qd_code code, const char *format, ...)
{
    if (err != NULL) {
        char inner[sizeof(err->message)];
        char outer[sizeof(err->message)];
        va_list args;
        memcpy(inner, err->message, sizeof(inner));
        va_start(args, format);
        format_text(outer, sizeof(outer), format, args);
        va_end(args);
        size_t used = (size_t)snprintf(err->message, sizeof(err->message), "%s: ", outer);
        if (used < sizeof(err->message)) {
            snprintf(err->message + used, sizeof(err->message) - used, "%s", inner);
        }
    }
    return code;
}
