/* Vectors of 16 bytes in plain C: every processor has them, and memory is slower than they are. */
#include "quantcore/exec/exec_transpose.h"

#include <string.h>

typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

#define PICK    __builtin_shufflevector
#define LOW_32(a, b)  PICK(a, b, 0, 4, 1, 5)
#define HIGH_32(a, b) PICK(a, b, 2, 6, 3, 7)
#define LOW_8(a, b)   PICK(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH_8(a, b)  PICK(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

static inline u32x4 load_32(const uint32_t *p)
{
    u32x4 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

static inline void store_32(uint32_t *p, u32x4 v)
{
    memcpy(p, &v, sizeof(v));
}

static inline u8x16 load_8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return (u8x16)(u64x2){v, 0};
}

/* Two rows of eight bytes. */
static inline void store_8(uint8_t *p, int64_t step, u8x16 v)
{
    uint64_t first = ((u64x2)v)[0], second = ((u64x2)v)[1];
    memcpy(p, &first, sizeof(first));
    memcpy(p + step, &second, sizeof(second));
}

/* ---- the planes of an image and its pixels ---- */

#define GATHER(to, i) (to)[0] = a[i], (to)[1] = b[i], (to)[2] = c[i]

static void planes_to_pixels_8(const uint8_t *a, int64_t step, uint8_t *to, int64_t n)
{
    const uint8_t *b = a + step, *c = b + step;
    for (int64_t i = 0; i < n; i++) {
        GATHER(to + 3 * i, i);
    }
}

static void planes_to_pixels_32(const uint32_t *a, int64_t step, uint32_t *to, int64_t n)
{
    const uint32_t *b = a + step, *c = b + step;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4, to += 12) {
        u32x4 x = load_32(a + i), y = load_32(b + i), z = load_32(c + i);
        u32x4 low = LOW_32(x, y), high = HIGH_32(x, y);
        store_32(to, PICK(low, PICK(z, x, 0, 0, 5, 5), 0, 1, 4, 6));
        store_32(to + 4, PICK(PICK(y, z, 1, 1, 5, 5), high, 0, 2, 4, 5));
        store_32(to + 8, PICK(PICK(z, high, 2, 2, 6, 6), PICK(high, z, 3, 3, 7, 7), 0, 2, 4, 6));
    }
    for (; i < n; i++, to += 3) {
        GATHER(to, i);
    }
}

static void pixels_to_planes_32(const uint32_t *from, uint32_t *a, int64_t step, int64_t n)
{
    uint32_t *b = a + step, *c = b + step;
    int64_t i = 0;
    for (; i + 4 <= n; i += 4, from += 12) {
        /* x0 y0 z0 x1, y1 z1 x2 y2, z2 x3 y3 z3 */
        u32x4 p = load_32(from), q = load_32(from + 4), r = load_32(from + 8);
        u32x4 xy = PICK(q, r, 2, 3, 5, 6); /* x2 y2 x3 y3 */
        u32x4 yz = PICK(p, q, 1, 2, 4, 5); /* y0 z0 y1 z1 */
        store_32(a + i, PICK(p, xy, 0, 3, 4, 6));
        store_32(b + i, PICK(yz, xy, 0, 2, 5, 7));
        store_32(c + i, PICK(yz, r, 1, 3, 4, 7));
    }
    for (; i < n; i++, from += 3) {
        a[i] = from[0];
        b[i] = from[1];
        c[i] = from[2];
    }
}

/* ---- blocks ---- */

static inline void block_32(const uint32_t *from, int64_t from_step, uint32_t *to, int64_t to_step)
{
    u32x4 r0 = load_32(from), r1 = load_32(from + from_step);
    u32x4 r2 = load_32(from + 2 * from_step), r3 = load_32(from + 3 * from_step);
    u32x4 even = LOW_32(r0, r2), odd = LOW_32(r1, r3);
    store_32(to, LOW_32(even, odd));
    store_32(to + to_step, HIGH_32(even, odd));
    even = HIGH_32(r0, r2);
    odd = HIGH_32(r1, r3);
    store_32(to + 2 * to_step, LOW_32(even, odd));
    store_32(to + 3 * to_step, HIGH_32(even, odd));
}

static inline void block_8(const uint8_t *from, int64_t from_step, uint8_t *to, int64_t to_step)
{
#define ROWS(i) LOW_8(load_8(from + (i) * from_step), load_8(from + ((i) + 4) * from_step))
    u8x16 r04 = ROWS(0), r15 = ROWS(1), r26 = ROWS(2), r37 = ROWS(3);
#undef ROWS
    u8x16 even = LOW_8(r04, r26), odd = LOW_8(r15, r37);
    store_8(to, to_step, LOW_8(even, odd));
    store_8(to + 2 * to_step, to_step, HIGH_8(even, odd));
    even = HIGH_8(r04, r26);
    odd = HIGH_8(r15, r37);
    store_8(to + 4 * to_step, to_step, LOW_8(even, odd));
    store_8(to + 6 * to_step, to_step, HIGH_8(even, odd));
}

/* The last block of a row or column may overlap the one before. */
static inline int64_t begin_of(int64_t i, int64_t block, int64_t n)
{
    return i + block <= n ? i : n - block;
}

/* Stripes of a cache line of the destination, so that whole lines of both are used. */
#define TRANSPOSE(p, type, block, side)                                                          \
    do {                                                                                         \
        const int64_t stripe = 64 / (int64_t)sizeof(type);                                       \
        for (int64_t first = 0; first < (p)->n; first += stripe) {                               \
            int64_t end = (p)->n - first < stripe ? (p)->n : first + stripe;                     \
            for (int64_t k = 0; k < (p)->m; k += (side)) {                                       \
                int64_t j = begin_of(k, side, (p)->m);                                           \
                for (int64_t l = first; l < end; l += (side)) {                                  \
                    int64_t i = begin_of(l, side, (p)->n);                                       \
                    block((const type *)(p)->from + i * (p)->from_step + j, (p)->from_step,      \
                          (type *)(p)->to + j * (p)->to_step + i, (p)->to_step);                 \
                }                                                                                \
            }                                                                                    \
        }                                                                                        \
    } while (0)

bool qc_plane_transpose(const struct qc_plane *p, size_t size)
{
    bool to_pixels = p->n == 3 && p->to_step == 3;
    if (size == 1 && to_pixels) {
        planes_to_pixels_8(p->from, p->from_step, p->to, p->m);
    } else if (size == 4 && to_pixels) {
        planes_to_pixels_32(p->from, p->from_step, p->to, p->m);
    } else if (size == 4 && p->m == 3 && p->from_step == 3) {
        pixels_to_planes_32(p->from, p->to, p->to_step, p->n);
    } else if (size == 4 && p->n >= 4 && p->m >= 4) {
        TRANSPOSE(p, uint32_t, block_32, 4);
    } else if (size == 1 && p->n >= 8 && p->m >= 8) {
        TRANSPOSE(p, uint8_t, block_8, 8);
    } else {
        return false;
    }
    return true;
}
