/* One arena per job: memory is taken from blocks and given back all at once.
 *
 * A limit is part of the arena, so that a hostile model meets `limit_exceeded` and not the
 * kernel's OOM killer. Every allocation is 64-byte aligned and followed by at least 64
 * readable bytes (vector loads may run over a tensor's end, never write there).
 * Under AddressSanitizer the gaps between allocations are poisoned beyond those 64 bytes.
 *
 * What a job needs for a while only goes into an arena inside the job's: it counts against the
 * same limit, and its memory is back with the system when it is done. */
#ifndef QD_ARENA_H
#define QD_ARENA_H

#include "quantcore/base/qd_error.h"

#define QD_ARENA_ALIGN 64
#define QD_ARENA_TAIL 64

struct qd_arena_block;
struct qd_arena_cleanup;

struct qd_arena {
    struct qd_arena_block *blocks;
    struct qd_arena_cleanup *cleanups;
    struct qd_arena *parent; /* NULL, or an arena that all bytes count in, too */
    size_t used;   /* bytes handed out, with padding; of arenas inside too */
    size_t peak;   /* largest `used` so far */
    size_t limit;  /* 0: none */
    int fail_after; /* fault injection: >0 counts down, the allocation at 0 fails; -1: off */
};

/* Caller's storage. limit in bytes, 0 for none. */
void qd_arena_init(struct qd_arena *arena, size_t limit);
/* An arena inside another, which must live longer: parent's limit and fault injection count. */
void qd_arena_init_inside(struct qd_arena *arena, struct qd_arena *parent);
/* Runs deferred cleanups in reverse order, then frees everything. Takes NULL. */
void qd_arena_done(struct qd_arena *arena);

/* Zeroed memory of `size` bytes (size 0 gives a valid pointer). On failure *ret stays and the
 * code is QD_LIMIT_EXCEEDED or QD_NO_MEMORY. */
QD_MUST_CHECK enum qd_code qd_arena_alloc(struct qd_arena *arena, size_t size, void *ret_ptr,
                                          struct qd_error *err);
/* Zeroed array of count * size bytes, the product checked. ret_ptr is a T **. */
QD_MUST_CHECK enum qd_code qd_arena_array(struct qd_arena *arena, size_t count, size_t size,
                                          void *ret_ptr, struct qd_error *err);
/* Copy of bytes / of a string of known length (a NUL is added). */
QD_MUST_CHECK enum qd_code qd_arena_copy(struct qd_arena *arena, const void *data, size_t size,
                                         void *ret_ptr, struct qd_error *err);
QD_MUST_CHECK enum qd_code qd_arena_string(struct qd_arena *arena, const char *text, size_t length,
                                           const char **ret, struct qd_error *err);
QD_MUST_CHECK enum qd_code qd_arena_printf(struct qd_arena *arena, const char **ret,
                                           struct qd_error *err, const char *format, ...)
    QD_PRINTF(4, 5);

/* Call fn(arg) when the arena is done. */
QD_MUST_CHECK enum qd_code qd_arena_defer(struct qd_arena *arena, void (*fn)(void *), void *arg,
                                          struct qd_error *err);

#endif
