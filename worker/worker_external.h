/* The identity of a model that has files with external data: statistics are compared by it. */
#ifndef WORKER_EXTERNAL_H
#define WORKER_EXTERNAL_H

#include <stddef.h>
#include <stdint.h>

struct worker_external_digest {
    const char *name; /* of the file; no two are the same */
    uint8_t sha256[32];
};

/* SHA-256 of the model's digest and, in the order of their names, each file's name, a NUL and its
 * digest; sorts them. Without files the model's digest stays what it is. */
void worker_external_identify(struct worker_external_digest *files, size_t n, uint8_t model[32]);

#endif
