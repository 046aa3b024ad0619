/* The one error model: a code for programs, a sentence for people.
 *
 * Every fallible function returns enum qd_code and, when that is not QD_OK, has filled the
 * caller's struct qd_error: there is no failure without a message. Each level wraps the
 * message with what it was doing, so that the outermost reads
 *     job 7: import node 'conv1': dilations [2,2] not supported
 * Nothing is allocated on the failure path. */
#ifndef QD_ERROR_H
#define QD_ERROR_H

#include "quantcore/base/qd_base.h"

enum qd_code {
    QD_OK = 0,
    QD_INVALID,        /* the input is wrong: malformed bytes, bad value, wrong shape */
    QD_UNSUPPORTED,    /* well formed, but not something quantd can do */
    QD_LIMIT_EXCEEDED, /* a stated limit (size, count, nesting, memory) was passed */
    QD_NOT_FOUND,
    QD_CONFLICT,       /* the state forbids it: job already ended, key reused */
    QD_NO_MEMORY,
    QD_NO_SPACE,       /* disk full or below the floor */
    QD_IO,
    QD_CANCELED,
    QD_TIMED_OUT,
    QD_INTERNAL,       /* a bug or a broken invariant */
    QD_CODE_COUNT
};

struct qd_error {
    enum qd_code code;
    char subject[128];  /* the node, tensor, field or file that the error is about; "" if none */
    char message[768];  /* one line, no trailing newline or full stop */
};

/* snake_case name of a code, as it appears in JSON, logs and SQL ("limit_exceeded"). */
const char *qd_code_name(enum qd_code code);
/* Inverse of qd_code_name; QD_INTERNAL for an unknown name. */
enum qd_code qd_code_from_name(const char *name);

/* Fill err (may be NULL) and return code, so that `return qd_fail(...)` reads well.
 * Control characters in the formatted text become '?': names in models are hostile. */
enum qd_code qd_fail(struct qd_error *err, enum qd_code code, const char *format, ...)
    QD_PRINTF(3, 4);
/* The same, naming the subject (truncated to fit; NULL for none). */
enum qd_code qd_fail_on(struct qd_error *err, enum qd_code code, const char *subject,
                        const char *format, ...) QD_PRINTF(4, 5);
/* Fill err from an errno value: ENOMEM, ENOSPC, ENOENT map to their codes, others QD_IO. */
enum qd_code qd_fail_errno(struct qd_error *err, int errnum, const char *format, ...)
    QD_PRINTF(3, 4);
/* Put "format: " in front of the message; keeps code and subject; returns the code. */
enum qd_code qd_wrap(struct qd_error *err, enum qd_code code, const char *format, ...)
    QD_PRINTF(3, 4);

/* Return from the calling function when `expr` fails. For functions that own nothing. */
#define QD_TRY(expr)                       \
    do {                                   \
        enum qd_code qd_try_code = (expr); \
        if (qd_try_code != QD_OK) {        \
            return qd_try_code;            \
        }                                  \
    } while (0)

#endif
