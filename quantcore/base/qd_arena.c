#include "quantcore/base/qd_arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

/* Requests above this get a block of their own, so that a block is never half wasted. Blocks come
 * from the system and go back to it: malloc would keep what is free between two blocks. */
#define BLOCK_SIZE ((size_t)256 * 1024)
#define REDZONE 64

struct qd_arena_block {
    struct qd_arena_block *next;
    size_t size; /* usable bytes in data, zero when they are mapped */
    size_t used;
    uint8_t *data;
};

struct qd_arena_cleanup {
    struct qd_arena_cleanup *next;
    void (*fn)(void *);
    void *arg;
};

void qd_arena_init(struct qd_arena *arena, size_t limit)
{
    memset(arena, 0, sizeof(*arena));
    arena->limit = limit;
    arena->fail_after = -1;
}

void qd_arena_init_inside(struct qd_arena *arena, struct qd_arena *parent)
{
    qd_arena_init(arena, 0);
    arena->parent = parent;
}

void qd_arena_done(struct qd_arena *arena)
{
    if (arena == NULL) {
        return;
    }
    while (arena->cleanups != NULL) {
        struct qd_arena_cleanup *c = arena->cleanups;
        arena->cleanups = c->next;
        c->fn(c->arg);
    }
    while (arena->blocks != NULL) {
        struct qd_arena_block *b = arena->blocks;
        arena->blocks = b->next;
        ASAN_UNPOISON_MEMORY_REGION(b->data, b->size);
        (void)munmap(b->data, b->size);
        free(b);
    }
    for (struct qd_arena *a = arena->parent; a != NULL; a = a->parent) {
        a->used -= arena->used;
    }
    arena->used = 0;
}

static enum qd_code add_block(struct qd_arena *arena, size_t size,
                              struct qd_arena_block **ret, struct qd_error *err)
{
    struct qd_arena_block *b = malloc(sizeof(*b));
    void *data = MAP_FAILED;
    if (b != NULL) {
        data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    if (data == MAP_FAILED) {
        free(b);
        return qd_fail(err, QD_NO_MEMORY, "out of memory for a block of %zu bytes", size);
    }
    b->size = size;
    b->used = 0;
    b->data = data;
    ASAN_POISON_MEMORY_REGION(data, size);
    /* A large block goes behind the head, which keeps its free room usable. */
    if (arena->blocks != NULL && size > BLOCK_SIZE) {
        b->next = arena->blocks->next;
        arena->blocks->next = b;
    } else {
        b->next = arena->blocks;
        arena->blocks = b;
    }
    *ret = b;
    return QD_OK;
}

/* The injection is set on the outermost arena. */
static bool injected_failure(struct qd_arena *arena)
{
    while (arena->parent != NULL) {
        arena = arena->parent;
    }
    if (arena->fail_after < 0) {
        return false;
    }
    return arena->fail_after-- == 0;
}

static enum qd_code check_limit(const struct qd_arena *arena, size_t size, size_t padded,
                                struct qd_error *err)
{
    for (const struct qd_arena *a = arena; a != NULL; a = a->parent) {
        if (a->limit != 0 && (padded > a->limit || a->used > a->limit - padded)) {
            return qd_fail(err, QD_LIMIT_EXCEEDED,
                           "memory limit of %zu bytes reached: %zu in use, %zu more needed",
                           a->limit, a->used, size);
        }
    }
    return QD_OK;
}

static void charge(struct qd_arena *arena, size_t padded)
{
    for (struct qd_arena *a = arena; a != NULL; a = a->parent) {
        a->used += padded;
        a->peak = a->used > a->peak ? a->used : a->peak;
    }
}

enum qd_code qd_arena_alloc(struct qd_arena *arena, size_t size, void *ret_ptr,
                            struct qd_error *err)
{
    size_t padded;
    if (!qd_add_size(size, QD_ARENA_TAIL + REDZONE + QD_ARENA_ALIGN, &padded)) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "allocation of %zu bytes overflows", size);
    }
    padded &= ~(size_t)(QD_ARENA_ALIGN - 1);
    QD_TRY(check_limit(arena, size, padded, err));
    if (injected_failure(arena)) {
        return qd_fail(err, QD_NO_MEMORY, "out of memory for %zu bytes", size);
    }
    struct qd_arena_block *b = arena->blocks;
    if (padded > BLOCK_SIZE) {
        QD_TRY(add_block(arena, padded, &b, err));
    } else if (b == NULL || b->size - b->used < padded) {
        QD_TRY(add_block(arena, BLOCK_SIZE, &b, err));
    }
    uint8_t *p = b->data + b->used;
    b->used += padded;
    charge(arena, padded);
    ASAN_UNPOISON_MEMORY_REGION(p, size + QD_ARENA_TAIL);
    memcpy(ret_ptr, &p, sizeof(p));
    return QD_OK;
}

enum qd_code qd_arena_array(struct qd_arena *arena, size_t count, size_t size, void *ret_ptr,
                            struct qd_error *err)
{
    size_t total;
    if (!qd_mul_size(count, size, &total)) {
        return qd_fail(err, QD_LIMIT_EXCEEDED, "array of %zu elements of %zu bytes overflows",
                       count, size);
    }
    return qd_arena_alloc(arena, total, ret_ptr, err);
}

enum qd_code qd_arena_copy(struct qd_arena *arena, const void *data, size_t size, void *ret_ptr,
                           struct qd_error *err)
{
    void *p = NULL;
    QD_TRY(qd_arena_alloc(arena, size, &p, err));
    if (size > 0) {
        memcpy(p, data, size);
    }
    memcpy(ret_ptr, &p, sizeof(p));
    return QD_OK;
}

enum qd_code qd_arena_string(struct qd_arena *arena, const char *text, size_t length,
                             const char **ret, struct qd_error *err)
{
    char *p = NULL;
    QD_TRY(qd_arena_alloc(arena, length + 1, &p, err));
    if (length > 0) {
        memcpy(p, text, length);
    }
    *ret = p;
    return QD_OK;
}

enum qd_code qd_arena_printf(struct qd_arena *arena, const char **ret, struct qd_error *err,
                             const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        return qd_fail(err, QD_INTERNAL, "cannot format '%s'", format);
    }
    char *p = NULL;
    QD_TRY(qd_arena_alloc(arena, (size_t)n + 1, &p, err));
    va_start(args, format);
    vsnprintf(p, (size_t)n + 1, format, args);
    va_end(args);
    *ret = p;
    return QD_OK;
}

enum qd_code qd_arena_defer(struct qd_arena *arena, void (*fn)(void *), void *arg,
                            struct qd_error *err)
{
    struct qd_arena_cleanup *c = NULL;
    QD_TRY(qd_arena_alloc(arena, sizeof(*c), &c, err));
    c->fn = fn;
    c->arg = arg;
    c->next = arena->cleanups;
    arena->cleanups = c;
    return QD_OK;
}
