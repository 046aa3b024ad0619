/* Copies between layouts against plain indexing, with everything around them watched. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "quantcore/exec/exec_step.h"

enum { GUARD = 64, REST = 0xa5 };

static uint32_t next_random(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 16;
}

static uint8_t *new_bytes(size_t n)
{
    uint8_t *p = malloc(n);
    ck_assert_ptr_nonnull(p);
    return memset(p, REST, n);
}

/* What the storage must hold: each element at its place, the rest as it was. */
static void place_elements(const struct qc_view *v, const uint8_t *dense, uint8_t *first)
{
    const int64_t *dim = v->shape.dim;
    size_t size = qc_dtype_size(v->dtype);
    for (int64_t i = 0; i < dim[0] * dim[1] * dim[2] * dim[3]; i++) {
        int64_t w = i % dim[3], h = i / dim[3] % dim[2], c = i / dim[3] / dim[2] % dim[1];
        int64_t n = i / dim[3] / dim[2] / dim[1];
        int64_t at = n * v->image_stride + h * v->row_stride + w * v->pixel_stride + c;
        memcpy(first + at * (int64_t)size, dense + i * (int64_t)size, size);
    }
}

static void copy_both_ways(enum qc_dtype dtype, const int64_t dim[4], const int pad[4])
{
    struct qc_view v = {.dtype = dtype, .shape = {.rank = 4}};
    size_t lead, storage, size = qc_dtype_size(dtype);
    memcpy(v.shape.dim, dim, 4 * sizeof(*dim));
    qc_view_nhwc_strides(&v, pad, &lead, &storage);
    size_t n = qc_shape_elements(&v.shape) * size;
    uint8_t *dense = new_bytes(n), *got = new_bytes(storage + 2 * GUARD);
    uint8_t *want = new_bytes(storage + 2 * GUARD), *back = new_bytes(n + 2 * GUARD);
    for (size_t i = 0; i < n; i++) {
        dense[i] = (uint8_t)next_random();
    }
    v.data = got + GUARD + lead;
    qc_view_from_dense(&v, dense);
    place_elements(&v, dense, want + GUARD + lead);
    const char *what = memcmp(got, want, storage + 2 * GUARD) != 0 ? "from dense" : NULL;
    qc_view_to_dense(&v, back + GUARD);
    memset(want, REST, GUARD);
    if (what == NULL && (memcmp(back, want, GUARD) != 0 || memcmp(back + GUARD, dense, n) != 0 ||
                         memcmp(back + GUARD + n, want, GUARD) != 0)) {
        what = "to dense";
    }
    ck_assert_msg(what == NULL, "%s: %zu bytes an element, %ld x %ld x %ld x %ld, border %d",
                  what, size, (long)dim[0], (long)dim[1], (long)dim[2], (long)dim[3], pad[0]);
    free(dense);
    free(got);
    free(want);
    free(back);
}

/* Sides around the blocks of four and eight and the stripes; borders cut the planes into rows. */
START_TEST(qc_view_copy__channels_and_sides__every_element_at_its_place)
{
    static const int64_t channels[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 21, 33, 64, 70};
    static const int64_t sides[][2] = {{1, 1}, {1, 3}, {2, 2}, {5, 1}, {1, 8},
                                       {7, 7}, {5, 9}, {3, 13}, {12, 11}, {9, 70}};
    static const int pads[][4] = {{0, 0, 0, 0}, {1, 2, 3, 1}};
    static const enum qc_dtype dtypes[] = {QC_U8, QC_F16, QC_F32, QC_S64};
    for (size_t i = 0; i < QD_COUNT_OF(channels) * QD_COUNT_OF(sides); i++) {
        const int64_t *side = sides[i % QD_COUNT_OF(sides)];
        int64_t dim[4] = {1 + (int64_t)i % 2, channels[i / QD_COUNT_OF(sides)], side[0], side[1]};
        for (size_t k = 0; k < 2 * QD_COUNT_OF(dtypes); k++) {
            copy_both_ways(dtypes[k / 2], dim, pads[k % 2]);
        }
    }
}
END_TEST

Suite *test_exec_nd_suite(void);
Suite *test_exec_nd_suite(void)
{
    Suite *suite = suite_create("exec_nd");
    TCase *c = tcase_create("copy");
    tcase_add_test(c, qc_view_copy__channels_and_sides__every_element_at_its_place);
    suite_add_tcase(suite, c);
    return suite;
}
