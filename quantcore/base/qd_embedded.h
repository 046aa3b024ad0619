/* Files that the Makefile compiles into the binary: dashboard, OpenAPI text, SQL migrations. */
#ifndef QD_EMBEDDED_H
#define QD_EMBEDDED_H

#include <stddef.h>

struct qd_embedded {
    const char *path; /* from the repository root: "api/dashboard/index.html" */
    const unsigned char *data; /* followed by a NUL that size does not count */
    size_t size;
};

/* Sorted by path, ends with an entry whose path is NULL. */
extern const struct qd_embedded qd_embedded_files[];

#endif
