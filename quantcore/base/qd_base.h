/* The vocabulary that every layer shares: attributes, checked sizes, small helpers. */
#ifndef QD_BASE_H
#define QD_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QD_MUST_CHECK __attribute__((warn_unused_result))
#define QD_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define QD_UNUSED __attribute__((unused))
#define QD_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* Borrowed bytes: never freed through this struct. */
struct qd_bytes {
    const uint8_t *data;
    size_t size;
};

/* Checked arithmetic for sizes that untrusted input decides. Each returns false on
 * overflow and then leaves *ret untouched. */
static inline bool qd_mul_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) {
        return false;
    }
    *ret = r;
    return true;
}

static inline bool qd_add_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) {
        return false;
    }
    *ret = r;
    return true;
}

/* Smallest multiple of `align` (a power of two) that is >= size. */
static inline size_t qd_align_up(size_t size, size_t align)
{
    return (size + align - 1) & ~(align - 1);
}

#endif
